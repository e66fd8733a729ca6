//! The approvals of an agreement in the forms of other tools: Sigstore bundles, OpenSSH's allowed_signers, an in-toto
//! layout with its links, PEM keys with the bytes that were signed, minisign.

use std::path::Path;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use data_encoding::{BASE64, HEXLOWER};
use glovebox_trust::Principal;
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::{PublicKey, Signer};
use glovebox_trust::registry::{Registry, Scope};
use serde_json::{Value, json};

use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::{self, AGREEMENT_FILE, Chain, SIGNATURE_SUFFIX, Signers};
use crate::room::{Agreement, sha256_hex};
use crate::signing::{SSH_NAMESPACE, foreign_folder, link_name, step_name};

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What to export.
pub struct Export<'a> {
    /// The agreement's folder in the room.
    pub agreement: &'a str,
    /// Where to; the folder is made.
    pub to: &'a Path,
    /// The key of whoever vouches for the in-toto layout.
    pub layout_key: &'a dyn Signer,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("agreement", &self.agreement).field("to", &self.to).finish_non_exhaustive()
    }
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The files' names, in order.
    pub files: Vec<String>,
}

/// An approval, and all that other tools need of it.
struct Exportable {
    person: Principal,
    key: PublicKey,
    /// The envelope as it lies, its payload, and its signature.
    envelope: Value,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// An RFC 3161 time stamp of the signature, where one was fetched.
    timestamp: Option<Vec<u8>>,
}

/// Writes an agreement and its approvals for other tools. Only approvals that verify are exported.
pub fn export(dir: &Dir, what: &Export<'_>, now: DateTime<Utc>) -> Result<Exported> {
    let folder = what.agreement.trim_end_matches('/');
    let chain = Chain::read_any(dir)?;
    let registry = chain.current();
    let bytes = gate::read_agreement(dir, folder)?;
    let agreement = Agreement::parse(&bytes)?;
    let approvals = read_exportable(dir, folder, &sha256_hex(&bytes), registry, now)?;

    std::fs::create_dir_all(what.to).map_err(|error| unwritable(what.to, &error))?;
    let mut out =
        Out { folder: files::open_dir(what.to).map_err(|error| unwritable(what.to, &error))?, files: Vec::new() };
    out.put(AGREEMENT_FILE, &bytes)?;
    let mut signers = String::new();
    for approval in &approvals {
        signers += &allowed_signer(approval);
        approval.write(dir, folder, &mut out)?;
    }
    out.put("allowed_signers", signers.as_bytes())?;
    write_layout(&mut out, &agreement, &approvals, what.layout_key)?;
    out.files.sort();
    Ok(Exported { files: out.files })
}

fn read_exportable(
    dir: &Dir,
    folder: &str,
    agreement_id: &str,
    registry: &Registry,
    now: DateTime<Utc>,
) -> Result<Vec<Exportable>> {
    let signers = Signers { registry, now, is_logged: &|_| false };
    let approvals = gate::read_approvals(dir, folder, agreement_id, &signers)?;
    let keys: Vec<(Principal, PublicKey)> = registry.keys(Scope::Approve).collect();
    let read = |approval: &glovebox_trust::approval::Approval| {
        let person = approval.principal().clone();
        let name = format!("{}.{}", person.party, person.member);
        let path = format!("{folder}/{name}{SIGNATURE_SUFFIX}");
        let bytes = gate::read(dir, &path, FILE_BYTES_MAX, Code::ExportFailed)?;
        let key =
            keys.iter().find(|(holder, key)| *holder == person && key.fingerprint() == approval.key_fingerprint());
        let (_, key) = key.ok_or_else(|| failed(&format!("the key of {person} is not in use")))?;
        let opened = envelope::open(&bytes, IN_TOTO, [((), *key)]).map_err(|denial| failed(denial.fact()))?;
        let envelope: Value = serde_json::from_slice(&bytes).map_err(|error| failed(&error.to_string()))?;
        let signature = envelope["signatures"][0]["sig"].as_str().and_then(glovebox_trust::base64::decode);
        let signature = signature.ok_or_else(|| failed("a signature is not in standard base64"))?;
        let timestamp = files::read(dir, &format!("{folder}/{name}.tsr"), FILE_BYTES_MAX).ok();
        Ok(Exportable { person, key: *key, envelope, payload: opened.payload, signature, timestamp })
    };
    approvals.iter().map(read).collect()
}

impl Exportable {
    fn name(&self) -> String {
        format!("{}.{}", self.person.party, self.person.member)
    }

