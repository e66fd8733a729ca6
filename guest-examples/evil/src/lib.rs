//! Evil: every attack that a question can try on the sandbox and the privacy gate, one per run.
//!
//! The tests of the runtime name each attack and the refusal or silence that it must meet. An honest question never
//! does any of this.

use std::hint::black_box;
use std::iter;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use glovebox_sdk::Rows;
use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};

question!(measure);

/// Stays at zero between units if no two of them share an instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// 256 KiB in which a unit leaves a mark for the next one; more than the host keeps resident between units.
static DESK: [AtomicU64; 1 << 15] = [const { AtomicU64::new(0) }; 1 << 15];

/// What the units of a `medley` do, each by its own value: some leave and look for marks, others fail in every way.
const MEDLEY: [&str; 8] = ["counter", "residue", "unreachable", "observe", "spin", "recurse", "allocate", "grow"];

fn measure(parameters: &Parameters, views: &Views) -> Vec<Contribution> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let [rows] = views.slots();
    let only_unit_with = parameters.int64(1);
    let is_target = only_unit_with < 0 || rows.float64(0).get(0) == Some(only_unit_with as f64);
    if !is_target {
        return one(1.0);
    }
    let attack = match parameters.utf8(0) {
        "medley" => MEDLEY[rows.float64(0).value(0) as usize % MEDLEY.len()],
        attack => attack,
    };
    match attack {
        "unreachable" => panic!("an attack"),
        "divide" => one((1 / black_box(0_i64)) as f64),
        "spin" => spin(),
        "recurse" => one(recurse(1)),
        "allocate" => allocate(),
        "long_key" => vec![Contribution::new(["a".repeat(10_000_000)], [1.0])],
        "flood" => (0..1_000_000).map(|key| Contribution::new([key.to_string()], [1.0])).collect(),
        "nan" => one(f64::NAN),
        "nan_payload" => one(f64::from_bits(0xfff0_dead_beef_cafe)),
        "infinity" => one(f64::INFINITY),
        "minus_infinity" => one(f64::NEG_INFINITY),
        "max" => one(f64::MAX),
        "whole" => one(i64::MIN as f64),
        "denormal" => one(f64::from_bits(1)),
        "low_bits" => one(f64::from_bits(1_f64.to_bits() | 0x5ec7e7)),
        "wrong_width" => vec![Contribution::new(["all"], [1.0, 2.0, 3.0])],
        "wrong_group" => vec![Contribution::new(["not in the domain"], [1.0])],
        "counter" => one(f64::from(calls)),
        "residue" => one(leave_marks() as f64),
        "observe" => one(observe(rows, calls)),
        "grow" => one(grow() as f64),
        "seed" => one(within_ten(parameters.seed(2))),
        "duplicate" => vec![Contribution::new(["all"], [1.0]); 1_000],
        "negative_zero" => one(-0.0),
        _ => one(1.0),
    }
}

/// What an honest unit contributes.
fn one(value: f64) -> Vec<Contribution> {
    vec![Contribution::new(["all"], [value])]
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns).wrapping_add(1);
    }
}

/// Ends only with the stack: every frame is needed after the call that it makes, so the compiler cannot drop it.
fn recurse(depth: u64) -> f64 {
    let frame = black_box([depth; 64]);
    if frame[0] == 0 {
        return 0.0;
    }
    recurse(depth + 1) + black_box(frame)[63] as f64
}

/// Asks for 5 GB, more than a 32-bit memory holds, and touches every page of it.
fn allocate() -> Vec<Contribution> {
    const PAGE: usize = 64 * 1024;
    let mut hoard = Vec::new();
    for _ in 0..5_000_000_000_u64 / PAGE as u64 {
        hoard.push(black_box(vec![1_u8; PAGE]));
    }
    one(hoard.len() as f64)
}

/// Writes a mark into every word of the desk; returns how many it found there.
fn leave_marks() -> usize {
    DESK.iter().filter(|word| word.swap(0xa5a5_a5a5, Ordering::Relaxed) != 0).count()
}

