//! Virtual shards: a keyed hash of a unit's key says which part of all units it is in, wherever the part is read.
//!
//! Rows are counted and hashed as a view's plan gives them, are placed, and those of the group's own shards go on to the
//! sort. What comes out of the sort is placed once more, counted and hashed by shard. An engine that loses rows, repeats
//! them or takes them to another place raises no error; but then the parts do not add up to what was read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::DataFusionError;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Result};
use crate::privacy::ShardKey;

/// How a run's units are split, and which part of them is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Split {
    key: ShardKey,
    shards: u16,
    group: u16,
    groups: u16,
}

impl Split {
    /// All shards in one group.
    pub(crate) const fn whole(key: ShardKey, shards: u16) -> Self {
        Self { key, shards, group: 0, groups: 1 }
    }

    /// All units in one shard, for rows that no run reads.
    pub(crate) const fn none() -> Self {
        Self::whole(ShardKey::none(), 1)
    }

    /// The shards of one of so many groups.
    pub(crate) const fn of_group(self, group: u16, groups: u16) -> Self {
        Self { group, groups, ..self }
    }

    /// The group's own shards, in order.
    pub(crate) fn shards(&self) -> impl Iterator<Item = u16> + use<> {
        (self.group..self.shards).step_by(self.groups.max(1).into())
    }

    /// How many shards all groups have together.
    pub(crate) const fn count(&self) -> u16 {
        self.shards
    }

    pub(crate) fn has(&self, shard: u16) -> bool {
        shard % self.groups.max(1) == self.group
    }

    fn place(&self, keys: &dyn Array) -> Result<UInt16Array> {
        if let Some(keys) = keys.as_any().downcast_ref::<Int64Array>() {
            return Ok(keys.values().iter().map(|key| self.key.of_number(*key, self.shards)).collect());
        }
        let keys = keys.as_any().downcast_ref::<StringArray>();
        let keys = keys.ok_or_else(|| differ("a unit column has another type than planned"))?;
        Ok((0..keys.len()).map(|index| self.key.of_text(keys.value(index), self.shards)).collect())
    }
}

/// Rows without their order: how many, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Multiset {
    pub(crate) rows: u64,
    hash: u128,
}

impl Multiset {
    pub(crate) const fn add(&mut self, other: Self) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// What was read for a slot, and what was kept of it by shard; all of it where units share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intake {
    pub(crate) read: Multiset,
    pub(crate) kept: Option<BTreeMap<u16, Multiset>>,
}

impl Intake {
    /// Of a table that every unit is shown whole.
    pub(super) fn of_lookup(table: &RecordBatch, split: &Split) -> Result<Self> {
        let hasher = RowHasher::new(&table.schema(), split.key).map_err(|error| unhashed(&error))?;
        let hashes = hasher.hashes(table.columns()).map_err(|error| unhashed(&error))?;
        Ok(Self { read: sum(&hashes), kept: None })
    }
}

/// Hashes rows in the one encoding that Arrow's row format has of them.
struct RowHasher {
    converter: RowConverter,
    key: ShardKey,
}

impl RowHasher {
    fn new(schema: &Schema, key: ShardKey) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self { converter: RowConverter::new(fields.collect())?, key })
    }

    fn hashes(&self, columns: &[ArrayRef]) -> Result<Vec<u128>, ArrowError> {
        let rows = self.converter.convert_columns(columns)?;
        Ok(rows.iter().map(|row| self.key.of_row(row.data())).collect())
    }
}

fn sum(hashes: &[u128]) -> Multiset {
    let hash = hashes.iter().fold(0, |sum: u128, hash| sum.wrapping_add(*hash));
    Multiset { rows: hashes.len() as u64, hash }
}

/// Counts what a plan gives, and places it: the shard becomes the first column.
pub(super) struct Placing {
    split: Split,
    hasher: RowHasher,
    schema: SchemaRef,
    read: Mutex<Multiset>,
}

