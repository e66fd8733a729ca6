//! Runs a register kernel over batches of whole units.
//!
//! One instance serves every unit: its only state is the memory of the loop that this crate wrote, which the kernel
//! cannot name. A unit that traps contributes nothing, and the loop goes on behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use wasmtime::{Engine, Instance, Memory, Module, Store, Trap, TypedFunc, UpdateDeadline};

use super::layout::{ANSWERED_AT, BATCH_BYTES_MAX, GROUP_AT, Layout, NEXT, ONES, OUT, ROWS_AT, UNITS_PER_CALL};
use super::splice::{MALFORMED, MEMORY, RUN};
use super::verify::{Column, Kernel, Phase, Scalar};
use crate::contract::{Answer, Contribution};
use crate::denial::{Denial, Reason, Result};
use crate::engine::Asked;
use crate::profile::EPOCH_MILLISECONDS;
use crate::terms::{Kind, Limits, Spec, Value};

/// What must be known of a kernel beside the code of its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    parameters: Vec<Scalar>,
    columns: Vec<Column>,
    values: u32,
    groups: Vec<Vec<String>>,
    /// The work of the phases, each taken once.
    work: [u64; 3],
}

impl Plan {
    pub(crate) fn of(kernel: &Kernel<'_>) -> Option<Self> {
        let signature = kernel.signature();
        Some(Self {
            parameters: signature.parameters.clone(),
            columns: signature.columns.clone(),
            values: u32::try_from(signature.values).ok()?,
            groups: kernel.groups().to_vec(),
            work: Phase::ALL.map(|phase| kernel.work(phase)),
        })
    }

    pub(crate) fn layout(&self) -> Option<Layout> {
        Layout::new(self.parameters.len(), self.values as usize)
    }

    /// How often a unit may go round the kernel's own loops, in all of its calls together: no more than its fuel pays.
    pub(crate) fn rounds(&self, limits: &Limits) -> u32 {
        let dearest = self.work.into_iter().max().unwrap_or_default().max(1);
        u32::try_from(limits.fuel_per_unit / dearest).unwrap_or(u32::MAX)
    }

    /// Whether the question that the parties agreed is the one that the kernel was written for.
    pub(crate) fn fits(&self, spec: &Spec) -> bool {
        let columns = self.columns.iter().map(|column| column.kind);
        let is_its_slot = matches!(&spec.slots[..], [slot] if slot.iter().copied().eq(columns));
        let parameters = self.parameters.iter().map(|scalar| Some(*scalar));
        spec.kind == Kind::Analytical
            && is_its_slot
            && spec.parameters.iter().map(scalar).eq(parameters)
            && self.answer_bytes() <= spec.limits.answer_bytes_per_unit
            // A batch has room for two instances' memories, and may fill it.
            && spec.limits.memory_bytes_per_unit <= BATCH_BYTES_MAX / 2
    }

    /// A question for which the kernel could have been written.
    #[cfg(feature = "testing")]
    pub(crate) fn spec(&self, limits: Limits) -> Spec {
        let value = |scalar: &Scalar| match scalar {
            Scalar::I32 => Value::Boolean(true),
            Scalar::I64 => Value::Int64(-7),
            Scalar::F64 => Value::Float64(0.5),
        };
        let slots = vec![self.columns.iter().map(|column| column.kind).collect()];
        Spec { kind: Kind::Analytical, limits, parameters: self.parameters.iter().map(value).collect(), slots }
    }

    /// What the longest answer takes.
    fn answer_bytes(&self) -> u64 {
        let of_key = |key: &Vec<String>| key.iter().map(|part| size_of::<String>() + part.len()).sum::<usize>();
        let longest = self.groups.iter().map(of_key).max().unwrap_or_default();
        (size_of::<Contribution>() + longest + 8 * self.values as usize) as u64
    }

    /// What a unit of so many rows counts for: every operator that a kernel may go through for it, those of a loop once.
    fn fuel(&self, rows: u32) -> u64 {
        let [init, step, emit] = self.work;
        init.saturating_add(emit).saturating_add(step.saturating_mul(u64::from(rows)))
    }
}

fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Boolean(_) => Some(Scalar::I32),
        Value::Int64(_) => Some(Scalar::I64),
        Value::Float64(_) => Some(Scalar::F64),
        // A loop has the same parameters for all of its units.
        Value::Utf8(_) | Value::Seed => None,
    }
}

