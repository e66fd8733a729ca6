//! Hosts as they must not be. Where they pass a check, the check is worth nothing.

use std::sync::{Mutex, PoisonError};

use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};

use super::{Case, Said, THREADS, Told, Totals, ask, limits};
use crate::provision::Unit;
use crate::room::{Kind, Manifest, Value};
use crate::sandbox::Answer;
use crate::sandbox::contract::{Contribution, Parameter, Rows, export_of};
use crate::sandbox::engine::Question;
use crate::sandbox::lower::LoweredUnit;
use crate::sandbox::profile::config;

type Arguments<'a> = (&'a [Parameter<'a>], &'a [Rows<'a>]);

/// Asks about one unit after the other in one instance, until it traps.
pub(super) struct CarelessHost {
    engine: Engine,
    pre: InstancePre<()>,
    function: ComponentExportIndex,
    manifest: Manifest,
    parameters: Vec<Value>,
    kept: Mutex<Option<(Store<()>, Instance)>>,
}

impl CarelessHost {
    pub(super) fn new(case: &Case) -> Self {
        let engine = Engine::new(&config(&limits(), THREADS)).unwrap();
        let component = Component::from_binary(&engine, &case.component).unwrap();
        let (interface, function) = export_of(case.manifest.kind);
        let interface = component.get_export_index(None, interface).unwrap();
        let function = component.get_export_index(Some(&interface), function).unwrap();
        let pre = Linker::new(&engine).instantiate_pre(&component).unwrap();
        let (manifest, parameters) = (case.manifest.clone(), case.parameters.clone());
        Self { engine, pre, function, manifest, parameters, kept: Mutex::new(None) }
    }

    /// In the instance that the last unit has left.
    pub(super) fn ask(&self, unit: &Unit) -> Told {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut store, instance) = kept.take().unwrap_or_else(|| self.instantiate());
        let said = self.call(&mut store, &instance, unit);
        *kept = (said != Said::Nothing).then_some((store, instance));
        told(said)
    }

    /// In an instance of its own.
    pub(super) fn ask_alone(&self, unit: &Unit) -> Told {
        let (mut store, instance) = self.instantiate();
        told(self.call(&mut store, &instance, unit))
    }

    fn instantiate(&self) -> (Store<()>, Instance) {
        let mut store = Store::new(&self.engine, ());
        store.set_fuel(limits().fuel_per_unit).unwrap();
        store.set_epoch_deadline(1 << 40);
        let instance = self.pre.instantiate(&mut store).unwrap();
        (store, instance)
    }

    fn call(&self, store: &mut Store<()>, instance: &Instance, unit: &Unit) -> Said {
        store.set_fuel(limits().fuel_per_unit).unwrap();
        let parameters: Vec<Parameter<'_>> = self.parameters.iter().map(Parameter::from).collect();
        let unit = LoweredUnit::new(unit, &self.manifest.slots);
        let columns = unit.columns();
        let views = unit.rows(&columns);
        let arguments: Arguments<'_> = (&parameters, &views);
        let answer = match self.manifest.kind {
            Kind::Analytical => instance
                .get_typed_func::<Arguments<'_>, (Vec<Contribution>,)>(&mut *store, &self.function)
                .and_then(|measure| measure.call(&mut *store, arguments))
                .map(|(list,)| Answer::Contributions(list)),
            Kind::List => instance
                .get_typed_func::<Arguments<'_>, (Option<u32>,)>(&mut *store, &self.function)
                .and_then(|select| select.call(&mut *store, arguments))
                .map(|(segment,)| Answer::Selected(segment)),
        };
        answer.map_or(Said::Nothing, Said::from)
    }
}

/// Without fuel and memory: it is answers that must give a careless host away.
fn told(said: Said) -> Told {
    Told { said, fuel: 0, memory_bytes: 0 }
}

/// Adds whatever it is told, as often as it is told.
pub(super) struct CarelessTally;

impl CarelessTally {
    pub(super) fn of(question: &Question, units: &[Unit]) -> Totals {
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
