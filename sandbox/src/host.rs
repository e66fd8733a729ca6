//! The host's side: starts workers, gives them units, and believes nothing that they say.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use crate::answer;
use crate::batch::Writer;
use crate::denial::{Denial, Reason, Result};
use crate::engine::Asked;
use crate::message::{Most, Reply, Task, receive, send};
use crate::shared::Region;
use crate::terms::{Limits, Spec};
use crate::walls::{Caps, Wall};
use crate::worker::{COMMAND, Role, arguments};

/// How long a worker may take to start, and to load what was compiled.
const START: Duration = Duration::from_secs(60);
/// How long a component may take to compile, by the clock and by the processor.
const COMPILE: Duration = Duration::from_secs(120);
const COMPILE_CPU_SECONDS: u64 = 90;
const COMPILE_DATA_BYTES: u64 = 2 << 30;
const COMPILED_BYTES_MAX: u64 = 256 << 20;
/// Beyond the time of its units: for reading them and answering, on a busy machine.
const SLACK: Duration = Duration::from_secs(60);
/// What a worker needs besides the memory of instances: the engine, a batch's answers.
const WORKER_DATA_BYTES: u64 = 1 << 30;
/// Address space that is reserved around memories, and for the program itself.
const RESERVED_BYTES: u64 = 16 << 30;
/// The least memory for units: enough for a chunk of them.
const REGION_BYTES_MIN: usize = 64 << 20;
/// What is read from a pipe at a time.
const PIPE_BYTES: usize = 64 << 10;
/// What an answer takes in the pipe beyond what it takes in a host.
const ANSWER_OVERHEAD_BYTES: u64 = 256;

/// The program that serves as a worker when it is called with [`COMMAND`]: usually the one that runs.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The program that runs, whatever became of its file since.
    #[must_use]
    pub fn this() -> Self {
        Self("/proc/self/exe".into())
    }

    /// Another one.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// It inherits neither environment nor folder, and no file but the three.
    fn start(&self, role: Role, caps: &Caps, memory: Stdio) -> io::Result<Child> {
        Command::new(&self.0)
            .arg(COMMAND)
            .args(arguments(role, caps))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(memory)
            .spawn()
    }
}

/// Compiles a component in a process of its own. The bytes are for [`Worker::load`] alone.
pub fn compile(program: &Program, component: &[u8], limits: &Limits, may_lack: &[Wall]) -> Result<Vec<u8>> {
    compile_within(program, component, limits, may_lack, [COMPILE_CPU_SECONDS, COMPILE_DATA_BYTES])
}

/// With so many seconds of the processor and so many bytes of memory, for tests.
#[doc(hidden)]
pub fn compile_within(
    program: &Program,
    component: &[u8],
    limits: &Limits,
    may_lack: &[Wall],
    [cpu_seconds, data_bytes]: [u64; 2],
) -> Result<Vec<u8>> {
    let caps = Caps { address_bytes: RESERVED_BYTES, data_bytes, cpu_seconds };
    let mut process = Process::start(program, Role::Compile, &caps, Stdio::null())?;
    process.end = Some(Instant::now() + COMPILE);
    require(&process.walls, may_lack)?;
    let said = process.say(&Task::Compile(limits.clone()), component);
    let most = Most { message: REPLY_BYTES_MAX, bytes: COMPILED_BYTES_MAX };
    let heard = said.and_then(|()| process.hear(Instant::now() + COMPILE, most));
    // To compile without end or measure is the component's doing.
    let (reply, compiled) = heard.map_err(|denial| match denial.reason() {
        Reason::SandboxFailed => Denial::new(Reason::CompileFailed, denial.fact(), "build a smaller component"),
        _ => denial,
    })?;
    let Reply::Compiled(outcome) = reply else { return Err(process.talks_nonsense()) };
    outcome.map_err(Denial::from_stranger)?;
    Ok(compiled)
}

/// A process that asks a question about units.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    region: Region,
    limits: Limits,
    slack: Duration,
    answers: answer::Reader,
}

