//! Modules from text, and what each is refused for.

use super::module::{GROUPS_SECTION, ROW_SECTION};
use super::refusal::Forbidden;
use super::*;

/// One word of state and one value a row, both i64; the answer has one value.
const SECTIONS: &str = r#"(@custom "glovebox:row" "i") (@custom "glovebox:groups" "all\1f\1e")"#;
const EXPORTS: &str = r#"
    (func (export "init_0") (result i64) i64.const 0)
    (func (export "emit_0") (param i64) (result i32) i32.const 0)
    (func (export "emit_1") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
"#;

/// What other functions and fields, and this body of `step_0`, are refused for.
fn check(fields: &str, step: &str) -> Result<(), Refusal> {
    check_text(&format!(
        r#"(module {fields} {EXPORTS} (func $step (export "step_0") (param i64 i64) (result i64) {step}) {SECTIONS})"#
    ))
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn check_text(text: &str) -> Result<(), Refusal> {
    verify(&wasm(text)).map(|_| ())
}

fn forbidden(fields: &str, step: &str) -> Forbidden {
    match check(fields, step) {
        Err(Refusal::Operator { forbidden, .. }) => forbidden,
        other => panic!("{other:?} for {step}"),
    }
}

const MEMORY: &str = "(memory 1)";
const TABLE: &str = "(table 1 funcref) (elem $elem func $other) (func $other)";

#[test]
fn every_way_to_keep_state_is_refused_by_name() {
    let cases = [
        (MEMORY, "(i64.store (i32.const 0) (i64.const 1)) local.get 0", Forbidden::MemoryStore),
        (MEMORY, "(i32.store8 (i32.const 0) (i32.const 1)) local.get 0", Forbidden::MemoryStore),
        (MEMORY, "(f64.store (i32.const 0) (f64.const 1)) local.get 0", Forbidden::MemoryStore),
        (MEMORY, "(i64.load (i32.const 0))", Forbidden::MemoryLoad),
        (MEMORY, "(i64.load8_u (i32.const 0))", Forbidden::MemoryLoad),
        (MEMORY, "(i64.extend_i32_u (memory.size))", Forbidden::MemorySize),
        (MEMORY, "(i64.extend_i32_u (memory.grow (i32.const 1)))", Forbidden::MemoryGrow),
        (MEMORY, "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0)) local.get 0", Forbidden::MemoryBulk),
        (MEMORY, "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0)) local.get 0", Forbidden::MemoryBulk),
        (
            "(memory 1) (data $data \"x\")",
            "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 0)) local.get 0",
            Forbidden::MemoryBulk,
        ),
        ("(memory 1) (data $data \"x\")", "(data.drop $data) local.get 0", Forbidden::MemoryBulk),
        ("(global $g (mut i64) (i64.const 0))", "(global.set $g (local.get 1)) local.get 0", Forbidden::GlobalSet),
        ("(global $g (mut i64) (i64.const 0))", "global.get $g", Forbidden::GlobalGet),
        ("(global $g i64 (i64.const 0))", "global.get $g", Forbidden::GlobalGet),
        (TABLE, "(drop (table.get 0 (i32.const 0))) local.get 0", Forbidden::Table),
        (TABLE, "(table.set 0 (i32.const 0) (table.get 0 (i32.const 0))) local.get 0", Forbidden::Table),
        (TABLE, "(drop (table.grow 0 (table.get 0 (i32.const 0)) (i32.const 1))) local.get 0", Forbidden::Table),
        (TABLE, "(table.init $elem (i32.const 0) (i32.const 0) (i32.const 0)) local.get 0", Forbidden::Table),
        (TABLE, "(table.copy (i32.const 0) (i32.const 0) (i32.const 0)) local.get 0", Forbidden::Table),
        (TABLE, "(i64.extend_i32_u (table.size 0))", Forbidden::Table),
        (TABLE, "(elem.drop $elem) local.get 0", Forbidden::Table),
        (TABLE, "(call_indirect (i32.const 0)) local.get 0", Forbidden::CallIndirect),
        (TABLE, "(drop (ref.func $other)) local.get 0", Forbidden::FunctionReference),
        ("", "(drop (ref.null func)) local.get 0", Forbidden::FunctionReference),
        ("", "(drop (v128.const i64x2 0 0)) local.get 0", Forbidden::Vector),
        ("", "(i64x2.extract_lane 0 (i64x2.splat (local.get 0)))", Forbidden::Vector),
        (MEMORY, "(drop (v128.load (i32.const 0))) local.get 0", Forbidden::Vector),
    ];
    for (fields, step, expected) in cases {
        assert_eq!(forbidden(fields, step), expected, "{step}");
    }
}

/// These features are off, so the validator refuses them before the list is asked.
#[test]
fn features_that_no_question_may_use_are_invalid() {
    let cases = [
        "(atomic.fence) local.get 0",
        "(return_call $step (local.get 0) (local.get 1))",
        "(drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0))) local.get 0",
        "(drop (ref.i31 (i32.const 0))) local.get 0",
        "(i64.add128 (local.get 0) (local.get 0) (local.get 0) (local.get 0)) drop",
        "(block (try_table (catch_all 0))) local.get 0",
    ];
    for step in cases {
        assert!(matches!(check("", step), Err(Refusal::Invalid { .. })), "{step}");
    }
    assert!(matches!(check("(memory i64 1)", "local.get 0"), Err(Refusal::Invalid { .. })));
    assert!(matches!(check("(memory 1 1 shared)", "local.get 0"), Err(Refusal::Invalid { .. })));
}

#[test]
fn a_callee_is_held_to_the_same_list() {
    let callee = "(memory 1) (func $f (call $g)) (func $g (i64.store (i32.const 0) (i64.const 1)))";
    assert_eq!(forbidden(callee, "(call $f) local.get 0"), Forbidden::MemoryStore);
}

/// Code behind a branch that is never taken is code.
#[test]
fn dead_code_is_no_excuse() {
    let step = "(if (i32.const 0) (then (i64.store (i32.const 0) (i64.const 1)))) local.get 0";
    assert_eq!(forbidden(MEMORY, step), Forbidden::MemoryStore);
    let step = "(return (local.get 0)) (i64.store (i32.const 0) (i64.const 1)) local.get 0";
    assert_eq!(forbidden(MEMORY, step), Forbidden::MemoryStore);
}

#[test]
fn what_no_export_reaches_does_no_harm() {
    let fields = r#"(memory (export "memory") 16) (global $sp (mut i32) (i32.const 1024)) (data (i32.const 0) "x")
        (table 1 funcref) (elem (i32.const 0) $alloc)
        (func $alloc (export "alloc") (global.set $sp (i32.const 0)) (i64.store (i32.const 0) (i64.const 1)))"#;
    assert_eq!(check(fields, "(i64.add (local.get 0) (local.get 1))"), Ok(()));
}

#[test]
fn arithmetic_control_and_calls_are_accepted() {
    let fields = r#"(func $f (param f64) (result i64 i64) (local i32)
        (i64.trunc_sat_f64_s (local.get 0)) (i64.extend8_s (i64.const 200)))"#;
    let step = "(loop $l (br_if $l (i64.eqz (local.get 0))))
        (block $a (block $b (br_table $a $b (i32.wrap_i64 (local.get 1)))))
        (call $f (f64.sqrt (f64.convert_i64_s (local.get 0))))
        i64.div_s
        (select (result i64) (i64.const 1) (i64.const 2) (i32.const 0))
        i64.add";
    assert_eq!(check(fields, step), Ok(()));
}

#[test]
fn recursion_is_refused_whichever_way_round() {
    let step = "(call $step (local.get 0) (local.get 1))";
    assert!(matches!(check("", step), Err(Refusal::Recursion { .. })));
    let mutual = "(func $f (call $g)) (func $g (call $f))";
    assert!(matches!(check(mutual, "(call $f) local.get 0"), Err(Refusal::Recursion { .. })));
}

/// Each function calls the next one twice: few bytes, and more work than there is time.
#[test]
fn work_is_counted_as_often_as_it_is_called() {
    let calls: String = (0..20).map(|n| format!("(func $f{n} (call $f{0}) (call $f{0}))", n + 1)).collect();
    let fields = format!("{calls} (func $f20)");
    assert!(matches!(check(&fields, "(call $f0) local.get 0"), Err(Refusal::TooMuchWork { .. })));
    assert_eq!(check(&fields, "(call $f12) local.get 0"), Ok(()));
}

#[test]
fn locals_and_branch_tables_count_as_work() {
    let locals = " i64".repeat(20_000);
    assert!(matches!(check("", &format!("(local{locals}) local.get 0")), Err(Refusal::TooMuchWork { .. })));
    let targets = " 0".repeat(20_000);
    let step = format!("(block (br_table{targets} (i32.const 0))) local.get 0");
    assert!(matches!(check("", &step), Err(Refusal::TooMuchWork { .. })));
}

/// A compiler takes seconds for a thousand nested loops.
#[test]
fn many_loops_are_too_much_work() {
    let loops = |count| format!("{} {} local.get 0", "loop ".repeat(count), "end ".repeat(count));
    assert!(matches!(check("", &loops(200)), Err(Refusal::TooMuchWork { .. })));
    assert_eq!(check("", &loops(100)), Ok(()));
}

#[test]
fn deep_calls_are_refused() {
    let calls: String = (0..CALLS_DEEP_MAX).map(|n| format!("(func $f{n} (call $f{}))", n + 1)).collect();
    let fields = format!("{calls} (func $f{CALLS_DEEP_MAX})");
    assert!(matches!(check(&fields, "(call $f0) local.get 0"), Err(Refusal::CallsTooDeep { .. })));
    assert_eq!(check(&fields, "(call $f2) local.get 0"), Ok(()));
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    for step in [
        "(local v128) local.get 0",
        "(local funcref) local.get 0",
        // Code that is never reached may be of any type.
        "(drop (block (result v128) unreachable)) local.get 0",
        "(drop (loop (result f32) unreachable)) local.get 0",
        "(block (result i64 funcref) unreachable) drop",
        "unreachable (if (param f32) (then drop) (else drop)) local.get 0",
    ] {
        assert!(matches!(check("", step), Err(Refusal::Type { .. })), "{step}");
    }
    let parameter = "(func $f (param funcref))";
    assert_eq!(forbidden(parameter, "(call $f (ref.null func)) local.get 0"), Forbidden::FunctionReference);
}

#[test]
fn imports_and_start_functions_are_refused() {
    let import = Refusal::Import { module: "env".to_owned(), name: "clock".to_owned() };
    assert_eq!(check(r#"(import "env" "clock" (func))"#, "local.get 0"), Err(import.clone()));
    assert_eq!(check(r#"(import "env" "clock" (global i64))"#, "local.get 0"), Err(import.clone()));
    assert_eq!(check(r#"(import "env" "clock" (memory 1))"#, "local.get 0"), Err(import));
    assert_eq!(check("(start $s) (func $s)", "local.get 0"), Err(Refusal::Start));
}

#[test]
fn exports_must_fit_each_other_and_the_columns() {
    let of = |exports: &str| check_text(&format!("(module {exports} {SECTIONS})"));
    let missing = r#"(func (export "init_0") (result i64) i64.const 0)"#;
    assert_eq!(of(missing), Err(Refusal::Missing { phase: Phase::Step }));
    let with = |step: &str| of(&format!("{EXPORTS} {step}"));
    let wide = with(r#"(func (export "step_0") (param i64 i32) (result i64) local.get 0)"#);
    assert_eq!(wide, Err(Refusal::Arguments { export: "step_0".to_owned() }));
    let other = with(r#"(func (export "step_0") (param i64 i64) (result f64) f64.const 0)"#);
    assert_eq!(other, Err(Refusal::Results { phase: Phase::Step }));
    let global = with(r#"(global (export "step_0") i64 (i64.const 0))"#);
    assert_eq!(global, Err(Refusal::NotAFunction { export: "step_0".to_owned() }));
    let step = r#"(func (export "step_0") (param i64 i64) (result i64) local.get 0)"#;
    let more = with(&format!(r#"{step} (func (export "step_1") (param i64 i64) (result i64) local.get 0)"#));
    assert_eq!(more, Err(Refusal::Results { phase: Phase::Step }));
    let init = with(&format!(r#"{step} (func (export "init_1") (param i64) (result i64) local.get 0)"#));
    assert!(matches!(init, Err(Refusal::Arguments { .. })));
    for answer in ["", "(result f64)", "(result i32 i64)", "(result i32 i32)"] {
        let emit = format!(r#"(func (export "emit_0") (param i64) {answer} unreachable)"#);
        let text = format!(r#"(module (func (export "init_0") (result i64) i64.const 0) {step} {emit} {SECTIONS})"#);
        assert_eq!(check_text(&text), Err(Refusal::Results { phase: Phase::Emit }), "{answer}");
    }
}

#[test]
fn f32_and_copysign_are_not_on_the_list() {
    assert_eq!(forbidden("", "(drop (f64.copysign (f64.const 1) (f64.const -1))) local.get 0"), Forbidden::Unknown);
    assert_eq!(forbidden("", "(drop (f32.const 1)) local.get 0"), Forbidden::Unknown);
    assert!(matches!(check("", "(local f32) local.get 0"), Err(Refusal::Type { .. })));
}

#[test]
fn sections_must_be_there_once_and_say_what_columns_and_groups_say() {
    let step = |row: &str| format!(r#"(func (export "step_0") (param i64 {row}) (result i64) local.get 0)"#);
    let of = |row: &str, sections: &str| check_text(&format!("(module {EXPORTS} {} {sections})", step(row)));
    let groups = r#"(@custom "glovebox:groups" "a\1fb\1f\1ec\1f\1e")"#;
    let row = |letters: &str| format!(r#"(@custom "glovebox:row" "{letters}")"#);
    assert_eq!(of("i32 i64 f64 i32 i64", &(row("bifdt") + groups)), Ok(()));
    assert_eq!(of("i32 i32 i64 i32 f64 i32", &(row("BIF") + groups)), Ok(()));
    assert!(matches!(of("i32 i64", &(row("BI") + groups)), Err(Refusal::Arguments { .. })));
    for sections in [String::new(), row("u"), row("i."), row("i") + &row("i")] {
        assert_eq!(of("i64", &(sections + groups)), Err(Refusal::Section { name: ROW_SECTION }));
    }
    for groups in [
        "",
        r#"(@custom "glovebox:groups" "")"#,
        r#"(@custom "glovebox:groups" "a\1f")"#,
        r#"(@custom "glovebox:groups" "a\1e")"#,
    ] {
        assert_eq!(of("i64", &(row("i") + groups)), Err(Refusal::Section { name: GROUPS_SECTION }), "{groups}");
    }
    let text = format!("(module {EXPORTS} {} {} {groups})", step("i64"), row("i"));
    assert_eq!(verify(&wasm(&text)).unwrap().groups(), [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
}

#[test]
fn other_bytes_are_refused() {
    let refused = |bytes: &[u8]| verify(bytes).map(|_| ()).unwrap_err();
    assert_eq!(refused(b"(module)"), Refusal::NotACoreModule);
    assert_eq!(refused(&wasm("(component)")), Refusal::NotACoreModule);
    assert_eq!(refused(b""), Refusal::NotACoreModule);
    assert_eq!(refused(&vec![0; MODULE_BYTES_MAX + 1]), Refusal::TooLarge { bytes: MODULE_BYTES_MAX + 1 });
    assert!(matches!(refused(b"\0asm\x01\0\0\0\x01"), Refusal::Invalid { .. }));
}