impl Placing {
    pub(super) fn over(
        rows: Arc<dyn ExecutionPlan>,
        split: Split,
    ) -> DataFusionResult<(Arc<dyn ExecutionPlan>, Arc<Self>)> {
        let given = rows.schema();
        let shard = Arc::new(Field::new("shard", DataType::UInt16, false));
        let fields: Vec<_> = std::iter::once(shard).chain(given.fields().iter().map(Arc::clone)).collect();
        let schema = Arc::new(Schema::new(fields));
        let hasher = RowHasher::new(&given, split.key)?;
        let placing = Arc::new(Self { split, hasher, schema: Arc::clone(&schema), read: Mutex::default() });
        let part = |index| {
            let (rows, placing) = (Arc::clone(&rows), Arc::clone(&placing));
            Arc::new(Part { rows, placing, index }) as Arc<dyn PartitionStream>
        };
        let parts = (0..rows.output_partitioning().partition_count()).map(part).collect();
        let placed = StreamingTableExec::try_new(schema, parts, None, [], false, None)?;
        Ok((Arc::new(placed), placing))
    }

    fn place(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let hashes = self.hasher.hashes(batch.columns())?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).add(sum(&hashes));
        let shards = self.split.place(batch.column(0)).map_err(|fault| ArrowError::ComputeError(fault.to_string()))?;
        let own: BooleanArray = shards.values().iter().map(|shard| Some(self.split.has(*shard))).collect();
        let columns = std::iter::once(Arc::new(shards) as ArrayRef).chain(batch.columns().iter().cloned());
        let placed = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?;
        if self.split.groups > 1 { filter_record_batch(&placed, &own) } else { Ok(placed) }
    }
}

struct Part {
    rows: Arc<dyn ExecutionPlan>,
    placing: Arc<Placing>,
    index: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.placing.schema
    }

    fn execute(&self, view: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.placing.schema);
        let rows = match self.rows.execute(self.index, view) {
            Ok(rows) => {
                let placing = Arc::clone(&self.placing);
                rows.and_then(move |batch| std::future::ready(placing.place(&batch).map_err(DataFusionError::from)))
                    .boxed()
            }
            Err(error) => stream::once(async { Err(error) }).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// Believes no sort: every row that comes out of it is placed once more, counted and hashed.
pub(super) struct Recheck {
    placing: Arc<Placing>,
    kept: BTreeMap<u16, Multiset>,
}

impl Recheck {
    pub(super) const fn new(placing: Arc<Placing>) -> Self {
        Self { placing, kept: BTreeMap::new() }
    }

    /// Cuts a sorted batch into those of one shard each, and takes the shard off.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<Vec<(u16, RecordBatch)>> {
        let shards = batch.columns().first().and_then(|shards| shards.as_any().downcast_ref::<UInt16Array>());
        let shards = shards.ok_or_else(|| differ("sorted rows have no shard"))?;
        let rows = batch.project(&(1..batch.num_columns()).collect::<Vec<_>>()).map_err(|error| unhashed(&error))?;
        let split = &self.placing.split;
        if split.place(rows.column(0))? != *shards {
            return Err(differ("a row is not in the shard of its unit"));
        }
        let hashes = self.placing.hasher.hashes(rows.columns()).map_err(|error| unhashed(&error))?;
        let mut pieces = Vec::new();
        let mut start = 0;
        for piece in shards.values().chunk_by(|one, other| one == other) {
            let shard = piece[0];
            let is_next = self.kept.last_key_value().is_none_or(|(last, _)| *last <= shard);
            if !is_next || !split.has(shard) {
                return Err(differ("shards are not in their order, or are another group's"));
            }
            let end = start + piece.len();
            self.kept.entry(shard).or_default().add(sum(&hashes[start..end]));
            pieces.push((shard, rows.slice(start, piece.len())));
            start = end;
        }
        Ok(pieces)
    }

    /// To be asked when the last row has come.
    pub(super) fn end(self) -> Intake {
        let read = *self.placing.read.lock().unwrap_or_else(PoisonError::into_inner);
        Intake { read, kept: Some(self.kept) }
    }
}

/// Arrow's message may quote a value.
fn unhashed(_: &ArrowError) -> Fault {
    differ("rows cannot be hashed")
}

/// The fault of parts that are not the whole.
pub(crate) fn differ(fact: impl Into<String>) -> Fault {
    Fault::new(Code::ShardsDiffer, fact, "run again; if it happens again, report it with the run's id")
}
