//! Delta tables: what Delta's own writer wrote is what is read, and what is not as it was pinned is not read at all.

use std::fs;
use std::os::unix::fs::symlink;

use glovebox_source_protocol::{Column, ColumnType, Comparison, DESCRIBE, Description, Hint, Literal, PIN, READ};
use tempfile::TempDir;

use crate::support::{Table, copy, data_files, python, wanted};

/// A partitioned table of three versions: ten households, ten more, and one deleted.
fn households() -> (TempDir, Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("table");
    python(&path, "write_deltalake(table, households(0, 10, 'de'), partition_by=['country'])");
    python(&path, "write_deltalake(table, households(10, 20, 'at'), mode='append')");
    python(&path, "DeltaTable(table).delete('household_id = 3')");
    let table = Table::of(&path);
    (folder, table)
}

fn ids(range: impl Iterator<Item = u32>) -> Vec<String> {
    let mut ids: Vec<String> = range.map(|id| id.to_string()).collect();
    ids.sort();
    ids
}

fn log(table: &Table, version: u32) -> std::path::PathBuf {
    table.folder.join(format!("_delta_log/{version:020}.json"))
}

#[test]
fn every_type_is_read_as_it_was_written() {
    let (_folder, table) = households();
    let pin = table.pin();
    let kinds: Vec<_> = pin.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    use ColumnType as T;
    assert_eq!(
        kinds,
        [
            ("household_id", T::Int64),
            ("spent", T::Float64),
            ("visits", T::Int64),
            ("name", T::Utf8),
            ("joined", T::Date),
            ("seen", T::Instant),
            ("price", T::Decimal(10, 2)),
            ("country", T::Utf8),
        ]
    );
    let output = table.output(DESCRIBE, None, None);
    let described: Description = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(described.columns, pin.columns);

    let columns: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let rows = table.rows(&pin, &columns, Vec::new());
    // As Delta's own reader reads them.
    let read = "for row in DeltaTable(table).to_pyarrow_table().to_pylist():\n    \
                print(row['household_id'], row['spent'], row['visits'], row['name'] or '', row['joined'], \
                row['seen'].strftime('%Y-%m-%dT%H:%M:%SZ'), row['price'], row['country'], sep=',')";
    let text = python(&table.folder, read);
    let mut expected: Vec<&str> = text.lines().collect();
    expected.sort_unstable();
    assert_eq!(rows, expected);
    assert_eq!(rows.len(), 19);
}

#[test]
fn the_pinned_version_is_read_however_the_table_goes_on() {
    let (_folder, table) = households();
    let pin = table.pin();
    assert_eq!(pin.version.as_ref().unwrap().number, 2);
    assert_eq!(table.rows(&pin, &["household_id"], Vec::new()), ids((0..20).filter(|id| *id != 3)));
    // Without a column, rows are counted.
    assert_eq!(table.rows(&pin, &[], Vec::new()).len(), 19);

    python(&table.folder, "write_deltalake(table, households(20, 30, 'de'), mode='append')");
    assert_eq!(table.rows(&pin, &["household_id"], Vec::new()).len(), 19);
    let newer = table.pin();
    assert_eq!((newer.version.as_ref().unwrap().number, newer.files.len()), (3, pin.files.len() + 1));
    let again = table.output(PIN, Some(2), None);
    assert_eq!(serde_json::from_slice::<glovebox_source_protocol::Pin>(&again.stdout).unwrap(), pin);

    // A checkpoint says the same as the log that it stands for.
    python(&table.folder, "DeltaTable(table).create_checkpoint()");
    assert_eq!(table.pin(), newer);
}

#[test]
fn a_hint_leaves_out_files_and_no_row_that_it_keeps() {
    let (_folder, table) = households();
    let pin = table.pin();
    let hint = |column: &str, is, to| vec![Hint { column: column.into(), is, to }];
    let country = hint("country", Comparison::Equal, Literal::Utf8("at".into()));
    assert_eq!(table.rows(&pin, &["household_id"], country), ids(10..20));
    for (is, to, least) in [(Comparison::AtLeast, 12, 12..20), (Comparison::Less, 3, 0..3)] {
        let found = table.rows(&pin, &["household_id"], hint("household_id", is, Literal::Int64(to)));
        assert!(ids(least).iter().all(|id| found.contains(id)), "{found:?}");
        assert!(found.len() <= 10, "no file was left out");
    }
}

/// Written by Databricks; it is of Delta's own tests.
#[test]
fn deleted_rows_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    copy("deletion-vector", folder.path());
    let table = Table::of(folder.path());
    let pin = table.pin();
    assert_eq!(table.rows(&pin, &["value"], Vec::new()), ids(1..9));
    assert_eq!(pin.files.len(), 1);
    // SHA-256 of the numbers 0 and 9.
    let deleted = "67c78fdc208c019f15520b78bfd1df7820340a7c1eba5d1d37eb2ac0c8c301f2";
    assert_eq!(pin.files[0].deleted_sha256.as_deref(), Some(deleted));
    let vector = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let vector = vector.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "bin")).unwrap();
    let mut bytes = fs::read(&vector).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 2;
    fs::write(&vector, bytes).unwrap();
    table.refuses(READ, Some(wanted(&pin, &["value"], Vec::new())), "SOURCE_CHANGED", "");
    fs::remove_file(&vector).unwrap();
    table.refuses(READ, Some(wanted(&pin, &["value"], Vec::new())), "SOURCE_CHANGED", "");
}

