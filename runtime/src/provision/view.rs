//! A view: SQL of its owner over its own files, as a plan that is checked, narrowed to a slot, and sorted.
//!
//! The plan may hold listed operators and immutable functions only, so that it neither writes, nor reads anything but
//! its tables, nor answers differently another time. Which rows it keeps may not depend on their number or order: there
//! is no LIMIT and no window. Errors of planning are told in full, for no row was read; errors of execution are not.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as ColumnName, DataFusionError, TableReference};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions::expr_fn::btrim;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Volatility, lit};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use futures::TryStreamExt;

use super::folder::{Folder, SourceFile};
use super::join::lookup_rows;
use super::mapping::MappedUnits;
use super::normalise::normalised;
use super::schema::{KeyType, ViewSchema, slot_schema, sortable};
use super::session::{Share, sorters, state};
use super::shard::{Placing, Recheck, Split};
use super::sort;
use super::source::{self, OpenSource};
use super::{Access, Snapshot};
use crate::error::{Code, Fault, Result};
use crate::room::{Join, Slot, UnitRule, View};

/// Aggregates that the engine calls immutable, though they tell which row came first.
const ORDER_DEPENDENT: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// The name under which a view's plan is narrowed; it can hide no table, for the SQL is planned by then.
const ALIAS: &str = "view";

/// A view whose files are open and whose SQL is planned.
pub(super) struct PlannedView {
    schema: ViewSchema,
    unit: String,
    unit_rules: Vec<UnitRule>,
    /// Whose the identifiers in the unit column are.
    mapping: Option<Box<MappedUnits>>,
    share: Share,
    state: SessionState,
    plan: LogicalPlan,
    /// By their names in the session.
    files: Vec<(String, Arc<SourceFile>)>,
}

impl PlannedView {
    /// Opens the view's files and tables, which are those of the snapshot, and plans its SQL over them. Without one, tables
    /// are only planned with.
    pub(super) async fn new(
        access: &dyn Access,
        view: &View,
        share: &Share,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self> {
        let sources = source::open(access, view)?;
        if let Some(snapshot) = snapshot {
            // Before anything is read of them: a file that came meanwhile may be of a kind whose rows tell its types.
            source::check(view, &sources, snapshot)?;
        }
        let files = sources.iter().flat_map(OpenSource::files);
        let files: Vec<_> = files.map(|file| (file.name.clone(), Arc::clone(&file.file))).collect();
        let folder = Folder::new(files.iter().cloned());
        let state = state(folder, share).map_err(|error| internal(view, &error))?;
        for source in sources {
            source.register(&state, view).await?;
        }
        source::register_remote(&state, access, view, snapshot)?;
        let plan = plan_sql(&state, view).await?;
        let mut schema = ViewSchema::new(view, &plan)?;
        let mapping = match &view.unit_via {
            None => None,
            Some(via) => Some(Box::new(MappedUnits::new(access, via, &schema, share, snapshot).await?)),
        };
        if let Some(mapping) = &mapping {
            schema = schema.through(mapping.schema().clone());
        }
        let (unit, unit_rules) = (view.unit.clone(), view.unit_rules.clone());
        Ok(Self { schema, unit, unit_rules, mapping, share: share.clone(), state, plan, files })
    }

    /// The schema in which the unit column names units, and not identifiers of them.
    pub(super) fn names_units(&self) -> &ViewSchema {
        self.mapping.as_ref().map_or(&self.schema, |mapping| mapping.schema())
    }

    /// Refuses a mapping that says more than was agreed. What it refuses hangs on the mapping's own rows alone.
    pub(super) async fn check_mapping(&self) -> Result<()> {
        match &self.mapping {
            Some(mapping) => mapping.check().await,
            None => Ok(()),
        }
    }

    pub(super) const fn schema(&self) -> &ViewSchema {
        &self.schema
    }

    /// Whether the view is about units.
    pub(super) const fn is_protected(&self) -> bool {
        !self.unit.is_empty()
    }

    pub(super) fn into_schema(self) -> ViewSchema {
        self.schema
    }

    /// The view's rows for a slot: the shard and the unit first, then the slot's columns; sorted by all of them in that
    /// order. And what is to check them.
    ///
    /// Rows without a unit, or with a null where the slot has none, are left out.
    pub(super) async fn sorted(
        &self,
        slot: &Slot,
        key: KeyType,
        split: Split,
    ) -> Result<(SendableRecordBatchStream, Recheck)> {
        let stream = async {
            let (rows, placing) = Placing::over(self.plan(slot, key).await?, split)?;
            Ok((self.sort(rows)?, Recheck::new(placing)))
        };
        stream.await.map_err(|error| invalid(self.schema.view(), &error))
    }

    fn sort(&self, rows: Arc<dyn ExecutionPlan>) -> DataFusionResult<SendableRecordBatchStream> {
        sort::sorted(rows, &self.state.task_ctx(), &sorters(&self.share)?)
    }

    /// All rows for a lookup slot, sorted by all columns; a table that is shown to every unit has an end.
    pub(super) async fn whole(&self, slot: &Slot, max_rows: usize) -> Result<RecordBatch> {
        let view = self.schema.view();
        let unreadable = |error: DataFusionError| unreadable_rows(view, &error);
        let sorted = async { self.sort(self.plan(slot, KeyType::Int64).await?) };
        let mut sorted = sorted.await.map_err(|error: DataFusionError| invalid(view, &error))?;
        let (mut pages, mut rows) = (Vec::new(), 0);
        while let Some(page) = sorted.try_next().await.map_err(unreadable)? {
            rows += page.num_rows();
            if rows > max_rows {
                return Err(Fault::new(
                    Code::ViewUnreadable,
                    format!("view {view} has more than the {max_rows} rows that one unit may be shown"),
                    "narrow the view's SQL, or agree on more rows per unit",
                ));
            }
            pages.push(lookup_rows(&page, slot)?);
        }
        concat_batches(&slot_schema(slot), &pages).map_err(|error| unreadable(error.into()))
    }

    /// Whether the view has any row at all, and whether it has one with a unit.
    pub(super) async fn has_rows_and_units(&self) -> Result<(bool, bool)> {
        let key = self.names_units().key()?.unwrap_or(KeyType::Int64);
        let rows = self.has_any(Ok(LogicalPlanBuilder::from(self.plan.clone()))).await?;
        let with_unit = self.with_unit(key).await.map(|(rows, _)| rows);
        Ok((rows, rows && self.has_any(with_unit).await?))
    }

    /// All rows as the owner's SQL says, in no particular order.
    pub(super) async fn rows(&self) -> Result<SendableRecordBatchStream> {
        let plan = self.state.create_physical_plan(&self.plan).await;
        let rows = plan.and_then(|plan| execute_stream(plan, self.state.task_ctx()));
        rows.map_err(|error| invalid(self.schema.view(), &error))
    }

    /// Whether every file still is what it was when it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        let mapping = self.mapping.as_ref();
        self.files.iter().all(|(_, file)| file.is_unchanged()) && mapping.is_none_or(|mapping| mapping.is_unchanged())
    }

