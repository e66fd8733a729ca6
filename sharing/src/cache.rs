//! Versions of views, each computed once and kept as Parquet files in the state folder.
//!
//! A version is a folder with a record and its files, and gets its name when it is whole. Numbers only grow; there is a
//! new one when the definition of a view or the bytes of its sources are others than those of the newest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use glovebox::{SharedView, ViewStamp};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Code, Fault, Result};
use crate::files;
use crate::types::SharedSchema;

const RECORD: &str = "version.json";
/// What a folder is called while it is being written.
const UNFINISHED: &str = ".unfinished-";

/// A view as it was at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    /// Of the view in this state folder, in all versions.
    pub(crate) table: String,
    pub(crate) number: u64,
    /// Over definition and sources.
    sha256: String,
    /// Milliseconds since 1970.
    pub(crate) made: i64,
    /// As Delta writes it.
    pub(crate) schema: String,
    pub(crate) files: Vec<Part>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Its place, and the beginning of the SHA-256 of its bytes; also its name, but for the ending.
    pub(crate) id: String,
    pub(crate) size: u64,
    pub(crate) rows: u64,
}

/// What a view looked like, and then what it was.
struct Found {
    stamp: ViewStamp,
    sha256: String,
}

/// All versions of all views.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// Which version each view was found to be at, and what it looked like. Held while a version is computed, so that
    /// none is computed twice.
    known: Mutex<BTreeMap<String, (ViewStamp, u64)>>,
}

impl Cache {
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        files::private_folder(&folder)?;
        Ok(Self { folder, known: Mutex::default() })
    }

    /// The version that the view is at, which is computed if there is none of it yet.
    pub(crate) fn current(
        &self,
        id: &str,
        view: &SharedView,
        rows_per_file: usize,
        now: DateTime<Utc>,
    ) -> Result<Version> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = view.stamp()?;
        if let Some((_, number)) = known.get(id).filter(|(of, _)| *of == stamp) {
            return self.record(id, *number);
        }
        let found = Found { stamp, sha256: view.sha256()? };
        let newest = self.numbers(id)?.last().map(|number| self.record(id, *number)).transpose()?;
        let version = match newest {
            Some(newest) if newest.sha256 == found.sha256 => newest,
            newest => self.make(id, view, &found, newest.as_ref(), rows_per_file, now)?,
        };
        known.insert(id.to_owned(), (found.stamp, version.number));
        Ok(version)
    }

    /// A version by its number, if it is the newest or was until a short time ago.
    pub(crate) fn version(
        &self,
        id: &str,
        number: u64,
        keep: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Option<Version>> {
        let numbers = self.numbers(id)?;
        if !numbers.contains(&number) || self.is_over(id, &numbers, number, keep, now)? {
            return Ok(None);
        }
        self.record(id, number).map(Some)
    }

    /// Removes versions that can no longer be read.
    pub(crate) fn prune(&self, id: &str, keep: TimeDelta, now: DateTime<Utc>) -> Result<()> {
        let numbers = self.numbers(id)?;
        for number in &numbers {
            if self.is_over(id, &numbers, *number, keep, now)? {
                let folder = self.view(id).join(number.to_string());
                fs::remove_dir_all(&folder).map_err(|error| files::write_failed(&folder, &error))?;
            }
        }
        Ok(())
    }

    /// Opens a file of a version.
    pub(crate) fn file(&self, id: &str, number: u64, part: &Part) -> Result<File> {
        files::open(&self.view(id).join(number.to_string()).join(file_name(&part.id)))
    }

    /// Whether a newer version has been there for too long.
    fn is_over(&self, id: &str, numbers: &[u64], number: u64, keep: TimeDelta, now: DateTime<Utc>) -> Result<bool> {
        match numbers.iter().find(|other| **other > number) {
            Some(next) => Ok((now - keep).timestamp_millis() > self.record(id, *next)?.made),
            None => Ok(false),
        }
    }

    fn view(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// The numbers of all whole versions, in order.
    fn numbers(&self, id: &str) -> Result<Vec<u64>> {
        let folder = self.view(id);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| damaged(&folder, &error))?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| damaged(&folder, &error))?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn record(&self, id: &str, number: u64) -> Result<Version> {
        let path = self.view(id).join(number.to_string()).join(RECORD);
        serde_json::from_str(&files::read_private(&path)?).map_err(|error| damaged(&path, &error))
    }

    fn make(
        &self,
        id: &str,
        view: &SharedView,
        found: &Found,
        newest: Option<&Version>,
        rows_per_file: usize,
        now: DateTime<Utc>,
    ) -> Result<Version> {
        let folder = self.view(id);
        files::private_folder(&folder)?;
        remove_unfinished(&folder).map_err(|error| files::write_failed(&folder, &error))?;
        let staged = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&folder);
        let staged = staged.map_err(|error| files::write_failed(&folder, &error))?;
        let (schema, parts) = write_parts(id, view, staged.path(), rows_per_file)?;
        let version = Version {
            table: newest.map_or_else(new_table, |newest| Ok(newest.table.clone()))?,
            number: newest.map_or(0, |newest| newest.number + 1),
            sha256: found.sha256.clone(),
            made: now.timestamp_millis(),
            schema,
            files: parts,
        };
        let record = serde_json::to_vec(&version).map_err(|error| damaged(&folder, &error))?;
        files::write_new(&staged.path().join(RECORD), &record)?;
        // Before it has its name: a version of other rows than were digested would be taken for these for ever.
        if view.stamp()? != found.stamp {
            return Err(Fault::new(
                Code::StateFailed,
                format!("a file of view {id} was replaced while it was read"),
                "try again when no one writes to the view's files",
            ));
        }
        let path = folder.join(version.number.to_string());
        fs::rename(staged.path(), &path).map_err(|error| files::write_failed(&path, &error))?;
        let _ = staged.keep();
        files::sync_folder(&folder)?;
        Ok(version)
    }
}

