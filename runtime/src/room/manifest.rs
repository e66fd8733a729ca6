//! `question.toml`: what a question needs, what it may be asked, and what it can answer.
//!
//! The manifest is the author's claim about shapes; the owners' [`Controls`](super::Controls) bound it, and the host
//! enforces both. A manifest never loosens a control.

use serde::{Deserialize, Serialize};

use super::is_id;
use glovebox_sandbox::{ColumnType, Kind, Value};

use crate::error::{Code, Fault, Result};
use crate::parse;

/// How much a guest sees at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Isolation {
    /// One privacy unit, in an instance that has never seen another.
    Sealed,
}

/// A column of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Column {
    /// The column's name in the view.
    pub name: String,
    /// The type that the question reads.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether nulls reach the question; rows with a null in any other column are left out.
    #[serde(default)]
    pub nullable: bool,
}

/// Whether a unit must have rows in a slot's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Join {
    /// Units without rows here are left out.
    Required,
    /// The slot may have no rows for a unit.
    Optional,
    /// The slot has all rows of a view that is not about units, for every unit: prices, or a table of names.
    Lookup,
}

/// A place for a view, to be bound by the agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    /// The slot's name.
    pub slot: String,
    pub(crate) join: Join,
    /// The columns the question sees, in this order.
    pub columns: Vec<Column>,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ParameterType {
    Boolean,
    Int64,
    Float64,
    Utf8,
    /// A number of each unit's own, which the host draws anew for every run and nobody can set.
    Seed,
}

/// A parameter's declared type and domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameter {
    /// The parameter's name.
    pub name: String,
    /// What it may be.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The smallest and the largest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The distance of a number's values; 1 for `int64`. Without one, a `float64` has no countable domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The allowed values of a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// A column of the group key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// The column's name in the released table.
    pub name: String,
    /// The closed domain; without one, keys are open and a key is released only by differentially private selection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Vec<String>>,
}

/// How contributions become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reducer {
    /// Distinct units, counted by the host.
    Count,
    /// The sum of clamped values.
    Sum,
    /// The mean of clamped values over units.
    Mean,
    /// The variance of clamped values over units.
    Variance,
    /// How many units lie in each of `bins` equal parts of the range.
    Histogram,
    /// The values below which the parts `quantiles` of all units lie.
    Quantiles,
    /// The part of all units that lies below each edge of `bins` equal parts of the range.
    Cdf,
    /// One `sum` of the manifest divided by another; the question gives no value for it.
    Ratio,
}

impl Reducer {
    /// Whether a contribution holds a value for it.
    pub(crate) const fn takes_a_value(self) -> bool {
        !matches!(self, Self::Count | Self::Ratio)
    }
}

/// A measure: one or more columns of the released table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measure {
    /// The column's name in the released table, or the beginning of several columns' names.
    pub name: String,
    /// How contributions are reduced.
    pub reducer: Reducer,
    /// The range to which a unit's value is clamped; for all but counts and ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The largest Euclidean norm of a unit's values over all of its groups; for `sum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,
    /// Into how many equal parts the range is cut: a power of two for `quantiles` and `cdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<u32>,
    /// Which quantiles, from 0 to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
    /// The sum above the line of a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerator: Option<String>,
    /// The sum below the line of a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denominator: Option<String>,
}

impl Measure {
    /// How many parts the range is cut into.
    #[must_use]
    pub(crate) fn bins(&self) -> usize {
        self.bins.map_or(BINS_DEFAULT, |bins| bins as usize)
    }
}

/// The groups to release: those that come first by a measure, whatever their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Top {
    /// How many.
    pub limit: u32,
    /// The measure of one column that orders them, the largest first.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    max_rows_per_unit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_groups_per_unit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_units: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListShape {
    segments: Vec<String>,
}

