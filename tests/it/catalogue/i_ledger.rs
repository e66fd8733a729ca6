//! I. The budget, the receipts and the answers that are kept: spending twice, going back, and reading what was hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use glovebox::Clock;
use serde_json::{Value, json};

use super::{EXACT, Market, NOISY, SUM, charges, files_below, households, number, program, report, spent};
use crate::support::forge::sha256;
use crate::support::{Fixture, Ran, now, text};

const COST: u64 = 1_000_000;

/// Noise for epsilon = 1 in every run, and a lifetime of so many runs.
fn lifetime(runs: u32) -> String {
    NOISY.replace("epsilon = 100.0", &format!("epsilon = {runs}.0"))
}

/// A question for each letter: they cost the same, and none repeats another.
fn question(market: &Market, letter: char) -> String {
    let name = format!("question-{letter}");
    let sum = SUM.replace("100.0]", &format!("{}.0]", 50 + u32::from(letter) - u32::from('a')));
    market.question(&name, &["-1"], &sum);
    market.agreed(&name, "people")
}

fn outcomes(ran: &[Ran]) -> (usize, usize) {
    let released = ran.iter().filter(|ran| ran.exit_code == 0).count();
    let exhausted = ran.iter().filter(|ran| ran.json()["code"] == "BUDGET_EXHAUSTED").count();
    (released, exhausted)
}

