//! A small room of a retailer and a brand, the real program, and what every refusal must look like.
//!
//! A fixture is a folder of its own, so tests share nothing but the questions' bytes. What it knows of the room it
//! reads from the files, as an auditor would.

pub(crate) mod data;
pub(crate) mod forge;
pub(crate) mod ledger_server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use glovebox::{
    Clock, Holder, MemberKind, Outcome, Preview, Principal, Random, Request, Step, Verified, load_key, open_ledger,
    open_room,
};
use serde_json::Value;
use tempfile::TempDir;

/// Who approves, by party and person.
pub(crate) const PEOPLE: [(&str, &str); 2] = [("retailer", "ana"), ("brand", "dan")];

/// Much epsilon, so that little noise hides what is wrong; a small k and small lists, for a small room.
pub(crate) const CONTROLS: &str = "epsilon = 10.0, delta = 1e-6, k_min = 20, \
                                   lifetime = { epsilon = 100.0, delta = 1e-3 }, list = { min_size = 20, \
                                   min_overlap = 20, max_fraction = 1.0 }";

/// The question for a list, at a destination of the brand's.
pub(crate) const LIST: &[&str] = &[
    "--bind",
    "purchases=categories",
    "--set",
    "category=SOFT DRINKS",
    "--set",
    "heavy_from=2",
    "--destination",
    "sheets",
];

/// All that is told of a run that ended without a result after data was read.
const WITHHELD: &str = "WITHHELD: no result: the run ended after data was read, and is charged\n\
                        hint: let the room's auditor, if it has one, open the run's sealed part, which says why; \
                        `glovebox try` runs the question on made-up data\n";

