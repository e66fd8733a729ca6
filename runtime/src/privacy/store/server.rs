//! The store of several hosts: a server, which a process of its own speaks to, so that this one opens no connection.
//!
//! The process starts without environment but the variable of the password, and ends with its handle. It is trusted to
//! keep what it is told is kept. What it gives back the ledger verifies, and a connection that is lost is made anew with
//! the next question.

use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cap_std::fs::{Dir, PermissionsExt};
use glovebox_source_protocol::Secret;
use glovebox_source_protocol::store::{
    AnswerName, Ask, BYTES_MAX, Head, Open, RecordName, Refused, Row, Told, Why, read_message, write_message,
};
use serde::{Deserialize, Serialize};

use super::super::host_key::HostKey;
use super::super::ledger::{Kept, LedgerHead, StoredAnswer};
use super::Store;
use crate::error::{Code, Fault, Result};
use crate::files;

/// The program that comes with this one.
const PROGRAM: &str = "glovebox-store";
/// In the folder of the host's state: how one gets into the server.
const SETTINGS_FILE: &str = "store.toml";
const SETTINGS_BYTES_MAX: u64 = 64 << 10;

/// What the operator says of the server besides its place; none of it is secret.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_certificate: Option<PathBuf>,
}

/// A server with a ledger.
#[derive(Debug)]
pub(super) struct Server {
    program: PathBuf,
    open: Open,
    /// None between a lost connection and the next.
    running: RefCell<Option<Running>>,
}

/// Makes the ledger on a server that has none, or joins the hosts that have one there: they have one key, or neither
/// contributors nor pseudonyms of one would mean anything to the others.
pub(super) fn create(state: &Dir, place: &str) -> Result<()> {
    let server = Server::new(state, place)?;
    let there = server.connect()?;
    if there.is_none() {
        HostKey::create(state)?;
    }
    let host_key = HostKey::open(state).map_err(|_| another_key("none"))?.fingerprint();
    match server.ask(&Ask::Create { host_key: host_key.clone() }, &[])? {
        (Told::Ready { host_key: Some(there) }, _) if there == host_key => Ok(()),
        (Told::Ready { host_key: Some(_) }, _) => Err(another_key("another")),
        _ => Err(unexpected()),
    }
}

impl Server {
    pub(super) fn open(state: &Dir, place: &str) -> Result<Self> {
        let server = Self::new(state, place)?;
        match server.connect()? {
            Some(there) if there == HostKey::open(state)?.fingerprint() => Ok(server),
            Some(_) => Err(another_key("another")),
            None => Err(Fault::new(
                Code::LedgerFailed,
                "the ledger's database has no ledger",
                "restore it from its backup, or correct --store; a host makes a ledger when it trusts its first room",
            )),
        }
    }

    fn new(state: &Dir, place: &str) -> Result<Self> {
        let Settings { program, password, root_certificate } = settings(state)?;
        let beside = || std::env::current_exe().unwrap_or_default().with_file_name(PROGRAM);
        let open = Open { place: place.to_owned(), password, root_certificate };
        Ok(Self { program: program.unwrap_or_else(beside), open, running: RefCell::new(None) })
    }

    /// Starts the process and has it connect. Returns the common key of the ledger's hosts, if there is a ledger.
    fn connect(&self) -> Result<Option<String>> {
        let mut running = Running::start(&self.program, &self.open).map_err(|error| {
            Fault::new(
                Code::StoreUnreachable,
                format!("{} cannot be started: {error}", self.program.display()),
                "install glovebox-store beside glovebox, or name the program in store.toml",
            )
        })?;
        let (told, _) = running.ask(&self.open, &[])?;
        let Told::Ready { host_key } = told else { return Err(unexpected()) };
        self.running.replace(Some(running));
        Ok(host_key)
    }

    /// Asks, over a connection that is made anew if the last one was lost.
    fn ask(&self, ask: &Ask, bytes: &[u8]) -> Result<(Told, Vec<u8>)> {
        if self.running.borrow().is_none() {
            self.connect()?;
        }
        let mut running = self.running.take().ok_or_else(unexpected)?;
        let told = running.ask(ask, bytes)?;
        self.running.replace(Some(running));
        Ok(told)
    }
}

impl Store for Server {
    fn head(&self) -> Result<LedgerHead> {
        match self.ask(&Ask::Head, &[])? {
            (Told::Head(Head { entries, sha256 }), _) => Ok(LedgerHead { entries, sha256 }),
            _ => Err(unexpected()),
        }
    }

    fn rows(&self, from: u64) -> Result<Vec<Row>> {
        match self.ask(&Ask::Rows { from }, &[])? {
            (Told::Rows(rows), _) => Ok(rows),
            _ => Err(unexpected()),
        }
    }

