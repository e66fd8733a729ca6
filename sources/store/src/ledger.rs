//! The ledger's tables. What races is decided by one conditional statement: of two hosts that add to the same head, one
//! finds another head.

use glovebox_source_protocol::store::{AnswerName, Ask, Head, RecordName, Row, Told};
use postgres::error::SqlState;
use postgres::{Client, Transaction};

use crate::refuse::{Result, broken, failed};

/// Of the tables below.
const VERSION: i32 = 1;

/// Any number that nobody else locks: two hosts may begin at once.
const CREATION_LOCK: i64 = 0x676c_6f76_6562_6f78;

const SCHEMA: &str = "
    CREATE SCHEMA IF NOT EXISTS glovebox;
    CREATE TABLE glovebox.head (
        is_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_one),
        version INTEGER NOT NULL,
        host_key TEXT NOT NULL,
        entries BIGINT NOT NULL,
        sha256 TEXT NOT NULL
    );
    CREATE TABLE glovebox.entry (number BIGINT PRIMARY KEY, text TEXT NOT NULL, sha256 TEXT NOT NULL);
    CREATE TABLE glovebox.answer (key TEXT PRIMARY KEY, run TEXT NOT NULL, bytes BYTEA NOT NULL);
    CREATE TABLE glovebox.contributors (
        number BIGINT PRIMARY KEY,
        run TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        bytes BYTEA NOT NULL
    );";

/// A database with a ledger, or with none yet.
pub(crate) struct Ledger {
    client: Client,
    host_key: Option<String>,
}

impl Ledger {
    pub(crate) fn open(mut client: Client) -> Result<Self> {
        let mut transaction = client.transaction().map_err(|error| broken(&error))?;
        let host_key = find(&mut transaction)?;
        transaction.commit().map_err(|error| broken(&error))?;
        Ok(Self { client, host_key })
    }

    pub(crate) fn ready(&self) -> Told {
        Told::Ready { host_key: self.host_key.clone() }
    }

    pub(crate) fn answer(&mut self, ask: Ask, bytes: Vec<u8>) -> Result<(Told, Vec<u8>)> {
        if let Ask::Create { host_key } = &ask {
            self.create(host_key)?;
            return Ok((self.ready(), Vec::new()));
        }
        if self.host_key.is_none() {
            return Err(failed("the database has no ledger", "a host makes one when it trusts its first room"));
        }
        self.ask(ask, bytes).map_err(|error| broken(&error))
    }