    fn write(&self, dir: &Dir, folder: &str, out: &mut Out) -> Result<()> {
        let name = self.name();
        out.put(&format!("{name}.sigstore.json"), self.bundle().to_string().as_bytes())?;
        out.put(&format!("{name}.pae"), &envelope::pre_authentication_encoding(IN_TOTO, &self.payload))?;
        out.put(&format!("{name}.sig"), &self.signature)?;
        out.put(&format!("{name}.pem"), self.key.to_pem().as_bytes())?;
        out.put(&format!("{name}.minisign.pub"), self.key.to_minisign(&self.person.to_string()).as_bytes())?;
        let foreign = foreign_folder(folder, &self.person);
        for ending in ["sshsig", "minisig"] {
            let path = format!("{foreign}/{AGREEMENT_FILE}.{ending}");
            let bytes = gate::read(dir, &path, FILE_BYTES_MAX, Code::ExportFailed)?;
            out.put(&format!("{name}.{AGREEMENT_FILE}.{ending}"), &bytes)?;
        }
        let link = link_name(&self.person.party, &self.key);
        let bytes = gate::read(dir, &format!("{foreign}/{link}"), FILE_BYTES_MAX, Code::ExportFailed)?;
        out.put(&format!("in-toto/{link}"), &bytes)
    }

    /// A Sigstore bundle of version 0.3, with the key as a hint and the time stamp where there is one.
    fn bundle(&self) -> Value {
        let mut material = json!({"publicKey": {"hint": self.key.fingerprint()}});
        if let Some(timestamp) = &self.timestamp {
            let stamps = json!([{"signedTimestamp": BASE64.encode(timestamp)}]);
            material["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
        }
        json!({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": self.envelope})
    }
}

/// A line of OpenSSH's allowed_signers, for this namespace alone.
fn allowed_signer(approval: &Exportable) -> String {
    let key = approval.key.to_openssh("");
    format!("{} namespaces=\"{SSH_NAMESPACE}\" {}\n", approval.person, key.trim())
}

/// An in-toto layout with a step for every party whose approval is needed, signed by the layout's owner.
fn write_layout(out: &mut Out, agreement: &Agreement, approvals: &[Exportable], owner: &dyn Signer) -> Result<()> {
    let (_, until) = agreement.window()?;
    let required = agreement.required_parties();
    let first = required.iter().next().copied().unwrap_or_default();
    let keys: serde_json::Map<String, Value> = approvals.iter().map(|approval| layout_key(&approval.key)).collect();
    let same = |other: &str, last: Value| {
        json!([
            ["REQUIRE", AGREEMENT_FILE],
            ["MATCH", AGREEMENT_FILE, "WITH", "MATERIALS", "FROM", step_name(other)],
            last
        ])
    };
    let steps: Vec<Value> = required
        .iter()
        .map(|party| {
            let people = approvals.iter().filter(|approval| approval.person.party == *party);
            json!({
                "_type": "step",
                "name": step_name(party),
                "threshold": 1,
                "pubkeys": people.map(|approval| approval.key.fingerprint()).collect::<Vec<_>>(),
                "expected_command": [],
                "expected_materials": same(first, json!(["DISALLOW", "*"])),
                "expected_products": [["DISALLOW", "*"]],
            })
        })
        .collect();
    let layout = json!({
        "_type": "layout",
        "expires": clock::to_text(until),
        "readme": "Every owner of a view and the recipient approved agreement.json",
        "keys": keys,
        "steps": steps,
        // Without it in-toto would compare the links with each other alone, and never look at the file.
        "inspect": [{
            "_type": "inspection",
            "name": "agreement",
            "run": ["true"],
            "expected_materials": same(first, json!(["DISALLOW", AGREEMENT_FILE])),
            "expected_products": [],
        }],
    });
    let sealed = envelope::seal(IN_TOTO, layout.to_string().as_bytes(), owner).map_err(|why| failed(&why))?;
    let mut sealed: Value = serde_json::from_slice(&sealed).map_err(|error| failed(&error.to_string()))?;
    sealed["signatures"][0]["keyid"] = json!(securesystemslib_id(&owner.public()));
    out.put("in-toto/root.layout", sealed.to_string().as_bytes())?;
    out.put("in-toto/layout-owner.pem", owner.public().to_pem().as_bytes())
}

fn layout_key(key: &PublicKey) -> (String, Value) {
    let id = key.fingerprint();
    let value = json!({"keyid": id, "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key.to_hex()}});
    (id, value)
}

/// in-toto looks for the layout's own signature under securesystemslib's id of the key: SHA-256 over its canonical JSON.
fn securesystemslib_id(key: &PublicKey) -> String {
    let canonical = format!(
        r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
        HEXLOWER.encode(&key.to_bytes())
    );
    sha256_hex(canonical.as_bytes())
}

struct Out {
    folder: Dir,
    files: Vec<String>,
}

impl Out {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        files::write(&self.folder, name, bytes, Existing::Replace)
            .map_err(|error| failed(&format!("cannot write {name}: {error}")))?;
        self.files.push(name.into());
        Ok(())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    failed(&format!("cannot write {}: {error}", path.display()))
}

fn failed(why: &str) -> Fault {
    Fault::new(Code::ExportFailed, why, "export an agreement that its parties approved with this program")
}
