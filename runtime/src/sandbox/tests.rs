//! The stage without a room: figures that do not depend on threads.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use glovebox_sandbox::testing::{MEASURE, WIT, encode, module};

use super::inprocess::InProcess;
use super::{Figures, ask_in_parallel, spec};
use crate::error::Result;
use crate::privacy::{Setting, Tally};
use crate::provision::{Rows, Unit, UnitKey};
use crate::room::{Controls, Limits, Manifest};

const MANIFEST: &str = r#"
    version = 1
    name = "t"
    kind = "analytical"
    isolation = "sealed"
    description = "t"
    [[view]]
    slot = "left"
    join = "required"
    columns = [{ name = "value", type = "int64" }]
    [[view]]
    slot = "right"
    join = "optional"
    columns = [{ name = "value", type = "int64" }]
    [[group]]
    name = "group"
    domain = ["a"]
    [[measure]]
    name = "units"
    reducer = "count"
    [bounds]
    max_rows_per_unit = 100
"#;

fn analytical(body: &str) -> Vec<u8> {
    encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, body)).unwrap())
}

/// Units with 0 to 4 rows on the left and up to 2 on the right; what a unit's question does depends on the left ones.
fn units(count: i64) -> Vec<Unit> {
    let values: ArrayRef = Arc::new(Int64Array::from((0..8).collect::<Vec<i64>>()));
    let batch = Arc::new(RecordBatch::try_from_iter([("value", values)]).unwrap());
    let rows = |start: i64, count: i64| Rows {
        batch: Arc::clone(&batch),
        start: usize::try_from(start).unwrap(),
        count: usize::try_from(count).unwrap(),
    };
    let unit = |at: i64| Unit { key: UnitKey::Int64(at), views: vec![rows(at % 3, at % 5), rows(1, at % 3)] };
    (0..count).map(unit).collect()
}

fn figures(component: &[u8], limits: &Limits, threads: u32, units: Vec<Unit>) -> Result<Figures> {
    let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
    let question = InProcess::new(component, spec(&manifest, &[], limits), &manifest.slots, threads);
    let empty = Tally::new(&manifest, &Controls::default(), Setting::of_one_owner());
    let mut units = units.into_iter();
    // Chunks of uneven size, so that no two runs cut alike.
    let mut size = 0;
    ask_in_parallel(vec![&question; threads as usize], &empty, || {
        size = size % 7 + 1;
        let chunk: Vec<Unit> = units.by_ref().take(size).collect();
        Ok((!chunk.is_empty()).then_some(chunk))
    })
    .map(|(_, figures)| figures)
}

/// Loops once per thousand and row; with three rows it traps, with four it takes two pages and never ends.
const BUSY: &str = "
    (local $rows i32) (local $left i32)
    (local.set $rows (i32.load offset=16 (local.get 0)))
    (local.set $left (i32.mul (local.get $rows) (i32.const 1000)))
    (if (i32.eq (local.get $rows) (i32.const 3)) (then unreachable))
    (if (i32.eq (local.get $rows) (i32.const 4)) (then (drop (memory.grow (i32.const 2))) (loop $on (br $on))))
    (loop $on
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $on (i32.gt_s (local.get $left) (i32.const 0))))";

#[test]
fn figures_are_exact() {
    let limits = Limits { fuel_per_unit: 100_000, ..Limits::default() };
    let all = figures(&analytical(BUSY), &limits, 1, units(30)).unwrap();
    assert_eq!((all.units, all.answered, all.trapped), (30, 18, 12));
    assert_eq!(all.memory_bytes_max, 3 << 16);
    assert_eq!(all.rows_per_slot, [60, 30]);
    let of = |at: usize| figures(&analytical(BUSY), &limits, 1, vec![units(30).remove(at)]).unwrap();
    assert_eq!(of(4).fuel, limits.fuel_per_unit, "a loop that never ends takes all");
    assert!((3_000..30_000).contains(&of(1).fuel) && of(2).fuel - of(1).fuel > 3_000);
    assert_eq!(all.fuel, (0..30).map(|at| of(at).fuel).sum::<u64>());
}

#[test]
fn figures_are_the_same_on_any_number_of_threads() {
    let limits = Limits { fuel_per_unit: 100_000, ..Limits::default() };
    let component = analytical(BUSY);
    let one = figures(&component, &limits, 1, units(200)).unwrap();
    for threads in [1, 2, 5] {
        assert!(figures(&component, &limits, threads, units(200)).unwrap() == one, "{threads} threads");
    }
    let none = figures(&component, &limits, 2, Vec::new()).unwrap();
    assert!((none.units, none.fuel, none.memory_bytes_max) == (0, 0, 0) && none.rows_per_slot.is_empty());
}

/// Growth beyond a limit is told to the guest, as often as it asks, takes nothing of its allowance and ends no run.
#[test]
fn growth_that_is_refused_takes_nothing() {
    let asks = |pages: u32| format!("(drop (memory.grow (i32.const {pages})))");
    let too_many = [asks(101), asks(65_535), asks(300), asks(100)].concat();
    let question = analytical(&format!("{too_many} {} {too_many}", asks(99)));
    let figures = figures(&question, &Limits::default(), 1, units(5)).unwrap();
    assert_eq!((figures.answered, figures.memory_bytes_max), (5, 100 << 16));
}

#[test]
fn figures_are_read_as_they_are_written() {
    let limits = Limits { fuel_per_unit: 100_000, ..Limits::default() };
    let figures = figures(&analytical(BUSY), &limits, 1, units(7)).unwrap();
    let text = serde_json::to_string(&figures).unwrap();
    assert!(serde_json::from_str::<Figures>(&text).unwrap() == figures);
    assert!(serde_json::from_str::<Figures>(&text.replacen('{', "{\"more\":1,", 1)).is_err());
}
