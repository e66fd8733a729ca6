//! Register kernels from strangers: what is proved to keep nothing compiles, starts, and says of a unit what it says of it
//! alone in a new instance, in whatever company, whatever came before.
//!
//! Generated modules export what a kernel does, but seldom compute with permitted operators alone. So for most of them the
//! generator is told to leave out what would be refused.

use std::convert::Infallible;
use std::sync::LazyLock;

use arbitrary::Unstructured;
use glovebox_sandbox::testing::{Kernel, RunningKernel};
use glovebox_sandbox::{ColumnType, Limits, Reason, Writer};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CustomSection, Instruction, Section, ValType};
use wasm_smith::{Config, InstructionKind, InstructionKinds};
use wasmparser::{Operator, Parser};

use super::module::{config, noise};
use super::{Memory, Seed, Seen, wasm};

/// Loops go round so often that an input is quick.
const FUEL: u64 = 20_000;
/// A kernel with more values than anyone needs is proved, but not written.
const VALUES_MAX: usize = 1_000;

/// What a kernel exports, and its columns.
const SHAPES: [(&str, &str); 3] = [
    (
        r#"(func (export "init_0") (result i64) unreachable)
        (func (export "step_0") (param i64 i64) (result i64) unreachable)
        (func (export "emit_0") (param i64) (result i32 f64) unreachable)"#,
        "i",
    ),
    (
        r#"(func (export "init_0") (result i32 i64) unreachable)
        (func (export "step_0") (param i32 i64 f64 i32 i32 i32) (result i32) unreachable)
        (func (export "step_1") (param i32 i64 f64 i32 i32 i32) (result i64) unreachable)
        (func (export "emit_0") (param i32 i64) (result i32) unreachable)
        (func (export "emit_1") (param i32 i64) (result f64) unreachable)"#,
        "FB",
    ),
    (
        r#"(func (export "init_0") (param i32 i64) (result f64) unreachable)
        (func (export "step_0") (param i32 i64 f64 i32 i64) (result f64) unreachable)
        (func (export "emit_0") (param i32 i64 f64) (result i32 f64 f64) unreachable)"#,
        "dt",
    ),
];

static EXPORTS: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| SHAPES.map(|(exports, _)| wasm(&format!("(module {exports})"))));

/// Reads the data as a module; and where it is none at all, as the choices of a generator of modules.
pub fn check(data: &[u8]) {
    check_module(data);
    if let Some((how, choices)) = data.split_first().filter(|_| !data.starts_with(b"\0asm")) {
        generated(How(*how), choices).iter().for_each(|module| check_module(module));
    }
}

fn check_module(module: &[u8]) {
    let kernel = match Kernel::new(module, limits()) {
        Ok(kernel) => kernel,
        Err(denial) => {
            let fact = denial.fact();
            assert_eq!(denial.reason(), Reason::ComponentInvalid, "what is proved does not compile: {denial}");
            assert!(!fact.contains(char::is_control), "{fact:?}");
            assert!(!fact.contains("than there is room for") || module.len() > VALUES_MAX, "not written: {denial}");
            return;
        }
    };
    let mut running = match kernel.start() {
        Ok(running) => running,
        Err(denial) => return assert!(denial.fact().contains("call stack exhausted"), "{denial}"),
    };
    let mut ask = |units: &[usize]| asked(&kernel, &mut running, units);
    let alone: Vec<Seen> =
        (0..UNITS).map(|unit| asked(&kernel, &mut kernel.start().unwrap(), &[unit]).remove(0)).collect();
    let of = |units: &[usize]| units.iter().map(|unit| alone[*unit].clone()).collect::<Vec<_>>();
    for units in [&[0, 1, 0, 2, 0, 3, 0, 0], &[3, 2, 1, 0, 3, 2, 1, 0], &[0, 1, 0, 2, 0, 3, 0, 0]] {
        assert_eq!(ask(units), of(units), "in company");
    }
}

fn limits() -> Limits {
    Limits { fuel_per_unit: FUEL, milliseconds_per_unit: 10_000, ..Limits::default() }
}

fn asked(kernel: &Kernel, running: &mut RunningKernel, units: &[usize]) -> Vec<Seen> {
    let mut words = [0_u64; 4 << 10];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
    // What has thousands of columns has no room in a batch, and is the same for the loop.
    let is_written = units.iter().all(|unit| write(&mut writer, *unit, kernel).is_ok());
    let len = if is_written { writer.len() } else { return Vec::new() };
    let batch = Memory::of(&bytemuck::cast_slice(&words)[..len], 0, 0);
    let asked = running.ask_all(batch.bytes(), units.len()).expect("a kernel that starts is asked");
    asked.iter().map(|asked| Seen::of(asked, &kernel.spec().limits)).collect()
}

/// A unit of one row, one of three, one of nine of which some are null, and one of none.
const UNITS: usize = 4;

fn write(writer: &mut Writer<'_>, unit: usize, kernel: &Kernel) -> Result<(), glovebox_sandbox::Full> {
    let (parameters, columns) = (&kernel.spec().parameters, &kernel.spec().slots[0]);
    let rows = [1, 3, 9, 0][unit];
    let numbers = || (0..rows).map(|row| i64::MAX >> (7 * row + unit));
    writer.unit(parameters, 0, 1, |writer| {
        writer.slot(rows, columns.len())?;
        for kind in columns {
            writer.column(*kind)?;
            writer.list::<u8>(if unit == 2 { &[0b1010_1101, 0] } else { &[] })?;
            match kind {
                ColumnType::Boolean => writer.list(&vec![0b101_u8; rows.div_ceil(8)])?,
                ColumnType::Float64 => writer.list(&numbers().map(|number| number as f64 / 3.0).collect::<Vec<_>>())?,
                ColumnType::Date => writer.list(&numbers().map(|number| number as i32).collect::<Vec<_>>())?,
                _ => writer.list(&numbers().collect::<Vec<_>>())?,
            }
        }
        Ok(())
    })
}

