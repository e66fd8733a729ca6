//! How a run spends its epsilon and delta: sensitivities, noise and threshold, from the manifest and the controls alone.
//!
//! Nothing here depends on data, so all of it may be shown before the run, and stands in the receipt. Every number that
//! leaves is one of a few bounded integer vector sums, each with noise of its own ([`Part`]); all columns of the table are
//! computed from those.
//!
//! Sensitivities, with L0 groups per unit and B the largest magnitude of one value on its grid: adding or removing a unit
//! changes a sum vector by at most L0 B in the first norm and sqrt(L0) B in the second. Replacing a unit takes its values
//! out of L0 groups and puts others into the same or other groups: at most twice that in the first norm, and in the
//! second the larger of sqrt(2 L0) B (other groups) and sqrt(L0) W (the same groups, W the width of the range).

use serde::{Deserialize, Serialize};

use super::accountant::{Loss, epsilon_of_rho, rho_for};
use super::grid::Grid;
use super::groups::CELLS_MAX;
use super::noise::Noise;
use crate::room::{Adjacency, Controls, Delta, Epsilon, Kind, Manifest, Measure, Mode, NoiseChoice, Reducer};

/// What one run costs each owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Privacy loss, in millionths.
    pub epsilon_micros: Epsilon,
    /// Failure probability, in units of 1e-15.
    pub delta_femtos: Delta,
    /// The part of it that adds up whatever way losses are composed: a group of one unit is shown.
    pub key_delta_femtos: Delta,
    /// The parts of which the loss is made, for composition that is finer than adding up.
    pub losses: Vec<Loss>,
    /// Bits told about each identifier.
    pub bits_per_id: u32,
}

impl Cost {
    /// Whether nothing is spent.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The noise of one measure, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureNoise {
    /// The measure's name.
    pub name: String,
    /// Standard deviation of the noise on the count, the sum of the clamped values, or the count of one bin; 0 where
    /// there is none.
    pub standard_deviation: f64,
}

/// One bounded integer vector sum per group, and its noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// How many numbers it has per group.
    pub(super) width: usize,
    /// The largest change of all groups' numbers together, in grid steps: in the first norm, and in the second, squared.
    l1: u128,
    l2_squared: u128,
    /// None in modes without noise.
    pub(super) noise: Option<Noise>,
    loss: Option<Loss>,
}

/// What a measure's numbers are, and how a value gets among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statistic {
    /// The count of units, which every group has.
    Units,
    /// A sum of clamped values, on its grid; and the largest norm of a unit's values over its groups, in steps.
    Sum { part: usize, grid: Grid, norm: Option<u64> },
    /// A sum around the middle of the range, to be divided by the count.
    Mean { part: usize, grid: Grid },
    /// Two sums: of values around the middle, and of their squares.
    Variance { part: usize, grid: Grid, squares_part: usize, squares: Grid },
    /// A count per bin.
    Histogram { part: usize, grid: Grid, bins: usize },
    /// A count per node of a binary tree over the bins, without its root.
    Tree { part: usize, grid: Grid, bins: usize },
    /// Computed from the statistics of two other measures.
    Ratio { numerator: usize, denominator: usize },
}

/// The mechanisms of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mechanism {
    /// How answers are protected.
    pub(crate) mode: Mode,
    /// k: the fewest distinct units of a released group.
    pub(crate) k_min: u32,
    /// What the noisy count above k - 1 must reach for a group to be released; none where every group is.
    pub(crate) threshold: Option<u64>,
    /// The most groups to which one unit contributes.
    pub(crate) l0: u32,
    /// What counts as neighbours in this run.
    pub(crate) adjacency: Adjacency,
    pub(super) units: Part,
    /// For open keys: the noise on the number of groups, by which a run with too many ends.
    pub(super) groups: Option<Part>,
    pub(super) parts: Vec<Part>,
    pub(super) statistics: Vec<Statistic>,
    measures: Vec<MeasureNoise>,
    cost: Cost,
}

/// The most numbers that the groups of a run may have together: a quarter of a gibibyte.
const NUMBERS_MAX: usize = 16 << 20;

