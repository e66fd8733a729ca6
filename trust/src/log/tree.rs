//! The Merkle tree of RFC 6962, section 2.1, with SHA-256: roots, inclusion proofs and consistency proofs.
//!
//! Proofs are made from the hashes of complete subtrees, wherever those come from, and are checked with nothing but
//! the sizes: the sizes alone say which hashes a proof must have, and on which side each stands.

use sha2::{Digest, Sha256};

use super::{SIZE_MAX, does_not_verify};
use crate::denial::{Denial, Result};

/// A SHA-256 hash: of an entry, of a node, or of a whole tree.
pub type Hash = [u8; 32];

/// Where the hashes of complete subtrees come from.
pub trait Hashes {
    /// The hash over the `2^level` leaves that begin at leaf `index * 2^level`.
    fn hash(&self, level: u8, index: u64) -> Result<Hash>;
}

/// Leaf hashes in memory.
impl Hashes for [Hash] {
    fn hash(&self, level: u8, index: u64) -> Result<Hash> {
        let leaves = usize::try_from(index).ok().and_then(|index| {
            let width = 1usize.checked_shl(level.into())?;
            let start = index.checked_mul(width)?;
            self.get(start..start.checked_add(width)?)
        });
        leaves.map(root_of).ok_or_else(|| does_not_verify("a proof needs hashes beyond the end of the tree"))
    }
}

/// The hash of an entry. Its prefix differs from that of a node, so that neither can pass for the other.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of two adjacent subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without entries.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root of the tree that has these leaf hashes.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The root of the first `size` leaves.
pub fn root(hashes: &(impl Hashes + ?Sized), size: u64) -> Result<Hash> {
    check_size(size)?;
    if size == 0 { Ok(empty_root()) } else { range(hashes, 0, size) }
}

/// The path from a leaf to the root of the first `size` leaves (RFC 6962, section 2.1.1).
pub fn inclusion_proof(hashes: &(impl Hashes + ?Sized), index: u64, size: u64) -> Result<Vec<Hash>> {
    let turns = path_to_leaf(index, size)?;
    turns.into_iter().rev().map(|turn| turn.sibling(hashes)).collect()
}

/// Checks that the tree of that size and root has that leaf hash at that index.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<()> {
    let turns = path_to_leaf(index, size)?;
    if turns.len() != proof.len() {
        return Err(wrong_length("inclusion", proof.len(), turns.len()));
    }
    let node = turns.iter().rev().zip(proof).fold(*leaf, |node, (turn, sibling)| turn.join(&node, sibling));
    if node != *root {
        return Err(does_not_verify(format!("an inclusion proof does not lead from entry {index} to the root")));
    }
    Ok(())
}

/// The hashes from which the roots of both sizes follow (RFC 6962, section 2.1.2).
pub fn consistency_proof(hashes: &(impl Hashes + ?Sized), old_size: u64, new_size: u64) -> Result<Vec<Hash>> {
    let path = path_to_end(old_size, new_size)?;
    let start = path.start.map(|(start, end)| range(hashes, start, end));
    start.into_iter().chain(path.turns.into_iter().rev().map(|turn| turn.sibling(hashes))).collect()
}

/// Checks that the new tree begins with the entries of the old one. The empty tree begins every tree.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<()> {
    let path = path_to_end(old_size, new_size)?;
    for (size, root) in [(old_size, old_root), (new_size, new_root)] {
        if size == 0 && *root != empty_root() {
            return Err(does_not_verify("the root of an empty tree is not that of no entries"));
        }
    }
    let expected = path.turns.len() + usize::from(path.start.is_some());
    if proof.len() != expected {
        return Err(wrong_length("consistency", proof.len(), expected));
    }
    if old_size == 0 {
        return Ok(());
    }
    let (first, siblings) = match (path.start, proof) {
        (Some(_), [first, siblings @ ..]) => (first, siblings),
        _ => (old_root, proof),
    };
    let (mut old, mut new) = (*first, *first);
    for (turn, sibling) in path.turns.iter().rev().zip(siblings) {
        new = turn.join(&new, sibling);
        if turn.side == Side::Left {
            old = turn.join(&old, sibling);
        }
    }
    if old != *old_root || new != *new_root {
        return Err(does_not_verify(format!("the tree of {new_size} entries does not begin with that of {old_size}")));
    }
    Ok(())
}