/// Eight processes at once, on a budget for three.
#[test]
fn atk_i1_double_spending() {
    const PROCESSES: usize = 8;
    let market = Market::new(&lifetime(3), &households(100));
    let agreements: Vec<String> = ('a'..).take(PROCESSES).map(|letter| question(&market, letter)).collect();
    let start = |agreement: &String| {
        let mut command = market.room.command();
        command.args(["run", agreement, "--json", "--threads", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    };
    let running: Vec<_> = agreements.iter().map(start).collect();
    let ran: Vec<Ran> = running.into_iter().map(|child| Ran::of(child.wait_with_output().expect("an end"))).collect();
    assert_eq!(outcomes(&ran), (3, PROCESSES - 3), "{ran:?}");
    assert_eq!(spent(&market.room), 3 * COST);
    assert!(ran.iter().all(|ran| (ran.exit_code == 0) != charges(ran).is_empty()), "{ran:?}");
    let written = market.room.outputs().len();
    assert_eq!(written, 6, "outputs and their openings");

    // A host that looks first and writes then: everybody sees the same empty ledger.
    let ledger = std::sync::Mutex::new(0);
    let barrier = std::sync::Barrier::new(PROCESSES);
    let careless = || {
        let seen = *ledger.lock().unwrap();
        barrier.wait();
        if seen < 3 {
            *ledger.lock().unwrap() += 1
        }
    };
    std::thread::scope(|scope| (0..PROCESSES).for_each(|_| drop(scope.spawn(careless))));
    let overspent = *ledger.lock().unwrap();
    assert_eq!(overspent, PROCESSES, "the attack is dead");
    report(
        "I1",
        "eight processes for the budget of three runs",
        format!("a ledger that is read and then written: {overspent} runs"),
        "3 released and charged, 5 BUDGET_EXHAUSTED and not charged",
    );
}

/// The ledger's files in a host's state: SQLite's log of writes is one of them.
fn backup(state: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for name in files_below(state).into_keys().filter(|name| name.starts_with("ledger.sqlite")) {
        fs::copy(state.join(&name), to.join(&name)).expect("copied");
    }
}

fn restore(state: &Path, from: &Path) {
    for name in files_below(state).into_keys().filter(|name| name.starts_with("ledger.sqlite")) {
        fs::remove_file(state.join(name)).expect("removed");
    }
    for name in files_below(from).into_keys() {
        fs::copy(from.join(&name), state.join(&name)).expect("copied");
    }
}

/// A backup of the ledger from before a run takes the place of the ledger after it.
#[test]
fn atk_i2_a_restored_ledger() {
    let market = Market::new(&lifetime(1), &households(100));
    let (state, kept) = (market.room.state(), tempfile::tempdir().unwrap());
    backup(&state, kept.path());
    let first = question(&market, 'a');
    market.room.released(&first);
    let next = question(&market, 'b');
    market.room.refused(&next, "BUDGET_EXHAUSTED", 5);
    let latest = tempfile::tempdir().unwrap();
    backup(&state, latest.path());

    restore(&state, kept.path());
    assert_eq!(spent(&market.room), 0, "the attack is dead: the restored ledger remembers");
    let ran = market.room.run(&next);
    // What cannot be recorded is a refusal as well, with a receipt that stands by itself.
    ran.failed("STATE_ROLLBACK", 3);
    // The old file under the new log of writes, and the new file without its log.
    restore(&state, latest.path());
    for (name, bytes) in files_below(kept.path()).into_iter().filter(|(name, _)| name == "ledger.sqlite") {
        fs::write(state.join(name), bytes).unwrap();
    }
    let mixed = market.room.run(&next);
    assert_ne!(mixed.exit_code, 0, "{mixed:?}");
    restore(&state, latest.path());
    market.room.refused(&next, "BUDGET_EXHAUSTED", 5);
    report(
        "I2",
        "a backup of the ledger from before the last run",
        "a ledger by itself: 0 of 1 spent, and 1 run more",
        format!("STATE_ROLLBACK; with the logs of writes mixed up, {}", text(&mixed.json()["code"])),
    );
}

/// Another room of the same host, whose data is of the same lineage, and which shares the first one's state.
fn second_room(first: &Market, controls: &str) -> Market {
    let second = Market::new(controls, &households(100));
    let root = sha256(&second.room.read("registry/1/registry.json"));
    glovebox::trust_room(&second.room.dir(), &first.room.state(), &root).expect("a host that trusts both rooms");
    second
}

fn run_on(host: &Market, room: &Market, agreement: &str) -> Ran {
    let mut command = program(&room.room.root(), &host.room.state());
    Ran::of(command.args(["run", agreement, "--json", "--threads", "1"]).output().expect("the program starts"))
}

/// Two rooms, and one budget.
#[test]
fn atk_i4_two_rooms_of_one_lineage() {
    let first = Market::new(&lifetime(2), &households(100));
    let second = second_room(&first, &lifetime(2));
    let mut released = 0;
    for (room, letter) in [(&first, 'a'), (&second, 'b'), (&first, 'c'), (&second, 'd')] {
        let ran = run_on(&first, room, &question(room, letter));
        released += usize::from(ran.exit_code == 0);
        if released == 2 && ran.exit_code != 0 {
            ran.failed("BUDGET_EXHAUSTED", 5);
        }
    }
    assert_eq!((released, spent(&first.room)), (2, 2 * COST));
    report(
        "I4",
        "the same data asked in two rooms",
        "a ledger per room: 4 runs for a budget of 2",
        format!("{released} runs: the lineage's account is the host's"),
    );
}

/// A backup from after the last run in one room and before the last run in another.
#[test]
fn atk_i2_a_ledger_that_another_room_has_spent_from() {
    let first = Market::new(&lifetime(2), &households(100));
    let second = second_room(&first, &lifetime(2));
    let (state, kept) = (first.room.state(), tempfile::tempdir().unwrap());
    assert_eq!(run_on(&first, &first, &question(&first, 'a')).exit_code, 0);
    backup(&state, kept.path());
    assert_eq!(run_on(&first, &second, &question(&second, 'b')).exit_code, 0);
    restore(&state, kept.path());
    assert_eq!(spent(&first.room), COST, "the attack is dead: the restored ledger remembers");
    // The first room's own log has seen nothing of what the second one spent.
    let ran = run_on(&first, &first, &question(&first, 'c'));
    ran.failed("STATE_ROLLBACK", 3);
    report(
        "I2",
        "a backup from before another room's last run",
        "a ledger that each room compares with its own log alone: 3 runs for a budget of 2",
        "STATE_ROLLBACK in either room",
    );
}

/// The machine's clock is set back, to before the last run or before the last day's runs.
#[test]
fn atk_i3_a_clock_that_is_set_back() {
    let people = households(100);
    let controls = format!("{}, repeat = {{ max_runs_per_day = 2 }}", lifetime(2));
    let market = Market::new(&controls, &people);
    let agreements = ['a', 'b'].map(|letter| question(&market, letter));
    for agreement in &agreements {
        assert!(market.room.run_here(agreement, Clock::System, &|_| {}).result.is_ok());
    }
    let third = question(&market, 'c');
    // A window that refreshes by the clock: yesterday, or in a year, nothing was spent in it.
    for shift in [-400, -1, 0, 20] {
        let clock = Clock::Fixed(now() + TimeDelta::days(shift));
        let fault = market.room.run_here(&third, clock, &|_| {}).result.expect_err("a budget that refreshes");
        let code = fault.code().as_str();
        assert!(["BUDGET_EXHAUSTED", "AGREEMENT_EXPIRED"].contains(&code), "{shift}: {code}");
    }
    // Runs of today still count when the clock says that they are of tomorrow.
    let patient = Market::new(&format!("{NOISY}, repeat = {{ max_runs_per_day = 1 }}"), &people);
    let agreement = question(&patient, 'a');
    let later = Clock::Fixed(now() + TimeDelta::minutes(5));
    assert!(patient.room.run_here(&agreement, later, &|_| {}).result.is_ok());
    fs::remove_dir_all(patient.room.path("out/sheets")).unwrap();
    fs::create_dir_all(patient.room.path("out/sheets")).unwrap();
    let back = Clock::Fixed(now() - TimeDelta::hours(30));
    let fault = patient.room.run_here(&agreement, back, &|_| {}).result.expect_err("a day that begins again");
    assert_eq!(fault.code().as_str(), "RUNS_PAUSED");
    assert_eq!(spent(&market.room), 2 * COST);
    report(
        "I3",
        "a clock that is set back, or forward",
        "a budget per window of the clock: 4 more runs",
        "no window refreshes: BUDGET_EXHAUSTED at every date, and the log's latest time counts",
    );
}

/// Failing on purpose, before and after rows are read.
#[test]
fn atk_i5_refunds() {
    let people = households(100);
    let market = Market::new(&lifetime(100), &people);
    let agreement = question(&market, 'a');
    let file = market.room.path("data/retailer/people.parquet");
    let whole = fs::read(&file).unwrap();
    // Before a row is read: the file is none.
    fs::write(&file, b"no Parquet").unwrap();
    let before = market.room.run(&agreement);
    assert_ne!(before.exit_code, 0);
    assert_eq!((charges(&before), spent(&market.room)), (Vec::new(), 0), "a run that has read nothing is charged");
    fs::write(&file, &whole).unwrap();
    // After: the SQL fails at one row alone.
    market.offer(
        "fails",
        "SELECT household_id, number / CASE WHEN household_id = 7 THEN 0 ELSE 1 END AS number, amount FROM people",
    );
    let failing = market.agreed("question-a", "fails");
    let mut failed = 0;
    for run in 1..=3 {
        let ran = market.room.run(&failing);
        market.room.is_refused(&ran, "WITHHELD", 5);
        failed += 1;
        assert_eq!(spent(&market.room), run * COST, "a run that has read a row is free");
    }
    report(
        "I5",
        "refunds for runs that fail if a row is there",
        format!("a refund for every failure: {failed} bits for 0"),
        format!("{failed} charges for {failed} failures; a refund only where no row was read"),
    );
}

/// Whoever has a receipt tries all outputs and counts that there could be.
#[test]
fn atk_i6_receipts_as_an_oracle() {
    const CANDIDATES: usize = 1_000;
    let market = Market::new(EXACT, &households(100));
    market.question("totals", &["-1"], SUM);
    let released = market.room.released(&market.agreed("totals", "people"));
    let bytes = market.room.read(&released.output);
    let shown = (number(&released, "people"), number(&released, "amount"));
    let as_text = String::from_utf8(bytes.clone()).unwrap();
    let line = as_text.lines().nth(1).unwrap().to_owned();
    let mut dictionary: BTreeSet<String> = (0..CANDIDATES)
        .flat_map(|count| [count.to_string(), format!("{count}.0"), json!({"units": count}).to_string()])
        .map(|candidate| sha256(candidate.as_bytes()))
        .collect();
    for people in 50..=110 {
        for amount in 0..300 {
            let candidate = as_text.replace(&line, &format!("-1,{people},{}.0", 2 * amount));
            dictionary.insert(sha256(candidate.as_bytes()));
        }
    }
    assert!(dictionary.contains(&sha256(&bytes)), "the attack is dead: {as_text}");
    let searched: Vec<(String, String)> = files_below(&market.room.root())
        .into_iter()
        .filter(|(path, _)| *path != released.output && !path.starts_with("data/") && !path.starts_with("questions/"))
        .map(|(path, bytes)| (path, readable(&bytes)))
        .collect();
    for (path, content) in &searched {
        let words = content.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64);
        let found: Vec<&str> = words.filter(|word| dictionary.contains(*word)).collect();
        assert!(found.is_empty(), "{path}: {found:?}");
    }
    // The commitment opens with its salt, which its recipient has.
    let record = &released.record["predicate"]["released"];
    let opening: Value =
        serde_json::from_slice(&market.room.read(&format!("{}.opening.json", released.output))).unwrap();
    let salted = [text(&opening["salt"]).as_bytes(), &bytes].concat();
    assert_eq!(text(&record["output_commitment"]), sha256(&salted));
    // No figure of the data stands there plainly, either.
    let receipt = released.record.to_string();
    for figure in [shown.0, shown.1] {
        assert!(!receipt.contains(&format!(":{figure},")) && !receipt.contains(&format!(":{figure}}}")), "{receipt}");
    }
    report(
        "I6",
        "a dictionary of outputs and counts against receipts and log",
        format!("a plain hash of the output: found among {} candidates", dictionary.len()),
        format!("0 found in {} files", searched.len()),
    );
}

/// The text of a file, and of envelopes in it also what they carry.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let carried = text.split('"').filter(|part| part.len() > 100).filter_map(|part| {
        data_encoding::BASE64.decode(part.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    });
    let carried: Vec<String> = carried.collect();
    text + &carried.join("\n")
}

