//! Step 5. Writes a released table to the agreed folder: all of it, or nothing.
//!
//! The place is claimed before any data is read, so that a name that is taken or a full disk costs no budget. Before a
//! byte of the result is written, the gate is asked once more; before it has its name, the log has the run's receipt.

use arrow::array::Array;
use arrow::csv;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use cap_std::fs::Dir;
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Result};
use crate::files::{Existing, Staged};
use crate::gate::{Approved, Confirmed};
use crate::privacy::{Released, Setting};
use crate::random::Random;
use crate::room::{Agreement, Controls, Format, Kind, Mode, Reducer, sha256_hex};

/// Space that must be free at the destination before a run begins.
const PROBE_BYTES: usize = 256 << 10;

/// Opens the salted commitment to an output that stands in its receipt; delivered beside the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opening {
    pub(crate) salt: String,
    /// With it the recipient finds its own identifiers among a list's pseudonyms; in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pseudonym_key: Option<String>,
}

impl Opening {
    /// A salt of any other form could hold a piece of the file, and so stand for a shorter one.
    pub(crate) fn is_well_formed(&self) -> bool {
        let is_digits =
            |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_digits(&self.salt) && self.pseudonym_key.as_deref().is_none_or(is_digits)
    }

    /// SHA-256 over salt and bytes: without the salt, small results could be guessed from it.
    pub(crate) fn commit(&self, bytes: &[u8]) -> String {
        sha256_hex(&[self.salt.as_bytes(), bytes].concat())
    }
}

/// A result as it is to be written. No one can see it yet: it stands in memory alone.
#[derive(Debug)]
pub(crate) struct RenderedResult {
    pub(crate) approved: Approved,
    pub(crate) path: String,
    pub(crate) rows: usize,
    pub(crate) commitment: String,
    bytes: Vec<u8>,
    opening: Opening,
}

/// A result that its recipient has.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) approved: Approved,
    pub(crate) path: String,
    pub(crate) rows: usize,
}

/// The result's path in the room. A result is never written over another.
pub(crate) fn path_of(agreement: &Agreement) -> String {
    let destination = &agreement.destination;
    format!("{}/{}-r{}.{}", destination.folder, agreement.question, agreement.revision, destination.format.extension())
}

/// The path of a result's opening.
pub(crate) fn opening_path(output: &str) -> String {
    format!("{output}.opening.json")
}

/// Makes sure that the result can be written, before it costs anything.
pub(crate) fn prepare(approved: &Approved, dir: &Dir) -> Result<()> {
    let path = path_of(approved.agreement());
    check_free(&path, dir)?;
    let probe = [0; PROBE_BYTES];
    Staged::create(dir, &path, |file| std::io::Write::write_all(file, &probe))
        .map_err(|error| failed(&path, &error))?;
    Ok(())
}

/// Neither a result nor its opening is ever written over another.
fn check_free(path: &str, dir: &Dir) -> Result<()> {
    let taken = [path, &opening_path(path)].into_iter().find(|path| dir.symlink_metadata(path).is_ok()).map(exists);
    taken.map_or(Ok(()), Err)
}

/// Writes the table into memory, and commits to it. Both follow from the table and the randomness.
pub(crate) fn render(released: Released, setting: &Setting, random: &mut Random) -> Result<RenderedResult> {
    let Released { approved, table, .. } = released;
    assert_releasable(&approved, &table)?;
    let path = path_of(approved.agreement());
    let bytes = encode(&table, approved.agreement().destination.format).map_err(|error| failed(&path, &error))?;
    let is_list = approved.manifest().kind == Kind::List;
    let opening = Opening {
        salt: data_encoding::HEXLOWER.encode(&random.bytes::<32>()),
        pseudonym_key: is_list.then(|| setting.destination().to_hex()),
    };
    let commitment = opening.commit(&bytes);
    Ok(RenderedResult { approved, path, rows: table.num_rows(), commitment, bytes, opening })
}

/// A confirmed result, whole and durable, under names that are none of a result.
#[derive(Debug)]
pub(crate) struct StagedResult {
    result: RenderedResult,
    output: Staged,
    beside: Staged,
}

