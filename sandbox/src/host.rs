//! The host's side: starts workers, gives them units, and believes nothing that they say.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::batch::Writer;
use crate::denial::{Denial, Reason, Result};
use crate::engine::Asked;
use crate::message::{Reply, Task, receive, send};
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
/// What a unit's answer takes besides its own bytes.
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
    let caps = Caps { address_bytes: RESERVED_BYTES, data_bytes: COMPILE_DATA_BYTES, cpu_seconds: COMPILE_CPU_SECONDS };
    let mut process = Process::start(program, Role::Compile, &caps, Stdio::null())?;
    require(&process.walls, may_lack)?;
    let said = process.say(&Task::Compile(limits.clone()), component);
    let heard = said.and_then(|()| process.hear(COMPILE, COMPILED_BYTES_MAX));
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
}

impl Worker {
    /// Starts a worker for one question. Whether its walls suffice is to be asked before it is given anything.
    pub fn start(program: &Program, limits: &Limits, cpu_seconds: u64) -> Result<Self> {
        let memory = usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX);
        // What a unit's rows take beyond twice its instance's memory, no instance could be told.
        let bytes = REGION_BYTES_MIN.max(memory.saturating_mul(2));
        let no_memory = |error: io::Error| Denial::failed(format!("no memory to share with a worker: {error}"));
        let region = Region::new(bytes).map_err(no_memory)?;
        let file = region.file().map_err(no_memory)?;
        let caps = Caps {
            address_bytes: RESERVED_BYTES + limits.memory_bytes_per_unit + bytes as u64,
            data_bytes: WORKER_DATA_BYTES + limits.memory_bytes_per_unit,
            cpu_seconds,
        };
        // A worker has nothing to say to people, so its third standard stream is its memory: no code runs between the
        // fork and the new program.
        let process = Process::start(program, Role::Ask, &caps, Stdio::from(file))?;
        Ok(Self { process, region, limits: limits.clone() })
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
        match self.process.hear(START, REPLY_BYTES_MAX)? {
            (Reply::Loaded(outcome), _) => outcome.map_err(Denial::from_stranger),
            _ => Err(self.process.talks_nonsense()),
        }
    }

    /// Where the next batch of units is to be written.
    pub fn batch(&mut self) -> Writer<'_> {
        Writer::new(self.region.bytes())
    }

    /// Asks about the batch that was written: so many units, in so many bytes.
    pub fn ask(&mut self, units: usize, bytes: usize) -> Result<Vec<Asked>> {
        let count = u32::try_from(units).map_err(|_| Denial::failed("a batch has too many units"))?;
        self.process.say(&Task::Ask { units: count, bytes: bytes as u64 }, &[])?;
        let time = Duration::from_millis(self.limits.milliseconds_per_unit.saturating_mul(u64::from(count)));
        let answer = self.limits.answer_bytes_per_unit.saturating_mul(2).saturating_add(ANSWER_OVERHEAD_BYTES);
        let most = REPLY_BYTES_MAX.saturating_add(answer.saturating_mul(u64::from(count)));
        match self.process.hear(time.saturating_add(SLACK), most)? {
            (Reply::Asked(Ok(answers)), _) if answers.len() == units => Ok(answers),
            (Reply::Asked(Err(denial)), _) => Err(Denial::from_stranger(denial)),
            _ => Err(self.process.talks_nonsense()),
        }
    }

    /// The process, for tests that disturb it.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }
}

/// What a reply without a payload may take.
const REPLY_BYTES_MAX: u64 = 64 << 10;

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
    input: ChildStdin,
    output: ChildStdout,
    walls: Vec<Wall>,
}

impl Process {
    fn start(program: &Program, role: Role, caps: &Caps, memory: Stdio) -> Result<Self> {
        let started = program.start(role, caps, memory);
        let mut child = started.map_err(|error| Denial::failed(format!("no worker process: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Denial::failed("a worker process has no pipes"));
        };
        let mut process = Self { child, input, output, walls: Vec::new() };
        let (Reply::Standing(walls), _) = process.hear(START, REPLY_BYTES_MAX)? else {
            return Err(process.talks_nonsense());
        };
        process.walls = walls;
        process.walls.sort_unstable();
        Ok(process)
    }

    fn say(&mut self, task: &impl Serialize, bytes: &[u8]) -> Result<()> {
        send(&mut self.input, task, bytes).map_err(|_| self.is_gone())
    }

    fn hear(&mut self, time: Duration, most: u64) -> Result<(Reply, Vec<u8>)> {
        let deadline = Instant::now().checked_add(time);
        receive(&mut Timed { pipe: &self.output, deadline }, most).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.is_gone(),
            io::ErrorKind::TimedOut => {
                let _ = self.child.kill();
                Denial::failed(format!("a worker process gave no answer within {} s", time.as_secs()))
            }
            _ => self.talks_nonsense(),
        })
    }

    /// What the process ended by.
    fn is_gone(&mut self) -> Denial {
        let _ = self.child.kill();
        let how = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Denial::failed(format!("a worker process ended: {how}"))
    }

    /// Only a question that has broken out of its engine makes a worker say what it does not say by itself.
    fn talks_nonsense(&mut self) -> Denial {
        let _ = self.child.kill();
        Denial::failed("a worker process gave an answer that no honest one gives")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe that is read until a deadline.
struct Timed<'a> {
    pipe: &'a ChildStdout,
    deadline: Option<Instant>,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut pipe = [PollFd::new(self.pipe, PollFlags::IN)];
        match poll(&mut pipe, left.as_ref()) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => Ok(rustix::io::read(self.pipe.as_fd(), buffer)?),
            Err(error) => Err(error.into()),
        }
    }
}
