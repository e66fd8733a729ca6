//! A room with one view worth sharing, and the real program that shares it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

const ROOM: &str = r#"
version = 1
id = "grocery"
unit = "household"

[[party]]
id = "retailer"

[[view]]
id = "visits"
owner = "retailer"
unit = "household_id"
sources = { visits = "data/retailer/visits.parquet" }
sql = "SELECT visit, household_id, store, spent, day, at FROM visits WHERE spent <= 60"
"#;

const SHARES: &str = r#"
version = 1
party = "retailer"
endpoint = "http://127.0.0.1:1"
rows_per_file = 200

[[share]]
name = "Weekly"
[[share.schema]]
name = "Sales"
[[share.schema.view]]
name = "Visits"
view = "visits"
recipients = ["brand"]

[[share]]
name = "empty-handed"
[[share.schema]]
name = "Sales"
[[share.schema.view]]
name = "visits"
recipients = ["agency"]
"#;

/// The line of the program that has its address.
const LISTENING: &str = "listening on ";

/// A room, and a server of it that ends with it.
pub(crate) struct Sharing {
    folder: TempDir,
    server: Option<Child>,
    pub(crate) endpoint: String,
    /// What the program said before it served.
    pub(crate) said: String,
}

impl Sharing {
    /// A server of a room with so many visits, and recipients `brand` and `agency`.
    pub(crate) fn new(visits: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("room/data/retailer")).unwrap();
        fs::write(folder.path().join("room/room.toml"), ROOM).unwrap();
        let mut sharing = Self { folder, server: None, endpoint: String::new(), said: String::new() };
        sharing.put_visits(visits);
        sharing.write_shares(SHARES);
        sharing.start();
        // What is in it is read anew for each request.
        sharing.write_shares(&SHARES.replace("http://127.0.0.1:1", &sharing.endpoint));
        for name in ["brand", "agency"] {
            let made = sharing.program(&["recipient", "new", name, "--days", "30"]);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        sharing
    }

    fn start(&mut self) {
        let mut command = self.command();
        command.args(["serve", "--room", "room", "--shares", "shares.toml", "--state", "state"]);
        let mut server = command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        for line in BufReader::new(server.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(endpoint) = line.strip_prefix(LISTENING) {
                self.endpoint = endpoint.to_owned();
                break;
            }
            self.said += &format!("{line}\n");
        }
        self.server = Some(server);
        assert!(!self.endpoint.is_empty(), "the server does not listen");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glovebox-share"));
        command.current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end, in the folder that has `room` and `shares.toml`.
    pub(crate) fn program(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).args(["--shares", "shares.toml"]).output().unwrap()
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    /// The host and port of the server.
    pub(crate) fn address(&self) -> &str {
        self.endpoint.strip_prefix("http://").unwrap()
    }

    /// Where the profile of a recipient is.
    pub(crate) fn profile(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.share"))
    }

    pub(crate) fn token(&self, name: &str) -> String {
        let profile: Value = serde_json::from_slice(&fs::read(self.profile(name)).unwrap()).unwrap();
        profile["bearerToken"].as_str().unwrap().to_owned()
    }

    fn write_shares(&self, text: &str) {
        write_private(&self.path("shares.toml"), text);
    }

    /// Replaces the data, as an owner should.
    pub(crate) fn put_visits(&self, visits: i64) {
        let folder = self.path("room/data/retailer");
        let all: Vec<Visit> = (0..visits).map(Visit::of).collect();
        let columns: [(&str, ArrayRef); 6] = [
            ("visit", Arc::new(Int64Array::from_iter_values(all.iter().map(|visit| visit.visit)))),
            ("household_id", Arc::new(Int64Array::from_iter_values(all.iter().map(|visit| visit.household)))),
            ("store", Arc::new(StringArray::from_iter(all.iter().map(|visit| visit.store)))),
            ("spent", Arc::new(Float64Array::from_iter_values(all.iter().map(|visit| visit.spent)))),
            ("day", Arc::new(Date32Array::from_iter_values(all.iter().map(|visit| visit.day)))),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(all.iter().map(|visit| visit.at)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = fs::File::create(folder.join("new")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        fs::rename(folder.join("new"), folder.join("visits.parquet")).unwrap();
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A row of the source.
struct Visit {
    visit: i64,
    household: i64,
    store: Option<&'static str>,
    spent: f64,
    /// Since 1970.
    day: i32,
    /// Microseconds since 1970.
    at: i64,
}

impl Visit {
    fn of(visit: i64) -> Self {
        let day = 20_000 + i32::try_from(visit % 300).unwrap();
        Self {
            visit,
            household: visit % 97,
            store: [None, Some("north"), Some("Süd \"2\""), Some("")][usize::try_from(visit % 4).unwrap()],
            spent: ((visit * 37) % 9_000) as f64 / 100.0,
            day,
            at: i64::from(day) * 86_400_000_000 + visit,
        }
    }
}

/// The rows of the view over so many visits, in order, as JSON.
pub(crate) fn expected(visits: i64) -> Vec<Value> {
    let rows = (0..visits).map(Visit::of).filter(|visit| visit.spent <= 60.0);
    rows.map(|row| json!([row.visit, row.household, row.store, row.spent, row.day, row.at])).collect()
}
