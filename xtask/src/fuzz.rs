//! `cargo xtask fuzz`: libFuzzer on every format that a stranger may send, each for some seconds.
//!
//! The targets of `trust/fuzz` assert what must hold, in code that has no unsafe part: there is nothing for a sanitizer
//! to find, and without one the stable compiler does. A C++ compiler builds libFuzzer. All that it finds stays below
//! `target/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;

const CARGO_FUZZ: &str = "0.13.2";

/// Fails with the first target whose invariant does not hold, and names the input.
pub(crate) fn fuzz(root: &Path, seconds: u64) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let fuzzer = Fuzzer { root, program: install(root, &target)?, folder: target.join("fuzz") };
    let targets = fuzzer.targets()?;
    eprintln!("building {} targets", targets.len());
    fuzzer.build()?;
    targets.iter().try_for_each(|target| fuzzer.run(target, seconds))
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
    program: PathBuf,
    folder: PathBuf,
}

impl Fuzzer<'_> {
    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.root).arg(task).args(["--fuzz-dir", "trust/fuzz"]);
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

    fn build(&self) -> Result<()> {
        let status =
            self.command("build").args(["--sanitizer", "none"]).status().context("cargo-fuzz does not start")?;
        if !status.success() {
            bail!("the targets of trust/fuzz do not build");
        }
        Ok(())
    }

    fn run(&self, target: &str, seconds: u64) -> Result<()> {
        // What is found goes to the first folder; the seeds in git are only read.
        let found = self.folder.join("corpus").join(target);
        let failures = self.folder.join("failures").join(target);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&failures)?;
        let output = self
            .command("run")
            .args(["--sanitizer", "none", target])
            .arg(&found)
            .arg(self.root.join("trust/fuzz/corpus").join(target))
            .args(["--", "-print_final_stats=1", "-timeout=10", "-rss_limit_mb=1024"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .output()
            .context("cargo-fuzz does not start")?;
        report(target, seconds, &output)
    }
}

fn report(target: &str, seconds: u64, output: &Output) -> Result<()> {
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
        bail!("target {target} failed: the log above names the input");
    }
    let inputs =
        value_after(&log, "stat::number_of_executed_units:").context("libFuzzer says nothing of its inputs")?;
    let edges = value_after(&log, " cov: ").unwrap_or("?");
    println!("{target:<12} {seconds:>5} s {inputs:>10} inputs {edges:>6} edges covered");
    Ok(())
}

/// The last word that follows the label in a log.
fn value_after<'a>(log: &'a str, label: &str) -> Option<&'a str> {
    log.rsplit_once(label)?.1.split_whitespace().next()
}
