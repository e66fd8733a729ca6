//! Analytical questions: what one unit adds to which group of a report.
//!
//! The function never counts units and never sees a total. The host counts, clamps, sums, thresholds and noises.

use std::mem;

use crate::expansion::analytical as world;
use crate::unit;

pub use crate::analytical_question as question;
pub use crate::{Parameters, Views};

/// What one unit adds to one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// One part per group column of the manifest.
    pub group: Vec<String>,
    /// One number per measure of the manifest that is not a count.
    pub values: Vec<f64>,
}

impl Contribution {
    /// A contribution of `values` to `group`, both in the manifest's order.
    ///
    /// ```
    /// use glovebox_sdk::analytical::Contribution;
    ///
    /// let contribution = Contribution::new(["Type A", "75K+"], [12.5]);
    /// assert_eq!(contribution.group, ["Type A", "75K+"]);
    /// assert_eq!(contribution.values, [12.5]);
    /// ```
    pub fn new<G: Into<String>>(group: impl IntoIterator<Item = G>, values: impl IntoIterator<Item = f64>) -> Self {
        Self { group: group.into_iter().map(Into::into).collect(), values: values.into_iter().collect() }
    }
}

/// The function of an analytical question: parameters and one unit's rows in, its contributions out.
pub type Measure = fn(&Parameters, &Views) -> Vec<Contribution>;

/// Calls the question's function about a unit; what `question!` exports.
#[doc(hidden)]
pub fn answer(measure: impl Fn(&Parameters, &Views) -> Vec<Contribution>, unit: Vec<u64>) -> Vec<world::Contribution> {
    let (parameters, views) = unit::read(unit.leak());
    let contributions = measure(&parameters, &views);
    // The instance ends with this call: freeing every list one by one would be work for nothing.
    mem::forget((parameters, views));
    contributions.into_iter().map(|Contribution { group, values }| world::Contribution { group, values }).collect()
}

/// Makes a function of type [`Measure`](crate::analytical::Measure) the question of this crate.
///
/// ```
/// use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};
///
/// question!(measure);
///
/// fn measure(_: &Parameters, views: &Views) -> Vec<Contribution> {
///     let [purchases] = views.slots();
///     vec![Contribution::new(["all"], [purchases.len() as f64])]
/// }
/// ```
///
/// Use it as `glovebox_sdk::analytical::question!`, once per crate.
#[macro_export]
macro_rules! analytical_question {
    ($measure:path) => {
        // Also natively, so that a wrong signature shows before the first WebAssembly build.
        const _: $crate::analytical::Measure = $measure;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Question;

            impl $crate::expansion::analytical::Guest for Question {
                fn measure(unit: Vec<u64>) -> Vec<$crate::expansion::analytical::Contribution> {
                    $crate::analytical::answer($measure, unit)
                }
            }

    $crate::expansion::analytical::export!(Question with_types_in $crate::expansion::analytical);
        };
    };
}
