//! What changed between two agreements, one line for each change.
//!
//! People sign what they read here, so nothing may be left out: no two changes have the same lines, and none has no
//! line. Texts come from whoever composed the agreement; none may move a terminal's cursor or pass for another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::room::sha256_hex;

/// The fields that name an element of an array, in the order in which they are looked for.
const KEYS: [&str; 3] = ["slot", "id", "name"];

/// Texts up to this many characters are shown whole.
const CHARACTERS_MAX: usize = 120;

/// Characters that are left at each end of a longer text.
const CHARACTERS_KEPT: usize = 48;

/// Half of a digest: nobody finds two texts that share it.
const DIGEST_DIGITS: usize = 32;

/// The changes from `before` to `after`, none where the two are equal.
///
/// A changed value is `path: old -> new`, one that is new or gone `path: + value` or `path: - value`. Elements of
/// arrays are matched by their `slot`, `id` or `name` where every element has its own, by their place otherwise.
pub(crate) fn diff(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(&Path::default(), before, after, &mut lines);
    lines
}

fn compare(path: &Path, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        _ if is_leaf(before) && is_leaf(after) => {
            lines.push(format!("{path}: {} -> {}", leaf(before), leaf(after)));
        }
        // What loses its last part is not gone, and has a line of its own that says so.
        _ if is_leaf(before) || is_leaf(after) => replace(path, before, after, lines),
        (Value::Object(before), Value::Object(after)) => compare_fields(path, before, after, lines),
        (Value::Array(before), Value::Array(after)) => match key_of(before, after) {
            Some(key) => compare_keyed(path, key, before, after, lines),
            None => compare_places(path, before, after, lines),
        },
        _ => replace(path, before, after, lines),
    }
}

fn replace(path: &Path, before: &Value, after: &Value, lines: &mut Vec<String>) {
    list(path, '-', before, lines);
    list(path, '+', after, lines);
}

fn compare_fields(path: &Path, before: &Map<String, Value>, after: &Map<String, Value>, lines: &mut Vec<String>) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        compare_parts(&path.field(name), before.get(name), after.get(name), lines);
    }
}

fn compare_places(path: &Path, before: &[Value], after: &[Value], lines: &mut Vec<String>) {
    for place in 0..before.len().max(after.len()) {
        compare_parts(&path.place(place), before.get(place), after.get(place), lines);
    }
}

fn compare_parts(path: &Path, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    match (before, after) {
        (Some(before), Some(after)) => compare(path, before, after, lines),
        (Some(before), None) => list(path, '-', before, lines),
        (None, Some(after)) => list(path, '+', after, lines),
        (None, None) => {}
    }
}

fn compare_keyed(path: &Path, key: &str, before: &[Value], after: &[Value], lines: &mut Vec<String>) {
    let (old, new) = (names(key, before), names(key, after));
    let elements: BTreeMap<&str, &Value> = new.iter().copied().zip(after).collect();
    for (name, element) in old.iter().zip(before) {
        compare_parts(&path.element(key, name), Some(element), elements.get(name).copied(), lines);
    }
    let mut expected: Vec<&str> = old.iter().copied().filter(|name| elements.contains_key(name)).collect();
    for (name, element) in new.iter().zip(after).filter(|(name, _)| !old.contains(name)) {
        compare_parts(&path.element(key, name), None, Some(element), lines);
        expected.push(name);
    }
    if expected != new {
        // Slots and parameters reach the question by their order.
        lines.push(format!("{path}: order {} -> {}", order(&old), order(&new)));
    }
}

/// The field by which the elements of both arrays can be told apart.
fn key_of(before: &[Value], after: &[Value]) -> Option<&'static str> {
    let tells_apart = |key: &str, elements: &[Value]| {
        let names = names(key, elements);
        names.len() == elements.len() && names.iter().collect::<BTreeSet<_>>().len() == names.len()
    };
    KEYS.into_iter().find(|key| tells_apart(key, before) && tells_apart(key, after))
}

fn names<'a>(key: &str, elements: &'a [Value]) -> Vec<&'a str> {
    elements.iter().filter_map(|element| element.get(key)?.as_str()).collect()
}

fn order(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| text(name)).collect();
    format!("[{}]", names.join(", "))
}

/// A line for every leaf of a value that is new or gone.
fn list(path: &Path, sign: char, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            fields.into_iter().for_each(|(name, value)| list(&path.field(name), sign, value, lines));
        }
        Value::Array(values) if !values.is_empty() => {
            let elements = values.iter().enumerate();
            elements.for_each(|(place, value)| list(&path.place(place), sign, value, lines));
        }
        _ => lines.push(format!("{path}: {sign} {}", leaf(value))),
    }
}

