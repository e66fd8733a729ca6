//! Proves from a core module's bytes that a question keeps no state, so that nothing has to be reset between units.
//!
//! A register kernel is a module whose exports `init_0`, `init_1`, …, `step_0`, … and `emit_0`, … compute values from
//! values. The host holds a unit's running state and passes it in; what the functions return is the next state. The
//! results of `step_0`, `step_1`, … one after another are the state's words, so that a compiler that returns one value
//! at most can write one function per word, and one that knows multi-value can write a single function.
//!
//! The proof is a list of operators that compute on the stack and on locals and touch nothing else. Every function that
//! the exports can reach may hold those alone; an operator that is not on the list refuses the module. What no export
//! reaches is never compiled ([`super::splice`] takes the reachable bodies and leaves the module behind), so a memory, a
//! stack pointer or an unused allocator that a compiler adds does no harm.
//!
//! What the columns are and which groups the answers name stand in two custom sections of the module: a byte for each
//! column, and the groups' keys. Everything else follows from the functions' types.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wasmparser::{
    BinaryReaderError, CompositeInnerType, Export, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload,
    ValType, Validator, WasmFeatures,
};

use crate::terms;

/// What WebAssembly the bytes may use at all, reachable or not: what compilers emit by default.
const FEATURES: WasmFeatures = crate::screen::FEATURES.difference(WasmFeatures::COMPONENT_MODEL);

/// A kernel is small; what is larger was not written as one.
pub(crate) const MODULE_BYTES_MAX: usize = 64 << 10;
/// Operators and locals of all exports with everything they call, each call counted as often as it is written.
pub(crate) const WORK_MAX: u64 = 16_384;
/// What a loop counts for: a compiler's time grows with the square of how deep loops nest.
pub(crate) const WORK_OF_LOOP: u64 = 128;
/// How deep calls may nest. It bounds the verifier's own stack, too.
pub(crate) const CALLS_DEEP_MAX: usize = 32;

/// The custom section with a byte for each column.
const ROW_SECTION: &str = "glovebox:row";
/// The custom section with the groups' keys: each part ends in the one separator, each key in the other.
const GROUPS_SECTION: &str = "glovebox:groups";
const PART_END: char = '\u{1f}';
const KEY_END: char = '\u{1e}';

/// A value that a kernel computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scalar {
    I32,
    I64,
    F64,
}

impl Scalar {
    const fn of(ty: ValType) -> Option<Self> {
        match ty {
            ValType::I32 => Some(Self::I32),
            ValType::I64 => Some(Self::I64),
            ValType::F64 => Some(Self::F64),
            _ => None,
        }
    }
}

/// A column of the rows. A nullable one gives the kernel two values: the value, and 1 where it is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) kind: terms::ColumnType,
    pub(crate) is_nullable: bool,
}

impl Column {
    /// What a byte of the section says: a letter of the type, a capital where rows may be null.
    ///
    /// Texts have none: a kernel has no memory for them, and the codes of a dictionary are those of one unit's own words.
    fn read(byte: u8) -> Option<Self> {
        let kind = match byte.to_ascii_lowercase() {
            b'b' => terms::ColumnType::Boolean,
            b'i' => terms::ColumnType::Int64,
            b'f' => terms::ColumnType::Float64,
            b'd' => terms::ColumnType::Date,
            b't' => terms::ColumnType::Timestamp,
            _ => return None,
        };
        Some(Self { kind, is_nullable: byte.is_ascii_uppercase() })
    }

    pub(crate) const fn scalar(self) -> Scalar {
        match self.kind {
            terms::ColumnType::Int64 | terms::ColumnType::Timestamp => Scalar::I64,
            terms::ColumnType::Float64 => Scalar::F64,
            // Days and truth values; nothing else is read.
            _ => Scalar::I32,
        }
    }

    /// What the kernel sees of a row.
    pub(crate) fn scalars(self) -> impl Iterator<Item = Scalar> {
        std::iter::once(self.scalar()).chain(self.is_nullable.then_some(Scalar::I32))
    }
}

