//! Step 5: the whole result or none, where it was agreed, for its recipient's eyes only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use arrow::array::Array;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::ipc::reader::FileReader;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use glovebox::{Clock, Code, Step};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::postgres::{PASSWORD, Postgres};
use crate::support::forge::{EVIL, sha256};
use crate::support::{CONTROLS, Fixture, Ran, text};

/// Reads a released file as anyone could, without a line of ours.
fn read(room: &Fixture, output: &str) -> RecordBatch {
    let open = || fs::File::open(room.path(output)).unwrap();
    let mut reader: Box<dyn RecordBatchReader> = match output.rsplit_once('.').unwrap().1 {
        "parquet" => Box::new(ParquetRecordBatchReaderBuilder::try_new(open()).unwrap().build().unwrap()),
        "arrow" => Box::new(FileReader::try_new(open(), None).unwrap()),
        _ => {
            let (schema, _) = Format::default().with_header(true).infer_schema(open(), None).unwrap();
            Box::new(ReaderBuilder::new(schema.into()).with_header(true).build(open()).unwrap())
        }
    };
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    batch
}

#[test]
fn every_format_holds_the_same_table() {
    let room = Fixture::new();
    let shapes = ["reports", "sheets", "frames"].map(|destination| {
        let released = room.released(&room.agreed("reach", &["--destination", destination]));
        let table = read(&room, &released.output);
        let fields =
            table.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
        let keys = arrow::util::pretty::pretty_format_batches(&[table.project(&[0, 1]).unwrap()]).unwrap().to_string();
        assert_eq!(table.column(2).null_count(), table.column(4).null_count());
        (fields, table.num_rows(), keys)
    });
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(shapes[0], shapes[2]);
    let endings: Vec<_> = room.outputs().into_keys().map(|path| path.extension().unwrap().to_owned()).collect();
    assert_eq!(endings.len(), 6, "an output and an opening each: {endings:?}");
}

#[test]
fn results_openings_and_receipts_are_for_their_owner_alone() {
    let room = Fixture::new();
    let released = room.released(&room.agreed("evil", EVIL));
    let run = released.receipt.strip_suffix(".dsse.json").unwrap();
    for file in [
        &released.output,
        &format!("{}.opening.json", released.output),
        &released.receipt,
        &format!("{run}.certificate.dsse.json"),
        &format!("{run}.tlog-proof"),
        "log/checkpoint",
        "log/tile/entries/000.p/3",
    ] {
        let mode = fs::metadata(room.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o177, 0, "{file} has mode {mode:o}");
    }
    assert_eq!(room.outputs().len(), 2);
}

/// A result is never written over another, nor over anything else.
#[test]
fn a_destination_that_exists() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let released = room.released(&agreement);
    room.refused(&agreement, "DESTINATION_EXISTS", 6);

    room.take(&released);
    for path in [released.output.clone(), format!("{}.opening.json", released.output)] {
        let path = room.path(&path);
        for place in [
            |path: &std::path::Path| fs::write(path, "mine").unwrap(),
            |path: &std::path::Path| symlink("nowhere", path).unwrap(),
            |path: &std::path::Path| symlink("/dev/null", path).unwrap(),
        ] {
            place(&path);
            room.refused(&agreement, "DESTINATION_EXISTS", 6);
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        room.refused(&agreement, "DESTINATION_EXISTS", 6);
        fs::remove_dir(&path).unwrap();
    }
    room.released(&agreement);
}

/// A result whose opening cannot be put beside it could not be verified by anyone: it does not go out.
#[test]
fn a_result_without_its_opening() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let opening = room.path("out/reports/evil-r1.parquet.opening.json");
    let outcome = room.run_here(&agreement, Clock::System, &|step| {
        if step == Step::Privacy {
            fs::create_dir_all(&opening).unwrap();
        }
    });
    assert_eq!(outcome.result.unwrap_err().code(), Code::DestinationExists);
    let verified = room.verify(&outcome.receipt).unwrap();
    assert_eq!((verified.decision.as_str(), verified.code.as_deref()), ("refused", Some("DESTINATION_EXISTS")));
    assert!(room.outputs().is_empty());
    // It fails after the run was charged, and the receipt says so.
    assert_eq!(outcome.charges.len(), 1);
    assert_eq!(room.record(&outcome.receipt)["predicate"]["charges"].as_array().unwrap().len(), 1);
    assert_eq!(room.spent().values().copied().collect::<Vec<_>>(), [(10_000_000, 0)]);
}

