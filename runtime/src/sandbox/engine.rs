//! One call in one fresh instance, and what it took.
//!
//! Instances come from a pool whose slots the engine resets by its own guarantee (copy-on-write image, a memset of
//! the resident part, MADV_DONTNEED of the rest). A store is never used twice. `pagemap_scan` stays off: in this
//! engine version it misses dirty pages that were swapped out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Engine, ResourceLimiter, Store, Trap};

use super::contract::{Contribution, Parameter, Rows, export_of};
use super::lower::LoweredUnit;
use super::profile::{
    CORE_INSTANCES_MAX, EPOCH, EPOCH_MILLISECONDS, MEMORIES_MAX, TABLE_ELEMENT_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX,
    config,
};
use super::{Answer, failed};
use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::room::{Kind, Limits, Manifest, Slot, Value};

/// One unit's answer, and what it took. It has no Debug: it is raw data.
pub(super) struct Asked {
    pub(super) answer: Answer,
    pub(super) fuel: u64,
    pub(super) memory_bytes: u64,
}

/// What every kind's function takes.
type Arguments<'a> = (&'a [Parameter<'a>], &'a [Rows<'a>]);

/// A compiled question with the parameters of this run.
pub(crate) struct Question {
    pre: InstancePre<Allowance>,
    function: ComponentExportIndex,
    kind: Kind,
    limits: Limits,
    parameters: Vec<Value>,
    slots: Vec<Slot>,
    threads: usize,
    _ticker: Ticker,
}

impl Question {
    /// Compiles the approved bytes, and proves on no data at all that they instantiate within the limits.
    pub(crate) fn compile(approved: &Approved, threads: usize) -> Result<Self> {
        let (limits, parameters) = (approved.agreement().limits.clone(), approved.parameters().to_vec());
        Self::new(approved.component(), approved.manifest(), parameters, limits, threads)
    }

    pub(crate) fn new(
        component: &[u8],
        manifest: &Manifest,
        parameters: Vec<Value>,
        limits: Limits,
        threads: usize,
    ) -> Result<Self> {
        let engine = Engine::new(&config(&limits, threads)).map_err(|error| failed(format!("no engine: {error}")))?;
        Self::on(engine, component, manifest, parameters, limits, threads)
    }

    pub(super) fn on(
        engine: Engine,
        component: &[u8],
        manifest: &Manifest,
        parameters: Vec<Value>,
        limits: Limits,
        threads: usize,
    ) -> Result<Self> {
        let kind = manifest.kind;
        let component = Component::from_binary(&engine, component).map_err(|error| not_compiled(&error))?;
        let function = find_export(&component, kind)?;
        let pre = Linker::new(&engine).instantiate_pre(&component).map_err(|error| not_compiled(&error))?;
        let slots = manifest.slots.clone();
        let _ticker = Ticker::start(engine);
        let question = Self { pre, function, kind, limits, parameters, slots, threads, _ticker };
        question.try_out()?;
        Ok(question)
    }

    pub(super) const fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Asks about one unit. An error is this host's failure; whatever the guest does wrong is `Answer::Nothing`.
    pub(super) fn ask(&self, unit: &LoweredUnit<'_>) -> Result<Asked> {
        let mut store = self.store()?;
        let answer = self.call(&mut store, unit);
        if store.data().is_failed_by_host {
            return Err(failed("the host has no memory for an instance"));
        }
        let left = store.get_fuel().map_err(|error| failed(error.to_string()))?;
        Ok(Asked {
            answer: answer?,
            fuel: self.limits.fuel_per_unit.saturating_sub(left),
            memory_bytes: store.data().bytes_granted(),
        })
    }

    fn call(&self, mut store: &mut Store<Allowance>, unit: &LoweredUnit<'_>) -> Result<Answer> {
        let instance = match self.pre.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) if error.is::<Trap>() => return self.nothing(&error),
            Err(error) => return Err(failed(format!("no instance: {error}"))),
        };
        let parameters: Vec<Parameter<'_>> = self.parameters.iter().map(Parameter::from).collect();
        let columns = unit.columns();
        let views: Vec<Rows<'_>> = unit.rows(&columns);
        let arguments = (parameters.as_slice(), views.as_slice());
        let answer = match self.kind {
            Kind::Analytical => instance
                .get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function)
                .map(|measure| measure.call(&mut store, arguments).map(|(list,)| Answer::Contributions(list))),
            Kind::List => instance
                .get_typed_func::<Arguments<'_>, (Option<u32>,)>(&mut store, &self.function)
                .map(|select| select.call(&mut store, arguments).map(|(segment,)| Answer::Selected(segment))),
        };
        let called = answer.map_err(|_| contract_mismatch(self.kind))?;
        called.or_else(|error| self.nothing(&error))
    }

    /// Whatever a guest does wrong is silent, but for the wall clock: whether it strikes depends on the machine's load,
    /// so on other units, and no unit's contribution may. Fuel is the limit that counts; the clock ends the run.
    fn nothing(&self, error: &wasmtime::Error) -> Result<Answer> {
        if error.downcast_ref::<Trap>() != Some(&Trap::Interrupt) {
            return Ok(Answer::Nothing);
        }
        Err(Fault::new(
            Code::TimedOut,
            format!("a unit took longer than the agreed {} ms", self.limits.milliseconds_per_unit),
            "run on an idle machine, or agree to less fuel per unit",
        ))
    }

    /// The floor under [`ask`](Self::ask): instantiate, call with nothing, drop. For benchmarks.
    pub(crate) fn call_bare(&self, count: usize) {
        for _ in 0..count {
            let mut store = Store::new(self.pre.engine(), Allowance::new(&self.limits));
            let _ = store.set_fuel(self.limits.fuel_per_unit);
            store.set_epoch_deadline(u64::MAX / 2);
            let called = self.pre.instantiate(&mut store).and_then(|instance| {
                instance
                    .get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function)?
                    .call(&mut store, (&[], &[]))
            });
            assert!(called.is_ok(), "the baseline question answers");
        }
    }

    fn store(&self) -> Result<Store<Allowance>> {
        let allowance = Allowance::new(&self.limits);
        let mut store = Store::new(self.pre.engine(), allowance);
        store.limiter(|allowance| allowance);
        store.set_fuel(self.limits.fuel_per_unit).map_err(|error| failed(error.to_string()))?;
        store.set_epoch_deadline(self.limits.milliseconds_per_unit / EPOCH_MILLISECONDS + 1);
        store.set_hostcall_fuel(usize::try_from(self.limits.answer_bytes_per_unit).unwrap_or(usize::MAX));
        Ok(store)
    }

    /// What fails here fails for every unit, so it is told in full and before any data is read.
    fn try_out(&self) -> Result<()> {
        let mut store = self.store()?;
        let instance = self.pre.instantiate(&mut store).map_err(|error| {
            Fault::new(
                Code::CompileFailed,
                format!("the component does not start within its limits: {}", root(&error)),
                format!("stay below {} bytes of memory and do no work at start-up", self.limits.memory_bytes_per_unit),
            )
        })?;
        let typed = match self.kind {
            Kind::Analytical => {
                instance.get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &self.function).is_ok()
            }
            Kind::List => instance.get_typed_func::<Arguments<'_>, (Option<u32>,)>(&mut store, &self.function).is_ok(),
        };
        if typed { Ok(()) } else { Err(contract_mismatch(self.kind)) }
    }
}

