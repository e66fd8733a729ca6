//! The reader as a run starts it: the real program, over tables that others wrote.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on stops")]

mod delta;
mod objects;
mod postgres;
mod server;
#[path = "../../../tests/it/support/postgres.rs"]
mod server_of_postgres;
mod support;
mod write;
