//! Components from text, what they export, and the engine's profile.

mod hostile;
mod pressure;
mod screen;

use expect_test::expect;
use wasmtime::{Engine, Instance, Module, OptLevel, Store};

use crate::denial::{Reason, Result};
use crate::profile::{config, config_of_kernels, profile, profile_sha256};
use crate::screen::{FEATURES, screen};
use crate::terms::Limits;
use crate::testing::{MEASURE, MEMORY, SELECT, WIT, encode, module};
use crate::world::{World, world};

fn analytical(body: &str) -> Vec<u8> {
    encode(WIT, "analytical-question", wasm(&module(MEASURE, body)))
}

fn list(body: &str) -> Vec<u8> {
    encode(WIT, "list-question", wasm(&module(SELECT, body)))
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn code(result: Result<World>) -> Reason {
    result.unwrap_err().reason()
}

#[test]
fn a_world_is_named_by_what_it_exports() {
    let (analytical, list) = (world(&analytical("")).unwrap(), world(&list("")).unwrap());
    assert_eq!((analytical.name.as_str(), list.name.as_str()), ("analytical-question", "list-question"));
    assert_eq!((list.package.as_str(), list.version.as_str()), ("glovebox:question", "0.2.0"));
    expect![[r#"
        package root:component;

        world root {
          export glovebox:question/selection@0.2.0;
        }
        package glovebox:question@0.2.0 {
          interface selection {
            select: func(unit: list<u64>) -> option<u32>;
          }
        }
    "#]]
    .assert_eq(&list.wit);
}

/// The text is complete: the contract's file says nothing more of these interfaces than the component does.
#[test]
fn a_world_says_what_the_contract_says() {
    let without_space = |text: &str| -> String {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        code.flat_map(str::chars).filter(|c| !c.is_whitespace() && *c != '%').collect()
    };
    let (printed, contract) = (without_space(&world(&analytical("")).unwrap().wit), without_space(WIT));
    let rest = &contract[contract.find("interfaceanalytical{").unwrap()..];
    let end = rest[1..].find("interface").unwrap();
    assert!(printed.contains(&rest[..=end]), "{printed} lacks {}", &rest[..=end]);
}

#[test]
fn code_and_custom_sections_change_nothing_of_a_world() {
    let plain = analytical("");
    let expected = world(&plain).unwrap();
    // `package-docs` is where the standard tools keep documentation and stability.
    let docs = br#"@{"docs":"x","worlds":{"root":{"docs":"y","stability":{"stable":{"since":"9.9.9"}}}}}"#;
    let broken = b"no JSON at all";
    for (name, data) in [("padding", [0; 70].as_slice()), ("package-docs", docs), ("package-docs", broken)] {
        let padded = [plain.clone(), custom_section(name, data)].concat();
        assert!(world(&padded).unwrap() == expected, "{name}");
        let twice = [padded, custom_section(name, data)].concat();
        assert!(world(&twice).unwrap() == expected, "{name} twice");
    }
    assert_eq!(world(&analytical("unreachable")).unwrap(), expected);
}

fn custom_section(name: &str, data: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).ok().filter(|length| *length < 128).unwrap();
    let content = [&[length(name.as_bytes())], name.as_bytes(), data].concat();
    [[0, length(&content)].as_slice(), &content].concat()
}

#[test]
fn another_export_is_another_world() {
    let plain = world(&analytical("")).unwrap();
    let changed = |from: &str, to: &str, function: &str| {
        assert!(WIT.contains(from));
        let module =
            format!("(module {MEMORY} (func (export \"{function}\") (param i32 i32) (result i32) (i32.const 0)))");
        world(&encode(&WIT.replace(from, to), "analytical-question", wasm(&module))).unwrap()
    };
    let measure = "glovebox:question/analytical@0.2.0#measure";
    let field = changed("values: list<f64>,\n  }\n\n  measure", "values: list<f32>,\n  }\n\n  measure", measure);
    let name = changed("group: list<string>", "key: list<string>", measure);
    let version = changed("question@0.2.0", "question@0.3.0", "glovebox:question/analytical@0.3.0#measure");
    for other in [&field, &name, &version] {
        assert!(other.wit != plain.wit && other.sha256 != plain.sha256);
    }
    assert_eq!((version.version.as_str(), version.name.as_str()), ("0.3.0", "analytical-question"));
}

#[test]
fn a_world_of_something_else_is_refused() {
    let instance = |name: &str| format!("(instance (export \"{name}\"))");
    let (old, new) = ("glovebox:question/analytical@0.2.0", "glovebox:question/selection@0.3.0");
    let package = "(component (type (component (export \"a:b/c\" (instance)))) (export \"wit\" (type 0)))";
    for (what, text) in [
        ("no exports", "(component)".to_owned()),
        ("another package's", format!("(component {})", instance("wasi:cli/run@0.2.0"))),
        ("no version", format!("(component {})", instance("glovebox:question/analytical"))),
        ("two versions", format!("(component {} {})", instance(old), instance(new))),
        ("a package of WIT", package.to_owned()),
        ("a core module", "(module)".to_owned()),
    ] {
        assert_eq!(code(world(&wasm(&text))), Reason::ComponentInvalid, "{what}");
    }
    assert_eq!(code(world(b"(component)")), Reason::ComponentInvalid);
}

/// The parser would take the end of the bytes for the end of everything that is open.
#[test]
fn a_component_that_ends_within_what_it_holds_is_refused() {
    let nested = |kind: &[u8; 2], head: &[u8; 8]| [analytical("").as_slice(), kind, head].concat();
    for (section, head) in [(4, b"\0asm\x0d\0\x01\0"), (1, b"\0asm\x01\0\0\0")] {
        assert_eq!(screen(&nested(&[section, 8], head)), Ok(()));
        assert_eq!(screen(&nested(&[section, 9], head)).unwrap_err().reason(), Reason::ComponentInvalid);
    }
}

/// A name is its author's; what a refusal says of it is one line on whoever's terminal.
#[test]
fn a_refusal_cannot_move_a_cursor() {
    let lifted = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) \
                  (func $f (canon lift (core func $i \"f\")))";
    let named = |name: &str| screen(&wasm(&format!("(component {lifted} (export \"{name}\" (func $f)))")));
    for name in ["f\\1b[2J\\0a", &"\\0a".repeat(1_000), &format!("{}\\c2\\9b", "F".repeat(100))] {
        let refused = named(name).unwrap_err();
        assert_eq!(refused.reason(), Reason::ComponentInvalid);
        assert!(!refused.fact().contains(char::is_control) && refused.fact().len() < 400, "{:?}", refused.fact());
    }
}

/// What the decoder asserts is not what the component model promises.
#[test]
fn a_component_on_which_the_decoder_stops_is_refused() {
    let lifted = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) \
                  (func $f (canon lift (core func $i \"f\")))";
    for (what, export) in [
        ("a function with an interface's name", "(export \"glovebox:question/analytical@0.2.0\" (func $f))"),
        ("a module", "(core module $n) (export \"n\" (core module $n))"),
        ("a component", "(component $n) (export \"n\" (component $n))"),
        ("a type", "(type $t (list u8)) (export \"t\" (type $t))"),
    ] {
        let refused = world(&wasm(&format!("(component {lifted} {export})")));
        assert_eq!(code(refused), Reason::ComponentInvalid, "{what}");
    }
}

/// A name that 1,500 parameters use would be printed 1,500 times.
#[test]
fn a_world_that_would_fill_memory_is_refused() {
    let name = format!("a{}", "b".repeat(200));
    let uses: String = (0..100).map(|at| format!("p{at}: {name}, ")).collect();
    let (functions, exports): (String, String) = (0..15)
        .map(|at| {
            let export = format!("glovebox:question/analytical@0.2.0#f{at}");
            (format!("f{at}: func({uses});\n"), format!("(func (export \"{export}\") (param i32))"))
        })
        .unzip();
    let wit = format!(
        "package glovebox:question@0.2.0;\ninterface analytical {{ enum {name} {{ x }}\n{functions} }}\n\
         world w {{ export analytical; }}"
    );
    let refused = world(&encode(&wit, "w", wasm(&format!("(module {MEMORY} {exports})")))).unwrap_err();
    assert!(refused.fact().contains("longer than 262144 bytes of WIT"), "{refused}");
}

/// A change here is a change of what questions compute or may use: agreements that name the old digest do not run.
#[test]
fn the_engines_profile() {
    expect![[r#"
        wasmtime = 48.0.8
        engine.strategy = Cranelift
        engine.cranelift_opt_level = Speed
        engine.cranelift_regalloc_algorithm = Backtracking
        engine.cranelift_nan_canonicalization = true
        engine.relaxed_simd_deterministic = true
        engine.compiler_inlining = No
        engine.epoch_interruption = true
        engine.concurrency_support = false
        engine.shared_memory = false
        engine.max_wasm_stack = 262144
        engine.memory_reservation = 4294967296
        engine.memory_guard_size = 33554432
        engine.guard_before_linear_memory = true
        engine.memory_init_cow = true
        engine.generate_address_map = false
        engine.wasm_backtrace_max_frames = None
        instances.consume_fuel = true
        pool.max_core_instances_per_component = 16
        pool.max_memories_per_component = 1
        pool.max_tables_per_component = 4
        pool.max_memories_per_module = 1
        pool.max_tables_per_module = 1
        pool.max_core_instance_size = 1048576
        pool.max_component_instance_size = 1048576
        pool.table_elements = 20000
        pool.linear_memory_keep_resident = 262144
        pool.table_keep_resident = 16384
        pool.pagemap_scan = No
        pool.max_memory_size = agreed memory_bytes_per_unit
        store.core_instances_max = 16
        store.tables_max = 4
        store.memories_max = 1
        store.table_elements_max = 20000
        store.table_element_bytes = 8
        store.component_handles_max = 0
        store.epoch_milliseconds = 10
        store.memory_and_table_bytes = agreed memory_bytes_per_unit
        store.fuel = agreed fuel_per_unit
        store.hostcall_fuel = agreed answer_bytes_per_unit
        store.epoch_deadline = agreed milliseconds_per_unit
        wasm.mutable_global = true
        wasm.saturating_float_to_int = true
        wasm.sign_extension = true
        wasm.reference_types = true
        wasm.multi_value = true
        wasm.bulk_memory = true
        wasm.simd = true
        wasm.relaxed_simd = false
        wasm.threads = false
        wasm.shared_everything_threads = false
        wasm.tail_call = false
        wasm.floats = true
        wasm.multi_memory = false
        wasm.exceptions = false
        wasm.memory64 = false
        wasm.extended_const = true
        wasm.component_model = true
        wasm.function_references = false
        wasm.memory_control = false
        wasm.gc = false
        wasm.custom_page_sizes = false
        wasm.legacy_exceptions = false
        wasm.gc_types = false
        wasm.stack_switching = false
        wasm.wide_arithmetic = false
        wasm.cm_values = false
        wasm.cm_nested_names = false
        wasm.cm_async = false
        wasm.cm_async_stackful = false
        wasm.cm_more_async_builtins = false
        wasm.cm_threading = false
        wasm.cm_error_context = false
        wasm.cm_fixed_length_lists = false
        wasm.cm_gc = false
        wasm.call_indirect_overlong = true
        wasm.bulk_memory_opt = true
        wasm.custom_descriptors = false
        wasm.compact_imports = false
        wasm.cm_map = false
        wasm.cm64 = false
        wasm.cm_implements = false
        wasm.cm_canon_names = false
        kernel.consume_fuel = false
        kernel.module_bytes_max = 65536
        kernel.work_max = 16384
        kernel.work_of_loop = 128
        kernel.calls_deep_max = 32
        kernel.batch_bytes_max = 1073741824
        kernel.units_per_call = 1024
        kernel.work_per_unit = agreed fuel_per_unit
        kernel.rounds_per_unit = agreed fuel_per_unit by the work of a phase
        kernel.answer_bytes = agreed answer_bytes_per_unit
        kernel.epoch_deadline = agreed milliseconds_per_unit
        kernel.wasm.saturating_float_to_int = true
        kernel.wasm.sign_extension = true
        kernel.wasm.reference_types = true
        kernel.wasm.multi_value = true
        kernel.wasm.floats = true
        kernel.wasm.call_indirect_overlong = true
    "#]]
    .assert_eq(&profile());
    assert_eq!(profile_sha256(), crate::sha256_hex(profile().as_bytes()));
}

/// The table is what the engine then has, and not merely what it was told.
#[test]
fn the_engine_has_its_profile() {
    for threads in [1, 7] {
        let engine = Engine::new(&config(&Limits::default(), threads)).unwrap();
        assert_eq!(engine.get_wasm_features(), FEATURES);
        assert_eq!(engine.get_cranelift_opt_level(), Some(OptLevel::Speed));
        assert_eq!(engine.get_cranelift_nan_canonicalization(), Some(true));
        assert!(engine.get_relaxed_simd_deterministic());
        assert!(engine.get_consume_fuel() && engine.get_epoch_interruption());
        assert!(!engine.get_concurrency_support() && !engine.get_shared_memory());
        let printed = profile();
        let has = |line: String| assert!(printed.contains(&format!("{line}\n")), "{line}");
        has(format!("engine.max_wasm_stack = {}", engine.get_max_wasm_stack()));
        has(format!("engine.memory_reservation = {}", engine.get_memory_reservation()));
        has(format!("engine.memory_guard_size = {}", engine.get_memory_guard_size()));
        has(format!("engine.compiler_inlining = {:?}", engine.get_compiler_inlining()));
        has(format!("engine.memory_init_cow = {}", engine.get_memory_init_cow()));
        let pool = engine.get_pooling_config().unwrap();
        has(format!("pool.table_elements = {}", pool.get_table_elements()));
        has(format!("pool.linear_memory_keep_resident = {}", pool.get_memory_keep_resident()));
        assert_eq!(pool.get_max_memory_size() as u64, Limits::default().memory_bytes_per_unit);
    }
}

#[test]
fn the_engine_of_kernels_has_its_profile() {
    let engine = Engine::new(&config_of_kernels(&Limits::default())).unwrap();
    assert_eq!(engine.get_cranelift_opt_level(), Some(OptLevel::Speed));
    assert_eq!(engine.get_cranelift_nan_canonicalization(), Some(true));
    assert!(!engine.get_consume_fuel() && engine.get_epoch_interruption());
    let printed = profile();
    let has = |line: String| assert!(printed.contains(&format!("{line}\n")), "{line}");
    has(format!("engine.max_wasm_stack = {}", engine.get_max_wasm_stack()));
    has(format!("engine.memory_reservation = {}", engine.get_memory_reservation()));
    has(format!("engine.compiler_inlining = {:?}", engine.get_compiler_inlining()));
}

/// On x86 an invalid operation makes a negative NaN, on ARM a positive one; a guest must not see which.
#[test]
fn every_nan_that_is_computed_has_the_same_bits() {
    let engine = Engine::new(&config(&Limits::default(), 1)).unwrap();
    for (what, body) in [
        ("an invalid operation", "(f64.div (local.get 0) (local.get 0))"),
        ("a NaN with a payload that goes in", "(f64.add (f64.const -nan:0x4000000000123) (local.get 0))"),
        ("a root of a negative number", "(f64.sqrt (f64.sub (local.get 0) (f64.const 1)))"),
        ("a lane", "(f64x2.extract_lane 1 (f64x2.div (f64x2.splat (local.get 0)) (f64x2.splat (local.get 0))))"),
        ("a NaN that is widened", "(f64.promote_f32 (f32.div (f32.const 0) (f32.demote_f64 (local.get 0))))"),
    ] {
        let text = format!("(module (func (export \"f\") (param f64) (result i64) (i64.reinterpret_f64 {body})))");
        let mut store = Store::new(&engine, ());
        store.set_fuel(1_000).unwrap();
        store.set_epoch_deadline(1_000);
        let instance = Instance::new(&mut store, &Module::new(&engine, wasm(&text)).unwrap(), &[]).unwrap();
        let f = instance.get_typed_func::<f64, i64>(&mut store, "f").unwrap();
        assert_eq!(f.call(&mut store, 0.0).unwrap(), 0x7ff8_0000_0000_0000, "{what}");
    }
}
