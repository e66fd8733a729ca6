//! B. Channels beside the answer: whether and when a run ends, and what is told of how it went.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Market, NOISY, SUM, World, charges, exact_host, households, report};
use crate::support::data::{EVIL_HOUSEHOLDS, floats, ints, write_parquet};
use crate::support::forge::payload;
use crate::support::{CONTROLS, Fixture, Ran, now, text};

/// Fields that are drawn anew for every run, tell the time, or follow from such by hashing or signing. Their values may
/// differ between two worlds, but not in type or length.
const FRESH: [&str; 16] = [
    "run_id",
    "nonce",
    "principal",
    "sig",
    // The fingerprint of the run's own key.
    "keyid",
    "salt",
    "certificate_sha256",
    "sealed_sha256",
    "output_commitment",
    // The ledger's entries name runs.
    "ledger.sha256",
    "started_at",
    "finished_at",
    "not_before",
    "not_after",
    "at",
    "receipt",
];

/// The household that the two worlds differ in.
const TARGET: i64 = 7;

/// What a recipient or an owner sees of a run: every file of the room but the released one, and what was printed.
struct Seen {
    files: BTreeMap<String, Vec<u8>>,
    ran: Ran,
}

impl Seen {
    fn of(world: &World, agreement: &str) -> Self {
        let ran = world.run(agreement);
        assert_eq!(ran.exit_code, 0, "{ran:?}");
        let run_id = text(&ran.json()["run_id"]);
        let output = text(&ran.json()["output"]["path"]);
        let mut files = world.files();
        assert!(files.remove(&output).is_some(), "nothing was released");
        // What the owner itself has put there is no answer to anyone.
        files.retain(|path, _| !path.starts_with("data/"));
        let files = files.into_iter().map(|(path, bytes)| (path.replace(&run_id, "RUN"), bytes)).collect();
        Self { files, ran }
    }

    fn receipt(&mut self) -> &mut Vec<u8> {
        self.files.get_mut("receipts/RUN.dsse.json").expect("a receipt")
    }

    /// Where two worlds can be told apart, if they can.
    fn first_difference(&self, other: &Self) -> Option<String> {
        let names = |seen: &Self| seen.files.keys().cloned().collect::<Vec<_>>();
        if names(self) != names(other) {
            return Some(format!("files: {:?} and {:?}", names(self), names(other)));
        }
        let files = self.files.iter().find_map(|(path, bytes)| difference_of_files(path, bytes, &other.files[path]));
        let printed = || difference("stdout", &self.ran.json(), &other.ran.json());
        let complained = || (self.ran.stderr != other.ran.stderr).then(|| "stderr".to_owned());
        files.or_else(printed).or_else(complained)
    }
}

fn difference_of_files(path: &str, one: &[u8], other: &[u8]) -> Option<String> {
    if path.ends_with(".sealed.age") {
        let (one, other) = (sealed_bytes(one), sealed_bytes(other));
        return (one != other).then(|| format!("{path}: {one} and {other} bytes are sealed"));
    }
    if one.len() != other.len() {
        return Some(format!("{path}: {} and {} bytes", one.len(), other.len()));
    }
    if one == other {
        return None;
    }
    if let (Some(one), Some(other)) = (decoded(one), decoded(other)) {
        return difference(path, &one, &other);
    }
    if path.starts_with("log/tile/entries/") {
        let (ones, others) = (records(one), records(other));
        let lengths = |records: &[Vec<u8>]| records.iter().map(Vec::len).collect::<Vec<_>>();
        if lengths(&ones) != lengths(&others) {
            return Some(format!("{path}: records of other lengths"));
        }
        return ones.iter().zip(&others).find_map(|(one, other)| difference_of_files("a record", one, other));
    }
    // Hashes over what is compared above, and signatures over them.
    let is_hash = path.starts_with("log/tile/") || path == "log/checkpoint" || path.ends_with(".tlog-proof");
    if is_hash { difference_of_lines(path, one, other) } else { Some(format!("{path}: other bytes")) }
}

