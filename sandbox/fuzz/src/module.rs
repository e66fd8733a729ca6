//! Arbitrary code: what it answers about a unit, and what that takes, depends on that unit alone. Neither its neighbours
//! in a batch, nor its place there, nor how many instances the engine has is for it to see.
//!
//! Generated code seldom answers. So it is linked with code that does: which sums up all that its memory holds, answers
//! with the sum, and leaves as much of its memory dirty as it may have.

use std::convert::Infallible;
use std::sync::LazyLock;

use arbitrary::Unstructured;
use glovebox_sandbox::testing::{Careless, MEASURE, WIT, encode, unpooled};
use glovebox_sandbox::{ColumnType, Kind, Question, Spec, Writer, screen, world};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, FunctionSection, GlobalSection};
use wasm_smith::Config;
use wasmparser::{CodeSectionReader, ExportSectionReader, FunctionSectionReader, GlobalSectionReader, Parser, Payload};

use super::{Memory, Said, Seed, Seen, accepted, compiled, spec, wasm};

/// Enough for the sum over the memory, for filling it, and for a little of what is generated.
const FUEL: u64 = 2_000_000;

/// What is generated exports this, with one of the memories.
const GENERATED: &str = r#"
    (func (export "inner") (param i32 i32) (result i32) unreachable)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
"#;
const MEMORIES: [&str; 4] = ["1 1", "1 2", "2 100", "15 16"];

