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
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

/// What stands around a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// The process has no capability, also where it is root's, and nothing that is executed can give it rights again.
    NoNewPrivileges,
    /// Bounds of address space, memory, processor time, files and core dumps (`setrlimit`).
    Limits,
    /// No file can be opened (Landlock); where the kernel is new enough, no port bound or connected (Linux 6.7) and no
    /// other process signalled (6.12) either. The filter of system calls forbids these three by itself.
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
        (Wall::NoNewPrivileges, give_up_rights().is_ok()),
        (Wall::Limits, limit(caps).is_ok()),
        (Wall::Landlock, close_files_and_ports().unwrap_or(false)),
    ];
    attempts.into_iter().filter(|(_, stands)| *stands).map(|(wall, _)| wall).collect()
}

/// Before anything of a question runs: from here on there are no new files, nothing is written to one, and no code is
/// new.
pub(crate) fn close_behind(filters: bool) -> io::Result<()> {
    lower(Resource::Nofile, 0)?;
    lower(Resource::Fsize, 0)?;
    if filters { filter_calls(Calls::Ask) } else { Ok(()) }
}

/// Filters the system calls of every thread of the process.
pub(crate) fn filter_calls(calls: Calls) -> io::Result<()> {
    for program in calls.programs().map_err(io::Error::other)? {
        seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn give_up_rights() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn limit(caps: &Caps) -> io::Result<()> {
    // Not even the same user's other processes may look into the memory of this one.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limits = [
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Fsize, IMAGE_BYTES_WHILE_LOADING),
        (Resource::Nofile, FILES_WHILE_LOADING),
        (Resource::Cpu, caps.cpu_seconds),
        (Resource::Data, caps.data_bytes),
        (Resource::As, caps.address_bytes),
    ];
    limits.into_iter().try_for_each(|(resource, most)| lower(resource, most))
}

/// A limit that is lower already stays, and can be raised no more.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = rustix::process::getrlimit(resource);
    let most = [current, maximum].into_iter().flatten().fold(most, u64::min);
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
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
    /// Compiling a question: memory and nothing else.
    Compile,
    /// Loading what was compiled.
    Load,
    /// Asking: no new files, no code that was not there when the first unit came.
    Ask,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

/// Memory, the pipes, waiting, and ending.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_munmap,
    libc::SYS_mremap,
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
    libc::SYS_mprotect,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pwrite64,
    libc::SYS_membarrier,
    libc::SYS_seccomp,
];

/// What a library tries before a question is asked, to learn how many processors it may use, and does without.
const TRIED: &[libc::c_long] = &[libc::SYS_openat, libc::SYS_statx, libc::SYS_sched_getaffinity];

impl Calls {
    /// Filters that add up: of several answers to a call, the strictest counts.
    fn programs(self) -> Built<Vec<BpfProgram>> {
        // The last to stand is the one that may forbid any further one.
        let mut programs = Vec::new();
        if self != Self::Ask {
            programs.push(failing(TRIED)?);
        }
        programs.push(self.allowed()?);
        Ok(programs)
    }

    fn allowed(self) -> Built<BpfProgram> {
        let mut rules = unconditional(ALWAYS);
        rules.insert(libc::SYS_mmap, private_memory(self == Self::Load)?);
        rules.insert(libc::SYS_mprotect, vec![all_of(&[not_executable()?])?]);
        rules.insert(libc::SYS_madvise, any_of(2, [libc::MADV_DONTNEED, libc::MADV_FREE])?);
        // A process that aborts signals itself.
        rules.insert(libc::SYS_tgkill, any_of(0, [std::process::id().cast_signed()])?);
        if self == Self::Load {
            rules.extend(unconditional(WHILE_LOADING));
            rules.insert(libc::SYS_fcntl, any_of(1, [libc::F_GETFD, libc::F_ADD_SEALS])?);
            rules.insert(libc::SYS_prctl, any_of(0, [libc::PR_SET_NO_NEW_PRIVS])?);
            rules.insert(libc::SYS_prlimit64, own_limits()?);
        }
        if self != Self::Ask {
            rules.extend(unconditional(TRIED));
        }
        compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)
    }
}

/// Lets calls fail that the filter before would let be.
fn failing(calls: &[libc::c_long]) -> Built<BpfProgram> {
    compile(unconditional(calls), SeccompAction::Allow, SeccompAction::Errno(libc::EACCES.unsigned_abs()))
}

fn compile(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> Built<BpfProgram> {
    SeccompFilter::new(rules, otherwise, matching, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn unconditional(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Memory of the process's own, which its limits count.
fn private_memory(may_be_executable: bool) -> Built<Vec<SeccompRule>> {
    let kind = SeccompCmpOp::MaskedEq(libc::MAP_TYPE.unsigned_abs().into());
    let mut conditions = vec![condition(3, kind, libc::MAP_PRIVATE)?];
    if !may_be_executable {
        conditions.push(not_executable()?);
    }
    Ok(vec![all_of(&conditions)?])
}

/// Of `mmap` and `mprotect` alike.
fn not_executable() -> Built<SeccompCondition> {
    condition(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), 0)
}

/// The process's own, and the two that are lowered when the question is loaded.
fn own_limits() -> Built<Vec<SeccompRule>> {
    let of = |resource: libc::__rlimit_resource_t| {
        all_of(&[condition(0, SeccompCmpOp::Eq, 0)?, condition(1, SeccompCmpOp::Eq, resource.cast_signed())?])
    };
    Ok(vec![of(libc::RLIMIT_NOFILE)?, of(libc::RLIMIT_FSIZE)?])
}

fn any_of<const N: usize>(argument: u8, values: [libc::c_int; N]) -> Built<Vec<SeccompRule>> {
    values.into_iter().map(|value| all_of(&[condition(argument, SeccompCmpOp::Eq, value)?])).collect()
}

fn all_of(conditions: &[SeccompCondition]) -> Built<SeccompRule> {
    SeccompRule::new(conditions.to_vec())
}

/// All of these values are small and positive.
fn condition(argument: u8, is: SeccompCmpOp, value: libc::c_int) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value.unsigned_abs().into())
}

#[cfg(test)]
mod tests;