/// The seed of the noise, and every key, in every file of the room and of the host's state.
#[test]
fn atk_i7_seeds_and_keys_in_files() {
    let room = Fixture::unsigned(NOISY);
    let identity = room.path("auditor.txt");
    let auditor = glovebox::new_auditor(&identity).unwrap();
    glovebox::set_auditor(&room.dir(), &auditor, now()).unwrap();
    room.sign_registry();
    let terms = ["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "sheets"];
    let released = room.released(&room.agreed("evil", &terms));
    let run = released.receipt.strip_suffix(".dsse.json").unwrap();
    let sealed = opened(&room.read(&format!("{run}.sealed.age")), &fs::read_to_string(&identity).unwrap());
    let host = fs::read(room.state().join(host_key_file(&room))).unwrap();
    let secrets = [
        ("the seed", data_encoding::HEXLOWER.decode(text(&sealed["seed"]).as_bytes()).unwrap()),
        ("the key of pseudonyms", data_encoding::HEXLOWER.decode(text(&sealed["destination_key"]).as_bytes()).unwrap()),
        ("the room's key", data_encoding::HEXLOWER.decode(text(&sealed["room_key"]).as_bytes()).unwrap()),
        ("the host's key", host),
        ("the runtime's key", room.key("runtime").to_bytes().to_vec()),
    ];
    let mut files = files_below(&room.root());
    files.extend(files_below(&room.state()).into_iter().map(|(path, bytes)| (format!("state/{path}"), bytes)));
    // The search is alive: it finds the host's own key where it lies, and a careless copy of the seed.
    let [seed, pseudonyms, masks, host, runtime] = secrets.each_ref().map(|(_, secret)| holders(&files, secret));
    assert_eq!(host, [format!("state/{}", host_key_file(&room))]);
    assert_eq!((seed, pseudonyms, masks), (Vec::new(), Vec::new(), Vec::new()));
    // The runtime's key file is the operator's own.
    assert!(runtime.iter().all(|path| path == "keys/runtime.pem"), "{runtime:?}");
    let careless = json!({"run_id": released.json["run_id"], "seed": sealed["seed"]}).to_string();
    files.insert("careless.json".into(), careless.into_bytes());
    assert_eq!(holders(&files, &secrets[0].1), ["careless.json"], "the attack is dead");
    report(
        "I7",
        "the seed of the noise in all files",
        "a receipt that can be replayed by anybody: 1 seed, and with it all noise",
        format!("the seed and {} keys in 0 of {} files but where they belong", secrets.len() - 1, files.len() - 1),
    );
}

/// The files that have a secret in them, as bytes or in any of the usual digits, also inside of an envelope.
fn holders(files: &BTreeMap<String, Vec<u8>>, secret: &[u8]) -> Vec<String> {
    let forms = [
        secret.to_vec(),
        data_encoding::HEXLOWER.encode(secret).into_bytes(),
        data_encoding::HEXUPPER.encode(secret).into_bytes(),
        data_encoding::BASE64_NOPAD.encode(secret).into_bytes(),
    ];
    let has = |text: &[u8]| forms.iter().any(|form| text.windows(form.len()).any(|window| window == form));
    let holds = |bytes: &[u8]| has(bytes) || has(readable(bytes).as_bytes());
    files.iter().filter(|(_, bytes)| holds(bytes)).map(|(path, _)| path.clone()).collect()
}

/// The file of the host's secret: the one of 32 bytes.
fn host_key_file(room: &Fixture) -> String {
    let keys: Vec<String> =
        files_below(&room.state()).into_iter().filter(|(_, bytes)| bytes.len() == 32).map(|(path, _)| path).collect();
    let [key] = &keys[..] else { panic!("{keys:?}") };
    key.clone()
}

fn opened(sealed: &[u8], identity: &str) -> Value {
    let line = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).expect("an identity");
    let identity = age::x25519::Identity::from_str(line).expect("an identity");
    serde_json::from_slice(&age::decrypt(&identity, sealed).expect("opened")).expect("JSON")
}

