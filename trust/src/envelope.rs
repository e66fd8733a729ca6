//! DSSE envelopes around in-toto Statements: one signature, one subject.
//!
//! Signed bytes are the pre-authentication encoding of DSSE 1.0.2 (protocol.md); the payload is handed out only
//! after its signature verified, and is never canonicalised. Statements follow in-toto attestation v1.

use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::denial::{Denial, Reason, Result};
use crate::json;
use crate::keys::{PublicKey, SignError, Signer};

/// The payload type of in-toto Statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
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
pub struct Subject {
    /// What the subject is called; decides nothing.
    pub name: String,
    /// The digest that names it.
    pub digest: Digests,
}

/// The digests of a subject: SHA-256 alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// SHA-256 in lower-case hex; any other algorithm is refused.
    pub sha256: String,
}

impl Subject {
    /// A document by its name and digest.
    #[must_use]
    pub fn new(name: &str, sha256: &str) -> Self {
        Self { name: name.into(), digest: Digests { sha256: sha256.into() } }
    }
}

/// An in-toto Statement v1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement<P> {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// What is said about the subject.
    pub predicate: P,
}

#[derive(Serialize, Deserialize)]
struct StatementTypes {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

impl<P: Serialize + DeserializeOwned> Statement<P> {
    /// A statement about one subject.
    pub fn new(subject: Subject, predicate_type: &str, predicate: P) -> Self {
        Self {
            statement_type: STATEMENT_TYPE.into(),
            subject: vec![subject],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Parses a payload whose signature verified.
    pub fn parse(payload: &[u8], predicate_type: &str) -> Result<Self> {
        let malformed = |why| Denial::new(Reason::Malformed, why);
        // First of all what kind of statement it is: one of another kind is rarely malformed.
        let types: StatementTypes = json::parse(payload).map_err(malformed)?;
        if types.statement_type != STATEMENT_TYPE {
            return Err(Denial::new(Reason::PredicateType, "it is not an in-toto Statement v1"));
        }
        if types.predicate_type != predicate_type {
            return Err(Denial::new(Reason::PredicateType, format!("its predicate type is not {predicate_type}")));
        }
        let statement: Self = json::parse(payload).map_err(malformed)?;
        if statement.subject.len() != 1 {
            let many = statement.subject.len();
            return Err(Denial::new(Reason::SubjectMismatch, format!("it has {many} subjects, one is allowed")));
        }
        Ok(statement)
    }

    /// The bytes to sign.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers alone: writing them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it is about exactly this.
    #[must_use]
    pub fn is_about(&self, subject: &Subject) -> bool {
        self.subject.as_slice() == std::slice::from_ref(subject)
    }

    /// The digest of the only subject.
    pub fn subject_sha256(&self) -> &str {
        self.subject.first().map_or("", |subject| &subject.digest.sha256)
    }
}

/// Signs a payload.
pub fn seal(payload_type: &str, payload: &[u8], key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let signature = key.sign(&pre_authentication_encoding(payload_type, payload))?;
    let envelope = Envelope {
        payload_type: payload_type.into(),
        payload: BASE64.encode(payload),
        signatures: vec![EnvelopeSignature { keyid: key.public().fingerprint(), sig: BASE64.encode(&signature) }],
    };
    let mut bytes = serde_json::to_vec_pretty(&envelope).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An envelope whose signature verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<T> {
    /// Whose key verified it.
    pub signer: T,
    /// The signed bytes.
    pub payload: Vec<u8>,
}

/// Opens an envelope with the key that verifies it. The envelope's own key id is a hint and decides nothing.
pub fn open<T>(
    bytes: &[u8],
    payload_type: &str,
    candidates: impl IntoIterator<Item = (T, PublicKey)>,
) -> Result<Opened<T>> {
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(Denial::new(Reason::TooLarge, format!("it is longer than {ENVELOPE_BYTES_MAX} bytes")));
    }
    let malformed = |why: &str| Denial::new(Reason::Malformed, why);
    let envelope: Envelope = json::parse(bytes).map_err(|why| malformed(&why))?;
    if envelope.payload_type != payload_type {
        return Err(Denial::new(Reason::PayloadType, format!("its payload type is not {payload_type}")));
    }
    let [signature] = envelope.signatures.as_slice() else {
        let many = envelope.signatures.len();
        return Err(Denial::new(Reason::SignatureMissing, format!("it has {many} signatures, one is needed")));
    };
    let payload = decode(&envelope.payload).ok_or_else(|| malformed("its payload is not base64"))?;
    let signature = decode(&signature.sig).ok_or_else(|| malformed("its signature is not base64"))?;
    let no_key = || Denial::new(Reason::SignatureInvalid, "its signature verifies with no key that may have made it");
    let signature: [u8; 64] = signature.try_into().map_err(|_| no_key())?;
    let message = pre_authentication_encoding(payload_type, &payload);
    let signer = candidates.into_iter().find(|(_, key)| key.verify(&message, &signature)).map(|(signer, _)| signer);
    Ok(Opened { signer: signer.ok_or_else(no_key)?, payload })
}

/// DSSE demands that both alphabets are read; padding and trailing bits must be canonical.
fn decode(text: &str) -> Option<Vec<u8>> {
    crate::base64::decode_either(text)
}

/// The bytes that a DSSE signature is over.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    #[test]
    fn encoding_is_that_of_the_dsse_specification() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = seal(IN_TOTO, br#"{"a":1}"#, &key).unwrap();
        let opens = |bytes: &[u8]| open(bytes, IN_TOTO, [((), key.public())]).map(|opened| opened.payload);
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
        let opens = |bytes: &[u8]| open(bytes, IN_TOTO, [((), key.public())]).unwrap_err().reason();
        let sealed = seal(IN_TOTO, b"{}", &key).unwrap();
        let mut envelope: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        let signature = envelope["signatures"][0].clone();
        envelope["signatures"].as_array_mut().unwrap().push(signature);
        assert_eq!(opens(&serde_json::to_vec(&envelope).unwrap()), Reason::SignatureMissing);
        assert_eq!(opens(&seal("application/other", b"{}", &key).unwrap()), Reason::PayloadType);
    }

    /// The library also takes several padded texts one after the other.
    #[test]
    fn what_is_signed_has_one_text() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = String::from_utf8(seal(IN_TOTO, b"aa", &key).unwrap()).unwrap();
        let in_pieces = sealed.replace("YWE=", "YQ==YQ==");
        assert_ne!(in_pieces, sealed);
        let denial = open(in_pieces.as_bytes(), IN_TOTO, [((), key.public())]).unwrap_err();
        assert_eq!(denial.reason(), Reason::Malformed);
    }
}
