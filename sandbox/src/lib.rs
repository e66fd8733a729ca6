//! Runs code that nobody has read, over data that nobody may see.
//!
//! A question is a WebAssembly component without imports. It is compiled in one process and asked in others, which have
//! no keys, no ledger and no file but memory that they may read and a pipe ([`Worker`]); the kernel's walls stand around
//! them ([`Wall`]). Within a worker each privacy unit has an instance of its own, under fuel and memory limits, so that
//! nothing of one unit is there for the next; a question that is proved to keep nothing has one instance for all of them. What a question does wrong is silence; what comes back is numbers and texts
//! that the caller must bound.

mod answer;
mod artifact;
mod batch;
#[doc(hidden)]
pub mod bench;
mod contract;
mod denial;
mod engine;
mod host;
mod isa;
mod kernel;
mod message;
mod profile;
mod screen;
mod shared;
mod terms;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;
mod walls;
mod worker;
mod world;

use sha2::{Digest, Sha256};

pub use batch::{Full, Writer};
pub use contract::{Answer, Contribution};
pub use denial::{Denial, Reason, Result};
pub use engine::{Asked, Question, Ticker};
pub use host::{Program, Worker, compile, compile_within};
pub use isa::isa;
pub use kernel::{KERNEL_SECTION, register_kernel};
pub use profile::{profile, profile_sha256};
pub use screen::bounds::COMPONENT_BYTES_MAX;
pub use screen::screen;
pub use terms::{ColumnType, Kind, Limits, Spec, Value};
pub use walls::Wall;
pub use worker::{COMMAND, serve};
pub use world::{World, world};

/// The engine's version, as it stands in agreements and receipts.
pub const WASMTIME_VERSION: &str = "48.0.8";

fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}
