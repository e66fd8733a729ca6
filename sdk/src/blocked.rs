//! Loops over many numbers, in blocks.
//!
//! In a plain loop each addition waits for the one before, and the engine counts fuel and looks at the clock whenever the
//! loop begins again. Here eight sums grow side by side, and the loop begins again once in 32 numbers.
//!
//! Additions have one order, on every machine. Number `i` of each whole block of 32 goes to accumulator `i % 8`; then
//! accumulators `i` and `i + 4` are added, `i` and `i + 2`, and the last two. What lies behind the last whole block comes
//! last, one number after the other. So fewer than 32 numbers are added as by a plain loop.
//!
//! ```
//! use glovebox_sdk::{Rows, blocked};
//!
//! let rows = Rows::builder().float64([2.5, 0.5, 4.0]).float64([Some(2.0), None, Some(1.0)]).build();
//! let (price, pieces) = (rows.float64(0), rows.float64(1));
//! assert_eq!(blocked::sum(price.values()), 7.0);
//! assert_eq!(blocked::max(price.values()), 4.0);
//! assert_eq!(blocked::count_below(price.values(), 4.0), 2);
//! assert_eq!(blocked::dot(price.values(), &[1.0, 2.0, 1.0]), 7.5);
//!
//! // A column leaves its nulls out.
//! assert_eq!((pieces.sum(), pieces.min(), pieces.max()), (3.0, 1.0, 2.0));
//! ```

use crate::Column;
use crate::fault::fault;

const BLOCK: usize = 32;
/// Additions that do not wait for each other.
const LANES: usize = 8;

/// The sum; of no numbers, 0.
pub fn sum(values: &[f64]) -> f64 {
    fold(values, 0.0, add, add)
}

/// The sum of the products of each two numbers.
///
/// # Panics
/// Where there are not as many on both sides.
pub fn dot(left: &[f64], right: &[f64]) -> f64 {
    if left.len() != right.len() {
        fault!("there are {} numbers on the left and {} on the right", left.len(), right.len())
    }
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<BLOCK>(), right.as_chunks::<BLOCK>());
    let blocks = left.iter().zip(right).map(|(left, right)| std::array::from_fn(|at| left[at] * right[at]));
    let rest = left_rest.iter().zip(right_rest).map(|(left, right)| left * right);
    fold_blocks(blocks, rest, 0.0, add, add)
}

/// The least number; infinity where there is none. What is not a number (NaN) is passed over.
pub fn min(values: &[f64]) -> f64 {
    fold(values, f64::INFINITY, lesser, lesser)
}

/// The greatest number; minus infinity where there is none. What is not a number (NaN) is passed over.
pub fn max(values: &[f64]) -> f64 {
    fold(values, f64::NEG_INFINITY, greater, greater)
}

/// How many numbers lie below an edge. What is below one edge and not below another lies in the bucket between them.
pub fn count_below(values: &[f64], edge: f64) -> usize {
    fold(values, 0, |count, value| count + usize::from(value < edge), |left, right| left + right)
}

/// In [`blocked`](crate::blocked) order, where a null counts as a number that changes nothing.
impl Column<'_, &[f64]> {
    /// The sum of what is not null; of no numbers, 0.
    pub fn sum(&self) -> f64 {
        self.fold(0.0, add)
    }

    /// The least number; infinity where there is none.
    pub fn min(&self) -> f64 {
        self.fold(f64::INFINITY, lesser)
    }

    /// The greatest number; minus infinity where there is none.
    pub fn max(&self) -> f64 {
        self.fold(f64::NEG_INFINITY, greater)
    }

    fn fold(&self, neutral: f64, join: impl Fn(f64, f64) -> f64) -> f64 {
        let Some(validity) = self.validity else { return fold(self.cells, neutral, &join, &join) };
        let (blocks, _) = self.cells.as_chunks::<BLOCK>();
        let (bits, _) = validity.as_chunks::<{ BLOCK / 8 }>();
        let present = |(block, bits): (&[f64; BLOCK], &[u8; BLOCK / 8])| {
            std::array::from_fn(|at| if bits[at / 8] >> (at % 8) & 1 == 1 { block[at] } else { neutral })
        };
        let rest = self.iter().skip(blocks.len() * BLOCK).flatten();
        fold_blocks(blocks.iter().zip(bits).map(present), rest, neutral, &join, &join)
    }
}

fn add(left: f64, right: f64) -> f64 {
    left + right
}

fn lesser(least: f64, value: f64) -> f64 {
    if value < least { value } else { least }
}

fn greater(greatest: f64, value: f64) -> f64 {
    if value > greatest { value } else { greatest }
}

