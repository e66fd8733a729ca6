//! Output controls: the owners', never the author's. The strictest of all owners wins.

use std::collections::BTreeSet;

use glovebox_sandbox::Wall;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Result};

/// Privacy loss in millionths, so that no budget arithmetic ever rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:e}", as_f64(self.0) / 1e15) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display only")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// How a question's answer is kept from telling of one unit. Ordered from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// One unit at a time, exact numbers of large groups: no formal bound.
    SealedK,
    /// One unit at a time, under differential privacy.
    SealedDp,
}

/// Names that the other kinds of question will have; a room that states one today is refused in so many words.
const MODES_TO_COME: [&str; 5] = ["labelled-k", "opaque", "train-dp", "train-opaque", "infer"];

impl Mode {
    /// The name in files and messages.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SealedK => "sealed-k",
            Self::SealedDp => "sealed-dp",
        }
    }
}

/// Which inputs count as neighbours. Ordered from the weaker to the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Adjacency {
    /// One unit is there or not.
    AddRemove,
    /// One unit has these rows or any others, or none.
    Replace,
}

/// The noise of the host's choice, or of the owners'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NoiseChoice {
    /// Whichever of the two is smaller.
    Auto,
    /// Discrete Laplace.
    Laplace,
    /// Discrete Gaussian.
    Gaussian,
}

/// What lists must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListControls {
    /// The fewest identifiers of a released list.
    pub min_size: u32,
    /// The largest part of the units shown to the question that a list may hold, in thousandths.
    pub max_fraction_thousandths: u32,
    /// The fewest units that recipient and owners have in common.
    pub min_overlap: u32,
    /// The most bits that lists may tell about one identifier over the life of the ledger.
    pub bits_per_id_lifetime: u32,
    /// Randomised response: each answer is another one with a probability that this sets; none where answers are exact.
    pub rr_epsilon_micros: Option<Epsilon>,
}

/// When a result may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseControls {
    /// A run ends a whole number of slots after it began.
    pub slot_milliseconds: u64,
    /// A run that takes more slots ends without a result.
    pub max_slots: u32,
}

/// How often an agreement may be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepeatControls {
    /// Runs that may begin within 24 hours.
    pub max_runs_per_day: u32,
    /// Runs that may end without a result after data was read.
    pub max_failed_runs: u32,
}

/// What a question may be run without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxControls {
    /// Walls around a worker that a host's kernel may lack, in order.
    pub may_lack: Vec<Wall>,
}

/// The controls of a run, as whole numbers; they stand in the agreement in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Controls {
    /// How answers are protected.
    pub mode: Mode,
    /// What the protection hides.
    pub adjacency: Adjacency,
    /// Which noise.
    pub noise: NoiseChoice,
    /// k: the fewest distinct units of a released group. 1, where noise alone protects.
    pub k_min: u32,
    /// Privacy loss of one run, in millionths.
    pub epsilon_micros: Epsilon,
    /// Failure probability of one run, in units of 1e-15.
    pub delta_femtos: Delta,
    /// Privacy loss over the life of the ledger, in millionths.
    pub lifetime_epsilon_micros: Epsilon,
    /// Failure probability over the life of the ledger, in units of 1e-15.
    pub lifetime_delta_femtos: Delta,
    /// The most groups to which one unit contributes.
    pub l0: u32,
    /// The most rows of one unit, per slot.
    pub max_rows_per_unit: u32,
    /// To what counts are rounded where there is no noise.
    pub round_to: u32,
    /// The largest part of a group's sum that one unit may make up where there is no noise, in percent.
    pub dominance_percent: u32,
    /// Whether groups are left out that would tell of a small one by subtraction, where there is no noise.
    pub suppress_complement: bool,
    /// By how many units a group must differ from one that was released before, where there is no noise.
    pub min_sym_diff: u32,
    /// The most values that one parameter may have.
    pub max_param_domain: u64,
    /// Lists.
    pub list: ListControls,
    /// When results come.
    pub release: ReleaseControls,
    /// How often runs may be repeated.
    pub repeat: RepeatControls,
    /// What a question may be run without.
    pub sandbox: SandboxControls,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            mode: Mode::SealedDp,
            adjacency: Adjacency::AddRemove,
            noise: NoiseChoice::Auto,
            k_min: 50,
            epsilon_micros: Epsilon(1_000_000),
            delta_femtos: Delta(1_000_000),
            lifetime_epsilon_micros: Epsilon(10_000_000),
            lifetime_delta_femtos: Delta(1_000_000_000),
            l0: 10,
            max_rows_per_unit: 1_000,
            round_to: 10,
            dominance_percent: 50,
            suppress_complement: true,
            min_sym_diff: 50,
            max_param_domain: 1_000,
            list: ListControls {
                min_size: 1_000,
                max_fraction_thousandths: 200,
                min_overlap: 1_000,
                bits_per_id_lifetime: 16,
                rr_epsilon_micros: None,
            },
            release: ReleaseControls { slot_milliseconds: 60_000, max_slots: 16 },
            repeat: RepeatControls { max_runs_per_day: 20, max_failed_runs: 3 },
            sandbox: SandboxControls::default(),
        }
    }
}