/// A checked `question.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    /// The question's name.
    pub name: String,
    /// The kind of answer.
    pub kind: Kind,
    pub(crate) isolation: Isolation,
    /// One line for people.
    pub description: String,
    /// The slots, in the order in which the question gets them.
    #[serde(rename = "view")]
    pub slots: Vec<Slot>,
    /// The parameters, in the order in which the question gets them.
    #[serde(default, rename = "parameter")]
    pub parameters: Vec<Parameter>,
    /// The group key's columns.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// The measures.
    #[serde(default, rename = "measure")]
    pub measures: Vec<Measure>,
    /// The first groups only.
    #[serde(default)]
    pub top: Option<Top>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shards: Option<u16>,
    bounds: Bounds,
    #[serde(default)]
    list: Option<ListShape>,
}

/// The largest number of cells of a closed domain.
const CELLS_MAX: usize = 100_000;
/// The most measures: each takes its part of epsilon, which at the smallest epsilon is still at least a millionth.
pub(crate) const MEASURES_MAX: usize = 64;
/// The most units that a question is made for, unless it says another number.
const UNITS_DEFAULT: u64 = 1_000_000_000;
/// Shards of a run, where the manifest does not say how many.
const SHARDS_DEFAULT: u16 = 16;
/// The most shards: more would cost more than what is in them.
const SHARDS_MAX: u16 = 4_096;
/// Parts of a range, where the manifest does not say how many.
const BINS_DEFAULT: usize = 64;
const BINS_MAX: usize = 1_024;
/// The most numbers that the host adds up in all cells of a closed domain together.
const NUMBERS_MAX: usize = 4_000_000;
/// The most columns of a group key.
const GROUPS_MAX: usize = 16;

impl Manifest {
    /// Parses and checks the text of a `question.toml`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("question.toml is not UTF-8 text"))?;
        let manifest: Self = parse::toml(text).map_err(|why| invalid(format!("question.toml: {why}")))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The most rows of one unit that reach the question, per slot.
    #[must_use]
    pub(crate) const fn max_rows_per_unit(&self) -> u32 {
        self.bounds.max_rows_per_unit
    }

    /// The most groups to which one unit contributes.
    #[must_use]
    pub(crate) fn max_groups_per_unit(&self) -> u32 {
        self.bounds.max_groups_per_unit.unwrap_or(1)
    }

    /// The most units that the question is made for. Exact counts above it are told as this number.
    #[must_use]
    pub(crate) fn max_units(&self) -> u64 {
        self.bounds.max_units.unwrap_or(UNITS_DEFAULT)
    }

    /// Into how many shards the units are split, wherever they are asked.
    #[must_use]
    pub(crate) fn shards(&self) -> u16 {
        self.shards.unwrap_or(SHARDS_DEFAULT)
    }

    /// The same, where the manifest says it.
    #[must_use]
    pub(crate) const fn stated_max_units(&self) -> Option<u64> {
        self.bounds.max_units
    }

