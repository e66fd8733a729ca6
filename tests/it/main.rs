//! The integration tests: one binary, through the public API and the real program.
//!
//! There is a module for each step of the data path, and `attacks`, `bad_input`, `cli`, `crash`, `encodings`, `epsilon`,
//! `repeat`, `sources`, `tidy` and `trust` across them. What a room, a refusal and a release look like is in [`support`].

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops, and says with which row"
)]

use glovebox_sandbox::testing::Counting;

/// Says what a thread's work allocates, for `sandbox`.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

mod support;

#[path = "support/postgres.rs"]
mod postgres;

mod attacks;
mod bad_input;
mod catalogue;
mod cli;
mod crash;
mod destination;
mod encodings;
mod epsilon;
mod gate;
mod kernels;
mod privacy;
mod provision;
mod receipt;
mod repeat;
mod sandbox;
mod shards;
mod shares;
mod sources;
mod stores;
mod tidy;
mod trust;
mod worker;
