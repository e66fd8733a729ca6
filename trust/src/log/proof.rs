//! That an entry is in a log, in one file that needs nothing but a policy: c2sp.org/tlog-proof, version 1.

use chrono::{DateTime, Utc};

use super::checkpoint::SignedCheckpoint;
use super::cosignature::Cosignature;
use super::note::plain_text;
use super::policy::Policy;
use super::tree::{self, Hash};
use super::{PROOF_HASHES_MAX, malformed, parse_hash, parse_number, print_hash};
use crate::denial::Result;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof that has not been verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    index: u64,
    hashes: Vec<Hash>,
    /// The signed note, byte for byte.
    checkpoint: Vec<u8>,
}

/// What a proof has proven about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Where in the log it stands.
    pub index: u64,
    /// The checkpoint of a tree that has it.
    pub checkpoint: SignedCheckpoint,
    /// The cosignatures that verified, by the names that the policy gives the witnesses.
    pub cosignatures: Vec<Cosignature>,
}

impl Proof {
    /// Puts together what proves the entry at an index: its inclusion proof in the tree of the checkpoint.
    #[must_use]
    pub fn new(index: u64, hashes: Vec<Hash>, checkpoint: &SignedCheckpoint) -> Self {
        Self { index, hashes, checkpoint: checkpoint.to_bytes() }
    }

    /// Reads a proof. A line of extra data is refused: no one would have signed it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (lines, checkpoint) = split(bytes, "a proof")?;
        let [HEADER, index, hashes @ ..] = lines.as_slice() else {
            return Err(malformed(format!("a proof does not begin with the line `{HEADER}`")));
        };
        let index = index.strip_prefix("index ").and_then(parse_number);
        let index = index.ok_or_else(|| malformed("the second line of a proof is not `index NUMBER`"))?;
        Ok(Self { index, hashes: parse_hashes(hashes)?, checkpoint: checkpoint.to_vec() })
    }

    /// The proof as a file, by custom named `*.tlog-proof`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let hashes: String = self.hashes.iter().map(|hash| print_hash(hash) + "\n").collect();
        [format!("{HEADER}\nindex {}\n{hashes}\n", self.index).as_bytes(), &self.checkpoint].concat()
    }

    /// Checks that this entry is in a log that the policy lists, at a checkpoint that satisfies it.
    pub fn verify(&self, entry: &[u8], policy: &Policy, now: Option<DateTime<Utc>>) -> Result<Proven> {
        let witnessed = policy.open(&self.checkpoint, now)?;
        let checkpoint = witnessed.checkpoint.checkpoint();
        tree::verify_inclusion(&tree::leaf_hash(entry), self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(Proven { index: self.index, checkpoint: witnessed.checkpoint, cosignatures: witnessed.cosignatures })
    }
}