/// A kernel's instance, for any number of batches.
pub(crate) struct Driver {
    store: Store<Clock>,
    memory: Memory,
    run: TypedFunc<(u32, u32, u32), u32>,
    plan: Plan,
    layout: Layout,
    limits: Limits,
}

impl Driver {
    /// Sets the parameters, and runs no unit at all: a frame that is too large for the stack shows here, and never in one
    /// unit alone.
    pub(crate) fn new(module: &Module, plan: Plan, spec: &Spec, cancelled: &Arc<AtomicBool>) -> Result<Self> {
        let layout = plan.layout().ok_or_else(|| Denial::failed("a kernel has no layout"))?;
        let mut store = Store::new(module.engine(), Clock { ticks_left: 0, cancelled: Arc::clone(cancelled) });
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        let instance = Instance::new(&mut store, module, &[]).map_err(failed)?;
        let memory = instance.get_memory(&mut store, MEMORY).ok_or_else(|| Denial::failed("a kernel has no memory"))?;
        let run = instance.get_typed_func(&mut store, RUN).map_err(failed)?;
        let mut driver = Self { store, memory, run, plan, layout, limits: spec.limits.clone() };
        driver.set_parameters(&spec.parameters)?;
        driver.call(Reach { unit: layout.batch, answer: layout.answers, end: layout.answers }, 0)?;
        Ok(driver)
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn set_parameters(&mut self, parameters: &[Value]) -> Result<()> {
        let bytes = self.memory.data_mut(&mut self.store);
        put(bytes, ONES, &[u8::MAX])?;
        parameters.iter().enumerate().try_for_each(|(position, value)| {
            let address = Layout::parameter(position);
            match value {
                Value::Boolean(value) => put(bytes, address, &i32::from(*value).to_le_bytes()),
                Value::Int64(value) => put(bytes, address, &value.to_le_bytes()),
                Value::Float64(value) => put(bytes, address, &value.to_le_bytes()),
                Value::Utf8(_) | Value::Seed => Err(Denial::failed("a kernel has a parameter that it cannot have")),
            }
        })
    }

    /// Asks about every unit of a batch. Whatever the kernel does wrong, a unit has no answer.
    pub(crate) fn ask_all(&mut self, batch: &[u8], units: usize) -> Result<Vec<Asked>> {
        self.put_batch(batch)?;
        let mut answers = Vec::with_capacity(units.min(batch.len()));
        let mut unit = self.layout.batch;
        while answers.len() < units {
            let left = u32::try_from(units - answers.len()).unwrap_or(u32::MAX).min(UNITS_PER_CALL);
            unit = self.ask_some(unit, left)?;
            (0..left).try_for_each(|position| {
                answers.push(self.answer(position)?);
                Ok(())
            })?;
        }
        // As long as it was said to be: nothing may be left of it.
        if u64::from(unit) == u64::from(self.layout.batch) + batch.len() as u64 {
            Ok(answers)
        } else {
            Err(malformed())
        }
    }

    fn put_batch(&mut self, batch: &[u8]) -> Result<()> {
        let (has, needs) = (self.memory.size(&self.store), self.layout.pages(batch.len() as u64));
        if needs > has {
            self.memory.grow(&mut self.store, needs - has).map_err(failed)?;
        }
        put(self.memory.data_mut(&mut self.store), self.layout.batch, batch)
    }

    /// Runs so many units, the first at this address; returns where the next one is.
    fn ask_some(&mut self, unit: u32, units: u32) -> Result<u32> {
        let Layout { answers, stride, .. } = self.layout;
        let mut reach = Reach { unit, answer: answers, end: answers + units * stride };
        loop {
            match self.call(reach, units)? {
                Some(unit) => return Ok(unit),
                None => reach = self.behind_the_trap(reach)?,
            }
        }
    }

    /// The address behind the last unit, or nothing where one has trapped.
    fn call(&mut self, Reach { unit, answer, end }: Reach, units: u32) -> Result<Option<u32>> {
        let milliseconds = self.limits.milliseconds_per_unit.saturating_mul(u64::from(units));
        self.store.data_mut().ticks_left = milliseconds / EPOCH_MILLISECONDS + 1;
        self.store.set_epoch_deadline(1);
        match self.run.call(&mut self.store, (unit, answer, end)) {
            Ok(MALFORMED) => Err(malformed()),
            Ok(unit) => Ok(Some(unit)),
            Err(error) if is_the_units(&error) => Ok(None),
            Err(error) if error.downcast_ref() == Some(&Trap::Interrupt) => Err(self.timed_out()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whose trap it was: the loop notes each unit before it begins.
    fn behind_the_trap(&self, reach: Reach) -> Result<Reach> {
        let bytes = self.memory.data(&self.store);
        let (unit, trapped) = (word(bytes, NEXT)?, word(bytes, OUT)?);
        if unit > reach.unit && (reach.answer..reach.end).contains(&trapped) {
            return Ok(Reach { unit, answer: trapped + self.layout.stride, end: reach.end });
        }
        Err(Denial::failed("the loop of a kernel has lost its place"))
    }

    fn answer(&self, position: u32) -> Result<Asked> {
        let bytes = self.memory.data(&self.store);
        let place = self.layout.answers + position * self.layout.stride;
        let fuel = self.plan.fuel(word(bytes, place + ROWS_AT)?);
        let is_answered = word(bytes, place + ANSWERED_AT)? == 1 && fuel <= self.limits.fuel_per_unit;
        let answer = if is_answered { self.contribution(bytes, place)? } else { Answer::Nothing };
        Ok(Asked { answer, fuel: fuel.min(self.limits.fuel_per_unit), memory_bytes: 0 })
    }

    /// A unit adds to one group or, where no group has the number, to none.
    fn contribution(&self, bytes: &[u8], place: u32) -> Result<Answer> {
        let Some(group) = self.plan.groups.get(word(bytes, place + GROUP_AT)? as usize) else {
            return Ok(Answer::Contributions(Vec::new()));
        };
        let value = |position| Ok(f64::from_le_bytes(read(bytes, place + Layout::value(position))?));
        let values = (0..self.plan.values as usize).map(value).collect::<Result<_>>()?;
        Ok(Answer::Contributions(vec![Contribution { group: group.clone(), values }]))
    }

    /// Whether the clock strikes depends on the machine's load, so it ends the run and no unit.
    fn timed_out(&self) -> Denial {
        Denial::new(
            Reason::TimedOut,
            format!("units took longer than the agreed {} ms each", self.limits.milliseconds_per_unit),
            "run on an idle machine, or agree to less fuel per unit",
        )
    }
}

/// What a call of the loop is to go through.
#[derive(Clone, Copy)]
struct Reach {
    unit: u32,
    answer: u32,
    end: u32,
}

/// How long a call may take, and whether anyone waits for it.
struct Clock {
    ticks_left: u64,
    cancelled: Arc<AtomicBool>,
}

impl Clock {
    fn tick(&mut self) -> UpdateDeadline {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        let is_over = self.ticks_left == 0 || self.cancelled.load(Ordering::Relaxed);
        if is_over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }
}

/// A trap that the unit's own rows brought about. Every other one means that something is wrong with the host.
fn is_the_units(error: &wasmtime::Error) -> bool {
    matches!(
        error.downcast_ref::<Trap>(),
        Some(
            Trap::UnreachableCodeReached
                | Trap::IntegerDivisionByZero
                | Trap::IntegerOverflow
                | Trap::BadConversionToInteger
        )
    )
}

fn put(bytes: &mut [u8], address: u32, value: &[u8]) -> Result<()> {
    let address = address as usize;
    let place = bytes.get_mut(address..address.saturating_add(value.len())).ok_or_else(outside)?;
    place.copy_from_slice(value);
    Ok(())
}

fn read<const N: usize>(bytes: &[u8], address: u32) -> Result<[u8; N]> {
    bytes.get(address as usize..).and_then(|bytes| bytes.first_chunk()).copied().ok_or_else(outside)
}

fn word(bytes: &[u8], address: u32) -> Result<u32> {
    read(bytes, address).map(u32::from_le_bytes)
}

fn outside() -> Denial {
    Denial::failed("a kernel's memory is too small")
}

fn malformed() -> Denial {
    Denial::failed("a batch of units is not of the agreed form")
}

#[expect(clippy::needless_pass_by_value, reason = "a shape for `map_err`")]
fn failed(error: wasmtime::Error) -> Denial {
    Denial::failed(format!("a kernel: {error}"))
}

#[cfg(test)]
mod tests;
