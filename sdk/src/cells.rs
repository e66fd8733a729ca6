//! Typed, borrowed columns of one unit's rows.
//!
//! A column borrows the memory that the host filled; reading a cell never copies a column and never allocates.
//! Nulls are `None` and never a made-up value.

use crate::fault::fault;
use crate::{Date, Timestamp};

/// The values of a column, without its nulls. Implemented by the column types of the contract.
pub trait Cells: Copy + sealed::Sealed {
    /// What one cell holds.
    type Value;

    /// The cell of a row, whether it is null or not.
    #[doc(hidden)]
    fn cell(self, row: usize) -> Self::Value;
}

mod sealed {
    pub trait Sealed {}
}

/// One column of one unit's rows.
///
/// ```
/// use glovebox_sdk::Rows;
///
/// let rows = Rows::builder().float64([Some(2.5), None, Some(4.0)]).build();
/// let spend = rows.float64(0);
/// assert_eq!(spend.get(0), Some(2.5));
/// assert_eq!(spend.get(1), None);
/// assert_eq!(spend.iter().flatten().sum::<f64>(), 6.5);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Column<'a, C> {
    count: usize,
    pub(crate) validity: Option<&'a [u8]>,
    pub(crate) cells: C,
}

impl<'a, C: Cells> Column<'a, C> {
    pub(crate) fn new(count: usize, validity: Option<&'a [u8]>, cells: C) -> Self {
        Self { count, validity, cells }
    }

    /// How many rows there are, nulls included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the unit has no rows in this view.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value of a row, `None` where it is null.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn get(&self, row: usize) -> Option<C::Value> {
        self.is_present(row).then(|| self.cells.cell(row))
    }

    /// The value of a row of a column that is not nullable.
    ///
    /// # Panics
    /// Where there is no such row, and where it is null.
    pub fn value(&self, row: usize) -> C::Value {
        match self.get(row) {
            Some(value) => value,
            None => fault!("row {row} is null; read it with `get`, or declare the column without `nullable`"),
        }
    }

    /// The rows in the order in which the host gave them, which carries no meaning.
    pub fn iter(&self) -> impl Iterator<Item = Option<C::Value>> + use<'a, C> {
        let column = *self;
        (0..column.count).map(move |row| column.get(row))
    }

    fn is_present(&self, row: usize) -> bool {
        if row >= self.count {
            fault!("there is no row {row}; the column has {}", self.count)
        }
        self.validity.is_none_or(|bits| bit(bits, row))
    }
}

impl<'a, T: Copy> Column<'a, &'a [T]>
where
    &'a [T]: Cells,
{
    /// All numbers at once, for a column that is not nullable.
    ///
    /// ```
    /// # let rows = glovebox_sdk::Rows::builder().int64([7, 8]).build();
    /// assert_eq!(rows.int64(0).values(), [7, 8]);
    /// ```
    ///
    /// # Panics
    /// Where a row is null.
    pub fn values(&self) -> &'a [T] {
        if self.validity.is_some() {
            fault!("some rows are null; read them with `get` or `iter`, or declare the column without `nullable`")
        }
        self.cells
    }
}

impl<T> sealed::Sealed for &[T] {}

impl Cells for &[i64] {
    type Value = i64;

    fn cell(self, row: usize) -> i64 {
        self[row]
    }
}

impl Cells for &[f64] {
    type Value = f64;

    fn cell(self, row: usize) -> f64 {
        self[row]
    }
}

/// Cells of type `boolean`.
#[derive(Clone, Copy, Debug)]
pub struct Booleans<'a>(pub(crate) &'a [u8]);

impl sealed::Sealed for Booleans<'_> {}

impl Cells for Booleans<'_> {
    type Value = bool;

    fn cell(self, row: usize) -> bool {
        bit(self.0, row)
    }
}

/// Cells of type `date`.
#[derive(Clone, Copy, Debug)]
pub struct Dates<'a>(pub(crate) &'a [i32]);

impl sealed::Sealed for Dates<'_> {}

impl Cells for Dates<'_> {
    type Value = Date;

    fn cell(self, row: usize) -> Date {
        Date::from_days(self.0[row])
    }
}

