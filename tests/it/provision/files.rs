//! Files that are not what they say. Whoever delivers them costs nobody a run: what can be told before a row is read is
//! refused for nothing, and in full; the rest ends like anything that goes wrong with rows.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch};
use arrow::ipc::writer::FileWriter;
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaDataBuilder,
};

use super::{CONTROLS, EVIL, Fixture, HOUSEHOLDS, floats, ints, write_parquet};

/// A room whose view reads another file than the usual one, which has the same rows.
fn room(path: &str) -> Fixture {
    let room = Fixture::audited(CONTROLS);
    room.edit("room.toml", HOUSEHOLDS, path);
    room
}

/// Sixty households, in text.
fn csv() -> String {
    (1..=60).fold("household_id,value\n".to_owned(), |text, id| format!("{text}{id},{id}.5\n"))
}

/// What the host says of a file that it refuses, when it is agreed on and when it is run; nothing is charged.
#[track_caller]
fn refused_for_nothing(room: &Fixture, agreement: &str, fact: &str) {
    let told = room.refused(agreement, "VIEW_UNREADABLE", 3).stderr;
    assert_eq!(told.lines().next().unwrap(), format!("VIEW_UNREADABLE: {fact}"));
    assert!(told.lines().nth(1).unwrap().starts_with("hint: ") && told.lines().count() == 2, "{told}");
    not_agreed(room, fact);
}

#[track_caller]
fn not_agreed(room: &Fixture, fact: &str) {
    room.not_agreed("evil", EVIL, "VIEW_UNREADABLE", 3);
    let told = room.glovebox(&[&["agree", "questions/evil.wasm"], EVIL].concat()).stderr;
    assert_eq!(told.lines().next().unwrap(), format!("VIEW_UNREADABLE: {fact}"));
}

const UNREADABLE: &str = "source `data/retailer/households.parquet` of view rows is not a readable file of its kind";

#[test]
fn a_parquet_footer_of_another_length() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read(HOUSEHOLDS);
    let at = honest.len() - 8;
    let length = u32::from_le_bytes(honest[at..at + 4].try_into().unwrap());
    for lie in [0, 1, length - 1, length + 1, honest.len() as u32, u32::MAX / 2, u32::MAX] {
        let mut file = honest.clone();
        file[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        room.write(HOUSEHOLDS, &file);
        refused_for_nothing(&room, &agreement, UNREADABLE);
    }
    room.write(HOUSEHOLDS, &honest);
    room.released(&agreement);
}

/// Counts and places of a footer that is well formed.
#[test]
fn a_parquet_footer_that_lies() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read(HOUSEHOLDS);
    type Column = fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder;
    type Group = fn(RowGroupMetaDataBuilder) -> RowGroupMetaDataBuilder;
    let lies: [(&str, Group, Column); 8] = [
        ("rows", |group| group.set_num_rows(1 << 40), |column| column),
        ("a row more", |group| group.set_num_rows(398), |column| column),
        ("less than no rows", |group| group.set_num_rows(-1), |column| column),
        ("values", |group| group, |column| column.set_num_values(396)),
        ("a size below nothing", |group| group, |column| column.set_total_compressed_size(-1)),
        ("a place behind the end", |group| group, |column| column.set_data_page_offset(1 << 40)),
        ("a place before the start", |group| group, |column| column.set_data_page_offset(-1)),
        ("a size", |group| group, |column| column.set_total_compressed_size(1 << 40)),
    ];
    for (what, group, column) in lies {
        println!("{what}");
        room.write(HOUSEHOLDS, &with_footer(&honest, group, column));
        refused_for_nothing(&room, &agreement, UNREADABLE);
    }
    room.write(HOUSEHOLDS, &honest);
    room.released(&agreement);
}

/// The same pages under a footer that says something else of them.
fn with_footer(
    file: &[u8],
    group: impl Fn(RowGroupMetaDataBuilder) -> RowGroupMetaDataBuilder,
    column: impl Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
) -> Vec<u8> {
    let bytes = bytes::Bytes::copy_from_slice(file);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let groups = metadata.row_groups().iter().map(|honest| {
        let columns = honest.columns().iter().map(|chunk| column(chunk.clone().into_builder()).build().unwrap());
        group(honest.clone().into_builder().set_column_metadata(columns.collect())).build().unwrap()
    });
    let metadata = ParquetMetaData::new(metadata.file_metadata().clone(), groups.collect());
    let length = u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap()) as usize;
    let mut lying = file[..file.len() - 8 - length].to_vec();
    ParquetMetaDataWriter::new(&mut lying, &metadata).finish().unwrap();
    lying
}

/// Columns without end, in each format.
#[test]
fn a_file_of_a_million_columns() {
    const CSV: &str = "data/retailer/wide.csv";
    let room = room(CSV);
    let names = (0..1_000_000).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",");
    room.write(CSV, format!("{names}\n{}\n", ",".repeat(999_999)).as_bytes());
    not_agreed(
        &room,
        "source `data/retailer/wide.csv` of view rows has a record of more than 262144 bytes or 4096 fields",
    );
    room.write(CSV, csv().as_bytes());
    let agreement = room.agreed("evil", EVIL);
    // The types of a CSV file are those of its records: a look at them is paid for.
    room.write(CSV, format!("{names}\n").as_bytes());
    room.withheld(&agreement, "VIEW_UNREADABLE");

    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let names: Vec<String> = (0..4_097).map(|at| format!("c{at}")).collect();
    let columns: Vec<(&str, ArrayRef)> = names.iter().map(|name| (name.as_str(), ints(vec![1]))).collect();
    write_parquet(&room.path(HOUSEHOLDS), &columns);
    let fact = "source `data/retailer/households.parquet` of view rows has more than 4096 columns";
    refused_for_nothing(&room, &agreement, fact);
}