impl Worker {
    /// Starts a worker for one question, which may live and compute for so many seconds. Whether its walls suffice is
    /// asked before it is given anything.
    pub fn start(program: &Program, limits: &Limits, seconds: u64) -> Result<Self> {
        let memory = usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX);
        // What a unit's rows take beyond twice its instance's memory, no instance could be told.
        let bytes = REGION_BYTES_MIN.max(memory.saturating_mul(2));
        let no_memory = |error: io::Error| Denial::failed(format!("no memory to share with a worker: {error}"));
        let region = Region::new(bytes).map_err(no_memory)?;
        let file = region.file().map_err(no_memory)?;
        let caps = Caps {
            address_bytes: RESERVED_BYTES + limits.memory_bytes_per_unit + bytes as u64,
            data_bytes: WORKER_DATA_BYTES + limits.memory_bytes_per_unit,
            cpu_seconds: seconds,
        };
        // A worker has nothing to say to people, so its third standard stream is its memory: no code runs between the
        // fork and the new program.
        let mut process = Process::start(program, Role::Ask, &caps, Stdio::from(file))?;
        process.end = Instant::now().checked_add(Duration::from_secs(seconds));
        Ok(Self { process, region, limits: limits.clone(), slack: SLACK, answers: answer::Reader::default() })
    }

    /// The walls that stand, as the worker found before it read anything.
    #[must_use]
    pub fn walls(&self) -> &[Wall] {
        &self.process.walls
    }

    /// Gives the worker a compiled question, if all walls stand but those that it may lack.
    pub fn load(&mut self, compiled: &[u8], spec: &Spec, may_lack: &[Wall]) -> Result<()> {
        require(&self.process.walls, may_lack)?;
        self.process.say(&Task::Load(spec.clone()), compiled)?;
        match self.process.hear(Instant::now() + START, Most { message: REPLY_BYTES_MAX, bytes: 0 })? {
            (Reply::Loaded(outcome), _) => outcome.map_err(Denial::from_stranger),
            _ => Err(self.process.talks_nonsense()),
        }
    }

    /// Where the next batch of units is to be written.
    pub fn batch(&mut self) -> Writer<'_> {
        Writer::new(self.region.bytes())
    }

    /// Asks about the batch that was written: so many units, in so many bytes. Takes each answer when it is there.
    pub fn ask(&mut self, units: usize, bytes: usize, mut take: impl FnMut(&Asked)) -> Result<()> {
        let count = u32::try_from(units).map_err(|_| Denial::failed("a batch has too many units"))?;
        let deadline = self.deadline(count);
        self.process.say(&Task::Ask { units: count, bytes: bytes as u64 }, &[])?;
        let most = self.limits.answer_bytes_per_unit.saturating_add(ANSWER_OVERHEAD_BYTES);
        let Self { process, answers, limits, .. } = self;
        for _ in 0..count {
            let asked = process.hear_answer(deadline, most, answers)?.map_err(|reason| ended_by(reason, limits))?;
            // What a worker says of its own use is no more than it may use.
            asked.fuel = asked.fuel.min(limits.fuel_per_unit);
            asked.memory_bytes = asked.memory_bytes.min(limits.memory_bytes_per_unit);
            take(asked);
        }
        Ok(())
    }

    fn deadline(&self, units: u32) -> Instant {
        let time = Duration::from_millis(self.limits.milliseconds_per_unit.saturating_mul(u64::from(units)));
        let now = Instant::now();
        now.checked_add(time.saturating_add(self.slack)).unwrap_or(now + START)
    }

    /// For tests that do not want to wait.
    #[doc(hidden)]
    pub const fn set_slack(&mut self, slack: Duration) {
        self.slack = slack;
    }

    /// The process, for tests that disturb it.
    #[doc(hidden)]
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }
}

/// What a reply without a payload may take.
const REPLY_BYTES_MAX: u64 = 64 << 10;

/// Why a worker ended a run. It has seen data, so its words are not passed on.
fn ended_by(reason: Reason, limits: &Limits) -> Denial {
    match reason {
        Reason::TimedOut => crate::engine::timed_out(limits),
        _ => Denial::failed("a worker process could not go on"),
    }
}

fn require(standing: &[Wall], may_lack: &[Wall]) -> Result<()> {
    let missing = Wall::ALL.iter().filter(|wall| !standing.contains(wall) && !may_lack.contains(wall));
    let missing: Vec<&str> = missing.map(|wall| wall.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Denial::new(
        Reason::WallMissing,
        format!("this kernel does not confine a worker by: {}", missing.join(", ")),
        "run on a kernel that has it, or let every owner agree to do without by `sandbox.may_lack` in room.toml",
    ))
}

