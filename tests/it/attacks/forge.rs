//! What attackers do to a room besides forging agreements, and what every refusal of theirs must look like.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use glovebox::{Clock, Code, Holder, MemberKind, Outcome, Principal, Random, Request, Scope, Step, load_key};
use serde_json::{Value, json};

use crate::support::forge::{EVIL, pre_authentication_encoding, sha256, statement};
use crate::support::{Fixture, PEOPLE, Ran, now, text};

/// What a run through the library is asked with.
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    pub(super) nonce: Option<&'a str>,
    pub(super) minutes: u32,
    pub(super) clock: Clock,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self { key: "runtime", nonce: None, minutes: 60, clock: Clock::System }
    }
}

/// A DSSE envelope with one signature over any type.
pub(super) fn seal_as(payload_type: &str, payload: &[u8], key: &SigningKey) -> Value {
    let signature = key.sign(&pre_authentication_encoding(payload_type, payload));
    json!({
        "payloadType": payload_type,
        "payload": BASE64.encode(payload),
        "signatures": [{"sig": BASE64.encode(&signature.to_bytes())}],
    })
}

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

impl Fixture {
    /// A room with the evil question, agreed and approved.
    pub(super) fn with_evil() -> (Self, String) {
        let room = Self::new();
        let agreement = room.agreed("evil", EVIL);
        (room, agreement)
    }

    /// Runs through the library.
    pub(super) fn ask(&self, agreement: &str, asked: &Asked<'_>, progress: &dyn Fn(Step)) -> Outcome {
        let key = load_key(&self.path(&format!("keys/{}.pem", asked.key))).expect("a key");
        let (root, state) = (self.root(), self.state());
        let request = Request {
            room: &root,
            agreement,
            key: &key,
            threads: 1,
            groups: 1,
            sort_memory_bytes: 64 << 20,
            state: &state,
            store: None,
            nonce: asked.nonce,
            minutes: asked.minutes,
            clock: asked.clock,
            worker: Some(Path::new(env!("CARGO_BIN_EXE_glovebox"))),
        };
        glovebox::run(&request, progress).expect("a run ends in a receipt")
    }

    /// A run that the gate refuses: free, without a principal, so that no guest ever was, and logged.
    #[track_caller]
    pub(super) fn denied(&self, agreement: &str, code: &str) -> Ran {
        let ran = self.refused(agreement, code, 3);
        self.is_logged_without_principal(&text(&ran.json()["receipt"]));
        ran
    }

    /// The same, at some moment.
    #[track_caller]
    pub(super) fn denied_at(&self, agreement: &str, moment: DateTime<Utc>, code: &str) {
        let (outputs, spent) = (self.outputs(), self.spent());
        let outcome = self.ask(agreement, &Asked { clock: Clock::Fixed(moment), ..Asked::default() }, &|_| {});
        let fault = outcome.result.expect_err("refused");
        assert_eq!((fault.code().as_str(), fault.code().stage().exit_code()), (code, 3), "{moment}: {fault}");
        assert!(outcome.charges.is_empty());
        assert_eq!((self.outputs(), self.spent()), (outputs, spent));
        let verified = glovebox::verify(&self.dir(), &outcome.receipt, None, now()).expect("the receipt verifies");
        assert_eq!(verified.code.as_deref(), Some(code));
        self.is_logged_without_principal(&outcome.receipt);
    }

    /// A run that is refused while the room, its registry or its log cannot be used: its receipt stands by itself, and
    /// verifies as soon as `undo` has brought back what the attacker took.
    #[track_caller]
    pub(super) fn denied_unlogged(&self, agreement: &str, code: &str, undo: impl FnOnce()) {
        let outputs = self.outputs();
        let stage = Code::ALL.iter().find(|known| known.as_str() == code).expect("a code").stage();
        let ran = self.run(agreement);
        ran.failed(code, stage.exit_code().into());
        assert_eq!((&ran.json()["decision"], &ran.json()["charges"]), (&json!("refused"), &json!([])));
        assert_eq!(self.outputs(), outputs, "{code}: something stands in the destination");
        undo();
        self.is_refused(&ran, code, stage.exit_code().into());
        let record = self.record(&text(&ran.json()["receipt"]));
        assert_eq!(record["predicate"]["certificate_sha256"], Value::Null, "{code}: the run had a principal");
    }

    #[track_caller]
    fn is_logged_without_principal(&self, receipt: &str) {
        let proof = receipt.replace(".dsse.json", ".tlog-proof");
        assert!(self.path(&proof).exists(), "the refusal is not in the log");
        let record = self.record(receipt);
        assert_eq!(record["predicate"]["certificate_sha256"], Value::Null, "the run had a principal: {record}");
    }

    /// Lets the operator adopt the room's log, against a checkpoint that someone else holds.
    pub(super) fn adopt(&self, checkpoint: &Path) -> Ran {
        let root = sha256(&self.read("registry/1/registry.json"));
        let checkpoint = checkpoint.to_str().expect("a path");
        self.glovebox(&["state", "adopt", &root, "--checkpoint", checkpoint, "--json"])
    }

