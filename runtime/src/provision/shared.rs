//! A view that its owner reads whole, outside of any run, to share it with someone by name.
//!
//! It goes through the same files, session and checked plan as a view of a run, and through nothing else of a run: no
//! agreement, no privacy, no budget. Whoever calls this decides who sees the rows.

use std::path::Path;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use cap_std::fs::Dir;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use tokio::runtime::Builder;

use super::folder::Stamp;
use super::session::{Scratch, Share};
use super::source;
use super::view::{PlannedView, unreadable_rows};
use super::{Host, Resources, Split, no_runtime};
use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::privacy::RoomKey;
use crate::room::{View, sha256_hex};

/// What reading a shared view may use.
const RESOURCES: Resources =
    Resources { memory_bytes: 512 << 20, threads: 2, room_key: RoomKey::none(), split: Split::none() };

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
        // Sharing has no key of the room, and a pseudonym under a key that everybody knows names whoever can be guessed.
        if view.may_write_pseudonyms() {
            return Err(Fault::new(
                Code::ViewInvalid,
                format!("view {} may write pseudonyms, which are for runs in the room alone", id.escape_debug()),
                "share a view whose SQL does not have the word `pseudonym`",
            ));
        }
        if let Some(elsewhere) = view.sources.iter().find(|source| !source::is_file(source)) {
            return Err(Fault::new(
                Code::ViewInvalid,
                format!("source `{}` of view {} is no file", elsewhere.path.escape_debug(), id.escape_debug()),
                "share views over files and folders of the room; a table in a catalogue is shared by its own server",
            ));
        }
        let room = room.try_clone().map_err(|error| {
            Fault::new(
                Code::Internal,
                format!("the room cannot be kept open: {error}"),
                "free some files and try again",
            )
        })?;
        Ok(Self { room, view })
    }

    /// Its sources are files, so no connection of the host is asked for.
    fn host(&self) -> Host<'_> {
        Host { dir: &self.room, state: Path::new("") }
    }

    /// A cheap look at definition and files.
    pub fn stamp(&self) -> Result<ViewStamp> {
        Ok(ViewStamp(self.view.sha256(), source::stamps(&self.host(), &self.view)?))
    }

    /// SHA-256 over the definition and the bytes of every source, in hex.
    pub fn sha256(&self) -> Result<String> {
        let sources = source::digest(&self.host(), &self.view, &[])?.into_iter().map(|(digest, _)| digest.sha256);
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
            let planned =
                PlannedView::new(&self.host(), &self.view, &Share::new(&RESOURCES, 1, &scratch), None).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str, sql: &str) -> Result<SharedView> {
        let folder = tempfile::tempdir().unwrap();
        let room = format!(
            "version = 1\nid = \"r\"\nunit = \"person\"\n[[party]]\nid = \"ours\"\n[[view]]\nid = \"v\"\n\
             owner = \"ours\"\nunit = \"id\"\nsources = {{ t = \"{source}\" }}\nsql = \"{sql}\"\n"
        );
        std::fs::write(folder.path().join("room.toml"), room).unwrap();
        SharedView::find(&crate::open_room(folder.path()).unwrap(), "ours", "v")
    }

    #[test]
    fn a_view_with_pseudonyms_is_not_shared() {
        let view = |sql| found("data/ours/t.csv", sql);
        assert!(view("SELECT id, sha256_hex(id) AS name FROM t").is_ok());
        let refused = view("SELECT id, Pseudonym(id) AS name FROM t").unwrap_err();
        assert_eq!(refused.code(), Code::ViewInvalid);
    }

    /// What a pin holds still for a run, nothing holds still for a share.
    #[test]
    fn a_view_of_what_is_no_file_is_not_shared() {
        let view = |source| found(source, "SELECT id FROM t");
        assert!(view("data/ours/t.csv").is_ok() && view("data/ours/months/").is_ok());
        for source in ["delta:data/ours/t", "shop:t"] {
            let refused = view(source).unwrap_err();
            assert_eq!(refused.fact(), format!("source `{source}` of view v is no file"));
        }
    }
}
