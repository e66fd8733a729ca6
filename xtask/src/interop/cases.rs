//! The folders that are judged: the honest export, and copies of it in which someone has cheated.
//!
//! `changed` has an agreement with one byte more, under the approvals of before. `forged` has approvals that were
//! rewritten for that agreement, too, under the signatures of before. `missing` lacks the last person's approval.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::table::Table;
use super::{AGREEMENT, require_plain, text};

/// What is judged beside the honest export.
pub(super) const TAMPERED: [&str; 3] = ["changed", "forged", "missing"];

/// Whatever an earlier run made; the installed programs stay.
const MADE: [&str; 15] = [
    "room",
    "room-state",
    "room-back-state",
    "room-timed-state",
    "room-back",
    "room-timed",
    "held",
    "honest",
    "changed",
    "forged",
    "missing",
    "timed",
    "authority",
    "witness",
    "log",
];

/// Someone who approved.
pub(super) struct Person {
    pub(super) party: String,
    pub(super) person: String,
}

impl Person {
    /// What this person's files begin with.
    pub(super) fn stem(&self) -> String {
        format!("{}.{}", self.party, self.person)
    }

    fn approval(&self) -> String {
        format!("{}.dsse.json", self.stem())
    }
}

pub(super) fn clear(work: &Path) -> Result<()> {
    for name in MADE {
        match fs::remove_dir_all(work.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("target/interop/{name} cannot be cleared"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies a room, and what a host remembers of it.
pub(super) fn copy_room(from: &Path, to: &Path) -> Result<()> {
    copy(from, to)?;
    copy(&state_of(from), &state_of(to))
}

/// Where the host of a room remembers it.
pub(super) fn state_of(room: &Path) -> PathBuf {
    let name = room.file_name().unwrap_or_default().to_string_lossy();
    room.with_file_name(format!("{name}-state"))
}

/// Copies a folder as it is.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("--archive").args([from, to]).status().context("cp does not run")?;
    if !status.success() {
        bail!("{} was not copied to {}", from.display(), to.display());
    }
    Ok(())
}

/// Exports a room's agreement into a folder beside it, and adds the approvals as the room has them.
pub(super) fn export(table: &mut Table, work: &Path, room: &str, folder: &str) -> Result<Vec<Person>> {
    table.accepts(
        room,
        folder,
        "glovebox",
        &format!("glovebox export {AGREEMENT} --to ../{folder} --key ../owner.key"),
        "",
    )?;
    let mut people = Vec::new();
    for entry in fs::read_dir(work.join(room).join(AGREEMENT))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".dsse.json") else { continue };
        require_plain(stem)?;
        let (party, person) = stem.split_once('.').with_context(|| format!("{name} names no person"))?;
        people.push(Person { party: party.into(), person: person.into() });
        fs::copy(work.join(room).join(AGREEMENT).join(&name), work.join(folder).join(&name))?;
    }
    people.sort_unstable_by_key(Person::stem);
    if people.len() < 2 {
        bail!("the demo's agreement has {} approvals, and two are needed here", people.len());
    }
    Ok(people)
}

/// Makes the folders of `TAMPERED` out of the honest one.
pub(super) fn tamper(work: &Path, people: &[Person]) -> Result<()> {
    let honest = work.join("honest");
    for case in TAMPERED {
        copy(&honest, &work.join(case))?;
    }
    for case in ["changed", "forged"] {
        let path = work.join(case).join("agreement.json");
        fs::write(&path, text(&path)? + "\n")?;
    }
    let old = sha256_hex(&honest.join("agreement.json"))?;
    let new = sha256_hex(&work.join("forged/agreement.json"))?;
    let forged = work.join("forged");
    for person in people {
        for ending in ["dsse.json", "sigstore.json"] {
            let path = forged.join(format!("{}.{ending}", person.stem()));
            fs::write(&path, with_payload(&text(&path)?, |payload| payload.replace(&old, &new))?)?;
        }
        let path = forged.join(format!("{}.pae", person.stem()));
        fs::write(&path, text(&path)?.replace(&old, &new))?;
        let link = link_of(&forged, person)?;
        fs::write(&link, with_payload(&text(&link)?, |payload| payload.replace(&old, &new))?)?;
    }
    let person = last(people)?;
    let missing = work.join("missing");
    fs::remove_file(missing.join(person.approval()))?;
    fs::remove_file(link_of(&missing, person)?)?;
    Ok(())
}

/// Lays a case over a room's agreement, until it is put back.
pub(super) fn lay_into_room(work: &Path, room: &str, case: &str, people: &[Person]) -> Result<Held> {
    let agreement = work.join(room).join(AGREEMENT);
    let held = Held { folder: agreement.clone(), copy: work.join("held") };
    copy(&agreement, &held.copy)?;
    let names = people.iter().map(Person::approval).chain(["agreement.json".into()]);
    for name in names {
        let laid = work.join(case).join(&name);
        if laid.is_file() {
            fs::copy(laid, agreement.join(&name))?;
        } else {
            fs::remove_file(agreement.join(&name))?;
        }
    }
    Ok(held)
}

/// An agreement's folder as it was.
#[must_use = "the agreement stays tampered with until it is put back"]
pub(super) struct Held {
    folder: PathBuf,
    copy: PathBuf,
}

impl Held {
    pub(super) fn put_back(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)?;
        fs::rename(&self.copy, &self.folder).context("the agreement cannot be put back")
    }
}

