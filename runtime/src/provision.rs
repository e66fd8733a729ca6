//! Step 2 of the data path: the agreed views become one stream of privacy units, each with its own rows only.
//!
//! Views are opened, planned and checked against the agreement before a row is read; every row of every view has been
//! read and sorted before the first unit is handed on. Memory is bounded by [`Resources`], never by the input. Nothing
//! here may show one unit's rows under another unit's key, or put a row or an identifier into an error.

mod across;
mod explain;
mod feed;
mod folder;
mod footer;
mod join;
mod mapping;
mod masks;
mod normalise;
mod records;
mod remote;
mod schema;
mod session;
mod shard;
mod shared;
mod sort;
mod source;
mod table;
mod view;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use cap_std::fs::{Dir, File, PermissionsExt};
use glovebox_source_protocol::{Connection, Pin};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::explain::explain;
pub use self::explain::{Scan, SlotPlan};
use self::feed::Feed;
use self::folder::Stamp;
use self::join::{JoinInput, Joined};
pub(crate) use self::remote::PROGRAM as READER;
use self::remote::Pinned;
pub(crate) use self::remote::write;
use self::schema::KeyType;
pub(crate) use self::schema::ViewSchema;
pub(crate) use self::schema::slot_schema;
use self::session::{Scratch, Share};
pub(crate) use self::shard::{Intake, Multiset, Split, differ};
pub use self::shared::{SharedView, ViewStamp};
use self::view::PlannedView;
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::gate::Approved;
use crate::privacy::RoomKey;
use crate::room::{BoundView, Join, Slot, View};

/// In the folder of the host's state: the ways to tables that are not in a room.
const CONNECTIONS_FILE: &str = "connections.toml";
const CONNECTIONS_BYTES_MAX: u64 = 1 << 20;

/// One person's (household's, account's) rows.
pub(crate) struct Unit {
    pub(crate) key: UnitKey,
    /// One run of rows per slot, in slot order.
    pub(crate) views: Vec<Rows>,
}

#[cfg(test)]
impl Unit {
    /// A unit with one row, of no columns, in one view.
    pub(crate) fn of_one_view(key: i64) -> Self {
        let batch = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        Self { key: UnitKey::Int64(key), views: vec![Rows { batch: Arc::new(batch), start: 0, count: 1 }] }
    }
}

/// What identifies a unit. Integers order by value, texts by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum UnitKey {
    Int64(i64),
    Utf8(Arc<str>),
}

impl fmt::Debug for UnitKey {
    /// An identifier never reaches a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnitKey(..)")
    }
}

/// A run of rows in a batch that has exactly the slot's columns, in the manifest's order and of canonical types.
///
/// The batch holds rows of other units too: only `start..start + count` may be shown to a guest.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) batch: Arc<RecordBatch>,
    pub(crate) start: usize,
    /// Zero for an optional slot without rows.
    pub(crate) count: usize,
}

/// What provisioning may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    /// Memory for sorting, over all views; what does not fit is spilled to a private folder.
    pub(crate) memory_bytes: usize,
    pub(crate) threads: usize,
    /// The key of the pseudonyms that views write.
    pub(crate) room_key: RoomKey,
    /// How units are split, and which of them are read.
    pub(crate) split: Split,
}

/// A file or a table that a view reads, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceDigest {
    pub(crate) view: String,
    pub(crate) source: String,
    /// Of a file's bytes, or of a table's pin.
    pub(crate) sha256: String,
    /// Of a table that has versions, the one that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
}

/// What tells a source from what is in its place later.
#[derive(Clone, Debug)]
enum Held {
    File(Stamp),
    Table(Arc<Pinned>),
}

/// A source as another process of this host finds it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SourcePin {
    File(SourceDigest, Stamp),
    Table(SourceDigest, Pin),
}

impl Held {
    const fn file(&self) -> Option<Stamp> {
        match self {
            Self::File(stamp) => Some(*stamp),
            Self::Table(_) => None,
        }
    }

    const fn table(&self) -> Option<&Arc<Pinned>> {
        match self {
            Self::File(_) => None,
            Self::Table(pin) => Some(pin),
        }
    }
}

