//! Kernels from text, driven over batches as the host writes them.

use std::sync::Arc;

use proptest::prelude::*;
use wasmtime::{Engine, Instance, Module, Store, Val};

use super::*;
use crate::batch::Writer;
use crate::kernel::verify::{Refusal, verify};
use crate::kernel::written;
use crate::profile::config_of_kernels;
use crate::terms::ColumnType;

const INTEGERS: &str = r#"(@custom "glovebox:row" "i") (@custom "glovebox:groups" "all\1f\1e")"#;

/// The state's one word, as the bits of the answer's one value.
const EMIT: &str =
    r#"(func (export "emit_0") (param i64) (result i32 f64) i32.const 0 (f64.reinterpret_i64 (local.get 0)))"#;

fn limits() -> Limits {
    Limits { milliseconds_per_unit: 60_000, ..Limits::default() }
}

fn spec(columns: &[ColumnType], parameters: &[Value]) -> Spec {
    let slots = vec![columns.to_vec()];
    Spec { kind: Kind::Analytical, limits: limits(), parameters: parameters.to_vec(), slots }
}

fn driver_of(text: &str, spec: &Spec) -> Driver {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let kernel = verify(&bytes).unwrap_or_else(|error| panic!("{error}: {text}"));
    let (plan, module) = written(&kernel, &spec.limits).unwrap();
    assert!(plan.fits(spec), "{text}");
    let engine = Engine::new(&config_of_kernels(&spec.limits)).unwrap();
    Driver::new(&Module::from_binary(&engine, &module).unwrap(), plan, spec, &Arc::default()).unwrap()
}

fn driver(text: &str) -> Driver {
    driver_of(text, &spec(&[ColumnType::Int64], &[]))
}

/// A batch of units, each with what `unit` writes of it.
fn batch<T>(units: &[T], unit: impl Fn(&mut Writer<'_>, &T)) -> Vec<u64> {
    let mut memory = vec![u64::MAX; 1 << 16];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    units.iter().for_each(|rows| unit(&mut writer, rows));
    let len = writer.len();
    memory.truncate(len / 8);
    memory
}

fn integers(units: &[Vec<i64>]) -> Vec<u64> {
    batch(units, |writer, rows| write_integers(writer, &[], rows))
}

fn write_integers(writer: &mut Writer<'_>, parameters: &[Value], rows: &[i64]) {
    let write = |writer: &mut Writer<'_>| {
        writer.slot(rows.len(), 1)?;
        writer.column(ColumnType::Int64)?;
        writer.list::<u8>(&[])?;
        writer.list(rows)
    };
    writer.unit(parameters, 0, 1, write).unwrap();
}

/// The one value of all units' answers.
fn values(driver: &mut Driver, batch: &[u64], units: usize) -> Vec<Option<u64>> {
    let asked = driver.ask_all(bytemuck::cast_slice(batch), units).unwrap();
    let value = |asked: Asked| match asked.answer {
        Answer::Contributions(list) => Some(list[0].values[0].to_bits()),
        _ => None,
    };
    asked.into_iter().map(value).collect()
}

fn ask(driver: &mut Driver, units: &[Vec<i64>]) -> Vec<Option<i64>> {
    let values = values(driver, &integers(units), units.len());
    values.into_iter().map(|value| value.map(u64::cast_signed)).collect()
}

/// Adds up 100 / value: it traps on a zero.
fn quotients() -> Driver {
    driver(&format!(
        r#"(module
        (func (export "init_0") (result i64) i64.const 0)
        (func (export "step_0") (param i64 i64) (result i64)
            (i64.add (local.get 0) (i64.div_s (i64.const 100) (local.get 1))))
        {EMIT} {INTEGERS})"#
    ))
}

#[test]
fn a_trap_takes_one_units_answer_and_no_others() {
    let mut driver = quotients();
    let units = [vec![0], vec![10, 20], vec![5, 0, 7], vec![1], vec![], vec![2, 0]];
    let expected = [None, Some(15), None, Some(100), Some(0), None];
    assert_eq!(ask(&mut driver, &units), expected);
    // Answers of an earlier batch never stand in for one that is missing.
    assert_eq!(ask(&mut driver, &[vec![1], vec![0], vec![2]]), [Some(100), None, Some(50)]);
    assert_eq!(ask(&mut driver, &units), expected);
}

