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
use arrow::record_batch::RecordBatch;
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

/// How many records of a CSV file decide the types of its columns.
const CSV_INFERENCE_RECORDS: usize = 10_000;

pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// A file as a table.
#[derive(Debug)]
pub(super) struct FileTable {
    file: Arc<SourceFile>,
    schema: SchemaRef,
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Arrow { batches: usize },
}

impl FileTable {
    /// Comma-separated, quoted with `"`, with a header; an empty field is null. Types are those of the first records.
    pub(super) fn csv(file: Arc<SourceFile>) -> Result<Self, ArrowError> {
        let reader = Positional::new(Arc::clone(&file));
        let (schema, _) = csv_format().infer_schema(reader, Some(CSV_INFERENCE_RECORDS))?;
        Ok(Self { file, schema: Arc::new(schema), format: Format::Csv })
    }

    /// An Arrow IPC file, of which the footer is read.
    pub(super) fn arrow(file: Arc<SourceFile>) -> Result<Self, ArrowError> {
        let reader = ipc::reader::FileReader::try_new(Positional::new(Arc::clone(&file)), None)?;
        Ok(Self { schema: reader.schema(), format: Format::Arrow { batches: reader.num_batches() }, file })
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
        let partitions = self.runs(state.config().target_partitions()).into_iter().map(|run| {
            let partition = Partition {
                file: Arc::clone(&self.file),
                file_schema: Arc::clone(&self.schema),
                projection: projection.clone(),
                schema: Arc::clone(&projected),
                run,
            };
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

/// A run of a file's batches.
#[derive(Debug)]
struct Partition {
    file: Arc<SourceFile>,
    file_schema: SchemaRef,
    projection: Vec<usize>,
    /// The projected columns.
    schema: SchemaRef,
    run: Run,
}

impl Partition {
    fn batches(&self, rows_max: usize) -> Result<Batches, ArrowError> {
        let file = Positional::new(Arc::clone(&self.file));
        match &self.run {
            Run::Csv => {
                let reader = csv::ReaderBuilder::new(Arc::clone(&self.file_schema)).with_format(csv_format());
                let reader = reader.with_projection(self.projection.clone()).with_batch_size(rows_max);
                Ok(Box::new(reader.build(file)?))
            }
            Run::Arrow(batches) => {
                let mut reader = ipc::reader::FileReader::try_new(file, Some(self.projection.clone()))?;
                if !batches.is_empty() {
                    reader.set_index(batches.start)?;
                }
                let batches = reader.take(batches.len());
                Ok(Box::new(batches.flat_map(move |batch| Pieces::new(batch, rows_max))))
            }
        }
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches(context.session_config().batch_size());
        let batches = batches.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
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