/// How a run's loss is divided: half goes to the counts, which decide what is released, a twentieth to the number of open
/// keys, and the rest in equal parts to the other sums.
#[derive(Clone, Copy)]
struct Shares {
    units: u64,
    groups: u64,
    each: u64,
}

impl Shares {
    const fn of(total: u64, parts: usize, has_open_keys: bool) -> Self {
        let groups = if has_open_keys { total / 20 } else { 0 };
        let rest = total - groups;
        if parts == 0 {
            return Self { units: rest, groups, each: 0 };
        }
        Self { units: rest / 2, groups, each: rest / 2 / parts as u64 }
    }
}

impl Mechanism {
    /// Derives the mechanisms of a question under the owners' controls.
    #[must_use]
    pub(crate) fn new(manifest: &Manifest, controls: &Controls) -> Self {
        let adjacency =
            if manifest.has_optional_slot() { controls.adjacency.max(Adjacency::Replace) } else { controls.adjacency };
        let l0 = manifest.max_groups_per_unit().min(controls.l0);
        let (statistics, shapes) = statistics(&manifest.measures, l0, adjacency);
        let units = Part::of_ones(1, 1, l0, adjacency);
        let groups = manifest.has_open_keys().then(|| Part::of_a_total(l0, adjacency));
        let mut mechanism = Self {
            mode: controls.mode,
            k_min: controls.k_min,
            threshold: None,
            l0,
            adjacency,
            units,
            groups,
            parts: shapes,
            statistics,
            measures: Vec::new(),
            cost: Cost::default(),
        };
        match (manifest.kind, controls.mode) {
            (Kind::List, _) => mechanism.cost = list_cost(manifest, controls),
            (Kind::Analytical, Mode::SealedK) => {}
            (Kind::Analytical, Mode::SealedDp) => mechanism = mechanism.with_noise(controls),
        }
        mechanism.measures = mechanism.describe(&manifest.measures);
        mechanism
    }

    /// Whether some groups are left out, which takes a delta: where keys are open, or small groups must not be shown.
    const fn selects(&self) -> bool {
        self.groups.is_some() || self.k_min > 1
    }

    /// The same for units that nobody has: no noise, and nothing left out.
    pub(super) fn without_noise(mut self) -> Self {
        let silent = [&mut self.units].into_iter().chain(&mut self.groups).chain(&mut self.parts);
        silent.for_each(|part| part.noise = None);
        Self { k_min: 1, threshold: None, ..self }
    }

    fn with_noise(&self, controls: &Controls) -> Self {
        let (laplace, gaussian) = (self.clone().laplace(controls), self.clone().gaussian(controls));
        match controls.noise {
            NoiseChoice::Laplace => laplace,
            NoiseChoice::Gaussian => gaussian,
            NoiseChoice::Auto if gaussian.loudness() < laplace.loudness() => gaussian,
            NoiseChoice::Auto => laplace,
        }
    }

    /// The Laplace mechanism: scale = l1 / epsilon.
    fn laplace(self, controls: &Controls) -> Self {
        let shares = Shares::of(controls.epsilon_micros.micros(), self.parts.len(), self.groups.is_some());
        let delta = if self.selects() { controls.delta_femtos } else { Delta::from_femtos(0) };
        self.noised(controls, shares, (delta, delta), Part::laplace)
    }

    /// The Gaussian mechanism: variance = l2^2 / (2 rho), with the rho that a run's epsilon and delta allow. Half of delta
    /// is for groups that are shown and should not be, where there are any.
    fn gaussian(self, controls: &Controls) -> Self {
        let delta = controls.delta_femtos.femtos();
        let for_keys = if self.selects() { delta / 2 } else { 0 };
        let rho = rho_for(controls.epsilon_micros.micros(), femtos(delta - for_keys));
        let shares = Shares::of(rho, self.parts.len(), self.groups.is_some());
        self.noised(controls, shares, (controls.delta_femtos, Delta::from_femtos(for_keys)), Part::gaussian)
    }

