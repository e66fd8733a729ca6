//! Walks the call graph from the exports down, and counts what it finds.

use std::collections::BTreeMap;

use wasmparser::{BlockType, FuncType, FunctionBody, Operator};

use super::module::{Module, missing};
use super::operators::allow;
use super::refusal::Refusal;
use super::signature::is_number;
use super::{CALLS_DEEP_MAX, WORK_MAX, WORK_OF_LOOP};

/// A function that the exports reach.
#[derive(Clone, Debug)]
pub(crate) struct Function<'a> {
    pub(crate) ty: FuncType,
    pub(crate) body: FunctionBody<'a>,
    /// Its operators and locals, and those of whatever it calls.
    pub(super) work: u64,
}

/// Where the walk is, and what it has been through.
pub(super) struct Walk<'m, 'a> {
    module: &'m Module<'a>,
    path: Vec<u32>,
    pub(super) done: BTreeMap<u32, Function<'a>>,
    pub(super) has_loops: bool,
}

impl<'m, 'a> Walk<'m, 'a> {
    pub(super) fn new(module: &'m Module<'a>) -> Self {
        Self { module, path: Vec::new(), done: BTreeMap::new(), has_loops: false }
    }

    /// Checks a function and everything it calls; returns their work.
    pub(super) fn visit(&mut self, index: u32) -> Result<u64, Refusal> {
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
        let mut has_numbers_only = is_of_numbers(ty);
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
            if !self.is_block_of_numbers(&operator) {
                return Err(Refusal::Type { function: index });
            }
            self.has_loops |= matches!(operator, Operator::Loop { .. });
            work = work.saturating_add(more).saturating_add(1);
            if work > WORK_MAX {
                return Err(Refusal::TooMuchWork { function: index });
            }
        }
        Ok(work)
    }

    /// What leaves a block that is never left at its end could have any type.
    fn is_block_of_numbers(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => match blockty {
                BlockType::Empty => true,
                BlockType::Type(ty) => is_number(ty),
                BlockType::FuncType(index) => self.module.types.get(*index as usize).is_some_and(is_of_numbers),
            },
            _ => true,
        }
    }
}

fn is_of_numbers(ty: &FuncType) -> bool {
    ty.params().iter().chain(ty.results()).all(is_number)
}
