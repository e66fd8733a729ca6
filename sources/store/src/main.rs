//! The keeper of a ledger on a PostgreSQL server, which a host starts and speaks to.
//!
//! It is a process of its own so that what speaks to a network stays outside of the program that holds keys and joined
//! rows. It gets messages on standard input and answers on standard output, in the words of
//! [`glovebox_source_protocol::store`]. It only keeps what it is given: the host chains the entries and verifies them.

mod connect;
mod ledger;
mod refuse;

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;

use glovebox_source_protocol::store::{Ask, Open, Told, read_message, write_message};

use crate::ledger::Ledger;
use crate::refuse::{Result, invalid};

fn main() -> ExitCode {
    let (input, output) = (BufReader::new(io::stdin().lock()), BufWriter::new(io::stdout().lock()));
    if serve(input, output).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Answers until the host has no more to ask, or until it is refused: then the connection may be lost, and whoever asks
/// again asks a new process.
fn serve(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let unread = |error: io::Error| invalid(format!("a message cannot be read: {error}"), "ask as the protocol says");
    let opened = match read_message::<Open>(&mut input) {
        Ok(None) => return Ok(()),
        Ok(Some((open, _))) => connect::connect(&open).and_then(Ledger::open),
        Err(error) => Err(unread(error)),
    };
    let mut ledger = opened.or_else(|refused| refuse(&mut output, Err(refused)))?;
    let mut told: Result<(Told, Vec<u8>)> = Ok((ledger.ready(), Vec::new()));
    loop {
        match told {
            Ok((message, bytes)) => write_message(&mut output, &message, &bytes)?,
            refused => return refuse(&mut output, refused.map(drop)),
        }
        told = match read_message::<Ask>(&mut input) {
            Ok(None) => return Ok(()),
            Ok(Some((ask, bytes))) => ledger.answer(ask, bytes),
            Err(error) => Err(unread(error)),
        };
    }
}

/// Says why there is no answer. The host may be gone.
fn refuse<T>(output: impl Write, refused: Result<()>) -> io::Result<T> {
    if let Err(refused) = refused {
        write_message(output, &Told::Refused(refused), &[])?;
    }
    Err(io::Error::other("refused"))
}
