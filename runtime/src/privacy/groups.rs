//! Analytical answers: contributions per group become noisy counts, sums and means.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;

use super::mechanism::{Mechanism, ValueNoise};
use super::noise::discrete_laplace;
use crate::error::{Code, Fault, Result};
use crate::random::Random;
use crate::room::{Controls, Group, Manifest, Reducer};
use crate::sandbox::Contribution;

/// An open group key is no longer than this, in all its parts.
const KEY_BYTES_MAX: usize = 64;

type Key = Vec<String>;

/// Exact sums per group.
#[derive(Clone)]
pub(crate) struct GroupTally {
    shape: Arc<Shape>,
    cells: BTreeMap<Key, Cell>,
}

/// What a contribution must look like, and how it is bounded.
struct Shape {
    domains: Vec<Option<HashSet<String>>>,
    values: Vec<ValueNoise>,
    groups_per_unit: usize,
}

#[derive(Clone, Default)]
struct Cell {
    units: u64,
    sums: Vec<i128>,
}

impl GroupTally {
    pub(super) fn new(manifest: &Manifest, controls: &Controls) -> Self {
        let mechanism = Mechanism::new(manifest, controls);
        let domain = |group: &Group| group.domain.as_ref().map(|domain| domain.iter().cloned().collect());
        let shape = Shape {
            domains: manifest.groups.iter().map(domain).collect(),
            groups_per_unit: mechanism.groups_per_unit as usize,
            values: mechanism.values,
        };
        Self { shape: Arc::new(shape), cells: BTreeMap::new() }
    }

    /// Adds one unit. Each group counts once, whatever the guest repeats; of too many groups, the first by key count.
    pub(super) fn add(&mut self, contributions: Vec<Contribution>) {
        if !contributions.iter().all(|contribution| self.shape.is_well_formed(contribution)) {
            return;
        }
        let mut distinct: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
        for Contribution { group, values } in contributions {
            distinct.entry(group).or_insert(values);
        }
        for (group, values) in distinct.into_iter().take(self.shape.groups_per_unit) {
            let steps =
                self.shape.values.iter().zip(values).map(|(noise, value)| i128::from(noise.clamp.to_grid(value)));
            self.cells.entry(group).or_default().add(1, steps);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, cell) in other.cells {
            self.cells.entry(key).or_default().add(cell.units, cell.sums.into_iter());
        }
    }

    /// Every cell of a closed domain has a row, in the domain's order; open keys have one where they are released.
    pub(super) fn release(
        mut self,
        manifest: &Manifest,
        mechanism: &Mechanism,
        random: &mut Random,
    ) -> Result<RecordBatch> {
        let mut table = Table::new(manifest);
        match closed_keys(&manifest.groups) {
            Some(keys) => {
                for key in keys {
                    let noisy = self.cells.remove(&key).unwrap_or_default().release(mechanism, random);
                    table.push(&key, noisy.as_ref(), mechanism);
                }
            }
            None => {
                for (key, cell) in self.cells {
                    if let Some(noisy) = cell.release(mechanism, random) {
                        table.push(&key, Some(&noisy), mechanism);
                    }
                }
            }
        }
        table.finish(manifest)
    }
}

impl Shape {
    fn is_well_formed(&self, contribution: &Contribution) -> bool {
        contribution.group.len() == self.domains.len()
            && contribution.values.len() == self.values.len()
            && !contribution.values.iter().any(|value| value.is_nan())
            && contribution.group.iter().map(String::len).sum::<usize>() <= self.key_bytes_max()
            && contribution.group.iter().zip(&self.domains).all(|(part, domain)| match domain {
                Some(domain) => domain.contains(part),
                None => !part.chars().any(char::is_control),
            })
    }

    fn key_bytes_max(&self) -> usize {
        if self.domains.iter().all(Option::is_some) { usize::MAX } else { KEY_BYTES_MAX }
    }
}

impl Cell {
    fn add(&mut self, units: u64, steps: impl Iterator<Item = i128>) {
        self.units += units;
        for (index, step) in steps.enumerate() {
            match self.sums.get_mut(index) {
                Some(sum) => *sum += step,
                None => self.sums.push(step),
            }
        }
    }

