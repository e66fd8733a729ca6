//! What the exchange reads of agreements and approvals: enough to tell what belongs together.
//!
//! No signature is verified here. That is the gate's work, in the program that sees data; here a wrong file is only
//! noticed early.

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::{BASE64, BASE64URL};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::{self, TEXT_BYTES_MAX};

/// The agreement's name in its folder.
pub(crate) const AGREEMENT_FILE: &str = "agreement.json";
const ENVELOPE_SUFFIX: &str = ".dsse.json";
const BUNDLE_SUFFIX: &str = ".sigstore.json";
/// As many approvals as the gate reads.
const APPROVALS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;

/// The terms that name the question.
#[derive(Debug, Deserialize)]
struct Terms {
    component: FileDigest,
    manifest: FileDigest,
}

#[derive(Debug, Deserialize)]
struct FileDigest {
    sha256: String,
}

/// An agreement, and the digests in it that a pull has to meet.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    /// The file, byte for byte: this is what people signed.
    pub(crate) bytes: Vec<u8>,
    /// Its digest: the agreement's id.
    pub(crate) id: Digest,
    component: Digest,
    manifest: Digest,
}

impl Agreement {
    /// Reads `agreement.json`.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self> {
        let invalid =
            |why: &str| Fault::new(Code::AgreementInvalid, why, "give an agreement.json that `glovebox agree` wrote");
        let terms: Terms = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(&format!("the agreement cannot be read: {error}")))?;
        let digest = |file: &FileDigest| {
            Digest::from_hex(&file.sha256).map_err(|_| invalid("a digest in the agreement is not one of SHA-256"))
        };
        let (component, manifest) = (digest(&terms.component)?, digest(&terms.manifest)?);
        Ok(Self { id: Digest::of(&bytes), bytes, component, manifest })
    }

    /// Reads the file of an agreement.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(files::read(path, TEXT_BYTES_MAX)?)
    }

    /// Whether the agreement is about this very question.
    pub(crate) fn check(&self, component: &[u8], manifest: &[u8]) -> Result<()> {
        check_component(component, &self.component)?;
        let found = Digest::of(manifest);
        if found != self.manifest {
            return Err(Fault::new(
                Code::ManifestChanged,
                format!("question.toml has {found}, agreed is {}", self.manifest),
                "get the question that was agreed, or agree on this one",
            ));
        }
        Ok(())
    }
}

/// Whether the component is the one of this digest. The manifest's digest is transport; this is what was approved.
pub(crate) fn check_component(component: &[u8], agreed: &Digest) -> Result<()> {
    let found = Digest::of(component);
    if found == *agreed {
        return Ok(());
    }
    Err(Fault::new(
        Code::ComponentChanged,
        format!("the component has {found}, agreed is {agreed}"),
        "get the question that was agreed, or agree on this one",
    ))
}

/// How an approval is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// A DSSE envelope, as `glovebox approve` writes it.
    Envelope,
    /// The same envelope in a Sigstore bundle, as other people's verifiers read it.
    Bundle,
}

impl Wrapping {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Envelope, Self::Bundle];

    /// The artifact type of the approval in a registry, and the media type of its layer.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Envelope => "application/vnd.dsse.envelope.v1+json",
            Self::Bundle => "application/vnd.dev.sigstore.bundle.v0.3+json",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Envelope => ENVELOPE_SUFFIX,
            Self::Bundle => BUNDLE_SUFFIX,
        }
    }
}

/// A DSSE envelope. Unknown fields are ignored, as DSSE demands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

#[derive(Debug, Deserialize)]
struct Bundle {
    #[serde(rename = "dsseEnvelope")]
    envelope: Envelope,
}

/// What an approval's payload says that it is about.
#[derive(Debug, Deserialize)]
struct Statement {
    subject: Vec<Subject>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

impl Envelope {
    /// Reads an envelope file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| approval_invalid(format!("not a DSSE envelope: {error}")))
    }

    /// The raw bytes of the only signature.
    pub(crate) fn signature(&self) -> Result<Vec<u8>> {
        match self.signatures.as_slice() {
            [one] => decode(&one.sig, "signature"),
            all => Err(approval_invalid(format!("an envelope has {} signatures, one is allowed", all.len()))),
        }
    }

