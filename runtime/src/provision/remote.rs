//! Tables that another process reads: what speaks to a network or reads a table format's log is never in this one.
//!
//! A source is read by a program of its own, which gets a request and gives back a line or rows, in the words of
//! [`glovebox_source_protocol`]. It starts without environment but the variables that its connection names, in the
//! table's folder or in none, and ends with its handle. Nothing here believes it: rows without an end are an error, and
//! so are other columns, another number of rows, and an exit that is no success.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;
use glovebox_source_protocol::{
    Comparison, Connection, DESCRIBE, Description, Held, Hint, Literal, PIN, Pin, Place, READ, Read, Refusal, Request,
    RowsReader, Secret, WRITE, Write, Written, schema,
};
use serde::de::DeserializeOwned;

use super::Access;
use super::table::{Batches, Pieces};
use crate::error::{Code, Fault, Result};
use crate::room::{Place as Named, Source, View, sha256_hex};

/// The programs that come with this one: the first reads and writes, and the second reads connections of one kind.
pub(crate) const PROGRAM: &str = "glovebox-source";
const SHARE_PROGRAM: &str = "glovebox-share";
const SHARED: &str = "delta-sharing";

/// The longest line that a reader may answer with: a pin names every file of a table.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// The most that is told of a reader's own words.
const WORDS_MAX: usize = 300;

/// How a table is asked for.
#[derive(Debug)]
pub(super) struct Remote {
    /// The view and the source, for people.
    named: String,
    program: PathBuf,
    place: Place,
    /// Where the table is in the room; the reader finds itself in it, whatever its path leads to by now.
    folder: Option<File>,
}

impl Remote {
    /// The way to a view's source, if it is a table that another process reads. Whoever may not open it has none.
    pub(super) fn find(access: &dyn Access, view: &View, source: &Source) -> Result<Option<Self>> {
        let named = format!("source `{}` of view {}", source.path.escape_debug(), view.id);
        match source.place() {
            Named::File(_) => Ok(None),
            Named::Delta(path) => {
                let folder = access.open_folder(view, path).map_err(|error| {
                    let remedy = "put a Delta table there, inside the room and not behind a symlink";
                    Fault::new(Code::ViewUnreadable, format!("{named} cannot be opened: {error}"), remedy)
                })?;
                let folder = Some(folder.into_std_file());
                Ok(Some(Self { named, program: beside_this_one(PROGRAM), place: Place::Delta, folder }))
            }
            Named::Behind { connection, table } => {
                let connection = access.connection(view, connection)?;
                let ours = if connection.kind == SHARED { SHARE_PROGRAM } else { PROGRAM };
                let program = connection.program.clone().unwrap_or_else(|| beside_this_one(ours));
                let place = Place::Behind { connection, table: table.into() };
                Ok(Some(Self { named, program, place, folder: None }))
            }
        }
    }

    /// What exactly would be read now, or of that version. A reader that can keeps it as it is.
    pub(super) fn pin(&self, version: Option<u64>) -> Result<Pinned> {
        let request = Request { place: self.place.clone(), version, hold: true, read: None };
        let (mut running, pin) = self.ask(PIN, request)?;
        let line = running.line().map_err(|error| self.silent(error))?;
        if line.is_empty() {
            running.succeeded().map_err(|error| self.silent(error))?;
            return Ok(Pinned::of(pin));
        }
        let Held { snapshot } = serde_json::from_slice(&line).map_err(|error| self.silent(error.into()))?;
        Ok(Pinned { pin, kept: Some(Kept { snapshot, _by: running }) })
    }

    /// The table for planning alone.
    pub(super) fn described(self) -> Result<RemoteTable> {
        let request = Request { place: self.place.clone(), version: None, hold: false, read: None };
        let (mut running, Description { columns }) = self.ask(DESCRIBE, request)?;
        running.succeeded().map_err(|error| self.silent(error))?;
        Ok(RemoteTable { remote: Arc::new(self), schema: schema(&columns), pin: None })
    }

    /// The table as it was pinned.
    pub(super) fn pinned(self, pin: Arc<Pinned>) -> RemoteTable {
        RemoteTable { remote: Arc::new(self), schema: schema(&pin.pin.columns), pin: Some(pin) }
    }

