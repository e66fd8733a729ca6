//! Commands and what they print. Results go to stdout, faults to stderr.

use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use glovebox::Clock;
use glovebox_sharing::{Code, Result, Server, answer, listen, new_recipient, serve};
use glovebox_source_protocol::{DESCRIBE, PIN, READ};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  2  usage: the command or a file that it names is wrong
  3  refused: a secret is exposed, an address is not confidential, or the room has no such view
  6  the disk or the network failed
  7  this host failed";

/// What every owner should have read before the first recipient reads.
const WARNING: &str = "\
A shared view is outside of the privacy kernel: each recipient reads all of its rows as they are,
and no budget, threshold or noise stands between. Share nothing that you would not send as a file.";

#[derive(Parser)]
#[command(name = "glovebox-share", version, after_help = AFTER_HELP)]
#[command(about = "Shares views of a room with named recipients, over the Delta Sharing protocol")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the views of shares.toml on this machine, for a proxy that speaks TLS
    Serve {
        /// The room's folder
        #[arg(long, default_value = ".")]
        room: PathBuf,
        /// Who may read what; readable by its owner alone
        #[arg(long)]
        shares: PathBuf,
        /// A private folder for computed versions, the key of addresses and the log of accesses
        #[arg(long)]
        state: PathBuf,
        /// An address of this machine
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Recipients of shares.toml
    Recipient {
        #[command(subcommand)]
        command: RecipientCommand,
    },
    /// Print every code that a fault can have
    Codes,
    /// Say which columns a shared table has, to a run that asks on standard input
    #[command(hide = true)]
    Describe,
    /// Say what exactly of a shared table would be read
    #[command(hide = true)]
    Pin,
    /// Give the rows of a pin
    #[command(hide = true)]
    Read,
}

#[derive(Subcommand)]
enum RecipientCommand {
    /// Make a token: a profile file for the recipient, and its digest in shares.toml
    New {
        /// The recipient's name
        name: String,
        /// For how many days the token is valid
        #[arg(long)]
        days: u32,
        /// Who may read what; readable by its owner alone
        #[arg(long)]
        shares: PathBuf,
        /// The profile file; NAME.share where it is not said
        #[arg(long)]
        profile: Option<PathBuf>,
    },
}

impl Command {
    /// What a run asks of this program, if it is a run that asks.
    const fn task(&self) -> Option<&'static str> {
        match self {
            Self::Describe => Some(DESCRIBE),
            Self::Pin => Some(PIN),
            Self::Read => Some(READ),
            Self::Serve { .. } | Self::Recipient { .. } | Self::Codes => None,
        }
    }
}

pub(crate) fn run() -> ExitCode {
    let command = Cli::parse().command;
    if let Some(task) = command.task() {
        let output = BufWriter::new(std::io::stdout().lock());
        return if answer(task, std::io::stdin().lock(), output) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(std::io::stderr(), "{fault}");
            ExitCode::from(fault.code().exit_code())
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Serve { room, shares, state, listen: address } => {
            let server = Arc::new(Server::open(&room, &shares, &state, Clock::System)?);
            let listener = listen(address)?;
            let (recipients, views) = server.counts()?;
            print(&format!("{WARNING}\n{recipients} recipients, {views} views"));
            print(&format!("listening on http://{}", listener.local_addr().unwrap_or(address)));
            match serve(&server, &listener)? {}
        }
        Command::Recipient { command: RecipientCommand::New { name, days, shares, profile } } => {
            let profile = profile.unwrap_or_else(|| PathBuf::from(format!("{name}.share")));
            let made = new_recipient(&shares, &name, days, &profile, Clock::System.now())?;
            print(&format!("{}: the token of {name}, until {}", profile.display(), made.expires));
            print("hand the file over in confidence and remove it here: the token is not shown again");
            match made.views.as_slice() {
                [] => print(&format!("{name} reads nothing yet: no view in {} names it", shares.display())),
                views => print(&format!("{name} reads {}", views.join(", "))),
            }
            Ok(())
        }
        Command::Codes => {
            for code in Code::ALL {
                print(&format!("{:<20} {}  {}", code.as_str(), code.exit_code(), code.meaning()));
            }
            Ok(())
        }
        // A run's questions are answered in its own words.
        Command::Describe | Command::Pin | Command::Read => Ok(()),
    }
}

/// A reader who has gone away is no failure.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
