//! Reads a unit out of the words in which the host tells it: `question.wit` says what they are.
//!
//! No list is copied: parameters and rows borrow from the words, which lie in the instance for as long as it lives.

use std::borrow::Cow;

use bytemuck::Pod;

use crate::fault::fault;
use crate::parameters::{Parameter, Parameters};
use crate::rows::{Rows, Stored, Strings, Values, Views};

/// The parameters and the rows of a unit.
pub(crate) fn read(words: &'static [u64]) -> (Parameters, Views) {
    let mut words = Words(words);
    let parameters = words.many(Words::parameter);
    (Parameters(parameters), Views(words.many(Words::slot)))
}

/// What is left to read. Words that are not of the contract are the host's fault, and none is made up.
struct Words(&'static [u64]);

impl Words {
    /// A number, and so many of what follows.
    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| one(self)).collect()
    }

    fn parameter(&mut self) -> Parameter {
        match self.word() {
            1 => Parameter::Boolean(self.word() != 0),
            2 => Parameter::Int64(self.word().cast_signed()),
            3 => Parameter::Float64(f64::from_bits(self.word())),
            6 => Parameter::Utf8(Cow::Borrowed(self.text())),
            tag => fault!("a parameter is of type {tag}, which this SDK does not know"),
        }
    }

    fn slot(&mut self) -> Rows {
        let count = self.number();
        Rows { count, columns: self.many(Self::column) }
    }

    fn column(&mut self) -> Stored {
        let kind = self.word();
        let validity: &[u8] = self.list();
        let values = match kind {
            1 => Values::Boolean(self.list()),
            2 => Values::Int64(self.list()),
            3 => Values::Float64(self.list()),
            4 => Values::Date(self.list()),
            5 => Values::Timestamp(self.list()),
            6 => Values::Utf8(self.strings()),
            7 => Values::Dictionary { codes: self.list(), words: self.strings() },
            kind => fault!("a column is of type {kind}, which this SDK does not know"),
        };
        Stored { validity: (!validity.is_empty()).then_some(validity), values }
    }

    fn strings(&mut self) -> Strings {
        Strings { offsets: self.list(), bytes: self.list() }
    }

    fn text(&mut self) -> &'static str {
        match str::from_utf8(self.list()) {
            Ok(text) => text,
            Err(_) => fault!("a parameter is not UTF-8; the host must send only UTF-8"),
        }
    }

    fn list<T: Pod>(&mut self) -> &'static [T] {
        let count = self.number();
        let words = count.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(size_of::<u64>()));
        match words.and_then(|words| self.0.split_at_checked(words)) {
            Some((items, rest)) => {
                self.0 = rest;
                &bytemuck::cast_slice(items)[..count]
            }
            None => fault!("a list of a unit has {count} items, more than there are"),
        }
    }

    fn number(&mut self) -> usize {
        match usize::try_from(self.word()) {
            Ok(number) => number,
            Err(_) => fault!("a list of a unit is longer than memory"),
        }
    }

    fn word(&mut self) -> u64 {
        match self.0.split_first() {
            Some((word, rest)) => {
                self.0 = rest;
                *word
            }
            None => fault!("a unit ends before its last list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Date, Timestamp};

    fn read(words: &[u64]) -> (Parameters, Views) {
        super::read(words.to_vec().leak())
    }

    fn word(bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    /// Each type as `question.wit` has it, with a null in the second row of every column but the first.
    #[test]
    fn every_type_is_read() {
        let parameters = [5, 1, 1, 2, u64::MAX, 3, 0.5_f64.to_bits(), 6, 3, word(b"SKI"), 6, 0];
        let numbers = [1, 0, 1, 0b01, 2, 1, 0b01, 2, 7, 0, 3, 1, 0b01, 2, 1.5_f64.to_bits(), 0];
        let times = [4, 1, 0b01, 2, 3, 5, 1, 0b01, 2, 9, 0];
        let texts = [6, 1, 0b01, 3, 2 << 32, 2, 2, word(b"ab")];
        let dictionary = [7, 1, 0b01, 2, 0, 2, 1 << 32, 1, word(b"c")];
        let slots = [&[2, 2, 7][..], &numbers, &times, &texts, &dictionary, &[0, 0]].concat();
        let (parameters, views) = read(&[&parameters[..], &slots].concat());
        assert_eq!(parameters, Parameters::from([true.into(), (-1).into(), 0.5.into(), "SKI".into(), "".into()]));
        let [rows, none] = views.slots();
        assert_eq!((rows.len(), none.len()), (2, 0));
        assert_eq!(rows.boolean(0).iter().collect::<Vec<_>>(), [Some(true), Some(false)]);
        let built = Rows::builder()
            .boolean([true, false])
            .int64([Some(7), None])
            .float64([Some(1.5), None])
            .date([Some(Date::from_days(3)), None])
            .timestamp([Some(Timestamp::from_microseconds(9)), None])
            .utf8([Some("ab"), None])
            .dictionary([Some("c"), None])
            .build();
        assert_eq!(*rows, built);
    }

    #[test]
    #[should_panic(expected = "a unit ends before its last list")]
    fn a_unit_that_is_cut_off_is_not_read() {
        read(&[0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "has 9 items, more than there are")]
    fn a_list_ends_with_its_unit() {
        read(&[0, 1, 9, 1, 1, 9, 0]);
    }

    #[test]
    #[should_panic(expected = "a column is of type 8")]
    fn a_type_that_is_none_is_named() {
        read(&[0, 1, 0, 1, 8, 0, 0]);
    }
}
