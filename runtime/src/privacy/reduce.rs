//! From a unit's values to numbers that are added up, and from noisy sums to the columns of the table.
//!
//! Everything on the way out is post-processing of noisy (or, without noise, rounded) whole numbers: floats can do no
//! harm there.

use super::grid::Grid;
use super::mechanism::{Mechanism, Statistic};
use crate::room::{Manifest, Measure, Reducer};

/// What of a cell may be looked at.
pub(super) struct Shown {
    pub(super) units: i128,
    pub(super) sums: Vec<i128>,
}

/// A number of the released table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "for ordering alone")]
    pub(super) const fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// A column of the released table.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_integer: bool,
}

/// Turns the values of one unit, one list per group, into the numbers to add to each of these groups. It keeps room, so
/// that no unit costs an allocation.
#[derive(Clone, Default)]
pub(super) struct Encoder {
    width: usize,
    /// The numbers of all groups, one group after the other.
    numbers: Vec<i128>,
    /// One measure's values in all groups.
    steps: Vec<i64>,
}

impl Encoder {
    pub(super) fn encode<'a>(&mut self, mechanism: &Mechanism, groups: impl Iterator<Item = &'a [f64]> + Clone) {
        self.width = mechanism.width();
        self.numbers.clear();
        self.numbers.resize(groups.clone().count() * self.width, 0);
        let with_values = mechanism.statistics.iter().filter(|statistic| statistic.takes_a_value());
        for (index, statistic) in with_values.enumerate() {
            let values = groups.clone().map(|group| group.get(index).copied().unwrap_or(f64::NAN));
            match *statistic {
                Statistic::Sum { part, grid, norm } => {
                    self.set_steps(values, grid);
                    clip(&mut self.steps, norm);
                    self.put(mechanism.offset(part), |step| step);
                }
                Statistic::Mean { part, grid } => {
                    self.set_steps(values, grid);
                    self.put(mechanism.offset(part), |step| step);
                }
                Statistic::Variance { part, grid, squares_part, squares } => {
                    self.set_steps(values, grid);
                    let square = |step: i64| squares.steps(grid.value(i128::from(step)).powi(2));
                    self.put(mechanism.offset(squares_part), square);
                    self.put(mechanism.offset(part), |step| step);
                }
                Statistic::Histogram { part, grid, bins } => {
                    for (group, value) in values.enumerate() {
                        self.mark(group, mechanism.offset(part) + grid.bin(value, bins));
                    }
                }
                Statistic::Tree { part, grid, bins } => {
                    for (group, value) in values.enumerate() {
                        let nodes = nodes_above(grid.bin(value, bins), bins);
                        nodes.for_each(|node| self.mark(group, mechanism.offset(part) + node));
                    }
                }
                Statistic::Units | Statistic::Ratio { .. } => {}
            }
        }
    }

    /// What to add to a group.
    pub(super) fn numbers(&self, group: usize) -> &[i128] {
        &self.numbers[group * self.width..][..self.width]
    }

    fn set_steps(&mut self, values: impl Iterator<Item = f64>, grid: Grid) {
        self.steps.clear();
        self.steps.extend(values.map(|value| grid.steps(value)));
    }

    fn put(&mut self, at: usize, number: impl Fn(i64) -> i64) {
        for (group, step) in self.steps.iter().enumerate() {
            self.numbers[group * self.width + at] = number(*step).into();
        }
    }

    fn mark(&mut self, group: usize, at: usize) {
        self.numbers[group * self.width + at] = 1;
    }
}

/// Shrinks a unit's values over its groups to a largest norm, rounding toward zero so that it is never exceeded.
fn clip(steps: &mut [i64], norm: Option<u64>) {
    let Some(norm) = norm.map(i128::from) else { return };
    let squares: i128 = steps.iter().map(|step| i128::from(*step).pow(2)).sum();
    if squares <= norm * norm {
        return;
    }
    let root = squares.isqrt();
    let root = if root * root == squares { root } else { root + 1 };
    for step in steps {
        // The quotient is no larger than what it was taken from.
        *step = i64::try_from(i128::from(*step) * norm / root).unwrap_or(0);
    }
}

/// The nodes of a binary tree over the bins, without its root, in which a bin lies: level l has 2^l nodes.
fn nodes_above(bin: usize, bins: usize) -> impl Iterator<Item = usize> {
    let levels = bins.trailing_zeros();
    (1..=levels).map(move |level| (1 << level) - 2 + (bin >> (levels - level)))
}

