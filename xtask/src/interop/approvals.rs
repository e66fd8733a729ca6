//! What other people's programs say about approvals: OpenSSL, OpenSSH, minisign, securesystemslib, in-toto, Sigstore.
//!
//! Each form of an approval is judged by a program that knows that form. None of them knows who had to approve, but
//! for in-toto and the count over securesystemslib, which therefore must miss a missing approval.

use anyhow::Result;

use super::cases::{self, Person};
use super::table::Table;

/// What approvals by key are signed for, so that they are good for nothing else.
const NAMESPACE: &str = "approval@glovebox";

pub(super) fn honest(table: &mut Table, people: &[Person]) -> Result<()> {
    let (folder, case) = ("honest", "honest");
    for person in people {
        let stem = person.stem();
        table.accepts(folder, case, "openssl", &openssl(&stem, &stem), "Signature Verified Successfully")?;
        table.accepts(folder, case, "ssh-keygen", &ssh(person, NAMESPACE, &stem), "Good \"approval@glovebox\"")?;
        table.accepts(folder, case, "minisign", &minisign(&stem), "Signature and comment signature verified")?;
        table.accepts(folder, case, "@sigstore/verify", &sigstore(&stem, &stem), "the bundle verifies")?;
    }
    let all = people.len();
    table.accepts(folder, case, "securesystemslib", &threshold(people), &format!("{all} of {all} approvals hold"))?;
    table.accepts(folder, case, "in-toto-verify", &in_toto(), "passed all verification")
}

pub(super) fn tampered(table: &mut Table, people: &[Person]) -> Result<()> {
    others(table, people)?;
    changed(table, people)?;
    forged(table, people)?;

    let some = format!("{} of {} approvals hold", people.len() - 1, people.len());
    table.exits("missing", "missing", "securesystemslib", &threshold(people), 1, &some)?;
    let unsigned =
        format!("Step 'approve-{}' requires '1' link metadata file(s), found '0'", cases::last(people)?.party);
    table.exits("missing", "missing", "in-toto-verify", &in_toto(), 1, &unsigned)
}

/// One person's signature under another's name, and a signature for another purpose.
fn others(table: &mut Table, people: &[Person]) -> Result<()> {
    let (folder, case) = ("honest", "other person");
    for (person, other) in people.iter().zip(people.iter().cycle().skip(1)) {
        let (stem, other) = (person.stem(), other.stem());
        table.exits(folder, case, "openssl", &openssl(&stem, &other), 1, "Signature Verification Failure")?;
        table.exits(folder, case, "ssh-keygen", &ssh(person, NAMESPACE, &other), 255, "Could not verify signature")?;
        let swapped = format!("minisign -V -p {stem}.minisign.pub -x {other}.agreement.json.minisig -m agreement.json");
        table.exits(folder, case, "minisign", &swapped, 1, "key id")?;
        table.exits(folder, case, "@sigstore/verify", &sigstore(&other, &stem), 1, "no key has the hint")?;
        let file = ssh(person, "file", &stem);
        table.exits(folder, "other use", "ssh-keygen", &file, 255, "namespace does not match")?;
    }
    Ok(())
}

fn changed(table: &mut Table, people: &[Person]) -> Result<()> {
    let (folder, case) = ("changed", "changed");
    for person in people {
        let stem = person.stem();
        table.exits(folder, case, "ssh-keygen", &ssh(person, NAMESPACE, &stem), 255, "incorrect signature")?;
        table.exits(folder, case, "minisign", &minisign(&stem), 1, "Signature verification failed")?;
        table.exits(folder, case, "@sigstore/verify", &sigstore(&stem, &stem), 1, "approves another agreement")?;
    }
    table.exits(folder, case, "securesystemslib", &threshold(people), 1, "approves another agreement")?;
    table.exits(folder, case, "in-toto-verify", &in_toto(), 1, "RuleVerificationError")
}

fn forged(table: &mut Table, people: &[Person]) -> Result<()> {
    let (folder, case) = ("forged", "forged");
    for person in people {
        let stem = person.stem();
        table.exits(folder, case, "openssl", &openssl(&stem, &stem), 1, "Signature Verification Failure")?;
        table.exits(folder, case, "@sigstore/verify", &sigstore(&stem, &stem), 1, "SIGNATURE_ERROR")?;
    }
    table.exits(folder, case, "securesystemslib", &threshold(people), 1, "Found: 0, Expected 1")?;
    table.exits(folder, case, "in-toto-verify", &in_toto(), 1, "ThresholdVerificationError")
}

fn openssl(key: &str, signature: &str) -> String {
    format!("openssl pkeyutl -verify -pubin -inkey {key}.pem -rawin -in {key}.pae -sigfile {signature}.sig")
}

fn ssh(person: &Person, namespace: &str, signature: &str) -> String {
    let Person { party, person } = person;
    format!(
        "ssh-keygen -Y verify -f allowed_signers -I {party}/{person} -n {namespace} \
         -s {signature}.agreement.json.sshsig < agreement.json"
    )
}

fn minisign(stem: &str) -> String {
    format!("minisign -V -p {stem}.minisign.pub -x {stem}.agreement.json.minisig -m agreement.json")
}

fn sigstore(bundle: &str, key: &str) -> String {
    format!("node ../npm/sigstore_verify.mjs agreement.json {bundle}.sigstore.json {key}.pem")
}

fn threshold(people: &[Person]) -> String {
    let pairs: Vec<_> = people.iter().map(|person| format!("{0}.pem={0}.dsse.json", person.stem())).collect();
    format!("../venv/bin/python ../securesystemslib_threshold.py agreement.json {} {}", people.len(), pairs.join(" "))
}

/// It compares the agreement that lies in its folder with the ones that were signed, and leaves a file there.
fn in_toto() -> String {
    "../venv/bin/in-toto-verify --layout in-toto/root.layout --verification-keys in-toto/layout-owner.pem \
     --link-dir in-toto --verbose"
        .into()
}
