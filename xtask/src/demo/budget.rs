//! What the privacy budget does, as users see it: a quote, a rehearsal, a repeat that is free, and an end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Shell, say};
use crate::interop::tools;

/// DuckDB counts what the noise is about.
const DUCKDB: &str = "duckdb==1.4.1";

/// Before anything is spent.
pub(super) fn quote_and_try(shell: &Shell, agreement: &str) -> Result<()> {
    shell.run(&["ledger", "quote", agreement])?;
    shell.run(&["try", agreement, "--units", "20000"])
}

/// The same question of the same data, agreed on anew, comes out the same and costs nothing.
pub(super) fn repeat(shell: &Shell) -> Result<()> {
    shell.agree_and_approve("reach-r2", &["questions/reach.wasm", "--destination", "brand-reports", "--beside"])?;
    shell.run(&["run", "agreements/reach-r2"])?;
    let [first, again] = ["r1", "r2"].map(|run| shell.room.join(format!("out/reports/reach-{run}.parquet")));
    if fs::read(first)? != fs::read(again)? {
        bail!("the repeat came out differently");
    }
    Ok(())
}

/// A question that differs in a word is another question: each is charged, until nothing is left.
pub(super) fn exhaust(shell: &Shell) -> Result<()> {
    let manifest = fs::read_to_string(shell.room.join("questions/reach.toml"))?;
    for run in 3..40 {
        let changed = manifest.replacen("description = \"", &format!("description = \"Variant {run}: "), 1);
        fs::write(shell.room.join("questions/reach.toml"), changed)?;
        shell.agree_and_approve(
            &format!("reach-r{run}"),
            &["questions/reach.wasm", "--destination", "brand-reports", "--beside"],
        )?;
        let agreement = format!("agreements/reach-r{run}");
        let output = shell.command(&["run", &agreement, "--json"]).stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            continue;
        }
        println!("{}", text.trim_end());
        fs::write(shell.room.join("questions/reach.toml"), &manifest)?;
        if text.contains("\"code\":\"BUDGET_EXHAUSTED\"") {
            say("the budget is spent; the first question of all still gets its answer, for nothing");
            return Ok(());
        }
        bail!("{agreement} was not refused for want of budget");
    }
    bail!("the budget never ended")
}

/// The recipient finds its own customers among the list's pseudonyms.
pub(super) fn identify(shell: &Shell, ending: &str) -> Result<()> {
    let ids = format!("data/brand/campaigns.{ending}");
    let list = "out/activation/nonredeemers-r1.csv";
    shell.run(&["identify", list, "--ids", &ids, "--column", "household_id", "--out", "out/activation/ours.csv"])?;
    shell.run(&["show", "out/activation/ours.csv", "--rows", "5"])
}

/// What the noise has done to the answer, against a count that another program makes of the same files.
pub(super) fn compare_with_exact(root: &Path, shell: &Shell, ending: &str) -> Result<()> {
    let venv = root.join(".cache/duckdb");
    if let Err(error) = tools::python(&venv, &[DUCKDB], &[]) {
        say(&format!("the exact numbers are not shown: {error:#}"));
        return Ok(());
    }
    let status = Command::new(venv.join("bin/python"))
        .args(["-c", include_str!("exact.py"), ending, "out/reports/reach-r1.parquet"])
        .current_dir(&shell.room)
        .status()
        .context("python does not start")?;
    if status.success() { Ok(()) } else { bail!("the comparison ended with {status}") }
}