/// One line of a gigabyte, which is sparse on the disk; and one that begins after the types are known.
#[test]
fn a_csv_line_without_end() {
    const CSV: &str = "data/retailer/long.csv";
    let room = room(CSV);
    room.write(CSV, csv().as_bytes());
    let agreement = room.agreed("evil", EVIL);
    File::options().write(true).open(room.path(CSV)).unwrap().set_len(1 << 30).unwrap();
    not_agreed(
        &room,
        "source `data/retailer/long.csv` of view rows has a record of more than 262144 bytes or 4096 fields",
    );
    // As long as it need be for a run, whose digest reads the whole file.
    File::options().write(true).open(room.path(CSV)).unwrap().set_len(1 << 20).unwrap();
    room.withheld(&agreement, "VIEW_UNREADABLE");
    let mut late = csv() + &"1,1.5\n".repeat(10_000);
    late.push_str("2,\"");
    late.push_str(&"3,3.5\n".repeat(50_000));
    room.write(CSV, late.as_bytes());
    room.withheld(&agreement, "VIEW_UNREADABLE");
    room.write(CSV, csv().as_bytes());
    room.released(&agreement);
}

/// In a file, and in what a view makes of it; where letters alone differ, too, for people read without looking at these.
#[test]
fn column_names_that_stand_twice() {
    const CSV: &str = "data/retailer/twice.csv";
    let room = room(CSV);
    for header in ["household_id,value,value", "household_id,household_id,value"] {
        room.write(CSV, csv().replace("household_id,value", header).replace(".5\n", ".5,1.5\n").as_bytes());
        let name = if header.ends_with("value,value") { "value" } else { "household_id" };
        not_agreed(&room, &format!("source `{CSV}` of view rows has two columns of the name `{name}`"));
    }
    room.write(CSV, csv().as_bytes());
    for (sql, name) in [("value, value AS value", "value"), ("value, value AS \"Value\"", "Value")] {
        let terms = room.read("room.toml");
        let sql = sql.replace('"', "\\\"");
        room.edit("room.toml", "SELECT household_id, value FROM", &format!("SELECT household_id, {sql} FROM"));
        room.not_agreed("evil", EVIL, "VIEW_INVALID", 3);
        let told = room.glovebox(&[&["agree", "questions/evil.wasm"], EVIL].concat()).stderr;
        assert!(told.lines().next().unwrap().contains(name), "{told}");
        room.write("room.toml", &terms);
    }
}

/// A number that does not fit into what the SQL makes of it is told like any row that cannot be read, and charged.
#[test]
fn a_decimal_that_overflows() {
    let room = Fixture::audited(CONTROLS);
    room.edit(
        "room.toml",
        "SELECT household_id, value FROM",
        "SELECT household_id, CAST(CAST(value AS DECIMAL(38, 2)) * CAST(1 AS DECIMAL(38, 0)) AS DOUBLE) AS value FROM",
    );
    let write = |values: Vec<i128>| {
        let values: Vec<i128> = values.into_iter().collect();
        let ids = ints((1..=values.len() as i64).collect());
        let decimals = Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap();
        write_parquet(&room.path(HOUSEHOLDS), &[("household_id", ids), ("value", Arc::new(decimals))]);
    };
    write((1..=60).map(|value| value * 100).collect());
    let agreement = room.agreed("evil", EVIL);
    room.take(&room.released(&agreement));
    let small = "CAST(value AS DECIMAL(3, 2))";
    room.edit("room.toml", "CAST(value AS DECIMAL(38, 2)) * CAST(1 AS DECIMAL(38, 0))", small);
    let agreement = room.agreed("evil", EVIL);
    room.withheld(&agreement, "VIEW_UNREADABLE");
    write((1..=60).map(|value| value * 10).collect());
    room.released(&agreement);
}

#[test]
fn an_arrow_file_that_is_cut_off() {
    const ARROW: &str = "data/retailer/households.arrow";
    let room = room(ARROW);
    let columns = [("household_id", ints((1..=60).collect())), ("value", floats((1..=60).map(f64::from)))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    let honest = writer.into_inner().unwrap();
    room.write(ARROW, &honest);
    let agreement = room.agreed("evil", EVIL);
    let fact = "source `data/retailer/households.arrow` of view rows is not a readable file of its kind";
    for length in [0, 6, honest.len() / 2, honest.len() - 10, honest.len() - 1] {
        room.write(ARROW, &honest[..length]);
        refused_for_nothing(&room, &agreement, fact);
    }
    // The footer is whole, and what it leads to is not: the message before the rows.
    let markers: Vec<usize> = (0..honest.len() - 4).filter(|at| honest[*at..*at + 4] == [0xff; 4]).collect();
    let mut torn = honest.clone();
    torn[markers[1]..markers[1] + 64].fill(0xff);
    room.write(ARROW, &torn);
    room.withheld(&agreement, "VIEW_UNREADABLE");
    room.write(ARROW, &honest);
    room.released(&agreement);
}
