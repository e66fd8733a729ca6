//! What Go's transparency-log packages, a Python verifier and a witness say about the log and its receipts.
//!
//! The witness sees the log grow and cosigns. Then the operator rolls the log back to an earlier copy, and writes
//! another history onto it: the witness refuses both, and the checkpoints that it saw convict the log.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cases::{self, Person};
use super::table::Table;
use super::witness::Witness;
use super::{ours_on_tampered, require_plain, text};

/// The verifier key as a partner has it: not from the log that it judges.
const KEY: &str = "../log/vkey";

const REFUSED: &str = "\"decision\":\"refused\"";

/// More of them would prove nothing more.
const RECEIPTS_MAX: usize = 3;

pub(super) fn check(table: &mut Table, work: &Path, people: &[Person]) -> Result<()> {
    let kept = work.join("log");
    fs::create_dir_all(&kept)?;
    fs::copy(work.join("room/log/vkey"), kept.join("vkey")).context("the log has no vkey")?;
    let origin = checkpoint(work, "room")?.origin;
    let witness = Witness::start(table, work, &origin)?;

    let first = submit(table, work, &witness, "room", "first", 0, 200)?;
    cases::copy_room(&work.join("room"), &work.join("room-back"))?;
    ours_on_tampered(table, work, "room", people)?;
    let grown = submit(table, work, &witness, "room", "grown", first, 200)?;
    if grown <= first {
        bail!("the log did not grow: it has {grown} entries");
    }
    growth(table, first, grown)?;
    witnessed(table)?;

    submit(table, work, &witness, "room-back", "rolled-back", first, 409)?;
    table.exits("room-back", "rolled back", "aics-tlog", &consistency("grown"), 1, "\"ok\": false")?;
    ours_on_tampered(table, work, "room-back", people)?;
    let forked = submit(table, work, &witness, "room-back", "forked", grown, 422)?;
    if forked != grown {
        bail!("the other history has {forked} entries, and {grown} are needed here");
    }
    table.exits("room-back", "forked", "aics-tlog", &consistency("grown"), 1, "\"ok\": false")?;
    receipts(table, work)
}

/// Sends the room's checkpoint to the witness; gives its size.
fn submit(
    table: &mut Table,
    work: &Path,
    witness: &Witness,
    room: &str,
    name: &str,
    from: u64,
    answer: u16,
) -> Result<u64> {
    let size = checkpoint(work, room)?.size;
    fs::copy(work.join(room).join("log/checkpoint"), work.join("log").join(format!("{name}.checkpoint")))?;
    let request = format!("glovebox log witness-request --from {from} > ../log/{name}.request");
    table.accepts(room, name, "glovebox", &request, "")?;
    let send = format!(
        "curl --silent --show-error --noproxy '*' --output {name}.answer --write-out 'HTTP %{{http_code}}' \
         --data-binary @{name}.request {}/add-checkpoint",
        witness.address()
    );
    table.accepts("log", name, "aics-witness", &send, &format!("HTTP {answer}"))?;
    Ok(size)
}

/// The log of the second checkpoint begins with that of the first.
fn growth(table: &mut Table, first: u64, grown: u64) -> Result<()> {
    let check = "../tlog growth vkey first.checkpoint grown.request";
    table.accepts("log", "grown", "go tlog", check, &format!("append-only: {first} entries, then {grown}"))?;
    let backwards = "../tlog growth vkey grown.checkpoint grown.request";
    table.exits("log", "backwards", "go tlog", backwards, 1, "refused")?;
    table.accepts("room", "grown", "aics-tlog", &consistency("first"), "\"ok\": true")
}

fn consistency(old: &str) -> String {
    format!(
        "../venv/bin/aics-tlog verify-consistency --old-checkpoint ../log/{old}.checkpoint --checkpoint log/checkpoint \
         --tiles log --vkey-file {KEY}"
    )
}

/// The witness's signature belongs to the checkpoint that it saw, and to no other.
fn witnessed(table: &mut Table) -> Result<()> {
    let cosigned = |checkpoint: &str| {
        format!(
            "cat {checkpoint}.checkpoint grown.answer | ../venv/bin/aics-tlog verify-checkpoint --note - \
             --vkey-file vkey --witness-key \"$(cat ../witness/vkey)\" --quorum 1"
        )
    };
    table.accepts("log", "cosigned", "aics-tlog", &cosigned("grown"), "\"cosignatures\": 1")?;
    table.exits("log", "not cosigned", "aics-tlog", &cosigned("first"), 1, "\"ok\": false")
}

