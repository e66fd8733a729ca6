//! `cargo xtask audit`: mounts every attack of the catalogue, and says what each came to.
//!
//! It runs the long checks that a person who relies on this wants to see by themselves: the attacks of
//! `tests/it/catalogue`, each beside a vulnerable reference that the same attack breaks; the tests elsewhere that mount
//! the others; the black-box tester of the privacy kernel; and the numbers of other implementations, computed anew. It
//! reads what the tests print, and fails where one of them fails, is missing or says nothing.

mod catalogue;
mod golden;
mod log;

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};

use crate::guests;
use catalogue::{BESIDE, CLASSES, Elsewhere, HOSTILE};
use log::{Attack, Hostile, Log};

/// How wide the tables are.
const WIDTH: u16 = 160;

/// Prints the classes, and of each the attacks and the tests that mount them.
pub(crate) fn list(root: &Path) -> Result<()> {
    for class in &CLASSES {
        println!("{}. {}", class.letter, class.title);
        for test in tests_in(root, class.file)? {
            println!("   {test}");
        }
        for Elsewhere { id, what, test } in class.elsewhere {
            println!("   {id}: {what}: {test}");
        }
        if let Some(note) = class.note {
            println!("   {note}");
        }
    }
    println!("Hostile guests, by hand");
    for test in hostile_tests(root)? {
        println!("   {test}");
    }
    Ok(())
}

/// The tests of a file of the catalogue, by their names.
fn tests_in(root: &Path, file: &str) -> Result<Vec<String>> {
    if file.is_empty() {
        return Ok(Vec::new());
    }
    let functions = functions(&root.join("tests/it/catalogue").join(file), "fn ")?;
    Ok(functions.into_iter().filter(|name| name.starts_with("atk_")).collect())
}

/// The tests that ask hostile guests, by their paths below the folder's.
fn hostile_tests(root: &Path) -> Result<Vec<String>> {
    let (folder, _) = HOSTILE;
    let folder = root.join(folder);
    let mut tests = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let module = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let functions = functions(&path, "#[test]\nfn ")?;
        tests.extend(functions.into_iter().map(|name| format!("{module}::{name}")));
    }
    tests.sort_unstable();
    Ok(tests)
}

/// The names of what stands after `start` in a file, each at the beginning of a line.
fn functions(path: &Path, start: &str) -> Result<Vec<String>> {
    let source = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (source, start) = (format!("\n{source}"), format!("\n{start}"));
    let rest = source.split(&start).skip(1);
    Ok(rest.filter_map(|rest| Some(rest.split('(').next()?.to_owned())).collect())
}

/// Runs everything and prints it as tables.
pub(crate) fn audit(root: &Path) -> Result<()> {
    guests::build(root, &root.join("target/questions"))?;
    let log = run_tests(root)?;
    let mut complaints = print_attacks(root, &log)?;
    complaints.extend(print_hostile(root, &log)?);
    complaints.extend(print_epsilons(&log));
    println!("\nNumbers of other implementations");
    complaints.extend(golden::check(root)?);
    complaints.extend(log.failed().iter().map(|test| format!("{test} failed")));
    complaints.extend_from_slice(log.panics());
    if complaints.is_empty() {
        println!("the audit passes: every attack was mounted, and none of {} tests failed", log.tests());
        return Ok(());
    }
    bail!("the audit fails:\n{}", complaints.join("\n"))
}

