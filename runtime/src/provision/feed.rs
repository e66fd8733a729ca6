//! Carries a view's sorted batches from the threads that read to the one that joins.
//!
//! A view whose reader ended early must never pass for one that was read to its end, so the end is a message of its
//! own, with what was read and kept. Batches are those of one shard at a time. A view without rows, or without units, is refused here, whatever its slot says.

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::channel::mpsc::{self, Receiver, Sender};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio::runtime::{Handle, Runtime};

use super::shard::{Intake, Recheck};
use super::view::{PlannedView, unreadable_rows};
use crate::error::{Code, Fault, Result};

/// What comes of a view next.
enum Said {
    /// Rows of a shard.
    Rows(u16, RecordBatch),
    /// All has come.
    End(Intake),
}

/// What a reader knows of the next message.
enum Ahead {
    Unknown,
    Known(Said),
    Failed,
}

/// The sorted batches of one view, of one shard after the other; blocks for the next one.
pub(super) struct Feed {
    view: String,
    handle: Handle,
    messages: Receiver<Result<Said>>,
    ahead: Ahead,
    /// None before the first and after the last.
    shard: Option<u16>,
}

impl Feed {
    /// Starts to read, a batch or two ahead of the join.
    pub(super) fn start(
        runtime: &Runtime,
        view: PlannedView,
        sorted: SendableRecordBatchStream,
        recheck: Recheck,
    ) -> Self {
        let (sender, messages) = mpsc::channel(0);
        let name = view.schema().view().to_owned();
        runtime.spawn(send_all(view, sorted, recheck, sender));
        Self { view: name, handle: runtime.handle().clone(), messages, ahead: Ahead::Unknown, shard: None }
    }

    /// Waits until it is known what comes next: by then the view is read and sorted.
    pub(super) fn look(&mut self) -> Result<()> {
        if let Ahead::Unknown = self.ahead {
            self.ahead = Ahead::Failed;
            let said = self.handle.block_on(self.messages.next()).unwrap_or_else(|| {
                Err(Fault::new(
                    Code::Internal,
                    format!("the reader of view {} ended before the view did", self.view),
                    "report this as a defect",
                ))
            })?;
            self.ahead = Ahead::Known(said);
        }
        Ok(())
    }

    /// Passes over what is left of the shard at hand, and goes on to another.
    pub(super) fn turn_to(&mut self, shard: Option<u16>) -> Result<()> {
        self.by_ref().try_for_each(|rest| rest.map(drop))?;
        self.shard = shard;
        Ok(())
    }

    /// What was read, to be asked after the last shard.
    pub(super) fn end(&mut self) -> Result<Intake> {
        self.turn_to(None)?;
        match &self.ahead {
            Ahead::Known(Said::End(intake)) => Ok(intake.clone()),
            _ => Err(Fault::new(
                Code::ShardsDiffer,
                format!("view {} has more shards than the run", self.view),
                "report this as a defect",
            )),
        }
    }
}

impl Iterator for Feed {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(fault) = self.look() {
            return Some(Err(fault));
        }
        if !matches!(&self.ahead, Ahead::Known(Said::Rows(shard, _)) if Some(*shard) == self.shard) {
            return None;
        }
        match std::mem::replace(&mut self.ahead, Ahead::Unknown) {
            Ahead::Known(Said::Rows(_, batch)) => Some(Ok(batch)),
            _ => None,
        }
    }
}

async fn send_all(
    view: PlannedView,
    sorted: SendableRecordBatchStream,
    recheck: Recheck,
    mut sender: Sender<Result<Said>>,
) {
    let last = send_batches(&view, sorted, recheck, &mut sender).await;
    // Nobody listens any more when the run has ended before this view did.
    if let Some(last) = last.transpose() {
        let _ = sender.send(last.map(Said::End)).await;
    }
}

/// None where nobody listens any more.
async fn send_batches(
    view: &PlannedView,
    mut sorted: SendableRecordBatchStream,
    mut recheck: Recheck,
    sender: &mut Sender<Result<Said>>,
) -> Result<Option<Intake>> {
    let name = view.schema().view();
    view.check_mapping().await?;
    let mut rows = 0;
    while let Some(batch) = sorted.try_next().await.map_err(|error| unreadable_rows(name, &error))? {
        if rows == 0 {
            // The sort gives out its first batch when it has read all files.
            check_unchanged(view)?;
        }
        rows += batch.num_rows();
        for (shard, piece) in recheck.take(&batch)? {
            if sender.send(Ok(Said::Rows(shard, piece))).await.is_err() {
                return Ok(None);
            }
        }
    }
    if rows == 0 {
        check_unchanged(view)?;
        check_not_empty(view).await?;
    }
    Ok(Some(recheck.end()))
}

fn check_unchanged(view: &PlannedView) -> Result<()> {
    if view.is_unchanged() {
        return Ok(());
    }
    Err(Fault::new(
        Code::ViewUnreadable,
        format!("a file of view {} changed while it was read", view.schema().view()),
        "replace files by renaming new ones into place, and run again",
    ))
}

/// No row has come out of the plan; tells why, where the reason is the view's and not the slot's.
async fn check_not_empty(view: &PlannedView) -> Result<()> {
    let name = view.schema().view();
    match view.has_rows_and_units().await? {
        (true, true) => Ok(()),
        (false, _) => Err(Fault::new(
            Code::ViewEmpty,
            format!("view {name} has no rows"),
            "check the view's files and the conditions of its SQL",
        )),
        (true, false) => Err(Fault::new(
            Code::UnitNull,
            format!("the unit column of view {name} names nobody in any row"),
            "name another unit column, fill this one, or look at what the view's `unit_rules` or its mapping make of it",
        )),
    }
}
