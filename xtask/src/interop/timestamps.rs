//! A timestamp authority says when a signature was there: OpenSSL makes and checks the timestamp, Sigstore demands it.
//!
//! The authority is a demonstration, made for this run. A timestamp covers the signature, so it is good for no other.

use std::path::Path;

use anyhow::Result;

use super::AGREEMENT;
use super::cases::{self, Person};
use super::table::Table;

pub(super) fn check(table: &mut Table, work: &Path, people: &[Person]) -> Result<()> {
    cases::copy_room(&work.join("room"), &work.join("room-timed"))?;
    for person in people {
        let stem = person.stem();
        let stamp = format!("../timestamp_authority.sh ../authority {stem}.sig ../room-timed/{AGREEMENT}/{stem}.tsr");
        table.accepts("honest", "timed", "openssl ts", &stamp, "Response has been generated")?;
    }
    cases::export(table, work, "room-timed", "timed")?;
    for (person, other) in people.iter().zip(people.iter().cycle().skip(1)) {
        let (stem, other) = (person.stem(), other.stem());
        table.accepts("timed", "timed", "openssl ts", &openssl(&stem, &stem), "Verification: OK")?;
        table.exits("timed", "other person", "openssl ts", &openssl(&other, &stem), 1, "Verification: FAILED")?;
        table.accepts("timed", "timed", "@sigstore/verify", &sigstore(&stem), "the bundle verifies")?;
        table.exits("honest", "not timed", "@sigstore/verify", &sigstore(&stem), 1, "TIMESTAMP_ERROR")?;
    }
    Ok(())
}

fn openssl(signature: &str, timestamp: &str) -> String {
    format!(
        "openssl ts -verify -data {signature}.sig -in ../room-timed/{AGREEMENT}/{timestamp}.tsr -CAfile ../authority/root.pem"
    )
}

fn sigstore(stem: &str) -> String {
    format!(
        "node ../npm/sigstore_verify.mjs agreement.json {stem}.sigstore.json {stem}.pem \
         ../authority/authority.pem ../authority/root.pem"
    )
}
