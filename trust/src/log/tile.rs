//! The tree and its entries as files: c2sp.org/tlog-tiles, for any static file server.
//!
//! A tile holds up to 256 adjacent hashes of one level; the tiles above hold one hash for each full tile. Nothing
//! that was read is used before it has led to the root that a checkpoint names.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::tree::{self, Hash, Hashes};
use super::{SIZE_MAX, does_not_verify, malformed};
use crate::denial::Result;

/// An entry is at most this long: its length is written in two bytes.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// No file of a log is longer than a full bundle of the longest entries.
pub const FILE_BYTES_MAX: usize = FULL as usize * (size_of::<u16>() + ENTRY_BYTES_MAX);

/// Hashes in a full tile, and entries in a full bundle.
const FULL: u64 = 256;

/// Levels of the tree in one tile.
const HEIGHT: u8 = 8;

/// Reads a whole file of the log by its path; `None` if it is not there or cannot be read.
pub type Read<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

/// Which hashes a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// How many levels of tiles lie below.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Which one of its level it is, from the left.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it holds: 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Where the tile stands below the log's prefix.
    #[must_use]
    pub fn path(&self) -> String {
        self.path_of(&self.level.to_string())
    }

    /// Where the entries stand whose hashes this tile of level 0 holds.
    #[must_use]
    pub fn bundle_path(&self) -> String {
        self.path_of("entries")
    }

    fn path_of(&self, kind: &str) -> String {
        // Three digits in a folder, so that none has more than a thousand of each kind.
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{kind}/{number}{partial}")
    }

    const fn is_full(&self) -> bool {
        self.width as u64 == FULL
    }

    /// The full tile of the same place: a log may have dropped the partial one once it had this.
    const fn full(self) -> Self {
        Self { width: FULL as u16, ..self }
    }
}

/// Every tile of a tree of that size, level by level and from left to right.
pub fn tiles_of(size: u64) -> impl Iterator<Item = Tile> {
    (0..HEIGHT).flat_map(move |level| tiles_at(level, size))
}

/// The tiles of one level. A level without hashes has none.
fn tiles_at(level: u8, size: u64) -> impl Iterator<Item = Tile> {
    let hashes = hashes_at(level, size);
    (0..hashes.div_ceil(FULL)).map(move |index| Tile { level, index, width: (hashes - index * FULL).min(FULL) as u16 })
}

/// How many hashes the tiles of one level hold together.
const fn hashes_at(level: u8, size: u64) -> u64 {
    size >> (HEIGHT * level)
}

/// Reads a tile, or as much of the full one that took its place.
fn read_tile(read: &Read<'_>, tile: Tile) -> Result<Vec<Hash>> {
    let path = tile.path();
    let (found, bytes) = read_either(read, tile, Tile::path)?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != usize::from(found.width) {
        return Err(malformed(format!("{path} does not hold {} hashes", found.width)));
    }
    Ok(hashes.iter().take(tile.width.into()).copied().collect())
}

fn read_bundle(read: &Read<'_>, tile: Tile) -> Result<Vec<Vec<u8>>> {
    let (found, bytes) = read_either(read, tile, Tile::bundle_path)?;
    let mut entries = decode_bundle(&bytes, found.width)
        .map_err(|why| malformed(format!("{}: {}", found.bundle_path(), why.fact())))?;
    entries.truncate(tile.width.into());
    Ok(entries)
}

fn read_either(read: &Read<'_>, tile: Tile, path: fn(&Tile) -> String) -> Result<(Tile, Vec<u8>)> {
    [tile, tile.full()]
        .into_iter()
        .find_map(|tile| Some((tile, read(&path(&tile))?)))
        .ok_or_else(|| does_not_verify(format!("{} is missing", path(&tile))))
}

