//! How many bits a run could pass on, whatever its code does: an upper bound, printed and held against limits.
//!
//! The bound is the logarithm of the number of results that could come out: of each cell every value it can have, of a
//! list every choice of its members, and every way a run can end. Order, names and types are the host's and add nothing.
//! All logarithms are whole numbers of 2^-32 bits, rounded so that the bound stays one.

use std::ops::RangeInclusive;

use crate::privacy::suppress::{Rules, round_count, sum_step};

/// A table before it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    /// The most cells it can have.
    pub(crate) cells: u64,
    /// The bits that a key itself can hold; 0 for closed domains.
    pub(crate) bits_per_key: u64,
    pub(crate) max_units: u64,
    /// For each value the largest magnitude of one unit's contribution, in grid steps.
    pub(crate) bounds: &'a [u64],
}

/// The bits of a table of rounded cells, each of which may be left out, with the ways in which a run can end.
pub(crate) fn table_bits(extent: Extent<'_>, rules: &Rules, outcomes: u64) -> u64 {
    let key = u128::from(extent.bits_per_key) << FRACTION;
    let cell = key.saturating_add(cell_bits(extent, rules));
    whole_bits(cell.saturating_mul(u128::from(extent.cells)).saturating_add(log2(outcomes.into(), Round::Up)))
}

/// One value more than the count has stands for a cell that is left out.
fn cell_bits(extent: Extent<'_>, rules: &Rules) -> u128 {
    let step = u64::from(rules.round_to.max(1));
    let [least, most] =
        [u64::from(rules.k_min), extent.max_units].map(|count| round_count(count, rules.round_to) / step);
    let counts = if u64::from(rules.k_min) > extent.max_units { 0 } else { most - least + 1 };
    let sums = extent.bounds.iter().map(|bound| {
        let most = (u128::from(*bound) * u128::from(extent.max_units)).div_ceil(sum_step(*bound, rules));
        2 * most + 1
    });
    sums.fold(log2(u128::from(counts) + 1, Round::Up), |bits, values| bits + log2(values, Round::Up))
}

/// The bits of a list of some of `units` identifiers, each in one of `segments`, with the ways in which a run can end.
pub(crate) fn list_bits(units: u64, sizes: RangeInclusive<u64>, segments: u64, outcomes: u64) -> u64 {
    let (least, most) = (*sizes.start(), units.min(*sizes.end()));
    let ends = log2(outcomes.into(), Round::Up);
    if least > most {
        return whole_bits(ends);
    }
    let widest = choose_bits(units, (units / 2).clamp(least, most));
    let lengths = log2(u128::from(most - least) + 1, Round::Up);
    whole_bits(widest + lengths + u128::from(most) * log2(segments.into(), Round::Up) + ends)
}

/// log2 of the ways to choose: n H(r/n) - log2(2 pi r (n-r) / n) / 2 (MacWilliams and Sloane, chapter 10, lemma 7), with
/// 6 for 2 pi.
fn choose_bits(all: u64, chosen: u64) -> u128 {
    let (n, r) = (u128::from(all), u128::from(chosen));
    if r == 0 || r >= n {
        return 0;
    }
    let spread = (6 * r).checked_mul(n - r).map_or(1, |product| (product / n).max(1));
    let parts = r * log2(r, Round::Down) + (n - r) * log2(n - r, Round::Down) + log2(spread, Round::Down) / 2;
    (n * log2(n, Round::Up)).saturating_sub(parts)
}

const FRACTION: u32 = 32;
const ONE: u128 = 1 << 62;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Up,
    Down,
}

impl Round {
    fn shift_right(self, value: u128, bits: u32) -> u128 {
        match self {
            Self::Up => value.div_ceil(1 << bits),
            Self::Down => value >> bits,
        }
    }
}

/// The binary logarithm, in 2^-32; that of 0 is taken for that of 1. Each squaring of the mantissa gives one more digit.
fn log2(value: u128, round: Round) -> u128 {
    let value = value.max(1);
    let whole = value.ilog2();
    let mut mantissa = match whole {
        0..=62 => value << (62 - whole),
        _ => round.shift_right(value, whole - 62),
    };
    let mut bits = u128::from(whole);
    for _ in 0..FRACTION {
        mantissa = round.shift_right(mantissa * mantissa, 62);
        let digit = mantissa >= 2 * ONE;
        if digit {
            mantissa = round.shift_right(mantissa, 1);
        }
        bits = 2 * bits + u128::from(digit);
    }
    bits + u128::from(round == Round::Up && mantissa > ONE)
}

