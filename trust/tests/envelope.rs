//! Envelopes against another implementation, and against what a third one signed.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{key, rewrap};
use data_encoding::{BASE64, HEXLOWER};
use dsse::{Ed25519Signer, Envelope};
use glovebox_trust::envelope::{self, pre_authentication_encoding};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use serde_json::Value;

const SEED: u8 = 7;

fn opens(bytes: &[u8], payload_type: &str, key: PublicKey) -> Option<Vec<u8>> {
    envelope::open(bytes, payload_type, [((), key)]).ok().map(|opened| opened.payload)
}

fn dsse_opens(bytes: &[u8], payload_type: &str) -> Option<Vec<u8>> {
    let verifier = Ed25519Signer::from_bytes(&[SEED; 32]).unwrap().verifier();
    let verified = dsse::verify(&Envelope::from_json(bytes).ok()?, &[&verifier], 1).ok()?;
    (verified.payload_type == payload_type).then_some(verified.payload)
}

fn types() -> impl Strategy<Value = String> {
    "[a-z0-9 /+.é]{1,20}"
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_sealed_here_opens_there_and_the_other_way_round(payload_type in types(), payload in payloads()) {
        let sealed = envelope::seal(&payload_type, &payload, &key(SEED)).unwrap();
        prop_assert_eq!(dsse_opens(&sealed, &payload_type), Some(payload.clone()));
        let signer = Ed25519Signer::from_bytes(&[SEED; 32]).unwrap();
        for signer in [signer.clone(), signer.with_key_id("another hint")] {
            let theirs = dsse::sign(&payload_type, &payload, &signer).unwrap().to_json().unwrap();
            prop_assert_eq!(opens(&theirs, &payload_type, key(SEED).public()), Some(payload.clone()));
        }
        prop_assert_eq!(pre_authentication_encoding(&payload_type, &payload), dsse::pae(&payload_type, &payload));
    }

    /// What opens here after a change opens there as well, and as the same.
    #[test]
    fn nothing_changed_opens_here_that_does_not_open_there(payload in payloads(), at in any::<u16>(), to in any::<u8>()) {
        let mut changed = envelope::seal("application/test", &payload, &key(SEED)).unwrap();
        let at = usize::from(at) % changed.len();
        changed[at] = to;
        if let Some(opened) = opens(&changed, "application/test", key(SEED).public()) {
            prop_assert_eq!(&opened, &payload);
            prop_assert_eq!(dsse_opens(&changed, "application/test"), Some(opened));
        }
    }

    /// B7: lengths stand before what they measure, so no two pairs are signed as the same bytes.
    #[test]
    fn b07_a_type_and_a_payload_are_told_apart(t1 in types(), t2 in types(), p1 in payloads(), p2 in payloads()) {
        let is_same = pre_authentication_encoding(&t1, &p1) == pre_authentication_encoding(&t2, &p2);
        prop_assert_eq!(is_same, (t1, p1) == (t2, p2));
    }

    #[test]
    fn a_strangers_key_opens_nothing(seed in 8u8.., payload in payloads()) {
        let sealed = envelope::seal("application/test", &payload, &key(SEED)).unwrap();
        prop_assert!(opens(&sealed, "application/test", key(seed).public()).is_none());
    }
}

/// B7: text that could be read as another length, type or payload.
#[test]
fn b07_a_length_in_a_type_is_no_length() {
    let of = |payload_type: &str, payload: &str| pre_authentication_encoding(payload_type, payload.as_bytes());
    assert_ne!(of("a 1 b", "c"), of("a", "b 1 c"));
    assert_ne!(of("a", "1 b"), of("a 1", "b"));
    assert_eq!(of("é", "€"), "DSSEv1 2 é 3 €".as_bytes());
    let sealed = envelope::seal("text/plain 3 abc", b"d", &key(SEED)).unwrap();
    let relabelled = rewrap(&sealed, |envelope| {
        envelope["payloadType"] = "text/plain".into();
        envelope["payload"] = BASE64.encode(b"abc 1 d").into();
    });
    assert!(opens(&relabelled, "text/plain", key(SEED).public()).is_none());
}

#[test]
fn envelopes_of_the_reference_implementation_open() {
    let vectors: Value = serde_json::from_slice(include_bytes!("vectors/dsse.json")).unwrap();
    let seed = HEXLOWER.decode(vectors["seed"].as_str().unwrap().as_bytes()).unwrap();
    let key = SigningKey::from_bytes(&seed.try_into().unwrap());
    let fixtures = vectors["fixtures"].as_array().unwrap();
    assert_eq!(fixtures.len(), 11);
    for fixture in fixtures {
        let payload_type = fixture["type"].as_str().unwrap();
        let envelope = serde_json::to_vec(&fixture["envelope"]).unwrap();
        let payload = opens(&envelope, payload_type, key.public()).unwrap();
        let encoded = pre_authentication_encoding(payload_type, &payload);
        assert_eq!(BASE64.encode(&encoded), fixture["encoded"].as_str().unwrap());
        // Ed25519 has one signature for each message and key: ours is theirs.
        let ours: Value = serde_json::from_slice(&envelope::seal(payload_type, &payload, &key).unwrap()).unwrap();
        assert_eq!(ours["signatures"][0]["sig"], fixture["envelope"]["signatures"][0]["sig"]);
        assert_eq!(ours["payload"], fixture["envelope"]["payload"]);
        let changed = rewrap(&envelope, |envelope| envelope["payload"] = BASE64.encode(b"{}").into());
        assert!(opens(&changed, payload_type, key.public()).is_none());
    }
}
