//! What stands around a worker besides the engine: if a question breaks out of WebAssembly, it is in a process that can
//! compute, write to one pipe, and nothing else.
//!
//! Walls are put up by the worker itself, first thing, before it reads a byte that came from outside. They cannot be
//! taken down again. A wall that this kernel does not have is reported and not passed over: whether a question may run
//! without it is the owners' decision.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

/// What stands around a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// Nothing that is executed can give the process rights again.
    NoNewPrivileges,
    /// Bounds of address space, memory, processor time, files and core dumps (`setrlimit`).
    Limits,
    /// No file can be opened, no port bound or connected, no other process signalled (Landlock).
    Landlock,
    /// No system call but those that computing takes (seccomp); any other ends the process.
    Seccomp,
}

impl Wall {
    /// Every wall there is.
    pub const ALL: [Self; 4] = [Self::NoNewPrivileges, Self::Limits, Self::Landlock, Self::Seccomp];

    /// The name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Limits => "limits",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a worker may use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caps {
    /// Address space, most of which is reserved and never used.
    pub(crate) address_bytes: u64,
    /// Memory that can be written and is the process's own.
    pub(crate) data_bytes: u64,
    pub(crate) cpu_seconds: u64,
}

/// Files that are open while a question is loaded: standard streams, shared memory, and images of its memory.
const FILES_WHILE_LOADING: u64 = 64;
/// The longest of those images.
const IMAGE_BYTES_WHILE_LOADING: u64 = 256 << 20;

/// Puts up what the kernel can, but for the filter of system calls; of the calling thread and all that it starts.
pub(crate) fn enclose(caps: &Caps) -> Vec<Wall> {
    // Neither is a wall: a worker that the machine runs out of memory with goes first, and none outlives its host.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let attempts = [
        (Wall::NoNewPrivileges, rustix::thread::set_no_new_privs(true).is_ok()),
        (Wall::Limits, limit(caps).is_ok()),
        (Wall::Landlock, close_files_and_ports().unwrap_or(false)),
    ];
    attempts.into_iter().filter(|(_, stands)| *stands).map(|(wall, _)| wall).collect()
}

/// Once a question is loaded there are no new files, nothing is written to one, and no code is new.
pub(crate) fn close_behind(filters: bool) -> io::Result<()> {
    for resource in [Resource::Nofile, Resource::Fsize] {
        rustix::process::setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    if filters { filter_calls(Calls::Ask) } else { Ok(()) }
}

/// Filters the system calls of every thread of the process.
pub(crate) fn filter_calls(calls: Calls) -> io::Result<()> {
    for program in calls.programs().map_err(io::Error::other)? {
        seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn limit(caps: &Caps) -> io::Result<()> {
    let set =
        |resource, most: u64| rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    // Not even the same user's other processes may look into the memory of this one.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, IMAGE_BYTES_WHILE_LOADING)?;
    set(Resource::Memlock, 0)?;
    set(Resource::Nofile, FILES_WHILE_LOADING)?;
    set(Resource::Cpu, caps.cpu_seconds)?;
    set(Resource::Data, caps.data_bytes)?;
    set(Resource::As, caps.address_bytes)?;
    Ok(())
}

/// No file and no port at all. Whether the kernel has Landlock, if perhaps an old one without rules for ports: those
/// are behind the filter of system calls as well.
fn close_files_and_ports() -> Result<bool, landlock::RulesetError> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Which system calls a worker may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Compiling a question, or loading what was compiled.
    Load,
    /// Asking, and nothing else: no new files, no code that was not there when the first unit came.
    Ask,
}

/// Memory, the pipes, waiting, and ending.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_close,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What loading takes besides: an image of a memory is a file without a name.
const WHILE_LOADING: &[libc::c_long] = &[
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pwrite64,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_prlimit64,
    libc::SYS_seccomp,
    libc::SYS_prctl,
];

/// What a library tries while it loads, to learn how many processors it may use, and does without.
const TRIED_WHILE_LOADING: &[libc::c_long] = &[libc::SYS_openat];

impl Calls {
    /// Filters that add up: of several answers to a call, the strictest counts.
    fn programs(self) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let mut programs = vec![self.allowed()?];
        if self == Self::Load {
            programs.push(failed()?);
        }
        Ok(programs)
    }

    fn allowed(self) -> Result<BpfProgram, seccompiler::BackendError> {
        let no_condition = |calls: &[libc::c_long]| -> Vec<(i64, Vec<SeccompRule>)> {
            calls.iter().map(|call| (*call, Vec::new())).collect()
        };
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = no_condition(ALWAYS).into_iter().collect();
        // A process that aborts signals itself.
        rules.insert(libc::SYS_tgkill, vec![only(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
        match self {
            Self::Load => {
                rules.extend(no_condition(WHILE_LOADING));
                rules.extend(no_condition(TRIED_WHILE_LOADING));
                rules.extend(no_condition(&[libc::SYS_mmap, libc::SYS_mprotect]));
            }
            Self::Ask => {
                let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
                rules.insert(libc::SYS_mmap, vec![only(2, executable.clone(), 0)?]);
                rules.insert(libc::SYS_mprotect, vec![only(2, executable, 0)?]);
            }
        }
        let otherwise = SeccompAction::KillProcess;
        let arch = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?.try_into()
    }
}

/// Lets the calls that are tried fail, where the filter before it would let them be.
fn failed() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = TRIED_WHILE_LOADING.iter().map(|call| (*call, Vec::new())).collect();
    let fails = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, fails, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// The call's argument, as it must be.
fn only(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?])
}

#[cfg(test)]
mod tests;