/// There is room for the answers of 1,024 units; more are asked in several calls.
#[test]
fn more_units_than_there_is_room_for_are_all_asked() {
    let units: Vec<Vec<i64>> = (0..3_000).map(|at| vec![at % 7; at as usize % 4]).collect();
    let expected = |rows: &Vec<i64>| rows.iter().map(|value| 100_i64.checked_div(*value)).sum::<Option<i64>>();
    assert_eq!(ask(&mut quotients(), &units), units.iter().map(expected).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_trap_is_the_units() {
    for trap in [
        "unreachable",
        "(i64.rem_u (local.get 0) (i64.const 0))",
        "(i64.div_s (i64.const 0x8000000000000000) (i64.const -1))",
        "(i64.trunc_f64_s (f64.const nan))",
        "(i64.trunc_f64_s (f64.const 1e300))",
        "(loop (br 0)) i64.const 0",
    ] {
        let mut driver = driver(&format!(
            r#"(module
            (func (export "init_0") (result i64) i64.const 0)
            (func (export "step_0") (param i64 i64) (result i64)
                (if (result i64) (i64.eqz (local.get 1)) (then {trap}) (else (local.get 1))))
            {EMIT} {INTEGERS})"#
        ));
        assert_eq!(ask(&mut driver, &[vec![7], vec![0], vec![8]]), [Some(7), None, Some(8)], "{trap}");
    }
}

/// Goes round as often as the row says.
fn rounds() -> String {
    format!(
        r#"(module
        (func (export "init_0") (result i64) i64.const 0)
        (func (export "step_0") (param $sum i64) (param $n i64) (result i64)
            (block $out (loop $again
                (br_if $out (i64.eqz (local.get $n)))
                (local.set $n (i64.sub (local.get $n) (i64.const 1)))
                (local.set $sum (i64.add (local.get $sum) (i64.const 1)))
                (br $again)))
            (local.get $sum))
        {EMIT} {INTEGERS})"#
    )
}

/// Entering a loop is a round.
#[test]
fn rounds_are_each_units_own() {
    let mut spec = spec(&[ColumnType::Int64], &[]);
    let bytes = wat::parse_str(rounds()).unwrap();
    let plan = Plan::of(&verify(&bytes).unwrap()).unwrap();
    spec.limits.fuel_per_unit = plan.work[Phase::Step as usize] * 100;
    assert_eq!(plan.rounds(&spec.limits), 100);
    let mut driver = driver_of(&rounds(), &spec);
    let units = [vec![99], vec![100], vec![99], vec![49, 49], vec![50, 49], vec![-1], vec![99]];
    assert_eq!(ask(&mut driver, &units), [Some(99), None, Some(99), Some(98), None, None, Some(99)]);
}

/// The fuel of a unit follows from the number of its rows, and what is more than agreed is no answer.
#[test]
fn fuel_is_counted_by_rows() {
    let units = [vec![], vec![1], vec![1; 7], vec![0; 7], vec![1; 100]];
    let bytes = integers(&units);
    let mut driver = quotients();
    let [init, step, emit] = driver.plan.work;
    assert!(init > 0 && emit > 0 && step > 3);
    driver.limits.fuel_per_unit = init + emit + 10 * step;
    let asked = driver.ask_all(bytemuck::cast_slice(&bytes), units.len()).unwrap();
    let fuel: Vec<u64> = asked.iter().map(|asked| asked.fuel).collect();
    assert_eq!(fuel, [0, 1, 7, 7, 10].map(|rows| init + emit + rows * step));
    let answered: Vec<bool> = asked.iter().map(|asked| !matches!(asked.answer, Answer::Nothing)).collect();
    assert_eq!(answered, [true, true, true, false, false]);
    assert!(asked.iter().all(|asked| asked.memory_bytes == 0));
}

#[test]
fn the_clock_ends_the_batch_and_no_unit() {
    let mut spec = spec(&[ColumnType::Int64], &[]);
    spec.limits = Limits { milliseconds_per_unit: 1, fuel_per_unit: 1 << 50, ..limits() };
    let mut driver = driver_of(&rounds(), &spec);
    let engine = driver.engine().clone();
    let ticker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        (0..4).for_each(|_| engine.increment_epoch());
    });
    let asked = driver.ask_all(bytemuck::cast_slice(&integers(&[vec![-1]])), 1);
    assert_eq!(asked.err().map(|denial| denial.reason()), Some(Reason::TimedOut));
    ticker.join().unwrap();
}

