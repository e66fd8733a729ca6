//! DSSE envelopes around in-toto Statements: one signature, one subject.
//!
//! Signed bytes are the pre-authentication encoding of DSSE 1.0.2 (protocol.md); the payload is handed out only
//! after its signature verified, and is never canonicalised. Statements follow in-toto attestation v1.

use data_encoding::{BASE64, BASE64URL};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::parse;

/// The payload type of in-toto Statements.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const ENVELOPE_BYTES_MAX: usize = 256 << 10;

/// Unknown fields are ignored here, as DSSE demands; those of a payload are refused.
#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) digest: Digests,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
}

impl Subject {
    pub(crate) fn new(name: &str, sha256: &str) -> Self {
        Self { name: name.into(), digest: Digests { sha256: sha256.into() } }
    }
}

/// An in-toto Statement v1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement<P> {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub(crate) predicate: P,
}

impl<P: Serialize + DeserializeOwned> Statement<P> {
    pub(crate) fn new(subject: Subject, predicate_type: &str, predicate: P) -> Self {
        Self {
            statement_type: STATEMENT_TYPE.into(),
            subject: vec![subject],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Parses a payload whose signature verified. The error says what is wrong with its shape.
    pub(crate) fn parse(payload: &[u8], predicate_type: &str) -> Result<Self, String> {
        let statement: Self = parse::json(payload)?;
        if statement.statement_type != STATEMENT_TYPE {
            return Err("it is not an in-toto Statement v1".into());
        }
        if statement.predicate_type != predicate_type {
            return Err(format!("its predicate type is not {predicate_type}"));
        }
        if statement.subject.len() != 1 {
            return Err(format!("it has {} subjects, one is allowed", statement.subject.len()));
        }
        Ok(statement)
    }

    /// The digest of the only subject.
    pub(crate) fn subject_sha256(&self) -> &str {
        self.subject.first().map_or("", |subject| &subject.digest.sha256)
    }
}

/// Why an envelope does not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It is not an envelope of the expected type with one signature.
    Malformed(String),
    /// No candidate key verifies the signature.
    Signature,
}

/// Signs a payload.
pub(crate) fn seal(payload_type: &str, payload: &[u8], key: &SigningKey) -> serde_json::Result<Vec<u8>> {
    let signature = key.sign(&pre_authentication_encoding(payload_type, payload));
    let envelope = Envelope {
        payload_type: payload_type.into(),
        payload: BASE64.encode(payload),
        signatures: vec![EnvelopeSignature {
            keyid: crate::room::sha256_hex(key.verifying_key().as_bytes()),
            sig: BASE64.encode(&signature.to_bytes()),
        }],
    };
    let mut bytes = serde_json::to_vec_pretty(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns the payload and whose key verified it. The envelope's own key id is a hint and decides nothing.
pub(crate) fn open<T>(
    bytes: &[u8],
    payload_type: &str,
    candidates: impl IntoIterator<Item = (T, VerifyingKey)>,
) -> Result<(T, Vec<u8>), OpenError> {
    let malformed = |why: &str| OpenError::Malformed(why.into());
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(malformed("it is longer than 262144 bytes"));
    }
    let envelope: Envelope = parse::json(bytes).map_err(OpenError::Malformed)?;
    if envelope.payload_type != payload_type {
        return Err(malformed("its payload type is not the expected one"));
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(malformed("it does not have exactly one signature"));
    };
    let payload = decode(&envelope.payload).ok_or_else(|| malformed("its payload is not base64"))?;
    let signature = decode(&signature.sig).ok_or_else(|| malformed("its signature is not base64"))?;
    let signature = Signature::from_slice(&signature).map_err(|_| OpenError::Signature)?;
    let message = pre_authentication_encoding(payload_type, &payload);
    let verifies = |(_, key): &(T, VerifyingKey)| key.verify_strict(&message, &signature).is_ok();
    candidates.into_iter().find(verifies).map(|(holder, _)| (holder, payload)).ok_or(OpenError::Signature)
}

/// DSSE demands that both alphabets are read; padding and trailing bits must be canonical.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).or_else(|_| BASE64URL.decode(text.as_bytes())).ok()
}

fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_that_of_the_dsse_specification() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = seal(IN_TOTO, br#"{"a":1}"#, &key).unwrap();
        let opens = |bytes: &[u8]| open(bytes, IN_TOTO, [((), key.verifying_key())]).map(|(_, payload)| payload);
        assert_eq!(opens(&sealed).unwrap(), br#"{"a":1}"#);
        let text = String::from_utf8(sealed.clone()).unwrap();
        let keyid = text.find("keyid").unwrap()..text.find("\"sig\"").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The key id is a hint, and white space means nothing in JSON.
            if keyid.contains(&at) || sealed[at].is_ascii_whitespace() {
                continue;
            }
            assert!(opens(&changed).is_err(), "byte {at} of the envelope can be changed");
        }
    }

    #[test]
    fn two_signatures_and_other_types_are_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let candidates = || [((), key.verifying_key())];
        let sealed = seal(IN_TOTO, b"{}", &key).unwrap();
        let mut envelope: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        let signature = envelope["signatures"][0].clone();
        envelope["signatures"].as_array_mut().unwrap().push(signature);
        let twice = serde_json::to_vec(&envelope).unwrap();
        assert!(matches!(open(&twice, IN_TOTO, candidates()), Err(OpenError::Malformed(_))));
        let other = seal("application/other", b"{}", &key).unwrap();
        assert!(matches!(open(&other, IN_TOTO, candidates()), Err(OpenError::Malformed(_))));
    }
}
