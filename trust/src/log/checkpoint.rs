//! What a log says its tree is: c2sp.org/tlog-checkpoint, without extension lines.

use std::slice;

use super::note::{Algorithm, Note, VerifierKey};
use super::tree::{self, Hash};
use super::{SIZE_MAX, does_not_verify, malformed, parse_hash, parse_number, print_hash};
use crate::denial::Result;
use crate::keys::{SignError, Signer};

/// The size and root of a log's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

impl Checkpoint {
    fn parse(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, ""] = lines.as_slice() else {
            return Err(malformed("a checkpoint does not have exactly three lines"));
        };
        let size = parse_number(size).ok_or_else(|| malformed("the size of a checkpoint is not a number"))?;
        let root = parse_hash(root).ok_or_else(|| malformed("the root of a checkpoint is not a hash in base64"))?;
        if size == 0 && root != tree::empty_root() {
            return Err(malformed("a checkpoint of no entries has another root than the empty tree"));
        }
        Ok(Self { origin: (*origin).to_owned(), size, root })
    }

    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, print_hash(&self.root))
    }
}

/// A checkpoint that its log signed, with whatever cosignatures are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a checkpoint that this log signed. The log's key is named as its origin.
    pub fn open(bytes: &[u8], log: &VerifierKey) -> Result<Self> {
        Self::open_any(bytes, slice::from_ref(log))
    }

    /// Reads a checkpoint that one of these logs signed.
    pub(super) fn open_any(bytes: &[u8], logs: &[VerifierKey]) -> Result<Self> {
        let note = Note::parse(bytes)?;
        // Only chooses the key: a wrong choice does not verify.
        let origin = note.unverified_text().split('\n').next().unwrap_or_default();
        let keys: Vec<&VerifierKey> = logs.iter().filter(|log| log.name() == origin).collect();
        if keys.is_empty() {
            return Err(does_not_verify(format!("a checkpoint is of the log `{}`", origin.escape_debug())));
        }
        let mut text = Err(does_not_verify(format!("there is no signature of {origin}")));
        for key in keys {
            // After a change of keys a log may sign with both: each of its signatures must verify.
            if note.payload_of(key)?.is_some() {
                text = Ok(note.text_signed_by(key)?);
            }
        }
        let checkpoint = Checkpoint::parse(text?)?;
        Ok(Self { checkpoint, note })
    }

    /// Signs a checkpoint of the log that the key names.
    pub fn sign(size: u64, root: Hash, log: &VerifierKey, signer: &dyn Signer) -> Result<Self, SignError> {
        let checkpoint = Checkpoint { origin: log.name().to_owned(), size, root };
        if size > SIZE_MAX || log.algorithm() != Algorithm::Ed25519 {
            return Err(format!("{} cannot sign a checkpoint of {size} entries", log.name()));
        }
        let note = Note::sign(&checkpoint.to_text(), log, signer)?;
        // Through the one parser, so that nothing is signed that it would refuse.
        Self::open(&note.to_bytes(), log).map_err(|denial| denial.to_string())
    }

    /// What the log signed.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_bytes()
    }

    pub(super) const fn note(&self) -> &Note {
        &self.note
    }

    /// The same checkpoint with other signatures below it.
    pub(super) fn with_note(&self, note: Note) -> Self {
        Self { checkpoint: self.checkpoint.clone(), note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Reason;
    use crate::keys::SigningKey;

    const ORIGIN: &str = "room.example/log";

    fn log() -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[1; 32]);
        let key = VerifierKey::new(ORIGIN, Algorithm::Ed25519, signing.public()).unwrap();
        (signing, key)
    }

    fn signed(text: &str) -> Vec<u8> {
        let (signing, key) = log();
        Note::sign(text, &key, &signing).unwrap().to_bytes()
    }

    #[test]
    fn what_was_signed_opens() {
        let (signing, key) = log();
        let root = tree::leaf_hash(b"entry");
        for (size, root) in [(0, tree::empty_root()), (1, root), (10, root), (SIZE_MAX, root)] {
            let signed = SignedCheckpoint::sign(size, root, &key, &signing).unwrap();
            let opened = SignedCheckpoint::open(&signed.to_bytes(), &key).unwrap();
            assert_eq!(opened, signed);
            assert_eq!(*opened.checkpoint(), Checkpoint { origin: ORIGIN.into(), size, root });
        }
        assert!(SignedCheckpoint::sign(0, root, &key, &signing).is_err());
        assert!(SignedCheckpoint::sign(SIZE_MAX + 1, root, &key, &signing).is_err());
        assert!(SignedCheckpoint::sign(1, root, &key, &SigningKey::from_bytes(&[2; 32])).is_err());
        let witness = VerifierKey::new(ORIGIN, Algorithm::Cosignature, signing.public()).unwrap();
        assert!(SignedCheckpoint::sign(1, root, &witness, &signing).is_err());
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let (signing, key) = log();
        let bytes = SignedCheckpoint::sign(20_852_163, [7; 32], &key, &signing).unwrap().to_bytes();
        for at in 0..bytes.len() {
            for change in 1..=255 {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(SignedCheckpoint::open(&changed, &key).is_err(), "byte {at} can be changed by {change}");
            }
            assert!(SignedCheckpoint::open(&bytes[..at], &key).is_err(), "it can end after {at} bytes");
        }
    }

    #[test]
    fn a_text_of_another_form_is_refused_although_the_log_signed_it() {
        let (_, key) = log();
        let root = print_hash(&[7; 32]);
        SignedCheckpoint::open(&signed(&format!("{ORIGIN}\n7\n{root}\n")), &key).unwrap();
        let long = print_hash(&[7; 32]).replace('=', "");
        let refused = [
            // An extension line, also an empty one.
            format!("{ORIGIN}\n7\n{root}\nextension\n"),
            format!("{ORIGIN}\n7\n{root}\n\n"),
            format!("{ORIGIN}\n7\n\n{root}\n"),
            format!("{ORIGIN}\n7\n"),
            format!("{ORIGIN}\n7 {root}\n"),
            format!("{ORIGIN}\n"),
            // Numbers.
            format!("{ORIGIN}\n07\n{root}\n"),
            format!("{ORIGIN}\n00\n{root}\n"),
            format!("{ORIGIN}\n+7\n{root}\n"),
            format!("{ORIGIN}\n-7\n{root}\n"),
            format!("{ORIGIN}\n7 \n{root}\n"),
            format!("{ORIGIN}\n 7\n{root}\n"),
            format!("{ORIGIN}\n\n{root}\n"),
            format!("{ORIGIN}\n0x7\n{root}\n"),
            format!("{ORIGIN}\n٧\n{root}\n"),
            format!("{ORIGIN}\n{}\n{root}\n", SIZE_MAX + 1),
            format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
            // Hashes.
            format!("{ORIGIN}\n7\n{root}=\n"),
            format!("{ORIGIN}\n7\n{long}\n"),
            format!("{ORIGIN}\n7\n {root}\n"),
            format!("{ORIGIN}\n7\nBwcH\n"),
            format!("{ORIGIN}\n7\n{}\n", root.replace("c=", "d=")),
            format!("{ORIGIN}\n7\n{}\n", data_encoding::HEXLOWER.encode(&[7; 32])),
            format!("{ORIGIN}\n0\n{root}\n"),
            // Origins.
            format!("{ORIGIN}/2\n7\n{root}\n"),
            format!(" {ORIGIN}\n7\n{root}\n"),
            format!("{}\n7\n{root}\n", ORIGIN.to_uppercase()),
            format!("\n{ORIGIN}\n7\n{root}\n"),
            format!("\n7\n{root}\n"),
        ];
        for text in refused {
            assert!(SignedCheckpoint::open(&signed(&text), &key).is_err(), "{text:?}");
        }
    }

    #[test]
    fn another_log_or_key_is_refused() {
        let (signing, key) = log();
        let bytes = SignedCheckpoint::sign(7, [7; 32], &key, &signing).unwrap().to_bytes();
        let other_key =
            VerifierKey::new(ORIGIN, Algorithm::Ed25519, SigningKey::from_bytes(&[2; 32]).public()).unwrap();
        let other_log = VerifierKey::new("room.example/other", Algorithm::Ed25519, signing.public()).unwrap();
        for key in [&other_key, &other_log] {
            assert_eq!(SignedCheckpoint::open(&bytes, key).unwrap_err().reason(), Reason::LogInvalid);
        }
        // The name of the one log over a text of the other, signed with the key that both have.
        let text = format!("{ORIGIN}\n7\n{}\n", print_hash(&[7; 32]));
        let crossed = Note::sign(&text, &other_log, &signing).unwrap().to_bytes();
        assert!(SignedCheckpoint::open(&crossed, &other_log).is_err());
        assert!(SignedCheckpoint::open(&crossed, &key).is_err());
        // A key id of someone else.
        let line = String::from_utf8(bytes.clone()).unwrap();
        let (text, line) = line.split_once("\n\n— room.example/log ").unwrap();
        let mut signature = data_encoding::BASE64.decode(line.trim().as_bytes()).unwrap();
        signature[0] ^= 1;
        let hinted = format!("{text}\n\n— {ORIGIN} {}\n", data_encoding::BASE64.encode(&signature));
        assert!(SignedCheckpoint::open(hinted.as_bytes(), &key).unwrap_err().fact().contains("no signature"));
    }

    #[test]
    fn of_two_keys_of_a_log_each_that_signed_must_verify() {
        let (signing, key) = log();
        let next_signing = SigningKey::from_bytes(&[2; 32]);
        let next = VerifierKey::new(ORIGIN, Algorithm::Ed25519, next_signing.public()).unwrap();
        let logs = [key.clone(), next.clone()];
        let old = SignedCheckpoint::sign(7, [7; 32], &key, &signing).unwrap().to_bytes();
        let new = SignedCheckpoint::sign(7, [7; 32], &next, &next_signing).unwrap().to_bytes();
        let line = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().split_once("\n\n").unwrap().1.to_owned();
        let both = [old.clone(), line(&new).into_bytes()].concat();
        for bytes in [&old, &new, &both] {
            SignedCheckpoint::open_any(bytes, &logs).unwrap();
        }
        let wrong = SignedCheckpoint::sign(8, [7; 32], &next, &next_signing).unwrap().to_bytes();
        let one_wrong = [old.clone(), line(&wrong).into_bytes()].concat();
        assert!(SignedCheckpoint::open_any(&one_wrong, &logs).is_err());
        assert!(SignedCheckpoint::open_any(&both, &[]).is_err());
    }
}
