//! The parts of a module that the proof needs, and what its types and sections say of the kernel.

use std::collections::BTreeMap;

use wasmparser::{CompositeInnerType, Export, ExternalKind, FuncType, FunctionBody, Parser, Payload};

use super::refusal::Refusal;
use super::signature::{Column, Phase, Scalar, Signature, scalars};

/// The custom section with a byte for each column.
pub(super) const ROW_SECTION: &str = "glovebox:row";
/// The custom section with the groups' keys: each part ends in the one separator, each key in the other.
pub(super) const GROUPS_SECTION: &str = "glovebox:groups";
const PART_END: char = '\u{1f}';
const KEY_END: char = '\u{1e}';

/// The parts of a valid module that the proof needs. There are no imports, so indices count from the first definition.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) types: Vec<FuncType>,
    function_types: Vec<u32>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    exports: BTreeMap<&'a str, Export<'a>>,
    rows: Vec<&'a [u8]>,
    groups: Vec<&'a [u8]>,
}

impl<'a> Module<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
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
    pub(super) fn signature(&self) -> Result<(Signature, [Vec<u32>; 3]), Refusal> {
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

    pub(super) fn groups(&self) -> Result<Vec<Vec<String>>, Refusal> {
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

    pub(super) fn type_of(&self, function: u32) -> Result<&FuncType, Refusal> {
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
pub(super) fn missing() -> Refusal {
    Refusal::Invalid { message: "an index has no definition".to_owned(), offset: 0 }
}
