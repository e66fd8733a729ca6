//! The registry's next version: drafted by anyone, in force when the quorums of the present version and of its own
//! have signed it.

use std::path::Path;

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::Principal;
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use glovebox_trust::quorum::Kind as QuorumKind;
use glovebox_trust::registry::{self, Custody, KeyRecord, MemberKind, Registry, RegistryFile, Scope, Status};

use super::keys::{read, store};
use super::lock;
use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::{self, Chain, REGISTRY_FILE, SIGNATURE_SUFFIX, registry_folder};
use crate::random::Random;

/// For how long a version of the registry is valid.
const REGISTRY_DAYS: i64 = 90;
/// For how long a key is.
const KEY_DAYS: i64 = 730;
const ENVELOPE_BYTES_MAX: u64 = 1 << 20;

/// Who is to hold a key, and for what.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The party and its person or service.
    pub principal: Principal,
    /// A person or a service.
    pub kind: MemberKind,
    /// What the key may sign; the usual for its holder, if empty.
    pub scopes: Vec<Scope>,
}

/// A public key that was made elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct PublicKeyFile<'a> {
    /// SPKI PEM, OpenSSH, minisign or hex.
    pub path: &'a Path,
    /// Where the private key is kept.
    pub custody: Custody,
}

/// A key that is in the draft of the registry's next version.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Whose.
    pub holder: Principal,
    /// SHA-256 over its SubjectPublicKeyInfo.
    pub fingerprint: String,
    /// The version that will have it.
    pub version: u64,
}

/// The draft of a version of the registry.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The version.
    pub version: u64,
    /// SHA-256 of its bytes: what is signed.
    pub sha256: String,
    /// Whether it is in force now.
    pub is_in_force: bool,
    /// What it still lacks.
    pub lacks: Option<String>,
}

/// The registry's present version, and the next one if there is a draft.
#[derive(Clone, Debug)]
pub struct RegistryStatus {
    /// SHA-256 of the first version, by which the parties know their room.
    pub first_sha256: Option<String>,
    /// The version in force.
    pub current: Option<RegistryFile>,
    /// The draft of the next.
    pub draft: Option<Draft>,
}

/// A change to a key's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It signs no more; what it signed before stands.
    Retire,
    /// Nothing that it ever signed stands.
    Compromise,
}

impl Holder {
    fn scopes(&self) -> Vec<Scope> {
        if !self.scopes.is_empty() {
            return self.scopes.clone();
        }
        match self.kind {
            MemberKind::Person => vec![Scope::Approve, Scope::Revoke, Scope::Root],
            MemberKind::Service => vec![Scope::Log, Scope::Runtime],
        }
    }
}

/// Makes a key pair: the private key goes to a new file, the public key into the draft of the next registry.
pub fn new_key(dir: &Dir, holder: &Holder, path: &Path, now: DateTime<Utc>, random: &mut Random) -> Result<Enrolled> {
    let key = SigningKey::from_bytes(&random.bytes());
    let desk = Desk::open(dir, now)?;
    let next = desk.with_key(holder, &key.public(), Custody::File, now)?;
    store(path, &key)?;
    let version = desk.write(&next)?;
    Ok(Enrolled { holder: holder.principal.clone(), fingerprint: key.public().fingerprint(), version })
}

/// Puts a public key that was made elsewhere into the draft of the next registry.
pub fn add_key(dir: &Dir, holder: &Holder, file: PublicKeyFile<'_>, now: DateTime<Utc>) -> Result<Enrolled> {
    let key = read_public(file.path)?;
    let desk = Desk::open(dir, now)?;
    let next = desk.with_key(holder, &key, file.custody, now)?;
    let version = desk.write(&next)?;
    Ok(Enrolled { holder: holder.principal.clone(), fingerprint: key.fingerprint(), version })
}

