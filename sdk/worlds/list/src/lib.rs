//! The bindings that wit-bindgen generates for the `list-question` world, and nothing else.
//!
//! A crate of its own, because two worlds that export the same interface clash when they are generated in one crate.
//! Authors never see it: `glovebox-sdk` wraps it.
#![allow(missing_docs, missing_debug_implementations, reason = "generated; documented where glovebox-sdk wraps it")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "list-question",
    pub_export_macro: true,
    export_macro_name: "export",
});

pub use exports::glovebox::question::selection::Guest;