/// What the files of a run's views held when it began: equal digests are equal data. Tables that can be are kept as they
/// are for as long as this is.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Vec<(SourceDigest, Held)>);

impl Snapshot {
    /// The sources' digests, in slot order.
    pub(crate) fn sources(&self) -> Vec<SourceDigest> {
        self.0.iter().map(|(digest, _)| digest.clone()).collect()
    }

    pub(crate) fn pins(&self) -> Vec<SourcePin> {
        let pin = |(digest, held): &(SourceDigest, Held)| match held {
            Held::File(stamp) => SourcePin::File(digest.clone(), *stamp),
            Held::Table(table) => SourcePin::Table(digest.clone(), table.pin.clone()),
        };
        self.0.iter().map(pin).collect()
    }

    /// What is left of it when all is read: no server keeps a state for it any more.
    pub(crate) fn let_go(self) -> Self {
        Self::of_pins(self.pins())
    }

    pub(crate) fn of_pins(pins: Vec<SourcePin>) -> Self {
        let held = |pin| match pin {
            SourcePin::File(digest, stamp) => (digest, Held::File(stamp)),
            SourcePin::Table(digest, pin) => (digest, Held::Table(Arc::new(Pinned::of(pin)))),
        };
        Self(pins.into_iter().map(held).collect())
    }

    /// Whether a view's files are those that were digested: all of them, unchanged, and no other.
    fn is_of(&self, view: &str, files: &[(&str, Stamp)]) -> bool {
        let digested = self.0.iter().filter(|(digest, _)| digest.view == view);
        let known: Vec<_> =
            digested.filter_map(|(digest, held)| Some((digest.source.as_str(), held.file()?))).collect();
        files.iter().all(|file| known.contains(file)) && known.iter().all(|file| files.contains(file))
    }

    /// What was pinned of a view's table.
    fn pin(&self, view: &str, source: &str) -> Option<&Arc<Pinned>> {
        let found = self.0.iter().find(|(digest, _)| digest.view == view && digest.source == source);
        found.and_then(|(_, held)| held.table())
    }

    /// Whether opening the views looks at rows already: the types of a CSV file are those of its records.
    pub(crate) fn infers_types(&self) -> bool {
        self.0.iter().any(|(digest, held)| held.file().is_some() && digest.source.ends_with(".csv"))
    }
}

/// Digests the files and pins the tables of an approved run's views, without a look at what they mean. Tables are pinned
/// at the versions of an earlier run, where they are given.
pub(crate) fn snapshot(approved: &Approved, access: &dyn Access, earlier: &[SourceDigest]) -> Result<Snapshot> {
    let mut held = Vec::new();
    for view in approved.agreement().all_views() {
        held.extend(source::digest(access, view, earlier)?);
    }
    Ok(Snapshot(held))
}

/// Proof that the agreed views are open and are what was agreed. Their rows are being read.
pub(crate) struct Opened {
    approved: Approved,
    units: UnitStream,
}

impl Opened {
    /// Waits until every view is read and sorted, so that what is wrong with one shows before a guest runs.
    pub(crate) fn read(mut self) -> Result<Provisioned> {
        self.units.read_ahead()?;
        Ok(Provisioned { approved: self.approved, units: self.units })
    }
}

/// Proof that the agreed views are read, and are joined by unit.
pub(crate) struct Provisioned {
    pub(crate) approved: Approved,
    pub(crate) units: UnitStream,
}

/// Who may open the sources of which views.
pub(crate) trait Access {
    /// Opens a file of a view, without following any symlink.
    fn open(&self, view: &View, path: &str) -> io::Result<File>;

    /// Opens the folder of a table of a view, without following any symlink.
    fn open_folder(&self, view: &View, path: &str) -> io::Result<Dir>;

    /// The way to a view's tables behind a connection.
    fn connection(&self, view: &View, name: &str) -> Result<Connection>;
}

/// Whoever holds the room's own handle may look at any view's columns, to agree on it.
pub(crate) struct Host<'a> {
    pub(crate) dir: &'a Dir,
    /// The folder of the host's state, where its connections are.
    pub(crate) state: &'a Path,
}

