//! G. State that one unit leaves for the next.
//!
//! The guest looks for marks whenever it is asked, and an attacked unit leaves all that it can. Nobody finds any, however
//! the pool resets its slots; an instance that is kept shows that there is something to find.

use wasmtime::{Enabled, PoolingAllocationConfig};

use super::{COMPANY, EVIL, Guest, ask, batch, bits, comes_to, is_silent, report, resetting, said};
use crate::contract::Answer;
use crate::engine::{Kept, Question};
use crate::terms::Limits;
use crate::tests::pressure::{Swap, page_out};

/// What is looked at: all of memory up to 40 pages, sizes, elements, whether segments are there; it counts in `$calls`.
const LOOKS: &str = "
    (local.set 2 (i32.const 65536))
    (global.set $calls (i32.add (global.get $calls) (i32.mul (i32.const 1000) (i32.add (memory.size) (table.size $table)))))
    (memory.init $kept (i32.const 2048) (i32.const 0) (i32.const 8))
    (table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 1))
    (table.set $table (i32.const 0) (ref.null func))
    (global.set $calls (i32.add (global.get $calls) (i32.wrap_i64 (global.get $mark))))
    (global.set $calls (i32.add (global.get $calls)
        (i32.mul (i32.const 1000000) (i32.eqz (ref.is_null (table.get $table (i32.const 3)))))))
    (drop (memory.grow (i32.const 39)))
    (drop (table.grow $table (ref.null func) (i32.const 100)))
    (loop $on
        (global.set $calls (i32.add (global.get $calls) (i64.ne (i64.load (local.get 2)) (i64.const 0))))
        (local.set 2 (i32.add (local.get 2) (i32.const 64)))
        (br_if $on (i32.lt_u (local.get 2) (i32.const 2621440))))";

/// Everything that can be left.
const LEAVES: &str = "
    (global.set $mark (i64.const 77))
    (drop (memory.grow (i32.const 50)))
    (memory.fill (i32.const 16384) (i32.const 0xa5) (i32.const 5881856))
    (drop (table.grow $table (ref.func $kept_function) (i32.const 500)))
    (table.fill $table (i32.const 0) (ref.func $kept_function) (i32.const 604))";

/// Of memory alone.
const MARKED_BYTES: usize = 5_881_856;

/// What cannot be had again.
const DROPS: &str = "(data.drop $kept) (elem.drop $elements)";

/// What one row is answered where there are no marks.
const UNMARKED: &str = "[10.0, 5001.0]";

