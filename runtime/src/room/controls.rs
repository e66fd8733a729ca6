//! Output controls: the owners', never the author's. The strictest of all owners wins.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Result};

/// Privacy loss in millionths, so that no budget arithmetic ever rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epsilon(u64);

impl Epsilon {
    /// From millionths.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In millionths.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Epsilon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", as_f64(self.0) / 1e6)
    }
}

/// Failure probability in units of 1e-15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delta(u64);

impl Delta {
    /// From units of 1e-15.
    #[must_use]
    pub const fn from_femtos(femtos: u64) -> Self {
        Self(femtos)
    }

    /// In units of 1e-15.
    #[must_use]
    pub const fn femtos(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:e}", as_f64(self.0) / 1e15)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display only")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The controls of a run, as whole numbers; they stand in the agreement in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Controls {
    /// k: the fewest distinct units of a released group.
    pub group_size_min: u32,
    /// Privacy loss of one run, in millionths.
    pub epsilon_micros: Epsilon,
    /// Failure probability of one run, in units of 1e-15.
    pub delta_femtos: Delta,
    /// Privacy loss over the life of the ledger, in millionths.
    pub lifetime_epsilon_micros: Epsilon,
    /// Failure probability over the life of the ledger, in units of 1e-15.
    pub lifetime_delta_femtos: Delta,
    /// The most groups to which one unit contributes.
    pub groups_per_unit_max: u32,
    /// The fewest identifiers of a released list.
    pub list_size_min: u32,
    /// The most bits that lists may tell about one identifier over the life of the ledger.
    pub lifetime_bits_per_id: u32,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            group_size_min: 50,
            epsilon_micros: Epsilon(1_000_000),
            delta_femtos: Delta(1_000_000),
            lifetime_epsilon_micros: Epsilon(10_000_000),
            lifetime_delta_femtos: Delta(1_000_000_000),
            groups_per_unit_max: 10,
            list_size_min: 1_000,
            lifetime_bits_per_id: 16,
        }
    }
}

impl Controls {
    /// Whether a room could state them: what [`StatedControls::check`] lets through.
    pub(crate) fn are_in_range(&self) -> bool {
        (2..=100_000).contains(&self.group_size_min)
            && (10_000..=10_000_000).contains(&self.epsilon_micros.0)
            && (1..=1_000_000_000).contains(&self.delta_femtos.0)
            && (1..=10_000).contains(&self.groups_per_unit_max)
            && self.list_size_min >= 2
            && self.lifetime_bits_per_id >= 1
    }

    /// The strictest of each.
    #[must_use]
    pub(crate) fn strictest(self, other: &Self) -> Self {
        Self {
            group_size_min: self.group_size_min.max(other.group_size_min),
            epsilon_micros: self.epsilon_micros.min(other.epsilon_micros),
            delta_femtos: self.delta_femtos.min(other.delta_femtos),
            lifetime_epsilon_micros: self.lifetime_epsilon_micros.min(other.lifetime_epsilon_micros),
            lifetime_delta_femtos: self.lifetime_delta_femtos.min(other.lifetime_delta_femtos),
            groups_per_unit_max: self.groups_per_unit_max.min(other.groups_per_unit_max),
            list_size_min: self.list_size_min.max(other.list_size_min),
            lifetime_bits_per_id: self.lifetime_bits_per_id.min(other.lifetime_bits_per_id),
        }
    }
}

/// The controls of one owner as `room.toml` states them; what is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StatedControls {
    group_size_min: Option<u32>,
    epsilon: Option<f64>,
    delta: Option<f64>,
    lifetime_epsilon: Option<f64>,
    lifetime_delta: Option<f64>,
    groups_per_unit_max: Option<u32>,
    list_size_min: Option<u32>,
    lifetime_bits_per_id: Option<u32>,
}

impl StatedControls {
    pub(crate) fn check(&self, owner: &str) -> Result<Controls> {
        let default = Controls::default();
        let controls = Controls {
            group_size_min: self.group_size_min.unwrap_or(default.group_size_min),
            epsilon_micros: scaled(self.epsilon, 1e6, 0.01..=10.0, "epsilon", owner)?
                .map_or(default.epsilon_micros, Epsilon),
            delta_femtos: scaled(self.delta, 1e15, 1e-15..=1e-6, "delta", owner)?.map_or(default.delta_femtos, Delta),
            lifetime_epsilon_micros: scaled(self.lifetime_epsilon, 1e6, 0.01..=100.0, "lifetime_epsilon", owner)?
                .map_or(default.lifetime_epsilon_micros, Epsilon),
            lifetime_delta_femtos: scaled(self.lifetime_delta, 1e15, 1e-15..=1e-3, "lifetime_delta", owner)?
                .map_or(default.lifetime_delta_femtos, Delta),
            groups_per_unit_max: self.groups_per_unit_max.unwrap_or(default.groups_per_unit_max),
            list_size_min: self.list_size_min.unwrap_or(default.list_size_min),
            lifetime_bits_per_id: self.lifetime_bits_per_id.unwrap_or(default.lifetime_bits_per_id),
        };
        within(controls.group_size_min, 2..=100_000, "group_size_min", owner)?;
        within(controls.groups_per_unit_max, 1..=10_000, "groups_per_unit_max", owner)?;
        within(controls.list_size_min, 2..=100_000_000, "list_size_min", owner)?;
        within(controls.lifetime_bits_per_id, 1..=1_000, "lifetime_bits_per_id", owner)?;
        Ok(controls)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked against a positive range whose scaled end fits"
)]
fn scaled(
    value: Option<f64>,
    scale: f64,
    range: std::ops::RangeInclusive<f64>,
    name: &str,
    owner: &str,
) -> Result<Option<u64>> {
    match value {
        None => Ok(None),
        Some(value) if range.contains(&value) => Ok(Some((value * scale).round() as u64)),
        Some(value) => Err(outside(name, owner, &value, &range)),
    }
}

fn within(value: u32, range: std::ops::RangeInclusive<u32>, name: &str, owner: &str) -> Result<()> {
    if range.contains(&value) { Ok(()) } else { Err(outside(name, owner, &value, &range)) }
}

fn outside<T: std::fmt::Display>(name: &str, owner: &str, value: &T, range: &std::ops::RangeInclusive<T>) -> Fault {
    Fault::new(
        Code::RoomInvalid,
        format!("room.toml: {name} = {value} of {owner} is outside its range"),
        format!("give a value from {} to {}", range.start(), range.end()),
    )
}