/// `$counter` adds to a local that nothing sets first; a copy that kept it would count rows, units or calls.
#[test]
fn locals_are_zero_on_every_entry() {
    let mut driver = driver(&format!(
        r#"(module
        (func $counter (param i64) (result i64) (local i64 f64 i32)
            (local.set 1 (i64.add (local.get 1) (i64.const 1)))
            (local.set 2 (f64.add (local.get 2) (f64.const 1)))
            (local.set 3 (i32.add (local.get 3) (i32.const 1)))
            (i64.add (local.get 1) (i64.add (i64.trunc_f64_s (local.get 2)) (i64.extend_i32_s (local.get 3)))))
        (func (export "init_0") (result i64) (call $counter (i64.const 0)))
        (func (export "step_0") (param i64 i64) (result i64) (local $n i64)
            (loop $again
                (local.set $n (i64.add (local.get $n) (i64.const 1)))
                (local.set 0 (i64.add (local.get 0) (call $counter (i64.const 7))))
                (br_if $again (i64.lt_s (local.get $n) (local.get 1))))
            (local.get 0))
        (func (export "emit_0") (param i64) (result i32 f64)
            i32.const 0 (f64.reinterpret_i64 (i64.add (local.get 0) (call $counter (i64.const 0)))))
        {INTEGERS})"#
    ));
    assert_eq!(ask(&mut driver, &[vec![], vec![1], vec![3, 1], vec![]]), [Some(6), Some(9), Some(18), Some(6)]);
}

/// The copies of a step that returns one word each see the state before the row.
#[test]
fn words_of_state_step_together() {
    let mut driver = driver(&format!(
        r#"(module
        (func (export "init_0") (result i64) i64.const 0)
        (func (export "init_1") (result i64) i64.const 1)
        (func (export "step_0") (param i64 i64 i64) (result i64) local.get 1)
        (func (export "step_1") (param i64 i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
        (func (export "emit_0") (param i64 i64) (result i32) i32.const 0)
        (func (export "emit_1") (param i64 i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
        {INTEGERS})"#
    ));
    assert_eq!(ask(&mut driver, &[vec![0; 10], vec![0; 1], vec![0; 20]]), [Some(55), Some(1), Some(6765)]);
}

#[test]
fn parameters_come_first() {
    let text = format!(
        r#"(module
        (func (export "init_0") (param i64 f64 i32) (result i64) local.get 0)
        (func (export "step_0") (param i64 f64 i32 i64 i64) (result i64)
            (i64.add (local.get 3) (i64.mul (local.get 4) (i64.trunc_f64_s (local.get 1)))))
        (func (export "emit_0") (param i64 f64 i32 i64) (result i32 f64) i32.const 0
            (f64.reinterpret_i64 (i64.sub (local.get 3) (i64.extend_i32_s (local.get 2)))))
        {INTEGERS})"#
    );
    let parameters = [Value::Int64(1_000), Value::Float64(3.0), Value::Boolean(true)];
    let mut driver = driver_of(&text, &spec(&[ColumnType::Int64], &parameters));
    let units = batch(&[vec![], vec![1, 2]], |writer, rows: &Vec<i64>| write_integers(writer, &parameters, rows));
    assert_eq!(values(&mut driver, &units, 2), [Some(999), Some(1_008)]);
}

/// The group is a position; no group has another one's, and one that no group has is no contribution.
#[test]
fn groups_are_named_by_position() {
    let mut driver = driver(
        r#"(module
        (func (export "init_0") (result i64) i64.const -1)
        (func (export "step_0") (param i64 i64) (result i64) local.get 1)
        (func (export "emit_0") (param i64) (result i32 f64) (i32.wrap_i64 (local.get 0)) f64.const 2)
        (@custom "glovebox:row" "i") (@custom "glovebox:groups" "a\1fx\1f\1eb\1fy\1f\1e"))"#,
    );
    let units = [vec![], vec![0], vec![1], vec![2], vec![-2], vec![0, 1]];
    let asked = driver.ask_all(bytemuck::cast_slice(&integers(&units)), units.len()).unwrap();
    let group = |asked: &Asked| match &asked.answer {
        Answer::Contributions(list) => list.iter().map(|one| one.group.join("/")).collect::<String>(),
        _ => panic!("no answer"),
    };
    assert_eq!(asked.iter().map(group).collect::<Vec<_>>(), ["", "a/x", "b/y", "", "", "b/y"]);
}

/// Adds up all that it is shown, values and validity alike.
fn all_types(row: &str) -> Driver {
    let is_nullable = row == "BDTF";
    let valid = if is_nullable { " i32" } else { "" };
    let step: Vec<(usize, &str)> = ["i32", "i32", "i64", "f64"]
        .into_iter()
        .enumerate()
        .map(|(at, ty)| (1 + at * if is_nullable { 2 } else { 1 }, ty))
        .collect();
    let parameters: String = step.iter().map(|(_, ty)| format!(" {ty}{valid}")).collect();
    let sum: String = step
        .iter()
        .map(|(at, ty)| {
            let value = match *ty {
                "f64" => format!("(local.get {at})"),
                ty => format!("(f64.convert_{ty}_s (local.get {at}))"),
            };
            let valid = if is_nullable {
                format!("(f64.add (f64.convert_i32_s (local.get {})))", at + 1)
            } else {
                String::new()
            };
            format!("(f64.add {value}) {valid}")
        })
        .collect();
    driver_of(
        &format!(
            r#"(module
            (func (export "init_0") (result f64) f64.const 0)
            (func (export "step_0") (param f64{parameters}) (result f64) local.get 0 {sum})
            (func (export "emit_0") (param f64) (result i32 f64) i32.const 0 local.get 0)
            (@custom "glovebox:row" "{row}") (@custom "glovebox:groups" "all\1f\1e"))"#
        ),
        &spec(&[ColumnType::Boolean, ColumnType::Date, ColumnType::Timestamp, ColumnType::Float64], &[]),
    )
}

