//! How a run spends its epsilon and delta: noise scales and threshold, from the manifest and the controls alone.
//!
//! Nothing here depends on data, so all of it may be shown before the run, and stands in the receipt.

use serde::{Deserialize, Serialize};

use super::noise::Scale;
use crate::room::{Controls, Delta, Epsilon, Join, Kind, Manifest, Measure, Reducer};

/// What one run costs each owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Privacy loss, in millionths.
    pub epsilon_micros: Epsilon,
    /// Failure probability, in units of 1e-15.
    pub delta_femtos: Delta,
    /// Bits told about each identifier.
    pub bits_per_id: u32,
}

impl Cost {
    /// Both, one after the other: basic composition.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let epsilon = self.epsilon_micros.micros().saturating_add(other.epsilon_micros.micros());
        let delta = self.delta_femtos.femtos().saturating_add(other.delta_femtos.femtos());
        Self {
            epsilon_micros: Epsilon::from_micros(epsilon),
            delta_femtos: Delta::from_femtos(delta),
            bits_per_id: self.bits_per_id.saturating_add(other.bits_per_id),
        }
    }

    pub(super) fn is_within(&self, limit: &Self) -> bool {
        self.epsilon_micros <= limit.epsilon_micros
            && self.delta_femtos <= limit.delta_femtos
            && self.bits_per_id <= limit.bits_per_id
    }
}

/// The noise of one measure, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureNoise {
    /// The measure's name.
    pub name: String,
    /// Standard deviation of the noise on the count, or on the sum of the clamped values.
    pub standard_deviation: f64,
}

/// The mechanisms of a run.
#[derive(Clone, Debug)]
pub(crate) struct Mechanism {
    /// k: the fewest distinct units of a released group.
    pub group_size_min: u32,
    /// What the noisy count above k - 1 must reach for a group to be released.
    pub threshold: u64,
    /// The most groups to which one unit contributes.
    pub groups_per_unit: u32,
    pub(super) count: Scale,
    pub(super) values: Vec<ValueNoise>,
    measures: Vec<MeasureNoise>,
    cost: Cost,
    sentence: String,
}

/// Bounds and noise of a measure that is not a count.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueNoise {
    pub(super) clamp: Clamp,
    pub(super) scale: Scale,
}

/// Brings a value into its range and onto a grid of whole numbers.
///
/// The grid is the smallest power of two that leaves at most 2^20 steps, so a sum times the grid is exact in a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    pub(super) low: f64,
    pub(super) high: f64,
    /// What is taken off before rounding; 0 for sums, the middle of the range for means.
    pub(super) center: f64,
    pub(super) grid: f64,
    /// The largest magnitude that can come out.
    pub(super) bound: i64,
}

const GRID_STEPS: f64 = (1u32 << 20) as f64;

impl Clamp {
    fn new(measure: &Measure) -> Self {
        let [low, high] = measure.range.unwrap_or([0.0, 1.0]);
        let center = if measure.reducer == Reducer::Mean { f64::midpoint(low, high) } else { 0.0 };
        let magnitude = (low - center).abs().max((high - center).abs());
        let grid = (magnitude / GRID_STEPS).log2().ceil().exp2();
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^20 by choice of the grid")]
        let bound = (magnitude / grid).ceil() as i64;
        Self { low, high, center, grid, bound }
    }

    /// Rounds toward zero, so that no magnitude grows. The caller has refused NaN.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the bound, which fits")]
    pub(super) fn to_grid(self, value: f64) -> i64 {
        let steps = (value.clamp(self.low, self.high) - self.center) / self.grid;
        (steps as i64).clamp(-self.bound, self.bound)
    }
}

impl Mechanism {
    /// Derives the mechanisms of a question under the owners' controls.
    #[must_use]
    pub(crate) fn new(manifest: &Manifest, controls: &Controls) -> Self {
        let groups_per_unit = manifest.max_groups_per_unit().min(controls.groups_per_unit_max);
        let (epsilon, delta) = per_step(manifest, controls);
        let measures: Vec<&Measure> = manifest.measures.iter().filter(|m| m.reducer != Reducer::Count).collect();
        let (count_epsilon, value_epsilon) = split(epsilon, measures.len());
        let count = laplace(u128::from(groups_per_unit), count_epsilon);
        let values = measures.iter().map(|measure| {
            let clamp = Clamp::new(measure);
            let sensitivity = u128::from(groups_per_unit) * u128::from(clamp.bound.unsigned_abs());
            ValueNoise { clamp, scale: laplace(sensitivity, value_epsilon) }
        });
        let values: Vec<ValueNoise> = values.collect();
        Self {
            group_size_min: controls.group_size_min,
            threshold: threshold(count, delta, groups_per_unit),
            groups_per_unit,
            count,
            measures: describe(manifest, count, &values),
            values,
            cost: cost(manifest, controls),
            sentence: sentence(manifest, controls),
        }
    }

    /// What the run costs each owner.
    #[must_use]
    pub(crate) const fn cost(&self) -> Cost {
        self.cost
    }

