//! What reading the views will take, before anyone reads a row: the planner's steps, and which row groups of Parquet files
//! their statistics let it skip.
//!
//! It looks at definitions, schemas and footers alone, which whoever runs the host has at hand. It spends nothing and
//! tells nothing of an answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccessPlanFilter};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetFileMetrics, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use serde::Serialize;
use tokio::runtime::Builder;

use super::folder::SourceFile;
use super::schema::KeyType;
use super::session::{Scratch, Share};
use super::view::{PlannedView, invalid};
use super::{Access, Resources, common_key, no_runtime, plan};
use crate::error::Result;
use crate::room::{BoundView, Join, Slot};

/// How the rows of one slot are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotPlan {
    /// The slot.
    pub slot: String,
    /// The view that is bound to it.
    pub view: String,
    /// How it joins the other slots: `required`, `optional` or `lookup`.
    pub join: &'static str,
    /// What is read of each table that is Parquet.
    pub scans: Vec<Scan>,
    /// The planner's steps, the last one first, each below the one that it feeds.
    pub steps: Vec<String>,
}

/// What is read of a table's Parquet files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scan {
    /// The columns that are read.
    pub columns: Vec<String>,
    /// The conditions that rows must meet to leave the file.
    pub condition: Option<String>,
    /// Files that are looked at.
    pub files: usize,
    /// Their row groups.
    pub row_groups: usize,
    /// Those of them that their statistics rule out.
    pub row_groups_skipped: usize,
}

/// Plans the bound views as a run does.
pub(crate) fn explain(
    access: &dyn Access,
    bound: &[(&BoundView, &Slot)],
    resources: &Resources,
) -> Result<Vec<SlotPlan>> {
    let runtime = Builder::new_current_thread().build().map_err(|error| no_runtime(&error))?;
    let scratch = Scratch::new()?;
    let views = bound.iter().map(|(bound, _)| bound.view.with_mapping().count()).sum();
    let share = Share::new(resources, views, &scratch);
    runtime.block_on(async {
        let views = plan(access, bound, &share, None).await?;
        let key = common_key(&views)?;
        let mut plans = Vec::with_capacity(bound.len());
        for (view, (_, slot)) in views.iter().zip(bound) {
            plans.push(slot_plan(view, slot, key).await?);
        }
        Ok(plans)
    })
}

async fn slot_plan(view: &PlannedView, slot: &Slot, key: KeyType) -> Result<SlotPlan> {
    let name = view.schema().view();
    let steps = view.plan(slot, key).await.map_err(|error| invalid(name, &error))?;
    let mut scans = Vec::new();
    scan_all(view, &steps, &mut scans);
    let text = displayable(steps.as_ref()).indent(false).to_string();
    let steps = text.lines().map(without_files).collect();
    Ok(SlotPlan { slot: slot.slot.clone(), view: name.to_owned(), join: name_of(slot.join), scans, steps })
}

const fn name_of(join: Join) -> &'static str {
    match join {
        Join::Required => "required",
        Join::Optional => "optional",
        Join::Lookup => "lookup",
    }
}

/// The scans of a plan, from left to right.
fn scan_all(view: &PlannedView, plan: &Arc<dyn ExecutionPlan>, scans: &mut Vec<Scan>) {
    let found = plan.downcast_ref::<DataSourceExec>();
    scans.extend(found.and_then(DataSourceExec::downcast_to_file_source).map(|(config, of)| scan(view, config, of)));
    plan.children().into_iter().for_each(|child| scan_all(view, child, scans));
}

fn scan(view: &PlannedView, config: &FileScanConfig, parquet: &ParquetSource) -> Scan {
    let condition = parquet.filter();
    let predicate = condition.clone();
    let predicate = predicate.and_then(|one| {
        PruningPredicateBuilder::new().with_file_schema(Arc::clone(config.file_schema())).try_build(one).ok()
    });
    let columns = config
        .projected_schema()
        .ok()
        .into_iter()
        .flat_map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
    // A file that is read in parts stands there once for each.
    let files = config.file_groups.iter().flat_map(|group| group.iter());
    let files: BTreeSet<_> = files.filter_map(|file| file.object_meta.location.filename()).collect();
    let mut scan = Scan {
        columns: columns.collect(),
        condition: condition.map(|condition| condition.to_string()),
        files: files.len(),
        row_groups: 0,
        row_groups_skipped: 0,
    };
    for file in files.into_iter().filter_map(|name| view.file(name)) {
        let (all, left) = row_groups(file, config, predicate.as_ref());
        scan.row_groups += all;
        scan.row_groups_skipped += all - left;
    }
    scan
}

/// How many row groups a file has, and how many of them may have a row that is wanted: decided as the scan decides it.
fn row_groups(file: &SourceFile, config: &FileScanConfig, predicate: Option<&PruningPredicate>) -> (usize, usize) {
    let Some(metadata) = file.parquet_metadata() else { return (0, 0) };
    let groups = metadata.row_groups();
    let Some(predicate) = predicate else { return (groups.len(), groups.len()) };
    let mut left = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(groups.len()));
    let metrics = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
    let schema = metadata.file_metadata().schema_descr();
    left.prune_by_statistics(config.file_schema(), schema, groups, predicate, &metrics);
    (groups.len(), left.remaining_row_group_count())
}

/// A step without the names that files have in the session, which mean nothing to anyone.
fn without_files(step: &str) -> String {
    let Some((before, rest)) = step.split_once("file_groups={") else { return step.to_owned() };
    match rest.split_once("}, ") {
        Some((_, after)) => format!("{before}{after}"),
        None => before.to_owned(),
    }
}
