//! A version of a table: what it is for good, and where its files are for a while.

use std::collections::BTreeMap;
use std::io::{self, Read};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::{Query, Table, time};
use crate::error::{Code, Fault, Result};
use crate::protocol::Format;

/// Addresses are asked for again when they have less time left.
const MARGIN: TimeDelta = TimeDelta::minutes(2);

/// What tells this version of a table from any other. It is the same whenever it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The table, as it was asked for.
    pub table: Table,
    /// The table's own id.
    pub table_id: String,
    /// The version.
    pub version: u64,
    /// Which version of the protocol its reader must know.
    pub min_reader_version: u32,
    /// The columns, as Delta writes them.
    pub schema: String,
    /// The columns that stand in no file, and have one value for each.
    pub partition_columns: Vec<String>,
    /// The files.
    pub files: Vec<PinnedFile>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// Its id, under which the same bytes are served every time.
    pub id: String,
    /// Its length in bytes.
    pub size: u64,
    /// The values of the partition columns.
    pub partition_values: BTreeMap<String, Option<String>>,
}

/// A pin, and where its files are for a while.
#[derive(Clone)]
pub struct Snapshot {
    pin: Pin,
    format: Format,
    query: Query,
    urls: Vec<String>,
    /// In milliseconds since 1970, by the server's clock.
    expires: Option<i64>,
    /// By how much that clock is ahead of ours.
    ahead: TimeDelta,
}

impl std::fmt::Debug for Snapshot {
    /// The address of a file is a key to it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({:?})", self.pin)
    }
}

impl Snapshot {
    pub(super) fn new(
        table: Table,
        version: u64,
        format: Format,
        query: Query,
        answer: Answer,
        ahead: TimeDelta,
    ) -> Self {
        let Answer { table_id, min_reader_version, schema, partition_columns, files, expires } = answer;
        let (files, urls) = files.into_iter().unzip();
        let pin = Pin { table, table_id, version, min_reader_version, schema, partition_columns, files };
        Self { pin, format, query, urls, expires, ahead }
    }

    /// What it is for good.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        &self.pin
    }

    /// The format of the server's answer.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether the addresses are about to end. Their time is told by the clock that set it.
    pub(super) fn ends_soon(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_some_and(|expires| (now + self.ahead + MARGIN).timestamp_millis() >= expires)
    }

    /// The same question about this version.
    pub(super) fn query_again(&self) -> Query {
        Query { version: Some(self.pin.version), formats: vec![self.format], ..self.query.clone() }
    }

    /// Takes over new addresses of the same files.
    pub(super) fn renew(&mut self, again: &Self) -> Result<()> {
        let by_id = |pin: &Pin| -> BTreeMap<String, PinnedFile> {
            pin.files.iter().map(|file| (file.id.clone(), file.clone())).collect()
        };
        let without_files = |pin: &Pin| Pin { files: Vec::new(), ..pin.clone() };
        if by_id(&again.pin) != by_id(&self.pin) || without_files(&again.pin) != without_files(&self.pin) {
            return Err(Fault::new(
                Code::PinLost,
                format!("version {} of {} is not what it was", self.pin.version, self.pin.table),
                "pin it anew, and read all of it from one pin",
            ));
        }
        // In whatever order they came: a place in the pin means the same file as before.
        let urls: BTreeMap<&str, &String> =
            again.pin.files.iter().map(|file| file.id.as_str()).zip(&again.urls).collect();
        let urls =
            self.pin.files.iter().filter_map(|file| urls.get(file.id.as_str()).map(|url| (*url).clone())).collect();
        (self.urls, self.expires, self.ahead) = (urls, again.expires, again.ahead);
        Ok(())
    }

    /// Refuses addresses that have ended before they arrived.
    pub(super) fn require_usable(&self, now: DateTime<Utc>) -> Result<()> {
        let there = now + self.ahead;
        match self.expires.filter(|expires| there.timestamp_millis() >= *expires) {
            None => Ok(()),
            Some(expires) => Err(Fault::new(
                Code::UrlExpired,
                format!(
                    "new addresses of files expired at {}, and it is {} at the server",
                    time(expires),
                    there.to_rfc3339()
                ),
                "ask whoever runs the server to set its clocks, or to sign addresses for longer",
            )),
        }
    }

    pub(super) fn file(&self, index: usize) -> Result<(&PinnedFile, &str)> {
        let found = self.pin.files.get(index).zip(self.urls.get(index));
        found.map(|(file, url)| (file, url.as_str())).ok_or_else(|| {
            Fault::new(
                Code::Usage,
                format!("the pin has {} files, and none at place {index}", self.pin.files.len()),
                "count from 0",
            )
        })
    }
}

/// The bytes of a file: as many as were pinned, or an error at the end.
pub struct FileStream {
    id: String,
    left: u64,
    bytes: Box<dyn Read + Send>,
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileStream({}, {} bytes left)", self.id, self.left)
    }
}

impl FileStream {
    pub(super) fn new(file: &PinnedFile, bytes: impl Read + Send + 'static) -> Self {
        Self { id: file.id.clone(), left: file.size, bytes: Box::new(bytes) }
    }

    fn wrong_length(&self, how: &str) -> io::Error {
        io::Error::other(Fault::new(
            Code::AnswerTruncated,
            format!("file {} is {how} than was pinned", self.id),
            "try again; what was read of it is not the file",
        ))
    }
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.bytes.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) if count > 0 || left == 0 => {
                self.left = left;
                Ok(count)
            }
            Some(_) => Err(self.wrong_length("shorter")),
            None => Err(self.wrong_length("longer")),
        }
    }
}
