//! Names of repositories and of manifests in them. A manifest is named by its digest, never by a tag.

use std::fmt;

use oci_client::Reference;

use crate::digest::Digest;
use crate::error::{Code, Fault, Result};

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Host and port.
    pub(crate) registry: String,
    /// The path in the registry.
    pub(crate) name: String,
}

impl Repository {
    /// The name of a manifest in the repository, in the library's form.
    pub(crate) fn manifest(&self, digest: &Digest) -> Reference {
        Reference::with_digest(self.registry.clone(), self.name.clone(), digest.to_string())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// Reads `REGISTRY/REPO`.
pub(crate) fn parse_repository(text: &str) -> Result<Repository> {
    if text.contains('@') {
        return Err(usage(text, "a push finds out the digest itself: give REGISTRY/REPO"));
    }
    let (registry, name) = text.split_once('/').ok_or_else(|| usage(text, "give REGISTRY/REPO"))?;
    if let Some((name, _)) = name.rsplit_once(':') {
        return Err(tag_refused(text, &format!("{registry}/{name}")));
    }
    // Without a dot, a port or this name, it could as well be the first part of a repository of some default registry.
    let is_host = registry.contains(['.', ':']) || registry == "localhost";
    if !is_host || !registry.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) {
        return Err(usage(text, "begin with the registry's host, and its port if it has one"));
    }
    if !name.split('/').all(is_part) || name.len() > 255 {
        return Err(usage(text, "a repository's path has lower-case letters and digits, joined by one of . _ - /"));
    }
    Ok(Repository { registry: registry.into(), name: name.into() })
}

/// Reads `REGISTRY/REPO@sha256:HEX`.
pub(crate) fn parse_pinned(text: &str) -> Result<(Repository, Digest)> {
    let Some((repository, digest)) = text.split_once('@') else {
        // Names of another fault come first, so that no one is told to pin a name that does not exist.
        let repository = parse_repository(text)?;
        return Err(tag_refused(text, &repository.to_string()));
    };
    Ok((parse_repository(repository)?, digest.parse()?))
}

/// Letters and digits, with single separators between them.
fn is_part(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(alphanumeric) && part.bytes().last().is_some_and(alphanumeric);
    ends && !part.contains("..") && part.bytes().all(|b| alphanumeric(b) || b"._-".contains(&b))
}

fn tag_refused(text: &str, repository: &str) -> Fault {
    Fault::new(
        Code::TagRefused,
        format!("{text} names no digest: a tag can be moved after people approved"),
        format!("a push prints the digest; pull {repository}@sha256:DIGEST"),
    )
}

fn usage(text: &str, remedy: &str) -> Fault {
    Fault::new(Code::Usage, format!("{text:?} names no repository"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_only() {
        let digest = Digest::of(b"");
        let pinned = parse_pinned(&format!("127.0.0.1:5000/rooms/reach@{digest}")).unwrap();
        assert_eq!(pinned.0, Repository { registry: "127.0.0.1:5000".into(), name: "rooms/reach".into() });
        assert_eq!(pinned.1, digest);
        for (text, code) in [
            ("r.example/reach", Code::TagRefused),
            ("r.example/reach:v1", Code::TagRefused),
            (&format!("r.example/reach:v1@{digest}"), Code::TagRefused),
            ("r.example/reach@sha512:00", Code::DigestAlgorithm),
            ("r.example/reach@v1", Code::DigestAlgorithm),
            (&format!("reach@{digest}"), Code::Usage),
            (&format!("rooms/reach@{digest}"), Code::Usage),
            (&format!("r.example/../reach@{digest}"), Code::Usage),
            (&format!("r.example/Reach@{digest}"), Code::Usage),
            (&format!("r.example/@{digest}"), Code::Usage),
            (&format!("user@r.example/reach@{digest}"), Code::Usage),
            (&format!("r.example?x=/reach@{digest}"), Code::Usage),
        ] {
            assert_eq!(parse_pinned(text).unwrap_err().code(), code, "{text}");
        }
        assert_eq!(parse_repository("r.example/reach:v1").unwrap_err().code(), Code::TagRefused);
        assert_eq!(parse_repository(&format!("r.example/reach@{digest}")).unwrap_err().code(), Code::Usage);
    }
}
