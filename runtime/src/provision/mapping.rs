//! A view that says whose an identifier is, for views that know units by identifiers alone.
//!
//! A row is of every unit that its identifier is mapped to, and of none where it is mapped to none. Which units that are
//! follows from the pairs of each unit alone: a unit that goes takes its own pairs with it and changes no other unit's
//! rows. So an identifier of too many units is never cut to fewer, and none of its pairs is left out for it: the run ends.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Column, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder, lit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::{self, TryStreamExt};

use super::schema::{KeyType, ViewSchema};
use super::session::Share;
use super::view::{PlannedView, keyed};
use super::{Access, Snapshot};
use crate::error::{Code, Fault, Result};
use crate::room::{Mapping, UnitRule, View};

/// The names of the pairs' table and columns; a view's own columns are under another table's.
const TABLE: &str = "mapping";
const ID: &str = "id";
const UNIT: &str = "unit";

/// The planned mapping of a view.
pub(super) struct MappedUnits {
    view: PlannedView,
    unit: String,
    unit_rules: Vec<UnitRule>,
    terms: Mapping,
    id: KeyType,
}

impl MappedUnits {
    /// Opens the mapping `via` for a view of that schema, and refuses identifiers of another type than the view's.
    pub(super) async fn new(
        access: &dyn Access,
        via: &View,
        of: &ViewSchema,
        share: &Share,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self> {
        let terms = via.mapping.clone().ok_or_else(|| {
            Fault::new(Code::ViewInvalid, format!("view {} is no mapping", via.id), "give it an `id_column`")
        })?;
        let view = Box::pin(PlannedView::new(access, via, share, snapshot)).await?;
        let mapped = view.schema().key_of("id", &terms.id_column)?;
        let id = match (of.key()?, mapped) {
            (Some(own), Some(mapped)) if own != mapped => {
                return Err(Fault::new(
                    Code::ColumnType,
                    format!(
                        "the unit column of view {} is {own}, the id column of its mapping {} is {mapped}",
                        of.view(),
                        via.id
                    ),
                    "give both one type, by a CAST in a view's SQL",
                ));
            }
            (own, mapped) => own.or(mapped).unwrap_or(KeyType::Int64),
        };
        Ok(Self { view, unit: via.unit.clone(), unit_rules: via.unit_rules.clone(), terms, id })
    }

    pub(super) const fn schema(&self) -> &ViewSchema {
        self.view.schema()
    }

    pub(super) const fn id_type(&self) -> KeyType {
        self.id
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.view.is_unchanged()
    }

    /// Refuses an identifier of more units than was agreed, whether or not another view has it.
    pub(super) async fn check(&self) -> Result<()> {
        let unit = self.schema().key()?.unwrap_or(KeyType::Int64);
        let shared = || {
            let units = self.pairs(unit)?.aggregate([column(ID)], [count(lit(1)).alias("units")])?;
            units.filter(Expr::from(Column::from_name("units")).gt(lit(i64::from(self.terms.max_units_per_id))))
        };
        if !self.view.has_any(shared()).await? {
            return Ok(());
        }
        Err(Fault::new(
            Code::UnitShared,
            format!(
                "view {} maps an identifier to more than {} unit(s)",
                self.schema().view(),
                self.terms.max_units_per_id
            ),
            "map each identifier to fewer units in the view's SQL, or agree on another `max_units_per_id`",
        ))
    }

    /// Rows by an identifier, joined with the pairs: once for each unit that it is mapped to; and whose each is then.
    pub(super) async fn join(
        &self,
        rows: LogicalPlanBuilder,
        id: Expr,
        unit: KeyType,
    ) -> DataFusionResult<(LogicalPlanBuilder, Expr)> {
        let (plan, context) = self.view.physical(&self.pairs(unit)?.build()?).await?;
        let schema = plan.schema();
        let pairs = Pairs { plan, schema: Arc::clone(&schema), context };
        let table = StreamingTable::try_new(schema, vec![Arc::new(pairs)])?;
        let pairs = LogicalPlanBuilder::scan(TABLE, provider_as_source(Arc::new(table)), None)?.build()?;
        Ok((rows.join_on(pairs, JoinType::Inner, [id.eq(column(ID))])?, column(UNIT)))
    }

    /// The pairs of an identifier and a unit, each once, where both are someone's.
    fn pairs(&self, unit: KeyType) -> DataFusionResult<LogicalPlanBuilder> {
        let rows = self.view.aliased()?;
        let (rows, id) = keyed(rows, &self.terms.id_column, &self.terms.id_rules, self.id)?;
        let (rows, unit) = keyed(rows, &self.unit, &self.unit_rules, unit)?;
        rows.project([id.alias(ID), unit.alias(UNIT)])?.distinct()?.alias(TABLE)
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(TABLE)), name))
}

/// The pairs as a table of another view's session; they are read in the mapping's own, which has its files.
struct Pairs {
    plan: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pairs")
    }
}

impl PartitionStream for Pairs {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _reader: Arc<TaskContext>) -> SendableRecordBatchStream {
        execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context)).unwrap_or_else(|error| {
            let failed = stream::once(async { Err(error) }).into_stream();
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed))
        })
    }
}
