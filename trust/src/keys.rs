//! Public keys that every verifier agrees on, and what can sign.

mod files;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};

use crate::denial::{Denial, Reason, Result};
use crate::sha256_hex;

/// An Ed25519 public key that is a canonical point of prime order: on any other, verifiers give different verdicts, and
/// some verify signatures that nobody made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Checks the 32 bytes of a public key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let point = CompressedEdwardsY(*bytes).decompress();
        let point = point
            .filter(|point| point.compress().to_bytes() == *bytes)
            .ok_or_else(|| Denial::new(Reason::KeyNotCanonical, "a public key is not a point in its canonical form"))?;
        if point.is_small_order() {
            return Err(Denial::new(Reason::KeyWeak, "a public key is of small order: it verifies what nobody signed"));
        }
        if !point.is_torsion_free() {
            return Err(Denial::new(
                Reason::KeyNotTorsionFree,
                "a public key is of mixed order: verifiers disagree about its signatures",
            ));
        }
        let key = VerifyingKey::from_bytes(bytes)
            .map_err(|_| Denial::new(Reason::KeyNotCanonical, "a public key is not a point of the curve"))?;
        Ok(Self(key))
    }

    /// The key in 64 digits of lower-case hex.
    pub fn from_hex(hex: &str) -> Result<Self> {
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        Self::from_bytes(
            &bytes.ok_or_else(|| Denial::new(Reason::KeyFormat, "a public key is not 64 digits of lower-case hex"))?,
        )
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// 64 digits of lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(self.0.as_bytes())
    }

    /// The key as SubjectPublicKeyInfo in DER (RFC 8410), as openssl reads it.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        // A fixed prefix and the key: encoding cannot fail.
        self.0.to_public_key_der().map(|der| der.as_bytes().to_vec()).unwrap_or_default()
    }

    /// SHA-256 over [`to_spki`](Self::to_spki), in hex: one name for the key, whatever file it came in.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        sha256_hex(&self.to_spki())
    }

    /// Whether the signature is this key's over the message (RFC 8032, without the cofactor).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// Why a signature could not be had, in a line.
pub type SignError = String;

/// Signs with a key that may never leave the place where it is kept.
pub trait Signer {
    /// The public key.
    fn public(&self) -> PublicKey;

    /// An Ed25519 signature over the message.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A private key in memory. It has no way to print itself.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The secret bytes, for writing a key file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl Signer for SigningKey {
    fn public(&self) -> PublicKey {
        // A public key that was derived from a secret is of prime order.
        PublicKey(self.0.verifying_key())
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.0.sign(message).to_bytes())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}
