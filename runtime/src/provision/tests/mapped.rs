//! Views that know their units by identifiers, through a view that says whose these are.

use std::collections::BTreeSet;

use super::*;
use crate::error::Code;
use crate::provision::{Snapshot, source};

const SQL: &str = "SELECT unit, a FROM t";

fn mapping(max_units_per_id: u32) -> View {
    let terms = Mapping { id_column: "id".into(), id_rules: Vec::new(), max_units_per_id };
    View { mapping: Some(terms), ..view("ids", "SELECT id, unit FROM ids", &[("ids", "ids.parquet")]) }
}

fn through(mapping: View) -> View {
    View { unit_via: Some(Box::new(mapping)), ..view("v", SQL, &[("t", "t.parquet")]) }
}

/// Rows of identifiers, and pairs of an identifier and a unit.
fn room(rows: &[(Option<&str>, i64)], pairs: &[(Option<&str>, Option<i64>)]) -> Folder {
    let folder = Folder::new();
    let ids: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(id, _)| *id)));
    folder.parquet("t.parquet", &[("unit", ids), ("a", ints(&rows.iter().map(|(_, a)| *a).collect::<Vec<_>>()))]);
    let ids: ArrayRef = Arc::new(StringArray::from_iter(pairs.iter().map(|(id, _)| *id)));
    let units = some_ints(&pairs.iter().map(|(_, unit)| *unit).collect::<Vec<_>>());
    folder.parquet("ids.parquet", &[("id", ids), ("unit", units)]);
    folder
}

#[track_caller]
fn is_refused(folder: &Folder, view: View, code: Code, fact: &str) {
    let fault = folder.units(&[(view, int_slot())], 100, MEMORY).unwrap_err();
    assert_eq!((fault.code(), fault.fact()), (code, fact));
}

