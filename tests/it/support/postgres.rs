//! Debian's PostgreSQL, over a temporary folder and behind a socket in it. It ends with its handle.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Of the role `owner`, to which all belongs, and of `agent`, which may read what it is granted.
pub(crate) const PASSWORD: &str = "secret-word";

pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// A server with an empty database `shop`.
    pub(crate) fn start() -> Self {
        Self::start_at(5432, "")
    }

    /// The same, with another port and lines of its configuration.
    pub(crate) fn start_at(port: u16, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The server is another user, where the test is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a folder for all");
        fs::write(folder.path().join("password"), PASSWORD).expect("a file");
        let server = Self { folder, port };
        let initdb = server
            .program("initdb")
            .args(["--no-sync", "--username=owner", "--auth=scram-sha-256"])
            .arg("--encoding=UTF8")
            .arg("--locale=C.UTF-8")
            .arg("--pwfile")
            .arg(server.folder().join("password"))
            .arg("-D")
            .arg(server.data())
            .output();
        succeeded(&initdb.expect("PostgreSQL is installed"));
        let settings = format!(
            "listen_addresses = ''\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n{settings}\n",
            server.folder().display()
        );
        fs::write(server.folder().join("settings"), settings).expect("a file");
        server.run();
        server.sql_in("postgres", &format!("CREATE DATABASE shop; CREATE ROLE agent LOGIN PASSWORD '{PASSWORD}'"));
        server
    }

    /// Where its socket is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Runs it, with what is in the file `settings` by now.
    pub(crate) fn run(&self) {
        let settings = format!("-c config_file={}", self.folder().join("settings").display());
        let mut pg_ctl = self.program("pg_ctl");
        pg_ctl.args(["start", "--wait", "--silent", "-o", &settings, "-D"]).arg(self.data());
        // A server that had the test's pipe would keep it open.
        let started = pg_ctl.arg("-l").arg(self.folder().join("log")).stdout(Stdio::null()).status();
        assert!(
            started.expect("PostgreSQL is installed").success(),
            "{:?}",
            fs::read_to_string(self.folder().join("log"))
        );
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn stop(&self) {
        let stopped =
            self.program("pg_ctl").args(["stop", "--silent", "--mode=immediate", "-D"]).arg(self.data()).output();
        succeeded(&stopped.expect("PostgreSQL is installed"));
    }

    /// What statements answer, as their owner, without decoration.
    #[track_caller]
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.sql_in("shop", statements)
    }

    #[track_caller]
    fn sql_in(&self, database: &str, statements: &str) -> String {
        let output = self.psql(database, statements);
        succeeded(&output);
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends statements one by one, as a person would.
    pub(crate) fn psql(&self, database: &str, statements: &str) -> Output {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database, "-h"]).arg(self.folder());
        psql.env("PGPASSWORD", PASSWORD)
            .env("PGPORT", self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut psql = psql.spawn().expect("PostgreSQL is installed");
        writeln!(psql.stdin.take().expect("a pipe"), "{statements};").expect("it listens");
        psql.wait_with_output().expect("it ends")
    }

    /// A program of PostgreSQL's; it refuses to be root.
    fn program(&self, name: &str) -> Command {
        let path = programs().join(name);
        let is_root = fs::metadata("/proc/self").expect("a kernel").uid() == 0;
        let mut command = if is_root { Command::new("setpriv") } else { Command::new(&path) };
        if is_root {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(path);
        }
        command.current_dir(self.folder());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").args(["stop", "--silent", "--mode=immediate", "-D"]).arg(self.data()).output();
    }
}

/// The folder of the newest version that Debian installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Debian's package `postgresql` is installed");
    let versions = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().expect("a version of PostgreSQL");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
