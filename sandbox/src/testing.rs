//! What tests make components of: the project's contract and the standard encoder.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Module;

use crate::answer;
use crate::engine::{Kept, engine_of_kernels, not_compiled};
use crate::kernel::{Driver, Plan, proved};
use crate::message::{Most, Reply, receive, send};
use crate::{Answer, Asked, Denial, Limits, Question, Reason, Result, Spec};

/// The contract.
pub const WIT: &str = include_str!("../../sdk/wit/question.wit");

/// Where the engine puts what it passes in, and 8 bytes of zeros at address 0: the empty list.
pub const MEMORY: &str = r#"
    (memory (export "memory") 1 100)
    (global $end (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $start i32)
        (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
        (global.set $end (i32.add (local.get $start) (local.get 3)))
        (local.get $start))
"#;

/// The exported function of an analytical question.
pub const MEASURE: &str = "glovebox:question/analytical@0.2.0#measure";
/// The exported function of a question for a list.
pub const SELECT: &str = "glovebox:question/selection@0.2.0#select";

/// The text of a core module with the contract's memory and one function's body, which answers with the address of a
/// list. Its parameters are where the unit's words lie, and how many they are.
#[must_use]
pub fn module(function: &str, body: &str) -> String {
    format!("(module {MEMORY} (func (export \"{function}\") (param i32 i32) (result i32) {body} (i32.const 0)))")
}

/// A component that the contract's world `world` and the standard encoder make of a core module.
///
/// # Panics
///
/// Where the module is not of that world.
#[must_use]
#[expect(clippy::unwrap_used, clippy::panic, reason = "for tests")]
pub fn encode(wit: &str, world: &str, mut module: Vec<u8>) -> Vec<u8> {
    // An empty component's types: the type of these is of a crate that is no direct dependency.
    let empty = wit_component::decode(b"\0asm\x0d\0\x01\0").unwrap();
    let wit_component::DecodedWasm::Component(mut types, _) = empty else { panic!("not a component") };
    let package = types.push_source("question.wit", wit).unwrap();
    let world = types.select_world(&[package], Some(world)).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &types, world, encoding).unwrap();
    wit_component::ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    /// How often this thread has taken memory, or had it moved.
    #[must_use]
    pub fn allocations() -> u64 {
        ALLOCATIONS.get()
    }
}

#[expect(unsafe_code, reason = "as the system's allocator does it")]
// SAFETY: whatever is asked is asked of the system's allocator, with the same arguments; the count allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

/// A host as it must not be: it asks about one unit after the other in one instance, until that traps.
#[expect(missing_debug_implementations, reason = "for tests")]
pub struct Careless {
    question: Question,
    kept: Mutex<Option<Kept>>,
}

impl Careless {
    /// For a component.
    ///
    /// # Panics
    ///
    /// Where it does not compile.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "for tests")]
    pub fn new(component: &[u8], spec: Spec) -> Self {
        Self { question: Question::new(component, spec, 16).unwrap(), kept: Mutex::new(None) }
    }

    /// Asks about the one unit of a batch, in the instance that the last unit has left.
    ///
    /// # Panics
    ///
    /// Where the batch is not of the question's form.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "for tests")]
    pub fn ask(&self, batch: &[u8]) -> Answer {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.question.ask_in_kept(&mut kept, batch).unwrap()
    }

    /// The same in an instance of its own.
    ///
    /// # Panics
    ///
    /// Where the batch is not of the question's form.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "for tests")]
    pub fn ask_alone(&self, batch: &[u8]) -> Answer {
        self.question.ask_in_kept(&mut None, batch).unwrap()
    }
}

/// A register kernel by itself, without a component that says the same.
#[expect(missing_debug_implementations, reason = "for tests")]
pub struct Kernel {
    module: Module,
    plan: Plan,
    spec: Spec,
}

impl Kernel {
    /// Proves that a core module is a kernel and compiles it, for a question of its own columns and parameters.
    pub fn new(module: &[u8], limits: Limits) -> Result<Self> {
        let (plan, driver) = proved(module, &limits)?;
        let module = Module::new(&engine_of_kernels(&limits)?, driver).map_err(|error| not_compiled(&error))?;
        let spec = plan.spec(limits);
        Ok(Self { module, plan, spec })
    }

    /// How the question is asked.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// A new instance.
    pub fn start(&self) -> Result<RunningKernel> {
        Driver::new(&self.module, self.plan.clone(), &self.spec, &Arc::default()).map(RunningKernel)
    }
}

/// One instance of a kernel.
#[expect(missing_debug_implementations, reason = "for tests")]
pub struct RunningKernel(Driver);

impl RunningKernel {
    /// Asks about every unit of a batch.
    pub fn ask_all(&mut self, batch: &[u8], units: usize) -> Result<Vec<Asked>> {
        self.0.ask_all(batch, units)
    }
}

/// A question whose instances have memory that the system has just handed out, so that none can find what another left.
///
/// # Panics
///
/// Where it does not compile.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn unpooled(component: &[u8], spec: Spec) -> Question {
    let mut config = crate::profile::config(&spec.limits, 1);
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand);
    Question::on(&wasmtime::Engine::new(&config).unwrap(), component, spec).unwrap()
}

/// A worker's answer about a unit, or why there is none, as it goes through the pipe.
///
/// # Panics
///
/// Never: memory takes what is written to it.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn said(asked: Result<&Asked, Reason>) -> Vec<u8> {
    let (mut pipe, mut writer) = (Vec::new(), answer::Writer::default());
    match asked {
        Ok(asked) => writer.asked(asked, &mut pipe),
        Err(reason) => writer.ended(reason, &mut pipe),
    }
    .unwrap();
    pipe
}

/// What a host hears in a worker's bytes after it has heard others, of at most so many: the same as it would be said.
#[must_use]
pub fn heard(before: &[u8], mut bytes: &[u8], most: u64) -> Option<Vec<u8>> {
    let mut reader = answer::Reader::default();
    let _ = reader.next(&mut &before[..], most);
    reader.next(&mut bytes, most).ok().map(|asked| said(asked.map(|asked| &*asked)))
}

/// A refusal to load a question, as it goes through the pipe.
///
/// # Panics
///
/// Never, as [`said`].
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn not_loaded(denial: Denial) -> Vec<u8> {
    let mut pipe = Vec::new();
    send(&mut pipe, &Reply::Loaded(Err(denial)), &[]).unwrap();
    pipe
}

/// What a host hears in a worker's bytes besides answers, of which it reads so many: the same reply as it would go through
/// the pipe, and the denial that is left of it.
///
/// # Panics
///
/// Never, as [`said`].
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn replied(bytes: &[u8], most: u64) -> Option<(Vec<u8>, Option<Denial>)> {
    let (reply, payload): (Reply, _) = receive(&mut &bytes[..], Most { message: most, bytes: most }).ok()?;
    let mut pipe = Vec::new();
    send(&mut pipe, &reply, &payload).unwrap();
    let denial = match reply {
        Reply::Compiled(Err(denial)) | Reply::Loaded(Err(denial)) => Some(denial),
        _ => None,
    };
    Some((pipe, denial.map(Denial::from_stranger)))
}