/// What the exports take and return.
///
/// `init_*(parameters) -> state`, `step_*(parameters, state, row) -> state`, `emit_*(parameters, state) -> group, values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) parameters: Vec<Scalar>,
    pub(crate) state: Vec<Scalar>,
    pub(crate) columns: Vec<Column>,
    /// How many numbers stand behind the group.
    pub(crate) values: usize,
}

/// The three things a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Init,
    Step,
    Emit,
}

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::Init, Self::Step, Self::Emit];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Step => "step",
            Self::Emit => "emit",
        }
    }
}

/// What an operator would do that a kernel may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    MemoryLoad,
    MemoryStore,
    MemorySize,
    MemoryGrow,
    MemoryBulk,
    GlobalGet,
    GlobalSet,
    Table,
    CallIndirect,
    FunctionReference,
    Vector,
    /// An operator that no list here names.
    Unknown,
}

/// Why a module is no register kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotACoreModule,
    TooLarge {
        bytes: usize,
    },
    /// Malformed, ill-typed, or written for a feature that no question may use.
    Invalid {
        message: String,
        offset: usize,
    },
    Import {
        module: String,
        name: String,
    },
    Start,
    /// A custom section that every kernel has is not there, is there twice, or says something else.
    Section {
        name: &'static str,
    },
    NotAFunction {
        export: String,
    },
    /// The first export of a phase.
    Missing {
        phase: Phase,
    },
    /// An export of a phase takes something else than the others and the columns say.
    Arguments {
        export: String,
    },
    /// The results of a phase's exports, one after another, are no state or no answer.
    Results {
        phase: Phase,
    },
    Operator {
        forbidden: Forbidden,
        function: u32,
        offset: usize,
    },
    /// A parameter, a result or a local that is no number that kernels compute with.
    Type {
        function: u32,
    },
    Recursion {
        function: u32,
    },
    CallsTooDeep {
        function: u32,
    },
    TooMuchWork {
        function: u32,
    },
    /// It has more parameters or values than there is room for.
    NotWritten,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACoreModule => write!(f, "a kernel is a core WebAssembly module in binary form"),
            Self::TooLarge { bytes } => write!(f, "the module has {bytes} bytes, more than {MODULE_BYTES_MAX}"),
            Self::Invalid { message, offset } => write!(f, "the module is invalid at byte {offset}: {message}"),
            Self::Import { module, name } => write!(f, "the module imports `{module}` `{name}`"),
            Self::Start => write!(f, "the module has a start function"),
            Self::Section { name } => write!(f, "the module has no sound section `{name}`"),
            Self::NotAFunction { export } => write!(f, "the export `{export}` is not a function"),
            Self::Missing { phase } => write!(f, "the module does not export `{}_0`", phase.prefix()),
            Self::Arguments { export } => write!(f, "the export `{export}` takes other types than the rest says"),
            Self::Results { phase: Phase::Emit } => {
                write!(f, "the exports `emit_0`, `emit_1`, … do not return a group (i32) and values (f64)")
            }
            Self::Results { phase } => {
                write!(f, "the exports `{}_0` and so on return other types than the state has", phase.prefix())
            }
            Self::Operator { forbidden, function, offset } => {
                write!(f, "function {function} may keep state: {forbidden:?} at byte {offset}")
            }
            Self::Type { function } => write!(f, "function {function} holds a value that is no i32, i64 or f64"),
            Self::Recursion { function } => write!(f, "function {function} can call itself"),
            Self::CallsTooDeep { function } => {
                write!(f, "calls of function {function} nest deeper than {CALLS_DEEP_MAX}")
            }
            Self::NotWritten => write!(f, "the module has more parameters or values than there is room for"),
            Self::TooMuchWork { function } => {
                write!(f, "with function {function} and what it calls there are more than {WORK_MAX} operators")
            }
        }
    }
}

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid { message: error.message().to_owned(), offset: error.offset() }
    }
}

/// A function that the exports reach.
#[derive(Clone, Debug)]
pub(crate) struct Function<'a> {
    pub(crate) ty: FuncType,
    pub(crate) body: FunctionBody<'a>,
    /// Its operators and locals, and those of whatever it calls.
    work: u64,
}