/// Each receipt stands in the log, and no other file passes for it.
fn receipts(table: &mut Table, work: &Path) -> Result<()> {
    let runs = runs(work)?;
    for (run, other) in runs.iter().zip(runs.iter().cycle().skip(1)).take(RECEIPTS_MAX) {
        table.accepts("room", "honest", "go tlog", &inclusion(run, run), "included: entry")?;
        table.exits("room", "other receipt", "go tlog", &inclusion(other, run), 1, "refused")?;
        table.accepts("room", "honest", "aics-tlog", &python_inclusion(run), "\"ok\": true")?;
        table.accepts("room", "honest", "glovebox", &format!("glovebox verify receipts/{run}.dsse.json"), "")?;
    }
    table.accepts("room", "honest", "go tlog", &format!("../tlog tiles {KEY} log"), "lead to the signed root")?;

    let run = runs.first().context("no receipt has a proof")?;
    let path = work.join("room/receipts").join(format!("{run}.dsse.json"));
    fs::write(&path, cases::with_payload(&text(&path)?, |payload| format!("{payload} "))?)?;
    table.exits("room", "changed", "go tlog", &inclusion(run, run), 1, "refused")?;
    table.exits("room", "changed", "aics-tlog", &python_inclusion(run), 1, "\"ok\": false")?;
    table.refuses("room", "changed", "glovebox", &format!("glovebox verify receipts/{run}.dsse.json"), "")?;

    let entries = first_entries(work)?;
    let mut bytes = fs::read(&entries)?;
    *bytes.last_mut().context("the log has no entries")? ^= 1;
    fs::write(&entries, bytes)?;
    let tiles = format!("../tlog tiles {KEY} log");
    table.exits("room", "changed", "go tlog", &tiles, 1, "the entries do not lead to the signed root")
}

fn inclusion(receipt: &str, proof: &str) -> String {
    format!("../tlog inclusion {KEY} receipts/{receipt}.dsse.json receipts/{proof}.tlog-proof")
}

fn python_inclusion(run: &str) -> String {
    format!(
        "../venv/bin/aics-tlog verify-inclusion --leaf receipts/{run}.dsse.json \
         --index \"$(sed -n 's/^index //p' receipts/{run}.tlog-proof)\" \
         --checkpoint log/checkpoint --tiles log --vkey-file {KEY}"
    )
}

/// The refused runs whose receipts have a proof, sorted. Of a released run, terms and result must still lie in the room for
/// its receipt to verify, and the demo has gone on since.
fn runs(work: &Path) -> Result<Vec<String>> {
    let receipts = work.join("room/receipts");
    let mut runs = Vec::new();
    for entry in fs::read_dir(&receipts)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(run) = name.strip_suffix(".tlog-proof") {
            require_plain(run)?;
            if cases::payload(&text(&receipts.join(format!("{run}.dsse.json")))?)?.contains(REFUSED) {
                runs.push(run.to_owned());
            }
        }
    }
    runs.sort_unstable();
    if runs.len() < 2 {
        bail!("{} receipts of refused runs have a proof, and two are needed here", runs.len());
    }
    Ok(runs)
}

struct Checkpoint {
    origin: String,
    size: u64,
}

fn checkpoint(work: &Path, room: &str) -> Result<Checkpoint> {
    let text = text(&work.join(room).join("log/checkpoint"))?;
    let mut lines = text.lines();
    let origin = lines.next().context("the checkpoint is empty")?.to_owned();
    let size = lines.next().and_then(|size| size.parse().ok()).context("the checkpoint has no size")?;
    Ok(Checkpoint { origin, size })
}

/// The bundle that holds the log's first entries: full, or the widest that there is.
fn first_entries(work: &Path) -> Result<std::path::PathBuf> {
    let folder = work.join("room/log/tile/entries");
    let full = folder.join("000");
    if full.is_file() {
        return Ok(full);
    }
    let width = checkpoint(work, "room")?.size;
    Ok(folder.join(format!("000.p/{width}")))
}
