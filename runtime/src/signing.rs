//! What people do with their keys: join the registry, sign its versions, approve agreements, withdraw.
//!
//! A private key lies in a PKCS#8 PEM file, or stays in an ssh-agent. Nothing here decides what a signature is worth:
//! that is the gate's.

mod agent;
mod approve;
mod enroll;
mod foreign;
mod keys;
mod revoke;

use cap_std::fs::Dir;

use crate::error::{Code, Fault, Result};
use crate::files;

pub use agent::{AgentKey, identities};
pub use approve::{Approved, approve};
pub use enroll::{
    Change, Draft, Enrolled, Holder, PublicKeyFile, RegistryStatus, add_key, change_key, new_key, registry_status,
    renew_registry, set_auditor, set_quorum, set_witnesses, sign_registry,
};
pub(crate) use foreign::{SSH_NAMESPACE, foreign_folder, link_name, step_name};
pub use keys::load_key;
pub(crate) use keys::split;
pub use revoke::{LIST_DAYS, Revoked, Withdrawal, revoke};

const LOCK_FILE: &str = "registry/lock";

/// One command at a time: each reads what stands, and writes what follows from it. Of two at once, one would be lost.
pub(crate) fn lock(dir: &Dir) -> Result<std::fs::File> {
    let locked = files::open_lock(dir, LOCK_FILE).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| {
        let fact = format!("cannot lock {LOCK_FILE}: {error}");
        Fault::new(Code::RegistryInvalid, fact, "make the room's folder writable")
    })
}
