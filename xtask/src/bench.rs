//! `cargo xtask bench`: builds with optimisation and measures; see `runtime/benches`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::guests;
use crate::interop::tools;

/// The engine that whole runs over generated data are compared with.
const PYTHON: [&str; 1] = ["duckdb==2.0.0"];

/// What of the data of TPC-H and TPC-DS is measured.
pub(crate) struct Data {
    /// The smaller of two scale factors; the other is ten times as much.
    pub(crate) scale: f64,
    /// Instead of all else: a run over ten times as much as this memory, in MiB.
    pub(crate) memory: Option<u32>,
}

/// Prints a table, or one JSON object.
pub(crate) fn bench(root: &Path, json: bool, data: Option<&Data>) -> Result<()> {
    let questions = root.join("target/questions");
    guests::build(root, &questions)?;
    let mut arguments: Vec<String> = Vec::new();
    let folder = root.join("target/bench");
    if let Some(data) = data {
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        tools::python(&folder.join("venv"), &PYTHON, &[])?;
        arguments.extend(["--data".into(), format!("--scale={}", data.scale)]);
        arguments.extend(data.memory.map(|memory| format!("--memory={memory}")));
    }
    if json {
        arguments.push("--json".into());
    }
    eprintln!("building with optimisation (the first time takes a while)");
    let bench = ["bench", "--quiet", "--package", "glovebox", "--bench", "glovebox", "--"];
    let options: Vec<&str> = bench.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    cargo(root, &options, &[("GLOVEBOX_QUESTIONS", &questions), ("GLOVEBOX_BENCH", &folder)])
}