    /// Draws the same number of samples whether or not the cell is released or empty.
    fn release(self, mechanism: &Mechanism, random: &mut Random) -> Option<NoisyCell> {
        let below_k = u64::from(mechanism.group_size_min) - 1;
        let above_k = self.units.saturating_sub(below_k);
        let noisy_above_k = i128::from(above_k) + discrete_laplace(mechanism.count, random);
        let noisy_sum = |(index, noise): (usize, &ValueNoise)| {
            self.sums.get(index).copied().unwrap_or(0) + discrete_laplace(noise.scale, random)
        };
        let sums = mechanism.values.iter().enumerate().map(noisy_sum).collect();
        let released = above_k >= 1 && noisy_above_k >= i128::from(mechanism.threshold);
        released.then(|| NoisyCell { units: noisy_above_k + i128::from(below_k), sums })
    }
}

/// What is left of a cell once it is safe to look at.
struct NoisyCell {
    units: i128,
    sums: Vec<i128>,
}

/// All keys of a closed domain in its own order, or nothing where keys are open.
fn closed_keys(groups: &[Group]) -> Option<Vec<Key>> {
    let mut keys: Vec<Key> = vec![Vec::new()];
    for group in groups {
        let domain = group.domain.as_ref()?;
        keys = keys
            .iter()
            .flat_map(|key| domain.iter().map(move |part| [key.as_slice(), std::slice::from_ref(part)].concat()))
            .collect();
    }
    Some(keys)
}

/// The released table while it grows. Suppressed cells have nulls.
struct Table {
    groups: Vec<StringBuilder>,
    measures: Vec<Column>,
}

enum Column {
    Count(Int64Builder),
    Value(Reducer, Float64Builder),
}

impl Table {
    fn new(manifest: &Manifest) -> Self {
        let column = |reducer| match reducer {
            Reducer::Count => Column::Count(Int64Builder::new()),
            Reducer::Sum | Reducer::Mean => Column::Value(reducer, Float64Builder::new()),
        };
        Self {
            groups: manifest.groups.iter().map(|_| StringBuilder::new()).collect(),
            measures: manifest.measures.iter().map(|measure| column(measure.reducer)).collect(),
        }
    }

    fn push(&mut self, key: &[String], cell: Option<&NoisyCell>, mechanism: &Mechanism) {
        for (column, part) in self.groups.iter_mut().zip(key) {
            column.append_value(part);
        }
        let mut values = mechanism.values.iter().enumerate();
        for column in &mut self.measures {
            match column {
                Column::Count(column) => {
                    column.append_option(cell.map(|cell| i64::try_from(cell.units).unwrap_or(i64::MAX)))
                }
                Column::Value(reducer, column) => {
                    let Some((index, noise)) = values.next() else { continue };
                    column.append_option(cell.map(|cell| noise.value(*reducer, cell.sums[index], cell.units)));
                }
            }
        }
    }

    fn finish(self, manifest: &Manifest) -> Result<RecordBatch> {
        let names = manifest.groups.iter().map(|group| &group.name).chain(manifest.measures.iter().map(|m| &m.name));
        let groups = self.groups.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
        let measures = self.measures.into_iter().map(|column| match column {
            Column::Count(mut column) => Arc::new(column.finish()) as ArrayRef,
            Column::Value(_, mut column) => Arc::new(column.finish()) as ArrayRef,
        });
        let columns: Vec<ArrayRef> = groups.chain(measures).collect();
        let field = |(name, array): (&String, &ArrayRef)| {
            Field::new(name, array.data_type().clone(), array.data_type() != &DataType::Utf8)
        };
        let schema = Schema::new(names.zip(&columns).map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
    }
}

impl ValueNoise {
    /// Post-processing of noisy whole numbers: from here on floats can do no harm.
    #[expect(clippy::cast_precision_loss, reason = "noisy values; what is lost is far below the noise")]
    fn value(&self, reducer: Reducer, sum: i128, units: i128) -> f64 {
        let sum = sum as f64 * self.clamp.grid;
        match reducer {
            Reducer::Mean => (sum / (units.max(1) as f64) + self.clamp.center).clamp(self.clamp.low, self.clamp.high),
            Reducer::Count | Reducer::Sum => sum,
        }
    }
}
