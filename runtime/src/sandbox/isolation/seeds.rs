//! Seeds: a unit's random number follows from the run and the unit alone, and is there only where a manifest asks for it.

use std::collections::BTreeSet;

use glovebox_sandbox::{Question, Ticker};

use super::super::lower::Lowering;
use super::{Case, Crowd, Said, Told, ask, ask_in_one_batch, attack, built, limits, spec};
use crate::privacy::UnitSeeds;
use crate::provision::Unit;
use crate::room::{Manifest, Value};

const RUN: [u8; 32] = [1; 32];
const OTHER_RUN: [u8; 32] = [2; 32];

/// A question that tells its seed, asked in runs.
struct Teller {
    case: Case,
    question: Question,
    _ticker: Ticker,
}

impl Teller {
    fn new() -> Self {
        let case = attack("evil", "seed", -1);
        let question = Question::new(&case.component, spec(&case.manifest, &case.parameters, &limits()), 1).unwrap();
        let _ticker = Ticker::of(&question);
        Self { case, question, _ticker }
    }

    /// What is said of units that lie in one batch of a run.
    fn told(&self, run: &[u8; 32], units: &[Unit]) -> Vec<Told> {
        let mut lowering = Lowering::new(&self.case.parameters, Some(UnitSeeds::of_run(run)));
        ask_in_one_batch(&self.question, &mut lowering, &self.case.manifest.slots, units)
    }

    fn told_alone(&self, run: &[u8; 32], unit: &Unit) -> Told {
        self.told(run, std::slice::from_ref(unit)).remove(0)
    }

    fn crowd(&self) -> Crowd {
        Crowd::new(&self.case.manifest, 200, 12)
    }
}

fn number(told: &Told) -> u64 {
    let Said::Contributions(list) = &told.said else { panic!("{told:?}") };
    list[0].1[0]
}

#[test]
fn no_batch_of_seeded_units_tells_of_another_unit() {
    let teller = Teller::new();
    let crowd = teller.crowd();
    for unit in &crowd.alone {
        let alone = teller.told_alone(&RUN, unit);
        for company in &crowd.companies {
            let Some(at) = company.units.iter().position(|other| other.key == unit.key) else { continue };
            for batch in [at..at + 1, at.saturating_sub(3)..at + 1, at..(at + 5).min(company.units.len())] {
                let told = teller.told(&RUN, &company.units[batch.clone()]);
                assert_eq!(told[at - batch.start], alone, "{}, {batch:?}", company.name);
            }
        }
    }
}

/// What two units have in common, or two runs, would be a way from one to the other.
#[test]
fn every_unit_has_a_seed_of_its_own_in_every_run() {
    let teller = Teller::new();
    let units = teller.crowd().alone;
    let numbers = |run| units.iter().map(|unit| number(&teller.told_alone(run, unit))).collect::<BTreeSet<u64>>();
    let (one, other) = (numbers(&RUN), numbers(&OTHER_RUN));
    assert_eq!((one.len(), other.len()), (units.len(), units.len()));
    assert!(one.is_disjoint(&other));
    assert_eq!(one, numbers(&RUN), "the same run again");
}

#[test]
fn without_the_manifests_wish_there_is_no_seed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/questions/evil.toml");
    let (component, _) = built("evil");
    let text = std::fs::read_to_string(path).unwrap();
    let manifest =
        Manifest::parse(text.replace("[[parameter]]\nname = \"seed\"\ntype = \"seed\"\n", "").as_bytes()).unwrap();
    let parameters = vec![Value::Utf8("seed".into()), Value::Int64(-1)];
    let case = Case { name: "unasked".into(), component, manifest, parameters };
    let (unasked, crowd) = (case.pooled(), Crowd::new(&case.manifest, 20, 13));
    for unit in &crowd.alone {
        assert_eq!(ask(&unasked, unit).said, Said::Nothing);
    }
    // Nor do its bytes lie where a worker could read them.
    let seeded = attack("evil", "seed", -1).pooled();
    for unit in &crowd.alone {
        let [plain, drawn] = [&unasked, &seeded].map(|question| question.lower(unit).unwrap().bytes().to_vec());
        // A tag and the seed.
        assert_eq!(plain.len() + 16, drawn.len());
        let seed = UnitSeeds::of_run(&[7; 32]).of(&unit.key).to_le_bytes();
        let has_seed = |bytes: &[u8]| bytes.chunks(8).any(|word| word == seed);
        assert!(has_seed(&drawn) && !has_seed(&plain));
    }
}
