//! The `glovebox-exchange` program: it carries questions, approvals, time stamps and cosignatures over networks.
//!
//! It sees no data and holds no keys. What it brings is checked by digest here, and by the gate of the program that
//! sees data; what it takes away is what people mean to show.

mod agreement;
mod cli;
mod component;
mod digest;
mod error;
mod files;
mod http;
mod oci;
mod timestamp;
mod witness;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
