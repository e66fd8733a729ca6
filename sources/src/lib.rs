//! Reads the tables of one source for a run: Delta tables in a folder, tables in object stores, and tables of PostgreSQL.
//!
//! A run starts this as a process of its own, so that whatever speaks to a network or reads a table format's log is
//! outside of the program that holds keys, ledger and joined rows. It is told what to do on standard input, and answers
//! on standard output, in the words of [`glovebox_source_protocol`]. It never writes to a source; where a run's recipient
//! wants the result put into a place like one, it is started for that.

mod delta;
mod objects;
mod postgres;
mod refuse;
mod steady;
mod store;
mod walls;
mod write;

use std::io::{Read, Write};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::error::ArrowError;
use glovebox_source_protocol::{
    Column, DESCRIBE, Description, Held, PIN, Pin, Place, READ, Read as Wanted, Refusal, RefusalCode, Request,
    RowsWriter, WRITE, schema,
};

use crate::refuse::{Result, refuse};
use crate::store::Store;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Does one task, and answers. What is refused once rows are on their way is not told: they just have no end.
///
/// Says whether there was an answer.
pub fn serve(task: &str, mut input: impl Read, mut output: impl Write) -> bool {
    let done = answer(task, &mut input, &mut output);
    let Err(Some(refusal)) = done else { return done.is_ok() };
    if let Ok(line) = serde_json::to_string(&refusal) {
        // The run that asked may be gone.
        let _ = writeln!(output, "{line}");
    }
    false
}

/// Why there is no answer; nothing where rows are on their way.
type Told<T> = std::result::Result<T, Option<Refusal>>;

fn answer(task: &str, input: &mut impl Read, output: &mut impl Write) -> Told<()> {
    if task == WRITE {
        return write::answer(input, output);
    }
    let request: Request = serde_json::from_reader(input).map_err(|error| {
        refuse(RefusalCode::RequestInvalid, format!("the request cannot be read: {error}"), "ask as the protocol says")
    })?;
    let table = Table::open(&request.place)?;
    match (task, request.read) {
        (DESCRIBE, None) => say(output, &Description { columns: table.columns()? }),
        (PIN, None) => pin(&table, request.version, request.hold, output),
        (READ, Some(wanted)) => read(&table, &wanted, output),
        _ => Err(Some(refuse(
            RefusalCode::RequestInvalid,
            format!("`{}` is no task that goes with this request", task.escape_debug()),
            "ask to describe, pin, read or write",
        ))),
    }
}

fn say(output: &mut impl Write, answer: &impl serde::Serialize) -> Told<()> {
    let line = serde_json::to_string(answer).map_err(|_| None)?;
    writeln!(output, "{line}").map_err(|_| None)
}

fn pin(table: &Table, version: Option<u64>, hold: bool, output: &mut impl Write) -> Told<()> {
    let (pin, held) = table.pin(version)?;
    say(output, &pin)?;
    if let Some(held) = held.filter(|_| hold) {
        say(output, &Held { snapshot: held.snapshot.clone() })?;
        output.flush().map_err(|_| None)?;
        held.wait();
    }
    Ok(())
}

fn read(table: &Table, wanted: &Wanted, output: &mut impl Write) -> Told<()> {
    let column = |name: &String| wanted.pin.columns.iter().find(|column| column.name == *name).cloned();
    let columns: Option<Vec<Column>> = wanted.columns.iter().map(column).collect();
    let columns = columns.ok_or_else(|| {
        refuse(RefusalCode::RequestInvalid, "a wanted column is not pinned", "ask for columns of the pin")
    })?;
    let batches = table.read(wanted)?;
    let mut rows = RowsWriter::new(output, &schema(&columns)).map_err(|_| None)?;
    for batch in batches {
        let batch = batch.map_err(|_| None)?;
        rows.write(&narrowed(&batch, &columns).map_err(|_| None)?).map_err(|_| None)?;
    }
    rows.end().map_err(|_| None)
}

/// The columns in their order, of the types in which they cross. What does not fit is an error, and not a null.
fn narrowed(batch: &RecordBatch, columns: &[Column]) -> std::result::Result<RecordBatch, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let find = |column: &Column| {
        let found = batch.column_by_name(&column.name);
        let found = found.ok_or_else(|| ArrowError::SchemaError("a column is missing".into()))?;
        cast_with_options(found, &column.kind.data_type(), &strict)
    };
    let arrays = columns.iter().map(find).collect::<std::result::Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// A table of any kind.
enum Table {
    Delta(delta::DeltaTable),
    Object(objects::Object),
    Postgres(Box<postgres::PostgresTable>),
}

impl Table {
    fn open(place: &Place) -> Result<Self> {
        match place {
            Place::Delta => {
                walls::close_all_but_this_folder()?;
                Ok(Self::Delta(delta::DeltaTable::new(Store::of_this_folder()?)))
            }
            Place::Behind { connection, table } if connection.kind == "postgres" => {
                Ok(Self::Postgres(Box::new(postgres::PostgresTable::new(connection, table)?)))
            }
            Place::Behind { connection, table } => {
                let store = Store::behind(connection, table)?;
                Ok(match objects::Kind::of(table) {
                    Some(kind) => Self::Object(objects::Object::new(store, kind)),
                    None => Self::Delta(delta::DeltaTable::new(store)),
                })
            }
        }
    }

    fn columns(&self) -> Result<Vec<Column>> {
        match self {
            Self::Delta(table) => table.columns(),
            Self::Object(object) => object.columns(),
            Self::Postgres(table) => table.columns(),
        }
    }

    /// Objects have no versions of their own, nor have tables of PostgreSQL, but those can be kept as they are.
    fn pin(&self, version: Option<u64>) -> Result<(Pin, Option<postgres::Hold>)> {
        match self {
            Self::Delta(table) => Ok((table.pin(version)?, None)),
            Self::Object(object) => Ok((object.pin()?, None)),
            Self::Postgres(table) => table.pin().map(|(pin, hold)| (pin, Some(hold))),
        }
    }

    fn read(&self, wanted: &Wanted) -> Result<Batches> {
        match self {
            Self::Delta(table) => table.read(wanted),
            Self::Object(object) => object.read(wanted),
            Self::Postgres(table) => table.read(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, TimestampSecondArray};
    use glovebox_source_protocol::ColumnType;

    use super::*;

    #[test]
    fn a_moment_that_does_not_fit_is_an_error_and_no_null() {
        let columns = [Column { name: "at".into(), kind: ColumnType::Timestamp, nullable: true }];
        let crossed = |seconds| {
            let moments: ArrayRef = Arc::new(TimestampSecondArray::from(vec![seconds]));
            narrowed(&RecordBatch::try_from_iter([("at", moments)]).unwrap(), &columns)
        };
        assert_eq!(crossed(7).unwrap().column(0).null_count(), 0);
        crossed(i64::MAX).unwrap_err();
    }
}
