//! How a unit's values become whole numbers: clamped to the agreed range, then rounded toward zero onto a grid.
//!
//! This is the one place where a guest's floats are looked at. What comes out is bounded whatever they were, and depends
//! on this unit's answer alone.

/// Brings a value into its range and onto a grid of whole numbers.
///
/// The grid is the smallest power of two that leaves at most 2^20 steps, so a sum times the grid is exact in a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grid {
    low: f64,
    high: f64,
    /// What is taken off before rounding.
    pub(super) center: f64,
    /// The width of a step.
    pub(super) step: f64,
    /// The smallest and the largest number that can come out.
    pub(super) low_steps: i64,
    pub(super) high_steps: i64,
}

const STEPS: f64 = (1u32 << 20) as f64;

impl Grid {
    /// A grid around `center`, which lies in the range.
    pub(super) fn new([low, high]: [f64; 2], center: f64) -> Self {
        let magnitude = (low - center).abs().max((high - center).abs());
        let step = (magnitude / STEPS).log2().ceil().exp2();
        let mut grid = Self { low, high, center, step, low_steps: i64::MIN, high_steps: i64::MAX };
        (grid.low_steps, grid.high_steps) = (grid.steps(low), grid.steps(high));
        grid
    }

    /// A grid for a range whose middle is taken off.
    pub(super) fn centered(range: [f64; 2]) -> Self {
        Self::new(range, f64::midpoint(range[0], range[1]))
    }

    /// Rounds toward zero, so that no magnitude grows. What is no number is in the center, like nothing at all.
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and the result is clamped")]
    pub(super) fn steps(self, value: f64) -> i64 {
        let value = if value.is_nan() { self.center } else { value.clamp(self.low, self.high) };
        (((value - self.center) / self.step) as i64).clamp(self.low_steps, self.high_steps)
    }

    /// What is taken off before rounding, in whole steps.
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    pub(super) fn center_steps(self) -> i128 {
        (self.center / self.step).round() as i128
    }

    /// The largest magnitude that can come out.
    pub(super) fn bound(self) -> u64 {
        self.low_steps.unsigned_abs().max(self.high_steps.unsigned_abs())
    }

    /// How far two values can be apart.
    pub(super) fn width(self) -> u64 {
        self.high_steps.abs_diff(self.low_steps)
    }

    /// The value of a sum of steps, without what was taken off. Post-processing.
    #[expect(clippy::cast_precision_loss, reason = "noisy values; what is lost is far below the noise")]
    pub(super) fn value(self, steps: i128) -> f64 {
        steps as f64 * self.step
    }

    /// Which of `bins` equal parts of the range a value lies in. What is no number is in the first.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "below bins"
    )]
    pub(super) fn bin(self, value: f64, bins: usize) -> usize {
        let value = if value.is_nan() { self.low } else { value.clamp(self.low, self.high) };
        let at = (value - self.low) / (self.high - self.low) * bins as f64;
        (at as usize).min(bins - 1)
    }

    /// The lower edge of a part of the range; the upper one of the part before it.
    #[expect(clippy::cast_precision_loss, reason = "at most 1,024 bins")]
    pub(super) fn edge(self, bin: usize, bins: usize) -> f64 {
        self.low + (self.high - self.low) * (bin as f64 / bins as f64)
    }

    pub(super) const fn range(self) -> [f64; 2] {
        [self.low, self.high]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_float_lands_in_bounds_and_near_where_it_was(
            bits in any::<u64>(),
            low in -1e6..1e6f64,
            width in 1e-6..1e6f64,
        ) {
            let (value, range) = (f64::from_bits(bits), [low, low + width]);
            for grid in [Grid::new(range, 0.0f64.clamp(range[0], range[1])), Grid::centered(range)] {
                prop_assert_eq!(grid.step.log2().fract(), 0.0);
                let steps = grid.steps(value);
                prop_assert!((grid.low_steps..=grid.high_steps).contains(&steps));
                prop_assert!(grid.bound() <= 1 << 21 && grid.width() <= 2 * grid.bound());
                prop_assert!(grid.bin(value, 64) < 64);
                if !value.is_nan() {
                    let back = grid.value(steps.into()) + grid.center;
                    prop_assert!((back - value.clamp(range[0], range[1])).abs() <= grid.step * 1.001);
                }
            }
        }
    }

    #[test]
    fn values_that_print_alike_are_one_number() {
        let grid = Grid::new([0.0, 10.0], 0.0);
        let odd = [f64::from_bits(0x7ff8_dead_beef_0001), -0.0, 5e-324, f64::NEG_INFINITY];
        assert!(odd.iter().all(|value| grid.steps(*value) == 0));
        assert_eq!(grid.steps(f64::INFINITY), grid.steps(10.0));
    }
}
