//! Analytical answers: contributions per group become the numbers of a table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize, Serializer};
use unicode_normalization::is_nfc;

use super::Setting;
use super::contributors::{Digests, ReleasedSet};
use super::mechanism::Mechanism;
#[cfg(test)]
use super::mechanism::Statistic;
use super::reduce::{self, Encoder, Number, Shown};
use super::suppress::{self, Rules, Total};
use crate::error::{Code, Fault, Result};
use crate::provision::Unit;
use crate::random::Random;
use crate::room::{Controls, Group, Manifest, Mode, Top};
use crate::sandbox::Contribution;

/// An open group key is no longer than this, in all its parts.
pub(super) const KEY_BYTES_MAX: usize = 64;

/// Keys that only one unit has would fill the host's memory: a run with more different groups than this ends, or with
/// fewer where each has many numbers.
pub(super) const CELLS_MAX: usize = if cfg!(test) { 1_000 } else { 1_000_000 };

type Key = Vec<String>;

/// Exact sums per group.
#[derive(Clone)]
pub(crate) struct GroupTally {
    shape: Arc<Shape>,
    cells: Cells,
    is_overfull: bool,
    room: Room,
}

/// Cells in the order in which they were met, found by their keys without making one.
#[derive(Clone, Default)]
struct Cells {
    places: HashMap<Box<[u8]>, usize>,
    list: Vec<(Key, Cell)>,
}

/// What is kept between units, so that none costs an allocation.
#[derive(Clone, Default)]
struct Room {
    joined: Vec<u8>,
    /// A unit's contributions by their positions, each with its cell's place if there is one.
    chosen: Vec<(usize, Option<usize>)>,
    encoder: Encoder,
    sizes: Vec<u128>,
}

/// What a contribution must look like, and how it is bounded.
struct Shape {
    domains: Vec<Option<HashSet<String>>>,
    values: usize,
    mechanism: Mechanism,
    setting: Arc<Setting>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Cell {
    units: u64,
    sums: Vec<i128>,
    /// Kept only where there is no noise.
    exact: Option<Box<Exact>>,
}

/// What the rules for exact numbers look at.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Exact {
    /// Units that every required party has.
    contributors: u64,
    abs_sums: Vec<u128>,
    abs_max: Vec<u128>,
    #[serde(serialize_with = "in_order")]
    digests: Vec<u64>,
}

impl GroupTally {
    pub(super) fn new(manifest: &Manifest, controls: &Controls, setting: Arc<Setting>) -> Self {
        let domain = |group: &Group| group.domain.as_ref().map(|domain| domain.iter().cloned().collect());
        let shape = Shape {
            domains: manifest.groups.iter().map(domain).collect(),
            values: manifest.measures.iter().filter(|measure| measure.reducer.takes_a_value()).count(),
            mechanism: Mechanism::new(manifest, controls),
            setting,
        };
        Self { shape: Arc::new(shape), cells: Cells::default(), is_overfull: false, room: Room::default() }
    }

    /// Adds one unit. Each group counts once, whatever the guest repeats; of too many groups, the first by key count.
    pub(super) fn add(&mut self, unit: &Unit, contributions: &[Contribution]) {
        let Self { shape, cells, room: Room { joined, chosen, encoder, sizes }, .. } = self;
        chosen.clear();
        for (at, contribution) in contributions.iter().enumerate() {
            let place = cells.place(&contribution.group, joined);
            // A key that has a cell was looked at when it got it.
            if !shape.has_its_numbers(contribution) || (place.is_none() && !shape.is_key(&contribution.group)) {
                return;
            }
            chosen.push((at, place));
        }
        let group = |at: usize| contributions[at].group.as_slice();
        // Of those that repeat a group, the first stays.
        chosen.sort_unstable_by(|(one, _), (other, _)| group(*one).cmp(group(*other)).then(one.cmp(other)));
        chosen.dedup_by(|(later, _), (first, _)| group(*later) == group(*first));
        chosen.truncate(shape.mechanism.l0 as usize);
        encoder.encode(&shape.mechanism, chosen.iter().map(|(at, _)| contributions[*at].values.as_slice()));
        for (index, (at, place)) in chosen.iter().enumerate() {
            let numbers = encoder.numbers(index);
            let cell = match place {
                Some(place) => cells.at(*place),
                None => cells.of(group(*at), joined),
            };
            if shape.mechanism.mode == Mode::SealedK {
                shape.mechanism.magnitudes(numbers, sizes);
                cell.exact.get_or_insert_default().add(unit, sizes, &shape.setting);
            }
            cell.add(1, numbers);
        }
        self.check_size();
    }