#[test]
fn a_destination_folder_that_leads_out_of_the_room() {
    let elsewhere = tempfile::tempdir().unwrap();
    for link in ["out", "out/reports"] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        if link == "out/reports" {
            fs::create_dir(room.path("out")).unwrap();
        }
        symlink(elsewhere.path(), room.path(link)).unwrap();
        room.refused(&agreement, "DESTINATION_FAILED", 6);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{link}");
    }
}

#[test]
fn a_destination_folder_that_is_a_file() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    fs::create_dir(room.path("out")).unwrap();
    room.write("out/reports", b"");
    room.refused(&agreement, "DESTINATION_FAILED", 6);
}

/// What a killed run left behind does not stand in the way of the next, even where that has the same process id.
#[test]
fn leftovers_of_a_killed_run() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let script = "mkdir -p out/reports receipts
                  for name in out/reports/.evil-r1.parquet.$$ out/reports/.evil-r1.parquet.opening.json.$$; do
                    for try in '' -0 -1; do echo half > $name$try.tmp; done
                  done
                  exec \"$0\" run \"$1\" --state \"$2\" --json --threads 1";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_glovebox"), &agreement]);
    command.arg(room.state()).current_dir(room.root());
    Ran::of(command.output().unwrap()).succeeded();
    assert_eq!(room.outputs().len(), 6 + 2);
}

/// Three processes on one agreement: one result, with the opening that belongs to it.
#[test]
fn a_race_for_one_destination() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let start = |_| {
        let mut command = room.command();
        command.args(["run", &agreement, "--json", "--threads", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..3).map(start).collect();
    let ran: Vec<Ran> = running.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();
    let (released, refused): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.exit_code == 0);
    assert_eq!((released.len(), refused.len()), (1, 2), "{ran:?}");
    refused.iter().for_each(|ran| room.is_refused(ran, "DESTINATION_EXISTS", 6));
    assert_eq!(room.outputs().len(), 2);
    let receipt = text(&released[0].json()["receipt"]);
    assert_eq!(room.verify(&receipt).unwrap().decision, "released");
}

/// A file system of 64 KiB over the destination: full before the first byte of a result.
#[test]
fn a_full_disk() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    fs::create_dir_all(room.path("out/reports")).unwrap();
    let script = "mount -t tmpfs -o size=64k glovebox out/reports || exit 99
                  \"$0\" run \"$1\" --state \"$2\" --json --threads 1; code=$?
                  ls -A out/reports > listing; exit $code";
    let program = env!("CARGO_BIN_EXE_glovebox");
    let (outputs, spent) = (room.outputs(), room.spent());
    for unshare in [["--user", "--map-root-user", "--mount"].as_slice(), &["--mount"]] {
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", script, program, &agreement]);
        command.arg(room.state()).current_dir(room.root());
        let Ok(output) = command.output() else { continue };
        if output.status.code() == Some(99) || !room.path("listing").exists() {
            continue;
        }
        let ran = Ran::of(output);
        room.is_refused(&ran, "DESTINATION_FAILED", 6);
        assert_eq!(room.read_text("listing"), "", "something was left on the full disk");
        assert_eq!((room.outputs(), room.spent()), (outputs, spent));
        return;
    }
    println!("this kernel lets no one mount: the full disk is a limit on file sizes instead");
    file_size_limit(&room, &agreement);
}

#[test]
fn a_limit_on_file_sizes() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    file_size_limit(&room, &agreement);
}

