//! One group of shards in a process of its own: it reads the pinned views, asks about its own units, and says what they
//! come to. It has no key that signs, no ledger, no seed of noise and no budget; and it reaches the folders of the bound
//! views' owners, and a folder for what it spills.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glovebox_sandbox::Wall;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Answer, ask};
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::gate;
use crate::privacy::{RoomKey, Setting, Tally, UnitSeeds};
use crate::provision::{self, Host, Intake, Resources, SourcePin, Split, UnitStream, differ};
use crate::room::{Agreement, Manifest, sha256_hex};
use crate::sandbox::{Compiled, Figures, Grounds, Program, Sandbox, spec};

/// The first argument of a program that is to call [`serve`].
pub const COMMAND: &str = "group";

/// Programs and libraries of this machine, for the workers that a group starts.
const PROGRAMS: [&str; 5] = ["/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache"];

/// The longest message of a group: the sums of a run are fewer bytes than that.
const MESSAGE_BYTES_MAX: u64 = 4 << 30;

/// All that a group is told, besides the compiled question.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Brief {
    pub(super) agreement: Agreement,
    pub(super) manifest: Manifest,
    pub(super) sources: Vec<SourcePin>,
    /// Of the owners of the bound views and of their mappings, in the room.
    pub(super) folders: Vec<String>,
    pub(super) split: Split,
    pub(super) memory_bytes: usize,
    pub(super) worker_seconds: u64,
    /// The key of the pseudonyms that views write, in hex.
    pub(super) room_key: String,
    /// The key of the units' seeds, from which the run's seed does not follow.
    pub(super) unit_seeds: [u8; 32],
    /// The key under which contributors are written down, if they are.
    pub(super) digests: [u8; 32],
}

/// What a group says.
#[derive(Serialize, Deserialize)]
pub(super) enum Said {
    Shard(Part),
    /// What was read and kept, after the last shard.
    End(Vec<Intake>),
    /// Why there is no more.
    Failed {
        code: String,
        fact: String,
        remedy: String,
    },
}

/// What a shard came to, with the digest of its sums.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    shard: u16,
    tally: Vec<u8>,
    sha256: String,
    figures: Figures,
}

impl Part {
    fn of(answer: &Answer) -> Result<Self> {
        let mut tally = Vec::new();
        answer.tally.write(&mut tally).map_err(|error| failed(&error))?;
        let (sha256, figures) = (sha256_hex(&tally), answer.figures.clone());
        Ok(Self { shard: answer.shard, tally, sha256, figures })
    }

    /// The answer, if its sums are those that were added up.
    pub(super) fn answer(self, empty: &Tally) -> Result<Answer> {
        if sha256_hex(&self.tally) != self.sha256 {
            return Err(differ("a shard's sums are not those that its group added up"));
        }
        let tally = empty.read(&self.tally).map_err(|_| differ("a shard's sums cannot be read"))?;
        Ok(Answer { shard: self.shard, tally, figures: self.figures })
    }
}

/// Writes a message with its length in front.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads a message; memory is taken as bytes come, not as they are announced.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = Vec::new();
    if from.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Serves as a group: its brief and the compiled question come by standard input, answers go to standard output. Returns
/// whether the process ended as it should.
#[must_use]
pub fn serve() -> bool {
    // None outlives its run.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let mut output = io::stdout().lock();
    let last = match answer_all(&mut output) {
        Ok(intakes) => Said::End(intakes),
        Err(fault) => {
            let (code, fact, remedy) = (fault.code().as_str().into(), fault.fact().into(), fault.remedy().into());
            Said::Failed { code, fact, remedy }
        }
    };
    send(&mut output, &last).is_ok()
}

fn answer_all(output: &mut impl Write) -> Result<Vec<Intake>> {
    let mut input = io::stdin().lock();
    let mut brief = Vec::new();
    let mut length = [0; 8];
    let mut code = Vec::new();
    let heard = input.read_exact(&mut length).and_then(|()| {
        input.by_ref().take(u64::from_le_bytes(length)).read_to_end(&mut brief)?;
        input.read_to_end(&mut code)
    });
    heard.map_err(|error| failed(&error))?;
    let brief: Brief = serde_json::from_slice(&brief).map_err(|error| failed(&error))?;
    let dir = files::open_dir(Path::new(".")).map_err(|error| failed(&error))?;
    enclose(&brief)?;

    let Brief { agreement, manifest, sources, split, .. } = &brief;
    let mut sandbox = start(&brief, &code)?;
    let room_key = RoomKey::from_hex(&brief.room_key).ok_or_else(|| failed(&"it has no key of the room"))?;
    let resources = Resources { memory_bytes: brief.memory_bytes, threads: 1, room_key, split: *split };
    // Connections are the run's own: a group has none.
    let access = Host { dir: &dir, state: Path::new("/proc/self/no-state") };
    let bound: Vec<_> = agreement.views.iter().zip(&manifest.slots).collect();
    let max_rows = manifest.max_rows_per_unit().min(agreement.controls.max_rows_per_unit);
    let snapshot = provision::Snapshot::of_pins(sources.clone());
    let mut units = provision::open(&access, &bound, max_rows, &resources, Some(&snapshot))?;
    units.read_ahead()?;

    let setting = Arc::new(Setting::of_group(agreement, &brief.digests));
    let empty = Tally::new(manifest, &agreement.controls, setting);
    let ask_all = |units: &mut UnitStream| sandbox.ask_all(&empty, || units.next_chunk());
    ask(&mut units, ask_all, |answer| send(output, &Said::Shard(Part::of(&answer)?)).map_err(|error| failed(&error)))
}

