//! What a ledger promises, over both stores: a file of one host, and a server that hosts have in common.

use std::path::Path;

use super::super::accountant::Loss;
use super::super::contributors::{Denial, Digests, History, Release, ReleasedSet, SetKind};
use super::*;

#[path = "../../../../tests/it/support/ledger_server.rs"]
#[allow(dead_code, reason = "tests of the whole program have it as well, and use the rest of it")]
mod ledger_server;

use ledger_server::{Database, Postgres};

/// A host and the store of its ledger.
struct Site {
    state: tempfile::TempDir,
    database: Option<Database<'static>>,
}

impl Site {
    fn in_a_file() -> Self {
        Self::new(None)
    }

    fn on_a_server() -> Self {
        Self::new(Some(Postgres::shared().database()))
    }

    fn new(database: Option<Database<'static>>) -> Self {
        let site = Self { state: tempfile::tempdir().unwrap(), database };
        site.run_by(ledger_server::keeper());
        Ledger::create(&site.dir(), site.place().as_deref()).unwrap();
        site
    }

    /// Says which program keeps the ledger.
    fn run_by(&self, program: &Path) {
        ledger_server::write_settings(self.state.path(), &format!("program = {program:?}\n"));
    }

    fn dir(&self) -> Dir {
        crate::open_room(self.state.path()).unwrap()
    }

    fn place(&self) -> Option<String> {
        self.database.as_ref().map(Database::place)
    }

    fn open(&self) -> Result<Ledger> {
        Ledger::open(&self.dir(), self.place().as_deref())
    }

    fn ledger(&self) -> Ledger {
        self.open().unwrap()
    }

    /// Changes what is stored, past the ledger.
    fn alter(&self, sql: &str) {
        match &self.database {
            Some(database) => drop(database.sql(sql)),
            None => {
                let file = self.state.path().join("ledger.sqlite");
                rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
            }
        }
    }
}

