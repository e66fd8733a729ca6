//! A partner's witness: PyPI's `aics-witness`, started as a partner would start it, on this machine only.
//!
//! It is asked for no port of ours, so it takes a free one and says which. It ends with this value.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::table::Table;
use super::text;

const START_SECONDS_MAX: u64 = 30;

pub(super) struct Witness {
    child: Child,
    address: String,
}

impl Witness {
    /// A new witness with a key of its own, which trusts the log of the room.
    pub(super) fn start(table: &mut Table, work: &Path, origin: &str) -> Result<Self> {
        if !origin.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-_".contains(&byte)) {
            bail!("{origin:?} is not an origin that a shell leaves alone");
        }
        let folder = work.join("witness");
        fs::create_dir_all(&folder)?;
        let init = "../venv/bin/aics-witness init --config witness.json --name witness.example/w1 \
                    --listen 127.0.0.1:0 > vkey";
        table.accepts("witness", "new", "aics-witness", init, "created witness key")?;
        let add = format!(
            "../venv/bin/aics-witness add-log --config witness.json --origin {origin} --vkey \"$(cat ../log/vkey)\""
        );
        table.accepts("witness", "new", "aics-witness", &add, "added log")?;

        println!("\ntarget/interop/witness$ ../venv/bin/aics-witness serve --config witness.json &");
        let child = Command::new(work.join("venv/bin/aics-witness"))
            .args(["serve", "--config", "witness.json"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("messages"))?)
            .spawn()
            .context("aics-witness does not start")?;
        let mut witness = Self { child, address: String::new() };
        witness.address = witness.wait(&folder.join("messages"))?;
        Ok(witness)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until it says where it listens.
    fn wait(&mut self, messages: &Path) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < deadline {
            let said = text(messages)?;
            // A whole line, so that no address is cut off.
            let address = said.split_once("listening on ").and_then(|(_, rest)| rest.split_once(' '));
            if let Some((address, _)) = address {
                return Ok(address.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("aics-witness ended with {status}: {said}");
            }
            sleep(Duration::from_millis(50));
        }
        bail!("aics-witness does not listen after {START_SECONDS_MAX} seconds");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