/// Retires a key in the draft of the next registry, or marks it as compromised.
pub fn change_key(dir: &Dir, file: &Path, change: Change, now: DateTime<Utc>) -> Result<Enrolled> {
    let key = read_public(file)?;
    let desk = Desk::open(dir, now)?;
    let mut next = desk.draft.clone();
    let record = next.key_mut(&key).ok_or_else(|| {
        Fault::new(
            Code::KeyUnknown,
            format!("{} is not in the registry", file.display()),
            "see `glovebox registry show`",
        )
    })?;
    record.status = match change {
        Change::Retire => Status::Retired,
        Change::Compromise => Status::Compromised,
    };
    desk.keep_default_quorum(&mut next);
    let version = desk.write(&next)?;
    let holder = Registry::parse(&next.to_bytes()).ok().and_then(|registry| registry.holder_of(&key));
    let holder = holder.unwrap_or_else(|| Principal::new("", ""));
    Ok(Enrolled { holder, fingerprint: key.fingerprint(), version })
}

/// Replaces the quorum's lines.
pub fn set_quorum(dir: &Dir, lines: &str, now: DateTime<Utc>) -> Result<u64> {
    edit(dir, now, |next| next.quorum = lines.lines().map(str::to_owned).collect())
}

/// Replaces the lines of the log's witness policy.
pub fn set_witnesses(dir: &Dir, lines: &str, now: DateTime<Utc>) -> Result<u64> {
    edit(dir, now, |next| next.log.witnesses = lines.lines().map(str::to_owned).collect())
}

/// Names the auditor to whom figures and seeds are sealed.
pub fn set_auditor(dir: &Dir, recipient: &str, now: DateTime<Utc>) -> Result<u64> {
    crate::receipt::check_recipient(recipient)?;
    edit(dir, now, |next| next.auditor = Some(recipient.into()))
}

/// A next version with nothing changed but its date.
pub fn renew_registry(dir: &Dir, now: DateTime<Utc>) -> Result<u64> {
    edit(dir, now, |_| {})
}

fn edit(dir: &Dir, now: DateTime<Utc>, change: impl FnOnce(&mut RegistryFile)) -> Result<u64> {
    let desk = Desk::open(dir, now)?;
    let mut next = desk.draft.clone();
    change(&mut next);
    desk.write(&next)
}

/// Signs the draft for the key's holder. It is in force as soon as enough have signed.
///
/// `expected` is the digest of the draft that the person has read.
pub fn sign_registry(
    dir: &Dir,
    expected: Option<&str>,
    key: &dyn Signer,
    now: DateTime<Utc>,
) -> Result<(Principal, Draft)> {
    let desk = Desk::open(dir, now)?;
    let document = gate::read_version(dir, desk.draft.version).map(|(document, _)| document).map_err(|_| {
        Fault::new(
            Code::RegistryInvalid,
            "the registry has no draft to sign",
            "make one with `glovebox key new`, `key add` or `registry renew`",
        )
    })?;
    let next = Registry::parse(&document).map_err(|denial| {
        Fault::of(
            "the draft of the registry",
            &denial,
            "correct it: every party needs a person, and a quorum for `root`",
        )
    })?;
    if expected.is_some_and(|expected| expected != next.sha256()) {
        let fact = format!("the draft has sha256 {}, which is not what you have read", next.sha256());
        return Err(Fault::new(Code::RegistryInvalid, fact, "read it again with `glovebox registry show`"));
    }
    let public = key.public();
    let signer = desk.current.iter().chain([&next]).find_map(|registry| root_signer(registry, &public));
    let signer = signer.ok_or_else(|| {
        Fault::new(
            Code::KeyScope,
            "the key is not registered to sign the registry",
            "sign with a key of scope root, in this version or the next",
        )
    })?;
    let envelope = registry::sign_registry(&document, &signer, now, key).map_err(|why| cannot_sign(&why))?;
    let name = format!("{}/{}.{}", registry_folder(next.version()), signer.party, signer.member);
    let mut path = format!("{name}{SIGNATURE_SUFFIX}");
    // Who changes keys signs with both: the former key for the version before, the new one for this.
    let others = desk.current.iter().chain([&next]).flat_map(|registry| registry.keys(Scope::Root));
    let others: Vec<_> = others.filter(|(_, key)| *key != public).map(|(_, key)| ((), key)).collect();
    if gate::read(dir, &path, ENVELOPE_BYTES_MAX, Code::RegistryInvalid)
        .is_ok_and(|there| envelope::open(&there, IN_TOTO, others).is_ok())
    {
        path = format!("{name}.{}{SIGNATURE_SUFFIX}", &public.fingerprint()[..8]);
    }
    write(dir, &path, &envelope)?;
    let draft = draft_status(dir, &next)?;
    Ok((signer, draft))
}

