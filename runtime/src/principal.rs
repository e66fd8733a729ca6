//! The run's own identity: a key pair that lives as long as the run, for one agreement and some minutes.
//!
//! The organisation's runtime key certifies it; it alone opens the approved views, each through the folder of its owner,
//! and signs the receipt. When the run ends, however it ends, the key is wiped and its end is logged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File};
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_source_protocol::Connection;
use glovebox_trust::envelope::{self, IN_TOTO, Statement, Subject};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::gate::{AGREEMENT_FILE, ApprovalRecord, Approved, ListRecord};
use crate::privacy::{Charge, LedgerHead};
use crate::provision::{self, Access};
use crate::random::Random;
use crate::room::{RegistryPin, View, is_inner_path};

pub(crate) const CERTIFICATE_TYPE: &str = "https://glovebox.dev/certificate/v1";
pub(crate) const DECOMMISSION_TYPE: &str = "https://glovebox.dev/decommission/v1";

/// What a run's principal may do, and what was found in order before it came to be. Logged before a guest sees a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) run_id: String,
    /// Of the request: a second one with the same nonce is refused.
    pub(crate) nonce: String,
    /// The runtime that certifies, as `party/service`.
    pub(crate) runtime: String,
    /// The principal's public key, in hex.
    pub(crate) principal: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) question: String,
    pub(crate) revision: u32,
    pub(crate) supersedes: Vec<String>,
    /// The views that it may open, and whose they are.
    pub(crate) views: Vec<Grant>,
    pub(crate) registry: RegistryPin,
    pub(crate) revocations: Vec<ListRecord>,
    pub(crate) approvals: Vec<ApprovalRecord>,
    /// What is reserved for the run; nothing for one that repeats another.
    pub(crate) charges: Vec<Charge>,
    /// The host's ledger with that reservation: a shorter one, later, is an older one.
    pub(crate) ledger: LedgerHead,
}

/// A view that a principal may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    pub(crate) view: String,
    pub(crate) owner: String,
}

/// The end of a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decommission {
    pub(crate) run_id: String,
    pub(crate) principal: String,
    pub(crate) end: End,
    /// To the minute, as in the receipt: this record is logged beside it.
    pub(crate) at: String,
}

/// How a principal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    /// With its run, whatever came of that.
    Closed,
    /// Its process was killed; its key is gone with it.
    Lost,
    /// With its run, whose result could not be written where it was agreed to go.
    Undelivered,
}

/// A run's principal.
pub(crate) struct RunPrincipal {
    key: SigningKey,
    certificate: Certificate,
    /// The folders of the owners, each opened for its own views alone.
    folders: BTreeMap<String, OwnerFolder>,
    /// The folder of the host's state, where the ways to other tables are.
    state: PathBuf,
}

struct OwnerFolder {
    path: String,
    dir: Dir,
    views: Vec<View>,
}

/// For how long a principal may act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenure {
    pub(crate) from: DateTime<Utc>,
    pub(crate) minutes: u32,
}

/// What is reserved for a run, and where it stands in the host's ledger.
#[derive(Clone, Debug)]
pub(crate) struct Paid {
    pub(crate) charges: Vec<Charge>,
    pub(crate) ledger: LedgerHead,
}

/// What names a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunNames<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) runtime: &'a str,
}

/// Where a principal may look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// The room.
    pub(crate) dir: &'a Dir,
    /// The folder of the host's state.
    pub(crate) state: &'a Path,
}

