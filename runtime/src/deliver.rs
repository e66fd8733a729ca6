//! Carries a released result on to where its recipient wants it, through a process of its own.
//!
//! What is carried is the file in the room, which must be what the run's receipt commits to. So it can be carried again,
//! byte for byte and for nothing; the place takes each run once.

use std::path::Path;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_source_protocol::{Connection, Target, Write};
use serde::Serialize;

use crate::destination::{Opening, opening_path, path_of};
use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::provision;
use crate::receipt;
use crate::room::{Delivery, Destination, sha256_hex};

const RESULT_BYTES_MAX: u64 = 1 << 30;
const OPENING_BYTES_MAX: u64 = 64 << 10;

/// A result that is where its recipient wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// The run.
    pub run_id: String,
    /// The place, as `CONNECTION:NAME`.
    pub to: String,
    /// Whether the place had it already.
    pub was_there: bool,
}

/// Carries the result of a receipt that verifies to the place that its agreement names.
pub fn deliver(dir: &Dir, state: &Path, path: &str, now: DateTime<Utc>) -> Result<Carried> {
    let evidence = receipt::evidence(dir, path, None, now)?;
    let (run_id, committed) = (evidence.run_id().to_owned(), evidence.output_commitment().to_owned());
    let (agreement, ..) = evidence.into_terms();
    let (delivery, connection) = way(state, &agreement.destination)?.ok_or_else(|| {
        let fact = format!("the agreement of run {run_id} names no place to deliver to");
        Fault::new(Code::DestinationFailed, fact, "take the result from its folder in the room")
    })?;
    let (result, opening) = committed_result(dir, &path_of(&agreement), &run_id, &committed)?;
    let asked = Write {
        connection,
        to: delivery.to.clone(),
        run_id: run_id.clone(),
        format: agreement.destination.format.extension().into(),
        sha256: sha256_hex(&result),
        opening,
    };
    let to = place(delivery);
    let written = provision::write(&asked, result).map_err(|why| {
        let fact = format!("the result of run {run_id} is in the room and not delivered to {to}: {why}");
        Fault::new(Code::DestinationFailed, fact, "deliver it later with `glovebox deliver` and the run's receipt")
    })?;
    Ok(Carried { run_id, to, was_there: written.was_there })
}

/// The result and its opening, as they are now: since the receipt was verified, others may have written to the room.
fn committed_result(dir: &Dir, path: &str, run_id: &str, committed: &str) -> Result<(Vec<u8>, String)> {
    let result = gate::read(dir, path, RESULT_BYTES_MAX, Code::DestinationFailed)?;
    let text = gate::read(dir, &opening_path(path), OPENING_BYTES_MAX, Code::DestinationFailed)?;
    let opening: Option<Opening> = serde_json::from_slice(&text).ok();
    if opening.is_some_and(|opening| opening.is_well_formed() && opening.commit(&result) == committed) {
        return Ok((result, String::from_utf8_lossy(&text).into_owned()));
    }
    Err(Fault::new(
        Code::DestinationFailed,
        format!("{path} is not the result of run {run_id}"),
        "put back what the run wrote, with its opening beside it",
    ))
}

/// Makes sure that this host has the way to the place, before a run costs anything.
pub(crate) fn prepare(state: &Path, destination: &Destination) -> Result<()> {
    way(state, destination).map(drop)
}

/// The place's name, for people.
pub(crate) fn place(delivery: &Delivery) -> String {
    let (Target::Folder(name) | Target::Table(name)) = &delivery.to;
    format!("{}:{name}", delivery.connection)
}

/// The connection must be the recipient's: no one else gets its result.
fn way<'a>(state: &Path, destination: &'a Destination) -> Result<Option<(&'a Delivery, Connection)>> {
    let Some(delivery) = &destination.deliver else { return Ok(None) };
    let whose = format!("destination {} of {}", destination.id, destination.recipient);
    let connection = provision::connection(state, &delivery.connection, &destination.recipient, &whose)?;
    Ok(Some((delivery, connection)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_carried_but_what_the_receipt_commits_to() {
        let folder = tempfile::tempdir().unwrap();
        let dir = crate::open_room(folder.path()).unwrap();
        let opening = Opening { salt: "0".repeat(64), pseudonym_key: None };
        let committed = opening.commit(b"result");
        let read = |result: &str, opening: &Opening| {
            dir.write("result.csv", result).unwrap();
            dir.write(opening_path("result.csv"), serde_json::to_vec(opening).unwrap()).unwrap();
            committed_result(&dir, "result.csv", "run-1", &committed)
        };
        assert_eq!(read("result", &opening).unwrap().0, b"result");
        // A piece of the file in the salt stands for a shorter file.
        let other = Opening { salt: "1".repeat(64), ..opening.clone() };
        let longer = Opening { salt: opening.salt.clone() + "res", ..opening.clone() };
        for (result, opening) in [("another", &opening), ("result", &other), ("ult", &longer)] {
            let fault = read(result, opening).unwrap_err();
            assert_eq!(fault.code(), Code::DestinationFailed);
            assert!(fault.fact().contains("is not the result of run run-1"), "{fault}");
        }
    }
}
