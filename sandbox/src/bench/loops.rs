//! One unit's loop over many numbers, plain and in blocks, with and without the engine's metering.

use std::time::Instant;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store};

use crate::batch::{Writer, units};
use crate::contract::{Arguments, Contribution};
use crate::denial::{Denial, Result};
use crate::engine::{find_export, not_compiled};
use crate::profile;
use crate::terms::{ColumnType, Kind, Limits, Value};

const VALUES: usize = 64 << 10;
/// So many times over the numbers in a call, beside which their way into the instance is nothing.
const ROUNDS: i64 = 50;

/// The component of the example `sums`, ready to be measured.
#[derive(Debug)]
pub struct LoopBench {
    metered: Guest,
    unmetered: Guest,
    values: Vec<f64>,
}

/// What one call of each took: two loops on two engines.
#[derive(Clone, Copy, Debug)]
pub struct LoopSeconds {
    plain: f64,
    in_blocks: f64,
    plain_unmetered: f64,
    in_blocks_unmetered: f64,
}

impl LoopSeconds {
    /// How much longer a plain loop takes than one in blocks, both metered.
    #[must_use]
    pub fn blocked_vs_plain(&self) -> f64 {
        self.plain / self.in_blocks
    }

    /// How much longer a loop in blocks takes for being metered.
    #[must_use]
    pub fn blocked_metering(&self) -> f64 {
        self.in_blocks / self.in_blocks_unmetered
    }

    /// How much longer a plain loop takes for being metered.
    #[must_use]
    pub fn plain_metering(&self) -> f64 {
        self.plain / self.plain_unmetered
    }
}

impl LoopBench {
    /// Compiles the component for both engines.
    pub fn new(component: &[u8]) -> Result<Self> {
        let config = || profile::config(&Limits::default(), 1);
        let mut without = config();
        without.consume_fuel(false).epoch_interruption(false);
        // Numbers of which every sum is exact, so that any order has the same.
        let values = (0..VALUES).map(|at| (at % 100) as f64).collect();
        Ok(Self { metered: Guest::new(&config(), component)?, unmetered: Guest::new(&without, component)?, values })
    }

    /// Each once, in turn.
    pub fn seconds(&self) -> Result<LoopSeconds> {
        Ok(LoopSeconds {
            plain: self.metered.seconds(&self.values, false)?,
            in_blocks: self.metered.seconds(&self.values, true)?,
            plain_unmetered: self.unmetered.seconds(&self.values, false)?,
            in_blocks_unmetered: self.unmetered.seconds(&self.values, true)?,
        })
    }
}

struct Guest {
    component: Component,
    pre: InstancePre<()>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl Guest {
    fn new(config: &Config, component: &[u8]) -> Result<Self> {
        let engine = Engine::new(config).map_err(failed)?;
        let component = Component::from_binary(&engine, component).map_err(|error| not_compiled(&error))?;
        let pre = Linker::new(&engine).instantiate_pre(&component).map_err(failed)?;
        Ok(Self { component, pre })
    }

    fn seconds(&self, values: &[f64], in_blocks: bool) -> Result<f64> {
        let batch = unit(values, in_blocks).ok_or_else(|| Denial::failed("the rows of a benchmark do not fit"))?;
        let unit = units(bytemuck::cast_slice(&batch), 1)?.next().unwrap_or_default();
        let mut store = Store::new(self.pre.engine(), ());
        // An engine that does not count has none to set.
        store.set_fuel(u64::MAX).ok();
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.pre.instantiate(&mut store).map_err(failed)?;
        let export = find_export(&self.component, Kind::Analytical)?;
        let measure =
            instance.get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut store, &export).map_err(failed)?;
        let start = Instant::now();
        let (answer,) = measure.call(&mut store, (unit,)).map_err(failed)?;
        let seconds = start.elapsed().as_secs_f64();
        let expected: f64 = values.iter().sum();
        match answer.first().map(|one| one.values.as_slice()) {
            Some([sum]) if *sum == expected => Ok(seconds),
            _ => Err(Denial::failed("a loop of the benchmark has another sum")),
        }
    }
}

/// A batch of one unit, which brings the values.
fn unit(values: &[f64], in_blocks: bool) -> Option<Vec<u64>> {
    let mut memory = vec![0_u64; values.len() + 16];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    let written = writer.unit(&[Value::Int64(ROUNDS), Value::Boolean(in_blocks)], 0, 1, |writer| {
        writer.slot(values.len(), 1)?;
        writer.column(ColumnType::Float64)?;
        writer.list::<u8>(&[])?;
        writer.list(values)
    });
    let words = writer.len() / size_of::<u64>();
    memory.truncate(words);
    written.ok().map(|()| memory)
}

#[expect(clippy::needless_pass_by_value, reason = "a shape for `map_err`")]
fn failed(error: wasmtime::Error) -> Denial {
    Denial::failed(format!("a loop of the benchmark: {error}"))
}