/// Writes entries one after the other, each behind its length.
pub fn encode_bundle(entries: &[Vec<u8>]) -> Result<Vec<u8>> {
    if entries.is_empty() || entries.len() as u64 > FULL {
        return Err(malformed(format!("a bundle has 1 to {FULL} entries, not {}", entries.len())));
    }
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len())
            .map_err(|_| malformed(format!("an entry is longer than {ENTRY_BYTES_MAX} bytes")))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads a bundle of exactly so many entries.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<Vec<u8>>> {
    let mut rest = bytes;
    let mut entries = Vec::new();
    for _ in 0..width {
        let length = rest.split_first_chunk();
        let entry = length.and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
        let (entry, after) = entry.ok_or_else(|| malformed(format!("it ends before its {width} entries do")))?;
        entries.push(entry.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(malformed(format!("something follows its {width} entries")));
    }
    Ok(entries)
}

/// Hashes of tiles by level and index.
#[derive(Debug, Default)]
struct Known(BTreeMap<(u8, u64), Vec<Hash>>);

/// Those that lie in tiles that are known.
impl Hashes for Known {
    fn hash(&self, level: u8, index: u64) -> Result<Hash> {
        let place = Place::of(level, index)?;
        let tile = self.0.get(&(place.level, place.index));
        tile.and_then(|tile| place.hash_in(tile))
            .ok_or_else(|| does_not_verify("a tile lacks a hash that it must have"))
    }
}

/// Which part of which tile makes up a complete subtree.
struct Place {
    level: u8,
    index: u64,
    start: usize,
    width: usize,
}

impl Place {
    fn of(level: u8, index: u64) -> Result<Self> {
        let within = level % HEIGHT;
        // The first hash of the subtree, counted along the level of its tile.
        let first = index
            .checked_mul(1 << within)
            .filter(|_| level < 64)
            .ok_or_else(|| does_not_verify("a subtree lies beyond any tree"))?;
        Ok(Self { level: level / HEIGHT, index: first / FULL, start: (first % FULL) as usize, width: 1 << within })
    }

    fn hash_in(&self, tile: &[Hash]) -> Option<Hash> {
        tile.get(self.start..self.start + self.width).map(tree::root_of)
    }
}

/// The tiles of a tree whose size and root a verified checkpoint names.
pub struct Tiles<'a> {
    size: u64,
    root: Hash,
    read: &'a Read<'a>,
    /// What has led to the root; read once, so that a file that changes meanwhile changes nothing.
    known: RefCell<Known>,
}

impl<'a> Tiles<'a> {
    /// Reads the right edge of the tree and checks that the root follows from it.
    pub fn open(size: u64, root: Hash, read: &'a Read<'a>) -> Result<Self> {
        let edge = edge_of(size).map(|tile| Ok(((tile.level, tile.index), read_tile(read, tile)?)));
        let known = Known(edge.collect::<Result<_>>()?);
        // A partial tile has no hash in the tile above: the root is made of them, and of nothing else.
        if tree::root(&known, size)? != root {
            return Err(does_not_verify(format!("the tiles of {size} entries do not have the root of the checkpoint")));
        }
        Ok(Self { size, root, read, known: RefCell::new(known) })
    }

    /// How many entries there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root to which every hash has led.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }

