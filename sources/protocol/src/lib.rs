//! What a run and the reader of one of its sources say to each other, and what puts a result into its place.
//!
//! A reader is a program that is called with [`DESCRIBE`], [`PIN`] or [`READ`], gets one JSON [`Request`] on its standard
//! input, and writes one JSON line, or rows as an Arrow IPC stream that is followed by an [`End`] line. What it refuses
//! is one [`Refusal`] line. Readers may be written by anyone, in any language: nothing here believes one.

mod reader;
mod rows;
pub mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

pub use reader::{Batches, Hold, Table, serve, tell};
pub use rows::{RowsReader, RowsWriter};

/// Answers with a [`Description`]; looks at no row.
pub const DESCRIBE: &str = "describe";
/// Answers with a [`Pin`]; of what is in the rows it tells a digest at most.
pub const PIN: &str = "pin";
/// Answers with the rows that a pin names.
pub const READ: &str = "read";

/// Puts a result into its place, once for each run; answers with [`Written`].
pub const WRITE: &str = "write";

/// What a writer is asked, in one line. The result's bytes follow it, to the end of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The way there.
    pub connection: Connection,
    /// Where behind the connection.
    pub to: Target,
    /// Whose result it is; a place has each run's at most once.
    pub run_id: String,
    /// `parquet`, `csv` or `arrow`.
    pub format: String,
    /// SHA-256 of the result's bytes.
    pub sha256: String,
    /// What opens the receipt's commitment to them: the text of a file.
    pub opening: String,
}

/// Where a result goes behind a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// Into this folder of a store, as an object of its own, with its opening beside it.
    Folder(String),
    /// Into this table, at its end.
    Table(String),
}

/// The result is in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// And was there already.
    pub was_there: bool,
}

/// What a reader is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where the table is.
    pub place: Place,
    /// Which version to [`PIN`], where it is not the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// For [`PIN`]: whoever asks will read. A reader that can keep the pinned state says so by a [`Held`] line after the
    /// pin, and keeps it until nobody reads its output; any other one just ends.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold: bool,
    /// What of it is wanted, for [`READ`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What follows a [`Pin`] that is being kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// By what name it is read, as long as the process that answered is there.
    pub snapshot: String,
}

/// Where a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Place {
    /// The folder in which the reader is started is a Delta table.
    Delta,
    /// A table behind a connection, named as the connection's reader names tables.
    Behind {
        /// The way there.
        connection: Connection,
        /// The table's name.
        table: String,
    },
}

/// An entry of the file of connections. It says where secrets are and never what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The party whose tables are there: views of others cannot name the connection.
    pub owner: String,
    /// What is there: `s3`, `azure`, `gcs` or `postgres`, or what another program reads.
    pub kind: String,
    /// The program that reads it, where it is not the one that comes with the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Whatever else the reader must know, and anyone may.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Options that nobody else may know.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Secret {
    /// In a variable of the environment: the reader gets those that are named, and no others.
    Environment(String),
    /// In a file that its owner alone may read.
    File(PathBuf),
}

/// Which rows are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// What exactly is read. A reader that cannot give just this refuses.
    pub pin: Pin,
    /// The wanted columns, in this order; with none, rows are only counted.
    pub columns: Vec<String>,
    /// Rows that fail any of these may be left out, and need not be: the run filters again.
    pub hints: Vec<Hint>,
    /// What the pinned state is kept as, where it is being kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// A condition on one column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// The column.
    pub column: String,
    /// How it compares.
    pub is: Comparison,
    /// With what.
    pub to: Literal,
}

/// How a column compares with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A value that a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Literal {
    Int64(i64),
    Utf8(String),
}

/// What a table has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its columns, in order. Those of no [`ColumnType`] are left out.
    pub columns: Vec<Column>,
}

/// What exactly is read: equal pins are equal rows. Its digest stands in the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// What kind of table it is: `delta`, `parquet`, `csv`, `arrow`, or another reader's own word.
    pub kind: String,
    /// Where it is, without anything secret.
    pub location: String,
    /// Which version of the table, where tables have versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Every file with rows, by path.
    pub files: Vec<DataFile>,
}

/// A version of a table that has a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The table's own id.
    pub table: String,
    /// The number of the version.
    pub number: u64,
    /// What a reader must understand: the protocol's version, and features by name.
    pub protocol: i32,
    /// Features, in order.
    pub features: Vec<String>,
    /// SHA-256 of the schema as the log has it.
    pub schema_sha256: String,
}

/// A file with rows. It is the same one if all of this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Its path below the table.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, where reading all of them costs little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the store calls these bytes, where it is a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Values of all rows that stand in the log and not in the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partition: BTreeMap<String, String>,
    /// SHA-256 of the numbers of the rows that were deleted, each as eight bytes, the lowest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_sha256: Option<String>,
}

/// Name and type of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether there may be nulls.
    pub nullable: bool,
}

/// The types that cross: whatever widens to one of them without loss is sent as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ColumnType {
    Boolean,
    Int64,
    Float64,
    Utf8,
    Date,
    /// Microseconds without a time zone.
    Timestamp,
    /// Microseconds in UTC.
    Instant,
    /// Digits, and how many of them stand after the point.
    Decimal(u8, i8),
}

impl ColumnType {
    /// The type in which an Arrow type crosses.
    #[must_use]
    pub fn of(kind: &DataType) -> Option<Self> {
        use DataType as T;
        match kind {
            T::Boolean => Some(Self::Boolean),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => Some(Self::Int64),
            T::Float32 | T::Float64 => Some(Self::Float64),
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Some(Self::Utf8),
            T::Date32 => Some(Self::Date),
            T::Timestamp(_, None) => Some(Self::Timestamp),
            T::Timestamp(_, Some(_)) => Some(Self::Instant),
            T::Decimal128(digits, scale) => Some(Self::Decimal(*digits, *scale)),
            T::Dictionary(_, values) => Self::of(values),
            _ => None,
        }
    }

    /// The Arrow type in which it is sent.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Utf8 => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal(digits, scale) => DataType::Decimal128(digits, scale),
        }
    }
}

/// The Arrow schema in which columns are sent.
#[must_use]
pub fn schema(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, column.kind.data_type(), column.nullable);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// What follows the stream's own end: rows that were sent are all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many were sent.
    pub rows: u64,
}

/// Why a reader gives no answer. It then ends with exit code 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// One of a closed set.
    pub code: RefusalCode,
    /// What is so, in one line.
    pub fact: String,
    /// What to do about it, in one line.
    pub remedy: String,
}

/// Why a reader gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    /// What is asked makes no sense to this reader, or the connection's entry does not.
    RequestInvalid,
    /// There is no such table, or it cannot be read.
    SourceUnreadable,
    /// What the pin names is not there any more, or is something else.
    SourceChanged,
    /// The table needs what this reader does not have.
    SourceUnsupported,
    /// The place of a result cannot be written to.
    TargetUnwritable,
    /// The place has something else under the name of the run.
    ResultDiffers,
}

impl RefusalCode {
    /// Its name, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestInvalid => "REQUEST_INVALID",
            Self::SourceUnreadable => "SOURCE_UNREADABLE",
            Self::SourceChanged => "SOURCE_CHANGED",
            Self::SourceUnsupported => "SOURCE_UNSUPPORTED",
            Self::TargetUnwritable => "TARGET_UNWRITABLE",
            Self::ResultDiffers => "RESULT_DIFFERS",
        }
    }
}
