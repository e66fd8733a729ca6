//! What tests make components of: the project's contract and the standard encoder.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Module;

use crate::engine::{Kept, engine_of_kernels, not_compiled};
use crate::kernel::{Driver, Plan, proved};
use crate::message::{Most, Reply, receive, send};
use crate::{Answer, Asked, Denial, Limits, Question, Result, Spec};

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
pub const MEASURE: &str = "glovebox:question/analytical@0.1.0#measure";
/// The exported function of a question for a list.
pub const SELECT: &str = "glovebox:question/selection@0.1.0#select";

/// The text of a core module with the contract's memory and one function's body, which answers with the address of a
/// list. Its parameters are addresses and lengths: parameters at 0 and 1, views at 2 and 3.
#[must_use]
pub fn module(function: &str, body: &str) -> String {
    format!(
        "(module {MEMORY} (func (export \"{function}\") (param i32 i32 i32 i32) (result i32) {body} (i32.const 0)))"
    )
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

/// A worker's reply about a unit, as it goes through the pipe.
///
/// # Panics
///
/// Never: memory takes what is written to it.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn said(asked: Result<Asked>) -> Vec<u8> {
    let mut pipe = Vec::new();
    send(&mut pipe, &Reply::Asked(asked), &[]).unwrap();
    pipe
}

/// What a host hears in a worker's bytes, of which it reads so many: the same reply as it would go through the pipe,
/// and the denial that is left of it.
///
/// # Panics
///
/// Never, as [`said`].
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn heard(bytes: &[u8], most: u64) -> Option<(Vec<u8>, Option<Denial>)> {
    let (reply, payload): (Reply, _) = receive(&mut &bytes[..], Most { message: most, bytes: most }).ok()?;
    let mut pipe = Vec::new();
    send(&mut pipe, &reply, &payload).unwrap();
    let denial = match reply {
        Reply::Compiled(Err(denial)) | Reply::Loaded(Err(denial)) | Reply::Asked(Err(denial)) => Some(denial),
        _ => None,
    };
    Some((pipe, denial.map(Denial::from_stranger)))
}
