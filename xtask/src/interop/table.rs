//! Runs a command as it is printed and holds its verdict against the expected one.
//!
//! A verdict is the exit code together with words that must be in the output: many programs end with 1 for a bad
//! signature and for a missing file alike. It never stops at the first difference.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cases::state_of;

/// Every check so far.
pub(super) struct Table {
    work: PathBuf,
    /// With our program in front.
    path: OsString,
    rows: Vec<Row>,
}

struct Row {
    tool: String,
    case: String,
    command: String,
    expected: Expected,
    found: Option<i32>,
    ok: bool,
}

#[derive(Clone, Copy)]
enum Expected {
    Exit(i32),
    AnyRefusal,
}

impl Table {
    pub(super) fn new(work: &Path, programs: &Path) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(programs.to_owned()).chain(env::split_paths(&path)))?;
        Ok(Self { work: work.to_owned(), path, rows: Vec::new() })
    }

    pub(super) fn accepts(&mut self, folder: &str, case: &str, tool: &str, command: &str, says: &str) -> Result<()> {
        self.add(folder, case, tool, command, Expected::Exit(0), says)
    }

    pub(super) fn exits(
        &mut self,
        folder: &str,
        case: &str,
        tool: &str,
        command: &str,
        code: i32,
        says: &str,
    ) -> Result<()> {
        self.add(folder, case, tool, command, Expected::Exit(code), says)
    }

    /// For a program that has more than one code for a refusal.
    pub(super) fn refuses(&mut self, folder: &str, case: &str, tool: &str, command: &str, says: &str) -> Result<()> {
        self.add(folder, case, tool, command, Expected::AnyRefusal, says)
    }

    fn add(
        &mut self,
        folder: &str,
        case: &str,
        tool: &str,
        command: &str,
        expected: Expected,
        says: &str,
    ) -> Result<()> {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.work.join(folder))
            .env("PATH", &self.path)
            .env("XDG_STATE_HOME", state_of(&self.work.join(folder)))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("no shell runs in {folder}"))?;
        let found = output.status.code();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let ok = expected.is(found) && said.contains(says);
        println!("\ntarget/interop/{folder}$ {command}\n{}", said.trim_end());
        if !ok {
            println!("DIFFERS: expected {} and the words {says:?}, found exit code {found:?}", expected.shown());
        }
        self.rows.push(Row { tool: tool.into(), case: case.into(), command: command.into(), expected, found, ok });
        Ok(())
    }

    /// Prints the table; fails where any verdict differs.
    pub(super) fn finish(&self) -> Result<()> {
        println!("\n{:<16} {:<12} {:>8} {:>5}  {:<3} command", "tool", "case", "expected", "exit", "ok");
        for Row { tool, case, command, expected, found, ok } in &self.rows {
            let found = found.map_or_else(|| "none".into(), |code| code.to_string());
            let ok = if *ok { "yes" } else { "NO" };
            println!("{tool:<16} {case:<12} {:>8} {found:>5}  {ok:<3} {command}", expected.shown());
        }
        let differing = self.rows.iter().filter(|row| !row.ok).count();
        println!("\n{} verdicts agree, {differing} differ", self.rows.len() - differing);
        if differing > 0 {
            bail!("{differing} verdicts are not what they must be; each says DIFFERS above");
        }
        Ok(())
    }
}

impl Expected {
    fn is(self, found: Option<i32>) -> bool {
        match self {
            Self::Exit(code) => found == Some(code),
            // The shell's own codes: the program is missing, or cannot be run.
            Self::AnyRefusal => found.is_some_and(|code| code != 0 && code != 126 && code != 127),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Exit(code) => code.to_string(),
            Self::AnyRefusal => "not 0".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_agrees_with_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut table = Table::new(folder.path(), folder.path()).expect("a path");
        table.refuses(".", "missing", "none", "no-program-has-this-name", "").expect("the shell runs");
        assert!(table.finish().is_err());
    }

    #[test]
    fn the_right_code_for_the_wrong_reason_differs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut table = Table::new(folder.path(), folder.path()).expect("a path");
        table.exits(".", "right", "sh", "echo refused; exit 1", 1, "refused").expect("the shell runs");
        assert!(table.finish().is_ok());
        table.exits(".", "wrong", "sh", "echo crashed; exit 1", 1, "refused").expect("the shell runs");
        assert!(table.finish().is_err());
    }
}
