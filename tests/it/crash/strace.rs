//! Kills the real program at its N-th call of a kind, and puts the room back as it was.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::Fixture;

const SIGKILL: i32 = 9;

/// Runs a command of the program once for every call that it makes of these kinds, killed right before that call, in
/// a room that is as it was; `check` looks at what is left. Returns how many kills there were; the room is as before.
pub(super) fn killed_at_each(room: &Fixture, arguments: &[&str], calls: &[&str], mut check: impl FnMut(&str)) -> usize {
    let saved = Saved::of(room);
    let mut kills = 0;
    for call in calls {
        for number in 1.. {
            let is_killed = kill(room, arguments, call, number);
            if is_killed {
                kills += 1;
                check(&format!("{} killed at {call} {number}", arguments[..2].join(" ")));
            }
            saved.restore(room);
            if !is_killed {
                break;
            }
        }
    }
    println!("{} was killed at {kills} points", arguments[..2].join(" "));
    kills
}

/// Whether the program was killed: it may end before it makes so many calls.
fn kill(room: &Fixture, arguments: &[&str], call: &str, number: u32) -> bool {
    let output = traced(room, call, &format!("signal=KILL:when={number}"))
        .args(arguments)
        .output()
        .expect("strace does not start: install the package strace");
    let is_killed = output.status.signal() == Some(SIGKILL);
    // Where strace may not trace, nothing is killed, and nothing would be tested.
    assert!(is_killed || output.status.success(), "{call} {number}: {output:?}");
    is_killed
}

/// The program in this room, to which something happens right before every call of these kinds.
pub(crate) fn traced(room: &Fixture, calls: &str, what: &str) -> Command {
    let program = room.command();
    // What a killed run leaves of its private folder goes with the room.
    let temporary = room.state().with_file_name("tmp");
    fs::create_dir_all(&temporary).expect("a folder");
    let mut strace = Command::new("strace");
    // Not with --seccomp-bpf, which is faster: with it, no signal is injected.
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:{what}")]);
    strace.arg(program.get_program()).args(program.get_args());
    strace.current_dir(room.root()).env_remove("GLOVEBOX_LOG").env("TMPDIR", temporary);
    strace
}

/// A copy of a room and of what its host remembers.
struct Saved(TempDir);

impl Saved {
    fn of(room: &Fixture) -> Self {
        let saved = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(room.state()).expect("a folder");
        saved.pairs(room).iter().for_each(|(of_room, copy)| copy_folder(of_room, copy));
        saved
    }

    fn restore(&self, room: &Fixture) {
        for (of_room, copy) in self.pairs(room) {
            fs::remove_dir_all(&of_room).expect("a folder");
            copy_folder(&copy, &of_room);
        }
    }

    fn pairs(&self, room: &Fixture) -> [(PathBuf, PathBuf); 2] {
        [(room.root(), self.0.path().join("room")), (room.state(), self.0.path().join("state"))]
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp starts");
    assert!(copied.success(), "cp -a {} {}", from.display(), to.display());
}
