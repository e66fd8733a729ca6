//! Looks at a finished component before anyone else does.
//!
//! It refuses whatever is not a component, and every import: a sealed question can reach nothing at all. The runtime's
//! gate checks the same again, on the bytes that it runs.

use anyhow::{Context, Result, bail};
use wasmparser::{Encoding, Parser, Payload};

/// The first eight bytes of a component: magic, version 13, layer 1.
const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Passes a component without imports.
pub(super) fn require_sealed(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(&COMPONENT_HEADER) {
        bail!("the linker wrote no component\nuse the linker wasm-component-ld, which comes with rustup's toolchains");
    }
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("the linker wrote a broken component")? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            // Inner modules import from each other; only the outermost component could import from the host.
            Payload::ComponentImportSection(section) if depth == 1 => {
                let first = section.into_iter().next().context("its import section is empty")??;
                bail!("it imports {:?}\nremove what needs it: a sealed question imports nothing", first.name);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_component_is_sealed() {
        require_sealed(&COMPONENT_HEADER).expect("nothing is imported");
    }

    #[test]
    fn a_core_module_is_refused() {
        let error = require_sealed(b"\0asm\x01\0\0\0").expect_err("a module");
        assert!(error.to_string().starts_with("the linker wrote no component"));
    }

    #[test]
    fn an_import_is_refused() {
        // (component (type (instance)) (import "clock" (instance (type 0))))
        let mut bytes = COMPONENT_HEADER.to_vec();
        bytes.extend(b"\x07\x03\x01\x42\x00");
        bytes.extend(b"\x0a\x0a\x01\x00\x05clock\x05\x00");
        let error = require_sealed(&bytes).expect_err("an import");
        assert!(format!("{error:#}").contains("clock"), "{error:#}");
    }
}
