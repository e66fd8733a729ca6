//! Glovebox runs signed questions over partner data, one privacy unit at a time.
//!
//! The data path, in the order of the modules:
//!
//! 1. [`gate`]: bytes and terms, checked against the approvals of every affected party
//! 2. [`provision`]: the agreed views, opened, projected and joined by unit
//! 3. [`sandbox`]: the question, asked about one unit at a time, under limits
//! 4. [`privacy`]: budget, threshold and noise; what passes may leave
//! 5. [`destination`]: the result, written whole or not at all
//! 6. [`receipt`]: a signed record of what happened
//!
//! [`run()`] is that path on one page. Beside it stand the agreed terms ([`room`]), what people sign ([`signing`]), the
//! room's log ([`journal`]) and the only two sources of non-determinism ([`Clock`], [`Random`]). Formats and rules of
//! signatures, registries and logs are a crate of their own, `glovebox-trust`; so is what runs questions,
//! `glovebox-sandbox`.

mod run;

mod destination;
mod gate;
mod principal;
mod privacy;
mod provision;
mod receipt;
mod sandbox;
mod session;
mod shards;

mod agree;
mod audit;
#[doc(hidden)]
pub mod bench;
mod clock;
mod deliver;
mod error;
mod explain;
mod export;
mod files;
mod identify;
mod journal;
mod parse;
mod quote;
mod random;
mod rehearse;
mod replay;
mod room;
mod show;
mod signing;
mod state;

pub use agree::{Composed, Proposal, agree};
pub use audit::{
    LogStatus, StateStatus, WitnessRequest, adopt_state, attach_cosignatures, checkpoint, prove, state_status,
    trust_room, verify_log, witness_request,
};
pub use clock::Clock;
/// What the program does when it is started as a worker.
pub mod worker {
    pub use glovebox_sandbox::{COMMAND, serve};
}
/// What the program does when it is started as a group of shards.
pub mod group {
    pub use crate::shards::group::{COMMAND, serve};
}
pub use deliver::{Carried, deliver};
pub use error::{Code, Fault, Result, Stage};
pub use explain::{Explained, explain};
pub use export::{Export, Exported, export};
pub use gate::ApprovalRecord;
pub use glovebox_trust::Principal;
pub use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
pub use glovebox_trust::registry::{Custody, MemberKind, Scope};
pub use glovebox_trust::revocations::RevocationKind;
pub use identify::{Identified, identify};
pub use privacy::{Charge, Cost, Ledger, LedgerLine, Lifetime, Loss, MeasureNoise};
pub use provision::{Scan, SharedView, SlotPlan, ViewStamp};
pub use quote::{Quote, quote};
pub use random::Random;
pub use receipt::{Check, Verified, new_auditor, verify};
pub use rehearse::{Rehearsal, rehearse};
pub use replay::{Replay, Replayed, replay};
pub use room::{Delta, Epsilon};
pub use run::{Outcome, ReleasedResult, Request, Step, run};
pub use sandbox::Asking;
pub use shards::ShardsDone;
pub use show::{Preview, preview};
pub use signing::{
    AgentKey, Approved, Change, Draft, Enrolled, Holder, LIST_DAYS, PublicKeyFile, RegistryStatus, Revoked, Withdrawal,
    add_key, approve, change_key, identities, load_key, new_key, registry_status, renew_registry, revoke, set_auditor,
    set_quorum, set_witnesses, sign_registry,
};
pub use state::StateAt;

/// Opens the budget ledger of this host.
pub fn open_ledger<'a>(state: impl Into<StateAt<'a>>) -> Result<Ledger> {
    state::State::open(state.into())?.ledger()
}

/// Opens a room's folder. Every path below it is opened through the handle, and none leads out of it.
pub fn open_room(path: &std::path::Path) -> Result<cap_std::fs::Dir> {
    files::open_dir(path).map_err(|error| {
        Fault::new(
            Code::RoomInvalid,
            format!("cannot open the room {}: {error}", path.display()),
            "name the room's folder with --room",
        )
    })
}
