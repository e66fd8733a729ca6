//! The store of one host: a file in the folder of its state.

use std::os::fd::AsRawFd;
use std::time::Duration;

use cap_std::fs::Dir;
use glovebox_source_protocol::store::Row;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::super::host_key::HostKey;
use super::super::ledger::{Kept, LedgerHead, StoredAnswer};
use super::Store;
use crate::error::{Code, Fault, Result};

/// The ledger's file in the state folder.
const LEDGER_FILE: &str = "ledger.sqlite";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entry (
        number INTEGER PRIMARY KEY,
        text TEXT NOT NULL,
        sha256 TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS answer (
        key TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;";

/// An open file.
#[derive(Debug)]
pub(super) struct Sqlite(Connection);

/// Makes the file, and this host's key.
pub(super) fn create(state: &Dir) -> Result<()> {
    HostKey::create(state)?;
    let connection = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.execute_batch(SCHEMA).map_err(failed)
}

impl Sqlite {
    /// A host whose ledger is gone has no budget: an empty one would be a fresh one.
    pub(super) fn open(state: &Dir) -> Result<Self> {
        let connection = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('entry', 'answer')";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(failed)? != 2 {
            return Err(no_ledger("holds no accounts"));
        }
        Ok(Self(connection))
    }
}

impl Store for Sqlite {
    fn head(&self) -> Result<LedgerHead> {
        head(&self.0)
    }

    fn rows(&self, from: u64) -> Result<Vec<Row>> {
        let query = "SELECT number, text, sha256 FROM entry WHERE number >= ?1 ORDER BY number";
        let mut query = self.0.prepare(query).map_err(failed)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Row { number: row.get::<_, i64>(0)?.cast_unsigned(), text: row.get(1)?, sha256: row.get(2)? })
        };
        let rows = query.query_map([from.cast_signed()], row).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }

    /// The transaction is immediate: no one else writes between the look at the head and the commit.
    fn append(&self, after: &LedgerHead, rows: &[Row], answer: Option<(&str, &Kept<'_>)>) -> Result<bool> {
        let transaction = Transaction::new_unchecked(&self.0, TransactionBehavior::Immediate).map_err(failed)?;
        if head(&transaction)? != *after {
            return Ok(false);
        }
        for Row { number, text, sha256 } in rows {
            let insert = "INSERT INTO entry VALUES (?1, ?2, ?3)";
            transaction.execute(insert, params![number.cast_signed(), text, sha256]).map_err(failed)?;
        }
        if let Some((run, kept)) = answer {
            let insert = "INSERT OR IGNORE INTO answer VALUES (?1, ?2, ?3)";
            transaction.execute(insert, params![kept.question, run, kept.answer]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(true)
    }

    fn answer(&self, question: &str) -> Result<Option<StoredAnswer>> {
        let query = "SELECT run, bytes FROM answer WHERE key = ?1";
        let row =
            self.0.query_row(query, [question], |row| Ok(StoredAnswer { run_id: row.get(0)?, bytes: row.get(1)? }));
        match row {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            other => other.map(Some).map_err(failed),
        }
    }
}

fn head(connection: &Connection) -> Result<LedgerHead> {
    let query = "SELECT count(*), coalesce((SELECT sha256 FROM entry ORDER BY number DESC LIMIT 1), '') FROM entry";
    let head = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
    let (entries, sha256) = connection.query_row(query, [], head).map_err(failed)?;
    Ok(LedgerHead { entries: entries.cast_unsigned(), sha256 })
}

/// Opens the file through the folder's handle: a path could name another folder by now.
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
    // Without FULL a power loss could forget the last entries.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(connection)
}

fn no_ledger(why: &str) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE} of this host's state {why}"),
        "restore the host's own ledger; a host gets one when it trusts its first room, and one whose ledger is on a \
         server names that with --store",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: rusqlite::Error) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE}: {error}"),
        "keep the host's state on a local disk with space left, and restore the ledger if it is damaged",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the ledger promises of kills, power losses and races rests on these.
    #[test]
    fn the_file_is_written_ahead_and_synced_and_locked_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = crate::open_room(folder.path()).unwrap();
        create(&dir).unwrap();
        let (one, other) = (Sqlite::open(&dir).unwrap(), Sqlite::open(&dir).unwrap());
        let pragma = |name: &str| -> String {
            one.0.pragma_query_value(None, name, |row| Ok(format!("{:?}", row.get_ref(0)?))).unwrap()
        };
        assert_eq!(pragma("journal_mode"), format!("{:?}", rusqlite::types::ValueRef::Text(b"wal")));
        assert_eq!(pragma("synchronous"), format!("{:?}", rusqlite::types::ValueRef::Integer(2)), "FULL");

        // While someone else writes, whoever wants to does not even look at the head.
        other.0.busy_timeout(Duration::ZERO).unwrap();
        let writing = Transaction::new_unchecked(&one.0, TransactionBehavior::Immediate).unwrap();
        let stale = LedgerHead { entries: 7, sha256: "of another".into() };
        let fault = other.append(&stale, &[], None).unwrap_err();
        assert!(fault.fact().contains("locked"), "{fault}");
        drop(writing);
        assert!(!other.append(&stale, &[], None).unwrap());
    }
}
