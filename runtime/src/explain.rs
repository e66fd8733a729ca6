//! How a run would read its views, before anyone spends anything: no row is read.

use std::path::Path;

use cap_std::fs::Dir;
use serde::Serialize;

use crate::error::Result;
use crate::gate;
use crate::privacy::RoomKey;
use crate::provision::{self, Host, Resources, SlotPlan, Split};
use crate::room::Agreement;

/// How a run of an agreement would go.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// How each slot is read, in the manifest's order.
    pub slots: Vec<SlotPlan>,
    /// Into how many shards units are split.
    pub shards: u16,
    /// The most rows of a unit that the question is shown in one slot.
    pub max_rows_per_unit: u32,
    /// Memory for reading and sorting; what does not fit is spilled to a private folder.
    pub memory_bytes: usize,
    /// Cores, and so workers.
    pub threads: usize,
}

/// Explains an agreement, approved or not.
pub fn explain(dir: &Dir, state: &Path, agreement: &str, memory_bytes: usize, threads: usize) -> Result<Explained> {
    let agreement = Agreement::parse(&gate::read_agreement(dir, agreement.trim_end_matches('/'))?)?;
    let (_, _, manifest) = gate::read_question(dir, &agreement.component_path, &agreement.manifest_path)?;
    gate::check_question(&agreement, &manifest)?;
    let bound: Vec<_> = agreement.views.iter().zip(&manifest.slots).collect();
    let threads = crate::run::cores(threads);
    let resources = Resources { memory_bytes, threads, room_key: RoomKey::none(), split: Split::none() };
    let slots = provision::explain(&Host { dir, state }, &bound, &resources)?;
    let max_rows_per_unit = manifest.max_rows_per_unit().min(agreement.controls.max_rows_per_unit);
    Ok(Explained { slots, shards: manifest.shards(), max_rows_per_unit, memory_bytes, threads })
}