    /// The parameters whose values an agreement states: all but the seed.
    pub(crate) fn set_parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| !parameter.is_seed())
    }

    /// The name of the seed, if the question has one.
    #[must_use]
    pub(crate) fn seed(&self) -> Option<&str> {
        self.parameters.iter().find(|parameter| parameter.is_seed()).map(|seed| seed.name.as_str())
    }

    /// Whether some slot may have no rows for a unit.
    #[must_use]
    pub(crate) fn has_optional_slot(&self) -> bool {
        self.slots.iter().any(|slot| slot.join == Join::Optional)
    }

    /// Whether the keys of groups are not known before the run.
    #[must_use]
    pub(crate) fn has_open_keys(&self) -> bool {
        self.groups.iter().any(|group| group.domain.is_none())
    }

    /// The segments of a list question.
    #[must_use]
    pub(crate) fn segments(&self) -> &[String] {
        self.list.as_ref().map_or(&[], |list| &list.segments)
    }

    fn check(&self) -> Result<()> {
        if self.version != 1 {
            return Err(Fault::new(
                Code::ManifestInvalid,
                format!("question.toml has version {}, this runtime reads version 1", self.version),
                "set `version = 1`, or use the runtime that the question was written for",
            ));
        }
        check_names("question", std::iter::once(self.name.as_str()))?;
        check_names("slot", self.slots.iter().map(|slot| slot.slot.as_str()))?;
        check_names("parameter", self.parameters.iter().map(|parameter| parameter.name.as_str()))?;
        let columns = self.groups.iter().map(|g| g.name.as_str()).chain(self.measures.iter().map(|m| m.name.as_str()));
        check_names("group or measure", columns)?;
        self.check_slots()?;
        self.parameters.iter().try_for_each(Parameter::check)?;
        if self.parameters.iter().filter(|parameter| parameter.is_seed()).count() > 1 {
            return Err(invalid("a question has one parameter of type seed at most"));
        }
        if !(1..=1_000_000).contains(&self.bounds.max_rows_per_unit) {
            return Err(invalid("`max_rows_per_unit` is outside 1 to 1000000"));
        }
        if !(1..=1_000_000_000_000).contains(&self.max_units()) {
            return Err(invalid("`max_units` is outside 1 to 1000000000000"));
        }
        if !(1..=SHARDS_MAX).contains(&self.shards()) {
            return Err(invalid(format!("`shards` is outside 1 to {SHARDS_MAX}")));
        }
        match self.kind {
            Kind::Analytical => self.check_analytical(),
            Kind::List => self.check_list(),
        }
    }

    fn check_slots(&self) -> Result<()> {
        if !self.slots.iter().any(|slot| slot.join == Join::Required) {
            return Err(invalid("no `[[view]]` has `join = \"required\"`"));
        }
        for slot in &self.slots {
            if slot.columns.is_empty() {
                return Err(invalid(format!("slot {} has no columns", slot.slot)));
            }
            check_distinct("column", slot.columns.iter().map(|column| column.name.as_str()))?;
        }
        Ok(())
    }

    fn check_analytical(&self) -> Result<()> {
        if self.list.is_some() {
            return Err(invalid("an analytical question has no `[list]`"));
        }
        if self.groups.is_empty() || self.measures.is_empty() {
            return Err(invalid("an analytical question needs at least one `[[group]]` and one `[[measure]]`"));
        }
        if self.measures.len() > MEASURES_MAX || self.groups.len() > GROUPS_MAX {
            return Err(invalid(format!("a question has at most {GROUPS_MAX} groups and {MEASURES_MAX} measures")));
        }
        if !(1..=10_000).contains(&self.max_groups_per_unit()) {
            return Err(invalid("`max_groups_per_unit` is outside 1 to 10000"));
        }
        self.measures.iter().try_for_each(|measure| measure.check(&self.measures))?;
        self.check_top()?;
        let mut cells = 1usize;
        for group in &self.groups {
            let Some(domain) = &group.domain else { continue };
            if domain.is_empty() {
                return Err(invalid(format!("the domain of group {} is empty", group.name)));
            }
            check_distinct("domain value", domain.iter().map(String::as_str))?;
            cells = cells.saturating_mul(domain.len());
        }
        let closed = self.groups.iter().filter(|group| group.domain.is_some()).count();
        if closed != 0 && closed != self.groups.len() {
            return Err(invalid("some groups have a `domain` and some have none"));
        }
        if cells > CELLS_MAX {
            return Err(invalid(format!("the groups have {cells} cells, at most {CELLS_MAX} are allowed")));
        }
        let has_bins = |reducer| matches!(reducer, Reducer::Histogram | Reducer::Quantiles | Reducer::Cdf);
        let numbers_of = |measure: &Measure| if has_bins(measure.reducer) { 2 * measure.bins() } else { 2 };
        let numbers: usize = self.measures.iter().map(numbers_of).sum();
        if cells.saturating_mul(numbers) > NUMBERS_MAX {
            return Err(invalid(format!(
                "{cells} cells with all bins of all measures are more than {NUMBERS_MAX} numbers"
            )));
        }
        Ok(())
    }

    fn check_top(&self) -> Result<()> {
        let Some(top) = &self.top else { return Ok(()) };
        if self.has_open_keys() {
            return Err(invalid("`[top]` needs groups with a `domain`: the order of open keys is not defined"));
        }
        if !(1..=10_000).contains(&top.limit) {
            return Err(invalid("the `limit` of `[top]` is outside 1 to 10000"));
        }
        let by = self.measures.iter().find(|measure| measure.name == top.by);
        let is_a_number = |measure: &Measure| {
            !matches!(measure.reducer, Reducer::Histogram | Reducer::Quantiles | Reducer::Cdf | Reducer::Ratio)
        };
        match by {
            Some(measure) if is_a_number(measure) => Ok(()),
            _ => Err(invalid(format!("`[top]` orders by {}, which is no count, sum, mean or variance", top.by))),
        }
    }

    fn check_list(&self) -> Result<()> {
        if !self.groups.is_empty()
            || !self.measures.is_empty()
            || self.bounds.max_groups_per_unit.is_some()
            || self.top.is_some()
        {
            return Err(invalid("a list question has no groups, measures, `[top]` or `max_groups_per_unit`"));
        }
        if self.segments().is_empty() || self.segments().len() > 256 {
            return Err(invalid("a list question needs `[list]` with 1 to 256 `segments`"));
        }
        check_distinct("segment", self.segments().iter().map(String::as_str))
    }
}