/// A module that keeps no state. There is no other way to make one than [`verify`].
#[derive(Clone, Debug)]
pub(crate) struct Kernel<'a> {
    signature: Signature,
    groups: Vec<Vec<String>>,
    types: Vec<FuncType>,
    functions: BTreeMap<u32, Function<'a>>,
    exports: [Vec<u32>; 3],
    has_loops: bool,
}

impl<'a> Kernel<'a> {
    pub(crate) const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The keys that answers name by their positions.
    pub(crate) fn groups(&self) -> &[Vec<String>] {
        &self.groups
    }

    /// Whether a call can take longer than its operators are many.
    pub(crate) const fn has_loops(&self) -> bool {
        self.has_loops
    }

    /// How many operators a phase takes at most, with each loop's body counted once.
    pub(crate) fn work(&self, phase: Phase) -> u64 {
        self.exports(phase).iter().filter_map(|index| self.functions.get(index)).map(|function| function.work).sum()
    }

    pub(crate) fn exports(&self, phase: Phase) -> &[u32] {
        &self.exports[phase as usize]
    }

    pub(crate) fn function(&self, index: u32) -> Option<&Function<'a>> {
        self.functions.get(&index)
    }

    pub(crate) fn ty(&self, index: u32) -> Option<&FuncType> {
        self.types.get(index as usize)
    }
}

/// Proves that the module is a kernel, or says the first thing that stands against it.
pub(crate) fn verify(bytes: &[u8]) -> Result<Kernel<'_>, Refusal> {
    if bytes.len() > MODULE_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: bytes.len() });
    }
    if !Parser::is_core_wasm(bytes) {
        return Err(Refusal::NotACoreModule);
    }
    Validator::new_with_features(FEATURES).validate_all(bytes)?;
    let module = Module::read(bytes)?;
    let (signature, exports) = module.signature()?;
    let mut walk = Walk { module: &module, path: Vec::new(), done: BTreeMap::new(), has_loops: false };
    let mut work = 0;
    for index in exports.iter().flatten() {
        work += walk.visit(*index)?;
        if work > WORK_MAX {
            return Err(Refusal::TooMuchWork { function: *index });
        }
    }
    let Walk { done: functions, has_loops, .. } = walk;
    let groups = module.groups()?;
    Ok(Kernel { signature, groups, types: module.types, functions, exports, has_loops })
}

