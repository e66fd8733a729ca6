//! A digest of rows in any order: a server gives them in whatever order it likes.
//!
//! LtHash: each row is made 1,024 numbers of 16 bits by a hash function, and the numbers of all rows are added up, each
//! place for itself. A sum of plain SHA-256 values would not do: with as many rows as a table has, others of the same
//! sum can be found.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

const PLACES: usize = 1024;

pub(super) struct Multiset {
    sums: [u16; PLACES],
    rows: u64,
}

impl Multiset {
    pub(super) const fn new() -> Self {
        Self { sums: [0; PLACES], rows: 0 }
    }

    pub(super) fn add(&mut self, row: &[u8]) {
        let mut bytes = [0; 2 * PLACES];
        blake3::Hasher::new().update(row).finalize_xof().fill(&mut bytes);
        for (sum, number) in self.sums.iter_mut().zip(bytes.chunks_exact(2)) {
            *sum = sum.wrapping_add(u16::from_le_bytes([number[0], number[1]]));
        }
        self.rows += 1;
    }

    pub(super) fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.rows.to_le_bytes());
        self.sums.iter().for_each(|sum| digest.update(sum.to_le_bytes()));
        HEXLOWER.encode(&digest.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&str]) -> String {
        let mut multiset = Multiset::new();
        rows.iter().for_each(|row| multiset.add(row.as_bytes()));
        multiset.sha256()
    }

    #[test]
    fn a_digest_is_of_rows_in_any_order_and_of_how_often_each_stands() {
        assert_eq!(of(&["a", "b", "b"]), of(&["b", "a", "b"]));
        let all = [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["a", "b", "b"]), of(&["a", "a", "b"]), of(&["ab"])];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
        // 65,536 equal rows add up to nothing in every place: their number tells.
        assert_ne!(of(&vec!["a"; 1 << 16]), of(&[]));
    }
}