/// On which side of the way down a sibling lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// One step down the tree: the half that was not entered.
#[derive(Clone, Copy, Debug)]
struct Turn {
    side: Side,
    start: u64,
    end: u64,
}

impl Turn {
    fn sibling(&self, hashes: &(impl Hashes + ?Sized)) -> Result<Hash> {
        range(hashes, self.start, self.end)
    }

    fn join(&self, node: &Hash, sibling: &Hash) -> Hash {
        match self.side {
            Side::Left => node_hash(sibling, node),
            Side::Right => node_hash(node, sibling),
        }
    }
}

/// The steps from the root of a tree to one of its leaves.
fn path_to_leaf(index: u64, size: u64) -> Result<Vec<Turn>> {
    check_size(size)?;
    if index >= size {
        return Err(does_not_verify(format!("a tree of {size} entries has no entry {index}")));
    }
    let (mut turns, mut start, mut end) = (Vec::new(), 0, size);
    while end - start > 1 {
        let middle = start + left_width(end - start);
        if index < middle {
            turns.push(Turn { side: Side::Right, start: middle, end });
            end = middle;
        } else {
            turns.push(Turn { side: Side::Left, start, end: middle });
            start = middle;
        }
    }
    Ok(turns)
}

/// The steps from the root of a tree to where an older tree ended.
struct PathToEnd {
    turns: Vec<Turn>,
    /// The last subtree that both trees have, unless it is the whole old tree: the proof need not repeat that.
    start: Option<(u64, u64)>,
}

fn path_to_end(old_size: u64, new_size: u64) -> Result<PathToEnd> {
    check_size(new_size)?;
    if old_size > new_size {
        return Err(does_not_verify(format!("a tree of {new_size} entries cannot continue one of {old_size}")));
    }
    let mut path = PathToEnd { turns: Vec::new(), start: None };
    if old_size == 0 {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new_size);
    while old_size < end {
        let middle = start + left_width(end - start);
        if old_size <= middle {
            path.turns.push(Turn { side: Side::Right, start: middle, end });
            end = middle;
        } else {
            path.turns.push(Turn { side: Side::Left, start, end: middle });
            start = middle;
        }
    }
    path.start = (start > 0).then_some((start, end));
    Ok(path)
}

/// The root of the leaves from `start` to `end`, a range into which RFC 6962 divides a tree.
fn range(hashes: &(impl Hashes + ?Sized), start: u64, end: u64) -> Result<Hash> {
    let width = end - start;
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        // A width of 64 bits has at most 63 trailing zeroes.
        return hashes.hash(level as u8, start >> level);
    }
    let middle = start + left_width(width);
    Ok(node_hash(&range(hashes, start, middle)?, &range(hashes, middle, end)?))
}

