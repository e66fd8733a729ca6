//! What is left out is enough, and what is shown is right: against every way to subtract that there is.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const K: u32 = 10;

fn rules() -> Rules {
    Rules { k_min: K, ..Rules::default() }
}

fn cell(key: &[&str], contributors: u64) -> Cell {
    Cell { key: key.iter().map(ToString::to_string).collect(), contributors, values: vec![] }
}

fn valued(key: &str, contributors: u64, abs_sum: u128, abs_max: u128) -> Cell {
    Cell { values: vec![Total { sum: 0, abs_sum, abs_max }], ..cell(&[key], contributors) }
}

/// The cells of a table of some columns, in row-major order.
fn table(sizes: &[usize], counts: &[u64]) -> Vec<Cell> {
    let key = |mut at: usize| {
        let mut parts: Vec<String> = Vec::new();
        for size in sizes.iter().rev() {
            parts.push(format!("v{}", at % size));
            at /= size;
        }
        parts.reverse();
        parts
    };
    counts.iter().enumerate().map(|(at, count)| Cell { key: key(at), contributors: *count, values: vec![] }).collect()
}

fn hidden_counts(cells: &[Cell], rules: &Rules) -> Vec<u64> {
    let hidden = suppressed(cells, rules);
    cells.iter().zip(hidden).filter(|(_, hidden)| *hidden).map(|(cell, _)| cell.contributors).collect()
}

/// Knows every total along a column, every published cell, and which cells are empty. What he can compute is the span
/// of the totals over the cells that he does not know, modulo a large prime.
struct Attacker {
    unknown: Vec<usize>,
    span: Vec<Vec<u64>>,
}

const PRIME: u64 = (1 << 61) - 1;

fn times(one: u64, two: u64) -> u64 {
    u64::try_from(u128::from(one) * u128::from(two) % u128::from(PRIME)).unwrap()
}

fn inverse(value: u64) -> u64 {
    let (mut result, mut base, mut power) = (1, value, PRIME - 2);
    while power > 0 {
        if power & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        power >>= 1;
    }
    result
}

impl Attacker {
    fn new(lines: &[Vec<usize>], unknown: Vec<usize>) -> Self {
        let mut attacker = Self { unknown, span: Vec::new() };
        for line in lines {
            let mut row = attacker.row(line);
            attacker.reduce(&mut row);
            if let Some(lead) = row.iter().position(|entry| *entry != 0) {
                let scale = inverse(row[lead]);
                row.iter_mut().for_each(|entry| *entry = times(*entry, scale));
                attacker.span.push(row);
            }
        }
        attacker
    }

    fn row(&self, cells: &[usize]) -> Vec<u64> {
        self.unknown.iter().map(|cell| u64::from(cells.contains(cell))).collect()
    }

    fn reduce(&self, row: &mut [u64]) {
        for known in &self.span {
            let lead = known.iter().position(|entry| *entry != 0).unwrap();
            let factor = PRIME - row[lead];
            for (entry, known) in row.iter_mut().zip(known) {
                *entry = (*entry + times(factor, *known)) % PRIME;
            }
        }
    }

    fn knows_sum(&self, cells: &[usize]) -> bool {
        let mut row = self.row(cells);
        self.reduce(&mut row);
        row.iter().all(|entry| *entry == 0)
    }
}

fn lines_of(cells: &[Cell]) -> Vec<Vec<usize>> {
    let mut lines: BTreeMap<(usize, Vec<&String>), Vec<usize>> = BTreeMap::new();
    for (at, cell) in cells.iter().enumerate() {
        for column in 0..cell.key.len() {
            let shared =
                cell.key.iter().enumerate().filter(|(other, _)| *other != column).map(|(_, part)| part).collect();
            lines.entry((column, shared)).or_default().push(at);
        }
    }
    lines.into_values().collect()
}

fn subsets(cells: &[usize]) -> Vec<Vec<usize>> {
    let pick = |mask: usize| (0..cells.len()).filter(|at| mask >> at & 1 == 1).map(|at| cells[at]).collect();
    (1..1usize << cells.len()).map(pick).collect()
}