    fn noised(
        mut self,
        controls: &Controls,
        shares: Shares,
        (delta, key_delta): (Delta, Delta),
        noise: impl Fn(&mut Part, u64),
    ) -> Self {
        noise(&mut self.units, shares.units);
        self.parts.iter_mut().for_each(|part| noise(part, shares.each));
        if let Some(groups) = &mut self.groups {
            noise(groups, shares.groups);
        }
        // Where the number of open keys can end a run, it takes half of what is there for keys.
        let for_groups = if self.groups.is_some() { 2.0 } else { 1.0 };
        let per_group = femtos(key_delta.femtos()) / for_groups / f64::from(self.l0);
        let selects = self.selects();
        self.threshold = self.units.noise.filter(|_| selects).map(|noise| noise.threshold(per_group));
        let losses = [Some(&self.units), self.groups.as_ref()].into_iter().flatten().chain(&self.parts);
        self.cost = Cost {
            epsilon_micros: controls.epsilon_micros,
            delta_femtos: delta,
            key_delta_femtos: key_delta,
            losses: losses.filter_map(|part| part.loss).collect(),
            bits_per_id: 0,
        };
        self
    }

    /// How loud the noise is as a whole: comparable between two choices for the same parts.
    fn loudness(&self) -> f64 {
        let deviation = |part: &Part| part.noise.map_or(0.0, |noise| noise.standard_deviation().ln());
        deviation(&self.units) + self.parts.iter().map(deviation).sum::<f64>()
    }

    /// What the run costs each owner.
    #[must_use]
    pub(crate) const fn cost(&self) -> &Cost {
        &self.cost
    }

    /// The noise of each measure.
    #[must_use]
    pub(crate) fn measures(&self) -> &[MeasureNoise] {
        &self.measures
    }

    /// The name of the noise.
    #[must_use]
    pub(crate) const fn noise_name(&self) -> &'static str {
        match self.units.noise {
            Some(Noise::Laplace(_)) => "discrete Laplace",
            Some(Noise::Gaussian(_)) => "discrete Gaussian",
            None => "none",
        }
    }

    /// The epsilon that the parts come to by themselves, at the delta that is left for it: never above what is agreed.
    #[must_use]
    pub(crate) fn computed_epsilon(&self) -> f64 {
        let (mut pure, mut rho) = (0, 0);
        for loss in &self.cost.losses {
            match loss {
                Loss::Pure { epsilon_micros } => pure += epsilon_micros,
                Loss::Gaussian { rho_picos } => rho += rho_picos,
            }
        }
        let delta = self.cost.delta_femtos.femtos() - self.cost.key_delta_femtos.femtos();
        let gaussian = if rho == 0 { 0.0 } else { epsilon_of_rho(rho, femtos(delta)) };
        as_micros(pure) + gaussian
    }

    /// Numbers per group, besides the count.
    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|part| part.width).sum()
    }

    /// Where a part's numbers begin among those of a group.
    pub(super) fn offset(&self, part: usize) -> usize {
        self.parts[..part].iter().map(|part| part.width).sum()
    }

    /// The largest magnitude of one unit's contribution to each number of a group, in grid steps.
    pub(super) fn bounds(&self) -> Vec<u64> {
        let mut bounds = vec![1; self.width()];
        for statistic in &self.statistics {
            if let Statistic::Sum { part, grid, .. } | Statistic::Mean { part, grid } = *statistic {
                bounds[self.offset(part)] = grid.bound();
            }
        }
        bounds
    }

    /// How many groups a run may have: what the noise on their number can still tell from too many.
    pub(super) fn groups_max(&self) -> i128 {
        let margin = self.groups.and_then(|part| part.noise).map_or(0, |noise| noise.reach(self.groups_delta()));
        // One unit may bring as many groups as it likes to what memory can just hold.
        i128::try_from(self.cells_max()).unwrap_or(i128::MAX) - i128::from(margin) - i128::from(self.l0)
    }

    /// How many groups memory can hold, with all numbers of each.
    pub(super) fn cells_max(&self) -> usize {
        CELLS_MAX.min(NUMBERS_MAX / (self.width() + 1))
    }

    /// The sizes of a unit's numbers as someone who reads a group's results would see them: what was taken off the middle
    /// of a range counts.
    pub(super) fn magnitudes(&self, numbers: &[i128], sizes: &mut Vec<u128>) {
        sizes.clear();
        sizes.extend(numbers.iter().map(|number| number.unsigned_abs()));
        for statistic in &self.statistics {
            if let Statistic::Mean { part, grid } = *statistic {
                let at = self.offset(part);
                sizes[at] = (numbers[at] + grid.center_steps()).unsigned_abs();
            }
        }
    }

    fn groups_delta(&self) -> f64 {
        femtos(self.cost.key_delta_femtos.femtos()) / 2.0
    }

    fn describe(&self, measures: &[Measure]) -> Vec<MeasureNoise> {
        let deviation = |part: &Part| part.noise.map_or(0.0, Noise::standard_deviation);
        let of = |statistic: &Statistic| match *statistic {
            Statistic::Units => deviation(&self.units),
            Statistic::Sum { part, grid, .. }
            | Statistic::Mean { part, grid }
            | Statistic::Variance { part, grid, .. } => deviation(&self.parts[part]) * grid.step,
            Statistic::Histogram { part, .. } | Statistic::Tree { part, .. } => deviation(&self.parts[part]),
            Statistic::Ratio { .. } => 0.0,
        };
        let named = measures.iter().zip(&self.statistics);
        named
            .map(|(measure, statistic)| MeasureNoise {
                name: measure.name.clone(),
                standard_deviation: match *statistic {
                    // A ratio has the noise of what it divides.
                    Statistic::Ratio { numerator, .. } => of(&self.statistics[numerator]),
                    _ => of(statistic),
                },
            })
            .collect()
    }
}

