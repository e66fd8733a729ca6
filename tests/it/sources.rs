//! Sources that another process reads: Delta tables in the room, and tables behind connections of the host. How each is
//! read is tested beside the reader; here is what a run makes of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use glovebox::{Clock, Step};
use serde_json::Value;

use crate::postgres::{PASSWORD, Postgres};
use crate::support::forge::{EVIL, sha256};
use crate::support::{CONTROLS, Fixture, Ran, Released, checkout, text};

const FILE: &str = "data/retailer/households.parquet";
const TABLE: &str = "data/retailer/households";

/// Python with Delta's own writer, once the reader lies beside `glovebox`.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let arguments = ["run", "--quiet", "--package", "xtask", "--", "sources"];
        let built = Command::new(env!("CARGO")).args(arguments).current_dir(checkout()).output().expect("cargo starts");
        assert!(built.status.success(), "cargo xtask sources: {}", String::from_utf8_lossy(&built.stderr));
        checkout().join("target/sources/venv/bin/python")
    })
}

/// Puts the reader beside `glovebox`.
pub(crate) fn build_reader() {
    python();
}

#[track_caller]
fn write(room: &Fixture, lines: &str) {
    let before = "import sys, pyarrow as pa, pyarrow.parquet\nfrom deltalake import DeltaTable, write_deltalake\n\
                  table, file = sys.argv[1:]";
    // Done is done: now and then a thread of Arrow's aborts an interpreter that ends by itself.
    let lines = format!("{before}\n{lines}\nimport os\nos._exit(0)");
    let output = Command::new(python()).args(["-c", &lines]).args([room.path(TABLE), room.path(FILE)]).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A room whose households are a Delta table, in two versions: half of the file's rows, and then the others.
fn with_table() -> Fixture {
    let room = Fixture::audited(CONTROLS);
    let halves = "rows = pa.parquet.read_table(file)\nhalf = rows.num_rows // 2\n\
                  write_deltalake(table, rows.slice(0, half))\n\
                  write_deltalake(table, rows.slice(half), mode='append')";
    write(&room, halves);
    room.edit("room.toml", FILE, &format!("delta:{TABLE}"));
    room
}

fn replay(room: &Fixture, run: &Released) -> Ran {
    room.glovebox(&["replay", &run.receipt, "--identity", "keys/auditor.txt", "--json"])
}

#[track_caller]
fn replays(room: &Fixture, run: &Released) {
    let commitment = &run.record["predicate"]["released"]["output_commitment"];
    assert!(commitment.is_string(), "{}", run.record);
    assert_eq!(&replay(room, run).succeeded()["output_commitment"], commitment);
}

/// The sources that a run sealed to the auditor.
fn sources(room: &Fixture, run: &Released) -> Value {
    room.sealed(&run.receipt)["sources"].clone()
}

#[test]
fn a_run_over_a_delta_table_is_that_over_its_rows() {
    let room = with_table();
    let agreement = room.agreed("evil", EVIL);
    let run = room.released(&agreement);
    let found = sources(&room, &run);
    let [source] = found.as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((source["source"].as_str(), &source["version"]), (Some("delta:data/retailer/households"), &1.into()));
    replays(&room, &run);
    // The process of a group reads the table through a reader of its own.
    let in_groups = ["replay", &run.receipt, "--identity", "keys/auditor.txt", "--groups", "2", "--json"];
    let replayed = room.glovebox(&in_groups).succeeded();
    assert_eq!(replayed["output_commitment"], run.record["predicate"]["released"]["output_commitment"]);

    // The pin is the reader's own line, and its digest is the source's.
    let reader = PathBuf::from(env!("CARGO_BIN_EXE_glovebox")).with_file_name("glovebox-source");
    let asked = format!("echo '{{\"place\":\"delta\"}}' | {} pin", reader.display());
    let pin = Command::new("sh").args(["-c", &asked]).current_dir(room.path(TABLE)).output().unwrap();
    assert_eq!(source["sha256"], sha256(pin.stdout.strip_suffix(b"\n").expect("a line")));

    // The same rows from a file: the same exact figures.
    let other = Fixture::audited(CONTROLS);
    let from_file = other.released(&other.agreed("evil", EVIL));
    let figures = |room: &Fixture, run: &Released| room.sealed(&run.receipt)["figures"]["units"].clone();
    assert!(figures(&room, &run).is_number());
    assert_eq!(figures(&room, &run), figures(&other, &from_file));
}

/// Equal pins are equal data: the answer is recalled. A new version is other data, and no version is forgotten.
#[test]
fn versions_of_a_table_are_different_data() {
    let room = with_table();
    let [agreement, again, later, ..] = &room.four_evil_agreements()[..] else { panic!("four agreements") };
    let first = room.released(agreement);
    let asked = room.released(again);
    room.take(&asked);
    let repeat = room.released(again);
    assert_eq!(repeat.record["predicate"]["repeat_of"], asked.json["run_id"]);
    room.take(&repeat);

    write(&room, "DeltaTable(table).delete('household_id = 1')");
    let anew = room.released(again);
    assert_eq!(anew.record["predicate"]["repeat_of"], Value::Null);
    let second = room.released(later);
    assert_ne!(sources(&room, &first)[0]["sha256"], sources(&room, &second)[0]["sha256"]);
    assert_eq!(sources(&room, &second)[0]["version"], 2);
    // The auditor replays each over the version that it read, while that is there.
    replays(&room, &first);
    replays(&room, &second);
    write(&room, "DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)");
    replay(&room, &first).failed("VIEW_UNREADABLE", 3);
    replays(&room, &second);
}

#[test]
fn a_table_that_is_not_whole_is_refused_for_free() {
    let room = with_table();
    let agreement = room.agreed("evil", EVIL);
    let log = room.path(&format!("{TABLE}/_delta_log/00000000000000000000.json"));
    fs::rename(&log, room.path("aside")).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
    room.not_agreed("evil", EVIL, "VIEW_UNREADABLE", 3);
    fs::rename(room.path("aside"), &log).unwrap();

    let files = fs::read_dir(room.path(TABLE)).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.is_file()).expect("a file with rows");
    fs::rename(&file, room.path("aside")).unwrap();
    let refused = room.refused(&agreement, "VIEW_UNREADABLE", 3);
    assert!(refused.stderr.contains("is not there (SOURCE_UNREADABLE)"), "{refused:?}");
    fs::rename(room.path("aside"), &file).unwrap();
    room.released(&agreement);
}