impl RunPrincipal {
    /// Makes a principal for an approved run, and opens the folders of the views' owners for it.
    pub(crate) fn new(
        approved: &Approved,
        names: RunNames<'_>,
        paid: Paid,
        tenure: Tenure,
        places: Places<'_>,
        random: &mut Random,
    ) -> Result<Self> {
        let key = SigningKey::from_bytes(&random.bytes());
        let agreement = approved.agreement();
        let from = clock::to_the_minute(tenure.from);
        let grants =
            agreement.all_views().map(|view| Grant { view: view.id.clone(), owner: view.owner.clone() }).collect();
        let certificate = Certificate {
            run_id: names.run_id.into(),
            nonce: names.nonce.into(),
            runtime: names.runtime.into(),
            principal: key.public().to_hex(),
            not_before: clock::to_text(from),
            not_after: clock::to_text(from + TimeDelta::minutes(i64::from(tenure.minutes) + 1)),
            question: agreement.question.clone(),
            revision: agreement.revision,
            supersedes: agreement.supersedes.clone(),
            views: grants,
            registry: approved.registry().clone(),
            revocations: approved.revocations().to_vec(),
            approvals: approved.approvals().to_vec(),
            charges: paid.charges,
            ledger: paid.ledger,
        };
        let mut folders = BTreeMap::new();
        for view in agreement.all_views() {
            if !folders.contains_key(&view.owner) {
                folders.insert(view.owner.clone(), OwnerFolder::open(places.dir, approved.folder_of(&view.owner))?);
            }
            if let Some(folder) = folders.get_mut(&view.owner) {
                folder.views.push(view.clone());
            }
        }
        Ok(Self { key, certificate, folders, state: places.state.to_owned() })
    }

    /// The certificate, signed by the runtime's key.
    pub(crate) fn certify(&self, agreement_id: &str, runtime: &dyn Signer) -> Result<Vec<u8>> {
        let subject = Subject::new(AGREEMENT_FILE, agreement_id);
        let statement = Statement::new(subject, CERTIFICATE_TYPE, self.certificate.clone());
        seal(&statement.to_bytes(), runtime)
    }

    /// Refuses to act outside of the certificate's window.
    pub(crate) fn check(&self, now: DateTime<Utc>) -> Result<()> {
        let until = clock::from_text(&self.certificate.not_after);
        if until.is_some_and(|until| now < until) {
            return Ok(());
        }
        Err(Fault::new(
            Code::PrincipalExpired,
            format!(
                "the run's principal could act until {}, and it is {}",
                self.certificate.not_after,
                clock::to_text(now)
            ),
            "give the run more minutes with --within, or more cores",
        ))
    }

    /// Signs the run's receipt.
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<Vec<u8>> {
        seal(payload, &self.key)
    }

    /// Ends the principal: its key is wiped and its folders are closed. Gives the record of it, to be logged.
    pub(crate) fn decommission(self, agreement_id: &str, runtime: &dyn Signer, at: DateTime<Utc>) -> Result<Vec<u8>> {
        let Certificate { run_id, principal, .. } = self.certificate;
        drop((self.key, self.folders));
        let record = Decommission { run_id, principal, end: End::Closed, at: clock::to_text(clock::to_the_minute(at)) };
        decommissioned(record, agreement_id, runtime)
    }
}

/// Signs the record of a principal's end.
pub(crate) fn decommissioned(record: Decommission, agreement_id: &str, runtime: &dyn Signer) -> Result<Vec<u8>> {
    let statement = Statement::new(Subject::new(AGREEMENT_FILE, agreement_id), DECOMMISSION_TYPE, record);
    seal(&statement.to_bytes(), runtime)
}

fn seal(payload: &[u8], key: &dyn Signer) -> Result<Vec<u8>> {
    envelope::seal(IN_TOTO, payload, key).map_err(|why| {
        Fault::new(Code::KeyUnreadable, format!("the runtime's key does not sign: {why}"), "check the key with --key")
    })
}

/// A certificate whose signature verified, and the key that it certifies.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) agreement_id: String,
    pub(crate) key: PublicKey,
    /// The fingerprint of the runtime's key that signed it.
    pub(crate) runtime_fingerprint: String,
}