impl Access for Host<'_> {
    fn open(&self, _view: &View, path: &str) -> io::Result<File> {
        files::open_file(self.dir, path)
    }

    fn open_folder(&self, _view: &View, path: &str) -> io::Result<Dir> {
        files::open_folder(self.dir, path)
    }

    fn connection(&self, view: &View, name: &str) -> Result<Connection> {
        connection(self.state, name, &view.owner, &format!("view {} of {}", view.id, view.owner))
    }
}

/// A connection of the host, for what is its owner's: a view, or a destination. It names secrets, so it is nobody else's
/// to read.
pub(crate) fn connection(state: &Path, name: &str, owner: &str, whose: &str) -> Result<Connection> {
    let unreadable = |error: io::Error| remote::invalid(format!("cannot read {CONNECTIONS_FILE}: {error}"));
    let state = files::open_dir(state).map_err(unreadable)?;
    let file = files::open_file(&state, CONNECTIONS_FILE).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
        return Err(remote::invalid(format!("{CONNECTIONS_FILE} can be read by others")));
    }
    let mut text = String::new();
    file.take(CONNECTIONS_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    remote::connection_of(&text, name, owner, whose)
}

/// Opens the views of an approved run as its principal, and nothing else. What goes wrong here goes wrong before a row
/// is read.
pub(crate) fn provision(
    approved: Approved,
    access: &dyn Access,
    resources: &Resources,
    snapshot: &Snapshot,
) -> Result<Opened> {
    let max_rows = approved.manifest().max_rows_per_unit().min(approved.agreement().controls.max_rows_per_unit);
    let units = open(access, &approved.bound(), max_rows, resources, Some(snapshot))?;
    Ok(Opened { approved, units })
}

/// Names and types of a view's columns. Reads no row of Parquet and Arrow files; the types of a CSV file are those of
/// its first records.
pub(crate) fn describe(access: &dyn Access, view: &View) -> Result<ViewSchema> {
    let runtime = Builder::new_current_thread().build().map_err(|error| no_runtime(&error))?;
    let planned = runtime.block_on(PlannedView::new(access, view, &Share::for_planning(), None))?;
    Ok(planned.into_schema())
}

/// Opens the bound views of a run and starts to read them.
pub(crate) fn open(
    access: &dyn Access,
    bound: &[(&BoundView, &Slot)],
    max_rows_per_unit: u32,
    resources: &Resources,
    snapshot: Option<&Snapshot>,
) -> Result<UnitStream> {
    let threads = resources.threads.max(1);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("provision")
        .build()
        .map_err(|error| no_runtime(&error))?;
    let scratch = Scratch::new()?;
    let views = bound.iter().map(|(bound, _)| bound.view.with_mapping().count()).sum();
    let share = Share::new(resources, views, &scratch);
    let views = runtime.block_on(plan(access, bound, &share, snapshot))?;
    let key = common_key(&views)?;

    let max_rows = usize::try_from(max_rows_per_unit).unwrap_or(usize::MAX);
    let mut inputs = Vec::with_capacity(bound.len());
    let mut lookups = Vec::new();
    for (index, (view, (_, slot))) in views.into_iter().zip(bound).enumerate() {
        if slot.join == Join::Lookup {
            lookups.push(Lookup { slot: index, view, of: (*slot).clone() });
            continue;
        }
        let (sorted, recheck) = runtime.block_on(view.sorted(slot, key, resources.split))?;
        let feed = Feed::start(&runtime, view, sorted, recheck);
        inputs.push(JoinInput { pages: feed, schema: slot_schema(slot), join: slot.join });
    }
    let joined = Joined::new(key, inputs, max_rows);
    let (split, shards) = (resources.split, Box::new(resources.split.shards()));
    let tables = Vec::new();
    Ok(UnitStream { split, shards, joined, lookups, tables, max_rows, runtime, _scratch: scratch })
}

