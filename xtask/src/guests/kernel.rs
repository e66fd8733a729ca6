//! Puts a question's register kernel into its component, as one custom section.
//!
//! What lies in the component is covered by its hash, so by every approval and receipt. Whether it is a kernel is for the
//! runtime to prove.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// As the runtime looks for it.
const SECTION: &str = "glovebox:kernel";

/// How a package says that it is a kernel as well.
const MARK: &str = "[package.metadata.kernel]";

/// Whether a question is to be compiled as a kernel, too.
pub(super) fn is_kernel(root: &Path, name: &str) -> Result<bool> {
    let manifest = root.join("guest-examples").join(name).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("{} cannot be read", manifest.display()))?;
    Ok(text.lines().any(|line| line == MARK))
}

/// Appends the section.
pub(super) fn put(component: &mut Vec<u8>, module: &[u8]) -> Result<()> {
    let name_length = number(SECTION.len())?;
    let content = [&name_length, SECTION.as_bytes(), module].concat();
    component.push(0);
    component.extend(number(content.len())?);
    component.extend(content);
    Ok(())
}

/// A length as WebAssembly writes it: seven bits a byte, the lowest first.
fn number(length: usize) -> Result<Vec<u8>> {
    let mut left = u32::try_from(length).context("a section is too long")?;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use wasmparser::{Parser, Payload};

    use super::*;

    #[test]
    fn a_section_is_read_as_it_was_put() {
        for length in [0, 1, 100, 112, 127, 128, 20_000] {
            let (mut component, module) = (b"\0asm\x0d\0\x01\0".to_vec(), vec![7; length]);
            put(&mut component, &module).expect("short enough");
            let payloads = Parser::new(0).parse_all(&component).map(|payload| payload.expect("a component"));
            let sections: Vec<_> = payloads
                .filter_map(|payload| match payload {
                    Payload::CustomSection(section) => Some((section.name().to_owned(), section.data().to_vec())),
                    _ => None,
                })
                .collect();
            assert_eq!(sections, [(SECTION.to_owned(), module)]);
        }
    }
}
