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
