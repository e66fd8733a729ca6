//! Components from strangers: what is refused by its bytes the engine refuses too, what is accepted imports nothing, and
//! what the engine then says is an answer or the component's own fault.

use std::cell::Cell;
use std::panic;
use std::sync::LazyLock;

use arbitrary::Unstructured;
use glovebox_sandbox::testing::{self, MEASURE, SELECT, WIT, encode};
use glovebox_sandbox::{ColumnType, Kind, Limits, Question, Reason, Writer, screen, world};

use super::module::{config, noise};
use super::{Memory, Seed, Seen, accepted, compiled, spec, wasm};

const FUEL: u64 = 200_000;
/// The most WIT that a world may come to, with the indentation of its lines.
const WIT_BYTES_MAX: usize = 1 << 20;

/// The contract's worlds, with their kinds and the digests of their WIT.
static WORLDS: LazyLock<[(&str, Kind, String); 2]> = LazyLock::new(|| {
    let sha256 = |component: &[u8]| world(component).unwrap().sha256;
    [
        ("analytical-question", Kind::Analytical, sha256(&analytical(""))),
        ("list-question", Kind::List, sha256(&list(""))),
    ]
});

thread_local! {
    static IS_DECODED: Cell<bool> = const { Cell::new(false) };
}

/// libFuzzer's crate ends the process at every panic, but the decoder's asserts end in a refusal. To be called once,
/// before the first input.
pub fn allow_the_decoders_asserts() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_DECODED.get() {
            hook(info);
        }
    }));
}

/// Reads the data as a component; and where it is none at all, as the choices of a generator of components.
pub fn check(data: &[u8]) {
    check_component(data);
    if !data.starts_with(b"\0asm") {
        let made = wasm_smith::Component::new(config(), &mut Unstructured::new(data));
        made.into_iter().for_each(|made| check_component(&made.to_bytes()));
    }
}

fn check_component(bytes: &[u8]) {
    let screened = screen(bytes);
    accepted(screened.clone());
    if let Err(denial) = screened {
        assert_eq!(world(bytes).unwrap_err(), denial, "a world of what is refused");
        // Some imports the engine would satisfy, and what is cut off it would end.
        let is_ours = denial.reason() == Reason::ComponentImports || denial.fact().contains("ends within");
        let is_compiled = compiled(bytes, the_spec(Kind::Analytical), 1).is_some();
        assert!(!is_compiled || is_ours, "the engine accepts what is refused");
        return;
    }
    let kind = check_world(bytes);
    for asked in [Kind::Analytical, Kind::List] {
        let question = compiled(bytes, the_spec(asked), 1);
        assert!(kind.is_none() || kind == Some(asked) || question.is_none(), "a question of two kinds");
        question.into_iter().for_each(|question| ask(&question));
    }
    if let Some(Err(denial)) = kind.map(|kind| Question::new(bytes, the_spec(kind), 1)) {
        assert_eq!(denial.reason(), Reason::CompileFailed, "the engine finds another world than the decoder");
    }
}

/// The kind of question, where the component has exactly the contract's world.
fn check_world(bytes: &[u8]) -> Option<Kind> {
    IS_DECODED.set(true);
    let found = world(bytes);
    let padded = [("padding", b"x".as_slice()), ("package-docs", b"{}")]
        .map(|(name, data)| world(&[bytes, &custom_section(name, data)].concat()));
    IS_DECODED.set(false);
    padded.iter().for_each(|padded| assert_eq!(*padded, found, "a custom section changes a world"));
    let found = accepted(found)?;
    assert!(found.wit.len() <= WIT_BYTES_MAX);
    assert!(!found.wit.lines().any(|line| line.trim_start().starts_with("import ")), "{}", found.wit);
    let known = WORLDS.iter().find(|(name, ..)| *name == found.name);
    assert!(known.is_some() || found.name == "root", "{}", found.name);
    known.filter(|(.., sha256)| *sha256 == found.sha256).map(|(_, kind, _)| *kind)
}

/// One unit of one row.
fn ask(question: &Question) {
    let mut words = [0_u64; 9];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
    let write = |writer: &mut Writer<'_>| {
        writer.slot(1, 1)?;
        writer.column(ColumnType::Int64)?;
        writer.list::<u8>(&[])?;
        writer.list(&[7_i64])
    };
    writer.unit(&[], 0, 1, write).unwrap();
    let len = writer.len();
    let batch = Memory::of(&bytemuck::cast_slice(&words)[..len], 0, 0);
    let asked = question.ask_all(batch.bytes(), 1).expect("a component that starts is asked");
    assert_eq!(asked.len(), 1);
    Seen::of(&asked[0], &question.spec().limits);
}

fn the_spec(kind: Kind) -> glovebox_sandbox::Spec {
    let spec = spec(kind, FUEL, vec![vec![ColumnType::Int64]]);
    glovebox_sandbox::Spec { limits: Limits { memory_bytes_per_unit: 256 << 10, ..spec.limits }, ..spec }
}

fn analytical(body: &str) -> Vec<u8> {
    encode(WIT, "analytical-question", wasm(&testing::module(MEASURE, body)))
}

fn list(body: &str) -> Vec<u8> {
    encode(WIT, "list-question", wasm(&testing::module(SELECT, body)))
}

fn custom_section(name: &str, data: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).ok().filter(|length| *length < 128).unwrap();
    let content = [&[length(name.as_bytes())], name.as_bytes(), data].concat();
    [[0, length(&content)].as_slice(), &content].concat()
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let lifted = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) \
                  (func $f (canon lift (core func $i \"f\")))";
    let text = |text: &str| wasm(&format!("(component {text})"));
    vec![
        ("analytical", analytical("(local.set 0 (i32.const 8))")),
        ("list", list("")),
        (
            "another-world",
            encode(
                &WIT.replace("list<f64>,\n  }\n\n  measure", "list<f32>,\n  }\n\n  measure"),
                "analytical-question",
                wasm(&testing::module(MEASURE, "")),
            ),
        ),
        ("empty", text("")),
        ("import", text("(import \"a\" (func))")),
        ("nested-import", text("(component (import \"a\" (func)))")),
        ("cut", text("(component (import \"a\" (func)))")[..25].to_vec()),
        ("function", text(&format!("{lifted} (export \"f\" (func $f))"))),
        ("control", text(&format!("{lifted} (export \"f\\1b[2J\\0a\" (func $f))"))),
        ("decoder-stops", text(&format!("{lifted} (export \"glovebox:question/analytical@0.2.0\" (func $f))"))),
        ("module", wasm(&testing::module(MEASURE, ""))),
        ("text", b"(component)".to_vec()),
        ("choices", noise(1, 600)),
    ]
}