/// A child process and the pipes to it. It ends with its handle.
#[derive(Debug)]
struct Process {
    child: Child,
    /// Names this process even when its number is another's.
    handle: OwnedFd,
    input: ChildStdin,
    output: BufReader<Timed>,
    /// When the process has lived long enough.
    end: Option<Instant>,
    walls: Vec<Wall>,
}

impl Process {
    fn start(program: &Program, role: Role, caps: &Caps, memory: Stdio) -> Result<Self> {
        let no_process = |error: io::Error| Denial::failed(format!("no worker process: {error}"));
        let mut child = program.start(role, caps, memory).map_err(no_process)?;
        let handle = handle_of(&child).map_err(|error| {
            let _ = child.kill();
            no_process(error)
        })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Denial::failed("a worker process has no pipes"));
        };
        let output = BufReader::with_capacity(PIPE_BYTES, Timed { pipe: output, deadline: None });
        let mut process = Self { child, handle, input, output, end: None, walls: Vec::new() };
        let flags = fcntl_getfl(&process.input).and_then(|flags| fcntl_setfl(&process.input, flags | OFlags::NONBLOCK));
        flags.map_err(|error| no_process(error.into()))?;
        let most = Most { message: REPLY_BYTES_MAX, bytes: 0 };
        let (Reply::Standing(walls), _) = process.hear(Instant::now() + START, most)? else {
            return Err(process.talks_nonsense());
        };
        process.walls = walls;
        process.walls.sort_unstable();
        Ok(process)
    }

    fn say(&mut self, task: &impl Serialize, bytes: &[u8]) -> Result<()> {
        let deadline = self.before_its_end(Instant::now() + START);
        send(&mut TimedWriter { pipe: &self.input, deadline }, task, bytes).map_err(|error| self.failed(&error))
    }

    fn hear(&mut self, deadline: Instant, most: Most) -> Result<(Reply, Vec<u8>)> {
        self.output.get_mut().deadline = Some(self.before_its_end(deadline));
        receive(&mut self.output, most).map_err(|error| self.failed(&error))
    }

    fn hear_answer<'a>(
        &mut self,
        deadline: Instant,
        most: u64,
        answers: &'a mut answer::Reader,
    ) -> Result<Result<&'a mut Asked, Reason>> {
        self.output.get_mut().deadline = Some(self.before_its_end(deadline));
        answers.next(&mut self.output, most).map_err(|error| self.failed(&error))
    }

    fn before_its_end(&self, deadline: Instant) -> Instant {
        self.end.map_or(deadline, |end| end.min(deadline))
    }

    fn failed(&mut self, error: &io::Error) -> Denial {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => self.is_gone(),
            io::ErrorKind::TimedOut => {
                self.kill();
                Denial::failed("a worker process gave no answer in time")
            }
            _ => self.talks_nonsense(),
        }
    }

    /// What the process ended by.
    fn is_gone(&mut self) -> Denial {
        self.kill();
        let how = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Denial::failed(format!("a worker process ended: {how}"))
    }

    /// Only a question that has broken out of its engine makes a worker say what it does not say by itself.
    fn talks_nonsense(&mut self) -> Denial {
        self.kill();
        Denial::failed("a worker process gave an answer that no honest one gives")
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn handle_of(child: &Child) -> io::Result<OwnedFd> {
    let id = Pid::from_child(child);
    Ok(pidfd_open(id, PidfdFlags::empty())?)
}

/// A pipe that is read until a deadline.
#[derive(Debug)]
struct Timed {
    pipe: ChildStdout,
    deadline: Option<Instant>,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(&self.pipe, PollFlags::IN, self.deadline)?;
        Ok(rustix::io::read(self.pipe.as_fd(), buffer)?)
    }
}

/// A pipe that is written to until a deadline, and not waited for.
struct TimedWriter<'a> {
    pipe: &'a ChildStdin,
    deadline: Instant,
}

impl Write for TimedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait(self.pipe, PollFlags::OUT, Some(self.deadline))?;
        Ok(rustix::io::write(self.pipe.as_fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait(pipe: &impl AsFd, until: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut [PollFd::new(pipe, until)], left.as_ref())? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
