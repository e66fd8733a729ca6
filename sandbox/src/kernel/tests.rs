//! Components that carry kernels: which are asked as such, and that every other one is asked as a component.

use wasm_encoder::{ComponentSection, CustomSection};

use super::*;
use crate::artifact::{self, Artifact};
use crate::batch::{Full, Writer};
use crate::contract::Answer;
use crate::denial::Reason;
use crate::engine::{Asked, Question};
use crate::terms::{ColumnType, Kind, Spec, Value};
use crate::testing::{MEASURE, WIT, encode, module};

/// A component that answers nothing by itself, so that an answer is its kernel's.
fn component() -> Vec<u8> {
    encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, "unreachable")).unwrap())
}

fn with(mut component: Vec<u8>, kernel: &[u8]) -> Vec<u8> {
    CustomSection { name: KERNEL_SECTION.into(), data: kernel.into() }.append_to_component(&mut component);
    component
}

/// Adds up a column of integers. `step` stands before the sum.
fn kernel(fields: &str, step: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module {fields}
        (func (export "init_0") (result i64) i64.const 0)
        (func $step (export "step_0") (param i64 i64) (result i64) {step} (i64.add (local.get 0) (local.get 1)))
        (func (export "emit_0") (param i64) (result i32 f64) i32.const 0 (f64.convert_i64_s (local.get 0)))
        (@custom "glovebox:row" "i") (@custom "glovebox:groups" "all\1f\1e"))"#
    ))
    .unwrap()
}

fn spec(column: ColumnType) -> Spec {
    Spec { kind: Kind::Analytical, limits: Limits::default(), parameters: Vec::new(), slots: vec![vec![column]] }
}

/// A unit with the rows 3 and 4.
fn write(writer: &mut Writer<'_>, parameters: &[Value], seed: i64) -> Result<(), Full> {
    writer.unit(parameters, seed, 1, |writer| {
        writer.slot(2, 1)?;
        writer.column(ColumnType::Int64)?;
        writer.list::<u8>(&[])?;
        writer.list(&[3_i64, 4])
    })
}

/// What is said of it.
fn sum(question: &Question) -> Option<f64> {
    let mut memory = vec![0_u64; 16];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    write(&mut writer, &question.spec().parameters, 0).unwrap();
    let len = writer.len();
    value(question.ask_all(&bytemuck::cast_slice(&memory)[..len], 1).unwrap().pop().unwrap())
}

fn value(asked: Asked) -> Option<f64> {
    match asked.answer {
        Answer::Contributions(list) => Some(list[0].values[0]),
        _ => None,
    }
}

/// Compiled in this process, as in a compiler's and a worker's, it is asked by instances.
#[track_caller]
fn falls_back(component: &[u8], why: &str) {
    let question = Question::new(component, spec(ColumnType::Int64), 1).unwrap();
    assert!(!question.is_kernel() && sum(&question).is_none(), "{why}");
    let artifact = artifact::compile(component, &Limits::default()).unwrap();
    assert!(Artifact::read(&artifact).unwrap().kernel.is_none(), "{why}");
}

#[test]
fn a_kernel_answers_in_place_of_its_component() {
    let component = with(component(), &kernel("", ""));
    assert!(register_kernel(&component, &spec(ColumnType::Int64)).unwrap());
    let question = Question::new(&component, spec(ColumnType::Int64), 1).unwrap();
    assert!(question.is_kernel());
    assert_eq!(sum(&question), Some(7.0));
    let question = question.without_kernel();
    assert!(!question.is_kernel() && sum(&question).is_none());
}

#[test]
fn a_component_without_a_kernel_is_asked_as_ever() {
    assert!(!register_kernel(&component(), &spec(ColumnType::Int64)).unwrap());
    falls_back(&component(), "no kernel");
}

#[test]
fn a_kernel_of_another_question_is_not_asked() {
    let component = with(component(), &kernel("", ""));
    assert!(!Question::new(&component, spec(ColumnType::Timestamp), 1).unwrap().is_kernel());
    let refused = register_kernel(&component, &spec(ColumnType::Timestamp)).unwrap_err();
    assert!(refused.fact().ends_with("it was written for other columns, parameters or limits"), "{refused}");
}

