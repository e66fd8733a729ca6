//! Profile files: where a server is, and the token that opens it.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::address::Endpoint;
use crate::error::{Code, Fault, Result};
use crate::files;

/// A profile with a bearer token, of version 1 or 2.
#[derive(Clone)]
pub struct Profile {
    pub(super) endpoint: Endpoint,
    pub(super) token: String,
    expires: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Profile {
    /// A token never reaches a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile({})", self.endpoint)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    share_credentials_version: u32,
    #[serde(rename = "type")]
    kind: Option<String>,
    endpoint: Option<String>,
    bearer_token: Option<String>,
    expiration_time: Option<String>,
}

impl Profile {
    /// Reads a profile file that only its owner can read.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&files::read_private(path)?)
    }

    /// Reads the text of a profile file.
    pub fn parse(text: &str) -> Result<Self> {
        // Its errors may quote the text, which has the token in it.
        let file: File = serde_json::from_str(text).map_err(|_| invalid("it is not the JSON of a profile"))?;
        match (file.share_credentials_version, file.kind.as_deref()) {
            (1, None) | (2, Some("bearer_token")) => {}
            (1 | 2, kind) => {
                return Err(invalid(format!("it is of the type {kind:?}, and only a bearer token is read")));
            }
            (version, _) => return Err(invalid(format!("it has version {version}, and only 1 and 2 are read"))),
        }
        let token =
            file.bearer_token.filter(|token| !token.is_empty()).ok_or_else(|| invalid("it has no `bearerToken`"))?;
        let endpoint = file.endpoint.ok_or_else(|| invalid("it has no `endpoint`"))?;
        let expires = file.expiration_time.map(|text| DateTime::parse_from_rfc3339(&text)).transpose();
        let expires = expires.map_err(|_| invalid("its `expirationTime` is not a time of RFC 3339"))?;
        Ok(Self { endpoint: Endpoint::parse(&endpoint)?, token, expires: expires.map(|time| time.to_utc()) })
    }

    /// Refuses a token that has expired by any clock that could be right.
    pub(super) fn require_unexpired(&self, now: DateTime<Utc>, skew: TimeDelta) -> Result<()> {
        match self.expires.filter(|expires| now >= *expires + skew) {
            None => Ok(()),
            Some(expires) => Err(Fault::new(
                Code::ProfileExpired,
                format!("the token expired at {}, and it is {} here", expires.to_rfc3339(), now.to_rfc3339()),
                "ask the provider for a new profile; if it should still be valid, set the clock of this host",
            )),
        }
    }
}

fn invalid(why: impl AsRef<str>) -> Fault {
    Fault::new(
        Code::ProfileInvalid,
        format!("the profile cannot be used: {}", why.as_ref()),
        "ask the provider for a profile with a bearer token",
    )
}
