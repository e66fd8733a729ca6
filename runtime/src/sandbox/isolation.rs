//! The claim that everything else rests on: what a unit's question answers follows from that unit's rows alone.
//!
//! Every example, every attack of the evil questions and made-up code is asked about the same units alone, in company,
//! in other orders, on several threads, and among neighbours that fail or have other rows. Answers are compared bit for
//! bit, with the fuel and memory that they took. Then the exact sums of neighbouring inputs are compared with what the
//! noise is scaled to. Careless hosts fail the same checks: the checks can see what they look for.

mod careless;
mod crowd;
mod kernels;
mod madeup;
mod seeds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use glovebox_sandbox::{Question, Writer, testing};

use super::inprocess::InProcess;
use super::lower::Lowering;
use super::{Answer, Ask, Asked, Figures, ask_in_parallel, spec};
use crate::privacy::{Setting, Tally};
use crate::provision::{Unit, UnitKey};
use crate::random::Random;
use crate::room::{Controls, Join, Kind, Limits, Manifest, Reducer, Slot, Value};
use careless::{CarelessHost, CarelessTally};
use crowd::{Crowd, Person, TARGET};

/// The most threads that ask at a time.
const THREADS: usize = 4;

/// What a call came to, bit for bit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    said: Said,
    fuel: u64,
    memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Keys, and the bits of the values.
    Contributions(Vec<(Vec<String>, Vec<u64>)>),
    Selected(Option<u32>),
    Nothing,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Contributions(list) => Self::Contributions(
                list.into_iter()
                    .map(|one| (one.group, one.values.iter().map(|value| value.to_bits()).collect()))
                    .collect(),
            ),
            Answer::Selected(segment) => Self::Selected(segment),
            Answer::Nothing => Self::Nothing,
        }
    }
}

impl From<Asked> for Told {
    fn from(Asked { answer, fuel, memory_bytes }: Asked) -> Self {
        Self { said: answer.into(), fuel, memory_bytes }
    }
}

/// Something that asks about a unit.
type Host<'a> = &'a (dyn Fn(&Unit) -> Told + Sync);

/// A question with its parameters, ready to be asked by any host.
struct Case {
    name: String,
    component: Vec<u8>,
    manifest: Manifest,
    parameters: Vec<Value>,
}

impl Case {
    /// With instances from the pool, as in a run.
    fn pooled(&self) -> InProcess {
        let spec = spec(&self.manifest, &self.parameters, &limits());
        InProcess::new(&self.component, spec, &self.manifest.slots, THREADS as u32)
    }

    /// With memory that the system has just handed out, so that no instance can find what another left.
    fn unpooled(&self) -> InProcess {
        let spec = spec(&self.manifest, &self.parameters, &limits());
        InProcess::of(testing::unpooled(&self.component, spec), &self.manifest.slots)
    }

    /// What the first unit that hears of another is told, if any is.
    fn first_difference(&self, crowd: &Crowd) -> Option<String> {
        let (pooled, unpooled) = (self.pooled(), self.unpooled());
        let difference = first_difference(&|unit| ask(&unpooled, unit), &|unit| ask(&pooled, unit), crowd);
        difference.map(|difference| format!("{}: {difference}", self.name))
    }
}

/// Less fuel than by default, because some attacks use up all of it; longer answers, so that they reach the tally.
fn limits() -> Limits {
    Limits { fuel_per_unit: 4_000_000, answer_bytes_per_unit: 1 << 20, ..Limits::default() }
}

fn ask(question: &InProcess, unit: &Unit) -> Told {
    question.ask_one(unit).into()
}

/// Asks about units that lie in one batch.
fn ask_in_one_batch(question: &Question, lowering: &mut Lowering, slots: &[Slot], units: &[Unit]) -> Vec<Told> {
    let mut memory = vec![0_u64; 1 << 18];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    units.iter().for_each(|unit| lowering.write(&mut writer, unit, slots).unwrap());
    let len = writer.len();
    let asked = question.ask_all(&bytemuck::cast_slice(&memory)[..len], units.len()).unwrap();
    asked.into_iter().map(Told::from).collect()
}

/// Asks about every unit alone, then in every company, and says where an answer is not the same.
fn first_difference(alone: Host<'_>, host: Host<'_>, crowd: &Crowd) -> Option<String> {
    let expected: BTreeMap<UnitKey, Told> = crowd.alone.iter().map(|unit| (unit.key.clone(), alone(unit))).collect();
    crowd.companies.iter().find_map(|company| {
        ask_on_threads(host, &company.units, company.threads).into_iter().find_map(|(key, told)| {
            let expected = expected.get(&key).filter(|expected| **expected != told)?;
            Some(format!("{}: {told:?} instead of {expected:?}", company.name))
        })
    })
}

