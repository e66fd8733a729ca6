//! A transparency log in the formats of C2SP: what witnesses and monitors that no one here wrote can check.
//!
//! * [`tree`]: the Merkle tree of RFC 6962, roots and proofs
//! * [`tile`]: the tree and its entries as files (c2sp.org/tlog-tiles)
//! * [`note`]: signed notes and the keys that verify them (c2sp.org/signed-note)
//! * [`checkpoint`]: what a log says its tree is (c2sp.org/tlog-checkpoint)
//! * [`cosignature`]: what a witness says about it (c2sp.org/tlog-cosignature)
//! * [`policy`]: which logs and how many witnesses it takes (c2sp.org/tlog-policy)
//! * [`proof`]: that an entry is in a log, in one file (c2sp.org/tlog-proof)
//! * [`witness`]: what a log sends to a witness and gets back (c2sp.org/tlog-witness)

pub mod checkpoint;
pub mod cosignature;
pub mod note;
pub mod policy;
pub mod proof;
pub mod tile;
pub mod tree;
pub mod witness;

use crate::denial::{Denial, Reason};

/// Trees are not larger: up to here no proof has more hashes than may be sent to a witness.
pub const SIZE_MAX: u64 = 1 << 62;

/// As many hashes a proof may have.
const PROOF_HASHES_MAX: usize = 63;

fn malformed(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::Malformed, fact)
}

fn does_not_verify(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::LogInvalid, fact)
}

/// A size or an index in the only form in which these formats write it: decimal, no sign, no leading zeroes.
fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number <= SIZE_MAX && number.to_string() == text)
}

/// A hash in canonical base64.
fn parse_hash(text: &str) -> Option<tree::Hash> {
    crate::base64::decode(text)?.try_into().ok()
}

fn print_hash(hash: &tree::Hash) -> String {
    data_encoding::BASE64.encode(hash)
}
