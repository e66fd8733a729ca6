//! The stage through its front door, with files in a folder of its own; and its join against a naive one.

mod across;
mod explain;
mod keys;
mod mapped;
mod masked;
mod shards;
mod sources;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::Int8Type;
use arrow::util::display::array_value_to_string;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use expect_test::{Expect, expect};
use futures::StreamExt;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

use super::folder::SourceFile;
use super::join::{JoinInput, Joined};
use super::schema::{KeyType, slot_schema};
use super::session::Share;
use super::view::PlannedView;
use super::{Host, Resources, Split, Unit, UnitKey, describe, open};
use crate::error::Result;
use crate::files;
use crate::privacy::RoomKey;
use crate::room::{BoundView, Column, ColumnType, Join, Mapping, Slot, Source, View};

const MEMORY: Resources =
    Resources { memory_bytes: 64 << 20, threads: 2, room_key: RoomKey::none(), split: Split::none() };

/// A room's folder, with a symlinked secret outside of it.
struct Folder {
    temp: TempDir,
    dir: Dir,
}

impl Folder {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("room")).unwrap();
        let dir = Dir::open_ambient_dir(temp.path().join("room"), ambient_authority()).unwrap();
        Self { temp, dir }
    }

    fn host(&self) -> Host<'_> {
        Host { dir: &self.dir, state: self.temp.path() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join("room").join(name)
    }

    fn parquet(&self, name: &str, columns: &[(&str, ArrayRef)]) {
        write_parquet(&self.path(name), &batch(columns));
    }

    fn csv(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn arrow(&self, name: &str, batches: &[RecordBatch]) {
        let file = File::create(self.path(name)).unwrap();
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    }

    /// Runs the stage to its end.
    fn units(&self, bound: &[(View, Slot)], max_rows: u32, resources: Resources) -> Result<Vec<Text>> {
        let mut agreed = Vec::new();
        for (view, slot) in bound {
            let schema_sha256 = describe(&self.host(), view)?.sha256();
            agreed.push((bind(view.clone(), slot, schema_sha256), slot));
        }
        let agreed: Vec<_> = agreed.iter().map(|(bound, slot)| (bound, *slot)).collect();
        let mut stream = open(&self.host(), &agreed, max_rows, &resources, None)?;
        let mut units = Vec::new();
        while stream.next_shard()?.is_some() {
            while let Some(chunk) = stream.next_chunk()? {
                assert!(!chunk.is_empty() && chunk.len() <= 1_024);
                units.extend(chunk.iter().map(text));
            }
        }
        Ok(units)
    }

    fn check(&self, bound: &[(View, Slot)], expected: &Expect) {
        let found = match self.units(bound, 100, MEMORY) {
            Ok(units) => units.iter().map(|(key, views)| format!("{key} {views:?}\n")).collect(),
            Err(fault) => fault.to_string(),
        };
        expected.assert_eq(&found);
    }
}

/// Binds a view to a slot, as an agreement does.
fn bind(view: View, slot: &Slot, schema_sha256: String) -> BoundView {
    let (definition_sha256, columns) = (view.sha256(), slot.columns.clone());
    BoundView { slot: slot.slot.clone(), view, definition_sha256, schema_sha256, columns }
}

/// A unit as text: its key, and per slot its rows.
type Text = (String, Vec<Vec<String>>);

fn text(unit: &Unit) -> Text {
    let key = match &unit.key {
        UnitKey::Int64(key) => key.to_string(),
        UnitKey::Utf8(key) => key.to_string(),
    };
    let row = |batch: &RecordBatch, row: usize| {
        let values = batch.columns().iter().map(|column| {
            if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).unwrap() }
        });
        values.collect::<Vec<_>>().join(",")
    };
    let views = unit.views.iter().map(|rows| {
        assert!(rows.start + rows.count <= rows.batch.num_rows());
        (rows.start..rows.start + rows.count).map(|index| row(&rows.batch, index)).collect()
    });
    (key, views.collect())
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, Arc::clone(array), true)))
        .unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(50_000)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn some_ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn view(id: &str, sql: &str, sources: &[(&str, &str)]) -> View {
    let source = |(table, path): &(&str, &str)| Source { table: (*table).into(), path: (*path).into() };
    View {
        id: id.into(),
        owner: "owner".into(),
        unit: "unit".into(),
        unit_rules: Vec::new(),
        unit_via: None,
        mapping: None,
        learnable_by: Vec::new(),
        lineage: "owner".into(),
        sql: sql.into(),
        sources: sources.iter().map(source).collect(),
    }
}

fn slot(name: &str, join: Join, columns: &[(&str, ColumnType)]) -> Slot {
    let column = |(name, kind): &(&str, ColumnType)| Column { name: (*name).into(), kind: *kind, nullable: false };
    Slot { slot: name.into(), join, columns: columns.iter().map(column).collect() }
}

fn nullable(mut slot: Slot) -> Slot {
    slot.columns.iter_mut().for_each(|column| column.nullable = true);
    slot
}

/// A view of one Parquet file, with columns `unit` and `a`.
fn sample() -> (Folder, View) {
    let folder = Folder::new();
    folder.parquet("t.parquet", &[("unit", ints(&[2, 1, 2])), ("a", ints(&[20, 10, 21]))]);
    (folder, view("v", "SELECT unit, a FROM t", &[("t", "t.parquet")]))
}

fn int_slot() -> Slot {
    slot("s", Join::Required, &[("a", ColumnType::Int64)])
}