    /// The verdict is the same however units are split: a part that is too large makes the whole too large.
    fn check_size(&mut self) {
        self.is_overfull |= self.cells.list.len() > self.shape.mechanism.cells_max();
        if self.is_overfull {
            self.cells = Cells::default();
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, other) in other.cells.list {
            let cell = self.cells.of(&key, &mut self.room.joined);
            cell.add(other.units, &other.sums);
            if let Some(exact) = other.exact {
                cell.exact.get_or_insert_default().merge(*exact);
            }
        }
        self.is_overfull |= other.is_overfull;
        self.check_size();
    }

    pub(super) fn write(&self, to: &mut dyn Write) -> postcard::Result<()> {
        // In one order, whichever they were met in.
        let cells: BTreeMap<&Key, &Cell> = self.cells.list.iter().map(|(key, cell)| (key, cell)).collect();
        postcard::to_io(&(cells, self.is_overfull), to).map(drop)
    }

    /// The same with the number of contributors in place of their names, which are another host's elsewhere.
    pub(super) fn without_names(mut self) -> Self {
        for exact in self.cells.list.iter_mut().filter_map(|(_, cell)| cell.exact.as_mut()) {
            exact.digests = vec![exact.digests.len() as u64];
        }
        self
    }

    pub(super) fn read(&self, bytes: &[u8]) -> postcard::Result<Self> {
        let (read, is_overfull): (BTreeMap<Key, Cell>, bool) = postcard::from_bytes(bytes)?;
        let (mut cells, mut room) = (Cells::default(), Room::default());
        for (key, cell) in read {
            *cells.of(&key, &mut room.joined) = cell;
        }
        Ok(Self { shape: Arc::clone(&self.shape), cells, is_overfull, room })
    }

    /// The sums before any noise, in the measures' own units.
    #[cfg(test)]
    pub(super) fn exact(&self) -> BTreeMap<Key, (u64, Vec<f64>)> {
        let mechanism = &self.shape.mechanism;
        let sums = |cell: &Cell| {
            let in_units = |statistic: &Statistic| match *statistic {
                Statistic::Sum { part, grid, .. } | Statistic::Mean { part, grid } => {
                    Some(grid.value(cell.sums[mechanism.offset(part)]))
                }
                _ => None,
            };
            mechanism.statistics.iter().filter_map(in_units).collect()
        };
        self.cells.list.iter().map(|(key, cell)| (key.clone(), (cell.units, sums(cell)))).collect()
    }

    /// Adds noise, and leaves out what is below the threshold.
    pub(super) fn release(
        self,
        manifest: &Manifest,
        mechanism: &Mechanism,
        random: &mut Random,
    ) -> Result<RecordBatch> {
        if self.has_too_many(mechanism, random) {
            return Err(too_many_groups());
        }
        let closed = closed_keys(&manifest.groups);
        let mut cells = self.cells.by_key();
        let noisy: Vec<(Key, Option<Shown>)> = match closed {
            // Every cell of a closed domain has a row, in the domain's order.
            Some(keys) => {
                let release = |key: Key| {
                    let noisy = cells.remove(&key).unwrap_or_default().noisy(mechanism, random);
                    (key, noisy)
                };
                keys.into_iter().map(release).collect()
            }
            // Open keys have one where they are released.
            None => {
                let noisy = cells.into_iter().map(|(key, cell)| (key, cell.noisy(mechanism, random)));
                noisy.filter(|(_, cell)| cell.is_some()).collect()
            }
        };
        table(manifest, mechanism, noisy)
    }

    /// Whether a run has more open keys than it may: decided by a noisy number, so that no unit tips it. The noise stays
    /// below its margin but for a part of delta, so that what memory cannot hold is always too many.
    fn has_too_many(&self, mechanism: &Mechanism, random: &mut Random) -> bool {
        let Some(noise) = mechanism.groups.and_then(|part| part.noise) else { return self.is_overfull };
        let noisy = i128::try_from(self.cells.list.len()).unwrap_or(i128::MAX) + noise.sample(random);
        self.is_overfull || noisy > mechanism.groups_max()
    }

