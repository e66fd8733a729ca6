//! The budget ledger: what each owner's data has told each recipient so far. Shared between processes, durable.
//!
//! A charge is one immediate transaction, synced to disk before it returns; nothing is released before that. Amounts
//! are whole numbers. A charge is never given back.

use std::os::fd::AsRawFd;
use std::time::Duration;

use cap_std::fs::Dir;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::Cost;
use crate::error::{Code, Fault, Result};
use crate::room::{Controls, Delta, Epsilon};

/// The ledger's file in a room.
pub(crate) const LEDGER_FILE: &str = "ledger.sqlite";

/// One run's cost to one account, and the account's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Whose data, to whom, per what unit.
    pub account: String,
    /// What is charged.
    pub cost: Cost,
    /// What the account may spend in all.
    pub lifetime: Cost,
}

impl Charge {
    pub(super) fn new(account: String, cost: Cost, controls: &Controls) -> Self {
        let lifetime = Cost {
            epsilon_micros: controls.lifetime_epsilon_micros,
            delta_femtos: controls.lifetime_delta_femtos,
            bits_per_id: controls.lifetime_bits_per_id,
        };
        Self { account, cost, lifetime }
    }

    /// Whether the account can pay this, after all that it paid before.
    pub(crate) fn check_affordable(&self, paid: impl Iterator<Item = Cost>) -> Result<()> {
        let spent = paid.fold(cost(0, 0, 0), |sum, paid| sum.plus(&paid));
        if spent.plus(&self.cost).is_within(&self.lifetime) { Ok(()) } else { Err(exhausted(self, &spent)) }
    }
}

/// What an account has spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerLine {
    /// Whose data, to whom, per what unit.
    pub account: String,
    /// What is spent so far.
    pub spent: Cost,
}

/// What one run was charged on one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) run_id: String,
    pub(crate) account: String,
    pub(crate) cost: Cost,
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger(Connection);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS account (
        name TEXT PRIMARY KEY,
        epsilon_micros INTEGER NOT NULL CHECK (epsilon_micros >= 0),
        delta_femtos INTEGER NOT NULL CHECK (delta_femtos >= 0),
        bits_per_id INTEGER NOT NULL CHECK (bits_per_id >= 0)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS charge (
        run TEXT NOT NULL,
        account TEXT NOT NULL REFERENCES account (name),
        epsilon_micros INTEGER NOT NULL,
        delta_femtos INTEGER NOT NULL,
        bits_per_id INTEGER NOT NULL,
        PRIMARY KEY (run, account)
    ) STRICT;";

impl Ledger {
    /// Makes the ledger of a new room. Where there is one already, it stays as it is.
    pub(crate) fn create(dir: &Dir) -> Result<()> {
        let connection = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.execute_batch(SCHEMA).map_err(failed)
    }

    /// Opens the ledger of a room. A room whose ledger is gone has no budget: an empty one would be a fresh one.
    pub fn open(dir: &Dir) -> Result<Self> {
        let connection = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('account', 'charge')";
        match connection.query_row(tables, [], |row| row.get(0)).map_err(failed)? {
            2 => Ok(Self(connection)),
            _ => Err(no_ledger("holds no accounts")),
        }
    }

    /// Whether the accounts can pay, without charging them. A later charge may still be refused.
    pub(crate) fn check(&mut self, charges: &[Charge]) -> Result<()> {
        charges.iter().try_for_each(|charge| affordable(&self.0, charge).map(|_| ()))
    }

    /// Charges all accounts or none, durably.
    pub(crate) fn charge(&mut self, run_id: &str, charges: &[Charge]) -> Result<()> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for charge in charges {
            let spent = affordable(&transaction, charge)?;
            write(&transaction, run_id, charge, spent)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Every charge, by run and account.
    pub(crate) fn postings(&self) -> Result<Vec<Posting>> {
        let mut query = self
            .0
            .prepare("SELECT run, account, epsilon_micros, delta_femtos, bits_per_id FROM charge ORDER BY run, account")
            .map_err(failed)?;
        let posting = |row: &rusqlite::Row<'_>| {
            let cost = cost(row.get(2)?, row.get(3)?, row.get(4)?);
            Ok(Posting { run_id: row.get(0)?, account: row.get(1)?, cost })
        };
        query.query_map([], posting).map_err(failed)?.map(|row| row.map_err(failed)).collect()
    }

    /// What every account has spent.
    pub fn lines(&self) -> Result<Vec<LedgerLine>> {
        let mut query = self
            .0
            .prepare("SELECT name, epsilon_micros, delta_femtos, bits_per_id FROM account ORDER BY name")
            .map_err(failed)?;
        let lines = query
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?)))
            .map_err(failed)?;
        let line = |(account, epsilon, delta, bits_per_id): (String, i64, i64, u32)| LedgerLine {
            account,
            spent: cost(epsilon, delta, bits_per_id),
        };
        lines.map(|row| row.map(line).map_err(failed)).collect()
    }
}

