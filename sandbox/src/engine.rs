//! One call in one fresh instance, and what it took.
//!
//! Instances come from a pool whose slots the engine resets by its own guarantee (copy-on-write image, a memset of
//! the resident part, MADV_DONTNEED of the rest). A store is never used twice. `pagemap_scan` stays off: in this
//! engine version it misses dirty pages that were swapped out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::JoinHandle;

use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Linker};
use wasmtime::{Engine, Module, ResourceLimiter, Store, Trap, UpdateDeadline};

use crate::batch::units;
use crate::contract::{Answer, Arguments, Contribution, export_of};
use crate::denial::{Denial, Reason, Result};
use crate::kernel::{Driver, Plan, driven};
use crate::profile::{
    COMPONENT_HANDLES_MAX, CORE_INSTANCES_MAX, EPOCH, EPOCH_MILLISECONDS, MEMORIES_MAX, TABLE_ELEMENT_BYTES,
    TABLE_ELEMENTS_MAX, TABLES_MAX, config, config_of_kernels,
};
use crate::terms::{Kind, Limits, Spec};

/// The words of a unit without parameters and slots.
const NOTHING: [u64; 2] = [0, 0];

/// One unit's answer, and what it took. It has no Debug: it is raw data.
#[derive(Clone, Default)]
#[expect(missing_debug_implementations, reason = "raw data never reaches a log line")]
pub struct Asked {
    /// What the question said.
    pub answer: Answer,
    /// The fuel that the call took; not exact where it trapped. Of a kernel, the operators that it has for that many rows.
    pub fuel: u64,
    /// The most bytes of memory and tables that its instance had. A kernel has none.
    pub memory_bytes: u64,
}

/// A compiled question, ready to be asked.
pub struct Question {
    pre: InstancePre<Allowance>,
    function: ComponentExportIndex,
    spec: Spec,
    cancelled: Arc<AtomicBool>,
    kernel: Option<Mutex<Driver>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}

impl Question {
    /// Compiles a component in this process, for so many calls at a time. For tests and measurements: elsewhere a
    /// question is compiled and asked in a [`Worker`](crate::Worker).
    pub fn new(component: &[u8], spec: Spec, at_a_time: u32) -> Result<Self> {
        Self::on(&engine(&spec.limits, at_a_time)?, component, spec)
    }

    pub(crate) fn on(engine: &Engine, component: &[u8], spec: Spec) -> Result<Self> {
        let compiled = Component::from_binary(engine, component).map_err(|error| not_compiled(&error))?;
        let mut question = Self::of(&compiled, spec)?;
        question.try_out()?;
        if let Some((plan, module)) = driven(component, &question.spec.limits) {
            let engine = engine_of_kernels(&question.spec.limits)?;
            Module::from_binary(&engine, &module).iter().for_each(|module| question.drive(module, plan.clone()));
        }
        Ok(question)
    }

    /// From now on asks the component's kernel in place of instances, if it is of this question.
    pub(crate) fn drive(&mut self, module: &Module, plan: Plan) {
        if plan.fits(&self.spec) {
            self.kernel = Driver::new(module, plan, &self.spec, &self.cancelled).ok().map(Mutex::new);
        }
    }

