//! Write a Glovebox question in Rust: one function over the rows of one privacy unit.
//!
//! The host calls the function once per unit (a person, a household, an account), in a fresh instance that has never
//! seen another unit. It bounds, counts, sums, thresholds and noises what the function answers, so the function never
//! counts people and never sees anybody else's rows. It can reach nothing: no file, clock, network or log, and no
//! randomness but the seed that its manifest asks for.
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
//!
//! What adds up many numbers does so faster with [`blocked`].
//!
//! A question that carries a few numbers from row to row can be a register kernel as well, and is then asked about
//! millions of rows per second: see [`kernel`]. Without the feature `component`, that is all that is left of the SDK.

#![cfg_attr(not(feature = "component"), no_std)]

#[cfg(feature = "component")]
mod builder;
#[cfg(feature = "component")]
mod cells;
#[cfg(feature = "component")]
mod fault;
#[cfg(feature = "component")]
mod parameters;
#[cfg(feature = "component")]
mod rows;
mod time;
#[cfg(feature = "component")]
mod unit;

#[cfg(feature = "component")]
pub mod analytical;
#[cfg(feature = "component")]
pub mod blocked;
pub mod kernel;
#[cfg(feature = "component")]
pub mod list;

#[cfg(feature = "component")]
pub use builder::RowsBuilder;
#[cfg(feature = "component")]
pub use cells::{Booleans, Cells, Column, Dates, Texts, Timestamps, Words};
#[cfg(feature = "component")]
pub use parameters::{Parameter, Parameters};
#[cfg(feature = "component")]
pub use rows::{Rows, Views};
pub use time::{Date, Timestamp};

/// The heap of a question: what the rows of one unit and the work on them may take.
///
/// It begins behind the component's data. Its first 64 KiB stand ready in the memory that every instance has, so that a
/// short question never asks the system for any; a longer one grows, up to what was agreed. What is freed is not used
/// again: the instance ends with the call.
#[cfg(all(feature = "component", target_arch = "wasm32"))]
#[global_allocator]
static HEAP: mini_alloc::MiniAlloc = mini_alloc::MiniAlloc::INIT;

/// What the `question!` macros expand to; not part of the interface.
#[cfg(feature = "component")]
#[doc(hidden)]
pub mod expansion {
    pub use glovebox_world_analytical as analytical;
    pub use glovebox_world_list as list;
}
