//! What a component imports and exports, for the artifact's configuration. Not a validation: the runtime does that.

use wasmparser::{Parser, Payload};

use crate::error::{Code, Fault, Result};

/// The names at a component's outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    /// What it needs. A question needs nothing.
    pub(crate) imports: Vec<String>,
    /// What it offers.
    pub(crate) exports: Vec<String>,
}

/// Magic, version and layer of a component; that of a core module differs in the last two pairs.
const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Refuses text, core modules, precompiled code and everything else that is not a component in binary form.
pub(crate) fn check_header(bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(&HEADER) { Ok(()) } else { Err(invalid("it does not begin as a component does")) }
}

/// Reads the component's outermost sections.
pub(crate) fn interface(bytes: &[u8]) -> Result<Interface> {
    check_header(bytes)?;
    read(bytes).map_err(|error| invalid(&error.to_string()))
}

fn read(bytes: &[u8]) -> wasmparser::Result<Interface> {
    let mut interface = Interface::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    interface.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    interface.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(interface)
}

fn invalid(why: &str) -> Fault {
    Fault::new(
        Code::ComponentInvalid,
        format!("the question is not a WebAssembly component: {why}"),
        "name the component that the author guide shows how to build",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_names_are_read_and_other_files_refused() {
        let bytes = wat::parse_str(
            r#"(component
                 (component (component $d) (export "inner" (component $d)))
                 (import "dev:host/log" (instance))
                 (core module $m (func (export "f")))
                 (core instance $i (instantiate $m))
                 (func $f (canon lift (core func $i "f")))
                 (export "answer" (func $f)))"#,
        );
        let interface = interface(&bytes.unwrap()).unwrap();
        assert_eq!(interface.imports, ["dev:host/log"]);
        assert_eq!(interface.exports, ["answer"]);
        let module = wat::parse_str("(module)").unwrap();
        for wrong in [b"".as_slice(), b"(component)", b"\x7fELF", &module] {
            assert_eq!(super::interface(wrong).unwrap_err().code(), Code::ComponentInvalid);
        }
    }
}
