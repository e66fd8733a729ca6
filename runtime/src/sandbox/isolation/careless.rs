//! Hosts as they must not be. Where they pass a check, the check is worth nothing.

use glovebox_sandbox::testing;

use super::{Case, Said, Told, Totals, ask, limits};
use crate::privacy::UnitSeeds;
use crate::provision::Unit;
use crate::room::{Slot, Value};
use crate::sandbox::inprocess::{InProcess, Lowered, lower, seeds};
use crate::sandbox::spec;

/// Asks about one unit after the other in one instance, until it traps.
pub(super) struct CarelessHost {
    host: testing::Careless,
    slots: Vec<Slot>,
    parameters: Vec<Value>,
    seeds: Option<UnitSeeds>,
}

impl CarelessHost {
    pub(super) fn new(case: &Case) -> Self {
        let spec = spec(&case.manifest, &case.parameters, &limits());
        let (slots, seeds) = (case.manifest.slots.clone(), seeds(&spec));
        let parameters = case.parameters.clone();
        Self { host: testing::Careless::new(&case.component, spec), slots, parameters, seeds }
    }

    /// In the instance that the last unit has left.
    pub(super) fn ask(&self, unit: &Unit) -> Told {
        told(self.lowered(unit).map_or(Said::Nothing, |unit| self.host.ask(unit.bytes()).into()))
    }

    /// In an instance of its own.
    pub(super) fn ask_alone(&self, unit: &Unit) -> Told {
        told(self.lowered(unit).map_or(Said::Nothing, |unit| self.host.ask_alone(unit.bytes()).into()))
    }

    fn lowered(&self, unit: &Unit) -> Option<Lowered> {
        lower(unit, &self.slots, &self.parameters, self.seeds.as_ref())
    }
}

/// Without fuel and memory: it is answers that must give a careless host away.
fn told(said: Said) -> Told {
    Told { said, fuel: 0, memory_bytes: 0 }
}

/// Adds whatever it is told, as often as it is told.
pub(super) struct CarelessTally;

impl CarelessTally {
    pub(super) fn of(question: &InProcess, units: &[Unit]) -> Totals {
        let mut totals = Totals::new();
        for unit in units {
            let Said::Contributions(contributions) = ask(question, unit).said else { continue };
            for (group, values) in contributions {
                let (count, sums) = totals.entry(group).or_default();
                *count += 1;
                sums.resize(values.len(), 0.0);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from_bits(value));
            }
        }
        totals
    }
}