/// The lines up to the first empty one, and the checkpoint that follows it.
pub(super) fn split<'a>(bytes: &'a [u8], what: &str) -> Result<(Vec<&'a str>, &'a [u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let end = end.ok_or_else(|| malformed(format!("{what} has no empty line before its checkpoint")))?;
    let (lines, rest) = bytes.split_at(end);
    Ok((plain_text(lines)?.split('\n').collect(), rest.get(2..).unwrap_or_default()))
}

/// Reads hashes, one in a line.
pub(super) fn parse_hashes(lines: &[&str]) -> Result<Vec<Hash>> {
    if lines.len() > PROOF_HASHES_MAX {
        return Err(malformed(format!("a proof has more than {PROOF_HASHES_MAX} hashes")));
    }
    let hashes = lines.iter().map(|line| parse_hash(line).ok_or_else(|| malformed("a line is not a hash in base64")));
    hashes.collect()
}

#[cfg(test)]
mod tests {
    use super::super::cosignature::cosign;
    use super::super::note::{Algorithm, VerifierKey};
    use super::super::witness::attach;
    use super::*;
    use crate::denial::Reason;
    use crate::keys::{Signer, SigningKey};

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();

    fn log() -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[1; 32]);
        let key = VerifierKey::new("log.example", Algorithm::Ed25519, signing.public()).unwrap();
        (signing, key)
    }

    fn witness() -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[2; 32]);
        let key = VerifierKey::new("witness.example", Algorithm::Cosignature, signing.public()).unwrap();
        (signing, key)
    }

    fn policy() -> Policy {
        Policy::parse(format!("log {}\nwitness w {}\nquorum w\n", log().1, witness().1).as_bytes()).unwrap()
    }

    fn entry(i: u64) -> Vec<u8> {
        format!("receipt {i}").into_bytes()
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|i| tree::leaf_hash(&entry(i))).collect()
    }

    fn checkpoint(size: u64) -> SignedCheckpoint {
        let (log_signing, log) = log();
        let (signing, witness) = witness();
        let root = tree::root_of(&leaves(size));
        let mut checkpoint = SignedCheckpoint::sign(size, root, &log, &log_signing).unwrap();
        let line = cosign(&checkpoint, &witness, &signing, NOW).unwrap();
        attach(&mut checkpoint, line.as_bytes(), &[witness], Some(NOW)).unwrap();
        checkpoint
    }

    fn proof(index: u64, size: u64) -> Proof {
        let hashes = tree::inclusion_proof(leaves(size).as_slice(), index, size).unwrap();
        Proof::new(index, hashes, &checkpoint(size))
    }

    fn verify(bytes: &[u8], entry: &[u8]) -> Result<Proven> {
        Proof::parse(bytes)?.verify(entry, &policy(), Some(NOW))
    }

    #[test]
    fn a_proof_is_the_file_that_the_specification_writes() {
        let bytes = proof(2, 3).to_bytes();
        let left = print_hash(&tree::root_of(&leaves(2)));
        let checkpoint = String::from_utf8(checkpoint(3).to_bytes()).unwrap();
        let expected = format!("c2sp.org/tlog-proof@v1\nindex 2\n{left}\n\n{checkpoint}");
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(Proof::parse(&bytes).unwrap().to_bytes(), bytes);
        // A tree of one entry needs no hashes.
        let alone = proof(0, 1).to_bytes();
        assert!(alone.starts_with(b"c2sp.org/tlog-proof@v1\nindex 0\n\nlog.example\n1\n"));
        assert_eq!(verify(&alone, &entry(0)).unwrap().index, 0);
    }

    #[test]
    fn a_proof_proves_one_entry_and_no_other() {
        for size in 1..=9 {
            for index in 0..size {
                let bytes = proof(index, size).to_bytes();
                let proven = verify(&bytes, &entry(index)).unwrap();
                assert_eq!((proven.index, &proven.checkpoint), (index, &checkpoint(size)));
                assert_eq!(proven.cosignatures, [Cosignature { witness: "w".into(), time: NOW }]);
                for other in (0..size + 2).filter(|other| *other != index) {
                    let denial = verify(&bytes, &entry(other)).unwrap_err();
                    assert_eq!(denial.reason(), Reason::LogInvalid, "{denial}");
                    let moved = Proof { index: other, ..proof(index, size) };
                    assert!(moved.verify(&entry(index), &policy(), None).is_err());
                    assert!(moved.verify(&entry(other), &policy(), None).is_err());
                }
            }
        }
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let bytes = proof(5, 7).to_bytes();
        verify(&bytes, &entry(5)).unwrap();
        for at in 0..bytes.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(verify(&changed, &entry(5)).is_err(), "byte {at} can be changed by {change}");
            }
            assert!(verify(&bytes[..at], &entry(5)).is_err(), "it can end after {at} bytes");
        }
        let mut changed = entry(5);
        changed[0] ^= 1;
        assert!(verify(&bytes, &changed).is_err());
    }

    #[test]
    fn hashes_more_or_less_or_of_another_size_are_refused() {
        let good = proof(5, 7);
        for at in 0..=good.hashes.len() {
            let mut longer = good.clone();
            longer.hashes.insert(at, [0; 32]);
            assert!(longer.verify(&entry(5), &policy(), None).is_err());
            let mut shorter = good.clone();
            if at < shorter.hashes.len() {
                shorter.hashes.remove(at);
                assert!(shorter.verify(&entry(5), &policy(), None).is_err());
            }
        }
        for size in [6, 8, 9] {
            let other = Proof { checkpoint: checkpoint(size).to_bytes(), ..good.clone() };
            assert!(other.verify(&entry(5), &policy(), None).is_err());
            let other = Proof { hashes: proof(5, size).hashes, ..good.clone() };
            assert!(other.verify(&entry(5), &policy(), None).is_err());
        }
        let empty = Proof { index: 0, hashes: Vec::new(), checkpoint: checkpoint(0).to_bytes() };
        for entry in [b"".as_slice(), b"receipt 0"] {
            assert!(empty.verify(entry, &policy(), None).unwrap_err().fact().contains("has no entry"));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let good = String::from_utf8(proof(5, 7).to_bytes()).unwrap();
        verify(good.as_bytes(), &entry(5)).unwrap();
        let refused = [
            good.replace("@v1", "@v2"),
            good.replace("\nindex", "\nextra YQ==\nindex"),
            good.replace("\nindex", "\n\nindex"),
            good.replace("index 5", "index 05"),
            good.replace("index 5", "index  5"),
            good.replace("index 5", "index 5 "),
            good.replace("index 5", "index +5"),
            good.replace("index 5", "index -1"),
            good.replace("index 5", "index 18446744073709551616"),
            good.replace("index 5", "Index 5"),
            good.replace("index 5\n", ""),
            good.replace("\n\nlog", "\nlog"),
            good.replace("\n\nlog", "\n\n\nlog"),
            good.replace('\n', "\r\n"),
            format!("\n{good}"),
            format!("{good}\n"),
            format!("{good}x"),
            good.trim_end().to_owned(),
            good.split_once("\n\n").unwrap().0.to_owned(),
            good.replace("\n\nlog", &format!("{}\n\nlog", format!("\n{}", print_hash(&[0; 32])).repeat(64))),
        ];
        for text in refused {
            assert_ne!(text, good);
            assert!(verify(text.as_bytes(), &entry(5)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_policy_decides() {
        let (log_signing, log) = log();
        let bare = SignedCheckpoint::sign(7, tree::root_of(&leaves(7)), &log, &log_signing).unwrap();
        let bare = Proof::new(5, proof(5, 7).hashes, &bare);
        assert_eq!(bare.verify(&entry(5), &policy(), None).unwrap_err().reason(), Reason::WitnessMissing);
        bare.verify(&entry(5), &Policy::of_log(log), None).unwrap();
        assert!(proof(5, 7).verify(&entry(5), &policy(), DateTime::from_timestamp(NOW.timestamp() - 301, 0)).is_err());
        let stranger = VerifierKey::new("log.example", Algorithm::Ed25519, witness().0.public()).unwrap();
        assert!(proof(5, 7).verify(&entry(5), &Policy::of_log(stranger), None).is_err());
    }
}
