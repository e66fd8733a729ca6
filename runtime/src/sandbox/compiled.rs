//! Compiled questions, kept between runs in the folder of this host's state.
//!
//! What is kept is machine code, so nothing but this host's own is ever loaded: each file ends in a keyed hash of its name
//! and its bytes, under a key that only this host has. The name is a hash of all that the code depends on. Loading happens
//! behind a worker's walls all the same.

use cap_std::fs::Dir;
use glovebox_sandbox::{Program, Wall, compile};
use hmac::digest::CtOutput;

use super::{WASMTIME_VERSION, isa, profile_sha256};
use crate::error::Result;
use crate::files::{self, Existing};
use crate::privacy::HostKey;
use crate::room::{Limits, build_stamp, sha256_hex};

const FOLDER: &str = "compiled";
const ENDING: &str = ".code";
/// What is longer is compiled each time; so all of them take no more than a gigabyte.
const CODE_BYTES_MAX: u64 = 16 << 20;
/// Questions that a host keeps; which go first makes no difference but time.
const KEPT_MAX: usize = 64;

/// Where compiled questions are kept, if they are.
#[derive(Debug)]
pub(crate) struct Compiled(Option<(Dir, HostKey)>);

impl Compiled {
    /// Those of this host.
    pub(crate) fn of(state: Dir, host: HostKey) -> Self {
        Self(Some((state, host)))
    }

    /// None: everything is compiled anew.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Gives `load` the compiled component.
    pub(crate) fn with(
        &self,
        program: &Program,
        component: &[u8],
        limits: &Limits,
        may_lack: &[Wall],
        load: impl FnOnce(&[u8]) -> Result<(), glovebox_sandbox::Denial>,
    ) -> Result<()> {
        let name = name(component, limits);
        if let Some(code) = self.read(&name) {
            // What an engine does not load is of another one that says the same of itself; next time it is made anew.
            return Ok(load(&code).inspect_err(|_| self.forget(&name))?);
        }
        let code = compile(program, component, limits, may_lack)?;
        load(&code)?;
        self.keep(&name, &code);
        Ok(())
    }

    /// Nothing, where it is not there, not whole, or not this host's.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let (state, host) = self.0.as_ref()?;
        let mut bytes = files::read(state, &path(name), CODE_BYTES_MAX).ok()?;
        let tag: [u8; 32] = bytes.split_off(bytes.len().checked_sub(32)?).try_into().ok()?;
        // Outputs compare in constant time.
        (CtOutput::<hmac::Hmac<sha2::Sha256>>::new(tag.into()) == host.tag(name, &bytes)).then_some(bytes)
    }

    /// To be kept is a convenience: where it fails, the next run takes longer.
    fn keep(&self, name: &str, code: &[u8]) {
        let Some((state, host)) = &self.0 else { return };
        if code.len() as u64 + 32 > CODE_BYTES_MAX {
            return;
        }
        for surplus in files::list(state, FOLDER, ENDING).unwrap_or_default().iter().skip(KEPT_MAX - 1) {
            let _ = state.remove_file(format!("{FOLDER}/{surplus}"));
        }
        let tagged = [code, host.tag(name, code).into_bytes().as_slice()].concat();
        if let Err(error) = files::write(state, &path(name), &tagged, Existing::Replace) {
            tracing::warn!("a compiled question is not kept: {error}");
        }
    }

    fn forget(&self, name: &str) {
        if let Some((state, _)) = &self.0 {
            let _ = state.remove_file(path(name));
        }
    }
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}{ENDING}")
}

/// All that the code depends on: this program with its engine and profile, the processor, the component, and what the
/// agreement sets of the profile.
fn name(component: &[u8], limits: &Limits) -> String {
    let engine = [build_stamp(), WASMTIME_VERSION.into(), profile_sha256(), isa()];
    let parts = [engine.as_slice(), &[sha256_hex(component), format!("{limits:?}")]].concat();
    sha256_hex(parts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(folder: &tempfile::TempDir) -> Compiled {
        let state = files::open_dir(folder.path()).unwrap();
        HostKey::create(&state).unwrap();
        let host = HostKey::open(&state).unwrap();
        Compiled::of(state, host)
    }

    #[test]
    fn only_whole_code_of_this_host_is_read() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = compiled(&ours);
        kept.keep("a", b"code");
        assert_eq!(kept.read("a").as_deref(), Some(b"code".as_slice()));
        assert!(kept.read("b").is_none());
        let file = |folder: &tempfile::TempDir, name: &str| folder.path().join(path(name));
        let bytes = std::fs::read(file(&ours, "a")).unwrap();

        std::fs::write(file(&ours, "b"), &bytes).unwrap();
        assert!(kept.read("b").is_none(), "under another name");
        compiled(&theirs).keep("a", b"code");
        std::fs::copy(file(&theirs, "a"), file(&ours, "b")).unwrap();
        std::fs::rename(file(&ours, "b"), file(&ours, "a")).unwrap();
        assert!(kept.read("a").is_none(), "of another host");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(file(&ours, "a"), &changed).unwrap();
            assert!(kept.read("a").is_none(), "byte {at}");
            std::fs::write(file(&ours, "a"), &bytes[..at]).unwrap();
            assert!(kept.read("a").is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_host_keeps_so_many_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let kept = compiled(&folder);
        (0..KEPT_MAX + 5).for_each(|at| kept.keep(&format!("{at:03}"), b"code"));
        assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), KEPT_MAX);
    }

    #[test]
    fn other_code_and_other_limits_have_other_names() {
        let limits = Limits::default();
        let more = Limits { memory_bytes_per_unit: 32 << 20, ..limits.clone() };
        assert_ne!(name(b"a", &limits), name(b"b", &limits));
        assert_ne!(name(b"a", &limits), name(b"a", &more));
    }
}