/// How many bytes are sealed. Before them stands age's header, which has a part of random length by itself (a grease
/// stanza), so that the length of the whole file is another one in every run of the same data.
fn sealed_bytes(file: &[u8]) -> usize {
    let header = file.windows(4).position(|window| window == b"\n---").expect("a header") + 1;
    let line = file[header..].iter().position(|byte| *byte == b'\n').expect("the header's last line");
    file.len() - header - line - 1
}

/// In signed notes and proofs every line is a name, a number, a hash or a signature; only the last two may differ.
fn difference_of_lines(path: &str, one: &[u8], other: &[u8]) -> Option<String> {
    let (Ok(one), Ok(other)) = (std::str::from_utf8(one), std::str::from_utf8(other)) else { return None };
    let is_hash =
        |line: &str| BASE64.decode(line.rsplit(' ').next().unwrap_or_default().as_bytes()).is_ok_and(|b| b.len() >= 32);
    let mut lines = one.lines().zip(other.lines());
    lines.find(|(one, other)| one != other && !is_hash(one)).map(|(one, other)| format!("{path}: {one} and {other}"))
}

/// JSON, and of an envelope what is in it, with its signatures beside.
fn decoded(bytes: &[u8]) -> Option<Value> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    if json.get("payloadType").is_none() {
        return Some(json);
    }
    let inner: Value = serde_json::from_slice(&payload(bytes)).ok()?;
    Some(json!({"payload": inner, "signatures": json["signatures"], "payloadType": json["payloadType"]}))
}

/// The records of a bundle of the log (c2sp.org/tlog-tiles).
fn records(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [high, low, bytes @ ..] = rest {
        let (entry, after) = bytes.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        records.push(entry.to_vec());
        rest = after;
    }
    records
}

/// Where two JSON values differ in more than fresh values of one length.
fn difference(at: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            if !ones.keys().eq(others.keys()) {
                return Some(format!("{at}: other fields"));
            }
            ones.iter().find_map(|(name, value)| difference(&format!("{at}.{name}"), value, &others[name]))
        }
        (Value::Array(ones), Value::Array(others)) if ones.len() == others.len() => {
            ones.iter().zip(others).find_map(|(one, other)| difference(at, one, other))
        }
        (Value::String(one), Value::String(other)) if is_fresh(at) && one.len() == other.len() => None,
        _ => (one != other).then(|| format!("{at}: {one} and {other}")),
    }
}

fn is_fresh(at: &str) -> bool {
    FRESH.iter().any(|field| at.ends_with(&format!(".{field}")))
}

/// A room with an auditor, and the same room in two worlds before its first run.
struct Worlds {
    _room: Fixture,
    agreement: String,
    with: World,
    without: World,
}

impl Worlds {
    fn new(attack: &str, values: &[(i64, f64)]) -> Self {
        let room = Fixture::unsigned(&CONTROLS.replace("k_min = 20", "k_min = 1"));
        let auditor = glovebox::new_auditor(&room.path("auditor.txt")).expect("an auditor");
        glovebox::set_auditor(&room.dir(), &auditor, now()).expect("a draft");
        room.sign_registry();
        let attack = format!("attack={attack}");
        let terms = ["--set", &attack, "--set", "only_unit_with=7", "--destination", "sheets"];
        let agreement = room.agreed("evil", &terms);
        let (with, without) = (World::of(&room), World::of(&room));
        let (households, values): (Vec<i64>, Vec<f64>) = values.iter().copied().unzip();
        let columns = [("household_id", ints(households)), ("value", floats(values.into_iter()))];
        write_parquet(&without.path("data/retailer/households.parquet"), &columns);
        Self { _room: room, agreement, with, without }
    }

    fn seen(&self) -> [Seen; 2] {
        [&self.with, &self.without].map(|world| Seen::of(world, &self.agreement))
    }
}

