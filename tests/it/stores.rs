//! Hosts that have a ledger in common on a real server: one budget and one history, and what becomes of a run whose server
//! is lost. What a ledger promises over either store is tested beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use glovebox::{Clock, Code, Request, Step, load_key};
use serde_json::Value;

use crate::catalogue::{EXACT, Market, NOISY, Row, SUM, TARGET, households, program};
use crate::support::forge::sha256;
use crate::support::ledger_server::{Database, Postgres, keeper, write_settings};
use crate::support::{Ran, text};

/// What a run costs each account.
const COST: u64 = 1_000_000;

/// A host with a room of its own, whose ledger is on a server.
struct Host {
    market: Market,
    place: String,
}

impl Host {
    /// The first host of a ledger.
    fn first(controls: &str, people: &[Row], database: &Database<'_>) -> Self {
        let host = Self { market: Market::new(controls, people), place: database.place() };
        fs::create_dir(host.state()).unwrap();
        host.trust();
        host
    }

    /// Another host of that ledger, with the key of the first.
    fn beside(&self, controls: &str, people: &[Row]) -> Self {
        let host = Self { market: Market::new(controls, people), place: self.place.clone() };
        fs::create_dir(host.state()).unwrap();
        fs::copy(self.state().join("host.key"), host.state().join("host.key")).unwrap();
        host.trust();
        host
    }

    fn trust(&self) {
        write_settings(&self.state(), &format!("program = {:?}\n", keeper()));
        let root = sha256(&self.market.room.read("registry/1/registry.json"));
        self.glovebox(&["state", "trust", &root, "--json"]).succeeded();
    }

    fn state(&self) -> PathBuf {
        self.market.room.root().with_file_name("host")
    }

    fn command(&self) -> Command {
        let mut command = program(&self.market.room.root(), &self.state());
        command.args(["--store", &self.place]);
        command
    }

    fn glovebox(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command().args(arguments).output().expect("the program starts"))
    }

    fn run(&self, agreement: &str) -> Ran {
        self.glovebox(&["run", agreement, "--json", "--threads", "1"])
    }

    /// A question for each letter: they cost the same, and none repeats another.
    fn question(&self, letter: char) -> String {
        question(&self.market, letter)
    }

    /// What the account has spent, as any of the ledger's hosts shows it.
    fn spent(&self) -> u64 {
        let shown = self.glovebox(&["ledger", "show", "--json"]).succeeded();
        let accounts = shown["accounts"].as_array().expect("accounts");
        accounts.iter().map(|account| account["epsilon_micros"].as_u64().expect("a number")).max().unwrap_or(0)
    }
}

fn lifetime(runs: u32) -> String {
    NOISY.replace("epsilon = 100.0", &format!("epsilon = {runs}.0"))
}

fn question(market: &Market, letter: char) -> String {
    let name = format!("question-{letter}");
    let sum = SUM.replace("100.0]", &format!("{}.0]", 50 + u32::from(letter) - u32::from('a')));
    market.question(&name, &["-1"], &sum);
    market.agreed(&name, "people")
}

/// The same data asked on two hosts, each with a room and a state of its own.
#[test]
fn hosts_of_one_lineage_have_one_budget() {
    // Each host with a ledger in its own folder.
    let alone = [Market::new(&lifetime(2), &households(100)), Market::new(&lifetime(2), &households(100))];
    let released = |market: &Market| {
        let agreements = ['a', 'b', 'c'].map(|letter| question(market, letter));
        agreements.iter().filter(|agreement| market.room.run(agreement).exit_code == 0).count()
    };
    let overspent: usize = alone.iter().map(released).sum();
    assert_eq!(overspent, 4, "the attack is dead");

    let database = Postgres::shared().database();
    let one = Host::first(&lifetime(2), &households(100), &database);
    let other = one.beside(&lifetime(2), &households(100));
    assert_eq!(one.run(&one.question('a')).exit_code, 0);
    assert_eq!(other.run(&other.question('b')).exit_code, 0);
    for (host, letter) in [(&other, 'c'), (&one, 'd')] {
        host.run(&host.question(letter)).failed("BUDGET_EXHAUSTED", 5);
        assert_eq!(host.spent(), 2 * COST);
    }
    let agreement = other.question('e');
    let quote = other.glovebox(&["ledger", "quote", &agreement, "--json"]).succeeded();
    assert_eq!(quote["runs_left"][0], 0, "{quote}");
}

