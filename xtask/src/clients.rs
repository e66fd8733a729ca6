//! `cargo xtask clients`: the official client of the Delta Sharing protocol, for the tests of `sharing`.
//!
//! Its version is fixed, so that a verdict changes only where we change it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::interop::tools;

const PYTHON: [&str; 1] = ["delta-sharing==1.4.2"];

/// Afterwards `target/sharing/venv` has the client.
pub(crate) fn install(root: &Path) -> Result<()> {
    let folder = root.join("target/sharing");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    tools::python(&folder.join("venv"), &PYTHON, &[])
}
