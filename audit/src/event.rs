use std::cmp::Ordering;
use std::fmt;

use crate::Observation;

/// No finite value but 0 is a multiple of two to this power.
const EXPONENT_OF_ZERO: i32 = 1024;

/// A set of outputs: those for which a few conditions hold together.
///
/// A condition is about one feature, the sum or difference of two, or the greatest power of two of which a feature is
/// a multiple: at least a value, below it, or exactly it; or that the feature is present, or absent.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Event {
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) statistic: Statistic,
    pub(crate) relation: Relation,
}

/// A number made of an observation, if it has what that takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Statistic {
    Feature(usize),
    /// The exponent of the greatest power of two of which the feature is a multiple.
    Exponent(usize),
    Sum(usize, usize),
    Difference(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Relation {
    AtLeast(f64),
    Below(f64),
    Exactly(f64),
    Present,
    Absent,
}

impl Event {
    /// Whether the output belongs to the event.
    #[must_use]
    pub fn holds(&self, observation: &Observation) -> bool {
        self.conditions.iter().all(|condition| condition.holds(observation))
    }

    /// The event in words, with the features under these names; those beyond the names are called `feature N`, from 0.
    pub fn named<'a>(&'a self, names: &'a [&'a str]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for (place, condition) in self.conditions.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { " and " })?;
                condition.fmt(f, names)?;
            }
            f.write_str(if self.conditions.is_empty() { "any output" } else { "" })
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(&[]).fmt(f)
    }
}

impl Condition {
    pub(crate) fn holds(&self, observation: &Observation) -> bool {
        let value = self.statistic.of(observation);
        let is =
            |bound: f64, accepts: fn(Ordering) -> bool| value.is_some_and(|value| accepts(value.total_cmp(&bound)));
        match self.relation {
            Relation::AtLeast(bound) => is(bound, Ordering::is_ge),
            Relation::Below(bound) => is(bound, Ordering::is_lt),
            Relation::Exactly(bound) => is(bound, Ordering::is_eq),
            Relation::Present => value.is_some(),
            Relation::Absent => value.is_none(),
        }
    }

    fn fmt(&self, f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
        self.statistic.fmt(f, names)?;
        if matches!(self.statistic, Statistic::Exponent(_)) {
            return self.relation.fmt_of_exponent(f);
        }
        match self.relation {
            Relation::AtLeast(bound) => write!(f, " >= {bound}"),
            Relation::Below(bound) => write!(f, " < {bound}"),
            Relation::Exactly(bound) => write!(f, " = {bound}"),
            Relation::Present => f.write_str(" is present"),
            Relation::Absent => f.write_str(" is absent"),
        }
    }
}

impl Relation {
    fn fmt_of_exponent(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_of_zero = |exponent: f64| exponent == f64::from(EXPONENT_OF_ZERO);
        match self {
            Self::AtLeast(exponent) | Self::Exactly(exponent) if is_of_zero(exponent) => f.write_str(" is 0 or -0"),
            Self::Below(exponent) if is_of_zero(exponent) => f.write_str(" is neither 0 nor -0"),
            Self::AtLeast(exponent) => write!(f, " is a multiple of 2^{exponent}"),
            Self::Below(exponent) => write!(f, " is not a multiple of 2^{exponent}"),
            Self::Exactly(exponent) => write!(f, " is an odd multiple of 2^{exponent}"),
            Self::Present => f.write_str(" is finite"),
            Self::Absent => f.write_str(" is absent or not finite"),
        }
    }
}

impl Statistic {
    pub(crate) fn of(self, observation: &Observation) -> Option<f64> {
        let feature = |place: usize| observation.0.get(place).copied().flatten();
        match self {
            Self::Feature(place) => feature(place),
            Self::Exponent(place) => feature(place).and_then(exponent).map(f64::from),
            Self::Sum(one, other) => Some(feature(one)? + feature(other)?),
            Self::Difference(one, other) => Some(feature(one)? - feature(other)?),
        }
    }