/// A loop has the same parameters for all of its units, and a seed is each unit's own: the component is asked, in an
/// instance per unit.
#[test]
fn a_kernel_with_a_seed_is_not_asked() {
    let tells = "(f64.store (i32.const 32) (f64.convert_i64_s (i64.load offset=16 (local.get 0))))
        (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 1))
        (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 1))";
    let component = encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, tells)).unwrap());
    let kernel = wat::parse_str(
        r#"(module
        (func (export "init_0") (param i64) (result i64) local.get 0)
        (func (export "step_0") (param i64 i64 i64) (result i64) local.get 1)
        (func (export "emit_0") (param i64 i64) (result i32 f64) i32.const 0 (f64.convert_i64_s (local.get 1)))
        (@custom "glovebox:row" "i") (@custom "glovebox:groups" "all\1f\1e"))"#,
    );
    let component = with(component, &kernel.unwrap());
    let question = |parameter: Value| {
        let spec = Spec { parameters: vec![parameter], ..spec(ColumnType::Int64) };
        Question::new(&component, spec, 1).unwrap()
    };
    let (agreed, seeded) = (question(Value::Int64(5)), question(Value::Seed));
    assert!(agreed.is_kernel() && !seeded.is_kernel());
    assert_eq!(sum(&agreed), Some(5.0));
    let mut memory = vec![0_u64; 32];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    for seed in [-6, 7] {
        write(&mut writer, &[Value::Seed], seed).unwrap();
    }
    let len = writer.len();
    let asked = seeded.ask_all(&bytemuck::cast_slice(&memory)[..len], 2).unwrap();
    assert_eq!(asked.into_iter().map(value).collect::<Vec<_>>(), [Some(-6.0), Some(7.0)]);
}

/// One of each class of operators that could keep or tell something.
#[test]
fn a_hostile_kernel_never_runs() {
    const TABLE: &str = "(table 1 funcref) (elem $elem func $other) (func $other)";
    for (fields, step, class) in [
        ("(memory 1)", "(drop (i64.load (i32.const 0)))", "MemoryLoad"),
        ("(memory 1)", "(i64.store (i32.const 0) (local.get 1))", "MemoryStore"),
        ("(memory 1)", "(drop (memory.size))", "MemorySize"),
        ("(memory 1)", "(drop (memory.grow (i32.const 1)))", "MemoryGrow"),
        ("(memory 1)", "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1))", "MemoryBulk"),
        ("(global $g (mut i64) (i64.const 0))", "(drop (global.get $g))", "GlobalGet"),
        ("(global $g (mut i64) (i64.const 0))", "(global.set $g (local.get 1))", "GlobalSet"),
        (TABLE, "(drop (table.size 0))", "Table"),
        (TABLE, "(call_indirect (i32.const 0))", "CallIndirect"),
        (TABLE, "(drop (ref.func $other))", "FunctionReference"),
        ("", "(drop (v128.const i64x2 0 0))", "Vector"),
        ("", "(drop (f64.copysign (f64.const 1) (f64.const 1)))", "Unknown"),
    ] {
        let component = with(component(), &kernel(fields, step));
        let refused = register_kernel(&component, &spec(ColumnType::Int64)).unwrap_err();
        assert_eq!(refused.reason(), Reason::ComponentInvalid);
        assert!(refused.fact().contains(class), "{class}: {refused}");
        falls_back(&component, class);
    }
    for (why, fields, step) in [
        ("an import", "(import \"a\" \"b\" (func))", ""),
        ("a start function", "(start $s) (func $s)", ""),
        ("recursion", "", "(drop (call $step (local.get 0) (local.get 1)))"),
    ] {
        falls_back(&with(component(), &kernel(fields, step)), why);
    }
}

#[test]
fn bytes_that_are_no_kernel_are_left_alone() {
    let padding = "nop ".repeat(verify::MODULE_BYTES_MAX);
    let large = kernel(&format!("(func {padding})"), "");
    let whole = kernel("", "");
    for bytes in [&b""[..], b"(module)", &large, &whole[..whole.len() - 1], &component()] {
        let component = with(component(), bytes);
        assert!(register_kernel(&component, &spec(ColumnType::Int64)).is_err());
        falls_back(&component, "no kernel");
    }
    let twice = with(with(component(), &kernel("", "")), &kernel("", ""));
    assert!(register_kernel(&twice, &spec(ColumnType::Int64)).is_err());
    falls_back(&twice, "two kernels");
}

#[test]
fn what_was_compiled_is_read_as_it_was_written() {
    let (plain, with_kernel) = (component(), with(component(), &kernel("", "")));
    let artifact = |component: &[u8]| artifact::compile(component, &Limits::default()).unwrap();
    let bytes = artifact(&with_kernel);
    let read = Artifact::read(&bytes).unwrap();
    let (plan, _) = read.kernel.unwrap();
    assert!(plan == driven(&with_kernel, &Limits::default()).unwrap().0 && plan.fits(&spec(ColumnType::Int64)));
    let other = artifact(&plain);
    let other = Artifact::read(&other).unwrap();
    assert!(other.kernel.is_none() && other.component.len() == read.component.len());
    for cut in [0, 7, 8, 100, read.component.len() + 9] {
        assert!(Artifact::read(&bytes[..cut]).is_err(), "{cut}");
    }
}
