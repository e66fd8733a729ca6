//! Who has to sign: the text, and whether it is evaluated as a reader would.

mod common;

use std::collections::BTreeSet;

use common::{Model, random_lines, refused, who};
use glovebox_trust::quorum::{Kind, Policy};
use glovebox_trust::{Denial, Principal, Reason};
use proptest::prelude::{any, prop_assert_eq};
use proptest::test_runner::{Config, TestRunner};

fn people() -> BTreeSet<Principal> {
    ["retailer/ana", "retailer/ben", "retailer/cleo", "brand/dan", "brand/dpo", "agency/fay"].map(who).into()
}

fn set(names: &[&str]) -> BTreeSet<Principal> {
    names.iter().map(|name| who(name)).collect()
}

fn policy(text: &str) -> Result<Policy, Denial> {
    Policy::parse(&text.lines().collect::<Vec<_>>(), &people())
}

const TEXT: &str = "
# two of the retailer, both of the brand
group  r2 2 retailer/ana retailer/ben\tretailer/cleo
  group b1 any brand/dan brand/dpo
group b2 all brand/dan brand/dpo
group std all r2 b1
group strict all r2 b2

quorum root strict
quorum analytical std
\tquorum list brand/dan
";

#[test]
fn kinds_have_quorums_of_their_own() {
    let policy = policy(TEXT).unwrap();
    let std = set(&["retailer/ana", "retailer/cleo", "brand/dpo"]);
    policy.check(Kind::Analytical, &std).unwrap();
    refused(policy.check(Kind::Root, &std), Reason::QuorumMissing, "group b2 has 1 of 2: brand/dan");
    refused(policy.check(Kind::List, &std), Reason::QuorumMissing, "brand/dan is missing");
    policy.check(Kind::List, &set(&["brand/dan"])).unwrap();
    assert_eq!(policy.people(Kind::List), set(&["brand/dan"]));
    assert_eq!(policy.people(Kind::Root).len(), 5);
    assert!(policy.people(Kind::Cleanml).is_empty());
}

#[test]
fn a_kind_without_a_quorum_is_denied_to_everyone() {
    let denied = policy(TEXT).unwrap().check(Kind::Cleanml, &people());
    refused(denied, Reason::QuorumMissing, "the registry has no quorum for cleanml");
}

#[test]
fn a_denial_says_whom_it_lacks() {
    let policy = policy(TEXT).unwrap();
    let lacks = |names: &[&str], fact: &str| {
        assert_eq!(policy.check(Kind::Analytical, &set(names)).unwrap_err().fact(), fact);
    };
    lacks(&["retailer/ana", "retailer/ben"], "group b1 has 0 of 1: brand/dan brand/dpo");
    lacks(
        &["retailer/ana", "agency/fay"],
        "group r2 has 1 of 2: retailer/ben retailer/cleo; group b1 has 0 of 1: brand/dan brand/dpo",
    );
    let either = ["group a all brand/dan", "group b all brand/dpo", "group c any a b", "quorum root c"];
    let denial = Policy::parse(&either, &people()).unwrap().check(Kind::Root, &set(&[])).unwrap_err();
    assert_eq!(denial.fact(), "group c has 0 of 1: a b; group a has 0 of 1: brand/dan; group b has 0 of 1: brand/dpo");
}

/// C15.
#[test]
fn a_text_that_could_never_hold_or_always_holds_is_refused() {
    let root = "quorum root retailer/ana";
    policy(root).unwrap();
    for (text, fact) in [
        ("group g 0 brand/dan", "at least one and at most all"),
        ("group g 3 brand/dan brand/dpo", "at least one and at most all"),
        ("group g 01 brand/dan", "at least one and at most all"),
        ("group g all", "at least one and at most all"),
        ("group g", "is not `group"),
        ("group", "is not `group"),
        ("group g all g", "not defined"),
        ("group g all h\ngroup h all g", "not defined"),
        ("group g all h\ngroup h all brand/dan", "not defined"),
        ("group g any brand/dan brand/dan", "twice a member"),
        ("group g any brand/dan\ngroup g any brand/dpo", "defined twice"),
        ("group g any none", "not defined"),
        ("group none any brand/dan", "cannot be defined"),
        ("group brand/dan any brand/dpo", "a group cannot be called"),
        ("group G any brand/dpo", "a group cannot be called"),
        ("group g any brand/eve", "is not a person of the registry"),
        ("group g any brand/", "is not a person of the registry"),
        ("group g any brand/dan/x", "is not a person of the registry"),
        ("quorum list none", "not defined"),
        ("quorum list g", "not defined"),
        ("quorum list g\ngroup g any brand/dan", "not defined"),
        ("quorum list", "does not begin a line"),
        ("quorum", "does not begin a line"),
        ("quorum list brand/dan brand/dpo", "does not begin a line"),
        ("quorum other brand/dan", "is not one of"),
        ("quorum root brand/dan", "two lines `quorum root`"),
        ("witness w key", "does not begin a line"),
        ("Group g any brand/dan", "does not begin a line"),
        ("group a any brand/dan\ngroup b any brand/dan brand/dpo\ngroup c all a b\nquorum list c", "more than once"),
    ] {
        refused(policy(&format!("{root}\n{text}")), Reason::PolicyInvalid, fact);
    }
    refused(policy("quorum list brand/dan"), Reason::PolicyInvalid, "no line `quorum root NAME`");
    refused(policy(""), Reason::PolicyInvalid, "no line `quorum root NAME`");
    refused(policy("quorum root none"), Reason::PolicyInvalid, "not defined");
}

