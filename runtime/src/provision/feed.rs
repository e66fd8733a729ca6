//! Carries a view's sorted batches from the threads that read to the one that joins.
//!
//! A view whose reader ended early must never pass for one that was read to its end, so the end is a message of its
//! own. A view without rows, or without units, is refused here, whatever its slot says.

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::channel::mpsc::{self, Receiver, Sender};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio::runtime::{Handle, Runtime};

use super::view::{PlannedView, unreadable_rows};
use crate::error::{Code, Fault, Result};

/// `None` is the end of the view.
type Message = Result<Option<RecordBatch>>;

/// The sorted batches of one view; blocks for the next one.
pub(super) struct Feed {
    view: String,
    handle: Handle,
    messages: Receiver<Message>,
    ended: bool,
}

impl Feed {
    /// Starts to read, a batch or two ahead of the join.
    pub(super) fn start(runtime: &Runtime, view: PlannedView, sorted: SendableRecordBatchStream) -> Self {
        let (sender, messages) = mpsc::channel(0);
        let name = view.schema().view().to_owned();
        runtime.spawn(send_all(view, sorted, sender));
        Self { view: name, handle: runtime.handle().clone(), messages, ended: false }
    }
}

impl Iterator for Feed {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let message = self.handle.block_on(self.messages.next()).unwrap_or_else(|| {
            Err(Fault::new(
                Code::Internal,
                format!("the reader of view {} ended before the view did", self.view),
                "report this as a defect",
            ))
        });
        self.ended = !matches!(message, Ok(Some(_)));
        message.transpose()
    }
}

async fn send_all(view: PlannedView, sorted: SendableRecordBatchStream, mut sender: Sender<Message>) {
    let last = match send_batches(&view, sorted, &mut sender).await {
        Ok(()) => Ok(None),
        Err(fault) => Err(fault),
    };
    // Nobody listens any more when the join has ended before this view did.
    let _ = sender.send(last).await;
}

async fn send_batches(
    view: &PlannedView,
    mut sorted: SendableRecordBatchStream,
    sender: &mut Sender<Message>,
) -> Result<()> {
    let name = view.schema().view();
    view.check_mapping().await?;
    let mut rows = 0;
    while let Some(batch) = sorted.try_next().await.map_err(|error| unreadable_rows(name, &error))? {
        if rows == 0 {
            // The sort gives out its first batch when it has read all files.
            check_unchanged(view)?;
        }
        rows += batch.num_rows();
        if sender.send(Ok(Some(batch))).await.is_err() {
            return Ok(());
        }
    }
    if rows == 0 {
        check_unchanged(view)?;
        check_not_empty(view).await?;
    }
    Ok(())
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