    /// Exact numbers of large groups, rounded; and who contributed to each of them.
    pub(super) fn release_exact(
        self,
        manifest: &Manifest,
        mechanism: &Mechanism,
        controls: &Controls,
    ) -> Result<(RecordBatch, Vec<ReleasedSet>)> {
        if self.is_overfull {
            return Err(too_many_groups());
        }
        let mut cells = self.cells.by_key();
        let is_open = manifest.has_open_keys();
        let keys = closed_keys(&manifest.groups).unwrap_or_else(|| cells.keys().cloned().collect());
        let cells: Vec<(Key, Cell)> = keys
            .into_iter()
            .map(|key| {
                let cell = cells.remove(&key).unwrap_or_default();
                (key, cell)
            })
            .collect();
        let exact: Vec<suppress::Cell> = cells.iter().map(|(key, cell)| cell.exact(key, mechanism.width())).collect();
        let rules = Rules::of(controls, mechanism.l0);
        let published = suppress::publish(&exact, &mechanism.bounds(), &rules);
        let (mut rows, mut groups) = (Vec::new(), Vec::new());
        for ((key, cell), published) in cells.into_iter().zip(published) {
            let shown = published.map(|published| {
                let units = suppress::round_count(cell.units.min(manifest.max_units()), rules.round_to);
                Shown { units: units.into(), sums: published.sums }
            });
            if shown.is_some() {
                let label = (!is_open).then(|| key.join(" / "));
                let digests = cell.exact.map_or_else(Vec::new, |exact| exact.digests);
                groups.push(ReleasedSet { label, digests: Digests::from(digests) });
            }
            if shown.is_some() || !is_open {
                rows.push((key, shown));
            }
        }
        Ok((table(manifest, mechanism, rows)?, groups))
    }
}

/// In which order units came is no part of what they came to.
fn in_order<S: Serializer>(digests: &[u64], to: S) -> std::result::Result<S::Ok, S::Error> {
    let mut digests = digests.to_vec();
    digests.sort_unstable();
    digests.serialize(to)
}

fn too_many_groups() -> Fault {
    Fault::new(
        Code::TooManyGroups,
        "the units contributed to more different groups than a run may have",
        "declare a closed domain for the groups, or coarser keys",
    )
}

impl Cells {
    /// Where the cell of a key is, if it has one.
    fn place(&self, key: &[String], joined: &mut Vec<u8>) -> Option<usize> {
        join(key, joined);
        self.places.get(joined.as_slice()).copied()
    }

    fn at(&mut self, place: usize) -> &mut Cell {
        &mut self.list[place].1
    }

    /// The cell of a key, which is empty where the key had none.
    fn of(&mut self, key: &[String], joined: &mut Vec<u8>) -> &mut Cell {
        let place = self.place(key, joined).unwrap_or_else(|| {
            let place = self.list.len();
            self.places.insert(joined.as_slice().into(), place);
            self.list.push((key.to_vec(), Cell::default()));
            place
        });
        self.at(place)
    }

    fn by_key(self) -> BTreeMap<Key, Cell> {
        self.list.into_iter().collect()
    }
}

