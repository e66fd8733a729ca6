//! Questions, agreements and approvals in OCI registries.
//!
//! A question is one manifest in the form that the CNCF's Wasm working group describes: a configuration that names
//! imports and exports, and the component as its only layer. `question.toml` is an annotation of that manifest, so
//! that one digest stands for both; as a referrer it could be left out or exchanged by whoever runs the registry.
//! Agreements and approvals come later and from other people: they are referrers, whose subject is the manifest.

mod form;
mod pull;
mod push;
mod reference;
mod referrers;
mod registry;

pub(crate) use pull::{Expected, Pull, Pulled, pull};
pub(crate) use push::{Push, Pushed, push};
pub(crate) use reference::{parse_pinned, parse_repository};
