//! Tables of PostgreSQL, each read in one transaction that sees one state of it.
//!
//! A pin is a digest over all rows, as the server sends them and without a look at what they mean. Whoever pins for a run
//! keeps the transaction open and exports its snapshot: what is written until the run reads does not matter to it. Where
//! there is no snapshot any more, as for a replay, the rows are digested again, and other ones are refused.

mod copy;
mod insert;
mod multiset;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use glovebox_source_protocol::{
    Batches, Column, Comparison, Connection, DataFile, Hint, Literal, Pin, Read as Wanted, Refusal, RefusalCode, schema,
};
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::types::Type;
use postgres::{Client, Config, NoTls};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::copy::{Columns, Rows, Sent};
pub(crate) use self::insert::insert;
use self::multiset::Multiset;
use crate::BATCH_ROWS;
use crate::refuse::{Result, changed, refuse, unreadable};
use crate::store::{invalid, options};

/// A batch ends before it has more than this and one row.
const BATCH_BYTES: usize = 8 << 20;
/// Batches on their way from the server to the run.
const BATCHES_AHEAD: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Nothing that the role or the database is set to changes what is read: no schema of anybody's stands before the
/// system's, rows that a policy hides are an error, and an idle snapshot stays.
const SETTINGS: &str = "SET search_path = pg_catalog; SET row_security = off; SET standard_conforming_strings = on; \
                        SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'";

const COLUMNS: &str = "SELECT a.attname, a.atttypid, a.atttypmod, a.attnotnull \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
     ORDER BY a.attnum";

pub(crate) struct PostgresTable {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    schema: String,
    name: String,
    location: String,
}

/// A snapshot that lasts as long as this does.
pub(crate) struct Hold {
    pub(crate) snapshot: String,
    _session: Session,
}

impl glovebox_source_protocol::Hold for Hold {
    fn snapshot(&self) -> &str {
        &self.snapshot
    }

    fn wait(self: Box<Self>) {
        let output = io::stdout();
        // A pipe without a reader is an error, which is told without being asked for.
        while poll(&mut [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty())], None).is_err() {}
    }
}

impl PostgresTable {
    pub(crate) fn new(connection: &Connection, table: &str) -> Result<Self> {
        let (schema, name) = table
            .split_once('.')
            .filter(|(schema, name)| !schema.is_empty() && !name.is_empty() && !table.contains('\0'))
            .ok_or_else(|| unreadable("a table of PostgreSQL is named as SCHEMA.TABLE"))?;
        let (config, tls) = way(connection)?;
        let database = config.get_dbname().unwrap_or_default();
        let location = format!("postgres://{database}/{table}");
        Ok(Self { config, tls, schema: schema.into(), name: name.into(), location })
    }

    pub(crate) fn columns(&self) -> Result<Vec<Column>> {
        let columns = self.begin(None)?.columns(self)?;
        Ok(columns.into_iter().map(|(column, _)| column).collect())
    }

    pub(crate) fn pin(&self) -> Result<(Pin, Hold)> {
        let mut session = self.begin(None)?;
        let columns = session.columns(self)?;
        let pin = session.pin(self, &columns)?;
        let snapshot = session.0.query_one("SELECT pg_export_snapshot()", &[]).map_err(|error| told(&error))?.get(0);
        Ok((pin, Hold { snapshot, _session: session }))
    }

    pub(crate) fn read(&self, wanted: &Wanted) -> Result<Batches> {
        let mut session = self.begin(wanted.snapshot.as_deref())?;
        let columns = session.columns(self)?;
        if !columns.iter().map(|(column, _)| column).eq(&wanted.pin.columns) {
            return Err(changed("the table's columns are not what they were"));
        }
        if wanted.snapshot.is_none() && session.pin(self, &columns)? != wanted.pin {
            return Err(changed("the table's rows are not what they were"));
        }
        let find = |name: &String| columns.iter().find(|(column, _)| column.name == *name).cloned();
        let found: Vec<(Column, Sent)> = wanted.columns.iter().filter_map(find).collect();
        let conditions = wanted.hints.iter().filter_map(|hint| condition(hint, &columns));
        Ok(session.stream(&self.copy(&found, conditions.collect()), found))
    }