/// A digest of all that a unit can look at, in 52 bits: its rows and where they lie, its stack, its memory's size.
fn observe(rows: &Rows, calls: u32) -> f64 {
    let values = rows.float64(0).values();
    let local = black_box(0_u8);
    let places =
        [values.as_ptr() as u64, &raw const local as u64, pages() as u64, u64::from(calls), values.len() as u64];
    let seen = places.into_iter().chain(values.iter().map(|value| value.to_bits()));
    let digest = seen.fold(0xcbf2_9ce4_8422_2325, |digest: u64, word| (digest ^ word).wrapping_mul(0x0100_0000_01b3));
    (digest >> 12) as f64
}

/// A seed, as a number of the measure's range: 53 bits of it.
fn within_ten(seed: u64) -> f64 {
    10.0 * (seed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Takes all the memory that it is given; returns how many pages that were.
fn grow() -> usize {
    iter::repeat_with(one_page_more).take_while(|granted| *granted).count()
}

#[cfg(target_family = "wasm")]
fn one_page_more() -> bool {
    core::arch::wasm32::memory_grow::<0>(1) != usize::MAX
}

#[cfg(target_family = "wasm")]
fn pages() -> usize {
    core::arch::wasm32::memory_size::<0>()
}

/// Natively there is no memory of one's own to grow.
#[cfg(not(target_family = "wasm"))]
fn one_page_more() -> bool {
    false
}

#[cfg(not(target_family = "wasm"))]
fn pages() -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attack(name: &str, only_unit_with: i64) -> Vec<Contribution> {
        let views = Views::from([Rows::builder().float64([5.0]).build()]);
        measure(&Parameters::from([name.into(), only_unit_with.into()]), &views)
    }

    #[test]
    fn the_control_is_honest() {
        assert_eq!(attack("none", -1), one(1.0));
    }

    #[test]
    fn only_the_named_unit_attacks() {
        assert_eq!(attack("infinity", 5), one(f64::INFINITY));
        assert_eq!(attack("infinity", 6), one(1.0));
    }

    #[test]
    fn attacks_that_end_do_what_they_say() {
        assert!(attack("nan", -1)[0].values[0].is_nan());
        assert!(attack("negative_zero", -1)[0].values[0].is_sign_negative());
        assert_eq!(attack("wrong_width", -1)[0].values.len(), 3);
        assert_eq!(attack("wrong_group", -1)[0].group, ["not in the domain"]);
        assert_eq!(attack("long_key", -1)[0].group[0].len(), 10_000_000);
        assert_eq!(attack("flood", -1).len(), 1_000_000);
        assert_eq!(attack("duplicate", -1).len(), 1_000);
    }

    #[test]
    fn numbers_are_what_they_say() {
        let value = |name: &str| attack(name, -1)[0].values[0];
        assert!(value("nan_payload").is_nan() && value("low_bits") > 1.0);
        assert!(value("denormal") > 0.0 && value("denormal").is_subnormal());
        assert_eq!(value("whole"), -(2_f64.powi(63)));
    }

    #[test]
    fn a_seed_is_told_within_the_range() {
        let told = |seed: i64| {
            let views = Views::from([Rows::builder().float64([5.0]).build()]);
            measure(&Parameters::from(["seed".into(), (-1).into(), seed.into()]), &views)[0].values[0]
        };
        assert_eq!([0, i64::MIN].map(told), [0.0, 5.0]);
        assert!((9.9..10.0).contains(&told(-1)));
    }

    #[test]
    fn marks_are_found_by_whoever_comes_next() {
        attack("residue", -1);
        assert_eq!(attack("residue", -1), one(DESK.len() as f64));
    }

    #[test]
    fn what_is_observed_depends_on_the_rows() {
        let observed = |value: f64| observe(&Rows::builder().float64([value]).build(), 1);
        assert_ne!(observed(1.0), observed(2.0));
    }

    #[test]
    #[should_panic(expected = "divide by zero")]
    fn division_by_zero_panics() {
        attack("divide", -1);
    }

    #[test]
    #[should_panic(expected = "an attack")]
    fn unreachable_panics() {
        attack("unreachable", -1);
    }
}
