//! The `glovebox` program: parses a command, calls the library, prints, exits. No logic lives here.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