    /// The digest of the only subject: the agreement that is approved.
    fn subject(&self) -> Result<Digest> {
        let statement: Statement = serde_json::from_slice(&decode(&self.payload, "payload")?)
            .map_err(|error| approval_invalid(format!("an approval's payload is not an in-toto Statement: {error}")))?;
        let [subject] = statement.subject.as_slice() else {
            return Err(approval_invalid(format!(
                "an approval has {} subjects, one is allowed",
                statement.subject.len()
            )));
        };
        match (subject.digest.get("sha256"), subject.digest.len()) {
            (Some(hex), 1) => Digest::from_hex(hex)
                .map_err(|_| approval_invalid("an approval's subject has no SHA-256 digest".into())),
            _ => Err(approval_invalid("an approval's subject has other digests than one of SHA-256".into())),
        }
    }

    /// The envelope as a file of its own, formed as `glovebox approve` forms it.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Fault::new(Code::Internal, format!("cannot write an envelope: {error}"), "report it"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// DSSE allows both alphabets; trailing bits and padding must be canonical in either.
fn decode(text: &str, what: &str) -> Result<Vec<u8>> {
    BASE64
        .decode(text.as_bytes())
        .or_else(|_| BASE64URL.decode(text.as_bytes()))
        .map_err(|_| approval_invalid(format!("an envelope's {what} is not base64")))
}

fn approval_invalid(fact: String) -> Fault {
    Fault::new(Code::ApprovalInvalid, fact, "have it signed again with `glovebox approve`")
}

/// One person's approval of one agreement; not verified.
#[derive(Debug)]
pub(crate) struct Approval {
    /// Its file's name, of a form that cannot lead anywhere.
    pub(crate) name: String,
    /// The file, byte for byte.
    pub(crate) bytes: Vec<u8>,
    /// How it is wrapped.
    pub(crate) wrapping: Wrapping,
    /// The agreement that its payload is about.
    pub(crate) agreement: Digest,
    envelope: Envelope,
}

impl Approval {
    /// Reads an approval of this file name. Both may come from a stranger.
    pub(crate) fn parse(name: &str, wrapping: Wrapping, bytes: Vec<u8>) -> Result<Self> {
        check_name(name, wrapping)?;
        let envelope = match wrapping {
            Wrapping::Envelope => Envelope::parse(&bytes)?,
            Wrapping::Bundle => {
                let bundle: Bundle = serde_json::from_slice(&bytes)
                    .map_err(|error| approval_invalid(format!("not a Sigstore bundle with an envelope: {error}")))?;
                bundle.envelope
            }
        };
        envelope.signature()?;
        Ok(Self { name: name.into(), agreement: envelope.subject()?, bytes, wrapping, envelope })
    }

    /// The file of the envelope in a bundle: the gate reads envelopes.
    pub(crate) fn inner_envelope(&self) -> Result<Option<(String, Vec<u8>)>> {
        match self.name.strip_suffix(BUNDLE_SUFFIX) {
            Some(stem) => Ok(Some((format!("{stem}{ENVELOPE_SUFFIX}"), self.envelope.to_bytes()?))),
            None => Ok(None),
        }
    }
}

/// The name comes from a stranger and becomes a file's: letters, digits, dots and dashes, and no hidden file.
fn check_name(name: &str, wrapping: Wrapping) -> Result<()> {
    let stem = name.strip_suffix(wrapping.suffix()).unwrap_or("");
    let plain = stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if plain && !stem.is_empty() && !stem.starts_with('.') && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::new(
        Code::ApprovalInvalid,
        format!("{name:?} is no name of an approval"),
        format!("names are like PARTY.PERSON{}", wrapping.suffix()),
    ))
}

