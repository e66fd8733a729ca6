//! Where a ledger's entries are kept: in a file of this host, or on a server that several hosts have in common.
//!
//! A store keeps what it is given and decides one thing, which of two writers was first. What an entry means, whether an
//! account can pay, and the chain of hashes are the ledger's, so that both stores promise the same.

mod server;
mod sqlite;

use std::fmt;

use cap_std::fs::Dir;
use glovebox_source_protocol::store::{RecordName, Row};

use super::ledger::{Kept, LedgerHead, StoredAnswer};
use crate::error::Result;

/// An open store.
pub(super) trait Store: fmt::Debug {
    /// How many rows there are, and the hash of the last one.
    fn head(&self) -> Result<LedgerHead>;

    /// The rows of this number and all later ones, in order.
    fn rows(&self, from: u64) -> Result<Vec<Row>>;

    /// Adds rows, and a run's answer where its question has none: all of it, durably, and only if the head is still that.
    /// Says whether it was; otherwise someone else was first, and nothing is added.
    fn append(&self, after: &LedgerHead, rows: &[Row], answer: Option<(&str, &Kept<'_>)>) -> Result<bool>;

    /// The answer that is kept for a question.
    fn answer(&self, question: &str) -> Result<Option<StoredAnswer>>;

    /// The records of contributors that several hosts have in common, in order; none where a host has them in its folder
    /// alone.
    fn records(&self) -> Result<Option<Vec<RecordName>>> {
        Ok(None)
    }

    /// One of these records.
    fn record(&self, _run: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Adds such a record, durably, if there are still just so many. Says whether it was.
    fn keep(&self, _after: u64, _name: &RecordName, _bytes: &[u8]) -> Result<bool> {
        Ok(true)
    }
}

/// Makes the store of a host that has no room yet, and what else such a host needs.
pub(super) fn create(state: &Dir, place: Option<&str>) -> Result<()> {
    match place {
        None => sqlite::create(state),
        Some(place) => server::create(state, place),
    }
}

/// Opens the store of a host.
pub(super) fn open(state: &Dir, place: Option<&str>) -> Result<Box<dyn Store>> {
    match place {
        None => Ok(Box::new(sqlite::Sqlite::open(state)?)),
        Some(place) => Ok(Box::new(server::Server::open(state, place)?)),
    }
}
