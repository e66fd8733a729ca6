//! `cargo xtask interop`: programs that others wrote judge the demo's approvals, receipts and log, and must agree with us.
//!
//! Each command runs as it is printed, below `target/interop`, on a copy of the demo's room: what is honest must pass,
//! and what was changed, forged or taken away must be refused for the right reason. It never counts a program that is
//! missing as a program that agrees.

mod approvals;
mod cases;
mod log;
mod table;
mod timestamps;
pub(crate) mod tools;
mod witness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;
use crate::demo;
use cases::Person;
use table::Table;

/// The agreement that all of this is about, as a folder of the room.
const AGREEMENT: &str = "agreements/reach-r1";

/// Installs what is missing, runs every check and prints them as a table.
pub(crate) fn interop(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let room = root.join("target/demo");
    cargo(root, &["build", "--workspace"], &[])?;
    if !is_newer(&room.join("log/checkpoint"), &target.join("debug/glovebox")) {
        demo::demo(root)?;
    }
    check(&target.join("debug"), &room, &root.join("target/interop"))
}

/// A room that another build has made may be in another format.
fn is_newer(made: &Path, program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified(made).is_some_and(|made| modified(program).is_some_and(|program| made > program))
}

/// Judges a room with the `glovebox` of the folder `programs`.
fn check(programs: &Path, room: &Path, work: &Path) -> Result<()> {
    tools::install(work)?;
    cases::clear(work)?;
    let copy = work.join("room");
    cases::copy_room(room, &copy)?;
    make_owner(work)?;

    let mut table = Table::new(work, programs)?;
    ours_on_honest(&mut table, &copy)?;
    let people = cases::export(&mut table, work, "room", "honest")?;
    approvals::honest(&mut table, &people)?;
    cases::tamper(work, &people)?;
    approvals::tampered(&mut table, &people)?;
    timestamps::check(&mut table, work, &people)?;
    log::check(&mut table, work, &people)?;
    table.finish()
}

/// The key of whoever vouches for the in-toto layout, made by openssl as an auditor would.
fn make_owner(work: &Path) -> Result<()> {
    let owner = work.join("owner.key");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(owner).status();
    if !made.context("openssl does not run")?.success() {
        bail!("openssl makes no key");
    }
    Ok(())
}

/// Our own verdict on the agreement as all parties signed it: its run is released.
fn ours_on_honest(table: &mut Table, room: &Path) -> Result<()> {
    // The room has this result already, and no result is overwritten.
    let reports = room.join("out/reports");
    fs::remove_dir_all(&reports).with_context(|| format!("{} cannot be cleared", reports.display()))?;
    fs::create_dir(&reports)?;
    table.accepts("room", "honest", "glovebox", &format!("glovebox run {AGREEMENT} --json"), "\"ok\":true")
}

/// Our own verdicts on what was done to the agreement. Each refusal is logged, so the log grows.
fn ours_on_tampered(table: &mut Table, work: &Path, room: &str, people: &[Person]) -> Result<()> {
    for case in cases::TAMPERED {
        let held = cases::lay_into_room(work, room, case, people)?;
        table.exits(room, case, "glovebox", &format!("glovebox run {AGREEMENT} --json"), 3, "\"ok\":false")?;
        held.put_back()?;
    }
    Ok(())
}

/// A file's text, or which file it was that could not be read.
fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// What stands in a command line unquoted.
fn require_plain(name: &str) -> Result<()> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        bail!("{name:?} is not a name that a shell leaves alone");
    }
    Ok(())
}
