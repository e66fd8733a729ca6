//! The engine's profile, and one call in one fresh instance.
//!
//! Instances come from a pool whose slots the engine resets by its own guarantee (copy-on-write image, a memset of
//! the resident part, MADV_DONTNEED of the rest). A store is never used twice. `pagemap_scan` stays off: in this
//! engine version it misses dirty pages that were swapped out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig, ResourceLimiter, Store, Trap};

use super::contract::{Contribution, Parameter, Rows, export_of};
use super::lower::LoweredUnit;
use super::screen::FEATURES;
use super::{Answer, failed};
use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::room::{Kind, Limits, Slot, Value};

const EPOCH: Duration = Duration::from_millis(10);
const STACK_BYTES_MAX: usize = 256 << 10;
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// A component made by the standard tools has its own module and a few shims.
const CORE_INSTANCES_MAX: usize = 16;
const TABLES_MAX: usize = 4;
/// The part of memory that is reset by copying instead of by a system call. A short question touches little more: its
/// stack, its data and the beginning of its heap.
const KEEP_RESIDENT_BYTES: usize = 96 << 10;

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
        let limits = approved.agreement().limits.clone();
        let kind = approved.manifest().kind;
        let engine = Engine::new(&config(&limits, threads)).map_err(|error| failed(format!("no engine: {error}")))?;
        let component = Component::from_binary(&engine, approved.component()).map_err(|error| not_compiled(&error))?;
        let function = find_export(&component, kind)?;
        let pre = Linker::new(&engine).instantiate_pre(&component).map_err(|error| not_compiled(&error))?;
        let question = Self {
            pre,
            function,
            kind,
            limits,
            parameters: approved.parameters().to_vec(),
            slots: approved.manifest().slots.clone(),
            threads,
            _ticker: Ticker::start(engine),
        };
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
    pub(super) fn ask(&self, unit: &LoweredUnit<'_>) -> Result<Answer> {
        let mut store = self.store()?;
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
        store.set_epoch_deadline(self.limits.milliseconds_per_unit / EPOCH.as_millis() as u64 + 1);
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

fn config(limits: &Limits, threads: usize) -> Config {
    let memory_bytes = usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX);
    let slots = u32::try_from(threads + 1).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX as u32)
        .total_memories(slots)
        .total_tables(slots * TABLES_MAX as u32)
        .max_core_instances_per_component(CORE_INSTANCES_MAX as u32)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_MAX as u32)
        .max_memory_size(memory_bytes)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(0)
        .pagemap_scan(Enabled::No);
    let mut config = Config::new();
    config
        .allocation_strategy(pool)
        .wasm_features(wasmparser::WasmFeatures::all().difference(FEATURES), false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(STACK_BYTES_MAX)
        .memory_init_cow(true)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None);
    config
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
    bytes_left: usize,
}

impl Allowance {
    fn new(limits: &Limits) -> Self {
        Self { bytes_left: usize::try_from(limits.memory_bytes_per_unit).unwrap_or(usize::MAX) }
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
}

impl ResourceLimiter for Allowance {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grant(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        const ELEMENT_BYTES: usize = 8;
        Ok(desired <= TABLE_ELEMENTS_MAX && self.grant(current * ELEMENT_BYTES, desired * ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        1
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
