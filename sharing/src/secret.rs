//! Secrets from the operating system, and what is made with them: tokens and the signatures of addresses.

use std::path::Path;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Code, Fault, Result};
use crate::files;

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Fault::new(
            Code::Internal,
            format!("the operating system gave no randomness: {error}"),
            "run on a host with getrandom(2)",
        )
    })?;
    Ok(bytes)
}

/// Signs what an address leads to, and until when.
#[derive(Clone)]
pub(crate) struct Signer([u8; 32]);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// The key of a state folder, which is made where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            files::write_new(path, HEXLOWER.encode(&random::<32>()?).as_bytes())?;
        }
        let key = HEXLOWER.decode(files::read_private(path)?.as_bytes()).ok().and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| {
            Fault::new(
                Code::StateFailed,
                format!("{} is not a key", path.display()),
                "remove it: a new one is made, and addresses that were given out end",
            )
        })
    }

    /// Signs a list of texts, each told from its neighbours.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> String {
        HEXLOWER.encode(&self.mac(parts).finalize().into_bytes())
    }

    /// Compares in a time that does not depend on the signature.
    pub(crate) fn verifies(&self, parts: &[&[u8]], signature: &str) -> bool {
        let signature = HEXLOWER.decode(signature.as_bytes());
        signature.is_ok_and(|signature| self.mac(parts).verify_slice(&signature).is_ok())
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        // As HMAC does with a key that is shorter than a block of its hash.
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_about_each_part() {
        let signer = Signer([7; 32]);
        let signature = signer.sign(&[b"ab", b"c"]);
        assert!(signer.verifies(&[b"ab", b"c"], &signature));
        for parts in [&[b"a".as_slice(), b"bc"][..], &[b"abc"], &[b"ab", b"c", b""], &[b"ab", b"d"]] {
            assert!(!signer.verifies(parts, &signature), "{parts:?}");
        }
        assert!(!signer.verifies(&[b"ab", b"c"], &signature[..62]));
        assert!(!signer.verifies(&[b"ab", b"c"], ""));
    }
}
