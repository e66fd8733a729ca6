//! The search for the event that tells two inputs apart best. It may do what it likes: it never sees the observations
//! on which the event is judged.

use crate::Observation;
use crate::event::{Condition, Event, Relation, Statistic};

/// More conditions would describe the samples rather than the mechanism.
const CONDITIONS_MAX: usize = 8;

/// A condition that raises e^ε by less makes the event harder to read, and is likelier luck than leak.
const GAIN_MIN: f64 = 1.02;

/// Two samples, the one that the event should hold for first.
type Samples<'a> = [Vec<&'a Observation>; 2];

/// An event, and by how much it is more probable for the first sample, cautiously.
pub(crate) struct Found {
    pub(crate) event: Event,
    pub(crate) ratio: f64,
}

/// The event that is most probable for `inside` as against `outside`, when `delta` is granted.
///
/// `risk` is the probability with which a bound of the certificate may be wrong. Features alone go first: what needs
/// no arithmetic is easier to read, and sums lead astray where each of many features leaks a little.
pub(crate) fn search(inside: &[Observation], outside: &[Observation], delta: f64, risk: f64) -> Found {
    let samples: Samples<'_> = [inside.iter().collect(), outside.iter().collect()];
    let features = inside.iter().chain(outside).map(|observation| observation.0.len()).max().unwrap_or_default();
    let [plain, any] = [(0..features).map(Statistic::Feature).collect(), statistics(features)].map(|statistics| {
        let search = Search {
            delta,
            // Of a normal distribution, at most e^(−w²/2) lies further out than w standard deviations.
            width_squared: -2.0 * risk.ln(),
            sizes: samples.each_ref().map(|sample| sample.len() as f64),
            statistics,
        };
        search.grow(samples.clone())
    });
    if any.ratio > plain.ratio * GAIN_MIN { any } else { plain }
}

struct Search {
    delta: f64,
    /// How many standard deviations wide the bounds are, squared.
    width_squared: f64,
    sizes: [f64; 2],
    statistics: Vec<Statistic>,
}

impl Search {
    /// Adds the best condition as long as one makes the event better: a product of intervals is found side by side.
    fn grow(&self, mut samples: Samples<'_>) -> Found {
        let mut found = Found { event: Event::default(), ratio: self.ratio(samples.each_ref().map(Vec::len)) };
        while found.event.conditions.len() < CONDITIONS_MAX {
            let ratio_to_beat = (found.ratio * GAIN_MIN).max(0.0);
            let Some((condition, ratio)) = self.best_condition(&samples, ratio_to_beat) else { break };
            samples.iter_mut().for_each(|sample| sample.retain(|observation| condition.holds(observation)));
            found.event.conditions.push(condition);
            found.ratio = ratio;
        }
        found
    }

    fn best_condition(&self, samples: &Samples<'_>, ratio_to_beat: f64) -> Option<(Condition, f64)> {
        let mut best = (None, ratio_to_beat);
        for &statistic in &self.statistics {
            for_each_relation(statistic, samples, |relation, hits| {
                let ratio = self.ratio(hits);
                if ratio > best.1 {
                    best = (Some(Condition { statistic, relation }), ratio);
                }
            });
        }
        best.0.map(|condition| (condition, best.1))
    }

    /// A guess at e^ε that a few lucky hits cannot raise: the bounds are approximate, since the certificate's are exact.
    fn ratio(&self, [inside, outside]: [usize; 2]) -> f64 {
        let (low, _) = self.bounds(inside as f64, self.sizes[0]);
        let (_, high) = self.bounds(outside as f64, self.sizes[1]);
        (low - self.delta) / high
    }

    /// Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    fn bounds(&self, hits: f64, size: f64) -> (f64, f64) {
        let w = self.width_squared;
        let (middle, half) = (hits + w / 2.0, (w * (hits * (size - hits) / size + w / 4.0)).sqrt());
        ((middle - half) / (size + w), (middle + half) / (size + w))
    }
}

fn statistics(features: usize) -> Vec<Statistic> {
    let pairs = || (0..features).flat_map(move |one| (one + 1..features).map(move |other| (one, other)));
    let singles = (0..features).map(Statistic::Feature).chain((0..features).map(Statistic::Exponent));
    let sums = pairs().map(|(one, other)| Statistic::Sum(one, other));
    let differences = pairs().map(|(one, other)| Statistic::Difference(one, other));
    singles.chain(sums).chain(differences).collect()
}

/// Calls `visit` with every relation that some value suggests, and how often it holds in either sample.
fn for_each_relation(statistic: Statistic, samples: &Samples<'_>, mut visit: impl FnMut(Relation, [usize; 2])) {
    let columns = samples.each_ref().map(|sample| sorted(statistic, sample));
    let present = columns.each_ref().map(Vec::len);
    if matches!(statistic, Statistic::Feature(_)) {
        visit(Relation::Present, present);
        visit(Relation::Absent, [0, 1].map(|side| samples[side].len() - present[side]));
    }
    let mut below = [0, 0];
    while let Some(value) = next_value(&columns, below) {
        let equal = [0, 1].map(|side| columns[side][below[side]..].iter().take_while(|v| is_same(**v, value)).count());
        visit(Relation::AtLeast(value), [0, 1].map(|side| present[side] - below[side]));
        visit(Relation::Below(value), below);
        visit(Relation::Exactly(value), equal);
        below = [0, 1].map(|side| below[side] + equal[side]);
    }
}

fn sorted(statistic: Statistic, sample: &[&Observation]) -> Vec<f64> {
    let mut column: Vec<f64> = sample.iter().filter_map(|observation| statistic.of(observation)).collect();
    column.sort_unstable_by(f64::total_cmp);
    column
}

fn next_value(columns: &[Vec<f64>; 2], below: [usize; 2]) -> Option<f64> {
    let heads = [0, 1].map(|side| columns[side].get(below[side]).copied());
    heads.into_iter().flatten().min_by(f64::total_cmp)
}

fn is_same(one: f64, other: f64) -> bool {
    one.total_cmp(&other).is_eq()
}
