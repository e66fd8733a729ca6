//! The encoding of RFC 4251 in which SSH writes keys, signatures and messages: numbers and strings with their length.

use crate::keys::PublicKey;

/// The one algorithm that is written and read.
pub(crate) const ALGORITHM: &str = "ssh-ed25519";

/// Appends a string. Whoever calls this has bounded it to far below 4 GiB.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Reads from the front; what is short gives `None`.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A public key as SSH writes it.
pub(crate) fn key_blob(key: &PublicKey) -> Vec<u8> {
    pair(&key.to_bytes())
}

/// The 32 bytes of an Ed25519 key that SSH wrote, not yet checked.
pub(crate) fn read_key_blob(blob: &[u8]) -> Option<[u8; 32]> {
    read_pair(blob)
}

/// A signature as SSH writes it.
pub(crate) fn signature_blob(signature: &[u8; 64]) -> Vec<u8> {
    pair(signature)
}

/// The 64 bytes of an Ed25519 signature that SSH wrote.
pub(crate) fn read_signature_blob(blob: &[u8]) -> Option<[u8; 64]> {
    read_pair(blob)
}

pub(super) fn pair(value: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    put_string(&mut blob, ALGORITHM.as_bytes());
    put_string(&mut blob, value);
    blob
}

fn read_pair<const N: usize>(blob: &[u8]) -> Option<[u8; N]> {
    let mut reader = Reader(blob);
    let algorithm = reader.string()?;
    let value = reader.string()?;
    reader.end()?;
    (algorithm == ALGORITHM.as_bytes()).then(|| value.try_into().ok())?
}
