//! Step 4. Lets out what the owners' controls allow, for code that nobody has read.
//!
//! The budget is charged durably before the first unit is shown to a guest ([`charge`]). The kernel is a sum of clamped
//! integers: each unit's answer is bounded while it arrives ([`Tally`]), then noise from exact integer samplers is
//! added and groups below the threshold are dropped ([`release`]).
//! No float takes part in anything whose sensitivity is argued; everything after the noise is post-processing.

mod groups;
mod ledger;
mod list;
mod mechanism;
mod noise;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use groups::GroupTally;
pub(crate) use ledger::Posting;
pub use ledger::{Charge, Ledger, LedgerLine};
use list::ListTally;
pub(crate) use mechanism::Mechanism;
pub use mechanism::{Cost, MeasureNoise};

use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::provision::{Provisioned, Unit};
use crate::random::Random;
use crate::receipt::Trace;
use crate::room::{Agreement, Controls, Kind, Manifest};
use crate::sandbox::Answer;

/// What the units' answers have come to so far. It has no Debug and no Serialize: it is raw.
#[derive(Clone)]
pub(crate) enum Tally {
    Groups(GroupTally),
    List(ListTally),
}

impl Tally {
    /// `recipient_slots` are the slots whose views the recipient owns.
    pub(crate) fn new(manifest: &Manifest, controls: &Controls, recipient_slots: Vec<usize>) -> Self {
        match manifest.kind {
            Kind::Analytical => Self::Groups(GroupTally::new(manifest, controls)),
            Kind::List => Self::List(ListTally::new(manifest, recipient_slots)),
        }
    }

    /// Bounds one unit's answer and adds it. What is out of bounds adds nothing.
    pub(crate) fn add(&mut self, unit: &Unit, answer: Answer) {
        match (self, answer) {
            (Self::Groups(tally), Answer::Contributions(contributions)) => tally.add(contributions),
            (Self::List(tally), Answer::Selected(Some(segment))) => tally.add(unit, segment),
            _ => {}
        }
    }

    /// Adds another tally of the same run. The order of merging changes nothing: sums are exact and sets are sorted.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Groups(tally), Self::Groups(other)) => tally.merge(other),
            (Self::List(tally), Self::List(other)) => tally.merge(other),
            _ => {}
        }
    }

    /// Units and sums per group before any noise. Each identifier of a list is a group of its own.
    #[cfg(test)]
    pub(crate) fn exact(&self) -> std::collections::BTreeMap<Vec<String>, (u64, Vec<f64>)> {
        use crate::provision::UnitKey;
        let name = |key: &UnitKey| match key {
            UnitKey::Int64(key) => key.to_string(),
            UnitKey::Utf8(key) => key.to_string(),
        };
        match self {
            Self::Groups(tally) => tally.exact(),
            Self::List(tally) => {
                tally.exact().map(|(key, segment)| (vec![name(key)], (1, vec![f64::from(segment)]))).collect()
            }
        }
    }
}

/// Proof that the run is paid for. Only a paid run may show a unit to a guest: from then on even how long it takes, or
/// that it fails, tells something.
pub(crate) struct Funded(Provisioned);

impl Funded {
    pub(crate) fn into_provisioned(self) -> Provisioned {
        self.0
    }
}

/// Charges every owner's account, durably. A charge is never given back.
pub(crate) fn charge(provisioned: Provisioned, trace: &mut Trace, ledger: &mut Ledger) -> Result<Funded> {
    let agreement = provisioned.approved.agreement();
    let mechanism = Mechanism::new(provisioned.approved.manifest(), &agreement.controls);
    let charges = charges(agreement, &mechanism);
    ledger.charge(&trace.run_id, &charges)?;
    trace.charges = charges;
    Ok(Funded(provisioned))
}

/// What came out of the sandbox. Only [`release`] can open it.
pub(crate) struct RawOutput {
    approved: Approved,
    tally: Tally,
}

impl RawOutput {
    pub(crate) const fn new(approved: Approved, tally: Tally) -> Self {
        Self { approved, tally }
    }
}

/// A table that may leave the room.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) approved: Approved,
    pub(crate) table: RecordBatch,
}

/// Adds noise and leaves out what is below the thresholds.
pub(crate) fn release(raw: RawOutput, random: &mut Random) -> Result<Released> {
    let RawOutput { approved, tally } = raw;
    let mechanism = Mechanism::new(approved.manifest(), &approved.agreement().controls);
    let table = match tally {
        Tally::Groups(tally) => tally.release(approved.manifest(), &mechanism, random)?,
        Tally::List(tally) => tally.release(&approved)?,
    };
    Ok(Released { approved, table })
}

/// Takes over the charge of a run that has ended, to replay it: what was paid for once is not charged again.
pub(crate) fn replayed(provisioned: Provisioned, paid: &[Charge]) -> Result<Funded> {
    let agreement = provisioned.approved.agreement();
    let mechanism = Mechanism::new(provisioned.approved.manifest(), &agreement.controls);
    if paid == charges(agreement, &mechanism) {
        return Ok(Funded(provisioned));
    }
    Err(Fault::new(Code::NotReplayable, "the run was not charged what it costs", "replay a run whose receipt verifies"))
}

/// What the run charges to which accounts: one per owner of a bound view and recipient.
pub(crate) fn charges(agreement: &Agreement, mechanism: &Mechanism) -> Vec<Charge> {
    let account = |account: &String| Charge::new(account.clone(), mechanism.cost(), &agreement.controls);
    agreement.budget.accounts.iter().map(account).collect()
}

type Names = Arc<[String]>;