    /// Takes a result and its opening away, so that there is room for the next.
    #[track_caller]
    pub(super) fn take_output(&self, output: &str) {
        for file in [output.to_owned(), format!("{output}.opening.json")] {
            fs::remove_file(self.path(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    /// The agreement runs, as if nothing had happened: on files that no run has read, so that it is asked and charged.
    #[track_caller]
    pub(super) fn is_unharmed(&self, agreement: &str) {
        self.renew_data();
        assert!(!self.released(agreement).json["charges"].as_array().expect("charges").is_empty());
    }

    /// Puts bytes in place of an approval, sees the run denied, and puts the approval back.
    #[track_caller]
    pub(super) fn denied_with_approval(&self, agreement: &str, bytes: &[u8], code: &str) {
        let path = format!("{agreement}/retailer.ana.dsse.json");
        let honest = self.read(&path);
        self.write(&path, bytes);
        self.denied(agreement, code);
        self.write(&path, &honest);
    }

    /// What ana would sign of an agreement.
    pub(super) fn anas(&self, agreement: &str) -> Value {
        statement(&self.id_of(agreement), "retailer", "ana")
    }

    /// Makes a key with these scopes, and lets the parties sign the registry that has it.
    pub(super) fn new_key_for(&self, party: &str, person: &str, name: &str, scopes: &[Scope]) {
        let holder =
            Holder { principal: Principal::new(party, person), kind: MemberKind::Person, scopes: scopes.to_vec() };
        let path = self.path(&format!("keys/{name}.pem"));
        glovebox::new_key(&self.dir(), &holder, &path, now(), &mut Random::from_os().expect("randomness"))
            .expect("a key");
        self.sign_registry();
    }

    /// Lets the parties agree on another quorum.
    pub(super) fn new_quorum(&self, lines: &str) {
        glovebox::set_quorum(&self.dir(), lines, now()).expect("a quorum");
        self.sign_registry();
    }

    /// Writes the public key of a private one, in hex, to a file; returns its path in the room.
    pub(super) fn public(&self, name: &str) -> String {
        let path = format!("keys/{name}.hex");
        self.write(&path, data_encoding::HEXLOWER.encode(self.key(name).verifying_key().as_bytes()).as_bytes());
        path
    }

    /// The registry's versions, changed as an attacker likes, under the next number.
    pub(super) fn draft_registry(&self, version: u64, change: impl FnOnce(&mut Value)) {
        let mut registry: Value =
            serde_json::from_slice(&self.read(&format!("registry/{}/registry.json", version - 1))).expect("JSON");
        registry["version"] = json!(version);
        change(&mut registry);
        let folder = format!("registry/{version}");
        fs::create_dir_all(self.path(&folder)).expect("a folder");
        self.write(&format!("{folder}/registry.json"), registry.to_string().as_bytes());
    }

    /// Signs a draft of the registry as anyone, whoever that is.
    pub(super) fn sign_draft(&self, version: u64, party: &str, person: &str) {
        let document = self.read(&format!("registry/{version}/registry.json"));
        let stated: Value = serde_json::from_slice(&document).expect("JSON");
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "registry.json", "digest": {"sha256": sha256(&document)}}],
            "predicateType": "https://glovebox.dev/registry/v1",
            "predicate": {
                "room": "grocery", "version": stated["version"], "party": party, "member": person,
                "signed_at": "2026-01-01T00:00:00Z",
            },
        });
        let who = format!("{party}.{person}");
        let envelope = crate::support::forge::seal(statement.to_string().as_bytes(), &self.key(&who));
        self.write(&format!("registry/{version}/{who}.dsse.json"), envelope.to_string().as_bytes());
    }

    /// Withdraws something for a party.
    pub(super) fn revoke(&self, who: &str, arguments: &[&str]) {
        let key = format!("keys/{who}.pem");
        self.glovebox(&[&["revoke", "--key", &key, "--json"], arguments].concat()).succeeded();
    }

    /// A backup of the room, or of a part of it.
    pub(super) fn backup(&self, inner: &str) -> Backup {
        let backup = Backup { folder: tempfile::tempdir().expect("a folder"), inner: self.path(inner) };
        copy(&backup.inner, backup.folder.path());
        backup
    }

    /// A backup of what the host remembers.
    pub(super) fn backup_of_state(&self) -> Backup {
        let backup = Backup { folder: tempfile::tempdir().expect("a folder"), inner: self.state() };
        copy(&backup.inner, backup.folder.path());
        backup
    }

    /// Every anchor of the host: there is one for each room.
    pub(super) fn anchors(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.state()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let anchors = entries.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        anchors.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
    }
}

/// A folder as it was.
pub(super) struct Backup {
    folder: tempfile::TempDir,
    inner: PathBuf,
}

impl Backup {
    /// Puts it in the place of what is there now.
    pub(super) fn restore(&self) {
        fs::remove_dir_all(&self.inner).expect("removed");
        self.restore_to(&self.inner);
    }

    /// Puts it over what is there now.
    pub(super) fn restore_to(&self, inner: &Path) {
        copy(self.folder.path(), inner);
    }
}

/// The names of both approvals.
pub(super) fn approvers() -> [String; 2] {
    PEOPLE.map(|(party, person)| format!("{party}.{person}"))
}
