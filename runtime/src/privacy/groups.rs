//! Analytical answers: contributions per group become noisy counts, sums and means.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;

use super::mechanism::{Mechanism, ValueNoise};
use super::noise::discrete_laplace;
use crate::error::{Code, Fault, Result};
use crate::random::Random;
use crate::room::{Controls, Group, Manifest, Reducer};
use crate::sandbox::Contribution;

/// An open group key is no longer than this, in all its parts.
const KEY_BYTES_MAX: usize = 64;

/// More groups than this end the run: keys that only one unit has would otherwise fill the host's memory.
const CELLS_MAX: usize = if cfg!(test) { 1_000 } else { 1_000_000 };

type Key = Vec<String>;

/// Exact sums per group.
#[derive(Clone)]
pub(crate) struct GroupTally {
    shape: Arc<Shape>,
    cells: BTreeMap<Key, Cell>,
    is_overfull: bool,
}

/// What a contribution must look like, and how it is bounded.
struct Shape {
    domains: Vec<Option<HashSet<String>>>,
    values: Vec<ValueNoise>,
    groups_per_unit: usize,
}

#[derive(Clone, Default)]
struct Cell {
    units: u64,
    sums: Vec<i128>,
}

impl GroupTally {
    pub(super) fn new(manifest: &Manifest, controls: &Controls) -> Self {
        let mechanism = Mechanism::new(manifest, controls);
        let domain = |group: &Group| group.domain.as_ref().map(|domain| domain.iter().cloned().collect());
        let shape = Shape {
            domains: manifest.groups.iter().map(domain).collect(),
            groups_per_unit: mechanism.groups_per_unit as usize,
            values: mechanism.values,
        };
        Self { shape: Arc::new(shape), cells: BTreeMap::new(), is_overfull: false }
    }

    /// Adds one unit. Each group counts once, whatever the guest repeats; of too many groups, the first by key count.
    pub(super) fn add(&mut self, contributions: Vec<Contribution>) {
        if !contributions.iter().all(|contribution| self.shape.is_well_formed(contribution)) {
            return;
        }
        let mut distinct: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
        for Contribution { group, values } in contributions {
            distinct.entry(group).or_insert(values);
        }
        for (group, values) in distinct.into_iter().take(self.shape.groups_per_unit) {
            let steps =
                self.shape.values.iter().zip(values).map(|(noise, value)| i128::from(noise.clamp.to_grid(value)));
            self.cells.entry(group).or_default().add(1, steps);
        }
        self.check_size();
    }

    /// Forgetting single groups instead would let one unit decide over another's. The verdict is the same however units
    /// are split: a part that is too large makes the whole too large.
    fn check_size(&mut self) {
        self.is_overfull |= self.cells.len() > CELLS_MAX;
        if self.is_overfull {
            self.cells.clear();
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, cell) in other.cells {
            self.cells.entry(key).or_default().add(cell.units, cell.sums.into_iter());
        }
        self.is_overfull |= other.is_overfull;
        self.check_size();
    }

    /// The sums before any noise, in the measures' own units.
    #[cfg(test)]
    #[expect(clippy::cast_precision_loss, reason = "sums of a test's few units are exact in a float")]
    pub(super) fn exact(&self) -> BTreeMap<Key, (u64, Vec<f64>)> {
        let in_units = |(sum, noise): (&i128, &ValueNoise)| *sum as f64 * noise.clamp.grid;
        let sums = |cell: &Cell| cell.sums.iter().zip(&self.shape.values).map(in_units).collect();
        self.cells.iter().map(|(key, cell)| (key.clone(), (cell.units, sums(cell)))).collect()
    }

    /// Every cell of a closed domain has a row, in the domain's order; open keys have one where they are released.
    pub(super) fn release(
        mut self,
        manifest: &Manifest,
        mechanism: &Mechanism,
        random: &mut Random,
    ) -> Result<RecordBatch> {
        if self.is_overfull {
            return Err(Fault::new(
                Code::TooManyGroups,
                format!("the units contributed to more than {CELLS_MAX} different groups"),
                "declare a closed domain for the groups, or coarser keys",
            ));
        }
        let mut table = Table::new(manifest);
        match closed_keys(&manifest.groups) {
            Some(keys) => {
                for key in keys {
                    let noisy = self.cells.remove(&key).unwrap_or_default().release(mechanism, random);
                    table.push(&key, noisy.as_ref(), mechanism);
                }
            }
            None => {
                for (key, cell) in self.cells {
                    if let Some(noisy) = cell.release(mechanism, random) {
                        table.push(&key, Some(&noisy), mechanism);
                    }
                }
            }
        }
        table.finish(manifest)
    }
}

