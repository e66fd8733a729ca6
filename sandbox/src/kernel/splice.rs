//! Writes the one module that runs: a trusted loop over units and rows, with the verified functions in place of calls.
//!
//! The module has one memory and one function. The loop is this file's; it alone loads and stores, and finds its
//! addresses by the lengths that the host wrote into the batch. The kernel's bodies are copied into it operator by
//! operator, so that the compiler sees one function and a row costs no call. A copied body keeps its meaning by four
//! rules: its locals are new and set to zero on every entry, its labels stay relative, `return` leaves the block around
//! the body, and a call is replaced by another copy.

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, Encode, ExportKind, ExportSection, FunctionSection, InstructionSink, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wasmparser::{FuncType, Operator, Parser, Payload};

use super::layout::{
    ANSWERED_AT, Access, BATCH_BYTES_MAX, GROUP_AT, Layout, NEXT, ONES, OUT, ROWS_AT, WORD_BYTES, Width,
};
use super::verify::{Column, Function, Kernel, Phase, Scalar, allow};

/// The exports of the finished module.
pub(crate) const MEMORY: &str = "memory";
pub(crate) const RUN: &str = "run";
/// What `run` returns where a batch is not of the agreed form; an address is never that large.
pub(crate) const MALFORMED: u32 = u32::MAX;

/// The parameters of `run`: the address of the first unit, and those of its answer and behind the last one's. It returns
/// the address behind the last unit.
const UNIT: u32 = 0;
const ANSWER: u32 = 1;
const END: u32 = 2;

/// A unit has at most two to this many rows. Eight bytes for each of them are [`BATCH_BYTES_MAX`].
const ROWS_BITS: i32 = 27;
const _: () = assert!(8 << ROWS_BITS == BATCH_BYTES_MAX);

/// The module of a kernel, of which a unit may go round its own loops so often; nothing where the kernel is not what its
/// proof says.
pub(crate) fn splice(kernel: &Kernel<'_>, layout: Layout, rounds_per_unit: u32) -> Option<Vec<u8>> {
    Writer { kernel, layout, rounds_per_unit, parameters: Vec::new(), types: Types::default() }.write()
}

struct Writer<'k, 'a> {
    kernel: &'k Kernel<'a>,
    layout: Layout,
    rounds_per_unit: u32,
    parameters: Vec<u32>,
    types: Types,
}

/// The locals of the unit at hand.
struct Unit {
    rows: u32,
    columns: Vec<Place>,
}

/// Where a unit has a column.
struct Place {
    column: Column,
    values: u32,
    /// Of a nullable column, where its bits are, and a mask that makes all rows look at the first byte if there are none.
    validity: Option<(u32, u32)>,
}

impl<'k, 'a> Writer<'k, 'a> {
    fn write(mut self) -> Option<Vec<u8>> {
        let mut run = Body::new(&[ValType::I32; 3]);
        let run_type = self.types.add(&run.locals, &[ValType::I32]);
        self.run(&mut run)?;
        let (mut functions, mut code, mut exports) = (FunctionSection::new(), CodeSection::new(), ExportSection::new());
        functions.function(run_type);
        code.function(&run.finish());
        exports.export(MEMORY, ExportKind::Memory, 0).export(RUN, ExportKind::Func, 0);
        let mut module = Module::new();
        module
            .section(&self.types.section)
            .section(&functions)
            .section(&memory(self.layout))
            .section(&exports)
            .section(&code);
        let bytes = module.finish();
        touches_memory_only_by(&bytes, &Layout::accesses(self.kernel.signature()))?.then_some(bytes)
    }

