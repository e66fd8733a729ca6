//! The log against implementations that no one here wrote: ct-merkle, tlog_tiles and signed_note.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use data_encoding::BASE64;
use glovebox_trust::keys::{Signer, SigningKey};
use glovebox_trust::log::checkpoint::SignedCheckpoint;
use glovebox_trust::log::note::{Algorithm, Note, VerifierKey};
use glovebox_trust::log::tile::{self, Tiles};
use glovebox_trust::log::tree::{self, Hash};
use proptest::prelude::*;
use sha2::Sha256;
use signed_note::{Note as OtherNote, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader};

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("entry {i}").into_bytes()).collect()
}

fn leaves(count: usize) -> Vec<Hash> {
    entries(count).iter().map(|entry| tree::leaf_hash(entry)).collect()
}

fn ct_tree(count: usize) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    entries(count).into_iter().for_each(|entry| tree.push(entry));
    tree
}

#[test]
fn roots_are_those_of_ct_merkle() {
    let (leaves, mut theirs) = (leaves(600), MemoryBackedTree::<Sha256, Vec<u8>>::new());
    for (size, entry) in entries(600).into_iter().enumerate() {
        assert_eq!(tree::root_of(&leaves[..size]).as_slice(), theirs.root().as_bytes().as_slice());
        theirs.push(entry);
    }
}

/// Ours and theirs are the same bytes, and each verifies the other's.
fn compare_proofs(size: usize, index: usize, old: usize) {
    let (leaves, theirs) = (leaves(size), ct_tree(size));
    let root = tree::root_of(&leaves);
    let (size_u64, index_u64, old_u64) = (size as u64, index as u64, old as u64);

    let ours = tree::inclusion_proof(leaves.as_slice(), index_u64, size_u64).unwrap();
    let proof = theirs.prove_inclusion(index);
    assert_eq!(ours.concat(), proof.as_bytes(), "entry {index} of {size}");
    let proof = ct_merkle::InclusionProof::try_from_bytes(ours.concat()).unwrap();
    theirs.root().verify_inclusion(&entries(size)[index], index_u64, &proof).unwrap();

    let ours = tree::consistency_proof(leaves.as_slice(), old_u64, size_u64).unwrap();
    let proof = theirs.prove_consistency(size - old);
    assert_eq!(ours.concat(), proof.as_bytes(), "from {old} to {size}");
    let old_root = tree::root_of(&leaves[..old]);
    tree::verify_consistency(old_u64, &old_root, size_u64, &root, &ours).unwrap();
    theirs.root().verify_consistency(&ct_tree(old).root(), &proof).unwrap();
}

