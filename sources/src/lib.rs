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

use glovebox_source_protocol::{Batches, Column, Hold, Pin, Place, Read as Wanted, Table, WRITE, tell};

use crate::refuse::Result;
use crate::store::Store;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Does one task, and answers; says whether there was an answer.
pub fn serve(task: &str, input: impl Read, output: impl Write) -> bool {
    if task == WRITE {
        return tell(write::answer(input), output);
    }
    glovebox_source_protocol::serve(task, input, output, |place| Ok(Box::new(Kind::open(place)?)))
}

/// A table of any kind.
enum Kind {
    Delta(delta::DeltaTable),
    Object(objects::Object),
    Postgres(Box<postgres::PostgresTable>),
}

impl Kind {
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
}

impl Table for Kind {
    fn columns(&self) -> Result<Vec<Column>> {
        match self {
            Self::Delta(table) => table.columns(),
            Self::Object(object) => object.columns(),
            Self::Postgres(table) => table.columns(),
        }
    }

    /// Objects have no versions of their own, nor have tables of PostgreSQL, but those can be kept as they are.
    fn pin(&self, version: Option<u64>) -> Result<(Pin, Option<Box<dyn Hold>>)> {
        match self {
            Self::Delta(table) => Ok((table.pin(version)?, None)),
            Self::Object(object) => Ok((object.pin()?, None)),
            Self::Postgres(table) => table.pin().map(|(pin, kept)| (pin, Some(Box::new(kept) as _))),
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