/// The agreement of a folder and all of its approvals, the bundle of each if there is one.
pub(crate) fn read_folder(folder: &Path) -> Result<(Agreement, Vec<Approval>)> {
    let agreement = Agreement::read(&folder.join(AGREEMENT_FILE))?;
    let bundles = files::list(folder, BUNDLE_SUFFIX)?;
    let mut found: Vec<_> = bundles.into_iter().map(|(name, path)| (name, path, Wrapping::Bundle)).collect();
    for (name, path) in files::list(folder, ENVELOPE_SUFFIX)? {
        let stem = name.strip_suffix(ENVELOPE_SUFFIX).unwrap_or(&name);
        let bundle = format!("{stem}{BUNDLE_SUFFIX}");
        if !found.iter().any(|(other, ..)| *other == bundle) {
            found.push((name, path, Wrapping::Envelope));
        }
    }
    if found.len() > APPROVALS_MAX {
        return Err(Fault::new(
            Code::ApprovalInvalid,
            format!("{} approvals stand in {}, at most {APPROVALS_MAX} are read", found.len(), folder.display()),
            "remove those that are not needed",
        ));
    }
    let approvals = found
        .into_iter()
        .map(|(name, path, wrapping)| Approval::parse(&name, wrapping, files::read(&path, TEXT_BYTES_MAX)?))
        .collect::<Result<Vec<_>>>()?;
    match approvals.iter().find(|approval| approval.agreement != agreement.id) {
        None => Ok((agreement, approvals)),
        Some(stray) => Err(Fault::new(
            Code::SubjectMismatch,
            format!("{} approves {}, the agreement is {}", stray.name, stray.agreement, agreement.id),
            "remove the approval, or have it signed again with `glovebox approve`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(payload: &str) -> Vec<u8> {
        let payload = BASE64.encode(payload.as_bytes());
        let sig = BASE64.encode(&[7; 64]);
        serde_json::to_vec(&serde_json::json!({"payloadType": "application/vnd.in-toto+json", "payload": payload,
            "signatures": [{"keyid": "k", "sig": sig}]}))
        .unwrap()
    }

    fn statement(hex: &str) -> String {
        format!(r#"{{"subject":[{{"digest":{{"sha256":"{hex}"}}}}]}}"#)
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let bytes = envelope(&statement(&Digest::of(b"").hex()));
        let parse = |name: &str| Approval::parse(name, Wrapping::Envelope, bytes.clone());
        assert_eq!(parse("brand.dan.dsse.json").unwrap().agreement, Digest::of(b""));
        let long = format!("{}.dsse.json", "a".repeat(200));
        for wrong in
            ["../x.dsse.json", "/x.dsse.json", ".dsse.json", "..dsse.json", "x", "x\0.dsse.json", "x.json", &long]
        {
            assert_eq!(parse(wrong).unwrap_err().code(), Code::ApprovalInvalid, "{wrong}");
        }
        assert_eq!(parse("agreement.json").unwrap_err().code(), Code::ApprovalInvalid);
    }

    #[test]
    fn an_approval_has_one_signature_and_one_subject_with_one_digest() {
        let hex = Digest::of(b"").hex();
        let one = format!(r#"{{"digest":{{"sha256":"{hex}"}}}}"#);
        for payload in [
            "{}".to_owned(),
            r#"{"subject":[]}"#.to_owned(),
            format!(r#"{{"subject":[{one},{one}]}}"#),
            format!(r#"{{"subject":[{{"digest":{{"sha256":"{hex}","sha512":"00"}}}}]}}"#),
            statement("00"),
        ] {
            let parsed = Approval::parse("a.dsse.json", Wrapping::Envelope, envelope(&payload));
            assert_eq!(parsed.unwrap_err().code(), Code::ApprovalInvalid, "{payload}");
        }
        let mut two: serde_json::Value = serde_json::from_slice(&envelope(&statement(&hex))).unwrap();
        let signatures = two["signatures"].as_array_mut().unwrap();
        signatures.push(signatures[0].clone());
        let parsed = Approval::parse("a.dsse.json", Wrapping::Envelope, two.to_string().into_bytes());
        assert_eq!(parsed.unwrap_err().code(), Code::ApprovalInvalid);
    }

    #[test]
    fn a_bundle_gives_the_gate_its_envelope() {
        let inner: serde_json::Value = serde_json::from_slice(&envelope(&statement(&Digest::of(b"").hex()))).unwrap();
        let bundle = serde_json::json!({"mediaType": Wrapping::Bundle.media_type(), "dsseEnvelope": inner}).to_string();
        let approval = Approval::parse("a.sigstore.json", Wrapping::Bundle, bundle.into_bytes()).unwrap();
        let (name, bytes) = approval.inner_envelope().unwrap().unwrap();
        assert_eq!(name, "a.dsse.json");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), inner);
    }
}