/// A room that is ready for `agree`, and what its host remembers of it.
pub(crate) struct Fixture(TempDir);

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_controls(CONTROLS)
    }

    /// A room whose two parties state these controls.
    pub(crate) fn with_controls(controls: &str) -> Self {
        let room = Self::unsigned(controls);
        room.sign_registry();
        room
    }

    /// A room with an auditor, to whom runs seal why they have no result.
    pub(crate) fn audited(controls: &str) -> Self {
        let room = Self::unsigned(controls);
        room.glovebox(&["key", "auditor", "--json"]).succeeded();
        room.sign_registry();
        room
    }

    /// A room whose registry nobody has signed yet.
    pub(crate) fn unsigned(controls: &str) -> Self {
        let room = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["questions", "data/retailer", "data/brand"] {
            fs::create_dir_all(room.path(folder)).expect("a folder");
        }
        room.write("room.toml", include_str!("support/room.toml").replace("CONTROLS", controls).as_bytes());
        data::write(&room.path("data"));
        for (name, bytes) in questions() {
            room.write(&format!("questions/{name}"), bytes);
        }
        for (party, person) in PEOPLE {
            room.draft_key(party, person);
        }
        room.draft_service("retailer", "host", "runtime");
        room
    }

    /// Begins a room that nobody has signed yet anew, under another name.
    pub(crate) fn rename(&self, id: &str) {
        self.edit("room.toml", "id = \"grocery\"", &format!("id = \"{id}\""));
        for folder in ["registry", "keys"] {
            fs::remove_dir_all(self.path(folder)).expect("a folder");
        }
        for (party, person) in PEOPLE {
            self.draft_key(party, person);
        }
        self.draft_service("retailer", "host", "runtime");
        self.sign_registry();
    }

    /// Makes a person's key, and lets the parties sign the registry that has it.
    pub(crate) fn new_key(&self, party: &str, person: &str) {
        self.draft_key(party, person);
        self.sign_registry();
    }

    /// Makes a service's key, and lets the parties sign the registry that has it.
    pub(crate) fn new_service(&self, party: &str, service: &str, name: &str) {
        self.draft_service(party, service, name);
        self.sign_registry();
    }

    /// Makes a person's key, and puts it into the draft of the next registry.
    pub(crate) fn draft_key(&self, party: &str, person: &str) {
        self.draft(Principal::new(party, person), MemberKind::Person, &format!("{party}.{person}"));
    }

    /// Makes a service's key, and puts it into the draft of the next registry.
    pub(crate) fn draft_service(&self, party: &str, service: &str, name: &str) {
        self.draft(Principal::new(party, service), MemberKind::Service, name);
    }

    fn draft(&self, principal: Principal, kind: MemberKind, name: &str) {
        let path = self.path(&format!("keys/{name}.pem"));
        let random = &mut Random::from_os().expect("randomness");
        let holder = Holder { principal, kind, scopes: Vec::new() };
        glovebox::new_key(&self.dir(), &holder, &path, now(), random).expect("a key");
    }

    /// Lets ana and dan sign the draft of the registry, and everyone else until it is in force.
    pub(crate) fn sign_registry(&self) {
        let usual = PEOPLE.map(|(party, person)| format!("{party}.{person}"));
        let others = self.key_names().into_iter().filter(|name| name.contains('.') && !usual.contains(name));
        let mut is_in_force = false;
        for name in usual.iter().cloned().chain(others) {
            let key = load_key(&self.path(&format!("keys/{name}.pem"))).expect("a key");
            let (_, draft) = glovebox::sign_registry(&self.dir(), None, &key, now()).expect("a signature");
            is_in_force = draft.is_in_force;
            if is_in_force {
                break;
            }
        }
        assert!(is_in_force, "the registry's draft lacks more signatures");
        self.trust();
    }

    /// Lets the host trust the room's registry, as its operator does once.
    pub(crate) fn trust(&self) {
        let root = forge::sha256(&self.read("registry/1/registry.json"));
        if !self.path("log/checkpoint").exists() {
            glovebox::trust_room(&self.dir(), &self.state(), &root).expect("a host that trusts the room");
        }
    }

    /// The names of all private keys, in order: `PARTY.PERSON` of people.
    fn key_names(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("keys")).expect("keys").map(|entry| entry.expect("an entry").path());
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|ending| ending == "pem"))
            .map(|path| path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }

    /// The room's folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().join("room")
    }

    /// Where the host remembers the room: outside of it.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub(crate) fn dir(&self) -> cap_std::fs::Dir {
        open_room(&self.root()).expect("the room opens")
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.root().join(inner)
    }

    #[track_caller]
    pub(crate) fn read(&self, inner: &str) -> Vec<u8> {
        fs::read(self.path(inner)).unwrap_or_else(|error| panic!("{inner}: {error}"))
    }

    #[track_caller]
    pub(crate) fn read_text(&self, inner: &str) -> String {
        String::from_utf8(self.read(inner)).expect("text")
    }

    #[track_caller]
    pub(crate) fn write(&self, inner: &str, bytes: &[u8]) {
        fs::write(self.path(inner), bytes).unwrap_or_else(|error| panic!("{inner}: {error}"));
    }

    /// Replaces a piece of a text file that must be there.
    #[track_caller]
    pub(crate) fn edit(&self, inner: &str, from: &str, to: &str) {
        let text = self.read_text(inner);
        assert!(text.contains(from), "{inner} has no `{from}`");
        self.write(inner, text.replacen(from, to, 1).as_bytes());
    }

    /// The program, in this room.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glovebox"));
        command
            .current_dir(self.root())
            .env_remove("GLOVEBOX_LOG")
            .env("SHOP_PASSWORD", "swordfish")
            .arg("--state")
            .arg(self.state());
        command
    }

    pub(crate) fn glovebox(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command().args(arguments).output().expect("the program starts"))
    }

    /// Agreements that stand beside each other, on questions of the same cost of which none repeats another.
    pub(crate) fn four_evil_agreements(&self) -> Vec<String> {
        let agreed = |unit: u32| {
            let unit = format!("only_unit_with={unit}");
            let arguments = ["--set", "attack=none", "--set", &unit, "--destination", "reports", "--beside"];
            self.agreed("evil", &arguments)
        };
        (100..104).map(agreed).collect()
    }

    /// Composes an agreement on a question; returns its folder.
    #[track_caller]
    pub(crate) fn agree(&self, question: &str, arguments: &[&str]) -> String {
        let component = format!("questions/{question}.wasm");
        let composed = self.glovebox(&[&["agree", &component, "--json"], arguments].concat());
        composed.succeeded()["agreement"].as_str().expect("a folder").to_owned()
    }

    /// An agreement that must not even be composed: nothing is written, nobody could sign it.
    #[track_caller]
    pub(crate) fn not_agreed(&self, question: &str, arguments: &[&str], code: &str, exit_code: i32) {
        let agreements = || fs::read_dir(self.path("agreements")).into_iter().flatten().count();
        let before = agreements();
        let component = format!("questions/{question}.wasm");
        self.glovebox(&[&["agree", &component, "--json"], arguments].concat()).failed(code, exit_code);
        assert_eq!(agreements(), before, "{code}: an agreement was written");
    }

    #[track_caller]
    pub(crate) fn approve(&self, agreement: &str, who: &str) {
        let key = format!("keys/{who}.pem");
        self.glovebox(&["approve", agreement, "--key", &key, "--json"]).succeeded();
    }

    /// An agreement that both parties approved.
    #[track_caller]
    pub(crate) fn agreed(&self, question: &str, arguments: &[&str]) -> String {
        let agreement = self.agree(question, arguments);
        for (party, person) in PEOPLE {
            self.approve(&agreement, &format!("{party}.{person}"));
        }
        agreement
    }

    pub(crate) fn run(&self, agreement: &str) -> Ran {
        self.glovebox(&["run", agreement, "--json", "--threads", "1", "--sort-memory", "64"])
    }

    /// Runs an agreement within this process, at a time and with an eye on its steps. There is a receipt.
    pub(crate) fn run_here(&self, agreement: &str, clock: Clock, progress: &dyn Fn(Step)) -> Outcome {
        let request = Request {
            room: &self.root(),
            agreement,
            key: &load_key(&self.path("keys/runtime.pem")).expect("a key"),
            threads: 1,
            groups: 1,
            sort_memory_bytes: 64 << 20,
            state: &self.state(),
            store: None,
            nonce: None,
            minutes: 60,
            clock,
            worker: Some(Path::new(env!("CARGO_BIN_EXE_glovebox"))),
        };
        glovebox::run(&request, progress).expect("a receipt")
    }

    /// Verifies a receipt now, with whatever first version of the registry there is.
    pub(crate) fn verify(&self, receipt: &str) -> glovebox::Result<Verified> {
        glovebox::verify(&self.dir(), receipt, None, now())
    }

    /// Runs an agreement that must be released, and verifies the receipt.
    #[track_caller]
    pub(crate) fn released(&self, agreement: &str) -> Released {
        let ran = self.run(agreement);
        let json = ran.succeeded();
        assert_eq!(json["decision"], "released");
        let receipt = text(&json["receipt"]);
        let verified = self.verify(&receipt).expect("the receipt verifies");
        assert_eq!(
            (verified.decision.as_str(), verified.run_id.as_str()),
            ("released", json["run_id"].as_str().unwrap())
        );
        let output = text(&json["output"]["path"]);
        let table = glovebox::preview(&self.path(&output), usize::MAX).expect("the output is readable");
        assert_eq!(json["output"]["rows"], table.total);
        Released { json: json.clone(), record: self.record(&receipt), receipt, output, table }
    }

    /// Runs an agreement that must be refused before it costs anything, and checks all that a refusal promises.
    #[track_caller]
    pub(crate) fn refused(&self, agreement: &str, code: &str, exit_code: i32) -> Ran {
        let (outputs, spent) = (self.outputs(), self.spent());
        let ran = self.run(agreement);
        self.is_refused(&ran, code, exit_code);
        assert_eq!(ran.json()["charges"], serde_json::json!([]), "{code}: charged");
        assert_eq!(self.spent(), spent, "{code}: the ledger has changed");
        assert_eq!(self.outputs(), outputs, "{code}: something stands in the destination");
        ran
    }

    /// Runs an agreement of an audited room that must end without a result once data is read. Whatever the cause, it is
    /// told in the same words, paid for, and leaves nothing; why, the auditor alone is told.
    #[track_caller]
    pub(crate) fn withheld(&self, agreement: &str, cause: &str) -> Ran {
        let (outputs, spent) = (self.outputs(), self.spent());
        let ran = self.run(agreement);
        self.is_refused(&ran, "WITHHELD", 5);
        assert_eq!(ran.stderr, WITHHELD, "{cause}: told in other words");
        assert_ne!(ran.json()["charges"], serde_json::json!([]), "{cause}: not charged");
        assert_ne!(self.spent(), spent, "{cause}: free");
        assert_eq!(self.outputs(), outputs, "{cause}: something stands in the destination");
        self.is_caused_by(&text(&ran.json()["receipt"]), cause);
        ran
    }

    /// Opens the sealed part of a run as the auditor does, and compares the code of why there is no result.
    #[track_caller]
    pub(crate) fn is_caused_by(&self, receipt: &str, cause: &str) {
        let sealed = self.sealed(receipt);
        let told = sealed["cause"].as_str().and_then(|told| told.split(':').next());
        assert_eq!(told, Some(cause), "{sealed}");
    }

    /// What a run sealed to the auditor.
    #[track_caller]
    pub(crate) fn sealed(&self, receipt: &str) -> Value {
        let identity = self.read_text("keys/auditor.txt");
        let identity = identity.lines().find(|line| !line.starts_with('#')).expect("an identity");
        let identity: age::x25519::Identity = identity.parse().expect("an age identity");
        let sealed = self.read(&receipt.replace(".dsse.json", ".sealed.age"));
        let opened = age::decrypt(&identity, &sealed).expect("it is sealed to the auditor");
        serde_json::from_slice(&opened).expect("JSON")
    }

    /// One object on stdout, two lines on stderr, the exit code of the stage, and a receipt that verifies.
    #[track_caller]
    pub(crate) fn is_refused(&self, ran: &Ran, code: &str, exit_code: i32) {
        ran.failed(code, exit_code);
        let json = ran.json();
        assert_eq!(json["decision"], "refused");
        let verified = self.verify(&text(&json["receipt"])).expect("the refusal's receipt verifies");
        assert_eq!((verified.decision.as_str(), verified.code.as_deref()), ("refused", Some(code)));
        assert_eq!(verified.run_id, text(&json["run_id"]));
    }

    /// Gives the data other bytes with the same meaning: a run on them is no repeat.
    pub(crate) fn renew_data(&self) {
        data::renew(&self.path("data"));
    }

    /// Takes a result away, so that the next run of the same agreement has its place.
    #[track_caller]
    pub(crate) fn take(&self, released: &Released) {
        for file in [&released.output, &format!("{}.opening.json", released.output)] {
            fs::remove_file(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    /// The record that a receipt carries.
    pub(crate) fn record(&self, receipt: &str) -> Value {
        serde_json::from_slice(&forge::payload(&self.read(receipt))).expect("a statement is JSON")
    }

    /// Every file below `out`, hidden ones too, by path.
    pub(crate) fn outputs(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path("out"), &mut files);
        files
    }

    /// The host's ledger: of all its rooms.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.state().join("ledger.sqlite")
    }

    /// Epsilon in millionths and bits per identifier that every account has spent. A host that trusts no room yet has no
    /// ledger, and nothing is spent on it.
    pub(crate) fn spent(&self) -> BTreeMap<String, (u64, u32)> {
        if !self.ledger().exists() {
            return BTreeMap::new();
        }
        let lines = open_ledger(&self.state()).and_then(|ledger| ledger.lines()).expect("the ledger opens");
        lines.into_iter().map(|line| (line.account, (line.epsilon_micros.micros(), line.bits_per_id))).collect()
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    Clock::System.now()
}

/// The files below a folder. Symlinks are not followed: what they lead to is not in the room.
fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => collect(&path, files),
            kind if kind.is_file() => drop(files.insert(path.clone(), fs::read(&path).expect("readable"))),
            _ => {}
        }
    }
}

