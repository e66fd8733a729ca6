//! Views of a room over the Delta Sharing protocol: a server that shares them, and a client that reads what others share.
//!
//! What is shared leaves as it is: **a shared view is outside of the privacy kernel**. Whoever is a recipient of it reads
//! its rows, and no budget, threshold or noise stands between.

mod address;
mod audit;
mod cache;
mod client;
mod error;
mod files;
mod protocol;
mod recipient;
mod secret;
mod server;
mod shares;
mod source;
mod types;

pub use client::{Client, FileStream, Pin, PinnedFile, Profile, Query, Snapshot, Table};
pub use error::{Code, Fault, Result};
pub use protocol::Format;
pub use recipient::{NewRecipient, new_recipient};
pub use server::{Server, listen, serve};
pub use source::answer;
