//! A folder with a question, an agreement on it, and two approvals.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::registry::{Registry, sha256};
use crate::tool::{exchange, text};

pub(crate) const QUESTION_TOML: &str =
    "name = \"reach\"\ndescription = \"how many “households” \\\\ a campaign reached\"\n";

/// What a partner has on disk.
pub(crate) struct Room {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) component: Vec<u8>,
    pub(crate) agreement: Vec<u8>,
}

impl Room {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let component = component("answer");
        let agreement = agreement(&component, "1");
        let room = Self { folder, component, agreement };
        fs::create_dir_all(room.path("agreements/reach-r1")).unwrap();
        fs::write(room.path("reach.wasm"), &room.component).unwrap();
        fs::write(room.path("reach.toml"), QUESTION_TOML).unwrap();
        fs::write(room.path("agreements/reach-r1/agreement.json"), &room.agreement).unwrap();
        for name in ["retailer.ana", "brand.dan"] {
            fs::write(room.path(&format!("agreements/reach-r1/{name}.dsse.json")), room.approval(name)).unwrap();
        }
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An approval of the agreement.
    pub(crate) fn approval(&self, name: &str) -> Vec<u8> {
        approval(&self.agreement, name)
    }

    /// Pushes the question with its agreement. Gives the manifest's digest.
    pub(crate) fn push(&self, registry: &Registry) -> String {
        let pushed = exchange(&[
            "push",
            &registry.repository(),
            text(&self.path("reach.wasm")),
            "--agreement",
            text(&self.path("agreements/reach-r1")),
            "--plain-http",
            "--json",
        ]);
        pushed.json()["manifest"].as_str().unwrap().to_owned()
    }
}

/// A component that answers in another way for another word.
pub(crate) fn component(export: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component
             (core module $m (func (export "f") (result i32) (i32.const 7)))
             (core instance $i (instantiate $m))
             (func $f (result u32) (canon lift (core func $i "f")))
             (export "{export}" (func $f)))"#
    ))
    .unwrap()
}

/// An agreement on a component.
pub(crate) fn agreement(component: &[u8], nonce: &str) -> Vec<u8> {
    let file = |bytes: &[u8]| json!({"sha256": sha256(bytes)[7..], "size": bytes.len()});
    let terms = json!({
        "version": 1, "room": "grocery", "question": "reach", "nonce": nonce,
        "component": file(component), "manifest": file(QUESTION_TOML.as_bytes()),
    });
    serde_json::to_vec_pretty(&terms).unwrap()
}

/// An approval of an agreement; its signature is none.
pub(crate) fn approval(agreement: &[u8], name: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "agreement.json", "digest": {"sha256": sha256(agreement)[7..]}}],
        "predicateType": "https://glovebox.dev/approval/v1",
        "predicate": {"who": name},
    });
    let envelope = json!({
        "payloadType": "application/vnd.in-toto+json",
        "payload": BASE64.encode(statement.to_string().as_bytes()),
        "signatures": [{"keyid": name, "sig": BASE64.encode(&[name.len() as u8; 64])}],
    });
    serde_json::to_vec_pretty(&envelope).unwrap()
}

/// A Sigstore bundle around an approval.
pub(crate) fn bundle(approval: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(approval).unwrap();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "ana"}},
        "dsseEnvelope": envelope,
    });
    serde_json::to_vec(&bundle).unwrap()
}

/// Every file below a folder, by its path in it.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}