fn fold<T: Copy>(values: &[f64], neutral: T, take: impl Fn(T, f64) -> T, join: impl Fn(T, T) -> T) -> T {
    let (blocks, rest) = values.as_chunks();
    fold_blocks(blocks.iter().copied(), rest.iter().copied(), neutral, take, join)
}

/// The compiler unrolls the inner loops: their lengths are fixed.
fn fold_blocks<T: Copy>(
    blocks: impl Iterator<Item = [f64; BLOCK]>,
    rest: impl Iterator<Item = f64>,
    neutral: T,
    take: impl Fn(T, f64) -> T,
    join: impl Fn(T, T) -> T,
) -> T {
    let mut lanes = [neutral; LANES];
    for block in blocks {
        for (at, value) in block.into_iter().enumerate() {
            lanes[at % LANES] = take(lanes[at % LANES], value);
        }
    }
    for width in [LANES / 2, LANES / 4, LANES / 8] {
        (0..width).for_each(|lane| lanes[lane] = join(lanes[lane], lanes[lane + width]));
    }
    rest.fold(lanes[0], take)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Rows;

    /// The order as it is promised.
    fn in_order(values: &[f64]) -> f64 {
        let whole = values.len() / 32 * 32;
        let mut lanes = [0.0; 8];
        for (at, value) in values[..whole].iter().enumerate() {
            lanes[at % 8] += value;
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let sum = ((a + e) + (c + g)) + ((b + f) + (d + h));
        values[whole..].iter().fold(sum, |sum, value| sum + value)
    }

    /// As a question's rows have them, with nulls.
    fn column(cells: &[Option<f64>]) -> Rows {
        Rows::builder().float64(cells.to_vec()).build()
    }

    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        vec(-1e12..1e12, 0..200)
    }

    /// Sums of these are exact, in any order.
    fn whole_numbers() -> impl Strategy<Value = Vec<Option<f64>>> {
        vec(proptest::option::weighted(0.8, (-1_000_i32..1_000).prop_map(f64::from)), 0..200)
    }

    proptest! {
        #[test]
        fn sums_have_the_order_that_is_promised(values in numbers()) {
            prop_assert_eq!(sum(&values).to_bits(), in_order(&values).to_bits());
            prop_assert_eq!(column(&values.iter().copied().map(Some).collect::<Vec<_>>()).float64(0).sum(), sum(&values));
        }

        #[test]
        fn fewer_than_a_block_are_added_one_after_the_other(values in vec(-1e12..1e12, 0..32)) {
            prop_assert_eq!(sum(&values).to_bits(), values.iter().fold(0.0, |sum, value| sum + value).to_bits());
        }

        #[test]
        fn products_are_added_like_numbers(pairs in vec((-1e6..1e6, -1e6..1e6), 0..200)) {
            let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let products: Vec<f64> = pairs.iter().map(|(left, right)| left * right).collect();
            prop_assert_eq!(dot(&left, &right).to_bits(), in_order(&products).to_bits());
        }

        #[test]
        fn extremes_and_counts_are_those_of_a_plain_loop(values in numbers(), edge in -1e12..1e12) {
            prop_assert_eq!(min(&values), values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(max(&values), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            prop_assert_eq!(count_below(&values, edge), values.iter().filter(|value| **value < edge).count());
        }

        #[test]
        fn nulls_are_left_out(cells in whole_numbers()) {
            let rows = column(&cells);
            let present: Vec<f64> = cells.iter().flatten().copied().collect();
            prop_assert_eq!(rows.float64(0).sum(), present.iter().sum::<f64>() + 0.0);
            prop_assert_eq!(rows.float64(0).min(), min(&present));
            prop_assert_eq!(rows.float64(0).max(), max(&present));
        }
    }

    #[test]
    fn what_is_no_number_is_passed_over_by_extremes_alone() {
        let values: Vec<f64> = (0..70).map(|at| if at % 3 == 0 { f64::NAN } else { f64::from(at) }).collect();
        assert_eq!((min(&values), max(&values)), (1.0, 68.0));
        assert!(sum(&values).is_nan());
        assert_eq!(count_below(&values, f64::INFINITY), 46);
    }

    /// The host writes zero there, which is greater than what a unit may have.
    #[test]
    fn nothing_under_a_null_is_read() {
        let rows = column(&[[Some(-5.0); 40].as_slice(), &[None; 40]].concat());
        assert_eq!(rows.float64(0).max(), -5.0);
        assert_eq!(column(&[None; 40]).float64(0).min(), f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "there are 2 numbers on the left and 1 on the right")]
    fn sides_of_another_length_are_refused() {
        dot(&[1.0, 2.0], &[1.0]);
    }
}