/// An answer that is kept could come at once, and so tell that nothing has changed.
#[test]
fn atk_i8_when_a_repeat_comes() {
    const SLOT: Duration = Duration::from_millis(1_500);
    let controls = format!("{NOISY}, release = {{ slot = '1500ms', max_slots = 1_000 }}");
    let market = Market::new(&controls, &households(100));
    market.question("totals", &["-1"], SUM);
    let agreement = market.agreed("totals", "people");
    let mut times = Vec::new();
    for run in 0..2 {
        let began = Instant::now();
        let outcome = market.room.run_here(&agreement, Clock::System, &|_| {});
        times.push(began.elapsed());
        assert_eq!(outcome.repeat_of.is_some(), run == 1);
        let result = outcome.result.expect("a result");
        for file in [result.path.clone(), format!("{}.opening.json", result.path)] {
            fs::remove_file(market.room.path(&file)).unwrap();
        }
    }
    // The run waits for the end of a slot, so this holds however slow or fast the machine is.
    assert!(times.iter().all(|time| *time >= SLOT), "{times:?}");
    // What it takes to read an answer that is kept.
    let began = Instant::now();
    let ledger = rusqlite::Connection::open(market.room.state().join("ledger.sqlite")).unwrap();
    let answers: i64 = ledger.query_row("SELECT count(*) FROM answer", [], |row| row.get(0)).unwrap();
    let at_once = began.elapsed();
    assert_eq!(answers, 1, "the attack is dead: nothing is kept");
    let slots = |time: Duration| time.as_millis() / SLOT.as_millis();
    report(
        "I8",
        "how soon a repeat comes",
        format!("a kept answer at once: after {at_once:.0?}"),
        format!("{} slot(s) for a fresh answer, {} for a kept one", slots(times[0]), slots(times[1])),
    );
}