/// Removes what a server left that was killed while it wrote: rows in the clear that nobody would ever look for.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Writes the view's rows as files of a folder; returns the schema and the files.
fn write_parts(id: &str, view: &SharedView, folder: &Path, rows_per_file: usize) -> Result<(String, Vec<Part>)> {
    let mut parts = Parts { folder, rows_per_file, schema: None, open: None, done: Vec::new() };
    // The runtime's sink has the runtime's errors; ours waits for the end.
    let mut failed = None;
    let columns = view.read(&mut |columns, batch| {
        let written = parts.write(id, columns, &batch);
        written.map_err(|fault| {
            let stop = glovebox::Fault::new(glovebox::Code::Internal, fault.fact(), fault.remedy());
            failed = Some(fault);
            stop
        })
    });
    if let Some(fault) = failed {
        return Err(fault);
    }
    let columns = columns?;
    let schema = SharedSchema::of(id, &columns)?;
    parts.close()?;
    Ok((schema.delta, parts.done))
}

/// Files that are being written, one after the other.
struct Parts<'a> {
    folder: &'a Path,
    rows_per_file: usize,
    schema: Option<SharedSchema>,
    open: Option<(ArrowWriter<File>, usize)>,
    done: Vec<Part>,
}

impl Parts<'_> {
    fn write(&mut self, id: &str, columns: &arrow::datatypes::Schema, batch: &RecordBatch) -> Result<()> {
        let schema = match self.schema.take() {
            Some(schema) => schema,
            None => SharedSchema::of(id, columns)?,
        };
        let batch = schema.cast(batch).map_err(|error| {
            Fault::new(
                Code::TypeUnsupported,
                // The error may quote a value.
                format!("a row of view {id} does not fit the types in which it would be shared"),
                format!("CAST columns in the view's SQL; the failure is of the kind {}", kind_of(&error)),
            )
        })?;
        let mut from = 0;
        while from < batch.num_rows() {
            let (mut writer, rows) = match self.open.take() {
                Some(open) => open,
                None => (self.new_writer(&schema)?, 0),
            };
            let count = (self.rows_per_file - rows).min(batch.num_rows() - from);
            writer.write(&batch.slice(from, count)).map_err(|error| unwritten(self.folder, &error))?;
            from += count;
            self.open = Some((writer, rows + count));
            if rows + count == self.rows_per_file {
                self.close()?;
            }
        }
        self.schema = Some(schema);
        Ok(())
    }

    fn new_writer(&self, schema: &SharedSchema) -> Result<ArrowWriter<File>> {
        let path = self.folder.join(file_name("part"));
        let file = File::create_new(&path).map_err(|error| files::write_failed(&path, &error))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        ArrowWriter::try_new(file, std::sync::Arc::clone(&schema.arrow), Some(properties))
            .map_err(|error| unwritten(self.folder, &error))
    }

    /// Ends the file that is open, and names it after its bytes.
    fn close(&mut self) -> Result<()> {
        let Some((writer, rows)) = self.open.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|error| unwritten(self.folder, &error))?;
        let path = self.folder.join(file_name("part"));
        let name = || {
            file.sync_all()?;
            let (sha256, size) = digest(File::open(&path)?)?;
            let id = format!("{:05}-{}", self.done.len(), &sha256[..32]);
            fs::rename(&path, self.folder.join(file_name(&id)))?;
            Ok(Part { id, size, rows: rows as u64 })
        };
        self.done.push(name().map_err(|error| files::write_failed(&path, &error))?);
        Ok(())
    }
}

