//! Step 3: workers that end, lie or are given what nobody compiled. Whatever a worker does, its host says what happened,
//! goes on, and takes nothing from it.

use std::path::Path;
use std::process::Command;

use glovebox_sandbox::testing::{MEASURE, WIT, encode, module};
use glovebox_sandbox::{Answer, Asked, ColumnType, Denial, Kind, Limits, Program, Reason, Spec, Wall, Worker, compile};

fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_glovebox"))
}

fn spec() -> Spec {
    let limits = Limits { fuel_per_unit: 1 << 40, milliseconds_per_unit: 600_000, ..Limits::default() };
    Spec { kind: Kind::Analytical, limits, parameters: Vec::new(), slots: vec![vec![ColumnType::Int64]] }
}

/// A question that answers nothing but to units of three rows: then it never ends.
fn compiled() -> Vec<u8> {
    let body = "(if (i32.eq (i32.load (local.get 2)) (i32.const 3)) (then (loop $on (br $on))))";
    let component = encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, body)).expect("a module"));
    compile(&program(), &component, &spec().limits, &Wall::ALL).expect("it compiles")
}

fn loaded(compiled: &[u8]) -> Result<Worker, Denial> {
    let mut worker = Worker::start(&program(), &spec().limits, 600)?;
    worker.load(compiled, &spec(), &Wall::ALL)?;
    Ok(worker)
}

/// Asks about a unit of so many rows.
fn ask(worker: &mut Worker, rows: usize) -> Result<Vec<Asked>, Denial> {
    let mut batch = worker.batch();
    batch.rows(rows).expect("room");
    batch.list::<u8>(&[]).expect("room");
    batch.list(&vec![7_i64; rows]).expect("room");
    let bytes = batch.len();
    worker.ask(1, bytes)
}

#[track_caller]
fn answers(worker: &mut Worker) {
    let asked = ask(worker, 1).expect("an answer");
    assert!(matches!(&asked[..], [Asked { answer: Answer::Contributions(list), .. }] if list.is_empty()));
}

/// Between two calls, and in one that would never end.
#[test]
fn a_worker_that_is_killed_ends_the_run_and_no_other() {
    let compiled = compiled();
    let (mut killed, mut other) = (loaded(&compiled).expect("a worker"), loaded(&compiled).expect("another"));
    let busy = &mut loaded(&compiled).expect("a third");
    answers(&mut killed);
    kill(killed.process_id());
    let denial = ask(&mut killed, 1).err().expect("it is gone");
    assert_eq!(
        (denial.reason(), denial.fact()),
        (Reason::SandboxFailed, "a worker process ended: signal: 9 (SIGKILL)")
    );
    let denial = std::thread::scope(|scope| {
        let id = busy.process_id();
        let asking = scope.spawn(|| ask(busy, 3).err().expect("it is gone"));
        kill(id);
        asking.join().expect("no panic")
    });
    assert_eq!(
        (denial.reason(), denial.fact()),
        (Reason::SandboxFailed, "a worker process ended: signal: 9 (SIGKILL)")
    );
    answers(&mut other);
    println!("\nHOSTILE | L6 | a worker that is killed, idle or in a call | SANDBOX_FAILED; others answer");
}

fn kill(process: u32) {
    let status = Command::new("kill").args(["-KILL", &process.to_string()]).status().expect("kill is there");
    assert!(status.success());
}

/// Who is not this program says something else, or nothing.
#[test]
fn a_worker_that_is_another_program_is_not_believed() {
    let start = |path: &str| {
        assert!(Path::new(path).exists(), "{path}");
        let denial = Worker::start(&Program::at(path), &spec().limits, 10).expect_err("no worker");
        assert_eq!(denial.reason(), Reason::SandboxFailed, "{denial}");
        denial.fact().to_owned()
    };
    assert_eq!(start("/bin/true"), "a worker process ended: exit status: 0");
    assert_eq!(start("/bin/false"), "a worker process ended: exit status: 1");
    // It says its arguments, for ever.
    assert_eq!(start("/usr/bin/yes"), "a worker process gave an answer that no honest one gives");
    let none = Worker::start(&Program::at("/no/such/program"), &spec().limits, 10).expect_err("no worker");
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
