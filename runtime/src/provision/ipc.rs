//! Arrow IPC files as DataFusion tables.
//!
//! DataFusion's own reader of this format holds a whole file in memory when it reads through an object store; this one
//! holds a batch at a time. Projection is pushed down to the file; every batch is validated as it is decoded.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
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

/// An Arrow IPC file.
#[derive(Debug)]
pub(super) struct IpcTable {
    file: Arc<SourceFile>,
    schema: SchemaRef,
    batches: usize,
}

impl IpcTable {
    /// Reads the footer.
    pub(super) fn open(file: Arc<SourceFile>) -> Result<Self, ArrowError> {
        let reader = FileReader::try_new(Positional::new(Arc::clone(&file)), None)?;
        Ok(Self { schema: reader.schema(), batches: reader.num_batches(), file })
    }
}

#[async_trait]
impl TableProvider for IpcTable {
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
        let schema: SchemaRef = Arc::new(self.schema.project(&projection)?);
        let count = state.config().target_partitions().min(self.batches).max(1);
        let partitions = (0..count).map(|index| -> Arc<dyn PartitionStream> {
            Arc::new(Partition {
                file: Arc::clone(&self.file),
                schema: Arc::clone(&schema),
                projection: projection.clone(),
                batches: self.batches * index / count..self.batches * (index + 1) / count,
            })
        });
        let plan = StreamingTableExec::try_new(Arc::clone(&schema), partitions.collect(), None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// A run of an IPC file's batches.
#[derive(Debug)]
struct Partition {
    file: Arc<SourceFile>,
    schema: SchemaRef,
    projection: Vec<usize>,
    batches: Range<usize>,
}

impl Partition {
    fn batches(&self) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, ArrowError> {
        let reader = Positional::new(Arc::clone(&self.file));
        let mut reader = FileReader::try_new(reader, Some(self.projection.clone()))?;
        let count = self.batches.len();
        if count > 0 {
            reader.set_index(self.batches.start)?;
        }
        Ok(reader.take(count))
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows_max = context.session_config().batch_size();
        let batches: Box<dyn Iterator<Item = _> + Send> = match self.batches() {
            Ok(batches) => Box::new(batches.flat_map(move |batch| Pieces { batch: Some(batch), at: 0, rows_max })),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        let batches = batches.map(|batch| batch.map_err(Into::into));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(batches)))
    }
}

/// A batch in pieces of bounded size.
///
/// The pieces are copies: slices would each keep, and be charged for, the memory of the whole batch.
struct Pieces {
    batch: Option<Result<RecordBatch, ArrowError>>,
    at: usize,
    rows_max: usize,
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
