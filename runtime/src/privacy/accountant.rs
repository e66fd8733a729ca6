//! Adds up privacy losses: Rényi divergences at fixed orders, in whole numbers, rounded against whoever spends.
//!
//! Sources: Mironov, "Rényi Differential Privacy" (2017); Canonne, Kamath, Steinke, "The Discrete Gaussian for
//! Differential Privacy" (2020), Proposition 12, for the way back to epsilon and delta; Feldman, Zrnic, "Individual Privacy
//! Accounting via a Rényi Filter" (2021) for what may be asked next in the light of what came before.
//!
//! A loss is kept in units of 1e-12 (picos). Floats occur before the last rounding alone, and it leaves room for their
//! errors.

use serde::{Deserialize, Serialize};

/// The orders α of a curve. Small ones serve large budgets, large ones small budgets and small deltas.
pub(crate) const ORDERS: [u32; 76] = [
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61,
    62, 63, 64, 80, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536,
];

const PICOS: f64 = 1e12;
const PICOS_PER_MICRO: u128 = 1_000_000;
/// What floats may be off by, as a share and in units of epsilon: a few dozen operations of 2^-53 each, and a hundred times
/// as much again.
const MARGIN: f64 = 1e-12;

/// What one mechanism of a run costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// ε-DP, for example Laplace noise or randomised response.
    Pure {
        /// ε, in millionths.
        epsilon_micros: u64,
    },
    /// ρ-zCDP, as Gaussian noise of variance Δ²/2ρ is for an L2 sensitivity of Δ.
    Gaussian {
        /// ρ, in units of 1e-12.
        rho_picos: u64,
    },
}

impl Loss {
    /// A bound of the Rényi divergence of order α between any two neighbours, in picos, rounded up.
    fn divergence(self, order: u32) -> u128 {
        match self {
            Self::Pure { epsilon_micros } => pure_divergence(epsilon_micros, order),
            Self::Gaussian { rho_picos } => u128::from(order) * u128::from(rho_picos),
        }
    }
}

/// The divergence of binary randomised response, of which every ε-DP mechanism is a post-processing (Kairouz, Oh,
/// Viswanath, "The Composition Theorem for Differential Privacy", 2015):
///
/// 1/(α-1) ln(p^α q^(1-α) + q^α p^(1-α)) for p = e^ε/(1+e^ε) and q = 1-p. In both logarithms' arguments e^(ε/2) cancels,
/// which leaves (ln cosh((α-½)ε) - ln cosh(½ε)) / (α-1).
///
/// It is at most ε, and at most ½αε² (Bun, Steinke, 2016); the least of the three also bounds what floats err.
fn pure_divergence(epsilon_micros: u64, order: u32) -> u128 {
    let epsilon = micros(epsilon_micros);
    let alpha = f64::from(order);
    let exact = (ln_cosh((alpha - 0.5) * epsilon) - ln_cosh(0.5 * epsilon)) / (alpha - 1.0);
    let epsilon = u128::from(epsilon_micros);
    let square = u128::from(order).saturating_mul(epsilon * epsilon).div_ceil(2);
    picos_above(exact).min(epsilon * PICOS_PER_MICRO).min(square)
}

/// For x >= 0, without overflow.
fn ln_cosh(x: f64) -> f64 {
    x + (-2.0 * x).exp().ln_1p() - std::f64::consts::LN_2
}

/// The Rényi divergence of what was spent, or may be, at each of the [`ORDERS`], in picos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Curve([u128; ORDERS.len()]);

impl Default for Curve {
    /// Nothing spent.
    fn default() -> Self {
        Self([0; ORDERS.len()])
    }
}

impl Curve {
    /// All of these, whether at once or one after the other.
    pub(crate) fn of(losses: &[Loss]) -> Self {
        let at = |order| losses.iter().fold(0, |sum: u128, loss| sum.saturating_add(loss.divergence(order)));
        Self(ORDERS.map(at))
    }

