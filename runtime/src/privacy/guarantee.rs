//! What a run promises and what it does not, in the sentence that people sign and that stands in the receipt.

use super::capacity::{self, Extent};
use super::groups::KEY_BYTES_MAX;
use super::mechanism::{Mechanism, as_micros};
use super::suppress::Rules;
use crate::room::{Adjacency, Agreement, Controls, Kind, Manifest, Mode, View};

/// The sentence and the list that an agreement states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guarantee {
    pub(crate) sentence: String,
    /// What the code sees besides one unit's rows: known to whoever gets results, as if it were published to them.
    pub(crate) unprotected: Vec<String>,
}

impl Guarantee {
    /// What an agreement's own terms come to.
    pub(crate) fn of(agreement: &Agreement, manifest: &Manifest) -> Self {
        let parameters = manifest.set_parameters().map(|parameter| format!("parameter {}", parameter.name));
        let views = agreement.views.iter().map(|bound| &bound.view).filter(|view| !view.is_protected());
        let views = views.map(|view| format!("{}'s view {}", view.owner, view.id));
        let unprotected: Vec<String> =
            ["the component's code".to_owned()].into_iter().chain(parameters).chain(views).collect();
        let mechanism = Mechanism::new(manifest, &agreement.controls);
        let words = Words { agreement, manifest, mechanism: &mechanism };
        let sentence = match (manifest.kind, agreement.controls.mode) {
            (Kind::List, _) => words.list(),
            (Kind::Analytical, Mode::SealedDp) => words.sealed_dp(),
            (Kind::Analytical, Mode::SealedK) => words.sealed_k(),
        };
        let timing = timing_sentence(&agreement.controls);
        Self { sentence: format!("{sentence}{} {timing}", mapping_sentences(agreement)), unprotected }
    }
}

struct Words<'a> {
    agreement: &'a Agreement,
    manifest: &'a Manifest,
    mechanism: &'a Mechanism,
}

