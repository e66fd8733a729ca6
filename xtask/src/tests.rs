//! `cargo xtask test`: every test of the project, with what they need built first.

use std::path::Path;

use anyhow::Result;

use crate::cargo::cargo;
use crate::{clients, guests, sources};

/// Builds the questions, then tests the questions on the host, what talks to networks, what reads sources, and the rest of the project.
pub(crate) fn test(root: &Path) -> Result<()> {
    guests::build(root, &root.join("target/questions"))?;
    clients::install(root)?;
    let questions = root.join("guest-examples");
    cargo(&questions, &["test", "--workspace", "--locked"], &[("CARGO_TARGET_DIR", &root.join("target/guest-host"))])?;
    let exchange = root.join("exchange");
    cargo(&exchange, &["test", "--locked"], &[("CARGO_TARGET_DIR", &root.join("target/exchange"))])?;
    sources::build(root)?;
    cargo(
        &root.join("sources"),
        &["test", "--workspace", "--locked"],
        &[("CARGO_TARGET_DIR", &sources::target(root))],
    )?;
    cargo(root, &["test", "--workspace", "--locked"], &[])
}
