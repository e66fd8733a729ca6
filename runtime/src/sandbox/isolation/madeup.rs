//! Questions that no author would write: random code that reads, writes and grows everything that it can reach, a
//! search for what another instance left, and every way to fail.

use std::fmt::Write as _;

use super::careless::CarelessHost;
use super::crowd::{Crowd, below};
use super::{Case, Said, ask, first_difference};
use crate::provision::Unit;
use crate::random::Random;
use crate::room::Manifest;
use glovebox_sandbox::testing::{WIT, encode};

/// Every type of column, with nulls, and a view that may have no rows.
const MANIFEST: &str = r#"
    version = 1
    name = "t"
    kind = "analytical"
    isolation = "sealed"
    description = "t"
    [[view]]
    slot = "left"
    join = "required"
    columns = [
        { name = "a", type = "boolean", nullable = true },
        { name = "b", type = "int64", nullable = true },
        { name = "c", type = "float64", nullable = true },
        { name = "d", type = "date", nullable = true },
        { name = "e", type = "timestamp", nullable = true },
        { name = "f", type = "utf8", nullable = true },
        { name = "g", type = "dictionary", nullable = true },
    ]
    [[view]]
    slot = "right"
    join = "optional"
    columns = [{ name = "a", type = "int64" }]
    [[group]]
    name = "group"
    domain = ["a", "b"]
    [[measure]]
    name = "units"
    reducer = "count"
    [[measure]]
    name = "value"
    reducer = "sum"
    range = [-7.0, 9.0]
    [bounds]
    max_rows_per_unit = 10000
"#;

/// A case whose function runs a body. `$seen` is what it contributes, whatever bits it has; arguments lie from 1024 on
/// up to `$end`, and locals 0 and 1 are where the unit's words lie and how many there are.
fn case(name: String, body: &str) -> Case {
    let module = format!(
        r#"(module
        (memory (export "memory") 1 48)
        (table $table 4 1000 funcref)
        (global $end (mut i32) (i32.const 1024))
        (global $kept (mut i64) (i64.const 0))
        (elem declare func $deep)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $start i32)
            (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
            (global.set $end (i32.add (local.get $start) (local.get 3)))
            (local.get $start))
        (func $deep (param i64) (result i64)
            (i64.add (local.get 0) (call $deep (i64.add (local.get 0) (i64.const 1)))))
        (func (export "glovebox:question/analytical@0.2.0#measure") (param i32 i32) (result i32)
            (local $seen i64) (local $at i32) (local $end_at i32)
            {body}
            (i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 1))
            (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 1))
            (i32.store (i32.const 24) (i32.const 72)) (i32.store (i32.const 28) (i32.const 1))
            (i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 1))
            (i32.store (i32.const 64) (i32.const 97)) (i64.store (i32.const 72) (local.get $seen))
            (i32.const 8)))"#
    );
    let component = encode(WIT, "analytical-question", wat::parse_str(&module).unwrap());
    let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
    Case { name: format!("{name}: {body}"), component, manifest, parameters: Vec::new() }
}

/// Mixes a word into what has been seen.
fn see(word: &str) -> String {
    format!("(local.set $seen (i64.add (i64.rotl (local.get $seen) (i64.const 7)) {word}))\n")
}

/// Calls `step` for every 8 bytes from `$at` up to `$end_at`.
fn over_memory(from: &str, to: &str, step: &str) -> String {
    format!(
        "(local.set $at {from}) (local.set $end_at {to})
        (block $done (loop $on
            (br_if $done (i32.ge_u (local.get $at) (local.get $end_at)))
            {step}
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br $on)))\n"
    )
}

/// Random statements: reads and writes near and far, growth, loops, state, and failures by what was seen.
fn random_body(random: &mut Random) -> String {
    let mut body = see("(i64.load offset=16 (local.get 0))");
    for _ in 0..4 + below(random, 12) {
        body += &random_statement(random);
    }
    body
}

