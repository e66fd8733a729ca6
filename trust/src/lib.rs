//! What the parties of a room sign and log: formats and rules over bytes.
//!
//! There are no files, no clock and no network in here, so that every rule can be tested by itself and read in one
//! sitting. Bytes are checked in one order: length, envelope, signature, and only then the signed text. Whatever is
//! not accepted is a [`Denial`]: a reason from a closed set and one line of fact.
//!
//! * [`keys`]: public keys, whatever file format they come in; those on which verifiers disagree are refused
//! * [`envelope`]: DSSE envelopes and in-toto Statements
//! * [`registry`]: parties, their people and services, and their keys, from version to version
//! * [`quorum`]: who has to sign
//! * [`approval`]: that someone agrees to a run, and what it takes for a run to be approved
//! * [`revocations`]: what a party has withdrawn
//! * [`log`]: the transparency log
//! * [`ssh`] and [`minisign`]: signatures that programs on many machines make and verify; keys in an ssh-agent

pub mod approval;
pub mod base64;
pub mod denial;
pub mod envelope;
mod groups;
pub mod json;
pub mod keys;
pub mod log;
pub mod minisign;
mod principal;
pub mod quorum;
pub mod registry;
pub mod revocations;
pub mod ssh;
mod words;

pub use denial::{Denial, Reason, Result};
pub use principal::Principal;

/// Clocks may differ by so much before what someone signed counts as from the future.
pub const CLOCK_SKEW: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// The greatest integer that every reader of JSON reads as it was written.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An id of a room, party, person, view or run: `[a-z0-9._-]`, 1 to 64 characters, so that no two look alike.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && !text.starts_with('.')
}

/// An id of a party, person or service: an id without dots, so that `PARTY.PERSON` names one only.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_id(text) && !text.contains('.')
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

/// A moment in the one form in which times stand in files: RFC 3339 in UTC, to the second.
#[must_use]
pub fn time_to_text(moment: chrono::DateTime<chrono::Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Reads the form that [`time_to_text`] writes, and no other.
#[must_use]
pub fn time_from_text(text: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    let moment = chrono::DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&chrono::Utc);
    (time_to_text(moment) == text).then_some(moment)
}
