//! C. What an answer may hold besides its numbers. Keys, floats and their order: `encodings.rs` and `sandbox.rs`.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;

use super::{EXACT, Market, Row, SUM, files_below, households, report};
use crate::support::data::HOUSEHOLDS;
use crate::support::{Fixture, text};

/// A word that nothing else here holds.
const WORD: &str = "SPELLED5ec7e7";

/// Rows in another order, in files of other pages, and on other threads.
#[test]
fn atk_c1_order_of_rows() {
    let mut people = households(120);
    people.iter_mut().for_each(|row| row.number = 1 + row.household % 2);
    let market = Market::new(EXACT, &people);
    market.question("totals", &["-1", "-2"], SUM);
    let agreement = market.agreed("totals", "people");
    let mut outputs = Vec::new();
    let mut orders = std::collections::BTreeSet::new();
    for turn in 0..3 {
        // 120 and 77 share no divisor: a different order for each turn.
        let order = |row: &Row| (row.household * [1, 77, 43][turn]) % 121;
        people.sort_by_key(order);
        orders.insert(people.iter().map(|row| row.household).collect::<Vec<_>>());
        market.write_people(&people);
        let released = market.room.released(&agreement);
        outputs.push(market.room.read(&released.output));
        market.room.take(&released);
    }
    assert_eq!(orders.len(), 3, "the attack is dead");
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    let bits: f64 = (1..=120).map(|n| f64::from(n).log2()).sum();
    report(
        "C1",
        "the order of an owner's rows",
        format!("groups in the order in which they are first met: up to {bits:.0} bits for 120 rows"),
        format!("{} orders, {} output", orders.len(), 1),
    );
}

/// A word in every place of a source file that is no row: metadata of the file and of a column, and a column's name.
#[test]
fn atk_c4_names_and_metadata() {
    let people = households(60);
    let told = |format: &str, is_spelled: bool| {
        let market = Market::new(EXACT, &people);
        let name = |plain: &str| if is_spelled { format!("{plain}{WORD}") } else { plain.to_owned() };
        let metadata = || [(name("k"), name("v"))].into();
        let field = |plain: &str, kind| Field::new(name(plain), kind, true).with_metadata(metadata());
        let fields = vec![
            Field::new("household_id", DataType::Int64, true),
            field("number", DataType::Int64),
            field("amount", DataType::Float64),
        ];
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata()));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(people.iter().map(|row| row.household))),
            Arc::new(Int64Array::from_iter_values(people.iter().map(|row| row.number))),
            Arc::new(Float64Array::from_iter_values(people.iter().map(|row| row.amount))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let file = std::fs::File::create(market.room.path("data/retailer/people.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let sql = format!(
            "SELECT household_id, {} AS number, {} AS amount FROM people",
            quoted(&name("number")),
            quoted(&name("amount"))
        );
        market.offer("spelled", &sql);
        market.question("totals", &["-1"], SUM);
        let terms: Vec<String> = Market::terms("spelled", 1);
        let terms: Vec<&str> = terms.iter().map(|term| if term == "sheets" { format } else { term.as_str() }).collect();
        let released = market.room.released(&market.room.agreed("totals", &terms));
        market.room.read(&released.output)
    };
    let mut lengths = Vec::new();
    for format in ["sheets", "reports", "frames"] {
        let (plain, spelled) = (told(format, false), told(format, true));
        assert!(!contains(&spelled, WORD), "{format}: the output spells the word");
        assert_eq!(plain, spelled, "{format}");
        lengths.push(spelled.len());
    }
    // What passing the view's own schema on would come to.
    let schema = Schema::new_with_metadata(
        vec![Field::new(WORD, DataType::Float64, true)],
        [("k".to_owned(), "v".to_owned())].into(),
    );
    let mut passed_on = Vec::new();
    let column = Arc::new(Float64Array::from(vec![1.0]));
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![column]).unwrap();
    let mut writer = ArrowWriter::try_new(&mut passed_on, Arc::new(schema), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(contains(&passed_on, WORD), "the attack is dead");
    report(
        "C4",
        "a word in names and metadata of the sources",
        format!("a schema that is passed on: {} bytes of the word", WORD.len()),
        format!("CSV, Parquet and Arrow outputs are equal byte for byte ({lengths:?} bytes)"),
    );
}