/// Ten rows with nulls where the validity says so.
fn typed(validity: &[u8]) -> Vec<u64> {
    batch(&[(); 3], |writer, ()| {
        let write = |writer: &mut Writer<'_>| {
            writer.slot(10, 4)?;
            writer.column(ColumnType::Boolean)?;
            writer.list(validity)?;
            writer.list(&[0b1111_0000_u8, 0b11])?;
            writer.column(ColumnType::Date)?;
            writer.list(validity)?;
            writer.list(&[-5_i32; 10])?;
            writer.column(ColumnType::Timestamp)?;
            writer.list(validity)?;
            writer.list(&[50_i64; 10])?;
            writer.column(ColumnType::Float64)?;
            writer.list(validity)?;
            writer.list(&[0.5_f64; 10])
        };
        writer.unit(&[], 0, 1, write).unwrap();
    })
}

#[test]
fn columns_of_every_type_are_read_and_nothing_under_a_null() {
    let of = |row: &str, validity: &[u8]| values(&mut all_types(row), &typed(validity), 3);
    let all = |sum: f64| vec![Some(sum.to_bits()); 3];
    assert_eq!(of("BDTF", &[]), all(6.0 - 50.0 + 500.0 + 5.0 + 40.0));
    assert_eq!(of("BDTF", &[0, 0]), all(0.0));
    assert_eq!(of("BDTF", &[0b0011_0000, 0b10]), all(3.0 - 15.0 + 150.0 + 1.5 + 12.0));
    assert_eq!(of("bdtf", &[]), all(6.0 - 50.0 + 500.0 + 5.0));
    // A null in a column that has none by its author's word.
    assert_eq!(of("bdtf", &[0b1111_1110, 0b11]), [None; 3]);
}

#[test]
fn batches_of_another_form_are_refused() {
    let bytes = integers(&[vec![1, 2], vec![3]]);
    let bytes: &[u8] = bytemuck::cast_slice(&bytes);
    let mut driver = quotients();
    assert!(driver.ask_all(bytes, 2).is_ok());
    for (what, bytes, units) in [
        ("a unit is missing", bytes, 1),
        ("a unit too many", bytes, 3),
        ("cut off", &bytes[..bytes.len() - 8], 2),
        ("no unit at all", bytes, 0),
        ("other lengths", bytemuck::cast_slice(&[8_u64, 0, 1, 2, 1, 2, 0, 1, 7]), 1),
        ("a validity of another length", bytemuck::cast_slice(&[10_u64, 0, 1, 2, 1, 2, 2, u64::MAX, 2, 1, 1]), 1),
        ("lengths beyond the memory", bytemuck::cast_slice(&[7_u64, 0, 1, 1 << 31, 1, 2, 0, 1 << 31]), 1),
    ] {
        assert_eq!(driver.ask_all(bytes, units).err().map(|e| e.reason()), Some(Reason::SandboxFailed), "{what}");
    }
    assert_eq!(ask(&mut driver, &[vec![1]]), [Some(100)]);
}

