//! The DataFusion session of one view: its share of memory and threads, its spill folder, its functions.
//!
//! Every view has a session of its own, so that no view's SQL can name another view's tables. A session reaches no
//! file system, reads no environment, and knows no table function.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SessionStateDefaults, TaskContext};
use datafusion::prelude::SessionConfig;
use tempfile::TempDir;

use super::Resources;
use super::folder::{Folder, URL};
use super::masks::masks;
use crate::error::{self, Code, Fault};
use crate::privacy::RoomKey;

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;

/// A sort with less memory than this spills too often: rather fewer sorts at a time.
const SORT_BYTES_MIN: usize = 16 << 20;

/// A folder for sorted rows that do not fit in memory. Only this process's user may enter it; it ends with the run.
pub(super) struct Scratch(TempDir);

impl Scratch {
    pub(super) fn new() -> error::Result<Self> {
        let made = tempfile::Builder::new().prefix("glovebox-").permissions(Permissions::from_mode(0o700)).tempdir();
        made.map(Self).map_err(|error| {
            Fault::new(
                Code::Internal,
                format!("no folder for spilled rows could be made: {error}"),
                "point TMPDIR to a folder with free space",
            )
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// One view's part of a run's [`Resources`]. Half of the memory is for reading, aggregating and joining, half for the
/// sorts, each of which has its own.
#[derive(Clone, Debug)]
pub(super) struct Share {
    read_bytes: usize,
    sort_bytes: usize,
    sorts: usize,
    scratch: Option<PathBuf>,
    room_key: RoomKey,
}

impl Share {
    pub(super) fn new(resources: &Resources, views: usize, scratch: &Scratch) -> Self {
        let half = resources.memory_bytes / views.max(1) / 2;
        let sorts = (half / SORT_BYTES_MIN).clamp(1, resources.threads.max(1));
        let (scratch, room_key) = (Some(scratch.path().to_owned()), resources.room_key);
        Self { read_bytes: half, sort_bytes: half / sorts, sorts, scratch, room_key }
    }

    /// For a session that executes nothing.
    pub(super) const fn for_planning() -> Self {
        Self { read_bytes: 0, sort_bytes: 0, sorts: 1, scratch: None, room_key: RoomKey::none() }
    }
}

/// A session that can read the folder's files, and nothing else.
pub(super) fn state(folder: Folder, share: &Share) -> Result<SessionState> {
    let runtime = runtime(share.read_bytes, share)?;
    runtime.register_object_store(ObjectStoreUrl::parse(URL)?.as_ref(), Arc::new(folder));
    Ok(SessionStateBuilder::new()
        // A view that joins sorts as well, both sides in every partition, out of one pool.
        .with_config(config(share, share.read_bytes / share.sorts.max(2) / 8))
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(
            SessionStateDefaults::default_scalar_functions().into_iter().chain(masks(share.room_key)).collect(),
        )
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .build())
}

/// A context per sort, each with memory of its own and access to no file but those it spills.
pub(super) fn sorters(share: &Share) -> Result<Vec<Arc<TaskContext>>> {
    // Rows are charged at twice their size, and a merge needs about three times their size besides: with a half set
    // aside, neither ever finds the pool empty.
    let config = config(share, share.sort_bytes / 2);
    let sorter = |_| {
        let context = TaskContext::default().with_session_config(config.clone());
        Ok(Arc::new(context.with_runtime(runtime(share.sort_bytes, share)?)))
    };
    (0..share.sorts).map(sorter).collect()
}

fn config(share: &Share, merge_bytes: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        // With one partition the planner knows hash joins only.
        .with_target_partitions(share.sorts.max(2))
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        .with_default_catalog_and_schema("room", "view")
        // A hash join holds one side in memory; a merge join spills.
        .set_bool("datafusion.optimizer.prefer_hash_join", false)
        .with_sort_spill_reservation_bytes(merge_bytes);
    let options = config.options_mut();
    // One text type whatever the file's format, and none whose batches hold on to the memory of others.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}

fn runtime(memory_bytes: usize, share: &Share) -> Result<Arc<RuntimeEnv>> {
    let spill = match &share.scratch {
        Some(path) => DiskManagerMode::Directories(vec![path.clone()]),
        None => DiskManagerMode::Disabled,
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
        .build_arc()?;
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    Ok(runtime)
}