impl Shape {
    fn is_well_formed(&self, contribution: &Contribution) -> bool {
        contribution.group.len() == self.domains.len()
            && contribution.values.len() == self.values.len()
            && !contribution.values.iter().any(|value| value.is_nan())
            && contribution.group.iter().map(String::len).sum::<usize>() <= self.key_bytes_max()
            && contribution.group.iter().zip(&self.domains).all(|(part, domain)| match domain {
                Some(domain) => domain.contains(part),
                None => !part.chars().any(char::is_control),
            })
    }

    fn key_bytes_max(&self) -> usize {
        if self.domains.iter().all(Option::is_some) { usize::MAX } else { KEY_BYTES_MAX }
    }
}

impl Cell {
    fn add(&mut self, units: u64, steps: impl Iterator<Item = i128>) {
        self.units += units;
        for (index, step) in steps.enumerate() {
            match self.sums.get_mut(index) {
                Some(sum) => *sum += step,
                None => self.sums.push(step),
            }
        }
    }

    /// Draws the same number of samples whether or not the cell is released or empty.
    fn release(self, mechanism: &Mechanism, random: &mut Random) -> Option<NoisyCell> {
        let below_k = u64::from(mechanism.group_size_min) - 1;
        let above_k = self.units.saturating_sub(below_k);
        let noisy_above_k = i128::from(above_k) + discrete_laplace(mechanism.count, random);
        let noisy_sum = |(index, noise): (usize, &ValueNoise)| {
            self.sums.get(index).copied().unwrap_or(0) + discrete_laplace(noise.scale, random)
        };
        let sums = mechanism.values.iter().enumerate().map(noisy_sum).collect();
        let released = above_k >= 1 && noisy_above_k >= i128::from(mechanism.threshold);
        released.then(|| NoisyCell { units: noisy_above_k + i128::from(below_k), sums })
    }
}

/// What is left of a cell once it is safe to look at.
struct NoisyCell {
    units: i128,
    sums: Vec<i128>,
}

/// All keys of a closed domain in its own order, or nothing where keys are open.
fn closed_keys(groups: &[Group]) -> Option<Vec<Key>> {
    let mut keys: Vec<Key> = vec![Vec::new()];
    for group in groups {
        let domain = group.domain.as_ref()?;
        keys = keys
            .iter()
            .flat_map(|key| domain.iter().map(move |part| [key.as_slice(), std::slice::from_ref(part)].concat()))
            .collect();
    }
    Some(keys)
}

/// The released table while it grows. Suppressed cells have nulls.
struct Table {
    groups: Vec<StringBuilder>,
    measures: Vec<Column>,
}

enum Column {
    Count(Int64Builder),
    Value(Reducer, Float64Builder),
}

impl Table {
    fn new(manifest: &Manifest) -> Self {
        let column = |reducer| match reducer {
            Reducer::Count => Column::Count(Int64Builder::new()),
            Reducer::Sum | Reducer::Mean => Column::Value(reducer, Float64Builder::new()),
        };
        Self {
            groups: manifest.groups.iter().map(|_| StringBuilder::new()).collect(),
            measures: manifest.measures.iter().map(|measure| column(measure.reducer)).collect(),
        }
    }

    fn push(&mut self, key: &[String], cell: Option<&NoisyCell>, mechanism: &Mechanism) {
        for (column, part) in self.groups.iter_mut().zip(key) {
            column.append_value(part);
        }
        let mut values = mechanism.values.iter().enumerate();
        for column in &mut self.measures {
            match column {
                Column::Count(column) => {
                    column.append_option(cell.map(|cell| i64::try_from(cell.units).unwrap_or(i64::MAX)))
                }
                Column::Value(reducer, column) => {
                    let Some((index, noise)) = values.next() else { continue };
                    column.append_option(cell.map(|cell| noise.value(*reducer, cell.sums[index], cell.units)));
                }
            }
        }
    }

