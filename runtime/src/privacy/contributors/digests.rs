//! Sets of units that can be compared without being known.

use std::fmt;

use crate::privacy::keyed::Keyed;
use crate::provision::UnitKey;

/// Hashes unit keys for the history of one host. Without the host's key no one can tell whose a hash is.
#[derive(Clone)]
pub(crate) struct Digester([u8; 32], Keyed);

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(..)")
    }
}

impl Digester {
    pub(crate) fn new(master: &[u8; 32]) -> Self {
        Self::of_key(Keyed::derive(master, "glovebox contributors 1", []))
    }

    pub(crate) fn of_key(key: [u8; 32]) -> Self {
        Self(key, Keyed::new(&key))
    }

    /// For another process that names units in the same history.
    pub(crate) const fn key(&self) -> [u8; 32] {
        self.0
    }

    /// A hash of which 63 bits count: among a million units two are taken for one once in 20 million times, and a set
    /// seems one smaller then.
    pub(crate) fn digest(&self, key: &UnitKey) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.1.hash(key);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Set in the hash of a unit that not all parties know. Whoever makes units up makes them up for itself.
const NOT_EVERYONES: u64 = 1 << 63;

/// A unit's hash, with whether all parties know the unit.
pub(crate) const fn marked(hash: u64, is_everyones: bool) -> u64 {
    if is_everyones { unit(hash) } else { unit(hash) | NOT_EVERYONES }
}

/// Whose a hash is, whoever knows the unit.
const fn unit(hash: u64) -> u64 {
    hash & !NOT_EVERYONES
}

/// A set of units: marked hashes in the units' order, each unit once.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Digests(Vec<u64>);

impl fmt::Debug for Digests {
    /// Who is in a set never reaches a log line, nor how many are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digests(..)")
    }
}

impl From<Vec<u64>> for Digests {
    fn from(mut digests: Vec<u64>) -> Self {
        digests.sort_unstable_by_key(|hash| (unit(*hash), *hash));
        digests.dedup_by_key(|hash| unit(*hash));
        Self(digests)
    }
}

impl Digests {
    pub(super) fn union<'a>(sets: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut all = Vec::with_capacity(sets.clone().map(Self::len).sum());
        sets.for_each(|set| all.extend_from_slice(&set.0));
        Self::from(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u64> {
        self.0.iter().copied()
    }

    /// How many units only one of the sets has, if all parties know fewer of them than the limit.
    #[cfg(test)]
    pub(crate) fn symmetric_difference_below(&self, other: &Self, limit: u64) -> Option<u64> {
        difference_below(self.iter(), other.iter(), limit)
    }
}

/// The same for anything that gives a set's hashes in order. Ends as soon as the limit is reached. Only units that all
/// parties know count toward it, as they do toward k: others could be made up to make two sets differ enough.
pub(super) fn difference_below(
    one: impl ExactSizeIterator<Item = u64>,
    two: impl ExactSizeIterator<Item = u64>,
    limit: u64,
) -> Option<u64> {
    let (mut one, mut two) = (one.peekable(), two.peekable());
    let (mut different, mut everyones) = (0, 0);
    while everyones < limit {
        let only_one_has = match (one.peek().copied(), two.peek().copied()) {
            (None, None) => return Some(different),
            (Some(left), Some(right)) if unit(left) == unit(right) => {
                one.next();
                two.next();
                None
            }
            (Some(left), right) if right.is_none_or(|right| unit(left) < unit(right)) => one.next(),
            _ => two.next(),
        };
        if let Some(hash) = only_one_has {
            different += 1;
            everyones += u64::from(hash & NOT_EVERYONES == 0);
        }
    }
    None
}
