//! The room's key registry: every version from the first on, each signed by the quorum of the one before and its own.

use cap_std::fs::Dir;
use glovebox_trust::registry::{Registry, Signed};

use super::{SIGNATURE_SUFFIX, TEXT_BYTES_MAX, list_files, read};
use crate::error::{Code, Fault, Result};
use crate::journal::Facts;
use crate::room::RegistryPin;

pub(crate) const REGISTRY_FOLDER: &str = "registry";
pub(crate) const REGISTRY_FILE: &str = "registry.json";
const SIGNATURES_MAX: usize = 256;

/// The registry's versions, all of them verified, from the first to the latest.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    first: RegistryPin,
    pins: Vec<RegistryPin>,
    current: Registry,
    /// Why the version after the latest does not count yet, where there is one.
    pending: Option<Fault>,
}

/// The folder of a version.
pub(crate) fn folder_of(version: u64) -> String {
    format!("{REGISTRY_FOLDER}/{version}")
}

impl Chain {
    /// Reads and verifies the chain of a room, as far as it is signed.
    pub(crate) fn read(dir: &Dir, room: &str) -> Result<Self> {
        Self::read_until(dir, room, u64::MAX)
    }

    /// Reads and verifies the chain of whatever room it is of.
    pub(crate) fn read_any(dir: &Dir) -> Result<Self> {
        let (document, _) = read_version(dir, 1)?;
        let first = Registry::parse(&document).map_err(|denial| {
            Fault::of(
                "the registry",
                &denial,
                "bring back the folder `registry` with all of its versions and signatures",
            )
        })?;
        Self::read(dir, first.room())
    }

    /// The chain as it was when a version was its latest.
    pub(crate) fn read_until(dir: &Dir, room: &str, last: u64) -> Result<Self> {
        let unsigned = |denial: &glovebox_trust::Denial| {
            Fault::of("the registry", denial, "let the parties sign it with `glovebox registry sign`")
        };
        let (document, envelopes) = read_version(dir, 1)?;
        let signed = Signed { document: &document, envelopes: &envelopes };
        let current = Registry::first(&signed, room).map_err(|denial| unsigned(&denial))?;
        let mut chain = Self { first: pin_of(&current), pins: vec![pin_of(&current)], current, pending: None };
        while chain.current.version() < last && has_version(dir, chain.current.version() + 1) {
            let (document, envelopes) = read_version(dir, chain.current.version() + 1)?;
            match chain.current.next(&Signed { document: &document, envelopes: &envelopes }) {
                Ok(next) => {
                    chain.pins.push(pin_of(&next));
                    chain.current = next;
                }
                Err(denial) => {
                    chain.pending = Some(unsigned(&denial));
                    break;
                }
            }
        }
        Ok(chain)
    }

    /// The latest version.
    pub(crate) const fn current(&self) -> &Registry {
        &self.current
    }

    /// The digest of the first version, by which the parties know their room.
    pub(crate) fn first_sha256(&self) -> &str {
        &self.first.sha256
    }

    /// Version and digest of the latest.
    pub(crate) fn pin(&self) -> RegistryPin {
        pin_of(&self.current)
    }

    /// Why the version after the latest does not count yet.
    pub(crate) const fn pending(&self) -> Option<&Fault> {
        self.pending.as_ref()
    }

    /// Whether that version is one of this chain.
    pub(crate) fn contains(&self, pin: &RegistryPin) -> bool {
        self.pins.contains(pin)
    }

    /// Refuses a chain that is older than the one used before, or another one.
    pub(super) fn check(&self, facts: &Facts) -> Result<()> {
        match facts.registry().filter(|seen| !self.contains(seen)) {
            None => Ok(()),
            Some(seen) => Err(Fault::new(
                Code::RegistryRollback,
                format!("version {} of the registry was used before, and is not in the room's chain", seen.version),
                "bring back the folder `registry` with all of its versions and signatures",
            )),
        }
    }
}

fn pin_of(registry: &Registry) -> RegistryPin {
    RegistryPin { version: registry.version(), sha256: registry.sha256().into() }
}

/// A folder alone is no version: whoever began to draft it may have been killed.
fn has_version(dir: &Dir, version: u64) -> bool {
    dir.exists(format!("{}/{REGISTRY_FILE}", folder_of(version)))
}

/// A version's file and the signatures beside it.
pub(crate) fn read_version(dir: &Dir, version: u64) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let folder = folder_of(version);
    let document = read(dir, &format!("{folder}/{REGISTRY_FILE}"), TEXT_BYTES_MAX, Code::RegistryInvalid)?;
    let names = list_files(dir, &folder, SIGNATURE_SUFFIX, SIGNATURES_MAX, Code::RegistryInvalid)?;
    let envelopes =
        names.iter().map(|name| read(dir, &format!("{folder}/{name}"), TEXT_BYTES_MAX, Code::RegistryInvalid));
    Ok((document, envelopes.collect::<Result<_>>()?))
}
