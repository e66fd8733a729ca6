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
//! [`run()`] is that path on one page. Beside it stand the agreed terms ([`room`]) and the only two sources of
//! non-determinism ([`Clock`], [`Random`]).

mod run;

mod destination;
mod gate;
mod privacy;
mod provision;
mod receipt;
mod sandbox;

mod agree;
#[doc(hidden)]
pub mod bench;
mod clock;
mod error;
mod files;
mod parse;
mod random;
mod room;
mod show;

pub use agree::{Composed, Proposal, agree};
pub use clock::Clock;
pub use error::{Code, Fault, Result, Stage};
pub use gate::{ApprovalRecord, KeyHolder, SigningKey, approve, load_key, new_key};
pub use privacy::{Charge, Cost, Ledger, LedgerLine, MeasureNoise};
pub use random::Random;
pub use receipt::{Check, Verified, verify};
pub use room::{Delta, Epsilon};
pub use run::{Outcome, ReleasedResult, Request, Step, run};
pub use show::{Preview, preview};

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