#[test]
fn a_batch_larger_than_any_before_finds_room() {
    let unit = vec![1_i64; 100_000];
    let mut memory = vec![0_u64; 4 * 100_008];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    for _ in 0..4 {
        write_integers(&mut writer, &[], &unit);
    }
    let mut driver = quotients();
    assert_eq!(ask(&mut driver, &[vec![1]]), [Some(100)]);
    assert_eq!(values(&mut driver, &memory, 4), [Some(10_000_000); 4]);
}

#[test]
fn a_kernel_is_for_its_own_question_alone() {
    let bytes = wat::parse_str(rounds()).unwrap();
    let plan = Plan::of(&verify(&bytes).unwrap()).unwrap();
    let own = spec(&[ColumnType::Int64], &[]);
    assert!(plan.fits(&own));
    let columns: [&[ColumnType]; 5] = [
        &[],
        &[ColumnType::Timestamp],
        &[ColumnType::Dictionary],
        &[ColumnType::Utf8],
        &[ColumnType::Int64, ColumnType::Int64],
    ];
    columns.iter().for_each(|columns| assert!(!plan.fits(&spec(columns, &[])), "{columns:?}"));
    for parameter in [Value::Int64(1), Value::Utf8("x".into())] {
        assert!(!plan.fits(&spec(&[ColumnType::Int64], &[parameter])));
    }
    assert!(!plan.fits(&Spec { kind: Kind::List, ..own.clone() }));
    assert!(!plan.fits(&Spec { slots: vec![own.slots[0].clone(); 2], ..own.clone() }));
    let limits = |limits: Limits| Spec { limits, ..own.clone() };
    assert!(!plan.fits(&limits(Limits { answer_bytes_per_unit: 10, ..own.limits.clone() })));
    assert!(!plan.fits(&limits(Limits { memory_bytes_per_unit: 4 << 30, ..own.limits.clone() })));
}

#[test]
fn a_kernel_of_the_largest_size_compiles_and_runs() {
    let adds = "local.get 1 i64.add ".repeat(5_000);
    let mut driver = driver(&format!(
        r#"(module
        (func (export "init_0") (result i64) i64.const 0)
        (func (export "step_0") (param i64 i64) (result i64) local.get 0 {adds})
        {EMIT} {INTEGERS})"#
    ));
    assert_eq!(ask(&mut driver, &[vec![2], vec![1, 1]]), [Some(10_000), Some(10_000)]);
}

proptest! {
    /// Copies of random functions mean what calls of them mean in the module as it was handed in, in whatever company.
    #[test]
    fn copies_mean_what_calls_mean(
        seed in any::<u64>(), units in prop::collection::vec(prop::collection::vec(-9i64..9, 0..6), 1..8),
    ) {
        let text = Random { seed: seed | 1 }.module();
        prop_assume!(!matches!(verify(&wat::parse_str(&text).unwrap()), Err(Refusal::TooMuchWork { .. })));
        let mut driver = driver(&text);
        let called: Vec<_> = units.iter().map(|unit| call(&text, unit)).collect();
        prop_assert_eq!(ask(&mut driver, &units), called.clone(), "{}", text);
        let reversed: Vec<_> = units.iter().rev().cloned().collect();
        prop_assert_eq!(ask(&mut driver, &reversed), called.into_iter().rev().collect::<Vec<_>>());
    }
}

/// Runs one unit by calls from the host, in an instance of its own.
fn call(text: &str, rows: &[i64]) -> Option<i64> {
    let engine = Engine::default();
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut call = |name: &str, arguments: &[Val]| {
        let function = instance.get_func(&mut store, name).unwrap();
        let mut results = vec![Val::I64(0); function.ty(&store).results().len()];
        function.call(&mut store, arguments, &mut results).ok().map(|()| results)
    };
    let mut state = call("init_0", &[])?;
    for row in rows {
        state.push(Val::I64(*row));
        state = [call("step_0", &state)?, call("step_1", &state)?].concat();
    }
    call("emit_0", &state).map(|answer| answer[1].unwrap_f64().to_bits().cast_signed())
}

