//! Single objects that are tables: Parquet, CSV and Arrow IPC files behind a connection.
//!
//! All columns of a CSV object are text, named by its header: so no row is looked at before the run is paid for, and no
//! later row changes what the others are. The view says what they are, by CAST.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use bytes::Bytes;
use glovebox_source_protocol::{Batches, Column, ColumnType, DataFile, Pin, Read as Wanted, Refusal};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::BATCH_ROWS;
use crate::refuse::{Result, changed, unreadable};
use crate::store::Store;

/// What is read of an object at a time.
const PIECE_BYTES: usize = 1 << 20;

/// How an object is read; its name's ending says it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Parquet,
    Csv,
    Arrow,
}

impl Kind {
    pub(crate) fn of(table: &str) -> Option<Self> {
        match table.rsplit_once('.')?.1 {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }
}

pub(crate) struct Object {
    store: Arc<Store>,
    kind: Kind,
}

impl Object {
    pub(crate) const fn new(store: Arc<Store>, kind: Kind) -> Self {
        Self { store, kind }
    }

    pub(crate) fn columns(&self) -> Result<Vec<Column>> {
        let file = self.examine()?;
        self.columns_of(&file)
    }

    pub(crate) fn pin(&self) -> Result<Pin> {
        let file = self.examine()?;
        let columns = self.columns_of(&file)?;
        let (kind, location) = (self.kind.as_str().into(), self.store.location.clone());
        Ok(Pin { kind, location, version: None, columns, files: vec![file] })
    }

    pub(crate) fn read(&self, wanted: &Wanted) -> Result<Batches> {
        if self.pin().map_err(|refusal| changed(refusal.fact))? != wanted.pin {
            return Err(changed("the object is not what it was"));
        }
        let [file] = wanted.pin.files.as_slice() else { return Err(changed("the pin is not that of one object")) };
        self.batches(file, &wanted.columns).map_err(|error| self.broken(&error))
    }

    fn examine(&self) -> Result<DataFile> {
        let name = self.store.root.filename().unwrap_or_default();
        self.store.runtime.block_on(self.store.examine(name, &self.store.root))
    }

    fn columns_of(&self, file: &DataFile) -> Result<Vec<Column>> {
        let schema = self.schema(file).map_err(|error| self.broken(&error))?;
        Ok(columns(&schema))
    }

    /// The columns of the object: of a Parquet or Arrow file from its footer, of a CSV file from its first line.
    fn schema(&self, file: &DataFile) -> std::result::Result<SchemaRef, ArrowError> {
        let bytes = Remote::new(&self.store, file.size);
        match self.kind {
            Kind::Parquet => Ok(Arc::clone(ParquetRecordBatchReaderBuilder::try_new(bytes)?.schema())),
            Kind::Arrow => Ok(FileReader::try_new(bytes.buffered(), None)?.schema()),
            Kind::Csv => {
                let (header, _) = csv_format().infer_schema(bytes.buffered(), Some(0))?;
                let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
                Ok(Arc::new(Schema::new(header.fields().iter().map(text).collect::<Vec<_>>())))
            }
        }
    }

    fn batches(&self, file: &DataFile, wanted: &[String]) -> std::result::Result<Batches, ArrowError> {
        let schema = self.schema(file)?;
        let projection = wanted.iter().map(|name| schema.index_of(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        // Rows that are only counted have a column none the less.
        let projection = if projection.is_empty() { vec![0] } else { projection };
        let bytes = Remote::new(&self.store, file.size);
        let location = self.store.location.clone();
        let told = move |error: ArrowError| broken(&location, &error);
        Ok(match self.kind {
            Kind::Parquet => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
                let mask = ProjectionMask::roots(reader.parquet_schema(), projection);
                let reader = reader.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
                Box::new(reader.map(move |batch| batch.map_err(&told)))
            }
            Kind::Arrow => {
                let reader = FileReader::try_new(bytes.buffered(), Some(projection))?;
                let batches = reader.map(move |batch| batch.map_err(&told));
                Box::new(batches)
            }
            Kind::Csv => {
                let reader = csv::ReaderBuilder::new(schema).with_format(csv_format()).with_projection(projection);
                let reader = reader.with_batch_size(BATCH_ROWS).build(bytes.buffered())?;
                Box::new(reader.map(move |batch| batch.map_err(&told)))
            }
        })
    }

    fn broken(&self, error: &ArrowError) -> Refusal {
        broken(&self.store.location, error)
    }
}

/// The error may quote what is in the object.
fn broken(location: &str, _: &ArrowError) -> Refusal {
    unreadable(format!("{location} is not a readable file of its kind"))
}

/// The columns that cross.
pub(crate) fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &Arc<Field>| {
        let kind = ColumnType::of(field.data_type())?;
        Some(Column { name: field.name().clone(), kind, nullable: field.is_nullable() })
    };
    schema.fields().iter().filter_map(column).collect()
}

fn csv_format() -> csv::reader::Format {
    csv::reader::Format::default().with_header(true)
}

/// An object as a file that is read by position.
struct Remote {
    store: Arc<Store>,
    size: u64,
    position: u64,
}

impl Remote {
    fn new(store: &Arc<Store>, size: u64) -> Self {
        Self { store: Arc::clone(store), size, position: 0 }
    }

    fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(PIECE_BYTES, self)
    }

    fn range(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let end = self.size.min(start.saturating_add(length as u64));
        if start >= end {
            return Ok(Bytes::new());
        }
        let got = self.store.objects.get_range(&self.store.root, start..end);
        self.store.runtime.block_on(got).map_err(io::Error::other)
    }
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.range(self.position, buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Remote {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Length for Remote {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Remote {
    type T = BufReader<Self>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(Self { store: Arc::clone(&self.store), size: self.size, position: start }.buffered())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.range(start, length)?;
        if bytes.len() == length { Ok(bytes) } else { Err(ParquetError::EOF("the object is too short".into())) }
    }
}
