//! What a run came to, exactly: counts, fuel and memory, added up over its units.
//!
//! Exact figures are about data: each can move by one unit's rows, and no noise hides that. They are for the auditor
//! alone, so they have no Debug, and nothing that leaves the room otherwise may hold one.

use serde::{Deserialize, Serialize};

use super::Answer;
use super::engine::Asked;
use crate::provision::Unit;

/// Exact figures of a run. They are the same however units are split between threads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Figures of no unit at all.
    pub(super) fn new(slots: usize) -> Self {
        Self { units: 0, answered: 0, trapped: 0, fuel: 0, memory_bytes_max: 0, rows_per_slot: vec![0; slots] }
    }

    /// Figures that no run exceeds, nor writes in more digits.
    pub(crate) fn largest(slots: usize) -> Self {
        const MOST: u64 = u64::MAX;
        let rows_per_slot = vec![MOST; slots];
        Self { units: MOST, answered: MOST, trapped: MOST, fuel: MOST, memory_bytes_max: MOST, rows_per_slot }
    }

    /// Adds one unit and what asking about it came to.
    pub(super) fn add(&mut self, unit: &Unit, asked: &Asked) {
        let is_answered = !matches!(asked.answer, Answer::Nothing);
        self.merge(&Self {
            units: 1,
            answered: u64::from(is_answered),
            trapped: u64::from(!is_answered),
            fuel: asked.fuel,
            memory_bytes_max: asked.memory_bytes,
            rows_per_slot: unit.views.iter().map(|rows| rows.count as u64).collect(),
        });
    }

    /// Adds the figures of other units. Sums stop at the largest number, which they do in any order alike.
    pub(super) fn merge(&mut self, other: &Self) {
        self.units = self.units.saturating_add(other.units);
        self.answered = self.answered.saturating_add(other.answered);
        self.trapped = self.trapped.saturating_add(other.trapped);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.memory_bytes_max = self.memory_bytes_max.max(other.memory_bytes_max);
        for (rows, more) in self.rows_per_slot.iter_mut().zip(&other.rows_per_slot) {
            *rows = rows.saturating_add(*more);
        }
    }
}
