//! How the keeper of a ledger says no: in one line of fact and one of remedy.

use std::error::Error as _;

use glovebox_source_protocol::store::{Refused, Why};
use postgres::error::SqlState;

pub(crate) type Result<T, E = Refused> = std::result::Result<T, E>;

pub(crate) fn invalid(fact: impl Into<String>, remedy: &str) -> Refused {
    Refused { why: Why::Invalid, fact: fact.into(), remedy: remedy.into() }
}

pub(crate) fn failed(fact: impl Into<String>, remedy: &str) -> Refused {
    Refused { why: Why::Failed, fact: fact.into(), remedy: remedy.into() }
}

/// What the client says, with its cause; it repeats neither password nor values.
fn words(error: &postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Why there is no connection.
pub(crate) fn unreachable(error: &postgres::Error) -> Refused {
    let remedy = match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "correct the user in --store, or the password that store.toml names; see the server's pg_hba.conf"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => "correct the database in --store, or make it with createdb",
        Some(_) => "see the server's log",
        None => "start the server, or correct the place in --store",
    };
    Refused { why: Why::Unreachable, fact: words(error), remedy: remedy.into() }
}

/// What a statement ended with. Without a word of the server, or with its farewell, the connection is lost.
pub(crate) fn broken(error: &postgres::Error) -> Refused {
    let is_farewell = |code: &SqlState| code.code().starts_with("57P") || code.code().starts_with("08");
    if error.code().is_none_or(is_farewell) {
        let fact = format!("the connection is lost: {}", words(error));
        let remedy = "start the server again; what it has committed counts, and what it has not does not";
        return Refused { why: Why::Unreachable, fact, remedy: remedy.into() };
    }
    failed(words(error), "let the user of --store read and add rows in the schema `glovebox`, and see the server's log")
}
