//! People with random rows, and the companies in which they are asked about: everything is drawn from a fixed seed.
//!
//! Rows of all units of a company lie in one batch per view, as they do in a run; a unit that is alone has its own.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;

use crate::provision::{Rows, Unit, UnitKey};
use crate::random::Random;
use crate::room::{Column, ColumnType, Join, Manifest, Slot};

/// The value that makes a unit the target of an attack that spares the others.
pub(super) const TARGET: i64 = 3;

/// Ids from here on are nobody's whose answer is known.
const STRANGER: i64 = 1_000_000;

/// Numbers where something may give way, as floats and as integers.
const FLOATS: [f64; 9] =
    [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 1e15];
const INTEGERS: [i64; 5] = [i64::MIN, i64::MAX, -1, 1 << 53, 1 << 31];

/// Units, alone and in company.
pub(super) struct Crowd {
    pub(super) alone: Vec<Unit>,
    pub(super) companies: Vec<Company>,
}

/// Units that are asked about together.
pub(super) struct Company {
    pub(super) name: &'static str,
    pub(super) threads: usize,
    pub(super) units: Vec<Unit>,
}

impl Crowd {
    pub(super) fn new(manifest: &Manifest, count: usize, seed: u8) -> Self {
        let random = &mut Random::from_seed([seed; 32]);
        let people = people(manifest, count, random);
        let alone = people.iter().flat_map(|person| units(std::slice::from_ref(person), manifest)).collect();
        let reversed: Vec<Person> = people.iter().rev().cloned().collect();
        let (shuffled, shuffled_again) = (shuffled(&people, random), shuffled(&people, random));
        let among_bad = among_bad(&people, manifest, random);
        let (even, odd) = (with_strangers(&people, 0, manifest, random), with_strangers(&people, 1, manifest, random));
        let companies = [
            ("in order", 1, people),
            ("in reversed order", 1, reversed),
            ("shuffled, on 2 threads", 2, shuffled),
            ("shuffled again, on 4 threads", 4, shuffled_again),
            ("among bad neighbours", 1, among_bad.clone()),
            ("among bad neighbours, on 4 threads", 4, among_bad),
            ("with other rows of every second neighbour", 1, even),
            ("with other rows of the others, on 2 threads", 2, odd),
        ];
        let company = |(name, threads, people): (_, _, Vec<Person>)| {
            let units = units(&people, manifest);
            Company { name, threads, units }
        };
        Self { alone, companies: companies.map(company).into() }
    }
}

/// A unit, before it is laid into batches with others.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) id: i64,
    /// Rows per slot.
    views: Vec<Vec<Vec<Cell>>>,
}

/// One value in every type: the column takes its own.
#[derive(Clone)]
struct Cell {
    is_null: bool,
    float: f64,
    integer: i64,
    text: String,
}

impl Person {
    /// Few rows with small numbers for the most part, so that units have groups and targets in common.
    pub(super) fn drawn(id: i64, manifest: &Manifest, random: &mut Random) -> Self {
        let words = words(manifest);
        let view = |slot: &Slot| {
            let count = match (slot.join, below(random, 12)) {
                (_, 0) => below(random, 70),
                (Join::Optional, _) => below(random, 3),
                (Join::Required | Join::Lookup, _) => 1 + below(random, 4),
            };
            let at_least = usize::from(slot.join == Join::Required);
            (0..count.max(at_least)).map(|_| row(slot, |column| Cell::drawn(column, &words, random))).collect()
        };
        Self { id, views: manifest.slots.iter().map(view).collect() }
    }

    /// A unit that the attack is aimed at, so that it traps, spins or hoards.
    fn villain(id: i64, manifest: &Manifest, random: &mut Random) -> Self {
        let mut villain = Self::drawn(id, manifest, random);
        for cell in villain.views.iter_mut().flatten().flatten() {
            (cell.float, cell.integer) = (3.0, TARGET);
        }
        villain
    }

    /// A unit with more rows and words than fit a question's memory, where it has words.
    fn monster(id: i64, manifest: &Manifest) -> Self {
        let text = |at: usize| format!("{at}{}", "\u{20ac}".repeat(2_000));
        let cell = |at| Cell { is_null: false, float: 1e300, integer: i64::MIN, text: text(at) };
        let view = |slot: &Slot| (0..3_000).map(|at| row(slot, |_| cell(at))).collect();
        Self { id, views: manifest.slots.iter().map(view).collect() }
    }

    pub(super) fn without_optional_rows(mut self, manifest: &Manifest) -> Self {
        let optional = self.views.iter_mut().zip(&manifest.slots).filter(|(_, slot)| slot.join == Join::Optional);
        optional.for_each(|(rows, _)| rows.clear());
        self
    }
}

impl Cell {
    fn drawn(column: &Column, words: &[String], random: &mut Random) -> Self {
        let (small, is_extreme) = (below(random, 12), below(random, 8) == 0);
        let small = i64::try_from(small).unwrap();
        let at = below(random, FLOATS.len() * INTEGERS.len() * words.len());
        #[expect(clippy::cast_precision_loss, reason = "below 12")]
        let float = if is_extreme { FLOATS[at % FLOATS.len()] } else { small as f64 };
        Self {
            is_null: column.nullable && below(random, 4) == 0,
            float,
            integer: if is_extreme { INTEGERS[at % INTEGERS.len()] } else { small },
            text: words[at % words.len()].clone(),
        }
    }
}