/// The largest power of two that is smaller than a width of at least two.
const fn left_width(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

fn check_size(size: u64) -> Result<()> {
    if size > SIZE_MAX { Err(does_not_verify(format!("a tree of {size} entries is too large"))) } else { Ok(()) }
}

fn wrong_length(kind: &str, length: usize, expected: usize) -> Denial {
    does_not_verify(format!("the {kind} proof has {length} hashes, for these sizes it must have {expected}"))
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::sync::LazyLock;

    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::super::PROOF_HASHES_MAX;
    use super::*;

    /// The entries and roots with which implementations of Certificate Transparency are tested.
    const ENTRIES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hex(text: &str) -> Hash {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(format!("entry {i}").as_bytes())).collect()
    }

    /// The definition of RFC 6962, word for word.
    fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let k = naive_split(leaves.len());
        let (mut path, other) = if m < k {
            (naive_path(m, &leaves[..k]), root_of(&leaves[k..]))
        } else {
            (naive_path(m - k, &leaves[k..]), root_of(&leaves[..k]))
        };
        path.push(other);
        path
    }

    fn naive_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root_of(leaves)] };
        }
        let k = naive_split(leaves.len());
        let (mut proof, other) = if m <= k {
            (naive_subproof(m, &leaves[..k], whole), root_of(&leaves[k..]))
        } else {
            (naive_subproof(m - k, &leaves[k..], false), root_of(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    fn naive_split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    #[test]
    fn roots_and_proofs_are_the_published_ones() {
        let leaves: Vec<Hash> =
            ENTRIES.iter().map(|entry| leaf_hash(&HEXLOWER.decode(entry.as_bytes()).unwrap())).collect();
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(root_of(&leaves[..size]), hex(expected));
            assert_eq!(root(leaves.as_slice(), size as u64).unwrap(), hex(expected));
        }
        let path = inclusion_proof(leaves.as_slice(), 5, 8).unwrap();
        let published = [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path, published.map(hex));
        let proof = consistency_proof(leaves.as_slice(), 6, 8).unwrap();
        let published = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(proof, published.map(hex));
    }

    #[test]
    fn every_small_proof_is_that_of_the_definition_and_proves_nothing_else() {
        let leaves = leaves(33);
        for size in 1..=33u64 {
            let tree = &leaves[..size as usize];
            let root = root_of(tree);
            for index in 0..size {
                let proof = inclusion_proof(leaves.as_slice(), index, size).unwrap();
                assert_eq!(proof, naive_path(index as usize, tree));
                for other in 0..=size {
                    let leaf = tree.get(other as usize).copied().unwrap_or([9; 32]);
                    let verified = verify_inclusion(&leaf, index, size, &proof, &root).is_ok();
                    assert_eq!(verified, other == index, "leaf {other} at {index} of {size}");
                    let leaf = tree[index as usize];
                    let verified = verify_inclusion(&leaf, other, size, &proof, &root).is_ok();
                    assert_eq!(verified, other == index, "leaf {index} at {other} of {size}");
                }
                for shorter in 0..proof.len() {
                    assert!(verify_inclusion(&tree[index as usize], index, size, &proof[..shorter], &root).is_err());
                }
                for extra in [[0; 32], root, tree[index as usize]] {
                    let longer = [proof.as_slice(), &[extra]].concat();
                    assert!(verify_inclusion(&tree[index as usize], index, size, &longer, &root).is_err());
                    let longer = [&[extra], proof.as_slice()].concat();
                    assert!(verify_inclusion(&tree[index as usize], index, size, &longer, &root).is_err());
                }
            }
        }
    }

    #[test]
    fn a_proof_for_one_size_does_not_do_for_the_root_of_another() {
        let leaves = leaves(20);
        for size in 1..=20u64 {
            for other in (1..=20u64).filter(|other| *other != size) {
                for index in 0..size.min(other) {
                    let proof = inclusion_proof(leaves.as_slice(), index, size).unwrap();
                    let root = root_of(&leaves[..other as usize]);
                    let leaf = &leaves[index as usize];
                    assert!(verify_inclusion(leaf, index, other, &proof, &root).is_err());
                    assert!(verify_inclusion(leaf, index, size, &proof, &root).is_err());
                }
            }
        }
    }

    #[test]
    fn every_small_consistency_proof_is_that_of_the_definition_and_proves_nothing_else() {
        let leaves = leaves(24);
        let roots: Vec<Hash> = (0..=24).map(|size| root_of(&leaves[..size])).collect();
        for new in 0..=24usize {
            for old in 0..=new {
                let (o, n) = (old as u64, new as u64);
                let proof = consistency_proof(leaves.as_slice(), o, n).unwrap();
                if old > 0 {
                    assert_eq!(proof, naive_subproof(old, &leaves[..new], true));
                }
                verify_consistency(o, &roots[old], n, &roots[new], &proof).unwrap();
                for other in 0..=24 {
                    if other != old {
                        assert!(verify_consistency(o, &roots[other], n, &roots[new], &proof).is_err());
                    }
                    // Everything continues the empty tree.
                    if other != new && old > 0 {
                        assert!(verify_consistency(o, &roots[old], n, &roots[other], &proof).is_err());
                    }
                }
                for shorter in 0..proof.len() {
                    assert!(verify_consistency(o, &roots[old], n, &roots[new], &proof[..shorter]).is_err());
                }
                let longer = [proof.as_slice(), &[[0; 32]]].concat();
                assert!(verify_consistency(o, &roots[old], n, &roots[new], &longer).is_err());
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 1;
                    assert!(verify_consistency(o, &roots[old], n, &roots[new], &changed).is_err());
                }
                if old < new {
                    assert!(verify_consistency(n, &roots[new], o, &roots[old], &proof).is_err());
                    assert!(consistency_proof(leaves.as_slice(), n, o).is_err());
                }
            }
        }
    }

    #[test]
    fn an_empty_tree_has_no_entries_and_one_root() {
        assert!(inclusion_proof(leaves(1).as_slice(), 0, 0).is_err());
        assert!(verify_inclusion(&empty_root(), 0, 0, &[], &empty_root()).is_err());
        verify_consistency(0, &empty_root(), 0, &empty_root(), &[]).unwrap();
        verify_consistency(0, &empty_root(), 5, &[7; 32], &[]).unwrap();
        assert!(verify_consistency(0, &[0; 32], 5, &[7; 32], &[]).is_err());
        assert!(verify_consistency(0, &empty_root(), 0, &[7; 32], &[]).is_err());
    }

    #[test]
    fn a_node_is_not_a_leaf() {
        let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
        assert_ne!(leaf_hash(&[a, b].concat()), node_hash(&a, &b));
        // The two leaves below pass for no entry of a tree of one.
        assert!(verify_inclusion(&leaf_hash(&[a, b].concat()), 0, 1, &[], &node_hash(&a, &b)).is_err());
    }

    #[test]
    fn trees_that_are_too_large_are_refused_and_none_overflows() {
        for size in [SIZE_MAX + 1, u64::MAX] {
            let too_large = |denial: Denial| assert!(denial.fact().contains("too large"), "{denial}");
            too_large(verify_inclusion(&[0; 32], 0, size, &[], &[0; 32]).unwrap_err());
            too_large(verify_consistency(1, &[0; 32], size, &[0; 32], &[]).unwrap_err());
            too_large(root(&Endless, size).unwrap_err());
        }
        assert!(verify_inclusion(&[0; 32], u64::MAX, SIZE_MAX, &[], &[0; 32]).is_err());
        // Sizes for which memory has no leaves.
        assert!(root([].as_slice(), SIZE_MAX).is_err());
        assert!(inclusion_proof(leaves(3).as_slice(), 2, SIZE_MAX - 1).is_err());
    }

    /// Every subtree has a hash without there being leaves, so that trees may be of any size.
    struct Endless;

    impl Hashes for Endless {
        fn hash(&self, level: u8, _: u64) -> Result<Hash> {
            static LEVELS: LazyLock<Vec<Hash>> = LazyLock::new(|| {
                let levels = iter::successors(Some(leaf_hash(b"same")), |hash| Some(node_hash(hash, hash)));
                levels.take(64).collect()
            });
            Ok(LEVELS[usize::from(level)])
        }
    }

    proptest! {
        #[test]
        fn proofs_hold_in_large_trees(size in 1..=SIZE_MAX, index in any::<u64>(), old in any::<u64>()) {
            let (index, old) = (index % size, old % size + 1);
            let (new_root, old_root) = (root(&Endless, size).unwrap(), root(&Endless, old).unwrap());
            let proof = inclusion_proof(&Endless, index, size).unwrap();
            prop_assert!(proof.len() <= PROOF_HASHES_MAX);
            verify_inclusion(&leaf_hash(b"same"), index, size, &proof, &new_root).unwrap();
            prop_assert!(verify_inclusion(&leaf_hash(b"other"), index, size, &proof, &new_root).is_err());
            let proof = consistency_proof(&Endless, old, size).unwrap();
            prop_assert!(proof.len() <= PROOF_HASHES_MAX);
            verify_consistency(old, &old_root, size, &new_root, &proof).unwrap();
            prop_assert!(verify_consistency(old, &[7; 32], size, &new_root, &proof).is_err());
            if old < size {
                prop_assert!(verify_consistency(old, &old_root, size, &[7; 32], &proof).is_err());
                prop_assert!(verify_consistency(old + 1, &old_root, size, &new_root, &proof).is_err());
            }
        }

        #[test]
        fn proofs_of_random_trees_are_those_of_the_definition(size in 1usize..700, index in any::<usize>()) {
            let leaves = leaves(size);
            let index = index % size;
            let proof = inclusion_proof(leaves.as_slice(), index as u64, size as u64).unwrap();
            prop_assert_eq!(proof, naive_path(index, &leaves));
            let proof = consistency_proof(leaves.as_slice(), index as u64 + 1, size as u64).unwrap();
            prop_assert_eq!(proof, naive_subproof(index + 1, &leaves, true));
        }
    }

    #[test]
    fn the_longest_proofs_have_63_hashes() {
        assert_eq!(inclusion_proof(&Endless, 5, SIZE_MAX).unwrap().len(), 62);
        assert_eq!(consistency_proof(&Endless, SIZE_MAX - 1, SIZE_MAX).unwrap().len(), PROOF_HASHES_MAX);
    }
}