    /// Reads an entry and checks that it is the one in the tree.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>> {
        let expected = self.hash(0, index)?;
        let tile = self.tile_at(0, index / FULL)?;
        let entry = read_bundle(self.read, tile)?.into_iter().nth((index % FULL) as usize);
        let entry = entry.filter(|entry| tree::leaf_hash(entry) == expected);
        entry.ok_or_else(|| does_not_verify(format!("entry {index} is not the one in the tree")))
    }

    /// What has to be written so that the tree has these entries more.
    pub fn appended(&self, entries: &[Vec<u8>]) -> Result<Growth> {
        let size = self.size.checked_add(entries.len() as u64).filter(|size| *size <= SIZE_MAX);
        let size = size.ok_or_else(|| malformed("the log is full"))?;
        let mut files = self.new_bundles(entries)?;
        let mut known = Known::default();
        let mut added: Vec<Hash> = entries.iter().map(|entry| tree::leaf_hash(entry)).collect();
        for level in 0..HEIGHT {
            // What the last tile of the level held already comes before what is new.
            let first = hashes_at(level, self.size) / FULL;
            let mut hashes = self.partial_tile(level)?;
            let is_changed = !added.is_empty();
            hashes.append(&mut added);
            for (index, hashes) in (first..).zip(hashes.chunks(FULL as usize)) {
                let tile = Tile { level, index, width: hashes.len() as u16 };
                if is_changed {
                    files.push((tile.path(), hashes.concat()));
                }
                if tile.is_full() {
                    added.push(tree::root_of(hashes));
                } else {
                    known.0.insert((level, index), hashes.to_vec());
                }
            }
        }
        Ok(Growth { size, root: tree::root(&known, size)?, files })
    }

    fn new_bundles(&self, entries: &[Vec<u8>]) -> Result<Vec<(String, Vec<u8>)>> {
        let first = self.size / FULL;
        let mut bundled = Vec::new();
        if !entries.is_empty() && !self.size.is_multiple_of(FULL) {
            let tile = self.tile_at(0, first)?;
            bundled = read_bundle(self.read, tile)?;
            let hashes: Vec<Hash> = bundled.iter().map(|entry| tree::leaf_hash(entry)).collect();
            if hashes != self.partial_tile(0)? {
                return Err(does_not_verify(format!("{} does not hold the entries of the tree", tile.bundle_path())));
            }
        }
        bundled.extend_from_slice(entries);
        let bundles = (first..).zip(bundled.chunks(FULL as usize)).map(|(index, entries)| {
            let tile = Tile { level: 0, index, width: entries.len() as u16 };
            Ok((tile.bundle_path(), encode_bundle(entries)?))
        });
        bundles.collect()
    }

    /// The hashes of the last tile of a level, none if that is full.
    fn partial_tile(&self, level: u8) -> Result<Vec<Hash>> {
        let hashes = hashes_at(level, self.size);
        if hashes.is_multiple_of(FULL) { Ok(Vec::new()) } else { self.authentic(level, hashes / FULL) }
    }

    /// The tile of a place in the tree of this size.
    fn tile_at(&self, level: u8, index: u64) -> Result<Tile> {
        let width = hashes_at(level, self.size).saturating_sub(index.saturating_mul(FULL)).min(FULL) as u16;
        if width == 0 {
            return Err(does_not_verify(format!("a tree of {} entries has no such tile", self.size)));
        }
        Ok(Tile { level, index, width })
    }

    /// The hashes of a tile, once they have led to the root.
    fn authentic(&self, level: u8, index: u64) -> Result<Vec<Hash>> {
        if let Some(hashes) = self.known.borrow().0.get(&(level, index)) {
            return Ok(hashes.clone());
        }
        let tile = self.tile_at(level, index)?;
        let hashes = read_tile(self.read, tile)?;
        // Partial tiles are known from the beginning: this one is full, and has its hash in a tile above.
        if !tile.is_full() || tree::root_of(&hashes) != self.hash(HEIGHT * (level + 1), index)? {
            return Err(does_not_verify(format!("{} is not of the tree that the checkpoint names", tile.path())));
        }
        self.known.borrow_mut().0.insert((level, index), hashes.clone());
        Ok(hashes)
    }
}

/// Every hash that comes from here has led to the root.
impl Hashes for Tiles<'_> {
    fn hash(&self, level: u8, index: u64) -> Result<Hash> {
        let place = Place::of(level, index)?;
        let hashes = self.authentic(place.level, place.index)?;
        place.hash_in(&hashes).ok_or_else(|| does_not_verify("a proof needs hashes beyond the end of the tree"))
    }
}

impl std::fmt::Debug for Tiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiles").field("size", &self.size).field("root", &self.root).finish_non_exhaustive()
    }
}

/// What becomes of a tree to which entries were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its new size.
    pub size: u64,
    /// Its new root.
    pub root: Hash,
    /// Paths and bytes of the files to write before the checkpoint of the new size. They replace what stands there:
    /// only an append that never got its checkpoint can have left it.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The partial tiles of a tree, at most one in each level.
fn edge_of(size: u64) -> impl Iterator<Item = Tile> {
    (0..HEIGHT).filter_map(move |level| {
        let hashes = hashes_at(level, size);
        let width = (hashes % FULL) as u16;
        (width > 0).then_some(Tile { level, index: hashes / FULL, width })
    })
}

