//! Commands and what they print. Results go to stdout (one JSON object with `--json`), faults to stderr.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use crate::agreement::Agreement;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::oci::{self, Expected, Pull, Pulled, Push, Pushed};
use crate::timestamp::{Stamped, timestamp};
use crate::witness::{Ask, witness};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  2  usage: the command or a file that it names is wrong
  3  refused: something is not what was promised, agreed or asked for
  6  a server or the network failed, or the result could not be written

A registry that demands credentials gets those in GLOVEBOX_REGISTRY_USER and GLOVEBOX_REGISTRY_PASSWORD.";

/// Carries questions, approvals, time stamps and cosignatures over networks, apart from the program that sees data.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Push a question to a registry, with the agreement and the approvals that refer to it.
    #[command(after_help = "Example:
  glovebox-exchange push registry.example/rooms/reach questions/reach.wasm --agreement agreements/reach-r1")]
    Push(PushArgs),
    /// Pull a question by digest into a new folder, with the agreements and approvals that refer to it.
    ///
    /// Every byte is checked against its digest, and nothing is written unless all of it holds. Signatures are for
    /// the gate: see `glovebox run`.
    #[command(after_help = "Example:
  glovebox-exchange pull registry.example/rooms/reach@sha256:… incoming/reach --agreement agreements/reach-r1/agreement.json")]
    Pull(PullArgs),
    /// Have signatures time-stamped (RFC 3161).
    ///
    /// Checks that the stamp is granted and answers this request. The authority's signature and certificates are for
    /// `openssl ts -verify`.
    #[command(after_help = "Example:
  glovebox-exchange timestamp --tsa https://tsa.example agreements/reach-r1/*.dsse.json")]
    Timestamp {
        /// The authority.
        #[arg(long, value_name = "URL")]
        tsa: String,
        /// Envelopes; the time stamp of NAME.dsse.json goes to NAME.tsr.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Have a checkpoint of the log cosigned by a witness (C2SP tlog-witness).
    ///
    /// The cosignature is verified where the log is: see `glovebox log`.
    #[command(after_help = "Example:
  glovebox-exchange witness --url https://witness.example/w1 --request log/request --out log/cosignature")]
    Witness {
        /// The witness's submission prefix.
        #[arg(long)]
        url: String,
        /// The request that `glovebox log witness-request` wrote.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Write the cosignature lines to a new file as well.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List every code that a fault can have.
    Codes,
}

#[derive(Debug, Args)]
struct PushArgs {
    /// REGISTRY/REPO
    #[arg(value_name = "REGISTRY/REPO")]
    repository: String,
    /// The component.
    component: PathBuf,
    /// The question's manifest [default: the component's path, with the ending .toml].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The folder of an agreement on this question.
    #[arg(long, value_name = "DIR")]
    agreement: Option<PathBuf>,
    /// Speak HTTP without TLS.
    #[arg(long)]
    plain_http: bool,
}

#[derive(Debug, Args)]
struct PullArgs {
    /// REGISTRY/REPO@sha256:DIGEST, as a push prints it.
    #[arg(value_name = "QUESTION")]
    question: String,
    /// The folder to make; it must not exist.
    folder: PathBuf,
    /// SHA-256 of the component that was agreed.
    #[arg(long, value_name = "HEX", conflicts_with = "agreement")]
    component_sha256: Option<String>,
    /// The agreement.json that the question must be the one of; only its approvals are pulled.
    #[arg(long, value_name = "FILE")]
    agreement: Option<PathBuf>,
    /// Speak HTTP without TLS.
    #[arg(long)]
    plain_http: bool,
}

/// A command's result, ready to be printed.
struct Printed {
    json: Value,
    text: String,
}

/// Parses the command line, does what it says, and prints.
pub(crate) fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => {
            let json = cli.json;
            match cli.dispatch() {
                Ok(printed) => print(&printed, json),
                Err(error) => complain(&fault_of(&error), json),
            }
        }
        // Help and version are no errors; everything else is, and keeps to the two lines.
        Err(error) if error.use_stderr() => {
            complain(&usage(&error), std::env::args().any(|argument| argument == "--json"))
        }
        Err(error) => error.exit(),
    }
}