#[test]
fn small_proofs_are_those_of_ct_merkle() {
    for size in 1..20 {
        for other in 0..size {
            compare_proofs(size, other, other + 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn large_proofs_are_those_of_ct_merkle(size in 20usize..2_000, index in any::<usize>(), old in any::<usize>()) {
        compare_proofs(size, index % size, old % size + 1);
    }

    #[test]
    fn proofs_that_ct_merkle_refuses_are_refused(
        size in 1u64..40, index in 0u64..40, other_size in 1u64..40, cut in 0usize..8, flip in any::<Option<u8>>(),
    ) {
        // A proof for some index and size, perhaps damaged, is tried as one for other ones.
        let leaves = leaves(40);
        let made_for = index % size;
        let mut proof = tree::inclusion_proof(leaves.as_slice(), made_for, size).unwrap();
        proof.truncate(proof.len().saturating_sub(cut / 4));
        if let (Some(flip), Some(hash)) = (flip, proof.first_mut()) {
            hash[usize::from(flip) % 32] ^= 1;
        }
        let root = tree::root_of(&leaves[..other_size as usize]);
        let tried_at = index % other_size;
        let ours = tree::verify_inclusion(&leaves[tried_at as usize], tried_at, other_size, &proof, &root);
        let theirs = ct_merkle::InclusionProof::try_from_bytes(proof.concat()).unwrap();
        let theirs = ct_tree(other_size as usize).root().verify_inclusion(
            &entries(40)[tried_at as usize],
            tried_at,
            &theirs,
        );
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
    }
}

/// The hashes of a log as tlog_tiles keeps them: each complete subtree in the order in which it was completed.
struct Stored(Vec<tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

impl Stored {
    fn of(count: usize) -> Self {
        let mut stored = Self(Vec::new());
        for (index, entry) in entries(count).iter().enumerate() {
            let hashes = tlog_tiles::stored_hashes(index as u64, entry, &stored).unwrap();
            stored.0.extend(hashes);
        }
        stored
    }
}

fn our_files(count: usize) -> (BTreeMap<String, Vec<u8>>, Hash) {
    let read = |_: &str| None;
    let empty = Tiles::open(0, tree::empty_root(), &read).unwrap();
    let growth = empty.appended(&entries(count)).unwrap();
    (growth.files.into_iter().collect(), growth.root)
}

/// tlog_tiles also writes the height of a tile into its path.
fn our_path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1).replacen("tile/data/", "tile/entries/", 1)
}

#[test]
fn tiles_are_those_of_tlog_tiles() {
    let stored = Stored::of(66_000);
    for size in (0..300).chain([511, 512, 513, 1_000, 65_535, 65_536, 65_537, 66_000]) {
        let (files, root) = our_files(size);
        assert_eq!(root, tlog_tiles::tree_hash(size as u64, &stored).unwrap().0);
        let mut expected = BTreeMap::new();
        for mut tile in Tile::new_tiles(8, 0, size as u64) {
            expected.insert(our_path(&tile), Some(tile.read_data(&stored).unwrap()));
            if tile.level() == 0 {
                tile.set_is_data();
                expected.insert(our_path(&tile), None);
            }
        }
        assert_eq!(files.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{size} entries");
        for (path, bytes) in expected {
            assert!(bytes.is_none_or(|bytes| files[&path] == bytes), "{path} of {size}");
        }
        let of_size: Vec<String> = tile::tiles_of(size as u64).map(|tile| tile.path()).collect();
        let theirs: Vec<String> = Tile::new_tiles(8, 0, size as u64).iter().map(our_path).collect();
        assert_eq!(of_size, theirs);
    }
}

#[test]
fn paths_of_far_tiles_are_those_of_tlog_tiles() {
    for size in [1u64 << 20, (1 << 20) + 255, 123_456_789] {
        let theirs = Tile::new_tiles(8, size - 300, size).iter().map(our_path).collect::<Vec<_>>();
        let ours: Vec<String> = tile::tiles_of(size).map(|tile| tile.path()).collect();
        assert!(theirs.iter().all(|path| ours.contains(path)), "{theirs:?}");
    }
}

#[test]
fn an_append_writes_the_tiles_that_tlog_tiles_would_publish() {
    for (old, new) in [(0, 1), (1, 2), (5, 255), (5, 256), (5, 257), (256, 257), (300, 512), (300, 1_000), (512, 512)] {
        let (files, root) = our_files(old);
        let read = |path: &str| files.get(path).cloned();
        let tiles = Tiles::open(old as u64, root, &read).unwrap();
        let growth = tiles.appended(&entries(new)[old..]).unwrap();
        let mut written: Vec<String> = growth.files.iter().map(|(path, _)| path.clone()).collect();
        written.retain(|path| !path.starts_with("tile/entries/"));
        let theirs: Vec<String> = Tile::new_tiles(8, old as u64, new as u64).iter().map(our_path).collect();
        assert_eq!(written, theirs, "{old} to {new}");
    }
}

/// Our files, as tlog_tiles asks for them.
struct OurTiles {
    files: BTreeMap<String, Vec<u8>>,
    saved: RefCell<usize>,
}

impl TileReader for OurTiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles.iter().map(|tile| self.files.get(&our_path(tile)).cloned().unwrap_or_default()).collect())
    }

    fn save_tiles(&self, tiles: &[Tile], _: &[Vec<u8>]) {
        *self.saved.borrow_mut() += tiles.len();
    }
}

#[test]
fn proofs_from_our_tiles_are_those_that_tlog_tiles_makes_and_checks() {
    let size = 66_000usize;
    let (files, root) = our_files(size);
    let leaves = leaves(size);
    let reader = OurTiles { files: files.clone(), saved: RefCell::new(0) };
    let theirs = TileHashReader::new(size as u64, tlog_tiles::Hash(root), &reader);
    let read = |path: &str| files.get(path).cloned();
    let tiles = Tiles::open(size as u64, root, &read).unwrap();
    let size = size as u64;
    for index in [0, 1, 254, 255, 256, 65_535, 65_536, 65_791, 65_792, 65_999] {
        let proof = tlog_tiles::prove_record(size, index, &theirs).unwrap();
        let ours = tree::inclusion_proof(&tiles, index, size).unwrap();
        assert_eq!(ours, proof.iter().map(|hash| hash.0).collect::<Vec<_>>(), "entry {index}");
        let leaf = leaves[index as usize];
        let check =
            |leaf| tlog_tiles::check_record(&proof, size, tlog_tiles::Hash(root), index, tlog_tiles::Hash(leaf));
        check(leaf).unwrap();
        assert!(check([7; 32]).is_err());
    }
    for old in [1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 65_999, 66_000] {
        let proof = tlog_tiles::prove_tree(size, old, &theirs).unwrap();
        let ours = tree::consistency_proof(&tiles, old, size).unwrap();
        assert_eq!(ours, proof.iter().map(|hash| hash.0).collect::<Vec<_>>(), "from {old}");
        let old_root = tlog_tiles::Hash(tree::root_of(&leaves[..old as usize]));
        tlog_tiles::check_tree(&proof, size, tlog_tiles::Hash(root), old, old_root).unwrap();
    }
    assert!(*reader.saved.borrow() > 0, "tlog_tiles authenticated no tile");
}

