//! Signed notes and the keys that verify them: c2sp.org/signed-note.
//!
//! A note is read in one form only, so that writing it gives the same bytes again. Its text is handed out for a key
//! whose signature verified; lines of other keys mean nothing.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{does_not_verify, malformed};
use crate::base64;
use crate::denial::{Denial, Reason, Result};
use crate::keys::{PublicKey, SignError, Signer};

const NOTE_BYTES_MAX: usize = 1 << 20;
const SIGNATURES_MAX: usize = 100;

/// What a key signs, and how: the byte that stands before it in its text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `0x01`: Ed25519 over the text.
    Ed25519,
    /// `0x04`: Ed25519 over the text of a checkpoint and a time, as witnesses sign (c2sp.org/tlog-cosignature).
    Cosignature,
}

impl Algorithm {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key with its name: the `vkey` of c2sp.org/signed-note, `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: Algorithm,
    public: PublicKey,
    id: [u8; 4],
}

impl VerifierKey {
    /// Names a public key. The name has no white space, no `+` and no control characters.
    pub fn new(name: &str, algorithm: Algorithm, public: PublicKey) -> Result<Self> {
        if !is_key_name(name) {
            return Err(Denial::new(Reason::KeyFormat, format!("`{}` cannot name a key", name.escape_debug())));
        }
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', algorithm.byte()])
            .chain_update(public.to_bytes())
            .finalize();
        Ok(Self { name: name.to_owned(), algorithm, public, id: [hash[0], hash[1], hash[2], hash[3]] })
    }

    /// Reads the text form. Its id must be the one that follows from the rest.
    pub fn parse(text: &str) -> Result<Self> {
        let format = |fact: &str| Denial::new(Reason::KeyFormat, fact);
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format("a verifier key is not `NAME+ID+KEY`"));
        };
        let key = base64::decode(key).ok_or_else(|| format("a verifier key is not in base64"))?;
        let algorithm = match key.first() {
            Some(1) => Algorithm::Ed25519,
            Some(4) => Algorithm::Cosignature,
            _ => return Err(format("a verifier key is of an algorithm other than Ed25519")),
        };
        let public = key.get(1..).and_then(|bytes| bytes.try_into().ok());
        let public = PublicKey::from_bytes(public.ok_or_else(|| format("a verifier key does not have 32 bytes"))?)?;
        let key = Self::new(name, algorithm, public)?;
        if id != HEXLOWER.encode(&key.id) {
            return Err(format("the id of a verifier key is not that of its name and key"));
        }
        Ok(key)
    }

    /// The name, for a log the origin of its checkpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key itself.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs, and hands out only what this key verifies.
    pub(super) fn sign(&self, message: &[u8], signer: &dyn Signer) -> Result<[u8; 64], SignError> {
        let signature = signer.sign(message)?;
        let is_ours = self.public.verify(message, &signature);
        is_ours.then_some(signature).ok_or_else(|| format!("the private key is not that of {}", self.name))
    }

    pub(super) fn line(&self, payload: Vec<u8>) -> SignatureLine {
        SignatureLine { name: self.name.clone(), id: self.id, payload }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.algorithm.byte()];
        key.extend_from_slice(&self.public.to_bytes());
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id), BASE64.encode(&key))
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// A line below a note: who signed, by name and id, and what only that key's algorithm can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignatureLine {
    name: String,
    id: [u8; 4],
    payload: Vec<u8>,
}

impl SignatureLine {
    /// Reads lines of which each ends in a newline.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>> {
        let lines = text.strip_suffix('\n').ok_or_else(|| malformed("the last signature does not end in a newline"))?;
        if lines.bytes().filter(|byte| *byte == b'\n').count() >= SIGNATURES_MAX {
            return Err(malformed(format!("more than {SIGNATURES_MAX} signatures")));
        }
        lines.split('\n').map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let parts = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).filter(|(name, _)| is_key_name(name));
        let (name, signature) = parts.ok_or_else(|| malformed("a signature is not `— NAME SIGNATURE`"))?;
        let signature = base64::decode(signature).ok_or_else(|| malformed("a signature is not in canonical base64"))?;
        match signature.split_first_chunk() {
            Some((id, payload)) if !payload.is_empty() => {
                Ok(Self { name: name.to_owned(), id: *id, payload: payload.to_vec() })
            }
            _ => Err(malformed("a signature is too short")),
        }
    }

    pub(super) fn is_of(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = [self.id.as_slice(), &self.payload].concat();
        writeln!(f, "— {} {}", self.name, BASE64.encode(&signature))
    }
}

/// A text and signatures of it, none of which has been verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(Denial::new(Reason::TooLarge, format!("a note is longer than {NOTE_BYTES_MAX} bytes")));
        }
        let note = plain_text(bytes)?;
        let (text, signatures) =
            note.rsplit_once("\n\n").ok_or_else(|| malformed("a note has no empty line before its signatures"))?;
        Ok(Self { text: format!("{text}\n"), signatures: SignatureLine::parse_all(signatures)? })
    }

    /// Signs a text that ends in a newline.
    pub fn sign(text: &str, key: &VerifierKey, signer: &dyn Signer) -> Result<Self, SignError> {
        plain_text(text.as_bytes()).map_err(|denial| denial.to_string())?;
        if !text.ends_with('\n') || text.len() > NOTE_BYTES_MAX / 2 {
            return Err("the text of a note is too long, or does not end in a newline".into());
        }
        if key.algorithm != Algorithm::Ed25519 {
            return Err(format!("{} does not sign notes", key.name));
        }
        let signature = key.sign(text.as_bytes(), signer)?;
        Ok(Self { text: text.to_owned(), signatures: vec![key.line(signature.to_vec())] })
    }

    /// The text, if the key signed it.
    pub fn text_signed_by(&self, key: &VerifierKey) -> Result<&str> {
        let unsigned = || does_not_verify(format!("there is no signature of {}", key.name));
        let payload = self.payload_of(key)?.ok_or_else(unsigned)?;
        let is_signed = key.algorithm == Algorithm::Ed25519
            && payload.try_into().is_ok_and(|signature| key.public.verify(self.text.as_bytes(), signature));
        if !is_signed {
            return Err(does_not_verify(format!("the signature of {} does not verify", key.name)));
        }
        Ok(&self.text)
    }

    /// The bytes that were parsed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines: String = self.signatures.iter().map(ToString::to_string).collect();
        format!("{}\n{lines}", self.text).into_bytes()
    }

    /// The text, whoever wrote it.
    pub(super) fn unverified_text(&self) -> &str {
        &self.text
    }

    /// What stands behind the id in the key's only line.
    pub(super) fn payload_of(&self, key: &VerifierKey) -> Result<Option<&[u8]>> {
        let mut lines = self.signatures.iter().filter(|line| line.is_of(key));
        let line = lines.next();
        if lines.next().is_some() {
            return Err(does_not_verify(format!("there are two signatures of {}", key.name)));
        }
        Ok(line.map(|line| line.payload.as_slice()))
    }

    /// Adds lines, each in the place of one that the same key may have had.
    pub(super) fn attach(&mut self, lines: Vec<SignatureLine>) -> Result<()> {
        self.signatures.retain(|old| !lines.iter().any(|new| new.name == old.name && new.id == old.id));
        self.signatures.extend(lines);
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(malformed(format!("more than {SIGNATURES_MAX} signatures")));
        }
        Ok(())
    }
}

/// UTF-8 in which a newline is the only control character.
pub(super) fn plain_text(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("a note is not in UTF-8"))?;
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(malformed("a note has control characters other than newlines"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::keys::SigningKey;

    /// The examples of the specification.
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncA\
        lTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key(seed: u8, name: &str) -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let key = VerifierKey::new(name, Algorithm::Ed25519, signing.public()).unwrap();
        (signing, key)
    }

    fn open(bytes: &[u8], key: &VerifierKey) -> Result<String> {
        Note::parse(bytes)?.text_signed_by(key).map(ToOwned::to_owned)
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!((key.name(), key.algorithm()), ("example.com/foo", Algorithm::Ed25519));
        assert_eq!(key.to_string(), KEY);
        assert_eq!(open(NOTE.as_bytes(), &key).unwrap(), "This is an example message.\n");
        assert_eq!(Note::parse(NOTE.as_bytes()).unwrap().to_bytes(), NOTE.as_bytes());
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = VerifierKey::parse(KEY).unwrap();
        for at in 0..NOTE.len() {
            for change in 1..=255 {
                let mut changed = NOTE.as_bytes().to_vec();
                changed[at] ^= change;
                assert!(open(&changed, &key).is_err(), "byte {at} of the note can be changed by {change}");
            }
            assert!(open(&NOTE.as_bytes()[..at], &key).is_err(), "the note can end after {at} bytes");
        }
        for at in 0..KEY.len() {
            for change in 1..128 {
                let mut changed = KEY.as_bytes().to_vec();
                changed[at] ^= change;
                let parsed = std::str::from_utf8(&changed).unwrap().to_owned();
                assert!(VerifierKey::parse(&parsed).is_err(), "byte {at} of the key can be changed by {change}");
            }
        }
    }

    #[test]
    fn a_key_is_refused_that_other_verifiers_treat_differently() {
        let honest = SigningKey::from_bytes(&[1; 32]).public();
        let point = ed25519_dalek::VerifyingKey::from_bytes(&honest.to_bytes()).unwrap().to_edwards();
        let mixed = (point + EIGHT_TORSION[1]).compress().to_bytes();
        // y = p + 1 encodes the identity a second time.
        let mut non_canonical = [0xff; 32];
        non_canonical[0] = 0xee;
        non_canonical[31] = 0x7f;
        let encode = |algorithm: u8, bytes: &[u8]| {
            let hash = Sha256::new().chain_update(b"a\n").chain_update([algorithm]).chain_update(bytes).finalize();
            let key = [&[algorithm], bytes].concat();
            format!("a+{}+{}", HEXLOWER.encode(&hash[..4]), BASE64.encode(&key))
        };
        for bytes in EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).chain([mixed, non_canonical]) {
            for algorithm in [1, 4] {
                let reason = VerifierKey::parse(&encode(algorithm, &bytes)).unwrap_err().reason();
                assert_ne!(reason, Reason::KeyFormat, "{bytes:?}");
            }
        }
        for algorithm in [1, 4] {
            assert_eq!(VerifierKey::parse(&encode(algorithm, &honest.to_bytes())).unwrap().public(), honest);
        }
        for algorithm in [0, 2, 3, 5, 6, 0xff] {
            assert!(VerifierKey::parse(&encode(algorithm, &honest.to_bytes())).is_err(), "{algorithm}");
        }
        for length in [0, 31, 33, 64] {
            let mut bytes = honest.to_bytes().to_vec();
            bytes.resize(length, 0);
            assert!(VerifierKey::parse(&encode(1, &bytes)).is_err(), "{length}");
        }
    }

    #[test]
    fn malformed_keys_are_refused() {
        let public = SigningKey::from_bytes(&[1; 32]).public();
        for name in ["", "a b", "a+b", "a\u{a0}b", "a\u{2003}", "a\n", "a\u{1f}", "a\u{85}"] {
            assert!(VerifierKey::new(name, Algorithm::Ed25519, public).is_err(), "{name:?}");
        }
        for text in ["", "a", "a+b", "a++", "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"] {
            assert_eq!(VerifierKey::parse(text).unwrap_err().reason(), Reason::KeyFormat, "{text:?}");
        }
        for text in
            [KEY.replace("530d903a", "530D903A"), KEY.replace("foo", "bar"), format!("{KEY}\n"), format!(" {KEY}")]
        {
            assert_eq!(VerifierKey::parse(&text).unwrap_err().reason(), Reason::KeyFormat, "{text:?}");
        }
    }

    #[test]
    fn notes_are_read_in_one_form_only() {
        let (signing, key) = key(1, "a");
        let bytes = Note::sign("text\n", &key, &signing).unwrap().to_bytes();
        let note = String::from_utf8(bytes).unwrap();
        let line = note.strip_prefix("text\n\n").unwrap();
        assert_eq!(open(note.as_bytes(), &key).unwrap(), "text\n");
        let refused = [
            String::new(),
            "\n".into(),
            "\n\n".into(),
            "text\n\n".into(),
            format!("text\n{line}"),
            format!("\n{line}"),
            line.to_owned(),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            format!("{note}\n\n"),
            format!("{note} "),
            format!(" {note}"),
            format!("\u{feff}{note}"),
            note.replace('\n', "\r\n"),
            note.replace("text", "te\0xt"),
            note.replace("text", "te\txt"),
            note.replace("text", "te\u{1f}xt"),
            note.replace("— a ", "- a "),
            note.replace("— a ", "—a "),
            note.replace("— a ", "— a  "),
            note.replace("— a ", "—  "),
            note.replace("— a ", "— a+ "),
            note.replace("— a ", "— a\u{a0} "),
            note.replace("— a ", "— "),
            note.replace('=', ""),
            format!("text\n\n— b AAAAAA==\n{line}"),
            format!("text\n\n— b \n{line}"),
            format!("text\n\n\n{line}"),
            format!("text\n\n{line}\n{line}"),
            format!("text\n\n{line}{line}"),
        ];
        for refused in refused {
            assert_ne!(refused, note);
            assert!(open(refused.as_bytes(), &key).is_err(), "{refused:?}");
        }
        assert!(open(&[note.as_bytes(), b"\xff"].concat(), &key).is_err());
        assert!(open(&note.replace("text", "te\u{2028}xt").into_bytes(), &key).is_err());
    }

    #[test]
    fn empty_lines_belong_to_the_text() {
        let (signing, key) = key(1, "a");
        for text in ["\n", "\n\n", "a\n\nb\n", "a\n\n\n— b AAAAAAAA\n", "Kelvin \u{212a}\n"] {
            let bytes = Note::sign(text, &key, &signing).unwrap().to_bytes();
            assert_eq!(open(&bytes, &key).unwrap(), text);
        }
        for text in ["", "a", "a\r\n", "a\t\n", "a\n\0\n"] {
            assert!(Note::sign(text, &key, &signing).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lines_of_other_keys_mean_nothing_and_a_second_of_the_same_key_is_refused() {
        let ((signing, a), (other_signing, b)) = (key(1, "a"), key(2, "a"));
        let note = |lines: &[&str]| format!("text\n\n{}", lines.concat()).into_bytes();
        let line = |key: &VerifierKey, signing: &SigningKey, text: &str| {
            let bytes = Note::sign(text, key, signing).unwrap().to_bytes();
            String::from_utf8(bytes).unwrap().split_once("\n\n").unwrap().1.to_owned()
        };
        let (ours, theirs, wrong) =
            (line(&a, &signing, "text\n"), line(&b, &other_signing, "text\n"), line(&a, &signing, "other\n"));
        let garbage = "— stranger AAAAAAAA\n";
        for order in [[&*ours, &theirs, garbage], [garbage, &theirs, &ours]] {
            open(&note(&order), &a).unwrap();
            open(&note(&order), &b).unwrap();
        }
        assert!(open(&note(&[&theirs, garbage]), &a).unwrap_err().fact().contains("no signature of a"));
        assert!(open(&note(&[&wrong]), &a).unwrap_err().fact().contains("does not verify"));
        for twice in [[&*ours, &*ours], [&ours, &wrong], [&wrong, &ours]] {
            let denial = open(&note(&twice), &a).unwrap_err();
            assert!(denial.fact().contains("two signatures"), "{denial}");
        }
        for malformed in ["— AAAAAAAA\n", "— a+b AAAAAAAA\n", "—  AAAAAAAA\n", "— a\u{a0}b AAAAAAAA\n", "— b AAAA\n"]
        {
            let denial = open(&note(&[&ours, malformed]), &a).unwrap_err();
            assert_eq!(denial.reason(), Reason::Malformed, "{malformed}");
        }
        // The right name and id over too many bytes, and too few.
        for payload in [vec![0; 64], vec![0; 63], vec![0; 65], vec![0; 1]] {
            let denial = open(&note(&[&a.line(payload).to_string()]), &a).unwrap_err();
            assert_eq!(denial.reason(), Reason::LogInvalid);
        }
    }

    #[test]
    fn a_signer_with_another_key_or_that_lies_signs_nothing() {
        struct Liar(SigningKey);
        impl Signer for Liar {
            fn public(&self) -> PublicKey {
                self.0.public()
            }
            fn sign(&self, _: &[u8]) -> Result<[u8; 64], SignError> {
                self.0.sign(b"something else")
            }
        }
        let ((signing, a), (other, _)) = (key(1, "a"), key(2, "b"));
        assert!(Note::sign("text\n", &a, &signing).is_ok());
        assert!(Note::sign("text\n", &a, &other).is_err());
        assert!(Note::sign("text\n", &a, &Liar(signing.clone())).is_err());
        let witness = VerifierKey::new("w", Algorithm::Cosignature, signing.public()).unwrap();
        assert!(Note::sign("text\n", &witness, &signing).is_err());
        // What it signed as a note does not count under its other algorithm either.
        let signature = signing.sign(b"text\n").unwrap().to_vec();
        let note = format!("text\n\n{}", witness.line(signature));
        assert!(open(note.as_bytes(), &witness).is_err());
    }

    #[test]
    fn there_are_limits_to_length_and_signatures() {
        let (signing, key) = key(1, "a");
        let line = Note::sign("text\n", &key, &signing).unwrap().to_bytes();
        let line = String::from_utf8(line).unwrap().split_once("\n\n").unwrap().1.to_owned();
        let with = |others: usize| format!("text\n\n{}{line}", "— b AAAAAAAA\n".repeat(others));
        open(with(99).as_bytes(), &key).unwrap();
        assert!(open(with(100).as_bytes(), &key).unwrap_err().fact().contains("more than 100"));
        let long = format!("{}\n\n{line}", "a".repeat(NOTE_BYTES_MAX));
        assert_eq!(open(long.as_bytes(), &key).unwrap_err().reason(), Reason::TooLarge);
        assert!(Note::sign(&format!("{}\n", "a".repeat(NOTE_BYTES_MAX)), &key, &signing).is_err());
    }
}
