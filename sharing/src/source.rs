//! The reader of shared tables for a run: what others share, in the words of [`glovebox_source_protocol`].
//!
//! A run starts it as a process of its own, which holds the token and sees the rows of this one table. A pin is the version
//! with all of its files, by the ids under which the same bytes are served every time.

mod columns;

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use glovebox::Clock;
use glovebox_source_protocol::{
    Batches, Column, Connection, DataFile, Hold, Pin, Place, Read as Wanted, Refusal, RefusalCode, Secret,
    Table as Source, Version, schema, serve,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::client::{self, Client, Profile, Query, Snapshot, Table};
use crate::error::{Code, Fault};

/// What a connection to a server of shares says of itself.
const KIND: &str = "delta-sharing";
/// The one secret of such a connection: the profile file.
const PROFILE: &str = "profile";

/// Does one task of a run, and answers; says whether there was an answer.
pub fn answer(task: &str, input: impl Read, output: impl Write) -> bool {
    serve(task, input, output, |place| Ok(Box::new(Shared::open(place)?)))
}

/// A table that others share.
struct Shared {
    client: Arc<Client>,
    table: Table,
}

impl Shared {
    fn open(place: &Place) -> Result<Self, Refusal> {
        let Place::Behind { connection, table } = place else { return Err(invalid("this reads what servers share")) };
        let profile = profile(connection)?;
        let names: Vec<&str> = table.split('.').collect();
        let [share, schema, name] = names[..] else {
            return Err(invalid(format!("the table `{}` is not of the form share.schema.table", table.escape_debug())));
        };
        let table = Table { share: share.into(), schema: schema.into(), name: name.into() };
        Ok(Self { client: Arc::new(Client::new(profile, Clock::System)), table })
    }

    fn snapshot(&self, version: Option<u64>) -> Result<Snapshot, Refusal> {
        self.client.query(&self.table, &Query { version, ..Query::default() }).map_err(refusal)
    }

    fn pin_of(&self, pin: &client::Pin) -> Result<Pin, Refusal> {
        let file = |file: &client::PinnedFile| DataFile {
            path: file.id.clone(),
            size: file.size,
            sha256: None,
            etag: None,
            partition: file
                .partition_values
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
            deleted_sha256: None,
        };
        let mut files: Vec<_> = pin.files.iter().map(file).collect();
        // In whatever order the server names them.
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let version = Version {
            table: pin.table_id.clone(),
            number: pin.version,
            protocol: pin.min_reader_version.try_into().unwrap_or(i32::MAX),
            features: Vec::new(),
            schema_sha256: data_encoding::HEXLOWER.encode(&Sha256::digest(&pin.schema)),
        };
        let location = format!("{}/{}", self.client.endpoint(), self.table);
        Ok(Pin { kind: KIND.into(), location, version: Some(version), columns: columns::read(&pin.schema)?, files })
    }
}

impl Source for Shared {
    fn columns(&self) -> Result<Vec<Column>, Refusal> {
        columns::read(&self.snapshot(None)?.pin().schema)
    }

    /// A version stays as it is.
    fn pin(&self, version: Option<u64>) -> Result<(Pin, Option<Box<dyn Hold>>), Refusal> {
        Ok((self.pin_of(self.snapshot(version)?.pin())?, None))
    }

    fn read(&self, wanted: &Wanted) -> Result<Batches, Refusal> {
        let number = wanted.pin.version.as_ref().map(|version| version.number);
        let mut snapshot = self.snapshot(Some(number.ok_or_else(|| changed("the pin names no version"))?))?;
        if self.pin_of(snapshot.pin())? != wanted.pin {
            return Err(changed("the version is not what it was"));
        }
        let columns = wanted.columns.iter().filter_map(|name| wanted.pin.columns.iter().find(|c| c.name == *name));
        let columns: Vec<Column> = columns.cloned().collect();
        let client = Arc::clone(&self.client);
        let read = move |file| {
            let batches = read_file(&client, &mut snapshot, file, &columns);
            batches.unwrap_or_else(|refusal| Box::new(std::iter::once(Err(refusal))))
        };
        Ok(Box::new((0..wanted.pin.files.len()).flat_map(read)))
    }
}

/// A file's rows. It is fetched whole before the first of them is read: a Parquet file begins at its end.
fn read_file(client: &Client, snapshot: &mut Snapshot, file: usize, columns: &[Column]) -> Result<Batches, Refusal> {
    let mut bytes = client.open(snapshot, file).map_err(refusal)?;
    let fetched = fetch(&mut bytes).map_err(|error| unreadable(format!("a file was not fetched: {error}")))?;
    let values = columns::partition(snapshot.pin(), file, columns)?;
    let broken = |_| unreadable("a file is not a readable Parquet file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(fetched).map_err(broken)?;
    let names = columns.iter().map(|column| column.name.as_str());
    let mask = ProjectionMask::columns(reader.parquet_schema(), names);
    let rows = reader.with_projection(mask).build().map_err(broken)?;
    let columns = columns.to_vec();
    Ok(Box::new(rows.map(move |batch| {
        let whole = batch.and_then(|batch| with_partition(&batch, &columns, &values));
        whole.map_err(|_| unreadable("a file does not have the rows that were pinned"))
    })))
}

/// Into a file that has no name, so that nobody else finds it and nothing is left of it.
fn fetch(bytes: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(bytes, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// The columns of the file, those that stand in no file, and nulls where a column is younger than the file.
fn with_partition(
    batch: &RecordBatch,
    columns: &[Column],
    values: &[Option<ArrayRef>],
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let array = |(column, value): (&Column, &Option<ArrayRef>)| match (value, batch.column_by_name(&column.name)) {
        (Some(value), _) => columns::repeated(value, rows),
        (None, Some(array)) => columns::strictly(array, column.kind),
        (None, None) => Ok(new_null_array(&column.kind.data_type(), rows)),
    };
    let arrays = columns.iter().zip(values).map(array).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // A null where there may be none is an error here.
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
}

fn profile(connection: &Connection) -> Result<Profile, Refusal> {
    if connection.kind != KIND || !connection.options.is_empty() || connection.secrets.len() != 1 {
        return Err(invalid(format!("a connection of the kind {KIND} has the secret `{PROFILE}` and nothing else")));
    }
    match connection.secrets.get(PROFILE) {
        Some(Secret::File(path)) => Profile::read(path).map_err(refusal),
        Some(Secret::Environment(variable)) => {
            let text = std::env::var(variable).map_err(|_| invalid(format!("the variable {variable} is not set")))?;
            Profile::parse(&text).map_err(refusal)
        }
        None => Err(invalid(format!("the connection has no secret `{PROFILE}`"))),
    }
}

fn refusal(fault: Fault) -> Refusal {
    let code = match fault.code() {
        Code::PinLost => RefusalCode::SourceChanged,
        Code::FeatureUnsupported | Code::FormatUnexpected => RefusalCode::SourceUnsupported,
        Code::ProfileInvalid | Code::FileExposed | Code::FileUnreadable | Code::AddressRefused => {
            RefusalCode::RequestInvalid
        }
        _ => RefusalCode::SourceUnreadable,
    };
    Refusal::new(code, fault.fact(), fault.remedy())
}

fn invalid(fact: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::RequestInvalid, fact, "correct the connection's entry in connections.toml")
}

fn changed(fact: &str) -> Refusal {
    Refusal::new(RefusalCode::SourceChanged, fact, "run again, so that the table is pinned as it is now")
}

fn unreadable(fact: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::SourceUnreadable, fact, "try again; if it stays so, ask the provider")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array as _, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use glovebox_source_protocol::ColumnType;

    use super::*;

    #[test]
    fn a_column_that_a_file_lacks_is_null_where_it_may_be() {
        let file = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let batch = RecordBatch::try_new(Arc::new(file), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
        let columns = |nullable| {
            let column = |name: &str, nullable| Column { name: name.into(), kind: ColumnType::Int64, nullable };
            [column("younger", nullable), column("id", false)]
        };
        let read = with_partition(&batch, &columns(true), &[None, None]).unwrap();
        assert_eq!((read.column(0).null_count(), read.column(1).null_count()), (2, 0));
        with_partition(&batch, &columns(false), &[None, None]).unwrap_err();
        // Rows that are only counted.
        assert_eq!(with_partition(&batch, &[], &[]).unwrap().num_rows(), 2);
    }

    #[test]
    fn a_connection_has_a_profile_and_nothing_else() {
        let honest = Connection {
            owner: "retailer".into(),
            kind: KIND.into(),
            program: None,
            options: BTreeMap::new(),
            secrets: BTreeMap::from([(PROFILE.into(), Secret::File("/nonexistent/retailer.share".into()))]),
        };
        let why = |connection: &Connection| profile(connection).unwrap_err().fact;
        assert!(why(&honest).contains("/nonexistent/retailer.share"), "{}", why(&honest));
        let with = |change: &dyn Fn(&mut Connection)| {
            let mut connection = honest.clone();
            change(&mut connection);
            why(&connection)
        };
        let only = "a connection of the kind delta-sharing has the secret `profile` and nothing else";
        assert_eq!(with(&|connection| connection.kind = "s3".into()), only);
        assert_eq!(with(&|connection| drop(connection.options.insert("endpoint".into(), "x".into()))), only);
        assert_eq!(with(&|connection| connection.secrets.clear()), only);
        let other = with(&|connection| {
            connection.secrets = BTreeMap::from([("token".into(), Secret::Environment("T".into()))]);
        });
        assert_eq!(other, "the connection has no secret `profile`");
    }
}