/// What is linked with it, in this order: how the engine gets memory, and the function of the contract.
const LINKED: &str = r#"
    (import "" "inner" (func $inner (param i32 i32) (result i32)))
    (import "" "memory" (memory 1))
    (global $end (mut i32) (i32.const 1024))
    (func $realloc (param i32 i32 i32 i32) (result i32)
        (local $start i32)
        (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
        (global.set $end (i32.add (local.get $start) (local.get 3)))
        (local.get $start))
    (func $measure (param i32 i32) (result i32)
        (local $answer i32) (local $at i32) (local $sum i64)
        (local.set $answer (call $inner (local.get 0) (local.get 1)))
        ;; The first page whole, and of the rest a word of every 4 KiB.
        (loop $next
            (local.set $sum (i64.rotl (i64.mul
                (i64.xor (local.get $sum) (i64.load (local.get $at))) (i64.const 0x100000001b3)) (i64.const 29)))
            (local.set $at (i32.add (local.get $at)
                (select (i32.const 8) (i32.const 4096) (i32.lt_u (local.get $at) (i32.const 65536)))))
            (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
        (local.set $at (memory.size))
        (drop (memory.grow (i32.const 1)))
        (memory.fill (i32.const 0) (i32.const 0xaa) (i32.shl (memory.size) (i32.const 16)))
        (i64.store (i32.const 0) (i64.const 0x100000008))
        (i64.store (i32.const 8) (i64.const 0))
        (i64.store (i32.const 16) (i64.const 0x400000020))
        (f64.store (i32.const 32) (f64.convert_i32_s (local.get $answer)))
        (f64.store (i32.const 40) (f64.convert_i32_u (local.get $at)))
        (f64.store (i32.const 48) (f64.convert_i32_u (i32.wrap_i64 (local.get $sum))))
        (f64.store (i32.const 56) (f64.convert_i32_u (i32.wrap_i64 (i64.shr_u (local.get $sum) (i64.const 32)))))
        (i32.const 0))
"#;

static LINKED_MODULE: LazyLock<Vec<u8>> = LazyLock::new(|| wasm(&format!("(module {LINKED})")));
static EXPORTS: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    MEMORIES.map(|memory| wasm(&format!("(module {GENERATED} (memory (export \"memory\") {memory}))")))
});

/// The first byte says how the code is made and linked; the rest are the generator's choices.
pub fn check(data: &[u8]) {
    let Some((how, choices)) = data.split_first() else { return };
    let Some(component) = component(How(*how), choices) else { return };
    // The screen counts and bounds, so it accepts less than the engine would.
    if accepted(screen(&component)).is_none() {
        return;
    }
    assert_eq!(world(&component).unwrap().name, "analytical-question");
    let Some(question) = compiled(&component, the_spec(), 1) else { return };
    let other = if How(*how).is_unpooled() {
        unpooled(&component, the_spec())
    } else {
        compiled(&component, the_spec(), 5).expect("other engines accept it")
    };
    let [a, b, c] = [0, 1, 2].map(|unit| ask(&question, &[unit]).remove(0));
    for question in [&question, &other] {
        let (neighbours, turned) = (ask(question, &[0, 1, 0, 2, 0]), ask(question, &[2, 1, 0]));
        assert_eq!(neighbours, [&a, &b, &a, &c, &a].map(Clone::clone), "beside other units");
        assert_eq!(turned, [&c, &b, &a].map(Clone::clone), "in another order");
    }
}

/// What the first byte of an input says.
#[derive(Clone, Copy, Default)]
struct How(u8);

impl How {
    /// The generated code answers by itself.
    const fn is_raw(self) -> bool {
        self.0 & 1 != 0
    }

    /// The engine gets its memory from generated code.
    const fn has_own_realloc(self) -> bool {
        self.0 & 2 != 0
    }

    /// What would trap is left out.
    const fn is_without_traps(self) -> bool {
        self.0 & 4 != 0
    }

    const fn is_unpooled(self) -> bool {
        self.0 & 8 != 0
    }

    fn exports(self) -> Vec<u8> {
        EXPORTS[usize::from(self.0 >> 4) % EXPORTS.len()].clone()
    }

    /// With them, most of what is generated has types that are not accepted.
    const fn has_reference_types(self) -> bool {
        self.0 & 192 == 192
    }
}

fn component(how: How, choices: &[u8]) -> Option<Vec<u8>> {
    let config = Config {
        exports: Some(how.exports()),
        disallow_traps: how.is_without_traps(),
        reference_types_enabled: how.has_reference_types(),
        ..config()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(choices)).ok()?;
    Some(encode(WIT, "analytical-question", link(&module.to_bytes(), how)))
}

/// What is accepted and no more, in small.
pub(super) fn config() -> Config {
    Config {
        max_imports: 0,
        max_types: 8,
        max_funcs: 6,
        max_globals: 6,
        min_globals: 1,
        // The one of its exports.
        max_memories: 0,
        max_memory32_bytes: 4 << 20,
        max_tables: 1,
        // More than the pool has room for.
        max_table_elements: 25_000,
        max_elements: 10,
        max_element_segments: 4,
        max_data_segments: 4,
        max_instructions: 80,
        max_type_size: 60,
        reference_types_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        tail_call_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        relaxed_simd_enabled: false,
        ..Config::default()
    }
}

fn link(generated: &[u8], how: How) -> Vec<u8> {
    let mut linker = Linker { how, ..Linker::default() };
    for payload in Parser::new(0).parse_all(generated) {
        match payload.unwrap() {
            Payload::FunctionSection(functions) => linker.functions = functions.count(),
            Payload::GlobalSection(globals) => linker.globals = globals.count(),
            Payload::ExportSection(exports) => linker.read_exports(exports),
            _ => {}
        }
    }
    let mut module = wasm_encoder::Module::new();
    linker.parse_core_module(&mut module, Parser::new(0), generated).unwrap();
    module.finish()
}

/// Copies a module, and appends to its sections what is linked.
#[derive(Default)]
struct Linker {
    how: How,
    inner: u32,
    realloc: u32,
    memory: u32,
    functions: u32,
    globals: u32,
}

impl Linker {
    fn read_exports(&mut self, exports: ExportSectionReader<'_>) {
        for export in exports.into_iter().map(Result::unwrap) {
            match export.name {
                "inner" => self.inner = export.index,
                "realloc" => self.realloc = export.index,
                _ => self.memory = export.index,
            }
        }
    }

    /// Gives each section of what is linked to `copy`.
    fn linked(&self, mut copy: impl FnMut(&mut Renumbered, Payload<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let mut renumbered = Renumbered { inner: self.inner, functions: self.functions, globals: self.globals };
        Parser::new(0).parse_all(&LINKED_MODULE).try_for_each(|payload| copy(&mut renumbered, payload.unwrap()))
    }
}

impl Reencode for Linker {
    type Error = Infallible;

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        // Each has the type of the generated function in whose place it is.
        let of = |function: u32| section.clone().into_iter().nth(function as usize).unwrap();
        let (realloc, measure) = (of(self.realloc)?, of(self.inner)?);
        utils::parse_function_section(self, functions, section)?;
        functions.function(realloc).function(measure);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_global_section(self, globals, section)?;
        self.linked(|renumbered, payload| match payload {
            Payload::GlobalSection(linked) => renumbered.parse_global_section(globals, linked),
            _ => Ok(()),
        })
    }

    fn parse_export_section(&mut self, exports: &mut ExportSection, _: ExportSectionReader<'_>) -> Result<(), Error> {
        let realloc = if self.how.has_own_realloc() { self.realloc } else { self.functions };
        let measure = if self.how.is_raw() { self.inner } else { self.functions + 1 };
        exports
            .export("memory", ExportKind::Memory, self.memory)
            .export("cabi_realloc", ExportKind::Func, realloc)
            .export(MEASURE, ExportKind::Func, measure);
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        self.linked(|renumbered, payload| match payload {
            Payload::CodeSectionEntry(body) => renumbered.parse_function_body(code, body),
            _ => Ok(()),
        })
    }
}

/// Gives what is linked the numbers that it has there.
struct Renumbered {
    inner: u32,
    functions: u32,
    globals: u32,
}

impl Reencode for Renumbered {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(if function == 0 { self.inner } else { self.functions + function - 1 })
    }

    fn global_index(&mut self, global: u32) -> Result<u32, Error> {
        Ok(self.globals + global)
    }
}