    /// A transaction that sees one state of the table, or that of a snapshot.
    fn begin(&self, snapshot: Option<&str>) -> Result<Session> {
        let mut client = self.connect().map_err(|error| told(&error))?;
        // The lock comes first: while it is held nothing is truncated or rewritten, which no snapshot would survive.
        let lock = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE",
            self.quoted()
        );
        let begun = client.batch_execute(SETTINGS).and_then(|()| client.batch_execute(&lock));
        begun.map_err(|error| told(&error))?;
        if let Some(snapshot) = snapshot {
            let import = format!("SET TRANSACTION SNAPSHOT {}", literal(snapshot));
            client.batch_execute(&import).map_err(|_| changed("the snapshot that was pinned is gone"))?;
        }
        Ok(Session(client))
    }

    fn connect(&self) -> std::result::Result<Client, postgres::Error> {
        match self.tls.clone() {
            Some(tls) => self.config.connect(tls),
            None => self.config.connect(NoTls),
        }
    }

    fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    fn copy(&self, columns: &[(Column, Sent)], conditions: Vec<String>) -> String {
        let names: Vec<_> = columns.iter().map(|(column, _)| identifier(&column.name)).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        format!("COPY (SELECT {} FROM {}{filter}) TO STDOUT (FORMAT binary)", names.join(", "), self.quoted())
    }
}

/// A connection in a transaction.
struct Session(Client);

impl Session {
    /// The columns that cross, and what is sent of them.
    fn columns(&mut self, table: &PostgresTable) -> Result<Vec<(Column, Sent)>> {
        let rows = self.0.query(COLUMNS, &[&table.schema, &table.name]).map_err(|error| told(&error))?;
        if rows.is_empty() {
            return Err(refuse(
                RefusalCode::SourceUnsupported,
                format!("{} is no table with columns of its own", table.location),
                "name a table: views and foreign tables may have other rows each time",
            ));
        }
        let column = |row: &postgres::Row| {
            let sent = sent(row.get(1), row.get(2))?;
            Some((Column { name: row.get(0), kind: sent.kind(), nullable: !row.get::<_, bool>(3) }, sent))
        };
        Ok(rows.iter().filter_map(column).collect())
    }

    fn pin(&mut self, table: &PostgresTable, columns: &[(Column, Sent)]) -> Result<Pin> {
        let copied = self.0.copy_out(&table.copy(columns, Vec::new())).map_err(|error| told(&error))?;
        let digested = || -> io::Result<_> {
            let (mut rows, mut multiset, mut size) = (Rows::new(copied)?, Multiset::new(), 0);
            while let Some(row) = rows.next()? {
                multiset.add(row);
                size += row.len() as u64;
            }
            Ok((multiset.sha256(), size))
        };
        let (sha256, size) = digested().map_err(|error| broken(table, &error))?;
        let (path, etag, deleted_sha256, partition) =
            (format!("{}.{}", table.schema, table.name), None, None, [].into());
        Ok(Pin {
            kind: "postgres".into(),
            location: table.location.clone(),
            version: None,
            columns: columns.iter().map(|(column, _)| column.clone()).collect(),
            files: vec![DataFile { path, size, sha256: Some(sha256), etag, partition, deleted_sha256 }],
        })
    }

    /// The rows of a statement, from a thread that has the connection.
    fn stream(mut self, statement: &str, columns: Vec<(Column, Sent)>) -> Batches {
        let (send, receive) = sync_channel(BATCHES_AHEAD);
        let statement = statement.to_owned();
        std::thread::spawn(move || {
            // Whoever took the rows may be gone.
            let mut emit = |batch| send.send(Some(Ok(batch))).map_err(io::Error::other);
            let last = self.batches(&statement, &columns, &mut emit).err();
            let _ = send.send(last.map(|_| Err(unreadable("the server's rows have no end"))));
        });
        // A thread that ended without a word has not said that these were all.
        Box::new(std::iter::from_fn(move || receive.recv().unwrap_or_else(|_| Some(Err(unreadable("no rows come"))))))
    }

    fn batches(
        &mut self,
        statement: &str,
        columns: &[(Column, Sent)],
        emit: &mut dyn FnMut(RecordBatch) -> io::Result<()>,
    ) -> io::Result<()> {
        let (fields, sent): (Vec<Column>, Vec<Sent>) = columns.iter().cloned().unzip();
        let mut rows = Rows::new(self.0.copy_out(statement).map_err(io::Error::other)?)?;
        let mut batch = Columns::new(schema(&fields), &sent);
        while let Some(row) = rows.next()? {
            batch.add(row)?;
            if batch.rows() == BATCH_ROWS || batch.bytes() >= BATCH_BYTES {
                emit(batch.finish()?)?;
            }
        }
        if batch.rows() > 0 { emit(batch.finish()?) } else { Ok(()) }
    }
}

