//! Commands and what they print. Results go to stdout (one JSON object with `--json`), talk and progress to stderr.

mod print;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glovebox::{
    Clock, Fault, KeyHolder, Ledger, Proposal, Random, Request, agree, approve, load_key, new_key, open_room,
};
use serde_json::json;

use print::{Printed, Progress, print};

const EXIT_CODES: &str = "\
Exit codes:
  0  released, or done
  2  usage: the command or room.toml is wrong
  3  refused before any guest ran: by the gate, or because a view is not what was agreed
  4  failed in the sandbox
  5  refused by the privacy controls
  6  the result could not be written
  7  internal failure";

/// Signed questions over partner data, one person at a time.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// The room's folder.
    #[arg(long, global = true, default_value = ".", value_name = "DIR")]
    room: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and register keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Compose an agreement: every term of one run in one file.
    #[command(after_help = "Example:
  glovebox agree questions/reach.wasm --destination brand-reports
  glovebox agree questions/nonredeemers.wasm --bind purchases=drinks \\
      --set category='SOFT DRINKS' --set heavy_from=12 --destination brand-activation")]
    Agree(AgreeArgs),
    /// Sign an agreement for your party.
    #[command(after_help = "Example:
  glovebox approve agreements/reach-r1 --key keys/retailer.ana.pem")]
    Approve(ApproveArgs),
    /// Run an approved question once. Writes a receipt whatever happens.
    #[command(after_help = "Example:
  glovebox run agreements/reach-r1 --json")]
    Run(RunArgs),
    /// Verify a receipt offline.
    #[command(after_help = "Example:
  glovebox verify receipts/4f0c….dsse.json")]
    Verify {
        /// The receipt's path in the room.
        receipt: String,
    },
    /// Show a released file as a table.
    Show {
        /// A .parquet, .csv or .arrow file.
        file: PathBuf,
        /// Show at most so many rows.
        #[arg(long, default_value_t = 40, value_name = "N")]
        rows: usize,
    },
    /// Show what each account has spent of its budget.
    Ledger,
    /// List every code that a refusal can have.
    Codes,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key pair: the private key goes to a file, the public key into the room's registry.
    #[command(after_help = "Examples:
  glovebox key new --party retailer --person ana
  glovebox key new --runtime host")]
    New(NewKeyArgs),
}

#[derive(Debug, Args)]
struct NewKeyArgs {
    /// The person's party.
    #[arg(long, requires = "person", required_unless_present = "runtime")]
    party: Option<String>,
    /// The person who approves with the key.
    #[arg(long, requires = "party")]
    person: Option<String>,
    /// The runtime that signs receipts with the key.
    #[arg(long, conflicts_with_all = ["party", "person"], value_name = "ID")]
    runtime: Option<String>,
    /// The new key file [default: keys/PARTY.PERSON.pem or keys/runtime.pem in the room].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AgreeArgs {
    /// The component's path in the room.
    component: String,
    /// The manifest's path in the room [default: the component's, with the ending .toml].
    #[arg(long, value_name = "PATH")]
    manifest: Option<String>,
    /// Bind a slot to a view; a slot that is not named is bound to the view of its own name.
    #[arg(long = "bind", value_parser = pair, value_name = "SLOT=VIEW")]
    bindings: Vec<(String, String)>,
    /// Set a parameter.
    #[arg(long = "set", value_parser = pair, value_name = "NAME=VALUE")]
    parameters: Vec<(String, String)>,
    /// Where the result goes.
    #[arg(long, value_name = "ID")]
    destination: String,
    /// For how many days the agreement holds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
}

#[derive(Debug, Args)]
struct ApproveArgs {
    /// The agreement's folder in the room.
    agreement: String,
    /// Your private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The agreement's folder in the room.
    agreement: String,
    /// The runtime's private key [default: keys/runtime.pem in the room].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Cores to use [default: all].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory for sorting views, in MiB; what does not fit is spilled to a private folder.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=1_048_576), value_name = "MIB")]
    sort_memory: u32,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// Parses the command line, does what it says, and prints.
pub(crate) fn run() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("GLOVEBOX_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match Cli::try_parse() {
        Ok(cli) => {
            let json = cli.json;
            print(&cli.dispatch().unwrap_or_else(|error| Printed::error(&error)), json)
        }
        // Help and version are no errors; everything else is, and an agent reads it as JSON.
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == "--json") => {
            print(&Printed::usage(&error), true)
        }
        Err(error) => error.exit(),
    }
}