impl Parameter {
    fn check(&self) -> Result<()> {
        let shape = (self.range.is_some(), !self.allowed.is_empty());
        let fits = match self.kind {
            ParameterType::Boolean | ParameterType::Seed => shape == (false, false),
            ParameterType::Int64 | ParameterType::Float64 => shape == (true, false),
            ParameterType::Utf8 => shape == (false, true),
        };
        if !fits {
            return Err(invalid(format!(
                "parameter {} needs type boolean or seed, int64 or float64 with `range`, or utf8 with `allowed`",
                self.name
            )));
        }
        if self.step.is_some_and(|step| !(1e-9..=1e15).contains(&step) || self.range.is_none()) {
            return Err(invalid(format!("parameter {}: `step` is outside 1e-9 to 1e15, or of no number", self.name)));
        }
        self.range.map_or(Ok(()), |range| check_range(&self.name, range))
    }

    /// Whether the host draws it, for each unit its own.
    #[must_use]
    pub(crate) fn is_seed(&self) -> bool {
        self.kind == ParameterType::Seed
    }

    /// How many values it may have: what it can tell the code about whom to look for is bounded by that.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, as it should")]
    pub(crate) fn domain_size(&self) -> u64 {
        let step = self.step.or((self.kind == ParameterType::Int64).then_some(1.0));
        match (self.kind, self.range, step) {
            (ParameterType::Boolean, ..) => 2,
            (ParameterType::Utf8, ..) => self.allowed.len() as u64,
            (_, Some([low, high]), Some(step)) => (((high - low) / step).floor() as u64).saturating_add(1),
            _ => u64::MAX,
        }
    }

    /// Reads a value from its text form, which is also the form it has in the agreement.
    pub(crate) fn read(&self, text: &str) -> Result<Value> {
        let in_range = |number: f64| self.range.is_some_and(|[low, high]| (low..=high).contains(&number));
        // The nearest value of the domain stands for all that differ from it by no more than a text can: there are no
        // more values than the owners have counted.
        let nearest = |number: f64| match (self.range, self.step) {
            (Some([low, _]), Some(step)) => {
                let steps = (number - low) / step;
                ((steps - steps.round()).abs() < 1e-6).then(|| low + steps.round() * step)
            }
            _ => Some(number),
        };
        let value = match self.kind {
            ParameterType::Boolean => text.parse().ok().map(Value::Boolean),
            #[expect(clippy::cast_precision_loss, reason = "a range is given as floats; its ends are compared as such")]
            ParameterType::Int64 => text
                .parse()
                .ok()
                .filter(|n: &i64| in_range(*n as f64) && nearest(*n as f64) == Some(*n as f64))
                .map(Value::Int64),
            ParameterType::Float64 => text.parse().ok().filter(|n| in_range(*n)).and_then(nearest).map(Value::Float64),
            ParameterType::Utf8 => self.allowed.iter().find(|allowed| *allowed == text).cloned().map(Value::Utf8),
            ParameterType::Seed => None,
        };
        value.ok_or_else(|| {
            Fault::new(
                Code::ParameterInvalid,
                format!("`{text}` is outside the domain of parameter {}", self.name),
                format!("give {}", self.domain()),
            )
        })
    }