    /// `while ANSWER < END { run the unit }`
    fn run(&mut self, body: &mut Body) -> Option<()> {
        let signature = self.kernel.signature();
        for (position, scalar) in signature.parameters.iter().enumerate() {
            let local = body.local(number(*scalar));
            let place = at(Layout::parameter(position), 3);
            body.sink().i32_const(0);
            match scalar {
                Scalar::I32 => body.sink().i32_load(at(Layout::parameter(position), 2)),
                Scalar::I64 => body.sink().i64_load(place),
                Scalar::F64 => body.sink().f64_load(place),
            };
            body.sink().local_set(local);
            self.parameters.push(local);
        }
        let state: Vec<u32> = signature.state.iter().map(|scalar| body.local(number(*scalar))).collect();
        if self.kernel.has_loops() {
            body.rounds = Some(body.local(ValType::I32));
        }
        let next = body.local(ValType::I32);
        body.sink().block(BlockType::Empty).loop_(BlockType::Empty);
        body.sink().local_get(ANSWER).local_get(END).i32_ge_u().br_if(1);
        let unit = self.begin(body, next);
        self.phase(body, Phase::Init, &state, &[])?;
        set_all(body, &state);
        self.rows(body, &state, &unit)?;
        self.phase(body, Phase::Emit, &state, &[])?;
        self.finish_unit(body);
        body.sink().local_get(next).local_set(UNIT);
        body.sink().local_get(ANSWER).i32_const(self.layout.stride.cast_signed()).i32_add().local_set(ANSWER);
        body.sink().br(0).end().end().local_get(UNIT);
        Some(())
    }

    /// Finds where the unit's columns are, and notes it, so that the host knows whose fault a trap is.
    fn begin(&self, body: &mut Body, next: u32) -> Unit {
        let [rows, bits, wrong, length] = [(); 4].map(|()| body.local(ValType::I32));
        let is_absent = body.local(ValType::I32);
        let slot = Layout::slot(self.kernel.signature().parameters.len());
        body.sink().local_get(UNIT).i32_load(at(slot, 2)).local_set(rows);
        // Behind the slot's number of rows and of columns.
        forward(body, UNIT, slot + 2 * WORD_BYTES, next);
        body.sink().local_get(rows).i32_const(7).i32_add().i32_const(3).i32_shr_u().local_set(bits);
        // More rows than a memory holds of any column; below that, no length times its width leaves 32 bits.
        body.sink().local_get(rows).i32_const(ROWS_BITS).i32_shr_u().local_set(wrong).i32_const(0).local_set(is_absent);
        let columns = self.kernel.signature().columns.iter();
        let columns = columns.map(|column| {
            // Behind its type, which is agreed.
            forward(body, next, WORD_BYTES, next);
            list(body, next, length);
            // Either no bits at all, or one for each row.
            body.sink().local_get(length).local_get(bits).i32_xor().i32_const(0).local_get(length).select();
            body.sink().local_get(wrong).i32_or().local_set(wrong);
            let validity = column.is_nullable.then(|| validity(body, next, length));
            if validity.is_none() {
                body.sink().local_get(is_absent).local_get(length).i32_or().local_set(is_absent);
            }
            skip(body, next, length, 0);
            list(body, next, length);
            let (count, shift) = match Width::of(column.kind) {
                Width::Bit => (bits, 0),
                Width::I32 => (rows, 2),
                Width::I64 | Width::F64 => (rows, 3),
            };
            body.sink().local_get(length).local_get(count).i32_xor().local_get(wrong).i32_or().local_set(wrong);
            let values = body.local(ValType::I32);
            body.sink().local_get(next).local_set(values);
            skip(body, next, length, shift);
            Place { column: *column, values, validity }
        });
        let columns = columns.collect();
        body.sink().local_get(wrong).if_(BlockType::Empty).i32_const(MALFORMED.cast_signed()).return_().end();
        body.sink().i32_const(0).local_get(next).i32_store(at(NEXT, 2));
        body.sink().i32_const(0).local_get(ANSWER).i32_store(at(OUT, 2));
        body.sink().local_get(ANSWER).local_get(rows).i32_store(at(ROWS_AT, 2));
        body.sink().local_get(ANSWER).i32_const(0).i32_store(at(ANSWERED_AT, 2));
        // A null in a column that has none by its author's word: no answer, as if an instance had read it.
        body.sink().local_get(is_absent).if_(BlockType::Empty).unreachable().end();
        if let Some(rounds) = body.rounds {
            body.sink().i32_const(self.rounds_per_unit.cast_signed()).local_set(rounds);
        }
        Unit { rows, columns }
    }

