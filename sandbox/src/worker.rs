//! The worker's side: a process that compiles one question, or asks one about units, until its host hangs up.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::answer;
use crate::artifact::{self, Artifact};
use crate::denial::{Denial, Reason, Result};
use crate::engine::{Question, Ticker, engine, engine_of_kernels};
use crate::message::{Most, Reply, Task, receive, send};
use crate::shared::View;
use crate::terms::Spec;
use crate::walls::{Calls, Caps, Wall, close_behind, enclose, filter_calls};

/// The first argument of a program that is to call [`serve`].
pub const COMMAND: &str = "worker";

/// What a host sends is as long as it must be; it is trusted.
const ANY_LENGTH: Most = Most { message: u64::MAX, bytes: u64::MAX };

/// Room for what a question does deep within its calls, whatever the system gives a first thread.
const STACK_BYTES: usize = 8 << 20;

/// What is written to the pipe at a time: its host is seldom woken.
const PIPE_BYTES: usize = 64 << 10;

/// Threads of a process that compiles.
const COMPILER_THREADS: usize = 2;

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Compile,
    Ask,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Ask => "ask",
        }
    }
}

/// The arguments after [`COMMAND`] of a worker.
pub(crate) fn arguments(role: Role, caps: &Caps) -> [String; 4] {
    [role.as_str().into(), caps.address_bytes.to_string(), caps.data_bytes.to_string(), caps.cpu_seconds.to_string()]
}

fn read_arguments(arguments: &[String]) -> Option<(Role, Caps)> {
    let [role, numbers @ ..] = arguments else { return None };
    let role = [Role::Compile, Role::Ask].into_iter().find(|known| known.as_str() == role)?;
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [address_bytes, data_bytes, cpu_seconds] = numbers[..] else { return None };
    Some((role, Caps { address_bytes, data_bytes, cpu_seconds }))
}

/// Serves as a worker until the host hangs up: tasks come by standard input, answers go to standard output, units lie in
/// the file that is standard error. Returns whether the process ended as it should.
#[must_use]
pub fn serve(arguments: &[String]) -> bool {
    close_inherited();
    read_arguments(arguments).is_some_and(|(role, caps)| match role {
        Role::Compile => compile_one(&caps).is_ok(),
        Role::Ask => ask_many(&caps).is_ok(),
    })
}

/// Closes what a careless parent of the host left open: files cross into a new program unless they are marked.
#[expect(unsafe_code, reason = "a program that has just begun owns no file but the standard streams")]
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<libc::c_int> = open.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > libc::STDERR_FILENO) {
        // SAFETY: nothing in this process has opened a file yet but the list above, which is closed by now.
        unsafe { libc::close(number) };
    }
}

/// The two pipes, without the buffers of the standard library.
struct Host {
    input: File,
    output: BufWriter<File>,
    answers: answer::Writer,
}

impl Host {
    fn new() -> io::Result<Self> {
        use std::os::fd::AsFd;
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = BufWriter::with_capacity(PIPE_BYTES, io::stdout().as_fd().try_clone_to_owned()?.into());
        Ok(Self { input, output, answers: answer::Writer::default() })
    }

    /// The next task; none when the host has hung up.
    fn task(&mut self) -> io::Result<Option<(Task, Vec<u8>)>> {
        match receive(&mut self.input, ANY_LENGTH) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            task => task.map(Some),
        }
    }

    fn reply(&mut self, reply: &Reply, bytes: &[u8]) -> io::Result<()> {
        send(&mut self.output, reply, bytes)?;
        self.output.flush()
    }

    /// Says each unit's answer when it is there, so that no list of them is kept.
    fn answer(&mut self, question: &Question, batch: &[u8], units: usize) -> io::Result<()> {
        let mut said = Ok(());
        let asked = question.ask_each(batch, units, |asked| {
            said = self.answers.asked(&asked, &mut self.output);
            said.as_ref().map_err(|error| Denial::failed(error.to_string())).copied()
        });
        said?;
        if let Err(denial) = asked {
            self.answers.ended(denial.reason(), &mut self.output)?;
        }
        self.output.flush()
    }
}

/// Goes on in a thread with a stack of its own, which has every wall that its starter has.
fn on_a_known_stack(work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker stopped")))
    })
}

fn compile_one(caps: &Caps) -> io::Result<()> {
    let mut walls = enclose(caps);
    on_a_known_stack(move || {
        let mut host = Host::new()?;
        // Threads are started while they may be, and are there before the filter is.
        rayon::ThreadPoolBuilder::new().num_threads(COMPILER_THREADS).build_global().map_err(io::Error::other)?;
        rayon::broadcast(|_| ());
        walls.extend(filter_calls(Calls::Compile).is_ok().then_some(Wall::Seccomp));
        host.reply(&Reply::Standing(walls), &[])?;
        let Some((Task::Compile(limits), component)) = host.task()? else { return Ok(()) };
        let compiled = artifact::compile(&component, &limits);
        let (outcome, bytes) = compiled.map_or_else(|denial| (Err(denial), Vec::new()), |bytes| (Ok(()), bytes));
        host.reply(&Reply::Compiled(outcome), &bytes)
    })
}

