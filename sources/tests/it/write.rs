//! Results that are put into their places: once for each run, whoever is killed meanwhile.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use data_encoding::HEXLOWER;
use glovebox_source_protocol::{Connection, Refusal, Target, WRITE, Write, Written};
use sha2::{Digest, Sha256};

use crate::postgres::connection;
use crate::server::{SECRET, Server};
use crate::server_of_postgres::Postgres;
use crate::support::python;

const RESULT: &str = "import pyarrow.parquet\n\
    rows = pa.table({'store': ['a\\tb\\\\', 'c\\nd', None, ''], 'units': pa.array([30, 20, 10, 5], pa.int64()), \
    'spent': [0.1, -1e300, None, 2.5]})\n\
    pyarrow.parquet.write_table(rows, table + '.parquet')";

/// A result in Parquet, as a file that others can read.
fn result() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    python(&folder.path().join("result"), RESULT);
    fs::read(folder.path().join("result.parquet")).expect("a file")
}

fn asked(connection: Connection, to: Target, run: u32, result: &[u8]) -> Write {
    Write {
        connection,
        to,
        run_id: format!("{run:032x}"),
        format: "parquet".into(),
        sha256: HEXLOWER.encode(&Sha256::digest(result)),
        opening: "{\"salt\":\"00\"}".into(),
    }
}