/// The parts of a valid module that the proof needs. There are no imports, so indices count from the first definition.
#[derive(Default)]
struct Module<'a> {
    types: Vec<FuncType>,
    function_types: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
    exports: BTreeMap<&'a str, Export<'a>>,
    rows: Vec<&'a [u8]>,
    groups: Vec<&'a [u8]>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            module.take(payload?)?;
        }
        Ok(module)
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.into_types().filter_map(|ty| match ty.composite_type.inner {
                        CompositeInnerType::Func(ty) => Some(ty),
                        // The features have none. Were there one, later indices would miss their types and refuse.
                        _ => None,
                    }));
                }
            }
            Payload::ImportSection(section) => {
                if let Some(import) = section.into_imports().next() {
                    let import = import?;
                    return Err(Refusal::Import { module: import.module.to_owned(), name: import.name.to_owned() });
                }
            }
            Payload::FunctionSection(section) => {
                self.function_types = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::StartSection { .. } => return Err(Refusal::Start),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.insert(export.name, export);
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::CustomSection(section) if section.name() == ROW_SECTION => self.rows.push(section.data()),
            Payload::CustomSection(section) if section.name() == GROUPS_SECTION => self.groups.push(section.data()),
            // Nothing else is taken over from the module.
            _ => {}
        }
        Ok(())
    }

    /// What the exports take and return, and which functions they are, by phase.
    fn signature(&self) -> Result<(Signature, [Vec<u32>; 3]), Refusal> {
        let columns = self.columns()?;
        let exports = [self.exports_of(Phase::Init)?, self.exports_of(Phase::Step)?, self.exports_of(Phase::Emit)?];
        let [init, step, emit] = &exports;
        let first = *init.first().ok_or(Refusal::Missing { phase: Phase::Init })?;
        let parameters = scalars(self.type_of(first)?.params()).ok_or(Refusal::Type { function: first })?;
        let state = self.results(Phase::Init, init)?;
        let row: Vec<Scalar> = columns.iter().flat_map(|column| column.scalars()).collect();
        self.take_all(Phase::Init, init, &parameters)?;
        self.take_all(Phase::Step, step, &[parameters.as_slice(), &state, &row].concat())?;
        self.take_all(Phase::Emit, emit, &[parameters.as_slice(), &state].concat())?;
        if self.results(Phase::Step, step)? != state {
            return Err(Refusal::Results { phase: Phase::Step });
        }
        let values = match self.results(Phase::Emit, emit)?.as_slice() {
            [Scalar::I32, values @ ..] if values.iter().all(|value| *value == Scalar::F64) => values.len(),
            _ => return Err(Refusal::Results { phase: Phase::Emit }),
        };
        Ok((Signature { parameters, state, columns, values }, exports))
    }

    fn columns(&self) -> Result<Vec<Column>, Refusal> {
        let refusal = Refusal::Section { name: ROW_SECTION };
        let [bytes] = self.rows[..] else { return Err(refusal) };
        bytes.iter().map(|byte| Column::read(*byte)).collect::<Option<_>>().ok_or(refusal)
    }

    fn groups(&self) -> Result<Vec<Vec<String>>, Refusal> {
        let refusal = Refusal::Section { name: GROUPS_SECTION };
        let [bytes] = self.groups[..] else { return Err(refusal) };
        str::from_utf8(bytes).ok().and_then(keys).ok_or(refusal)
    }

    /// The functions of a phase in order.
    fn exports_of(&self, phase: Phase) -> Result<Vec<u32>, Refusal> {
        let mut indices = Vec::new();
        loop {
            let name = format!("{}_{}", phase.prefix(), indices.len());
            match self.exports.get(name.as_str()) {
                Some(export) if export.kind == ExternalKind::Func => indices.push(export.index),
                Some(_) => return Err(Refusal::NotAFunction { export: name }),
                None if indices.is_empty() => return Err(Refusal::Missing { phase }),
                None => return Ok(indices),
            }
        }
    }

    fn take_all(&self, phase: Phase, functions: &[u32], expected: &[Scalar]) -> Result<(), Refusal> {
        for (at, function) in functions.iter().enumerate() {
            if scalars(self.type_of(*function)?.params()).as_deref() != Some(expected) {
                return Err(Refusal::Arguments { export: format!("{}_{at}", phase.prefix()) });
            }
        }
        Ok(())
    }

    /// The results of all functions, one after another.
    fn results(&self, phase: Phase, functions: &[u32]) -> Result<Vec<Scalar>, Refusal> {
        let mut results = Vec::new();
        for function in functions {
            let own = scalars(self.type_of(*function)?.results()).ok_or(Refusal::Results { phase })?;
            results.extend(own);
        }
        Ok(results)
    }

    fn type_of(&self, function: u32) -> Result<&FuncType, Refusal> {
        let ty = self.function_types.get(function as usize).and_then(|ty| self.types.get(*ty as usize));
        ty.ok_or_else(missing)
    }
}

/// Every key ends where the text says, and so does every part of it.
fn keys(text: &str) -> Option<Vec<Vec<String>>> {
    let parts = |key: &str| -> Option<Vec<String>> {
        let whole = key.strip_suffix(PART_END)?;
        Some(whole.split(PART_END).map(ToOwned::to_owned).collect())
    };
    text.strip_suffix(KEY_END)?.split(KEY_END).map(parts).collect()
}

/// What a valid module cannot lack. Reading on would be a guess.
fn missing() -> Refusal {
    Refusal::Invalid { message: "an index has no definition".to_owned(), offset: 0 }
}

fn scalars(types: &[ValType]) -> Option<Vec<Scalar>> {
    types.iter().map(|ty| Scalar::of(*ty)).collect()
}

const fn is_number(ty: &ValType) -> bool {
    Scalar::of(*ty).is_some()
}

/// Walks the call graph from the exports down.
struct Walk<'m, 'a> {
    module: &'m Module<'a>,
    path: Vec<u32>,
    done: BTreeMap<u32, Function<'a>>,
    has_loops: bool,
}

