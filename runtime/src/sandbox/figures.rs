//! What a run came to, exactly: counts, fuel and memory, added up over its units.
//!
//! Exact figures are about data: each can move by one unit's rows, and no noise hides that. They are for the auditor
//! alone, so they have no Debug, and nothing that leaves the room otherwise may hold one.

use serde::{Deserialize, Serialize};

use glovebox_sandbox::Asked;

use super::Answer;
use crate::provision::Unit;

/// Exact figures of a run. They are the same however units are split between threads.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    /// Units that were shown to the question.
    pub(crate) units: u64,
    /// Units for which the question gave an answer, of whatever worth.
    pub(crate) answered: u64,
    /// Units that contribute nothing because the question failed.
    pub(crate) trapped: u64,
    /// Fuel that all units' calls took together.
    pub(crate) fuel: u64,
    /// The most bytes of memory and tables that one unit's instance had.
    pub(crate) memory_bytes_max: u64,
    /// Rows that were shown, in slot order.
    pub(crate) rows_per_slot: Vec<u64>,
}

impl Figures {
    /// Figures that no run exceeds, nor writes in more digits.
    pub(crate) fn largest(slots: usize) -> Self {
        const MOST: u64 = u64::MAX;
        let rows_per_slot = vec![MOST; slots];
        Self { units: MOST, answered: MOST, trapped: MOST, fuel: MOST, memory_bytes_max: MOST, rows_per_slot }
    }

    /// Adds one unit and what asking about it came to.
    pub(super) fn add(&mut self, unit: &Unit, asked: &Asked) {
        let is_answered = u64::from(!matches!(asked.answer, Answer::Nothing));
        self.units = self.units.saturating_add(1);
        self.answered = self.answered.saturating_add(is_answered);
        self.trapped = self.trapped.saturating_add(1 - is_answered);
        self.fuel = self.fuel.saturating_add(asked.fuel);
        self.memory_bytes_max = self.memory_bytes_max.max(asked.memory_bytes);
        self.rows_per_slot.resize(unit.views.len(), 0);
        for (rows, view) in self.rows_per_slot.iter_mut().zip(&unit.views) {
            *rows = rows.saturating_add(view.count as u64);
        }
    }

    /// Adds the figures of other units. Sums stop at the largest number, which they do in any order alike.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.units = self.units.saturating_add(other.units);
        self.answered = self.answered.saturating_add(other.answered);
        self.trapped = self.trapped.saturating_add(other.trapped);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.memory_bytes_max = self.memory_bytes_max.max(other.memory_bytes_max);
        self.rows_per_slot.resize(self.rows_per_slot.len().max(other.rows_per_slot.len()), 0);
        for (rows, more) in self.rows_per_slot.iter_mut().zip(&other.rows_per_slot) {
            *rows = rows.saturating_add(*more);
        }
    }
}
