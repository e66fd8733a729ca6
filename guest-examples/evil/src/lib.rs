//! Evil: every attack that a question can try on the sandbox and the privacy gate, one per run.
//!
//! The tests of the runtime name each attack and the refusal or silence that it must meet. An honest question never
//! does any of this.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};

question!(measure);

/// Stays at zero between units if no two of them share an instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

fn measure(parameters: &Parameters, views: &Views) -> Vec<Contribution> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let [rows] = views.slots();
    let only_unit_with = parameters.int64(1);
    let is_target = only_unit_with < 0 || rows.float64(0).get(0) == Some(only_unit_with as f64);
    if !is_target {
        return one(1.0);
    }
    match parameters.utf8(0) {
        "unreachable" => panic!("an attack"),
        "spin" => spin(),
        "recurse" => one(recurse(1)),
        "allocate" => allocate(),
        "long_key" => vec![Contribution::new(["a".repeat(10_000_000)], [1.0])],
        "flood" => (0..1_000_000).map(|key| Contribution::new([key.to_string()], [1.0])).collect(),
        "nan" => one(f64::NAN),
        "infinity" => one(f64::INFINITY),
        "wrong_width" => vec![Contribution::new(["all"], [1.0, 2.0, 3.0])],
        "wrong_group" => vec![Contribution::new(["not in the domain"], [1.0])],
        "counter" => one(f64::from(calls)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

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
    #[should_panic(expected = "an attack")]
    fn unreachable_panics() {
        attack("unreachable", -1);
    }
}
