//! What reading a view will take is told as it then is.

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;

use super::super::explain;
use super::super::session::Scratch;
use super::*;

fn explained(folder: &Folder, view: &View, slot: &Slot) -> super::super::SlotPlan {
    let bound = bind(view.clone(), slot, describe(&folder.host(), view).unwrap().sha256());
    explain(&folder.host(), &[(&bound, slot)], &MEMORY).unwrap().remove(0)
}

/// A file of four row groups, the units in order.
fn of_four_groups(folder: &Folder, name: &str, from: i64) {
    let units: Vec<i64> = (from..from + 200_000).collect();
    let a: Vec<i64> = units.iter().map(|unit| unit % 7).collect();
    folder.parquet(name, &[("unit", ints(&units)), ("a", ints(&a)), ("b", ints(&a))]);
}

#[test]
fn row_groups_that_statistics_rule_out_are_counted() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("t")).unwrap();
    of_four_groups(&folder, "t/one.parquet", 0);
    of_four_groups(&folder, "t/two.parquet", 200_000);
    for (condition, skipped) in [("", 0), ("WHERE unit >= 149999", 2), ("WHERE unit < 1", 7), ("WHERE a = 3", 0)] {
        let sql = format!("SELECT unit, a FROM t {condition}");
        let plan = explained(&folder, &view("v", &sql, &[("t", "t/")]), &int_slot());
        let [scan] = &plan.scans[..] else { panic!("{plan:?}") };
        assert_eq!((scan.files, scan.row_groups, scan.row_groups_skipped), (2, 8, skipped), "{condition}");
        assert!(!scan.columns.contains(&"b".to_owned()), "{scan:?}");
        let told = scan.condition.as_deref().unwrap_or_default();
        assert!(["149999", "< 1", "= 3"].iter().all(|word| condition.contains(word) == told.contains(word)), "{told}");
        assert!(plan.steps.iter().all(|step| !step.contains("file_groups")), "{:?}", plan.steps);
    }
}

/// Row groups that the engine ruled out by their statistics while it read.
fn ruled_out(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let metrics = plan.metrics().unwrap_or_default();
    let own = metrics.iter().filter_map(|metric| match metric.value() {
        MetricValue::PruningMetrics { name, pruning_metrics } if name == "row_groups_pruned_statistics" => {
            Some(pruning_metrics.pruned())
        }
        _ => None,
    });
    own.sum::<usize>() + plan.children().into_iter().map(ruled_out).sum::<usize>()
}

/// What is told beforehand is what the engine then does.
#[test]
fn what_is_said_to_be_skipped_is_not_read() {
    let folder = Folder::new();
    of_four_groups(&folder, "t.parquet", 0);
    let view = view("v", "SELECT unit, a FROM t WHERE unit >= 150000", &[("t", "t.parquet")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let skipped = runtime.block_on(async {
        let scratch = Scratch::new().unwrap();
        let share = Share::new(&MEMORY, 1, &scratch);
        let planned = PlannedView::new(&folder.host(), &view, &share, None).await.unwrap();
        let all = planned.aliased().unwrap().build().unwrap();
        let (plan, context) = planned.physical(&all).await.unwrap();
        let rows = datafusion::physical_plan::collect(Arc::clone(&plan), context).await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 50_000);
        ruled_out(&plan)
    });
    assert_eq!(skipped, 3);
    assert_eq!(explained(&folder, &view, &int_slot()).scans[0].row_groups_skipped, skipped);
}
