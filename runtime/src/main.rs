//! The `glovebox` program: parses a command, calls the library, prints, exits. No logic lives here.

mod cli;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let ended = |is_well| if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // Processes of a run, which put up walls of their own before they look at anything.
    match arguments.next() {
        Some(command) if command == glovebox::worker::COMMAND => {
            let arguments: Vec<_> = arguments.filter_map(|argument| argument.into_string().ok()).collect();
            return ended(glovebox::worker::serve(&arguments));
        }
        Some(command) if command == glovebox::group::COMMAND => return ended(glovebox::group::serve()),
        _ => {}
    }
    restart_with_modest_heap();
    std::panic::set_hook(Box::new(|panic| {
        // The message of a panic may quote a row; the place cannot.
        let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
        let _ = writeln!(std::io::stderr(), "internal error at {place}");
    }));
    cli::run()
}

/// The system's allocator learns to keep large blocks that were freed, so a sort's memory would never go back. A fixed
/// threshold stops that; it is read from the environment when a process starts, and from nowhere else.
fn restart_with_modest_heap() {
    const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
    if std::env::var_os(THRESHOLD).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Returns only if it fails; then this process goes on, with a larger heap.
        let _ = Command::new(program).args(std::env::args_os().skip(1)).env(THRESHOLD, "131072").exec();
    }
}
