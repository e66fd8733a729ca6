//! The reader of one source, or the writer of one result, which a run starts and speaks to.

use std::io::{self, BufWriter};
use std::process::ExitCode;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let output = BufWriter::new(io::stdout().lock());
    if glovebox_sources::serve(&task, io::stdin().lock(), output) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