/// Every file that anyone but the auditor can read, and all that is printed, is the same in both worlds. The check is
/// alive: one exact figure in the receipts of both, and it fails.
#[track_caller]
fn tells_nothing(worlds: &Worlds, figure: &str, exact: [i64; 2]) -> String {
    let mut seen = worlds.seen();
    assert_eq!(seen[0].first_difference(&seen[1]), None);
    let sealed = seen[0].files.iter().filter(|(path, _)| path.ends_with(".sealed.age")).count();
    assert_eq!(sealed, 1, "nothing is sealed: the check does not see that part");
    let files = seen[0].files.len();
    for (seen, exact) in seen.iter_mut().zip(exact) {
        let mut statement: Value = serde_json::from_slice(&payload(seen.receipt())).unwrap();
        statement["predicate"][figure] = json!(exact);
        let mut envelope: Value = serde_json::from_slice(seen.receipt()).unwrap();
        envelope["payload"] = json!(BASE64.encode(statement.to_string().as_bytes()));
        *seen.receipt() = envelope.to_string().into_bytes();
    }
    let told = seen[0].first_difference(&seen[1]).expect("the check is dead");
    assert!(told.contains(figure) || told.contains("bytes"), "{told}");
    format!("{files} files, stdout and stderr: 0 differences")
}

fn everyone() -> impl Iterator<Item = (i64, f64)> {
    (1..=EVIL_HOUSEHOLDS).map(|household| (household, household as f64))
}

#[test]
fn atk_b3_a_household_that_is_not_there() {
    let values: Vec<_> = everyone().filter(|(household, _)| *household != TARGET).collect();
    let told = tells_nothing(&Worlds::new("none", &values), "units", [EVIL_HOUSEHOLDS, EVIL_HOUSEHOLDS - 1]);
    report(
        "B3",
        "all that an owner can see with and without a household",
        format!("an exact count of units in the receipt: {EVIL_HOUSEHOLDS} or {}", EVIL_HOUSEHOLDS - 1),
        told,
    );
}

#[test]
fn atk_b3_a_household_whose_call_traps() {
    // One value makes the target the attacker's; the other is anybody's.
    let other = |(household, value)| (household, if household == TARGET { 6.5 } else { value });
    let values: Vec<_> = everyone().map(other).collect();
    for attack in ["unreachable", "spin"] {
        let worlds = Worlds::new(attack, &values);
        let told = tells_nothing(&worlds, "trapped", [1, 0]);
        report(
            "B3",
            &format!("all that an owner can see where a household's call ends by {attack}"),
            "an exact count of failed calls in the receipt: 1 or 0",
            told,
        );
    }
}

/// What a run costs is known before it reads: no unit can make it cost more, or less.
#[test]
fn atk_b4_what_a_run_costs_follows_from_no_unit() {
    let mut people = households(100);
    let market = Market::new(NOISY, &people);
    market.question("totals", &["-1", "-2", "-3"], SUM);
    let agreement = market.agreed("totals", "people");
    let mut costs = Vec::new();
    let mut groups = Vec::new();
    for spread in [1, 3] {
        people.iter_mut().for_each(|row| row.number = 1 + row.household % spread);
        market.write_people(&people);
        let released = market.room.released(&agreement);
        market.room.take(&released);
        costs.push((released.json["charges"].clone(), released.table.total));
        groups.push((1..=3).filter(|n| exact_host(people.iter().filter(|row| row.number == *n), 1).is_some()).count());
    }
    assert_ne!(groups[0], groups[1], "the attack is dead");
    assert_eq!(costs[0], costs[1]);
    report(
        "B4",
        "how much is charged as a channel",
        format!("a charge per group that has units: {} or {} charges", groups[0], groups[1]),
        "the same charge and 3 rows in both worlds",
    );
}

