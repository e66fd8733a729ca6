//! What must hold for every input of a format, for libFuzzer and for the tests of `trust/tests/fuzz_seeds.rs`.
//!
//! Each module has a `check`, which panics if its invariant does not hold, and the `seeds` with which a fuzzer begins.

#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a check fails by panicking")]

pub mod checkpoint;
pub mod envelope;
pub mod key;
mod parties;
pub mod proof;
pub mod registry;
pub mod statement;

use glovebox_trust::Result;

/// A name and the bytes of an input.
pub type Seed = (&'static str, Vec<u8>);

/// What was accepted. Whatever a stranger wrote, a refusal is one line without control characters.
fn accepted<T>(result: Result<T>) -> Option<T> {
    result.map_err(|denial| assert!(!denial.fact().contains(char::is_control), "{:?}", denial.fact())).ok()
}
