//! List answers: identifiers of the recipient's own view, each at most once, in canonical order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;

use super::Names;
use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::provision::{Unit, UnitKey};
use crate::room::Manifest;

/// The units that are in, with their segments.
#[derive(Clone)]
pub(crate) struct ListTally {
    segments: Names,
    recipient_slots: Arc<[usize]>,
    members: BTreeMap<UnitKey, u32>,
}

impl ListTally {
    pub(super) fn new(manifest: &Manifest, recipient_slots: Vec<usize>) -> Self {
        Self { segments: manifest.segments().into(), recipient_slots: recipient_slots.into(), members: BTreeMap::new() }
    }

    /// The host takes the identifier from its own join; a guest cannot name one.
    pub(super) fn add(&mut self, unit: &Unit, segment: u32) {
        let is_recipients = self.recipient_slots.iter().any(|slot| unit.views[*slot].count > 0);
        if is_recipients && (segment as usize) < self.segments.len() {
            self.members.insert(unit.key.clone(), segment);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.members.extend(other.members);
    }

    /// The members by identifier, each with its segment.
    #[cfg(test)]
    pub(super) fn exact(&self) -> impl Iterator<Item = (&UnitKey, u32)> {
        self.members.iter().map(|(key, segment)| (key, *segment))
    }

    pub(super) fn release(self, approved: &Approved) -> Result<RecordBatch> {
        let smallest = approved.agreement().controls.list_size_min as usize;
        if self.members.len() < smallest {
            return Err(Fault::new(
                Code::ListTooSmall,
                format!("the list has fewer than {smallest} identifiers"),
                "ask a broader question, or let every owner agree to a smaller `list_size_min`",
            ));
        }
        let name = approved.agreement().views[self.recipient_slots[0]].view.unit.clone();
        let segment = |segment: u32| self.segments[segment as usize].as_str();
        let segments: ArrayRef = Arc::new(StringArray::from_iter_values(self.members.values().copied().map(segment)));
        let ids = ids(self.members.into_keys());
        let schema = Schema::new(vec![
            Field::new(name, ids.data_type().clone(), false),
            Field::new("segment", segments.data_type().clone(), false),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![ids, segments])
            .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
    }
}

/// All keys of a run are of one type: the views were joined by them.
fn ids(keys: impl Iterator<Item = UnitKey>) -> ArrayRef {
    let mut integers = Vec::new();
    let mut texts = Vec::new();
    for key in keys {
        match key {
            UnitKey::Int64(key) => integers.push(key),
            UnitKey::Utf8(key) => texts.push(key.to_string()),
        }
    }
    if texts.is_empty() { Arc::new(Int64Array::from(integers)) } else { Arc::new(StringArray::from(texts)) }
}