impl Walk<'_, '_> {
    /// Checks a function and everything it calls; returns their work.
    fn visit(&mut self, index: u32) -> Result<u64, Refusal> {
        if let Some(function) = self.done.get(&index) {
            return Ok(function.work);
        }
        if self.path.contains(&index) {
            return Err(Refusal::Recursion { function: index });
        }
        if self.path.len() == CALLS_DEEP_MAX {
            return Err(Refusal::CallsTooDeep { function: index });
        }
        let (ty, body) = (self.module.type_of(index)?.clone(), self.module.bodies.get(index as usize).cloned());
        let body = body.ok_or_else(missing)?;
        self.path.push(index);
        let work = self.scan(index, &ty, &body)?;
        self.path.pop();
        self.done.insert(index, Function { ty, body, work });
        Ok(work)
    }

    fn scan(&mut self, index: u32, ty: &FuncType, body: &FunctionBody<'_>) -> Result<u64, Refusal> {
        let mut work = ty.params().len() as u64;
        let mut has_numbers_only = ty.params().iter().chain(ty.results()).all(is_number);
        for local in body.get_locals_reader()? {
            let (count, ty) = local?;
            work = work.saturating_add(u64::from(count));
            has_numbers_only &= is_number(&ty);
        }
        if !has_numbers_only {
            return Err(Refusal::Type { function: index });
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            allow(&operator).map_err(|forbidden| Refusal::Operator { forbidden, function: index, offset })?;
            let more = match operator {
                Operator::Call { function_index } => self.visit(function_index)?,
                Operator::Loop { .. } => WORK_OF_LOOP,
                Operator::BrTable { ref targets } => u64::from(targets.len()),
                _ => 0,
            };
            self.has_loops |= matches!(operator, Operator::Loop { .. });
            work = work.saturating_add(more).saturating_add(1);
            if work > WORK_MAX {
                return Err(Refusal::TooMuchWork { function: index });
            }
        }
        Ok(work)
    }
}

/// Whether an operator computes from the stack and the locals, and does nothing else.
///
/// Calls are followed by the walk. Some of the arithmetic traps; a trap ends the unit and leaves nothing behind.
pub(crate) fn allow(operator: &Operator<'_>) -> Result<(), Forbidden> {
    if is_control(operator) || is_integer(operator) || is_float(operator) || is_conversion(operator) {
        Ok(())
    } else {
        Err(classify(operator))
    }
}

#[rustfmt::skip]
fn is_control(operator: &Operator<'_>) -> bool {
    use Operator as O;
    match operator {
        O::Unreachable | O::Nop | O::Block { .. } | O::Loop { .. } | O::If { .. } | O::Else | O::End
        | O::Br { .. } | O::BrIf { .. } | O::BrTable { .. } | O::Return | O::Call { .. }
        | O::Drop | O::Select | O::LocalGet { .. } | O::LocalSet { .. } | O::LocalTee { .. }
        | O::I32Const { .. } | O::I64Const { .. } | O::F64Const { .. } => true,
        O::TypedSelect { ty } => is_number(ty),
        _ => false,
    }
}

#[rustfmt::skip]
fn is_integer(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32Eqz | O::I32Eq | O::I32Ne | O::I32LtS | O::I32LtU | O::I32GtS | O::I32GtU | O::I32LeS | O::I32LeU
        | O::I32GeS | O::I32GeU
        | O::I64Eqz | O::I64Eq | O::I64Ne | O::I64LtS | O::I64LtU | O::I64GtS | O::I64GtU | O::I64LeS | O::I64LeU
        | O::I64GeS | O::I64GeU
        | O::I32Clz | O::I32Ctz | O::I32Popcnt | O::I32Add | O::I32Sub | O::I32Mul | O::I32DivS | O::I32DivU
        | O::I32RemS | O::I32RemU | O::I32And | O::I32Or | O::I32Xor | O::I32Shl | O::I32ShrS | O::I32ShrU
        | O::I32Rotl | O::I32Rotr
        | O::I64Clz | O::I64Ctz | O::I64Popcnt | O::I64Add | O::I64Sub | O::I64Mul | O::I64DivS | O::I64DivU
        | O::I64RemS | O::I64RemU | O::I64And | O::I64Or | O::I64Xor | O::I64Shl | O::I64ShrS | O::I64ShrU
        | O::I64Rotl | O::I64Rotr
        | O::I32Extend8S | O::I32Extend16S | O::I64Extend8S | O::I64Extend16S | O::I64Extend32S
    )
}

