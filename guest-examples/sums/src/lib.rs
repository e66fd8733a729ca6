//! Sums: a unit's values added up again and again, by a plain loop or in blocks.
//!
//! The benchmark's measure of loops: what they cost where fuel and time are metered. An honest question adds up once.

use std::hint::black_box;

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};
use glovebox_sdk::blocked;

question!(measure);

fn measure(parameters: &Parameters, views: &Views) -> Vec<Contribution> {
    let [rows] = views.slots();
    let values = rows.float64(0).values();
    let sum = if parameters.boolean(1) { blocked::sum } else { plain };
    // What nobody looks at would not be computed.
    let last = (0..parameters.int64(0)).fold(None, |_, _| Some(black_box(sum(black_box(values)))));
    last.map(|sum| Contribution::new(["all"], [sum])).into_iter().collect()
}

fn plain(values: &[f64]) -> f64 {
    values.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

    #[test]
    fn plain_or_in_blocks_the_sum_is_the_same() {
        let views = Views::from([Rows::builder().float64((0..100).map(f64::from)).build()]);
        for in_blocks in [false, true] {
            let answer = measure(&Parameters::from([3.into(), in_blocks.into()]), &views);
            assert_eq!(answer, [Contribution::new(["all"], [4950.0])]);
        }
    }
}
