//! The `glovebox` program: parses a command, calls the library, prints, exits. No logic lives here.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A reader that closes the pipe early is no failure of ours.
    cli::Cli::parse().run()
}