/// What is sent of a type that crosses without loss.
fn sent(oid: u32, modifier: i32) -> Option<Sent> {
    Some(match Type::from_oid(oid)? {
        Type::BOOL => Sent::Boolean,
        Type::INT2 => Sent::Int2,
        Type::INT4 => Sent::Int4,
        Type::INT8 => Sent::Int8,
        Type::FLOAT4 => Sent::Float4,
        Type::FLOAT8 => Sent::Float8,
        Type::TEXT | Type::VARCHAR => Sent::Text,
        Type::BPCHAR => Sent::Padded,
        Type::UUID => Sent::Uuid,
        Type::DATE => Sent::Date,
        Type::TIMESTAMP => Sent::Timestamp,
        Type::TIMESTAMPTZ => Sent::Instant,
        Type::NUMERIC => {
            // Four more than the digits, and eleven bits of how many of them stand after the point.
            let declared = modifier.checked_sub(4).filter(|declared| *declared >= 0)?;
            let (digits, scale) = (u8::try_from(declared >> 16).ok()?, i8::try_from(declared & 0x7ff).ok()?);
            let is_plain = (1..=38).contains(&digits) && scale.unsigned_abs() <= digits;
            is_plain.then_some(Sent::Numeric(digits, scale))?
        }
        _ => return None,
    })
}

/// A hint as the server's condition, where it compares as the run does: texts by their bytes.
fn condition(hint: &Hint, columns: &[(Column, Sent)]) -> Option<String> {
    let (_, sent) = columns.iter().find(|(column, _)| column.name == hint.column)?;
    let name = identifier(&hint.column);
    let (left, right) = match (&hint.to, sent) {
        (Literal::Int64(number), Sent::Int2 | Sent::Int4 | Sent::Int8) => (name, format!("'{number}'::int8")),
        (Literal::Utf8(text), Sent::Text | Sent::Uuid) if !text.contains('\0') => {
            (format!("{name}::text COLLATE \"C\""), literal(text))
        }
        _ => return None,
    };
    let operator = match hint.is {
        Comparison::Equal => "=",
        Comparison::Less => "<",
        Comparison::AtMost => "<=",
        Comparison::Greater => ">",
        Comparison::AtLeast => ">=",
    };
    Some(format!("{left} {operator} {right}"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// How the server is reached: by a socket in a folder, or by TLS.
fn way(connection: &Connection) -> Result<(Config, Option<MakeRustlsConnect>)> {
    let (mut config, mut host, mut allow_plain, mut root) = (Config::new(), None, false, None);
    for (name, value) in options(connection)? {
        match name.as_str() {
            "host" => host = Some(value),
            "port" => drop(config.port(value.parse().map_err(|_| invalid("the `port` is no number of a port"))?)),
            "user" => drop(config.user(&value)),
            "password" => drop(config.password(value)),
            "database" => drop(config.dbname(&value)),
            "root_certificate" => root = Some(value),
            "allow_plain" => allow_plain = value == "true",
            other => return Err(invalid(format!("there is no option `{}`", other.escape_debug()))),
        }
    }
    let host = host.ok_or_else(|| invalid("the connection names no `host`"))?;
    if config.get_user().is_none() || config.get_dbname().is_none() {
        return Err(invalid("the connection names no `user` or no `database`"));
    }
    config.connect_timeout(CONNECT_TIMEOUT).application_name("glovebox-source");
    if host.starts_with('/') {
        config.host_path(host);
        return Ok((config, None));
    }
    let ssl_mode = if allow_plain { SslMode::Disable } else { SslMode::Require };
    config.host(&host).ssl_mode(ssl_mode);
    Ok((config, if allow_plain { None } else { Some(tls(root.as_deref())?) }))
}

/// This host's own roots, or one that the connection names.
fn tls(root: Option<&str>) -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    match root {
        Some(path) => {
            let certificate = CertificateDer::from_pem_file(Path::new(path)).ok();
            let added = certificate.and_then(|certificate| roots.add(certificate).ok());
            added.ok_or_else(|| invalid("the `root_certificate` is no file with a certificate"))?;
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| invalid(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// What the server says may quote what is in a row; its codes do not.
fn told(error: &postgres::Error) -> Refusal {
    unreadable(match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "the server lets nobody with these credentials in".into()
        }
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => "there is no such table".into(),
        Some(&SqlState::INVALID_CATALOG_NAME) => "there is no such database".into(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => "these credentials may not read all of the table".into(),
        Some(code) => format!("the server refuses, with SQLSTATE {}", code.code()),
        None => format!("the server does not answer as it must: {error}"),
    })
}

fn broken(table: &PostgresTable, error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(error) => told(error),
        None => unreadable(format!("{} is not sent as it must be", table.location)),
    }
}
