//! The views of a question and the rows that one unit has in each.
//!
//! Everything is found by position, in the manifest's order. A position or type that the manifest does not have is the
//! author's mistake and panics; it never reads another column instead.

use crate::RowsBuilder;
use crate::cells::{Booleans, Column, Dates, Texts, Timestamps, Words};
use crate::fault::fault;

/// The question's views in the manifest's order, each with the rows of one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Views(pub(crate) Vec<Rows>);

impl Views {
    /// All views at once, to be taken apart by name.
    ///
    /// ```
    /// use glovebox_sdk::{Rows, Views};
    ///
    /// let views = Views::from([Rows::builder().int64([1, 2]).build(), Rows::builder().utf8(["a"]).build()]);
    /// let [purchases, campaigns] = views.slots();
    /// assert_eq!((purchases.len(), campaigns.len()), (2, 1));
    /// ```
    ///
    /// # Panics
    /// Where the question has another number of views.
    pub fn slots<const N: usize>(&self) -> &[Rows; N] {
        match self.0.as_slice().try_into() {
            Ok(slots) => slots,
            Err(_) => fault!("the question has {} views, its function expects {N}", self.0.len()),
        }
    }
}

/// For tests: the views that a unit brings.
impl<const N: usize> From<[Rows; N]> for Views {
    fn from(slots: [Rows; N]) -> Self {
        Self(slots.into())
    }
}

/// The rows that one unit has in one view.
///
/// ```
/// use glovebox_sdk::Rows;
///
/// let rows = Rows::builder().int64([7, 7]).dictionary([Some("Type A"), None]).build();
/// assert_eq!(rows.len(), 2);
/// assert_eq!(rows.int64(0).values(), [7, 7]);
/// assert_eq!(rows.dictionary(1).get(0), Some("Type A"));
/// ```
///
/// # Panics
/// Every access to a column panics where the manifest has no column there, or one of another type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub(crate) count: usize,
    pub(crate) columns: Vec<Stored>,
}

/// A column as it lies in memory: among the words of a unit, which are there as long as the instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) validity: Option<&'static [u8]>,
    pub(crate) values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Boolean(&'static [u8]),
    Int64(&'static [i64]),
    Float64(&'static [f64]),
    Date(&'static [i32]),
    Timestamp(&'static [i64]),
    Utf8(Strings),
    Dictionary { codes: &'static [u32], words: Strings },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strings {
    pub(crate) offsets: &'static [u32],
    pub(crate) bytes: &'static [u8],
}

impl Strings {
    fn texts(&self) -> Texts<'_> {
        Texts { offsets: self.offsets, bytes: self.bytes }
    }
}

impl Values {
    fn name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "boolean",
            Self::Int64(_) => "int64",
            Self::Float64(_) => "float64",
            Self::Date(_) => "date",
            Self::Timestamp(_) => "timestamp",
            Self::Utf8(_) => "utf8",
            Self::Dictionary { .. } => "dictionary",
        }
    }
}

/// Defines the accessor of one column type.
macro_rules! accessor {
    ($(#[$doc:meta])* $name:ident -> $cells:ty, $pattern:pat => $value:expr) => {
        $(#[$doc])*
        #[track_caller]
        pub fn $name(&self, position: usize) -> Column<'_, $cells> {
            let stored = self.stored(position);
            match &stored.values {
                $pattern => Column::new(self.count, stored.validity, $value),
                other => fault!(
                    "column {position} is of type {}; read it with `{}`",
                    other.name(),
                    other.name()
                ),
            }
        }
    };
}

impl Rows {
    /// Starts the rows of a unit for a test.
    pub fn builder() -> RowsBuilder {
        RowsBuilder::default()
    }

    /// How many rows the unit has in this view; may be 0 where the manifest joins the view as optional.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the unit has no rows in this view.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    accessor!(
        /// The column at `position`, of type `boolean`.
        boolean -> Booleans<'_>, Values::Boolean(bits) => Booleans(bits)
    );
    accessor!(
        /// The column at `position`, of type `int64`.
        int64 -> &[i64], Values::Int64(numbers) => *numbers
    );
    accessor!(
        /// The column at `position`, of type `float64`.
        float64 -> &[f64], Values::Float64(numbers) => *numbers
    );
    accessor!(
        /// The column at `position`, of type `date`.
        date -> Dates<'_>, Values::Date(days) => Dates(days)
    );
    accessor!(
        /// The column at `position`, of type `timestamp`.
        timestamp -> Timestamps<'_>, Values::Timestamp(microseconds) => Timestamps(microseconds)
    );
    accessor!(
        /// The column at `position`, of type `utf8`.
        utf8 -> Texts<'_>, Values::Utf8(strings) => strings.texts()
    );
    accessor!(
        /// The column at `position`, of type `dictionary`.
        dictionary -> Words<'_>,
        Values::Dictionary { codes, words } => Words { codes, words: words.texts() }
    );

    #[track_caller]
    fn stored(&self, position: usize) -> &Stored {
        match self.columns.get(position) {
            Some(stored) => stored,
            None => fault!("there is no column {position}; the view has {}", self.columns.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "column 0 is of type int64; read it with `int64`")]
    fn a_wrong_type_is_named() {
        Rows::builder().int64([1]).build().float64(0);
    }

    #[test]
    #[should_panic(expected = "there is no column 1; the view has 1")]
    fn a_wrong_position_is_named() {
        Rows::builder().int64([1]).build().int64(1);
    }

    #[test]
    #[should_panic(expected = "the question has 1 views, its function expects 2")]
    fn a_wrong_number_of_views_is_named() {
        let views = Views::from([Rows::default()]);
        let [_, _] = views.slots();
    }
}