/// What has no parts: values that are no container, and containers that are empty.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(values) => values.is_empty(),
        _ => true,
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        _ => value.to_string(),
    }
}

/// A text in quotes; what stands behind the closing quote is ours, so no text can pass for it. A digest goes with
/// what is cut, and with letters that may look like others: Cyrillic and Latin `a`, say.
fn text(text: &str) -> String {
    let count = text.chars().count();
    if count <= CHARACTERS_MAX && text.is_ascii() {
        return format!("\"{}\"", text.escape_debug());
    }
    let digest = sha256_hex(text.as_bytes());
    let digest = digest.get(..DIGEST_DIGITS).unwrap_or(&digest);
    if count <= CHARACTERS_MAX {
        return format!("\"{}\" (sha256 {digest})", text.escape_debug());
    }
    let start: String = text.chars().take(CHARACTERS_KEPT).collect();
    let end: String = text.chars().skip(count - CHARACTERS_KEPT).collect();
    format!("\"{}…{}\" ({count} characters, sha256 {digest})", start.escape_debug(), end.escape_debug())
}

/// Where a value stands: `views[slot="a"].view.sql`, or `.` for the whole.
#[derive(Clone, Default)]
struct Path(String);

impl Path {
    fn field(&self, name: &str) -> Self {
        let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match (is_plain, self.0.is_empty()) {
            (true, true) => Self(name.to_owned()),
            (true, false) => Self(format!("{}.{name}", self.0)),
            (false, _) => Self(format!("{}[{}]", self.0, text(name))),
        }
    }

    fn place(&self, place: usize) -> Self {
        Self(format!("{}[{place}]", self.0))
    }