impl Certified {
    /// Reads a certificate's payload, whose signature verified with a runtime's key.
    pub(crate) fn parse(payload: &[u8], runtime: &PublicKey) -> glovebox_trust::Result<Self> {
        let statement: Statement<Certificate> = Statement::parse(payload, CERTIFICATE_TYPE)?;
        let key = PublicKey::from_hex(&statement.predicate.principal)?;
        let (agreement_id, runtime_fingerprint) = (statement.subject_sha256().into(), runtime.fingerprint());
        Ok(Self { agreement_id, certificate: statement.predicate, key, runtime_fingerprint })
    }
}

impl OwnerFolder {
    fn open(dir: &Dir, path: &str) -> Result<Self> {
        let opened = files::open_folder(dir, path);
        let dir = opened.map_err(|error| {
            Fault::new(
                Code::ViewUnreadable,
                format!("cannot open the folder {path}: {error}"),
                "check the folder of the party in room.toml",
            )
        })?;
        Ok(Self { path: path.into(), dir, views: Vec::new() })
    }

    /// A path of the room as it is called in this folder.
    fn inner<'a>(&self, path: &'a str) -> io::Result<&'a str> {
        let inner = path.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('/'));
        inner.filter(|inner| is_inner_path(inner)).ok_or_else(|| denied("the file is not in its owner's folder"))
    }
}

/// A principal opens the approved views alone, and a party's files through that party's folder alone.
impl Access for RunPrincipal {
    fn open(&self, view: &View, path: &str) -> io::Result<File> {
        let folder = self.granted(view)?;
        files::open_file(&folder.dir, folder.inner(path)?)
    }

    fn open_folder(&self, view: &View, path: &str) -> io::Result<Dir> {
        let folder = self.granted(view)?;
        if path == folder.path {
            return folder.dir.try_clone();
        }
        files::open_folder(&folder.dir, folder.inner(path)?)
    }

    fn connection(&self, view: &View, name: &str) -> Result<Connection> {
        self.granted(view).map_err(|error| {
            Fault::new(Code::ViewUnreadable, format!("view {}: {error}", view.id), "report this as a defect")
        })?;
        provision::connection(&self.state, name, &view.owner, &format!("view {} of {}", view.id, view.owner))
    }
}

impl RunPrincipal {
    /// The folder of a granted view's owner.
    fn granted(&self, view: &View) -> io::Result<&OwnerFolder> {
        let folder =
            self.folders.get(&view.owner).ok_or_else(|| denied("the run's principal acts for no such party"))?;
        if folder.views.contains(view) { Ok(folder) } else { Err(denied("the run's principal may not open this view")) }
    }
}