    /// A reader that has answered with a line, and may not have ended.
    fn ask<T: DeserializeOwned>(&self, task: &str, request: Request) -> Result<(Running, T)> {
        let mut running = self.start(task, request).map_err(|error| self.silent(error))?;
        let line = running.line().map_err(|error| self.silent(error))?;
        if let Ok(refusal) = serde_json::from_slice(&line) {
            return Err(self.refused(&refusal));
        }
        let answer = serde_json::from_slice(&line).map_err(|error| self.silent(error.into()))?;
        Ok((running, answer))
    }

    fn silent(&self, error: io::Error) -> Fault {
        let fact = format!("the reader of {} gives no answer: {error}", self.named);
        let program = self.program.file_name().unwrap_or_default().display();
        Fault::new(Code::ViewUnreadable, fact, format!("install {program} beside glovebox, or name another program"))
    }

    /// A reader's words, which may be anyone's.
    fn refused(&self, refusal: &Refusal) -> Fault {
        let fact = format!("{}: {} ({})", self.named, words(&refusal.fact), refusal.code.as_str());
        let remedy = Some(words(&refusal.remedy)).filter(|remedy| !remedy.is_empty());
        Fault::new(Code::ViewUnreadable, fact, remedy.unwrap_or_else(|| "ask whoever made the reader".into()))
    }

    fn start(&self, task: &str, request: Request) -> io::Result<Running> {
        let connection = match &self.place {
            Place::Behind { connection, .. } => Some(connection),
            Place::Delta => None,
        };
        let mut command = command(&self.program, task, connection);
        // By its handle: a path might lead elsewhere by now.
        let folder = self.folder.as_ref().map(|folder| format!("/proc/self/fd/{}", folder.as_raw_fd()));
        command.current_dir(folder.as_deref().unwrap_or("/"));
        Running::start(command, serde_json::to_vec(&request)?)
    }
}

/// A program with nothing but pipes and the variables that its connection names.
fn command(program: &Path, task: &str, connection: Option<&Connection>) -> Command {
    let mut command = Command::new(program);
    command.arg(task).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let secrets = connection.into_iter().flat_map(|connection| connection.secrets.values());
    command.envs(secrets.filter_map(|secret| match secret {
        Secret::Environment(name) => std::env::var_os(name).map(|value| (name, value)),
        Secret::File(_) => None,
    }));
    command
}

/// Has the program of a connection put a result into its place; or says why it is not there.
pub(crate) fn write(asked: &Write, result: Vec<u8>) -> std::result::Result<Written, String> {
    let silent = |error: io::Error| format!("its writer gives no answer: {error}");
    let program = asked.connection.program.clone().unwrap_or_else(|| beside_this_one(PROGRAM));
    let mut input = serde_json::to_vec(asked).map_err(|error| silent(error.into()))?;
    input.push(b'\n');
    input.extend(result);
    let started = Running::start(command(&program, WRITE, Some(&asked.connection)), input);
    let mut running = started.map_err(silent)?;
    let line = running.line().map_err(silent)?;
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&line) {
        return Err(format!("{} ({})", words(&refusal.fact), refusal.code.as_str()));
    }
    running.succeeded().map_err(silent)?;
    serde_json::from_slice(&line).map_err(|error| silent(error.into()))
}

/// A stranger's words: in one line, and not too long.
fn words(text: &str) -> String {
    let plain = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = plain.collect::<Vec<_>>().join(" ").chars().take(WORDS_MAX).collect::<String>();
    words.trim_end_matches('.').to_owned()
}

fn beside_this_one(program: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(program)
}

/// A pin's digest: equal pins are equal rows.
pub(super) fn sha256(pin: &Pin) -> String {
    // Texts and numbers alone: writing them cannot fail.
    sha256_hex(&serde_json::to_vec(pin).unwrap_or_default())
}

/// A table as it was pinned.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) pin: Pin,
    kept: Option<Kept>,
}

impl Pinned {
    /// What was pinned, while nobody keeps it.
    pub(super) const fn of(pin: Pin) -> Self {
        Self { pin, kept: None }
    }
}

/// A state of a table that is there as long as the reader that pinned it.
#[derive(Debug)]
struct Kept {
    snapshot: String,
    _by: Running,
}