    /// `for row in 0..rows { state = step(state, columns[row]) }`
    fn rows(&mut self, body: &mut Body, state: &[u32], unit: &Unit) -> Option<()> {
        let scalars = self.kernel.signature().columns.iter().flat_map(|column| column.scalars());
        let values: Vec<u32> = scalars.map(|scalar| body.local(number(scalar))).collect();
        let row = body.local(ValType::I32);
        body.sink().i32_const(0).local_set(row);
        body.sink().local_get(unit.rows).if_(BlockType::Empty).loop_(BlockType::Empty);
        load(body, row, &values, &unit.columns);
        self.phase(body, Phase::Step, state, &values)?;
        set_all(body, state);
        body.sink().local_get(row).i32_const(1).i32_add().local_tee(row);
        body.sink().local_get(unit.rows).i32_lt_u().br_if(0).end().end();
        Some(())
    }

    /// Leaves the results of a phase's functions on the stack. All of them see the state before the row.
    fn phase(&mut self, body: &mut Body, phase: Phase, state: &[u32], row: &[u32]) -> Option<()> {
        let kernel = self.kernel;
        let state = if phase == Phase::Init { &[] } else { state };
        for function in kernel.exports(phase) {
            for local in self.parameters.iter().chain(state).chain(row) {
                body.sink().local_get(*local);
            }
            self.splice(body, *function)?;
        }
        Some(())
    }

    /// Stores the answer, last value first as the stack has it, and says that it is there.
    fn finish_unit(&self, body: &mut Body) {
        let (value, group) = (body.local(ValType::F64), body.local(ValType::I32));
        for position in (0..self.kernel.signature().values).rev() {
            body.sink().local_set(value).local_get(ANSWER).local_get(value).f64_store(at(Layout::value(position), 3));
        }
        body.sink().local_set(group).local_get(ANSWER).local_get(group).i32_store(at(GROUP_AT, 2));
        body.sink().local_get(ANSWER).i32_const(1).i32_store(at(ANSWERED_AT, 2));
    }