/// Terms that an older, a laxer or a careless reader would take.
#[test]
fn atk_i9_downgraded_terms() {
    let (room, agreement) = {
        let room = Fixture::with_controls(NOISY);
        let terms = ["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "sheets"];
        let agreement = room.agreed("evil", &terms);
        (room, agreement)
    };
    let path = format!("{agreement}/agreement.json");
    let honest = room.read_text(&path);
    let terms: Value = serde_json::from_str(&honest).unwrap();
    let version = terms["version"].as_u64().unwrap();
    let epsilon = terms["controls"]["epsilon_micros"].to_string();
    let with_epsilon = |text: &str| {
        let field =
            format!("\"epsilon_micros\":{}{epsilon}", if honest.contains("\"epsilon_micros\": ") { " " } else { "" });
        assert!(honest.contains(&field), "{honest}");
        honest.replacen(&field, &format!("\"epsilon_micros\":{text}"), 1)
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut terms = terms.clone();
        change(&mut terms);
        terms.to_string()
    };
    let attempts = [
        ("an older version", changed(&|terms| terms["version"] = (version - 1).into())),
        ("a later version", changed(&|terms| terms["version"] = (version + 1).into())),
        ("no controls", changed(&|terms| drop(terms.as_object_mut().unwrap().remove("controls")))),
        ("no k", changed(&|terms| drop(terms["controls"].as_object_mut().unwrap().remove("k_min")))),
        ("no epsilon", changed(&|terms| drop(terms["controls"].as_object_mut().unwrap().remove("epsilon_micros")))),
        ("an unknown field", changed(&|terms| terms["controls"]["trusted"] = true.into())),
        ("another mode", changed(&|terms| terms["controls"]["mode"] = "sealed-k".into())),
        ("a mode to come", changed(&|terms| terms["controls"]["mode"] = "opaque".into())),
        ("epsilon NaN", with_epsilon("NaN")),
        ("epsilon infinite", with_epsilon("1e999")),
        ("epsilon as text", with_epsilon("\"1000000\"")),
        ("epsilon negative", with_epsilon("-1000000")),
        ("epsilon 1e15", with_epsilon("1000000000000000000000")),
        ("epsilon 1e9", with_epsilon("1000000000000000")),
        ("epsilon twice", with_epsilon(&format!("{epsilon},\"epsilon_micros\":10000000"))),
    ];
    let mut lenient = 0;
    for (what, bytes) in &attempts {
        // Both parties' signatures are on exactly these bytes.
        room.sign_bytes(&agreement, bytes.as_bytes());
        let ran = room.run(&agreement);
        assert_eq!(ran.exit_code, 3, "{what}: {ran:?}");
        let code = text(&ran.json()["code"]);
        assert!(["AGREEMENT_INVALID", "CONTROL_CHANGED", "MALFORMED"].contains(&code.as_str()), "{what}: {code}");
        // A reader that takes what it knows and fills in the rest.
        lenient += usize::from(serde_json::from_str::<Value>(bytes).is_ok_and(|terms| terms["room"] == "grocery"));
    }
    assert!(lenient >= 10, "the attack is dead: {lenient}");
    assert_eq!(spent(&room), 0);
    room.sign_bytes(&agreement, honest.as_bytes());
    room.released(&agreement);
    report(
        "I9",
        "signed terms of another version, with fields missing, unknown or beyond reason",
        format!("a lenient reader: {lenient} of {} read", attempts.len()),
        "0 read",
    );
}
