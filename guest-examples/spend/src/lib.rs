//! Spend: what a household spends, its large purchases and the largest one, for small and for great spenders.
//!
//! A register kernel: it carries three numbers from row to row and keeps nothing else.

#![cfg_attr(not(feature = "component"), no_std)]

use glovebox_sdk::kernel::kernel;

/// Who spends more than this is a great spender.
const GREAT: f64 = 100.0;

kernel! {
    struct Parameters { large_from: i64 }

    struct State { spend: f64, large: i64, largest: f64 }

    struct Row { basket_id: i64, sales_value: Option<f64> }

    struct Answer { spend: f64, large: f64, largest: f64 }

    groups { ["small"], ["great"] }
}

#[inline(always)]
fn init(_: Parameters) -> State {
    State { spend: 0.0, large: 0, largest: 0.0 }
}

#[inline(always)]
fn step(parameters: Parameters, state: State, row: Row) -> State {
    let Some(value) = row.sales_value else { return state };
    let is_large = value >= parameters.large_from as f64;
    State {
        spend: state.spend + value,
        large: state.large + i64::from(is_large),
        largest: if value > state.largest { value } else { state.largest },
    }
}

/// Households without any purchase of which the value is known are left out.
#[inline(always)]
fn emit(_: Parameters, state: State) -> Option<(u32, Answer)> {
    let answer = Answer { spend: state.spend, large: state.large as f64, largest: state.largest };
    (state.spend > 0.0).then_some((u32::from(state.spend > GREAT), answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::analytical::Contribution;
    use glovebox_sdk::{Rows, Views};

    fn answer(values: &[Option<f64>]) -> Vec<Contribution> {
        let baskets = vec![7; values.len()];
        let purchases = Rows::builder().int64(baskets).float64(values.iter().copied()).build();
        measure(&glovebox_sdk::Parameters::from([10.into()]), &Views::from([purchases]))
    }

    #[test]
    fn spend_tells_the_group() {
        assert_eq!(answer(&[Some(2.5), None, Some(10.0)]), [Contribution::new(["small"], [12.5, 1.0, 10.0])]);
        assert_eq!(answer(&[Some(90.0), Some(20.0)]), [Contribution::new(["great"], [110.0, 2.0, 90.0])]);
    }

    #[test]
    fn without_values_there_is_no_contribution() {
        assert_eq!(answer(&[None, None]), []);
        assert_eq!(answer(&[]), []);
    }
}