fn denied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::room::Source;

    fn view(id: &str, owner: &str) -> View {
        View {
            id: id.into(),
            owner: owner.into(),
            unit: "unit".into(),
            unit_rules: Vec::new(),
            unit_via: None,
            mapping: None,
            learnable_by: Vec::new(),
            lineage: owner.into(),
            sql: format!("SELECT unit FROM {id}"),
            sources: vec![Source { table: id.into(), path: format!("data/{owner}/{id}.csv") }],
        }
    }

    /// A room of two parties with two files each.
    fn room() -> (TempDir, Dir) {
        let room = tempfile::tempdir().unwrap();
        for file in ["retailer/rows", "retailer/other", "brand/campaigns", "brand/other"] {
            let path = room.path().join(format!("data/{file}.csv"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let dir = files::open_dir(room.path()).unwrap();
        (room, dir)
    }

    /// A principal that was granted these views.
    fn principal(dir: &Dir, views: &[View]) -> RunPrincipal {
        let mut folders = BTreeMap::new();
        for view in views {
            let path = format!("data/{}", view.owner);
            let folder = folders.entry(view.owner.clone()).or_insert_with(|| OwnerFolder::open(dir, &path).unwrap());
            folder.views.push(view.clone());
        }
        let key = SigningKey::from_bytes(&[7; 32]);
        let certificate = Certificate {
            run_id: "run".into(),
            nonce: "00".repeat(16),
            runtime: "retailer/host".into(),
            principal: key.public().to_hex(),
            not_before: "2026-01-01T00:00:00Z".into(),
            not_after: "2026-01-01T01:00:00Z".into(),
            question: "evil".into(),
            revision: 1,
            supersedes: Vec::new(),
            views: views.iter().map(|view| Grant { view: view.id.clone(), owner: view.owner.clone() }).collect(),
            registry: RegistryPin { version: 1, sha256: "00".repeat(32) },
            revocations: Vec::new(),
            approvals: Vec::new(),
            charges: Vec::new(),
            ledger: LedgerHead { entries: 0, sha256: String::new() },
        };
        RunPrincipal { key, certificate, folders, state: PathBuf::new() }
    }

    #[track_caller]
    fn is_denied(principal: &RunPrincipal, view: &View, path: &str, why: &str) {
        let error = principal.open(view, path).expect_err(path);
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::PermissionDenied, why), "{path}");
    }

    #[test]
    fn a_principal_opens_the_granted_views_files() {
        let (_room, dir) = room();
        let (rows, campaigns) = (view("rows", "retailer"), view("campaigns", "brand"));
        let principal = principal(&dir, &[rows.clone(), campaigns.clone()]);
        for (view, path) in [(&rows, "data/retailer/rows.csv"), (&campaigns, "data/brand/campaigns.csv")] {
            assert!(principal.open(view, path).is_ok(), "{path}");
        }
    }

    /// A party's whole folder, and one inside of it; never another's, nor through a link to it.
    #[test]
    fn a_principal_lists_the_granted_views_folders() {
        let (room, dir) = room();
        let rows = view("rows", "retailer");
        let principal = principal(&dir, std::slice::from_ref(&rows));
        fs::create_dir(room.path().join("data/retailer/months")).unwrap();
        fs::write(room.path().join("data/retailer/months/may.csv"), "").unwrap();
        let list = |path: &str| files::list_all(&principal.open_folder(&rows, path)?, 9);
        assert_eq!(list("data/retailer").unwrap(), ["other.csv", "rows.csv"]);
        assert_eq!(list("data/retailer/months").unwrap(), ["may.csv"]);
        assert_eq!(files::list_all(&principal.open_folder(&rows, "data/retailer").unwrap(), 1).unwrap().len(), 1);
        for path in ["data/brand", "data/retailer/../brand", "data", "data/retailer/", ""] {
            assert_eq!(list(path).unwrap_err().to_string(), "the file is not in its owner's folder", "{path}");
        }
        std::os::unix::fs::symlink("../brand", room.path().join("data/retailer/link")).unwrap();
        assert!(list("data/retailer/link").is_err());
        let campaigns = view("campaigns", "brand");
        assert!(principal.open_folder(&campaigns, "data/brand").is_err());
    }

    #[test]
    fn a_view_of_a_party_that_granted_none() {
        let (_room, dir) = room();
        let principal = principal(&dir, &[view("rows", "retailer")]);
        let campaigns = view("campaigns", "brand");
        is_denied(&principal, &campaigns, "data/brand/campaigns.csv", "the run's principal acts for no such party");
    }

    /// Another view of the party, and the granted one with another definition.
    #[test]
    fn a_view_that_was_not_granted() {
        let (room, dir) = room();
        let rows = view("rows", "retailer");
        let principal = principal(&dir, std::slice::from_ref(&rows));
        let why = "the run's principal may not open this view";
        is_denied(&principal, &view("other", "retailer"), "data/retailer/other.csv", why);
        let wider = View { sql: "SELECT * FROM rows".into(), ..rows.clone() };
        let elsewhere = View { sources: view("other", "retailer").sources, ..rows.clone() };
        for changed in [wider, elsewhere] {
            is_denied(&principal, &changed, "data/retailer/rows.csv", why);
            assert!(principal.open_folder(&changed, "data/retailer/table").is_err());
            assert!(principal.connection(&changed, "shop").unwrap_err().fact().contains(why));
        }
        fs::create_dir(room.path().join("data/retailer/table")).unwrap();
        fs::create_dir(room.path().join("data/brand/table")).unwrap();
        assert!(principal.open_folder(&rows, "data/retailer/table").is_ok());
        assert!(principal.open_folder(&rows, "data/brand/table").is_err());
    }

    /// Under a granted view, the files of the other party, and paths that climb to them.
    #[test]
    fn a_file_that_is_not_its_owners() {
        let (_room, dir) = room();
        let (rows, campaigns) = (view("rows", "retailer"), view("campaigns", "brand"));
        let principal = principal(&dir, &[rows.clone(), campaigns]);
        for path in [
            "data/brand/campaigns.csv",
            "data/retailer/../brand/campaigns.csv",
            "data/retailer/./rows.csv",
            "data/retailer//data/brand/campaigns.csv",
            "data/retailerx/rows.csv",
            "data/retailer",
            "data/retailer/",
            "rows.csv",
            "/etc/passwd",
            "",
        ] {
            is_denied(&principal, &rows, path, "the file is not in its owner's folder");
        }
    }

    #[test]
    fn a_link_to_another_partys_file() {
        let (room, dir) = room();
        let rows = view("rows", "retailer");
        let principal = principal(&dir, std::slice::from_ref(&rows));
        let link = room.path().join("data/retailer/rows.csv");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../brand/campaigns.csv", &link).unwrap();
        assert!(principal.open(&rows, "data/retailer/rows.csv").is_err());
        // The whole folder swapped for the other party's, after the principal came to be: it has opened its own.
        let data = room.path().join("data");
        fs::remove_file(&link).unwrap();
        fs::write(&link, "own").unwrap();
        fs::rename(data.join("retailer"), data.join("aside")).unwrap();
        std::os::unix::fs::symlink(data.join("brand"), data.join("retailer")).unwrap();
        let mut file = principal.open(&rows, "data/retailer/rows.csv").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "own");
    }

    #[test]
    fn a_principal_acts_until_its_end_and_not_in_that_second() {
        let (_room, dir) = room();
        let principal = principal(&dir, &[view("rows", "retailer")]);
        let at = |text: &str| clock::from_text(text).unwrap();
        assert!(principal.check(at("2026-01-01T00:59:59Z")).is_ok());
        for late in ["2026-01-01T01:00:00Z", "2026-01-01T01:00:01Z", "2027-01-01T00:00:00Z"] {
            assert_eq!(principal.check(at(late)).unwrap_err().code(), Code::PrincipalExpired, "{late}");
        }
    }

    /// What a principal signs verifies with its own key alone, which the certificate names.
    #[test]
    fn a_certificate_names_the_key_that_signs() {
        let (_room, dir) = room();
        let principal = principal(&dir, &[view("rows", "retailer")]);
        let runtime = SigningKey::from_bytes(&[1; 32]);
        let id = "ab".repeat(32);
        let certificate = principal.certify(&id, &runtime).unwrap();
        let opened = envelope::open(&certificate, IN_TOTO, [((), runtime.public())]).unwrap();
        let certified = Certified::parse(&opened.payload, &runtime.public()).unwrap();
        assert_eq!((certified.agreement_id.as_str(), &certified.certificate), (id.as_str(), &principal.certificate));
        let signed = principal.sign(b"{}").unwrap();
        assert!(envelope::open(&signed, IN_TOTO, [((), certified.key)]).is_ok());
        assert!(envelope::open(&signed, IN_TOTO, [((), runtime.public())]).is_err());
        // A record of the principal's end is no certificate.
        let ended = principal.decommission(&id, &runtime, clock::from_text("2026-01-01T00:30:00Z").unwrap()).unwrap();
        let ended = envelope::open(&ended, IN_TOTO, [((), runtime.public())]).unwrap();
        assert!(Certified::parse(&ended.payload, &runtime.public()).is_err());
    }
}
