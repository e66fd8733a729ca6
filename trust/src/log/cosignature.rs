//! What a witness says about a checkpoint, and when: `cosignature/v1` of c2sp.org/tlog-cosignature, with Ed25519.

use chrono::{DateTime, Utc};

use super::checkpoint::SignedCheckpoint;
use super::does_not_verify;
use super::note::{Algorithm, Note, SignatureLine, VerifierKey};
use crate::CLOCK_SKEW;
use crate::denial::{Denial, Result};
use crate::keys::{SignError, Signer};

/// A cosignature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Whose it is.
    pub witness: String,
    /// When the tree was the largest that the witness had seen of this log.
    pub time: DateTime<Utc>,
}

/// Cosigns a checkpoint: the line that a witness answers with. What a witness must check before is not checked here.
pub fn cosign(
    checkpoint: &SignedCheckpoint,
    witness: &VerifierKey,
    signer: &dyn Signer,
    time: DateTime<Utc>,
) -> Result<String, SignError> {
    let seconds = u64::try_from(time.timestamp()).ok().filter(|seconds| read_time(*seconds).is_some());
    let Some(time) = seconds.filter(|_| witness.algorithm() == Algorithm::Cosignature) else {
        return Err(format!("{} does not cosign at {time}", witness.name()));
    };
    let signature = witness.sign(&message(checkpoint.note(), time), signer)?;
    let payload = [time.to_be_bytes().as_slice(), &signature].concat();
    Ok(witness.line(payload).to_string())
}