fn marking(after: &str) -> Guest {
    let fields = "(global $mark (mut i64) (i64.const 0))
        (func $kept_function) (elem $elements func $kept_function) (data $kept \"canaries\")";
    Guest {
        fields: fields.into(),
        always: LOOKS.into(),
        limits: Limits::default(),
        pages: (1, 250),
        ..Guest::evil(&format!("{LEAVES} {after}"))
    }
}

/// Nobody hears of marks, in a pool of the profile, in new memory, and in pools that copy nothing, half and all.
#[test]
fn g1_marks_in_everything() {
    for (what, after, expected) in [
        ("marks in memory, globals, tables and segments", DROPS, "a=[10.0, 5001.0]"),
        ("the same, and then a trap", "(data.drop $kept) unreachable", "nothing"),
        ("the same, and then no fuel", "(loop $on (br $on))", "nothing"),
        ("the same, and then an answer that is none", "(return (i32.const -1))", "nothing"),
    ] {
        let guest = marking(after);
        let of_profile = ask(&guest.question().unwrap(), &COMPANY);
        comes_to("G1", what, &guest, expected);
        for (memory, tables) in [(0, 0), (1 << 16, 0), (0, 1 << 20), (3 << 20, 64), (16 << 20, 1 << 20)] {
            let kept = resetting(&guest, |pool| {
                pool.linear_memory_keep_resident(memory).table_keep_resident(tables);
            });
            let kept = ask(&kept, &COMPANY);
            let is_same = of_profile.iter().zip(&kept).all(|(one, other)| bits(one) == bits(other));
            assert!(is_same, "{what}, with {memory} and {tables} bytes kept resident");
        }
    }
}

/// What a unit is answered in the instance that the one before has left.
fn say_in(kept: &mut Option<Kept>, question: &Question, rows: usize) -> String {
    match question.ask_in_kept(kept, bytemuck::cast_slice(&batch(&[rows]))).unwrap() {
        Answer::Contributions(list) => format!("{:?}", list[0].values),
        _ => "nothing".to_owned(),
    }
}

/// The attack is alive: an instance that is kept tells the next unit.
#[test]
fn g2_an_instance_that_is_kept_tells() {
    let third = |drops: &str| {
        let (question, mut kept) = (marking(drops).question().unwrap(), None);
        [1, EVIL, 1].map(|rows| say_in(&mut kept, &question, rows))
    };
    let [before, _, after] = third("");
    assert!(before == UNMARKED && after != before && after != "nothing", "{after}");
    let [before, _, after] = third(DROPS);
    assert_eq!((before.as_str(), after.as_str()), (UNMARKED, "nothing"));
    report("G2", "the same in an instance that is kept: the reference", "the next unit is told");
}

#[test]
fn g3_a_counter() {
    let question = Guest::default().question().unwrap();
    let mut kept = None;
    for count in 1..4 {
        let answer = question.ask_in_kept(&mut kept, bytemuck::cast_slice(&batch(&[1]))).unwrap();
        let Answer::Contributions(list) = answer else { panic!("an answer") };
        assert_eq!(list[0].values, [10.0, f64::from(count)]);
    }
    drop(kept);
    let apart: Vec<String> = ask(&question, &[1, 1, 1]).iter().map(said).collect();
    assert_eq!(apart, ["a=[10.0, 1.0]"; 3]);
    report("G3", "a counter", "is 1 for every unit");
}

/// Whoever comes before and after, in every order, each unit is answered alike.
#[test]
fn g4_company_and_order() {
    let guest = marking("unreachable");
    let question = guest.question().unwrap();
    let alone: Vec<_> = [1, 2, 3].map(|rows| bits(&ask(&question, &[rows])[0])).into();
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1], [3, 3, 3], [3, 3, 1]] {
        for (rows, asked) in order.into_iter().zip(ask(&question, &order)) {
            assert!(bits(&asked) == alone[rows - 1], "{rows} rows in {order:?}");
        }
    }
    is_silent("G4", "marks, whoever comes before and after", &guest);
}

/// What a unit finds that comes after marks, where everything is paged out before their instance goes, and again before
/// its own comes.
fn found_after_paging_out(question: &Question, is_kept: bool) -> String {
    let mut kept = None;
    say_in(&mut kept, question, EVIL);
    let out = page_out();
    assert!(out > MARKED_BYTES / 2, "{out} bytes are paged out");
    if !is_kept {
        kept = None;
    }
    page_out();
    say_in(&mut kept, question, 1)
}

/// A machine that runs short of memory takes a unit's pages before they are reset: they come back, and are reset all the
/// same. The reset that the profile turns off looks for pages that are in memory, and lets the others be.
#[test]
fn g5_marks_that_are_paged_out() {
    let what = "marks in memory that is paged out";
    let Some(swap) = Swap::find() else {
        return report("G5", what, "NOT TRIED: no swap here, and no right to make any");
    };
    let guest = marking("");
    let question = guest.question().unwrap();
    for _ in 0..3 {
        assert_eq!(found_after_paging_out(&question, false), UNMARKED);
    }
    report("G5", &format!("{what}, to {}", swap.whose()), UNMARKED);
    let kept = found_after_paging_out(&question, true);
    assert!(kept != UNMARKED && kept != "nothing", "{kept}");
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // Not of tables: on what is left there, the engine of a debug build stops.
        let scanning = resetting(&guest, |pool| {
            pool.linear_memory_keep_resident(256 << 10).pagemap_scan(Enabled::Yes);
        });
        let told = found_after_paging_out(&scanning, false);
        assert!(told != UNMARKED && told != "nothing", "{told}");
        report("G5", "the same, with a reset that scans for pages: the reference", "the next unit is told");
    }
}
