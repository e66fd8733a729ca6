//! A view: SQL of its owner over its own files, as a plan that is checked, narrowed to a slot, and sorted.
//!
//! The plan may hold listed operators and immutable functions only, so that it neither writes, nor reads anything but
//! its tables, nor answers differently another time. Which rows it keeps may not depend on their number or order: there
//! is no LIMIT and no window. Errors of planning are told in full, for no row was read; errors of execution are not.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as ColumnName, DataFusionError, TableReference};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::expr_fn::btrim;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Volatility, lit};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use futures::TryStreamExt;

use super::folder::{Folder, SourceFile, URL};
use super::join::lookup_rows;
use super::remote::{self, Remote, RemoteTable};
use super::schema::{KeyType, ViewSchema, slot_schema, sortable};
use super::session::{Share, sorters, state};
use super::sort;
use super::table::FileTable;
use super::{Access, Held, Snapshot, SourceDigest};
use crate::error::{Code, Fault, Result};
use crate::room::{Join, Place, Slot, Source, View};

/// Aggregates that the engine calls immutable, though they tell which row came first.
const ORDER_DEPENDENT: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// The name under which a view's plan is narrowed; it can hide no table, for the SQL is planned by then.
const ALIAS: &str = "view";

/// A view whose files are open and whose SQL is planned.
pub(super) struct PlannedView {
    schema: ViewSchema,
    unit: String,
    share: Share,
    state: SessionState,
    plan: LogicalPlan,
    /// The files, and where they lay.
    files: Vec<Arc<SourceFile>>,
    paths: Vec<String>,
}

impl PlannedView {
    /// Opens the view's files and tables, and plans its SQL over them. Tables are those of the snapshot; without one
    /// they are only planned with.
    pub(super) async fn new(
        access: &dyn Access,
        view: &View,
        share: &Share,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self> {
        let sources = open_sources(access, view)?;
        let files: Vec<_> = sources.iter().map(|source| Arc::clone(&source.file)).collect();
        let paths = sources.iter().map(|source| source.path.clone()).collect();
        let folder = Folder::new(sources.iter().map(|source| (source.name.clone(), Arc::clone(&source.file))));
        let state = state(folder, share).map_err(|error| internal(view, &error))?;
        for source in sources {
            register(&state, view, source).await?;
        }
        for (table, provider) in remote_tables(access, view, snapshot)? {
            register_table(&state, view, table, Arc::new(provider))?;
        }
        let plan = plan_sql(&state, view).await?;
        let schema = ViewSchema::new(view, plan.schema())?;
        Ok(Self { schema, unit: view.unit.clone(), share: share.clone(), state, plan, files, paths })
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

    /// The view's rows for a slot: the unit first, then the slot's columns; sorted by all of them in that order.
    ///
    /// Rows without a unit, or with a null where the slot has none, are left out.
    pub(super) async fn sorted(&self, slot: &Slot, key: KeyType) -> Result<SendableRecordBatchStream> {
        let stream = async {
            let rows = self.plan(slot, key).await?;
            sort::sorted(rows, &self.state.task_ctx(), &sorters(&self.share)?)
        };
        stream.await.map_err(|error| invalid(self.schema.view(), &error))
    }

    /// All rows for a lookup slot, sorted by all columns; a table that is shown to every unit has an end.
    pub(super) async fn whole(&self, slot: &Slot, max_rows: usize) -> Result<RecordBatch> {
        let view = self.schema.view();
        let unreadable = |error: DataFusionError| unreadable_rows(view, &error);
        let mut sorted = self.sorted(slot, KeyType::Int64).await?;
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
        let all = LogicalPlanBuilder::from(self.plan.clone());
        let with_unit = all.clone().alias(ALIAS).and_then(|rows| rows.filter(column(&self.unit).is_not_null()));
        let rows = self.has_any(Ok(all)).await?;
        Ok((rows, rows && self.has_any(with_unit).await?))
    }

    /// Whether the view's files are those that were digested.
    pub(super) fn check(&self, snapshot: &Snapshot) -> Result<()> {
        let view = self.schema.view();
        let is_same = |(path, file): (&String, &Arc<SourceFile>)| {
            let held = snapshot.held(view, path);
            file.stamp().is_ok_and(|now| matches!(held, Some(Held::File(then)) if *then == now))
        };
        if self.paths.iter().zip(&self.files).all(is_same) {
            return Ok(());
        }
        Err(Fault::new(
            Code::ViewUnreadable,
            format!("a file of view {view} was replaced while the run began"),
            "run again when no one writes to the view's files",
        ))
    }

    /// Whether every file still is what it was when it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.files.iter().all(|file| file.is_unchanged())
    }

    /// How the rows for a slot are read, before they are sorted.
    pub(super) async fn plan(&self, slot: &Slot, key: KeyType) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.state.create_physical_plan(&self.narrowed(slot, key)?).await
    }

