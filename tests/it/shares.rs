//! A run over a table that another company shares: the real server, and the reader that comes with `glovebox`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{floats, ints, write_parquet};
use crate::support::forge::EVIL;
use crate::support::{CONTROLS, Fixture, Released, checkout, text};

const FILE: &str = "data/retailer/households.parquet";
const SHARED: &str = "data/panel/households.parquet";

const ROOM: &str = "version = 1\nid = \"panel\"\nunit = \"household\"\n[[party]]\nid = \"panel\"\n\
    [[view]]\nid = \"households\"\nowner = \"panel\"\nunit = \"household_id\"\n\
    sources = { t = \"data/panel/households.parquet\" }\nsql = \"SELECT * FROM t\"\n";

/// A company that is no party of the room, and the server of its shares. It ends with its handle.
struct Provider {
    folder: TempDir,
    server: Child,
}

impl Provider {
    /// Shares the rows of a room's file, and takes the file from the room: a connection leads to its rows.
    fn of(room: &Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("room/data/panel")).unwrap();
        fs::rename(room.path(FILE), folder.path().join("room").join(SHARED)).unwrap();
        fs::write(folder.path().join("room/room.toml"), ROOM).unwrap();
        let shares = |endpoint: &str| {
            let text = format!(
                "version = 1\nparty = \"panel\"\nendpoint = \"{endpoint}\"\nrows_per_file = 20\n[[share]]\nname = \"weekly\"\n\
                 [[share.schema]]\nname = \"people\"\n[[share.schema.view]]\nname = \"households\"\n\
                 view = \"households\"\nrecipients = [\"retailer\"]\n"
            );
            private(&folder.path().join("shares.toml"), &text);
        };
        shares("http://127.0.0.1:1");
        let mut server = program(&folder);
        server.args(["serve", "--room", "room", "--shares", "shares.toml", "--state", "state"]);
        let mut server = server.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
        let endpoint = said.into_iter().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        shares(&endpoint.expect("the server listens"));
        let provider = Self { folder, server };
        provider.admit();
        room.edit("room.toml", FILE, "panel:weekly.people.households");
        let profile = provider.folder.path().join("retailer.share");
        let entry = format!(
            "[panel]\nowner = \"retailer\"\nkind = \"delta-sharing\"\nsecrets = {{ profile = {{ file = \"{}\" }} }}\n",
            profile.display()
        );
        private(&room.state().join("connections.toml"), &entry);
        provider
    }

    /// Gives the recipient a token, in a profile file.
    fn admit(&self) {
        let made = program(&self.folder)
            .args(["recipient", "new", "retailer", "--days", "30", "--shares", "shares.toml"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("room").join(SHARED)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program of another member of the workspace, which cargo need not have built for this test.
fn program(folder: &TempDir) -> Command {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let arguments = ["build", "--quiet", "--workspace", "--locked", "--bin", "glovebox-share"];
        let built = Command::new(env!("CARGO")).args(arguments).current_dir(checkout()).output().expect("cargo starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    });
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_glovebox")).with_file_name("glovebox-share"));
    command.current_dir(folder.path());
    command
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn source(room: &Fixture, run: &Released) -> Value {
    room.sealed(&run.receipt)["sources"][0].clone()
}

fn units(room: &Fixture, run: &Released) -> Value {
    room.sealed(&run.receipt)["figures"]["units"].clone()
}

#[track_caller]
fn replays(room: &Fixture, run: &Released) {
    let replayed = room.glovebox(&["replay", &run.receipt, "--identity", "keys/auditor.txt", "--json"]);
    let commitment = &run.record["predicate"]["released"]["output_commitment"];
    assert_eq!(&replayed.succeeded()["output_commitment"], commitment);
}

#[test]
fn a_run_over_a_shared_table_is_that_over_its_rows() {
    let other = Fixture::audited(CONTROLS);
    let from_file = other.released(&other.agreed("evil", EVIL));

    let room = Fixture::audited(CONTROLS);
    let provider = Provider::of(&room);
    let [agreement, later, ..] = &room.four_evil_agreements()[..] else { panic!("four agreements") };
    let run = room.released(agreement);
    assert_eq!(source(&room, &run)["source"], "panel:weekly.people.households");
    assert!(units(&room, &run).is_number());
    assert_eq!(units(&room, &run), units(&other, &from_file));
    replays(&room, &run);

    // Other rows are another version, and the earlier one is there for a replay.
    let ids: Vec<i64> = (1..=40).collect();
    let values = floats(ids.iter().map(|_| 1.0));
    let new = provider.file().with_extension("new");
    write_parquet(&new, &[("household_id", ints(ids)), ("value", values)]);
    fs::rename(new, provider.file()).unwrap();
    let anew = room.released(later);
    let version = |run| source(&room, run)["version"].as_u64().expect("a version");
    assert_eq!(version(&anew), version(&run) + 1);
    assert_eq!(units(&room, &anew), 40);
    replays(&room, &anew);
    replays(&room, &run);
}

#[test]
fn what_is_not_shared_any_more_is_refused_for_free() {
    let room = Fixture::audited(CONTROLS);
    let provider = Provider::of(&room);
    let agreement = room.agreed("evil", EVIL);
    let shares = provider.folder.path().join("shares.toml");
    let honest = fs::read_to_string(&shares).unwrap();
    private(&shares, &honest.replace("recipients = [\"retailer\"]", "recipients = []"));
    let refused = room.refused(&agreement, "VIEW_UNREADABLE", 3);
    assert!(text(&refused.json()["fact"]).contains("404 Not Found"), "{refused:?}");
    private(&shares, &honest);
    fs::set_permissions(provider.folder.path().join("retailer.share"), fs::Permissions::from_mode(0o644)).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
    fs::set_permissions(provider.folder.path().join("retailer.share"), fs::Permissions::from_mode(0o600)).unwrap();
    room.released(&agreement);
}
