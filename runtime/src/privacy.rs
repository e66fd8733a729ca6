//! Step 4. Lets out what the owners' controls allow, for code that nobody has read.
//!
//! The budget is reserved before a row is read and settled before the first unit is shown to a guest. The kernel is a
//! sum of clamped integers: each unit's answer is bounded while it arrives ([`Tally`]), then noise from exact integer
//! samplers is added and groups below the threshold are left out ([`release`]). No float takes part in anything whose
//! sensitivity is argued; everything after the noise is post-processing.

mod accountant;
mod capacity;
mod contributors;
mod grid;
mod groups;
mod guarantee;
mod host_key;
mod keyed;
mod ledger;
mod list;
mod mechanism;
mod noise;
mod pseudonym;
mod reduce;
mod setting;
mod shard_key;
mod store;
mod suppress;
#[cfg(test)]
mod tests;
mod unit_seeds;

use std::io::{Cursor, Write};
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;

pub use accountant::Loss;
pub(crate) use contributors::{History, Release, ReleasedSet, SetKind};
use groups::GroupTally;
pub(crate) use guarantee::Guarantee;
pub(crate) use host_key::HostKey;
pub use ledger::{Charge, Ledger, LedgerLine, Lifetime};
pub(crate) use ledger::{Kept, LedgerHead, Posting, StoredAnswer};
use list::ListTally;
pub(crate) use mechanism::Mechanism;
pub use mechanism::{Cost, MeasureNoise};
pub(crate) use noise::Noise;
pub(crate) use pseudonym::{DestinationKey, RoomKey};
pub(crate) use setting::Setting;
pub(crate) use shard_key::ShardKey;
pub(crate) use unit_seeds::UnitSeeds;

use sha2::{Digest, Sha256};

use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::provision::{Provisioned, Unit};
use crate::random::Random;
use crate::room::{Agreement, Controls, Join, Kind, Manifest, Mode, Reducer};
use crate::sandbox::Answer;

/// What the units' answers have come to so far. It has no Debug, and is written for whoever adds it up alone: it is raw.
#[derive(Clone)]
pub(crate) enum Tally {
    Groups(GroupTally),
    List(ListTally),
}

impl Tally {
    pub(crate) fn new(manifest: &Manifest, controls: &Controls, setting: Arc<Setting>) -> Self {
        match manifest.kind {
            Kind::Analytical => Self::Groups(GroupTally::new(manifest, controls, setting)),
            Kind::List => Self::List(ListTally::new(manifest, setting)),
        }
    }

