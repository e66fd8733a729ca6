//! What an attacker with a key can put into a room: agreements and approvals that the program itself would not write.
//!
//! Signs by its own few lines, written from the DSSE and in-toto documents, so it is a second opinion on the format.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Fixture, PEOPLE};

pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// The bytes that a DSSE signature is over.
pub(crate) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// A DSSE envelope with one signature.
pub(crate) fn seal(payload: &[u8], key: &SigningKey) -> Value {
    let signature = key.sign(&pre_authentication_encoding(IN_TOTO, payload));
    json!({
        "payloadType": IN_TOTO,
        "payload": BASE64.encode(payload),
        "signatures": [{"keyid": "", "sig": BASE64.encode(&signature.to_bytes())}],
    })
}

/// The payload of a DSSE envelope.
pub(crate) fn payload(envelope: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(envelope).expect("an envelope is JSON");
    BASE64.decode(envelope["payload"].as_str().expect("a payload").as_bytes()).expect("base64")
}

/// The statement of an approval of the evil question, as the program writes it: its only view is the retailer's.
pub(crate) fn statement(agreement_id: &str, party: &str, person: &str) -> Value {
    let role = if party == "retailer" { "data-owner" } else { "recipient" };
    statement_as(role, agreement_id, party, person)
}

/// The statement of an approval, as the program writes it. Each has a number of its own.
pub(crate) fn statement_as(role: &str, agreement_id: &str, party: &str, person: &str) -> Value {
    static SEQUENCE: AtomicU64 = AtomicU64::new(900);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "agreement.json", "digest": {"sha256": agreement_id}}],
        "predicateType": "https://glovebox.dev/approval/v1",
        "predicate": {
            "room": "grocery", "party": party, "person": person, "role": role, "decision": "approve",
            "agreement_id": agreement_id, "sequence": sequence, "registry_version": 1,
            "approved_at": "2026-01-01T00:00:00Z", "not_after": "2099-01-01T00:00:00Z", "nonce": "00".repeat(16),
        },
    })
}

/// A signature on a version of the registry, as the program writes it.
pub(crate) fn registry_signature(registry: &[u8], version: u64, who: &str, key: &SigningKey) -> Value {
    let (party, member) = who.split_once('/').expect("a party and a member");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "registry.json", "digest": {"sha256": sha256(registry)}}],
        "predicateType": "https://glovebox.dev/registry/v1",
        "predicate": {
            "room": "grocery", "version": version, "party": party, "member": member,
            "signed_at": "2026-01-01T00:00:00Z",
        },
    });
    seal(statement.to_string().as_bytes(), key)
}

