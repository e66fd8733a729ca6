//! The golden numbers of the privacy kernel, computed anew by the implementations that they come from.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::interop::tools;

const FOLDER: &str = "runtime/src/privacy/golden";

/// Says where the numbers of the tree and those of the oracles differ. Versions are those that the numbers name.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let ours = root.join(FOLDER).join("golden.json");
    let expected = fs::read_to_string(&ours).with_context(|| format!("{} cannot be read", ours.display()))?;
    let packages = packages(&expected).context("golden.json does not say which versions made it")?;
    let work = root.join("target/audit");
    fs::create_dir_all(&work)?;
    tools::python(&work.join("venv"), &packages.iter().map(String::as_str).collect::<Vec<_>>(), &[])?;
    let made = work.join("golden.json");
    let mut python = Command::new(work.join("venv/bin/python"));
    python.arg(root.join(FOLDER).join("make.py")).arg(&made);
    tools::quietly(&mut python, "look at make.py beside golden.json")?;
    let found = fs::read_to_string(&made)?;
    println!("{} lines of numbers from {}", expected.lines().count(), packages.join(", "));
    Ok(first_difference(&expected, &found).into_iter().collect())
}

/// `NAME==VERSION` of everything in the line of versions.
fn packages(golden: &str) -> Option<Vec<String>> {
    let line = golden.lines().find_map(|line| line.strip_prefix("\"versions\": {"))?;
    let pairs = line.trim_end_matches(',').trim_end_matches('}').split(", ");
    let package = |pair: &str| {
        let pair = pair.replace('"', "");
        pair.split_once(": ").map(|(name, version)| format!("{name}=={version}"))
    };
    pairs.map(package).collect()
}

fn first_difference(expected: &str, found: &str) -> Option<String> {
    let mut lines = expected.lines().zip(found.lines()).enumerate();
    let differs = lines.find(|(_, (expected, found))| expected != found);
    if let Some((at, (expected, found))) = differs {
        return Some(format!("golden.json, line {}: {expected}\nthe oracles say: {found}", at + 1));
    }
    let (expected, found) = (expected.lines().count(), found.lines().count());
    (expected != found).then(|| format!("golden.json has {expected} lines, and the oracles make {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_that_the_numbers_name() {
        let golden = include_str!("../../../runtime/src/privacy/golden/golden.json");
        let packages = packages(golden).expect("a line of versions");
        assert_eq!(packages[..2], ["dp-accounting==0.6.0", "opendp==0.16.0"]);
        assert!(packages.iter().all(|package| package.contains("==")), "{packages:?}");
    }

    #[test]
    fn any_difference_is_seen() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert!(first_difference("a\nb\n", "a\nc\n").is_some_and(|why| why.contains("line 2")));
        assert!(first_difference("a\nb\n", "a\n").is_some());
    }
}
