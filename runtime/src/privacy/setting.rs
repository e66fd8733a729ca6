//! What the tally must know of a run besides its manifest and controls: whose slots are whose, and this host's keys.

use std::collections::BTreeMap;
use std::fmt;

use super::contributors::{Digester, marked};
use super::host_key::HostKey;
use super::pseudonym::DestinationKey;
use crate::provision::{Unit, UnitKey};
use crate::room::{Agreement, Controls, Mode};

/// Slots by owner, and the keys under which units are told apart.
pub(crate) struct Setting {
    slots_by_owner: Vec<Vec<usize>>,
    recipient_slots: Vec<usize>,
    digester: Digester,
    destination: DestinationKey,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setting(..)")
    }
}

impl Setting {
    pub(crate) fn new(agreement: &Agreement, host: &HostKey, destination: DestinationKey) -> Self {
        Self::with(agreement, host.digester(), destination)
    }

    /// For a group's process, which releases nothing and so needs no destination's key.
    pub(crate) fn of_group(agreement: &Agreement, digests: &[u8; 32]) -> Self {
        Self::with(agreement, Digester::of_key(*digests), HostKey::none().destination("", ""))
    }

    /// The key under which contributors are written down, where they are added up unit by unit; else none.
    pub(crate) fn digests(&self, controls: &Controls) -> [u8; 32] {
        if controls.mode == Mode::SealedK { self.digester.key() } else { [0; 32] }
    }

    fn with(agreement: &Agreement, digester: Digester, destination: DestinationKey) -> Self {
        let mut by_owner = BTreeMap::<&str, Vec<usize>>::new();
        let views = agreement.views.iter().map(|bound| &bound.view).enumerate();
        for (slot, view) in views.filter(|(_, view)| view.is_protected()) {
            by_owner.entry(&view.owner).or_default().push(slot);
        }
        let recipient_slots = by_owner.get(agreement.destination.recipient.as_str()).cloned().unwrap_or_default();
        Self { slots_by_owner: by_owner.into_values().collect(), recipient_slots, digester, destination }
    }

    /// The key under which the recipient knows its identifiers again.
    pub(crate) const fn destination(&self) -> &DestinationKey {
        &self.destination
    }

    /// Whether every owner has rows of the unit: an id that one party has made up is no one else's.
    pub(super) fn is_everyones(&self, unit: &Unit) -> bool {
        self.slots_by_owner.iter().all(|slots| has_rows(unit, slots))
    }

    /// Whether the recipient holds the unit.
    pub(super) fn is_recipients(&self, unit: &Unit) -> bool {
        has_rows(unit, &self.recipient_slots)
    }

    /// Names a unit in this host's own history, where it matters whether all parties know it.
    pub(super) fn digest(&self, key: &UnitKey, is_everyones: bool) -> u64 {
        marked(self.digester.digest(key), is_everyones)
    }

    /// Names a unit at the destination.
    pub(super) fn pseudonym(&self, key: &UnitKey) -> String {
        self.destination.pseudonym(key)
    }
}

#[cfg(test)]
impl Setting {
    /// One owner of one slot, which is the recipient's too.
    pub(crate) fn of_one_owner() -> std::sync::Arc<Self> {
        Self::of_owners(1)
    }

    /// An owner for each slot; the second is the recipient.
    pub(crate) fn of_owners(slots: usize) -> std::sync::Arc<Self> {
        let host = HostKey::none();
        std::sync::Arc::new(Self {
            slots_by_owner: (0..slots).map(|slot| vec![slot]).collect(),
            recipient_slots: vec![1.min(slots - 1)],
            digester: host.digester(),
            destination: host.destination("room", "destination"),
        })
    }
}

fn has_rows(unit: &Unit, slots: &[usize]) -> bool {
    slots.iter().any(|slot| unit.views[*slot].count > 0)
}
