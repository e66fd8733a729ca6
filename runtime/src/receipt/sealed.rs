//! What only the room's auditor may read: exact figures, and the seed with which a run can be replayed.
//!
//! Sealed with age (age-encryption.org/v1) to an X25519 recipient in the registry, whom every party has signed. An owner
//! never gets it: from the seed the noise can be taken off, and exact figures tell of the other owners' rows.

use std::path::Path;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use serde::{Deserialize, Serialize};

use super::RECEIPTS_FOLDER;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::parse;
use crate::provision::SourceDigest;
use crate::sandbox::Figures;

/// The digests of a few thousand files fit into it.
pub(crate) const SEALED_BYTES_MAX: u64 = 16 << 20;
/// What is sealed is filled up to this length; the figures of a question with a hundred slots fit into it.
const PADDED_BYTES: usize = 4 << 10;

/// A longer cause is cut.
pub(crate) const CAUSE_BYTES_MAX: usize = 512;

/// The sealed part of a run.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    pub(crate) run_id: String,
    /// Of noise, salt and the seeds of units, in hex.
    pub(crate) seed: String,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
    /// The key of a list's pseudonyms, in hex.
    pub(crate) destination_key: String,
    /// The key of the pseudonyms that views write, in hex.
    pub(crate) room_key: String,
    /// How many slots the question has.
    pub(crate) slots: usize,
    /// None where the run ended before they were known.
    pub(crate) figures: Option<Figures>,
    /// SHA-256 of what the units came to before any noise, which is the same however they were split.
    pub(crate) raw_sha256: Option<String>,
    /// Why a run that read data has no result.
    pub(crate) cause: Option<String>,
    /// What the views read, by digest.
    pub(crate) sources: Vec<SourceDigest>,
}

/// The path of a run's sealed part.
pub(crate) fn path_of(run_id: &str) -> String {
    format!("{RECEIPTS_FOLDER}/{run_id}.sealed.age")
}

impl Sealed {
    /// The seed of noise and salt, and of the seeds of units.
    pub(crate) fn seed(&self) -> Option<[u8; 32]> {
        data_encoding::HEXLOWER.decode(self.seed.as_bytes()).ok()?.try_into().ok()
    }

    /// How long the text could be for the same views, whatever the run came to.
    fn longest(&self) -> Result<usize> {
        let longest = Self {
            figures: Some(Figures::largest(self.slots)),
            raw_sha256: Some("0".repeat(64)),
            cause: Some("x".repeat(CAUSE_BYTES_MAX)),
            run_id: self.run_id.clone(),
            seed: self.seed.clone(),
            destination_key: self.destination_key.clone(),
            room_key: self.room_key.clone(),
            started_at: self.started_at.clone(),
            finished_at: self.finished_at.clone(),
            slots: self.slots,
            sources: self.sources.clone(),
        };
        serde_json::to_vec(&longest).map(|text| text.len()).map_err(|error| unsealed(&error.to_string()))
    }

    /// Encrypts to the auditor.
    pub(crate) fn seal(&self, auditor: &str) -> Result<Vec<u8>> {
        let recipient = parse_recipient(auditor)?;
        let mut text = serde_json::to_vec(self).map_err(|error| unsealed(&error.to_string()))?;
        // Encryption does not hide how long a text is, and how many digits a figure has is a figure as well.
        text.resize(self.longest()?.max(text.len()).next_multiple_of(PADDED_BYTES), b' ');
        age::encrypt(&recipient, &text).map_err(|error| unsealed(&error.to_string()))
    }
}

/// Decrypts a run's sealed part with the auditor's identity.
pub(crate) fn open(sealed: &[u8], identity_file: &Path) -> Result<Sealed> {
    let text = std::fs::read_to_string(identity_file)
        .map_err(|error| unsealed(&format!("{}: {error}", identity_file.display())))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let identity = Identity::from_str(line).map_err(unsealed)?;
    if sealed.len() as u64 > SEALED_BYTES_MAX {
        return Err(unsealed("it is too long"));
    }
    let text = age::decrypt(&identity, sealed).map_err(|error| unsealed(&error.to_string()))?;
    parse::json(&text).map_err(|why| unsealed(&why))
}

/// Refuses what is not an age X25519 recipient.
pub(crate) fn check_recipient(text: &str) -> Result<()> {
    parse_recipient(text).map(drop)
}

/// Makes an auditor's identity in a new file, as age-keygen does, and gives its recipient.
pub fn new_auditor(path: &Path) -> Result<String> {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = format!("# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
    let (folder, name) = crate::signing::split(path)?;
    std::fs::create_dir_all(folder)
        .and_then(|()| files::open_dir(folder))
        .and_then(|folder| files::write(&folder, name, text.as_bytes(), Existing::Refuse))
        .map_err(|error| {
            Fault::new(
                Code::KeyUnreadable,
                format!("cannot write {}: {error}", path.display()),
                "name another file with --key",
            )
        })?;
    Ok(recipient)
}

fn parse_recipient(text: &str) -> Result<Recipient> {
    Recipient::from_str(text).map_err(|why| {
        let fact = format!("`{}` is not an age recipient: {why}", text.escape_debug());
        Fault::new(Code::KeyFormat, fact, "make one with `glovebox key auditor` or age-keygen")
    })
}

fn unsealed(why: &str) -> Fault {
    Fault::new(
        Code::NotReplayable,
        format!("the run's sealed part cannot be used: {why}"),
        "name the identity of the room's auditor with --identity; a room without an auditor seals nothing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_part_is_as_long_for_few_units_as_for_many() {
        let folder = tempfile::tempdir().unwrap();
        let identity = folder.path().join("auditor.txt");
        let auditor = new_auditor(&identity).unwrap();
        for path in [0, 700, 1400, 2100, 2800, 3500] {
            let lengths = [0, 9, 10, u64::MAX].map(|figure| {
                let rows_per_slot = vec![figure; 64];
                let (units, answered, trapped, fuel, memory_bytes_max) = (figure, figure, figure, figure, figure);
                let figures = Figures { units, answered, trapped, fuel, memory_bytes_max, rows_per_slot };
                let time = || "2026-01-01T00:00:00Z".to_owned();
                let (run_id, seed) = ("00".repeat(16), "11".repeat(32));
                // Wherever the end of a page lies among the figures.
                let source = "x".repeat(path);
                let sources = vec![SourceDigest { view: "v".into(), source, sha256: "33".repeat(32), version: None }];
                let part = Sealed {
                    run_id,
                    seed,
                    destination_key: "22".repeat(32),
                    room_key: "44".repeat(32),
                    started_at: time(),
                    finished_at: time(),
                    slots: 64,
                    figures: (figure > 0).then_some(figures),
                    raw_sha256: (figure > 0).then(|| "55".repeat(32)),
                    cause: (figure == 0).then(|| "TIMED_OUT: a unit ran into the wall clock".into()),
                    sources,
                };
                let sealed = part.seal(&auditor).unwrap();
                let opened = open(&sealed, &identity).unwrap();
                assert!(opened.figures == part.figures && opened.seed == part.seed);
                sealed.len()
            });
            // What age adds of its own accord differs by some bytes at random, whatever is sealed.
            assert!(lengths.iter().all(|length| length.abs_diff(lengths[0]) < PADDED_BYTES / 8), "{lengths:?}");
        }
    }
}