impl Words<'_> {
    fn views(&self) -> String {
        let mut views = Vec::new();
        for view in self.agreement.all_views().filter(|view| view.is_protected()) {
            let name = format!("{}'s {}", view.owner, view.id);
            if !views.contains(&name) {
                views.push(name);
            }
        }
        views.join(", ")
    }

    fn sealed_dp(&self) -> String {
        let Self { agreement, mechanism, .. } = self;
        let (controls, unit) = (&agreement.controls, &agreement.unit);
        let change = match mechanism.adjacency {
            Adjacency::AddRemove => "left out or put in",
            Adjacency::Replace => "left out, put in or replaced by any others",
        };
        let smallest = if mechanism.k_min > 1 {
            format!(" No group of fewer than {} is shown.", mechanism.k_min)
        } else {
            String::new()
        };
        format!(
            "sealed-dp: whatever this code does, if all rows of any one {unit} in {} were {change}, no answer that {} \
             gets would become more than e^epsilon times as likely or unlikely, with epsilon = {} (its parts come to \
             {:.3}), but for a probability of delta = {}; as long as no owner agrees to more, epsilon = {} and delta = \
             {} hold for all answers with noise from the same data together, each for the neighbours that its own \
             agreement names.{smallest} This trusts the host, one id per \
             {unit}, and views whose SQL computes each {unit}'s rows from that {unit}'s rows alone; it protects neither \
             what is listed as not protected nor what holds for whole groups of people.",
            self.views(),
            agreement.destination.recipient,
            controls.epsilon_micros,
            mechanism.computed_epsilon(),
            mechanism.cost().delta_femtos,
            controls.lifetime_epsilon_micros,
            controls.lifetime_delta_femtos,
        )
    }

    fn sealed_k(&self) -> String {
        let Self { agreement, manifest, mechanism } = self;
        let controls = &agreement.controls;
        let cells = manifest.groups.iter().map(|group| group.domain.as_ref().map_or(1, Vec::len)).product::<usize>();
        let extent = Extent {
            cells: cells as u64,
            bits_per_key: if manifest.has_open_keys() { 8 * KEY_BYTES_MAX as u64 } else { 0 },
            max_units: manifest.max_units(),
            bounds: &mechanism.bounds(),
        };
        // Released, withheld, or too close to an earlier release.
        let bits = capacity::table_bits(extent, &Rules::of(controls, mechanism.l0), 3);
        let bits = if manifest.has_open_keys() { format!("{bits} bits per group") } else { format!("{bits} bits") };
        format!(
            "sealed-k: the host computed every number from at least {} different {}s that all parties of {} know, each \
             shown to the code alone, and rounded it. Nothing bounds what numbers tell together: there are only {} \
             runs, a guard against groups that differ by fewer than {}, and {bits} that one run can tell at most.",
            controls.k_min,
            agreement.unit,
            self.views(),
            agreement.budget.runs_max,
            controls.min_sym_diff,
        )
    }

    fn list(&self) -> String {
        let Self { agreement, mechanism, manifest } = self;
        let (recipient, controls) = (&agreement.destination.recipient, &agreement.controls);
        let segments = manifest.segments().len() as u64;
        let told = match controls.list.rr_epsilon_micros {
            Some(epsilon) => format!(
                "the answer is another one with a probability of {:.3} (randomised response with epsilon = {epsilon})",
                flip_probability(as_micros(epsilon.micros()), segments),
            ),
            None => format!(
                "{recipient} learns at most {} bit(s) from this run{}, exact ones: no noise bounds what they mean",
                mechanism.cost().bits_per_id,
                manifest.stated_max_units().map(|units| all_together(units, segments)).unwrap_or_default(),
            ),
        };
        format!(
            "list-sealed: for each identifier that {recipient} holds already, {told}; it is computed from that \
             identifier's rows in {} alone. Order and duplicates carry nothing, and no list of fewer than {} is released.",
            self.views(),
            controls.list.min_size,
        )
    }
}

/// Of randomised response over a true answer and so many others.
#[expect(clippy::cast_precision_loss, reason = "at most 256 segments")]
fn flip_probability(epsilon: f64, others: u64) -> f64 {
    others as f64 / (epsilon.exp() + others as f64)
}

/// What a list can tell of all identifiers together, where the manifest says how many there may be.
fn all_together(units: u64, segments: u64) -> String {
    let bits = capacity::list_bits(units, 0..=units, segments, 2);
    format!(" ({bits} bits of {units} identifiers together)")
}

/// A mapping's rows are a unit's, those that it maps are not: left out with a unit is what makes them its own.
fn mapping_sentences(agreement: &Agreement) -> String {
    let of = |view: &View| {
        let via = view.unit_via.as_ref()?;
        let units = via.mapping.as_ref()?.max_units_per_id;
        let (owner, id, unit) = (&view.owner, &view.id, &agreement.unit);
        Some(format!(
            " Rows of {owner}'s {id} are of those {unit}s to whom {}'s {} maps their identifier, at most {units}, or \
             nothing is released: a {unit} is left out there by its rows in {}, and what is promised is promised of each \
             {unit}, not of an identifier that several share.",
            via.owner, via.id, via.id
        ))
    };
    agreement.views.iter().filter_map(|bound| of(&bound.view)).collect()
}

/// Completion comes at the end of a slot, so its time tells which slot and no more.
fn timing_sentence(controls: &Controls) -> String {
    // With a result or without one in each slot, or later than all of them by a power of two.
    let bits = (2 * controls.release.max_slots + 20).next_power_of_two().trailing_zeros();
    let slot = controls.release.slot_milliseconds;
    format!(
        "When a result comes, or that none comes, can tell {bits} bits more (a slot of {slot} ms, at most {}); that an \
         answer repeats an earlier one tells that no file has changed.",
        controls.release.max_slots
    )
}