fn key() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[7; 32]);
    let key = VerifierKey::new("room.example/log", Algorithm::Ed25519, signing.public()).unwrap();
    (signing, key)
}

fn their_signer() -> StandardSigner {
    let (signing, key) = key();
    let vkey = key.to_string();
    let id = vkey.split('+').nth(1).unwrap();
    let secret = BASE64.encode(&[&[1], signing.to_bytes().as_slice()].concat());
    StandardSigner::new(&format!("PRIVATE+KEY+{}+{id}+{secret}", key.name())).unwrap()
}

fn they_verify(bytes: &[u8]) -> bool {
    let verifier = StandardVerifier::new(&key().1.to_string()).unwrap();
    OtherNote::from_bytes(bytes).is_ok_and(|note| note.verify(&VerifierList::new(vec![Box::new(verifier)])).is_ok())
}

fn we_verify(bytes: &[u8]) -> bool {
    Note::parse(bytes).is_ok_and(|note| note.text_signed_by(&key().1).is_ok())
}

#[test]
fn notes_and_keys_are_those_of_signed_note() {
    let (signing, key) = key();
    for text in ["text\n", "\n", "a\n\nb\n", "\u{2014} a AAAAAAAA\n", "a\n\n\u{2014} a AAAAAAAA\n"] {
        let ours = Note::sign(text, &key, &signing).unwrap().to_bytes();
        let mut theirs = OtherNote::new(text.as_bytes(), &[]).unwrap();
        theirs.add_sigs(&[&their_signer()]).unwrap();
        assert_eq!(ours, theirs.to_bytes());
        assert!(they_verify(&ours) && we_verify(&theirs.to_bytes()));
    }
    assert!(StandardVerifier::new(&key.to_string()).is_ok());
    assert!(StandardVerifier::new(&key.to_string().replace("room", "rood")).is_err());
}

#[test]
fn every_changed_byte_of_a_note_is_judged_as_by_signed_note() {
    let (signing, key) = key();
    let note = Note::sign("text\n\nmore\n", &key, &signing).unwrap().to_bytes();
    assert!(they_verify(&note) && we_verify(&note));
    for at in 0..note.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128] {
            let mut changed = note.clone();
            changed[at] ^= change;
            assert!(!they_verify(&changed) && !we_verify(&changed), "byte {at} by {change}");
        }
    }
}

proptest! {
    /// Notes with pieces put in: what we take, they take. They ignore a repeated signature, we do not.
    #[test]
    fn what_we_verify_signed_note_verifies(inserted in prop::collection::vec((0usize..8, 0usize..6), 0..4)) {
        let (signing, key) = key();
        let note = String::from_utf8(Note::sign("text\n", &key, &signing).unwrap().to_bytes()).unwrap();
        let line = note.strip_prefix("text\n\n").unwrap();
        let all = ["text\n", "\n", line, "— b AAAAAAAA\n", "— b AAAA\n", "\r\n", " ", "— "];
        let mut pieces = vec![0, 1, 2];
        for (piece, at) in inserted {
            pieces.insert(at.min(pieces.len()), piece);
        }
        let bytes: String = pieces.iter().map(|piece| all[*piece]).collect();
        let is_repeated = pieces.iter().filter(|piece| **piece == 2).count() > 1;
        let (ours, theirs) = (we_verify(bytes.as_bytes()), they_verify(bytes.as_bytes()));
        prop_assert!(ours == theirs || (is_repeated && !ours), "{:?}: {} {}", bytes, ours, theirs);
    }
}

#[test]
fn checkpoints_are_those_of_tlog_tiles() {
    let (signing, key) = key();
    for (size, root) in [(0, tree::empty_root()), (1, [1; 32]), (70_000, [255; 32])] {
        let ours = SignedCheckpoint::sign(size, root, &key, &signing).unwrap();
        let note = OtherNote::from_bytes(&ours.to_bytes()).unwrap();
        let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (key.name(), size, root));
        assert_eq!(theirs.extension(), "");
        let mut written = OtherNote::new(&theirs.to_bytes(), &[]).unwrap();
        written.add_sigs(&[&their_signer()]).unwrap();
        assert_eq!(SignedCheckpoint::open(&written.to_bytes(), &key).unwrap(), ours);
    }
}