impl Statistic {
    const fn takes_a_value(&self) -> bool {
        !matches!(self, Self::Units | Self::Ratio { .. })
    }
}

/// The columns of all measures, in the manifest's order.
pub(super) fn columns(manifest: &Manifest) -> Vec<Column> {
    manifest.measures.iter().flat_map(columns_of).collect()
}

fn columns_of(measure: &Measure) -> Vec<Column> {
    let grid = Grid::centered(measure.range.unwrap_or([0.0, 1.0]));
    let bins = measure.bins();
    let column = |name: String, is_integer| Column { name, is_integer };
    match measure.reducer {
        Reducer::Histogram => {
            let edges = |bin| format!("{} {}..{}", measure.name, grid.edge(bin, bins), grid.edge(bin + 1, bins));
            (0..bins).map(|bin| column(edges(bin), true)).collect()
        }
        Reducer::Cdf => {
            let edge = |bin| format!("{} < {}", measure.name, grid.edge(bin, bins));
            (1..bins).map(|bin| column(edge(bin), false)).collect()
        }
        Reducer::Quantiles => {
            measure.quantiles.iter().map(|q| column(format!("{} q{q}", measure.name), false)).collect()
        }
        Reducer::Count => vec![column(measure.name.clone(), true)],
        Reducer::Sum | Reducer::Mean | Reducer::Variance | Reducer::Ratio => vec![column(measure.name.clone(), false)],
    }
}

/// The numbers of a cell, one per column.
pub(super) fn decode(mechanism: &Mechanism, manifest: &Manifest, cell: &Shown) -> Vec<Number> {
    let measures = manifest.measures.iter().zip(&mechanism.statistics);
    measures.flat_map(|(measure, statistic)| numbers_of(measure, *statistic, mechanism, cell)).collect()
}

fn numbers_of(measure: &Measure, statistic: Statistic, mechanism: &Mechanism, cell: &Shown) -> Vec<Number> {
    let sum = |part: usize| cell.sums[mechanism.offset(part)];
    match statistic {
        Statistic::Units => vec![whole(cell.units)],
        Statistic::Sum { part, grid, .. } => vec![Number::Float(grid.value(sum(part)))],
        Statistic::Mean { part, grid } => vec![Number::Float(mean(grid, sum(part), cell.units))],
        Statistic::Variance { part, grid, squares_part, squares } => {
            let most = ((grid.range()[1] - grid.range()[0]) / 2.0).powi(2);
            let of_squares = mean(squares, sum(squares_part), cell.units);
            let of_values = mean(grid, sum(part), cell.units) - grid.center;
            vec![Number::Float((of_squares - of_values * of_values).clamp(0.0, most))]
        }
        Statistic::Histogram { part, bins, .. } => {
            let at = mechanism.offset(part);
            cell.sums[at..at + bins].iter().map(|count| whole(*count)).collect()
        }
        Statistic::Tree { part, grid, bins } => {
            let at = mechanism.offset(part);
            let cdf = cdf(&cell.sums[at..at + 2 * bins - 2], bins);
            if measure.reducer == Reducer::Cdf {
                return cdf[1..bins].iter().copied().map(Number::Float).collect();
            }
            measure.quantiles.iter().map(|q| Number::Float(quantile(*q, &cdf, grid))).collect()
        }
        Statistic::Ratio { numerator, denominator } => {
            let value = |measure: usize| match mechanism.statistics.get(measure) {
                Some(Statistic::Sum { part, grid, .. }) => grid.value(sum(*part)),
                _ => 0.0,
            };
            let below = value(denominator);
            vec![Number::Float(if below == 0.0 { 0.0 } else { value(numerator) / below })]
        }
    }
}

fn whole(number: i128) -> Number {
    Number::Int(i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX }))
}

#[expect(clippy::cast_precision_loss, reason = "counts of units")]
fn mean(grid: Grid, sum: i128, units: i128) -> f64 {
    let [low, high] = grid.range();
    (grid.value(sum) / units.max(1) as f64 + grid.center).clamp(low, high)
}

