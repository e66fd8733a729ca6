//! A. What one unit can hear of another. That answers follow from a unit's own rows alone is shown in
//! `runtime/src/sandbox/isolation.rs`, which compares them bit for bit; here stands what is around that.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, StringArray};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Type};
use wasmtime::{Config, Engine};

use super::{EXACT, Market, Row, SUM, exact_host, households, manifest, number, report};
use crate::support::data::{floats, ints};
use crate::support::{Fixture, checkout};

/// Words that a clock, an index, a number of units or a source of randomness would go by.
const SUSPICIOUS: [&str; 12] =
    ["clock", "time-now", "now", "random", "seed", "index", "batch", "total", "fuel", "env", "socket", "file"];

/// Everything that a question can be called with, or can call.
#[test]
fn atk_a2_what_a_question_can_ask_of_its_host() {
    let room = Fixture::new();
    let engine = Engine::new(&Config::new()).expect("an engine");
    let mut questions: Vec<String> = std::fs::read_dir(checkout().join("target/questions"))
        .expect("built questions")
        .filter_map(|entry| {
            entry.expect("an entry").file_name().into_string().ok()?.strip_suffix(".wasm").map(str::to_owned)
        })
        .collect();
    questions.sort();
    let examples = std::fs::read_dir(checkout().join("guest-examples")).expect("examples");
    let examples =
        examples.filter(|entry| entry.as_ref().expect("an entry").path().join("question.toml").exists()).count();
    assert_eq!(questions.len(), examples, "not every example is looked at: {questions:?}");
    for name in &questions {
        let bytes = std::fs::read(checkout().join(format!("target/questions/{name}.wasm"))).expect("a question");
        let component = Component::from_binary(&engine, &bytes).expect("a component");
        let world = component.component_type();
        assert_eq!(world.imports(&engine).count(), 0, "{name} imports something");
        let functions: Vec<(String, Vec<String>)> = functions(&world, &engine);
        let [(function, parameters)] = &functions[..] else { panic!("{name}: {functions:?}") };
        assert!(["measure", "select"].contains(&function.as_str()), "{name}: {function}");
        assert_eq!(parameters[..], ["unit: list<U64>"], "{name}");
    }
    let wit = std::fs::read_to_string(checkout().join("sdk/wit/question.wit")).expect("the contract");
    let words: BTreeSet<&str> = wit
        .lines()
        .filter(|line| !line.trim_start().starts_with("///"))
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'))
        .collect();
    assert!(SUSPICIOUS.iter().all(|word| !words.contains(word)), "{words:?}");

    // A component that could ask is not even agreed on.
    let asking = wat::parse_str(
        "(component (import \"wasi:clocks/monotonic-clock@0.2.0\" (instance (export \"now\" (func (result u64))))))",
    );
    let asking = asking.expect("a component");
    let imports =
        Component::from_binary(&engine, &asking).expect("a component").component_type().imports(&engine).count();
    assert_eq!(imports, 1, "the attack is dead");
    room.write("questions/asking.wasm", &asking);
    room.write("questions/asking.toml", &room.read("questions/evil.toml"));
    let terms = ["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "sheets"];
    room.not_agreed("asking", &terms, "COMPONENT_IMPORTS", 3);
    report(
        "A2",
        "a clock, an index, a number of units to ask for",
        format!("a host that links what is asked for: {imports} clock"),
        format!(
            "{} examples import 0 functions and get 1 argument; one that imports is COMPONENT_IMPORTS",
            questions.len()
        ),
    );
}

/// Every function that a component exports, with its parameters.
fn functions(world: &wasmtime::component::types::Component, engine: &Engine) -> Vec<(String, Vec<String>)> {
    let mut functions = Vec::new();
    for (_, item) in world.exports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        for (name, item) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(function) = item.ty {
                let parameters = function.params().map(|(name, kind)| format!("{name}: {}", described(&kind)));
                functions.push((name.to_owned(), parameters.collect()));
            }
        }
    }
    functions
}