    /// The file that the session knows by a name.
    pub(super) fn file(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, file)| file.as_ref())
    }

    /// How the rows for a slot are read, before they are sorted.
    pub(super) async fn plan(&self, slot: &Slot, key: KeyType) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.state.create_physical_plan(&self.narrowed(slot, key).await?).await
    }

    async fn narrowed(&self, slot: &Slot, key: KeyType) -> DataFusionResult<LogicalPlan> {
        // By position: a slot may ask for the unit column too, and names need not differ from the unit's.
        let (mut rows, unit) =
            if slot.join == Join::Lookup { (self.aliased()?, lit(0_i64)) } else { self.with_unit(key).await? };
        for required in slot.columns.iter().filter(|column| !column.nullable) {
            rows = rows.filter(column(&required.name).is_not_null())?;
        }
        let unit = unit.alias("unit");
        let columns = slot
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| cast(&column.name, sortable(column.kind)).alias(index.to_string()));
        rows.project(std::iter::once(unit).chain(columns))?.build()
    }

    /// The rows that are someone's, and whose each is.
    async fn with_unit(&self, key: KeyType) -> DataFusionResult<(LogicalPlanBuilder, Expr)> {
        let rows = self.aliased()?;
        let Some(mapping) = &self.mapping else { return keyed(rows, &self.unit, &self.unit_rules, key) };
        let (rows, id) = keyed(rows, &self.unit, &self.unit_rules, mapping.id_type())?;
        mapping.join(rows, id, key).await
    }

    /// The rows as the owner's SQL says, under a name of ours.
    pub(super) fn aliased(&self) -> DataFusionResult<LogicalPlanBuilder> {
        LogicalPlanBuilder::from(self.plan.clone()).alias(ALIAS)
    }

    /// A plan over the view's tables, ready to be read in the view's own session.
    pub(super) async fn physical(
        &self,
        rows: &LogicalPlan,
    ) -> DataFusionResult<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        Ok((self.state.create_physical_plan(rows).await?, self.state.task_ctx()))
    }

    pub(super) async fn has_any(&self, rows: DataFusionResult<LogicalPlanBuilder>) -> Result<bool> {
        let first = async {
            let plan = rows?.limit(0, Some(1))?.build()?;
            let plan = self.state.create_physical_plan(&plan).await?;
            let mut batches = execute_stream(plan, self.state.task_ctx())?;
            while let Some(batch) = batches.try_next().await? {
                if batch.num_rows() > 0 {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        first.await.map_err(|error: DataFusionError| unreadable_rows(self.schema.view(), &error))
    }
}

/// The fault of a view whose rows could not be read to the end. It names the view alone: the error may quote a row.
pub(super) fn unreadable_rows(view: &str, error: &DataFusionError) -> Fault {
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        return Fault::new(
            Code::ViewUnreadable,
            format!("view {view} needs more memory or disk than it was given"),
            "give the run more memory or the spill folder more space, or simplify the view's SQL",
        );
    }
    Fault::new(
        Code::ViewUnreadable,
        format!("the rows of view {view} cannot be read to the end"),
        "check the view's files, and that its SQL succeeds on every row",
    )
}

/// Of a view's rows those in which a column has a key, and that key.
pub(super) fn keyed(
    rows: LogicalPlanBuilder,
    name: &str,
    rules: &[UnitRule],
    kind: KeyType,
) -> DataFusionResult<(LogicalPlanBuilder, Expr)> {
    let rows = rows.filter(column(name).is_not_null())?;
    let key = cast(name, kind.data_type());
    if kind == KeyType::Int64 {
        return Ok((rows, key));
    }
    // Space around a text is no part of whose it is.
    let key = btrim(vec![key]);
    let key = if rules.is_empty() { key } else { normalised(rules, key) };
    // A text of nothing is no one's, nor is what the rules make no key of.
    Ok((rows.filter(key.clone().not_eq(lit("")))?, key))
}

/// A column of the aliased view, by the name as it stands.
fn column(name: &str) -> Expr {
    Expr::Column(ColumnName::new(Some(TableReference::bare(ALIAS)), name))
}

fn cast(name: &str, kind: arrow::datatypes::DataType) -> Expr {
    datafusion::logical_expr::cast(column(name), kind)
}

async fn plan_sql(state: &SessionState, view: &View) -> Result<LogicalPlan> {
    let statements = DFParserBuilder::new(view.sql.as_str()).build().and_then(|mut parser| parser.parse_statements());
    let mut statements = statements.map_err(|error| invalid(&view.id, &error))?;
    let statement = statements.pop_front().filter(is_select);
    let Some(statement) = statement.filter(|_| statements.is_empty()) else {
        return Err(refused(&view.id, "is not one SELECT"));
    };
    let plan = state.statement_to_plan(statement).await.map_err(|error| invalid(&view.id, &error))?;
    check_plan(&view.id, &plan)?;
    Ok(plan)
}

fn is_select(statement: &Statement) -> bool {
    let Statement::Statement(statement) = statement else { return false };
    let SqlStatement::Query(query) = statement.as_ref() else { return false };
    matches!(*query.body, SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. })
}

