//! Sharing as people use it: the real program, the official client, and a client of ours against servers good and bad.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on stops, and says where")]

mod client;
mod faulty;
mod official;
mod strangers;
mod support;