/// Without `f64.copysign`, which compilers have got wrong (CVE-2026-24116) and of which Rust makes little use.
#[rustfmt::skip]
fn is_float(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::F64Eq | O::F64Ne | O::F64Lt | O::F64Gt | O::F64Le | O::F64Ge
        | O::F64Abs | O::F64Neg | O::F64Ceil | O::F64Floor | O::F64Trunc | O::F64Nearest | O::F64Sqrt | O::F64Add
        | O::F64Sub | O::F64Mul | O::F64Div | O::F64Min | O::F64Max
    )
}

#[rustfmt::skip]
fn is_conversion(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32WrapI64 | O::I64ExtendI32S | O::I64ExtendI32U
        | O::I32TruncF64S | O::I32TruncF64U | O::I64TruncF64S | O::I64TruncF64U
        | O::I32TruncSatF64S | O::I32TruncSatF64U | O::I64TruncSatF64S | O::I64TruncSatF64U
        | O::F64ConvertI32S | O::F64ConvertI32U | O::F64ConvertI64S | O::F64ConvertI64U
        | O::I64ReinterpretF64 | O::F64ReinterpretI64
    )
}

/// Names what a refused operator does. It decides nothing: whatever comes here is refused.
#[rustfmt::skip]
fn classify(operator: &Operator<'_>) -> Forbidden {
    use Operator as O;
    match operator {
        O::I32Load { .. } | O::I64Load { .. } | O::F32Load { .. } | O::F64Load { .. } | O::I32Load8S { .. }
        | O::I32Load8U { .. } | O::I32Load16S { .. } | O::I32Load16U { .. } | O::I64Load8S { .. }
        | O::I64Load8U { .. } | O::I64Load16S { .. } | O::I64Load16U { .. } | O::I64Load32S { .. }
        | O::I64Load32U { .. } => Forbidden::MemoryLoad,
        O::I32Store { .. } | O::I64Store { .. } | O::F32Store { .. } | O::F64Store { .. } | O::I32Store8 { .. }
        | O::I32Store16 { .. } | O::I64Store8 { .. } | O::I64Store16 { .. } | O::I64Store32 { .. } => {
            Forbidden::MemoryStore
        }
        O::MemorySize { .. } => Forbidden::MemorySize,
        O::MemoryGrow { .. } => Forbidden::MemoryGrow,
        O::MemoryInit { .. } | O::DataDrop { .. } | O::MemoryCopy { .. } | O::MemoryFill { .. } => {
            Forbidden::MemoryBulk
        }
        O::GlobalGet { .. } => Forbidden::GlobalGet,
        O::GlobalSet { .. } => Forbidden::GlobalSet,
        O::TableInit { .. } | O::ElemDrop { .. } | O::TableCopy { .. } | O::TableFill { .. } | O::TableGet { .. }
        | O::TableSet { .. } | O::TableGrow { .. } | O::TableSize { .. } => Forbidden::Table,
        O::CallIndirect { .. } => Forbidden::CallIndirect,
        O::RefNull { .. } | O::RefIsNull | O::RefFunc { .. } => Forbidden::FunctionReference,
        other if is_vector(other) => Forbidden::Vector,
        _ => Forbidden::Unknown,
    }
}

macro_rules! is_vector {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        fn is_vector(operator: &Operator<'_>) -> bool {
            match operator {
                $(Operator::$op { .. } => is_vector!(@ $proposal),)*
                _ => false,
            }
        }
    };
    (@ simd) => { true };
    (@ relaxed_simd) => { true };
    (@ $other:ident) => { false };
}
wasmparser::for_each_operator!(is_vector);

#[cfg(test)]
mod tests;
