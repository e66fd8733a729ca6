//! D. Work without end or measure.
//!
//! | the catalogue says               | in this contract                                            |
//! |----------------------------------|-------------------------------------------------------------|
//! | fuel, exactly at its end         | as it says                                                  |
//! | the clock alone                  | ends the run, not the unit: it depends on the machine       |
//! | `call_ref`, `try_table`          | refused: `every_feature_that_is_off_is_refused`             |
//! | trapping so that fuel comes back | there is none to have back: fuel is each instance's own     |

use super::{Guest, HONEST, ask, comes_to, is_silent, report, said, turns};
use crate::engine::Ticker;
use crate::terms::Limits;

/// Fuel is looked at where functions and loops begin, so what is left of the last of them is run on credit. Where that
/// ends is exact all the same: one less is too little, in every instance and every time.
#[test]
fn d1_fuel_exactly_at_its_end() {
    let guest = Guest::evil(&turns(1_000));
    let takes = guest.asked().fuel;
    let with = |fuel: u64| {
        let limits = Limits { fuel_per_unit: fuel, ..Limits::default() };
        let asked = Guest { limits, ..guest.clone() }.asked();
        (said(&asked), asked.fuel)
    };
    let credit = (1..100).find(|less| with(takes - less).0 == "nothing").unwrap();
    let least = takes - credit + 1;
    // What this version of the engine takes; another number is another agreement's.
    assert_eq!((takes, least), (6_064, 6_063));
    for _ in 0..2 {
        assert_eq!(with(least - 1), ("nothing".to_owned(), least - 1));
        assert_eq!(with(least), (HONEST.to_owned(), least));
        assert_eq!(with(takes + 1), (HONEST.to_owned(), takes));
    }
    report("D1", "the least fuel that suffices, one less and more", "an answer, nothing, the same answer");
}

#[test]
fn d2_work_that_fuel_ends() {
    let walk = "(local.set 2 (i32.const 0))
        (loop $on
            (local.set 2 (i32.and (i32.add (i32.mul (local.get 2) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 0x3fffff)))
            (i32.store (local.get 2) (local.get 2)) (br $on))";
    let grown = "(drop (memory.grow (i32.const 99)))";
    for (what, body) in [
        ("a loop", turns(u32::MAX)),
        ("a walk through memory that no cache holds", format!("{grown} {walk}")),
        (
            "filling all memory at once",
            format!("{grown} (memory.fill (i32.const 0) (i32.const 1) (i32.const 6553600))"),
        ),
        (
            "copying all memory at once",
            format!("{grown} (memory.copy (i32.const 0) (i32.const 8) (i32.const 6553592))"),
        ),
    ] {
        let guest = Guest::evil(&body);
        let asked = is_silent("D2", what, &guest);
        assert_eq!(asked.fuel, guest.limits.fuel_per_unit, "{what}");
    }
}

/// A trap gives nothing back: neither to the unit, whose call is over, nor to the next.
#[test]
fn d3_fuel_that_is_burnt_before_a_trap() {
    let asked =
        is_silent("D3", "most of the fuel, and then a trap", &Guest::evil(&format!("{} unreachable", turns(200_000))));
    assert!(asked.fuel > 500_000, "{}", asked.fuel);
}

#[test]
fn d4_stacks() {
    let depth = |calls: u32| Guest {
        fields: "(func $down (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
                (else (i32.const 0))))"
            .into(),
        ..Guest::evil(&format!("(return (call $say (f64.convert_i32_s (call $down (i32.const {calls})))))"))
    };
    comes_to("D4", "500 calls, as a control", &depth(500), "a=[500.0, 1.0]");
    let asked = is_silent("D4", "12,000 calls that there is fuel for", &depth(12_000));
    assert!(asked.fuel < 1_000_000, "it is the stack that ends it");
}

#[test]
fn d5_a_table_of_branches() {
    let table = format!("(block $on (br_table {} (i32.const 7)))", "$on ".repeat(20_000));
    comes_to("D5", "a branch to one of 20,000 places", &Guest::evil(&table), HONEST);
}

/// Where there is fuel for years, the clock ends it: not for the unit, silently, but for the whole run.
#[test]
fn d6_the_clock() {
    let limits = Limits { fuel_per_unit: 1 << 50, milliseconds_per_unit: 20, ..Limits::default() };
    let fills = "(loop $on (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $on))";
    for (what, body) in [("a loop", "(loop $on (br $on))"), ("filling memory without end", fills)] {
        let question = Guest { limits: limits.clone(), ..Guest::evil(body) }.question().unwrap();
        let _ticker = Ticker::of(&question);
        let denial = question.ask_all(bytemuck::cast_slice(&super::batch(&[1, 3, 1])), 3).err().unwrap();
        assert_eq!(
            (denial.reason().as_str(), denial.fact()),
            ("TIMED_OUT", "a unit took longer than the agreed 20 ms")
        );
        // One that was ended leaves nothing behind, and honest units are in no hurry.
        assert_eq!(said(&ask(&question, &[1])[0]), HONEST);
        report("D6", &format!("{what}, against the clock alone"), "TIMED_OUT, of the whole run");
    }
}
