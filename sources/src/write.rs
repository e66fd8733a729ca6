//! Puts a released result where its recipient wants it: all of it, and once for each run.
//!
//! The place itself remembers which runs it has. So whoever does not know whether a write went through just asks again.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use glovebox_source_protocol::{Refusal, RefusalCode, Target, Write, Written};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::refuse::{Result, refuse};
use crate::{delta, postgres, store};

/// The longest request; the result comes after it.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Writes the result that follows the request.
pub(crate) fn answer(input: impl Read) -> Result<Written> {
    let (mut input, mut line, mut result) = (BufReader::new(input), Vec::new(), Vec::new());
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let asked: Option<Write> = read.ok().and_then(|_| serde_json::from_slice(&line).ok());
    let asked = asked.ok_or_else(|| unfit("the request cannot be read"))?;
    input.read_to_end(&mut result).map_err(|_| unfit("the result has no end"))?;
    if HEXLOWER.encode(&Sha256::digest(&result)) != asked.sha256 {
        return Err(unfit("the result is not the one that was announced"));
    }
    Ok(Written { was_there: write(&asked, result)? })
}

/// Says whether it was there already.
fn write(asked: &Write, result: Vec<u8>) -> Result<bool> {
    if asked.run_id.is_empty() || !asked.run_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unfit("the run's id is not in hex"));
    }
    let is_database = asked.connection.kind == "postgres";
    match &asked.to {
        Target::Table(table) if is_database => postgres::insert(asked, table, &table_of(asked, result)?),
        Target::Folder(_) if is_database => Err(unfit("PostgreSQL has no folders")),
        Target::Table(table) => {
            let (store, _) = store::open(&asked.connection)?;
            delta::append(store, &path(table)?, &asked.run_id, &table_of(asked, result)?)
        }
        Target::Folder(folder) => {
            let ((store, _), runtime) = (store::open(&asked.connection)?, store::runtime()?);
            let (folder, name) = (path(folder)?, format!("{}.{}", asked.run_id, asked.format));
            // The opening first: a result that is there can be verified.
            let opening = folder.clone().join(format!("{name}.opening.json"));
            put(&runtime, &store, &opening, asked.opening.clone().into())?;
            put(&runtime, &store, &folder.join(name), result.into())
        }
    }
}

/// Creates an object. One that is there is left as it is, and must be the same.
fn put(runtime: &Runtime, store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> Result<bool> {
    let put = async {
        match store.put_opts(path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await {
            Ok(_) => Ok(Some(false)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let there = store.get(path).await?;
                let is_same = there.meta.size == bytes.len() as u64 && there.bytes().await? == bytes;
                Ok(is_same.then_some(true))
            }
            Err(error) => Err(error),
        }
    };
    let put: object_store::Result<_> = runtime.block_on(put);
    put.map_err(|error| unwritable(path, &error))?.ok_or_else(|| differs(&format!("the object {path}")))
}

fn path(text: &str) -> Result<Path> {
    Path::parse(text).map_err(|error| unfit(error.to_string()))
}

/// The result as a table, for places that have tables.
fn table_of(asked: &Write, result: Vec<u8>) -> Result<RecordBatch> {
    let read = || -> std::result::Result<_, ArrowError> {
        let (schema, batches): (_, std::result::Result<Vec<_>, _>) = match asked.format.as_str() {
            "parquet" => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(result))?;
                (Arc::clone(reader.schema()), reader.build()?.collect())
            }
            "arrow" => {
                let reader = FileReader::try_new(Cursor::new(result), None)?;
                (reader.schema(), reader.collect())
            }
            _ => return Ok(None),
        };
        concat_batches(&schema, &batches?).map(Some)
    };
    let table = read().map_err(|_| unfit("the result is no readable file of its format"))?;
    table.ok_or_else(|| unfit("a table takes results in `parquet` or `arrow`"))
}

/// What the place has under the run's name is another result.
pub(crate) fn differs(what: &str) -> Refusal {
    let fact = format!("{what} has the name of this run and holds something else");
    refuse(RefusalCode::ResultDiffers, fact, "find out who wrote there, and remove what is not the run's")
}

/// The place and the result do not go together.
pub(crate) fn unfit(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::RequestInvalid, fact, "correct the destination's `deliver` in room.toml, or the place")
}

pub(crate) fn refused(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::TargetUnwritable, fact, "check the place and what its credentials may do, and deliver again")
}

fn unwritable(path: &Path, error: &Error) -> Refusal {
    refused(match error {
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => {
            format!("the store lets nobody with these credentials write {path}")
        }
        // What a store says may be long, and may quote what was sent.
        _ => format!("the store does not take {path}"),
    })
}
