//! Addresses of servers: over HTTPS, or on this machine.

use std::fmt;

use http::Uri;

use crate::error::{Code, Fault, Result};

/// The prefix of a sharing server's paths, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// Refuses what would carry a token over a network in the clear.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim_end_matches('/');
        let uri = require_confidential(text)?;
        if uri.query().is_some() {
            return Err(refused(text, "has a query"));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before every path of the server.
    pub(crate) fn path(&self) -> &str {
        let behind_scheme = self.0.split_once("://").map_or("", |(_, rest)| rest);
        behind_scheme.find('/').map_or("", |start| &behind_scheme[start..])
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes an address that is HTTPS, or that leads to this machine.
pub(crate) fn require_confidential(text: &str) -> Result<Uri> {
    let uri: Uri = text.parse().map_err(|_| refused(text, "is not an address"))?;
    // What stands before an @ would be sent to whatever stands behind it.
    let host = uri.host().filter(|_| uri.authority().is_some_and(|authority| !authority.as_str().contains('@')));
    let host = host.ok_or_else(|| refused(text, "names no host"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        _ => Err(refused(text, "is not HTTPS")),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn refused(text: &str, why: &str) -> Fault {
    // The query of a file's address is a key to it.
    let shown = text.split('?').next().unwrap_or_default();
    Fault::new(
        Code::AddressRefused,
        format!("{} {why}", shown.escape_debug()),
        "give an address that begins with https://; http:// is for this machine alone",
    )
}