/// Eight processes of two hosts at once, on a budget for three.
#[test]
fn processes_of_two_hosts_never_overspend() {
    let database = Postgres::shared().database();
    let one = Host::first(&lifetime(3), &households(100), &database);
    let other = one.beside(&lifetime(3), &households(100));
    let runs: Vec<_> = ('a'..='h').zip([&one, &other].into_iter().cycle()).collect();
    let runs: Vec<_> = runs.into_iter().map(|(letter, host)| (host, host.question(letter))).collect();
    let start = |(host, agreement): &(&Host, String)| {
        let mut command = host.command();
        command.args(["run", agreement, "--json", "--threads", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    };
    let running: Vec<_> = runs.iter().map(start).collect();
    let ran: Vec<Ran> = running.into_iter().map(|child| Ran::of(child.wait_with_output().expect("an end"))).collect();
    let released = ran.iter().filter(|ran| ran.exit_code == 0).count();
    let exhausted = ran.iter().filter(|ran| ran.json()["code"] == "BUDGET_EXHAUSTED").count();
    assert_eq!((released, exhausted, one.spent()), (3, 5, 3 * COST), "{ran:?}");
}

/// An answer leaves once, whichever host is asked again.
#[test]
fn an_identical_run_on_another_host_is_free() {
    let database = Postgres::shared().database();
    let one = Host::first(&lifetime(1), &households(100), &database);
    let other = one.beside(&lifetime(1), &households(100));
    let first = one.run(&one.question('a')).succeeded();
    let again = other.run(&other.question('a')).succeeded();
    let output = |host: &Host, run: &Value| host.market.room.read(&text(&run["output"]["path"]));
    assert_eq!(output(&one, &first), output(&other, &again));
    let record = other.market.room.record(&text(&again["receipt"]));
    assert_eq!(record["predicate"]["repeat_of"], first["run_id"]);
    assert_eq!(one.spent(), COST);
    // What the server has is what was released, or nothing leaves.
    database.sql("UPDATE answer SET bytes = 'other'");
    fs::remove_dir_all(other.market.room.path("out/sheets")).unwrap();
    fs::create_dir_all(other.market.room.path("out/sheets")).unwrap();
    other.run("agreements/question-a-r1").failed("LEDGER_FAILED", 7);
}

/// Exact numbers over two sets that differ by one unit, one on each host.
#[test]
fn exact_releases_of_two_hosts_are_compared() {
    let everybody = households(100);
    let but_one: Vec<Row> = everybody.iter().filter(|row| row.household != TARGET).copied().collect();
    let ask = |market: &Market| {
        market.question("totals", &["-1"], SUM);
        market.agreed("totals", "people")
    };
    // A host that knows of its own releases alone.
    let alone = Market::new(EXACT, &but_one);
    assert_eq!(alone.room.run(&ask(&alone)).exit_code, 0, "the attack is dead");

    let database = Postgres::shared().database();
    let one = Host::first(EXACT, &everybody, &database);
    let other = one.beside(EXACT, &but_one);
    one.run(&ask(&one.market)).succeeded();
    other.run(&ask(&other.market)).failed("DIFFERENCE_TOO_SMALL", 5);
    // Its own copy of what the first one released may be lost, and is brought again; what the server has must be that.
    fs::remove_dir_all(other.state().join("contributors")).unwrap();
    other.market.write_people(&households(200));
    let third = ask(&other.market);
    database.sql("UPDATE contributors SET bytes = '\\x00'");
    other.run(&third).failed("HISTORY_FAILED", 7);
}

/// A host notices that a backup took the place of what it has seen.
#[test]
fn a_database_from_a_backup_is_noticed() {
    let database = Postgres::shared().database();
    let mut host = Host::first(&lifetime(1), &households(100), &database);
    let backup = database.copy();
    host.run(&host.question('a')).succeeded();
    host.place = backup.place();
    assert_eq!(host.spent(), 0, "the attack is dead: the backup remembers");
    host.run(&host.question('b')).failed("STATE_ROLLBACK", 3);
    host.place = database.place();
    host.run("agreements/question-b-r1").failed("BUDGET_EXHAUSTED", 5);
}

/// The server's power is cut at each step of a run: what was not committed costs nothing, what was is paid for, nothing
/// leaves, and the room goes on afterwards.
#[test]
fn a_run_whose_server_is_lost_is_never_free_and_released() {
    let server = Postgres::start();
    let database = server.database();
    let host = Host::first(&lifetime(100), &households(100), &database);
    let steps = [
        (Step::Gate, 0),
        (Step::Provision, 0),
        (Step::Sandbox, COST),
        (Step::Privacy, COST),
        (Step::Destination, COST),
    ];
    let (root, state) = (host.market.room.root(), host.state());
    let key = load_key(&host.market.room.path("keys/runtime.pem")).expect("a key");
    for ((lost_at, cost), letter) in steps.into_iter().zip('a'..) {
        let (agreement, spent) = (host.question(letter), host.spent());
        let outputs = host.market.room.outputs();
        let request = Request {
            groups: 1,
            room: &root,
            agreement: &agreement,
            key: &key,
            threads: 1,
            sort_memory_bytes: 64 << 20,
            state: &state,
            store: Some(&host.place),
            nonce: None,
            minutes: 60,
            clock: Clock::System,
            worker: Some(env!("CARGO_BIN_EXE_glovebox").as_ref()),
        };
        let cut = |step: Step| {
            if step == lost_at {
                server.tell("stop");
            }
        };
        let outcome = glovebox::run(&request, &cut).expect("a receipt");
        let fault = outcome.result.expect_err("a result without a ledger");
        assert_eq!(fault.code(), Code::StoreUnreachable, "{lost_at:?}: {fault}");
        server.tell("start");
        assert_eq!(host.market.room.outputs(), outputs, "{lost_at:?}: something has left");
        assert_eq!(host.spent() - spent, cost, "{lost_at:?}");
        assert_eq!(outcome.charges.is_empty(), cost == 0, "{lost_at:?}");
    }
    let spent = host.spent();
    host.run(&host.question('z')).succeeded();
    assert_eq!(host.spent() - spent, COST);
}

/// The connection is lost while the run says that it begins to read: what became of that it cannot know.
#[test]
fn a_run_that_cannot_know_whether_it_is_committed_is_charged() {
    let database = Postgres::shared().database();
    let host = Host::first(&lifetime(100), &households(100), &database);
    database.sql(
        r#"CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
           CREATE TRIGGER cut BEFORE INSERT ON entry FOR EACH ROW
           WHEN (NEW.text LIKE '%"state":"committed"%') EXECUTE FUNCTION cut()"#,
    );
    let ran = host.run(&host.question('a'));
    ran.failed("STORE_UNREACHABLE", 7);
    assert_eq!(host.spent(), COST);
    let record = host.market.room.record(&text(&ran.json()["receipt"]));
    assert_ne!(record["predicate"]["charges"], Value::Array(Vec::new()), "{record}");
}

/// A user that may add to the ledger and change nothing of it but its head.
const KEEPER: &str = "
    DO $$ BEGIN CREATE ROLE keeper LOGIN PASSWORD 'swordfish'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    GRANT USAGE ON SCHEMA glovebox TO keeper;
    GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA glovebox TO keeper;
    REVOKE INSERT ON glovebox.head FROM keeper;
    GRANT UPDATE (entries, sha256) ON glovebox.head TO keeper";

#[test]
fn a_server_that_does_not_let_a_host_in_is_told_in_two_lines() {
    let database = Postgres::shared().database();
    let mut host = Host::first(&lifetime(1), &households(100), &database);
    database.sql(KEEPER);
    let settings = |lines: &str| write_settings(&host.state(), &format!("program = {:?}\n{lines}\n", keeper()));
    let show = |place: &str, password: &str| {
        let mut command = program(&host.market.room.root(), &host.state());
        command.args(["--store", place, "ledger", "show", "--json"]).env("LEDGER_PASSWORD", password);
        Ran::of(command.output().expect("the program starts"))
    };
    let place = database.place();
    for (place, code, exit_code) in [
        ("mysql://glovebox@localhost/ledger", "STORE_INVALID", 2),
        ("postgres://glovebox:hunter2@localhost/ledger", "STORE_INVALID", 2),
        ("postgres://localhost/ledger", "STORE_INVALID", 2),
        // Over a network, and nothing says who vouches for the server.
        ("postgres://glovebox@127.0.0.1:1/ledger", "STORE_INVALID", 2),
        ("postgres://glovebox@127.0.0.1:1/ledger?sslmode=disable", "STORE_UNREACHABLE", 7),
        ("postgres://glovebox@/ledger?host=/nowhere", "STORE_UNREACHABLE", 7),
        (&place.replace("/ledger", "/no-ledger"), "STORE_UNREACHABLE", 7),
    ] {
        let ran = show(place, "");
        ran.failed(code, exit_code);
        assert!(!ran.stderr.contains("hunter2"), "a password is told: {ran:?}");
    }

    let place = database.place_of("keeper");
    show(&place, "swordfish").failed("STORE_UNREACHABLE", 7);
    settings("password = { environment = 'LEDGER_PASSWORD' }");
    show(&place, "a guess").failed("STORE_UNREACHABLE", 7);
    show(&place, "swordfish").succeeded();
    settings("password = { environment = 'NO_SUCH_VARIABLE' }");
    show(&place, "swordfish").failed("STORE_INVALID", 2);
    let file = host.state().join("password");
    fs::write(&file, "swordfish\n").unwrap();
    settings(&format!("password = {{ file = {file:?} }}"));
    for (mode, is_allowed) in [(0o644, false), (0o600, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(show(&place, "").exit_code == 0, is_allowed, "{mode:o}");
    }
    settings("pasword = { environment = 'LEDGER_PASSWORD' }");
    show(&place, "swordfish").failed("STORE_INVALID", 2);
    settings(&format!("password = {{ file = {file:?} }}"));
    fs::set_permissions(host.state().join("store.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    show(&place, "").failed("STORE_INVALID", 2);
    fs::set_permissions(host.state().join("store.toml"), fs::Permissions::from_mode(0o600)).unwrap();

    // Those rights are enough for a run, and not for a budget that is fresh.
    host.place = place;
    host.run(&host.question('a')).succeeded();
    assert_eq!(host.spent(), COST);
    let forget = "SET ROLE keeper; DELETE FROM glovebox.entry";
    let told = database.sql(&format!("DO $$ BEGIN {forget}; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"));
    assert_eq!((told.as_str(), host.spent()), ("DO", COST));
}

/// Whoever is on the way to the server reads nothing, and nobody else passes for it.
#[test]
fn over_a_network_the_server_proves_its_name() {
    let server = Postgres::start();
    let database = server.database();
    let host = Host::first(&lifetime(1), &households(100), &database);
    database.sql(KEEPER);
    // The server's own user makes its key, of which nobody else could give it one.
    database.sql(
        "COPY (SELECT) TO PROGRAM 'for name in authority stranger; do openssl req -x509 -newkey rsa:2048 -nodes \
         -keyout $name.key -out $name.pem -subj /CN=$name; done; \
         openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server; chmod 600 server.key; \
         echo subjectAltName=DNS:localhost >server.ext; openssl x509 -req -in server.csr -CA authority.pem \
         -CAkey authority.key -CAcreateserial -extfile server.ext -out server.crt'",
    );
    for setting in ["listen_addresses = '127.0.0.1'", "ssl = on"] {
        database.sql(&format!("ALTER SYSTEM SET {setting}"));
    }
    let folder = PathBuf::from(database.sql("SHOW data_directory"));
    server.tell("stop");
    server.tell("start");
    let show = |name: &str, authority: &str| {
        let authority = folder.join(authority);
        let settings = "password = { environment = 'LEDGER_PASSWORD' }";
        let settings = format!("program = {:?}\n{settings}\nroot_certificate = {authority:?}\n", keeper());
        write_settings(&host.state(), &settings);
        let mut command = program(&host.market.room.root(), &host.state());
        command.args(["--store", &database.place_at("keeper", name), "ledger", "show", "--json"]);
        Ran::of(command.env("LEDGER_PASSWORD", "swordfish").output().expect("the program starts"))
    };
    show("localhost", "authority.pem").succeeded();
    show("127.0.0.1", "authority.pem").failed("STORE_UNREACHABLE", 7);
    show("localhost", "stranger.pem").failed("STORE_UNREACHABLE", 7);
    show("localhost", "no-such.pem").failed("STORE_INVALID", 2);
}