    /// The noise of each measure.
    #[must_use]
    pub(crate) fn measures(&self) -> &[MeasureNoise] {
        &self.measures
    }

    /// What is promised, and what is not, in a sentence.
    #[must_use]
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }
}

fn has_optional_slot(manifest: &Manifest) -> bool {
    manifest.slots.iter().any(|slot| slot.join == Join::Optional)
}

/// Epsilon and delta of one add/remove step.
///
/// Where a slot is optional, hiding one party's rows changes a unit instead of removing it. That is two steps, so
/// each gets half the epsilon, and a delta that group privacy of two brings back to the agreed one:
/// delta = (1 + e^epsilon') delta'. Powers of 3 bound those of e from above in whole numbers.
fn per_step(manifest: &Manifest, controls: &Controls) -> (u64, f64) {
    let (epsilon, delta) = (controls.epsilon_micros.micros(), controls.delta_femtos.femtos());
    if !has_optional_slot(manifest) {
        return (epsilon, femtos(delta));
    }
    let half = epsilon / 2;
    // The result rounds down by far more than a float can err, since 3 is well above e.
    let bound = 3f64.powf(as_micros(half).ceil());
    (half, femtos(delta) / (1.0 + bound))
}

#[expect(clippy::cast_precision_loss, reason = "at most 1e9 units; exact in a float")]
fn femtos(delta: u64) -> f64 {
    delta as f64 * 1e-15
}

#[expect(clippy::cast_precision_loss, reason = "at most 1e8 units; exact in a float")]
fn as_micros(epsilon: u64) -> f64 {
    epsilon as f64 * 1e-6
}

/// Half for the count, which also decides what is released, and the rest in equal parts.
const fn split(epsilon: u64, values: usize) -> (u64, u64) {
    if values == 0 { (epsilon, 0) } else { (epsilon / 2, epsilon / 2 / values as u64) }
}

/// The Laplace mechanism: scale = sensitivity / epsilon. An epsilon of 0 is a defect and ends the process: rounding it
/// up would spend more than is charged.
fn laplace(sensitivity: u128, epsilon_micros: u64) -> Scale {
    Scale::new(sensitivity * 1_000_000, u128::from(epsilon_micros))
}

/// The least t for which a group of one unit above k - 1 is released with probability at most delta / groups.
///
/// P(1 + X >= t) = e^(-(t-1)/b) / (1 + e^(-1/b)) <= e^(-(t-1)/b) for discrete Laplace X of scale b; the denominator
/// is dropped and the result rounded up, which errs on the safe side. Counts enter as max(0, n - (k-1)) and 0 is
/// never released, so that no group below k leaves and the shift costs no privacy.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^53")]
fn threshold(count: Scale, delta: f64, groups_per_unit: u32) -> u64 {
    let reach = count.as_f64() * (f64::from(groups_per_unit) / delta).ln();
    2 + reach.ceil() as u64
}

fn describe(manifest: &Manifest, count: Scale, values: &[ValueNoise]) -> Vec<MeasureNoise> {
    let mut values = values.iter();
    let noise_of = |measure: &Measure| match measure.reducer {
        Reducer::Count => count.standard_deviation(),
        _ => values.next().map_or(0.0, |value| value.scale.standard_deviation() * value.clamp.grid),
    };
    let deviations: Vec<f64> = manifest.measures.iter().map(noise_of).collect();
    let named = manifest.measures.iter().zip(deviations);
    named.map(|(measure, standard_deviation)| MeasureNoise { name: measure.name.clone(), standard_deviation }).collect()
}

fn cost(manifest: &Manifest, controls: &Controls) -> Cost {
    match manifest.kind {
        Kind::Analytical => {
            Cost { epsilon_micros: controls.epsilon_micros, delta_femtos: controls.delta_femtos, bits_per_id: 0 }
        }
        Kind::List => {
            // In or out, and which segment: log2(segments + 1), rounded up.
            let answers = manifest.segments().len() + 1;
            let bits = answers.next_power_of_two().trailing_zeros();
            Cost { epsilon_micros: Epsilon::from_micros(0), delta_femtos: Delta::from_femtos(0), bits_per_id: bits }
        }
    }
}