fn random_statement(random: &mut Random) -> String {
    let reach = [2_048, 2_048, 60_000, 60_000, 500_000, 4_000_000][below(random, 6)];
    let (at, small) = (below(random, reach), below(random, 9));
    let load = format!("(i64.load (i32.const {at}))");
    match below(random, 12) {
        0 => see(&load),
        1 => format!("(i64.store (i32.const {at}) (i64.add (local.get $seen) (i64.const {small})))\n"),
        2 => see(&format!("(i64.extend_i32_s (memory.grow (i32.const {small})))")),
        3 => see("(i64.extend_i32_u (memory.size))"),
        4 => over_memory(
            &format!("(i32.const {at})"),
            &format!("(i32.const {})", at + 4_096),
            &see("(i64.load (local.get $at))"),
        ),
        5 => format!("(memory.fill (i32.const {at}) (i32.const {small}) (i32.const 3000))\n"),
        6 => see("(global.get $kept)") + "(global.set $kept (i64.add (local.get $seen) (i64.const 1)))\n",
        7 => see(&format!("(i64.extend_i32_s (table.grow $table (ref.null func) (i32.const {})))", small * 60)),
        8 => see(&format!("(i64.extend_i32_u (ref.is_null (table.get $table (i32.const {}))))", small % 5)),
        9 => format!("(table.set $table (i32.const {}) (ref.func $deep))\n", small % 4),
        10 => see("(i64.load offset=40 (local.get 0))"),
        _ => format!("(if (i64.eqz (i64.and (local.get $seen) (i64.const 7))) (then {}))\n", FAILURES[small % 9].1),
    }
}

/// Every way in which a call can go wrong inside.
const FAILURES: [(&str, &str); 9] = [
    ("unreachable", "unreachable"),
    ("a division by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
    ("a quotient that does not fit", "(drop (i32.div_s (i32.const -0x80000000) (i32.const -1)))"),
    ("a NaN as an integer", "(drop (i32.trunc_f64_s (f64.const nan)))"),
    ("a read out of bounds", "(drop (i64.load (i32.const -8)))"),
    ("a fill out of bounds", "(memory.fill (i32.const -100) (i32.const 1) (i32.const 200))"),
    ("a call of no function", "(call_indirect $table (param i64) (result i64) (i64.const 0) (i32.const 1)) drop"),
    ("a stack that ends", "(drop (call $deep (i64.const 0)))"),
    ("a loop without end", "(loop $on (br $on))"),
];

/// Every way in which an answer can go wrong on its way out: an address that is returned, and what lies at 8 and 16.
const ANSWERS: [(&str, &str); 7] = [
    ("an answer out of bounds", "(return (i32.const -16))"),
    ("an answer that is not aligned", "(return (i32.const 9))"),
    (
        "a list out of bounds",
        "(i32.store (i32.const 8) (i32.const -64)) (i32.store (i32.const 12) (i32.const 1)) (return (i32.const 8))",
    ),
    (
        "a list that wraps around",
        "(i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 0x10000001)) (return (i32.const 8))",
    ),
    (
        "a list that is not aligned",
        "(i32.store (i32.const 8) (i32.const 17)) (i32.store (i32.const 12) (i32.const 1)) (return (i32.const 8))",
    ),
    (
        "a longer list than is agreed",
        "(drop (memory.grow (i32.const 40)))
         (i32.store (i32.const 8) (i32.const 65536)) (i32.store (i32.const 12) (i32.const 160000)) (return (i32.const 8))",
    ),
    (
        "a key that is not UTF-8",
        "(i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 1))
         (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 1))
         (i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 2))
         (i32.store (i32.const 64) (i32.const 0x80ff)) (return (i32.const 8))",
    ),
];

/// Fails where the unit has three rows on the left.
fn failing(failure: &str) -> String {
    format!("(if (i32.eq (i32.load offset=16 (local.get 0)) (i32.const 3)) (then {failure}))")
}