/// Opens the file through the room's handle: the caller's path could name another room by now.
fn connect(dir: &Dir, access: OpenFlags) -> Result<Connection> {
    match dir.symlink_metadata(LEDGER_FILE) {
        Ok(ledger) if ledger.is_file() => {}
        Ok(_) => return Err(no_ledger("is not a regular file")),
        Err(_) if access.contains(OpenFlags::SQLITE_OPEN_CREATE) => {}
        Err(error) => return Err(no_ledger(&format!("cannot be opened: {error}"))),
    }
    let path = format!("/proc/self/fd/{}/{LEDGER_FILE}", dir.as_raw_fd());
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // Without FULL a power loss could forget the last charges.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(connection)
}

fn no_ledger(why: &str) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE} {why}"),
        "restore the room's own ledger; a new room gets one with its first key",
    )
}

/// What is spent after the charge, if the account can pay it.
fn affordable(connection: &Connection, charge: &Charge) -> Result<Cost> {
    let spent = spent(connection, &charge.account)?;
    let after = spent.plus(&charge.cost);
    let within = after.is_within(&charge.lifetime);
    if within { Ok(after) } else { Err(exhausted(charge, &spent)) }
}

fn spent(connection: &Connection, account: &str) -> Result<Cost> {
    let query = "SELECT epsilon_micros, delta_femtos, bits_per_id FROM account WHERE name = ?1";
    let row = connection.query_row(query, [account], |row| Ok(cost(row.get(0)?, row.get(1)?, row.get(2)?)));
    match row {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(cost(0, 0, 0)),
        other => other.map_err(failed),
    }
}

fn write(connection: &Connection, run_id: &str, charge: &Charge, after: Cost) -> Result<()> {
    let stored = |cost: &Cost| {
        // SQLite's integers are signed; amounts are far below the limit.
        (cost.epsilon_micros.micros().cast_signed(), cost.delta_femtos.femtos().cast_signed(), cost.bits_per_id)
    };
    let (epsilon, delta, bits) = stored(&after);
    connection
        .execute(
            "INSERT INTO account VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE
             SET epsilon_micros = ?2, delta_femtos = ?3, bits_per_id = ?4",
            params![charge.account, epsilon, delta, bits],
        )
        .map_err(failed)?;
    let (epsilon, delta, bits) = stored(&charge.cost);
    connection
        .execute(
            "INSERT INTO charge VALUES (?1, ?2, ?3, ?4, ?5)",
            params![run_id, charge.account, epsilon, delta, bits],
        )
        .map_err(failed)?;
    Ok(())
}

fn cost(epsilon: i64, delta: i64, bits_per_id: u32) -> Cost {
    Cost {
        epsilon_micros: Epsilon::from_micros(epsilon.unsigned_abs()),
        delta_femtos: Delta::from_femtos(delta.unsigned_abs()),
        bits_per_id,
    }
}

