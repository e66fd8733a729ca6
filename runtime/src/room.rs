//! The agreed terms: what a question asks for, what a room offers, and what the parties sign.
//!
//! Everything here is parsed once and immutable after. Unknown fields are refused: one might be a restriction.

mod agreement;
mod controls;
mod manifest;
mod terms;
mod unit_rule;

pub(crate) use glovebox_sandbox::{ColumnType, Kind, Limits, Value};
pub(crate) use glovebox_trust::{is_id, sha256_hex};

pub(crate) use agreement::{
    Agreement, BoundParameter, BoundView, Budget, FileDigest, LogPin, RegistryPin, Runtime, World,
};
pub(crate) use controls::{Adjacency, Controls, Mode, NoiseChoice};
pub use controls::{Delta, Epsilon};
#[cfg(test)]
pub(crate) use manifest::MEASURES_MAX;
pub(crate) use manifest::{Column, Group, Join, Manifest, Measure, Parameter, Reducer, Slot, Top};
pub(crate) use terms::{Delivery, Destination, Format, Mapping, Place, Room, Source, View};
pub(crate) use unit_rule::UnitRule;

/// A path inside the room: relative, and with plain names only.
pub(crate) fn is_inner_path(text: &str) -> bool {
    !text.is_empty()
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\\'))
}

/// Begins to digest the program, which takes longer than all else that a short run does: who asks later finds it done.
pub(crate) fn begin_build_sha256() {
    std::thread::spawn(build_sha256);
}

/// Which build of the program runs, without a look at all of it: another one is another file, or has another time.
pub(crate) fn build_stamp() -> String {
    use std::os::unix::fs::MetadataExt;
    let stamp = |file: std::fs::Metadata| format!("{} {} {} {}", file.dev(), file.ino(), file.len(), file.mtime_nsec());
    std::fs::metadata("/proc/self/exe").map_or_else(|_| String::new(), stamp)
}

/// SHA-256 of the program that runs.
pub(crate) fn build_sha256() -> String {
    static BUILD: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let digest = || std::fs::read("/proc/self/exe").map_or_else(|_| String::new(), |bytes| sha256_hex(&bytes));
    BUILD.get_or_init(digest).clone()
}