/// Looks for what is not zero in all memory but its arguments, in new memory, in the table and in the global; then
/// leaves marks in all of them.
fn residue() -> String {
    let end = "(i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8))";
    let size = "(i32.shl (memory.size) (i32.const 16))";
    let found = |is_found: &str| format!("(local.set $seen (i64.add (local.get $seen) (i64.extend_i32_u {is_found})))");
    let look = found("(i64.ne (i64.load (local.get $at)) (i64.const 0))");
    let entry = |at: usize| found(&format!("(i32.eqz (ref.is_null (table.get $table (i32.const {at}))))"));
    let mut body = over_memory("(i32.const 0)", "(i32.const 1024)", &look);
    body += &over_memory(end, size, &look);
    body += "(drop (memory.grow (i32.const 4)))\n";
    body += &over_memory("(i32.const 65536)", size, &look);
    body += "(drop (table.grow $table (ref.null func) (i32.const 10)))\n";
    for at in 0..14 {
        writeln!(body, "{} (table.set $table (i32.const {at}) (ref.func $deep))", entry(at)).unwrap();
    }
    body += &found("(i64.ne (global.get $kept) (i64.const 0))");
    body += "(global.set $kept (i64.const 1))\n";
    body + "(memory.fill (i32.const 0) (i32.const 0xa5) (i32.shl (memory.size) (i32.const 16)))\n"
}

fn crowd(count: usize, seed: u8) -> Crowd {
    Crowd::new(&Manifest::parse(MANIFEST.as_bytes()).unwrap(), count, seed)
}

/// Some of the code must keep something, or it could not tell even if it was given the chance.
#[test]
fn no_made_up_code_tells_of_another_unit() {
    let random = &mut Random::from_seed([8; 32]);
    let crowd = crowd(40, 9);
    let (mut telling, count) = (0, 60);
    for at in 0..count {
        let case = case(at.to_string(), &random_body(random));
        assert_eq!(case.first_difference(&crowd), None);
        let careless = CarelessHost::new(&case);
        let difference = first_difference(&|unit| careless.ask_alone(unit), &|unit| careless.ask(unit), &crowd);
        telling += usize::from(difference.is_some());
    }
    assert!(telling > count / 3, "only {telling} of {count} would tell in a shared instance");
}

#[test]
fn no_unit_finds_what_another_left_anywhere() {
    let (case, crowd) = (case("residue".into(), &residue()), crowd(30, 10));
    assert_eq!(case.first_difference(&crowd), None);
    let nothing_found = Said::Contributions(vec![(vec!["a".into()], vec![0])]);
    let (question, careless) = (case.pooled(), CarelessHost::new(&case));
    for unit in &crowd.alone {
        assert_eq!(ask(&question, unit).said, nothing_found);
    }
    // The search is alive: in an instance that is used again, the marks are found.
    let found = |unit: &&Unit| match careless.ask(unit).said {
        Said::Contributions(list) => list[0].1[0] > 1_000,
        _ => false,
    };
    assert!(crowd.alone.iter().filter(found).count() > crowd.alone.len() / 3);
}

/// Which way a call fails is not to be told apart, and it is that unit's failure alone.
#[test]
fn every_way_to_fail_is_the_same_silence() {
    let crowd = crowd(40, 11);
    for (what, failure) in FAILURES.iter().chain(&ANSWERS) {
        let case = case((*what).to_owned(), &failing(failure));
        assert_eq!(case.first_difference(&crowd), None);
        let question = case.pooled();
        let fails = |unit: &&Unit| unit.views[0].count == 3;
        assert!(crowd.alone.iter().any(|unit| fails(&unit)) && !crowd.alone.iter().all(|unit| fails(&unit)));
        for unit in &crowd.alone {
            let is_silent = ask(&question, unit).said == Said::Nothing;
            assert_eq!(is_silent, fails(&unit), "{what}");
        }
    }
}
