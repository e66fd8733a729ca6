//! A PostgreSQL server of Debian's package, in a folder and on a socket of its own, which ends with the test that began it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Serves until its input ends, however whoever writes that ends, and leaves nothing.
const SCRIPT: &str = r#"
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1/initdb" --pgdata "$folder/data" --username glovebox --encoding UTF8 --locale C --no-sync >/dev/null
printf 'local all glovebox trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n' \
    > "$folder/data/pg_hba.conf"
printf "listen_addresses = ''\nport = %s\nunix_socket_directories = '%s'\n" "$2" "$folder" >> "$folder/data/postgresql.conf"
port=$2
serve() {
    "$1/postgres" -D "$folder/data" >"$folder/log" 2>&1 &
    server=$!
    until "$1/pg_isready" --quiet --host "$folder" --port "$port" --username glovebox; do
        kill -0 "$server"
        sleep 0.05
    done
}
serve "$1"
echo "$folder"
while read -r task; do
    case "$task" in
        stop) kill -QUIT "$server"; wait "$server" || true ;;
        start) serve "$1" ;;
    esac
    echo "$task"
done
kill -QUIT "$server" && wait "$server" || true
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: PathBuf,
    port: u16,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        // A server refuses to be root's.
        let mut command = if fs::metadata("/proc/self").expect("a process").uid() == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        // One that is free now.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        command.args(["-c", SCRIPT, "sh"]).arg(programs()).arg(port.to_string()).current_dir("/").env_clear();
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        let input = child.stdin.take().expect("a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut folder = String::new();
        output.read_line(&mut folder).expect("a line");
        assert!(!folder.is_empty(), "the server does not start");
        Self { folder: folder.trim_end().into(), port, pipes: Mutex::new((input, output)), _child: child }
    }

    /// The server of all tests of this process that leave it as it is.
    pub(crate) fn shared() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// Ends the server as a power loss would, or starts it again: `stop` or `start`.
    pub(crate) fn tell(&self, task: &str) {
        let (input, output) = &mut *self.pipes.lock().expect("the pipes");
        writeln!(input, "{task}").expect("the script listens");
        let mut told = String::new();
        output.read_line(&mut told).expect("a line");
        assert_eq!(told.trim_end(), task, "the server's script has ended");
    }

    /// A new and empty database.
    pub(crate) fn database(&self) -> Database<'_> {
        self.copy_of("template1")
    }

    fn copy_of(&self, template: &str) -> Database<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("ledger{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        Database { server: self, name }
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new(programs().join("psql"));
        command.args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "--username", "glovebox", "--command", sql]);
        command.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string(), "--dbname", database]);
        let ran = command.env("PGOPTIONS", "-c search_path=glovebox").output().expect("psql starts");
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("text").trim_end().to_owned()
    }
}

/// A database of a server.
#[derive(Debug)]
pub(crate) struct Database<'a> {
    server: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// Where it is, as the server's owner names it.
    pub(crate) fn place(&self) -> String {
        self.place_of("glovebox")
    }

    pub(crate) fn place_of(&self, user: &str) -> String {
        format!("postgres://{user}@/{}?host={}&port={}", self.name, self.server.folder.display(), self.server.port)
    }

    /// The same over a network.
    pub(crate) fn place_at(&self, user: &str, host: &str) -> String {
        format!("postgres://{user}@{host}:{}/{}", self.server.port, self.name)
    }

    /// What a statement gives, in lines.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }

    /// What a backup of it would bring back.
    pub(crate) fn copy(&self) -> Self {
        self.server.copy_of(&self.name)
    }
}

/// Where Debian puts the newest of its servers.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<_> =
            versions.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
        found.sort();
        found.pop().expect("apt-get install postgresql")
    })
}

/// The keeper of ledgers, built from the present tree.
pub(crate) fn keeper() -> &'static Path {
    static KEEPER: OnceLock<PathBuf> = OnceLock::new();
    KEEPER.get_or_init(|| {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout");
        let arguments = ["run", "--quiet", "--package", "xtask", "--", "sources"];
        let built = Command::new(env!("CARGO")).args(arguments).current_dir(checkout).output().expect("cargo starts");
        assert!(built.status.success(), "cargo xtask sources: {}", String::from_utf8_lossy(&built.stderr));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from);
        target.join("debug/glovebox-store")
    })
}

/// Writes what the operator says of the server into the folder of a host's state.
pub(crate) fn write_settings(state: &Path, settings: &str) {
    let mut file = fs::OpenOptions::new();
    let file = file.create(true).truncate(true).write(true).mode(0o600).open(state.join("store.toml"));
    file.and_then(|mut file| file.write_all(settings.as_bytes())).expect("written");
}
