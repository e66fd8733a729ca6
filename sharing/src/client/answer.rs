//! The lines that a query is answered with, read to their end in either format.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::snapshot::PinnedFile;
use crate::error::{Code, Fault, Result};
use crate::protocol::{EndStreamAction, Format};

/// How many files a table may have.
const FILES_MAX: usize = 100_000;
/// What this client does for a reader, of all that a Delta table may need.
const READER_FEATURES: [&str; 1] = ["timestampNtz"];

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) table_id: String,
    pub(super) min_reader_version: u32,
    pub(super) schema: String,
    pub(super) partition_columns: Vec<String>,
    pub(super) files: Vec<(PinnedFile, String)>,
    /// When the first of the addresses ends, in milliseconds since 1970 by the server's clock.
    pub(super) expires: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protocol {
    min_reader_version: u32,
    #[serde(default)]
    reader_features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    id: String,
    schema_string: String,
    #[serde(default)]
    partition_columns: Vec<String>,
    #[serde(default)]
    configuration: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    id: String,
    size: u64,
    url: Option<String>,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    expiration_timestamp: Option<i64>,
    delta_single_action: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    add: Option<Add>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    deletion_vector: Option<Value>,
}

/// Reads the lines. Where the server says that its end shows, it must.
pub(super) fn parse(text: &str, format: Format, end_shows: bool) -> Result<Answer> {
    let (mut protocol, mut metadata, mut end) = (None, None, None::<EndStreamAction>);
    let (mut files, mut expires) = (Vec::new(), None);
    for line in text.lines() {
        if end.is_some() {
            return Err(invalid("something follows its end"));
        }
        let (kind, value) = action(line, text)?;
        match kind.as_str() {
            "protocol" => protocol = Some(read::<Protocol>(&kind, unwrap(value, format, "deltaProtocol"))?),
            "metaData" => metadata = Some(read::<Metadata>(&kind, unwrap(value, format, "deltaMetadata"))?),
            "file" => {
                let file: File = read(&kind, value)?;
                expires = earlier(expires, file.expiration_timestamp);
                files.push(pinned(file, format)?);
            }
            "endStreamAction" => end = Some(read(&kind, value)?),
            _ => return Err(invalid(format!("it has a line of the unknown kind {kind:?}"))),
        }
        if files.len() > FILES_MAX {
            return Err(Fault::new(
                Code::Oversize,
                format!("the table has more than {FILES_MAX} files"),
                "ask the provider to put them together",
            ));
        }
    }
    if end_shows && end.is_none() {
        return Err(truncated("its last line is missing"));
    }
    let end = end.unwrap_or_default();
    if let Some(message) = end.error_message {
        return Err(Fault::new(Code::QueryFailed, format!("the server gave up: {message}"), "try again later"));
    }
    // No page was asked for, so there is none to go on with.
    if end.next_page_token.is_some_and(|token| !token.is_empty()) {
        return Err(invalid("it is one page of several"));
    }
    let protocol = protocol.ok_or_else(|| truncated("it has no protocol"))?;
    let metadata = metadata.ok_or_else(|| truncated("it has no metadata"))?;
    require_readable(&protocol, &metadata)?;
    let ids: BTreeSet<&str> = files.iter().map(|(file, _)| file.id.as_str()).collect();
    if ids.len() < files.len() {
        return Err(invalid("two of its files have one id"));
    }
    Ok(Answer {
        table_id: metadata.id,
        min_reader_version: protocol.min_reader_version,
        schema: metadata.schema_string,
        partition_columns: metadata.partition_columns,
        files,
        expires: earlier(expires, end.min_url_expiration_timestamp),
    })
}

/// A line is an object with one entry, whose name says what it is.
fn action(line: &str, text: &str) -> Result<(String, Value)> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        if text.ends_with(line) {
            truncated("its last line is cut off")
        } else {
            invalid(format!("a line is not JSON: {error}"))
        }
    })?;
    let mut entries = object.into_iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry),
        _ => Err(invalid("a line has more or less than one action")),
    }
}

/// In the format of Delta, actions are wrapped once more.
fn unwrap(mut value: Value, format: Format, wrapper: &str) -> Value {
    match format {
        Format::Parquet => value,
        Format::Delta => value.get_mut(wrapper).map(Value::take).unwrap_or_default(),
    }
}

fn read<T: serde::de::DeserializeOwned>(kind: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| invalid(format!("a line of the kind {kind} is malformed: {error}")))
}

fn pinned(file: File, format: Format) -> Result<(PinnedFile, String)> {
    let File { id, size, url, partition_values, delta_single_action, .. } = file;
    let (url, partition_values) = match format {
        Format::Parquet => (url.ok_or_else(|| invalid("a file has no address"))?, partition_values),
        Format::Delta => {
            let add = delta_single_action.and_then(|action| action.add);
            let add = add.ok_or_else(|| invalid("a file is not one that a snapshot has"))?;
            // Its rows would come back from the dead.
            if add.deletion_vector.is_some() {
                return Err(unsupported("deletion vectors"));
            }
            (add.path, add.partition_values)
        }
    };
    Ok((PinnedFile { id, size, partition_values }, url))
}

/// Refuses a table whose files mean something else than their rows.
fn require_readable(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    if metadata.configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Err(unsupported("column mapping"));
    }
    if protocol.min_reader_version > 3 {
        return Err(unsupported(&format!("version {} of the protocol", protocol.min_reader_version)));
    }
    match protocol.reader_features.iter().find(|feature| !READER_FEATURES.contains(&feature.as_str())) {
        Some(feature) => Err(unsupported(feature)),
        None => Ok(()),
    }
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

fn unsupported(feature: &str) -> Fault {
    Fault::new(
        Code::FeatureUnsupported,
        format!("the table needs {feature}, which this client does not do"),
        "ask the provider for a table without it",
    )
}

fn invalid(why: impl AsRef<str>) -> Fault {
    Fault::new(Code::AnswerInvalid, format!("the answer is malformed: {}", why.as_ref()), "ask whoever runs the server")
}

fn truncated(why: &str) -> Fault {
    Fault::new(Code::AnswerTruncated, format!("the answer is not whole: {why}"), "try again; nothing was kept")
}
