//! What must hold for whatever a stranger makes the sandbox read or run, for libFuzzer and for the tests of
//! `sandbox/tests/fuzz_seeds.rs`.
//!
//! Each module has a `check`, which panics if its invariant does not hold, and the `seeds` with which a fuzzer begins.
//! No clock ticks here, so that nothing depends on the machine's load: what ends a call is its fuel.

#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a check fails by panicking")]

pub mod answer;
pub mod batch;
pub mod component;
pub mod kernel;
pub mod module;

use glovebox_sandbox::{Answer, Asked, ColumnType, Denial, Kind, Limits, Question, Reason, Result, Spec};

/// A name and the bytes of an input.
pub type Seed = (&'static str, Vec<u8>);

/// What a refused component is refused for, by whatever comes before the engine.
const BY_ITS_BYTES: &[Reason] = &[Reason::ComponentInvalid, Reason::ComponentImports];
/// What it is refused for by the engine: its own doing, never a failure of the host.
const BY_THE_ENGINE: &[Reason] = &[Reason::CompileFailed, Reason::ContractMismatch];

/// What was accepted by its bytes. Whatever a stranger wrote, a refusal is one line without control characters.
fn accepted<T>(result: Result<T>) -> Option<T> {
    let check = |denial: &Denial| assert!(!denial.fact().contains(char::is_control), "{:?}", denial.fact());
    result.inspect_err(check).inspect_err(|denial| assert!(BY_ITS_BYTES.contains(&denial.reason()), "{denial}")).ok()
}

/// What the engine compiled. What it refuses it says in a worker's words, from which the host makes one line.
fn compiled(component: &[u8], spec: Spec, at_a_time: u32) -> Option<Question> {
    let compiled = Question::new(component, spec, at_a_time);
    compiled.inspect_err(|denial| assert!(BY_THE_ENGINE.contains(&denial.reason()), "{denial}")).ok()
}

/// A question without parameters; an input is quick.
fn spec(kind: Kind, fuel_per_unit: u64, slots: Vec<Vec<ColumnType>>) -> Spec {
    let limits = Limits {
        fuel_per_unit,
        memory_bytes_per_unit: 1 << 20,
        milliseconds_per_unit: 10_000,
        answer_bytes_per_unit: 4 << 10,
    };
    Spec { kind, limits, parameters: Vec::new(), slots }
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Bytes in memory that begins at a multiple of eight, as a mapping does, or so many bytes behind one.
struct Memory {
    words: Vec<u64>,
    bytes: std::ops::Range<usize>,
}

impl Memory {
    /// What surrounds the bytes is `around`.
    fn of(bytes: &[u8], behind: usize, around: u8) -> Self {
        let mut words = vec![u64::from_ne_bytes([around; 8]); (behind + bytes.len()) / 8 + 2];
        let range = behind..behind + bytes.len();
        bytemuck::cast_slice_mut(&mut words)[range.clone()].copy_from_slice(bytes);
        Self { words, bytes: range }
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[self.bytes.clone()]
    }
}

/// An answer that can be compared, numbers by their bits.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Contributions(Vec<(Vec<String>, Vec<u64>)>),
    Selected(Option<u32>),
    Nothing,
}

impl From<&Answer> for Said {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Contributions(contributions) => {
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
                let each = contributions.iter().map(|one| (one.group.clone(), bits(&one.values)));
                Self::Contributions(each.collect())
            }
            Answer::Selected(segment) => Self::Selected(*segment),
            Answer::Nothing => Self::Nothing,
        }
    }
}

/// What can be seen of one call, which stayed within its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    said: Said,
    /// Not told of a call that did not end cleanly, which is not exact.
    fuel: Option<u64>,
    memory_bytes: u64,
}

impl Seen {
    fn of(asked: &Asked, limits: &Limits) -> Self {
        assert!(asked.memory_bytes <= limits.memory_bytes_per_unit, "{} bytes", asked.memory_bytes);
        assert!(asked.fuel <= limits.fuel_per_unit, "{} of fuel", asked.fuel);
        let said = Said::from(&asked.answer);
        let fuel = (said != Said::Nothing).then_some(asked.fuel);
        Self { said, fuel, memory_bytes: asked.memory_bytes }
    }
}