/// The id of a key in a signed note (c2sp.org/signed-note), for an algorithm's byte.
fn note_key_id(name: &str, algorithm: u8, key: &SigningKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', algorithm])
        .chain_update(key.verifying_key().as_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The line of a witness in a log's policy (c2sp.org/tlog-policy).
pub(crate) fn witness_line(name: &str, key: &SigningKey) -> String {
    let public = [[4].as_slice(), key.verifying_key().as_bytes()].concat();
    format!("witness {name} {name}+{}+{}", HEXLOWER.encode(&note_key_id(name, 4, key)), BASE64.encode(&public))
}

/// The proof (c2sp.org/tlog-proof) that a log has a record: a log of this record alone, signed with the log's own key.
pub(crate) fn proof_of(record: &[u8], origin: &str, key: &SigningKey) -> String {
    let root = Sha256::digest([&[0], record].concat());
    let text = format!("{origin}\n1\n{}\n", BASE64.encode(&root));
    let signature = [note_key_id(origin, 1, key).as_slice(), &key.sign(text.as_bytes()).to_bytes()].concat();
    format!("c2sp.org/tlog-proof@v1\nindex 0\n\n{text}\n\u{2014} {origin} {}\n", BASE64.encode(&signature))
}

impl Fixture {
    /// Makes up a run anew, as whoever holds the runtime's key can: another principal with a certificate, a receipt of
    /// its, and the proof that a log has it. `change` gets the statements of the receipt and of the certificate.
    pub(crate) fn forge_run(&self, receipt: &str, change: impl FnOnce(&mut Value, &mut Value)) {
        let run = receipt.strip_suffix(".dsse.json").expect("a receipt");
        let path = format!("{run}.certificate.dsse.json");
        let statement = |file: &str| serde_json::from_slice(&payload(&self.read(file))).expect("a statement is JSON");
        let (mut record, mut certificate): (Value, Value) = (statement(receipt), statement(&path));
        let (runtime, principal) = (self.key("runtime"), SigningKey::from_bytes(&[7; 32]));

        change(&mut record, &mut certificate);
        certificate["predicate"]["principal"] = json!(HEXLOWER.encode(principal.verifying_key().as_bytes()));
        let certificate = seal(certificate.to_string().as_bytes(), &runtime).to_string();
        record["predicate"]["certificate_sha256"] = json!(sha256(certificate.as_bytes()));
        let record = seal(record.to_string().as_bytes(), &principal).to_string();
        self.write(&path, certificate.as_bytes());
        self.write(receipt, record.as_bytes());
        self.write(&format!("{run}.tlog-proof"), proof_of(record.as_bytes(), "glovebox/grocery", &runtime).as_bytes());
    }

    /// The statements of all records in the log, which has less than 256 (c2sp.org/tlog-tiles).
    pub(crate) fn logged(&self) -> Vec<Value> {
        let checkpoint = self.read_text("log/checkpoint");
        let size = checkpoint.lines().nth(1).expect("a size");
        let bundle = self.read(&format!("log/tile/entries/000.p/{size}"));
        let mut rest = bundle.as_slice();
        let mut records = Vec::new();
        while let [high, low, bytes @ ..] = rest {
            let (entry, after) = bytes.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            records.push(serde_json::from_slice(&payload(entry)).expect("a statement is JSON"));
            rest = after;
        }
        records
    }

    /// The private key of `party.person`, or of the runtime.
    pub(crate) fn key(&self, name: &str) -> SigningKey {
        SigningKey::from_pkcs8_pem(&self.read_text(&format!("keys/{name}.pem"))).expect("a PKCS#8 key")
    }

    /// The agreement's id: the digest of its bytes.
    pub(crate) fn id_of(&self, agreement: &str) -> String {
        sha256(&self.read(&format!("{agreement}/agreement.json")))
    }

    /// Puts an envelope where `who`'s approval stands.
    pub(crate) fn put_approval(&self, agreement: &str, who: &str, envelope: &Value) {
        self.write(&format!("{agreement}/{who}.dsse.json"), envelope.to_string().as_bytes());
    }

    /// Replaces the agreement's bytes, and lets both parties sign these, whatever they are.
    pub(crate) fn sign_bytes(&self, agreement: &str, bytes: &[u8]) {
        self.write(&format!("{agreement}/agreement.json"), bytes);
        let terms: Value = serde_json::from_slice(bytes).unwrap_or_default();
        // Bytes that are no agreement are signed like the evil question, whose only view is the retailer's.
        let views = terms["views"].as_array();
        let owns = |party: &str| match views {
            Some(views) => views.iter().any(|bound| bound["view"]["owner"] == party),
            None => party == "retailer",
        };
        let recipient = terms["destination"]["recipient"].as_str().unwrap_or("brand");
        for (party, person) in PEOPLE {
            let role = match (owns(party), recipient == party) {
                (true, _) => "data-owner",
                (false, true) => "recipient",
                (false, false) => "member",
            };
            let statement = statement_as(role, &sha256(bytes), party, person).to_string();
            let who = format!("{party}.{person}");
            self.put_approval(agreement, &who, &seal(statement.as_bytes(), &self.key(&who)));
        }
    }

    /// Changes the terms of an agreement, and lets both parties sign the change.
    pub(crate) fn forge(&self, agreement: &str, change: impl FnOnce(&mut Value)) {
        let mut terms: Value =
            serde_json::from_slice(&self.read(&format!("{agreement}/agreement.json"))).expect("JSON");
        change(&mut terms);
        self.sign_bytes(agreement, terms.to_string().as_bytes());
    }

    /// Binds an agreement to other files, as a careless `agree` of someone else would.
    pub(crate) fn forge_question(&self, agreement: &str, component: &[u8], manifest: &[u8]) {
        self.write("questions/forged.wasm", component);
        self.write("questions/forged.toml", manifest);
        self.forge(agreement, |terms| {
            let file = |bytes: &[u8]| json!({"sha256": sha256(bytes), "size": bytes.len()});
            terms["component_path"] = json!("questions/forged.wasm");
            terms["component"] = file(component);
            terms["manifest_path"] = json!("questions/forged.toml");
            terms["manifest"] = file(manifest);
        });
    }

    /// The bytes of a question's component.
    pub(crate) fn component(&self, question: &str) -> Vec<u8> {
        fs::read(self.path(&format!("questions/{question}.wasm"))).expect("a component")
    }
}

/// The evil question on its best behaviour.
pub(crate) const EVIL: &[&str] = &["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "reports"];