/// Asks on several threads at a time; they take turns with the units, so that neighbours run side by side.
fn ask_on_threads(host: Host<'_>, units: &[Unit], threads: usize) -> Vec<(UnitKey, Told)> {
    thread::scope(|scope| {
        let start = |first: usize| {
            let own = units.iter().skip(first).step_by(threads);
            scope.spawn(move || own.map(|unit| (unit.key.clone(), host(unit))).collect::<Vec<_>>())
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// The example questions, built from the present tree.
fn built(name: &str) -> (Vec<u8>, Manifest) {
    static BUILT: OnceLock<()> = OnceLock::new();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    BUILT.get_or_init(|| {
        let mut xtask = Command::new(env!("CARGO"));
        xtask.args(["run", "--quiet", "--package", "xtask", "--", "guests"]).current_dir(checkout);
        let built = xtask.output().unwrap();
        assert!(built.status.success(), "cargo xtask guests: {}", String::from_utf8_lossy(&built.stderr));
    });
    let read = |ending: &str| std::fs::read(checkout.join(format!("target/questions/{name}.{ending}"))).unwrap();
    (read("wasm"), Manifest::parse(&read("toml")).unwrap())
}

/// An example with the first value that each of its parameters allows.
fn example(name: &str) -> Case {
    let (component, manifest) = built(name);
    let first = |parameter: &crate::room::Parameter| {
        if parameter.is_seed() {
            return Value::Seed;
        }
        let low = parameter.range.map(|[low, _]| low.to_string());
        parameter.read(low.as_ref().unwrap_or_else(|| &parameter.allowed[0])).unwrap()
    };
    let parameters = manifest.parameters.iter().map(first).collect();
    Case { name: name.into(), component, manifest, parameters }
}

/// An attack by every unit, or by those alone that have the target's value.
fn attack(name: &str, attack: &str, only_unit_with: i64) -> Case {
    let (component, manifest) = built(name);
    let seed = manifest.seed().map(|_| Value::Seed);
    let parameters = [Value::Utf8(attack.into()), Value::Int64(only_unit_with)].into_iter().chain(seed).collect();
    Case { name: format!("{name} {attack} {only_unit_with}"), component, manifest, parameters }
}

/// Every attack that the manifest of an evil question allows, by all units and by some.
fn attacks(name: &str) -> Vec<Case> {
    let (_, manifest) = built(name);
    let both = |choice: &String| [-1, TARGET].map(|only_unit_with| attack(name, choice, only_unit_with));
    manifest.parameters[0].allowed.iter().flat_map(both).collect()
}

fn evil_cases() -> impl Iterator<Item = Case> {
    ["evil", "evil-keys", "evil-list"].into_iter().flat_map(attacks)
}

fn examples() -> impl Iterator<Item = Case> {
    ["reach", "nonredeemers", "nothing", "spend"].into_iter().map(example)
}

#[test]
fn no_answer_of_an_example_tells_of_another_unit() {
    for case in examples() {
        for seed in [1, 2] {
            assert_eq!(case.first_difference(&Crowd::new(&case.manifest, 300, seed)), None);
        }
    }
}

#[test]
fn no_attack_on_sums_tells_of_another_unit() {
    are_isolated("evil");
}

#[test]
fn no_attack_through_keys_tells_of_another_unit() {
    are_isolated("evil-keys");
}

#[test]
fn no_attack_through_a_list_tells_of_another_unit() {
    are_isolated("evil-list");
}

#[track_caller]
fn are_isolated(name: &str) {
    let crowd = Crowd::new(&built(name).1, 60, 3);
    for case in attacks(name) {
        assert_eq!(case.first_difference(&crowd), None);
    }
}

/// A question that was compiled for one unit alone, and asked about nothing before, answers alike.
#[test]
fn a_question_that_was_never_asked_before_answers_alike() {
    let cases = examples().chain([attack("evil", "observe", -1), attack("evil", "medley", -1)]);
    for case in cases {
        let crowd = Crowd::new(&case.manifest, 4, 4);
        let used = case.pooled();
        for unit in &crowd.alone {
            ask(&used, unit);
        }
        for unit in &crowd.alone {
            assert_eq!(ask(&case.pooled(), unit), ask(&used, unit), "{}", case.name);
        }
    }
}

/// The check is alive: where units share an instance, these attacks come through.
#[test]
fn a_host_that_keeps_its_instance_fails_the_check() {
    let cases = ["counter", "residue", "observe", "grow", "medley"].map(|choice| attack("evil", choice, -1));
    let lists = [("others_bits", TARGET), ("counter", -1), ("parity", -1)];
    let cases = cases.into_iter().chain(lists.map(|(choice, unit)| attack("evil-list", choice, unit)));
    for case in cases {
        let crowd = Crowd::new(&case.manifest, 30, 5);
        let careless = CarelessHost::new(&case);
        let alone = |unit: &Unit| careless.ask_alone(unit);
        assert_eq!(first_difference(&alone, &alone, &crowd), None, "{}: the careless host itself", case.name);
        let shared = first_difference(&alone, &|unit| careless.ask(unit), &crowd);
        assert!(shared.is_some(), "{} comes to nothing in a shared instance", case.name);
    }
}

/// What one input's sums have that another's have not, at most.
#[derive(Debug, Default)]
struct Moved {
    groups: BTreeSet<Vec<String>>,
    units: u64,
    sums: Vec<f64>,
}

type Totals = BTreeMap<Vec<String>, (u64, Vec<f64>)>;

impl Moved {
    fn between(before: &Totals, after: &Totals) -> Self {
        let mut moved = Self::default();
        for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let of = |totals: &Totals| totals.get(key).cloned().unwrap_or_default();
            let ((units, sums), (other_units, other_sums)) = (of(before), of(after));
            let is_same = units == other_units && sums == other_sums;
            if !is_same {
                moved.groups.insert(key.clone());
            }
            moved.units = moved.units.max(units.abs_diff(other_units));
            let width = sums.len().max(other_sums.len());
            moved.sums.resize(width.max(moved.sums.len()), 0.0);
            for (index, most) in moved.sums.iter_mut().enumerate().take(width) {
                let of = |sums: &[f64]| sums.get(index).copied().unwrap_or(0.0);
                // A sum that is not a number is as far off as can be.
                let apart = (of(&sums) - of(&other_sums)).abs();
                *most = if apart.is_nan() { f64::INFINITY } else { most.max(apart) };
            }
        }
        moved
    }

    fn is_within(&self, bounds: &Bounds) -> bool {
        self.groups.len() <= bounds.groups
            && self.units <= 1
            && self.sums.iter().zip(&bounds.sums).all(|(moved, bound)| *moved <= bound * (1.0 + 1e-9))
    }
}

/// What one unit may move, from the manifest and the controls alone.
struct Bounds {
    groups: usize,
    sums: Vec<f64>,
}

impl Bounds {
    /// With a unit, and without it.
    fn of_removal(manifest: &Manifest) -> Self {
        let largest = |(reducer, [low, high]): (Reducer, [f64; 2])| match reducer {
            Reducer::Mean => (high - low) / 2.0,
            _ => low.abs().max(high.abs()),
        };
        Self { groups: groups_per_unit(manifest), sums: ranges(manifest).map(largest).collect() }
    }

    /// With a unit, and with other rows of it: it leaves some groups and comes into as many others.
    fn of_replacement(manifest: &Manifest) -> Self {
        let removal = Self::of_removal(manifest);
        let widths = ranges(manifest).map(|(_, [low, high])| high - low);
        let sums = removal.sums.iter().zip(widths).map(|(bound, width)| bound.max(width)).collect();
        Self { groups: 2 * removal.groups, sums }
    }
}

fn groups_per_unit(manifest: &Manifest) -> usize {
    match manifest.kind {
        Kind::Analytical => manifest.max_groups_per_unit().min(Controls::default().l0) as usize,
        Kind::List => 1,
    }
}

/// The ranges of the measures that are sums. In a list, the number of a segment is taken for one.
fn ranges(manifest: &Manifest) -> impl Iterator<Item = (Reducer, [f64; 2])> {
    let segments = u32::try_from(manifest.segments().len()).unwrap();
    let list = (segments > 0).then(|| (Reducer::Sum, [0.0, f64::from(segments - 1)]));
    manifest.measures.iter().filter_map(|measure| Some((measure.reducer, measure.range?))).chain(list)
}

/// An empty tally under the usual controls; in a list, the recipient's view is the second.
fn empty_tally(manifest: &Manifest) -> Tally {
    Tally::new(manifest, &Controls::default(), Setting::of_owners(manifest.slots.len()))
}

/// The exact sums, asked one unit after the other.
fn totals(question: &InProcess, manifest: &Manifest, people: &[Person]) -> Totals {
    let mut tally = empty_tally(manifest);
    let mut asker = question;
    asker.ask(&crowd::units(people, manifest), &mut tally, &mut Figures::default()).unwrap();
    tally.exact()
}

/// The same on several threads.
fn totals_in_parallel(question: &InProcess, manifest: &Manifest, people: &[Person]) -> Totals {
    let mut units = crowd::units(people, manifest).into_iter();
    let next = || Ok(Some(units.by_ref().take(7).collect::<Vec<_>>()).filter(|chunk| !chunk.is_empty()));
    ask_in_parallel(vec![question; THREADS], &empty_tally(manifest), next).unwrap().0.exact()
}

/// Inputs that differ in one unit: without it, with other rows, and with no rows where the manifest lets it have none.
struct Neighbour {
    victim: String,
    people: Vec<Person>,
    is_removal: bool,
}

fn neighbours(people: &[Person], manifest: &Manifest, random: &mut Random) -> Vec<Neighbour> {
    let mut neighbours = Vec::new();
    for (at, victim) in people.iter().enumerate().step_by(people.len() / 5) {
        let others: Vec<Person> = people.iter().filter(|person| person.id != victim.id).cloned().collect();
        let mut with = |person: Option<Person>| {
            let mut people = others.clone();
            let is_removal = person.is_none();
            person.into_iter().for_each(|person| people.insert(at, person));
            neighbours.push(Neighbour { victim: victim.id.to_string(), people, is_removal });
        };
        with(None);
        with(Some(Person::drawn(victim.id, manifest, random)));
        if manifest.slots.iter().any(|slot| slot.join == Join::Optional) {
            with(Some(victim.clone().without_optional_rows(manifest)));
        }
    }
    neighbours
}

/// What a neighbour's sums break, if they break anything.
fn excess(manifest: &Manifest, before: &Totals, after: &Totals, neighbour: &Neighbour) -> Option<String> {
    let moved = Moved::between(before, after);
    let removal = Bounds::of_removal(manifest);
    let bounds = if neighbour.is_removal { removal } else { Bounds::of_replacement(manifest) };
    let is_own = manifest.kind != Kind::List || moved.groups.iter().all(|key| key[0] == neighbour.victim);
    (!is_own || !moved.is_within(&bounds)).then(|| format!("{moved:?}, bound {:?}", bounds.sums))
}

#[test]
fn one_unit_moves_the_exact_sums_by_no_more_than_was_agreed() {
    let mut moves = 0;
    for case in examples().chain(evil_cases()) {
        let random = &mut Random::from_seed([6; 32]);
        let (question, manifest) = (case.pooled(), &case.manifest);
        let people = crowd::people(manifest, 40, random);
        let before = totals(&question, manifest, &people);
        for neighbour in neighbours(&people, manifest, random) {
            let after = totals_in_parallel(&question, manifest, &neighbour.people);
            assert_eq!(excess(manifest, &before, &after, &neighbour), None, "{}", case.name);
            moves += usize::from(before != after);
        }
    }
    assert!(moves > 100, "hardly any neighbour makes a difference: {moves}");
}

/// The check is alive: sums that are not clamped, groups that count twice or are not limited are seen.
#[test]
fn a_tally_that_bounds_nothing_fails_the_check() {
    let evil = ["infinity", "minus_infinity", "max", "whole", "duplicate"].map(|choice| attack("evil", choice, TARGET));
    let keys = ["many", "repeat", "case", "zero_width"].map(|choice| attack("evil-keys", choice, TARGET));
    for case in evil.into_iter().chain(keys) {
        let random = &mut Random::from_seed([6; 32]);
        let (question, manifest) = (case.pooled(), &case.manifest);
        let people = crowd::people(manifest, 40, random);
        let totals = |people: &[Person]| CarelessTally::of(&question, &crowd::units(people, manifest));
        let before = totals(&people);
        let exceeds =
            |neighbour: &Neighbour| excess(manifest, &before, &totals(&neighbour.people), neighbour).is_some();
        assert!(neighbours(&people, manifest, random).iter().any(exceeds), "{} moves nothing", case.name);
    }
}

/// What the order of contributions spells, and which of a group's repetitions is meant to be seen, is lost.
#[test]
fn the_order_of_contributions_is_lost() {
    let of = |choice: &str| {
        let case = attack("evil-keys", choice, -1);
        let people = crowd::people(&case.manifest, 50, &mut Random::from_seed([7; 32]));
        (totals(&case.pooled(), &case.manifest, &people), case.pooled(), crowd::units(&people, &case.manifest))
    };
    let ((sorted, ..), (permuted, question, units)) = (of("none"), of("order"));
    assert_eq!(sorted, permuted);
    let orders: BTreeSet<String> = units.iter().map(|unit| format!("{:?}", ask(&question, unit).said)).collect();
    assert!(orders.len() > 10, "the attack spells nothing");
}
