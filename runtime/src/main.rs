//! The `glovebox` program: parses a command, calls the library, prints, exits. No logic lives here.

mod cli;

use std::io::Write;
use std::process::ExitCode;

/// Sorts allocate and free gigabytes in small pieces; this one returns them to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // The message of a panic may quote a row; the place cannot.
        let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
        let _ = writeln!(std::io::stderr(), "internal error at {place}");
    }));
    cli::run()
}