fn check_sql(sql: &str, expected: Expect) {
    let (folder, sample) = sample();
    folder.check(&[(View { sql: sql.into(), ..sample }, int_slot())], &expected);
}

fn check_file(path: &str, write: impl Fn(&Folder), expected: Expect) {
    let folder = Folder::new();
    write(&folder);
    folder.check(&[(view("v", "SELECT * FROM t", &[("t", path)]), int_slot())], &expected);
}

#[test]
fn units_come_in_key_order_with_their_rows() {
    let (folder, view) = sample();
    folder.check(
        &[(view, int_slot())],
        &expect![[r#"
        1 [["10"]]
        2 [["20", "21"]]
    "#]],
    );
}

#[test]
fn a_changed_schema_is_refused() {
    let (folder, view) = sample();
    let bound = bind(view, &int_slot(), "00".repeat(32));
    let fault = open(&folder.host(), &[(&bound, &int_slot())], 10, &MEMORY, None).err().unwrap();
    expect![[r#"
        VIEW_CHANGED: the columns of view v are not those that were agreed
        hint: compose a new agreement, or restore the agreed files"#]]
    .assert_eq(&fault.to_string());
}

#[test]
fn the_digest_covers_names_types_and_order() {
    let (folder, sample) = sample();
    let digest = |sql: &str| describe(&folder.host(), &View { sql: sql.into(), ..sample.clone() }).unwrap().sha256();
    let same = digest("SELECT unit, a FROM t");
    assert_eq!(same, digest("SELECT * FROM t WHERE a > 3"));
    assert_ne!(same, digest("SELECT a, unit FROM t"));
    assert_ne!(same, digest("SELECT unit, a AS b FROM t"));
    assert_ne!(same, digest("SELECT unit, CAST(a AS INTEGER) AS a FROM t"));
    let listed = describe(&folder.host(), &sample).unwrap();
    expect![[
        r#"[("unit", "Int64"), ("a", "Int64")] 0eac481561ecea3e2a70e0e01ba664e7becb47abbec809638e4c8e370b6cbcbd"#
    ]]
    .assert_eq(&format!("{:?} {}", listed.columns().collect::<Vec<_>>(), listed.sha256()));
}

#[test]
fn sql_that_is_not_one_select_is_refused() {
    check_sql(
        "SELECT unit, a FROM t; SELECT 1",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELEC unit FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 1, Column: 1")
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "DROP TABLE t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "CREATE TABLE u AS SELECT * FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "INSERT INTO t VALUES (1, 2)",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "DELETE FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SET datafusion.execution.batch_size = 1",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "COPY t TO 'out.parquet'",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "EXPLAIN SELECT * FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "CREATE EXTERNAL TABLE e STORED AS CSV LOCATION 'e.csv'",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "VALUES (1, 2)",
        expect![[r#"
        VIEW_INVALID: the SQL of view v is not one SELECT
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT 1 AS unit, 2 AS a",
        expect![[r#"
        VIEW_INVALID: the SQL of view v selects from nothing, a view selects from its own tables
        hint: write one SELECT over the tables that the view declares"#]],
    );
}

#[test]
fn sql_over_anything_but_its_tables_is_refused() {
    check_sql(
        "SELECT unit, a FROM other",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Error during planning: table 'room.view.other' not found
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM 't.parquet'",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Error during planning: table 'room.view.t.parquet' not found
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM \"room://view/0.parquet\"",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Error during planning: table 'room.view.room://view/0.parquet' not found
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT * FROM information_schema.tables",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Error during planning: table 'room.information_schema.tables' not found
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT value AS unit, value AS a FROM generate_series(1, 3)",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Error during planning: table function 'generate_series' not found
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, \"A\" FROM t",
        expect![[r#"
            VIEW_INVALID: the SQL of view v cannot be planned: Schema error: No field named "A". Did you mean 't.a'? Column names are case sensitive. You can use double quotes to refer to the t.a column or disable the datafusion.sql_parser.enable_ident_normalization configuration. Valid fields are t.unit, t.a
            hint: write one SELECT over the tables that the view declares"#]],
    );
}

#[test]
fn sql_whose_answer_varies_is_refused() {
    check_sql(
        "SELECT unit, a, uuid() AS b FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v calls uuid(), whose answer differs from run to run
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM t WHERE now() > '2020-01-01'",
        expect![[r#"
        VIEW_INVALID: the SQL of view v calls now(), whose answer differs from run to run
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM t WHERE a IN (SELECT a FROM t WHERE current_date > '2020-01-01')",
        expect![[r#"
        VIEW_INVALID: the SQL of view v calls current_date(), whose answer differs from run to run
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, first_value(a) AS a FROM t GROUP BY unit",
        expect![[r#"
        VIEW_INVALID: the SQL of view v calls first_value(), whose answer depends on the order in which rows are read
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, random() AS a FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v calls random(), whose answer differs from run to run
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM t LIMIT 1",
        expect![[r#"
        VIEW_INVALID: the SQL of view v has a LIMIT or OFFSET: whose rows it keeps would depend on everybody's
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, a FROM (SELECT * FROM t ORDER BY a LIMIT 1)",
        expect![[r#"
        VIEW_INVALID: the SQL of view v has a LIMIT or OFFSET: whose rows it keeps would depend on everybody's
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, sum(a) OVER () AS a FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v has a window function: a unit's rows would depend on everybody's
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT DISTINCT ON (unit) unit, a FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v has a DISTINCT ON: it keeps an arbitrary row
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT unit, $1 AS a FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v has a variable or a placeholder
        hint: write one SELECT over the tables that the view declares"#]],
    );
}

#[test]
fn sql_may_filter_join_group_and_unite() {
    check_sql(
        "WITH u AS (SELECT * FROM t WHERE a > 10) SELECT unit, a FROM u ORDER BY a",
        expect![[r#"
        2 [["20", "21"]]
    "#]],
    );
    check_sql(
        "SELECT unit, sum(a) AS a FROM t GROUP BY unit HAVING count(*) > 1",
        expect![[r#"
        2 [["41"]]
    "#]],
    );
    check_sql(
        "SELECT unit, a FROM t UNION ALL SELECT unit, a + 1 FROM t",
        expect![[r#"
        1 [["10", "11"]]
        2 [["20", "21", "21", "22"]]
    "#]],
    );
    check_sql(
        "SELECT t.unit, v.x AS a FROM t JOIN (VALUES (20, 7)) AS v (k, x) ON t.a = v.k",
        expect![[r#"
        2 [["7"]]
    "#]],
    );
    check_sql(
        "SELECT x.unit, x.a FROM t x JOIN t y ON x.unit = y.unit AND x.a < y.a",
        expect![[r#"
        2 [["20"]]
    "#]],
    );
}

#[test]
fn two_columns_of_one_name_are_refused() {
    check_sql(
        "SELECT unit, a, a + 1 AS \"a\" FROM t",
        expect![[r#"
        VIEW_INVALID: the SQL of view v cannot be planned: Schema error: Schema contains qualified field name t.a and unqualified field name a which would be ambiguous
        hint: write one SELECT over the tables that the view declares"#]],
    );
    check_sql(
        "SELECT x.unit, x.a, y.a FROM t x JOIN t y ON x.unit = y.unit",
        expect![[r#"
        VIEW_INVALID: view v has two columns of the name `a`
        hint: give one of them another name with AS"#]],
    );
}

#[test]
fn missing_columns_are_refused() {
    check_sql(
        "SELECT unit FROM t",
        expect![[r#"
        COLUMN_MISSING: view v has no column `a`
        hint: add the column to the view's SQL; a name without quotes is read in lower case"#]],
    );
    check_sql(
        "SELECT a FROM t",
        expect![[r#"
        COLUMN_MISSING: view v has no column `unit`
        hint: add the column to the view's SQL; a name without quotes is read in lower case"#]],
    );
}

#[test]
fn unfit_unit_columns_are_refused() {
    check_sql(
        "SELECT CAST(unit AS DOUBLE) AS unit, a FROM t",
        expect![[r#"
        COLUMN_TYPE: the unit column `unit` of view v is Float64, a unit is an integer or text
        hint: name another column, or CAST it in the view's SQL"#]],
    );
    check_sql(
        "SELECT unit > 1 AS unit, a FROM t",
        expect![[r#"
        COLUMN_TYPE: the unit column `unit` of view v is Boolean, a unit is an integer or text
        hint: name another column, or CAST it in the view's SQL"#]],
    );

    let (folder, sample) = sample();
    let other = view("w", "SELECT CAST(unit AS VARCHAR) AS unit, a FROM t", &[("t", "t.parquet")]);
    folder.check(
        &[(sample, int_slot()), (other, int_slot())],
        &expect![[r#"
        COLUMN_TYPE: the unit column of view v is an integer, that of view w is text
        hint: give the unit columns of all views one type, by a CAST in the view's SQL"#]],
    );
}

#[test]
fn unreadable_sources_are_refused() {
    let (folder, _) = sample();
    let bytes = std::fs::read(folder.path("t.parquet")).unwrap();
    let cut = |length: usize| {
        let bytes = bytes[..length].to_vec();
        move |folder: &Folder| std::fs::write(folder.path("t.parquet"), &bytes).unwrap()
    };
    check_file(
        "t.parquet",
        |_| {},
        expect![[r#"
        VIEW_UNREADABLE: source `t.parquet` of view v cannot be opened: No such file or directory (os error 2)
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.txt",
        |folder| folder.csv("t.txt", "unit,a\n1,2\n"),
        expect![[r#"
        VIEW_UNREADABLE: source `t.txt` of view v ends in none of .parquet, .csv, .arrow
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "d.csv",
        |folder| std::fs::create_dir(folder.path("d.csv")).unwrap(),
        expect![[r#"
        VIEW_UNREADABLE: source `d.csv` of view v cannot be opened: not a regular file
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.parquet",
        cut(bytes.len() - 1),
        expect![[r#"
        VIEW_UNREADABLE: source `t.parquet` of view v is not a readable file of its kind
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.parquet",
        cut(0),
        expect![[r#"
        VIEW_UNREADABLE: source `t.parquet` of view v is not a readable file of its kind
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.csv",
        |folder| folder.csv("t.csv", ""),
        expect![[r#"
        VIEW_UNREADABLE: source `t.csv` of view v has no columns
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.arrow",
        |folder| folder.csv("t.arrow", "ARROW1 not really"),
        expect![[r#"
        VIEW_UNREADABLE: source `t.arrow` of view v is not a readable file of its kind
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
}

#[test]
fn a_pipe_is_refused_without_waiting_for_it() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.path("t.csv")).status().unwrap();
    assert!(made.success());
    folder.check(
        &[(view("v", "SELECT * FROM t", &[("t", "t.csv")]), int_slot())],
        &expect![[r#"
        VIEW_UNREADABLE: source `t.csv` of view v cannot be opened: not a regular file
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
}

#[test]
fn symlinks_are_not_followed_out_of_the_room() {
    let link = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |folder: &Folder| {
            std::fs::write(folder.temp.path().join("secret.csv"), "unit,a\n1,2\n").unwrap();
            folder.csv("inside.csv", "unit,a\n1,2\n");
            std::os::unix::fs::symlink(&to, folder.path(&from)).unwrap();
        }
    };
    check_file(
        "t.csv",
        link("t.csv", "../secret.csv"),
        expect![[r#"
        VIEW_UNREADABLE: source `t.csv` of view v cannot be opened: Too many levels of symbolic links (os error 40)
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "t.csv",
        link("t.csv", "inside.csv"),
        expect![[r#"
        VIEW_UNREADABLE: source `t.csv` of view v cannot be opened: Too many levels of symbolic links (os error 40)
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "out/secret.csv",
        link("out", ".."),
        expect![[r#"
            VIEW_UNREADABLE: source `out/secret.csv` of view v cannot be opened: a folder on the way is a symlink
            hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
    check_file(
        "../secret.csv",
        link("t.csv", "inside.csv"),
        expect![[r#"
        VIEW_UNREADABLE: source `../secret.csv` of view v cannot be opened: a path led outside of the filesystem
        hint: put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink"#]],
    );
}

#[test]
fn corruption_in_the_rows_is_told_without_them() {
    let (folder, _) = sample();
    let mut bytes = std::fs::read(folder.path("t.parquet")).unwrap();
    bytes[4..60].fill(0xff);
    check_file(
        "t.parquet",
        |folder| std::fs::write(folder.path("t.parquet"), &bytes).unwrap(),
        expect![[r#"
        VIEW_UNREADABLE: the rows of view v cannot be read to the end
        hint: check the view's files, and that its SQL succeeds on every row"#]],
    );

    // The types are those of the first records; a later one does not fit.
    let mut text = "unit,a\n".to_owned();
    (0..20_000).for_each(|row| text.push_str(&format!("{row},1\n")));
    text.push_str("7,secret\n");
    check_file(
        "t.csv",
        |folder| folder.csv("t.csv", &text),
        expect![[r#"
        VIEW_UNREADABLE: the rows of view v cannot be read to the end
        hint: check the view's files, and that its SQL succeeds on every row"#]],
    );
    check_sql(
        "SELECT unit, CAST(CAST(a AS VARCHAR) || 'x' AS BIGINT) AS a FROM t",
        expect![[r#"
        VIEW_UNREADABLE: the rows of view v cannot be read to the end
        hint: check the view's files, and that its SQL succeeds on every row"#]],
    );
}

#[test]
fn views_without_rows_or_units_are_refused() {
    check_sql(
        "SELECT unit, a FROM t WHERE a > 1000",
        expect![[r#"
        VIEW_EMPTY: view v has no rows
        hint: check the view's files and the conditions of its SQL"#]],
    );
    check_sql(
        "SELECT CASE WHEN a > 1000 THEN unit END AS unit, a FROM t",
        expect![[r#"
        UNIT_NULL: the unit column of view v names nobody in any row
        hint: name another unit column, fill this one, or look at what the view's `unit_rules` or its mapping make of it"#]],
    );
    check_file(
        "t.csv",
        |folder| folder.csv("t.csv", "unit,a\n"),
        expect![[r#"
        VIEW_EMPTY: view v has no rows
        hint: check the view's files and the conditions of its SQL"#]],
    );
    check_file(
        "t.csv",
        |folder| folder.csv("t.csv", "unit,a\n,1\n,2\n"),
        expect![[r#"
        UNIT_NULL: the unit column of view v names nobody in any row
        hint: name another unit column, fill this one, or look at what the view's `unit_rules` or its mapping make of it"#]],
    );

    // Optional slots too, though no unit would need them.
    let (folder, view) = sample();
    let empty = View { id: "w".into(), sql: "SELECT unit, a FROM t WHERE a > 1000".into(), ..view.clone() };
    let optional = slot("o", Join::Optional, &[("a", ColumnType::Int64)]);
    folder.check(
        &[(view, int_slot()), (empty, optional)],
        &expect![[r#"
        VIEW_EMPTY: view w has no rows
        hint: check the view's files and the conditions of its SQL"#]],
    );
}

#[test]
fn rows_with_units_but_nothing_for_the_slot_are_no_refusal() {
    check_sql("SELECT unit, CASE WHEN a > 1000 THEN a END AS a FROM t", expect![[""]]);
}

#[test]
fn null_units_never_join_and_null_values_leave_their_row_out() {
    let folder = Folder::new();
    let units = [None, Some(1), None, Some(2), Some(2), Some(3)];
    folder.parquet(
        "t.parquet",
        &[("unit", some_ints(&units)), ("a", some_ints(&[Some(1), Some(2), Some(3), None, Some(5), None]))],
    );
    let view = view("v", "SELECT * FROM t", &[("t", "t.parquet")]);
    folder.check(
        &[(view.clone(), int_slot()), (view.clone(), int_slot())],
        &expect![[r#"
        1 [["2"], ["2"]]
        2 [["5"], ["5"]]
    "#]],
    );
    folder.check(
        &[(view, nullable(int_slot()))],
        &expect![[r#"
        1 [["2"]]
        2 [["5", "-"]]
        3 [["-"]]
    "#]],
    );
}

#[test]
fn optional_slots_may_be_empty_for_a_unit() {
    let folder = Folder::new();
    folder.csv("r.csv", "unit,a\nx,1\ny,2\nz,3\n");
    folder.csv("o.csv", "unit,a\nw,1\ny,8\ny,7\n");
    let required = view("r", "SELECT * FROM t", &[("t", "r.csv")]);
    let optional = view("o", "SELECT * FROM t", &[("t", "o.csv")]);
    let optional_slot = slot("o", Join::Optional, &[("a", ColumnType::Int64)]);
    folder.check(
        &[(optional, optional_slot), (required, int_slot())],
        &expect![[r#"
        x [[], ["1"]]
        y [["7", "8"], ["2"]]
        z [[], ["3"]]
    "#]],
    );
}

#[test]
fn types_widen_without_loss_and_in_no_other_way() {
    let folder = Folder::new();
    let dictionary: DictionaryArray<Int8Type> = ["x", "y"].into_iter().collect();
    folder.arrow(
        "t.arrow",
        &[batch(&[
            ("unit", ints(&[1, 2])),
            ("i8", Arc::new(Int8Array::from(vec![-1, 1]))),
            ("i16", Arc::new(Int16Array::from(vec![-2, 2]))),
            ("i32", Arc::new(Int32Array::from(vec![-3, 3]))),
            ("u32", Arc::new(UInt32Array::from(vec![4, u32::MAX]))),
            ("u64", Arc::new(UInt64Array::from(vec![5, 6]))),
            ("f32", Arc::new(Float32Array::from(vec![0.5, -0.5]))),
            ("f64", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false]))),
            ("d", Arc::new(Date32Array::from(vec![0, 20_000]))),
            ("s", Arc::new(TimestampSecondArray::from(vec![0, 1]))),
            ("n", Arc::new(TimestampNanosecondArray::from(vec![1_999, 2_000]).with_timezone("UTC"))),
            ("z", Arc::new(TimestampSecondArray::from(vec![0, 1]).with_timezone("Europe/Paris"))),
            ("utf8", texts(&["ä", "b"])),
            ("large", Arc::new(LargeStringArray::from(vec!["c", "d"]))),
            ("view", Arc::new(StringViewArray::from(vec!["e", "a text longer than twelve bytes"]))),
            ("dict", Arc::new(dictionary)),
        ])],
    );
    let view = view("v", "SELECT * FROM t", &[("t", "t.arrow")]);
    use ColumnType::{Boolean, Date, Dictionary, Float64, Int64, Timestamp, Utf8};
    let all = [
        ("i8", Int64),
        ("i16", Int64),
        ("i32", Int64),
        ("u32", Int64),
        ("f32", Float64),
        ("f64", Float64),
        ("b", Boolean),
        ("d", Date),
        ("s", Timestamp),
        ("n", Timestamp),
        ("utf8", Utf8),
        ("large", Utf8),
        ("view", Dictionary),
        ("dict", Dictionary),
        ("dict", Utf8),
    ];
    folder.check(&[(view.clone(), slot("s", Join::Required, &all))], &expect![[r#"
        1 [["-1,-2,-3,4,0.5,0.1,true,1970-01-01,1970-01-01T00:00:00,1970-01-01T00:00:00.000001,ä,c,e,x,x"]]
        2 [["1,2,3,4294967295,-0.5,NaN,false,2024-10-04,1970-01-01T00:00:01,1970-01-01T00:00:00.000002,b,d,a text longer than twelve bytes,y,y"]]
    "#]]);
    for (name, kind) in [
        ("u64", Int64),
        ("f64", Int64),
        ("i8", Float64),
        ("b", Int64),
        ("i8", Boolean),
        ("s", Date),
        ("d", Timestamp),
        ("z", Timestamp),
        ("i8", Utf8),
        ("dict", Int64),
    ] {
        let refused = folder.units(&[(view.clone(), slot("s", Join::Required, &[(name, kind)]))], 1, MEMORY);
        assert_eq!(refused.unwrap_err().code().as_str(), "COLUMN_TYPE", "{name} as {kind:?}");
    }
    folder.check(
        &[(view, slot("s", Join::Required, &[("u64", Int64)]))],
        &expect![[r#"
        COLUMN_TYPE: column `u64` of view v is UInt64, slot s needs Int64
        hint: bind a view whose column fits, or CAST it in the view's SQL"#]],
    );
}

#[test]
fn the_formats_give_equal_units() {
    let folder = Folder::new();
    let rows = 30_000;
    let unit: Vec<i64> = (0..rows).map(|row| row * 7_919 % 5_000).collect();
    let a: Vec<i64> = (0..rows).map(|row| row * 31 % 1_000).collect();
    let b: Vec<String> = (0..rows).map(|row| format!("text, \"{}\"\nof a row", row % 13)).collect();
    let b: ArrayRef = Arc::new(StringArray::from(b));
    let table = batch(&[("unit", ints(&unit)), ("a", ints(&a)), ("b", b)]);
    write_parquet(&folder.path("t.parquet"), &table);
    folder.arrow("t.arrow", &[table.slice(0, 100), table.slice(100, 20_000), table.slice(20_100, 9_900)]);
    let mut writer = arrow::csv::Writer::new(File::create(folder.path("t.csv")).unwrap());
    writer.write(&table).unwrap();
    drop(writer);

    let slot = slot("s", Join::Required, &[("b", ColumnType::Utf8), ("a", ColumnType::Int64)]);
    let run = |path: &str| {
        let view = view("v", "SELECT * FROM t WHERE a < 900", &[("t", path)]);
        let schema = describe(&folder.host(), &view).unwrap();
        (schema.sha256(), folder.units(&[(view, slot.clone())], 1_000, MEMORY).unwrap())
    };
    let parquet = run("t.parquet");
    assert_eq!(
        parquet.1.iter().map(|(_, views)| views[0].len()).sum::<usize>(),
        a.iter().filter(|a| **a < 900).count()
    );
    assert!(parquet == run("t.csv"));
    assert!(parquet == run("t.arrow"));
}

#[test]
fn projection_and_filters_are_pushed_down_to_the_file() {
    let folder = Folder::new();
    let (unit, a, b) = (ints(&[1, 2]), ints(&[3, 4]), texts(&["x", "y"]));
    folder.parquet("t.parquet", &[("unit", unit), ("a", a), ("b", b)]);
    let view = view("v", "SELECT b, a, unit FROM t WHERE a > 3", &[("t", "t.parquet")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plan = runtime.block_on(async {
        let planned = PlannedView::new(&folder.host(), &view, &Share::for_planning(), None).await.unwrap();
        planned.plan(&int_slot(), KeyType::Int64).await.unwrap()
    });
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    expect![[r#"
        DataSourceExec: file_groups={1 group: [[0.parquet]]}, projection=[unit, a@1 as 0], file_type=parquet, predicate=a@1 > 3 AND unit@0 IS NOT NULL AND a@1 IS NOT NULL, pruning_predicate=a_null_count@1 != row_count@2 AND a_max@0 > 3 AND unit_null_count@3 != row_count@2 AND a_null_count@1 != row_count@2, required_guarantees=[]
    "#]].assert_eq(&plan);
}

#[test]
fn counting_reads_no_columns() {
    for path in ["t.parquet", "t.arrow"] {
        let folder = Folder::new();
        let table = batch(&[("unit", ints(&[1, 1, 2])), ("a", ints(&[1, 2, 3]))]);
        write_parquet(&folder.path("t.parquet"), &table);
        folder.arrow("t.arrow", &[table]);
        let sql = "SELECT unit, n AS a FROM t CROSS JOIN (SELECT count(*) AS n FROM t)";
        let units = folder.units(&[(view("v", sql, &[("t", path)]), int_slot())], 9, MEMORY).unwrap();
        assert_eq!(units.iter().map(|(_, views)| views[0].clone()).collect::<Vec<_>>(), [vec!["3", "3"], vec!["3"]]);
    }
}

#[test]
fn little_memory_spills_and_gives_the_same_units() {
    let folder = Folder::new();
    let rows = 400_000;
    let unit: Vec<i64> = (0..rows).map(|row| row * 7_919 % 50_021).collect();
    let a: Vec<i64> = (0..rows).map(|row| row * 31 % 100_003).collect();
    let b: Vec<String> = (0..rows).map(|row| format!("some text of row {}", row * 17 % 9_973)).collect();
    folder.parquet("t.parquet", &[("unit", ints(&unit)), ("a", ints(&a)), ("b", Arc::new(StringArray::from(b)))]);
    let view = view("v", "SELECT * FROM t", &[("t", "t.parquet")]);
    let slot = slot("s", Join::Required, &[("a", ColumnType::Int64), ("b", ColumnType::Utf8)]);
    let bound = [(view.clone(), slot.clone()), (view, slot)];
    let plenty = folder.units(&bound, 5, Resources { memory_bytes: 2 << 30, threads: 3, ..MEMORY }).unwrap();
    assert_eq!(plenty.len(), 50_021);
    for memory_bytes in [8 << 20, 80 << 20] {
        let little = folder.units(&bound, 5, Resources { memory_bytes, threads: 3, ..MEMORY }).unwrap();
        assert!(plenty == little);
    }
}

#[test]
fn the_order_of_a_units_rows_is_not_that_of_the_file() {
    let folder = Folder::new();
    folder.csv("t.csv", "unit,a,b\n1,2.5,z\n1,NaN,y\n1,2.5,\n1,-0.0,x\n1,0.0,x\n1,2.5,a\n");
    folder.csv("u.csv", "unit,a,b\n1,0.0,x\n1,2.5,a\n1,2.5,\n1,2.5,z\n1,-0.0,x\n1,NaN,y\n");
    let slot = nullable(slot("s", Join::Required, &[("a", ColumnType::Float64), ("b", ColumnType::Utf8)]));
    let first = view("v", "SELECT * FROM t", &[("t", "t.csv")]);
    let second = view("v", "SELECT * FROM t", &[("t", "u.csv")]);
    let bound = |view| [(view, slot.clone())];
    assert_eq!(folder.units(&bound(first.clone()), 9, MEMORY), folder.units(&bound(second), 9, MEMORY));
    folder.check(
        &bound(first),
        &expect![[r#"
        1 [["-0.0,x", "0.0,x", "2.5,a", "2.5,z", "2.5,-", "NaN,y"]]
    "#]],
    );
}

#[test]
fn a_slot_may_ask_for_the_unit() {
    let (folder, view) = sample();
    let columns = [("unit", ColumnType::Int64), ("a", ColumnType::Int64)];
    folder.check(
        &[(view, slot("s", Join::Required, &columns))],
        &expect![[r#"
        1 [["1,10"]]
        2 [["2,20", "2,21"]]
    "#]],
    );
}

#[test]
fn a_giant_unit_is_cut() {
    let folder = Folder::new();
    let rows = 100_000;
    let unit: Vec<i64> = (0..rows).map(|row| if row % 10_000 == 0 { row } else { 5 }).collect();
    folder.parquet("t.parquet", &[("unit", ints(&unit)), ("a", ints(&(0..rows).rev().collect::<Vec<_>>()))]);
    let view = view("v", "SELECT * FROM t", &[("t", "t.parquet")]);
    let units = folder.units(&[(view, int_slot())], 20_000, MEMORY).unwrap();
    assert_eq!(units.len(), 11);
    assert_eq!(units[1].0, "5");
    assert_eq!(units[1].1[0].len(), 20_000);
    assert_eq!(units[1].1[0][..3], ["0", "1", "2"]);
    assert_eq!(units[2].1[0].len(), 1);
}

#[test]
fn identifiers_are_not_printed() {
    assert_eq!(format!("{:?} {:?}", UnitKey::Int64(42), UnitKey::Utf8("ada".into())), "UnitKey(..) UnitKey(..)");
}

#[test]
fn the_spill_folder_is_private_and_goes_with_the_stream() {
    let (folder, view) = sample();
    let schema_sha256 = describe(&folder.host(), &view).unwrap().sha256();
    let bound = bind(view, &int_slot(), schema_sha256);
    let mut stream = open(&folder.host(), &[(&bound, &int_slot())], 10, &MEMORY, None).unwrap();
    let scratch = stream._scratch.path().to_owned();
    assert_eq!(std::fs::metadata(&scratch).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(stream.next_shard().unwrap(), Some(0));
    assert_eq!(stream.next_chunk().unwrap().unwrap().len(), 2);
    drop(stream);
    assert!(!scratch.exists());
}

#[test]
fn a_file_that_changes_is_noticed() {
    let (folder, _) = sample();
    let file = SourceFile::new(files::open_file(&folder.dir, "t.parquet").unwrap()).unwrap();
    assert!(file.is_unchanged());
    File::options().append(true).open(folder.path("t.parquet")).unwrap().write_all(b"x").unwrap();
    assert!(!file.is_unchanged());
}

#[test]
fn the_object_store_reads_its_own_files_only_and_writes_none() {
    let folder = Folder::new();
    folder.csv("t.csv", "0123456789");
    folder.csv("u.csv", "secret");
    let file = Arc::new(SourceFile::new(files::open_file(&folder.dir, "t.csv").unwrap()).unwrap());
    let store = super::folder::Folder::new([("0.parquet".to_owned(), file)]);
    let (own, other) = ("0.parquet".into(), "u.csv".into());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(store.get(&own).await.unwrap().bytes().await.unwrap().as_ref(), b"0123456789");
        assert_eq!(store.get_ranges(&own, &[2..4, 9..10]).await.unwrap(), ["23", "9"]);
        assert!(store.get_ranges(&own, &[0..1, 9..11]).await.is_err());
        assert_eq!(store.head(&own).await.unwrap().size, 10);
        assert_eq!(store.list(None).count().await, 1);
        assert!(matches!(store.get(&other).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.put(&own, "x".into()).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.put_multipart(&own).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.copy(&own, &other).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.rename(&own, &other).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.delete(&own).await, Err(Error::NotSupported { .. })));
    });
}

/// A table of the naive model: unit, `a`, `b`.
type Table = Vec<(Option<u8>, Option<i8>, Option<String>)>;

fn tables() -> impl Strategy<Value = Vec<(Table, bool)>> {
    let row =
        (prop::option::weighted(0.9, 0..8u8), prop::option::weighted(0.9, any::<i8>()), prop::option::of("[a-c]?"));
    prop::collection::vec((prop::collection::vec(row, 1..40), any::<bool>()), 1..=3)
}

/// Keys whose order as texts is not their order as numbers.
fn key_text(key: u8) -> String {
    format!("{}", i64::from(key) * 7 - 20)
}

fn model_slot(required: bool) -> Slot {
    let join = if required { Join::Required } else { Join::Optional };
    let mut slot = slot("s", join, &[("a", ColumnType::Int64), ("b", ColumnType::Utf8)]);
    slot.columns[1].nullable = true;
    slot
}

/// What reaches a slot, as sorted texts: nulls after everything else.
fn naive_rows(table: &Table, key: u8, max_rows: usize) -> Vec<String> {
    let mut rows: Vec<_> = table
        .iter()
        .filter(|(unit, ..)| *unit == Some(key))
        .filter_map(|(_, a, b)| a.map(|a| (a, b.is_none(), b.clone().unwrap_or_else(|| "-".into()))))
        .collect();
    rows.sort();
    rows.iter().take(max_rows).map(|(a, _, b)| format!("{a},{b}")).collect()
}

fn naive_join(tables: &[(Table, bool)], text_keys: bool, max_rows: usize) -> Vec<Text> {
    let mut units = Vec::new();
    for key in 0..8 {
        let views: Vec<_> = tables.iter().map(|(table, _)| naive_rows(table, key, max_rows)).collect();
        if views.iter().zip(tables).all(|(rows, (_, required))| !required || !rows.is_empty()) {
            units.push((key_text(key), views));
        }
    }
    if text_keys {
        units.sort();
    }
    units
}

/// The sorted batches that a view's plan would give for a table.
fn pages(table: &Table, text_keys: bool, page_rows: usize) -> Vec<Result<RecordBatch>> {
    let mut rows: Vec<_> = table.iter().filter_map(|(unit, a, b)| Some(((*unit)?, (*a)?, b.is_none(), b))).collect();
    rows.sort_by(|x, y| {
        let keys = if text_keys { key_text(x.0).cmp(&key_text(y.0)) } else { x.0.cmp(&y.0) };
        keys.then_with(|| (x.1, x.2, x.3).cmp(&(y.1, y.2, y.3)))
    });
    let page = |rows: &[(u8, i8, bool, &Option<String>)]| {
        let texts: Vec<_> = rows.iter().map(|row| key_text(row.0)).collect();
        let numbers: Vec<i64> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let unit = if text_keys { Arc::new(StringArray::from(texts)) as ArrayRef } else { ints(&numbers) };
        let a = ints(&rows.iter().map(|row| i64::from(row.1)).collect::<Vec<_>>());
        let b = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.3.as_deref()))) as ArrayRef;
        Ok(batch(&[("unit", unit), ("0", a), ("1", b)]))
    };
    rows.chunks(page_rows).map(page).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_join_is_the_naive_join(
        mut tables in tables(),
        text_keys in any::<bool>(),
        page_rows in 1..6usize,
        max_rows in 1..9usize,
    ) {
        tables[0].1 = true;
        let inputs = tables.iter().map(|(table, required)| {
            let slot = model_slot(*required);
            JoinInput { pages: pages(table, text_keys, page_rows).into_iter(), schema: slot_schema(&slot), join: slot.join }
        });
        let key = if text_keys { KeyType::Utf8 } else { KeyType::Int64 };
        let mut joined = Joined::new(key, inputs.collect(), max_rows);
        let mut units = Vec::new();
        while let Some(chunk) = joined.next_chunk().unwrap() {
            units.extend(chunk.iter().map(text));
        }
        prop_assert_eq!(units, naive_join(&tables, text_keys, max_rows));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_stage_is_the_naive_join(mut tables in tables(), text_keys in any::<bool>(), max_rows in 1..9u32) {
        tables[0].1 = true;
        let folder = Folder::new();
        let mut bound = Vec::new();
        for (index, (table, required)) in tables.iter_mut().enumerate() {
            // A view without rows or units is refused, which is not what is tried here.
            table.push((Some(0), Some(1), None));
            let texts = table.iter().map(|(unit, ..)| unit.map(key_text));
            let unit: ArrayRef = if text_keys {
                Arc::new(StringArray::from_iter(texts))
            } else {
                Arc::new(Int16Array::from_iter(texts.map(|text| text.map(|text| text.parse::<i16>().unwrap()))))
            };
            let a: ArrayRef = Arc::new(Int8Array::from_iter(table.iter().map(|(_, a, _)| *a)));
            let b: ArrayRef = Arc::new(StringArray::from_iter(table.iter().map(|(.., b)| b.as_deref())));
            let (name, rows) = (index.to_string(), batch(&[("unit", unit), ("a", a), ("b", b)]));
            let path = if index % 2 == 0 { format!("{name}.parquet") } else { format!("{name}.arrow") };
            if index % 2 == 0 {
                write_parquet(&folder.path(&path), &rows);
            } else {
                folder.arrow(&path, &[rows.slice(0, 1), rows.slice(1, rows.num_rows() - 1)]);
            }
            bound.push((view(&name, "SELECT * FROM t", &[("t", &path)]), model_slot(*required)));
        }
        let units = folder.units(&bound, max_rows, MEMORY).unwrap();
        prop_assert_eq!(units, naive_join(&tables, text_keys, usize::try_from(max_rows).unwrap()));
    }
}

#[test]
fn units_out_of_order_are_a_defect_and_end_the_stream() {
    let page = |units: &[i64]| Ok(batch(&[("unit", ints(units)), ("0", ints(units))]));
    for pages in [vec![page(&[1, 3, 2])], vec![page(&[5]), page(&[4])]] {
        let slot = int_slot();
        let input = JoinInput { pages: pages.into_iter(), schema: slot_schema(&slot), join: slot.join };
        let mut joined = Joined::new(KeyType::Int64, vec![input], 10);
        assert_eq!(joined.next_chunk().err().unwrap().code().as_str(), "INTERNAL");
        assert!(joined.next_chunk().unwrap().is_none());
    }
}

#[test]
fn units_that_match_seldom_keep_few_batches_alive() {
    let slot = int_slot();
    let all: Vec<i64> = (0..100_000).collect();
    let dense = all.chunks(100).map(|units| Ok(batch(&[("unit", ints(units)), ("0", ints(units))])));
    let sparse: Vec<i64> = all.iter().copied().step_by(100).collect();
    let sparse = vec![Ok(batch(&[("unit", ints(&sparse)), ("0", ints(&sparse))]))];
    let input = |pages: Vec<Result<RecordBatch>>| JoinInput {
        pages: pages.into_iter(),
        schema: slot_schema(&slot),
        join: slot.join,
    };
    let mut joined = Joined::new(KeyType::Int64, vec![input(dense.collect()), input(sparse)], 10);
    let mut units = 0;
    while let Some(chunk) = joined.next_chunk().unwrap() {
        assert!(chunk.len() <= 9);
        units += chunk.len();
    }
    assert_eq!(units, 1_000);
}