fn the_spec() -> Spec {
    spec(Kind::Analytical, FUEL, vec![vec![ColumnType::Int64, ColumnType::Utf8]])
}

/// What is seen of each of the units in turn.
fn ask(question: &Question, units: &[usize]) -> Vec<Seen> {
    let asked = question.ask_all(batch(units).bytes(), units.len()).expect("a question that starts is asked");
    asked.iter().map(|asked| Seen::of(asked, &question.spec().limits)).collect()
}

fn batch(units: &[usize]) -> Memory {
    let mut words = [0_u64; 256];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
    units.iter().for_each(|unit| write(&mut writer, *unit));
    let len = writer.len();
    Memory::of(&bytemuck::cast_slice(&words)[..len], 0, 0)
}

/// A unit with one row more than its number.
fn write(writer: &mut Writer<'_>, unit: usize) {
    let rows = unit + 1;
    let text = ["red", "žlutá", ""][unit];
    let numbers: Vec<i64> = (0..rows).map(|row| i64::MIN >> (8 * unit + row)).collect();
    let offsets: Vec<u32> = (0..=rows).map(|row| u32::try_from(row * text.len()).unwrap()).collect();
    let write = |writer: &mut Writer<'_>| {
        writer.slot(rows, 2)?;
        writer.column(ColumnType::Int64)?;
        writer.list::<u8>(if unit == 1 { &[0b01] } else { &[] })?;
        writer.list(&numbers)?;
        writer.column(ColumnType::Utf8)?;
        writer.list::<u8>(&[])?;
        writer.list(&offsets)?;
        writer.list(text.repeat(rows).as_bytes())
    };
    writer.unit(&[], 0, 1, write).unwrap();
}

/// So many bytes that look like chance.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let seed = |how: u8, len: usize| [vec![how], noise(u64::from(how), len)].concat();
    assert_careless_hosts_are_noticed(&seed(0, 100));
    vec![
        ("small", seed(0, 100)),
        ("plain", seed(4, 800)),
        ("unpooled", seed(12, 800)),
        ("grows", seed(36, 600)),
        ("full", seed(52, 600)),
        ("traps", seed(16, 800)),
        ("raw", seed(5, 400)),
        ("own-realloc", seed(6, 400)),
        ("references", seed(196, 600)),
    ]
}

/// The code answers, and what it answers of a unit is another thing where an instance has seen one before.
fn assert_careless_hosts_are_noticed(seed: &[u8]) {
    let component = component(How(seed[0]), &seed[1..]).unwrap();
    let host = Careless::new(&component, the_spec());
    let alone = [0, 0, 1].map(|unit| Said::from(&host.ask_alone(batch(&[unit]).bytes())));
    let kept = [0, 0].map(|unit| Said::from(&host.ask(batch(&[unit]).bytes())));
    assert!(alone[0] == alone[1] && alone[0] != alone[2], "{alone:?}");
    assert!(kept[0] == alone[0] && kept[1] != alone[0] && kept[1] != Said::Nothing, "{kept:?}");
}
