//! The integration tests: one binary, through the public API and the real program.
//!
//! Modules follow the data path. What a room, a refusal and a release look like is in [`support`].

mod support;

mod bad_input;
mod cli;
mod destination;
mod gate;
mod privacy;
mod provision;
mod receipt;
mod sandbox;
mod tidy;