fn quoted(name: &str) -> String {
    // Inside of a TOML string.
    format!("\\\"{name}\\\"")
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// A group of nobody, and one of everybody.
#[test]
fn atk_c5_how_many_rows_a_table_has() {
    let groups = ["-1", "-2", "-3", "-4"];
    let mut rows = Vec::new();
    let mut met = Vec::new();
    for used in 1..=4 {
        let mut people = households(200);
        people.iter_mut().for_each(|row| row.number = 1 + row.household % used);
        met.push(people.iter().map(|row| row.number).collect::<std::collections::BTreeSet<_>>().len());
        let market = Market::new(super::NOISY, &people);
        market.question("totals", &groups, SUM);
        rows.push(market.asked("totals", "people").table.total);
    }
    assert_eq!(met, [1, 2, 3, 4], "the attack is dead");
    assert_eq!(rows, [4; 4]);
    report(
        "C5",
        "how many groups a table has",
        format!("a row for each group that is met: {met:?} rows"),
        format!("a row for each group of the domain: {rows:?}"),
    );
}

/// The question panics with a text of its own, and the host says what the program is.
#[test]
fn atk_c7_logs_and_the_text_of_a_panic() {
    let room = Fixture::new();
    let said = "an attack";
    assert!(contains(&room.component("evil"), said), "the attack is dead");
    let terms = ["--set", "attack=unreachable", "--set", "only_unit_with=-1", "--destination", "sheets"];
    let agreement = room.agreed("evil", &terms);
    let mut command = room.command();
    let ran = command.args(["run", &agreement, "--json"]).env("GLOVEBOX_LOG", "trace").output().unwrap();
    let printed = [ran.stdout, ran.stderr].concat();
    let spells = |bytes: &[u8]| contains(bytes, said);
    assert!(!spells(&printed), "{}", String::from_utf8_lossy(&printed));
    let files = files_below(&room.root());
    let spelled: Vec<&String> = files
        .iter()
        .filter(|(path, bytes)| spells(bytes) && !path.starts_with("questions/"))
        .map(|(path, _)| path)
        .collect();
    assert!(spelled.is_empty(), "{spelled:?}");
    report(
        "C7",
        "the text of a panic, with all logs on",
        format!("a host that prints why a guest failed: {} bytes per unit, of {HOUSEHOLDS} units", said.len()),
        format!("0 bytes in {} files, stdout and stderr", files.len()),
    );
}

/// Why a run failed after it read data. Which file, row or value it was is for the auditor.
#[test]
fn atk_c8_error_texts() {
    let people = households(60);
    let market = Market::new(EXACT, &people);
    // Division by zero if and only if the target has this amount.
    market.offer(
        "oracle",
        "SELECT household_id, number / CASE WHEN household_id = 7 AND amount = 77.0 THEN 0 ELSE 1 END AS number, \
         amount FROM people",
    );
    market.question("totals", &["-1"], SUM);
    let ran = market.room.run(&market.agreed("totals", "oracle"));
    market.room.is_refused(&ran, "WITHHELD", 5);
    for word in ["zero", "divi", "Arrow", "oracle", "77"] {
        let told = [text(&ran.json()["fact"]), text(&ran.json()["remedy"]), ran.stderr.clone()].concat();
        assert!(!told.contains(word), "{told}");
    }
    let reference = "Arrow error: Divide by zero error";
    report(
        "C8",
        "an error of a view's SQL that depends on one row",
        format!("the engine's message: \u{201c}{reference}\u{201d}, 1 bit per run, free"),
        format!("{}: charged, and limited", text(&ran.json()["code"])),
    );
}