/// The units of a run, shard after shard, and in key order within a shard. Blocks; must be neither used nor dropped
/// inside an async context.
// The order of the fields is the order of their end: readers, threads, spilled rows.
pub(crate) struct UnitStream {
    split: Split,
    /// Those that are still to come.
    shards: Box<dyn Iterator<Item = u16> + Send>,
    joined: Joined<Feed>,
    lookups: Vec<Lookup>,
    /// The rows of the lookups, once they are read.
    tables: Vec<(usize, Rows)>,
    max_rows: usize,
    runtime: Runtime,
    _scratch: Scratch,
}

/// A view that every unit is shown whole.
struct Lookup {
    slot: usize,
    view: PlannedView,
    of: Slot,
}

impl UnitStream {
    /// Goes on to the next shard, though it may have no units; `None` after the last.
    pub(crate) fn next_shard(&mut self) -> Result<Option<u16>> {
        let Some(shard) = self.shards.next() else { return Ok(None) };
        self.joined.restart(|feed| feed.turn_to(Some(shard)))?;
        Ok(Some(shard))
    }

    /// The next units of the shard at hand, a few hundred at most; `None` after its last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Vec<Unit>>> {
        let Some(mut units) = self.joined.next_chunk()? else { return Ok(None) };
        for (slot, rows) in &self.tables {
            units.iter_mut().for_each(|unit| unit.views.insert(*slot, rows.clone()));
        }
        Ok(Some(units))
    }

    /// What was read and kept, in slot order; to be asked after the last shard.
    pub(crate) fn intakes(&mut self) -> Result<Vec<Intake>> {
        let mut intakes = Vec::new();
        self.joined.restart(|feed| feed.end().map(|intake| intakes.push(intake)))?;
        for (slot, rows) in &self.tables {
            intakes.insert(*slot, Intake::of_lookup(&rows.batch, &self.split)?);
        }
        Ok(intakes)
    }

    /// Reads and sorts every view, so that what is wrong with one shows before the run is paid for.
    pub(crate) fn read_ahead(&mut self) -> Result<()> {
        for Lookup { slot, view, of } in std::mem::take(&mut self.lookups) {
            let table = self.runtime.block_on(view.whole(&of, self.max_rows))?;
            let rows = Rows { start: 0, count: table.num_rows(), batch: Arc::new(table) };
            self.tables.push((slot, rows));
        }
        self.joined.restart(Feed::look)
    }
}

/// Plans every view and checks it against the agreement and its slot.
async fn plan(
    access: &dyn Access,
    bound: &[(&BoundView, &Slot)],
    share: &Share,
    snapshot: Option<&Snapshot>,
) -> Result<Vec<PlannedView>> {
    let mut views = Vec::with_capacity(bound.len());
    for (bound, slot) in bound {
        let planned = PlannedView::new(access, &bound.view, share, snapshot).await?;
        if planned.schema().sha256() != bound.schema_sha256 {
            return Err(Fault::new(
                Code::ViewChanged,
                format!("the columns of view {} are not those that were agreed", bound.view.id),
                "compose a new agreement, or restore the agreed files",
            ));
        }
        planned.schema().check_slot(slot)?;
        views.push(planned);
    }
    Ok(views)
}

/// The one type of all unit columns: units that are numbers here and texts there never join.
fn common_key(views: &[PlannedView]) -> Result<KeyType> {
    let mut common: Option<(&PlannedView, KeyType)> = None;
    for view in views.iter().filter(|view| view.is_protected()) {
        let Some(key) = view.names_units().key()? else { continue };
        match common {
            Some((other, known)) if known != key => {
                return Err(Fault::new(
                    Code::ColumnType,
                    format!(
                        "the unit column of view {} is {known}, that of view {} is {key}",
                        other.names_units().view(),
                        view.names_units().view()
                    ),
                    "give the unit columns of all views one type, by a CAST in the view's SQL",
                ));
            }
            Some(_) => {}
            None => common = Some((view, key)),
        }
    }
    Ok(common.map_or(KeyType::Int64, |(_, key)| key))
}

fn no_runtime(error: &std::io::Error) -> Fault {
    Fault::new(Code::Internal, format!("no threads to read the views with: {error}"), "free some threads and try again")
}

#[cfg(test)]
mod tests;