/// Every test of the catalogue and those that it names elsewhere. What fails says why on stderr.
fn run_tests(root: &Path) -> Result<Log> {
    eprintln!("mounting the attacks; this takes some minutes");
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args(["test", "--workspace", "--locked", "--no-fail-fast", "--", "--nocapture", "atk_"]);
    cargo.args(CLASSES.iter().flat_map(|class| class.elsewhere).map(|elsewhere| elsewhere.test));
    // As often as it takes to hit every part of a run.
    cargo.env("GLOVEBOX_KILLS", "200");
    // Where the machine has no swap and this is root, a test may turn some on while it pages memory out.
    cargo.env("GLOVEBOX_SWAP", "1");
    cargo.arg(HOSTILE.1).args(BESIDE).args(catalogue::TESTERS);
    let mut tests = cargo.current_dir(root).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let tests = tests.as_mut().map_err(|error| anyhow!("cargo does not start: {error}"))?;
    let told = tests.stderr.take().context("the tests have no stderr")?;
    let panics = thread::spawn(|| log::panics(BufReader::new(told)));
    let mut output = String::new();
    tests.stdout.take().context("the tests have no stdout")?.read_to_string(&mut output)?;
    let panics = panics.join().map_err(|_| anyhow!("what the tests say cannot be read"))?;
    let log = Log::read(&output, panics);
    if !tests.wait()?.success() && log.failed().is_empty() {
        bail!("the tests did not run to their end: cargo says why above");
    }
    Ok(log)
}

/// Returns what is missing.
fn print_attacks(root: &Path, log: &Log) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut table = new_table(&["attack", "what is tried", "a vulnerable reference", "Glovebox"]);
    let mut mounted = 0;
    for class in &CLASSES {
        let attacks = log.attacks_of(class.letter);
        let tests = tests_in(root, class.file)?;
        for test in tests.iter().filter(|test| !log.has_passed(test) && !log.has_failed(test)) {
            missing.push(format!("{test} was not run"));
        }
        if attacks.len() < tests.len() && !tests.iter().any(|test| log.has_failed(test)) {
            missing.push(format!(
                "class {}: {} tests say what {} attacks came to",
                class.letter,
                tests.len(),
                attacks.len()
            ));
        }
        mounted += attacks.len();
        for Attack { id, what, reference, glovebox } in attacks {
            table.add_row([id, what, reference, glovebox]);
        }
        for Elsewhere { id, what, test } in class.elsewhere {
            let verdict = match (log.has_failed(test), log.has_passed(test)) {
                (true, _) => "FAILED",
                (false, true) => "withstands",
                (false, false) => {
                    missing.push(format!("{test} was not run"));
                    "not run"
                }
            };
            mounted += usize::from(verdict != "not run");
            table.add_row([*id, *what, test, verdict]);
        }
        if let Some(note) = class.note {
            table.add_row([class.letter, note, "", ""]);
        }
    }
    println!("\nAttacks\n{table}\n{mounted} attacks were mounted");
    Ok(missing)
}

/// What became of guests that attack the engine and its host. Returns what is missing.
fn print_hostile(root: &Path, log: &Log) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for test in hostile_tests(root)? {
        let path = format!("{}{test}", HOSTILE.1);
        if !log.has_passed(&path) && !log.has_failed(&path) {
            missing.push(format!("{path} was not run"));
        }
    }
    let mut table = new_table(&["guest", "what it does", "what comes of it"]);
    for Hostile { id, what, outcome } in log.hostile() {
        table.add_row([id, what, outcome]);
    }
    println!("\nHostile guests\n{table}\n{} of them were asked", log.hostile().len());
    if log.hostile().is_empty() {
        missing.push("no hostile guest says what became of it".into());
    }
    Ok(missing)
}

/// What the black-box testers could certify. A bound above its claim fails in the test itself.
fn print_epsilons(log: &Log) -> Vec<String> {
    let certified = log.certified();
    println!("\nWhat a tester that sees outputs alone certifies of epsilon, honest and with faults put in");
    let mut table = new_table(&["mechanism", "at least", "claimed", "by the event"]);
    for row in certified {
        table.add_row(row);
    }
    println!("{table}");
    if !log.epsilons().is_empty() {
        let mut table = new_table(&[]);
        for row in log.epsilons() {
            table.add_row(row);
        }
        println!("\nThe same of whole runs\n{table}");
    }
    if certified.is_empty() { vec!["no tester certified anything".into()] } else { Vec::new() }
}

fn new_table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if !columns.is_empty() {
        table.set_header(columns);
    }
    table
}