    fn finish(self, manifest: &Manifest) -> Result<RecordBatch> {
        let names = manifest.groups.iter().map(|group| &group.name).chain(manifest.measures.iter().map(|m| &m.name));
        let groups = self.groups.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
        let measures = self.measures.into_iter().map(|column| match column {
            Column::Count(mut column) => Arc::new(column.finish()) as ArrayRef,
            Column::Value(_, mut column) => Arc::new(column.finish()) as ArrayRef,
        });
        let columns: Vec<ArrayRef> = groups.chain(measures).collect();
        let field = |(name, array): (&String, &ArrayRef)| {
            Field::new(name, array.data_type().clone(), array.data_type() != &DataType::Utf8)
        };
        let schema = Schema::new(names.zip(&columns).map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
    }
}

impl ValueNoise {
    /// Post-processing of noisy whole numbers: from here on floats can do no harm.
    #[expect(clippy::cast_precision_loss, reason = "noisy values; what is lost is far below the noise")]
    fn value(&self, reducer: Reducer, sum: i128, units: i128) -> f64 {
        let sum = sum as f64 * self.clamp.grid;
        match reducer {
            Reducer::Mean => (sum / (units.max(1) as f64) + self.clamp.center).clamp(self.clamp.low, self.clamp.high),
            Reducer::Count | Reducer::Sum => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        domain = ["a", "b", "c", "d"]
        [[measure]]
        name = "units"
        reducer = "count"
        [[measure]]
        name = "total"
        reducer = "sum"
        range = [-3.0, 10.0]
        [[measure]]
        name = "average"
        reducer = "mean"
        range = [0.0, 4.0]
        [bounds]
        max_rows_per_unit = 10
        max_groups_per_unit = 2
    "#;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text.as_bytes()).unwrap()
    }

    fn tally() -> GroupTally {
        GroupTally::new(&manifest(MANIFEST), &Controls::default())
    }

    fn contribution(group: &str, values: [f64; 2]) -> Contribution {
        Contribution { group: vec![group.into()], values: values.to_vec() }
    }

    /// Answers as plain rows: a contribution has no Debug, being raw data.
    type Row = (String, f64, f64);

    fn answer(rows: &[Row]) -> Vec<Contribution> {
        rows.iter().map(|(group, x, y)| contribution(group, [*x, *y])).collect()
    }

    fn contributions() -> impl Strategy<Value = Vec<Row>> {
        let value = prop_oneof![
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE),
            any::<f64>().prop_filter("NaN is refused as a whole", |value| !value.is_nan()),
            -20.0..20.0f64,
        ];
        proptest::collection::vec(("[abcd]", value.clone(), value), 0..12)
    }

    fn vector(tally: &GroupTally) -> BTreeMap<Key, (u64, Vec<i128>)> {
        tally.cells.iter().map(|(key, cell)| (key.clone(), (cell.units, cell.sums.clone()))).collect()
    }

    proptest! {
        /// Theorem: whatever a unit answers, it moves the sums by no more than the noise is scaled to.
        #[test]
        fn one_unit_moves_the_sums_by_at_most_the_sensitivity(
            others in proptest::collection::vec(contributions(), 0..5),
            one in contributions(),
        ) {
            let mut without = tally();
            others.iter().for_each(|unit| without.add(answer(unit)));
            let mut with = without.clone();
            with.add(answer(&one));

            let before = vector(&without);
            let mut moved = [0u128; 3];
            for (key, (units, sums)) in vector(&with) {
                let (units_before, sums_before) = before.get(&key).cloned().unwrap_or((0, vec![0, 0]));
                moved[0] += u128::from(units - units_before);
                for (index, (sum, sum_before)) in sums.iter().zip(&sums_before).enumerate() {
                    moved[index + 1] += (sum - sum_before).unsigned_abs();
                }
            }
            let shape = &with.shape;
            let groups = shape.groups_per_unit as u128;
            prop_assert!(moved[0] <= groups);
            for (noise, moved) in shape.values.iter().zip(&moved[1..]) {
                prop_assert!(*moved <= groups * u128::from(noise.clamp.bound.unsigned_abs()));
            }
        }

        /// The order in which units arrive, and how they are split over workers, changes nothing.
        #[test]
        fn order_and_split_change_nothing(units in proptest::collection::vec(contributions(), 0..8), split in 0usize..8) {
            let mut straight = tally();
            units.iter().for_each(|unit| straight.add(answer(unit)));
            let (mut left, mut right) = (tally(), tally());
            for (index, unit) in units.iter().rev().enumerate() {
                if index < split { left.add(answer(unit)) } else { right.add(answer(unit)) }
            }
            right.merge(left);
            prop_assert_eq!(vector(&straight), vector(&right));
        }
    }

    #[test]
    fn a_group_counts_once_per_unit_whatever_the_guest_repeats() {
        let mut tally = tally();
        tally.add(vec![contribution("a", [1.0, 1.0]); 1_000]);
        assert_eq!(vector(&tally)[&vec!["a".to_owned()]].0, 1);
    }

    #[test]
    fn an_answer_out_of_bounds_contributes_nothing() {
        let bad = [
            contribution("z", [1.0, 1.0]),
            contribution("a", [f64::NAN, 1.0]),
            Contribution { group: vec![], values: vec![1.0, 1.0] },
            Contribution { group: vec!["a".into(), "b".into()], values: vec![1.0, 1.0] },
            Contribution { group: vec!["a".into()], values: vec![1.0] },
            Contribution { group: vec!["a".into()], values: vec![1.0; 3] },
        ];
        for contribution in bad {
            let mut tally = tally();
            tally.add(vec![contribution, self::contribution("b", [1.0, 1.0])]);
            assert!(tally.cells.is_empty());
        }
    }

