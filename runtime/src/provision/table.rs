//! CSV and Arrow IPC files as DataFusion tables.
//!
//! DataFusion's own readers of these formats hold a file in memory, as a whole or as far as it was read ahead, when they
//! read through an object store; these hold a batch at a time. Columns that are not asked for are not decoded, and
//! whatever is decoded is validated.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;

use super::folder::SourceFile;
use super::records::Records;

/// How many records of a CSV file decide the types of its columns.
const CSV_INFERENCE_RECORDS: usize = 10_000;

/// How many records of a CSV file are held at a time, however long they are.
const CSV_BATCH_RECORDS: usize = 1_024;

pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Files as one table.
#[derive(Debug)]
pub(super) struct FileTable {
    schema: SchemaRef,
    files: Vec<TableFile>,
}

/// A file of a table.
#[derive(Clone, Debug)]
pub(super) struct TableFile {
    file: Arc<SourceFile>,
    schema: SchemaRef,
    format: Format,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Malformed {
    File,
    /// It has a record that is too long.
    Record,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Arrow { batches: usize },
}

impl TableFile {
    /// Comma-separated, quoted with `"`, with a header; an empty field is null. Types are those of the first records.
    pub(super) fn csv(file: Arc<SourceFile>) -> Result<Self, Malformed> {
        let mut records = Records::new(Positional::new(Arc::clone(&file)));
        let inferred = csv_format().infer_schema(&mut records, Some(CSV_INFERENCE_RECORDS));
        // The error may quote a record.
        let (schema, _) =
            inferred.map_err(|_| if records.is_beyond() { Malformed::Record } else { Malformed::File })?;
        Ok(Self { file, schema: Arc::new(schema), format: Format::Csv })
    }

    /// An Arrow IPC file, of which the footer is read.
    pub(super) fn arrow(file: Arc<SourceFile>) -> Result<Self, Malformed> {
        let reader = ipc::reader::FileReader::try_new(Positional::new(Arc::clone(&file)), None);
        let reader = reader.map_err(|_| Malformed::File)?;
        Ok(Self { schema: reader.schema(), format: Format::Arrow { batches: reader.num_batches() }, file })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The runs of batches that can be read side by side. A quoted CSV field may hold line breaks, so that where a
    /// record starts is known to none but who has read all before it.
    fn runs(&self, count_max: usize) -> Vec<Run> {
        match self.format {
            Format::Csv => vec![Run::Csv],
            Format::Arrow { batches } => {
                let count = count_max.min(batches).max(1);
                (0..count).map(|i| Run::Arrow(batches * i / count..batches * (i + 1) / count)).collect()
            }
        }
    }

    fn read(&self, run: &Run, projection: &[usize], rows_max: usize) -> Result<Batches, ArrowError> {
        let file = Positional::new(Arc::clone(&self.file));
        match run {
            Run::Csv => {
                let reader = csv::ReaderBuilder::new(Arc::clone(&self.schema)).with_format(csv_format());
                let rows_max = rows_max.min(CSV_BATCH_RECORDS);
                let reader = reader.with_projection(projection.to_vec()).with_batch_size(rows_max);
                Ok(Box::new(reader.build(Records::new(file))?))
            }
            Run::Arrow(batches) => {
                let mut reader = ipc::reader::FileReader::try_new(file, Some(projection.to_vec()))?;
                if !batches.is_empty() {
                    reader.set_index(batches.start)?;
                }
                let batches = reader.take(batches.len());
                Ok(Box::new(batches.flat_map(move |batch| Pieces { batch: Some(batch), at: 0, rows_max })))
            }
        }
    }
}

impl FileTable {
    /// Files of one schema, but for what each says of nulls.
    pub(super) const fn new(schema: SchemaRef, files: Vec<TableFile>) -> Self {
        Self { schema, files }
    }

    /// What can be read side by side: at most so many parts, each of which reads its files one after the other.
    fn parts(&self, count_max: usize) -> Vec<Vec<(TableFile, Run)>> {
        let per_file = count_max.div_ceil(self.files.len().max(1));
        let runs =
            |file: &TableFile| file.runs(per_file).into_iter().map(|run| (file.clone(), run)).collect::<Vec<_>>();
        let runs: Vec<_> = self.files.iter().flat_map(runs).collect();
        let count = count_max.min(runs.len()).max(1);
        (0..count).map(|i| runs[runs.len() * i / count..runs.len() * (i + 1) / count].to_vec()).collect()
    }
}

fn csv_format() -> csv::reader::Format {
    csv::reader::Format::default().with_header(true)
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let projected: SchemaRef = Arc::new(self.schema.project(&projection)?);
        let partitions = self.parts(state.config().target_partitions()).into_iter().map(|runs| {
            let partition = Partition { runs, projection: projection.clone(), schema: Arc::clone(&projected) };
            Arc::new(partition) as Arc<dyn PartitionStream>
        });
        let plan = StreamingTableExec::try_new(Arc::clone(&projected), partitions.collect(), None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

#[derive(Clone, Debug)]
enum Run {
    Csv,
    Arrow(Range<usize>),
}

/// Runs of files' batches, read one after the other.
#[derive(Debug)]
struct Partition {
    runs: Vec<(TableFile, Run)>,
    projection: Vec<usize>,
    /// The projected columns.
    schema: SchemaRef,
}

impl Partition {
    fn batches(&self, rows_max: usize) -> Batches {
        let (projection, schema) = (self.projection.clone(), Arc::clone(&self.schema));
        let read = move |(file, run): (TableFile, Run)| {
            let batches = file.read(&run, &projection, rows_max);
            batches.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
        };
        let batches = self.runs.clone().into_iter().flat_map(read);
        Box::new(batches.map(move |batch| of_table(&batch?, &schema)))
    }
}

/// A file may say that a column of it has no nulls, where the table says that it may.
fn of_table(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &rows)
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches(context.session_config().batch_size());
        let batches = stream::iter(batches.map(|batch| batch.map_err(Into::into)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// A batch in pieces of bounded size.
///
/// The pieces are copies: slices would each keep, and be charged for, the memory of the whole batch.
pub(super) struct Pieces {
    batch: Option<Result<RecordBatch, ArrowError>>,
    at: usize,
    rows_max: usize,
}

impl Pieces {
    pub(super) const fn new(batch: Result<RecordBatch, ArrowError>, rows_max: usize) -> Self {
        Self { batch: Some(batch), at: 0, rows_max }
    }
}

impl Iterator for Pieces {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &self.batch {
            Some(Ok(batch)) if batch.num_rows() > self.rows_max && batch.num_columns() > 0 => {
                let (start, end) = (self.at, batch.num_rows().min(self.at + self.rows_max));
                if start == end {
                    return None;
                }
                self.at = end;
                let indices = UInt64Array::from_iter_values(start as u64..end as u64);
                Some(take_record_batch(batch, &indices))
            }
            _ => self.batch.take(),
        }
    }
}

/// A reader with a position of its own over the shared handle.
struct Positional {
    file: Arc<SourceFile>,
    position: u64,
}

impl Positional {
    const fn new(file: Arc<SourceFile>) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for Positional {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Positional {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.file.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl fmt::Debug for Positional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Positional")
    }
}
