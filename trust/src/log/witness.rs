//! What a log sends to a witness and gets back: the `add-checkpoint` call of c2sp.org/tlog-witness, without the HTTP.

use chrono::{DateTime, Utc};

use super::checkpoint::SignedCheckpoint;
use super::cosignature::{self, Cosignature};
use super::note::{SignatureLine, VerifierKey, plain_text};
use super::proof::{parse_hashes, split};
use super::tree::{self, Hash};
use super::{malformed, parse_number, print_hash};
use crate::denial::Result;

/// The body of a request: a checkpoint, and a proof that it continues the one that the witness cosigned last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old_size: u64,
    proof: Vec<Hash>,
    checkpoint: Vec<u8>,
}

impl AddCheckpoint {
    /// Asks for a cosignature, given the consistency proof from the size that the witness saw last. From the size zero
    /// that proof is empty.
    #[must_use]
    pub fn new(old_size: u64, proof: Vec<Hash>, checkpoint: &SignedCheckpoint) -> Self {
        Self { old_size, proof, checkpoint: checkpoint.to_bytes() }
    }

    /// Reads the body of a request.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (lines, checkpoint) = split(bytes, "a request")?;
        let (old_size, proof) = match lines.as_slice() {
            [first, proof @ ..] => (first.strip_prefix("old ").and_then(parse_number), proof),
            [] => (None, [].as_slice()),
        };
        let old_size = old_size.ok_or_else(|| malformed("a request does not begin with `old SIZE`"))?;
        Ok(Self { old_size, proof: parse_hashes(proof)?, checkpoint: checkpoint.to_vec() })
    }

    /// The body of the request.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let proof: String = self.proof.iter().map(|hash| print_hash(hash) + "\n").collect();
        [format!("old {}\n{proof}\n", self.old_size).as_bytes(), &self.checkpoint].concat()
    }

    /// The size from which it proves. A witness that cosigned another size last says so instead of verifying.
    #[must_use]
    pub const fn old_size(&self) -> u64 {
        self.old_size
    }

    /// What a witness checks before it cosigns: that the log signed the checkpoint, and that it continues the one that
    /// the witness cosigned last, of that root.
    pub fn verify(&self, old_root: &Hash, log: &VerifierKey) -> Result<SignedCheckpoint> {
        let signed = SignedCheckpoint::open(&self.checkpoint, log)?;
        let new = signed.checkpoint();
        tree::verify_consistency(self.old_size, old_root, new.size, &new.root, &self.proof)?;
        Ok(signed)
    }
}