#[test]
fn one_person_may_stand_under_several_quorums_but_once_under_each() {
    policy("group a any brand/dan\ngroup b all brand/dan\nquorum root a\nquorum list b").unwrap();
}

/// C9: other letters that look the same are no letters here.
#[test]
fn other_characters_than_ascii_are_refused_even_in_comments() {
    for text in ["# \u{212a}elvin", "group \u{430}na any brand/dan", "quorum\u{a0}list brand/dan", "# \u{7f}", "# \rx"]
    {
        refused(policy(&format!("quorum root retailer/ana\n{text}\n#")), Reason::PolicyInvalid, "printable ASCII");
    }
    let line = ["quorum root retailer/ana\nquorum list brand/dan"];
    refused(Policy::parse(&line, &people()), Reason::PolicyInvalid, "printable ASCII");
}

#[test]
fn there_is_an_end_to_groups_people_and_lines() {
    let many: BTreeSet<Principal> = (0..65).map(|i| Principal::new("p", format!("m{i}"))).collect();
    let of = |count: usize| {
        let names: Vec<String> = many.iter().take(count).map(ToString::to_string).collect();
        [format!("group g 64 {}", names.join(" ")), "quorum root g".to_owned()]
    };
    Policy::parse(&of(64), &many).unwrap();
    refused(Policy::parse(&of(65), &many), Reason::PolicyInvalid, "more than 64");
    let groups = |count: usize| {
        let mut lines: Vec<String> = (0..count).map(|i| format!("group g{i} all brand/dan")).collect();
        lines.push("quorum root g0".into());
        Policy::parse(&lines, &people())
    };
    groups(64).unwrap();
    refused(groups(65), Reason::PolicyInvalid, "more than 64");
    let mut comments = vec!["#"; 256];
    comments[0] = "quorum root brand/dan";
    Policy::parse(&comments, &people()).unwrap();
    comments.push("#");
    refused(Policy::parse(&comments, &people()), Reason::PolicyInvalid, "more than 256 lines");
}

#[test]
fn a_quorum_is_what_a_reader_makes_of_its_text() {
    let (people, mut valid, mut allowed) = (people(), 0u32, 0u32);
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    let counts = std::cell::RefCell::new((&mut valid, &mut allowed));
    runner
        .run(&proptest::collection::vec(any::<u8>(), 40), |numbers| {
            let lines = random_lines(&numbers, &people);
            let (model, policy) = (Model::parse(&lines, &people), Policy::parse(&lines, &people));
            prop_assert_eq!(model.is_some(), policy.is_ok(), "{:?} {:?}", lines, policy);
            let (Some(model), Ok(policy)) = (model, policy) else { return Ok(()) };
            let mut counts = counts.borrow_mut();
            *counts.0 += 1;
            for bits in 0u32..64 {
                let chosen = people.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
                let signed: BTreeSet<Principal> = chosen.map(|(_, person)| person.clone()).collect();
                for kind in Kind::ALL {
                    let is_allowed = policy.check(*kind, &signed).is_ok();
                    prop_assert_eq!(is_allowed, model.allows(*kind, &signed), "{:?} {:?}", lines, signed);
                    *counts.1 += u32::from(is_allowed);
                }
            }
            Ok(())
        })
        .unwrap();
    // Both verdicts were seen, on texts and on sets.
    assert!((400..1950).contains(&valid), "{valid} of 2000 texts are valid");
    assert!(allowed > 10_000 && allowed < valid * 64 * 3, "{allowed} sets are quorums");
}
