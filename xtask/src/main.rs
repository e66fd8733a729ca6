//! The project's own tasks: `cargo xtask <task>`.
//!
//! Parses and prints; each task is a module. It never changes anything outside of `target/`, but for the Debian
//! packages that `guests` and `interop` announce before they install them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tasks talk to the person at the terminal")]

mod audit;
mod bench;
mod cargo;
mod clients;
mod demo;
mod fuzz;
mod guests;
mod interop;

mod sources;
mod tests;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The project's own tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the example questions into target/questions
    Guests,
    /// Build the reader of sources and the keeper of ledgers beside glovebox, and install what its tests need into target/sources
    Sources,
    /// Run two questions end to end on real data, in target/demo
    Demo,
    /// Install the clients of others that tests of sharing call, into target/sharing
    Clients,
    /// Run every test of the project
    Test,
    /// Let foreign tools judge the demo's approvals, receipts and log
    Interop,
    /// Mount every attack of the catalogue, and check the numbers of the privacy kernel against other implementations
    Audit {
        /// Print the classes and the tests that mount them, and run nothing
        #[arg(long)]
        list: bool,
    },
    /// Fuzz every format and component that a stranger may send
    Fuzz {
        /// Seconds per target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// This target alone
        #[arg(long)]
        target: Option<String>,
    },
    /// Measure speed and memory as ratios within one run
    Bench {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Over data of TPC-H and TPC-DS instead, against DataFusion and DuckDB
        #[arg(long)]
        data: bool,
        /// With --data: the smaller scale factor; the other is ten times as much
        #[arg(long, default_value_t = 1.0, requires = "data")]
        scale: f64,
        /// With --data: nothing but one run over ten times as much data as this memory, in MiB
        #[arg(long, requires = "data")]
        memory: Option<u32>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no folder")?;
    match task {
        Task::Guests => guests::build(root, &root.join("target/questions")).map(drop),
        Task::Sources => sources::build(root),
        Task::Demo => demo::demo(root),
        Task::Clients => clients::install(root),
        Task::Test => tests::test(root),
        Task::Interop => interop::interop(root),
        Task::Audit { list: true } => audit::list(root),
        Task::Audit { list: false } => audit::audit(root),
        Task::Fuzz { seconds, target } => fuzz::fuzz(root, seconds, target.as_deref()),
        Task::Bench { json, data, scale, memory } => {
            bench::bench(root, json, data.then_some(bench::Data { scale, memory }).as_ref())
        }
    }
}
