//! Step 3's processes: what a worker has, what becomes of a run when one ends, and what a kernel without a wall means.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use glovebox_sandbox::testing::{MEASURE, WIT, encode, module};
use glovebox_sandbox::{
    Answer, Asked, ColumnType, Denial, Kind, Limits, Program, Question, Reason, Spec, Wall, Worker,
};
use glovebox_sandbox::{compile, compile_within};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::crash::traced;
use crate::support::{CONTROLS, Fixture, text};

/// Takes a number of turns that is a row's value; traps at 13, never ends at 14.
const TURNS: &str = "
    (local $left i64)
    (local.set $left (i64.load offset=56 (local.get 0)))
    (if (i64.eq (local.get $left) (i64.const 13)) (then unreachable))
    (if (i64.eq (local.get $left) (i64.const 14)) (then (loop $on (br $on))))
    (loop $on
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br_if $on (i64.gt_s (local.get $left) (i64.const 0))))";

const REPORTS: &[&str] = &["--destination", "reports"];

fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_glovebox"))
}

/// The program as a shell starts it after a command.
fn program_after(command: &str, folder: &Path) -> Program {
    let script = folder.join("program");
    let program = env!("CARGO_BIN_EXE_glovebox");
    fs::write(&script, format!("#!/bin/sh\n{command}\nexec env -i {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Program::at(script)
}

fn component(body: &str) -> Vec<u8> {
    encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, body)).unwrap())
}

fn spec() -> Spec {
    Spec {
        kind: Kind::Analytical,
        limits: Limits { fuel_per_unit: 1 << 40, milliseconds_per_unit: 5_000, ..Limits::default() },
        parameters: Vec::new(),
        slots: vec![vec![ColumnType::Int64]],
    }
}

fn worker(body: &str, spec: &Spec) -> Worker {
    worker_of(&program(), body, spec)
}

fn worker_of(program: &Program, body: &str, spec: &Spec) -> Worker {
    let code = compile(program, &component(body), &spec.limits, &[]).unwrap();
    let mut worker = Worker::start(program, &spec.limits, 600).unwrap();
    worker.load(&code, spec, &[]).unwrap();
    worker
}

/// Units of one row each.
fn write(writer: &mut glovebox_sandbox::Writer<'_>, values: &[i64]) -> usize {
    for value in values {
        write_unit(writer, &[*value]);
    }
    writer.len()
}

fn write_unit(writer: &mut glovebox_sandbox::Writer<'_>, rows: &[i64]) {
    let write = |writer: &mut glovebox_sandbox::Writer<'_>| {
        writer.slot(rows.len(), 1)?;
        writer.column(ColumnType::Int64)?;
        writer.list::<u8>(&[])?;
        writer.list(rows)
    };
    writer.unit(&[], 0, 1, write).unwrap();
}

fn ask(worker: &mut Worker, values: &[i64]) -> Result<Vec<(bool, u64)>, Denial> {
    let bytes = write(&mut worker.batch(), values);
    let mut answers = Vec::new();
    worker.ask(values.len(), bytes, |asked| answers.push((matches!(asked.answer, Answer::Nothing), asked.fuel)))?;
    Ok(answers)
}

/// The same answers and the same fuel, however units are cut into batches, in a worker and in this process, twice.
#[test]
fn answers_and_fuel_do_not_depend_on_batches_or_processes() {
    let spec = Spec { limits: Limits { fuel_per_unit: 20_000, ..Limits::default() }, ..spec() };
    let values: Vec<i64> = (0..60).map(|at| at * 37 % 100).collect();
    let here = Question::new(&component(TURNS), spec.clone(), 1).unwrap();
    let mut memory = vec![0_u64; 1 << 14];
    let mut writer = glovebox_sandbox::Writer::new(bytemuck::cast_slice_mut(&mut memory));
    let bytes = write(&mut writer, &values);
    let expected: Vec<(bool, u64)> = here
        .ask_all(&bytemuck::cast_slice(&memory)[..bytes], values.len())
        .unwrap()
        .iter()
        .map(|asked| (matches!(asked.answer, Answer::Nothing), asked.fuel))
        .collect();
    assert_eq!(expected.iter().filter(|(is_nothing, _)| *is_nothing).count(), 2, "one traps, one never ends");
    for size in [1, 7, 60] {
        let mut worker = worker(TURNS, &spec);
        for _ in 0..2 {
            let found: Vec<_> = values.chunks(size).flat_map(|chunk| ask(&mut worker, chunk).unwrap()).collect();
            assert_eq!(found, expected, "batches of {size}");
        }
    }
}