fn start(brief: &Brief, code: &[u8]) -> Result<Sandbox> {
    let Brief { agreement, manifest, .. } = brief;
    let parameters = gate::read_parameters(agreement, manifest)?;
    let grounds = Grounds {
        program: &Program::this(),
        compiled: &Compiled::none(),
        workers: 1,
        worker_seconds: brief.worker_seconds,
        seeds: &UnitSeeds::of_key(&brief.unit_seeds),
    };
    let may_lack = &agreement.controls.sandbox.may_lack;
    Sandbox::of_code(code, spec(manifest, &parameters, &agreement.limits), &manifest.slots, may_lack, &grounds)
}

/// Before anything is read: the kernel keeps this process, and all that it starts, to what it needs.
fn enclose(brief: &Brief) -> Result<()> {
    let stands = close_files_and_ports(&brief.folders, &std::env::temp_dir()).is_ok_and(|status| status.no_new_privs);
    if stands || brief.agreement.controls.sandbox.may_lack.contains(&Wall::Landlock) {
        return Ok(());
    }
    Err(Fault::new(
        Code::WallMissing,
        "this kernel does not confine a group's process to the folders of its views (Landlock)",
        "run in one group, or let every owner agree to do without the wall",
    ))
}

fn close_files_and_ports(folders: &[String], scratch: &Path) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(ABI::V1);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        // Ports are a later kernel's matter.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?;
    for folder in folders {
        rules = allow(rules, Path::new(folder), read)?;
    }
    for program in PROGRAMS {
        rules = allow(rules, Path::new(program), read | AccessFs::Execute)?;
    }
    let beside = std::env::current_exe().unwrap_or_default().with_file_name(provision::READER);
    for program in [PathBuf::from("/proc/self/exe"), beside] {
        rules = allow(rules, &program, AccessFs::ReadFile | AccessFs::Execute)?;
    }
    rules = allow(rules, Path::new("/proc"), read)?;
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    allow(rules, scratch, AccessFs::from_all(ABI::V3))?.restrict_self()
}

/// What is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(handle) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V3) };
    rules.add_rule(PathBeneath::new(handle, access))
}

fn failed(why: &impl ToString) -> Fault {
    let fact = format!("a group's process could not go on: {}", why.to_string());
    Fault::new(Code::ShardsDiffer, fact, "run again; if it happens again, report it with the run's id")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The walls are a thread's own, and of all that it starts.
    #[test]
    fn a_group_reaches_the_folders_of_its_views_alone() {
        let room = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = |name: &str| room.path().join(name);
        for folder in ["own", "others", "keys", "scratch"] {
            fs::create_dir(path(folder)).unwrap();
            fs::write(path(folder).join("file"), "bytes").unwrap();
        }
        let own = path("own").to_str().unwrap().to_owned();
        let read = |folder: &str| fs::read(path(folder).join("file")).is_ok();
        std::thread::scope(|scope| {
            let behind_walls = || {
                assert!(["own", "others", "keys"].into_iter().all(read), "the reference: without walls");
                close_files_and_ports(&[own], &path("scratch")).unwrap();
                assert!(read("own") && !read("others") && !read("keys"));
                assert!(fs::write(path("own").join("more"), "bytes").is_err() && !path("own").join("more").exists());
                fs::write(path("scratch").join("spilled"), "bytes").unwrap();
                // What it needs of the machine: to start a worker.
                assert!(std::process::Command::new("/proc/self/exe").arg("--list").output().unwrap().status.success());
            };
            scope.spawn(behind_walls).join().unwrap();
        });
    }

    #[test]
    fn sums_that_were_altered_on_the_way_are_noticed() {
        let manifest = "version = 1\nname = \"t\"\nkind = \"list\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
                        [[view]]\nslot = \"rows\"\njoin = \"required\"\n\
                        columns = [{ name = \"a\", type = \"int64\" }]\n\
                        [bounds]\nmax_rows_per_unit = 1\n[list]\nsegments = [\"a\"]\n";
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let empty = Tally::new(&manifest, &crate::room::Controls::default(), Setting::of_one_owner());
        let mut tally = empty.clone();
        tally.add(&provision::Unit::of_one_view(7), &crate::sandbox::Answer::Selected(Some(0)));
        let sums = tally.sha256().unwrap();
        let part = || Part::of(&Answer { shard: 3, tally: tally.clone(), figures: Figures::default() }).unwrap();
        let heard = part().answer(&empty).unwrap();
        assert_eq!((heard.shard, heard.tally.sha256().unwrap()), (3, sums));
        for at in 0..part().tally.len() {
            let mut altered = part();
            altered.tally[at] ^= 1;
            assert_eq!(altered.answer(&empty).err().unwrap().code(), Code::ShardsDiffer, "byte {at}");
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_no_message() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Said::End(Vec::new())).unwrap();
        assert!(matches!(receive::<Said>(&mut pipe.as_slice()), Ok(Said::End(intakes)) if intakes.is_empty()));
        assert!(receive::<Said>(&mut &pipe[..pipe.len() - 1]).is_err());
        assert!(receive::<Said>(&mut [u8::MAX; 64].as_slice()).is_err());
    }
}
