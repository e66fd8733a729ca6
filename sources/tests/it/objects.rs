//! Tables in an object store, against a server that checks signatures.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use glovebox_source_protocol::{ColumnType, DESCRIBE, PIN, Place, READ, Secret};

use crate::server::{SECRET, Server};
use crate::support::{Table, python, wanted};

const WRITE: &str = "import pyarrow.parquet, pyarrow.csv, pyarrow.ipc\n\
                     rows = households(0, 10, 'de').select(['household_id', 'spent', 'name'])\n\
                     pyarrow.parquet.write_table(rows, table + '.parquet')\n\
                     pyarrow.csv.write_csv(rows, table + '.csv')\n\
                     with pyarrow.ipc.new_file(table + '.arrow', rows.schema) as file: file.write_table(rows)";

fn served() -> Server {
    let server = Server::start();
    python(&server.path("sales"), WRITE);
    server
}

#[test]
fn objects_of_every_kind_are_read() {
    let server = served();
    let expected: Vec<String> = (0..10).map(|n| format!("{n},{:?}", f64::from(n) * 0.5)).collect();
    for ending in ["parquet", "arrow", "csv"] {
        let table = server.table(&format!("sales.{ending}"));
        let pin = table.pin();
        assert_eq!((pin.kind.as_str(), pin.location.as_str()), (ending, format!("s3://shop/sales.{ending}").as_str()));
        assert!(pin.files[0].etag.is_some());
        let rows = table.rows(&pin, &["household_id", "spent"], Vec::new());
        if ending == "csv" {
            // Text, as it stands.
            assert!(pin.columns.iter().all(|column| column.kind == ColumnType::Utf8));
            assert_eq!(rows[..2], ["0,0", "1,0.5"]);
        } else {
            assert_eq!(rows, expected);
        }
        assert_eq!(table.rows(&pin, &[], Vec::new()).len(), 10);
        assert_eq!(table.rows(&pin, &["name"], Vec::new()).iter().filter(|name| name.is_empty()).count(), 2);
    }
}

#[test]
fn a_delta_table_in_a_store_is_read_like_one_in_a_folder() {
    let server = Server::start();
    let path = server.path("lake/households");
    python(&path, "write_deltalake(table, households(0, 10, 'de'), partition_by=['country'])");
    python(&path, "write_deltalake(table, households(10, 20, 'at'), mode='append')");
    let (near, far) = (Table::of(&path), server.table("lake/households"));
    let (near_pin, far_pin) = (near.pin(), far.pin());
    assert_eq!(near_pin.version, far_pin.version);
    let columns = ["household_id", "country", "price"];
    assert_eq!(near.rows(&near_pin, &columns, Vec::new()), far.rows(&far_pin, &columns, Vec::new()));
    let file = path.join(&far_pin.files[0].path);
    let honest = fs::read(&file).unwrap();
    let mut other = honest.clone();
    other[10] ^= 1;
    fs::write(&file, other).unwrap();
    far.refuses(READ, Some(wanted(&far_pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not what it was");
    fs::remove_file(&file).unwrap();
    far.refuses(READ, Some(wanted(&far_pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not there");
}

#[test]
fn an_object_that_was_replaced_is_not_read() {
    let server = served();
    for ending in ["parquet", "arrow", "csv"] {
        let table = server.table(&format!("sales.{ending}"));
        let pin = table.pin();
        let path = server.path(&format!("sales.{ending}"));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "");
        fs::remove_file(&path).unwrap();
        table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not there");
        table.refuses(PIN, None, "SOURCE_UNREADABLE", "is not there");
    }
}

/// What a Delta log names outside of the table is another's object, whoever's key this is.
#[test]
fn a_log_that_leads_to_another_object() {
    let server = Server::start();
    let path = server.path("lake/households");
    python(&path, "write_deltalake(table, households(0, 10, 'de'))");
    let table = server.table("lake/households");
    let pin = table.pin();
    fs::copy(path.join(&pin.files[0].path), server.path("secret.parquet")).unwrap();
    let log = path.join("_delta_log/00000000000000000000.json");
    let honest = fs::read_to_string(&log).unwrap();
    for other in ["../../secret.parquet", "s3://shop/secret.parquet", "source:///secret.parquet", "/secret.parquet"] {
        fs::write(&log, honest.replace(&pin.files[0].path, other)).unwrap();
        table.refuses(PIN, None, "SOURCE_UNREADABLE", "outside of the table");
    }
}

#[test]
fn credentials_that_the_store_does_not_take() {
    let server = served();
    let mut table = server.table("sales.parquet");
    table.environment = vec![("SHOP_SECRET", "another")];
    for task in [DESCRIBE, PIN] {
        table.refuses(task, None, "SOURCE_UNREADABLE", "");
    }
    table.environment = Vec::new();
    table.refuses(PIN, None, "REQUEST_INVALID", "SHOP_SECRET");
    // Names that clients of such stores look for by themselves are not looked for here.
    table.environment = vec![("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_ACCESS_KEY_ID", "agent")];
    table.refuses(PIN, None, "REQUEST_INVALID", "SHOP_SECRET");
}

#[test]
fn a_secret_in_a_file_is_nobody_elses_to_read() {
    let server = served();
    let file = server.path("../key");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let mut table = server.table("sales.parquet");
    let mut connection = server.connection();
    connection.secrets.insert("secret_access_key".into(), Secret::File(file.clone()));
    table.place = Place::Behind { connection, table: "sales.parquet".into() };
    table.environment = Vec::new();
    for (mode, is_read) in [(0o600, true), (0o640, false), (0o604, false), (0o400, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        if is_read {
            assert_eq!(table.pin().files.len(), 1);
        } else {
            table.refuses(PIN, None, "REQUEST_INVALID", "can be read by others");
        }
    }
}

#[test]
fn entries_that_make_no_sense() {
    let server = served();
    let refuses = |change: &dyn Fn(&mut glovebox_source_protocol::Connection), fact: &str| {
        let mut table = server.table("sales.parquet");
        let mut connection = server.connection();
        change(&mut connection);
        table.place = Place::Behind { connection, table: "sales.parquet".into() };
        table.refuses(PIN, None, "REQUEST_INVALID", fact);
    };
    refuses(&|connection| connection.kind = "ftp".into(), "ftp");
    refuses(&|connection| drop(connection.options.insert("colour".into(), "red".into())), "colour");
    refuses(&|connection| drop(connection.options.remove("bucket")), "bucket");
}
