//! The only place that draws randomness: ChaCha20 seeded by the operating system.
//!
//! A fixed seed exists for tests and replays alone; no file or flag can choose it.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Code, Fault, Result};

/// A stream of random words.
#[derive(Debug)]
pub struct Random(ChaCha20Rng);

impl Random {
    /// Seeds from the operating system.
    pub fn from_os() -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| {
            Fault::new(
                Code::Internal,
                format!("the operating system gave no randomness: {error}"),
                "run on a host with getrandom(2)",
            )
        })?;
        Ok(Self::from_seed(seed))
    }

    /// A stream that can be drawn again, for tests and replays.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform bytes, for keys, salts and nonces.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
