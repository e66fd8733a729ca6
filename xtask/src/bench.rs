//! `cargo xtask bench`: builds with optimisation and measures; see `runtime/benches`.

use std::path::Path;

use anyhow::Result;

use crate::cargo::cargo;
use crate::guests;

/// Prints a table, or one JSON object.
pub(crate) fn bench(root: &Path, json: bool) -> Result<()> {
    let questions = root.join("target/questions");
    guests::build(root, &questions)?;
    eprintln!("building with optimisation (the first time takes a while)");
    let arguments = ["bench", "--quiet", "--package", "glovebox", "--bench", "glovebox", "--"];
    let options: &[&str] = if json { &["--json"] } else { &[] };
    cargo(root, &[&arguments, options].concat(), &[("GLOVEBOX_QUESTIONS", &questions)])
}