/// Adds the cosignatures that a witness answered with to a checkpoint, in the place of older ones of the same keys,
/// once all of those verify that are of known witnesses; returns these. Lines of others are ignored.
pub fn attach(
    checkpoint: &mut SignedCheckpoint,
    answer: &[u8],
    witnesses: &[VerifierKey],
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Cosignature>> {
    let lines = SignatureLine::parse_all(plain_text(answer)?)?;
    cosignature::attach(checkpoint, lines, witnesses, now)
}

#[cfg(test)]
mod tests {
    use super::super::cosignature::{cosign, cosigned_at};
    use super::super::note::Algorithm;
    use super::*;
    use crate::denial::Reason;
    use crate::keys::{Signer, SigningKey};

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    const LATER: DateTime<Utc> = DateTime::from_timestamp(1_800_000_301, 0).unwrap();
    const EARLIER: DateTime<Utc> = DateTime::from_timestamp(1_700_000_000, 0).unwrap();

    fn key(seed: u8, name: &str, algorithm: Algorithm) -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let key = VerifierKey::new(name, algorithm, signing.public()).unwrap();
        (signing, key)
    }

    fn log() -> (SigningKey, VerifierKey) {
        key(1, "log.example", Algorithm::Ed25519)
    }

    fn witness(seed: u8) -> (SigningKey, VerifierKey) {
        key(seed, &format!("w{seed}.example"), Algorithm::Cosignature)
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|i| tree::leaf_hash(&i.to_be_bytes())).collect()
    }

    fn checkpoint(size: u64) -> SignedCheckpoint {
        let (signing, key) = log();
        SignedCheckpoint::sign(size, tree::root_of(&leaves(size)), &key, &signing).unwrap()
    }

    fn request(old: u64, new: u64) -> AddCheckpoint {
        let proof = tree::consistency_proof(leaves(new).as_slice(), old, new).unwrap();
        AddCheckpoint::new(old, proof, &checkpoint(new))
    }

    #[test]
    fn a_witness_follows_a_log_that_only_grows() {
        let (_, log) = log();
        for new in 0..12 {
            for old in 0..=new {
                let request = request(old, new);
                let parsed = AddCheckpoint::parse(&request.to_bytes()).unwrap();
                assert_eq!((&parsed, parsed.old_size()), (&request, old));
                let old_root = tree::root_of(&leaves(old));
                assert_eq!(parsed.verify(&old_root, &log).unwrap(), checkpoint(new));
                if old > 0 {
                    assert!(parsed.verify(&[7; 32], &log).is_err());
                }
                assert!(parsed.verify(&old_root, &key(9, "log.example", Algorithm::Ed25519).1).is_err());
            }
        }
    }

    #[test]
    fn a_second_view_of_the_log_is_refused() {
        let (signing, log) = log();
        let ours = tree::root_of(&leaves(5));
        // Of equal size, smaller, and grown from something else.
        let mut other = leaves(7);
        other[0] = [7; 32];
        let split = SignedCheckpoint::sign(5, tree::root_of(&other[..5]), &log, &signing).unwrap();
        assert!(AddCheckpoint::new(5, Vec::new(), &split).verify(&ours, &log).is_err());
        let proof = tree::consistency_proof(other.as_slice(), 5, 7).unwrap();
        let grown = SignedCheckpoint::sign(7, tree::root_of(&other), &log, &signing).unwrap();
        assert!(AddCheckpoint::new(5, proof, &grown).verify(&ours, &log).is_err());
        assert!(AddCheckpoint::new(5, Vec::new(), &checkpoint(4)).verify(&ours, &log).is_err());
        assert!(AddCheckpoint::new(0, vec![[0; 32]], &checkpoint(4)).verify(&tree::empty_root(), &log).is_err());
    }

    #[test]
    fn a_request_is_read_in_one_form_only() {
        let (_, log) = log();
        let good = String::from_utf8(request(3, 7).to_bytes()).unwrap();
        let old_root = tree::root_of(&leaves(3));
        let verify = |bytes: &[u8]| AddCheckpoint::parse(bytes)?.verify(&old_root, &log);
        verify(good.as_bytes()).unwrap();
        for at in 0..good.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut changed = good.as_bytes().to_vec();
                changed[at] ^= change;
                assert!(verify(&changed).is_err(), "byte {at} can be changed by {change}");
            }
            assert!(verify(&good.as_bytes()[..at]).is_err());
        }
        let hash = print_hash(&[0; 32]);
        let refused = [
            good.replace("old 3", "old 03"),
            good.replace("old 3", "old  3"),
            good.replace("old 3", "old 3 "),
            good.replace("old 3", "old -3"),
            good.replace("old 3", "old"),
            good.replace("old 3\n", ""),
            good.replace("old 3\n", "old 3\n\n"),
            good.replace("\n\nlog", "\nlog"),
            good.replace('\n', "\r\n"),
            format!("\n{good}"),
        ];
        for text in refused {
            assert_ne!(text, good);
            assert!(verify(text.as_bytes()).is_err(), "{text}");
        }
        let lines = |count: usize| format!("old 3\n{}\n{}", format!("{hash}\n").repeat(count), "checkpoint");
        AddCheckpoint::parse(lines(63).as_bytes()).unwrap();
        assert!(AddCheckpoint::parse(lines(64).as_bytes()).is_err());
        assert_eq!(AddCheckpoint::parse(b"\n\n").unwrap_err().reason(), Reason::Malformed);
    }

    #[test]
    fn what_known_witnesses_answer_is_attached() {
        let ((first_signing, first), (second_signing, second)) = (witness(2), witness(3));
        let (stranger_signing, stranger) = witness(4);
        let known = [first.clone(), second.clone()];
        let mut checkpoint = checkpoint(7);
        let at = |checkpoint: &SignedCheckpoint, witness| cosigned_at(checkpoint, witness, None).unwrap();
        let stranger_line = cosign(&checkpoint, &stranger, &stranger_signing, NOW).unwrap();
        let answer = [stranger_line.clone(), cosign(&checkpoint, &first, &first_signing, EARLIER).unwrap()].concat();
        let attached = attach(&mut checkpoint, answer.as_bytes(), &known, Some(NOW)).unwrap();
        assert_eq!(attached, [Cosignature { witness: "w2.example".into(), time: EARLIER }]);
        assert_eq!((at(&checkpoint, &first), at(&checkpoint, &second)), (Some(EARLIER), None));
        assert_eq!(at(&checkpoint, &stranger), None);
        // A later one takes the place of the earlier one; that of the other witness comes beside it.
        for (witness, signing) in [(&first, &first_signing), (&second, &second_signing)] {
            let answer = cosign(&checkpoint, witness, signing, NOW).unwrap();
            attach(&mut checkpoint, answer.as_bytes(), &known, Some(NOW)).unwrap();
        }
        assert_eq!((at(&checkpoint, &first), at(&checkpoint, &second)), (Some(NOW), Some(NOW)));
        let reopened = SignedCheckpoint::open(&checkpoint.to_bytes(), &log().1).unwrap();
        assert_eq!(reopened, checkpoint);
        let mut same = checkpoint.clone();
        assert!(attach(&mut same, stranger_line.as_bytes(), &known, Some(NOW)).unwrap().is_empty());
        assert_eq!(same, checkpoint);
    }

    #[test]
    fn an_answer_that_does_not_verify_changes_nothing() {
        let (signing, witness) = witness(2);
        let (other_signing, other) = super::tests::witness(3);
        let known = [witness.clone(), other.clone()];
        let before = checkpoint(7);
        let good = cosign(&before, &witness, &signing, NOW).unwrap();
        let wrong = cosign(&checkpoint(6), &other, &other_signing, NOW).unwrap();
        let future = cosign(&before, &witness, &signing, LATER).unwrap();
        let answers = [
            wrong.clone(),
            future,
            format!("{good}{wrong}"),
            format!("{good}{good}"),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            format!("\n{good}"),
            String::new(),
            "7\n".to_owned(),
            good.replace('\n', "\r\n"),
        ];
        for answer in answers {
            let mut checkpoint = before.clone();
            assert!(attach(&mut checkpoint, answer.as_bytes(), &known, Some(NOW)).is_err(), "{answer:?}");
            assert_eq!(checkpoint, before);
        }
        // The log's own signature stays, whoever is called a witness.
        let mut checkpoint = before.clone();
        let line = String::from_utf8(before.to_bytes()).unwrap().split_once("\n\n").unwrap().1.to_owned();
        assert!(attach(&mut checkpoint, line.as_bytes(), &[log().1], None).is_err());
        assert_eq!(checkpoint, before);
    }
}