fn ask_many(caps: &Caps) -> io::Result<()> {
    // The host's file, to be read and not to be written.
    let units = View::of(&File::open("/proc/self/fd/2")?)?;
    let mut walls = enclose(caps);
    on_a_known_stack(move || {
        let mut host = Host::new()?;
        let clock = Clock::default();
        let _ticker = clock.start();
        let filters = filter_calls(Calls::Load).is_ok();
        walls.extend(filters.then_some(Wall::Seccomp));
        host.reply(&Reply::Standing(walls), &[])?;

        let Some(question) = load(&mut host, &clock, filters)? else { return Ok(()) };
        host.reply(&Reply::Loaded(Ok(())), &[])?;
        while let Some((Task::Ask { units: count, bytes }, _)) = host.task()? {
            let batch = usize::try_from(bytes).ok().and_then(|bytes| units.bytes().get(..bytes));
            host.answer(&question, batch.unwrap_or_default(), count as usize)?;
        }
        Ok(())
    })
}

/// Loads what was compiled, and runs none of it before nothing new can be opened or made.
fn load(host: &mut Host, clock: &Clock, filters: bool) -> io::Result<Option<Question>> {
    let Some((Task::Load(spec), compiled)) = host.task()? else { return Ok(None) };
    let prepared = prepare(clock, &compiled, spec);
    close_behind(filters)?;
    let tried = prepared.and_then(|question| question.try_out().map(|()| question));
    match tried {
        Ok(question) => Ok(Some(question)),
        Err(denial) => host.reply(&Reply::Loaded(Err(denial)), &[]).map(|()| None),
    }
}

fn prepare(clock: &Clock, compiled: &[u8], spec: Spec) -> Result<Question> {
    let engine = engine(&spec.limits, 1)?;
    let Artifact { component, kernel } = Artifact::read(compiled)?;
    let component = load_component(&engine, component)?;
    // Otherwise the first instance would make the image, which is a file.
    component.initialize_copy_on_write_image().map_err(|error| not_loaded(&error))?;
    let mut question = Question::of(&component, spec)?;
    if let Some((plan, module)) = kernel {
        let module = load_kernel(&engine_of_kernels(&question.spec().limits)?, module)?;
        module.initialize_copy_on_write_image().map_err(|error| not_loaded(&error))?;
        question.drive(&module, plan);
    }
    clock.cancels(&question);
    Ok(question)
}

#[expect(
    unsafe_code,
    reason = "compiled by this program from an approved component, and behind the walls all the same"
)]
fn load_component(engine: &Engine, compiled: &[u8]) -> Result<Component> {
    // SAFETY: the bytes come from `precompile_component`, directly or through a cache that only the host can write and
    // whose entries it authenticates. Were they anything else, they would run in a process that has nothing to lose.
    unsafe { Component::deserialize(engine, compiled) }.map_err(|error| not_loaded(&error))
}

#[expect(unsafe_code, reason = "compiled together with the component")]
fn load_kernel(engine: &Engine, compiled: &[u8]) -> Result<Module> {
    // SAFETY: as for the component, from `precompile_module` and in the same entry of the cache.
    unsafe { Module::deserialize(engine, compiled) }.map_err(|error| not_loaded(&error))
}

fn not_loaded(error: &wasmtime::Error) -> Denial {
    let remedy = "run again: the component is then compiled anew";
    Denial::new(Reason::CompileFailed, format!("what was compiled cannot be loaded: {error}"), remedy)
}

/// The worker's clock: it lets calls end on time, and all of them when the host has hung up.
#[derive(Clone, Default)]
struct Clock(Arc<OnceLock<(Arc<AtomicBool>, Vec<Engine>)>>);

impl Clock {
    /// Starts the last thread, while threads may be started.
    fn start(&self) -> Ticker {
        let clock = self.clone();
        Ticker::start(move || clock.tick())
    }

    /// Once the question is loaded, its engines tick, and it can be cancelled.
    fn cancels(&self, question: &Question) {
        let _ = self.0.set((question.cancelled(), question.engines()));
    }

    fn tick(&self) {
        let Some((cancelled, engines)) = self.0.get() else { return };
        if has_hung_up() {
            cancelled.store(true, Ordering::Relaxed);
        }
        engines.iter().for_each(Engine::increment_epoch);
    }
}

/// Whether nobody reads the answers any more.
fn has_hung_up() -> bool {
    let stdout = io::stdout();
    let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut pipe, Some(&now)).is_ok() && pipe[0].revents().contains(PollFlags::ERR)
}