#[test]
fn columns_are_found_by_what_the_log_calls_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let mapped = "write_deltalake(table, households(0, 3, 'de').select(['household_id', 'name']), \
                  configuration={'delta.columnMapping.mode': 'name'})";
    python(&path, mapped);
    let log = fs::read_to_string(path.join("_delta_log/00000000000000000000.json")).unwrap();
    assert!(log.contains("physicalName"), "the writer maps no columns");
    let table = Table::of(&path);
    assert_eq!(table.rows(&table.pin(), &["name", "household_id"], Vec::new()), [",0", "n1,1", "n2,2"]);
}

#[test]
fn a_log_with_a_gap_is_no_table() {
    let (_folder, table) = households();
    let pin = table.pin();
    fs::rename(log(&table, 1), table.folder.join("aside")).unwrap();
    table.refuses(PIN, None, "SOURCE_UNREADABLE", "log");
    table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "log");
    fs::remove_file(log(&table, 0)).unwrap();
    table.refuses(DESCRIBE, None, "SOURCE_UNREADABLE", "log");
    let empty = tempfile::tempdir().unwrap();
    Table::of(empty.path()).refuses(PIN, None, "SOURCE_UNREADABLE", "log");
}

#[test]
fn a_version_that_has_vanished_is_not_read() {
    let (_folder, table) = households();
    let pin = table.pin();
    fs::remove_file(log(&table, 2)).unwrap();
    table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "");
}

#[test]
fn a_file_that_was_pinned_and_is_gone() {
    let (_folder, table) = households();
    let pin = table.pin();
    for path in data_files(&pin).keys() {
        let file = table.folder.join(path);
        fs::rename(&file, table.folder.join("aside")).unwrap();
        table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not there");
        table.refuses(PIN, None, "SOURCE_UNREADABLE", "is not there");
        fs::rename(table.folder.join("aside"), file).unwrap();
    }
    assert_eq!(table.rows(&pin, &["name"], Vec::new()).len(), 19);
    // As Delta itself takes old files away.
    let vacuum = "DeltaTable(table).optimize.compact()\nwrite_deltalake(table, households(50, 60, 'de'), \
                  mode='overwrite')\nDeltaTable(table).vacuum(retention_hours=0, \
                  enforce_retention_duration=False, dry_run=False)";
    python(&table.folder, vacuum);
    table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not there");
}

/// Other bytes of the same length under the same name, and a version that was written over.
#[test]
fn what_was_pinned_and_is_replaced() {
    let (_folder, table) = households();
    let pin = table.pin();
    let file = table.folder.join(&pin.files[0].path);
    let honest = fs::read(&file).unwrap();
    let mut other = honest.clone();
    other[10] ^= 1;
    for (bytes, fact) in [(other, "is not what it was"), (honest[..honest.len() - 1].to_vec(), "size")] {
        fs::write(&file, bytes).unwrap();
        table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", fact);
    }
    fs::write(&file, honest).unwrap();
    assert_eq!(table.rows(&pin, &["name"], Vec::new()).len(), 19);

    let log = log(&table, 2);
    let text = fs::read_to_string(&log).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"remove\"")).collect();
    assert!(kept.len() < text.lines().count());
    fs::write(&log, kept.join("\n")).unwrap();
    table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "is not what it was");
}

/// The log is its owner's text: it may name what is not the owner's.
#[test]
fn a_log_that_leads_out_of_the_folder() {
    let (folder, table) = households();
    let pin = table.pin();
    let outside = folder.path().join("outside.parquet");
    let inside = table.folder.join(&pin.files[0].path);
    fs::copy(&inside, &outside).unwrap();
    let honest = fs::read_to_string(log(&table, 1)).unwrap();
    let absolute = format!("file://{}", outside.display());
    for path in ["../outside.parquet", "%2e%2e/outside.parquet", "country=at/../../outside.parquet", &absolute] {
        fs::write(log(&table, 1), honest.replace(&pin.files[0].path, path)).unwrap();
        table.refuses(PIN, None, "SOURCE_UNREADABLE", "");
        table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "");
    }
    fs::write(log(&table, 1), honest).unwrap();
    assert_eq!(table.pin(), pin);
    // The very bytes, behind a symlink: the kernel does not let the reader follow it.
    fs::remove_file(&inside).unwrap();
    symlink(&outside, &inside).unwrap();
    assert_eq!(fs::read(&inside).unwrap(), fs::read(&outside).unwrap());
    table.refuses(PIN, None, "SOURCE_UNREADABLE", "");
    table.refuses(READ, Some(wanted(&pin, &["name"], Vec::new())), "SOURCE_CHANGED", "");
}

/// A table that asks of its readers what this one does not know would be read wrongly.
#[test]
fn a_table_of_a_later_protocol() {
    let (_folder, table) = households();
    let honest = fs::read_to_string(log(&table, 0)).unwrap();
    let protocol = honest.lines().find(|line| line.starts_with("{\"protocol\"")).unwrap();
    for later in [
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["later"],"writerFeatures":["later"]}}"#,
        r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#,
    ] {
        fs::write(log(&table, 0), honest.replace(protocol, later)).unwrap();
        table.refuses(PIN, None, "SOURCE_UNSUPPORTED", "");
    }
}

#[test]
fn requests_that_make_no_sense() {
    let (_folder, table) = households();
    let pin = table.pin();
    table.refuses("erase", None, "REQUEST_INVALID", "erase");
    table.refuses(READ, None, "REQUEST_INVALID", "read");
    table.refuses(PIN, Some(wanted(&pin, &["name"], Vec::new())), "REQUEST_INVALID", "pin");
    table.refuses(READ, Some(wanted(&pin, &["nothing"], Vec::new())), "REQUEST_INVALID", "column");
    let mut forged = pin.clone();
    forged.columns.push(Column { name: "secret".into(), kind: ColumnType::Utf8, nullable: true });
    table.refuses(READ, Some(wanted(&forged, &["secret"], Vec::new())), "SOURCE_CHANGED", "");
}
