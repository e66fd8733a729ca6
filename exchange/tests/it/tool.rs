//! Runs programs, and what the one under test printed.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// What the program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program under test.
pub(crate) fn exchange(arguments: &[&str]) -> Ran {
    exchange_with(arguments, &[])
}

/// Runs the program under test with these variables.
pub(crate) fn exchange_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glovebox-exchange"));
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    /// The object that was printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// It ended so, with a fact and a hint, and the same in JSON if that was asked for.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, code: &str) -> &Self {
        assert_eq!(self.code, exit, "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{self:?}");
        assert!(lines[0].starts_with(&format!("{code}: ")), "{self:?}");
        assert!(lines[1].starts_with("hint: "), "{self:?}");
        if !self.stdout.is_empty() {
            let object: Value = serde_json::from_str(&self.stdout).unwrap();
            assert_eq!((object["ok"].as_bool(), object["code"].as_str()), (Some(false), Some(code)), "{self:?}");
        }
        self
    }
}

/// Runs another program, which must end well.
#[track_caller]
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
