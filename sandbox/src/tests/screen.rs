//! What is refused by its bytes alone: what is no component, what has too much of something, and every feature that is off.

use std::collections::BTreeSet;

use wasmparser::{Validator, WasmFeatures};

use crate::denial::Reason;
use crate::profile::{config, features};
use crate::screen::bounds::{self, Bound};
use crate::screen::{FEATURES, screen};
use crate::terms::Limits;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{}", &text[..text.len().min(2_000)]))
}

/// The line that says why.
#[track_caller]
fn fact(bytes: &[u8]) -> String {
    let denial = screen(bytes).unwrap_err();
    assert_eq!(denial.reason(), Reason::ComponentInvalid, "{denial}");
    denial.fact().to_owned()
}

#[test]
fn what_is_no_component_is_refused_by_what_it_is() {
    let engine = wasmtime::Engine::new(&config(&Limits::default(), 1)).unwrap();
    let compiled = engine.precompile_component(&wasm("(component)")).unwrap();
    assert!(compiled.starts_with(b"\x7fELF"));
    let compiled_module = engine.precompile_module(&wasm("(module)")).unwrap();
    for (bytes, expected) in [
        (compiled, "the question is compiled already, or a program"),
        (compiled_module, "the question is compiled already, or a program"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "the question is compiled already, or a program"),
        (b"(component)".to_vec(), "the question is WebAssembly text"),
        (b"\n\t (component)".to_vec(), "the question is WebAssembly text"),
        (wasm("(module)"), "the question is a core module"),
        (Vec::new(), "the question is empty"),
        (b"\0asm".to_vec(), "the question is no WebAssembly at all"),
        (b"#!/bin/sh\n".to_vec(), "the question is no WebAssembly at all"),
        (b"\0asm\x0e\0\x01\0".to_vec(), "the question is no WebAssembly at all"),
    ] {
        assert_eq!(fact(&bytes), expected);
    }
    let cut = [wasm("(component (component))"), vec![0]].concat();
    assert!(fact(&cut).starts_with("the component is malformed"), "{}", fact(&cut));
}

/// Names stand in messages: they are cut there, and cannot write to a terminal.
#[test]
fn a_message_is_one_plain_and_short_line() {
    let name = format!("\\1b[2J\\0a{}", "n".repeat(200));
    let twice =
        format!("(component (core module (func $f) (export \"{name}\" (func $f)) (export \"{name}\" (func $f))))");
    let said = fact(&wasm(&twice));
    assert!(said.contains("duplicate export") && said.contains("\\u{1b}[2J\\n"), "{said}");
    assert!(said.len() < 300 && !said.contains(char::is_control), "{said}");
}

fn repeat(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

fn in_module(fields: &str) -> Vec<u8> {
    wasm(&format!("(component (core module {fields}))"))
}

/// A section with a length of five bytes, so that it is as long whatever it holds.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [[id].as_slice(), &number(content.len()), content].concat()
}

fn number(number: usize) -> [u8; 5] {
    std::array::from_fn(|at| {
        let seven = u8::try_from(number >> (7 * at) & 0x7f).unwrap();
        if at < 4 { seven | 0x80 } else { seven }
    })
}

fn custom(name: &str, bytes: usize) -> Vec<u8> {
    section(0, &[number(name.len()).as_slice(), name.as_bytes(), &vec![0; bytes]].concat())
}

fn with_custom(sections: &[u8]) -> Vec<u8> {
    [wasm("(component)"), sections.to_vec()].concat()
}

/// A component of exactly so many bytes, most of them two functions that do nothing.
fn of_bytes(bytes: usize) -> Vec<u8> {
    let function = |nops: usize| [number(nops + 2).as_slice(), &[0], &vec![1; nops], &[0x0b]].concat();
    let component = |first: usize, second: usize| {
        let code = [number(2).as_slice(), &function(first), &function(second)].concat();
        let module =
            [b"\0asm\x01\0\0\0".to_vec(), section(1, &[1, 0x60, 0, 0]), section(3, &[2, 0, 0]), section(10, &code)];
        [wasm("(component)"), section(1, &module.concat())].concat()
    };
    let rest = bytes - component(0, 0).len();
    component(rest / 2, rest - rest / 2)
}

