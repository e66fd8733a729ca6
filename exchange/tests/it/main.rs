//! Tests of the program as people run it: against Debian's registry, OpenSSL's time stamps and a witness made here.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on stops, and says where")]

mod attacks;
mod oci;
mod registry;
mod room;
mod server;
mod timestamp;
mod tool;
mod witness;