    /// The domain, for people.
    #[must_use]
    pub(crate) fn domain(&self) -> String {
        let steps = self.step.map(|step| format!(" in steps of {step}")).unwrap_or_default();
        match (self.kind, self.range) {
            (ParameterType::Boolean, _) => "true or false".into(),
            (ParameterType::Seed, _) => "no value: the host gives every unit a random number of its own".into(),
            (ParameterType::Int64, Some([low, high])) => format!("a whole number from {low} to {high}{steps}"),
            (_, Some([low, high])) => format!("a number from {low} to {high}{steps}"),
            _ => format!("one of: {}", self.allowed.join(", ")),
        }
    }
}

impl Measure {
    fn check(&self, all: &[Self]) -> Result<()> {
        let has_bins = matches!(self.reducer, Reducer::Histogram | Reducer::Quantiles | Reducer::Cdf);
        let (is_ratio, is_quantiles) = (self.reducer == Reducer::Ratio, self.reducer == Reducer::Quantiles);
        let extras = [
            ("l2", self.l2.is_some(), self.reducer == Reducer::Sum && self.l2.is_some()),
            ("bins", self.bins.is_some(), has_bins && self.bins.is_some()),
            ("quantiles", !self.quantiles.is_empty(), is_quantiles),
            ("numerator", self.numerator.is_some(), is_ratio),
            ("denominator", self.denominator.is_some(), is_ratio),
            ("range", self.range.is_some(), self.reducer.takes_a_value()),
        ];
        if let Some((field, is_there, _)) = extras.iter().find(|(_, is_there, belongs)| is_there != belongs) {
            let what = if *is_there { "has no" } else { "needs" };
            return Err(invalid(format!("measure {}: this reducer {what} `{field}`", self.name)));
        }
        if let Some(range) = self.range {
            check_range(&self.name, range)?;
        }
        if self.l2.is_some_and(|l2| !(1e-9..=1e15).contains(&l2)) {
            return Err(invalid(format!("measure {}: `l2` is outside 1e-9 to 1e15", self.name)));
        }
        let bins = self.bins();
        if has_bins
            && (!(2..=BINS_MAX).contains(&bins) || (self.reducer != Reducer::Histogram && !bins.is_power_of_two()))
        {
            return Err(invalid(format!(
                "measure {}: `bins` is outside 2 to {BINS_MAX}, or no power of two",
                self.name
            )));
        }
        if !self.quantiles.iter().all(|q| (0.0..=1.0).contains(q)) || self.quantiles.len() > 16 {
            return Err(invalid(format!("measure {}: `quantiles` are at most 16 numbers from 0 to 1", self.name)));
        }
        let is_sum = |name: &String| all.iter().any(|other| other.name == *name && other.reducer == Reducer::Sum);
        match self.numerator.iter().chain(&self.denominator).find(|name| !is_sum(name)) {
            Some(name) => Err(invalid(format!("measure {}: {name} is no `sum` of this question", self.name))),
            None => Ok(()),
        }
    }
}

