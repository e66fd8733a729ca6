//! Envelopes: what opens was signed, what was signed opens, and a changed envelope says the same or nothing.

use data_encoding::{BASE64, BASE64URL};
use glovebox_trust::envelope::{IN_TOTO, open, pre_authentication_encoding, seal};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};

use super::{Seed, accepted};

/// All that the signer ever signed in a seed: nothing else may ever come out of an envelope.
const SIGNED: [&[u8]; 3] = [b"", b"{}", br#"{"_type":"https://in-toto.io/Statement/v1","subject":[]}"#];

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn opens(bytes: &[u8], key: PublicKey) -> Option<Vec<u8>> {
    accepted(open(bytes, IN_TOTO, [((), key)])).map(|opened| opened.payload)
}

/// Reads the data as an envelope that someone made up, and as an envelope to seal and to change in one place.
pub fn check(data: &[u8]) {
    let signer = signer();
    if let Some(payload) = opens(data, signer.public()) {
        assert!(SIGNED.contains(&payload.as_slice()), "an envelope opens that nobody signed");
        assert_one_text(data, &payload);
    }
    let Some(([at_high, at_low, value], payload)) = data.split_first_chunk() else { return };
    let mut sealed = seal(IN_TOTO, payload, &signer).unwrap();
    assert_eq!(opens(&sealed, signer.public()).as_deref(), Some(payload));
    assert_eq!(opens(&sealed, SigningKey::from_bytes(&[8; 32]).public()), None);
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low])) % sealed.len();
    sealed[at] = *value;
    assert!(opens(&sealed, signer.public()).is_none_or(|opened| opened == payload));
}

/// What is signed stands in the envelope in the one way in which base64 writes it, in either alphabet.
fn assert_one_text(envelope: &[u8], payload: &[u8]) {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).unwrap();
    let signature = signer().sign(&pre_authentication_encoding(IN_TOTO, payload)).unwrap();
    for (text, bytes) in [(&envelope["payload"], payload), (&envelope["signatures"][0]["sig"], &signature)] {
        let texts = [BASE64.encode(bytes), BASE64URL.encode(bytes)];
        assert!(texts.iter().any(|one| text == one), "signed bytes have two texts");
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let sealed = |payload: &[u8]| seal(IN_TOTO, payload, &signer()).unwrap();
    let compact: String = String::from_utf8(sealed(SIGNED[1])).unwrap().split_whitespace().collect();
    vec![
        ("empty", sealed(SIGNED[0])),
        ("object", sealed(SIGNED[1])),
        ("statement", sealed(SIGNED[2])),
        ("compact", compact.clone().into_bytes()),
        ("unknown-field", compact.replacen('{', r#"{"other":[1,{"a":null}],"#, 1).into_bytes()),
        ("two-signatures", compact.replace("}]", r#"},{"sig":""}]"#).into_bytes()),
        ("payload", b"\0\x09X{\"a\":1}".to_vec()),
    ]
}
