//! Notes, keys and checkpoints: each has one form, and says only what its log signed.

use glovebox_trust::keys::{Signer, SigningKey};
use glovebox_trust::log::checkpoint::SignedCheckpoint;
use glovebox_trust::log::cosignature::cosign;
use glovebox_trust::log::note::{Algorithm, Note, VerifierKey};
use glovebox_trust::log::policy::Policy;
use glovebox_trust::log::tree::{empty_root, leaf_hash};
use glovebox_trust::time_from_text;

use super::{Seed, accepted, parties};

const ORIGIN: &str = "glovebox/demo";
const WITNESS: &str = "witness.example/w1";
/// The sizes of the trees in the checkpoints that a seed has signed.
const SIGNED: [u64; 2] = [0, 1];

fn log() -> (VerifierKey, SigningKey) {
    let key = SigningKey::from_bytes(&[5; 32]);
    (VerifierKey::new(ORIGIN, Algorithm::Ed25519, key.public()).unwrap(), key)
}

fn witness() -> (VerifierKey, SigningKey) {
    let key = SigningKey::from_bytes(&[6; 32]);
    (VerifierKey::new(WITNESS, Algorithm::Cosignature, key.public()).unwrap(), key)
}

/// A policy that wants one witness.
fn policy() -> String {
    format!("log {}\nwitness w1 {}\nquorum w1\n", log().0, witness().0)
}

/// Reads the data as a note, as a key, as a policy, and as the text of a checkpoint that the log signs.
pub fn check(data: &[u8]) {
    if let Some(note) = accepted(Note::parse(data)) {
        assert_eq!(note.to_bytes(), data, "a note has two forms");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Some(key) = accepted(VerifierKey::parse(text)) {
            assert_eq!(key.to_string(), text, "a key has two forms");
        }
        check_text(text);
    }
    if let Some(policy) = accepted(Policy::parse(data)) {
        let names: Vec<&str> = policy.witnesses().map(|(name, _)| name).collect();
        assert!(policy.is_satisfied(&names), "no witnesses satisfy a policy");
    }
    check_signed(data);
}

/// The data is from a stranger: what opens was signed.
fn check_signed(data: &[u8]) {
    let (key, _) = log();
    let Some(signed) = accepted(SignedCheckpoint::open(data, &key)) else { return };
    assert!(SIGNED.contains(&signed.checkpoint().size), "a checkpoint opens that nobody signed");
    assert_eq!(signed.to_bytes(), data);
    let other = VerifierKey::new(ORIGIN, Algorithm::Ed25519, witness().1.public()).unwrap();
    assert!(accepted(SignedCheckpoint::open(data, &other)).is_none(), "it opens for another key");
    let today = time_from_text(parties::TODAY).unwrap();
    let policy = Policy::parse(policy().as_bytes()).unwrap();
    if let Some(witnessed) = accepted(policy.open(data, Some(today))) {
        assert_eq!(witnessed.cosignatures.len(), 1);
        assert_eq!(witnessed.checkpoint.checkpoint().size, 1, "the witness has cosigned another tree");
    }
}

/// The log signs the text: if it is a checkpoint, it is written as we write it.
fn check_text(text: &str) {
    let (key, signer) = log();
    let Ok(note) = Note::sign(text, &key, &signer) else { return };
    assert_eq!(note.text_signed_by(&key).unwrap(), text);
    if let Some(signed) = accepted(SignedCheckpoint::open(&note.to_bytes(), &key)) {
        let checkpoint = signed.checkpoint();
        let written = SignedCheckpoint::sign(checkpoint.size, checkpoint.root, &key, &signer).unwrap();
        assert_eq!(written.to_bytes(), note.to_bytes(), "a checkpoint has two forms");
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let ((key, signer), (witness, witness_signer)) = (log(), witness());
    let empty = SignedCheckpoint::sign(0, empty_root(), &key, &signer).unwrap().to_bytes();
    let one = SignedCheckpoint::sign(1, leaf_hash(b"receipt"), &key, &signer).unwrap();
    let time = time_from_text("2026-05-31T12:00:00Z").unwrap();
    let line = cosign(&one, &witness, &witness_signer, time).unwrap();
    let cosigned = [one.to_bytes().as_slice(), line.as_bytes()].concat();
    let text = String::from_utf8(one.to_bytes()).unwrap();
    let (text, _) = text.split_once("\n\n").unwrap();
    vec![
        ("empty", empty),
        ("one", one.to_bytes()),
        ("cosigned", cosigned),
        ("text", format!("{text}\n").into_bytes()),
        ("extension", format!("{text}\nextension\n").into_bytes()),
        ("policy", policy().into_bytes()),
        ("groups", policy().replace("quorum w1", "group g any w1\nquorum g").into_bytes()),
        ("log-key", key.to_string().into_bytes()),
        ("witness-key", witness.to_string().into_bytes()),
    ]
}