    fn element(&self, key: &str, name: &str) -> Self {
        Self(format!("{}[{key}={}]", self.0, text(name)))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(before: &Value, after: &Value, expected: &Expect) {
        expected.assert_eq(&diff(before, after).join("\n"));
    }

    #[test]
    fn every_change_has_a_line() {
        let before = json!({
            "revision": 1,
            "views": [
                { "slot": "left", "view": { "sql": "SELECT 1", "owner": "a" } },
                { "slot": "right", "view": { "sql": "SELECT 2", "owner": "b" } },
            ],
            "controls": { "epsilon_micros": 1000, "delta_femtos": 5 },
            "columns": ["x", "y"],
            "gone": null,
            "odd name": false,
        });
        let after = json!({
            "revision": 2,
            "views": [
                { "slot": "right", "view": { "sql": "SELECT 2\n-- \u{1b}[2J\u{202e}", "owner": "b" } },
                { "slot": "third", "view": { "sql": "", "owner": "c" } },
            ],
            "controls": { "epsilon_micros": 1000.0, "delta_femtos": "5" },
            "columns": ["y"],
            "odd name": [],
        });
        check(
            &before,
            &after,
            &expect![[r#"
            columns[0]: "x" -> "y"
            columns[1]: - "y"
            controls.delta_femtos: 5 -> "5"
            controls.epsilon_micros: 1000 -> 1000.0
            gone: - null
            ["odd name"]: false -> []
            revision: 1 -> 2
            views[slot="left"].slot: - "left"
            views[slot="left"].view.owner: - "a"
            views[slot="left"].view.sql: - "SELECT 1"
            views[slot="right"].view.sql: "SELECT 2" -> "SELECT 2\n-- \u{1b}[2J\u{202e}" (sha256 50f2602965c6337b1a7744a86a19b0ae)
            views[slot="third"].slot: + "third"
            views[slot="third"].view.owner: + "c"
            views[slot="third"].view.sql: + """#]],
        );
    }

    #[test]
    fn the_order_of_named_elements_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|name| json!({ "name": name, "value": "1" }));
        check(&json!([a, b]), &json!([b, a]), &expect![[r#".: order ["a", "b"] -> ["b", "a"]"#]]);
        check(
            &json!({ "p": [a, b] }),
            &json!({ "p": [c, a, b] }),
            &expect![[r#"
            p[name="c"].name: + "c"
            p[name="c"].value: + "1"
            p: order ["a", "b"] -> ["c", "a", "b"]"#]],
        );
    }

    #[test]
    fn elements_without_a_name_of_their_own_are_matched_by_place() {
        let twice = json!([{ "id": "a", "v": 1 }, { "id": "a", "v": 2 }]);
        check(
            &twice,
            &json!([{ "id": "a", "v": 1 }]),
            &expect![[r#"
            [1].id: - "a"
            [1].v: - 2"#]],
        );
    }

    #[test]
    fn what_is_empty_is_not_gone() {
        let full = json!({ "a": { "x": 1 }, "b": [{ "id": "y" }] });
        check(
            &full,
            &json!({ "a": {}, "b": [] }),
            &expect![[r#"
            a.x: - 1
            a: + {}
            b[0].id: - "y"
            b: + []"#]],
        );
        check(
            &json!({}),
            &full,
            &expect![[r#"
            .: - {}
            a.x: + 1
            b[0].id: + "y""#]],
        );
    }

    #[test]
    fn kinds_of_values_are_told_apart() {
        let values =
            [json!(null), json!(0), json!(0.5), json!("0"), json!([]), json!({}), json!([null]), json!({"a": 0})];
        let lines: Vec<String> = values.iter().map(|value| diff(&values[0], value).join("; ")).collect();
        expect![[r#"

            .: null -> 0
            .: null -> 0.5
            .: null -> "0"
            .: null -> []
            .: null -> {}
            .: - null; [0]: + null
            .: - null; a: + 0"#]]
        .assert_eq(&lines.join("\n"));
    }

    /// Equal ends, equal lengths, or letters that look alike: the digest differs.
    #[test]
    fn no_two_texts_look_alike() {
        let long = |middle: &str| format!("{}{middle}{}", "a".repeat(200), "z".repeat(200));
        let pretender = text(&long("1"));
        let texts = [
            long("1"),
            long("2"),
            pretender.clone(),
            pretender[1..].to_owned(),
            "acme".to_owned(),
            "\u{430}cme".to_owned(),
            "caf\u{e9}".to_owned(),
            "cafe\u{301}".to_owned(),
            "\u{2026}".to_owned(),
            "\\u{2026}".to_owned(),
            "\\n".to_owned(),
            "\n".to_owned(),
        ];
        let shown: BTreeSet<String> = texts.iter().map(|plain| text(plain)).collect();
        assert_eq!(shown.len(), texts.len(), "{shown:#?}");
        assert!(shown.iter().all(|shown| shown.chars().count() < 2 * CHARACTERS_MAX), "{shown:#?}");
    }

    /// Small, so that two of them are often nearly the same.
    fn agreements() -> impl Strategy<Value = Value> {
        let texts = prop_oneof!["[ab]", Just("\u{430}\n\u{7}\u{202e}\u{85}".to_owned()), Just("x".repeat(300))];
        let leaves = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..2i64).prop_map(Value::from),
            Just(json!(0.0)),
            texts.prop_map(Value::from),
        ];
        let names = prop_oneof![Just("id"), Just("name"), Just("slot"), Just("a"), Just("a.b"), Just("\u{1b}")];
        leaves.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names.clone().prop_map(str::to_owned), inner.clone(), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
                proptest::collection::vec(("[abc]", inner), 0..4).prop_map(|elements| {
                    elements.into_iter().map(|(id, value)| json!({ "id": id, "value": value })).collect()
                }),
            ]
        })
    }

    /// A value and another that differs from it in few places, or not at all.
    fn pairs() -> impl Strategy<Value = (Value, Value)> {
        let edited = (agreements(), agreements(), any::<prop::sample::Index>()).prop_map(|(value, part, place)| {
            let mut edited = value.clone();
            let mut places = Vec::new();
            walk(&edited, String::new(), &mut places);
            let pointer = places[place.index(places.len())].clone();
            *edited.pointer_mut(&pointer).unwrap() = part;
            (value, edited)
        });
        prop_oneof![edited, (agreements(), agreements()), agreements().prop_map(|value| (value.clone(), value))]
    }

    fn walk(value: &Value, pointer: String, places: &mut Vec<String>) {
        match value {
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(at, value)| walk(value, format!("{pointer}/{at}"), places));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| walk(value, format!("{pointer}/{name}"), places));
            }
            _ => {}
        }
        places.push(pointer);
    }

    proptest! {
        #[test]
        fn there_are_no_lines_just_where_nothing_changed((before, after) in pairs()) {
            prop_assert_eq!(diff(&before, &after).is_empty(), before == after);
            prop_assert!(diff(&before, &before).is_empty());
        }

        /// The lines say everything: from them and the one agreement, there is only one other.
        #[test]
        fn other_changes_have_other_lines((before, after) in pairs(), (one, other) in pairs()) {
            prop_assert_eq!(diff(&one, &before) == diff(&one, &after), before == after);
            prop_assert_eq!(diff(&before, &one) == diff(&before, &other), one == other);
        }

        #[test]
        fn no_line_moves_the_cursor(before in ".*", after in ".*", (left, right) in pairs()) {
            let texts = diff(&json!({ &before: &after }), &json!({ &after: &before, "x": &before }));
            for line in texts.into_iter().chain(diff(&left, &right)) {
                prop_assert!(!line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{}", line);
            }
        }
    }
}