/// The part of all units below each edge, from 0 to 1 and never falling. Each is a sum of at most one node per level,
/// so its noise grows with the logarithm of the number of bins only.
#[expect(clippy::cast_precision_loss, reason = "counts of units")]
fn cdf(nodes: &[i128], bins: usize) -> Vec<f64> {
    let levels = bins.trailing_zeros();
    let total = (nodes[0] + nodes[1]).max(1) as f64;
    let below = |edge: usize| {
        let node = |level: u32| (1 << level) - 2 + (edge >> (levels - level)) - 1;
        let left_of_edge = |level: &u32| (edge >> (levels - level)) & 1 == 1;
        (1..=levels).filter(left_of_edge).map(|level| nodes[node(level)]).sum::<i128>()
    };
    let mut least = 0.0;
    let mut parts: Vec<f64> = (0..bins)
        .map(|edge| {
            least = (below(edge) as f64 / total).clamp(least, 1.0);
            least
        })
        .collect();
    parts.push(1.0);
    parts
}

/// The value below which a part of all units lies, by linear interpolation within its bin.
#[expect(clippy::cast_precision_loss, reason = "at most 1,024 bins")]
fn quantile(q: f64, cdf: &[f64], grid: Grid) -> f64 {
    let bins = cdf.len() - 1;
    let bin = cdf[1..].iter().position(|below| *below >= q).unwrap_or(bins - 1);
    let (low, high) = (cdf[bin], cdf[bin + 1]);
    let within = if high > low { ((q - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
    let width = (grid.range()[1] - grid.range()[0]) / bins as f64;
    grid.edge(bin, bins) + within * width
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::Controls;

    const MANIFEST: &str = r#"
        version = 1
        name = "t"
        kind = "analytical"
        isolation = "sealed"
        description = "t"
        [[view]]
        slot = "rows"
        join = "required"
        columns = [{ name = "value", type = "float64" }]
        [[group]]
        name = "group"
        domain = ["a", "b"]
        [[measure]]
        name = "units"
        reducer = "count"
        [[measure]]
        name = "spend"
        reducer = "sum"
        range = [0, 100]
        l2 = 50
        [[measure]]
        name = "visits"
        reducer = "sum"
        range = [0, 10]
        [[measure]]
        name = "basket"
        reducer = "ratio"
        numerator = "spend"
        denominator = "visits"
        [[measure]]
        name = "mean"
        reducer = "mean"
        range = [-10, 30]
        [[measure]]
        name = "spread"
        reducer = "variance"
        range = [-10, 30]
        [[measure]]
        name = "bars"
        reducer = "histogram"
        range = [0, 8]
        bins = 4
        [[measure]]
        name = "age"
        reducer = "quantiles"
        range = [0, 64]
        bins = 64
        quantiles = [0.25, 0.5, 0.75]
        [[measure]]
        name = "below"
        reducer = "cdf"
        range = [0, 8]
        bins = 8
        [bounds]
        max_rows_per_unit = 10
        max_groups_per_unit = 2
    "#;

    fn setting() -> (Manifest, Mechanism) {
        let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
        let mechanism = Mechanism::new(&manifest, &Controls::default());
        (manifest, mechanism)
    }

    fn encode(mechanism: &Mechanism, groups: &[Vec<f64>]) -> Vec<Vec<i128>> {
        let mut encoder = Encoder::default();
        // What a unit before has left is no part of another's numbers.
        encoder.encode(mechanism, [[1.0; 7].as_slice(); 4].into_iter());
        encoder.encode(mechanism, groups.iter().map(Vec::as_slice));
        (0..groups.len()).map(|group| encoder.numbers(group).to_vec()).collect()
    }

    /// Columns by name, of exact sums over units that are in one group each.
    fn exact(units: &[[f64; 7]]) -> Vec<(String, Number)> {
        let (manifest, mechanism) = setting();
        let mut sums = vec![0; mechanism.width()];
        for values in units {
            let encoded = encode(&mechanism, &[values.to_vec()]);
            sums.iter_mut().zip(&encoded[0]).for_each(|(sum, number)| *sum += number);
        }
        let cell = Shown { units: units.len() as i128, sums };
        let names = columns(&manifest).into_iter().map(|column| column.name);
        names.zip(decode(&mechanism, &manifest, &cell)).collect()
    }

    #[track_caller]
    fn is_near(shown: &[(String, Number)], name: &str, expected: f64, within: f64) {
        let (_, number) =
            shown.iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("{name}: {shown:?}"));
        assert!((number.as_f64() - expected).abs() <= within, "{name}: {number:?}, not {expected}");
    }

    /// Spend, visits, mean, variance, histogram, quantiles, cdf.
    fn units() -> Vec<[f64; 7]> {
        (0..64).map(f64::from).map(|n| [n / 2.0, 2.0, n % 20.0, n % 20.0, n % 8.0, n, n % 8.0]).collect()
    }

    #[test]
    fn exact_sums_give_the_statistics_that_they_are_named_for() {
        let shown = exact(&units());
        let values: Vec<f64> = (0..64).map(|n| f64::from(n % 20)).collect();
        let mean = values.iter().sum::<f64>() / 64.0;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 64.0;
        is_near(&shown, "units", 64.0, 0.0);
        is_near(&shown, "spend", 1008.0, 0.01);
        is_near(&shown, "basket", 1008.0 / 128.0, 1e-3);
        is_near(&shown, "mean", mean, 1e-3);
        is_near(&shown, "spread", variance, 1e-2);
        is_near(&shown, "bars 2..4", 16.0, 0.0);
        is_near(&shown, "age q0.25", 16.0, 1.0);
        is_near(&shown, "age q0.5", 32.0, 1.0);
        is_near(&shown, "age q0.75", 48.0, 1.0);
        is_near(&shown, "below < 2", 0.25, 1e-9);
        is_near(&shown, "below < 7", 0.875, 1e-9);
    }

    #[test]
    fn a_norm_holds_over_all_groups_of_a_unit() {
        let (_, mechanism) = setting();
        let grid = match mechanism.statistics[1] {
            Statistic::Sum { grid, .. } => grid,
            _ => unreachable!("the second measure is a sum"),
        };
        for spend in [[100.0, 100.0], [50.0, 0.0], [3.0, 49.0]] {
            let groups = spend.map(|spend| vec![spend, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
            let encoded = encode(&mechanism, &groups);
            let norm = encoded.iter().map(|numbers| grid.value(numbers[0]).powi(2)).sum::<f64>().sqrt();
            assert!(norm <= 50.0 && norm > 49.0, "{spend:?}: {norm}");
        }
    }

    proptest! {
        /// What the sensitivities rest on: whatever a guest answers, no number of a group exceeds its bound.
        #[test]
        fn no_answer_exceeds_a_bound(bits in proptest::collection::vec(proptest::array::uniform7(any::<u64>()), 1..3)) {
            let (_, mechanism) = setting();
            let groups: Vec<Vec<f64>> = bits.iter().map(|bits| bits.map(f64::from_bits).to_vec()).collect();
            for numbers in encode(&mechanism, &groups) {
                for statistic in &mechanism.statistics {
                    let at = |part: usize| numbers[mechanism.offset(part)].unsigned_abs();
                    let ones = |part: usize| {
                        let from = mechanism.offset(part);
                        let numbers = &numbers[from..from + mechanism.parts[part].width];
                        assert!(numbers.iter().all(|number| *number == 0 || *number == 1));
                        numbers.iter().sum::<i128>()
                    };
                    match *statistic {
                        Statistic::Sum { part, grid, .. } | Statistic::Mean { part, grid } => {
                            prop_assert!(at(part) <= grid.bound().into());
                        }
                        Statistic::Variance { part, grid, squares_part, squares } => {
                            prop_assert!(at(part) <= grid.bound().into() && at(squares_part) <= squares.bound().into());
                        }
                        Statistic::Histogram { part, .. } => prop_assert_eq!(ones(part), 1),
                        Statistic::Tree { part, bins, .. } => prop_assert_eq!(ones(part), i128::from(bins.trailing_zeros())),
                        Statistic::Units | Statistic::Ratio { .. } => {}
                    }
                }
            }
        }

        /// Noise can make any numbers of any size, and nothing but finite numbers in range ever comes of them.
        #[test]
        fn any_noisy_numbers_give_finite_columns(noise in proptest::collection::vec(-(1i128 << 80)..1i128 << 80, 256)) {
            let (manifest, mechanism) = setting();
            let cell = Shown { units: noise[0], sums: noise.into_iter().cycle().take(mechanism.width()).collect() };
            let numbers = decode(&mechanism, &manifest, &cell);
            prop_assert_eq!(numbers.len(), columns(&manifest).len());
            prop_assert!(numbers.iter().all(|number| number.as_f64().is_finite()));
        }
    }
}