impl Controls {
    /// Whether a room could state them. The rules name the field that breaks them, and what it may be.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let dp = self.mode == Mode::SealedDp;
        let smallest_k = if dp { 1 } else { 2 };
        within("k_min", self.k_min.into(), smallest_k, 100_000)?;
        within("epsilon", self.epsilon_micros.0, 10_000, 10_000_000)?;
        within("delta", self.delta_femtos.0, 1, 1_000_000_000)?;
        within("lifetime.epsilon", self.lifetime_epsilon_micros.0, 10_000, 100_000_000)?;
        within("lifetime.delta", self.lifetime_delta_femtos.0, 1, 1_000_000_000_000)?;
        within("contrib.l0", self.l0.into(), 1, 10_000)?;
        within("max_rows_per_unit", self.max_rows_per_unit.into(), 1, 1_000_000)?;
        within("round_to", self.round_to.into(), 1, 100_000)?;
        within("dominance.p", self.dominance_percent.into(), 1, 100)?;
        within("diff_guard.min_sym_diff", self.min_sym_diff.into(), self.k_min.min(2).into(), 1_000_000)?;
        within("max_param_domain", self.max_param_domain, 1, 1_000_000_000)?;
        within("list.min_size", self.list.min_size.into(), 2, 100_000_000)?;
        within("list.max_fraction", self.list.max_fraction_thousandths.into(), 1, 1_000)?;
        within("list.min_overlap", self.list.min_overlap.into(), 2, 100_000_000)?;
        within("list.bits_per_id_lifetime", self.list.bits_per_id_lifetime.into(), 1, 1_000)?;
        if let Some(epsilon) = self.list.rr_epsilon_micros.filter(|_| !self.list.is_disagreed()) {
            within("list.rr_epsilon", epsilon.0, 10_000, 3_000_000)?;
        }
        within("release.slot", self.release.slot_milliseconds, 100, 86_400_000)?;
        within("release.max_slots", self.release.max_slots.into(), 1, 1_024)?;
        within("repeat.max_runs_per_day", self.repeat.max_runs_per_day.into(), 1, 10_000)?;
        within("repeat.max_failed_runs", self.repeat.max_failed_runs.into(), 1, 10_000)
    }

    /// The strictest of each.
    #[must_use]
    pub(crate) fn strictest(self, other: &Self) -> Self {
        Self {
            mode: self.mode.max(other.mode),
            adjacency: self.adjacency.max(other.adjacency),
            // Either noise keeps the promise: where owners differ, the host chooses.
            noise: if self.noise == other.noise { self.noise } else { NoiseChoice::Auto },
            k_min: self.k_min.max(other.k_min),
            epsilon_micros: self.epsilon_micros.min(other.epsilon_micros),
            delta_femtos: self.delta_femtos.min(other.delta_femtos),
            lifetime_epsilon_micros: self.lifetime_epsilon_micros.min(other.lifetime_epsilon_micros),
            lifetime_delta_femtos: self.lifetime_delta_femtos.min(other.lifetime_delta_femtos),
            l0: self.l0.min(other.l0),
            max_rows_per_unit: self.max_rows_per_unit.min(other.max_rows_per_unit),
            round_to: self.round_to.max(other.round_to),
            dominance_percent: self.dominance_percent.min(other.dominance_percent),
            suppress_complement: self.suppress_complement || other.suppress_complement,
            min_sym_diff: self.min_sym_diff.max(other.min_sym_diff),
            max_param_domain: self.max_param_domain.min(other.max_param_domain),
            list: self.list.strictest(&other.list),
            release: ReleaseControls {
                slot_milliseconds: self.release.slot_milliseconds.max(other.release.slot_milliseconds),
                max_slots: self.release.max_slots.min(other.release.max_slots),
            },
            repeat: RepeatControls {
                max_runs_per_day: self.repeat.max_runs_per_day.min(other.repeat.max_runs_per_day),
                max_failed_runs: self.repeat.max_failed_runs.min(other.repeat.max_failed_runs),
            },
            sandbox: self.sandbox.strictest(&other.sandbox),
        }
    }
}