    fn append(&self, after: &LedgerHead, rows: &[Row], answer: Option<(&str, &Kept<'_>)>) -> Result<bool> {
        let after = Head { entries: after.entries, sha256: after.sha256.clone() };
        let name = answer.map(|(run, kept)| AnswerName { key: kept.question.into(), run: run.into() });
        let bytes = answer.map_or(&[][..], |(_, kept)| kept.answer);
        let fits = check_length(bytes).map_err(|fact| Fault::new(Code::LedgerFailed, fact, "release a smaller table"));
        fits.and_then(|()| self.added(&Ask::Append { after, rows: rows.to_vec(), answer: name }, bytes))
    }

    fn answer(&self, question: &str) -> Result<Option<StoredAnswer>> {
        match self.ask(&Ask::Answer { key: question.into() }, &[])? {
            (Told::Answer(run), bytes) => Ok(run.map(|run_id| StoredAnswer { run_id, bytes })),
            _ => Err(unexpected()),
        }
    }

    fn records(&self) -> Result<Option<Vec<RecordName>>> {
        match self.ask(&Ask::Records, &[])? {
            (Told::Records(records), _) => Ok(Some(records)),
            _ => Err(unexpected()),
        }
    }

    fn record(&self, run: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(&Ask::Record { run: run.into() }, &[])? {
            (Told::Record(is_there), bytes) => Ok(is_there.then_some(bytes)),
            _ => Err(unexpected()),
        }
    }

    fn keep(&self, after: u64, name: &RecordName, bytes: &[u8]) -> Result<bool> {
        let remedy = "release fewer groups at a time, or run on a host with a ledger of its own";
        check_length(bytes).map_err(|fact| Fault::new(Code::HistoryFailed, fact, remedy))?;
        self.added(&Ask::Keep { after, record: name.clone() }, bytes)
    }
}

impl Server {
    fn added(&self, ask: &Ask, bytes: &[u8]) -> Result<bool> {
        match self.ask(ask, bytes)? {
            (Told::Added(is_added), _) => Ok(is_added),
            _ => Err(unexpected()),
        }
    }
}

fn check_length(bytes: &[u8]) -> Result<(), String> {
    let length = bytes.len() as u64;
    if length <= BYTES_MAX { Ok(()) } else { Err(format!("{length} bytes are more than the ledger's server takes")) }
}

/// The process that speaks to the server. It ends with its handle.
#[derive(Debug)]
struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(program: &PathBuf, open: &Open) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(Secret::Environment(name)) = &open.password {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let mut child = command.spawn()?;
        match child.stdin.take().zip(child.stdout.take()) {
            Some((input, output)) => Ok(Self { child, input, output: BufReader::new(output) }),
            None => Err(io::Error::other("it has no pipes")),
        }
    }

    fn ask(&mut self, message: &impl Serialize, bytes: &[u8]) -> Result<(Told, Vec<u8>)> {
        let lost = |why: String| {
            let remedy = "run again: what was committed counts, and what was not does not";
            Fault::new(Code::StoreUnreachable, format!("glovebox-store gives no answer: {why}"), remedy)
        };
        // Where it has ended, what it said last says why.
        let asked = write_message(&mut self.input, message, bytes);
        let told = read_message(&mut self.output).map_err(|error| lost(error.to_string()))?;
        match told {
            Some((Told::Refused(refused), _)) => Err(fault(&refused)),
            Some(told) => asked.map(|()| told).map_err(|error| lost(error.to_string())),
            None => Err(lost("it has ended".into())),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fault(refused: &Refused) -> Fault {
    let code = match refused.why {
        Why::Invalid => Code::StoreInvalid,
        Why::Unreachable => Code::StoreUnreachable,
        Why::Failed => Code::LedgerFailed,
    };
    Fault::new(code, format!("the ledger's server: {}", refused.fact), refused.remedy.clone())
}

/// It names secrets and may name a program, so it is nobody else's to read or write.
fn settings(state: &Dir) -> Result<Settings> {
    let unusable = |why: String| {
        let remedy = "correct store.toml in the folder of this host's state, and let its owner alone read it";
        Fault::new(Code::StoreInvalid, format!("{SETTINGS_FILE} {why}"), remedy)
    };
    let file = match files::open_file(state, SETTINGS_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        other => other.map_err(|error| unusable(format!("cannot be opened: {error}")))?,
    };
    let unread = |error: io::Error| unusable(format!("cannot be read: {error}"));
    if file.metadata().map_err(unread)?.permissions().mode() & 0o077 != 0 {
        return Err(unusable("can be read by others".into()));
    }
    let mut text = String::new();
    file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text).map_err(unread)?;
    crate::parse::toml(&text).map_err(|why| unusable(format!("is malformed: {why}")))
}

fn another_key(which: &str) -> Fault {
    Fault::new(
        Code::StateMissing,
        format!("the ledger's hosts have a key in common, and this host has {which}"),
        "copy host.key from the state folder of a host of that ledger into this one's, before it trusts its first room",
    )
}

fn unexpected() -> Fault {
    Fault::new(
        Code::LedgerFailed,
        "glovebox-store answers something else than it was asked",
        "install the glovebox-store that came with this glovebox",
    )
}
