//! Masks in the SQL of a view.

use super::*;

/// The one row of a view of one row.
fn masked(expression: &str) -> String {
    let folder = Folder::new();
    let columns = [
        ("unit", ints(&[7])),
        ("text", texts(&["60314"])),
        ("float", Arc::new(Float64Array::from(vec![12.5])) as ArrayRef),
        ("none", Arc::new(StringArray::from(vec![None::<&str>]))),
        ("wide", Arc::new(UInt64Array::from(vec![7]))),
        ("word", Arc::new(vec!["red"].into_iter().collect::<DictionaryArray<Int8Type>>())),
    ];
    folder.parquet("t.parquet", &columns);
    let sql = format!("SELECT unit, CAST({expression} AS VARCHAR) AS a FROM t");
    let view = view("v", &sql, &[("t", "t.parquet")]);
    let slot = nullable(slot("s", Join::Required, &[("a", ColumnType::Utf8)]));
    match folder.units(&[(view, slot)], 100, MEMORY) {
        Ok(units) => units[0].1[0][0].clone(),
        Err(fault) => fault.fact().to_owned(),
    }
}

#[test]
fn masks_are_functions_of_a_views_sql() {
    for (expression, expected) in [
        ("sha256_hex(text)", "59a14b6d64a2fd73a9926b849c6067d0e1443dbcb816dc3950018f541647fdfa"),
        ("bucket(unit, 5)", "5"),
        ("bucket(float, 5)", "10.0"),
        ("bucket(unit, 2.5)", "5.0"),
        ("bucket(unit, 0)", "-"),
        ("bucket(NULL, 5)", "-"),
        ("generalise(text, 3)", "603**"),
        ("generalise(word, 1)", "r**"),
        ("generalise(none, 3)", "-"),
        ("sha256_hex(none)", "-"),
        ("pseudonym(none)", "-"),
        ("date_trunc('month', TIMESTAMP '2026-03-17T10:00:00')", "2026-03-01T00:00:00"),
        // A mask may stand where any function may.
        ("bucket(character_length(generalise(text, 2)), 2)", "4"),
    ] {
        assert_eq!(masked(expression), expected, "{expression}");
    }
    // A number is the text of its digits.
    assert_eq!(masked("sha256_hex(unit)"), masked("sha256_hex('7')"));
    assert_eq!(masked("sha256_hex(wide)"), masked("sha256_hex('7')"));
    assert_eq!(masked("pseudonym(unit)"), RoomKey::none().pseudonym("7"));
}

#[test]
fn masks_of_what_they_do_not_take_are_refused() {
    for expression in [
        "sha256_hex(float)",
        "sha256_hex()",
        "sha256_hex(text, text)",
        "pseudonym(true)",
        "bucket(text, 5)",
        "bucket(wide, 5)",
        "bucket(unit)",
        "generalise(unit, 3)",
        "generalise(text, 'a')",
        "generalise(text)",
        "generalize(text, 3)",
        "mask(text)",
    ] {
        let found = masked(expression);
        assert!(found.starts_with("the SQL of view v cannot be planned: "), "{expression}: {found}");
    }
}

/// The key is the room's, for every view of it, and comes from where the run's resources do.
#[test]
fn pseudonyms_are_made_under_the_key_of_the_room() {
    let folder = Folder::new();
    folder.parquet("t.parquet", &[("unit", ints(&[1, 2])), ("a", ints(&[1, 2]))]);
    let view = view("v", "SELECT pseudonym(unit) AS unit, a FROM t", &[("t", "t.parquet")]);
    let key = RoomKey::from_hex(&"7a".repeat(32)).unwrap();
    let units = |room_key| {
        let found = folder.units(&[(view.clone(), int_slot())], 100, Resources { room_key, ..MEMORY }).unwrap();
        found.into_iter().map(|(unit, _)| unit).collect::<Vec<_>>()
    };
    let mut expected = ["1", "2"].map(|unit| key.pseudonym(unit));
    expected.sort();
    assert_eq!(units(key), expected);
    assert_eq!(units(key), units(key));
    assert_ne!(units(key), units(RoomKey::none()));
}