    /// Makes the tables, all of them or none, unless someone else just has.
    fn create(&mut self, host_key: &str) -> Result<()> {
        let mut transaction = self.client.transaction().map_err(|error| broken(&error))?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK]).map_err(|error| broken(&error))?;
        let found = find(&mut transaction)?;
        if found.is_none() {
            let head = "INSERT INTO glovebox.head (version, host_key, entries, sha256) VALUES ($1, $2, 0, '')";
            let made =
                transaction.batch_execute(SCHEMA).and_then(|()| transaction.execute(head, &[&VERSION, &host_key]));
            made.map_err(|error| broken(&error))?;
        }
        transaction.commit().map_err(|error| broken(&error))?;
        self.host_key = Some(found.unwrap_or_else(|| host_key.to_owned()));
        Ok(())
    }

    fn ask(&mut self, ask: Ask, bytes: Vec<u8>) -> Result<(Told, Vec<u8>), postgres::Error> {
        let told = match ask {
            Ask::Create { .. } | Ask::Head => Told::Head(self.head()?),
            Ask::Rows { from } => Told::Rows(self.rows(from)?),
            Ask::Append { after, rows, answer } => Told::Added(self.append(&after, &rows, answer.as_ref(), &bytes)?),
            Ask::Answer { key } => {
                let found = "SELECT run, bytes FROM glovebox.answer WHERE key = $1";
                let Some(row) = self.client.query_opt(found, &[&key])? else {
                    return Ok((Told::Answer(None), Vec::new()));
                };
                return Ok((Told::Answer(Some(row.get(0))), row.get(1)));
            }
            Ask::Records => Told::Records(self.records()?),
            Ask::Record { run } => {
                let found = "SELECT bytes FROM glovebox.contributors WHERE run = $1";
                let row = self.client.query_opt(found, &[&run])?;
                return Ok((Told::Record(row.is_some()), row.map(|row| row.get(0)).unwrap_or_default()));
            }
            Ask::Keep { after, record } => Told::Added(self.keep(after, &record, &bytes)?),
        };
        Ok((told, Vec::new()))
    }

    fn head(&mut self) -> Result<Head, postgres::Error> {
        let row = self.client.query_one("SELECT entries, sha256 FROM glovebox.head", &[])?;
        Ok(Head { entries: row.get::<_, i64>(0).cast_unsigned(), sha256: row.get(1) })
    }

    fn rows(&mut self, from: u64) -> Result<Vec<Row>, postgres::Error> {
        let query = "SELECT number, text, sha256 FROM glovebox.entry WHERE number >= $1 ORDER BY number";
        let rows = self.client.query(query, &[&from.cast_signed()])?;
        let row = |row: &postgres::Row| Row {
            number: row.get::<_, i64>(0).cast_unsigned(),
            text: row.get(1),
            sha256: row.get(2),
        };
        Ok(rows.iter().map(row).collect())
    }

    /// The head's row is what hosts race for: whoever comes second waits for the first one's commit, and then finds that
    /// the head is not what it was.
    fn append(
        &mut self,
        after: &Head,
        rows: &[Row],
        answer: Option<&AnswerName>,
        bytes: &[u8],
    ) -> Result<bool, postgres::Error> {
        let Some(last) = rows.last() else { return Ok(true) };
        let mut transaction = self.client.transaction()?;
        let advance = "UPDATE glovebox.head SET entries = $1, sha256 = $2 WHERE entries = $3 AND sha256 = $4";
        let (to, from) = (last.number.cast_signed(), after.entries.cast_signed());
        if transaction.execute(advance, &[&to, &last.sha256, &from, &after.sha256])? != 1 {
            return Ok(false);
        }
        let insert = transaction.prepare("INSERT INTO glovebox.entry VALUES ($1, $2, $3)")?;
        for row in rows {
            transaction.execute(&insert, &[&row.number.cast_signed(), &row.text, &row.sha256])?;
        }
        if let Some(AnswerName { key, run }) = answer {
            let insert = "INSERT INTO glovebox.answer VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            transaction.execute(insert, &[key, run, &bytes])?;
        }
        transaction.commit()?;
        Ok(true)
    }

    fn records(&mut self) -> Result<Vec<RecordName>, postgres::Error> {
        let rows = self.client.query("SELECT run, sha256 FROM glovebox.contributors ORDER BY number", &[])?;
        Ok(rows.iter().map(|row| RecordName { run: row.get(0), sha256: row.get(1) }).collect())
    }

    /// Its number is what hosts race for.
    fn keep(&mut self, after: u64, record: &RecordName, bytes: &[u8]) -> Result<bool, postgres::Error> {
        let insert = "INSERT INTO glovebox.contributors VALUES ($1, $2, $3, $4)";
        let number = (after + 1).cast_signed();
        match self.client.execute(insert, &[&number, &record.run, &record.sha256, &bytes]) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The common key of a ledger's hosts, if there is a ledger of a version that this program knows.
fn find(transaction: &mut Transaction<'_>) -> Result<Option<String>> {
    let there = transaction.query_one("SELECT to_regclass('glovebox.head') IS NOT NULL", &[]);
    if !there.map_err(|error| broken(&error))?.get::<_, bool>(0) {
        return Ok(None);
    }
    let head = transaction.query_opt("SELECT version, host_key FROM glovebox.head", &[]);
    let Some(head) = head.map_err(|error| broken(&error))? else {
        return Err(failed("the ledger's tables have no head", "restore the database from its backup"));
    };
    let version: i32 = head.get(0);
    if version != VERSION {
        let fact = format!("the ledger's tables have version {version}, and this program knows {VERSION}");
        return Err(failed(fact, "use a glovebox-store that knows that version"));
    }
    Ok(Some(head.get(1)))
}
