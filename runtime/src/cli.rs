//! Commands and what they print. Results go to stdout (one JSON object with `--json`), talk and progress to stderr.

mod print;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glovebox::{
    AgentKey, Change, Clock, Code, Custody, Export, Fault, Holder, LIST_DAYS, MemberKind, Principal, Proposal,
    PublicKey, PublicKeyFile, Random, Replay, Request, RevocationKind, Scope, Signer, StateAt, Withdrawal, add_key,
    adopt_state, agree, approve, attach_cosignatures, change_key, checkpoint, deliver, export, load_key, new_auditor,
    new_key, open_ledger, open_room, prove, registry_status, renew_registry, replay, revoke, set_auditor, set_quorum,
    set_witnesses, sign_registry, state_status, trust_room, verify, verify_log, witness_request,
};
use serde_json::json;

use print::{Printed, Progress, ShardProgress, print};

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
    /// The folder in which this host remembers its rooms [default: glovebox in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The server of the ledger that this host has in common with others [default: the ledger is in the folder of --state].
    #[arg(long, global = true, value_name = "postgres://USER@HOST/DATABASE")]
    store: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, and put them into the draft of the room's next registry.
    #[command(subcommand)]
    Key(KeyCommand),
    /// The room's registry: parties, their people and services, and their keys.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Compose an agreement: every term of one run in one file.
    #[command(after_help = "Example:
  glovebox agree questions/reach.wasm --destination brand-reports
  glovebox agree questions/nonredeemers.wasm --bind purchases=drinks \\
      --set category='SOFT DRINKS' --set heavy_from=12 --destination brand-activation")]
    Agree(AgreeArgs),
    /// Sign an agreement for your party.
    #[command(after_help = "Examples:
  glovebox approve agreements/reach-r1 --key keys/retailer.ana.pem
  glovebox approve agreements/reach-r1 --agent ~/.ssh/id_ed25519.pub")]
    Approve(ApproveArgs),
    /// Withdraw an agreement, a component, a key or an approval for your party; or renew your party's list.
    #[command(after_help = "Examples:
  glovebox revoke agreements/reach-r1 --reason 'wrong view' --key keys/retailer.ana.pem
  glovebox revoke --key keys/retailer.ana.pem      # withdraws nothing, and renews the list")]
    Revoke(RevokeArgs),
    /// Run an approved question once. Writes a receipt whatever happens.
    #[command(after_help = "Example:
  glovebox run agreements/reach-r1 --json")]
    Run(RunArgs),
    /// Verify a receipt offline, from published files alone.
    #[command(after_help = "Example:
  glovebox verify receipts/4f0c….dsse.json")]
    Verify {
        /// The receipt's path in the room.
        receipt: String,
        /// SHA-256 of the registry's first version, as you know it from the parties.
        #[arg(long, value_name = "SHA256")]
        root: Option<String>,
    },
    /// Run a released run again, and compare its output with the receipt. For auditors, who hold data and seed.
    #[command(after_help = "Example:
  glovebox replay receipts/4f0c….dsse.json --identity keys/auditor.txt")]
    Replay(ReplayArgs),
    /// Deliver a released result to the place that its agreement names, where the run could not. It is there once, however
    /// often this is done, and costs nothing.
    #[command(after_help = "Example:
  glovebox deliver receipts/4f0c….dsse.json")]
    Deliver {
        /// The receipt's path in the room.
        receipt: String,
    },
    /// Write an agreement's approvals for other tools: Sigstore, OpenSSH, in-toto, openssl, minisign.
    Export(ExportArgs),
    /// The room's transparency log.
    #[command(subcommand)]
    Log(LogCommand),
    /// What this host remembers of the room, so that no backup can take its place.
    #[command(subcommand)]
    State(StateCommand),
    /// Show a released file as a table.
    Show {
        /// A .parquet, .csv or .arrow file.
        file: PathBuf,
        /// Show at most so many rows.
        #[arg(long, default_value_t = 40, value_name = "N")]
        rows: usize,
    },
    /// Try an agreement's question on made-up data: shows what it would release, and spends nothing.
    #[command(after_help = "Example:
  glovebox try agreements/reach-r1 --units 100000")]
    Try {
        /// The agreement's folder in the room; nobody needs to have approved it.
        agreement: String,
        /// How many units to make up.
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        units: u64,
        /// Another number makes up other units.
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
    },
    /// Find your own identifiers among a released list's pseudonyms. For recipients.
    #[command(after_help = "Example:
  glovebox identify out/activation/nonredeemers-r1.csv --ids customers.csv \\
      --column household_id --out customers-listed.csv")]
    Identify {
        /// The released list, with its opening beside it.
        list: PathBuf,
        /// A .parquet, .csv or .arrow file of your own identifiers.
        #[arg(long, value_name = "FILE")]
        ids: PathBuf,
        /// The column that names the unit.
        #[arg(long, value_name = "NAME")]
        column: String,
        /// The new CSV file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// This host's privacy budget: what is spent, and what a run would cost.
    #[command(subcommand)]
    Ledger(LedgerCommand),
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
    /// Make a key pair: the private key goes to a file, the public key into the draft of the next registry.
    #[command(after_help = "Examples:
  glovebox key new --party retailer --person ana
  glovebox key new --party retailer --service host")]
    New {
        #[command(flatten)]
        holder: HolderArgs,
        /// The new key file [default: keys/PARTY.PERSON.pem or keys/runtime.pem in the room].
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Register a public key that was made elsewhere: PEM, OpenSSH, minisign or hex.
    #[command(after_help = "Example:
  glovebox key add ~/.ssh/id_ed25519.pub --party brand --person dan --custody ssh-agent")]
    Add {
        /// The public key's file.
        file: PathBuf,
        #[command(flatten)]
        holder: HolderArgs,
        /// Where the private key is kept.
        #[arg(long, default_value = "file")]
        custody: Custody,
    },
    /// Retire a key: it signs no more, and what it signed before stands.
    Retire {
        /// The public key's file.
        file: PathBuf,
    },
    /// Mark a key as compromised: nothing that it ever signed stands.
    Compromise {
        /// The public key's file.
        file: PathBuf,
    },
    /// Make the auditor's identity, to whom exact figures and seeds are sealed, and name it in the next registry.
    Auditor {
        /// The new identity file [default: keys/auditor.txt in the room].
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Print the public key of a private key file.
    Public {
        /// The private key's file.
        key: PathBuf,
        /// In which form.
        #[arg(long, default_value = "pem", value_parser = ["pem", "openssh", "minisign", "hex"])]
        format: String,
    },
}

#[derive(Debug, Args)]
struct HolderArgs {
    /// The party.
    #[arg(long)]
    party: String,
    /// The person who approves with the key.
    #[arg(long, required_unless_present = "service")]
    person: Option<String>,
    /// The service that runs questions with the key.
    #[arg(long, conflicts_with = "person")]
    service: Option<String>,
    /// What the key may sign [default: approve, revoke and root for a person, runtime and log for a service].
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Show the version in force, and the draft of the next.
    Show,
    /// Sign the draft. It is in force when the quorums of both versions have signed.
    Sign {
        #[command(flatten)]
        signer: SignerArgs,
        /// The draft's digest that `registry show` printed, and that you have read: anything else is not signed.
        #[arg(long, value_name = "SHA256")]
        sha256: Option<String>,
    },
    /// Replace the quorum by the lines of a file.
    Quorum {
        /// Lines of `group NAME k|any|all MEMBER...` and `quorum KIND GROUP`.
        file: PathBuf,
    },
    /// Replace the log's witness policy by the lines of a file (c2sp.org/tlog-policy).
    Witnesses {
        /// Lines of `witness NAME VKEY`, `group ...` and `quorum NAME`.
        file: PathBuf,
    },
    /// Name the auditor by an age recipient.
    Auditor {
        /// age1...
        recipient: String,
    },
    /// Draft a next version that differs in its date alone.
    Renew,
}

/// What a person signs with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SignerArgs {
    /// Your private key.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Your public key, if the private one is in your ssh-agent.
    #[arg(long, value_name = "FILE.pub")]
    agent: Option<PathBuf>,
}

impl SignerArgs {
    fn load(&self) -> anyhow::Result<Box<dyn Signer>> {
        let Some(public) = &self.agent else {
            return Ok(Box::new(load_key(self.key.as_deref().context("clap demands one of them")?)?));
        };
        let unusable = |why: String| {
            Fault::new(Code::KeyUnreadable, why, "start ssh-agent, add the key with ssh-add, and name its .pub file")
        };
        let bytes = std::fs::read(public).map_err(|error| unusable(format!("{}: {error}", public.display())))?;
        let public = PublicKey::read(&bytes).map_err(|denial| unusable(denial.fact().to_owned()))?;
        let socket = std::env::var_os("SSH_AUTH_SOCK").ok_or_else(|| unusable("SSH_AUTH_SOCK is not set".into()))?;
        Ok(Box::new(AgentKey::new(Path::new(&socket), public).map_err(unusable)?))
    }
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Verify every record and hash of the log, and the witnesses' cosignatures.
    Verify,
    /// Make the proof that a receipt is in the log anew, at the latest checkpoint.
    Prove {
        /// The receipt's path in the room.
        receipt: String,
    },
    /// Print the latest checkpoint.
    Checkpoint,
    /// Write what to post to a witness (c2sp.org/tlog-witness).
    #[command(after_help = "Example:
  glovebox log witness-request --from 4 --out request
  curl --data-binary @request https://witness.example/add-checkpoint > cosignature
  glovebox log cosign cosignature")]
    WitnessRequest {
        /// How many records the log had when the witness saw it last.
        #[arg(long, default_value_t = 0, value_name = "SIZE")]
        from: u64,
        /// The file to write [default: stdout].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Add a witness's cosignature to the latest checkpoint.
    Cosign {
        /// What the witness answered.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Show what each account has spent.
    Show,
    /// Show what one run of an agreement costs, how many runs are left, and how exact its answer is. Spends nothing.
    #[command(after_help = "Example:
  glovebox ledger quote agreements/reach-r1")]
    Quote {
        /// The agreement's folder in the room.
        agreement: String,
    },
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Compare what this host remembers with the room's log and ledger.
    Show,
    /// Begin to run a room on this host, by the registry that its parties told you.
    #[command(after_help = "Example:
  glovebox registry show                       # prints the digest, to be compared with the parties
  glovebox state trust 3f1c…")]
    Trust {
        /// SHA-256 of the registry's first version.
        sha256: String,
    },
    /// Begin to know a room on this host, from a checkpoint of its log that a partner or witness holds.
    Adopt {
        /// SHA-256 of the registry's first version, as you know it from the parties.
        sha256: String,
        /// The checkpoint's file.
        #[arg(long, value_name = "FILE")]
        checkpoint: PathBuf,
    },
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
    /// How many runs may be begun under it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Let the revision before stay valid beside this one.
    #[arg(long)]
    beside: bool,
}

#[derive(Debug, Args)]
struct ApproveArgs {
    /// The agreement's folder in the room.
    agreement: String,
    /// The id that `agree` printed, and that you have read: anything else is not signed.
    #[arg(long, value_name = "SHA256")]
    id: Option<String>,
    #[command(flatten)]
    signer: SignerArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The agreement's folder in the room.
    agreement: Option<String>,
    /// Anything else to withdraw: component=SHA256, runtime-key=FINGERPRINT, key=FINGERPRINT, person=ID, sdk=VERSION,
    /// approvals-through=PERSON:NUMBER.
    #[arg(long, value_parser = pair, value_name = "KIND=VALUE", conflicts_with = "agreement")]
    what: Option<(String, String)>,
    /// Why, in a line.
    #[arg(long, default_value = "withdrawn")]
    reason: String,
    /// For how many days the list is valid.
    #[arg(long, default_value_t = LIST_DAYS, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
    #[command(flatten)]
    signer: SignerArgs,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The receipt's path in the room.
    receipt: String,
    /// The auditor's identity file.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// SHA-256 of the registry's first version, as you know it from the parties.
    #[arg(long, value_name = "SHA256")]
    root: Option<String>,
    /// Cores to use [default: all].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Groups of shards, of which each but the first is asked by a process of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    groups: u16,
    /// Memory for sorting views, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=1_048_576), value_name = "MIB")]
    sort_memory: u32,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The agreement's folder in the room.
    agreement: String,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The key of whoever vouches for the in-toto layout: an auditor's, say.
    #[command(flatten)]
    signer: SignerArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The agreement's folder in the room.
    agreement: String,
    /// The runtime's private key [default: keys/runtime.pem in the room].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Names the request, in 32 digits of hex; a second one of the same name is refused [default: random].
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// For how many minutes the run may go on.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080), value_name = "MINUTES")]
    within: u32,
    /// Cores to use [default: all].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Groups of shards, of which each but the first is asked by a process of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    groups: u16,
    /// Memory for sorting views, in MiB; what does not fit is spilled to a private folder.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=1_048_576), value_name = "MIB")]
    sort_memory: u32,
    /// Show how the views would be read, and end: nothing is run, spent or logged.
    #[arg(long)]
    explain: bool,
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
        let state = match self.state {
            Some(state) => state,
            None => default_state()?,
        };
        let at = StateAt { folder: &state, store: self.store.as_deref() };
        let now = Clock::System.now();
        match self.command {
            Command::Key(command) => key(room, command),
            Command::Registry(command) => registry(room, command),
            Command::Agree(args) => compose(room, &state, &args),
            Command::Approve(args) => sign(room, &args),
            Command::Revoke(args) => withdraw(room, &args),
            Command::Run(args) if args.explain => plan_of(room, &state, &args),
            Command::Run(args) => execute(room, at, &args, self.json),
            Command::Verify { receipt, root } => {
                Ok(Printed::verified(&verify(&open_room(room)?, &receipt, root.as_deref(), now)?))
            }
            Command::Replay(args) => run_again(room, &state, &args, self.json),
            Command::Deliver { receipt } => carry(room, &state, &receipt),
            Command::Export(args) => export_approvals(room, &args),
            Command::Log(command) => log(room, &state, command),
            Command::State(command) => remember(room, at, command),
            Command::Show { file, rows } => Ok(Printed::table(&glovebox::preview(&file, rows)?)),
            Command::Try { agreement, units, seed } => {
                Ok(Printed::rehearsal(&glovebox::rehearse(&open_room(room)?, &agreement, units, seed)?))
            }
            Command::Identify { list, ids, column, out } => {
                Ok(Printed::identified(&glovebox::identify(&list, &ids, &column, &out)?))
            }
            Command::Ledger(LedgerCommand::Show) => Ok(Printed::ledger(&open_ledger(at)?.lines()?)),
            Command::Ledger(LedgerCommand::Quote { agreement }) => {
                Ok(Printed::quote(&glovebox::quote(&open_room(room)?, &open_ledger(at)?, &agreement)?))
            }
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

/// Outside of any room: whoever restores a room from a backup does not restore this.
fn default_state() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let base = base.ok_or_else(|| {
        Fault::new(Code::StateMissing, "neither XDG_STATE_HOME nor HOME is set", "name a folder with --state")
    })?;
    Ok(base.join("glovebox"))
}

impl HolderArgs {
    fn holder(self) -> anyhow::Result<Holder> {
        let (member, kind) = match (self.person, self.service) {
            (Some(person), None) => (person, MemberKind::Person),
            (None, Some(service)) => (service, MemberKind::Service),
            // clap demands one or the other.
            _ => return Err(anyhow!("neither --person nor --service was given")),
        };
        Ok(Holder { principal: Principal::new(self.party, member), kind, scopes: self.scopes })
    }
}

fn key(room: &Path, command: KeyCommand) -> anyhow::Result<Printed> {
    let now = Clock::System.now();
    let dir = open_room(room)?;
    match command {
        KeyCommand::New { holder, key } => {
            let holder = holder.holder()?;
            let Principal { party, member } = &holder.principal;
            let default = match holder.kind {
                MemberKind::Person => room.join(format!("keys/{party}.{member}.pem")),
                MemberKind::Service => room.join("keys/runtime.pem"),
            };
            let path = key.unwrap_or(default);
            let enrolled = new_key(&dir, &holder, &path, now, &mut Random::from_os()?)?;
            Ok(Printed::enrolled(&enrolled, &format!("made the key of {}: {}", holder.principal, path.display())))
        }
        KeyCommand::Add { file, holder, custody } => {
            let holder = holder.holder()?;
            let enrolled = add_key(&dir, &holder, PublicKeyFile { path: &file, custody }, now)?;
            Ok(Printed::enrolled(&enrolled, &format!("registered the key of {}", holder.principal)))
        }
        KeyCommand::Retire { file } => {
            Ok(Printed::enrolled(&change_key(&dir, &file, Change::Retire, now)?, "retired the key"))
        }
        KeyCommand::Compromise { file } => {
            Ok(Printed::enrolled(&change_key(&dir, &file, Change::Compromise, now)?, "marked the key as compromised"))
        }
        KeyCommand::Auditor { key } => {
            let path = key.unwrap_or_else(|| room.join("keys/auditor.txt"));
            let recipient = new_auditor(&path)?;
            let version = set_auditor(&dir, &recipient, now)?;
            Ok(Printed::done(
                json!({"auditor": recipient, "key": path, "registry_version": version}),
                format!(
                    "made the auditor's identity: {} (named in the draft of registry version {version})",
                    path.display()
                ),
            ))
        }
        KeyCommand::Public { key, format } => {
            let public = load_key(&key)?.public();
            let text = match format.as_str() {
                "openssh" => public.to_openssh(""),
                "minisign" => public.to_minisign("glovebox"),
                "hex" => public.to_hex(),
                _ => public.to_pem(),
            };
            Ok(Printed::done(json!({"public": text, "fingerprint": public.fingerprint()}), text))
        }
    }
}

fn registry(room: &Path, command: RegistryCommand) -> anyhow::Result<Printed> {
    let now = Clock::System.now();
    let dir = open_room(room)?;
    let read = |file: &Path| {
        std::fs::read_to_string(file)
            .map_err(|error| Fault::new(Code::Usage, format!("{}: {error}", file.display()), "name a text file"))
    };
    let version = match command {
        RegistryCommand::Show => return Ok(Printed::registry(&registry_status(&dir)?)),
        RegistryCommand::Sign { signer, sha256 } => {
            let (holder, draft) = sign_registry(&dir, sha256.as_deref(), signer.load()?.as_ref(), now)?;
            return Ok(Printed::signed(&holder, &draft));
        }
        RegistryCommand::Quorum { file } => set_quorum(&dir, &read(&file)?, now)?,
        RegistryCommand::Witnesses { file } => set_witnesses(&dir, &read(&file)?, now)?,
        RegistryCommand::Auditor { recipient } => set_auditor(&dir, &recipient, now)?,
        RegistryCommand::Renew => renew_registry(&dir, now)?,
    };
    Ok(Printed::done(
        json!({"registry_version": version}),
        format!("drafted version {version} of the registry; sign it with `glovebox registry sign`"),
    ))
}

fn compose(room: &Path, state: &Path, args: &AgreeArgs) -> anyhow::Result<Printed> {
    let default = Path::new(&args.component).with_extension("toml").to_string_lossy().into_owned();
    let proposal = Proposal {
        component: &args.component,
        manifest: args.manifest.as_deref().unwrap_or(&default),
        bindings: &args.bindings,
        parameters: &args.parameters,
        destination: &args.destination,
        days: args.days,
        runs_max: args.runs,
        beside: args.beside,
        state,
    };
    let composed = agree(&open_room(room)?, &proposal, Clock::System.now(), &mut Random::from_os()?)?;
    let mut json = json!(composed.asking);
    json["agreement"] = json!(composed.folder);
    json["agreement_id"] = json!(composed.agreement_id);
    json["needs"] = json!(composed.needs);
    json["across_units"] = json!(composed.across_units);
    let text = format!("{}\nagreement {}\nid {}", composed.summary(), composed.folder, composed.agreement_id);
    Ok(Printed::done(json, text))
}

fn sign(room: &Path, args: &ApproveArgs) -> anyhow::Result<Printed> {
    let key = args.signer.load()?;
    let folder = args.agreement.trim_end_matches('/');
    let random = &mut Random::from_os()?;
    let approved = approve(&open_room(room)?, folder, args.id.as_deref(), key.as_ref(), Clock::System.now(), random)?;
    let list =
        approved.list.as_ref().map(|list| format!("\nsigned a fresh list of what your party has withdrawn: {list}"));
    Ok(Printed::done(
        json!({"approved_by": approved.principal.to_string(), "approval": approved.path, "revocations": approved.list}),
        format!("{} approved {folder}: {}{}", approved.principal, approved.path, list.unwrap_or_default()),
    ))
}

fn withdraw(room: &Path, args: &RevokeArgs) -> anyhow::Result<Printed> {
    let key = args.signer.load()?;
    let other = match &args.what {
        None => None,
        Some((kind, value)) => {
            let kind: RevocationKind = kind.parse().map_err(|why: String| {
                Fault::new(Code::Usage, why, "see `glovebox revoke --help` for what can be withdrawn")
            })?;
            Some((kind, value.as_str()))
        }
    };
    let what = Withdrawal { agreement: args.agreement.as_deref(), other, reason: &args.reason, days: args.days };
    let revoked = revoke(&open_room(room)?, &what, key.as_ref(), Clock::System.now())?;
    let expires = revoked.expires.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    Ok(Printed::done(
        json!({"revoked_by": revoked.principal.to_string(), "list": revoked.path, "version": revoked.version,
               "entries": revoked.entries, "expires": expires}),
        format!("{}: {} withdrawn so far, valid until {expires}", revoked.path, revoked.entries),
    ))
}

fn run_again(room: &Path, state: &Path, args: &ReplayArgs, json: bool) -> anyhow::Result<Printed> {
    let what = Replay {
        receipt: &args.receipt,
        identity: &args.identity,
        root: args.root.as_deref(),
        threads: threads(args.threads)?,
        groups: args.groups,
        sort_memory_bytes: (args.sort_memory as usize) << 20,
        state,
        worker: None,
    };
    let progress = ShardProgress::new(json);
    let replayed = replay(&open_room(room)?, &what, Clock::System.now(), &|done| progress.at(done));
    progress.finish();
    let replayed = replayed?;
    let text = format!(
        "run {} replays: {} rows, the same output commitment {}\nbefore any noise: the same sums {}",
        replayed.run_id, replayed.rows, replayed.output_commitment, replayed.raw_sha256
    );
    Ok(Printed::done(json!(replayed), text))
}

fn carry(room: &Path, state: &Path, receipt: &str) -> anyhow::Result<Printed> {
    let carried = deliver(&open_room(room)?, state, receipt, Clock::System.now())?;
    let how = if carried.was_there { "was delivered already" } else { "is delivered" };
    let text = format!("the result of run {} {how} to {}", carried.run_id, carried.to);
    Ok(Printed::done(json!(carried), text))
}

fn export_approvals(room: &Path, args: &ExportArgs) -> anyhow::Result<Printed> {
    let key = args.signer.load()?;
    let what = Export { agreement: &args.agreement, to: &args.to, layout_key: key.as_ref() };
    let exported = export(&open_room(room)?, &what, Clock::System.now())?;
    Ok(Printed::done(
        json!({"to": args.to, "files": exported.files}),
        format!("{}\nwritten to {}", exported.files.join("\n"), args.to.display()),
    ))
}

fn log(room: &Path, state: &Path, command: LogCommand) -> anyhow::Result<Printed> {
    let dir = open_room(room)?;
    let now = Clock::System.now();
    match command {
        LogCommand::Verify => Ok(Printed::log(&verify_log(&dir, state, now)?)),
        LogCommand::Prove { receipt } => {
            let path = prove(&dir, state, &receipt)?;
            Ok(Printed::done(json!({"proof": path}), path))
        }
        LogCommand::Checkpoint => {
            let text = String::from_utf8(checkpoint(&dir, state)?).context("a checkpoint")?;
            Ok(Printed::done(json!({"checkpoint": text}), text))
        }
        LogCommand::WitnessRequest { from, out } => {
            let request = witness_request(&dir, state, from)?.0;
            let Some(out) = out else {
                std::io::stdout().write_all(&request).context("stdout")?;
                return Ok(Printed::nothing());
            };
            std::fs::write(&out, &request)
                .map_err(|error| Fault::new(Code::Usage, format!("{}: {error}", out.display()), "name another file"))?;
            Ok(Printed::done(json!({"request": out}), format!("wrote {}", out.display())))
        }
        LogCommand::Cosign { file } => {
            let answer = std::fs::read(&file).map_err(|error| {
                Fault::new(Code::Usage, format!("{}: {error}", file.display()), "name the answer's file")
            })?;
            let witnesses = attach_cosignatures(&dir, state, &answer, now)?;
            Ok(Printed::done(json!({"witnesses": witnesses}), format!("cosigned by {}", witnesses.join(", "))))
        }
    }
}

fn remember(room: &Path, state: StateAt<'_>, command: StateCommand) -> anyhow::Result<Printed> {
    let dir = open_room(room)?;
    let status = match command {
        StateCommand::Show => state_status(&dir, state)?,
        StateCommand::Trust { sha256 } => trust_room(&dir, state, &sha256)?,
        StateCommand::Adopt { sha256, checkpoint } => {
            let bytes = std::fs::read(&checkpoint).map_err(|error| {
                Fault::new(Code::Usage, format!("{}: {error}", checkpoint.display()), "name the checkpoint's file")
            })?;
            adopt_state(&dir, state, &sha256, &bytes)?
        }
    };
    let text = format!("{}: {} records seen, root {}", status.folder, status.size, status.root);
    Ok(Printed::done(json!(status), text))
}

fn threads(wanted: Option<u16>) -> anyhow::Result<usize> {
    match wanted {
        Some(threads) => Ok(usize::from(threads)),
        None => Ok(std::thread::available_parallelism().context("counting the cores")?.get()),
    }
}

fn execute(room: &Path, state: StateAt<'_>, args: &RunArgs, json: bool) -> anyhow::Result<Printed> {
    let key = load_key(args.key.as_deref().unwrap_or(&room.join("keys/runtime.pem")))?;
    let request = Request {
        room,
        agreement: &args.agreement,
        key: &key,
        threads: threads(args.threads)?,
        groups: args.groups,
        sort_memory_bytes: (args.sort_memory as usize) << 20,
        state: state.folder,
        store: state.store,
        nonce: args.nonce.as_deref(),
        minutes: args.within,
        clock: Clock::System,
        worker: None,
    };
    let progress = Progress::new(json);
    let outcome = glovebox::run(&request, &|step| progress.at(step))?;
    progress.finish();
    Ok(Printed::outcome(&outcome))
}

fn plan_of(room: &Path, state: &Path, args: &RunArgs) -> anyhow::Result<Printed> {
    let (memory_bytes, threads) = ((args.sort_memory as usize) << 20, threads(args.threads)?);
    let explained = glovebox::explain(&open_room(room)?, state, &args.agreement, memory_bytes, threads)?;
    Ok(Printed::plan(&explained))
}

/// The code, fact and remedy of an error, whatever its type.
fn fault_of(error: &anyhow::Error) -> Fault {
    match error.downcast_ref::<Fault>() {
        Some(fault) => fault.clone(),
        None => Fault::new(glovebox::Code::Internal, format!("{error:#}"), "report it with the command that you gave"),
    }
}