impl SandboxControls {
    /// A wall may be lacking where every owner says so.
    fn strictest(mut self, other: &Self) -> Self {
        self.may_lack.retain(|wall| other.may_lack.contains(wall));
        self
    }
}

impl ListControls {
    const DISAGREED: Epsilon = Epsilon(0);

    /// Whether some owners ask for randomised response and some do not.
    pub(crate) fn is_disagreed(&self) -> bool {
        self.rr_epsilon_micros == Some(Self::DISAGREED)
    }

    /// Randomised answers take the place of exact ones with rules of their own; neither is stricter than the other. Where
    /// owners differ, what comes out is in no range, so that nothing runs until they agree.
    fn strictest(self, other: &Self) -> Self {
        let rr_epsilon_micros = match (self.rr_epsilon_micros, other.rr_epsilon_micros) {
            (Some(epsilon), Some(other)) => Some(epsilon.min(other)),
            (None, None) => None,
            _ => Some(Self::DISAGREED),
        };
        Self {
            min_size: self.min_size.max(other.min_size),
            max_fraction_thousandths: self.max_fraction_thousandths.min(other.max_fraction_thousandths),
            min_overlap: self.min_overlap.max(other.min_overlap),
            bits_per_id_lifetime: self.bits_per_id_lifetime.min(other.bits_per_id_lifetime),
            rr_epsilon_micros,
        }
    }
}

fn within(name: &'static str, value: u64, low: u64, high: u64) -> Result<(), (&'static str, String)> {
    if (low..=high).contains(&value) { Ok(()) } else { Err((name, scaled_range(name, low, high))) }
}

/// A range in the unit in which a room states the control.
fn scaled_range(name: &str, low: u64, high: u64) -> String {
    let unit = match name {
        "epsilon" | "lifetime.epsilon" | "list.rr_epsilon" => 1e6,
        "delta" | "lifetime.delta" => 1e15,
        "dominance.p" => 1e2,
        "list.max_fraction" => 1e3,
        "release.slot" => return "a slot from 100ms to 24h".into(),
        _ => return format!("a value from {low} to {high}"),
    };
    format!("a value from {} to {}", as_f64(low) / unit, as_f64(high) / unit)
}