fn file_name(id: &str) -> String {
    format!("{id}.parquet")
}

fn digest(mut file: File) -> io::Result<(String, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((HEXLOWER.encode(&digest.finalize()), size));
        }
        digest.update(&buffer[..read]);
        size += read as u64;
    }
}

/// An id that no other table has, here or elsewhere.
fn new_table() -> Result<String> {
    Ok(HEXLOWER.encode(&crate::secret::random::<16>()?))
}

fn kind_of(error: &arrow::error::ArrowError) -> &'static str {
    match error {
        arrow::error::ArrowError::CastError(_) => "cast",
        arrow::error::ArrowError::ComputeError(_) | arrow::error::ArrowError::ArithmeticOverflow(_) => "overflow",
        _ => "other",
    }
}

fn unwritten(folder: &Path, error: &parquet::errors::ParquetError) -> Fault {
    files::write_failed(folder, &io::Error::other(error.to_string()))
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::new(
        Code::StateFailed,
        format!("{} cannot be read: {error}", path.display()),
        "restore the folder, or remove it: versions then start again under another table id",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = r#"
version = 1
id = "grocery"
unit = "household"
[[party]]
id = "retailer"
[[view]]
id = "visits"
owner = "retailer"
unit = "household"
sources = { visits = "data/retailer/visits.csv" }
sql = "SELECT household FROM visits"
"#;

    /// Its rows would be another digest's, and be served under it whenever the old file came back.
    #[test]
    fn rows_that_came_after_the_digest_make_no_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = |inner: &str| folder.path().join(inner);
        fs::create_dir_all(path("room/data/retailer")).unwrap();
        fs::write(path("room/room.toml"), ROOM).unwrap();
        let put = |text: &str| {
            fs::write(path("new"), text).unwrap();
            fs::rename(path("new"), path("room/data/retailer/visits.csv")).unwrap();
        };
        put("household\n1\n");
        let room = glovebox::open_room(&path("room")).unwrap();
        let view = SharedView::find(&room, "retailer", "visits").unwrap();
        let cache = Cache::open(path("cache")).unwrap();
        let now = DateTime::UNIX_EPOCH;
        let found = Found { stamp: view.stamp().unwrap(), sha256: view.sha256().unwrap() };
        put("household\n2\n");
        let refused = cache.make("visits", &view, &found, None, 10, now).unwrap_err();
        assert_eq!(refused.code(), Code::StateFailed);
        assert_eq!(cache.numbers("visits").unwrap(), [0_u64; 0]);
        assert_eq!(cache.current("visits", &view, 10, now).unwrap().number, 0);
    }
}