fn check_range(name: &str, [low, high]: [f64; 2]) -> Result<()> {
    if !low.is_finite() || !high.is_finite() || high - low < 1e-9 || low.abs().max(high.abs()) > 1e15 {
        return Err(Fault::new(
            Code::ManifestInvalid,
            format!("the range [{low}, {high}] of {name} is empty, narrower than 1e-9, not finite, or beyond 1e15"),
            "give two finite numbers, the smaller one first",
        ));
    }
    Ok(())
}

fn check_names<'a>(what: &str, names: impl Iterator<Item = &'a str> + Clone + 'a) -> Result<()> {
    if let Some(name) = names.clone().find(|name| !is_id(name)) {
        return Err(invalid(format!(
            "the {what} name `{}` is not of the form [a-z0-9._-]{{1,64}}",
            name.escape_debug()
        )));
    }
    check_distinct(what, names)
}

fn check_distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(invalid(format!("the {what} `{}` stands twice", name.escape_debug())));
        }
    }
    Ok(())
}

fn invalid(fact: impl Into<String>) -> Fault {
    Fault::new(Code::ManifestInvalid, fact, "see docs/author-guide.md for the manifest's fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(kind: ParameterType, range: [f64; 2], step: Option<f64>) -> Parameter {
        Parameter { name: "p".into(), kind, range: Some(range), step, allowed: Vec::new() }
    }

    fn manifest(parameters: &str) -> Result<Manifest> {
        let text = format!(
            "version = 1\nname = \"t\"\nkind = \"list\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
             [[view]]\nslot = \"a\"\njoin = \"required\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
             {parameters}\n[list]\nsegments = [\"in\"]\n[bounds]\nmax_rows_per_unit = 10\n"
        );
        Manifest::parse(text.as_bytes())
    }

    /// Whatever a manifest said of it would be a promise about a number that the host draws.
    #[test]
    fn a_question_has_one_seed_at_most_and_says_nothing_of_it() {
        const SEED: &str = "[[parameter]]\nname = \"luck\"\ntype = \"seed\"\n";
        const FLAG: &str = "[[parameter]]\nname = \"flag\"\ntype = \"boolean\"\n";
        let manifest = |parameters: &[&str]| manifest(&parameters.concat());
        let seeded = manifest(&[FLAG, SEED]).unwrap();
        assert_eq!(seeded.seed(), Some("luck"));
        assert_eq!(seeded.set_parameters().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>(), ["flag"]);
        assert_eq!(manifest(&[FLAG]).unwrap().seed(), None);
        for more in
            ["range = [0, 9]\n", "step = 1\n", "allowed = [\"7\"]\n", "default = 7\n", &SEED.replace("luck", "more")]
        {
            assert!(manifest(&[SEED, more]).is_err(), "{more}");
        }
        let read = seeded.parameters[1].read("7").unwrap_err();
        assert_eq!(read.code(), Code::ParameterInvalid);
    }

    /// A text that is not quite a value of the domain would name more values than the owners have counted.
    #[test]
    fn a_parameter_has_no_more_values_than_its_domain() {
        let tenths = parameter(ParameterType::Float64, [0.0, 1.0], Some(0.1));
        assert_eq!(tenths.domain_size(), 11);
        for (text, value) in [("0.3", 3.0 * 0.1), ("0.30000000000000001", 3.0 * 0.1), ("0.3000000001", 3.0 * 0.1)] {
            assert_eq!(tenths.read(text).unwrap(), Value::Float64(value), "{text}");
        }
        assert!(["0.35", "1.1", "-0.1", "NaN"].iter().all(|text| tenths.read(text).is_err()));
        let evens = parameter(ParameterType::Int64, [0.0, 10.0], Some(2.0));
        assert_eq!((evens.domain_size(), evens.read("4").unwrap()), (6, Value::Int64(4)));
        assert!(evens.read("5").is_err());
        assert_eq!(parameter(ParameterType::Float64, [0.0, 1.0], None).domain_size(), u64::MAX);
        assert_eq!(parameter(ParameterType::Float64, [-1e15, 1e15], Some(1e-9)).domain_size(), u64::MAX);
    }
}