impl<'a> From<&'a Value> for Parameter<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Int64(value) => Self::Int64(*value),
            Value::Float64(value) => Self::Float64(*value),
            Value::Utf8(value) => Self::Utf8(value),
        }
    }
}

fn find_export(component: &Component, kind: Kind) -> Result<ComponentExportIndex> {
    let (interface, function) = export_of(kind);
    let interface = component.get_export_index(None, interface).ok_or_else(|| contract_mismatch(kind))?;
    component.get_export_index(Some(&interface), function).ok_or_else(|| contract_mismatch(kind))
}

fn contract_mismatch(kind: Kind) -> Fault {
    let (interface, function) = export_of(kind);
    Fault::new(
        Code::ContractMismatch,
        format!("the component does not export {interface}#{function} with the contract's types"),
        "build it with the SDK of this runtime's version, and let `kind` in question.toml say what it is",
    )
}

fn not_compiled(error: &wasmtime::Error) -> Fault {
    Fault::new(
        Code::CompileFailed,
        format!("the component does not compile: {}", root(error)),
        "build it with the SDK; see docs/author-guide.md for the limits",
    )
}

fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// What one store may own in all: memories and tables draw on the same bytes.
struct Allowance {
    bytes: usize,
    bytes_left: usize,
    is_failed_by_host: bool,
}

impl Allowance {
    fn new(limits: &Limits) -> Self {
        let bytes = usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX);
        Self { bytes, bytes_left: bytes, is_failed_by_host: false }
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

/// Advances the engine's epoch until it is dropped.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(EPOCH);
                engine.increment_epoch();
            }
        });
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
