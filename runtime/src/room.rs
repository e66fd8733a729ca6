//! The agreed terms: what a question asks for, what a room offers, and what the parties sign.
//!
//! Everything here is parsed once and immutable after. Unknown fields are refused: one might be a restriction.

mod agreement;
mod controls;
mod manifest;
mod terms;

pub(crate) use agreement::{
    Agreement, BoundParameter, BoundView, FileDigest, Limits, Runtime, Terms, Validity, sha256_hex,
};
pub(crate) use controls::Controls;
pub use controls::{Delta, Epsilon};
#[cfg(test)]
pub(crate) use manifest::MEASURES_MAX;
pub(crate) use manifest::{Column, ColumnType, Group, Join, Kind, Manifest, Measure, Parameter, Reducer, Slot, Value};
#[cfg(test)]
pub(crate) use terms::Source;
pub(crate) use terms::{Destination, Format, Room, View};

/// An id of a room, party, person, view or run: `[a-z0-9._-]`, 1 to 64 characters, so that no two look alike.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && !text.starts_with('.')
}

/// A path inside the room: relative, and with plain names only.
pub(crate) fn is_inner_path(text: &str) -> bool {
    !text.is_empty()
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\\'))
}
