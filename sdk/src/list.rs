//! List questions: is this unit in, and in which declared segment.
//!
//! The function never sees an identifier and never builds the list: the host maps each answer back to the recipient's
//! own identifiers.

use std::mem;

use crate::unit;

pub use crate::list_question as question;
pub use crate::{Parameters, Views};

/// The function of a list question: parameters and one unit's rows in; out comes the position of a segment of the
/// manifest, or `None` to leave the unit out.
pub type Select = fn(&Parameters, &Views) -> Option<u32>;

/// Calls the question's function about a unit; what `question!` exports.
#[doc(hidden)]
pub fn answer(select: impl Fn(&Parameters, &Views) -> Option<u32>, unit: Vec<u64>) -> Option<u32> {
    let (parameters, views) = unit::read(unit.leak());
    let segment = select(&parameters, &views);
    // The instance ends with this call: freeing every list one by one would be work for nothing.
    mem::forget((parameters, views));
    segment
}

/// Makes a function of type [`Select`](crate::list::Select) the question of this crate.
///
/// ```
/// use glovebox_sdk::list::{Parameters, Views, question};
///
/// question!(select);
///
/// /// Everyone with at least as many purchases as the first parameter says.
/// fn select(parameters: &Parameters, views: &Views) -> Option<u32> {
///     let [purchases] = views.slots();
///     (purchases.len() as i64 >= parameters.int64(0)).then_some(0)
/// }
///
/// # use glovebox_sdk::Rows;
/// let views = Views::from([Rows::builder().int64([1, 2, 3]).build()]);
/// assert_eq!(select(&Parameters::from([3.into()]), &views), Some(0));
/// assert_eq!(select(&Parameters::from([4.into()]), &views), None);
/// ```
///
/// Use it as `glovebox_sdk::list::question!`, once per crate.
#[macro_export]
macro_rules! list_question {
    ($select:path) => {
        // Also natively, so that a wrong signature shows before the first WebAssembly build.
        const _: $crate::list::Select = $select;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Question;

            impl $crate::expansion::list::Guest for Question {
                fn select(unit: Vec<u64>) -> Option<u32> {
                    $crate::list::answer($select, unit)
                }
            }

    $crate::expansion::list::export!(Question with_types_in $crate::expansion::list);
        };
    };
}