impl Part {
    fn new(width: usize, l1: u128, l2_squared: u128) -> Self {
        Self { width, l1, l2_squared, noise: None, loss: None }
    }

    /// Counts: a unit adds 1 to `ones` of `width` numbers in each of its groups.
    fn of_ones(width: usize, ones: u128, l0: u32, adjacency: Adjacency) -> Self {
        let times = if adjacency == Adjacency::Replace { 2 } else { 1 };
        let most = u128::from(l0) * ones * times;
        Self::new(width, most, most)
    }

    /// One number for the whole table, to which a unit adds up to `l0`.
    fn of_a_total(l0: u32, adjacency: Adjacency) -> Self {
        let times = if adjacency == Adjacency::Replace { 2 } else { 1 };
        let most = u128::from(l0) * times;
        Self::new(1, most, most * most)
    }

    /// A sum of values on a grid, and perhaps a largest norm over a unit's groups.
    fn of_values(grid: Grid, norm: Option<u64>, l0: u32, adjacency: Adjacency) -> Self {
        let (l0, bound, width) = (u128::from(l0), u128::from(grid.bound()), u128::from(grid.width()));
        let clipped = norm.map_or(u128::MAX, |norm| u128::from(norm) * u128::from(norm));
        // A unit that is clipped to a norm C has at most sqrt(L0) C in the first norm.
        let l1_clipped = norm.map_or(u128::MAX, |norm| ceil_sqrt(l0 * u128::from(norm) * u128::from(norm)));
        let (l1, l2_squared) = match adjacency {
            Adjacency::AddRemove => ((l0 * bound).min(l1_clipped), (l0 * bound * bound).min(clipped)),
            Adjacency::Replace => {
                let same_or_other = (2 * bound * bound).max(width * width);
                (
                    (2 * l0 * bound).min(l1_clipped.saturating_mul(2)),
                    (l0 * same_or_other).min(clipped.saturating_mul(4)),
                )
            }
        };
        Self::new(1, l1.max(1), l2_squared.max(1))
    }

    /// A share of 0 is a defect and ends the process: rounding it up would spend more than is charged.
    fn laplace(&mut self, epsilon_micros: u64) {
        self.noise = Some(Noise::laplace(self.l1 * 1_000_000, epsilon_micros.into()));
        self.loss = Some(Loss::Pure { epsilon_micros });
    }

