//! Write a Glovebox question in Rust: one function over the rows of one privacy unit.
//!
//! The host calls the function once per unit (a person, a household, an account), in a fresh instance that has never
//! seen another unit. It bounds, counts, sums, thresholds and noises what the function answers, so the function never
//! counts people and never sees anybody else's rows. It can reach nothing: no file, clock, randomness, network or log.
//!
//! ```
//! use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};
//!
//! question!(measure);
//!
//! /// Spend per income band.
//! fn measure(_: &Parameters, views: &Views) -> Vec<Contribution> {
//!     let [purchases] = views.slots();
//!     let spend = purchases.float64(0);
//!     let income_band = purchases.dictionary(1);
//!
//!     let total: f64 = spend.values().iter().sum();
//!     let band = income_band.get(0).unwrap_or("unknown");
//!     vec![Contribution::new([band], [total])]
//! }
//!
//! // The function is plain Rust: test it on the host, without WebAssembly.
//! use glovebox_sdk::Rows;
//! let household = Rows::builder().float64([2.5, 4.0]).dictionary(["75K+", "75K+"]).build();
//! let answer = measure(&Parameters::default(), &Views::from([household]));
//! assert_eq!(answer, [Contribution::new(["75K+"], [6.5])]);
//! ```
//!
//! Slots, columns and parameters are found by position, in the order of the manifest `question.toml`: names and schemas
//! are checked once by the host and never sent. A wrong position or type is a panic, which in the sandbox makes the
//! unit contribute nothing. The SDK never copies a column, and holds no state.

mod builder;
mod cells;
mod fault;
mod lift;
mod parameters;
mod rows;
mod time;

pub mod analytical;
pub mod list;

pub use builder::RowsBuilder;
pub use cells::{Booleans, Cells, Column, Dates, Texts, Timestamps, Words};
pub use parameters::{Parameter, Parameters};
pub use rows::{Rows, Views};
pub use time::{Date, Timestamp};

/// The heap of a question: what the rows of one unit and the work on them may take.
///
/// It begins behind the component's data. Its first 64 KiB stand ready in the memory that every instance has, so that a
/// short question never asks the system for any; a longer one grows, up to what was agreed. What is freed is not used
/// again: the instance ends with the call.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: mini_alloc::MiniAlloc = mini_alloc::MiniAlloc::INIT;

/// What the `question!` macros expand to; not part of the interface.
#[doc(hidden)]
pub mod expansion {
    pub use glovebox_world_analytical as analytical;
    pub use glovebox_world_list as list;
}
