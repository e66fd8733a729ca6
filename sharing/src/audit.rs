//! Who asked for what, and what came of it: a line of JSON for every access, durable before the answer goes out.
//!
//! A line names what `shares.toml` knows by name, and nothing that a stranger wrote: no token, no path, no row.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::error::Result;
use crate::files;

/// One access.
#[derive(Debug, Serialize)]
pub(crate) struct Access<'a> {
    #[serde(serialize_with = "as_text")]
    pub(crate) time: DateTime<Utc>,
    /// None for whoever has no valid token and no valid address.
    pub(crate) recipient: Option<&'a str>,
    /// The kind of request.
    pub(crate) asked: &'a str,
    /// `share.schema.view`, where it is one that the recipient may read.
    pub(crate) view: Option<String>,
    pub(crate) version: Option<u64>,
    /// A file of the version.
    pub(crate) file: Option<&'a str>,
    /// The HTTP status.
    pub(crate) status: u16,
    /// Why not, as a code.
    pub(crate) code: Option<&'a str>,
    /// What the operator is told about a failure of the server.
    pub(crate) fact: Option<&'a str>,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: Mutex::new(files::append(path)?) })
    }

    /// Appends a line. An access that cannot be written down does not take place.
    pub(crate) fn append(&self, access: &Access<'_>) -> Result<()> {
        let write = || {
            let mut line = serde_json::to_vec(access)?;
            line.push(b'\n');
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&line)?;
            file.sync_data()
        };
        write().map_err(|error| files::write_failed(&self.path, &error))
    }
}

fn as_text<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
