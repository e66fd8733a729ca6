//! The integration tests: one binary, through the public API and the real program.
//!
//! Modules follow the data path. What a room, a refusal and a release look like is in [`support`].

mod support;

mod gate;
