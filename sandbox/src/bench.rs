//! Hooks for benchmarks: a register kernel against the same loop in native code, over the same rows; and loops of guests.
//!
//! Hidden from the documentation; nothing in the data path calls it.

mod loops;

use std::hint::black_box;
use std::time::Instant;

use crate::batch::Writer;
use crate::contract::{Answer, Contribution};
use crate::denial::{Denial, Result};
use crate::engine::{Asked, Question};
use crate::terms::{ColumnType, Kind, Limits, Spec, Value};
pub use loops::{LoopBench, LoopSeconds};

const UNITS: usize = 20_000;
/// A unit has from one to this many rows, ten on average.
const ROWS_MAX: u64 = 19;
const LARGE_FROM: i64 = 50;

/// The columns of the example `spend`.
struct Data {
    bounds: Vec<usize>,
    basket_id: Vec<i64>,
    sales_value: Vec<f64>,
    validity: Vec<bool>,
    batch: Vec<u64>,
}

impl Data {
    fn new() -> Result<Self> {
        let seed = &mut 0x9e37_79b9_7f4a_7c15;
        let (mut bounds, mut rows) = (vec![0], 0);
        for _ in 0..UNITS {
            rows += usize::try_from(1 + next(seed) % ROWS_MAX).unwrap_or_default();
            bounds.push(rows);
        }
        let basket_id = (0..rows).map(|_| (next(seed) % 8).cast_signed()).collect();
        let sales_value = (0..rows).map(|_| (next(seed) % 10_000) as f64 / 100.0).collect();
        let validity = (0..rows).map(|_| next(seed) % 100 < 95).collect();
        let mut data = Self { bounds, basket_id, sales_value, validity, batch: Vec::new() };
        data.batch = data.batch().ok_or_else(|| Denial::failed("the rows of a benchmark do not fit"))?;
        Ok(data)
    }

    fn batch(&self) -> Option<Vec<u64>> {
        let mut memory = vec![0_u64; 4 * self.basket_id.len() + 24 * UNITS];
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        for bounds in self.bounds.windows(2) {
            let rows = bounds[0]..bounds[1];
            let validity = &self.validity[rows.clone()];
            let write = |writer: &mut Writer<'_>| {
                writer.slot(rows.len(), 2)?;
                writer.column(ColumnType::Int64)?;
                writer.list::<u8>(&[])?;
                writer.list(&self.basket_id[rows.clone()])?;
                writer.column(ColumnType::Float64)?;
                // As the host writes it: no bits where no row is null.
                let bits = if validity.contains(&false) { rows.len().div_ceil(8) } else { 0 };
                let place = writer.zeros::<u8>(bits)?;
                let present = validity.iter().enumerate().filter(|(_, is_present)| bits > 0 && **is_present);
                present.for_each(|(row, _)| place[row / 8] |= 1 << (row % 8));
                writer.list(&self.sales_value[rows.clone()])
            };
            writer.unit(&[Value::Int64(LARGE_FROM)], 0, 1, write).ok()?;
        }
        let words = writer.len() / 8;
        memory.truncate(words);
        Some(memory)
    }

    /// What `spend` says, compiled for this machine.
    fn native(&self) -> Vec<Asked> {
        let groups = ["small", "great"].map(|group| vec![group.to_owned()]);
        let answer = |bounds: &[usize]| {
            let (group, values) = self.spend(bounds[0], bounds[1])?;
            Some(vec![Contribution { group: groups[usize::from(group)].clone(), values: values.to_vec() }])
        };
        let answers = self.bounds.windows(2).map(answer);
        answers
            .map(|list| Asked { answer: Answer::Contributions(list.unwrap_or_default()), fuel: 0, memory_bytes: 0 })
            .collect()
    }

    #[inline(never)]
    fn spend(&self, from: usize, to: usize) -> Option<(bool, [f64; 3])> {
        let (mut spend, mut large, mut largest) = (0.0, 0_i64, 0.0);
        for (value, is_present) in self.sales_value[from..to].iter().zip(&self.validity[from..to]) {
            if *is_present {
                spend += value;
                large += i64::from(*value >= LARGE_FROM as f64);
                largest = if *value > largest { *value } else { largest };
            }
        }
        (spend > 0.0).then_some((spend > 100.0, [spend, large as f64, largest]))
    }
}

fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// The component of the example `spend`, ready to be measured.
#[derive(Debug)]
pub struct KernelBench {
    question: Question,
    data: Data,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").finish_non_exhaustive()
    }
}

impl KernelBench {
    /// Compiles the component.
    pub fn new(component: &[u8]) -> Result<Self> {
        let slots = vec![vec![ColumnType::Int64, ColumnType::Float64]];
        let parameters = vec![Value::Int64(LARGE_FROM)];
        let spec = Spec { kind: Kind::Analytical, limits: Limits::default(), parameters, slots };
        let question = Question::new(component, spec, 1)?;
        if !question.is_kernel() {
            return Err(Denial::failed("the component of the benchmark is no register kernel"));
        }
        Ok(Self { question, data: Data::new()? })
    }

    /// Rows per second and core, once: of the kernel, from a batch to answers, and of the same in native code.
    pub fn rows_per_second(&self) -> Result<[f64; 2]> {
        let Data { batch, basket_id, .. } = &self.data;
        let start = Instant::now();
        let asked = self.question.ask_all(black_box(bytemuck::cast_slice(batch)), UNITS)?;
        let kernel = start.elapsed();
        let start = Instant::now();
        let native = black_box(&self.data).native();
        let natively = start.elapsed();
        if !asked.iter().zip(&native).all(|(ours, theirs)| is_same(ours, theirs)) {
            return Err(Denial::failed("a kernel says something else than native code"));
        }
        Ok([kernel, natively].map(|time| basket_id.len() as f64 / time.as_secs_f64()))
    }
}

fn is_same(ours: &Asked, theirs: &Asked) -> bool {
    let (Answer::Contributions(ours), Answer::Contributions(theirs)) = (&ours.answer, &theirs.answer) else {
        return false;
    };
    let bits =
        |one: &Contribution| (one.group.clone(), one.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    ours.iter().map(bits).eq(theirs.iter().map(bits))
}
