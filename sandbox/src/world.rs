//! What a component exports, as WIT: the same text for the same types, whatever else its bytes hold.
//!
//! The decoder is made for components of its own tools and asserts what those keep. Bytes that an author hands over
//! are screened first, its asserts end in a refusal, and what it prints has a bound.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmparser::{Parser, Payload};
use wit_component::{DecodedWasm, Output, OutputToString, WitPrinter};

use crate::contract::{PACKAGE, WORLDS};
use crate::denial::{Denial, Result};
use crate::screen::{invalid, malformed, screen};
use crate::sha256_hex;

/// The most WIT that a component's world may come to; the contract's own takes about two thousand bytes.
const WIT_BYTES_MAX: usize = 256 << 10;

/// The section from which the decoder takes documentation and stability, as if the types had them.
const CLAIMS_SECTION: &str = "package-docs";

/// What a component exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The contract's name for it; `root` where it is none of the contract's worlds.
    pub name: String,
    /// The package of the contract: `glovebox:question`.
    pub package: String,
    /// The version of that package.
    pub version: String,
    /// The whole world and all types that it uses. A component does not say its world's name, so it is `root` here.
    pub wit: String,
    /// SHA-256 of `wit`, in hex.
    pub sha256: String,
}

/// Reads a component's world. Custom sections change nothing of it.
pub fn world(component: &[u8]) -> Result<World> {
    screen(component)?;
    let bytes = without_claims(component)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes)));
    let (wit, exports) = decoded.unwrap_or_else(|_| Err(invalid("the component exports what WIT cannot say")))?;
    let version = version(&exports)?;
    Ok(World { name: name(&exports), package: PACKAGE.into(), version, sha256: sha256_hex(wit.as_bytes()), wit })
}

/// The printed world, and the names of its exports.
fn decode(bytes: &[u8]) -> Result<(String, Vec<String>)> {
    let decoded = wit_component::decode(bytes).map_err(|error| not_wit(&error))?;
    let DecodedWasm::Component(resolve, world) = &decoded else {
        return Err(invalid("the question is a package of WIT and no component"));
    };
    let main = decoded.package();
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    let mut printer = WitPrinter::new(Bounded::new(WIT_BYTES_MAX));
    printer.emit_docs(false).print(resolve, main, &others).map_err(|error| not_wit(&error))?;
    let wit = printer.output.finish()?;
    let exports = resolve.worlds[*world].exports.keys().map(|key| resolve.name_world_key(key)).collect();
    Ok((wit, exports))
}

/// Renames the sections that would be read as claims about types. In place, so that no length changes.
fn without_claims(component: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = component.to_vec();
    for payload in Parser::new(0).parse_all(component) {
        let Payload::CustomSection(section) = payload.map_err(|error| malformed(&error))? else { continue };
        if section.name() == CLAIMS_SECTION {
            let first = bytes.get_mut(section.data_offset() - CLAIMS_SECTION.len());
            first.into_iter().for_each(|byte| *byte = b'-');
        }
    }
    Ok(bytes)
}

/// The one version of the contract's package among the exports.
fn version(exports: &[String]) -> Result<String> {
    let versions = exports.iter().filter_map(|export| parts(export)).map(|(_, version)| version);
    let mut versions: Vec<&str> = versions.collect();
    versions.dedup();
    match versions[..] {
        [version] => Ok(version.to_owned()),
        [] => Err(invalid(format!("the component exports no interface of {PACKAGE}"))),
        [..] => Err(invalid(format!("the component exports interfaces of several versions of {PACKAGE}"))),
    }
}

/// A world is told by its exports: this interface and no other.
fn name(exports: &[String]) -> String {
    let [export] = exports else { return "root".into() };
    let interface = parts(export).map(|(interface, _)| interface);
    WORLDS.iter().find(|(_, exported)| interface == Some(exported)).map_or("root", |(name, _)| name).into()
}

/// Interface and version of an export of the contract's package.
fn parts(export: &str) -> Option<(&str, &str)> {
    export.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')
}

fn not_wit(error: &anyhow::Error) -> Denial {
    // As in `malformed`: it may quote names from the component, so it is cut and cannot move a terminal's cursor.
    let why: String = format!("{error:#}").escape_debug().take(200).collect();
    invalid(format!("the component has no world: {why}"))
}

/// Keeps what is printed up to a bound: a short component can have very long names, and use each very often.
struct Bounded {
    text: OutputToString,
    bytes_left: usize,
    is_overfull: bool,
}

impl Bounded {
    fn new(bytes_left: usize) -> Self {
        Self { text: OutputToString::default(), bytes_left, is_overfull: false }
    }

    fn finish(self) -> Result<String> {
        if self.is_overfull {
            return Err(invalid(format!("the component's world is longer than {WIT_BYTES_MAX} bytes of WIT")));
        }
        Ok(self.text.into())
    }

    fn take(&mut self, bytes: usize) -> bool {
        self.is_overfull |= bytes > self.bytes_left;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        !self.is_overfull
    }
}

impl Output for Bounded {
    fn push_str(&mut self, text: &str) {
        if self.take(text.len()) {
            self.text.push_str(text);
        }
    }

    fn indent_if_needed(&mut self) -> bool {
        self.text.indent_if_needed()
    }

    fn indent_start(&mut self) {
        self.text.indent_start();
    }

    fn indent_end(&mut self) {
        self.text.indent_end();
    }

    fn newline(&mut self) {
        self.text.newline();
    }
}