    /// Whether units are asked by the component's register kernel, and not in instances of their own.
    #[must_use]
    pub const fn is_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// As if the component had no kernel.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn without_kernel(self) -> Self {
        Self { kernel: None, ..self }
    }

    /// Nothing of the component runs here.
    pub(crate) fn of(component: &Component, spec: Spec) -> Result<Self> {
        let function = find_export(component, spec.kind)?;
        let pre = Linker::new(component.engine()).instantiate_pre(component).map_err(|error| not_compiled(&error))?;
        Ok(Self { pre, function, spec, cancelled: Arc::default(), kernel: None })
    }

    /// How the question is asked.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The engines whose clocks must tick.
    pub(crate) fn engines(&self) -> Vec<Engine> {
        let of_kernel = |kernel: &Mutex<Driver>| lock(kernel).engine().clone();
        std::iter::once(self.pre.engine().clone()).chain(self.kernel.as_ref().map(of_kernel)).collect()
    }

    /// Ends the call at hand, and every later one, when it is set.
    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// The answers about every unit of a batch.
    pub fn ask_all(&self, batch: &[u8], units: usize) -> Result<Vec<Asked>> {
        let mut answers = Vec::with_capacity(units.min(batch.len()));
        self.ask_each(batch, units, |asked| {
            answers.push(asked);
            Ok(())
        })?;
        Ok(answers)
    }

    /// Asks about every unit of a batch in turn: each in an instance of its own or, if there is one, by the kernel. An
    /// error is this host's failure, or the wall clock; whatever the guest does wrong is `Answer::Nothing`.
    pub(crate) fn ask_each(&self, batch: &[u8], count: usize, mut take: impl FnMut(Asked) -> Result<()>) -> Result<()> {
        if let Some(kernel) = &self.kernel {
            return lock(kernel).ask_all(batch, count)?.into_iter().try_for_each(take);
        }
        units(batch, count)?.try_for_each(|unit| take(self.ask((unit,))?))
    }

    fn ask(&self, arguments: Arguments<'_>) -> Result<Asked> {
        let mut store = self.store()?;
        let answer = self.call(&mut store, arguments);
        if store.data().is_failed_by_host {
            return Err(Denial::failed("the host has no memory for an instance"));
        }
        let left = store.get_fuel().map_err(|error| Denial::failed(error.to_string()))?;
        Ok(Asked {
            answer: answer?,
            fuel: self.spec.limits.fuel_per_unit.saturating_sub(left),
            memory_bytes: store.data().bytes_granted(),
        })
    }

    /// As no host may ask: about one unit, in the instance that the one before has left, until that traps.
    #[cfg(feature = "testing")]
    pub(crate) fn ask_in_kept(&self, kept: &mut Option<Kept>, batch: &[u8]) -> Result<Answer> {
        let mut said = Answer::Nothing;
        units(batch, 1)?.try_for_each(|unit| {
            let (mut store, instance) = match kept.take() {
                Some(Kept(store, instance)) => (store, instance),
                None => {
                    let mut store = self.store()?;
                    let instance = self.pre.instantiate(&mut store).map_err(|_| Denial::failed("no instance"))?;
                    (store, instance)
                }
            };
            store.set_fuel(self.spec.limits.fuel_per_unit).map_err(|error| Denial::failed(error.to_string()))?;
            said = self.call_in(&mut store, &instance, (unit,))?;
            *kept = (!matches!(said, Answer::Nothing)).then_some(Kept(store, instance));
            Ok(())
        })?;
        Ok(said)
    }

    fn call(&self, mut store: &mut Store<Allowance>, arguments: Arguments<'_>) -> Result<Answer> {
        match self.pre.instantiate(&mut store) {
            Ok(instance) => self.call_in(store, &instance, arguments),
            Err(error) if error.is::<Trap>() => self.nothing(&error),
            Err(error) => Err(Denial::failed(format!("no instance: {error}"))),
        }
    }

    fn call_in(
        &self,
        mut store: &mut Store<Allowance>,
        instance: &Instance,
        arguments: Arguments<'_>,
    ) -> Result<Answer> {
        let answer = match self.spec.kind {
            Kind::Analytical => instance
                .get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function)
                .map(|measure| measure.call(&mut store, arguments).map(|(list,)| Answer::Contributions(list))),
            Kind::List => instance
                .get_typed_func::<Arguments<'_>, (Option<u32>,)>(&mut store, &self.function)
                .map(|select| select.call(&mut store, arguments).map(|(segment,)| Answer::Selected(segment))),
        };
        let called = answer.map_err(|_| contract_mismatch(self.spec.kind))?;
        called.or_else(|error| self.nothing(&error))
    }

    /// Whatever a guest does wrong is silent, but for the wall clock: whether it strikes depends on the machine's load,
    /// so on other units, and no unit's contribution may. Fuel is the limit that counts; the clock ends the run.
    fn nothing(&self, error: &wasmtime::Error) -> Result<Answer> {
        if error.downcast_ref::<Trap>() != Some(&Trap::Interrupt) {
            return Ok(Answer::Nothing);
        }
        Err(timed_out(&self.spec.limits))
    }

    /// The floor under [`ask`](Self::ask): instantiate, call with nothing, drop. For benchmarks.
    #[expect(clippy::missing_panics_doc, reason = "for benchmarks")]
    pub fn call_bare(&self, count: usize) {
        for _ in 0..count {
            let mut store = Store::new(self.pre.engine(), Allowance::new(&self.spec.limits, &self.cancelled));
            let _ = store.set_fuel(self.spec.limits.fuel_per_unit);
            store.set_epoch_deadline(u64::MAX / 2);
            let called = self.pre.instantiate(&mut store).and_then(|instance| {
                instance
                    .get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function)?
                    .call(&mut store, (&NOTHING,))
            });
            assert!(called.is_ok(), "the baseline question answers");
        }
    }

    fn store(&self) -> Result<Store<Allowance>> {
        let allowance = Allowance::new(&self.spec.limits, &self.cancelled);
        let mut store = Store::new(self.pre.engine(), allowance);
        store.limiter(|allowance| allowance);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        store.set_fuel(self.spec.limits.fuel_per_unit).map_err(|error| Denial::failed(error.to_string()))?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        store.set_hostcall_fuel(usize::try_from(self.spec.limits.answer_bytes_per_unit).unwrap_or(usize::MAX));
        Ok(store)
    }

    /// Proves on no data at all that the component instantiates within its limits. What fails here fails for every unit, so it is told in full and before any data is read.
    pub(crate) fn try_out(&self) -> Result<()> {
        let mut store = self.store()?;
        let instance = self.pre.instantiate(&mut store).map_err(|error| {
            Denial::new(
                Reason::CompileFailed,
                format!("the component does not start within its limits: {}", root(&error)),
                format!(
                    "stay below {} bytes of memory and do no work at start-up",
                    self.spec.limits.memory_bytes_per_unit
                ),
            )
        })?;
        let typed = match self.spec.kind {
            Kind::Analytical => {
                instance.get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function).is_ok()
            }
            Kind::List => instance.get_typed_func::<Arguments<'_>, (Option<u32>,)>(&mut store, &self.function).is_ok(),
        };
        if typed { Ok(()) } else { Err(contract_mismatch(self.spec.kind)) }
    }
}