/// A key's parts as one text that no other parts have: each behind its length.
fn join(key: &[String], joined: &mut Vec<u8>) {
    joined.clear();
    for part in key {
        joined.extend_from_slice(&part.len().to_le_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
}

impl Shape {
    fn has_its_numbers(&self, contribution: &Contribution) -> bool {
        contribution.values.len() == self.values && !contribution.values.iter().any(|value| value.is_nan())
    }

    fn is_key(&self, group: &[String]) -> bool {
        group.len() == self.domains.len()
            && group.iter().map(String::len).sum::<usize>() <= self.key_bytes_max()
            && group.iter().zip(&self.domains).all(|(part, domain)| match domain {
                Some(domain) => domain.contains(part),
                None => is_plain(part),
            })
    }

    fn key_bytes_max(&self) -> usize {
        if self.domains.iter().all(Option::is_some) { usize::MAX } else { KEY_BYTES_MAX }
    }
}

/// Whether an open key says nothing that a reader could not see: one spelling of each character, no control characters,
/// nothing without width, and no space around it.
fn is_plain(part: &str) -> bool {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    part.trim() == part && is_nfc(part) && !part.chars().any(is_hidden)
}

impl Cell {
    fn add(&mut self, units: u64, numbers: &[i128]) {
        self.units += units;
        self.sums.resize(self.sums.len().max(numbers.len()), 0);
        self.sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }

    /// Draws the same number of samples whether or not the cell is released or empty. Counts enter as max(0, n - (k-1)),
    /// and 0 is never released where there is a threshold: no group below k leaves, and the shift costs no privacy.
    fn noisy(self, mechanism: &Mechanism, random: &mut Random) -> Option<Shown> {
        let below_k = u64::from(mechanism.k_min) - 1;
        let above_k = self.units.saturating_sub(below_k);
        let mut sample = |part: &super::mechanism::Part| part.noise.map_or(0, |noise| noise.sample(random));
        let noisy_above_k = i128::from(above_k) + sample(&mechanism.units);
        let of_parts = mechanism.parts.iter().flat_map(|part| std::iter::repeat_n(part, part.width));
        let exact = self.sums.into_iter().chain(std::iter::repeat(0));
        let sums = exact.zip(of_parts).map(|(sum, part)| sum + sample(part)).collect();
        let is_shown = match mechanism.threshold {
            Some(threshold) => above_k >= 1 && noisy_above_k >= i128::from(threshold),
            None => true,
        };
        is_shown.then(|| Shown { units: noisy_above_k + i128::from(below_k), sums })
    }

    fn exact(&self, key: &Key, width: usize) -> suppress::Cell {
        let none = Exact::default();
        let exact = self.exact.as_deref().unwrap_or(&none);
        let value = |at: usize| Total {
            sum: self.sums.get(at).copied().unwrap_or(0),
            abs_sum: exact.abs_sums.get(at).copied().unwrap_or(0),
            abs_max: exact.abs_max.get(at).copied().unwrap_or(0),
        };
        suppress::Cell {
            key: key.clone(),
            units: self.units,
            contributors: exact.contributors,
            values: (0..width).map(value).collect(),
        }
    }
}

impl Exact {
    /// What one party alone knows could be made up: it counts for nothing that makes a group look larger, and may be the
    /// largest unit of all.
    fn add(&mut self, unit: &Unit, sizes: &[u128], setting: &Setting) {
        let is_everyones = setting.is_everyones(unit);
        self.contributors += u64::from(is_everyones);
        self.digests.push(setting.digest(&unit.key, is_everyones));
        let counted = if is_everyones { sizes } else { &[] };
        self.add_sizes(counted, sizes);
    }

    fn add_sizes(&mut self, sums: &[u128], max: &[u128]) {
        self.abs_sums.resize(self.abs_sums.len().max(sums.len()), 0);
        self.abs_max.resize(self.abs_max.len().max(max.len()), 0);
        self.abs_sums.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
        self.abs_max.iter_mut().zip(max).for_each(|(most, other)| *most = (*most).max(*other));
    }

    fn merge(&mut self, other: Self) {
        self.contributors += other.contributors;
        self.digests.extend(other.digests);
        self.add_sizes(&other.abs_sums, &other.abs_max);
    }
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

/// The released table. A cell that is left out has nulls.
fn table(manifest: &Manifest, mechanism: &Mechanism, cells: Vec<(Key, Option<Shown>)>) -> Result<RecordBatch> {
    let decode = |shown: Shown| reduce::decode(mechanism, manifest, &shown);
    let mut rows: Vec<(Key, Option<Vec<Number>>)> =
        cells.into_iter().map(|(key, shown)| (key, shown.map(decode))).collect();
    let columns = reduce::columns(manifest);
    if let Some(top) = &manifest.top {
        keep_top(&mut rows, top, &columns);
    }
    let group = |at: usize| -> ArrayRef {
        let mut column = StringBuilder::new();
        rows.iter().for_each(|(key, _)| column.append_value(&key[at]));
        Arc::new(column.finish())
    };
    let measure = |(at, column): (usize, &reduce::Column)| -> ArrayRef {
        let numbers = rows.iter().map(|(_, numbers)| numbers.as_ref().map(|numbers| numbers[at]));
        if column.is_integer {
            let mut integers = Int64Builder::new();
            numbers.for_each(|number| match number {
                Some(Number::Int(number)) => integers.append_value(number),
                _ => integers.append_null(),
            });
            return Arc::new(integers.finish());
        }
        let mut floats = Float64Builder::new();
        numbers.for_each(|number| floats.append_option(number.map(Number::as_f64)));
        Arc::new(floats.finish())
    };
    let arrays: Vec<ArrayRef> =
        (0..manifest.groups.len()).map(group).chain(columns.iter().enumerate().map(measure)).collect();
    let names = manifest.groups.iter().map(|group| &group.name).chain(columns.iter().map(|column| &column.name));
    let field = |(name, array): (&String, &ArrayRef)| {
        Field::new(name, array.data_type().clone(), array.data_type() != &DataType::Utf8)
    };
    let schema = Schema::new(names.zip(&arrays).map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), arrays)
        .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
}

/// The first groups by a noisy number: post-processing. Groups that are left out come last, in the domain's order, so
/// that the table has the same number of rows whatever the data.
fn keep_top(rows: &mut Vec<(Key, Option<Vec<Number>>)>, top: &Top, columns: &[reduce::Column]) {
    let by = columns.iter().position(|column| column.name == top.by).unwrap_or(0);
    let size =
        |numbers: &Option<Vec<Number>>| numbers.as_ref().map_or(f64::NEG_INFINITY, |numbers| numbers[by].as_f64());
    rows.sort_by(|(_, one), (_, other)| size(other).total_cmp(&size(one)));
    rows.truncate(top.limit as usize);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::{Delta, Epsilon, NoiseChoice};

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

    fn tally_of(manifest: &Manifest, controls: &Controls) -> GroupTally {
        GroupTally::new(manifest, controls, Setting::of_one_owner())
    }

    fn tally() -> GroupTally {
        tally_of(&manifest(MANIFEST), &Controls::default())
    }

    /// A unit of one view; the tally looks at nothing else of it.
    fn unit(key: i64) -> Unit {
        Unit::of_one_view(key)
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
        tally.cells.list.iter().map(|(key, cell)| (key.clone(), (cell.units, cell.sums.clone()))).collect()
    }

    proptest! {
        /// Theorem: whatever a unit answers, it moves the sums by no more than the noise is scaled to.
        #[test]
        fn one_unit_moves_the_sums_by_at_most_the_sensitivity(
            others in proptest::collection::vec(contributions(), 0..5),
            one in contributions(),
        ) {
            let mut without = tally();
            others.iter().for_each(|other| without.add(&unit(0), &answer(other)));
            let mut with = without.clone();
            with.add(&unit(1), &answer(&one));

            let before = vector(&without);
            let mut moved = [0u128; 3];
            for (key, (units, sums)) in vector(&with) {
                let (units_before, sums_before) = before.get(&key).cloned().unwrap_or((0, vec![0, 0]));
                moved[0] += u128::from(units - units_before);
                for (index, (sum, sum_before)) in sums.iter().zip(&sums_before).enumerate() {
                    moved[index + 1] += (sum - sum_before).unsigned_abs();
                }
            }
            let mechanism = &with.shape.mechanism;
            let groups = u128::from(mechanism.l0);
            prop_assert!(moved[0] <= groups);
            for (bound, moved) in mechanism.bounds().iter().zip(&moved[1..]) {
                prop_assert!(*moved <= groups * u128::from(*bound));
            }
        }

        /// The order in which units arrive, and how they are split over workers, changes nothing.
        #[test]
        fn order_and_split_change_nothing(units in proptest::collection::vec(contributions(), 0..8), split in 0usize..8) {
            let mut straight = tally();
            units.iter().for_each(|answers| straight.add(&unit(0), &answer(answers)));
            let (mut left, mut right) = (tally(), tally());
            for (index, answers) in units.iter().rev().enumerate() {
                if index < split { left.add(&unit(0), &answer(answers)) } else { right.add(&unit(0), &answer(answers)) }
            }
            right.merge(left);
            prop_assert_eq!(vector(&straight), vector(&right));
        }
    }

    #[test]
    fn a_group_counts_once_per_unit_whatever_the_guest_repeats() {
        let mut tally = tally();
        tally.add(&unit(0), &vec![contribution("a", [1.0, 1.0]); 1_000]);
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
            tally.add(&unit(0), &[contribution, self::contribution("b", [1.0, 1.0])]);
            assert!(tally.cells.list.is_empty());
        }
    }

    #[test]
    fn open_keys_are_short_and_printable() {
        let open = MANIFEST.replace(r#"domain = ["a", "b", "c", "d"]"#, "");
        for (key, counted) in [("shop", true), (&"x".repeat(64), true), (&"x".repeat(65), false), ("a\u{7}b", false)] {
            let mut tally = tally_of(&manifest(&open), &Controls::default());
            tally.add(&unit(0), &[contribution(key, [1.0, 1.0])]);
            assert_eq!(!tally.cells.list.is_empty(), counted, "{key:?}");
        }
    }

    #[test]
    fn too_many_open_keys_end_the_run_however_units_are_split() {
        let open = manifest(&MANIFEST.replace(r#"domain = ["a", "b", "c", "d"]"#, ""));
        let tally = |keys: std::ops::Range<usize>| {
            let mut tally = tally_of(&open, &Controls::default());
            keys.for_each(|key| tally.add(&unit(0), &[contribution(&format!("k{key}"), [1.0, 1.0])]));
            tally
        };
        let release = |tally: GroupTally| {
            tally.release(&open, &Mechanism::new(&open, &Controls::default()), &mut Random::from_seed([1; 32]))
        };
        // The noise on their number leaves a margin below what memory holds.
        assert!(release(tally(0..CELLS_MAX / 20)).is_ok());
        assert_eq!(release(tally(0..CELLS_MAX)).unwrap_err().code(), Code::TooManyGroups);
        assert_eq!(release(tally(0..CELLS_MAX + 1)).unwrap_err().code(), Code::TooManyGroups);
        let mut halves = tally(0..CELLS_MAX / 2);
        halves.merge(tally(CELLS_MAX / 2..CELLS_MAX + 1));
        assert_eq!(release(halves).unwrap_err().code(), Code::TooManyGroups);
    }

    #[test]
    fn keys_that_look_alike_are_refused() {
        let hidden = [
            "a\u{200b}",
            "\u{200b}a",
            " a",
            "a ",
            "a\u{a0}",
            "a\u{ad}b",
            "e\u{301}",
            "a\u{feff}",
            "a\u{202e}b",
            "a\u{e0041}",
        ];
        assert!(hidden.iter().all(|key| !is_plain(key)), "{:?}", hidden.map(is_plain));
        assert!(["a", "A b", "\u{e9}", "Größe", "日本", ""].iter().all(|key| is_plain(key)));
    }

    /// A mechanism whose threshold and noise are small enough to see releases often.
    fn loose(noise: NoiseChoice, epsilon: u64, delta: u64) -> Mechanism {
        let controls = Controls {
            noise,
            epsilon_micros: Epsilon::from_micros(epsilon),
            delta_femtos: Delta::from_femtos(delta),
            ..Controls::default()
        };
        Mechanism::new(&manifest(MANIFEST), &controls)
    }

    fn released(units: u64, mechanism: &Mechanism, draws: u32) -> f64 {
        let mut random = Random::from_seed([9; 32]);
        let cell = Cell { units, sums: vec![0, 0], exact: None };
        let shown = (0..draws).filter(|_| cell.clone().noisy(mechanism, &mut random).is_some()).count();
        f64::from(u32::try_from(shown).unwrap()) / f64::from(draws)
    }

    #[test]
    fn no_group_below_k_is_ever_released() {
        let mechanism = loose(NoiseChoice::Laplace, 10_000_000, 500_000_000_000_000);
        assert_eq!(released(49, &mechanism, 20_000), 0.0);
        // The test is alive: one unit more than the threshold needs is released most of the time.
        assert!(released(49 + mechanism.threshold.unwrap() + 5, &mechanism, 20_000) > 0.9);
    }

    /// The threshold of one less would show it more often than delta: the test sees that difference.
    #[test]
    fn a_single_unit_above_k_is_shown_with_probability_at_most_delta() {
        for (noise, epsilon, delta) in [
            (NoiseChoice::Laplace, 1_000_000, 20_000_000_000_000),
            (NoiseChoice::Laplace, 8_000_000, 50_000_000_000_000),
            (NoiseChoice::Gaussian, 8_000_000, 50_000_000_000_000),
        ] {
            let mut mechanism = loose(noise, epsilon, delta);
            let per_group = super::super::mechanism::femtos(mechanism.cost().key_delta_femtos.femtos()) / 2.0;
            let seen = released(50, &mechanism, 200_000);
            assert!(seen > 0.0 && seen <= per_group * 1.05, "{noise:?} {epsilon}: {seen} > {per_group}");
            mechanism.threshold = mechanism.threshold.map(|threshold| threshold - 1);
            let seen = released(50, &mechanism, 200_000);
            assert!(seen > per_group, "{noise:?} {epsilon}: off by one, and {seen} <= {per_group}");
        }
    }

    #[test]
    fn without_k_every_cell_of_a_closed_domain_is_shown_with_its_noise() {
        let controls = Controls { k_min: 1, ..Controls::default() };
        let manifest = manifest(MANIFEST);
        let mechanism = Mechanism::new(&manifest, &controls);
        let table =
            tally_of(&manifest, &controls).release(&manifest, &mechanism, &mut Random::from_seed([2; 32])).unwrap();
        assert_eq!(table.num_rows(), 4);
        assert!(table.columns().iter().all(|column| column.null_count() == 0), "a zero with noise is a number");
    }

    #[test]
    fn released_counts_are_the_true_counts_plus_noise_of_the_stated_scale() {
        for noise in [NoiseChoice::Laplace, NoiseChoice::Gaussian] {
            let mechanism = loose(noise, 2_000_000, 1_000_000_000);
            let mut random = Random::from_seed([3; 32]);
            let cell = Cell { units: 500, sums: vec![0, 0], exact: None };
            let off = (0..20_000).filter_map(|_| cell.clone().noisy(&mechanism, &mut random));
            let squares: Vec<f64> =
                off.map(|cell| (Number::Int(i64::try_from(cell.units - 500).unwrap())).as_f64().powi(2)).collect();
            let count = f64::from(u32::try_from(squares.len()).unwrap());
            let deviation = (squares.iter().sum::<f64>() / count).sqrt();
            let stated = mechanism.measures()[0].standard_deviation;
            assert!(count > 19_999.0 && (deviation / stated - 1.0).abs() < 0.1, "{deviation} against {stated}");
        }
    }

    #[test]
    fn the_first_groups_are_those_with_the_largest_numbers() {
        let manifest = manifest(&format!("{}\n[top]\nlimit = 2\nby = \"units\"\n", MANIFEST));
        let controls = Controls { k_min: 2, epsilon_micros: Epsilon::from_micros(10_000_000), ..Controls::default() };
        let mut tally = tally_of(&manifest, &controls);
        for (group, units) in [("a", 100), ("b", 400), ("c", 300)] {
            (0..units).for_each(|at| tally.add(&unit(at), &[contribution(group, [1.0, 1.0])]));
        }
        let mechanism = Mechanism::new(&manifest, &controls);
        let table = tally.release(&manifest, &mechanism, &mut Random::from_seed([2; 32])).unwrap();
        let groups = arrow::array::AsArray::as_string::<i32>(table.column(0)).iter().flatten().collect::<Vec<_>>();
        assert_eq!(groups, ["b", "c"]);
    }

    #[test]
    fn exact_groups_are_rounded_and_small_or_dominated_ones_stay() {
        let controls = Controls { mode: Mode::SealedK, suppress_complement: false, ..Controls::default() };
        let manifest = manifest(MANIFEST);
        let mut tally = tally_of(&manifest, &controls);
        for (group, units, values) in [("a", 123, 1.0), ("b", 49, 1.0), ("c", 60, 0.0)] {
            (0..units).for_each(|at| tally.add(&unit(at), &[contribution(group, [values, values])]));
        }
        // One unit makes up all of the group's sum.
        tally.add(&unit(1_000), &[contribution("c", [10.0, 4.0])]);
        // So does one of a mean, though all are as far from the middle of the range.
        (0..60).for_each(|at| tally.add(&unit(at), &[contribution("d", [1.0, if at == 0 { 4.0 } else { 0.0 }])]));
        let mechanism = Mechanism::new(&manifest, &controls);
        let (table, groups) = tally.release_exact(&manifest, &mechanism, &controls).unwrap();
        let units = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(table.column(1));
        assert_eq!(units.iter().collect::<Vec<_>>(), [Some(120), None, None, None]);
        assert_eq!((groups.len(), groups[0].digests.len()), (1, 123));
    }
}