/// The same envelope or bundle with another payload under its signature.
pub(super) fn with_payload(json: &str, change: impl Fn(&str) -> String) -> Result<String> {
    let (place, payload) = (payload_place(json)?, payload(json)?);
    let changed = change(&payload);
    if changed == payload {
        bail!("nothing in the payload could be changed");
    }
    Ok([&json[..place.start], &BASE64.encode(changed.as_bytes()), &json[place.end..]].concat())
}

/// What an envelope or bundle signs.
pub(super) fn payload(json: &str) -> Result<String> {
    let place = payload_place(json)?;
    Ok(String::from_utf8(BASE64.decode(&json.as_bytes()[place])?)?)
}

fn payload_place(json: &str) -> Result<Range<usize>> {
    const NAME: &str = "\"payload\"";
    let after_name = json.find(NAME).context("no payload")? + NAME.len();
    let start = after_name + json[after_name..].find('"').context("no payload")? + 1;
    let end = start + json[start..].find('"').context("no payload")?;
    Ok(start..end)
}

/// The person whose approval is missing in `missing`.
pub(super) fn last(people: &[Person]) -> Result<&Person> {
    people.last().context("nobody approved")
}

/// The name ends with a part of the key's fingerprint, so it is found by its beginning.
fn link_of(folder: &Path, person: &Person) -> Result<PathBuf> {
    let fingerprint = sha256_of_key(&folder.join(format!("{}.pem", person.stem())))?;
    let name = format!("in-toto/approve-{}.{}.link", person.party, &fingerprint[..8]);
    let path = folder.join(name);
    if !path.is_file() {
        bail!("the export has no {}", path.display());
    }
    Ok(path)
}

fn sha256_of_key(pem: &Path) -> Result<String> {
    let base64: String = text(pem)?.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(HEXLOWER.encode(&Sha256::digest(BASE64.decode(base64.as_bytes())?)))
}

fn sha256_hex(path: &Path) -> Result<String> {
    Ok(HEXLOWER.encode(&Sha256::digest(text(path)?.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_payload_changes() {
        let bundle = |payload: &[u8]| {
            format!(r#"{{"payloadType":"a","payload": "{}","signatures":[{{"sig":"x"}}]}}"#, BASE64.encode(payload))
        };
        let changed = with_payload(&bundle(b"approves 1"), |payload| payload.replace('1', "2")).expect("has a payload");
        assert_eq!(changed, bundle(b"approves 2"));
    }

    #[test]
    fn a_change_that_changes_nothing_is_an_error() {
        let envelope = format!(r#"{{"payload":"{}"}}"#, BASE64.encode(b"approves 1"));
        assert!(with_payload(&envelope, str::to_owned).is_err());
    }
}