/// Reads every file of the tree, computes everything anew from the entries, and returns these.
pub fn verify_all(size: u64, root: &Hash, read: &Read<'_>) -> Result<Vec<Vec<u8>>> {
    if size > SIZE_MAX {
        return Err(does_not_verify(format!("a tree of {size} entries is too large")));
    }
    let mut entries = Vec::new();
    for tile in tiles_at(0, size) {
        entries.append(&mut read_bundle(read, tile)?);
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| tree::leaf_hash(entry)).collect();
    if tree::root_of(&leaves) != *root {
        return Err(does_not_verify(format!("the {size} entries do not have the root of the checkpoint")));
    }
    let mut hashes = leaves;
    for level in 0..HEIGHT {
        for (tile, expected) in tiles_at(level, size).zip(hashes.chunks(FULL as usize)) {
            if read_tile(read, tile)? != expected {
                return Err(does_not_verify(format!("{} does not follow from the entries", tile.path())));
            }
        }
        hashes = hashes.chunks_exact(FULL as usize).map(tree::root_of).collect();
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::denial::Reason;

    type Files = BTreeMap<String, Vec<u8>>;

    fn entries(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        range.map(|i| format!("entry {i}").into_bytes()).collect()
    }

    fn leaves(size: usize) -> Vec<Hash> {
        entries(0..size).iter().map(|entry| tree::leaf_hash(entry)).collect()
    }

    fn grow(files: &mut Files, size: u64, root: Hash, entries: &[Vec<u8>]) -> (u64, Hash) {
        let read = |path: &str| files.get(path).cloned();
        let growth = Tiles::open(size, root, &read).unwrap().appended(entries).unwrap();
        files.extend(growth.files);
        (growth.size, growth.root)
    }

    /// A log of that size that was written at once.
    fn log(size: usize) -> (Files, Hash) {
        let mut files = Files::new();
        let (_, root) = grow(&mut files, 0, tree::empty_root(), &entries(0..size));
        (files, root)
    }

    /// What the specification says is in a tile, from the leaves alone.
    fn naive_tile(tile: Tile, leaves: &[Hash]) -> Vec<u8> {
        let span = 256usize.pow(tile.level.into());
        let first = tile.index as usize * 256;
        let hashes = (first..first + usize::from(tile.width)).map(|i| tree::root_of(&leaves[i * span..(i + 1) * span]));
        hashes.flatten().collect()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |level, index, width| Tile { level, index, width }.path();
        assert_eq!(path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(0, 0, 1), "tile/0/000.p/1");
        assert_eq!(path(1, 999, 255), "tile/1/999.p/255");
        assert_eq!(path(2, 1000, 256), "tile/2/x001/000");
        assert_eq!(Tile { level: 0, index: 1_000_000, width: 7 }.bundle_path(), "tile/entries/x001/x000/000.p/7");
    }

    #[test]
    fn a_tree_has_the_tiles_that_the_specification_lists() {
        let count = |level, is_full| {
            tiles_of(70_000).filter(|tile| tile.level == level && tile.is_full() == is_full).count() //
        };
        assert_eq!([count(0, true), count(0, false), count(1, true), count(1, false)], [273, 1, 1, 1]);
        assert_eq!([count(2, true), count(2, false), count(3, true), count(3, false)], [0, 1, 0, 0]);
        let widths: Vec<u16> = tiles_of(70_000).filter(|tile| !tile.is_full()).map(|tile| tile.width).collect();
        assert_eq!(widths, [112, 17, 1]);
        let of_256: Vec<String> = tiles_of(256).map(|tile| tile.path()).collect();
        assert_eq!(of_256, ["tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(tiles_of(0).count(), 0);
    }

    #[test]
    fn appended_one_by_one_or_at_once_it_is_the_tree_of_the_definition() {
        let (mut files, mut size, mut root) = (Files::new(), 0, tree::empty_root());
        for count in 0..=300usize {
            let leaves = leaves(count);
            assert_eq!(root, tree::root_of(&leaves));
            let (bulk, bulk_root) = log(count);
            assert_eq!(bulk_root, root);
            // At once, exactly the tiles of the size are written, and a bundle for each of level 0.
            let tiles: Vec<Tile> = tiles_of(count as u64).collect();
            let bundles = tiles.iter().filter(|tile| tile.level == 0).count();
            assert_eq!(bulk.len(), tiles.len() + bundles);
            for tile in tiles {
                assert_eq!(bulk[&tile.path()], naive_tile(tile, &leaves));
                assert_eq!(files[&tile.path()], bulk[&tile.path()]);
            }
            let read = |path: &str| files.get(path).cloned();
            assert_eq!(verify_all(size, &root, &read).unwrap(), entries(0..count));
            (size, root) = grow(&mut files, size, root, &entries(count..count + 1));
        }
    }

    #[test]
    fn appended_in_steps_across_levels_it_is_the_same() {
        let (mut files, mut size, mut root) = (Files::new(), 0, tree::empty_root());
        for next in [0, 1, 1, 255, 256, 257, 512, 700, 1024, 65_535, 65_536, 65_537, 70_000] {
            (size, root) = grow(&mut files, size, root, &entries(size as usize..next));
            assert_eq!((size, root), (next as u64, tree::root_of(&leaves(next))));
        }
        let (bulk, bulk_root) = log(70_000);
        assert_eq!(bulk_root, root);
        assert!(bulk.iter().all(|(path, bytes)| files[path] == *bytes));
        let read = |path: &str| files.get(path).cloned();
        assert_eq!(verify_all(size, &root, &read).unwrap().len(), 70_000);
    }

    #[test]
    fn an_append_writes_over_nothing_that_a_checkpoint_names() {
        let (files, root) = log(256 + 17);
        let read = |path: &str| files.get(path).cloned();
        for more in [1, 238, 239, 240, 600] {
            let growth = Tiles::open(273, root, &read).unwrap().appended(&entries(273..273 + more)).unwrap();
            assert!(growth.files.iter().all(|(path, _)| !files.contains_key(path)));
        }
        let growth = Tiles::open(273, root, &read).unwrap().appended(&[]).unwrap();
        assert_eq!(growth, Growth { size: 273, root, files: Vec::new() });
    }

    #[test]
    fn proofs_from_tiles_need_few_of_them_and_verify() {
        let (files, root) = log(70_000);
        let leaves = leaves(70_000);
        let reads = Cell::new(0);
        let read = |path: &str| {
            reads.set(reads.get() + 1);
            files.get(path).cloned()
        };
        for index in [0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
            reads.set(0);
            let tiles = Tiles::open(70_000, root, &read).unwrap();
            let proof = tree::inclusion_proof(&tiles, index, 70_000).unwrap();
            assert!(reads.get() <= 6, "{} tiles for entry {index}", reads.get());
            tree::verify_inclusion(&leaves[index as usize], index, 70_000, &proof, &root).unwrap();
            assert_eq!(tiles.entry(index).unwrap(), format!("entry {index}").as_bytes());
        }
        for old in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, 70_000] {
            reads.set(0);
            let tiles = Tiles::open(70_000, root, &read).unwrap();
            let proof = tree::consistency_proof(&tiles, old, 70_000).unwrap();
            assert!(reads.get() <= 6, "{} tiles from {old}", reads.get());
            let old_root = tree::root_of(&leaves[..old as usize]);
            tree::verify_consistency(old, &old_root, 70_000, &root, &proof).unwrap();
            // Those of an older size come from the tiles of the newer one as well.
            assert_eq!(tree::root(&tiles, old).unwrap(), old_root);
        }
        let tiles = Tiles::open(70_000, root, &read).unwrap();
        assert!(tiles.entry(70_000).is_err());
        assert!(tiles.entry(u64::MAX).is_err());
        assert!(tiles.hash(64, 0).is_err());
        assert!(tiles.hash(7, u64::MAX).is_err());
        assert!(tree::inclusion_proof(&tiles, 69_999, 70_001).is_err());
    }

    #[test]
    fn a_partial_file_may_give_way_to_the_full_one() {
        let (mut files, old_root) = log(300);
        let (size, root) = grow(&mut files, 300, old_root, &entries(300..600));
        files.remove("tile/0/001.p/44").unwrap();
        files.remove("tile/entries/001.p/44").unwrap();
        let read = |path: &str| files.get(path).cloned();
        assert_eq!(verify_all(300, &old_root, &read).unwrap(), entries(0..300));
        assert_eq!(Tiles::open(300, old_root, &read).unwrap().entry(299).unwrap(), b"entry 299");
        let growth = Tiles::open(300, old_root, &read).unwrap().appended(&entries(300..600)).unwrap();
        assert_eq!((growth.size, growth.root), (size, root));
    }

    #[test]
    fn a_missing_file_is_noticed() {
        let (files, root) = log(600);
        for path in files.keys() {
            let read = |wanted: &str| if wanted == path { None } else { files.get(wanted).cloned() };
            let denial = verify_all(600, &root, &read).unwrap_err();
            assert_eq!(denial.reason(), Reason::LogInvalid);
            assert_eq!(denial.fact(), format!("{path} is missing"));
        }
    }

    #[test]
    fn every_changed_byte_of_a_file_is_noticed() {
        let (files, root) = log(260);
        let proves = |files: &Files| -> Result<()> {
            let read = |path: &str| files.get(path).cloned();
            let tiles = Tiles::open(260, root, &read)?;
            for index in [0, 130, 259] {
                tree::inclusion_proof(&tiles, index, 260)?;
            }
            tiles.appended(&entries(260..261)).map(drop)
        };
        proves(&files).unwrap();
        let mut changed = files.clone();
        for (path, bytes) in &files {
            for (at, byte) in bytes.iter().enumerate() {
                changed.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
                let read = |path: &str| changed.get(path).cloned();
                // The full tile is long: what reads it alone tries every byte of it, the rest tries some.
                if path == "tile/0/000" {
                    assert!(Tiles::open(260, root, &read).unwrap().hash(0, 0).is_err(), "{path} at {at}");
                }
                if path != "tile/0/000" || at % 37 == 0 {
                    assert!(verify_all(260, &root, &read).is_err(), "{path} at {at}");
                }
                // The full bundle is the only file that neither the proofs nor the append need.
                if path != "tile/entries/000" && at % 37 == 0 {
                    assert!(proves(&changed).is_err(), "{path} at {at}");
                }
                changed.get_mut(path).unwrap()[at] = *byte;
            }
            for length in [0, 1, bytes.len() - 1, bytes.len() + 1, bytes.len() + 32] {
                changed.get_mut(path).unwrap().resize(length, 0);
                assert!(verify_all(260, &root, &|path| changed.get(path).cloned()).is_err(), "{path} of {length}");
                changed.insert(path.clone(), bytes.clone());
            }
        }
        let read = |path: &str| if path == "tile/entries/000" { None } else { files.get(path).cloned() };
        assert!(Tiles::open(260, root, &read).unwrap().entry(0).is_err());
        // Entries that have changed places: of those that are as long, only the two are not the ones in the tree.
        let swapped = |path: &str| {
            let mut bundle = decode_bundle(files.get(path)?, 256).ok().filter(|_| path == "tile/entries/000");
            if let Some(bundle) = &mut bundle {
                bundle.swap(0, 1);
            }
            bundle.map_or_else(|| files.get(path).cloned(), |bundle| encode_bundle(&bundle).ok())
        };
        let tiles = Tiles::open(260, root, &swapped).unwrap();
        assert!(tiles.entry(0).is_err() && tiles.entry(1).is_err());
        assert_eq!(tiles.entry(2).unwrap(), b"entry 2");
    }

    #[test]
    fn another_root_or_size_is_noticed() {
        let (files, root) = log(300);
        let read = |path: &str| files.get(path).cloned();
        let mut other = root;
        other[31] ^= 1;
        for (size, root) in [(300, other), (299, root), (301, root), (0, root), (u64::MAX, root), (SIZE_MAX, root)] {
            assert!(Tiles::open(size, root, &read).is_err());
            assert!(verify_all(size, &root, &read).is_err());
        }
        // Two tiles that have changed places.
        let swapped = |path: &str| match path {
            "tile/0/000" => files.get("tile/1/000.p/1").cloned(),
            "tile/1/000.p/1" => files.get("tile/0/000").cloned(),
            path => files.get(path).cloned(),
        };
        assert!(verify_all(300, &root, &swapped).is_err());
        assert!(Tiles::open(300, root, &swapped).is_err());
    }

    #[test]
    fn bundles_are_read_in_one_form_only() {
        let entries = vec![Vec::new(), vec![1], vec![2; ENTRY_BYTES_MAX]];
        let bytes = encode_bundle(&entries).unwrap();
        assert_eq!(bytes[..6], [0, 0, 0, 1, 1, 0xff]);
        assert_eq!(decode_bundle(&bytes, 3).unwrap(), entries);
        for width in [0, 1, 2, 4, 256] {
            assert!(decode_bundle(&bytes, width).is_err(), "{width}");
        }
        assert!(decode_bundle(&bytes[..bytes.len() - 1], 3).is_err());
        assert!(decode_bundle(&[0], 1).is_err());
        assert!(encode_bundle(&[]).is_err());
        assert!(encode_bundle(&[vec![0; ENTRY_BYTES_MAX + 1]]).is_err());
        assert!(encode_bundle(&vec![Vec::new(); 257]).is_err());
        assert_eq!(encode_bundle(&vec![vec![7; ENTRY_BYTES_MAX]; 256]).unwrap().len(), FILE_BYTES_MAX);
        let read = |_: &str| None;
        let empty = Tiles::open(0, tree::empty_root(), &read).unwrap();
        assert!(empty.appended(&[vec![0; ENTRY_BYTES_MAX + 1]]).is_err());
    }
}
