//! Register kernels: one instance for all units must be as good as one for each.

use std::collections::BTreeMap;

use glovebox_sandbox::{Question, Ticker, register_kernel};

use super::super::lower::Lowering;
use super::{Case, Crowd, Said, Told, ask_in_one_batch, example, limits, spec};
use crate::provision::Unit;

/// A kernel, and the same question asked by instances.
struct Both {
    case: Case,
    kernel: Question,
    instances: Question,
    _tickers: [Ticker; 2],
}

impl Both {
    fn new() -> Self {
        let case = example("spend");
        let spec = || spec(&case.manifest, &case.parameters, &limits());
        assert!(register_kernel(&case.component, &spec()).unwrap());
        let question = || Question::new(&case.component, spec(), 1).unwrap();
        let (kernel, instances) = (question(), question().without_kernel());
        assert!(kernel.is_kernel() && !instances.is_kernel());
        let _tickers = [Ticker::of(&kernel), Ticker::of(&instances)];
        Self { case, kernel, instances, _tickers }
    }

    /// What is said of units that lie in one batch.
    fn told(&self, question: &Question, units: &[Unit]) -> Vec<Told> {
        ask_in_one_batch(question, &mut Lowering::new(&self.case.parameters, None), &self.case.manifest.slots, units)
    }

    fn crowd(&self, seed: u8) -> Crowd {
        Crowd::new(&self.case.manifest, 300, seed)
    }
}

/// Nulls, units without rows, infinities and what is no number are among them.
#[test]
fn a_kernel_says_what_its_component_says() {
    let both = Both::new();
    for seed in [7, 8, 9] {
        for company in both.crowd(seed).companies {
            let (kernel, instances) =
                (both.told(&both.kernel, &company.units), both.told(&both.instances, &company.units));
            let said = |told: &[Told]| -> Vec<Said> { told.iter().map(|told| told.said.clone()).collect() };
            assert_eq!(said(&kernel), said(&instances), "{}", company.name);
            let is_contribution = |said: &Said| matches!(said, Said::Contributions(list) if !list.is_empty());
            assert!(said(&kernel).iter().filter(|said| is_contribution(said)).count() > 100);
        }
    }
}

/// In any order, in any company, and in batches of any size: answers and fuel are the unit's own.
#[test]
fn no_batch_of_a_kernel_tells_of_another_unit() {
    let both = Both::new();
    let crowd = both.crowd(10);
    let alone = |unit: &Unit| both.told(&both.kernel, std::slice::from_ref(unit)).remove(0);
    let expected: BTreeMap<_, _> = crowd.alone.iter().map(|unit| (unit.key.clone(), alone(unit))).collect();
    for company in &crowd.companies {
        for size in [1, 7, 64, company.units.len()] {
            for batch in company.units.chunks(size) {
                for (unit, told) in batch.iter().zip(both.told(&both.kernel, batch)) {
                    let expected = expected.get(&unit.key);
                    assert!(expected.is_none_or(|expected| *expected == told), "{}, {size} at a time", company.name);
                }
            }
        }
    }
}