fn whole_bits(bits: u128) -> u64 {
    u64::try_from(bits.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact_choose(n: u64, r: u64) -> f64 {
        (1..=r).map(|i| ((n - r + i) as f64 / i as f64).log2()).sum()
    }

    #[test]
    fn logarithms_bound_the_true_ones_closely() {
        for value in [1u128, 2, 3, 7, 10, 1 << 40, (1 << 40) + 1, u128::from(u64::MAX), u128::MAX, 99_996] {
            let exact = (value as f64).log2();
            let scale = (1u64 << FRACTION) as f64;
            let (down, up) = (log2(value, Round::Down) as f64 / scale, log2(value, Round::Up) as f64 / scale);
            assert!(down <= exact + 1e-12 && exact <= up + 1e-12, "{value}: {down} {exact} {up}");
            assert!(up - down < 1e-8, "{value}: {down} {up}");
        }
        assert_eq!(log2(1 << 20, Round::Up), 20 << FRACTION, "powers of two are exact");
        assert_eq!(log2(u128::MAX, Round::Up), 128 << FRACTION);
    }

    #[test]
    fn a_table_of_counts_has_the_published_capacity() {
        // 50 cells, counts to a million in tens: 50 log2(10^5) = 830.5, and a little for what is left out.
        let rules = Rules { k_min: 1, round_to: 10, ..Rules::default() };
        let extent = Extent { cells: 50, bits_per_key: 0, max_units: 1_000_000, bounds: &[] };
        assert_eq!(table_bits(extent, &rules, 1), 831);
        assert_eq!(table_bits(extent, &rules, 4), 833, "four outcomes are two bits more");
        assert_eq!(table_bits(Extent { bits_per_key: 512, ..extent }, &rules, 1), 831 + 50 * 512);
        assert_eq!(table_bits(Extent { cells: 0, ..extent }, &rules, 1), 0);
    }

    #[test]
    fn cells_without_choice_hold_nothing_and_others_every_value() {
        let rules = Rules { k_min: 50, round_to: 10, ..Rules::default() };
        let extent = |max_units| Extent { cells: 1, bits_per_key: 0, max_units, bounds: &[] };
        assert_eq!(table_bits(extent(49), &rules, 1), 0, "always left out");
        assert_eq!(table_bits(extent(50), &rules, 1), 1, "50 or left out");
        assert_eq!(table_bits(extent(70), &rules, 1), 2, "50, 60, 70 or left out");
        // Sums in steps of ceil(100 * 10 / 50) = 20 from -7,000 to 7,000: 701 values of 9.45 bits.
        assert_eq!(table_bits(Extent { bounds: &[100], ..extent(70) }, &rules, 1), 12);
        // log2 of 2^64 outcomes, 2^64 / 10 counts and 2^64 * 10 sums.
        let widest = table_bits(Extent { bounds: &[u64::MAX], ..extent(u64::MAX) }, &rules, u64::MAX);
        assert!((192..=193).contains(&widest), "{widest}");
    }

    #[test]
    fn lists_have_the_published_capacity() {
        for (n, r, published) in [(100_000, 5_000, 28_632), (1_000_000, 50_000, 286_388)] {
            let bits = list_bits(n, r..=r, 1, 1);
            assert!((published..=published + 1).contains(&bits), "{bits}");
        }
    }

    #[test]
    fn list_capacity_is_an_upper_bound_and_a_close_one() {
        for n in 1..=200u64 {
            for r in 0..=n {
                let (bits, exact) = (list_bits(n, r..=r, 1, 1) as f64, exact_choose(n, r));
                assert!(bits >= exact - 1e-9 && bits < exact + 1.5, "{r} of {n}: {bits}, exactly {exact}");
            }
            assert!(list_bits(n, 0..=n, 1, 1) >= n, "any subset");
        }
        assert_eq!(list_bits(10, 11..=12, 3, 2), 1, "no list fits: only the outcome");
        assert_eq!(list_bits(10, 10..=10, 4, 1), 20, "a segment each");
        assert!(list_bits(u64::MAX, 0..=u64::MAX, 2, 2) > u64::MAX / 2);
    }
}