/// A driver sets all that it reads before it runs, so that one at which another call has stopped is as good as any.
fn lock(kernel: &Mutex<Driver>) -> std::sync::MutexGuard<'_, Driver> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn timed_out(limits: &Limits) -> Denial {
    Denial::new(
        Reason::TimedOut,
        format!("a unit took longer than the agreed {} ms", limits.milliseconds_per_unit),
        "run on an idle machine, or agree to less fuel per unit",
    )
}

pub(crate) fn find_export(component: &Component, kind: Kind) -> Result<ComponentExportIndex> {
    let (interface, function) = export_of(kind);
    let interface = component.get_export_index(None, interface).ok_or_else(|| contract_mismatch(kind))?;
    component.get_export_index(Some(&interface), function).ok_or_else(|| contract_mismatch(kind))
}

fn contract_mismatch(kind: Kind) -> Denial {
    let (interface, function) = export_of(kind);
    Denial::new(
        Reason::ContractMismatch,
        format!("the component does not export {interface}#{function} with the contract's types"),
        "build it with the SDK of this runtime's version, and let `kind` in question.toml say what it is",
    )
}

pub(crate) fn not_compiled(error: &wasmtime::Error) -> Denial {
    Denial::new(
        Reason::CompileFailed,
        format!("the component does not compile: {}", root(error)),
        "build it with the SDK; see docs/author-guide.md for the limits",
    )
}

fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// What no host may keep.
#[cfg(feature = "testing")]
pub(crate) struct Kept(Store<Allowance>, Instance);

/// What one store may own in all, where memories and tables draw on the same bytes; and how long it may take.
struct Allowance {
    bytes: usize,
    bytes_left: usize,
    ticks_left: u64,
    cancelled: Arc<AtomicBool>,
    is_failed_by_host: bool,
}

impl Allowance {
    fn new(limits: &Limits, cancelled: &Arc<AtomicBool>) -> Self {
        let bytes = usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX);
        let ticks_left = limits.milliseconds_per_unit / EPOCH_MILLISECONDS + 1;
        Self { bytes, bytes_left: bytes, ticks_left, cancelled: Arc::clone(cancelled), is_failed_by_host: false }
    }

    /// One tick of the engine's clock. The clock is everyone's, so what ends this call alone is its own: never a tick
    /// more than there was.
    fn tick(&mut self) -> UpdateDeadline {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        if self.ticks_left == 0 || self.cancelled.load(Ordering::Relaxed) {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(1)
    }

    /// Grants growth from the one allowance. What is refused is refused by the limit alone, never by the host's load.
    fn grant(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        let granted = more <= self.bytes_left;
        if granted {
            self.bytes_left -= more;
        }
        granted
    }

    const fn bytes_granted(&self) -> u64 {
        (self.bytes - self.bytes_left) as u64
    }
}

impl ResourceLimiter for Allowance {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grant(current, desired))
    }

    /// Growth that was granted fails for want of the host's memory only. A guest that were told could answer otherwise
    /// on another host, so the run ends.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.is_failed_by_host = true;
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let is_in_range = desired <= TABLE_ELEMENTS_MAX.min(maximum.unwrap_or(usize::MAX));
        Ok(is_in_range && self.grant(current * TABLE_ELEMENT_BYTES, desired * TABLE_ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// An engine of the profile, for so many calls at a time.
pub(crate) fn engine(limits: &Limits, at_a_time: u32) -> Result<Engine> {
    let engine =
        Engine::new(&config(limits, at_a_time)).map_err(|error| Denial::failed(format!("no engine: {error}")))?;
    Ok(engine)
}

/// An engine that drives kernels.
pub(crate) fn engine_of_kernels(limits: &Limits) -> Result<Engine> {
    Engine::new(&config_of_kernels(limits)).map_err(|error| Denial::failed(format!("no engine: {error}")))
}

/// Advances an engine's epoch until it is dropped.
#[derive(Debug)]
pub struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Ticks for a question that is asked in this process.
    #[must_use]
    pub fn of(question: &Question) -> Self {
        let engines = question.engines();
        Self::start(move || engines.iter().for_each(Engine::increment_epoch))
    }

    /// Returns when the thread is there: a worker filters the calls that starting one takes.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let started = Arc::new(Barrier::new(2));
        let here = Arc::clone(&started);
        let thread = std::thread::spawn(move || {
            here.wait();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(EPOCH);
                tick();
            }
        });
        started.wait();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
