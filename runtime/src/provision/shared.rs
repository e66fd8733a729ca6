//! A view that its owner reads whole, outside of any run, to share it with someone by name.
//!
//! It goes through the same files, session and checked plan as a view of a run, and through nothing else of a run: no
//! agreement, no privacy, no budget. Whoever calls this decides who sees the rows.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use cap_std::fs::Dir;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use tokio::runtime::Builder;

use super::folder::Stamp;
use super::session::{Scratch, Share};
use super::view::{self, PlannedView, unreadable_rows};
use super::{Resources, no_runtime};
use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::room::{View, sha256_hex};

/// What reading a shared view may use.
const RESOURCES: Resources = Resources { memory_bytes: 512 << 20, threads: 2 };

/// A view of a room, read by the party that owns it.
#[derive(Debug)]
pub struct SharedView {
    room: Dir,
    view: View,
}

/// What a view's definition and files look like from outside: equal stamps are the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStamp(String, Vec<Stamp>);

impl SharedView {
    /// Finds a view that a party owns. No file of it is opened yet.
    pub fn find(room: &Dir, owner: &str, id: &str) -> Result<Self> {
        let terms = gate::read_room(room)?;
        let view = terms.view(id).filter(|view| view.owner == owner).cloned();
        let view = view.ok_or_else(|| {
            Fault::new(
                Code::ViewInvalid,
                format!("the room has no view {} of {}", id.escape_debug(), owner.escape_debug()),
                "share views that this party owns, by their ids in room.toml",
            )
        })?;
        let room = room.try_clone().map_err(|error| {
            Fault::new(
                Code::Internal,
                format!("the room cannot be kept open: {error}"),
                "free some files and try again",
            )
        })?;
        Ok(Self { room, view })
    }

    /// A cheap look at definition and files.
    pub fn stamp(&self) -> Result<ViewStamp> {
        Ok(ViewStamp(self.view.sha256(), view::stamps(&self.room, &self.view)?))
    }

    /// SHA-256 over the definition and the bytes of every source, in hex.
    pub fn sha256(&self) -> Result<String> {
        let sources = view::digest(&self.room, &self.view)?.into_iter().map(|(digest, _)| digest.sha256);
        let all: Vec<String> = std::iter::once(self.view.sha256()).chain(sources).collect();
        Ok(sha256_hex(all.join("\n").as_bytes()))
    }

    /// Hands on all rows, a batch at a time; returns the columns. Fails where a file changes meanwhile.
    pub fn read(&self, each: &mut dyn FnMut(&SchemaRef, RecordBatch) -> Result<()>) -> Result<SchemaRef> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(RESOURCES.threads)
            .build()
            .map_err(|error| no_runtime(&error))?;
        let scratch = Scratch::new()?;
        let unreadable = |error| unreadable_rows(&self.view.id, &error);
        let (planned, mut rows): (PlannedView, SendableRecordBatchStream) = runtime.block_on(async {
            let planned = PlannedView::new(&self.room, &self.view, &Share::new(&RESOURCES, 1, &scratch)).await?;
            let rows = planned.rows().await?;
            Ok::<_, Fault>((planned, rows))
        })?;
        let schema = rows.schema();
        while let Some(batch) = runtime.block_on(rows.try_next()).map_err(unreadable)? {
            each(&schema, batch)?;
        }
        if planned.is_unchanged() {
            return Ok(schema);
        }
        Err(Fault::new(
            Code::ViewUnreadable,
            format!("a file of view {} changed while it was read", self.view.id),
            "replace files by renaming new ones into place, and try again",
        ))
    }
}
