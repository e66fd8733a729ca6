//! The program, the writers of tables, and what an answer must look like.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use glovebox_source_protocol::{Hint, PIN, Pin, Place, READ, Read, Refusal, Request, RowsReader, schema};

/// Asks the program in a folder, with nothing in its environment but what is given.
pub(crate) fn ask(folder: &Path, task: &str, request: &Request, environment: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_glovebox-source"))
        .arg(task)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let request = serde_json::to_vec(request).expect("JSON");
    child.stdin.take().expect("a pipe").write_all(&request).expect("the program listens");
    child.wait_with_output().expect("the program ends")
}

/// A table, and how it is asked for.
pub(crate) struct Table {
    pub(crate) folder: PathBuf,
    pub(crate) place: Place,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
}

impl Table {
    /// A Delta table in a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.into(), place: Place::Delta, environment: Vec::new() }
    }

    pub(crate) fn output(&self, task: &str, version: Option<u64>, read: Option<Read>) -> Output {
        let request = Request { place: self.place.clone(), version, hold: false, read };
        ask(&self.folder, task, &request, &self.environment)
    }

    #[track_caller]
    pub(crate) fn pin(&self) -> Pin {
        let output = self.output(PIN, None, None);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
    }

    /// The rows of these columns, as texts in order.
    #[track_caller]
    pub(crate) fn rows(&self, pin: &Pin, columns: &[&str], hints: Vec<Hint>) -> Vec<String> {
        let read = wanted(pin, columns, hints);
        let columns: Vec<_> = read
            .columns
            .iter()
            .map(|name| pin.columns.iter().find(|column| column.name == *name).expect("a column").clone())
            .collect();
        let output = self.output(READ, None, Some(read));
        let rows = RowsReader::new(BufReader::new(output.stdout.as_slice()), schema(&columns)).expect("rows");
        let rows = rows.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let mut texts: Vec<String> = rows.flat_map(|batch| texts(&batch.expect("rows to their end"))).collect();
        assert!(output.status.success());
        texts.sort();
        texts
    }

    /// A task that is refused, with exit code 1 and one line of fact and remedy each.
    #[track_caller]
    pub(crate) fn refuses(&self, task: &str, read: Option<Read>, code: &str, fact: &str) {
        let output = self.output(task, None, read);
        let refusal: Refusal = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
        assert_eq!((refusal.code.as_str(), output.status.code()), (code, Some(1)), "{refusal:?}");
        assert!(refusal.fact.contains(fact), "{refusal:?}");
        for line in [&refusal.fact, &refusal.remedy] {
            assert!(!line.is_empty() && line.lines().count() == 1 && !line.contains("secret-word"), "{refusal:?}");
        }
    }
}

pub(crate) fn wanted(pin: &Pin, columns: &[&str], hints: Vec<Hint>) -> Read {
    Read { pin: pin.clone(), columns: columns.iter().map(|&name| name.into()).collect(), hints, snapshot: None }
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let cell = |column, row| array_value_to_string(batch.column(column), row).expect("a cell");
    let row = |row| (0..batch.num_columns()).map(|column| cell(column, row)).collect::<Vec<_>>().join(",");
    (0..batch.num_rows()).map(row).collect()
}

/// The checkout.
fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout")
}

/// Runs lines of Python with Delta's own writer; `table` is the folder of the table.
#[track_caller]
pub(crate) fn python(table: &Path, lines: &str) -> String {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let python = checkout().join("target/sources/venv/bin/python");
        if !python.exists() {
            let installed = Command::new(env!("CARGO")).args(["xtask", "sources"]).current_dir(checkout()).status();
            assert!(installed.expect("cargo starts").success(), "cargo xtask sources");
        }
        python
    });
    let before = include_str!("tables.py");
    // Done is done: now and then a thread of Arrow's aborts an interpreter that ends by itself.
    let script = format!("{before}\n{lines}\nimport os\nsys.stdout.flush()\nos._exit(0)");
    let output = Command::new(python).arg("-c").arg(script).arg(table).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A copy of a table that is checked in.
pub(crate) fn copy(name: &str, to: &Path) {
    fn copy_all(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_all(&entry.path(), &to)
            } else {
                fs::copy(entry.path(), to).expect("a copy");
            }
        }
    }
    copy_all(&checkout().join("sources/tests/it/tables").join(name), to);
}

/// The files below a table that hold rows, by path.
pub(crate) fn data_files(pin: &Pin) -> BTreeMap<&str, u64> {
    pin.files.iter().map(|file| (file.path.as_str(), file.size)).collect()
}
