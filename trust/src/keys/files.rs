//! Public keys in the files in which programs keep them. Each format is read in the one way in which it is written.

use data_encoding::BASE64;
use ed25519_dalek::pkcs8::{DecodePublicKey, PublicKeyBytes};
use sha2::{Digest, Sha256};

use super::PublicKey;
use crate::base64::decode;
use crate::denial::{Denial, Reason, Result};
use crate::ssh::wire;

const FILE_BYTES_MAX: usize = 4096;
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
const MINISIGN_COMMENT: &str = "untrusted comment: ";
const MINISIGN_ALGORITHM: &[u8; 2] = b"Ed";

impl PublicKey {
    /// Reads a key from the bytes of a file: SubjectPublicKeyInfo in PEM (openssl), one line of OpenSSH, minisign
    /// with or without its comment, or 64 digits of lower-case hex. The line may end as it does on Windows.
    pub fn read(file: &[u8]) -> Result<Self> {
        if file.len() > FILE_BYTES_MAX {
            return Err(Denial::new(Reason::TooLarge, format!("it is longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(file).map_err(|_| unknown())?;
        let lines: Vec<&str> = text.lines().collect();
        if lines.iter().any(|line| line.chars().any(char::is_control)) {
            return Err(unknown());
        }
        let bytes = match lines.as_slice() {
            [PEM_BEGIN, body, PEM_END] => decode(body).and_then(|der| read_spki(&der)),
            [line] if line.starts_with(wire::ALGORITHM) => read_openssh(line),
            [line] if line.len() == 64 => return Self::from_hex(line),
            [line] => read_minisign(line),
            [comment, line] if comment.starts_with(MINISIGN_COMMENT) => read_minisign(line),
            _ => None,
        };
        Self::from_bytes(&bytes.ok_or_else(unknown)?)
    }

    /// The key as `openssl pkey -pubout` writes it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", BASE64.encode(&self.to_spki()))
    }

    /// The key as a line of `authorized_keys`. Control characters of the comment are left out, so that it stays one.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> String {
        let blob = BASE64.encode(&wire::key_blob(self));
        let line = format!("{} {blob} {}", wire::ALGORITHM, on_one_line(comment));
        format!("{}\n", line.trim_end())
    }

    /// The key as a minisign `.pub` file. Control characters of the comment are left out.
    #[must_use]
    pub fn to_minisign(&self, comment: &str) -> String {
        let bytes = [MINISIGN_ALGORITHM.as_slice(), &self.minisign_number(), &self.to_bytes()].concat();
        format!("{MINISIGN_COMMENT}{}\n{}\n", on_one_line(comment), BASE64.encode(&bytes))
    }

    /// The key number of minisign, by which it finds the key of a signature. Minisign draws it at random; here it is
    /// the first 8 bytes of the SHA-256 of the key, so that whoever has the key can write it.
    #[must_use]
    pub fn minisign_number(&self) -> [u8; 8] {
        let digest: [u8; 32] = Sha256::digest(self.to_bytes()).into();
        digest.first_chunk().copied().unwrap_or_default()
    }
}

fn unknown() -> Denial {
    let formats = "PEM, one line of OpenSSH, minisign, or 64 digits of lower-case hex";
    Denial::new(Reason::KeyFormat, format!("a file is not exactly one Ed25519 public key in {formats}"))
}

fn read_spki(der: &[u8]) -> Option<[u8; 32]> {
    let bytes = PublicKeyBytes::from_public_key_der(der).ok()?.to_bytes();
    // An Ed25519 key has one encoding of 44 bytes: whatever else a parser puts up with is refused.
    (der.len() == 44 && der.ends_with(&bytes)).then_some(bytes)
}

fn read_openssh(line: &str) -> Option<[u8; 32]> {
    let mut words = line.splitn(3, ' ');
    let algorithm = words.next()?;
    let blob = decode(words.next()?)?;
    (algorithm == wire::ALGORITHM).then(|| wire::read_key_blob(&blob))?
}

/// The key number is dropped: it is minisign's way to find a key, and nothing vouches for it.
fn read_minisign(line: &str) -> Option<[u8; 32]> {
    let bytes = decode(line)?;
    let numbered = bytes.strip_prefix(MINISIGN_ALGORITHM)?;
    let (_, key) = numbered.split_first_chunk::<8>()?;
    key.try_into().ok()
}

fn on_one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