    #[test]
    fn open_keys_are_short_and_printable() {
        let open = MANIFEST.replace(r#"domain = ["a", "b", "c", "d"]"#, "");
        for (key, counted) in [("shop", true), (&"x".repeat(64), true), (&"x".repeat(65), false), ("a\u{7}b", false)] {
            let mut tally = GroupTally::new(&manifest(&open), &Controls::default());
            tally.add(vec![contribution(key, [1.0, 1.0])]);
            assert_eq!(!tally.cells.is_empty(), counted, "{key:?}");
        }
    }

    #[test]
    fn too_many_open_keys_end_the_run_however_units_are_split() {
        let open = manifest(&MANIFEST.replace(r#"domain = ["a", "b", "c", "d"]"#, ""));
        let tally = |keys: std::ops::Range<usize>| {
            let mut tally = GroupTally::new(&open, &Controls::default());
            keys.for_each(|key| tally.add(vec![contribution(&format!("k{key}"), [1.0, 1.0])]));
            tally
        };
        let release = |tally: GroupTally| {
            tally.release(&open, &Mechanism::new(&open, &Controls::default()), &mut Random::from_seed([1; 32]))
        };
        assert!(release(tally(0..CELLS_MAX)).is_ok());
        assert_eq!(release(tally(0..CELLS_MAX + 1)).unwrap_err().code(), Code::TooManyGroups);
        let mut halves = tally(0..CELLS_MAX / 2);
        halves.merge(tally(CELLS_MAX / 2..CELLS_MAX + 1));
        assert_eq!(release(halves).unwrap_err().code(), Code::TooManyGroups);
    }

    /// A mechanism whose threshold and noise are small enough to see releases often.
    fn loose_mechanism(epsilon: f64, delta: f64) -> Mechanism {
        let mut controls = Controls::default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small in this test")]
        {
            controls.epsilon_micros = crate::room::Epsilon::from_micros((epsilon * 1e6) as u64);
            controls.delta_femtos = crate::room::Delta::from_femtos((delta * 1e15) as u64);
        }
        Mechanism::new(&manifest(MANIFEST), &controls)
    }

    fn released(units: u64, mechanism: &Mechanism, draws: u32) -> f64 {
        let mut random = Random::from_seed([9; 32]);
        let cell = Cell { units, sums: vec![0, 0] };
        f64::from((0..draws).filter(|_| cell.clone().release(mechanism, &mut random).is_some()).count() as u32)
            / f64::from(draws)
    }

    #[test]
    fn no_group_below_k_is_ever_released() {
        let mechanism = loose_mechanism(10.0, 0.5);
        assert_eq!(released(49, &mechanism, 20_000), 0.0);
        // The test is alive: one unit more than the threshold needs is released most of the time.
        assert!(released(49 + mechanism.threshold + 5, &mechanism, 20_000) > 0.9);
    }

    #[test]
    fn a_single_unit_above_k_is_released_with_probability_at_most_delta() {
        for (epsilon, delta) in [(1.0, 0.02), (4.0, 0.05)] {
            let mechanism = loose_mechanism(epsilon, delta);
            let per_group = delta / f64::from(mechanism.groups_per_unit);
            let seen = released(50, &mechanism, 200_000);
            assert!(seen <= per_group * 1.1, "epsilon {epsilon}: {seen} > {per_group}");
            // Without the shift and the threshold, comparing a noisy count with k, it would be seen half of the time.
            assert!(seen > 0.0, "the test must be able to see releases");
        }
    }

    #[test]
    fn released_counts_are_the_true_counts_plus_noise_of_the_stated_scale() {
        let mechanism = loose_mechanism(2.0, 1e-6);
        let mut random = Random::from_seed([3; 32]);
        let cell = Cell { units: 500, sums: vec![0, 0] };
        let noisy: Vec<f64> = (0..20_000)
            .filter_map(|_| cell.clone().release(&mechanism, &mut random))
            .map(|cell| {
                #[expect(clippy::cast_precision_loss, reason = "small in this test")]
                let units = cell.units as f64;
                units - 500.0
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "small in this test")]
        let count = noisy.len() as f64;
        let deviation = (noisy.iter().map(|x| x * x).sum::<f64>() / count).sqrt();
        let stated = mechanism.measures()[0].standard_deviation;
        assert!((deviation / stated - 1.0).abs() < 0.1, "{deviation} against {stated}");
    }
}