/// Each test once over each store.
macro_rules! over_both_stores {
    ($($test:ident,)+) => {
        mod in_a_file {
            $(#[test] fn $test() { super::$test(super::Site::in_a_file); })+
        }

        mod on_a_server {
            $(#[test] fn $test() { super::$test(super::Site::on_a_server); })+
        }
    };
}

over_both_stores! {
    a_reservation_outlives_the_process_and_counts_as_spent,
    only_what_is_not_committed_is_given_back,
    all_accounts_are_charged_or_none,
    a_run_is_charged_once,
    an_answer_is_the_one_that_was_released_first,
    a_changed_or_missing_entry_is_noticed,
    a_shorter_ledger_does_not_extend_a_longer_one,
    many_writers_at_once_never_overspend,
    what_follows_on_another_head_is_not_added,
    a_ledger_that_is_made_twice_is_one,
    charges_of_another_host_are_taken_over_once,
}

/// Without delta there is no other way to add up than adding.
fn charge(epsilon: u64, lifetime: u64) -> Charge {
    let cost = Cost {
        epsilon_micros: Epsilon::from_micros(epsilon),
        delta_femtos: Delta::default(),
        key_delta_femtos: Delta::default(),
        losses: vec![Loss::Pure { epsilon_micros: epsilon }],
        bits_per_id: 0,
    };
    let lifetime =
        Lifetime { epsilon_micros: Epsilon::from_micros(lifetime), delta_femtos: Delta::default(), bits_per_id: 0 };
    Charge { account: "retailer, per household".into(), cost, lifetime }
}

fn kept(answer: &[u8]) -> Kept<'_> {
    Kept { question: "key", answer, sets_sha256: None }
}

fn spent(ledger: &Ledger) -> u64 {
    ledger.lines().unwrap().iter().map(|line| line.epsilon_micros.micros()).sum()
}

fn a_reservation_outlives_the_process_and_counts_as_spent(site: fn() -> Site) {
    let site = site();
    site.ledger().reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    let mut ledger = site.ledger();
    assert_eq!(spent(&ledger), 400);
    ledger.reserve("other room", "run-2", &[charge(600, 1_000)]).unwrap();
    let fault = ledger.reserve("room", "run-3", &[charge(1, 1_000)]).unwrap_err();
    assert_eq!((fault.code(), spent(&ledger)), (Code::BudgetExhausted, 1_000));
}

fn only_what_is_not_committed_is_given_back(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    ledger.cancel("room", "run-1").unwrap();
    assert_eq!(spent(&ledger), 0);
    ledger.reserve("room", "run-2", &[charge(400, 1_000)]).unwrap();
    ledger.commit("room", "run-2").unwrap();
    assert!(ledger.cancel("room", "run-2").is_err());
    assert!(ledger.commit("room", "run-2").is_err(), "a run is committed once");
    assert!(ledger.release("room", "run-1", &kept(b"answer")).is_err(), "a cancelled run releases nothing");
    assert!(ledger.commit("room", "run-3").is_err(), "what is not reserved cannot be committed");
    assert_eq!(spent(&ledger), 400);
}

fn all_accounts_are_charged_or_none(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    let poor = Charge { account: "other, per household".into(), ..charge(2, 1) };
    assert!(ledger.reserve("room", "run-1", &[charge(1, 1_000), poor]).is_err());
    assert_eq!(spent(&ledger), 0);
}

fn a_run_is_charged_once(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    ledger.reserve("room", "run-1", &[charge(1, 1_000)]).unwrap();
    assert!(ledger.reserve("room", "run-1", &[charge(1, 1_000)]).is_err());
    assert_eq!(spent(&ledger), 1);
}

fn an_answer_is_the_one_that_was_released_first(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    for (run, answer) in [("run-1", "one"), ("run-2", "two")] {
        ledger.reserve("room", run, &[charge(1, 1_000)]).unwrap();
        ledger.commit("room", run).unwrap();
        ledger.release("room", run, &kept(answer.as_bytes())).unwrap();
    }
    let stored = ledger.answer("key").unwrap().unwrap();
    assert_eq!((stored.run_id.as_str(), stored.bytes.as_slice()), ("run-1", b"one".as_slice()));
    assert!(ledger.answer("another").unwrap().is_none());
    site.alter("UPDATE answer SET run = 'run-2'");
    assert_eq!(ledger.answer("key").unwrap_err().code(), Code::LedgerFailed);
}

fn a_changed_or_missing_entry_is_noticed(site: fn() -> Site) {
    for change in [
        "UPDATE entry SET text = replace(text, '400', '4') WHERE number = 1",
        "DELETE FROM entry WHERE number = 1",
        "UPDATE entry SET number = 7 WHERE number = 2",
    ] {
        let site = site();
        let mut ledger = site.ledger();
        ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
        ledger.commit("room", "run-1").unwrap();
        site.alter(change);
        assert_eq!(site.open().unwrap_err().code(), Code::LedgerFailed, "{change}");
    }
}

fn a_shorter_ledger_does_not_extend_a_longer_one(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    let empty = ledger.head().unwrap();
    ledger.reserve("room", "run-1", &[charge(1, 1_000)]).unwrap();
    let (head, of_another) = (ledger.head().unwrap(), LedgerHead { entries: 1, sha256: "00".into() });
    let extends = |ledger: &Ledger| [&empty, &head, &of_another].map(|head| ledger.extends(head).unwrap());
    assert_eq!(extends(&ledger), [true, true, false]);
    site.alter("DELETE FROM entry");
    assert_eq!(extends(&ledger), [true, false, false]);
}

/// Many Gaussian runs cost less together than their epsilons add up to; few Laplace runs cost what they add up to.
#[test]
fn an_account_pays_by_the_better_of_two_ways_to_add_up() {
    let affordable = |losses: Vec<Loss>, epsilon: u64, delta: u64| {
        let cost = Cost {
            epsilon_micros: Epsilon::from_micros(epsilon),
            delta_femtos: Delta::from_femtos(delta),
            key_delta_femtos: Delta::from_femtos(0),
            losses,
            bits_per_id: 0,
        };
        let charge = Charge { cost: cost.clone(), ..charge(0, 10_000_000) };
        let charge = Charge {
            lifetime: Lifetime { delta_femtos: Delta::from_femtos(1_000_000_000), ..charge.lifetime },
            ..charge
        };
        (0..200).take_while(|runs| charge.check_affordable(std::iter::repeat_n(&cost, *runs)).is_ok()).count()
    };
    // (1, 1e-9) by Gaussian noise, and epsilon 1 by Laplace noise in one and in eleven parts.
    let gaussian = affordable(vec![Loss::Gaussian { rho_picos: 14_973_000_000 }], 1_000_000, 1_000_000);
    assert!((80..110).contains(&gaussian), "{gaussian}");
    assert_eq!(affordable(vec![Loss::Pure { epsilon_micros: 1_000_000 }], 1_000_000, 0), 10);
    assert!(affordable(vec![Loss::Pure { epsilon_micros: 90_909 }; 11], 1_000_000, 0) > 30);
}

/// Writing back what follows from what was read, whoever has written meanwhile, would overspend here by about a quarter.
fn many_writers_at_once_never_overspend(site: fn() -> Site) {
    let site = site();
    let (state, place) = (site.state.path(), site.place());
    let write = |writer: u32| {
        let mut ledger = Ledger::open(&crate::open_room(state).unwrap(), place.as_deref()).unwrap();
        (0..40).filter(|run| ledger.reserve("room", &format!("{writer}-{run}"), &[charge(10, 1_000)]).is_ok()).count()
    };
    let paid: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!((paid, spent(&site.ledger())), (100, 1_000));
}

/// Its number would be free.
fn what_follows_on_another_head_is_not_added(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    let head = ledger.head().unwrap();
    let next = Entry::new("room", "run-1", State::Committed);
    for other in [LedgerHead { entries: 2, ..head.clone() }, LedgerHead { sha256: "00".into(), ..head.clone() }] {
        let rows = chain(&other, std::slice::from_ref(&next)).unwrap();
        assert!(!ledger.0.append(&other, &rows, None).unwrap(), "{other:?}");
        assert_eq!(ledger.head().unwrap(), head);
    }
    assert!(ledger.0.append(&head, &chain(&head, &[next]).unwrap(), None).unwrap());
}

fn a_ledger_that_is_made_twice_is_one(site: fn() -> Site) {
    let site = site();
    site.ledger().reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    Ledger::create(&site.dir(), site.place().as_deref()).unwrap();
    assert_eq!(spent(&site.ledger()), 400);
}

fn charges_of_another_host_are_taken_over_once(site: fn() -> Site) {
    let site = site();
    let mut ledger = site.ledger();
    ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    let charged = ["run-1", "run-2"].map(|run| (run.to_owned(), vec![charge(400, 1_000)]));
    for _ in 0..2 {
        ledger.adopt("room", &charged).unwrap();
        assert_eq!((spent(&ledger), ledger.head().unwrap().entries), (800, 3));
    }
}

#[test]
fn a_ledger_file_that_is_gone_or_emptied_is_no_fresh_budget() {
    let site = Site::in_a_file();
    let (dir, file) = (site.dir(), "ledger.sqlite");
    let is_refused = |why: &str| assert_eq!(site.open().unwrap_err().code(), Code::LedgerFailed, "{why}");
    dir.remove_file(file).unwrap();
    is_refused("gone");
    dir.write(file, b"").unwrap();
    is_refused("emptied");
    dir.remove_file(file).unwrap();
    dir.create("elsewhere").unwrap();
    dir.symlink("elsewhere", file).unwrap();
    is_refused("elsewhere");
}

#[test]
fn a_database_that_is_gone_or_emptied_is_no_fresh_budget() {
    let site = Site::on_a_server();
    site.alter("DELETE FROM head");
    assert_eq!(site.open().unwrap_err().code(), Code::LedgerFailed);
    site.alter("DROP SCHEMA glovebox CASCADE");
    assert_eq!(site.open().unwrap_err().code(), Code::LedgerFailed);
    let database = Site::on_a_server();
    let place = database.place().unwrap().replace("/ledger", "/no-ledger");
    assert_eq!(Ledger::open(&site.dir(), Some(&place)).unwrap_err().code(), Code::StoreUnreachable);
}

#[test]
fn tables_of_another_version_are_refused() {
    let site = Site::on_a_server();
    site.alter("UPDATE head SET version = 2");
    let fault = site.open().unwrap_err();
    assert_eq!(fault.code(), Code::LedgerFailed);
    assert!(fault.fact().contains("version 2"), "{fault}");
}

/// A server that says that something is on its disk, and does not put it there.
#[test]
fn a_server_that_forgets_at_a_power_loss_is_refused() {
    let server = Box::leak(Box::new(Postgres::start()));
    let site = Site::new(Some(server.database()));
    site.alter("ALTER SYSTEM SET fsync = off");
    site.alter("SELECT pg_reload_conf()");
    // The server's processes learn of it when they next look.
    let is_on = || site.database.as_ref().unwrap().sql("SHOW fsync") == "on";
    while is_on() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let fault = site.open().unwrap_err();
    assert_eq!(fault.code(), Code::LedgerFailed);
    assert!(fault.fact().contains("fsync"), "{fault}");
}

/// What a database's own settings say of commits does not hold for a ledger.
#[test]
fn a_commit_on_a_server_is_durable_before_it_is_told() {
    let site = Site::on_a_server();
    let database = site.database.as_ref().unwrap();
    let name = database.sql("SELECT current_database()");
    site.alter(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    assert_eq!(database.sql("SHOW synchronous_commit"), "off");
    // Every new entry notes how it was committed.
    site.alter(
        "CREATE TABLE seen (setting TEXT);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO glovebox.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
         CREATE TRIGGER note AFTER INSERT ON entry FOR EACH ROW EXECUTE FUNCTION note()",
    );
    site.ledger().reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    assert_eq!(database.sql("SELECT setting FROM seen"), "on");
}

#[test]
fn a_connection_that_is_lost_before_a_change_changes_nothing() {
    let site = Site::on_a_server();
    let mut ledger = site.ledger();
    let others = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                  WHERE application_name = 'glovebox' AND datname = current_database()";
    assert_eq!(site.database.as_ref().unwrap().sql(others), "1");
    let fault = ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap_err();
    assert_eq!(fault.code(), Code::StoreUnreachable, "{fault}");
    assert_eq!(spent(&ledger), 0, "over a new connection");
    ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    assert_eq!(spent(&ledger), 400);
}

/// The answer to the commit is the fourth line that the first process writes.
#[test]
fn a_commit_whose_answer_is_lost_is_found_and_not_made_twice() {
    let site = Site::on_a_server();
    let (script, mark) = (site.state.path().join("keeper"), site.state.path().join("mark"));
    // The shell keeps no end of the pipe itself, or nobody would notice that it was cut.
    let text = format!(
        "#!/bin/sh\nif ! mkdir '{}'; then exec '{}'; fi\n\
         exec 3<&0; '{1}' <&3 | sed -un '1,3p;4q' & exec >/dev/null 3<&- <&-; wait\n",
        mark.display(),
        ledger_server::keeper().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    site.run_by(&script);
    let mut ledger = site.ledger();
    ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
    assert!(mark.exists());
    assert_eq!((spent(&ledger), ledger.head().unwrap().entries), (400, 1));
}

/// The fourth line that the first process is to read is the change.
#[test]
fn a_change_that_never_arrived_is_not_taken_for_made() {
    let site = Site::on_a_server();
    let (script, mark) = (site.state.path().join("keeper"), site.state.path().join("mark"));
    let keeper = ledger_server::keeper().display();
    let text = format!(
        "#!/bin/sh\nif ! mkdir '{}'; then exec '{keeper}'; fi\nsed -un '1,3p;4q' | '{keeper}'\n",
        mark.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    site.run_by(&script);
    let mut ledger = site.ledger();
    let fault = ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap_err();
    assert_eq!(fault.code(), Code::StoreUnreachable, "{fault}");
    assert!(mark.exists());
    assert_eq!(spent(&ledger), 0);
}

/// Two hosts release at once what gives one unit away: the record of the other comes between the look at the records and
/// the new one.
#[test]
fn a_host_that_was_second_compares_with_the_first() {
    let site = Site::on_a_server();
    let (ledger, database) = (site.ledger(), site.database.as_ref().unwrap());
    let release = |run: &str, units: std::ops::Range<u64>| {
        let set = ReleasedSet { label: None, digests: Digests::from(units.collect::<Vec<_>>()) };
        Release::new(run.into(), "agency".into(), SetKind::Groups, vec!["shop/orders".into()], vec![set])
    };
    History::open(&site.dir()).unwrap().admit(&release("run-1", 0..100), 50, &ledger).unwrap();
    // The first one's record is there again only once the second waits to add its own.
    site.alter("CREATE TABLE earlier AS SELECT * FROM contributors; DELETE FROM contributors");
    let other = tempfile::tempdir().unwrap();
    let history = History::open(&crate::open_room(other.path()).unwrap()).unwrap();
    let commit_once_waited_for = "DO $$ BEGIN
        INSERT INTO contributors SELECT * FROM earlier;
        PERFORM pg_advisory_xact_lock(1);
        FOR look IN 1..1000 LOOP
            EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)));
            PERFORM pg_sleep(0.02);
        END LOOP;
    END $$";
    let is_written = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                      WHERE locktype = 'advisory' AND datname = current_database()";
    let denial = std::thread::scope(|scope| {
        let writing = scope.spawn(|| database.sql(commit_once_waited_for));
        while !writing.is_finished() && database.sql(is_written) == "0" {}
        history.admit(&release("run-2", 1..100), 50, &ledger).unwrap_err()
    });
    assert!(matches!(&denial, Denial::TooClose { earlier: Some(run), .. } if run == "run-1"), "{denial:?}");
    assert_eq!(database.sql("SELECT run FROM contributors"), "run-1");
    // Whoever has not seen the first one's adds nothing, whether or not it had to wait.
    let name = RecordName { run: "run-3".into(), sha256: "00".into() };
    assert!(!ledger.keep(0, &name, b"").unwrap());
}

/// Contributors are hashed, and lists named, under the host's key: another one would compare nothing with nothing.
#[test]
fn hosts_of_one_ledger_have_one_key() {
    let site = Site::on_a_server();
    let key = std::fs::read(site.state.path().join("host.key")).unwrap();
    let other = Site { state: tempfile::tempdir().unwrap(), database: None };
    other.run_by(ledger_server::keeper());
    let begin = || Ledger::create(&other.dir(), site.place().as_deref());
    assert_eq!(begin().unwrap_err().code(), Code::StateMissing, "no key");
    assert!(!other.state.path().join("host.key").exists(), "a new key would only have to be removed again");
    for (bytes, is_allowed) in [([7; 32].as_slice(), false), (&key, true)] {
        std::fs::write(other.state.path().join("host.key"), bytes).unwrap();
        assert_eq!(begin().is_ok(), is_allowed);
        assert_eq!(Ledger::open(&other.dir(), site.place().as_deref()).is_ok(), is_allowed);
    }
}