/// Files may grow to 128 KiB: enough for the ledger and the receipt, too little for what a run wants to be free.
#[track_caller]
fn file_size_limit(room: &Fixture, agreement: &str) {
    let (outputs, spent) = (room.outputs(), room.spent());
    let script = "trap '' XFSZ; ulimit -f 256; exec \"$0\" run \"$1\" --state \"$2\" --json --threads 1";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_glovebox"), agreement]);
    command.arg(room.state()).current_dir(room.root());
    let ran = Ran::of(command.output().unwrap());
    room.is_refused(&ran, "DESTINATION_FAILED", 6);
    assert_eq!((room.outputs(), room.spent()), (outputs, spent));
}

/// A room whose reports are carried on into a table of the brand's.
fn with_table_of_the_brands() -> (Postgres, Fixture) {
    let room = Fixture::audited(CONTROLS);
    let server = Postgres::start();
    let place = "format = \"parquet\"\ndeliver = { connection = \"warehouse\", to = { table = \"public.reports\" } }\n";
    room.edit("room.toml", "format = \"parquet\"\n", place);
    let secret = room.state().join("password");
    let entry = format!(
        "[warehouse]\nowner = \"brand\"\nkind = \"postgres\"\n\
         options = {{ host = \"{}\", user = \"agent\", database = \"shop\" }}\n\
         secrets = {{ password = {{ file = \"{}\" }} }}\n",
        server.folder().display(),
        secret.display()
    );
    for (path, text) in [(secret, PASSWORD), (room.state().join("connections.toml"), &entry)] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    crate::sources::build_reader();
    (server, room)
}

/// A table for that result.
fn make_table(server: &Postgres, result: &RecordBatch) {
    let columns = result.schema().fields().iter().map(|field| format!("\"{}\" text", field.name())).collect::<Vec<_>>();
    server.sql(&format!(
        "CREATE TABLE reports ({}); GRANT INSERT ON reports TO agent; GRANT CREATE ON SCHEMA public TO agent",
        columns.join(", ")
    ));
}

#[test]
fn a_result_that_is_carried_on_is_there_once_and_paid_once() {
    let (server, room) = with_table_of_the_brands();
    let agreement = room.agreed("evil", EVIL);
    // There is no table yet: the result is released and stays in the room.
    let ran = room.run(&agreement);
    ran.failed("DESTINATION_FAILED", 6);
    let receipt = text(&ran.json()["receipt"]);
    let output = text(&room.record(&receipt)["predicate"]["released"]["output_path"]);
    let (result, spent) = (room.read(&output), room.spent());
    let deliver = || room.glovebox(&["deliver", &receipt, "--json"]);
    deliver().failed("DESTINATION_FAILED", 6);

    let table = read(&room, &output);
    make_table(&server, &table);
    assert_eq!(deliver().succeeded()["was_there"], false);
    assert_eq!(deliver().succeeded()["was_there"], true);
    assert_eq!(server.sql("SELECT count(*) FROM reports"), format!("{}\n", table.num_rows()));
    let note = format!("{} {}\n", text(&ran.json()["run_id"]), sha256(&result));
    assert_eq!(server.sql("SELECT run_id || ' ' || sha256 FROM glovebox_runs"), note);
    assert_eq!((room.read(&output), room.spent()), (result.clone(), spent));

    // What is carried is what the receipt commits to, and nothing else.
    room.write(&output, &[result.as_slice(), b" "].concat());
    deliver().failed("RECEIPT_INVALID", 3);
    fs::remove_file(room.path(&output)).unwrap();
    deliver().failed("DESTINATION_FAILED", 6);
}

#[test]
fn a_result_is_carried_to_its_recipients_own_place_alone() {
    let (_server, room) = with_table_of_the_brands();
    let agreement = room.agreed("evil", EVIL);
    let path = room.state().join("connections.toml");
    let honest = fs::read_to_string(&path).unwrap();
    for (from, to) in [("owner = \"brand\"", "owner = \"retailer\""), ("[warehouse]", "[other]")] {
        fs::write(&path, honest.replacen(from, to, 1)).unwrap();
        // Before it costs anything.
        room.refused(&agreement, "CONNECTION_INVALID", 2);
    }
    fs::write(&path, honest).unwrap();
    room.edit("room.toml", "public.reports", "public.others");
    room.refused(&agreement, "DESTINATION_CHANGED", 3);
}
