//! What an auditor does with files alone, in a folder that is not the room.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Shell, say};

/// What the parties publish: whom they trust, what they signed, what they withdrew, what ran, and where it is logged.
const PUBLISHED: [&str; 6] = ["registry", "agreements", "revocations", "questions", "receipts", "log"];

/// What an auditor of the data holds besides.
const ENTRUSTED: [&str; 3] = ["room.toml", "data", "keys/auditor.txt"];

/// The same verdict from the published files, with the root of trust told by the parties.
pub(super) fn verify_elsewhere(shell: &Shell, receipt: &str) -> Result<()> {
    let auditor = clear(shell)?;
    PUBLISHED.iter().try_for_each(|name| copy(&shell.room.join(name), &auditor.room.join(name)))?;
    let root = sha256_of(&shell.room.join("registry/1/registry.json"))?;
    auditor.run(&["verify", receipt, "--root", &root])
}

/// Whoever holds the data and the auditor's identity as well runs it again, to the same commitment.
pub(super) fn replay_elsewhere(shell: &Shell, receipt: &str) -> Result<()> {
    let auditor = auditor_of(shell);
    ENTRUSTED.iter().try_for_each(|name| copy(&shell.room.join(name), &auditor.room.join(name)))?;
    auditor.run(&["replay", receipt, "--identity", "keys/auditor.txt"])
}

fn auditor_of(shell: &Shell) -> Shell {
    let beside = |name: &str| shell.room.with_file_name(name);
    Shell { glovebox: shell.glovebox.clone(), room: beside("demo-auditor"), state: beside("demo-auditor-state") }
}

fn clear(shell: &Shell) -> Result<Shell> {
    let auditor = auditor_of(shell);
    match fs::remove_dir_all(&auditor.room) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("clearing the auditor's");
        }
        _ => fs::create_dir_all(&auditor.room)?,
    }
    say("an auditor's folder: target/demo-auditor");
    Ok(auditor)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().map_or_else(PathBuf::new, Path::to_path_buf))?;
        return fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()));
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

pub(super) fn sha256_of(path: &Path) -> Result<String> {
    use sha2::Digest;
    Ok(data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(fs::read(path)?)))
}
