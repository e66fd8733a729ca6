//! This host's own secret: it names units in the host's history and at destinations, and never leaves the state folder.

use std::fmt;

use cap_std::fs::Dir;
use hmac::digest::CtOutput;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::contributors::Digester;
use super::keyed::Keyed;
use super::pseudonym::{DestinationKey, RoomKey};
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::random::Random;

const FILE: &str = "host.key";

/// The host's secret.
#[derive(Clone)]
pub(crate) struct HostKey([u8; 32]);

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey(..)")
    }
}

impl HostKey {
    /// Draws the secret of a new host. Where there is one, it stays: another one would make every history useless.
    pub(crate) fn create(state: &Dir) -> Result<()> {
        if state.exists(FILE) {
            return Ok(());
        }
        let key: [u8; 32] = Random::from_os()?.bytes();
        files::write(state, FILE, &key, Existing::Refuse).map_err(|error| unusable(&error.to_string()))
    }

    pub(crate) fn open(state: &Dir) -> Result<Self> {
        let bytes = files::read(state, FILE, 32).map_err(|error| unusable(&error.to_string()))?;
        bytes.try_into().map(Self).map_err(|_| unusable("it has not 32 bytes"))
    }

    /// For runs that leave no history: replays and measurements.
    pub(crate) const fn none() -> Self {
        Self([0; 32])
    }

    pub(crate) fn destination(&self, room: &str, destination: &str) -> DestinationKey {
        DestinationKey::new(&self.0, room, destination)
    }

    pub(crate) fn room(&self, room: &str) -> RoomKey {
        RoomKey::new(&self.0, room)
    }

    /// A keyed hash of something that this host keeps for itself, and of its name.
    pub(crate) fn tag(&self, name: &str, bytes: &[u8]) -> CtOutput<Hmac<Sha256>> {
        let key = Keyed::derive(&self.0, "glovebox compiled question v1", [name]);
        let mut mac = super::keyed::new(&key);
        mac.update(bytes);
        mac.finalize()
    }

    /// By which hosts of one ledger find that they have the same secret.
    pub(super) fn fingerprint(&self) -> String {
        data_encoding::HEXLOWER.encode(&Keyed::derive(&self.0, "glovebox hosts of one ledger v1", []))
    }

    pub(super) fn digester(&self) -> Digester {
        Digester::new(&self.0)
    }
}

fn unusable(why: &str) -> Fault {
    Fault::new(
        Code::StateMissing,
        format!("{FILE} of this host's state cannot be used: {why}"),
        "restore the host's state folder; a host gets its key when it trusts its first room",
    )
}
