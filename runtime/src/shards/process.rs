//! The groups that are not the run's own: each is a process, which is started, told what it needs, and believed nothing.

use std::io::{self, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;

use cap_std::fs::Dir;

use super::group::{Brief, COMMAND, Said, receive};
use super::{Groups, Sum, lock};
use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::privacy::{Setting, Tally};
use crate::provision::{Split, differ};
use crate::sandbox::Program;

/// Groups that wait to be asked, each in a process of its own.
pub(super) struct Queue<'a> {
    groups: &'a Groups<'a>,
    brief: Brief,
    code: Vec<u8>,
    empty: &'a Tally,
    next: AtomicU16,
    /// A run that has no result any more asks no further group.
    has_failed: AtomicBool,
}

impl<'a> Queue<'a> {
    /// All groups but the first.
    pub(super) fn new(
        groups: &'a Groups<'a>,
        approved: &Approved,
        setting: &Setting,
        empty: &'a Tally,
    ) -> Result<Self> {
        let (agreement, manifest) = (approved.agreement(), approved.manifest());
        let mut code = Vec::new();
        if groups.parts.groups > 1 {
            let may_lack = &agreement.controls.sandbox.may_lack;
            groups.compiled.with(
                &Program::at(groups.program),
                approved.component(),
                &agreement.limits,
                may_lack,
                |bytes| {
                    code = bytes.to_vec();
                    Ok(())
                },
            )?;
        }
        let mut folders: Vec<String> = agreement.owners().map(|owner| approved.folder_of(owner).to_owned()).collect();
        folders.sort();
        folders.dedup();
        let brief = Brief {
            agreement: agreement.clone(),
            manifest: manifest.clone(),
            sources: groups.snapshot.pins(),
            folders,
            split: groups.resources.split,
            memory_bytes: groups.resources.memory_bytes,
            worker_seconds: groups.worker_seconds,
            room_key: groups.resources.room_key.to_hex(),
            unit_seeds: groups.unit_seeds,
            digests: setting.digests(&agreement.controls),
        };
        Ok(Self { groups, brief, code, empty, next: AtomicU16::new(1), has_failed: AtomicBool::new(false) })
    }

    /// Asks the run's own group here, and the others on as many threads as there are.
    pub(super) fn work_beside(&self, sum: &Mutex<Sum>, own: impl FnOnce() -> Result<()>) -> Result<()> {
        thread::scope(|scope| {
            let beside = 1..self.groups.parts.threads.min(self.groups.parts.groups.into());
            let others: Vec<_> = beside.map(|_| scope.spawn(|| self.heed(self.work(sum)))).collect();
            let here = self.heed(own()).and_then(|()| self.heed(self.work(sum)));
            others.into_iter().fold(here, |outcome, other| {
                outcome.and(other.join().unwrap_or_else(|_| Err(differ("a group's thread stopped"))))
            })
        })
    }

    /// Asks one group after the other, until all are asked or one has failed.
    fn work(&self, sum: &Mutex<Sum>) -> Result<()> {
        loop {
            let group = self.next.fetch_add(1, Ordering::Relaxed);
            if group >= self.groups.parts.groups || self.has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.heed(self.ask(self.groups.resources.split.of_group(group, self.groups.parts.groups), sum))?;
        }
    }

    /// Passes an outcome on, and lets the others know.
    fn heed<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn ask(&self, split: Split, sum: &Mutex<Sum>) -> Result<()> {
        let scratch = tempfile::Builder::new()
            .prefix("glovebox-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| ended(&error))?;
        let mut running = Running::start(self.groups.program, self.groups.dir, scratch.path())
            .and_then(|running| running.told(&Brief { split, ..self.brief.clone() }, &self.code))
            .map_err(|error| ended(&error))?;
        loop {
            if self.has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let said = receive(&mut running.output).map_err(|error| ended(&error))?;
            match said {
                Said::Shard(part) => self.groups.add(sum, &split, part.answer(self.empty)?)?,
                Said::End(intakes) => return lock(sum).end(&split, &intakes),
                Said::Failed { code, fact, remedy } => {
                    let code = Code::ALL.iter().find(|known| known.as_str() == code);
                    return Err(Fault::new(code.copied().unwrap_or(Code::ShardsDiffer), fact, remedy));
                }
            }
        }
    }
}

/// A group at work. It ends with its handle.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// It inherits no file but its pipes, and of the environment what the heap and the spilled rows need.
    fn start(program: &Path, room: &Dir, scratch: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(COMMAND)
            .env_clear()
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("TMPDIR", scratch)
            // By its handle: a path might lead elsewhere by now.
            .current_dir(format!("/proc/self/fd/{}", room.as_raw_fd()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// It says nothing before it has heard all.
    fn told(mut self, brief: &Brief, code: &[u8]) -> io::Result<Self> {
        let brief = serde_json::to_vec(brief)?;
        let mut input = self.child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&(brief.len() as u64).to_le_bytes())?;
        input.write_all(&brief)?;
        input.write_all(code)?;
        Ok(self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(error: &io::Error) -> Fault {
    let fact = format!("a group's process ended before it had answered: {error}");
    Fault::new(Code::ShardsDiffer, fact, "run again; if it happens again, report it with the run's id")
}