impl Cli {
    fn dispatch(self) -> anyhow::Result<Printed> {
        // One provider for all of TLS; a second call would be a defect of ours.
        rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow!("TLS was set up twice"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
        Ok(runtime.block_on(self.command.execute())?)
    }
}

impl Command {
    async fn execute(self) -> Result<Printed> {
        match self {
            Self::Push(args) => Ok(print_pushed(&oci::push(&args.into_push()?).await?)),
            Self::Pull(args) => Ok(print_pulled(&oci::pull(&args.into_pull()?).await?)),
            Self::Timestamp { tsa, files } => {
                Ok(print_stamped(&timestamp(&crate::http::parse_url(&tsa)?, &files).await?))
            }
            Self::Witness { url, request, out } => {
                let cosigned = witness(&Ask { url: crate::http::parse_url(&url)?, request, out }).await?;
                Ok(printed(&cosigned, cosigned.cosignatures.clone()))
            }
            Self::Codes => Ok(print_codes()),
        }
    }
}

impl PushArgs {
    fn into_push(self) -> Result<Push> {
        Ok(Push {
            repository: oci::parse_repository(&self.repository)?,
            plain_http: self.plain_http,
            manifest: self.manifest.unwrap_or_else(|| self.component.with_extension("toml")),
            component: self.component,
            agreement: self.agreement,
        })
    }
}

impl PullArgs {
    fn into_pull(self) -> Result<Pull> {
        let (repository, digest) = oci::parse_pinned(&self.question)?;
        let expected = match (self.component_sha256, self.agreement) {
            (Some(hex), _) => Expected::Component(Digest::from_hex(&hex)?),
            (None, Some(path)) => Expected::Agreement(Box::new(Agreement::read(&path)?)),
            (None, None) => Expected::Manifest,
        };
        Ok(Pull { repository, digest, plain_http: self.plain_http, folder: self.folder, expected })
    }
}

// Writing to a string cannot fail.

fn print_pushed(pushed: &Pushed) -> Printed {
    let mut text = format!("{}\ncomponent sha256:{}\n", pushed.question, pushed.component_sha256);
    let _ = writeln!(text, "question.toml sha256:{}", pushed.question_toml_sha256);
    for referrer in &pushed.referrers {
        let _ = writeln!(text, "{} {}", referrer.file, referrer.manifest);
    }
    if pushed.referrers_tag.is_some() {
        let _ = writeln!(
            text,
            "(the registry keeps no list of referrers: it stands under a tag, which no one has to trust)"
        );
    }
    printed(pushed, text)
}

fn print_pulled(pulled: &Pulled) -> Printed {
    let mut text = String::new();
    for file in &pulled.files {
        let _ = writeln!(text, "{}", pulled.folder.join(file).display());
    }
    let _ = writeln!(text, "component sha256:{}", pulled.component_sha256);
    for agreement in &pulled.agreements {
        let _ = writeln!(text, "agreement {} with {} approvals", agreement.agreement_id, agreement.approvals.len());
    }
    if pulled.ignored > 0 {
        let _ = writeln!(text, "{} other referrers were left where they are", pulled.ignored);
    }
    if !pulled.compared {
        let _ = writeln!(text, "the component was compared with no agreement: see --agreement");
    }
    text += "no signature was verified: that is for the gate";
    printed(pulled, text)
}

fn print_stamped(stamped: &[Stamped]) -> Printed {
    let mut text = String::new();
    for one in stamped {
        let _ = writeln!(text, "{} {}", one.timestamp.display(), one.time);
    }
    text += "the authority's signature and certificates were not verified: that is for openssl ts -verify";
    printed(&json!({"timestamps": stamped}), text)
}

fn print_codes() -> Printed {
    let mut text = String::new();
    for code in Code::ALL {
        let _ = writeln!(text, "{:<20} {}  {}", code.as_str(), code.exit_code(), code.meaning());
    }
    let codes: Vec<Value> = Code::ALL
        .iter()
        .map(|code| json!({"code": code.as_str(), "exit_code": code.exit_code(), "meaning": code.meaning()}))
        .collect();
    printed(&json!({"codes": codes}), text)
}

fn printed(result: &impl Serialize, text: String) -> Printed {
    let mut json = json!(result);
    json["ok"] = json!(true);
    Printed { json, text }
}

fn print(printed: &Printed, json: bool) -> ExitCode {
    let text = if json { printed.json.to_string() } else { printed.text.clone() };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        // A reader that closes the pipe early has what it wants.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(Code::WriteFailed.exit_code()),
        _ => ExitCode::SUCCESS,
    }
}

fn complain(fault: &Fault, json: bool) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{fault}");
    if json {
        let object =
            json!({"ok": false, "code": fault.code().as_str(), "fact": fault.fact(), "remedy": fault.remedy()});
        let _ = writeln!(std::io::stdout(), "{object}");
    }
    ExitCode::from(fault.code().exit_code())
}

fn usage(error: &clap::Error) -> Fault {
    let text = error.to_string();
    // The complaint, which may list arguments, stands before the first empty line; then comes help.
    let complaint: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    Fault::new(Code::Usage, complaint.join(" ").trim_start_matches("error: "), "see `glovebox-exchange --help`")
}

/// The code, fact and remedy of an error, whatever its type.
fn fault_of(error: &anyhow::Error) -> Fault {
    match error.downcast_ref::<Fault>() {
        Some(fault) => fault.clone(),
        None => Fault::new(Code::Internal, format!("{error:#}"), "report it with the command that you gave"),
    }
}