/// Cells of type `timestamp`.
#[derive(Clone, Copy, Debug)]
pub struct Timestamps<'a>(pub(crate) &'a [i64]);

impl sealed::Sealed for Timestamps<'_> {}

impl Cells for Timestamps<'_> {
    type Value = Timestamp;

    fn cell(self, row: usize) -> Timestamp {
        Timestamp::from_microseconds(self.0[row])
    }
}

/// Cells of type `utf8`.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    pub(crate) offsets: &'a [u32],
    pub(crate) bytes: &'a [u8],
}

impl<'a> Texts<'a> {
    fn len(self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn bytes(self, index: usize) -> &'a [u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    fn text(self, index: usize) -> &'a str {
        match str::from_utf8(self.bytes(index)) {
            Ok(text) => text,
            Err(_) => fault!("text {index} is not UTF-8; the host must send only UTF-8"),
        }
    }
}

impl sealed::Sealed for Texts<'_> {}

impl<'a> Cells for Texts<'a> {
    type Value = &'a str;

    fn cell(self, row: usize) -> &'a str {
        self.text(row)
    }
}

/// Cells of type `dictionary`: text as codes into the sorted, distinct words of this unit's rows.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    pub(crate) codes: &'a [u32],
    pub(crate) words: Texts<'a>,
}

impl sealed::Sealed for Words<'_> {}

impl<'a> Cells for Words<'a> {
    type Value = &'a str;

    fn cell(self, row: usize) -> &'a str {
        self.words.text(self.codes[row] as usize)
    }
}

/// Comparing codes is cheaper than comparing words: look a word up once, then compare numbers.
///
/// ```
/// use glovebox_sdk::Rows;
///
/// let rows = Rows::builder().dictionary([Some("SOUP"), Some("CHEESE"), None, Some("SOUP")]).build();
/// let category = rows.dictionary(0);
/// assert_eq!(category.words().collect::<Vec<_>>(), ["CHEESE", "SOUP"]);
///
/// let soup = category.code_of("SOUP");
/// assert_eq!(category.codes().filter(|code| code.is_some() && *code == soup).count(), 2);
/// assert_eq!(category.code_of("BREAD"), None);
/// ```
impl<'a> Column<'a, Words<'a>> {
    /// The distinct words of this unit's rows, sorted; code `i` stands for word `i`.
    pub fn words(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let words = self.cells.words;
        (0..words.len()).map(move |index| words.text(index))
    }

    /// The code of a word, `None` where no row of this unit holds it.
    pub fn code_of(&self, word: &str) -> Option<u32> {
        let words = self.cells.words;
        (0..words.len()).find(|index| words.bytes(*index) == word.as_bytes()).map(|index| index as u32)
    }

    /// The code of every row, `None` where it is null.
    pub fn codes(&self) -> impl Iterator<Item = Option<u32>> + use<'a> {
        let column = *self;
        (0..column.count).map(move |row| column.is_present(row).then(|| column.cells.codes[row]))
    }
}

/// Arrow's bit order: least significant first.
fn bit(bits: &[u8], row: usize) -> bool {
    bits[row / 8] >> (row % 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use crate::Rows;

    #[test]
    fn nulls_are_none_across_byte_borders() {
        let cells: Vec<Option<i64>> = (0..20).map(|row| (row % 3 != 0).then_some(row)).collect();
        let rows = Rows::builder().int64(cells.clone()).build();
        assert_eq!(rows.int64(0).iter().collect::<Vec<_>>(), cells);
    }

    #[test]
    #[should_panic(expected = "row 1 is null")]
    fn value_refuses_a_null() {
        let rows = Rows::builder().boolean([Some(true), None]).build();
        assert!(rows.boolean(0).value(0));
        rows.boolean(0).value(1);
    }

    #[test]
    #[should_panic(expected = "some rows are null")]
    fn values_refuses_a_column_with_nulls() {
        let rows = Rows::builder().int64([Some(1), None]).build();
        rows.int64(0).values();
    }

    #[test]
    #[should_panic(expected = "there is no row 2; the column has 2")]
    fn rows_end() {
        let rows = Rows::builder().utf8(["a", "b"]).build();
        rows.utf8(0).get(2);
    }
}