fn root_signer(registry: &Registry, key: &PublicKey) -> Option<Principal> {
    registry.keys(Scope::Root).find(|(_, known)| known == key).map(|(holder, _)| holder)
}

fn draft_status(dir: &Dir, next: &Registry) -> Result<Draft> {
    let (version, sha256) = (next.version(), next.sha256().to_owned());
    let draft = |is_in_force, lacks| Draft { version, sha256: sha256.clone(), is_in_force, lacks };
    match Chain::read(dir, next.room()) {
        Ok(chain) if chain.current().version() >= version => Ok(draft(true, None)),
        Ok(chain) => Ok(draft(false, chain.pending().map(|fault| fault.fact().to_owned()))),
        Err(fault) if version == 1 => Ok(draft(false, Some(fault.fact().to_owned()))),
        Err(fault) => Err(fault),
    }
}

/// The registry as it stands, for people.
pub fn registry_status(dir: &Dir) -> Result<RegistryStatus> {
    let room = gate::read_room(dir)?;
    let chain = Chain::read(dir, &room.id);
    let next = chain.as_ref().map_or(1, |chain| chain.current().version() + 1);
    let draft = match gate::read_version(dir, next) {
        Ok((document, _)) => match Registry::parse(&document) {
            Ok(registry) => Some(draft_status(dir, &registry)?),
            Err(denial) => Some(Draft {
                version: next,
                sha256: glovebox_trust::sha256_hex(&document),
                is_in_force: false,
                lacks: Some(denial.fact().into()),
            }),
        },
        Err(_) => None,
    };
    let chain = chain.ok();
    Ok(RegistryStatus {
        first_sha256: chain.as_ref().map(|chain| chain.first_sha256().into()),
        current: chain.map(|chain| chain.current().file().clone()),
        draft,
    })
}

/// Where the next version is drafted.
struct Desk<'a> {
    dir: &'a Dir,
    _lock: std::fs::File,
    current: Option<Registry>,
    draft: RegistryFile,
}

impl<'a> Desk<'a> {
    fn open(dir: &'a Dir, now: DateTime<Utc>) -> Result<Self> {
        let room = gate::read_room(dir)?;
        let lock = lock(dir)?;
        let expires = now + TimeDelta::days(REGISTRY_DAYS);
        let current = match Chain::read(dir, &room.id) {
            Ok(chain) => Some(chain.current().clone()),
            // Without a signed version there may still be the draft of the first.
            Err(_) if !dir.exists(registry_folder(2)) => None,
            Err(fault) => return Err(fault),
        };
        let version = current.as_ref().map_or(1, |current| current.version() + 1);
        let draft = match gate::read_version(dir, version) {
            Ok((document, _)) => glovebox_trust::json::parse(&document).map_err(|why| {
                Fault::new(Code::RegistryInvalid, format!("the draft of the registry: {why}"), "correct or remove it")
            })?,
            Err(_) => {
                let mut next =
                    current.as_ref().map_or_else(|| RegistryFile::new(&room.id, expires), |c| c.file().clone());
                next.version = version;
                next.expires = glovebox_trust::time_to_text(expires);
                next
            }
        };
        Ok(Self { dir, _lock: lock, current, draft })
    }

