//! Decides whether finished components are still those of the present tree.
//!
//! A stamp beside them holds a digest over everything that a build reads, and the digest of everything it wrote.
//! Any doubt (no stamp, a file changed by hand) means building again; time stamps are never trusted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::toolchain::Toolchain;

/// What a build reads from the checkout. The root's manifest is where the SDK inherits its versions from.
const READ: [&str; 3] = ["Cargo.toml", "guest-examples", "sdk"];

pub(super) struct Stamp(String);

impl Stamp {
    pub(super) fn read(out: &Path) -> Option<Self> {
        fs::read_to_string(file(out)).ok().map(Self)
    }

    pub(super) fn remove(out: &Path) -> Result<()> {
        match fs::remove_file(file(out)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("the old stamp stays"),
            _ => Ok(()),
        }
    }

    pub(super) fn write(out: &Path, inputs: &str, names: &[String]) -> Result<()> {
        let text = text(out, inputs, names).context("a finished question is gone")?;
        super::replace(&file(out), text.as_bytes())
    }

    /// Whether the same inputs were built, and everything built lies there untouched.
    pub(super) fn holds(&self, inputs: &str, out: &Path, names: &[String]) -> bool {
        text(out, inputs, names).is_ok_and(|present| present == self.0)
    }
}

fn file(out: &Path) -> PathBuf {
    out.join("guests.stamp")
}

fn text(out: &Path, inputs: &str, names: &[String]) -> Result<String> {
    let mut text = format!("inputs {inputs}\n");
    for name in names {
        for extension in ["wasm", "toml"] {
            let bytes = fs::read(out.join(format!("{name}.{extension}")))?;
            text += &format!("{name}.{extension} {}\n", sha256_hex(&bytes));
        }
    }
    Ok(text)
}

/// A digest over the sources, the lock file, the toolchain and its flags.
pub(super) fn digest_of_inputs(root: &Path, toolchain: &Toolchain, flags: &[String]) -> Result<String> {
    let mut digest = Sha256::new();
    for name in READ {
        add_tree(&mut digest, root, Path::new(name))?;
    }
    add(&mut digest, toolchain.identity()?.as_bytes());
    for flag in flags {
        add(&mut digest, flag.as_bytes());
    }
    Ok(HEXLOWER.encode(&digest.finalize()))
}

fn add_tree(digest: &mut Sha256, root: &Path, path: &Path) -> Result<()> {
    let full = root.join(path);
    let unreadable = || format!("{} cannot be read", full.display());
    if full.is_file() {
        add(digest, path.as_os_str().as_encoded_bytes());
        add(digest, &fs::read(&full).with_context(unreadable)?);
        return Ok(());
    }
    let mut names = fs::read_dir(&full)
        .with_context(unreadable)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort_unstable();
    for name in names.into_iter().filter(|name| name != "target") {
        add_tree(digest, root, &path.join(name))?;
    }
    Ok(())
}

/// Adds a part with its length, so that no two lists of parts look the same.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_until_anything_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path();
        let names = ["q".to_owned()];
        fs::write(out.join("q.wasm"), "component").expect("write");
        fs::write(out.join("q.toml"), "manifest").expect("write");
        assert!(Stamp::read(out).is_none());

        Stamp::write(out, "inputs", &names).expect("write");
        let stamp = Stamp::read(out).expect("written");
        assert!(stamp.holds("inputs", out, &names));
        assert!(!stamp.holds("other inputs", out, &names));
        assert!(!stamp.holds("inputs", out, &[]));
        fs::write(out.join("q.wasm"), "Component").expect("write");
        assert!(!stamp.holds("inputs", out, &names));
    }
}
