//! `cargo xtask test`: every test of the project, with what they need built first.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests;

/// Builds the questions, then tests the questions on the host, the SDK, the runtime and these tasks.
pub(crate) fn test(root: &Path) -> Result<()> {
    guests::build(root, &root.join("target/questions"))?;
    let questions = root.join("guest-examples");
    cargo(&questions, &["test", "--workspace", "--locked"], &[("CARGO_TARGET_DIR", &root.join("target/guest-host"))])?;
    cargo(root, &["test", "--workspace", "--locked"], &[])
}

/// Runs cargo as a person would in that folder.
pub(crate) fn cargo(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).envs(environment.iter().copied());
    let status = command.status().context("cargo does not start")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
