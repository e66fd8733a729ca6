//! Finds the recipient's own identifiers among a list's pseudonyms.
//!
//! A list leaves under pseudonyms, so that whoever it is passed on to cannot link it with another destination's. The
//! recipient gets the key beside the list, in its opening, and holds the identifiers already.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use serde::Serialize;

use crate::destination::{Opening, opening_path};
use crate::error::{Code, Fault, Result};
use crate::parse;
use crate::privacy::DestinationKey;
use crate::provision::UnitKey;
use crate::show;

/// A list with the recipient's own identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identified {
    /// The new file.
    pub path: PathBuf,
    /// How many of the list's pseudonyms are those of a known identifier, and how many there are.
    pub found: usize,
    /// Rows of the list.
    pub listed: usize,
}

/// Writes a CSV file of identifier and segment for every pseudonym of a list that belongs to one of the identifiers in a
/// column of a file.
pub fn identify(list: &Path, ids: &Path, column: &str, out: &Path) -> Result<Identified> {
    let key = read_key(list)?;
    let mut names = HashMap::new();
    for batch in read(ids)? {
        for (unit, text) in identifiers(&batch, ids, column)? {
            names.insert(key.pseudonym(&unit), text);
        }
    }
    let mut lines = Vec::new();
    let mut listed = 0;
    for batch in read(list)? {
        listed += batch.num_rows();
        let (pseudonyms, segments) = (texts(&batch, list, "pseudonym")?, texts(&batch, list, "segment")?);
        let known =
            pseudonyms.into_iter().zip(segments).filter_map(|(name, segment)| Some((names.get(&name)?, segment)));
        lines.extend(known.map(|(id, segment)| format!("{},{}\n", quoted(id), quoted(&segment))));
    }
    lines.sort();
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
        writeln!(file, "{},segment", quoted(column))?;
        lines.iter().try_for_each(|line| file.write_all(line.as_bytes()))?;
        file.sync_all()
    };
    write().map_err(|error| unusable(out, &error.to_string()))?;
    Ok(Identified { path: out.to_owned(), found: lines.len(), listed })
}

/// The key stands in the opening that the recipient got beside the list.
fn read_key(list: &Path) -> Result<DestinationKey> {
    let path = PathBuf::from(opening_path(&list.to_string_lossy()));
    let bytes = fs::read(&path).map_err(|error| unusable(&path, &error.to_string()))?;
    let opening: Opening = parse::json(&bytes).map_err(|why| unusable(&path, &why))?;
    let key = opening.pseudonym_key.as_deref().and_then(DestinationKey::from_hex);
    key.ok_or_else(|| unusable(&path, "it has no key of pseudonyms: is it beside a list?"))
}

fn read(path: &Path) -> Result<Vec<RecordBatch>> {
    show::read_all(path).map_err(|error| unusable(path, &error.to_string()))
}

/// The units of a column, each with the text that people know it by; whole numbers and texts name units.
fn identifiers(batch: &RecordBatch, path: &Path, column: &str) -> Result<Vec<(UnitKey, String)>> {
    let array = named(batch, path, column)?;
    if array.data_type().is_integer() {
        let array = cast(array, &DataType::Int64).map_err(|error| unusable(path, &error.to_string()))?;
        let units = array.as_primitive::<Int64Type>().iter().flatten();
        return Ok(units.map(|unit| (UnitKey::Int64(unit), unit.to_string())).collect());
    }
    let units = texts(batch, path, column)?.into_iter();
    Ok(units.map(|text| (UnitKey::Utf8(text.trim_matches(' ').into()), text)).collect())
}

fn texts(batch: &RecordBatch, path: &Path, column: &str) -> Result<Vec<String>> {
    let array =
        cast(named(batch, path, column)?, &DataType::Utf8).map_err(|error| unusable(path, &error.to_string()))?;
    Ok(array.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
}

fn named<'a>(batch: &'a RecordBatch, path: &Path, column: &str) -> Result<&'a dyn Array> {
    let found = batch.column_by_name(column).map(AsRef::as_ref);
    found.ok_or_else(|| unusable(path, &format!("it has no column {column}")))
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn unusable(path: &Path, why: &str) -> Fault {
    Fault::new(
        Code::Usage,
        format!("{}: {why}", path.display()),
        "name a released list with its opening beside it, a file of your own identifiers, and a new file",
    )
}