/// What the first byte of an input says.
#[derive(Clone, Copy)]
struct How(u8);

impl How {
    const fn is_without_traps(self) -> bool {
        self.0 & 1 != 0
    }

    /// Most of what is generated is refused.
    const fn is_of_all_operators(self) -> bool {
        self.0 & 6 == 6
    }

    const fn shape(self) -> usize {
        (self.0 >> 3) as usize % SHAPES.len()
    }
}

fn generated(how: How, choices: &[u8]) -> Option<Vec<u8>> {
    let kinds =
        [InstructionKind::NumericInt, InstructionKind::Parametric, InstructionKind::Variable, InstructionKind::Control];
    let permitted = Config {
        allowed_instructions: InstructionKinds::new(&kinds),
        min_globals: 0,
        max_globals: 0,
        max_tables: 0,
        max_data_segments: 0,
        max_element_segments: 0,
        allow_start_export: false,
        simd_enabled: false,
        ..config()
    };
    let config = Config {
        exports: Some(EXPORTS[how.shape()].clone()),
        disallow_traps: how.is_without_traps(),
        max_funcs: 10,
        ..if how.is_of_all_operators() { config() } else { permitted }
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(choices)).ok()?.to_bytes();
    let mut kernel = wasm_encoder::Module::new();
    Doubles.parse_core_module(&mut kernel, Parser::new(0), &module).unwrap();
    let mut bytes = kernel.finish();
    for (name, data) in [("glovebox:row", SHAPES[how.shape()].1), ("glovebox:groups", "a\u{1f}\u{1e}b\u{1f}\u{1e}")] {
        CustomSection { name: name.into(), data: data.as_bytes().into() }.append_to(&mut bytes);
    }
    Some(bytes)
}

/// Makes all numbers doubles: no kernel has singles.
struct Doubles;

impl Reencode for Doubles {
    type Error = Infallible;

    fn val_type(&mut self, ty: wasmparser::ValType) -> Result<ValType, Error> {
        if ty == wasmparser::ValType::F32 { Ok(ValType::F64) } else { utils::val_type(self, ty) }
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error> {
        match operator {
            Operator::F32Const { value } => Ok(Instruction::F64Const(f64::from(f32::from_bits(value.bits())).into())),
            operator => utils::instruction(self, operator),
        }
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let made = |how: u8, len: usize| [vec![how], noise(u64::from(how), len)].concat();
    assert_some_are_kernels();
    let integers = r#"(@custom "glovebox:row" "i") (@custom "glovebox:groups" "all\1f\1e")"#;
    let emit =
        r#"(func (export "emit_0") (param i64) (result i32 f64) i32.const 0 (f64.reinterpret_i64 (local.get 0)))"#;
    let of = |fields: &str, step: &str| {
        wasm(&format!(
            r#"(module {fields} (func (export "init_0") (result i64) i64.const 0)
            (func (export "step_0") (param i64 i64) (result i64) (local $own i64) {step}) {emit} {integers})"#
        ))
    };
    vec![
        ("made", made(0, 400)),
        ("made-of-two-words", made(9, 600)),
        ("made-with-parameters", made(16, 600)),
        ("made-of-all", made(6, 800)),
        // A unit of three rows goes round nearly as often as it may.
        (
            "counts",
            of(
                "",
                "(loop $on (local.set $own (i64.add (local.get $own) (i64.const 1)))
                    (local.set 0 (i64.add (local.get 0) (local.get $own)))
                    (br_if $on (i64.lt_u (local.get $own) (i64.const 40)))) local.get 0",
            ),
        ),
        ("never-reached", of("", "(drop (block (result v128) unreachable)) local.get 0")),
        ("goes-on", of("", "(loop $on (br_if $on (i64.gt_s (local.get 1) (i64.const 9)))) local.get 0")),
        ("traps", of("", "(i64.add (local.get 0) (i64.div_s (i64.const 100) (i64.and (local.get 1) (i64.const 1))))")),
        (
            "calls",
            of(
                "(func $f (param i64) (result i64 i64) (local i64) (return (local.get 1) (local.get 0)))",
                "(call $f (local.get 1)) (i64.add (local.get 0)) drop (block $out (br_table $out $out (i32.const 7)))",
            ),
        ),
        ("keeps", of("(global $g (mut i64) (i64.const 0))", "(global.set $g (local.get 1)) (global.get $g)")),
        (
            "floats",
            of("", "(i64.trunc_sat_f64_s (f64.sqrt (f64.max (f64.convert_i64_s (local.get 1)) (f64.const 2))))"),
        ),
    ]
}

/// Some of what is generated is driven, in every shape.
fn assert_some_are_kernels() {
    for shape in 0..SHAPES.len() {
        let how = How((shape << 3) as u8);
        let is_kernel =
            |seed: &u64| generated(how, &noise(*seed, 200)).is_some_and(|m| Kernel::new(&m, limits()).is_ok());
        assert!((0..40).filter(is_kernel).count() > 4, "shape {shape}");
    }
}