/// The kernel's own word for what the worker said of itself, while it is asked.
#[test]
fn the_walls_stand() {
    let mut worker = worker(TURNS, &spec());
    ask(&mut worker, &[1]).unwrap();
    assert_eq!(worker.walls(), Wall::ALL);
    let process = PathBuf::from(format!("/proc/{}", worker.process_id()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let has = |line: &str| status.lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
    // Three filters: while loading, what fails while loading, while asking.
    for line in [
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "Seccomp_filters: 3",
        "Threads: 3",
        "CapEff: 0000000000000000",
        "CapPrm: 0000000000000000",
    ] {
        assert!(has(line), "{line} in {status}");
    }
    for limit in ["Max core file size", "Max open files", "Max file size", "Max locked memory"] {
        assert_eq!(limit_of(&worker, limit), ["0", "0"], "{limit}");
    }
    for limit in ["Max cpu time", "Max data size", "Max address space"] {
        assert!(!limit_of(&worker, limit).contains(&"unlimited".to_owned()), "{limit}");
    }
}

/// What the kernel says of a limit: where it strikes, and how far it may be raised.
fn limit_of(worker: &Worker, name: &str) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", worker.process_id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

/// What a shell or a service manager has set for the host is the most that its workers have, also where they could raise
/// it; and enough for them.
#[test]
fn limits_of_the_hosts_own_that_are_lower_stay() {
    let folder = tempfile::tempdir().unwrap();
    let limited = "ulimit -t 300; ulimit -v 12000000; ulimit -S -d 600000; ulimit -n 40";
    let mut worker = worker_of(&program_after(limited, folder.path()), TURNS, &spec());
    assert_eq!(worker.walls(), Wall::ALL);
    for (name, most) in [("Max cpu time", "300"), ("Max address space", "12288000000"), ("Max data size", "614400000")]
    {
        assert_eq!(limit_of(&worker, name), [most, most], "{name}");
    }
    assert_eq!(ask(&mut worker, &[1, 13]).unwrap().len(), 2);
}

/// A guest that uses up its own stack is silent, and does not get to the end of the worker's, whatever the host was given.
#[test]
fn answers_do_not_depend_on_the_hosts_stack() {
    // Asked about 13, it asks itself, as the second function of its module, and so on.
    let deep = "(if (i64.eq (i64.load offset=56 (local.get 0)) (i64.const 13))
        (then (return (call 1 (local.get 0) (local.get 1)))))";
    let answers = |command: &str| {
        let folder = tempfile::tempdir().unwrap();
        ask(&mut worker_of(&program_after(command, folder.path()), deep, &spec()), &[1, 13, 1]).unwrap()
    };
    let expected = answers("");
    let silent: Vec<bool> = expected.iter().map(|(is_silent, _)| *is_silent).collect();
    assert_eq!(silent, [false, true, false]);
    for command in ["ulimit -s 256", "ulimit -s unlimited"] {
        assert_eq!(answers(command), expected, "{command}");
    }
}

/// Only the same user may look, and only where that is root, for a worker's memory is nobody's to read.
#[test]
fn a_worker_has_no_file_but_its_pipes_and_its_memory_and_no_environment() {
    // As if its host had been started with a file that is open.
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker_of(&program_after("exec 9</etc/passwd", folder.path()), TURNS, &spec());
    ask(&mut worker, &[1]).unwrap();
    let process = PathBuf::from(format!("/proc/{}", worker.process_id()));
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        assert_ne!(fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap(), 0);
        return;
    };
    let kinds: BTreeSet<String> = files
        .map(|file| fs::read_link(file.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .map(|target| target.split([':', ' ']).next().unwrap().to_owned())
        .collect();
    let own = ["/memfd", "pipe"].map(str::to_owned);
    assert!(kinds.iter().all(|kind| own.contains(kind)), "{kinds:?}");
    assert_eq!(fs::read(process.join("environ")).unwrap(), b"");
    assert_eq!(fs::read_link(process.join("cwd")).unwrap(), PathBuf::from("/"));
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
    assert!(status.success());
}

const GIVEN_AWAY: &str = "GLOVEBOX_TEST_GIVEN_AWAY";

/// Numbers of processes are used again. Where nobody has to wait for children, that of a worker that has ended may be a
/// stranger's before its host knows.
#[test]
fn a_host_does_not_end_who_has_its_workers_number() {
    // Numbers are given in turn in a namespace. Its first process is the shell, to which strangers fall as children.
    let script = "env --ignore-signal=CHLD \"$0\" --exact worker::ends_a_worker_whose_number_was_given_away; true";
    for rights in [["--user", "--map-root-user"].as_slice(), &[]] {
        let mut command = Command::new("unshare");
        command.args(rights).args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
        let output = command.arg(std::env::current_exe().unwrap()).env(GIVEN_AWAY, "").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("running 1 test") {
            assert!(said.contains("test result: ok. 1 passed"), "{output:?}");
            return;
        }
    }
    println!("this kernel lets no one have numbers of their own: nobody was given a worker's");
}

/// What happens in the namespace. Run as a test of its own it has nothing to do.
#[test]
fn ends_a_worker_whose_number_was_given_away() {
    if std::env::var_os(GIVEN_AWAY).is_none() {
        return;
    }
    next_number_is(1_000);
    let worker = Worker::start(&program(), &spec().limits, 600).unwrap();
    let number = worker.process_id();
    // What a child ends with is not told here.
    let _ = Command::new("kill").args(["-KILL", &number.to_string()]).status();
    let mut stranger = (0..10_000).find_map(|_| Stranger::start(number)).expect("the number is free again");
    drop(worker);
    stranger.answers().expect("the stranger lives");
}

fn next_number_is(number: u32) {
    fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
}

/// A process that is nobody's child here, by its pipes.
struct Stranger(ChildStdin, ChildStdout);

impl Stranger {
    /// One with this number, if that is free.
    fn start(number: u32) -> Option<Self> {
        // The number before is for its parent, which ends at once.
        next_number_is(number - 1);
        let parent =
            Command::new("setsid").args(["--fork", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut parent = parent.unwrap();
        let mut stranger = Self(parent.stdin.take().unwrap(), parent.stdout.take().unwrap());
        let _ = parent.wait();
        stranger.answers().unwrap();
        fs::read_to_string(format!("/proc/{number}/comm")).is_ok_and(|name| name == "cat\n").then_some(stranger)
    }

    fn answers(&mut self) -> io::Result<()> {
        self.0.write_all(b"?")?;
        self.1.read_exact(&mut [0])
    }
}

/// Whatever ends a worker, its host is told, and goes on with another.
#[test]
fn a_worker_that_ends_is_a_refusal() {
    for (name, told) in [("KILL", "signal: 9"), ("SEGV", "signal: 11"), ("ABRT", "signal: 6"), ("SYS", "signal: 31")] {
        let mut worker = worker(TURNS, &spec());
        ask(&mut worker, &[1]).unwrap();
        // The engine looks at the first SEGV, finds that it is no trap of a guest's, and lets the next one through;
        // which thread gets it, and when, is the system's choice.
        let denial = std::iter::repeat_with(|| {
            signal(worker.process_id(), name);
            std::thread::sleep(Duration::from_millis(10));
            ask(&mut worker, &[1])
        });
        let denial = denial.take(500).find_map(Result::err).expect("it is gone");
        assert_eq!(denial.reason(), Reason::SandboxFailed);
        assert!(denial.fact().contains(told), "{name}: {}", denial.fact());
    }
    ask(&mut worker(TURNS, &spec()), &[1]).unwrap();
}

/// A worker that does not answer is ended when its units' time is over.
#[test]
fn a_worker_that_hangs_is_a_refusal() {
    let spec = Spec { limits: Limits { milliseconds_per_unit: 1, ..Limits::default() }, ..spec() };
    let mut worker = worker(TURNS, &spec);
    worker.set_slack(Duration::from_millis(200));
    signal(worker.process_id(), "STOP");
    // Every thread stops by itself, some time after the signal is sent.
    while !has_stopped(worker.process_id()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let denial = ask(&mut worker, &[1]).unwrap_err();
    assert!(denial.fact().contains("gave no answer"), "{}", denial.fact());
    assert!(ask(&mut worker, &[1]).is_err(), "it is gone");
}

/// The worker's own clock ends a call that the host would wait for, and says why.
#[test]
fn a_call_ends_with_its_time() {
    let spec = Spec { limits: Limits { milliseconds_per_unit: 50, ..spec().limits }, ..spec() };
    let denial = ask(&mut worker(TURNS, &spec), &[1, 14, 1]).unwrap_err();
    assert_eq!(denial.reason(), Reason::TimedOut);
}

/// A worker ends with its host, in the middle of a call too: nobody is left who could end it.
#[test]
fn a_worker_does_not_outlive_its_host() {
    let room = Fixture::new();
    let agreement =
        room.agreed("evil", &["--set", "attack=spin", "--set", "only_unit_with=-1", "--destination", "sheets"]);
    room.forge(&agreement, |terms| {
        terms["limits"]["fuel_per_unit"] = (1_u64 << 50).into();
        terms["limits"]["milliseconds_per_unit"] = 3_600_000.into();
    });
    let mut run = room.command();
    run.args(["run", &agreement, "--json"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = run.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let worker = loop {
        // The one that computes for more than a second is in the call that does not end.
        if let Some(busy) = children(run.id()).into_iter().find(|child| processor_ticks(*child) > 100) {
            break busy;
        }
        assert!(Instant::now() < deadline, "no worker computes");
        std::thread::sleep(Duration::from_millis(20));
    };
    run.kill().unwrap();
    run.wait().unwrap();
    while is_there(worker) {
        assert!(Instant::now() < deadline, "the worker is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_there(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Whether no thread of a process runs.
fn has_stopped(process: u32) -> bool {
    let mut tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.all(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap().contains("State:\tT"))
}

/// What a process has computed, in hundredths of a second.
fn processor_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// A component that takes the compiler more than it may have is one refusal: a function of 40,000 branches.
#[test]
fn a_component_that_compiles_without_end_is_a_refusal() {
    let step = "(if (local.get 0) (then (local.set 1 (i32.rotl (local.get 0) (i32.mul (local.get 1) (local.get 1))))))";
    let body = step.repeat(40_000);
    let heavy = component(&body);
    let within = |cpu, data| compile_within(&program(), &heavy, &Limits::default(), &[], [cpu, data]);
    assert!(within(90, 2 << 30).is_ok(), "the reference: with enough of both it compiles");
    for (what, refused) in [("time", within(1, 2 << 30)), ("memory", within(90, 48 << 20))] {
        let denial = refused.map(|code| code.len()).expect_err(what);
        assert_eq!(denial.reason(), Reason::CompileFailed, "{what}: {denial}");
        assert!(denial.fact().contains("a worker process ended"), "{what}: {denial}");
    }
}

/// A kernel without Landlock, or without filters, as the program sees it.
fn without(room: &Fixture, call: &str, agreement: &str) -> serde_json::Value {
    let output = traced(room, call, "error=ENOSYS")
        .args(["run", agreement, "--json", "--threads", "1", "--sort-memory", "64"])
        .output()
        .expect("strace does not start: install the package strace");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

const LACKING: &str = "sandbox = { may_lack = [\"landlock\"] }";

#[test]
fn where_a_wall_is_missing_nothing_runs_and_nothing_is_charged() {
    let room = Fixture::new();
    let agreement = room.agreed("reach", REPORTS);
    for (call, wall) in
        [("landlock_create_ruleset", "landlock"), ("seccomp", "seccomp"), ("prctl", "no-new-privileges")]
    {
        let spent = room.spent();
        let ran = without(&room, call, &agreement);
        assert_eq!(ran["code"], "WALL_MISSING", "{ran}");
        assert!(text(&ran["fact"]).contains(wall), "{ran}");
        assert_eq!(ran["charges"], serde_json::json!([]));
        assert_eq!(room.spent(), spent);
    }
    // The reference: the same run where nothing is missing.
    let released = room.released(&agreement);
    assert_eq!(released.record["predicate"]["sandbox"]["walls"].as_array().map(Vec::len), Some(Wall::ALL.len()));
}

#[test]
fn owners_may_agree_to_do_without_a_wall_and_the_receipt_says_so() {
    let room = Fixture::with_controls(&format!("{CONTROLS}, {LACKING}"));
    let agreement = room.agreed("reach", REPORTS);
    let ran = without(&room, "landlock_create_ruleset", &agreement);
    assert_eq!(ran["decision"], "released", "{ran}");
    let record = room.record(&text(&ran["receipt"]));
    assert_eq!(record["predicate"]["sandbox"]["walls"], serde_json::json!(["no-new-privileges", "limits", "seccomp"]));
    assert!(text(&record["predicate"]["sandbox"]["isa"]).starts_with(std::env::consts::ARCH));
    // On other files, or the answer would be that of before.
    room.renew_data();
    let ran = without(&room, "seccomp", &room.agreed("reach", REPORTS));
    assert_eq!(ran["code"], "WALL_MISSING", "another wall than the agreed one: {ran}");
}

/// The strictest of all owners wins.
#[test]
fn one_owner_alone_cannot_do_without_a_wall() {
    let room = Fixture::with_controls(&format!("{CONTROLS}, {LACKING}"));
    room.edit("room.toml", &format!(", {LACKING}"), "");
    let agreement = room.agreed("reach", REPORTS);
    assert_eq!(without(&room, "landlock_create_ruleset", &agreement)["code"], "WALL_MISSING");
}

/// The processes that a process has started.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// How often the worker of a run is killed, at a random point each; `cargo xtask audit` asks for more.
fn kills() -> u32 {
    std::env::var("GLOVEBOX_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// A worker is killed at random points of many runs: each run is released and charged once, or refused and harmless.
#[test]
fn a_run_whose_worker_is_killed_is_released_and_charged_once_or_harmless() {
    let room = Fixture::with_controls("epsilon = 0.01, k_min = 1, lifetime = { epsilon = 100.0, delta = 1e-3 }");
    let mut random = ChaCha8Rng::seed_from_u64(20_261_123);
    let (mut released, mut refused, mut withheld, mut killed) = (0, 0, 0, 0);
    // As long as a run has workers here, so that every part of that is hit.
    let span = time_with_workers(&room, &room.agreed("reach", REPORTS));
    for _ in 0..kills() {
        let agreement = room.agreed("reach", REPORTS);
        room.renew_data();
        let (outputs, spent) = (room.outputs(), room.spent());
        let mut run = start(&room, &agreement);
        while children(run.id()).is_empty() && run.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(span.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX)));
        for child in children(run.id()) {
            // It may have ended by itself meanwhile.
            killed += u32::from(Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap().success());
        }
        let output = run.wait_with_output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the host goes on and tells");
        let charges = told["charges"].as_array().map_or(0, Vec::len);
        match (told["decision"].as_str(), told["code"].as_str()) {
            (Some("released"), _) => {
                released += 1;
                assert_eq!(charges, 2, "each account once: {told}");
                assert!(room.outputs().len() > outputs.len());
            }
            (_, Some("SANDBOX_FAILED" | "COMPILE_FAILED")) => {
                refused += 1;
                assert_eq!((charges, &room.spent(), &room.outputs()), (0, &spent, &outputs), "{told}");
            }
            (_, Some("WITHHELD")) => {
                withheld += 1;
                assert_eq!((charges, &room.outputs()), (2, &outputs), "{told}");
            }
            _ => panic!("{told}"),
        }
        room.verify(&text(&told["receipt"])).expect("the receipt verifies");
    }
    room.glovebox(&["log", "verify", "--json"]).succeeded();
    println!(
        "\nHOSTILE | L8 | a worker killed at {} random points, {killed} hits | \
         released {released}, refused {refused}, withheld and charged {withheld}",
        kills()
    );
    assert_eq!(released + refused + withheld, kills());
    assert!(refused + withheld > 0, "no worker was killed while it was needed");
}

fn start(room: &Fixture, agreement: &str) -> Child {
    let mut run = room.command();
    run.args(["run", agreement, "--json", "--threads", "1", "--sort-memory", "64"]);
    run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// From the first worker of a run to the end of the last.
fn time_with_workers(room: &Fixture, agreement: &str) -> Duration {
    let mut run = start(room, agreement);
    let mut seen: Option<(Instant, Instant)> = None;
    while run.try_wait().unwrap().is_none() {
        if !children(run.id()).is_empty() {
            let now = Instant::now();
            seen = Some((seen.map_or(now, |(first, _)| first), now));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    seen.map(|(first, last)| last - first).expect("a run has workers")
}

fn of_rows() -> Spec {
    let limits = Limits { fuel_per_unit: 1 << 40, milliseconds_per_unit: 600_000, ..Limits::default() };
    Spec { limits, ..spec() }
}

/// A question that answers nothing but to units of three rows: then it never ends.
fn compiled() -> Vec<u8> {
    let body = "(if (i32.eq (i32.load offset=16 (local.get 0)) (i32.const 3)) (then (loop $on (br $on))))";
    let component = encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, body)).expect("a module"));
    compile(&program(), &component, &of_rows().limits, &Wall::ALL).expect("it compiles")
}

fn loaded(compiled: &[u8]) -> Result<Worker, Denial> {
    let mut worker = Worker::start(&program(), &of_rows().limits, 600)?;
    worker.load(compiled, &of_rows(), &Wall::ALL)?;
    Ok(worker)
}

/// Asks about a unit of so many rows.
fn ask_about(worker: &mut Worker, rows: usize) -> Result<Vec<Asked>, Denial> {
    let mut batch = worker.batch();
    write_unit(&mut batch, &vec![7_i64; rows]);
    let bytes = batch.len();
    let mut answers = Vec::new();
    worker.ask(1, bytes, |asked| answers.push(asked.clone()))?;
    Ok(answers)
}

#[track_caller]
fn answers(worker: &mut Worker) {
    let asked = ask_about(worker, 1).expect("an answer");
    assert!(matches!(&asked[..], [Asked { answer: Answer::Contributions(list), .. }] if list.is_empty()));
}

/// Between two calls, and in one that would never end.
#[test]
fn a_worker_that_is_killed_ends_the_run_and_no_other() {
    let compiled = compiled();
    let (mut killed, mut other) = (loaded(&compiled).expect("a worker"), loaded(&compiled).expect("another"));
    let busy = &mut loaded(&compiled).expect("a third");
    answers(&mut killed);
    signal(killed.process_id(), "KILL");
    let denial = ask_about(&mut killed, 1).err().expect("it is gone");
    assert_eq!(
        (denial.reason(), denial.fact()),
        (Reason::SandboxFailed, "a worker process ended: signal: 9 (SIGKILL)")
    );
    let denial = std::thread::scope(|scope| {
        let id = busy.process_id();
        let asking = scope.spawn(|| ask_about(busy, 3).err().expect("it is gone"));
        signal(id, "KILL");
        asking.join().expect("no panic")
    });
    assert_eq!(
        (denial.reason(), denial.fact()),
        (Reason::SandboxFailed, "a worker process ended: signal: 9 (SIGKILL)")
    );
    answers(&mut other);
    println!("\nHOSTILE | L6 | a worker that is killed, idle or in a call | SANDBOX_FAILED; others answer");
}

/// Who is not this program says something else, or nothing.
#[test]
fn a_worker_that_is_another_program_is_not_believed() {
    let start = |path: &str| {
        assert!(Path::new(path).exists(), "{path}");
        let denial = Worker::start(&Program::at(path), &of_rows().limits, 10).expect_err("no worker");
        assert_eq!(denial.reason(), Reason::SandboxFailed, "{denial}");
        denial.fact().to_owned()
    };
    assert_eq!(start("/bin/true"), "a worker process ended: exit status: 0");
    assert_eq!(start("/bin/false"), "a worker process ended: exit status: 1");
    // It says its arguments, for ever.
    assert_eq!(start("/usr/bin/yes"), "a worker process gave an answer that no honest one gives");
    let none = Worker::start(&Program::at("/no/such/program"), &of_rows().limits, 10).expect_err("no worker");
    assert!(none.fact().starts_with("no worker process: "), "{none}");
    println!("\nHOSTILE | L7 | another program in place of a worker | SANDBOX_FAILED");
}

/// The host keeps what is compiled where only it can write, and authenticates it. Behind that stands the engine, which
/// takes nothing that another engine, or one with another profile, has made; and behind that the walls.
#[test]
fn what_another_engine_has_compiled_is_not_loaded() {
    let compiled = compiled();
    let refused = |bytes: &[u8]| loaded(bytes).expect_err("it is not loaded").reason();
    let other = wasmtime::Engine::default().precompile_component(&wat::parse_str("(component)").expect("a component"));
    for (what, bytes) in [
        ("another profile's code", other.expect("it compiles")),
        ("half of it", compiled[..compiled.len() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("an ELF header", b"\x7fELF\x02\x01\x01\0".to_vec()),
        ("a component", wat::parse_str("(component)").expect("a component")),
    ] {
        assert_eq!(refused(&bytes), Reason::CompileFailed, "{what}");
        println!("\nHOSTILE | J2 | {what} in place of what was compiled | COMPILE_FAILED");
    }
}
