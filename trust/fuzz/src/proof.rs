//! Proofs that an entry is in a log: of all proofs for an entry one verifies, and it verifies for no other entry.

use std::sync::LazyLock;

use glovebox_trust::keys::{Signer, SigningKey};
use glovebox_trust::log::checkpoint::SignedCheckpoint;
use glovebox_trust::log::note::{Algorithm, VerifierKey};
use glovebox_trust::log::policy::Policy;
use glovebox_trust::log::proof::Proof;
use glovebox_trust::log::tree::{Hash, inclusion_proof, leaf_hash, root_of, verify_consistency};

use super::{Seed, accepted};

const ENTRIES: [&[u8]; 7] = [b"", b"a", b"bb", b"ccc", b"dddd", b"eeeee", b"ffffff"];

struct Log {
    policy: Policy,
    leaves: Vec<Hash>,
    /// A checkpoint of every size.
    checkpoints: Vec<SignedCheckpoint>,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let signer = SigningKey::from_bytes(&[5; 32]);
    let key = VerifierKey::new("glovebox/demo", Algorithm::Ed25519, signer.public()).unwrap();
    let leaves: Vec<Hash> = ENTRIES.iter().map(|entry| leaf_hash(entry)).collect();
    let checkpoint = |size: usize| {
        SignedCheckpoint::sign(u64::try_from(size).unwrap(), root_of(&leaves[..size]), &key, &signer).unwrap()
    };
    let checkpoints = (0..=leaves.len()).map(checkpoint).collect();
    Log { policy: Policy::of_log(key), leaves, checkpoints }
});

/// Reads the data as a proof, as the parts of a proof over a signed checkpoint, and as a proof of consistency.
pub fn check(data: &[u8]) {
    if let Some(proof) = accepted(Proof::parse(data)) {
        assert_eq!(proof.to_bytes(), data, "a proof has two forms");
        check_entries(&proof);
    }
    let Some(([index, size], rest)) = data.split_first_chunk() else { return };
    let (hashes, _) = rest.as_chunks::<32>();
    let index = u64::from(*index);
    let checkpoint = &LOG.checkpoints[usize::from(*size) % LOG.checkpoints.len()];
    check_entries(&Proof::new(index, hashes.to_vec(), checkpoint));
    check_consistency(index, checkpoint, hashes);
}

fn check_entries(proof: &Proof) {
    let proven: Vec<usize> = (0..ENTRIES.len()).filter(|at| verifies(proof, ENTRIES[*at])).collect();
    assert!(proven.len() <= 1, "one proof for the entries {proven:?}");
    for at in proven {
        let proven = proof.verify(ENTRIES[at], &LOG.policy, None).unwrap();
        assert_eq!(usize::try_from(proven.index).unwrap(), at, "an entry is proven elsewhere than it stands");
        let size = proven.checkpoint.checkpoint().size;
        let hashes = inclusion_proof(LOG.leaves.as_slice(), proven.index, size).unwrap();
        let signed = &LOG.checkpoints[usize::try_from(size).unwrap()];
        assert_eq!(proven.checkpoint.checkpoint(), signed.checkpoint(), "a checkpoint that nobody signed");
        // Other signatures may stand below the checkpoint; all else is given.
        assert_eq!(*proof, Proof::new(proven.index, hashes, &proven.checkpoint), "an entry has two proofs");
    }
    // The leaf of an entry, or of a node, is no entry.
    for leaf in &LOG.leaves {
        assert!(!verifies(proof, leaf));
    }
}

fn verifies(proof: &Proof, entry: &[u8]) -> bool {
    accepted(proof.verify(entry, &LOG.policy, None)).is_some()
}

/// No proof makes another history of the log.
fn check_consistency(old_size: u64, new: &SignedCheckpoint, proof: &[Hash]) {
    let (new_size, new_root) = (new.checkpoint().size, &new.checkpoint().root);
    for old in &LOG.checkpoints {
        let old_root = &old.checkpoint().root;
        if accepted(verify_consistency(old_size, old_root, new_size, new_root, proof)).is_some() {
            assert_eq!(old.checkpoint().size, old_size, "a tree begins with one of another size");
            assert!(old_size <= new_size);
        }
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let file = |index: u64, size: usize| {
        let hashes = inclusion_proof(LOG.leaves.as_slice(), index, u64::try_from(size).unwrap()).unwrap();
        Proof::new(index, hashes, &LOG.checkpoints[size]).to_bytes()
    };
    let parts = |index: u8, size: u8, hashes: &[Hash]| [[index, size].as_slice(), &hashes.concat()].concat();
    let inclusion = inclusion_proof(LOG.leaves.as_slice(), 6, 7).unwrap();
    let consistency = glovebox_trust::log::tree::consistency_proof(LOG.leaves.as_slice(), 3, 7).unwrap();
    vec![
        ("only", file(0, 1)),
        ("first", file(0, 2)),
        ("middle", file(4, 7)),
        ("parts", parts(6, 7, &inclusion)),
        ("parts-and-more", parts(6, 7, &[inclusion.as_slice(), &[[0; 32]]].concat())),
        ("consistency", parts(3, 7, &consistency)),
    ]
}