/// Everybody has an id of their own; every tenth is a villain.
pub(super) fn people(manifest: &Manifest, count: usize, random: &mut Random) -> Vec<Person> {
    let person = |id| match id % 10 {
        0 => Person::villain(id, manifest, random),
        _ => Person::drawn(id, manifest, random),
    };
    (0..i64::try_from(count).unwrap()).map(person).collect()
}

/// Lays everybody's rows one after the other, a batch per slot.
pub(super) fn units(people: &[Person], manifest: &Manifest) -> Vec<Unit> {
    let laid: Vec<Vec<Rows>> = manifest
        .slots
        .iter()
        .enumerate()
        .map(|(at, slot)| lay(people.iter().map(|one| &one.views[at]), slot))
        .collect();
    let views = |index: usize| laid.iter().map(|rows| rows[index].clone()).collect();
    people.iter().enumerate().map(|(at, one)| Unit { key: UnitKey::Int64(one.id), views: views(at) }).collect()
}

fn lay<'a>(views: impl Iterator<Item = &'a Vec<Vec<Cell>>>, slot: &Slot) -> Vec<Rows> {
    let (mut rows, mut runs): (Vec<&Vec<Cell>>, Vec<Range<usize>>) = Default::default();
    for view in views {
        let start = rows.len();
        rows.extend(view);
        runs.push(start..rows.len());
    }
    let column = |(at, column): (usize, &Column)| {
        let cells = rows.iter().map(|row| Some(&row[at]).filter(|cell| !cell.is_null));
        (at.to_string(), array(column.kind, cells))
    };
    let batch = Arc::new(RecordBatch::try_from_iter(slot.columns.iter().enumerate().map(column)).unwrap());
    let run = |run: Range<usize>| Rows { batch: Arc::clone(&batch), start: run.start, count: run.len() };
    runs.into_iter().map(run).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "any date will do")]
fn array<'a>(kind: ColumnType, cells: impl Iterator<Item = Option<&'a Cell>>) -> ArrayRef {
    let integers = |cell: Option<&Cell>| cell.map(|cell| cell.integer);
    match kind {
        ColumnType::Boolean => {
            Arc::new(cells.map(|cell| cell.map(|cell| cell.integer % 2 == 1)).collect::<BooleanArray>())
        }
        ColumnType::Int64 => Arc::new(cells.map(integers).collect::<Int64Array>()),
        ColumnType::Float64 => Arc::new(cells.map(|cell| cell.map(|cell| cell.float)).collect::<Float64Array>()),
        ColumnType::Date => Arc::new(cells.map(|cell| cell.map(|cell| cell.integer as i32)).collect::<Date32Array>()),
        ColumnType::Timestamp => Arc::new(cells.map(integers).collect::<TimestampMicrosecondArray>()),
        ColumnType::Utf8 | ColumnType::Dictionary => {
            Arc::new(cells.map(|cell| cell.map(|cell| cell.text.as_str())).collect::<StringArray>())
        }
    }
}

fn row(slot: &Slot, cell: impl FnMut(&Column) -> Cell) -> Vec<Cell> {
    slot.columns.iter().map(cell).collect()
}

/// Words that the question knows, and some that nobody would expect.
fn words(manifest: &Manifest) -> Vec<String> {
    let domains = manifest.groups.iter().flat_map(|group| group.domain.iter().flatten());
    let known = domains.chain(manifest.parameters.iter().flat_map(|parameter| &parameter.allowed));
    let odd = [String::new(), "caf\u{e9}\u{200b}".into(), "x".repeat(300)];
    known.cloned().chain(odd).collect()
}

fn shuffled(people: &[Person], random: &mut Random) -> Vec<Person> {
    let mut people = people.to_vec();
    for at in (1..people.len()).rev() {
        people.swap(at, below(random, at + 1));
    }
    people
}

/// Everybody follows a villain, and some a monster.
fn among_bad(people: &[Person], manifest: &Manifest, random: &mut Random) -> Vec<Person> {
    let mut among = Vec::new();
    for (at, person) in people.iter().enumerate() {
        let id = STRANGER + person.id;
        among.push(Person::villain(id, manifest, random));
        if at % (people.len() / 3) == 0 {
            among.push(Person::monster(2 * id, manifest));
        }
        among.push(person.clone());
    }
    among
}

/// Every second person gives way to a stranger.
fn with_strangers(people: &[Person], kept: usize, manifest: &Manifest, random: &mut Random) -> Vec<Person> {
    let stranger = |person: &Person, random: &mut Random| Person::drawn(STRANGER + person.id, manifest, random);
    let choose = |(at, person): (usize, &Person)| {
        if at % 2 == kept { person.clone() } else { stranger(person, random) }
    };
    people.iter().enumerate().map(choose).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "below a small number")]
pub(super) fn below(random: &mut Random, end: usize) -> usize {
    (random.next_u64() % end as u64) as usize
}
