//! Units by keys that have been through the rules of their view.

use super::*;
use crate::error::Code;

fn room(sql: &str, rules: &[&str]) -> (Folder, View) {
    let folder = Folder::new();
    let keys = ["A@x.org", " a@X.org ", "a", "", " ", "a@x.org\0", "b@x.org"];
    folder.parquet("t.parquet", &[("unit", texts(&keys)), ("a", ints(&[1, 2, 3, 4, 5, 6, 7]))]);
    let unit_rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    (folder, View { unit_rules, ..view("v", sql, &[("t", "t.parquet")]) })
}

/// Not even with each other, and a slot that may be empty is no way round.
#[test]
fn what_the_rules_make_nobody_of_never_joins() {
    let (folder, view) = room("SELECT unit, a FROM t", &["email"]);
    let optional = slot("o", Join::Optional, &[("a", ColumnType::Int64)]);
    folder.check(
        &[(view.clone(), int_slot()), (view.clone(), optional)],
        &expect![[r#"
        a@x.org [["1", "2"], ["1", "2"]]
        b@x.org [["7"], ["7"]]
    "#]],
    );
    let none = View { sql: "SELECT unit, a FROM t WHERE a BETWEEN 3 AND 6".into(), ..view };
    let fault = folder.units(&[(none, int_slot())], 100, MEMORY).unwrap_err();
    assert_eq!(fault.code(), Code::UnitNull);
}

/// Without rules, spaces alone are taken off.
#[test]
fn a_key_without_rules_stays_as_it_is() {
    let (folder, view) = room("SELECT unit, a FROM t WHERE a <> 6", &[]);
    folder.check(
        &[(view, int_slot())],
        &expect![[r#"
        A@x.org [["1"]]
        a [["3"]]
        a@X.org [["2"]]
        b@x.org [["7"]]
    "#]],
    );
}

#[test]
fn rules_over_whole_numbers_are_refused() {
    let (folder, view) = room("SELECT a AS unit, a FROM t", &["trim"]);
    let fault = folder.units(&[(view, int_slot())], 100, MEMORY).unwrap_err();
    assert_eq!(fault.code(), Code::ColumnType);
}