/// Writes modules that use everything a copy has to get right: locals that are read before they are set, early
/// returns from nested blocks, branches to every label, calls in loops, and several results.
struct Random {
    seed: u64,
}

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 20) % limit
    }

    fn module(&mut self) -> String {
        let (a, b) = (self.function("$a", 2, 2, 0), self.function("$b", 3, 2, 1));
        let (init, emit) = (self.function("", 0, 2, 2), self.function("", 2, 1, 2));
        let steps: Vec<String> = (0..2).map(|_| self.function("", 3, 1, 2)).collect();
        format!(
            r#"(module {a} {b} (func (export "init_0") {init} (func (export "step_0") {} (func (export "step_1") {}
            (func $emit {emit} (func (export "emit_0") (param i64 i64) (result i32 f64)
                i32.const 0 (f64.reinterpret_i64 (call $emit (local.get 0) (local.get 1)))) {INTEGERS})"#,
            steps[0], steps[1]
        )
    }

    /// A function with four locals beside its parameters. `calls` says how many of the helpers it may call.
    fn function(&mut self, name: &str, params: u64, results: u64, calls: u64) -> String {
        let head = if name.is_empty() { String::new() } else { format!("(func {name} ") };
        let shape = Shape { locals: params + 3, results, calls };
        let body: String = (0..3).map(|_| self.statement(&shape, 0, 2)).collect();
        let last = self.results(&shape);
        format!(
            "{head}(param{}) (result{}) (local i64 i64 i64 i64) {body} {last})\n",
            " i64".repeat(params as usize),
            " i64".repeat(results as usize)
        )
    }

    fn results(&mut self, shape: &Shape) -> String {
        (0..shape.results).map(|_| self.value(shape, 2)).collect()
    }

    fn statement(&mut self, shape: &Shape, depth: u64, size: u64) -> String {
        let local = self.below(shape.locals);
        let inner = |random: &mut Self| -> String {
            (0..2).map(|_| random.statement(shape, depth + 1, size.saturating_sub(1))).collect()
        };
        match self.below(if size == 0 { 3 } else { 8 }) {
            0 | 1 => format!("(local.set {local} {})", self.value(shape, 3)),
            2 => format!("(br_if {} (i64.lt_s {} (i64.const -3)))", self.below(depth + 1), self.value(shape, 1))
                .replace(&format!("(br_if {depth} "), "(drop "),
            3 => format!("(block {})", inner(self)),
            4 => {
                let (yes, no) = (inner(self), inner(self));
                format!("(if (i64.gt_s {} (i64.const 2)) (then {yes}) (else {no}))", self.value(shape, 1))
            }
            5 => format!(
                "(if (i64.gt_s {} (i64.const 5)) (then (return {})))",
                self.value(shape, 1),
                self.results(shape)
            ),
            6 => format!("(block (block (br_table 0 1 (i32.wrap_i64 {}))) {})", self.value(shape, 1), inner(self)),
            _ => {
                // The last local counts rounds, and nothing else writes to it.
                let (counter, local, value) = (shape.locals, self.below(shape.locals), self.value(shape, 2));
                format!(
                    "(loop (local.set {counter} (i64.add (local.get {counter}) (i64.const 1))) (local.set {local} {value})
                    (br_if 0 (i64.lt_s (local.get {counter}) (i64.const 3))))"
                )
            }
        }
    }

    fn value(&mut self, shape: &Shape, size: u64) -> String {
        let local = self.below(shape.locals);
        if size == 0 {
            return format!("(local.get {local})");
        }
        match self.below(8) {
            0 => format!("(i64.const {})", self.below(20) as i64 - 10),
            1 | 2 => format!("(local.get {local})"),
            3 => format!("(local.tee {local} {})", self.value(shape, size - 1)),
            4 if shape.calls > 0 => self.call(shape, size - 1),
            5 => format!("(i64.sub {} {})", self.value(shape, size - 1), self.value(shape, size - 1)),
            6 if self.below(8) == 0 => {
                format!("(i64.rem_s {} {})", self.value(shape, size - 1), self.value(shape, size - 1))
            }
            _ => format!("(i64.add {} {})", self.value(shape, size - 1), self.value(shape, size - 1)),
        }
    }

    /// Both helpers return two values.
    fn call(&mut self, shape: &Shape, size: u64) -> String {
        let (name, arguments) = if self.below(shape.calls) == 0 { ("$a", 2) } else { ("$b", 3) };
        let arguments: String = (0..arguments).map(|_| self.value(shape, size)).collect();
        format!("(i64.xor (call {name} {arguments}))")
    }
}

struct Shape {
    locals: u64,
    results: u64,
    calls: u64,
}
