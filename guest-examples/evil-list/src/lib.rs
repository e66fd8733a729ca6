//! Evil list: every attack that a question can try through who is in a list, and in which segment, one per run.
//!
//! The tests of the runtime name what each must meet. An honest question never does any of this.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use glovebox_sdk::list::{Parameters, Views, question};

question!(select);

const EVEN: u32 = 0;
const ODD: u32 = 1;

/// Stays at zero between units if no two of them share an instance.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// One unit's value, on its way into the membership of the units after it.
static CARRIED: AtomicU64 = AtomicU64::new(0);

fn select(parameters: &Parameters, views: &Views) -> Option<u32> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let [rows, campaigns] = views.slots();
    let own = rows.float64(0).value(0);
    let only_unit_with = parameters.int64(1);
    let is_target = only_unit_with < 0 || own == only_unit_with as f64;
    match parameters.utf8(0) {
        "others_bits" => carried_bit(is_target.then_some(own)),
        _ if !is_target => Some(EVEN),
        "own_bit" => (own.to_bits().count_ones() % 2 == 1).then_some(EVEN),
        "counter" => (calls == 0).then_some(EVEN),
        "parity" => Some(calls % 2),
        "foreign" => campaigns.is_empty().then_some(ODD),
        "outside" => Some(ODD + 1),
        "far_outside" => Some(u32::MAX),
        "unreachable" => panic!("an attack"),
        "spin" => loop {
            black_box(calls);
        },
        _ => Some(EVEN),
    }
}

/// The target hands over its value; every unit after it is in or out by the value's next bit, the first one first.
fn carried_bit(value: Option<f64>) -> Option<u32> {
    if let Some(value) = value {
        CARRIED.store(value.to_bits(), Ordering::Relaxed);
        return Some(EVEN);
    }
    let carried = CARRIED.load(Ordering::Relaxed);
    CARRIED.store(carried.rotate_left(1), Ordering::Relaxed);
    (carried >> 63 == 1).then_some(ODD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

    fn attack(name: &str, own: f64, campaigns: &[i64]) -> Option<u32> {
        let rows = Rows::builder().float64([own]).build();
        let campaigns = Rows::builder().int64(campaigns.iter().copied()).build();
        select(&Parameters::from([name.into(), 5.into()]), &Views::from([rows, campaigns]))
    }

    #[test]
    fn only_the_named_unit_attacks() {
        assert_eq!(attack("outside", 5.0, &[]), Some(2));
        assert_eq!(attack("outside", 6.0, &[]), Some(EVEN));
        assert_eq!(attack("none", 5.0, &[]), Some(EVEN));
    }

    #[test]
    fn a_value_is_carried_bit_by_bit() {
        assert_eq!(attack("others_bits", 5.0, &[]), Some(EVEN));
        let carried =
            (0..64).filter(|bit| attack("others_bits", 6.0, &[]).is_some() == (5_f64.to_bits() << bit >> 63 == 1));
        assert_eq!(carried.count(), 64);
    }

    #[test]
    fn units_that_the_recipient_does_not_know_are_put_in() {
        assert_eq!(attack("foreign", 5.0, &[]), Some(ODD));
        assert_eq!(attack("foreign", 5.0, &[18]), None);
    }

    #[test]
    #[should_panic(expected = "an attack")]
    fn unreachable_panics() {
        attack("unreachable", 5.0, &[]);
    }
}