/// Some units have several identifiers, one identifier is of two units, some are of nobody; rows and pairs stand twice.
#[test]
fn a_row_is_of_every_unit_that_its_identifier_is_mapped_to() {
    let rows = [("x", 1), ("x", 1), ("y", 2), ("both", 3), ("nobodys", 4), ("", 5), (" y ", 6), ("null", 7)];
    let mut rows: Vec<_> = rows.iter().map(|(id, a)| (Some(*id), *a)).collect();
    rows.push((None, 8));
    let pairs = [("x", 10), ("x", 10), ("y", 10), ("both", 10), (" both", 20), ("both", 20), ("", 20), ("other", 30)];
    let mut pairs: Vec<_> = pairs.iter().map(|(id, unit)| (Some(*id), Some(*unit))).collect();
    pairs.extend([(None, Some(20)), (Some("null"), None), (None, None)]);
    let folder = room(&rows, &pairs);
    let direct = view("d", "SELECT unit, unit AS a FROM ids", &[("ids", "ids.parquet")]);
    let optional = slot("o", Join::Optional, &[("a", ColumnType::Int64)]);
    folder.check(
        &[(through(mapping(2)), int_slot()), (direct, optional)],
        &expect![[r#"
        10 [["1", "1", "2", "3", "6"], ["10", "10", "10", "10"]]
        20 [["3"], ["20", "20", "20", "20"]]
    "#]],
    );
}

/// Also where no other view has that identifier: whether a run ends says nothing about other owners' rows.
#[test]
fn an_identifier_of_more_units_than_agreed_ends_the_run() {
    let rows = [(Some("x"), 1)];
    let shared = "view ids maps an identifier to more than 1 unit(s)";
    for id in ["x", "rare"] {
        let folder = room(&rows, &[(Some("x"), Some(1)), (Some(id), Some(2)), (Some(id), Some(3))]);
        is_refused(&folder, through(mapping(1)), Code::UnitShared, shared);
        let enough = if id == "x" { 3 } else { 2 };
        assert!(folder.units(&[(through(mapping(enough)), int_slot())], 9, MEMORY).is_ok());
        let fact = "view ids maps an identifier to more than 2 unit(s)";
        if id == "x" {
            is_refused(&folder, through(mapping(2)), Code::UnitShared, fact);
        }
    }
    // Pairs that stand twice, and pairs without a unit, are no more units.
    let folder = room(&rows, &[(Some("x"), Some(1)), (Some(" x"), Some(1)), (Some("x"), None)]);
    assert!(folder.units(&[(through(mapping(1)), int_slot())], 9, MEMORY).is_ok());
}

#[test]
fn identifiers_of_another_type_than_the_mappings_are_refused() {
    let folder = room(&[(Some("1"), 1)], &[(Some("1"), Some(1))]);
    let numbers = View { sql: "SELECT CAST(id AS BIGINT) AS id, unit FROM ids".into(), ..mapping(1) };
    let fact = "the unit column of view v is text, the id column of its mapping ids is an integer";
    is_refused(&folder, through(numbers), Code::ColumnType, fact);
    let none = View { sql: "SELECT id > 'a' AS id, unit FROM ids".into(), ..mapping(1) };
    let fact = "the id column `id` of view ids is Boolean, a unit is an integer or text";
    is_refused(&folder, through(none), Code::ColumnType, fact);
    let missing = View { sql: "SELECT unit FROM ids".into(), ..mapping(1) };
    is_refused(&folder, through(missing), Code::ColumnMissing, "view ids has no column `id`");
    // What the units are, the mapping says.
    let direct = view("d", SQL, &[("t", "t.parquet")]);
    let fault = folder.units(&[(through(mapping(1)), int_slot()), (direct, int_slot())], 9, MEMORY).unwrap_err();
    assert_eq!(fault.fact(), "the unit column of view ids is an integer, that of view d is text");
    let mut ruled = View { sql: "SELECT CAST(id AS BIGINT) AS id, unit FROM ids".into(), ..mapping(1) };
    ruled.mapping.as_mut().unwrap().id_rules = vec!["trim".parse().unwrap()];
    is_refused(
        &folder,
        through(ruled),
        Code::ColumnType,
        "view ids has `id_rules`, and its id column `id` is an integer",
    );
}

/// Each side by its own rules, and units by those of the mapping.
#[test]
fn identifiers_join_after_the_rules_of_both() {
    let folder = room(&[(Some(" A@x.org"), 1), (Some("a@X.org\t"), 2), (Some("a"), 3)], &[(Some("A@X.ORG"), Some(7))]);
    let mut mapping = View { sql: "SELECT id, concat(' U', unit) AS unit FROM ids".into(), ..mapping(1) };
    mapping.unit_rules = vec!["lowercase".parse().unwrap()];
    mapping.mapping.as_mut().unwrap().id_rules = vec!["email".parse().unwrap(), "sha256".parse().unwrap()];
    let mut view = through(mapping);
    view.unit_rules = vec!["email".parse().unwrap(), "sha256".parse().unwrap()];
    folder.check(
        &[(view, int_slot())],
        &expect![[r#"
        u7 [["1", "2"]]
    "#]],
    );
}

#[test]
fn a_mapping_that_maps_nothing_leaves_nobody() {
    for pairs in [[(Some("y"), Some(1))], [(None, Some(1))], [(Some("x"), None)]] {
        let folder = room(&[(Some("x"), 1)], &pairs);
        is_refused(&folder, through(mapping(1)), Code::UnitNull, "the unit column of view v names nobody in any row");
    }
}

#[test]
fn the_digest_covers_the_columns_of_the_mapping() {
    let folder = room(&[(Some("x"), 1)], &[(Some("x"), Some(1))]);
    let digest = |view: &View| describe(&folder.host(), view).unwrap().sha256();
    let mapped = digest(&through(mapping(1)));
    assert_eq!(mapped, digest(&through(View { sql: "SELECT id, unit FROM ids WHERE unit > 0".into(), ..mapping(1) })));
    for other in ["SELECT unit, id FROM ids", "SELECT id, CAST(unit AS INTEGER) AS unit FROM ids"] {
        assert_ne!(mapped, digest(&through(View { sql: other.into(), ..mapping(1) })), "{other}");
    }
    assert_ne!(mapped, digest(&View { unit_via: None, ..through(mapping(1)) }));
}

/// Grouped by its identifier alone, a mapping picks one unit over another.
#[test]
fn a_mapping_that_computes_across_units_is_named() {
    let folder = room(&[(Some("x"), 1)], &[(Some("x"), Some(1))]);
    let across = |sql: &str| {
        let mapping = View { sql: sql.into(), ..mapping(1) };
        describe(&folder.host(), &through(mapping)).unwrap().across_units().to_vec()
    };
    assert!(across("SELECT id, unit FROM ids").is_empty());
    assert_eq!(across("SELECT id, max(unit) AS unit FROM ids GROUP BY id"), ["ids"]);
}

#[test]
fn the_files_of_a_mapping_are_those_that_were_digested() {
    let pairs = [(Some("x"), Some(1))];
    let folder = room(&[(Some("x"), 1)], &pairs);
    let view = through(mapping(1));
    let bound = bind(view.clone(), &int_slot(), describe(&folder.host(), &view).unwrap().sha256());
    let held = view.with_mapping().flat_map(|view| source::digest(&folder.host(), view, &[]).unwrap()).collect();
    let snapshot = Snapshot(held);
    let named: Vec<_> = snapshot.sources().into_iter().map(|digest| (digest.view, digest.source)).collect();
    assert_eq!(named, [("v", "t.parquet"), ("ids", "ids.parquet")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let open = || open(&folder.host(), &[(&bound, &int_slot())], 9, &MEMORY, Some(&snapshot));
    assert!(open().is_ok());
    let digested = std::fs::read(folder.path("ids.parquet")).unwrap();
    std::fs::remove_file(folder.path("ids.parquet")).unwrap();
    std::fs::write(folder.path("ids.parquet"), digested).unwrap();
    let fault = open().err().unwrap();
    assert_eq!(fault.fact(), "a file of view ids was replaced while the run began");
}

#[test]
fn a_mapping_keeps_to_the_memory_of_its_view() {
    let folder = Folder::new();
    let rows = 300_000_i64;
    let name = |id: i64| format!("identifier number {id}");
    let ids: Vec<String> = (0..rows).map(|row| name(row * 7_919 % 100_003)).collect();
    let a: Vec<i64> = (0..rows).collect();
    folder.parquet("t.parquet", &[("unit", Arc::new(StringArray::from(ids)) as ArrayRef), ("a", ints(&a))]);
    let ids: Vec<String> = (0..100_003).map(name).collect();
    let units: Vec<i64> = (0..100_003).map(|id| id * 31 % 50_021).collect();
    folder.parquet("ids.parquet", &[("id", Arc::new(StringArray::from(ids)) as ArrayRef), ("unit", ints(&units))]);
    let bound = [(through(mapping(1)), int_slot())];
    let plenty = folder.units(&bound, 9, Resources { memory_bytes: 2 << 30, ..MEMORY }).unwrap();
    assert_eq!(plenty.len(), 50_021);
    let fault = folder.units(&bound, 9, Resources { memory_bytes: 24 << 20, ..MEMORY }).unwrap_err();
    let fact = "view v needs more memory or disk than it was given";
    assert_eq!((fault.code(), fault.fact()), (Code::ViewUnreadable, fact));
}

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// And a unit that goes, with its pairs, changes nobody else's rows: what one unit's privacy rests on.
    #[test]
    fn a_unit_that_goes_changes_no_other_units_rows(
        rows in proptest::collection::vec(0..5usize, 1..12),
        pairs in proptest::collection::vec((0..5usize, 1..5i64), 1..12),
        gone in 1..5i64,
    ) {
        let rows: Vec<_> = (0_i64..).zip(rows).map(|(a, id)| (Some(IDS[id]), a)).collect();
        let units = |pairs: &[(usize, i64)]| {
            let pairs: Vec<_> = pairs.iter().map(|(id, unit)| (Some(IDS[*id]), Some(*unit))).collect();
            // A room without a single pair that joins is refused, which is not what is tried here.
            let (mut rows, mut all) = (rows.clone(), pairs.clone());
            rows.push((Some("always"), 99));
            all.push((Some("always"), Some(9)));
            let found = room(&rows, &all).units(&[(through(mapping(4)), int_slot())], 99, MEMORY).unwrap();
            let model = |unit: i64| {
                let own: BTreeSet<_> = all.iter().filter(|(_, of)| *of == Some(unit)).map(|(id, _)| *id).collect();
                let a = rows.iter().filter(|(id, _)| own.contains(id)).map(|(_, a)| a.to_string()).collect::<Vec<_>>();
                (unit.to_string(), vec![a])
            };
            let mut found: Vec<Text> = found;
            // Sorted as numbers, which the model is too.
            let expected: Vec<Text> = (1..10).map(model).filter(|(_, views)| !views[0].is_empty()).collect();
            assert_eq!(found, expected);
            found.retain(|(unit, _)| *unit != gone.to_string());
            found
        };
        let left: Vec<_> = pairs.iter().copied().filter(|(_, unit)| *unit != gone).collect();
        prop_assert_eq!(units(&pairs), units(&left));
    }
}