impl Cli {
    fn dispatch(self) -> anyhow::Result<Printed> {
        let room = self.room.as_path();
        match self.command {
            Command::Key(KeyCommand::New(args)) => key_new(room, args),
            Command::Agree(args) => compose(room, &args),
            Command::Approve(args) => sign(room, &args),
            Command::Run(args) => execute(room, &args, self.json),
            Command::Verify { receipt } => Ok(Printed::verified(&glovebox::verify(&open_room(room)?, &receipt)?)),
            Command::Show { file, rows } => Ok(Printed::table(&glovebox::preview(&file, rows)?)),
            Command::Ledger => Ok(Printed::ledger(&Ledger::open(&open_room(room)?)?.lines()?)),
            Command::Codes => Ok(Printed::codes()),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "glovebox", &mut script);
                let script = String::from_utf8(script).context("a completion script")?;
                Ok(Printed::done(json!({"script": script}), script))
            }
        }
    }
}

fn key_new(room: &Path, args: NewKeyArgs) -> anyhow::Result<Printed> {
    let holder = match (args.runtime, args.party, args.person) {
        (Some(id), ..) => KeyHolder::Runtime { id },
        (None, Some(party), Some(person)) => KeyHolder::Person { party, person },
        // clap demands one or the other.
        _ => return Err(anyhow!("neither --runtime nor --party was given")),
    };
    let default = match &holder {
        KeyHolder::Person { party, person } => room.join(format!("keys/{party}.{person}.pem")),
        KeyHolder::Runtime { .. } => room.join("keys/runtime.pem"),
    };
    let path = args.key.unwrap_or(default);
    new_key(&open_room(room)?, &holder, &path, &mut Random::from_os()?)?;
    Ok(Printed::done(
        json!({"holder": holder.to_string(), "key": path}),
        format!("made the key of {holder}: {} (registered in registry.json)", path.display()),
    ))
}

fn compose(room: &Path, args: &AgreeArgs) -> anyhow::Result<Printed> {
    let default = Path::new(&args.component).with_extension("toml").to_string_lossy().into_owned();
    let proposal = Proposal {
        component: &args.component,
        manifest: args.manifest.as_deref().unwrap_or(&default),
        bindings: &args.bindings,
        parameters: &args.parameters,
        destination: &args.destination,
        days: args.days,
    };
    let composed = agree(&open_room(room)?, &proposal, Clock::System.now(), &mut Random::from_os()?)?;
    Ok(Printed::done(
        json!({"agreement": composed.folder, "agreement_id": composed.agreement_id, "needs": composed.needs}),
        format!("{}\nagreement {}\nid {}", composed.summary(), composed.folder, composed.agreement_id),
    ))
}

fn sign(room: &Path, args: &ApproveArgs) -> anyhow::Result<Printed> {
    let key = load_key(&args.key)?;
    let folder = args.agreement.trim_end_matches('/');
    let (holder, path) = approve(&open_room(room)?, folder, &key, Clock::System.now())?;
    Ok(Printed::done(
        json!({"approved_by": holder.to_string(), "approval": path}),
        format!("{holder} approved {folder}: {path}"),
    ))
}

fn execute(room: &Path, args: &RunArgs, json: bool) -> anyhow::Result<Printed> {
    let key = load_key(args.key.as_deref().unwrap_or(&room.join("keys/runtime.pem")))?;
    let threads = match args.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().context("counting the cores")?.get(),
    };
    let request = Request {
        room,
        agreement: &args.agreement,
        key: &key,
        threads,
        sort_memory_bytes: (args.sort_memory as usize) << 20,
        clock: Clock::System,
    };
    let progress = Progress::new(json);
    let outcome = glovebox::run(&request, &|step| progress.at(step))?;
    progress.finish();
    Ok(Printed::outcome(&outcome))
}

/// The code, fact and remedy of an error, whatever its type.
fn fault_of(error: &anyhow::Error) -> Fault {
    match error.downcast_ref::<Fault>() {
        Some(fault) => fault.clone(),
        None => Fault::new(glovebox::Code::Internal, format!("{error:#}"), "report it with the command that you gave"),
    }
}