/// Refuses every operator and function that is not known to be harmless.
fn check_plan(view: &str, plan: &LogicalPlan) -> Result<()> {
    let mut refusal = None;
    let walked = plan.apply_with_subqueries(|node| {
        refusal = check_operator(node).err();
        if refusal.is_none() {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    refusal = check_function(part).err();
                    Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })?;
        }
        Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|error| invalid(view, &error))?;
    refusal.map_or(Ok(()), |why| Err(refused(view, &why)))
}

fn check_operator(node: &LogicalPlan) -> Result<(), String> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => Ok(()),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => Ok(()),
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => {
            Err("has a LIMIT or OFFSET: whose rows it keeps would depend on everybody's".into())
        }
        LogicalPlan::Window(_) => Err("has a window function: a unit's rows would depend on everybody's".into()),
        LogicalPlan::Distinct(Distinct::On(_)) => Err("has a DISTINCT ON: it keeps an arbitrary row".into()),
        LogicalPlan::EmptyRelation(_) => Err("selects from nothing, a view selects from its own tables".into()),
        _ => Err("does something other than select".into()),
    }
}

fn check_function(expression: &Expr) -> Result<(), String> {
    let (name, signature): (&str, &Signature) = match expression {
        Expr::ScalarFunction(call) => (call.func.name(), call.func.signature()),
        Expr::AggregateFunction(call) => (call.func.name(), call.func.signature()),
        Expr::ScalarVariable(..) | Expr::Placeholder(_) => return Err("has a variable or a placeholder".into()),
        _ => return Ok(()),
    };
    if ORDER_DEPENDENT.contains(&name) {
        return Err(format!("calls {name}(), whose answer depends on the order in which rows are read"));
    }
    if signature.volatility == Volatility::Immutable {
        return Ok(());
    }
    Err(format!("calls {name}(), whose answer differs from run to run"))
}

pub(super) fn invalid(view: &str, error: &DataFusionError) -> Fault {
    refused(view, &format!("cannot be planned: {}", error.strip_backtrace()))
}

fn refused(view: &str, why: &str) -> Fault {
    Fault::new(
        Code::ViewInvalid,
        format!("the SQL of view {view} {why}"),
        "write one SELECT over the tables that the view declares",
    )
}

pub(super) fn internal(view: &View, error: &DataFusionError) -> Fault {
    Fault::new(
        Code::Internal,
        format!("view {} could not be set up: {}", view.id, error.strip_backtrace()),
        "report this as a defect",
    )
}
