//! What a run would cost and how exact its answer would be, before anyone spends anything: no row is read.

use cap_std::fs::Dir;
use serde::Serialize;

use crate::error::{Code, Result};
use crate::gate;
use crate::privacy::{self, Charge, Ledger, MeasureNoise, Mechanism};
use crate::room::Agreement;

/// What an agreement's runs cost and give.
#[derive(Clone, Debug, Serialize)]
pub struct Quote {
    /// How answers are protected.
    pub mode: &'static str,
    /// What one run charges to which accounts.
    pub charges: Vec<Charge>,
    /// How many more runs each account can pay for, counted up to a thousand; none where runs cost nothing.
    pub runs_left: Vec<Option<u32>>,
    /// The kind of noise.
    pub mechanism: &'static str,
    /// The noise of each measure.
    pub noise: Vec<MeasureNoise>,
    /// k: the fewest distinct units of a released group.
    pub k_min: u32,
    /// What the noisy count above k - 1 must reach; none where every group is shown.
    pub threshold: Option<u64>,
    /// What is promised, and what is not.
    pub guarantee: String,
}

/// Quotes an agreement, approved or not. Asks the ledger, and writes nothing to it.
pub fn quote(dir: &Dir, ledger: &Ledger, agreement: &str) -> Result<Quote> {
    let agreement = Agreement::parse(&gate::read_agreement(dir, agreement.trim_end_matches('/'))?)?;
    let (_, _, manifest) = gate::read_question(dir, &agreement.component_path, &agreement.manifest_path)?;
    gate::check_question(&agreement, &manifest)?;
    let mechanism = Mechanism::new(&manifest, &agreement.controls);
    let charges = privacy::charges(&agreement, &manifest);
    let runs_left = charges.iter().map(|charge| runs_left(ledger, charge)).collect::<Result<_>>()?;
    Ok(Quote {
        mode: privacy::mode_name(&agreement, &manifest),
        charges,
        runs_left,
        mechanism: mechanism.noise_name(),
        noise: mechanism.measures().to_vec(),
        k_min: mechanism.k_min,
        threshold: mechanism.threshold,
        guarantee: agreement.guarantee,
    })
}

const RUNS_COUNTED: u32 = 1_000;

fn runs_left(ledger: &Ledger, charge: &Charge) -> Result<Option<u32>> {
    if charge.cost.is_nothing() {
        return Ok(None);
    }
    // Composition is not linear, but more runs never cost less: the last affordable number can be halved in on.
    let (mut affordable, mut too_many) = (0, RUNS_COUNTED + 1);
    while too_many - affordable > 1 {
        let runs = u32::midpoint(affordable, too_many);
        match ledger.check_repeatedly(charge, runs) {
            Ok(()) => affordable = runs,
            Err(fault) if fault.code() == Code::BudgetExhausted => too_many = runs,
            Err(fault) => return Err(fault),
        }
    }
    Ok(Some(affordable))
}
