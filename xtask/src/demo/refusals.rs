//! What an agent, an orchestrator or one dishonest party tries, with every approval in place.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Shell, say};

/// A piece of the room that is not what was agreed any more.
struct Swap {
    what: &'static str,
    file: &'static str,
    code: &'static str,
    swap: fn(Vec<u8>) -> Vec<u8>,
}

const SWAPS: [Swap; 4] = [
    Swap {
        what: "the view campaigns pairs everyone with everything",
        file: "room.toml",
        code: "VIEW_CHANGED",
        swap: |room| replace(&room, "FROM campaigns c JOIN", "FROM campaigns c CROSS JOIN"),
    },
    Swap {
        what: "both owners' smallest group is 2",
        file: "room.toml",
        code: "CONTROL_CHANGED",
        swap: |room| replace(&room, "{ epsilon = 3.0,", "{ k_min = 2, epsilon = 3.0,"),
    },
    Swap {
        what: "the result goes to another folder",
        file: "room.toml",
        code: "DESTINATION_CHANGED",
        swap: |room| replace(&room, "folder = \"out/reports\"", "folder = \"out/elsewhere\""),
    },
    Swap {
        what: "the component has a section more, and does the same",
        file: "questions/reach.wasm",
        code: "COMPONENT_CHANGED",
        // An empty custom section: id, length, and an empty name.
        swap: |component| [component.as_slice(), &[0, 1, 0]].concat(),
    },
];

/// Each swap alone, under the approvals of the agreement that was run before.
pub(super) fn swaps(shell: &Shell) -> Result<()> {
    for Swap { what, file, code, swap } in SWAPS {
        say(what);
        let path = shell.room.join(file);
        let honest = fs::read(&path)?;
        let swapped = swap(honest.clone());
        if swapped == honest {
            bail!("the demo's {file} has nothing to swap");
        }
        fs::write(&path, swapped)?;
        let refused = is_refused(shell, "agreements/reach-r1", code);
        fs::write(&path, honest)?;
        refused?;
    }
    Ok(())
}

fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8_lossy(text).replace(from, to).into_bytes()
}

fn is_refused(shell: &Shell, agreement: &str, code: &str) -> Result<()> {
    let output = shell
        .command(&["run", agreement, "--json"])
        .stderr(Stdio::inherit())
        .output()
        .context("glovebox does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.trim_end());
    if output.status.success() || !text.contains(&format!("\"code\":\"{code}\"")) {
        bail!("the run of {agreement} was not refused with {code}: {}", output.status);
    }
    Ok(())
}

/// The retailer withdraws once the run's principal has its certificate, long before there is a result.
pub(super) fn revoke_during_a_run(shell: &Shell, arguments: &[&str]) -> Result<()> {
    // Otherwise it would repeat the list of before, which is there at once.
    let other: Vec<&str> =
        arguments.iter().map(|word| if *word == "heavy_from=12" { "heavy_from=13" } else { word }).collect();
    shell.agree_and_approve("nonredeemers-r2", &other)?;
    let before = certificates(&shell.room)?;
    let run = shell.command(&["run", "agreements/nonredeemers-r2", "--json"]).stdout(Stdio::piped()).spawn();
    let run = run.context("glovebox does not start")?;
    while certificates(&shell.room)? == before {
        sleep(Duration::from_millis(5));
    }
    shell.run(&[
        "revoke",
        "agreements/nonredeemers-r2",
        "--reason",
        "changed our mind",
        "--key",
        "keys/retailer.ana.pem",
    ])?;
    let output = run.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.trim_end());
    let result = shell.room.join("out/activation/nonredeemers-r2.csv");
    if !text.contains("\"code\":\"REVOKED\"") || result.exists() {
        bail!("the run was not stopped: {}", output.status);
    }
    say("charged, receipted, and nothing was released");
    Ok(())
}

fn certificates(room: &Path) -> Result<usize> {
    let names = fs::read_dir(room.join("receipts"))?.filter_map(Result::ok);
    Ok(names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".certificate.dsse.json")).count())
}