#[test]
fn a_table_that_is_not_its_owners() {
    let room = with_table();
    let agreement = room.agreed("evil", EVIL);
    for path in ["delta:data/brand/households", "delta:../households", "delta:", "delta:data/retailer/../brand"] {
        let room = with_table();
        room.edit("room.toml", &format!("delta:{TABLE}"), path);
        room.not_agreed("evil", EVIL, "ROOM_INVALID", 2);
    }
    // The same table, behind a symlink.
    fs::rename(room.path(TABLE), room.path("data/brand/households")).unwrap();
    symlink(room.path("data/brand/households"), room.path(TABLE)).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}

/// A room whose households are behind a connection, which a stranger's program reads.
fn with_stranger(lie: &str) -> Fixture {
    let room = Fixture::audited(CONTROLS);
    let rows = "rows = pa.parquet.read_table(file).to_pydict()\n\
                open(table + '.txt', 'w').writelines(f'{id},{value}\\n' for id, value in \
                zip(rows['household_id'], rows['value']))";
    write(&room, rows);
    let program = room.path("reader");
    let script = include_str!("support/stranger.py");
    fs::write(&program, format!("#!{}\n{script}", python().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    room.edit("room.toml", FILE, "shop:households");
    connections(&room, &format!("program = \"{}\"", program.display()), lie);
    room
}

fn connections(room: &Fixture, program: &str, lie: &str) {
    let file = room.path(&format!("{TABLE}.txt"));
    let entry = format!(
        "[shop]\nowner = \"retailer\"\nkind = \"numbers\"\n{program}\n\
         options = {{ file = \"{}\", lie = \"{lie}\" }}\nsecrets = {{ password = {{ environment = \"SHOP_PASSWORD\" }} }}\n",
        file.display()
    );
    let path = room.state().join("connections.toml");
    fs::write(&path, entry).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Between the pin and the reading, when it is paid for: what is gone by then is no smaller table.
#[test]
fn a_table_that_vanishes_while_the_run_begins() {
    let room = with_stranger("");
    let agreement = room.agreed("evil", EVIL);
    // This process has no such variable.
    let path = room.state().join("connections.toml");
    let entry = fs::read_to_string(&path).unwrap();
    fs::write(&path, entry.lines().filter(|line| !line.starts_with("secrets")).collect::<Vec<_>>().join("\n")).unwrap();
    let vanish = |step| {
        if step == Step::Provision {
            fs::remove_file(room.path(&format!("{TABLE}.txt"))).unwrap();
        }
    };
    let outcome = room.run_here(&agreement, Clock::System, &vanish);
    assert_eq!(outcome.result.expect_err("there are no rows").code().to_string(), "WITHHELD");
    assert!(!outcome.charges.is_empty());
    room.is_caused_by(&outcome.receipt, "VIEW_UNREADABLE");
}

/// Its program gets the secret that its connection names, and nothing else of the environment.
#[test]
fn a_reader_of_a_strangers() {
    let room = with_stranger("");
    let agreement = room.agreed("evil", EVIL);
    let in_groups = room.glovebox(&["run", &agreement, "--groups", "2", "--json"]);
    room.is_refused(&in_groups, "USAGE", 2);
    assert_eq!(in_groups.json()["charges"], serde_json::json!([]));
    let run = room.released(&agreement);
    let found = sources(&room, &run);
    assert_eq!((found[0]["source"].as_str(), found[0].get("version")), (Some("shop:households"), None));
    replays(&room, &run);
    let other = Fixture::audited(CONTROLS);
    let from_file = other.released(&other.agreed("evil", EVIL));
    let figures = |room: &Fixture, run: &Released| room.sealed(&run.receipt)["figures"]["units"].clone();
    assert_eq!(figures(&room, &run), figures(&other, &from_file));
}

#[test]
fn a_reader_that_breaks_its_word() {
    let room = with_stranger("");
    let agreement = room.agreed("evil", EVIL);
    let program = format!("program = \"{}\"", room.path("reader").display());
    for lie in ["refuse", "nonsense", "fail"] {
        connections(&room, &program, lie);
        room.refused(&agreement, "VIEW_UNREADABLE", 3);
    }
    for lie in ["columns", "stop", "end", "count", "exit"] {
        connections(&room, &program, lie);
        room.withheld(&agreement, "VIEW_UNREADABLE");
    }
    connections(&room, "program = \"/nonexistent\"", "");
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}

#[test]
fn connections_that_a_view_may_not_use() {
    let room = with_stranger("");
    let agreement = room.agreed("evil", EVIL);
    let path = room.state().join("connections.toml");
    let honest = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("owner = \"retailer\"", "owner = \"brand\""),
        ("[shop]", "[other]"),
        ("kind = ", "colour = 1\nkind = "),
        ("[shop]", "[shop"),
    ] {
        fs::write(&path, honest.replacen(from, to, 1)).unwrap();
        room.refused(&agreement, "CONNECTION_INVALID", 2);
        room.not_agreed("evil", EVIL, "CONNECTION_INVALID", 2);
    }
    fs::write(&path, &honest).unwrap();
    for mode in [0o640, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = room.refused(&agreement, "CONNECTION_INVALID", 2);
        assert!(text(&refused.json()["fact"]).contains("can be read by others"), "{refused:?}");
    }
    fs::remove_file(&path).unwrap();
    room.refused(&agreement, "CONNECTION_INVALID", 2);
}

/// A room whose households are a table of PostgreSQL.
fn with_postgres() -> (Postgres, Fixture) {
    let room = Fixture::audited(CONTROLS);
    let rows = "import pyarrow.csv\nrows = pa.parquet.read_table(file).select(['household_id', 'value'])\n\
                pa.csv.write_csv(rows, table + '.csv', pa.csv.WriteOptions(include_header=False))";
    write(&room, rows);
    let server = Postgres::start();
    server.sql(&format!(
        "CREATE TABLE households (household_id int8 NOT NULL, value float8 NOT NULL);\n\
         \\copy households FROM '{}' CSV\nGRANT SELECT ON households TO agent",
        room.path(&format!("{TABLE}.csv")).display()
    ));
    room.edit("room.toml", FILE, "shop:public.households");
    let secret = room.state().join("password");
    let entry = format!(
        "[shop]\nowner = \"retailer\"\nkind = \"postgres\"\nprogram = \"{}\"\n\
         options = {{ host = \"{}\", user = \"agent\", database = \"shop\" }}\n\
         secrets = {{ password = {{ file = \"{}\" }} }}\n",
        PathBuf::from(env!("CARGO_BIN_EXE_glovebox")).with_file_name("glovebox-source").display(),
        server.folder().display(),
        secret.display()
    );
    for (path, text) in [(secret, PASSWORD), (room.state().join("connections.toml"), &entry)] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    (server, room)
}

/// Whoever read for a run is gone with it.
fn nobody_reads(server: &Postgres) {
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent'") != "0\n" {}
}

#[test]
fn a_run_over_a_table_of_postgresql_is_that_over_its_rows() {
    let (server, room) = with_postgres();
    let [agreement, again, later, ..] = &room.four_evil_agreements()[..] else { panic!("four agreements") };
    let run = room.released(agreement);
    nobody_reads(&server);
    let found = sources(&room, &run);
    assert_eq!((found[0]["source"].as_str(), found[0].get("version")), (Some("shop:public.households"), None));
    replays(&room, &run);
    let other = Fixture::audited(CONTROLS);
    let from_file = other.released(&other.agreed("evil", EVIL));
    let figures = |room: &Fixture, run: &Released| room.sealed(&run.receipt)["figures"]["units"].clone();
    assert_eq!(figures(&room, &run), figures(&other, &from_file));

    // Equal rows are equal data, wherever they lie in the table; other rows are other data, and no replay takes them.
    let asked = room.released(again);
    room.take(&asked);
    server.sql("UPDATE households SET value = value WHERE household_id < 100");
    let repeat = room.released(again);
    assert_eq!(repeat.record["predicate"]["repeat_of"], asked.json["run_id"]);
    room.take(&repeat);
    server.sql("DELETE FROM households WHERE household_id = 1");
    replay(&room, &run).failed("NOT_REPLAYABLE", 3);
    let anew = room.released(later);
    assert_eq!(anew.record["predicate"]["repeat_of"], Value::Null);
    assert_ne!(sources(&room, &anew)[0]["sha256"], found[0]["sha256"]);
}

/// Between the pin and the reading, when it is paid for.
#[test]
fn a_table_of_postgresql_that_is_written_to_while_the_run_begins() {
    let (server, room) = with_postgres();
    let [agreement, again, ..] = &room.four_evil_agreements()[..] else { panic!("four agreements") };
    let at_step = |statements: &'static str| {
        let server = &server;
        move |step| {
            if step == Step::Provision {
                server.sql(statements);
            }
        }
    };
    let written = room.run_here(agreement, Clock::System, &at_step("DELETE FROM households"));
    assert!(written.result.is_ok(), "{written:?}");
    let figures = room.sealed(&written.receipt)["figures"]["units"].clone();
    let other = Fixture::audited(CONTROLS);
    let from_file = other.released(&other.agreed("evil", EVIL));
    assert_eq!(figures, other.sealed(&from_file.receipt)["figures"]["units"]);

    // A state that the server does not keep is no table at all.
    server.sql("INSERT INTO households VALUES (1, 1)");
    let ended = at_step("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'agent'");
    let ended = room.run_here(again, Clock::System, &ended);
    assert_eq!(ended.result.expect_err("there are no rows").code().to_string(), "WITHHELD");
    room.is_caused_by(&ended.receipt, "VIEW_UNREADABLE");
}

#[test]
fn a_table_of_postgresql_that_is_not_what_was_agreed() {
    let (server, room) = with_postgres();
    let agreement = room.agreed("evil", EVIL);
    server.sql("ALTER TABLE households ALTER value TYPE text");
    room.refused(&agreement, "VIEW_CHANGED", 3);
    server.sql("ALTER TABLE households DROP value; ALTER TABLE households ADD value numeric");
    room.refused(&agreement, "VIEW_INVALID", 3);
    server.sql("DROP TABLE households");
    let refused = room.refused(&agreement, "VIEW_UNREADABLE", 3);
    assert!(refused.stderr.contains("no such table (SOURCE_UNREADABLE)"), "{refused:?}");
    server.stop();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}