/// Sums over cells of a line that follow from table and totals, not from less, may not be published, and do not follow
/// from the totals alone.
fn leaks(cells: &[Cell], hidden: &[bool], rules: &Rules) -> Vec<Vec<usize>> {
    let lines = lines_of(cells);
    let has_units = |cell: &usize| cells[*cell].contributors > 0;
    let all: Vec<usize> = (0..cells.len()).filter(has_units).collect();
    let before = Attacker::new(&lines, all.clone());
    let after = Attacker::new(&lines, all.into_iter().filter(|cell| hidden[*cell]).collect());
    let mut leaks = Vec::new();
    for line in &lines {
        let unknown: Vec<usize> = line.iter().copied().filter(|cell| hidden[*cell] && has_units(cell)).collect();
        for set in subsets(&unknown) {
            let units: u64 = set.iter().map(|cell| cells[*cell].contributors).sum();
            let is_safe = units >= rules.k_min.into() && Table::new(cells, rules).could_be_published(&set);
            let is_minimal = || !subsets(&set).iter().any(|part| part.len() < set.len() && after.knows_sum(part));
            if !is_safe && after.knows_sum(&set) && is_minimal() && !before.knows_sum(&set) {
                leaks.push(set);
            }
        }
    }
    leaks
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0u64), 3 => 1..10u64, 6 => 10..60u64]
}

