//! Looks at a component's bytes before any compiler does.
//!
//! Compiling is not metered, and a compiler is more code than a validator: what is not a question, or too much of one, is
//! refused here, by its bytes alone.

pub(crate) mod bounds;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::denial::{Denial, Reason, Result};

/// What WebAssembly may be used: what compilers emit today and the engine meters exactly. Everything else is refused.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::COMPONENT_MODEL);

/// Refuses bytes that are not a component, that import anything, or that have more of something than is accepted.
pub fn screen(bytes: &[u8]) -> Result<()> {
    bounds::within(bounds::BYTES, bytes.len())?;
    if !Parser::is_component(bytes) {
        return Err(invalid(format!("the question is {}", what_else(bytes))));
    }
    refuse_imports_and_cuts(bytes)?;
    bounds::require(bytes)?;
    Validator::new_with_features(FEATURES).validate_all(bytes).map_err(|error| malformed(&error))?;
    Ok(())
}

/// What bytes are that are no component. Compiled code is an ELF file, and would run as it is: it is never taken.
fn what_else(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty",
        bytes if bytes.starts_with(b"\x7fELF") => "compiled already, or a program",
        bytes if bytes.trim_ascii_start().starts_with(b"(") => "WebAssembly text",
        bytes if Parser::is_core_wasm(bytes) => "a core module",
        _ => "no WebAssembly at all",
    }
}

/// Only the outermost component's imports come from the host; those of nested ones are satisfied inside.
fn refuse_imports_and_cuts(bytes: &[u8]) -> Result<()> {
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            // The parser leaves it to its caller whether what a component holds ends where it says.
            Payload::ModuleSection { unchecked_range: range, .. }
            | Payload::ComponentSection { unchecked_range: range, .. }
                if range.end > bytes.len() =>
            {
                return Err(invalid("the component ends within what it holds"));
            }
            Payload::ComponentImportSection(imports) if depth == 1 => {
                if let Some(import) = imports.into_iter().next() {
                    let name = import.map_err(|error| malformed(&error))?.name.name.escape_debug().to_string();
                    return Err(Denial::new(
                        Reason::ComponentImports,
                        format!("the component imports `{}`", name.chars().take(80).collect::<String>()),
                        "build the question for wasm32-unknown-unknown with the SDK alone, without WASI",
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn malformed(error: &wasmparser::BinaryReaderError) -> Denial {
    // The message may quote names from the component; it is about code that its author hands over, not about data. It is
    // cut and cannot move a terminal's cursor.
    let why: String = error.message().escape_debug().take(200).collect();
    invalid(format!("the component is malformed or uses a feature that is not accepted: {why}"))
}

pub(crate) fn invalid(fact: impl Into<String>) -> Denial {
    Denial::new(
        Reason::ComponentInvalid,
        fact,
        "build the question as a component with the SDK; see docs/author-guide.md",
    )
}
