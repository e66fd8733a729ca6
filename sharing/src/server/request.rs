//! A request, and what it asks for.
//!
//! Names are decoded once and must be names: nothing in a path ever becomes part of a path on disk.

use http::request::Parts;
use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::answer::Refusal;
use crate::protocol::{CAPABILITIES, Capabilities, SIGNATURE};
use crate::shares::{Shared, is_name};

/// A request whose body has arrived.
#[derive(Debug)]
pub(super) struct Request<'a> {
    parts: &'a Parts,
    pub(super) body: &'a [u8],
    /// The decoded parts of the path, if each of them could be meant.
    segments: Vec<String>,
    /// The decoded pairs of the query.
    query: Vec<(String, String)>,
}

/// Three names that stand for a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names<'a> {
    pub(super) share: &'a str,
    pub(super) schema: &'a str,
    pub(super) view: &'a str,
}

impl<'a> Names<'a> {
    pub(super) const fn of(shared: &'a Shared) -> Self {
        Self { share: shared.share.as_str(), schema: shared.schema.as_str(), view: shared.name.as_str() }
    }

    /// Whether they mean this view.
    pub(super) fn are(&self, shared: &Shared) -> bool {
        let Names { share, schema, view } = Names::of(shared);
        super::is(self.share, share) && super::is(self.schema, schema) && super::is(self.view, view)
    }
}

/// A file by its signed address.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    pub(super) names: Names<'a>,
    pub(super) version: u64,
    pub(super) file: &'a str,
    pub(super) recipient: &'a str,
    pub(super) expires: i64,
    pub(super) signature: &'a str,
}

/// What can be asked for.
#[derive(Debug)]
pub(super) enum Asked<'a> {
    Shares,
    Share(&'a str),
    Schemas(&'a str),
    AllTables(&'a str),
    Tables(&'a str, &'a str),
    Version(Names<'a>),
    Metadata(Names<'a>),
    Query(Names<'a>),
    File(Signed<'a>),
}

impl Asked<'_> {
    /// As it stands in the log.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Shares => "shares",
            Self::Share(_) => "share",
            Self::Schemas(_) => "schemas",
            Self::AllTables(_) => "all-tables",
            Self::Tables(..) => "tables",
            Self::Version(_) => "version",
            Self::Metadata(_) => "metadata",
            Self::Query(_) => "query",
            Self::File(_) => "file",
        }
    }
}

impl<'a> Request<'a> {
    pub(super) fn new(parts: &'a Parts, body: &'a [u8]) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let segments = parts.uri.path().split('/').skip(1).map(decode).collect();
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(key, value)| (decode(key), decode(value))).collect();
        Self { parts, body, segments, query }
    }

    /// What is asked for; none if that is nothing that there is.
    pub(super) fn asked(&self, prefix: &str) -> Option<Asked<'_>> {
        let mut segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        for part in prefix.split('/').skip(1) {
            if segments.first() != Some(&part) {
                return None;
            }
            segments.remove(0);
        }
        if !segments.iter().all(|segment| is_name(segment.strip_suffix(".parquet").unwrap_or(segment))) {
            return None;
        }
        match (&self.parts.method, segments.as_slice()) {
            (&Method::GET, ["shares"]) => Some(Asked::Shares),
            (&Method::GET, ["shares", share]) => Some(Asked::Share(share)),
            (&Method::GET, ["shares", share, "schemas"]) => Some(Asked::Schemas(share)),
            (&Method::GET, ["shares", share, "all-tables"]) => Some(Asked::AllTables(share)),
            (&Method::GET, ["shares", share, "schemas", schema, "tables"]) => Some(Asked::Tables(share, schema)),
            (method, ["shares", share, "schemas", schema, "tables", view, verb]) => {
                let names = Names { share, schema, view };
                match (method, *verb) {
                    // Clients of the protocol's first version ask for a version with HEAD.
                    (&Method::GET | &Method::HEAD, "version") => Some(Asked::Version(names)),
                    (&Method::GET, "metadata") => Some(Asked::Metadata(names)),
                    (&Method::POST, "query") => Some(Asked::Query(names)),
                    _ => None,
                }
            }
            (&Method::GET | &Method::HEAD, ["files", share, schema, view, version, file]) => {
                self.signed(Names { share, schema, view }, version, file).map(Asked::File)
            }
            _ => None,
        }
    }

    fn signed<'b>(&'b self, names: Names<'b>, version: &str, file: &'b str) -> Option<Signed<'b>> {
        Some(Signed {
            names,
            version: version.parse().ok()?,
            file: file.strip_suffix(".parquet")?,
            recipient: self.parameter("recipient")?,
            expires: self.parameter("expires")?.parse().ok()?,
            signature: self.parameter(SIGNATURE)?,
        })
    }

    /// The bearer token.
    pub(super) fn token(&self) -> Option<&str> {
        let value = text(&self.parts.headers, header::AUTHORIZATION.as_str())?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities::parse(text(&self.parts.headers, CAPABILITIES))
    }

    /// The header `Range`.
    pub(super) fn range(&self) -> Option<&str> {
        text(&self.parts.headers, header::RANGE.as_str())
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a query may say. Predicates are hints that are not taken; what is not known may be left aside.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryBody {
    pub(super) limit_hint: Option<u64>,
    pub(super) version: Option<u64>,
    timestamp: Option<String>,
    starting_version: Option<u64>,
    ending_version: Option<u64>,
}

impl QueryBody {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let body: Self = serde_json::from_slice(body).map_err(|_| Refusal::Malformed("the body is not a query"))?;
        // These are no hints: to leave them aside would answer another question.
        if body.timestamp.is_some() || body.starting_version.is_some() || body.ending_version.is_some() {
            return Err(Refusal::Malformed("versions are asked for by their numbers, and changes are not served"));
        }
        Ok(body)
    }
}