fn start(asked: &Write, result: &[u8]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_glovebox-source"))
        .arg(WRITE)
        .env_clear()
        .env("SHOP_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let input = [serde_json::to_vec(asked).expect("JSON").as_slice(), b"\n", result].concat();
    child.stdin.take().expect("a pipe").write_all(&input).expect("the program listens");
    child
}

fn output(asked: &Write, result: &[u8]) -> Output {
    start(asked, result).wait_with_output().expect("the program ends")
}

#[track_caller]
fn writes(asked: &Write, result: &[u8], was_there: bool) {
    let output = output(asked, result);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert_eq!(serde_json::from_str::<Written>(&told).expect("an answer"), Written { was_there });
}

#[track_caller]
fn refuses(asked: &Write, result: &[u8], code: &str, fact: &str) {
    let output = output(asked, result);
    let refusal: Refusal = serde_json::from_slice(&output.stdout).expect("a refusal");
    assert_eq!((refusal.code.as_str(), output.status.code()), (code, Some(1)), "{refusal:?}");
    assert!(refusal.fact.contains(fact) && !refusal.fact.contains(SECRET), "{refusal:?}");
}

#[test]
fn an_object_is_created_and_never_replaced() {
    let (server, result) = (Server::start(), result());
    let asked = asked(server.connection(), Target::Folder("results".into()), 1, &result);
    let path = server.path(&format!("results/{}.parquet", asked.run_id));
    let opening = path.with_extension("parquet.opening.json");
    writes(&asked, &result, false);
    assert_eq!(
        (fs::read(&path).unwrap(), fs::read_to_string(&opening).unwrap()),
        (result.clone(), asked.opening.clone())
    );
    writes(&asked, &result, true);
    // What was written half way is finished.
    fs::remove_file(&path).unwrap();
    writes(&asked, &result, false);
    for there in [&path, &opening] {
        let honest = fs::read(there).unwrap();
        fs::write(there, "something else").unwrap();
        refuses(&asked, &result, "RESULT_DIFFERS", "holds something else");
        assert_eq!(fs::read_to_string(there).unwrap(), "something else");
        fs::write(there, honest).unwrap();
    }
    let other = Write { sha256: "00".into(), ..asked.clone() };
    refuses(&other, &result, "REQUEST_INVALID", "announced");
    let mut nobody = asked;
    nobody.connection.options.insert("access_key_id".into(), "nobody".into());
    refuses(&nobody, &result, "TARGET_UNWRITABLE", "");
}

/// Rows of each run in a table, in the order of runs' ids, as Delta's own library counts them.
fn in_delta(server: &Server) -> String {
    let count = "rows = DeltaTable(table).to_pyarrow_table()\nprint(rows.num_rows, rows['units'].to_pylist()[:4])";
    python(&server.path("reach"), count)
}

#[test]
fn a_delta_table_takes_each_run_once() {
    let (server, result) = (Server::start(), result());
    let table = server.path("reach");
    python(&table, "write_deltalake(table, pa.table({'spent': [1.0], 'units': [7], 'store': ['x']}))");
    let run = |run| asked(server.connection(), Target::Table("reach".into()), run, &result);
    writes(&run(1), &result, false);
    writes(&run(1), &result, true);
    assert!(in_delta(&server).starts_with("5 "), "{}", in_delta(&server));
    let exact = "rows = DeltaTable(table).to_pyarrow_table().filter(pa.compute.field('units') != 7)\n\
                 print(rows['store'].to_pylist() == ['a\\tb\\\\', 'c\\nd', None, ''], rows['spent'].to_pylist())";
    let exact = exact.replacen("rows =", "import pyarrow.compute\nrows =", 1);
    assert_eq!(python(&table, &exact), "True [0.1, -1e+300, None, 2.5]\n");
    let note = "print(DeltaTable(table).transaction_version('glovebox:' + '1'.zfill(32)))";
    assert_eq!(python(&table, note), "1\n");

    // At the same time: another commit was faster, and the same run has one winner.
    let together: Vec<_> = [2, 2, 3, 3].map(|number| start(&run(number), &result)).into();
    let were_there = together.into_iter().map(|child| {
        let output = child.wait_with_output().expect("it ends");
        serde_json::from_slice::<Written>(&output.stdout).expect("it was written").was_there
    });
    assert_eq!(were_there.filter(|was_there| *was_there).count(), 2);
    assert!(in_delta(&server).starts_with("13 "), "{}", in_delta(&server));

    // Killed at any step, and asked again.
    for (number, milliseconds) in (10..18).zip((0_u64..).step_by(12)) {
        let mut killed = start(&run(number), &result);
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = killed.kill();
        killed.wait().expect("it ends");
        assert!(output(&run(number), &result).status.success());
    }
    assert!(in_delta(&server).starts_with("45 "), "{}", in_delta(&server));

    python(&server.path("other"), "write_deltalake(table, pa.table({'units': [7], 'store': ['x']}))");
    let other = asked(server.connection(), Target::Table("other".into()), 1, &result);
    refuses(&other, &result, "REQUEST_INVALID", "columns");
    let forgets = "write_deltalake(table, pa.table({'spent': [1.0], 'units': [7], 'store': ['x']}), \
                   configuration={'delta.setTransactionRetentionDuration': 'interval 1 days'})";
    python(&server.path("forgets"), forgets);
    let forgets = asked(server.connection(), Target::Table("forgets".into()), 1, &result);
    refuses(&forgets, &result, "REQUEST_INVALID", "forgets");
    let nothing = asked(server.connection(), Target::Table("nothing".into()), 1, &result);
    refuses(&nothing, &result, "TARGET_UNWRITABLE", "");
}

#[test]
fn a_table_of_postgresql_takes_each_run_once() {
    let (server, result) = (Postgres::start(), result());
    server.sql(
        "CREATE SCHEMA reports; CREATE TABLE reports.reach (spent float8, units int8, store text); \
         GRANT USAGE, CREATE ON SCHEMA reports TO agent; GRANT INSERT ON reports.reach TO agent",
    );
    let run = |run| asked(connection(&server), Target::Table("reports.reach".into()), run, &result);
    let count = || server.sql("SELECT count(*) FROM reports.reach").trim().parse::<u32>().unwrap();
    writes(&run(1), &result, false);
    writes(&run(1), &result, true);
    assert_eq!(count(), 4);
    let exact = "SELECT count(*) FROM reports.reach WHERE (store, units, spent) IN ((E'a\\tb\\\\', 30, 0.1), \
                 (E'c\\nd', 20, -1e300), ('', 5, 2.5)) OR (store IS NULL AND units = 10 AND spent IS NULL)";
    assert_eq!(server.sql(exact), "4\n");
    let other = [result.as_slice(), b" "].concat();
    let other = Write { sha256: HEXLOWER.encode(&Sha256::digest(&other)), ..run(1) };
    refuses(&other, &[result.as_slice(), b" "].concat(), "REQUEST_INVALID", "readable");
    server.sql("UPDATE reports.glovebox_runs SET sha256 = 'another'");
    refuses(&run(1), &result, "RESULT_DIFFERS", "holds something else");

    let together: Vec<_> = [2, 2, 3, 3].map(|number| start(&run(number), &result)).into();
    together.into_iter().for_each(|child| assert!(child.wait_with_output().expect("it ends").status.success()));
    assert_eq!(count(), 12);
    for (number, milliseconds) in (10..22).zip((0_u64..).step_by(4)) {
        let mut killed = start(&run(number), &result);
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = killed.kill();
        killed.wait().expect("it ends");
        assert!(output(&run(number), &result).status.success());
    }
    assert_eq!(count(), 60);

    // Whatever fails leaves neither rows nor a note.
    server.sql("ALTER TABLE reports.reach ADD CHECK (units > 5) NOT VALID");
    refuses(&run(30), &result, "TARGET_UNWRITABLE", "SQLSTATE 23514");
    server.sql("ALTER TABLE reports.reach DROP spent");
    refuses(&run(30), &result, "TARGET_UNWRITABLE", "SQLSTATE 42703");
    assert_eq!((count(), server.sql("SELECT count(*) FROM reports.glovebox_runs").as_str()), (60, "15\n"));
    server.stop();
    refuses(&run(30), &result, "TARGET_UNWRITABLE", "does not answer");
    let folder = asked(connection(&server), Target::Folder("reports".into()), 1, &result);
    refuses(&folder, &result, "REQUEST_INVALID", "no folders");
}