/// When the witness cosigned the checkpoint, if it did. A cosignature that does not verify is refused, and so is one of
/// after `now`: its witness cannot be relied upon.
pub fn cosigned_at(
    checkpoint: &SignedCheckpoint,
    witness: &VerifierKey,
    now: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>> {
    let wrong = |why: &str| does_not_verify(format!("the cosignature of {} {why}", witness.name()));
    let Some(payload) = checkpoint.note().payload_of(witness)? else { return Ok(None) };
    let (seconds, signature) = read_payload(payload).ok_or_else(|| wrong("is malformed"))?;
    let time = read_time(seconds).ok_or_else(|| wrong("has no time"))?;
    let is_signed = witness.algorithm() == Algorithm::Cosignature
        && witness.public().verify(&message(checkpoint.note(), seconds), signature);
    if !is_signed {
        return Err(wrong("does not verify"));
    }
    // The time is after 1970 and leaves room for the difference; the present need not.
    if now.is_some_and(|now| time - CLOCK_SKEW > now) {
        return Err(wrong("is of the future"));
    }
    Ok(Some(time))
}

/// Adds the lines of known witnesses to a checkpoint, in the place of older ones, once all of them verify; returns
/// whose they are. Lines of others are ignored.
pub(super) fn attach(
    checkpoint: &mut SignedCheckpoint,
    lines: Vec<SignatureLine>,
    witnesses: &[VerifierKey],
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Cosignature>> {
    let lines: Vec<SignatureLine> =
        lines.into_iter().filter(|line| witnesses.iter().any(|witness| line.is_of(witness))).collect();
    let theirs = |witness: &&VerifierKey| lines.iter().any(|line| line.is_of(witness));
    let witnesses: Vec<&VerifierKey> = witnesses.iter().filter(theirs).collect();
    let mut note = checkpoint.note().clone();
    note.attach(lines)?;
    let attached = checkpoint.with_note(note);
    let cosignatures = cosignatures(&attached, witnesses.into_iter().map(|key| (key.name(), key)), now)?;
    *checkpoint = attached;
    Ok(cosignatures)
}

/// The cosignatures of those witnesses that cosigned.
pub(super) fn cosignatures<'a>(
    checkpoint: &SignedCheckpoint,
    witnesses: impl Iterator<Item = (&'a str, &'a VerifierKey)>,
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Cosignature>> {
    let cosignatures = witnesses.map(|(name, key)| {
        let time = cosigned_at(checkpoint, key, now)?;
        Ok::<_, Denial>(time.map(|time| Cosignature { witness: name.to_owned(), time }))
    });
    cosignatures.filter_map(Result::transpose).collect()
}

/// What is signed: no other kind of note begins like this.
fn message(note: &Note, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{}", note.unverified_text()).into_bytes()
}

fn read_payload(payload: &[u8]) -> Option<(u64, &[u8; 64])> {
    let (seconds, signature) = payload.split_first_chunk()?;
    Some((u64::from_be_bytes(*seconds), signature.try_into().ok()?))
}

/// Seconds since 1970. Zero would say that the witness makes no statement about time.
fn read_time(seconds: u64) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    const NOW: i64 = 1_800_000_000;

    fn at_second(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn key(seed: u8, name: &str, algorithm: Algorithm) -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let key = VerifierKey::new(name, algorithm, signing.public()).unwrap();
        (signing, key)
    }

    fn checkpoint(origin: &str, size: u64) -> SignedCheckpoint {
        let (signing, log) = key(1, origin, Algorithm::Ed25519);
        SignedCheckpoint::sign(size, [7; 32], &log, &signing).unwrap()
    }

    fn witness() -> (SigningKey, VerifierKey) {
        key(2, "witness.example", Algorithm::Cosignature)
    }

    fn with_lines(checkpoint: &SignedCheckpoint, lines: &str) -> SignedCheckpoint {
        let bytes = [checkpoint.to_bytes(), lines.as_bytes().to_vec()].concat();
        let (_, log) = key(1, &checkpoint.checkpoint().origin, Algorithm::Ed25519);
        SignedCheckpoint::open(&bytes, &log).unwrap()
    }

    fn at(checkpoint: &SignedCheckpoint, lines: &str) -> Result<Option<i64>> {
        let time = cosigned_at(&with_lines(checkpoint, lines), &witness().1, Some(at_second(NOW)))?;
        Ok(time.map(|time| time.timestamp()))
    }

    #[test]
    fn a_cosignature_is_over_the_text_that_the_specification_writes() {
        let (signing, witness) = witness();
        let checkpoint = checkpoint("log.example", 7);
        let line = cosign(&checkpoint, &witness, &signing, at_second(1_679_315_147)).unwrap();
        assert_eq!(at(&checkpoint, &line).unwrap(), Some(1_679_315_147));
        let root = super::super::print_hash(&[7; 32]);
        let message = format!("cosignature/v1\ntime 1679315147\nlog.example\n7\n{root}\n");
        let bytes = data_encoding::BASE64.decode(line.trim_end().rsplit_once(' ').unwrap().1.as_bytes()).unwrap();
        assert_eq!(bytes.len(), 4 + 8 + 64);
        assert_eq!(bytes[4..12], 1_679_315_147u64.to_be_bytes());
        assert!(signing.public().verify(message.as_bytes(), bytes[12..].try_into().unwrap()));
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        // Its public key is not given: only the form can be checked.
        let line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nP\
            Zqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let parsed = SignatureLine::parse_all(line).unwrap();
        assert_eq!(parsed[0].to_string(), line);
        let bytes = data_encoding::BASE64.decode(line.trim_end().rsplit_once(' ').unwrap().1.as_bytes()).unwrap();
        assert_eq!(read_payload(&bytes[4..]).unwrap().0, 1_679_315_147);
    }

    #[test]
    fn a_cosignature_of_another_log_size_or_time_is_refused() {
        let (signing, witness) = witness();
        let ours = checkpoint("log.example", 7);
        for other in [checkpoint("other.example", 7), checkpoint("log.example", 6)] {
            let replayed = cosign(&other, &witness, &signing, at_second(NOW)).unwrap();
            assert!(at(&ours, &replayed).unwrap_err().fact().contains("does not verify"));
        }
        let line = cosign(&ours, &witness, &signing, at_second(NOW)).unwrap();
        let mut bytes = data_encoding::BASE64.decode(line.trim_end().rsplit_once(' ').unwrap().1.as_bytes()).unwrap();
        bytes[11] ^= 1;
        let later = format!("— witness.example {}\n", data_encoding::BASE64.encode(&bytes));
        assert!(at(&ours, &later).unwrap_err().fact().contains("does not verify"));
        // The note itself, signed by the witness as a log would, is no cosignature, whatever it is called.
        let plain = signing.sign(ours.note().unverified_text().as_bytes()).unwrap();
        let payload = [NOW.to_be_bytes().as_slice(), &plain].concat();
        assert!(at(&ours, &witness.line(payload).to_string()).is_err());
        assert!(at(&ours, &witness.line(plain.to_vec()).to_string()).is_err());
    }

    #[test]
    fn a_cosignature_of_the_future_is_refused_if_the_present_is_known() {
        let (signing, witness) = witness();
        let checkpoint = checkpoint("log.example", 7);
        let end = DateTime::<Utc>::MAX_UTC;
        for (time, is_past) in [(1, true), (NOW + 300, true), (NOW + 301, false), (end.timestamp(), false)] {
            let line = cosign(&checkpoint, &witness, &signing, at_second(time)).unwrap();
            assert_eq!(at(&checkpoint, &line).is_ok(), is_past, "{time}");
            let known = cosigned_at(&with_lines(&checkpoint, &line), &witness, None).unwrap();
            assert_eq!(known, Some(at_second(time)));
            assert!(cosigned_at(&with_lines(&checkpoint, &line), &witness, Some(end)).is_ok());
        }
        for time in [0, -1] {
            assert!(cosign(&checkpoint, &witness, &signing, at_second(time)).is_err());
        }
        for time in [0, i64::MAX as u64, 1 << 63, u64::MAX] {
            let signature = signing.sign(&message(checkpoint.note(), time)).unwrap();
            let line = witness.line([time.to_be_bytes().as_slice(), &signature].concat()).to_string();
            let denial = cosigned_at(&with_lines(&checkpoint, &line), &witness, None).unwrap_err();
            assert!(denial.fact().contains("has no time"), "{denial}");
        }
    }

    #[test]
    fn two_cosignatures_of_a_witness_are_refused_and_those_of_strangers_ignored() {
        let (signing, witness) = witness();
        let checkpoint = checkpoint("log.example", 7);
        let first = cosign(&checkpoint, &witness, &signing, at_second(NOW)).unwrap();
        let second = cosign(&checkpoint, &witness, &signing, at_second(NOW - 1)).unwrap();
        for twice in [[&*first, &*second], [&first, &first]] {
            assert!(at(&checkpoint, &twice.concat()).unwrap_err().fact().contains("two signatures"));
        }
        let (stranger_signing, stranger) = key(3, "witness.example", Algorithm::Cosignature);
        let theirs = cosign(&checkpoint, &stranger, &stranger_signing, at_second(NOW)).unwrap();
        assert_eq!(at(&checkpoint, &theirs).unwrap(), None);
        assert_eq!(at(&checkpoint, &[theirs, first].concat()).unwrap(), Some(NOW));
        assert_eq!(at(&checkpoint, "").unwrap(), None);
    }

    #[test]
    fn a_log_key_does_not_cosign() {
        let (signing, as_log) = key(2, "witness.example", Algorithm::Ed25519);
        let checkpoint = checkpoint("log.example", 7);
        assert!(cosign(&checkpoint, &as_log, &signing, at_second(NOW)).is_err());
        let signature = signing.sign(&message(checkpoint.note(), NOW as u64)).unwrap();
        let line = as_log.line([NOW.to_be_bytes().as_slice(), &signature].concat()).to_string();
        let signed = with_lines(&checkpoint, &line);
        assert!(cosigned_at(&signed, &as_log, None).is_err());
        assert_eq!(cosigned_at(&signed, &witness().1, None).unwrap(), None);
    }
}
