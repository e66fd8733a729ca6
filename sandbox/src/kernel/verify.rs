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

mod module;
mod operators;
mod refusal;
mod signature;
mod walk;

use std::collections::BTreeMap;

use wasmparser::{FuncType, Parser, Validator, WasmFeatures};

use module::Module;
pub(crate) use operators::allow;
pub(crate) use refusal::Refusal;
pub(crate) use signature::{Column, Phase, Scalar, Signature};
pub(crate) use walk::Function;
use walk::Walk;

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
    let mut walk = Walk::new(&module);
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

#[cfg(test)]
mod tests;