fn sentence(manifest: &Manifest, controls: &Controls) -> String {
    match manifest.kind {
        Kind::Analytical => {
            let change = if has_optional_slot(manifest) { "replaced" } else { "removed" };
            format!(
                "Whatever this code does, the probability of any released result changes by at most a factor \
                 e^epsilon with epsilon = {}, except with probability delta = {}, if all rows of one unit are {change}; \
                 no group of fewer than {} units is released. This assumes an honest host and one id per unit, and \
                 does not protect parameters, the code itself, or facts that hold for whole groups.",
                controls.epsilon_micros, controls.delta_femtos, controls.group_size_min
            )
        }
        Kind::List => format!(
            "For each identifier that the recipient already holds it learns at most {} bit(s) from this run, computed \
             from that identifier's rows alone; order and duplicates carry nothing. No noise is added: this is not \
             differential privacy. A list of fewer than {} identifiers is not released.",
            cost(manifest, controls).bits_per_id,
            controls.list_size_min
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::MEASURES_MAX;

    fn measure(reducer: Reducer, range: [f64; 2]) -> Measure {
        Measure { name: "m".into(), reducer, range: Some(range) }
    }

    #[test]
    fn clamping_keeps_to_range_grid_and_bound() {
        for (reducer, range) in
            [(Reducer::Sum, [0.0, 10_000.0]), (Reducer::Sum, [-7.5, 3.0]), (Reducer::Mean, [0.1, 0.2])]
        {
            let clamp = Clamp::new(&measure(reducer, range));
            assert_eq!(clamp.grid.log2().fract(), 0.0, "the grid is a power of two");
            for value in [f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, -0.0, 1e-300, range[0], range[1], 5.0] {
                let steps = clamp.to_grid(value);
                assert!(steps.abs() <= clamp.bound);
                #[expect(clippy::cast_precision_loss, reason = "small in this test")]
                let back = steps as f64 * clamp.grid + clamp.center;
                let clamped = value.clamp(range[0], range[1]);
                assert!((back - clamped).abs() <= clamp.grid, "{value} became {back}");
            }
        }
    }

    #[test]
    fn an_optional_slot_halves_epsilon_and_shrinks_delta() {
        let manifest = |join: &str| {
            let text = format!(
                "version = 1\nname = \"t\"\nkind = \"analytical\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
                 [[view]]\nslot = \"a\"\njoin = \"required\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
                 [[view]]\nslot = \"b\"\njoin = \"{join}\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
                 [[group]]\nname = \"g\"\ndomain = [\"a\"]\n[[measure]]\nname = \"n\"\nreducer = \"count\"\n\
                 [bounds]\nmax_rows_per_unit = 10\n"
            );
            Manifest::parse(text.as_bytes()).unwrap()
        };
        let controls = Controls::default();
        let (inner, outer) =
            (Mechanism::new(&manifest("required"), &controls), Mechanism::new(&manifest("optional"), &controls));
        assert!((outer.count.as_f64() / inner.count.as_f64() - 2.0).abs() < 1e-9);
        assert!(outer.threshold > 2 * inner.threshold);
        assert_eq!(outer.cost(), inner.cost(), "the owner is charged what was agreed");
        for (epsilon, delta) in [(1_000_000, 1_000_000), (10_000_000, 1), (10_000, 1), (1_000_000, 1)] {
            let controls = Controls {
                epsilon_micros: Epsilon::from_micros(epsilon),
                delta_femtos: Delta::from_femtos(delta),
                ..Controls::default()
            };
            let (half, per_step) = per_step(&manifest("optional"), &controls);
            assert!(2 * half <= epsilon);
            let both = (1.0 + as_micros(half).exp()) * per_step;
            assert!(both <= femtos(delta), "group privacy of two at epsilon {epsilon}: {both} of {delta} femtos");
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small in this test")]
    fn no_more_epsilon_is_spent_than_is_charged() {
        let sums: String = (0..MEASURES_MAX - 1)
            .map(|at| format!("[[measure]]\nname = \"s{at}\"\nreducer = \"sum\"\nrange = [0.0, 1.0]\n"))
            .collect();
        for join in ["required", "optional"] {
            let text = format!(
                "version = 1\nname = \"t\"\nkind = \"analytical\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
                 [[view]]\nslot = \"a\"\njoin = \"required\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
                 [[view]]\nslot = \"b\"\njoin = \"{join}\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
                 [[group]]\nname = \"g\"\ndomain = [\"a\"]\n[[measure]]\nname = \"n\"\nreducer = \"count\"\n{sums}\
                 [bounds]\nmax_rows_per_unit = 10\n"
            );
            let manifest = Manifest::parse(text.as_bytes()).unwrap();
            // The smallest epsilon that a room accepts.
            let controls = Controls { epsilon_micros: Epsilon::from_micros(10_000), ..Controls::default() };
            let mechanism = Mechanism::new(&manifest, &controls);
            let steps = if join == "optional" { 2.0 } else { 1.0 };
            let spent = 1.0 / mechanism.count.as_f64()
                + mechanism.values.iter().map(|noise| noise.clamp.bound as f64 / noise.scale.as_f64()).sum::<f64>();
            assert!(steps * spent <= 0.01 * (1.0 + 1e-9), "{join}: {}", steps * spent);
        }
    }

    #[test]
    fn thresholds_agree_with_published_values() {
        // Discrete Laplace thresholds for one group, with the denominator 1 + e^(-1/b): (b, delta) -> tau.
        for (scale, delta, exact) in [(1, 1e-6, 15), (1, 1e-9, 22), (2, 1e-6, 28), (10, 1e-6, 133), (10, 1e-9, 202)] {
            let tau = threshold(Scale::new(scale, 1), delta, 1);
            assert!((exact..=exact + exact / 10 + 1).contains(&tau), "b = {scale}: {tau}, exact is {exact}");
        }
    }
}
