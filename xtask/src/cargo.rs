//! Runs cargo in a folder, as a person would.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Inherits the terminal; fails where cargo does.
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