    /// Both. A sum that does not fit stays at the largest number, which no budget allows.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine = mine.saturating_add(theirs));
        sum
    }

    /// The least ε for which what has this curve is (ε, δ)-DP, rounded up.
    ///
    /// The minimum over the orders of ε(α) + ln(1-1/α) - (ln δ + ln α)/(α-1), and at least 0 (CKS20, Proposition 12).
    pub(crate) fn epsilon(&self, delta: f64) -> f64 {
        if *self == Self::default() {
            return 0.0;
        }
        let by_order = ORDERS.iter().zip(self.0);
        least(by_order.map(|(&order, spent)| units(spent) + conversion(f64::from(order), delta)))
    }

    fn at(&self, order: u32) -> u128 {
        ORDERS.iter().position(|&known| known == order).map_or(u128::MAX, |at| self.0[at])
    }
}

/// What turns a divergence of order α into an ε at δ (CKS20, Proposition 12). Infinite if δ is not a positive number.
fn conversion(alpha: f64, delta: f64) -> f64 {
    if delta > 0.0 { ((alpha - 1.0) / alpha).ln() - (delta.ln() + alpha.ln()) / (alpha - 1.0) } else { f64::INFINITY }
}

/// The least of some values for ε, above what floats err and at least 0.
fn least(values: impl Iterator<Item = f64>) -> f64 {
    let least = values.fold(f64::INFINITY, f64::min);
    (least + MARGIN * (1.0 + least.abs())).max(0.0)
}

/// The least ε for which ρ-zCDP implies (ε, δ)-DP, rounded up: as [`Curve::epsilon`], over all real orders above 1.
pub(crate) fn epsilon_of_rho(rho_picos: u64, delta: f64) -> f64 {
    if rho_picos == 0 {
        return 0.0;
    }
    let rho = units(u128::from(rho_picos));
    // Every order gives a valid ε, so the search decides how tight it is and not whether it holds.
    let by_order = |log: f64| (1.0 + log.exp()) * rho + conversion(1.0 + log.exp(), delta);
    least(std::iter::once(least_of_unimodal(by_order, -20.0, 40.0)))
}

/// The least value of a function that falls and then rises, by golden sections.
///
/// For fixed ε the logarithm of δ is convex in α, so the orders that reach an ε form an interval, and the ε of an order
/// falls and then rises.
fn least_of_unimodal(value: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let section = 0.5 * (5f64.sqrt() - 1.0);
    let (mut left, mut right) = (high - section * (high - low), low + section * (high - low));
    let (mut at_left, mut at_right) = (value(left), value(right));
    // Each step keeps 0.618 of the interval; after 60 it is as small as its ends' last bits matter.
    for _ in 0..60 {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - section * (high - low);
            at_left = value(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + section * (high - low);
            at_right = value(right);
        }
    }
    at_left.min(at_right)
}

/// The largest ρ, in picos, of which [`epsilon_of_rho`] is at most ε.
pub(crate) fn rho_for(epsilon_micros: u64, delta: f64) -> u64 {
    let epsilon = micros(epsilon_micros);
    let (mut fits, mut limit) = (0, u64::MAX);
    while limit - fits > 1 {
        let middle = fits + (limit - fits) / 2;
        if epsilon_of_rho(middle, delta) <= epsilon {
            fits = middle;
        } else {
            limit = middle;
        }
    }
    fits
}

/// Decides what may still be asked under a lifetime budget (ε, δ), whatever was asked before and for whatever reason.
///
/// Adding up divergences of one order is sound for fully adaptive choices if the order was fixed before the first one
/// (Feldman, Zrnic 2021). So it follows from the budget alone: the order that leaves most to
/// Gaussian noise. δ here is the conversion's; a mechanism's own δ, such as a threshold's, is not part of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    order: u32,
    limit_picos: u128,
}

impl Filter {
    /// The limit is the divergence that still converts to at most ε at δ, rounded down.
    pub(crate) fn new(epsilon_micros: u64, delta: f64) -> Self {
        let limit = |order: u32| micros(epsilon_micros) - conversion(f64::from(order), delta);
        let rho = |order: u32| limit(order) / f64::from(order);
        let order = ORDERS.into_iter().fold(ORDERS[0], |best, order| if rho(order) > rho(best) { order } else { best });
        Self { order, limit_picos: picos_below(limit(order)) }
    }