/// A reader at work. It ends with its handle.
#[derive(Debug)]
struct Running {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command, said: Vec<u8>) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let mut running = Self { child, output: None };
        let Some((mut input, output)) = pipes else { return Err(io::Error::other("it has no pipes")) };
        running.output = Some(BufReader::new(output));
        // A program that does not listen must not make this one wait; what becomes of it shows in its answer.
        std::thread::Builder::new().spawn(move || drop(input.write_all(&said)))?;
        Ok(running)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let output = self.output.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        output.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    fn succeeded(&mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A table whose rows another process reads.
pub(super) struct RemoteTable {
    remote: Arc<Remote>,
    schema: SchemaRef,
    /// None of a table that is only planned with.
    pin: Option<Arc<Pinned>>,
}

impl fmt::Debug for RemoteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteTable")
    }
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The engine filters again, whatever the reader left out.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match hint(filter, &self.schema) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => Arc::clone(&self.schema),
        };
        let pin = self.pin.as_deref().ok_or_else(|| DataFusionError::Internal("the table is not pinned".into()))?;
        let read = Read {
            pin: pin.pin.clone(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            hints: filters.iter().filter_map(|filter| hint(filter, &self.schema)).collect(),
            snapshot: pin.kept.as_ref().map(|kept| kept.snapshot.clone()),
        };
        let scan = Scan { remote: Arc::clone(&self.remote), schema: Arc::clone(&schema), read };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, limit)?))
    }
}

/// What a filter says of one column, if it is as simple as that.
fn hint(filter: &Expr, schema: &SchemaRef) -> Option<Hint> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (column, op, to) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(to, _)) => (column, Some(*op), to),
        (Expr::Literal(to, _), Expr::Column(column)) => (column, op.swap(), to),
        _ => return None,
    };
    let is = match op? {
        Operator::Eq => Comparison::Equal,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::AtMost,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::AtLeast,
        _ => return None,
    };
    let kind = schema.field_with_name(&column.name).ok()?.data_type();
    let to = match (kind, to) {
        (DataType::Int64, ScalarValue::Int64(Some(value))) => Literal::Int64(*value),
        (DataType::Utf8, ScalarValue::Utf8(Some(value))) => Literal::Utf8(value.clone()),
        _ => return None,
    };
    Some(Hint { column: column.name.clone(), is, to })
}

/// One reading of a table, from its beginning.
#[derive(Debug)]
struct Scan {
    remote: Arc<Remote>,
    schema: SchemaRef,
    read: Read,
}

impl Scan {
    fn rows(&self) -> io::Result<Rows> {
        let request =
            Request { place: self.remote.place.clone(), version: None, hold: false, read: Some(self.read.clone()) };
        let mut running = self.remote.start(READ, request)?;
        let output = running.output.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let rows = RowsReader::new(output, Arc::clone(&self.schema))?;
        // Rows are paid for by now: why there are none is told in the run's words alone.
        let rows = rows.map_err(|refusal| io::Error::other(refusal.code.as_str()))?;
        Ok(Rows { rows: Some(rows), running })
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let scan = Self { remote: Arc::clone(&self.remote), schema: Arc::clone(&self.schema), read: self.read.clone() };
        let rows_max = context.session_config().batch_size();
        let batches = std::iter::once_with(move || scan.rows()).flat_map(|rows| -> Batches {
            match rows {
                Ok(rows) => Box::new(rows.map(|batch| batch.map_err(ArrowError::from))),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            }
        });
        let batches = batches.flat_map(move |batch| Pieces::new(batch, rows_max));
        let batches = stream::iter(batches.map(|batch| batch.map_err(Into::into)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// The rows of a reader that then ends well.
struct Rows {
    /// Nothing once they ended, well or not.
    rows: Option<RowsReader<BufReader<ChildStdout>>>,
    running: Running,
}

impl Iterator for Rows {
    type Item = io::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.rows.as_mut()?.next();
        if let Some(Ok(_)) = next {
            return next;
        }
        self.rows = None;
        next.or_else(|| self.running.succeeded().err().map(Err))
    }
}

/// The way that a connection of this host leads, for what is its owner's.
pub(crate) fn connection_of(connections: &str, name: &str, owner: &str, whose: &str) -> Result<Connection> {
    let connections: std::collections::BTreeMap<String, Connection> =
        crate::parse::toml(connections).map_err(|why| invalid(format!("connections.toml cannot be read: {why}")))?;
    let connection = connections.get(name).ok_or_else(|| invalid(format!("this host has no connection {name}")))?;
    if connection.owner != owner {
        return Err(invalid(format!("{whose} names the connection {name} of {}", connection.owner)));
    }
    Ok(connection.clone())
}

/// Why there is no way.
pub(crate) fn invalid(fact: String) -> Fault {
    Fault::new(Code::ConnectionInvalid, fact, "correct connections.toml in the folder of this host's state")
}
