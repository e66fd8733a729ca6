//! Puts a result into a table of PostgreSQL, in one transaction with the note of its run.

use std::io::Write as _;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use glovebox_source_protocol::{Refusal, Write};
use postgres::{Client, Error};

use super::{PostgresTable, identifier};
use crate::refuse::Result;
use crate::write::{differs, refused, unfit};

/// Beside the table: which runs it has.
const RUNS: &str = "glovebox_runs";

const SETTINGS: &str = "SET search_path = pg_catalog; SET standard_conforming_strings = on; \
                        SET synchronous_commit = on; SET lock_timeout = '30s'";

/// Inserts the rows, unless the run's are there; says whether they were.
pub(crate) fn insert(asked: &Write, table: &str, rows: &RecordBatch) -> Result<bool> {
    let table = PostgresTable::new(&asked.connection, table)?;
    let mut client = table.connect().map_err(|error| told(&error))?;
    inserted(&mut client, &table, asked, rows).map_err(|error| told(&error))?
}

fn inserted(
    client: &mut Client,
    table: &PostgresTable,
    asked: &Write,
    rows: &RecordBatch,
) -> std::result::Result<Result<bool>, Error> {
    client.batch_execute(SETTINGS)?;
    let runs = format!("{}.{RUNS}", identifier(&table.schema));
    make_runs(client, &table.schema, &runs)?;

    // A second writer of the same run waits here for the first, and then finds its note.
    let mut transaction = client.transaction()?;
    let note = format!("INSERT INTO {runs} (run_id, name, sha256) VALUES ($1, $2, $3) ON CONFLICT (run_id) DO NOTHING");
    if transaction.execute(&note, &[&asked.run_id, &table.name, &asked.sha256])? == 0 {
        let known = format!("SELECT name = $2 AND sha256 = $3 FROM {runs} WHERE run_id = $1");
        let is_same = transaction.query_one(&known, &[&asked.run_id, &table.name, &asked.sha256])?.get(0);
        return Ok(if is_same { Ok(true) } else { Err(differs(&format!("a note in {RUNS}"))) });
    }
    let text = match text(rows) {
        Ok(text) => text,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let schema = rows.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| identifier(field.name())).collect();
    let mut into = transaction.copy_in(&format!("COPY {} ({}) FROM STDIN", table.quoted(), names.join(", ")))?;
    // Why the server takes no more is told at the end.
    let sent = into.write_all(&text);
    let taken = into.finish()?;
    if sent.is_err() || taken != rows.num_rows() as u64 {
        return Ok(Err(refused("the server did not take all rows")));
    }
    transaction.commit()?;
    Ok(Ok(false))
}

fn make_runs(client: &mut Client, schema: &str, runs: &str) -> std::result::Result<(), Error> {
    let there = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relname = $2)";
    if client.query_one(there, &[&schema, &RUNS])?.get(0) {
        return Ok(());
    }
    client.batch_execute(&format!(
        "CREATE TABLE IF NOT EXISTS {runs} (run_id text PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, \
         written_at timestamptz NOT NULL DEFAULT now())"
    ))
}

/// Rows in the text form of COPY, of which the server makes the types of its columns.
fn text(rows: &RecordBatch) -> Result<Vec<u8>> {
    let cells = rows.columns().iter().map(|column| cast(column, &DataType::Utf8));
    let cells: Vec<_> = cells.collect::<std::result::Result<_, _>>().map_err(|_| unfit("a column has no text"))?;
    let mut text = Vec::new();
    for row in 0..rows.num_rows() {
        for (index, column) in cells.iter().enumerate() {
            if index > 0 {
                text.push(b'\t');
            }
            if column.is_null(row) {
                text.extend(b"\\N");
            } else {
                column.as_string::<i32>().value(row).bytes().for_each(|byte| escape(byte, &mut text));
            }
        }
        text.push(b'\n');
    }
    Ok(text)
}

fn escape(byte: u8, text: &mut Vec<u8>) {
    let escaped = match byte {
        b'\t' => b't',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\\' => b'\\',
        _ => return text.push(byte),
    };
    text.extend([b'\\', escaped]);
}

fn told(error: &Error) -> Refusal {
    refused(super::told(error).fact)
}