    /// Whether all that was spent and will be stays within the budget.
    pub(crate) fn allows(&self, total: &Curve) -> bool {
        total.at(self.order) <= self.limit_picos
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rounding of 2^-53, which the margin holds")]
fn micros(epsilon: u64) -> f64 {
    epsilon as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a rounding of 2^-53, which the margin holds")]
fn units(picos: u128) -> f64 {
    picos as f64 / PICOS
}

/// Rounds up, above what floats err.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, as it should")]
fn picos_above(value: f64) -> u128 {
    ((value + MARGIN * value) * PICOS + 0.01).ceil() as u128
}

/// Rounds down, below what floats err; what is negative or not a number is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, as it should")]
fn picos_below(value: f64) -> u128 {
    ((value - MARGIN * (1.0 + value.abs())) * PICOS).floor() as u128
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn cases(oracle: &str) -> Vec<Value> {
        let golden: Value = serde_json::from_str(include_str!("golden/golden.json")).unwrap();
        golden[oracle].as_array().unwrap().clone()
    }

    fn number(case: &Value, key: &str) -> f64 {
        case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"))
    }

    fn whole(case: &Value, key: &str) -> u64 {
        case[key].as_u64().unwrap_or_else(|| panic!("{key} in {case}"))
    }

    fn times(loss: Loss, count: u64) -> Curve {
        (0..count).fold(Curve::default(), |sum, _| sum.plus(&Curve::of(&[loss])))
    }

    /// Picos of ρ = 1/2σ², which come out whole in these tests.
    fn gaussian(variance: u64) -> Loss {
        assert_eq!(1_000_000_000_000 % (2 * variance), 0);
        Loss::Gaussian { rho_picos: 1_000_000_000_000 / (2 * variance) }
    }

    #[test]
    fn published_pairs_of_rho_and_epsilon() {
        let digits = |rho_picos: u64| (rho_picos + 500_000) / 1_000_000;
        assert_eq!(digits(rho_for(1_000_000, 1e-6)), 24_356);
        assert_eq!(digits(rho_for(1_000_000, 1e-9)), 14_973);
        assert_eq!((rho_for(10_000_000, 1e-6) + 50_000_000) / 100_000_000, 15_393);
        assert!((epsilon_of_rho(31_250_000_000, 1e-6) - 1.1429).abs() < 1e-4);
    }

    #[test]
    fn conversion_of_rho_agrees_with_two_oracles() {
        for case in cases("zcdp") {
            let (rho, delta) = (whole(&case, "rho_picos"), number(&case, "delta"));
            let continuous = epsilon_of_rho(rho, delta);
            let by_curve = Curve::of(&[Loss::Gaussian { rho_picos: rho }]).epsilon(delta);
            assert!(continuous <= by_curve + 1e-11, "{case}: {continuous} and {by_curve}");
            // opendp searches for its ε; both ends of its search agree in eight digits.
            let opendp = number(&case, "opendp");
            assert!((continuous - opendp).abs() < 1e-8 * opendp + 2.0 * MARGIN, "{case}: {continuous}");
            assert!(continuous <= number(&case, "rdp") + 1e-11, "{case}: {continuous}");
            // Where the best order is far beyond the greatest, or below 2, the curve is sound and not tight.
            let served = (1_000_000..=10_000_000_000_000).contains(&rho);
            assert!(by_curve <= 1.1 * number(&case, "rdp") || !served, "{case}: {by_curve}");
        }
    }

    #[test]
    fn gaussian_runs_cost_no_less_than_they_do() {
        for case in cases("gaussian_runs") {
            let (count, delta) = (whole(&case, "count"), number(&case, "delta"));
            let epsilon = times(gaussian(whole(&case, "variance")), count).epsilon(delta);
            for bound in ["pld_low", "pld_high", "discrete"] {
                assert!(epsilon >= number(&case, bound), "{case}: {epsilon}");
            }
            assert!(epsilon <= 1.1 * number(&case, "rdp"), "{case}: {epsilon}");
        }
    }

    #[test]
    fn pure_runs_cost_no_less_than_they_do() {
        for case in cases("pure_runs") {
            let (count, delta) = (whole(&case, "count"), number(&case, "delta"));
            let epsilon = times(Loss::Pure { epsilon_micros: whole(&case, "epsilon_micros") }, count).epsilon(delta);
            for bound in ["exact", "pld_low", "laplace_low"] {
                assert!(epsilon >= number(&case, bound), "{case}: {epsilon}");
            }
            assert!(epsilon <= 1.1 * number(&case, "rdp"), "{case}: {epsilon}");
        }
    }

    #[test]
    fn divergences_of_randomised_response_are_rounded_up_and_no_further() {
        for case in cases("response_divergences") {
            let order = u32::try_from(whole(&case, "order")).unwrap();
            let ours = pure_divergence(whole(&case, "epsilon_micros"), order);
            let exact = u128::from(whole(&case, "picos"));
            // The oracle rounds down, and e^ε is no rational: one more is the nearest that is allowed.
            assert!(ours > exact, "{case}: {ours}");
            assert!(ours <= exact + 2 + exact / 100_000_000_000, "{case}: {ours}");
        }
    }

    #[test]
    fn pure_losses_keep_their_simple_bounds() {
        for epsilon_micros in [0, 1, 10, 1000, 999_999, 100_000_000, u64::MAX] {
            for order in ORDERS {
                let ours = pure_divergence(epsilon_micros, order);
                let epsilon = u128::from(epsilon_micros);
                assert!(ours <= epsilon * 1_000_000);
                assert!(ours <= (epsilon * epsilon).saturating_mul(u128::from(order)).div_ceil(2));
            }
        }
        assert_eq!(Curve::of(&[Loss::Pure { epsilon_micros: 0 }]), Curve::default());
    }

    #[test]
    fn orders_rise_and_are_the_agreed_ones() {
        assert!(ORDERS.is_sorted_by(|a, b| a < b));
        assert_eq!((ORDERS[0], ORDERS[62], ORDERS[63], ORDERS[75]), (2, 64, 80, 65_536));
    }

    #[test]
    fn nothing_costs_nothing_and_too_much_is_never_allowed() {
        assert!(Curve::default().epsilon(1e-6) <= 0.0);
        let much = times(Loss::Gaussian { rho_picos: u64::MAX }, 3);
        let much = (0..100).fold(much, |sum, _| sum.plus(&sum));
        assert_eq!(much.0, [u128::MAX; ORDERS.len()], "saturated, not wrapped");
        assert!(!Filter::new(1_000_000_000, 1e-6).allows(&much));
        for delta in [0.0, -1.0, f64::NAN] {
            assert_eq!(epsilon_of_rho(1, delta), f64::INFINITY);
            assert_eq!(rho_for(1_000_000, delta), 0);
            let filter = Filter::new(1_000_000, delta);
            assert!(filter.allows(&Curve::default()) && !filter.allows(&Curve::of(&[gaussian(1_000_000_000)])));
        }
        for delta in [0.99, 1.0, f64::INFINITY] {
            assert!(epsilon_of_rho(1, delta) == 0.0 && Curve::of(&[gaussian(1_000_000_000)]).epsilon(delta) == 0.0);
        }
        assert!(!Filter { order: 1000, limit_picos: 7 }.allows(&Curve::default()), "an order that no curve has");
        let nothing = Filter::new(0, 1e-6);
        assert!(nothing.allows(&Curve::default()) && !nothing.allows(&Curve::of(&[gaussian(1_000_000_000)])));
    }

    #[test]
    fn a_lifetime_of_ten_pays_for_63_runs_of_one() {
        let filter = Filter::new(10_000_000, 1e-6);
        let run = Loss::Gaussian { rho_picos: rho_for(1_000_000, 1e-6) };
        let allowed = (1..100).take_while(|&count| filter.allows(&times(run, count))).count();
        assert_eq!(allowed, 63);
    }

    #[test]
    fn a_filter_is_a_conversion_read_backward() {
        for (epsilon_micros, delta) in [(100_000, 1e-9), (1_000_000, 1e-6), (10_000_000, 1e-6), (100_000_000, 1e-12)] {
            let filter = Filter::new(epsilon_micros, delta);
            // The greatest curve that the filter allows, and the least that it refuses, at its order alone.
            let at = |picos: u128| {
                let mut curve = Curve([u128::MAX; ORDERS.len()]);
                curve.0[ORDERS.iter().position(|&order| order == filter.order).unwrap()] = picos;
                curve
            };
            let (most, refused) = (at(filter.limit_picos), at(filter.limit_picos + 1));
            assert!(filter.allows(&most) && !filter.allows(&refused));
            // Both roundings together.
            let slack = 4.0 * MARGIN * (1.0 + micros(epsilon_micros)) + 2e-12;
            assert!(most.epsilon(delta) <= micros(epsilon_micros) + slack);
            assert!(most.epsilon(delta) >= micros(epsilon_micros) - slack);
            let exact = units(filter.limit_picos) + conversion(f64::from(filter.order), delta);
            assert!(exact <= micros(epsilon_micros), "rounded down");
            // No other order leaves more to Gaussian noise.
            let rho = |order: u32| (micros(epsilon_micros) - conversion(f64::from(order), delta)) / f64::from(order);
            assert!(ORDERS.iter().all(|&order| rho(order) <= rho(filter.order)));
        }
    }

    #[test]
    fn losses_are_written_in_one_way() {
        for (loss, text) in [
            (Loss::Pure { epsilon_micros: 7 }, r#"{"pure":{"epsilon_micros":7}}"#),
            (Loss::Gaussian { rho_picos: 9 }, r#"{"gaussian":{"rho_picos":9}}"#),
        ] {
            assert_eq!(serde_json::to_string(&loss).unwrap(), text);
            assert_eq!(serde_json::from_str::<Loss>(text).unwrap(), loss);
        }
        for wrong in [r#"{"pure":{"epsilon_micros":7,"x":1}}"#, r#"{"pure":{}}"#, r#"{"Pure":{"epsilon_micros":7}}"#] {
            assert!(serde_json::from_str::<Loss>(wrong).is_err(), "{wrong}");
        }
    }

    fn any_loss() -> impl Strategy<Value = Loss> {
        prop_oneof![
            (0..100_000_000u64).prop_map(|epsilon_micros| Loss::Pure { epsilon_micros }),
            (0..10_000_000_000_000u64).prop_map(|rho_picos| Loss::Gaussian { rho_picos }),
        ]
    }

    proptest! {
        #[test]
        fn a_list_costs_what_its_parts_do(losses in prop::collection::vec(any_loss(), 0..6)) {
            let sum = losses.iter().fold(Curve::default(), |sum, &loss| sum.plus(&Curve::of(&[loss])));
            prop_assert_eq!(Curve::of(&losses), sum);
        }

        #[test]
        fn more_loss_and_less_delta_cost_more(first in any_loss(), second in any_loss(), exponent in 3..14i32) {
            let delta = 10f64.powi(-exponent);
            let (one, two) = (Curve::of(&[first]), Curve::of(&[first, second]));
            prop_assert!(one.epsilon(delta) <= two.epsilon(delta));
            prop_assert!(one.epsilon(delta) <= one.epsilon(delta / 10.0));
        }

        #[test]
        fn divergences_rise_with_the_order(loss in any_loss()) {
            prop_assert!(Curve::of(&[loss]).0.is_sorted());
        }

        #[test]
        fn the_largest_rho_fits_and_the_next_does_not(epsilon_micros in 1000..50_000_000u64, exponent in 3..14i32) {
            let delta = 10f64.powi(-exponent);
            let rho = rho_for(epsilon_micros, delta);
            prop_assert!(epsilon_of_rho(rho, delta) <= micros(epsilon_micros));
            // Beyond what the search and its floats leave open.
            let next = rho + 2 + rho / 10_000_000_000;
            prop_assert!(epsilon_of_rho(next, delta) > micros(epsilon_micros));
        }

        #[test]
        fn what_a_filter_allows_converts_to_its_budget(
            losses in prop::collection::vec(any_loss(), 0..6),
            epsilon_micros in 1000..100_000_000u64,
        ) {
            let total = Curve::of(&losses);
            if Filter::new(epsilon_micros, 1e-6).allows(&total) {
                prop_assert!(total.epsilon(1e-6) <= micros(epsilon_micros) * (1.0 + 4.0 * MARGIN) + 4.0 * MARGIN);
            }
        }

        #[test]
        fn epsilon_bounds_a_pure_loss_from_above(epsilon_micros in 1..20_000_000u64, exponent in 3..14i32) {
            // P[true] - e^x P[lie] of randomised response is its δ at x, so x = ln((p - δ)/q) is its ε at δ.
            let (delta, epsilon) = (10f64.powi(-exponent), micros(epsilon_micros));
            let (p, q) = (1.0 / (1.0 + (-epsilon).exp()), 1.0 / (1.0 + epsilon.exp()));
            let exact = ((p - delta) / q).ln();
            let ours = Curve::of(&[Loss::Pure { epsilon_micros }]).epsilon(delta);
            prop_assert!(ours >= exact, "{ours} and {exact}");
            prop_assert!(ours <= epsilon + 1e-3, "{ours}");
        }
    }
}