/// Exactly at each bound a component is accepted, and one above it is not.
#[test]
fn of_everything_there_may_be_so_much_and_no_more() {
    type Make = fn(usize) -> Vec<u8>;
    let cases: [(Bound, Make); 23] = [
        (bounds::BYTES, of_bytes),
        (bounds::LEVELS, |n| wasm(&["(component ".repeat(n), ")".repeat(n)].concat())),
        (bounds::COMPONENTS, |n| wasm(&format!("(component {})", "(component)".repeat(n)))),
        (bounds::COMPONENT_INSTANCES, |n| {
            wasm(&format!("(component (component $c) {})", "(instance (instantiate $c))".repeat(n)))
        }),
        (bounds::MODULES, |n| wasm(&format!("(component {})", "(core module)".repeat(n)))),
        (bounds::CORE_INSTANCES, |n| {
            wasm(&format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(n)))
        }),
        (bounds::MEMORIES, |n| wasm(&format!("(component {})", "(core module (memory 1 1))".repeat(n)))),
        (bounds::TABLES, |n| in_module(&"(table 0 1 funcref)".repeat(n))),
        (bounds::TABLE_ELEMENTS, |n| in_module(&format!("(table 0 {n} funcref)"))),
        (bounds::TYPES, |n| in_module(&"(type (func))".repeat(n))),
        (bounds::TYPE_BYTES, |n| wasm(&format!("(component {})", type_of_bytes(n)))),
        (bounds::FUNCTIONS, |n| in_module(&"(func)".repeat(n))),
        (bounds::GLOBALS, |n| in_module(&"(global i32 (i32.const 0))".repeat(n))),
        (bounds::IMPORTS, |n| in_module(&repeat(n, |at| format!("(import \"a\" \"{at}\" (global i32))")))),
        (bounds::EXPORTS, |n| {
            in_module(&format!("(func $f) {}", repeat(n, |at| format!("(export \"{at}\" (func $f))"))))
        }),
        (bounds::ALIASES, |n| lifting(&"(alias core export $i \"f\" (core func))".repeat(n))),
        (bounds::CANONICAL_FUNCTIONS, |n| {
            let lift = "(func (canon lift (core func $f)))".repeat(n);
            lifting(&format!("(alias core export $i \"f\" (core func $f)) {lift}"))
        }),
        (bounds::DATA_SEGMENTS, |n| in_module(&"(data \"\")".repeat(n))),
        // A section of data says how many there are, of each its kind and its length; of elements, the type besides.
        (bounds::DATA_BYTES, |n| in_module(&format!("(data \"{}\")", "a".repeat(n - 6)))),
        (bounds::ELEMENT_SEGMENTS, |n| in_module(&"(elem funcref)".repeat(n))),
        (bounds::ELEMENT_BYTES, |n| in_module(&format!("(func $f) (elem declare func {})", "$f ".repeat(n - 6)))),
        (bounds::CUSTOM_SECTIONS, |n| with_custom(&custom("x", 0).repeat(n))),
        (bounds::CUSTOM_BYTES, |n| with_custom(&[custom("x", 0), custom("x", n - 12)].concat())),
    ];
    for (bound, make) in cases {
        let Bound { what, most } = bound;
        assert!(screen(&make(most)).is_ok(), "{most} {what}: {}", screen(&make(most)).unwrap_err());
        let expected = format!("the component has {} {what}, and at most {most} are accepted", most + 1);
        assert_eq!(fact(&make(most + 1)), expected);
    }
}

/// A component's type in a section of so many bytes: how many there are, its kind, how many names, and one name.
fn type_of_bytes(bytes: usize) -> String {
    format!("(type (enum \"{}\"))", "a".repeat(bytes - 6))
}

#[test]
fn every_kind_of_type_counts() {
    let full = type_of_bytes(bounds::TYPE_BYTES.most);
    for (what, more) in [
        ("a module's", "(core module (type (func)))"),
        ("of a module", "(core type (module (import \"a\" \"b\" (func))))"),
        ("an inner component's", "(component (type u8))"),
        ("of a component", "(type (component (type (enum \"a\"))))"),
    ] {
        assert!(screen(&wasm(&format!("(component {more})"))).is_ok(), "{what}");
        let said = fact(&wasm(&format!("(component {full} {more})")));
        assert!(said.contains(" bytes of types, and at most 65536 are accepted"), "{what}: {said}");
    }
}