    fn narrowed(&self, slot: &Slot, key: KeyType) -> DataFusionResult<LogicalPlan> {
        let mut rows = LogicalPlanBuilder::from(self.plan.clone()).alias(ALIAS)?;
        // By position: a slot may ask for the unit column too, and names need not differ from the unit's.
        let mut unit = if slot.join == Join::Lookup { lit(0_i64) } else { cast(&self.unit, key.data_type()) };
        if slot.join != Join::Lookup {
            rows = rows.filter(column(&self.unit).is_not_null())?;
            if key == KeyType::Utf8 {
                // Space around a text is no part of whose it is, and a text of nothing is no one's.
                unit = btrim(vec![unit]);
                rows = rows.filter(unit.clone().not_eq(lit("")))?;
            }
        }
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

    async fn has_any(&self, rows: DataFusionResult<LogicalPlanBuilder>) -> Result<bool> {
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

/// A column of the aliased view, by the name as it stands.
fn column(name: &str) -> Expr {
    Expr::Column(ColumnName::new(Some(TableReference::bare(ALIAS)), name))
}

fn cast(name: &str, kind: arrow::datatypes::DataType) -> Expr {
    datafusion::logical_expr::cast(column(name), kind)
}

/// The formats of sources, told by the ending of the path alone.
#[derive(Clone, Copy)]
enum SourceFormat {
    Parquet,
    Csv,
    Arrow,
}

struct OpenSource {
    table: String,
    path: String,
    name: String,
    format: SourceFormat,
    file: Arc<SourceFile>,
}

/// What a view's files hold, by digest, and what is read of its tables; no row is looked at.
pub(super) fn digest(access: &dyn Access, view: &View, earlier: &[SourceDigest]) -> Result<Vec<(SourceDigest, Held)>> {
    let named = |source: &str, sha256, version| {
        let (view, source) = (view.id.clone(), source.to_owned());
        SourceDigest { view, source, sha256, version }
    };
    let digest = |source: OpenSource| {
        let refuse = |error: std::io::Error| unreadable_source(&view.id, &source.path, error.to_string());
        let stamp = source.file.stamp().map_err(refuse)?;
        let sha256 = source.file.sha256().map_err(refuse)?;
        Ok((named(&source.path, sha256, None), Held::File(stamp)))
    };
    let mut held = open_sources(access, view)?.into_iter().map(digest).collect::<Result<Vec<_>>>()?;
    for source in &view.sources {
        let Some(remote) = Remote::find(access, view, source)? else { continue };
        let earlier = earlier.iter().find(|earlier| earlier.view == view.id && earlier.source == source.path);
        let pin = remote.pin(earlier.and_then(|earlier| earlier.version))?;
        let version = pin.version.as_ref().map(|version| version.number);
        held.push((named(&source.path, remote::sha256(&pin), version), Held::Table(Arc::new(pin))));
    }
    Ok(held)
}

/// The tables that another process reads, each with its name in the SQL.
fn remote_tables(access: &dyn Access, view: &View, snapshot: Option<&Snapshot>) -> Result<Vec<(String, RemoteTable)>> {
    let mut tables = Vec::new();
    for source in &view.sources {
        let Some(remote) = Remote::find(access, view, source)? else { continue };
        let table = match snapshot.map(|snapshot| snapshot.held(&view.id, &source.path)) {
            Some(Some(Held::Table(pin))) => remote.pinned(Arc::clone(pin)),
            Some(_) => return Err(unreadable_source(&view.id, &source.path, "is not pinned")),
            None => remote.described()?,
        };
        tables.push((source.table.clone(), table));
    }
    Ok(tables)
}

fn open_sources(access: &dyn Access, view: &View) -> Result<Vec<OpenSource>> {
    let mut sources = Vec::with_capacity(view.sources.len());
    let is_file = |source: &&Source| matches!(source.place(), Place::File(_));
    for (index, source) in view.sources.iter().filter(is_file).enumerate() {
        let refuse = |why: String| unreadable_source(&view.id, &source.path, &why);
        let (format, ending) = match source.path.rsplit_once('.') {
            Some((_, "parquet")) => (SourceFormat::Parquet, "parquet"),
            Some((_, "csv")) => (SourceFormat::Csv, "csv"),
            Some((_, "arrow")) => (SourceFormat::Arrow, "arrow"),
            _ => return Err(refuse("ends in none of .parquet, .csv, .arrow".into())),
        };
        let open = access.open(view, &source.path).and_then(SourceFile::new);
        let file = open.map_err(|error| refuse(format!("cannot be opened: {error}")))?;
        sources.push(OpenSource {
            table: source.table.clone(),
            path: source.path.clone(),
            name: format!("{index}.{ending}"),
            format,
            file: Arc::new(file),
        });
    }
    Ok(sources)
}

/// Makes a file a table of the session. Reads its footer, or of a CSV file the first records.
async fn register(state: &SessionState, view: &View, source: OpenSource) -> Result<()> {
    let OpenSource { table, path, name, format, file } = source;
    let provider = async {
        Ok::<Arc<dyn TableProvider>, DataFusionError>(match format {
            SourceFormat::Parquet => Arc::new(parquet(state, &name).await?),
            SourceFormat::Csv => Arc::new(FileTable::csv(file)?),
            SourceFormat::Arrow => Arc::new(FileTable::arrow(file)?),
        })
    };
    // The error of a CSV file may quote a record.
    let provider =
        provider.await.map_err(|_| unreadable_source(&view.id, &path, "is not a readable file of its kind"))?;
    if provider.schema().fields().is_empty() {
        return Err(unreadable_source(&view.id, &path, "has no columns"));
    }
    register_table(state, view, table, provider)
}

fn register_table(state: &SessionState, view: &View, table: String, provider: Arc<dyn TableProvider>) -> Result<()> {
    let table = TableReference::bare(table);
    let registered =
        state.schema_for_ref(table.clone()).and_then(|schema| schema.register_table(table.table().into(), provider));
    registered.map(drop).map_err(|error| internal(view, &error))
}

/// A Parquet file, of which the footer is read; the rest goes through the session's object store.
async fn parquet(state: &SessionState, name: &str) -> DataFusionResult<ListingTable> {
    let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
    let url = ListingTableUrl::parse(format!("{URL}/{name}"))?;
    let options = ListingOptions::new(Arc::new(format));
    let schema = options.infer_schema(state, &url).await?;
    ListingTable::try_new(ListingTableConfig::new(url).with_listing_options(options).with_schema(schema))
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

fn invalid(view: &str, error: &DataFusionError) -> Fault {
    refused(view, &format!("cannot be planned: {}", error.strip_backtrace()))
}

fn refused(view: &str, why: &str) -> Fault {
    Fault::new(
        Code::ViewInvalid,
        format!("the SQL of view {view} {why}"),
        "write one SELECT over the tables that the view declares",
    )
}

fn unreadable_source(view: &str, path: &str, why: impl AsRef<str>) -> Fault {
    Fault::new(
        Code::ViewUnreadable,
        format!("source `{}` of view {view} {}", path.escape_debug(), why.as_ref()),
        "put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink",
    )
}

fn internal(view: &View, error: &DataFusionError) -> Fault {
    Fault::new(
        Code::Internal,
        format!("view {} could not be set up: {}", view.id, error.strip_backtrace()),
        "report this as a defect",
    )
}
