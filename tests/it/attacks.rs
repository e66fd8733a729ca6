//! Attacks on a room's trust, one test for each: someone changes, forges, replays, or rolls something back, and the run
//! is refused by its own code, costs nothing, and leaves a receipt in the log. Undone, the attack has cost nothing.
//!
//! Attacks on a format by itself are tests of the crate `glovebox-trust`. Here stands one of each kind, against a room.

mod artifacts;
mod envelopes;
mod forge;
mod log;
mod principal;
mod signatures;
mod terms;
mod time;