fn lifting(fields: &str) -> Vec<u8> {
    wasm(&format!("(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) {fields})"))
}

#[test]
fn every_kind_of_name_is_bounded() {
    type Make = fn(&str) -> Vec<u8>;
    let cases: [(&str, Make); 6] = [
        ("a module's import", |name| in_module(&format!("(import \"a\" \"{name}\" (func))"))),
        ("where a module imports from", |name| in_module(&format!("(import \"{name}\" \"a\" (func))"))),
        ("a module's export", |name| in_module(&format!("(func (export \"{name}\"))"))),
        ("an inner component's import", |name| wasm(&format!("(component (component (import \"{name}\" (func))))"))),
        ("a component's export", |name| wasm(&format!("(component (instance (export \"{name}\")))"))),
        ("a custom section", |name| with_custom(&custom(name, 0))),
    ];
    let Bound { most, .. } = bounds::NAME_BYTES;
    for (what, make) in cases {
        let long = make(&"a".repeat(most));
        assert!(screen(&long).is_ok(), "{what}: {}", screen(&long).unwrap_err());
        let expected = "the component has 257 bytes in a name, and at most 256 are accepted";
        assert_eq!(fact(&make(&"a".repeat(most + 1))), expected, "{what}");
    }
}

/// What is counted is counted over all parts: many small modules are one large one.
#[test]
fn parts_count_together() {
    let half = bounds::GLOBALS.most / 2;
    let of = |globals: usize| format!("(core module {})", "(global i32 (i32.const 0))".repeat(globals));
    let component = |globals: usize| wasm(&format!("(component {} (component {}))", of(half), of(globals)));
    assert!(screen(&component(half)).is_ok());
    assert_eq!(fact(&component(half + 1)), "the component has 1025 globals, and at most 1024 are accepted");
}

/// A section that announces more than it holds is refused by what it announces, before anything is made room for.
#[test]
fn announcements_are_bounded() {
    let module = [b"\0asm\x01\0\0\0".to_vec(), section(1, &number(u32::MAX as usize))].concat();
    let component = [wasm("(component)"), section(1, &module)].concat();
    assert_eq!(fact(&component), "the component has 4294967295 types, and at most 4096 are accepted");
}

#[test]
fn what_can_grow_has_a_maximum() {
    assert_eq!(fact(&in_module("(memory 1)")), "the component has a memory without a maximum");
    assert_eq!(fact(&in_module("(table 1 funcref)")), "the component has a table without a maximum");
    assert!(screen(&in_module("(memory 1 65536) (table 1 1 funcref)")).is_ok());
}