    /// Copies a function's body to where a call would be, with the arguments on the stack.
    fn splice(&mut self, body: &mut Body, index: u32) -> Option<()> {
        let kernel = self.kernel;
        let function = kernel.function(index)?;
        let base = self.enter(body, function)?;
        let results = self.block_of_results(&function.ty);
        body.sink().block(results);
        let mut depth = 0u32;
        let mut operators = function.body.get_operators_reader().ok()?;
        while !operators.eof() {
            match operators.read().ok()? {
                Operator::LocalGet { local_index } => _ = body.sink().local_get(base + local_index),
                Operator::LocalSet { local_index } => _ = body.sink().local_set(base + local_index),
                Operator::LocalTee { local_index } => _ = body.sink().local_tee(base + local_index),
                Operator::Return => _ = body.sink().br(depth),
                Operator::Call { function_index } => self.splice(body, function_index)?,
                operator => {
                    match operator {
                        Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
                        // The last one ends the block around the body.
                        Operator::End => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    let is_loop = matches!(operator, Operator::Loop { .. });
                    let instruction = Renumber { kernel, types: &mut self.types }.instruction(operator).ok()?;
                    instruction.encode(&mut body.code);
                    if is_loop {
                        charge(body);
                    }
                }
            }
        }
        Some(())
    }

    /// Gives a copy its locals: the parameters from the stack, and zero for the others on every entry.
    fn enter(&self, body: &mut Body, function: &Function<'_>) -> Option<u32> {
        let params: Vec<u32> = numbers(function.ty.params()).into_iter().map(|ty| body.local(ty)).collect();
        set_all(body, &params);
        let base = params.first().copied();
        let mut first = None;
        for declared in function.body.get_locals_reader().ok()? {
            let (count, ty) = declared.ok()?;
            for _ in 0..count {
                let local = body.local(convert(ty));
                zero(body, convert(ty));
                body.sink().local_set(local);
                first = first.or(Some(local));
            }
        }
        Some(base.or(first).unwrap_or_default())
    }

    fn block_of_results(&mut self, ty: &FuncType) -> BlockType {
        match numbers(ty.results()).as_slice() {
            [] => BlockType::Empty,
            [result] => BlockType::Result(*result),
            results => BlockType::FunctionType(self.types.add(&[], results)),
        }
    }
}

/// It grows with the largest batch.
fn memory(layout: Layout) -> MemorySection {
    let mut section = MemorySection::new();
    section.memory(MemoryType {
        minimum: layout.pages(0),
        maximum: Some(layout.pages(BATCH_BYTES_MAX)),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    section
}

/// Reads the length at `next`, and goes to the items.
fn list(body: &mut Body, next: u32, length: u32) {
    body.sink().local_get(next).i32_load(at(0, 2)).local_set(length);
    forward(body, next, WORD_BYTES, next);
}

/// Sets an address to so many bytes behind another.
fn forward(body: &mut Body, from: u32, bytes: u32, to: u32) {
    body.sink().local_get(from).i32_const(bytes.cast_signed()).i32_add().local_set(to);
}

/// Goes behind so many items of `1 << shift` bytes, and what fills them up to eight bytes.
fn skip(body: &mut Body, next: u32, length: u32, shift: i32) {
    body.sink().local_get(length).i32_const(shift).i32_shl().i32_const(7).i32_add().i32_const(-8).i32_and();
    body.sink().local_get(next).i32_add().local_set(next);
}

fn validity(body: &mut Body, next: u32, length: u32) -> (u32, u32) {
    let (bits, mask) = (body.local(ValType::I32), body.local(ValType::I32));
    body.sink().local_get(next).i32_const(ONES.cast_signed()).local_get(length).select().local_set(bits);
    body.sink().i32_const(-1).i32_const(0).local_get(length).select().local_set(mask);
    (bits, mask)
}

/// Loads a row. What lies under a null does not reach the kernel: it sees a zero.
fn load(body: &mut Body, row: u32, values: &[u32], columns: &[Place]) {
    let mut values = values.iter();
    for place in columns {
        let Some(value) = values.next() else { return };
        load_value(body, row, place);
        let valid = place.validity.and_then(|bits| values.next().map(|valid| (bits, *valid)));
        if let Some(((bits, mask), valid)) = valid {
            zero(body, body.type_of(*value));
            body.sink().local_get(row).i32_const(3).i32_shr_u().local_get(mask).i32_and();
            body.sink().local_get(bits).i32_add().i32_load8_u(at(0, 0));
            bit_of(body, row);
            body.sink().local_tee(valid).select();
        }
        body.sink().local_set(*value);
    }
}

fn load_value(body: &mut Body, row: u32, place: &Place) {
    let width = Width::of(place.column.kind);
    body.sink().local_get(place.values).local_get(row);
    match width {
        Width::Bit => body.sink().i32_const(3).i32_shr_u(),
        Width::I32 => body.sink().i32_const(2).i32_shl(),
        Width::I64 | Width::F64 => body.sink().i32_const(3).i32_shl(),
    };
    body.sink().i32_add();
    match width {
        Width::Bit => {
            body.sink().i32_load8_u(at(0, 0));
            bit_of(body, row);
        }
        Width::I32 => _ = body.sink().i32_load(at(0, 2)),
        Width::I64 => _ = body.sink().i64_load(at(0, 3)),
        Width::F64 => _ = body.sink().f64_load(at(0, 3)),
    }
}

/// The row's bit of the byte on the stack, least significant first.
fn bit_of(body: &mut Body, row: u32) {
    body.sink().local_get(row).i32_const(7).i32_and().i32_shr_u().i32_const(1).i32_and();
}

/// Looks at the finished module once more, without trust in how it came about: beside what a kernel may hold there are
/// the loads and stores of the loop, in the loop's order, and no call at all.
fn touches_memory_only_by(module: &[u8], expected: &[Access]) -> Option<bool> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CodeSectionEntry(body) = payload.ok()? else { continue };
        let mut operators = body.get_operators_reader().ok()?;
        while !operators.eof() {
            match operators.read().ok()? {
                Operator::Call { .. } => return Some(false),
                operator if allow(&operator).is_ok() => {}
                operator => found.push(access(&operator)?),
            }
        }
    }
    Some(found == expected)
}

fn access(operator: &Operator<'_>) -> Option<Access> {
    let of = |access: fn(u32) -> Access, offset: u64| u32::try_from(offset).ok().map(access);
    match operator {
        Operator::I32Load8U { memarg } => of(Access::LoadByte, memarg.offset),
        Operator::I32Load { memarg } => of(Access::LoadI32, memarg.offset),
        Operator::I64Load { memarg } => of(Access::LoadI64, memarg.offset),
        Operator::F64Load { memarg } => of(Access::LoadF64, memarg.offset),
        Operator::I32Store { memarg } => of(Access::StoreI32, memarg.offset),
        Operator::F64Store { memarg } => of(Access::StoreF64, memarg.offset),
        _ => None,
    }
}

/// A round of a loop is paid from the unit's own allowance, whatever other units did.
fn charge(body: &mut Body) {
    if let Some(rounds) = body.rounds {
        body.sink().local_get(rounds).i32_eqz().if_(BlockType::Empty).unreachable().end();
        body.sink().local_get(rounds).i32_const(1).i32_sub().local_set(rounds);
    }
}

fn zero(body: &mut Body, ty: ValType) {
    match ty {
        ValType::I64 => body.sink().i64_const(0),
        ValType::F64 => body.sink().f64_const(0.0.into()),
        _ => body.sink().i32_const(0),
    };
}

fn set_all(body: &mut Body, locals: &[u32]) {
    for local in locals.iter().rev() {
        body.sink().local_set(*local);
    }
}

const fn at(address: u32, align: u32) -> MemArg {
    MemArg { offset: address as u64, align, memory_index: 0 }
}

const fn number(scalar: Scalar) -> ValType {
    match scalar {
        Scalar::I32 => ValType::I32,
        Scalar::I64 => ValType::I64,
        Scalar::F64 => ValType::F64,
    }
}

/// The verifier lets numbers pass only. Whatever else came would not fit, and the finished module would be invalid.
const fn convert(ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F64 => ValType::F64,
        _ => ValType::I32,
    }
}