    fn gaussian(&mut self, rho_picos: u64) {
        self.noise = Some(Noise::gaussian(self.l2_squared * 1_000_000_000_000, 2 * u128::from(rho_picos)));
        self.loss = Some(Loss::Gaussian { rho_picos });
    }
}

fn ceil_sqrt(n: u128) -> u128 {
    let root = n.isqrt();
    if root * root == n { root } else { root + 1 }
}

/// What each measure computes, and the parts that it needs.
fn statistics(measures: &[Measure], l0: u32, adjacency: Adjacency) -> (Vec<Statistic>, Vec<Part>) {
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |part: Part| {
        parts.push(part);
        parts.len() - 1
    };
    let index_of = |name: &Option<String>| {
        let is_it = |measure: &Measure| Some(&measure.name) == name.as_ref();
        measures.iter().position(is_it).unwrap_or(usize::MAX)
    };
    let of = |measure: &Measure| {
        let range = measure.range.unwrap_or([0.0, 1.0]);
        let values = |grid, norm| Part::of_values(grid, norm, l0, adjacency);
        match measure.reducer {
            Reducer::Count => Statistic::Units,
            Reducer::Sum => {
                let grid = Grid::new(range, 0.0);
                let norm = measure.l2.map(|l2| steps_of_norm(l2, grid));
                Statistic::Sum { part: add(values(grid, norm)), grid, norm }
            }
            Reducer::Mean => {
                let grid = Grid::centered(range);
                Statistic::Mean { part: add(values(grid, None)), grid }
            }
            Reducer::Variance => {
                let grid = Grid::centered(range);
                let most = ((range[1] - range[0]) / 2.0).powi(2);
                let squares = Grid::centered([0.0, most]);
                let part = add(values(grid, None));
                Statistic::Variance { part, grid, squares_part: add(values(squares, None)), squares }
            }
            Reducer::Histogram => {
                let bins = measure.bins();
                let part = add(Part::of_ones(bins, 1, l0, adjacency));
                Statistic::Histogram { part, grid: Grid::centered(range), bins }
            }
            Reducer::Quantiles | Reducer::Cdf => {
                let bins = measure.bins();
                let levels = u128::from(bins.trailing_zeros());
                let part = add(Part::of_ones(2 * bins - 2, levels, l0, adjacency));
                Statistic::Tree { part, grid: Grid::centered(range), bins }
            }
            Reducer::Ratio => Statistic::Ratio {
                numerator: index_of(&measure.numerator),
                denominator: index_of(&measure.denominator),
            },
        }
    };
    let statistics = measures.iter().map(of).collect();
    (statistics, parts)
}

/// The norm in whole steps, rounded down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, as it should")]
fn steps_of_norm(l2: f64, grid: Grid) -> u64 {
    ((l2 / grid.step) as u64).clamp(1, 1 << 40)
}

