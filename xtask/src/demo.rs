//! `cargo xtask demo`: two parties, their keys, two questions, end to end through the `glovebox` program.
//!
//! Everything it makes stands below `target/demo`; the data is kept in `.cache`. It calls the program as a user
//! would, so it can do nothing that a user cannot.

mod audit;
mod budget;
mod data;
mod refusals;
mod tables;

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;
use crate::guests;

/// Builds what is needed, then shows the whole story.
pub(crate) fn demo(repository: &Path) -> Result<()> {
    let root = repository;
    let glovebox = build_program(root)?;
    let questions = root.join("target/questions");
    guests::build(root, &questions)?;
    let data = data::fetch(root)?;

    heading("A room of two parties");
    let room = root.join("target/demo");
    lay_room(&room, &questions, &data)?;
    // A host that never was: its ledger would remember what earlier demonstrations spent.
    clear(&root.join(STATE))?;
    println!("data: {}\nroom: {}", data.name(), relative(root, &room.join("room.toml")).display());
    let shell = Shell { glovebox, room, state: root.join(STATE) };
    found_room(&shell)?;

    heading("An analytical question: who buys, by campaign type and income band");
    shell.agree_and_approve("reach-r1", &["questions/reach.wasm", "--destination", "brand-reports"])?;
    budget::quote_and_try(&shell, "agreements/reach-r1")?;
    let reach = shell.run_question("reach", "out/reports/reach-r1.parquet")?;

    heading("What the noise has done, against the exact numbers that only the host could know");
    budget::compare_with_exact(repository, &shell, data.ending())?;

    heading("A list question: who got a campaign, buys soft drinks, and did not redeem");
    let list = [
        ["questions/nonredeemers.wasm", "--bind", "purchases=categories", "--bind", "campaigns=received"].as_slice(),
        &["--set", "category=SOFT DRINKS", "--set", "heavy_from=12", "--destination", "brand-activation"],
    ]
    .concat();
    shell.agree_and_approve("nonredeemers-r1", &list)?;
    let nonredeemers = shell.run_question("nonredeemers", "out/activation/nonredeemers-r1.csv")?;

    heading("Its recipient finds its own customers in it");
    budget::identify(&shell, data.ending())?;

    heading("The same question again: the same answer, for nothing");
    budget::repeat(&shell)?;

    heading("What it cost");
    shell.run(&["ledger", "show"])?;

    heading("Both receipts, verified offline");
    shell.run(&["verify", &reach])?;
    shell.run(&["verify", &nonredeemers])?;

    heading("Verified and replayed in a second folder, from published files");
    audit::verify_elsewhere(&shell, &reach)?;
    audit::replay_elsewhere(&shell, &reach)?;

    heading("Four swaps under valid approvals: all refused");
    refusals::swaps(&shell)?;

    heading("Withdrawn while it runs: nothing comes out");
    refusals::revoke_during_a_run(&shell, &list)?;

    heading("A budget ends");
    budget::exhaust(&shell)?;
    shell.run(&["ledger", "show"])?;

    heading("The room's memory");
    shell.run(&["log", "verify"])?;

    tables::show(repository, &shell.glovebox, &questions, &data)
}

/// Keys for everyone, the registry that both parties sign, and a host that trusts it.
fn found_room(shell: &Shell) -> Result<()> {
    for (party, person) in [("retailer", "ana"), ("brand", "dan")] {
        shell.run(&["key", "new", "--party", party, "--person", person])?;
    }
    shell.run(&["key", "new", "--party", "retailer", "--service", "host"])?;
    shell.run(&["key", "auditor"])?;
    for key in ["keys/retailer.ana.pem", "keys/brand.dan.pem"] {
        shell.run(&["registry", "sign", "--key", key])?;
    }
    let root = audit::sha256_of(&shell.room.join("registry/1/registry.json"))?;
    shell.run(&["state", "trust", &root])
}

/// The program as a user has it, in the profile that tests use as well.
fn build_program(root: &Path) -> Result<PathBuf> {
    say("building glovebox (the first time takes a while: it brings its own SQL engine and compiler)");
    // The whole workspace, so that features unify as they do for the tests and nothing is built twice.
    cargo(root, &["build", "--workspace"], &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/glovebox"))
}

fn lay_room(room: &Path, questions: &Path, data: &data::Data) -> Result<()> {
    clear(room)?;
    for folder in ["questions", "data/retailer", "data/brand"] {
        fs::create_dir_all(room.join(folder))?;
    }
    for question in ["reach", "nonredeemers"] {
        for ending in ["wasm", "toml"] {
            let file = format!("{question}.{ending}");
            fs::copy(questions.join(&file), room.join("questions").join(&file))?;
        }
    }
    for (party, tables) in data::TABLES {
        for table in *tables {
            let file = format!("{table}.{}", data.ending());
            fs::copy(data.folder().join(&file), room.join("data").join(party).join(&file))
                .with_context(|| format!("the data set has no {file}"))?;
        }
    }
    fs::write(room.join("room.toml"), include_str!("demo/room.toml").replace("ENDING", data.ending()))?;
    Ok(())
}

fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("clearing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Where a host's state lies, beside the room and not in it.
pub(crate) const STATE: &str = "target/demo-state";

/// Runs the program in the room and shows each command before its output.
struct Shell {
    glovebox: PathBuf,
    room: PathBuf,
    /// What the host remembers of the room, outside of it.
    state: PathBuf,
}

impl Shell {
    fn command(&self, arguments: &[&str]) -> Command {
        println!("\n$ glovebox {}", shown(arguments));
        let mut command = Command::new(&self.glovebox);
        command.current_dir(&self.room).args(arguments).env("XDG_STATE_HOME", &self.state);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self.command(arguments).status().context("glovebox does not start")?;
        if !status.success() {
            bail!("glovebox {} ended with {status}", shown(arguments));
        }
        Ok(())
    }

    fn agree_and_approve(&self, agreement: &str, arguments: &[&str]) -> Result<()> {
        self.run(&[&["agree"], arguments].concat())?;
        let agreement = format!("agreements/{agreement}");
        self.run(&["approve", &agreement, "--key", "keys/retailer.ana.pem"])?;
        self.run(&["approve", &agreement, "--key", "keys/brand.dan.pem"])
    }

    /// Runs, shows the result, and gives the receipt's path.
    fn run_question(&self, question: &str, output: &str) -> Result<String> {
        self.run(&["run", &format!("agreements/{question}-r1")])?;
        self.run(&["show", output, "--rows", "20"])?;
        newest(&self.room.join("receipts"))
    }
}

fn newest(receipts: &Path) -> Result<String> {
    let mut newest = None;
    for entry in fs::read_dir(receipts)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Certificates, proofs and sealed parts lie beside the receipts.
        if name.strip_suffix(".dsse.json").is_none_or(|run| run.contains('.')) {
            continue;
        }
        newest = newest.max(Some((entry.metadata()?.modified()?, entry.file_name())));
    }
    let (_, name) = newest.context("no receipt was written")?;
    Ok(format!("receipts/{}", name.to_string_lossy()))
}

fn shown(arguments: &[&str]) -> String {
    let quoted =
        |argument: &&str| if argument.contains(' ') { format!("'{argument}'") } else { (*argument).to_owned() };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn heading(text: &str) {
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        println!("\n== {text}");
    }
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn relative<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}