/// A run that fails if and only if something is so.
#[test]
fn atk_b5_failing_is_a_channel() {
    const ALLOWED: usize = 2;
    let controls = format!("{CONTROLS}, contrib = {{ l0 = 1 }}").replace("min_size = 20", "min_size = 2");
    let room = Fixture::with_controls(&controls.replace("max_fraction = 1.0", "max_fraction = 0.5"));
    let terms = room.read_text("room.toml").replace("max_failed_runs = 100", &format!("max_failed_runs = {ALLOWED}"));
    room.write("room.toml", terms.as_bytes());
    let terms = |attack| ["--set", attack, "--set", "only_unit_with=-1", "--destination", "sheets", "--runs", "100"];
    // Everybody, then nobody: too large a list, and too small a one.
    let mut told = Vec::new();
    for attack in ["attack=none", "attack=foreign"] {
        let agreement = room.agreed("evil-list", &terms(attack));
        for _ in 0..ALLOWED {
            let ran = room.run(&agreement);
            room.is_refused(&ran, "WITHHELD", 5);
            assert!(!charges(&ran).is_empty(), "a run that tells is free");
            let mut json = ran.json();
            ["run_id", "receipt"].into_iter().for_each(|own| json[own] = Value::Null);
            told.push(json);
        }
        room.refused(&agreement, "RUNS_PAUSED", 5);
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    report(
        "B5",
        "a run that fails if a secret bit is set",
        "free failures that say why: 1 bit for each of any number of runs",
        format!("one code, charged in full, and none after {ALLOWED} of them"),
    );
}

/// A refusal for too small a difference is an answer about whoever makes the difference: it counts as a failed run.
#[test]
fn atk_b5_refused_differences_are_a_channel() {
    let mut people = households(100);
    let market = Market::new(&format!("{}, repeat = {{ max_failed_runs = 2 }}", super::EXACT), &people);
    market.question("totals", &["-1"], SUM);
    market.asked("totals", "people");
    market.offer("less", "SELECT household_id, number, amount FROM people WHERE household_id <> 7");
    let agreement = market.agreed("totals", "less");
    for run in 0..2 {
        let ran = market.room.run(&agreement);
        market.room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);
        // Other data, so that it is another question.
        people[50].amount += f64::from(run + 1);
        market.write_people(&people);
    }
    market.room.refused(&agreement, "RUNS_PAUSED", 5);
    report(
        "B5",
        "whether a difference is refused, asked again and again",
        "refusals that count for nothing: 1 bit for each of any number of runs",
        "after 2 refusals RUNS_PAUSED",
    );
}

/// Rejection samplers take longer for some noise than for other.
#[test]
fn atk_b7_how_long_sampling_takes() {
    const SLOT: std::time::Duration = std::time::Duration::from_millis(700);
    let people = households(60);
    let controls = format!("{NOISY}, release = {{ slot = '700ms', max_slots = 1_000 }}");
    let market = Market::new(&controls, &people);
    market.question("totals", &["-1"], SUM);
    let agreement = market.agreed("totals", "people");
    let mut slots = Vec::new();
    for _ in 0..2 {
        let began = std::time::Instant::now();
        let released = market.room.released(&agreement);
        // The run waits for the end of a slot, so this holds however slow or fast the machine is.
        assert!(began.elapsed() >= SLOT, "a result came before its slot ended");
        slots.push(released.numbers("amount"));
        market.room.take(&released);
        market.room.renew_data();
        market.write_people(&people.iter().rev().copied().collect::<Vec<_>>());
    }
    assert_ne!(slots[0], slots[1], "the noise is the same: nothing to tell apart");
    let mut noise = super::FreshNoise::new(3);
    let steps: Vec<u32> = (0..1_000).map(|_| (0..).take_while(|_| noise.uniform() < 0.9).count() as u32).collect();
    let distinct = steps.iter().collect::<std::collections::BTreeSet<_>>().len();
    report(
        "B7",
        "how long the sampler takes",
        format!("a result as soon as it is drawn: {distinct} different times for 1000 draws, each the noise itself"),
        "no result before its slot has ended, whatever was drawn",
    );
}
