//! The `glovebox-share` program: shares views of a room with named recipients.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
