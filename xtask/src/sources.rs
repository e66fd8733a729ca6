//! Builds the reader of sources and the keeper of ledgers on servers, puts them beside `glovebox`, and installs the
//! programs that their tests use: those that write tables, and PostgreSQL.
//!
//! They are a workspace of their own, so its build knows nothing of the program that starts them; where one looks for
//! the others is beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::interop::tools;

/// The names of the programs.
const PROGRAMS: [&str; 2] = ["glovebox-source", "glovebox-store"];

/// Delta's own writer, and Arrow's reader.
const PYTHON: [&str; 2] = ["deltalake==1.6.6", "pyarrow==26.0.1"];

/// Where they are built.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join("target/sources")
}

/// Afterwards they lie beside `glovebox`, Python in `target/sources/venv`, and Debian's PostgreSQL where Debian puts it.
pub(crate) fn build(root: &Path) -> Result<()> {
    let target = target(root);
    cargo(&root.join("sources"), &["build", "--workspace", "--quiet", "--locked"], &[("CARGO_TARGET_DIR", &target)])?;
    let programs = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    for name in PROGRAMS {
        install(&target.join("debug").join(name), &programs.join("debug").join(name))?;
    }
    tools::package("postgresql", Path::new("/usr/lib/postgresql"))?;
    tools::python(&target.join("venv"), &PYTHON, &[])
}

/// Under its name the program is there whole at any time: tests of another process may start it just now.
fn install(from: &Path, to: &Path) -> Result<()> {
    let built = fs::read(from).with_context(|| format!("cargo wrote no {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == built) {
        return Ok(());
    }
    let temporary = to.with_extension(std::process::id().to_string());
    fs::copy(from, &temporary).with_context(|| format!("{} cannot be written", temporary.display()))?;
    fs::rename(&temporary, to).with_context(|| format!("{} cannot be written", to.display()))
}