fn numbers(types: &[wasmparser::ValType]) -> Vec<ValType> {
    types.iter().copied().map(convert).collect()
}

/// A function that is being written.
struct Body {
    locals: Vec<ValType>,
    parameters: usize,
    code: Vec<u8>,
    /// The local that counts the rounds left, if there are loops.
    rounds: Option<u32>,
}

impl Body {
    fn new(parameters: &[ValType]) -> Self {
        Self { locals: parameters.to_vec(), parameters: parameters.len(), code: Vec::new(), rounds: None }
    }

    fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.locals.len() as u32 - 1
    }

    fn type_of(&self, local: u32) -> ValType {
        self.locals.get(local as usize).copied().unwrap_or(ValType::I32)
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    fn finish(mut self) -> wasm_encoder::Function {
        self.sink().end();
        let mut function =
            wasm_encoder::Function::new_with_locals_types(self.locals.iter().skip(self.parameters).copied());
        function.raw(self.code);
        function
    }
}

/// The finished module's types, each once.
#[derive(Default)]
struct Types {
    section: TypeSection,
    known: Vec<(Vec<ValType>, Vec<ValType>)>,
}

impl Types {
    fn add(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let is_same = |(p, r): &(Vec<ValType>, Vec<ValType>)| p == params && r == results;
        if let Some(index) = self.known.iter().position(is_same) {
            return index as u32;
        }
        self.section.ty().function(params.iter().copied(), results.iter().copied());
        self.known.push((params.to_vec(), results.to_vec()));
        self.known.len() as u32 - 1
    }
}

/// A type that a valid module cannot lack.
struct Missing;

/// Moves an operator over. Of all that are allowed, only a block's type names something outside of the body.
struct Renumber<'t, 'k, 'a> {
    kernel: &'k Kernel<'a>,
    types: &'t mut Types,
}

impl Reencode for Renumber<'_, '_, '_> {
    type Error = Missing;

    fn type_index(&mut self, ty: u32) -> Result<u32, reencode::Error<Missing>> {
        let ty = self.kernel.ty(ty).ok_or(reencode::Error::UserError(Missing))?;
        Ok(self.types.add(&numbers(ty.params()), &numbers(ty.results())))
    }
}