/// A run that was released.
pub(crate) struct Released {
    pub(crate) json: Value,
    /// The receipt's path and its statement.
    pub(crate) receipt: String,
    pub(crate) record: Value,
    /// The output's path and its content.
    pub(crate) output: String,
    pub(crate) table: Preview,
}

impl Released {
    /// The cells of a column as numbers; a suppressed one is nothing.
    #[track_caller]
    pub(crate) fn numbers(&self, column: &str) -> Vec<Option<f64>> {
        let index = self.table.columns.iter().position(|name| name == column).expect("the column is there");
        let number = |cell: &Option<String>| cell.as_ref().map(|text| text.parse().expect("a number"));
        self.table.rows.iter().map(|row| number(&row[index])).collect()
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints text");
        let exit_code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", output.status));
        Self { exit_code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let json: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert!(json.is_object() && self.stdout.trim_end().lines().count() == 1, "{self:?}");
        json
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> Value {
        assert_eq!((self.exit_code, self.stderr.as_str()), (0, ""), "{self:?}");
        let json = self.json();
        assert_eq!(json["ok"], true);
        json
    }

    /// The two lines of a fault on stderr, the same on stdout, and the exit code.
    #[track_caller]
    pub(crate) fn failed(&self, code: &str, exit_code: i32) {
        let json = self.json();
        assert_eq!((json["code"].as_str(), self.exit_code), (Some(code), exit_code), "{self:?}");
        assert_eq!(json["ok"], false);
        let [fact, remedy] = [&json["fact"], &json["remedy"]].map(text);
        assert!(!fact.is_empty() && !remedy.is_empty() && !fact.ends_with('.') && !remedy.ends_with('.'), "{self:?}");
        assert_eq!(self.stderr, format!("{code}: {fact}\nhint: {remedy}\n"));
        assert_eq!(self.stderr.lines().count(), 2, "{self:?}");
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// The checkout.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout")
}

/// The example questions, built from the present tree: file name and bytes.
fn questions() -> &'static [(String, Vec<u8>)] {
    static QUESTIONS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    QUESTIONS.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "xtask", "--", "guests"])
            .current_dir(checkout())
            .output()
            .expect("cargo starts");
        assert!(built.status.success(), "cargo xtask guests: {}", String::from_utf8_lossy(&built.stderr));
        // The task writes there wherever cargo's own target folder lies.
        let folder = checkout().join("target/questions");
        let file = |name: String| (name.clone(), fs::read(folder.join(&name)).expect("a built question"));
        let names =
            ["census", "evil", "evil-keys", "evil-list", "nonredeemers", "nothing", "reach", "spend"].into_iter();
        names.flat_map(|name| ["wasm", "toml"].map(|ending| file(format!("{name}.{ending}")))).collect()
    })
}