    fn fmt(self, f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
        let name = |place: usize| names.get(place).map_or_else(|| format!("feature {place}"), |&name| name.to_owned());
        match self {
            Self::Feature(place) | Self::Exponent(place) => f.write_str(&name(place)),
            Self::Sum(one, other) => write!(f, "{} + {}", name(one), name(other)),
            Self::Difference(one, other) => write!(f, "{} - {}", name(one), name(other)),
        }
    }
}

/// How fine a grid a value needs: whoever adds floating-point noise to a number leaves its grid behind
/// (Mironov, On Significance of the Least Significant Bits for Differential Privacy, CCS 2012).
fn exponent(value: f64) -> Option<i32> {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    let biased = (value.to_bits() >> FRACTION_BITS) as i32 & 0x7ff;
    let fraction = value.to_bits() & ((1 << FRACTION_BITS) - 1);
    // A subnormal has the exponent of the least normal number, and no leading one.
    let (biased, significand) = if biased == 0 { (1, fraction) } else { (biased, fraction | 1 << FRACTION_BITS) };
    match value {
        0.0 => Some(EXPONENT_OF_ZERO),
        _ if !value.is_finite() => None,
        _ => Some(biased + f64::MIN_EXP - 2 - FRACTION_BITS as i32 + significand.trailing_zeros() as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_of_powers_of_two_and_of_their_odd_multiples() {
        for power in -1074..=1023 {
            let value = if power < -1022 { 2f64.powi(power + 52) * f64::EPSILON } else { 2f64.powi(power) };
            assert_eq!(exponent(value), Some(power), "{value}");
        }
        assert_eq!([6.0, -7.0, 0.75, 0.0, -0.0].map(exponent), [1, 0, -2, 1024, 1024].map(Some));
        assert_eq!([f64::NAN, f64::INFINITY].map(exponent), [None, None]);
    }

    #[test]
    fn conditions_hold_only_of_what_is_present() {
        let nothing = Observation(vec![None]);
        let relations = [Relation::AtLeast(-1.0), Relation::Below(1.0), Relation::Exactly(0.0), Relation::Present];
        for relation in relations {
            let condition = Condition { statistic: Statistic::Feature(0), relation };
            assert!(
                !condition.holds(&nothing) && !condition.holds(&Observation(vec![])) && condition.holds(&[0.0].into())
            );
        }
        let absent = Condition { statistic: Statistic::Feature(0), relation: Relation::Absent };
        assert!(absent.holds(&nothing) && !absent.holds(&[0.0].into()));
    }

    #[test]
    fn sums_and_differences_need_both_features() {
        let both = [5.0, 3.0].into();
        assert_eq!(Statistic::Sum(0, 1).of(&both), Some(8.0));
        assert_eq!(Statistic::Difference(0, 1).of(&both), Some(2.0));
        for one in [Observation(vec![Some(5.0)]), Observation(vec![None, Some(3.0)])] {
            assert_eq!([Statistic::Sum(0, 1), Statistic::Difference(0, 1)].map(|each| each.of(&one)), [None, None]);
        }
    }

    #[test]
    fn events_in_words() {
        let event = |statistic, relation| Event { conditions: vec![Condition { statistic, relation }] };
        let words = |event: Event| event.named(&["count", "sum"]).to_string();
        assert_eq!(words(event(Statistic::Feature(0), Relation::Exactly(-0.0))), "count = -0");
        assert_eq!(words(event(Statistic::Feature(2), Relation::Absent)), "feature 2 is absent");
        assert_eq!(words(event(Statistic::Difference(1, 0), Relation::Below(3.5))), "sum - count < 3.5");
        assert_eq!(words(event(Statistic::Sum(0, 1), Relation::AtLeast(2.0))), "count + sum >= 2");
        assert_eq!(words(event(Statistic::Exponent(0), Relation::Below(-53.0))), "count is not a multiple of 2^-53");
        assert_eq!(words(event(Statistic::Exponent(0), Relation::Exactly(0.0))), "count is an odd multiple of 2^0");
        assert_eq!(words(event(Statistic::Exponent(1), Relation::Below(1024.0))), "sum is neither 0 nor -0");
        assert_eq!(words(Event::default()), "any output");
    }
}