    /// Bounds one unit's answer and adds it. What is out of bounds adds nothing.
    pub(crate) fn add(&mut self, unit: &Unit, answer: &Answer) {
        match (self, answer) {
            (Self::Groups(tally), Answer::Contributions(contributions)) => tally.add(unit, contributions),
            (Self::List(tally), Answer::Selected(segment)) => tally.add(unit, *segment),
            (Self::List(tally), _) => tally.add(unit, None),
            (Self::Groups(_), _) => {}
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

    /// Writes what has been added up in its one form: that of the same units is the same, whoever asked them in which
    /// order. For a hash, or for whoever adds it up with others'.
    pub(crate) fn write(&self, to: &mut dyn Write) -> postcard::Result<()> {
        match self {
            Self::Groups(tally) => tally.write(to),
            Self::List(tally) => tally.write(to),
        }
    }

    /// A tally of the same run that was written.
    pub(crate) fn read(&self, bytes: &[u8]) -> postcard::Result<Self> {
        match self {
            Self::Groups(empty) => empty.read(bytes).map(Self::Groups),
            Self::List(empty) => empty.read(bytes).map(Self::List),
        }
    }

    /// SHA-256 of what has been added up, the same on any host: whoever contributed is counted in it and not named.
    pub(crate) fn sha256(&self) -> Result<[u8; 32]> {
        let mut hash = Hashing(Sha256::new());
        let written = match self {
            Self::Groups(tally) => tally.clone().without_names().write(&mut hash),
            Self::List(tally) => tally.write(&mut hash),
        };
        written.map_err(|error| {
            Fault::new(Code::Internal, format!("a tally cannot be hashed: {error}"), "report it as a defect")
        })?;
        Ok(hash.0.finalize().into())
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

impl Tally {
    /// Adds noise and leaves out what is below the thresholds; and says who contributed to what, where no noise hides it.
    pub(crate) fn release(
        self,
        manifest: &Manifest,
        controls: &Controls,
        random: &mut Random,
    ) -> Result<(RecordBatch, Vec<ReleasedSet>)> {
        let mechanism = Mechanism::new(manifest, controls);
        match (self, controls.mode) {
            (Self::Groups(tally), Mode::SealedDp) => Ok((tally.release(manifest, &mechanism, random)?, Vec::new())),
            (Self::Groups(tally), Mode::SealedK) => tally.release_exact(manifest, &mechanism, controls),
            (Self::List(tally), _) => {
                let (table, set) = tally.release(controls, random)?;
                // Flipped answers differ between runs of the same data anyway.
                Ok((table, if controls.list.rr_epsilon_micros.is_some() { Vec::new() } else { vec![set] }))
            }
        }
    }

    /// The same without noise or rules, to be shown beside it where all units are made up.
    pub(crate) fn of_made_up_units(self, manifest: &Manifest, controls: &Controls) -> Result<RecordBatch> {
        match self {
            Self::Groups(tally) => {
                let silent = Mechanism::new(manifest, controls).without_noise();
                tally.release(manifest, &silent, &mut Random::from_seed([0; 32]))
            }
            Self::List(tally) => tally.everyone(),
        }
    }
}

/// Hashes what is written to it.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

/// Makes sure that what the run has reserved is settled, durably.
pub(crate) fn charge(provisioned: Provisioned, run_id: &str, ledger: &Ledger) -> Result<Funded> {
    if ledger.is_committed(run_id)? {
        return Ok(Funded(provisioned));
    }
    Err(Fault::new(Code::LedgerFailed, "the run is not paid for", "report it with the run's id"))
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

    /// SHA-256 of all that it has. It follows from data alone, so it is for the auditor's eyes alone.
    pub(crate) fn sha256(&self) -> Result<[u8; 32]> {
        self.tally.sha256()
    }
}

/// A table that may leave the room, but for what the history of earlier releases says of it.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) approved: Approved,
    pub(crate) table: RecordBatch,
    /// Who contributed to what, where there is no noise to hide it: for the history alone.
    pub(crate) groups: Vec<ReleasedSet>,
}

impl Released {
    /// The table as it is kept for an identical run.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        self.encode().map_err(|error| unusable(&error))
    }

    fn encode(&self) -> std::result::Result<Vec<u8>, ArrowError> {
        let mut writer = FileWriter::try_new(Vec::new(), &self.table.schema())?;
        writer.write(&self.table)?;
        writer.into_inner()
    }
}

/// The answer of an identical run before. It was let out then, and tells nothing more now.
pub(crate) fn recalled(approved: Approved, answer: &StoredAnswer) -> Result<Released> {
    // The ledger vouches for these bytes, which this host has written.
    let mut tables = FileReader::try_new(Cursor::new(&answer.bytes), None).map_err(|error| unusable(&error))?;
    let missing = ArrowError::IpcError("no table".into());
    let table = tables.next().unwrap_or(Err(missing)).map_err(|error| unusable(&error))?;
    Ok(Released { approved, table, groups: Vec::new() })
}

fn unusable(error: &ArrowError) -> Fault {
    let fact = format!("a stored answer cannot be written or read: {error}");
    Fault::new(Code::LedgerFailed, fact, "restore the host's own ledger as it was")
}

/// Adds noise and leaves out what is below the thresholds.
pub(crate) fn release(raw: RawOutput, random: &mut Random) -> Result<Released> {
    let RawOutput { approved, tally } = raw;
    let (table, groups) = tally.release(approved.manifest(), &approved.agreement().controls, random)?;
    Ok(Released { approved, table, groups })
}

/// Takes over the charge of a run that has ended, to replay it: what was paid for once is not charged again.
pub(crate) fn replayed(provisioned: Provisioned, paid: &[Charge]) -> Result<Funded> {
    if paid == charges(provisioned.approved.agreement(), provisioned.approved.manifest()) {
        return Ok(Funded(provisioned));
    }
    Err(Fault::new(Code::NotReplayable, "the run was not charged what it costs", "replay a run whose receipt verifies"))
}

/// What the run charges to which accounts: one per lineage of a bound view.
pub(crate) fn charges(agreement: &Agreement, manifest: &Manifest) -> Vec<Charge> {
    let mechanism = Mechanism::new(manifest, &agreement.controls);
    let account = |account: &String| Charge::new(account.clone(), mechanism.cost().clone(), &agreement.controls);
    agreement.budget.accounts.iter().map(account).collect()
}

/// Whether who contributed is written down, because no noise hides it.
pub(crate) fn keeps_history(agreement: &Agreement) -> bool {
    match agreement.kind {
        Kind::Analytical => agreement.controls.mode == Mode::SealedK,
        Kind::List => agreement.controls.list.rr_epsilon_micros.is_none(),
    }
}

/// The name of how a question's answers are protected.
pub(crate) const fn mode_name(agreement: &Agreement, manifest: &Manifest) -> &'static str {
    match manifest.kind {
        Kind::Analytical => agreement.controls.mode.as_str(),
        Kind::List => "list-sealed",
    }
}

/// Refuses what no run under these controls could do, while it is free.
pub(crate) fn check_terms(agreement: &Agreement, manifest: &Manifest) -> Result<()> {
    let controls = &agreement.controls;
    if manifest.kind == Kind::List && controls.list.is_disagreed() {
        return Err(Fault::new(
            Code::ControlUnmet,
            "some owners state `list.rr_epsilon` and some do not",
            "let all owners of the bound views state it, or none",
        ));
    }
    let refuse = |fact: String, remedy: &str| Err(Fault::new(Code::ControlUnmet, fact, remedy));
    if let Some(parameter) = manifest.set_parameters().find(|p| p.domain_size() > controls.max_param_domain) {
        let (name, most) = (&parameter.name, controls.max_param_domain);
        return refuse(
            format!("parameter {name} may have more values than the {most} that the owners allow"),
            "give it a smaller range, a `step`, or fewer allowed values; or let every owner raise `max_param_domain`",
        );
    }
    // Whoever is left out by chance, and adds nothing anyway, makes another set of contributors in every run, so that the
    // guard would find no two sets alike that differ by one unit.
    if let Some(seed) = manifest.seed().filter(|_| keeps_history(agreement)) {
        return refuse(
            format!(
                "parameter {seed} is a seed, by which a question without noise could get around the difference guard"
            ),
            "leave it out; or let every owner agree to mode sealed-dp or, for a list, state `list.rr_epsilon`",
        );
    }
    if manifest.kind == Kind::List {
        return check_randomised(agreement, manifest);
    }
    let is_fine_grained =
        |reducer| matches!(reducer, Reducer::Histogram | Reducer::Quantiles | Reducer::Cdf | Reducer::Variance);
    if controls.mode == Mode::SealedK
        && let Some(measure) = manifest.measures.iter().find(|measure| is_fine_grained(measure.reducer))
    {
        return refuse(
            format!(
                "measure {} tells of fewer units than k: mode sealed-k has count, sum, mean and ratio",
                measure.name
            ),
            "make the bins the domain of a group, or let every owner agree to mode sealed-dp",
        );
    }
    if controls.mode == Mode::SealedK && manifest.groups.len() > suppress::COLUMNS_MAX {
        return refuse(
            format!(
                "mode sealed-k can keep totals from giving groups away for {} group columns at most",
                suppress::COLUMNS_MAX
            ),
            "ask with fewer group columns, or let every owner agree to mode sealed-dp",
        );
    }
    if Mechanism::new(manifest, controls).groups_max() < 1 {
        return refuse(
            "so little epsilon for so many groups per unit cannot tell a million open keys from more".into(),
            "declare a closed domain for the groups, or fewer groups per unit",
        );
    }
    Ok(())
}

/// Randomised response hides a unit's rows only if the unit is asked about whether or not others have rows of it.
fn check_randomised(agreement: &Agreement, manifest: &Manifest) -> Result<()> {
    let mut slots = agreement.views.iter().map(|bound| &bound.view.owner).zip(&manifest.slots);
    let recipient = &agreement.destination.recipient;
    let is_told = slots.any(|(owner, slot)| owner != recipient && slot.join == Join::Required);
    if agreement.controls.list.rr_epsilon_micros.is_none() || !is_told {
        return Ok(());
    }
    Err(Fault::new(
        Code::ControlUnmet,
        "with randomised response only the recipient's own slot may be required: being asked about tells of rows elsewhere",
        "set `join = \"optional\"` for the other slots, or let every owner do without `list.rr_epsilon`",
    ))
}
