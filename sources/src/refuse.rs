//! How a reader says no: in one line of fact and one of remedy.

use glovebox_source_protocol::{Refusal, RefusalCode};

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

pub(crate) fn refuse(code: RefusalCode, fact: impl AsRef<str>, remedy: &str) -> Refusal {
    Refusal::new(code, fact, remedy)
}

pub(crate) fn unreadable(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::SourceUnreadable, fact, "check the name of the table, and that the agent may read it")
}

pub(crate) fn changed(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::SourceChanged, fact, "run again, so that the table is pinned as it is now")
}