/// In or out, and which segment: log2(segments + 1), rounded up. With randomised response it is a loss instead.
fn list_cost(manifest: &Manifest, controls: &Controls) -> Cost {
    match controls.list.rr_epsilon_micros {
        Some(epsilon) => Cost {
            epsilon_micros: epsilon,
            losses: vec![Loss::Pure { epsilon_micros: epsilon.micros() }],
            ..Cost::default()
        },
        None => {
            let answers = manifest.segments().len() + 1;
            Cost { bits_per_id: answers.next_power_of_two().trailing_zeros(), ..Cost::default() }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 1e12 units; exact in a float")]
pub(super) fn femtos(delta: u64) -> f64 {
    delta as f64 * 1e-15
}

#[expect(clippy::cast_precision_loss, reason = "at most 1e8 units; exact in a float")]
pub(super) fn as_micros(epsilon: u64) -> f64 {
    epsilon as f64 * 1e-6
}

#[cfg(test)]
impl Mechanism {
    /// Changes the noise of every part, for tests that must notice it.
    pub(super) fn tamper(&mut self, change: impl Fn(Noise) -> Noise) {
        for part in std::iter::once(&mut self.units).chain(&mut self.parts) {
            part.noise = part.noise.map(&change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::MEASURES_MAX;

    fn manifest(join: &str, groups: &str, measures: &str) -> Manifest {
        let text = format!(
            "version = 1\nname = \"t\"\nkind = \"analytical\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
             [[view]]\nslot = \"a\"\njoin = \"required\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
             [[view]]\nslot = \"b\"\njoin = \"{join}\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
             [[group]]\nname = \"g\"\n{groups}\n[[measure]]\nname = \"n\"\nreducer = \"count\"\n{measures}\
             [bounds]\nmax_rows_per_unit = 10\nmax_groups_per_unit = 4\n"
        );
        Manifest::parse(text.as_bytes()).unwrap()
    }

    const CLOSED: &str = "domain = [\"a\", \"b\"]";
    const SUM: &str = "[[measure]]\nname = \"s\"\nreducer = \"sum\"\nrange = [0.0, 10.0]\n";

    fn controls(noise: NoiseChoice, epsilon: u64, delta: u64) -> Controls {
        let (epsilon_micros, delta_femtos) = (Epsilon::from_micros(epsilon), Delta::from_femtos(delta));
        Controls { noise, epsilon_micros, delta_femtos, ..Controls::default() }
    }

    fn parts(mechanism: &Mechanism) -> impl Iterator<Item = &Part> {
        std::iter::once(&mechanism.units).chain(&mechanism.groups).chain(&mechanism.parts)
    }

    /// Replacing takes values out of four groups and puts others into four: twice what adding changes.
    #[test]
    fn an_outer_join_or_the_owners_word_makes_for_replacement() {
        let inner = Mechanism::new(&manifest("required", CLOSED, SUM), &Controls::default());
        let outer = Mechanism::new(&manifest("optional", CLOSED, SUM), &Controls::default());
        let told = Controls { adjacency: Adjacency::Replace, ..Controls::default() };
        let told = Mechanism::new(&manifest("required", CLOSED, SUM), &told);
        assert_eq!((inner.adjacency, outer.adjacency), (Adjacency::AddRemove, Adjacency::Replace));
        assert_eq!((inner.units.l1, inner.units.l2_squared), (4, 4));
        assert_eq!((outer.units.l1, outer.units.l2_squared), (8, 8));
        let bound = 10 << 16;
        assert_eq!((inner.parts[0].l1, inner.parts[0].l2_squared), (4 * bound, 4 * bound * bound));
        assert_eq!((outer.parts[0].l1, outer.parts[0].l2_squared), (8 * bound, 8 * bound * bound));
        assert_eq!(outer, told);
        assert!(outer.threshold > inner.threshold);
        assert_eq!(outer.cost(), inner.cost(), "the owner is charged what was agreed");
    }

    /// Where values may lie on both sides of the center, a unit that stays in its group can move by the whole range.
    #[test]
    fn a_centered_value_can_move_by_the_width_of_its_range() {
        let mean = SUM.replace("sum", "mean");
        let outer = Mechanism::new(&manifest("optional", CLOSED, &mean), &Controls::default());
        let bound = u128::from(match outer.statistics[1] {
            Statistic::Mean { grid, .. } => grid.bound(),
            _ => 0,
        });
        assert_eq!(outer.parts[0].l2_squared, 4 * 4 * bound * bound);
    }

    #[test]
    fn a_norm_bounds_what_a_unit_changes_over_all_of_its_groups() {
        let clipped = SUM.replace("range = [0.0, 10.0]", "range = [0.0, 10.0]\nl2 = 10.0");
        let mechanism = Mechanism::new(&manifest("required", CLOSED, &clipped), &Controls::default());
        let bound: u128 = 10 << 16;
        assert_eq!((mechanism.parts[0].l1, mechanism.parts[0].l2_squared), (2 * bound, bound * bound));
    }

    /// The loss of each part is its sensitivity over its noise; all parts together never lose more than is charged.
    #[test]
    #[expect(clippy::cast_precision_loss, reason = "for comparison alone")]
    fn no_more_is_spent_than_is_charged() {
        let sums: String = (0..MEASURES_MAX - 1).map(|at| SUM.replace("\"s\"", &format!("\"s{at}\""))).collect();
        for (join, groups, noise) in [
            ("required", CLOSED, NoiseChoice::Laplace),
            ("optional", CLOSED, NoiseChoice::Gaussian),
            ("required", "", NoiseChoice::Laplace),
            ("optional", "", NoiseChoice::Gaussian),
        ] {
            for epsilon in [10_000, 1_000_000, 10_000_000] {
                let mechanism = Mechanism::new(&manifest(join, groups, &sums), &controls(noise, epsilon, 1_000_000));
                assert!(mechanism.computed_epsilon() <= as_micros(epsilon) * (1.0 + 1e-9));
                for part in parts(&mechanism) {
                    let deviation = part.noise.unwrap().standard_deviation();
                    match part.loss.unwrap() {
                        Loss::Pure { epsilon_micros } => {
                            let least = std::f64::consts::SQRT_2 * part.l1 as f64 / as_micros(epsilon_micros);
                            assert!(deviation >= least * 0.99 || least < 2.0, "{deviation} below {least}");
                        }
                        Loss::Gaussian { rho_picos } => {
                            let least = (part.l2_squared as f64 / (2.0 * rho_picos as f64 * 1e-12)).sqrt();
                            assert!(deviation >= least * 0.999, "{deviation} below {least}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_smaller_noise_is_chosen() {
        let choose = |measures: &str| {
            let mechanism = Mechanism::new(
                &manifest("required", CLOSED, measures),
                &controls(NoiseChoice::Auto, 1_000_000, 1_000_000_000),
            );
            mechanism.noise_name()
        };
        assert_eq!(choose(""), "discrete Laplace");
        let many: String = (0..40).map(|at| SUM.replace("\"s\"", &format!("\"s{at}\""))).collect();
        assert_eq!(choose(&many), "discrete Gaussian");
    }

    #[test]
    fn a_closed_domain_without_k_takes_no_threshold_and_no_delta() {
        let noise = NoiseChoice::Laplace;
        let of = |groups, k_min| {
            let controls = Controls { k_min, ..controls(noise, 1_000_000, 1_000_000) };
            let mechanism = Mechanism::new(&manifest("required", groups, SUM), &controls);
            (mechanism.threshold.is_some(), mechanism.cost().delta_femtos.femtos())
        };
        assert_eq!(of(CLOSED, 1), (false, 0));
        assert_eq!(of(CLOSED, 2), (true, 1_000_000));
        assert_eq!(of("", 1), (true, 1_000_000));
    }

    /// Otherwise one unit's keys could decide whether memory is enough.
    #[test]
    fn memory_holds_fewer_groups_where_each_has_many_numbers() {
        let tree = "reducer = \"quantiles\"\nrange = [0.0, 1.0]\nbins = 1024\nquantiles = [0.5]\n";
        let trees: String = (0..60).map(|at| format!("[[measure]]\nname = \"q{at}\"\n{tree}")).collect();
        let cells_max =
            |measures: &str| Mechanism::new(&manifest("required", "", measures), &Controls::default()).cells_max();
        assert_eq!((cells_max(""), cells_max(&trees)), (CELLS_MAX, NUMBERS_MAX / (60 * 2046 + 1)));
    }

    /// Published thresholds are for one group per unit, with all of delta; see the golden numbers of `noise`.
    #[test]
    fn the_threshold_is_that_of_the_noise_at_its_part_of_delta() {
        let mechanism =
            Mechanism::new(&manifest("required", CLOSED, ""), &controls(NoiseChoice::Laplace, 4_000_000, 4_000_000));
        // Four groups at epsilon 4: scale 1, and delta 1e-9 for each.
        assert_eq!(
            (mechanism.units.noise, mechanism.threshold),
            (Some(Noise::laplace(4_000_000, 4_000_000)), Some(22))
        );
    }
}
