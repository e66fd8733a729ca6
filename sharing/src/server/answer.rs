//! Answers, and refusals as a stranger may see them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use super::request::Request;
use crate::cache::Version;
use crate::error::Fault;
use crate::protocol::{Page, TABLE_VERSION};
use crate::shares::Shared;

/// How much of a file is held at a time.
const CHUNK_BYTES: u64 = 256 << 10;
/// How many entries a page has at most, whatever was asked for.
const PAGE_ITEMS_MAX: usize = 500;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What goes back to a client.
#[derive(Debug)]
pub(super) struct Answer(Response<Body>);

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        self.0
    }

    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
        Self(Response::new(body)).with_status(status).with_header(header::CONTENT_TYPE.as_str(), content_type)
    }

    fn with_status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// Adds a header of ours; one that cannot be written is left out.
    pub(super) fn with_header(mut self, name: &'static str, value: impl TryInto<http::HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.0.headers_mut().insert(name, value);
        }
        self
    }
}

/// An entry of a list.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<String>,
}

impl Listed {
    pub(super) fn share(name: &str) -> Self {
        Self { name: name.to_owned(), schema: None, share: None }
    }

    pub(super) fn schema(share: &str, name: &str) -> Self {
        Self { share: Some(share.to_owned()), ..Self::share(name) }
    }

    pub(super) fn table(view: &Shared) -> Self {
        Self { schema: Some(view.schema.clone()), ..Self::schema(&view.share, &view.name) }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        super::is(name, &self.name)
    }
}

/// Why nothing is served.
#[derive(Debug)]
pub(super) enum Refusal {
    Malformed(&'static str),
    Unauthenticated,
    Forbidden,
    AddressExpired,
    NotFound,
    VersionGone,
    TooLarge,
    /// This host failed. Only its operator is told why.
    Failed(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Refusal {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden | Self::AddressExpired => 403,
            Self::NotFound | Self::VersionGone => 404,
            Self::TooLarge => 413,
            Self::Failed(_) => 500,
        }
    }

    /// As it stands in the log.
    pub(super) const fn code(&self) -> &str {
        match self {
            Self::Failed(fault) => fault.code().as_str(),
            _ => self.error_code(),
        }
    }

    /// What the operator is told of a failure.
    pub(super) fn fact(&self) -> Option<&str> {
        match self {
            Self::Failed(fault) => Some(fault.fact()),
            _ => None,
        }
    }

    const fn error_code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "INVALID_PARAMETER_VALUE",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "PERMISSION_DENIED",
            Self::AddressExpired => "ADDRESS_EXPIRED",
            Self::NotFound => "RESOURCE_DOES_NOT_EXIST",
            Self::VersionGone => "VERSION_DOES_NOT_EXIST",
            Self::TooLarge => "REQUEST_TOO_LARGE",
            Self::Failed(_) => "INTERNAL_ERROR",
        }
    }

    const fn message(&self) -> &'static str {
        match self {
            Self::Malformed(why) => why,
            Self::Unauthenticated => "the bearer token is missing, wrong or expired",
            Self::Forbidden => {
                "the address is not one that this server signed for you, or what it leads to is not shared any more"
            }
            Self::AddressExpired => "the address has expired; query again for a new one",
            Self::NotFound => "nothing of that name is shared with you",
            Self::VersionGone => "the view has no such version, or it is no longer kept",
            Self::TooLarge => "the request is longer than any honest one",
            Self::Failed(_) => "the server failed; its operator finds the reason in the log",
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::json!({ "errorCode": self.error_code(), "message": self.message() });
        Answer::new(status, "application/json; charset=utf-8", body.to_string())
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Answer, Refusal> {
    let text = serde_json::to_string(value).map_err(|_| Refusal::Malformed("the answer cannot be written"))?;
    Ok(Answer::new(StatusCode::OK, "application/json; charset=utf-8", text))
}

/// A page of a list. A token says how many entries came before.
pub(super) fn page(items: Vec<Listed>, request: &Request<'_>) -> Result<Answer, Refusal> {
    let number = |name: &str| match request.parameter(name).filter(|text| !text.is_empty()) {
        Some(text) => text.parse::<usize>().map(Some).map_err(|_| Refusal::Malformed("a parameter is not a number")),
        None => Ok(None),
    };
    let from = number("pageToken")?.unwrap_or(0);
    let count = number("maxResults")?.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX);
    let until = from.saturating_add(count);
    let next_page_token = (until < items.len()).then(|| until.to_string());
    json(&Page { items: items.into_iter().skip(from).take(count).collect(), next_page_token })
}

pub(super) fn version(version: &Version) -> Answer {
    Answer::new(StatusCode::OK, "text/plain; charset=utf-8", "").with_header(TABLE_VERSION, version.number)
}

/// A file, or the part of it that was asked for.
pub(super) fn file(mut file: File, size: u64, range: Option<&str>) -> Result<Answer, Refusal> {
    let (from, until, status) = match range.and_then(|range| part_of(range, size)) {
        Some((from, until)) => (from, until, StatusCode::PARTIAL_CONTENT),
        None => (0, size, StatusCode::OK),
    };
    file.seek(SeekFrom::Start(from)).map_err(|error| crate::files::read_failed(&error))?;
    let body = StreamBody::new(stream::iter(Chunks(file.take(until - from)))).boxed_unsync();
    let mut answer = Answer(Response::new(body))
        .with_status(status)
        .with_header(header::CONTENT_TYPE.as_str(), "application/vnd.apache.parquet")
        .with_header(header::ACCEPT_RANGES.as_str(), "bytes")
        .with_header(header::CACHE_CONTROL.as_str(), "private, no-store")
        .with_header(header::CONTENT_LENGTH.as_str(), until - from);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{size}", until - 1);
        answer = answer.with_header(header::CONTENT_RANGE.as_str(), range);
    }
    Ok(answer)
}

/// One range of bytes; whatever else the header says is answered with the whole, as HTTP allows.
fn part_of(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (from, until) = match (from.trim(), last.trim()) {
        ("", count) => (size.saturating_sub(count.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, last) => (from.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    (from < until).then_some((from, until))
}

/// A file piece by piece, each read when it is sent.
struct Chunks(std::io::Take<File>);

impl Iterator for Chunks {
    type Item = std::io::Result<Frame<Bytes>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = Vec::new();
        match self.0.by_ref().take(CHUNK_BYTES).read_to_end(&mut chunk) {
            Ok(0) => None,
            Ok(_) => Some(Ok(Frame::data(chunk.into()))),
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stays_inside_the_file() {
        assert_eq!(part_of("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(part_of("bytes=4-", 10), Some((4, 10)));
        assert_eq!(part_of("bytes=-3", 10), Some((7, 10)));
        assert_eq!(part_of("bytes=-30", 10), Some((0, 10)));
        assert_eq!(part_of("bytes=8-18446744073709551615", 10), Some((8, 10)));
        for other in ["bytes=10-", "bytes=5-4", "bytes=a-b", "bytes=0-1,3-4", "rows=0-1", "bytes=-0"] {
            assert_eq!(part_of(other, 10), None, "{other}");
        }
    }
}