impl StagedResult {
    pub(crate) const fn result(&self) -> &RenderedResult {
        &self.result
    }
}

/// Writes a confirmed result and its opening, so that nothing is left that could fail but to give them their names.
pub(crate) fn stage(confirmed: Confirmed, dir: &Dir) -> Result<StagedResult> {
    let result = confirmed.into_result();
    let (path, beside) = (result.path.as_str(), opening_path(&result.path));
    check_free(path, dir)?;
    let opening = serde_json::to_vec(&result.opening).map_err(|error| failed(path, &error))?;
    let stage = |path: &str, bytes: &[u8]| {
        Staged::create(dir, path, |file| std::io::Write::write_all(file, bytes)).map_err(|error| failed(path, &error))
    };
    let (output, beside) = (stage(path, &result.bytes)?, stage(&beside, &opening)?);
    Ok(StagedResult { result, output, beside })
}

/// Gives a result its name, once the log has its receipt.
pub(crate) fn publish(staged: StagedResult, dir: &Dir) -> Result<Delivered> {
    let StagedResult { result: RenderedResult { approved, path, rows, .. }, output, beside } = staged;
    let named = |path: &str, error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => failed(path, error),
    };
    // The opening first: a result that has its name can be verified, whatever happens in between.
    beside.publish(Existing::Refuse).map_err(|error| named(&opening_path(&path), &error))?;
    output.publish(Existing::Refuse).map_err(|error| {
        let _ = dir.remove_file(opening_path(&path));
        named(&path, &error)
    })?;
    Ok(Delivered { approved, path, rows })
}

/// The privacy step's rules once more, on what is about to be written: the other half of a pair of assertions.
fn assert_releasable(approved: &Approved, table: &RecordBatch) -> Result<()> {
    let controls = &approved.agreement().controls;
    let holds = match approved.manifest().kind {
        Kind::List => table.num_rows() >= controls.list.min_size as usize,
        Kind::Analytical => counts(approved, table).all(|count| count >= i64::from(smallest_count(controls))),
    };
    if holds {
        return Ok(());
    }
    Err(Fault::new(Code::Internal, "the released table breaks the controls", "report it: nothing was written"))
}

/// The threshold is above k, so that even a noisy count never falls below it; where there is none, noise may take any
/// count anywhere. A count that is rounded down may fall below k by half a step.
fn smallest_count(controls: &Controls) -> u32 {
    match controls.mode {
        Mode::SealedDp if controls.k_min == 1 => 0,
        Mode::SealedDp => controls.k_min,
        Mode::SealedK => controls.k_min.saturating_sub(controls.round_to),
    }
}

/// The released counts of units, which stand in the table under the names of the manifest's counts.
fn counts<'a>(approved: &'a Approved, table: &'a RecordBatch) -> impl Iterator<Item = i64> + 'a {
    let is_bounded = approved.agreement().controls.k_min > 1;
    let measures = approved.manifest().measures.iter().filter(move |m| is_bounded && m.reducer == Reducer::Count);
    let columns = measures.filter_map(|measure| table.column_by_name(&measure.name));
    let integers = columns.filter_map(|column| column.as_any().downcast_ref::<arrow::array::Int64Array>());
    integers.flat_map(|column| column.iter().flatten())
}

fn encode(table: &RecordBatch, format: Format) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    match format {
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), None)?;
            writer.write(table)?;
            writer.close()?;
        }
        Format::Csv => csv::Writer::new(&mut bytes).write(table)?,
        Format::Arrow => {
            let mut writer = FileWriter::try_new(&mut bytes, &table.schema())?;
            writer.write(table)?;
            writer.finish()?;
        }
    }
    Ok(bytes)
}

fn exists(path: &str) -> Fault {
    Fault::new(
        Code::DestinationExists,
        format!("{path} exists"),
        "move the earlier result away, or compose a new revision of the agreement",
    )
}

fn failed(path: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        Code::DestinationFailed,
        format!("cannot write {path}: {error}"),
        "make room at the destination and check that its folder can be written to",
    )
}