    fn with_key(&self, holder: &Holder, key: &PublicKey, custody: Custody, now: DateTime<Utc>) -> Result<RegistryFile> {
        let Principal { party, member } = &holder.principal;
        for id in [party, member] {
            if !glovebox_trust::is_name(id) {
                let fact = format!("`{}` is not of the form [a-z0-9_-]{{1,64}}", id.escape_debug());
                return Err(Fault::new(Code::IdInvalid, fact, "choose a name of these characters"));
            }
        }
        let mut next = self.draft.clone();
        // Receipts tell the minute: what is signed within it must be valid throughout.
        let from = clock::to_the_minute(now);
        let record = KeyRecord::new(key, &holder.scopes(), from, from + TimeDelta::days(KEY_DAYS), custody);
        next.add_key(&holder.principal, holder.kind, record)
            .map_err(|denial| Fault::of("the registry", &denial, "choose another name"))?;
        self.keep_default_quorum(&mut next);
        check(&next)?;
        Ok(next)
    }

    /// Parties that never wrote a quorum of their own keep the usual one: one person of every party.
    fn keep_default_quorum(&self, next: &mut RegistryFile) {
        let mut usual = self.draft.clone();
        usual.set_default_quorum();
        if self.draft.quorum.is_empty() || self.draft.quorum == usual.quorum {
            next.set_default_quorum();
        }
    }

    /// Writes the draft. What people have signed is not changed under them.
    fn write(&self, next: &RegistryFile) -> Result<u64> {
        check(next)?;
        let folder = registry_folder(next.version);
        if let Ok((_, signatures)) = gate::read_version(self.dir, next.version)
            && !signatures.is_empty()
        {
            return Err(Fault::new(
                Code::RegistrySigned,
                format!("version {} of the registry has {} signatures", next.version, signatures.len()),
                format!("let the others sign it, or remove {folder} to begin anew"),
            ));
        }
        write(self.dir, &format!("{folder}/{REGISTRY_FILE}"), &next.to_bytes())?;
        Ok(next.version)
    }
}

/// All that can be checked of a draft. One that has no people yet lacks a quorum, and nothing else.
fn check(next: &RegistryFile) -> Result<()> {
    let mut complete = next.clone();
    if complete.quorum.is_empty() {
        let stand_in = SigningKey::from_bytes(&[1; 32]).public();
        let epoch = DateTime::UNIX_EPOCH;
        let record = KeyRecord::new(&stand_in, &[Scope::Root], epoch, epoch + TimeDelta::days(1), Custody::Other);
        let nobody = Principal::new("nobody", "nobody");
        complete.add_key(&nobody, MemberKind::Person, record).map_err(|denial| refused(&denial))?;
        complete.quorum = vec![format!("quorum {} nobody/nobody", QuorumKind::Root)];
    }
    Registry::parse(&complete.to_bytes()).map(drop).map_err(|denial| refused(&denial))
}

fn refused(denial: &glovebox_trust::Denial) -> Fault {
    Fault::of("the registry", denial, "register another key, or correct the draft's text")
}

fn read_public(path: &Path) -> Result<PublicKey> {
    let bytes = read(path).map_err(|error| {
        let fact = format!("cannot read {}: {error}", path.display());
        Fault::new(Code::KeyUnreadable, fact, "name a public key file: PEM, OpenSSH, minisign or hex")
    })?;
    PublicKey::read(&bytes).map_err(|denial| {
        Fault::of(&path.display().to_string(), &denial, "give an Ed25519 public key as PEM, OpenSSH, minisign or hex")
    })
}

fn cannot_sign(why: &str) -> Fault {
    Fault::new(Code::KeyUnreadable, format!("cannot sign: {why}"), "check the key, or the agent that holds it")
}

fn write(dir: &Dir, path: &str, bytes: &[u8]) -> Result<()> {
    files::write(dir, path, bytes, Existing::Replace).map_err(|error| {
        Fault::new(Code::RegistryInvalid, format!("cannot write {path}: {error}"), "make the room's folder writable")
    })
}
