//! Register kernels, from the component to a released table, in the worker's process.

use glovebox_sandbox::KERNEL_SECTION;
use glovebox_sandbox::testing::{MEASURE, WIT, encode, module};
use wasmparser::{Parser, Payload};

use crate::support::data::purchases;
use crate::support::{Fixture, Released};

const SPEND: &[&str] = &["--set", "large_from=50", "--destination", "sheets"];

/// Buyers, spend and large purchases of small and of great spenders, counted by hand.
fn by_hand() -> [[f64; 3]; 2] {
    let mut households = std::collections::BTreeMap::<i64, (f64, f64)>::new();
    for purchase in purchases() {
        let (spend, large) = households.entry(purchase.household).or_default();
        *spend += purchase.sales_value;
        *large += f64::from(u8::from(purchase.sales_value >= 50.0));
    }
    let mut groups = [[0.0; 3]; 2];
    for (spend, large) in households.into_values() {
        let [buyers, spends, purchases] = &mut groups[usize::from(spend > 100.0)];
        *buyers += 1.0;
        *spends += spend;
        *purchases += large;
    }
    groups
}

/// Fifteen standard deviations either way.
#[track_caller]
fn is_spend(released: &Released) {
    let by_hand = by_hand();
    for (measure, name) in ["buyers", "spend", "large_purchases"].into_iter().enumerate() {
        let deviation = released.json["output"]["noise"][measure]["standard_deviation"].as_f64().unwrap();
        let shown = released.numbers(name);
        for (row, cells) in released.table.rows.iter().enumerate() {
            let group = ["small", "great"].iter().position(|group| cells[0].as_deref() == Some(*group)).unwrap();
            let (shown, exact) = (shown[row].expect("not suppressed"), by_hand[group][measure]);
            assert!((shown - exact).abs() <= 15.0 * deviation, "{name} of group {group}: {shown}, by hand {exact}");
        }
    }
}

#[test]
fn answers_of_a_kernel_are_released() {
    let room = Fixture::new();
    is_spend(&room.released(&room.agreed("spend", SPEND)));
}

/// The kernel lies in a component that has no answer of its own: what is released, the kernel has said in the worker. The
/// second run finds it compiled.
#[test]
fn a_worker_asks_the_kernel_in_place_of_the_component() {
    let room = Fixture::new();
    let spend = room.read("questions/spend.wasm");
    let silent = encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, "unreachable")).unwrap());
    room.write("questions/spend.wasm", &with_kernel(&silent, &kernel(&spend)));
    let agreement = room.agreed("spend", SPEND);
    for _ in 0..2 {
        let released = room.released(&agreement);
        is_spend(&released);
        room.take(&released);
        room.renew_data();
    }
}

/// What is no kernel is not asked, and the component answers.
#[test]
fn without_its_proof_a_kernel_is_not_asked() {
    let room = Fixture::new();
    room.write("questions/spend.wasm", &without_proof(&room.read("questions/spend.wasm")));
    is_spend(&room.released(&room.agreed("spend", SPEND)));
}

/// Before anyone signs, and on made-up units: in words, and as a field.
#[test]
fn people_are_told_whether_a_kernel_runs() {
    let room = Fixture::new();
    let spend = room.read("questions/spend.wasm");
    for (component, is_kernel, words) in [
        (spend.clone(), true, "runs as a register kernel"),
        (without_kernel(&spend), false, "runs in an instance per unit"),
        (without_proof(&spend), false, "runs in an instance per unit: the question's kernel is refused: "),
    ] {
        room.write("questions/spend.wasm", &component);
        let agree = [&["agree", "questions/spend.wasm"], SPEND].concat();
        let agreement = room.agree("spend", SPEND);
        for command in [&agree[..], &["try", &agreement, "--units", "100"]] {
            let text = room.glovebox(command).stdout;
            assert!(text.contains(words), "{words}: {text}");
            let json = room.glovebox(&[&["--json"], command].concat()).succeeded();
            assert_eq!(json["register_kernel"], is_kernel, "{json}");
            assert_eq!(json["kernel_refusal"].is_string(), words.contains("refused"), "{json}");
        }
    }
}

fn without_kernel(component: &[u8]) -> Vec<u8> {
    component[..component.len() - section_bytes(component)].to_vec()
}

fn without_proof(component: &[u8]) -> Vec<u8> {
    let keeps = "(module (memory 1) (func (export \"init_0\") (result i64) (i64.load (i32.const 0))))";
    with_kernel(&without_kernel(component), &wat::parse_str(keeps).unwrap())
}

fn kernel(component: &[u8]) -> Vec<u8> {
    let sections = Parser::new(0).parse_all(component).filter_map(|payload| match payload.expect("a component") {
        Payload::CustomSection(section) if section.name() == KERNEL_SECTION => Some(section.data().to_vec()),
        _ => None,
    });
    sections.last().expect("a kernel")
}

/// Of the last section, which is the kernel's: its kind, two bytes of length, one of the name's, the name and the module.
fn section_bytes(component: &[u8]) -> usize {
    4 + KERNEL_SECTION.len() + kernel(component).len()
}

fn with_kernel(component: &[u8], module: &[u8]) -> Vec<u8> {
    let length = u8::try_from(KERNEL_SECTION.len()).unwrap();
    let content = [&[length], KERNEL_SECTION.as_bytes(), module].concat();
    assert!(content.len() < 1 << 14, "two bytes of length");
    let head = [0, (content.len() & 0x7f) as u8 | 0x80, (content.len() >> 7) as u8];
    [component, &head, &content].concat()
}