fn described(kind: &Type) -> String {
    match kind {
        Type::List(list) => format!("list<{}>", described(&list.ty())),
        Type::Record(record) => {
            format!("record {}", record.fields().map(|field| field.name.to_owned()).collect::<Vec<_>>().join(" "))
        }
        Type::Variant(_) => "variant".into(),
        other => format!("{other:?}"),
    }
}

/// One household has a hundred thousand rows.
#[test]
fn atk_a5_row_bomb() {
    let mut people: Vec<Row> = households(60);
    people.iter_mut().for_each(|row| row.amount = 10.0);
    let honest = exact_host(&people, 2).unwrap().1;
    people.extend((0..100_000).map(|_| Row { household: super::TARGET, number: 1, amount: 100.0 }));
    let bombed = exact_host(&people, 2).unwrap().1;
    assert!(bombed - honest > 1e6, "the attack is dead");

    let market = Market::new(EXACT, &people);
    market.question("totals", &["-1"], SUM);
    let released = market.asked("totals", "people");
    let moved = number(&released, "amount") - honest;
    assert_eq!(number(&released, "people"), 60.0);
    // A unit moves a sum by the range at most; the rest is rounding.
    assert!(moved.abs() <= 101.0, "a unit moved the sum by {moved}");
    report(
        "A5",
        "a unit of 100000 rows",
        format!("a host that adds rows: the sum moves by {:.0}", bombed - honest),
        format!("the sum moves by {moved:.0}, of 100 allowed, and the count by 1"),
    );
}

/// Identifiers that are none, or that are one person's twice.
#[test]
fn atk_a6_ids_that_are_none_or_look_alike() {
    let ids: Vec<Option<&'static str>> = [Some("a"), Some(" a "), Some("A"), Some("b"), Some("c"), Some("c ")]
        .into_iter()
        .chain(std::iter::repeat_n(Some(""), 30))
        .chain(std::iter::repeat_n(Some("  "), 5))
        .chain(std::iter::repeat_n(None, 30))
        .collect();
    let distinct = ids.iter().collect::<BTreeSet<_>>().len();
    let of_nobody = ids.iter().filter(|id| id.is_none_or(str::is_empty)).count();
    let column = |ids: &[Option<&'static str>]| -> ArrayRef { std::sync::Arc::new(StringArray::from_iter(ids.iter())) };
    let people = [
        ("household_id", column(&ids)),
        ("number", ints(vec![1; ids.len()])),
        ("amount", floats(std::iter::repeat_n(1.0, ids.len()))),
    ];
    let marks = [("household_id", column(&ids)), ("mark", ints(vec![1; ids.len()]))];
    // Each view in a room of its own, so that the second answer is not refused for being almost the first.
    let heads = |view: &str| {
        let controls = "mode = 'sealed-k', k_min = 2, round_to = 1, dominance = { n = 1, p = 1.0 }";
        let market = Market::new(controls, &households(2));
        market.write_table("retailer/people", &people);
        market.write_table("brand/marks", &marks);
        market.offer("lowered", "SELECT lower(household_id) AS household_id, number, amount FROM people");
        // Ids of which only one party's form is known would count in the other group.
        market.question_of("heads", &manifest("heads", &["-1", "1"], ""), &super::census());
        number(&market.asked("heads", view), "people")
    };
    // 'a' and ' a ' are one, and so are 'c' and 'c '; 'A' is somebody else, unless the view's own SQL says otherwise.
    let (as_they_are, lowered) = (heads("people"), heads("lowered"));
    assert_eq!((as_they_are, lowered), (4.0, 3.0));
    assert!(distinct > 4 && of_nobody == 60, "the attack is dead");
    report(
        "A6",
        "null, empty, padded and differently cased ids",
        format!(
            "a host that takes texts as they are: {distinct} people, one of them with {} rows of nobody",
            of_nobody
        ),
        format!("{as_they_are} people, and {lowered} where the view lowers ids; rows of nobody are dropped"),
    );
}
