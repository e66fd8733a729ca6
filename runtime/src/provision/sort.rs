//! Sorts a view's rows in bounded memory, by every column from the first to the last.
//!
//! DataFusion's external sort does the work, but each sort has a pool of its own: in a shared one whoever merges first
//! takes all there is, and the others fail. The sort is never left to an optimizer, which would leave it out where a
//! file claims to be sorted already.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use futures::stream::{self, TryStreamExt};

use super::session::BATCH_ROWS;

/// Reads `rows` in the context of the view, sorts as many parts as there are contexts in `sorters`, and merges them.
pub(super) fn sorted(
    rows: Arc<dyn ExecutionPlan>,
    view: &Arc<TaskContext>,
    sorters: &[Arc<TaskContext>],
) -> Result<SendableRecordBatchStream> {
    let (schema, keys) = (rows.schema(), all_columns(&rows.schema())?);
    let rows = partitioned(rows, sorters.len())?;
    let mut parts = Vec::with_capacity(sorters.len());
    for (index, sorter) in sorters.iter().enumerate() {
        let part = Part { rows: Arc::clone(&rows), schema: Arc::clone(&schema), index, view: Arc::clone(view) };
        let part = StreamingTableExec::try_new(Arc::clone(&schema), vec![Arc::new(part)], None, [], false, None)?;
        let part = SortExec::new(keys.clone(), Arc::new(part)).execute(0, Arc::clone(sorter))?;
        parts.push(spawn_buffered(part, 1));
    }
    merged(parts, schema, &keys)
}

fn all_columns(schema: &SchemaRef) -> Result<LexOrdering> {
    let options = SortOptions { descending: false, nulls_first: false };
    let key = |name| Ok::<_, DataFusionError>(PhysicalSortExpr::new(col(name, schema)?, options));
    let keys = schema.fields().iter().map(|field| key(field.name())).collect::<Result<Vec<_>>>()?;
    LexOrdering::new(keys).ok_or_else(|| DataFusionError::Internal("there is no column to sort by".into()))
}

fn partitioned(rows: Arc<dyn ExecutionPlan>, count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    if rows.output_partitioning().partition_count() == count {
        return Ok(rows);
    }
    Ok(Arc::new(RepartitionExec::try_new(rows, Partitioning::RoundRobinBatch(count))?))
}

/// Merges a few sorted streams. It holds a batch or two of each, which no pool need count.
fn merged(
    parts: Vec<SendableRecordBatchStream>,
    schema: SchemaRef,
    keys: &LexOrdering,
) -> Result<SendableRecordBatchStream> {
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    StreamingMergeBuilder::new()
        .with_streams(parts)
        .with_schema(schema)
        .with_expressions(keys)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(MemoryConsumer::new("merge").register(&pool))
        .build()
}

/// One partition of a view's rows, read in the context of the view and not of the sort.
struct Part {
    rows: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    index: usize,
    view: Arc<TaskContext>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _sorter: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.rows.execute(self.index, Arc::clone(&self.view)).unwrap_or_else(|error| {
            let failed = stream::once(async { Err(error) }).into_stream();
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed))
        })
    }
}
