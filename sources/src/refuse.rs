//! How a reader says no: in one line of fact and one of remedy.

use glovebox_source_protocol::{Refusal, RefusalCode};

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

/// The longest text that is told.
const CHARS_MAX: usize = 400;

pub(crate) fn refuse(code: RefusalCode, fact: impl AsRef<str>, remedy: &str) -> Refusal {
    // The words of libraries have lines and ends of their own.
    let words = fact.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
    Refusal { code, fact: words.chars().take(CHARS_MAX).collect(), remedy: remedy.into() }
}

pub(crate) fn unreadable(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::SourceUnreadable, fact, "check the name of the table, and that the agent may read it")
}

pub(crate) fn changed(fact: impl AsRef<str>) -> Refusal {
    refuse(RefusalCode::SourceChanged, fact, "run again, so that the table is pinned as it is now")
}
