//! SHA-256 digests, the only ones that are accepted: what people approve is named by one.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::Digest as _;

use crate::error::{Code, Fault, Result};

/// A SHA-256 digest. Its text is `sha256:` and lower-case hex, as registries write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Reads bare hex, as agreements and statements write it.
    pub(crate) fn from_hex(text: &str) -> Result<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            Fault::new(
                Code::DigestAlgorithm,
                format!("{text:?} is not a SHA-256 digest"),
                "give 64 lower-case hex digits",
            )
        })
    }

    /// Bare hex.
    pub(crate) fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The bytes themselves.
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tag under which a registry without a referrers API lists what refers to this manifest.
    pub(crate) fn referrers_tag(&self) -> String {
        format!("sha256-{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(Fault::new(
                Code::DigestAlgorithm,
                format!("{text:?} is not a SHA-256 digest"),
                "approvals name SHA-256 digests: only sha256: is accepted",
            ));
        };
        Self::from_hex(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_in_lower_case_is_read() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for wrong in [
            digest.hex(),
            digest.to_string().to_uppercase(),
            format!("sha256:{}", digest.hex().to_uppercase()),
            format!("sha512:{}{}", digest.hex(), digest.hex()),
            format!("sha512:{}", digest.hex()),
            digest.to_string()[..70].to_owned(),
            format!("{digest}/../x"),
        ] {
            assert_eq!(wrong.parse::<Digest>().unwrap_err().code(), Code::DigestAlgorithm, "{wrong}");
        }
    }
}
