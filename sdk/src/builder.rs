//! Builds the rows of a unit from Rust values, so that a question can be tested on the host.
//!
//! It lays the columns out exactly as the host does, and leaves them where they lie, as they are in an instance. It is
//! never part of a component: the linker drops it there.

use crate::rows::{Rows, Stored, Strings, Values};
use crate::{Date, Timestamp};

/// Collects columns in the manifest's order; each cell is a value, or an `Option` where the column is nullable.
///
/// ```
/// use glovebox_sdk::{Date, Rows};
///
/// let rows = Rows::builder()
///     .int64([1, 2])
///     .float64([Some(0.5), None])
///     .date([Date::new(2024, 1, 31), Date::new(2024, 2, 1)])
///     .build();
/// assert_eq!(rows.date(2).value(1).month(), 2);
///
/// // An optional view in which the unit has no rows still has its columns.
/// let none = Rows::builder().int64::<i64>([]).build();
/// assert!(none.is_empty());
/// ```
///
/// # Panics
/// Where two columns differ in length.
#[derive(Clone, Debug, Default)]
#[must_use = "call `build` to get the rows"]
pub struct RowsBuilder(Rows);

impl RowsBuilder {
    /// Adds a column of type `boolean`.
    pub fn boolean<T: Into<Option<bool>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| Values::Boolean(pack(cells.into_iter().map(|cell| cell == Some(true))).leak()))
    }

    /// Adds a column of type `int64`.
    pub fn int64<T: Into<Option<i64>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| Values::Int64(or_default(cells).leak()))
    }

    /// Adds a column of type `float64`.
    pub fn float64<T: Into<Option<f64>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| Values::Float64(or_default(cells).leak()))
    }

    /// Adds a column of type `date`.
    pub fn date<T: Into<Option<Date>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| {
            Values::Date(cells.into_iter().map(|cell| cell.map_or(0, Date::days)).collect::<Vec<_>>().leak())
        })
    }

    /// Adds a column of type `timestamp`.
    pub fn timestamp<T: Into<Option<Timestamp>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| {
            let microseconds = cells.into_iter().map(|cell| cell.map_or(0, Timestamp::microseconds));
            Values::Timestamp(microseconds.collect::<Vec<_>>().leak())
        })
    }

    /// Adds a column of type `utf8`.
    pub fn utf8<'a, T: Into<Option<&'a str>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| Values::Utf8(strings(or_default(cells))))
    }

    /// Adds a column of type `dictionary`; the words are sorted and made distinct, as the host does.
    pub fn dictionary<'a, T: Into<Option<&'a str>>>(self, cells: impl IntoIterator<Item = T>) -> Self {
        self.column(cells, |cells| {
            let mut words: Vec<&str> = cells.iter().flatten().copied().collect();
            words.sort_unstable();
            words.dedup();
            let code = |cell: Option<&str>| cell.and_then(|word| words.binary_search(&word).ok()).unwrap_or(0) as u32;
            let codes: Vec<u32> = cells.into_iter().map(code).collect();
            Values::Dictionary { codes: codes.leak(), words: strings(words) }
        })
    }

    /// The rows.
    pub fn build(self) -> Rows {
        self.0
    }

    #[track_caller]
    fn column<V: Copy, T: Into<Option<V>>>(
        mut self,
        cells: impl IntoIterator<Item = T>,
        values: impl FnOnce(Vec<Option<V>>) -> Values,
    ) -> Self {
        let cells: Vec<Option<V>> = cells.into_iter().map(Into::into).collect();
        let Rows { count, columns } = &mut self.0;
        if columns.is_empty() {
            *count = cells.len();
        }
        assert_eq!(cells.len(), *count, "column {} differs in length from those before it", columns.len());
        let has_nulls = cells.iter().any(Option::is_none);
        let validity = has_nulls.then(|| &*pack(cells.iter().map(Option::is_some)).leak());
        columns.push(Stored { validity, values: values(cells) });
        self
    }
}

/// A null's slot holds a neutral value, as in Arrow.
fn or_default<V: Default>(cells: Vec<Option<V>>) -> Vec<V> {
    cells.into_iter().map(Option::unwrap_or_default).collect()
}

fn pack(bits: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (row, bit) in bits.into_iter().enumerate() {
        if row % 8 == 0 {
            bytes.push(0);
        }
        bytes[row / 8] |= u8::from(bit) << (row % 8);
    }
    bytes
}

fn strings(texts: Vec<&str>) -> Strings {
    let mut offsets = vec![0];
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
        offsets.push(bytes.len() as u32);
    }
    Strings { offsets: offsets.leak(), bytes: bytes.leak() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "column 1 differs in length")]
    fn columns_are_equally_long() {
        let _ = Rows::builder().int64([1, 2]).boolean([true]);
    }

    #[test]
    fn every_type_reads_back_what_was_built() {
        let moment = Timestamp::from_microseconds(5);
        let rows = Rows::builder()
            .boolean([Some(true), None])
            .int64([Some(-1), None])
            .float64([1.5, 2.5])
            .date([None, Some(Date::from_days(3))])
            .timestamp([moment, moment])
            .utf8([Some("grün"), None])
            .dictionary([None, Some("b")])
            .build();
        assert_eq!(rows.boolean(0).iter().collect::<Vec<_>>(), [Some(true), None]);
        assert_eq!(rows.int64(1).iter().collect::<Vec<_>>(), [Some(-1), None]);
        assert_eq!(rows.float64(2).values(), [1.5, 2.5]);
        assert_eq!(rows.date(3).iter().collect::<Vec<_>>(), [None, Some(Date::from_days(3))]);
        assert_eq!(rows.timestamp(4).value(1), moment);
        assert_eq!(rows.utf8(5).iter().collect::<Vec<_>>(), [Some("grün"), None]);
        assert_eq!(rows.dictionary(6).iter().collect::<Vec<_>>(), [None, Some("b")]);
    }
}
