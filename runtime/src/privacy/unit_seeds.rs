//! The random number that a question may have of each unit: a keyed hash of the unit's key, under a key that follows from
//! the run's own seed.
//!
//! So it is the unit's own, in whatever order and company, on any worker; another one in every run; and the same again in
//! a replay. Without the run's seed nobody can tell it from an identifier.

use std::fmt;

use super::keyed::Keyed;
use crate::provision::UnitKey;

/// Draws the seeds of one run's units.
#[derive(Clone)]
pub(crate) struct UnitSeeds(Keyed);

impl fmt::Debug for UnitSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnitSeeds(..)")
    }
}

impl UnitSeeds {
    /// Those of the run that has this seed. Noise and salt are of the same seed, but by another function.
    pub(crate) fn of_run(seed: &[u8; 32]) -> Self {
        Self::of_key(&Self::key_of_run(seed))
    }

    /// Of the run's seed; nothing that follows from it otherwise follows from this.
    pub(crate) fn key_of_run(seed: &[u8; 32]) -> [u8; 32] {
        Keyed::derive(seed, "glovebox unit seed 1", [])
    }

    pub(crate) fn of_key(key: &[u8; 32]) -> Self {
        Self(Keyed::new(key))
    }

    /// 64 uniform bits.
    pub(crate) fn of(&self, key: &UnitKey) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0.hash(key);
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const RUN: [u8; 32] = [7; 32];

    fn text(key: &str) -> UnitKey {
        UnitKey::Utf8(key.into())
    }

    /// A replay by another version of the program must come to the same numbers.
    #[test]
    fn seeds_are_those_that_another_implementation_computes() {
        // Python: key = hmac.digest(run, struct.pack(">Q", 20) + b"glovebox unit seed 1", "sha256");
        // struct.unpack(">q", hmac.digest(key, b"t" + text or b"i" + struct.pack(">q", number), "sha256")[:8])
        let seeds = UnitSeeds::of_run(&RUN);
        assert_eq!(seeds.of(&UnitKey::Int64(-42)), 5_351_689_525_435_063_332);
        assert_eq!(seeds.of(&text("anna@example.org")), 2_529_010_195_906_177_993);
    }

    /// Between units, between a number and its text, and between runs.
    #[test]
    fn no_two_seeds_are_alike() {
        let runs = [RUN, [8; 32]].map(|run| UnitSeeds::of_run(&run));
        let keys = (0..1_000).flat_map(|id| [UnitKey::Int64(id), text(&id.to_string())]);
        let seeds: BTreeSet<i64> = keys.flat_map(|key| [runs[0].of(&key), runs[1].of(&key)]).collect();
        assert_eq!(seeds.len(), 4_000);
    }
}