fn tables_of_two() -> impl Strategy<Value = ([usize; 2], Vec<u64>)> {
    (2..6usize, 2..6usize).prop_flat_map(|(rows, columns)| (Just([rows, columns]), vec(count(), rows * columns)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Theorem, for one column and two: totals and table tell no more of a small set than totals alone.
    #[test]
    fn totals_give_nothing_away((sizes, counts) in tables_of_two()) {
        let cells = table(&sizes, &counts);
        prop_assert_eq!(leaks(&cells, &suppressed(&cells, &rules()), &rules()), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn totals_give_no_dominant_unit_away((sizes, counts) in tables_of_two(), maxima in vec(1..40u128, 36)) {
        let mut cells = table(&sizes, &counts);
        for (cell, abs_max) in cells.iter_mut().zip(maxima) {
            let abs_sum = u128::from(cell.contributors).max(abs_max);
            cell.values = vec![Total { sum: 0, abs_sum, abs_max }];
        }
        prop_assert_eq!(leaks(&cells, &suppressed(&cells, &rules()), &rules()), Vec::<Vec<usize>>::new());
    }

    /// One who knows one total, and nothing of the others.
    #[test]
    fn no_line_alone_gives_anything_away(counts in vec(count(), 1..13), three in any::<bool>()) {
        let sizes: &[usize] = if three && counts.len() == 12 { &[2, 2, 3] } else { &[counts.len()] };
        let cells = table(sizes, &counts);
        let hidden = suppressed(&cells, &rules());
        for line in lines_of(&cells) {
            let (out, shown): (Vec<usize>, Vec<usize>) =
                line.into_iter().filter(|cell| cells[*cell].contributors > 0).partition(|cell| hidden[*cell]);
            let together: u64 = out.iter().map(|cell| cells[*cell].contributors).sum();
            prop_assert!(out.is_empty() || shown.is_empty() || (out.len() >= 2 && together >= u64::from(K)));
        }
    }

    #[test]
    fn nothing_below_k_is_published_and_order_changes_nothing((sizes, counts) in tables_of_two(), turn in 0..25usize) {
        let mut cells = table(&sizes, &counts);
        let mut hidden = suppressed(&cells, &rules());
        prop_assert!(cells.iter().zip(&hidden).all(|(cell, hidden)| *hidden || cell.contributors >= u64::from(K)));
        let turn = turn % cells.len();
        cells.rotate_left(turn);
        hidden.rotate_left(turn);
        prop_assert_eq!(suppressed(&cells, &rules()), hidden);
    }

    #[test]
    fn rounding_is_to_the_nearest_multiple(count in 0..u64::MAX / 2, sum in any::<i64>(), to in 1..10_000u32) {
        let rounded = round_count(count, to);
        prop_assert!(rounded.is_multiple_of(to.into()) && rounded.abs_diff(count) * 2 <= to.into());
        let rounded = round_sum(sum.into(), to.into());
        prop_assert_eq!(rounded % i128::from(to), 0);
        prop_assert!((rounded - i128::from(sum)).abs() * 2 <= to.into());
    }
}

#[test]
fn a_cell_of_fewer_than_k_units_takes_the_smallest_other_one_along() {
    let cells = table(&[5], &[9, 40, 10, 11, 30]);
    assert_eq!(suppressed(&cells, &rules()), [true, false, true, false, false]);
    let alone = Rules { suppress_complement: false, ..rules() };
    assert_eq!(suppressed(&cells, &alone), [true, false, false, false, false]);
}

#[test]
fn small_cells_that_are_k_together_need_no_other() {
    assert_eq!(suppressed(&table(&[3], &[5, 5, 40]), &rules()), [true, true, false]);
    assert_eq!(suppressed(&table(&[3], &[5, 4, 40]), &rules()), [true, true, true]);
}

#[test]
fn an_empty_cell_is_left_out_and_shields_nothing() {
    assert_eq!(suppressed(&table(&[3], &[0, 40, 50]), &rules()), [true, false, false]);
    assert_eq!(suppressed(&table(&[4], &[0, 9, 40, 50]), &rules()), [true, true, true, false]);
}

#[test]
fn equal_cells_go_by_key() {
    let cells = [cell(&["c"], 20), cell(&["b"], 20), cell(&["a"], 3)];
    assert_eq!(suppressed(&cells, &rules()), [false, true, true]);
}

#[test]
fn a_cell_that_connects_two_cycles_is_protected_too() {
    // Two squares of cells that were left out, and one such cell from a row of the first to a column of the second:
    // every line has two of them with k units together, and yet the single one follows from all totals.
    #[rustfmt::skip]
    let counts = [
        9, 9, 30, 30,
        9, 9, 8, 30,
        30, 30, 9, 9,
        30, 30, 9, 9,
    ];
    let cells = table(&[4, 4], &counts);
    let primary: Vec<bool> = counts.iter().map(|count| *count < u64::from(K)).collect();
    assert_eq!(leaks(&cells, &primary, &rules()), [[6], [6]], "a row's and a column's sum over the cell alone");
    let hidden = suppressed(&cells, &rules());
    assert!(leaks(&cells, &hidden, &rules()).is_empty());
    assert_eq!(hidden.iter().filter(|hidden| **hidden).count(), 10, "one more cell is enough");
}

#[test]
fn what_totals_tell_anyway_costs_no_other_cells() {
    // The first row has fewer than k units in all. Its total is all that could give it away, whatever else is left out.
    #[rustfmt::skip]
    let counts = [
        2, 2, 0, 0,
        20, 21, 30, 30,
        30, 30, 30, 30,
        30, 30, 30, 30,
    ];
    assert_eq!(hidden_counts(&table(&[4, 4], &counts), &rules()), [2, 2, 0, 0, 20, 21]);
}

#[test]
fn a_dominant_unit_hides_its_cell() {
    let others = || vec![valued("x", 100, 100, 1), valued("y", 90, 90, 1), valued("z", 80, 80, 1)];
    let with = |abs_sum, abs_max| [vec![valued("a", 50, abs_sum, abs_max)], others()].concat();
    assert_eq!(hidden_counts(&with(100, 50), &rules()), Vec::<u64>::new(), "half is allowed");
    assert_eq!(hidden_counts(&with(100, 51), &rules()), [50, 80], "more is not");
    assert_eq!(hidden_counts(&with(u128::MAX, u128::MAX), &rules()).len(), 4, "what does not fit is dominated");
    assert_eq!(hidden_counts(&with(0, 0), &rules()), Vec::<u64>::new(), "no one dominates nothing");
    let stricter = Rules { dominance_percent: 10, ..rules() };
    assert_eq!(hidden_counts(&with(100, 11), &stricter), [50, 80]);
}

#[test]
fn what_is_left_out_together_is_not_dominated_either() {
    // 95 of 100 and 5 more of the next cell: one unit still has 95 of 105.
    let cells = [valued("a", 20, 100, 95), valued("b", 30, 5, 1), valued("c", 40, 1_000, 1)];
    assert_eq!(suppressed(&cells, &rules()), [true, true, true]);
}

#[test]
fn units_of_several_cells_count_once() {
    // 6 and 6 units may be 6 in all if each is in both.
    let counts = [6, 6, 40, 41];
    assert_eq!(hidden_counts(&table(&[4], &counts), &rules()), [6, 6]);
    let twice = Rules { groups_per_unit: 2, ..rules() };
    assert_eq!(hidden_counts(&table(&[4], &counts), &twice), [6, 6, 40]);
    // One unit may be the largest of both cells.
    let cells = [valued("a", 20, 100, 60), valued("b", 30, 60, 30), valued("c", 40, 900, 1)];
    assert_eq!(hidden_counts(&cells, &rules()), [20, 30]);
    assert_eq!(hidden_counts(&cells, &twice), [20, 30, 40]);
}

#[test]
fn tables_of_any_shape_end() {
    assert_eq!(suppressed(&[], &rules()), Vec::<bool>::new());
    assert_eq!(suppressed(&[cell(&[], 9)], &rules()), [true]);
    assert_eq!(suppressed(&[cell(&[], 10)], &rules()), [false]);
    let open = [cell(&["a", "x"], 3), cell(&["b", "x"], 30), cell(&["b", "y"], 30), cell(&["c", "z"], 30)];
    assert_eq!(suppressed(&open, &rules()).len(), 4);
}

#[test]
fn halves_go_up() {
    for (count, rounded) in [(0, 0), (4, 0), (5, 10), (14, 10), (15, 20), (u64::MAX, u64::MAX)] {
        assert_eq!(round_count(count, 10), rounded, "{count}");
    }
    for (sum, rounded) in [(0, 0), (49, 0), (50, 100), (-50, 0), (-51, -100), (-149, -100), (-150, -100), (-151, -200)]
    {
        assert_eq!(round_sum(sum, 100), rounded, "{sum}");
    }
    assert_eq!(round_count(7, 0), 7, "no rounding");
    assert_eq!(round_sum(i128::MIN, u128::MAX), i128::MIN + 1);
}

#[test]
fn a_sum_is_rounded_like_a_count_of_largest_units() {
    let rules = Rules { k_min: 50, round_to: 10, ..Rules::default() };
    assert_eq!(sum_step(1_000, &rules), 200);
    assert_eq!(sum_step(1_001, &rules), 201, "a step rounds up");
    assert_eq!(sum_step(0, &rules), 1);
    assert_eq!(
        sum_step(u64::MAX, &Rules { k_min: 1, round_to: u32::MAX, ..rules }),
        u128::from(u64::MAX) * 0xffff_ffff
    );
    let value = |sum| Total { sum, abs_sum: 100_000, abs_max: 1_000 };
    let cells = [Cell { values: vec![value(12_345), value(-12_345)], ..cell(&["a"], 57) }, cell(&["b"], 49)];
    let alone = Rules { suppress_complement: false, ..rules };
    let published = Published { count: 60, sums: vec![12_400, -12_345] };
    assert_eq!(publish(&cells, &[1_000, 1], &alone), [Some(published), None]);
    assert_eq!(publish(&cells, &[1_000, 1], &rules), [None, None]);
}

/// Numbers below a bound that look random and are always the same.
fn draws() -> impl FnMut(u64) -> u64 {
    let mut state = 7u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn no_more_is_left_out_than_before() {
    let mut draw = draws();
    let mut shown = 0;
    for _ in 0..300 {
        let counts: Vec<u64> = (0..64).map(|_| if draw(3) == 0 { draw(10) } else { draw(200) }).collect();
        let hidden = suppressed(&table(&[8, 8], &counts), &rules());
        shown += hidden.iter().filter(|hidden| !**hidden).count();
    }
    assert_eq!(shown, 10_839, "of 19,200 cells: whoever changes it should know");
}
