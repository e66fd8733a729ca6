//! Which of a run's shards a unit is in, and hashes by which a set of rows is known again: SipHash-2-4 (Aumasson and
//! Bernstein 2012), under keys that follow from the run's own seed.
//!
//! The key keeps owners from choosing identifiers that all fall into one shard, or rows whose hashes cancel out; it is
//! the run's, so that a replay splits as the run did and no two runs split alike.

use std::fmt;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24x128};

use super::keyed::Keyed;

/// Places units and hashes rows.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardKey {
    units: [u8; 16],
    rows: [u8; 16],
}

impl fmt::Debug for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardKey(..)")
    }
}

impl ShardKey {
    /// That of the run that has this seed. Noise, salt and the units' seeds are of the same seed, but by other functions.
    pub(crate) fn of_run(seed: &[u8; 32]) -> Self {
        let derived = |purpose| {
            let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = Keyed::derive(seed, purpose, []);
            key
        };
        Self { units: derived("glovebox shards 1"), rows: derived("glovebox rows 1") }
    }

    /// For rows that no run reads.
    pub(crate) const fn none() -> Self {
        Self { units: [0; 16], rows: [0; 16] }
    }

    /// The shard of a unit that is named by a number.
    pub(crate) fn of_number(&self, key: i64, shards: u16) -> u16 {
        self.place(b'i', &key.to_be_bytes(), shards)
    }

    /// The shard of a unit that is named by a text.
    pub(crate) fn of_text(&self, key: &str, shards: u16) -> u16 {
        self.place(b't', key.as_bytes(), shards)
    }

    /// The type comes first, so that no number reads like a text.
    #[expect(clippy::cast_possible_truncation, reason = "the rest of a division by 16 bits")]
    fn place(&self, kind: u8, key: &[u8], shards: u16) -> u16 {
        let mut hasher = SipHasher24::new_with_key(&self.units);
        hasher.write(&[kind]);
        hasher.write(key);
        (hasher.finish() % u64::from(shards.max(1))) as u16
    }

    /// The hash of a row in its one encoding.
    pub(crate) fn of_row(&self, row: &[u8]) -> u128 {
        let mut hasher = SipHasher24x128::new_with_key(&self.rows);
        hasher.write(row);
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_those_of_another_implementation() {
        // Python: key = hmac.digest(b"\7" * 32, struct.pack(">Q", len(purpose)) + purpose, "sha256")[:16]; SipHash-2-4
        // from its paper, of b"t" + text or b"i" + struct.pack(">q", number), modulo the shards; its 128 bits of a row.
        let key = ShardKey::of_run(&[7; 32]);
        assert_eq!((key.of_number(-42, 4_096), key.of_text("anna@example.org", 4_096)), (3_208, 3_491));
        assert_eq!(key.of_row(b"row"), 0x4863_21bb_0fd5_a135_14f6_4a0d_b25d_2b54);
        assert_eq!((key.of_number(-42, 1), key.of_number(-42, 16)), (0, 3_208 % 16));
    }
}
