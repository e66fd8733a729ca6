//! `cargo xtask fuzz`: libFuzzer on whatever a stranger may send: every format, and every component.
//!
//! The targets assert what must hold. Those of `trust/fuzz` have no unsafe part; those of `sandbox/fuzz` run the engine,
//! and compare what it computes. So there is no sanitizer, and without one the stable compiler does. A C++ compiler
//! builds libFuzzer. All that it finds stays below `target/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;

const CARGO_FUZZ: &str = "0.13.2";

/// The crates that have targets.
const CRATES: [&str; 2] = ["trust/fuzz", "sandbox/fuzz"];

/// Runs every target, or the one, and then fails if an invariant did not hold: its log names the input.
pub(crate) fn fuzz(root: &Path, seconds: u64, only: Option<&str>) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = install(root, &target)?;
    let folder = target.join("fuzz");
    let fuzzers = CRATES.map(|package| Fuzzer { root, package, program: &program, folder: &folder });
    let mut failed = Vec::new();
    let mut known = 0;
    for fuzzer in &fuzzers {
        let mut targets = fuzzer.targets()?;
        targets.retain(|target| only.is_none_or(|only| target == only));
        known += targets.len();
        if targets.is_empty() {
            continue;
        }
        eprintln!("building {} targets of {}", targets.len(), fuzzer.package);
        fuzzer.build(only)?;
        for target in targets {
            if !fuzzer.run(&target, seconds)? {
                failed.push(target);
            }
        }
    }
    match (known, failed.is_empty()) {
        (0, _) => bail!("there is no such target"),
        (_, true) => Ok(()),
        (_, false) => bail!("the logs above name inputs for which no invariant holds: {}", failed.join(", ")),
    }
}

/// Where cargo-fuzz is: on the path, or else below `target`.
fn install(root: &Path, target: &Path) -> Result<PathBuf> {
    let tools = target.join("tools");
    let ours = tools.join("bin/cargo-fuzz");
    for program in [PathBuf::from("cargo-fuzz"), ours.clone()] {
        if Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Ok(program);
        }
    }
    eprintln!("installing cargo-fuzz {CARGO_FUZZ} below {}", tools.display());
    let install = ["install", "--quiet", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz", "--root"];
    let tools = tools.to_str().context("the path of the target folder is not UTF-8")?;
    cargo(root, &[install.as_slice(), &[tools]].concat(), &[])?;
    Ok(ours)
}

struct Fuzzer<'a> {
    root: &'a Path,
    package: &'a str,
    program: &'a Path,
    folder: &'a Path,
}

impl Fuzzer<'_> {
    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(self.root).arg(task).args(["--fuzz-dir", self.package]);
        command.env("CARGO_TARGET_DIR", self.folder.join("build"));
        command
    }

    fn targets(&self) -> Result<Vec<String>> {
        let output = self.command("list").output().context("cargo-fuzz does not start")?;
        if !output.status.success() {
            bail!("cargo-fuzz cannot list its targets: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    fn build(&self, only: Option<&str>) -> Result<()> {
        let mut command = self.command("build");
        let status = command.args(["--sanitizer", "none"]).args(only).status().context("cargo-fuzz does not start")?;
        if !status.success() {
            bail!("the targets of {} do not build", self.package);
        }
        Ok(())
    }

    /// Whether nothing was found.
    fn run(&self, target: &str, seconds: u64) -> Result<bool> {
        // What is found goes to the first folder; the seeds in git are only read.
        let found = self.folder.join("corpus").join(target);
        let failures = self.folder.join("failures").join(target);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&failures)?;
        let known = files(&failures)?;
        let output = self
            .command("run")
            .args(["--sanitizer", "none", target])
            .arg(&found)
            .arg(self.root.join(self.package).join("corpus").join(target))
            // A component takes a compilation or three, on a machine that may have other work.
            .args(["--", "-print_final_stats=1", "-timeout=30", "-rss_limit_mb=2048"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .output()
            .context("cargo-fuzz does not start")?;
        let findings = files(&failures)?.0.saturating_sub(known.0);
        report(target, seconds, &output, files(&found)?, findings)
    }
}

fn report(target: &str, seconds: u64, output: &Output, corpus: (usize, u64), findings: usize) -> Result<bool> {
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
    }
    let inputs =
        value_after(&log, "stat::number_of_executed_units:").context("libFuzzer says nothing of its inputs")?;
    let edges = value_after(&log, " cov: ").unwrap_or("?");
    let (files, bytes) = corpus;
    println!(
        "{target:<12} {seconds:>5} s {inputs:>10} inputs {edges:>6} edges covered, \
         corpus of {files:>5} files with {bytes:>8} bytes, {findings} new findings"
    );
    Ok(output.status.success())
}

/// How many files a folder has, and how many bytes they have.
fn files(folder: &Path) -> Result<(usize, u64)> {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder)? {
        sum = (sum.0 + 1, sum.1 + entry?.metadata()?.len());
    }
    Ok(sum)
}

/// The last word that follows the label in a log.
fn value_after<'a>(log: &'a str, label: &str) -> Option<&'a str> {
    log.rsplit_once(label)?.1.split_whitespace().next()
}