/// Of each feature that is off, something that uses it, and what else it takes. Turned on, it is accepted; as it is, not.
#[test]
fn every_feature_that_is_off_is_refused() {
    let on_top = |names: &[&str]| -> WasmFeatures {
        let all = WasmFeatures::all().iter_names().filter(|(name, _)| names.contains(&name.to_lowercase().as_str()));
        all.fold(FEATURES, |sum, (_, feature)| sum | feature)
    };
    let is_valid = |features, bytes: &[u8]| Validator::new_with_features(features).validate_all(bytes).map(|_| ());
    let (mut tried, mut wrong) = (BTreeSet::new(), Vec::new());
    for (names, text) in USES {
        let name = names[0];
        let bytes = wasm(text);
        if let Err(error) = is_valid(on_top(names), &bytes) {
            wrong.push(format!("{name} is not what {text} uses: {error}"));
        }
        if is_valid(on_top(&names[1..]), &bytes).is_ok() {
            wrong.push(format!("{text} does without {name}"));
        }
        if !screen(&bytes).is_err_and(|denial| denial.reason() == Reason::ComponentInvalid) {
            wrong.push(format!("{name} is accepted: {text}"));
        }
        tried.insert(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let off: BTreeSet<&str> = features(FEATURES).filter(|(_, is_on)| !is_on).map(|(name, _)| name).collect();
    let untried: Vec<_> = off.difference(&tried).copied().collect();
    assert!(untried.is_empty(), "nothing tries {untried:?}");
}

/// A feature's name, after it those that it needs; and a component that uses it.
const USES: &[(&[&str], &str)] = &[
    (&["relaxed_simd"], "(component (core module (func (param v128 v128) (result v128)
        (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))))"),
    (&["threads"], "(component (core module (memory 1 1 shared)))"),
    (&["threads"], "(component (core module (memory 1 1) (func (drop (i32.atomic.load (i32.const 0))))))"),
    (&["shared_everything_threads", "gc_types"], "(component (core module (table 0 1 (ref null (shared func)))))"),
    (&["tail_call"], "(component (core module (func $f (return_call $f))))"),
    (&["tail_call"], "(component (core module (table 1 1 funcref) (func (return_call_indirect (i32.const 0)))))"),
    (&["multi_memory"], "(component (core module (import \"a\" \"b\" (memory 1 1)) (memory 1 1)))"),
    (&["exceptions"], "(component (core module (tag)))"),
    (&["exceptions"], "(component (core module (func (block $on (try_table (catch_all $on))))))"),
    (&["exceptions"], "(component (core module (func (param exnref) (throw_ref (local.get 0)))))"),
    (&["legacy_exceptions"], "(component (core module (func try catch_all end)))"),
    (&["memory64"], "(component (core module (memory i64 1 1)))"),
    (&["memory64"], "(component (core module (table i64 1 1 funcref)))"),
    (&["function_references"], "(component (core module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))))"),
    (&["memory_control"], "(component (core module (memory 1 1) (func (memory.discard (i32.const 0) (i32.const 0)))))"),
    (&["gc", "function_references", "gc_types"], "(component (core module (type (struct (field i32)))))"),
    (&["gc", "function_references", "gc_types"], "(component (core module (func (drop (ref.i31 (i32.const 0))))))"),
    (&["gc_types"], "(component (core module (func (param externref))))"),
    (&["custom_page_sizes"], "(component (core module (memory 1 1 (pagesize 1))))"),
    (&["stack_switching", "function_references", "gc", "gc_types", "exceptions"],
        "(component (core module (type $f (func)) (type $c (cont $f)) (func (param (ref $f)) (drop (cont.new $c (local.get 0))))))"),
    (&["wide_arithmetic"], "(component (core module (func (param i64 i64) (result i64 i64)
        (i64.mul_wide_u (local.get 0) (local.get 1)))))"),
    (&["cm_values"], "(component (component (import \"a\" (value $v string)) (export \"b\" (value $v))))"),
    (&["cm_nested_names"], "(component (instance (export \"a:b:c/d/e\")))"),
    (&["cm_async"], "(component (type (stream u8)))"),
    (&["cm_async"], "(component (type (future u8)))"),
    (&["cm_async"], "(component (core func (canon waitable-set.new)))"),
    (&["cm_async_stackful", "cm_async"], "(component (core module $m (func (export \"f\")))
        (core instance $i (instantiate $m)) (func async (canon lift (core func $i \"f\") async)))"),
    (&["cm_more_async_builtins", "cm_async"], "(component (core func (canon subtask.cancel async)))"),
    (&["cm_threading", "cm_async"], "(component (core func (canon thread.index)))"),
    (&["cm_error_context"], "(component (type error-context))"),
    (&["cm_error_context"], "(component (core func (canon error-context.drop)))"),
    (&["cm_fixed_length_lists"], "(component (type (list u8 4)))"),
    (&["cm_gc", "gc", "function_references", "gc_types"], "(component (core module $m (func (export \"f\")))
        (core instance $i (instantiate $m)) (func (canon lift (core func $i \"f\") gc)))"),
    (&["custom_descriptors", "gc", "function_references", "gc_types"],
        "(component (core module (rec (type $a (descriptor $b) (struct)) (type $b (describes $a) (struct)))))"),
    (&["compact_imports"], "(component (core module (import \"a\" (item \"b\" (func)) (item \"c\" (func)))))"),
    (&["cm_map"], "(component (type (map string u8)))"),
    (&["cm64", "memory64"], "(component (core module $m (memory (export \"m\") i64 1 1) (func (export \"f\") (result i64) (i64.const 0)))
        (core instance $i (instantiate $m)) (func (result string) (canon lift (core func $i \"f\") (memory (core memory $i \"m\")))))"),
    (&["cm_implements"], "(component (instance $i) (export \"a\" (implements \"a:b/c\") (instance $i)))"),
    (&["cm_canon_names"], "(component (instance $i) (export \"a:b/c@1\" (versionsuffix \".0.0\") (instance $i)))"),
];