/// The controls of one owner as `room.toml` states them; what is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StatedControls {
    mode: Option<String>,
    adjacency: Option<Adjacency>,
    noise: Option<NoiseChoice>,
    k_min: Option<u32>,
    epsilon: Option<f64>,
    delta: Option<f64>,
    lifetime: StatedLifetime,
    contrib: StatedContrib,
    max_rows_per_unit: Option<u32>,
    round_to: Option<u32>,
    dominance: StatedDominance,
    suppress_complement: Option<bool>,
    diff_guard: StatedGuard,
    max_param_domain: Option<u64>,
    list: StatedList,
    release: StatedRelease,
    repeat: StatedRepeat,
    sandbox: StatedSandbox,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedLifetime {
    epsilon: Option<f64>,
    delta: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedContrib {
    l0: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedDominance {
    n: Option<u32>,
    p: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedGuard {
    min_sym_diff: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedList {
    min_size: Option<u32>,
    max_fraction: Option<f64>,
    min_overlap: Option<u32>,
    bits_per_id_lifetime: Option<u32>,
    rr_epsilon: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedRelease {
    slot: Option<String>,
    max_slots: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedRepeat {
    max_runs_per_day: Option<u32>,
    max_failed_runs: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedSandbox {
    may_lack: Option<BTreeSet<Wall>>,
}

impl StatedControls {
    pub(crate) fn check(&self, owner: &str) -> Result<Controls> {
        let controls = self.read().map_err(|(name, remedy)| outside(name, owner, &remedy))?;
        controls.check().map_err(|(name, remedy)| outside(name, owner, &remedy))?;
        Ok(controls)
    }

    fn read(&self) -> Result<Controls, (&'static str, String)> {
        let default = Controls::default();
        let mode = self.mode.as_deref().map_or(Ok(default.mode), read_mode)?;
        if self.dominance.n.is_some_and(|n| n != 1) {
            return Err(("dominance.n", "n = 1: the rule looks at the largest unit".into()));
        }
        let k_min = self.k_min.unwrap_or(default.k_min);
        let list = ListControls {
            min_size: self.list.min_size.unwrap_or(default.list.min_size),
            max_fraction_thousandths: exact("list.max_fraction", self.list.max_fraction, 3)?
                .map_or(Ok(default.list.max_fraction_thousandths), |n| narrow("list.max_fraction", n))?,
            min_overlap: self.list.min_overlap.unwrap_or(default.list.min_overlap),
            bits_per_id_lifetime: self.list.bits_per_id_lifetime.unwrap_or(default.list.bits_per_id_lifetime),
            rr_epsilon_micros: exact("list.rr_epsilon", self.list.rr_epsilon, 6)?
                .map(|micros| in_range("list.rr_epsilon", micros, 1).map(Epsilon))
                .transpose()?,
        };
        Ok(Controls {
            mode,
            adjacency: self.adjacency.unwrap_or(default.adjacency),
            noise: self.noise.unwrap_or(default.noise),
            k_min,
            epsilon_micros: exact("epsilon", self.epsilon, 6)?.map_or(default.epsilon_micros, Epsilon),
            delta_femtos: exact("delta", self.delta, 15)?.map_or(default.delta_femtos, Delta),
            lifetime_epsilon_micros: exact("lifetime.epsilon", self.lifetime.epsilon, 6)?
                .map_or(default.lifetime_epsilon_micros, Epsilon),
            lifetime_delta_femtos: exact("lifetime.delta", self.lifetime.delta, 15)?
                .map_or(default.lifetime_delta_femtos, Delta),
            l0: self.contrib.l0.unwrap_or(default.l0),
            max_rows_per_unit: self.max_rows_per_unit.unwrap_or(default.max_rows_per_unit),
            round_to: self.round_to.unwrap_or(default.round_to),
            dominance_percent: exact("dominance.p", self.dominance.p, 2)?
                .map_or(Ok(default.dominance_percent), |n| narrow("dominance.p", n))?,
            suppress_complement: self.suppress_complement.unwrap_or(default.suppress_complement),
            min_sym_diff: self.diff_guard.min_sym_diff.unwrap_or(k_min),
            max_param_domain: self.max_param_domain.unwrap_or(default.max_param_domain),
            list,
            release: ReleaseControls {
                slot_milliseconds: self
                    .release
                    .slot
                    .as_deref()
                    .map_or(Ok(default.release.slot_milliseconds), read_duration)?,
                max_slots: self.release.max_slots.unwrap_or(default.release.max_slots),
            },
            repeat: RepeatControls {
                max_runs_per_day: self.repeat.max_runs_per_day.unwrap_or(default.repeat.max_runs_per_day),
                max_failed_runs: self.repeat.max_failed_runs.unwrap_or(default.repeat.max_failed_runs),
            },
            sandbox: SandboxControls { may_lack: self.sandbox.may_lack.iter().flatten().copied().collect() },
        })
    }
}

fn read_mode(text: &str) -> Result<Mode, (&'static str, String)> {
    match text {
        "sealed-dp" => Ok(Mode::SealedDp),
        "sealed-k" => Ok(Mode::SealedK),
        _ if MODES_TO_COME.contains(&text) => {
            Err(("mode", "sealed-dp or sealed-k: this runtime does not offer that mode yet".into()))
        }
        _ => Err(("mode", "sealed-dp or sealed-k".into())),
    }
}

/// A number of `ms`, `s`, `m` or `h`, in milliseconds.
fn read_duration(text: &str) -> Result<u64, (&'static str, String)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let count = count.parse::<u64>().ok();
    let read = count.zip(unit).and_then(|(count, unit)| count.checked_mul(unit));
    read.ok_or_else(|| ("release.slot", "a whole number with its unit: 500ms, 30s, 15m or 1h".into()))
}

/// A finite decimal as a whole number of its last place. What has more places is refused instead of rounded.
fn exact(name: &'static str, value: Option<f64>, places: u32) -> Result<Option<u64>, (&'static str, String)> {
    let Some(value) = value else { return Ok(None) };
    // The shortest text that reads as this number: what a person wrote, not what a float made of it.
    let text = format!("{value}");
    let read = decimal(&text, places as usize);
    read.map(Some).ok_or_else(|| (name, format!("a finite positive number of at most {places} decimal places")))
}

fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > places {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse().ok()
}

fn in_range(name: &'static str, value: u64, least: u64) -> Result<u64, (&'static str, String)> {
    if value >= least { Ok(value) } else { Err((name, "a number above 0".into())) }
}

fn narrow(name: &'static str, value: u64) -> Result<u32, (&'static str, String)> {
    u32::try_from(value).map_err(|_| (name, "a smaller number".into()))
}

fn outside(name: &str, owner: &str, remedy: &str) -> Fault {
    Fault::new(
        Code::RoomInvalid,
        format!("room.toml: {name} of {owner} is outside its range"),
        format!("give {remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Controls> {
        let stated: StatedControls = toml::from_str(text).expect("fields that there are");
        stated.check("retailer")
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let controls = check("epsilon = 0.1\ndelta = 1e-9\nlifetime = { epsilon = 2, delta = 1e-7 }").unwrap();
        assert_eq!((controls.epsilon_micros.0, controls.delta_femtos.0), (100_000, 1_000_000));
        assert_eq!((controls.lifetime_epsilon_micros.0, controls.lifetime_delta_femtos.0), (2_000_000, 100_000_000));
        assert_eq!(check("release = { slot = \"15m\" }").unwrap().release.slot_milliseconds, 900_000);
        assert_eq!(check("dominance = { n = 1, p = 0.35 }").unwrap().dominance_percent, 35);
    }

    #[test]
    fn what_is_no_finite_decimal_in_range_is_refused() {
        for text in [
            "epsilon = nan",
            "epsilon = inf",
            "epsilon = -1.0",
            "epsilon = 0.0",
            "epsilon = 1e15",
            "epsilon = 0.10000001",
            "delta = 1e-5",
            "delta = 1e-16",
            "lifetime = { epsilon = 1e3 }",
            "k_min = 0",
            "mode = \"sealed-k\"\nk_min = 1",
            "mode = \"opaque\"",
            "mode = \"none\"",
            "contrib = { l0 = 0 }",
            "dominance = { n = 2 }",
            "dominance = { p = 1.5 }",
            "list = { max_fraction = 1.5 }",
            "list = { rr_epsilon = 0.0 }",
            "release = { slot = \"15\" }",
            "release = { slot = \"0s\" }",
            "release = { slot = \"-1s\" }",
            "release = { max_slots = 0 }",
            "repeat = { max_runs_per_day = 0 }",
            "max_param_domain = 0",
        ] {
            assert_eq!(check(text).unwrap_err().code(), Code::RoomInvalid, "{text}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_at_every_depth() {
        for text in ["epsilom = 1.0", "lifetime = { window = 1 }", "list = { min_sise = 2 }", "repeat = { a = 1 }"] {
            assert!(toml::from_str::<StatedControls>(text).is_err(), "{text}");
        }
    }

    /// Whatever two owners state, the result is at least as strict as either, field by field, in either order.
    #[test]
    fn the_strictest_of_all_owners_wins() {
        let lax = check(
            "mode = \"sealed-k\"\nk_min = 20\nepsilon = 2.0\ncontrib = { l0 = 20 }\nround_to = 1\n\
             suppress_complement = false\nlist = { max_fraction = 0.9, rr_epsilon = 2.0 }\nrelease = { slot = \"1s\" }",
        )
        .unwrap();
        let strict = check("adjacency = \"replace\"\nlist = { rr_epsilon = 1.0 }").unwrap();
        let both = lax.clone().strictest(&strict);
        assert_eq!(both, strict.clone().strictest(&lax));
        assert_eq!((both.mode, both.adjacency), (Mode::SealedDp, Adjacency::Replace));
        assert_eq!((both.k_min, both.epsilon_micros.0, both.l0, both.round_to), (50, 1_000_000, 10, 10));
        assert!(both.suppress_complement);
        assert_eq!(both.list.max_fraction_thousandths, 200);
        assert_eq!(both.list.rr_epsilon_micros, Some(Epsilon(1_000_000)));
        assert_eq!(both.release.slot_milliseconds, 60_000);
        assert_eq!(lax.clone().strictest(&lax), lax);
        let exact = check("").unwrap();
        assert!(strict.strictest(&exact).list.is_disagreed(), "neither is stricter");
    }
}
