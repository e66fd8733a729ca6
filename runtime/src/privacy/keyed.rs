//! Keyed hashes of unit keys: HMAC-SHA256 (RFC 2104), under keys that are derived from a master key: the host's, or a run's.
//!
//! A derived key depends on a purpose and on names, each with its length in front, so that no two lists of names read the
//! same. A unit key is hashed with its type in front, so that no number reads like a text.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::provision::UnitKey;

/// A key for one purpose. Copies are cheap: the first block is hashed already.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

/// A key that is derived for one purpose.
pub(super) type DerivedKey = [u8; 32];

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed(..)")
    }
}

impl Keyed {
    pub(super) fn new(key: &DerivedKey) -> Self {
        Self(new(key))
    }

    pub(super) fn derive<'a>(
        master: &[u8; 32],
        purpose: &'a str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> DerivedKey {
        let mut mac = new(master);
        for name in std::iter::once(purpose).chain(names) {
            mac.update(&(name.len() as u64).to_be_bytes());
            mac.update(name.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn hash(&self, key: &UnitKey) -> [u8; 32] {
        let mut mac = self.0.clone();
        match key {
            UnitKey::Int64(key) => {
                mac.update(b"i");
                mac.update(&key.to_be_bytes());
            }
            UnitKey::Utf8(key) => {
                mac.update(b"t");
                mac.update(key.as_bytes());
            }
        }
        mac.finalize().into_bytes().into()
    }
}

/// A key shorter than a block is filled up with zeros by definition; given as a block, it cannot be of a wrong length.
pub(super) fn new(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}