fn exhausted(charge: &Charge, spent: &Cost) -> Fault {
    let fact = if charge.cost.bits_per_id > 0 {
        format!(
            "the run costs {} bits per identifier, and {} of {} are spent ({})",
            charge.cost.bits_per_id, spent.bits_per_id, charge.lifetime.bits_per_id, charge.account
        )
    } else {
        format!(
            "the run costs epsilon {}, and {} of {} is spent ({})",
            charge.cost.epsilon_micros, spent.epsilon_micros, charge.lifetime.epsilon_micros, charge.account
        )
    };
    Fault::new(Code::BudgetExhausted, fact, "a budget does not refresh; the owners can agree to a larger one")
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: rusqlite::Error) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE}: {error}"),
        "keep the room on a local disk with space left, and restore the ledger if it is damaged",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(epsilon: u64, lifetime: u64) -> Charge {
        let cost = |micros| Cost {
            epsilon_micros: Epsilon::from_micros(micros),
            delta_femtos: Delta::from_femtos(1),
            bits_per_id: 0,
        };
        let lifetime = Cost { delta_femtos: Delta::from_femtos(1_000_000), ..cost(lifetime) };
        Charge { account: "retailer to brand, per household".into(), cost: cost(epsilon), lifetime }
    }

    fn new_ledger(room: &tempfile::TempDir) -> Ledger {
        let dir = crate::open_room(room.path()).unwrap();
        Ledger::create(&dir).unwrap();
        Ledger::open(&dir).unwrap()
    }

    #[test]
    fn a_ledger_that_is_gone_or_emptied_is_no_fresh_budget() {
        let room = tempfile::tempdir().unwrap();
        let dir = crate::open_room(room.path()).unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
        dir.write(LEDGER_FILE, b"").unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
        dir.remove_file(LEDGER_FILE).unwrap();
        dir.create("elsewhere").unwrap();
        dir.symlink("elsewhere", LEDGER_FILE).unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
    }

    fn spent(ledger: &Ledger) -> u64 {
        ledger.lines().unwrap().iter().map(|line| line.spent.epsilon_micros.micros()).sum()
    }

    #[test]
    fn a_charge_outlives_the_process_and_is_never_given_back() {
        let room = tempfile::tempdir().unwrap();
        new_ledger(&room).charge("run-1", &[charge(400, 1_000)]).unwrap();
        let mut ledger = new_ledger(&room);
        assert_eq!(spent(&ledger), 400);
        ledger.charge("run-2", &[charge(600, 1_000)]).unwrap();
        let fault = ledger.charge("run-3", &[charge(1, 1_000)]).unwrap_err();
        assert_eq!((fault.code(), spent(&ledger)), (Code::BudgetExhausted, 1_000));
    }

    #[test]
    fn all_accounts_are_charged_or_none() {
        let room = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&room);
        let poor = Charge { account: "other to brand, per household".into(), ..charge(2, 1) };
        assert!(ledger.charge("run-1", &[charge(1, 1_000), poor]).is_err());
        assert_eq!(spent(&ledger), 0);
    }

    #[test]
    fn a_run_is_charged_once() {
        let room = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&room);
        ledger.charge("run-1", &[charge(1, 1_000)]).unwrap();
        assert!(ledger.charge("run-1", &[charge(1, 1_000)]).is_err());
        assert_eq!(spent(&ledger), 1);
    }

    /// Reading what is spent and writing it back in two transactions would overspend here by about a quarter.
    #[test]
    fn many_writers_at_once_never_overspend() {
        let room = tempfile::tempdir().unwrap();
        new_ledger(&room);
        let write = |writer: u32| {
            let mut ledger = new_ledger(&room);
            (0..40).filter(|run| ledger.charge(&format!("{writer}-{run}"), &[charge(10, 1_000)]).is_ok()).count()
        };
        let paid: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        assert_eq!((paid, spent(&new_ledger(&room))), (100, 1_000));
    }
}
