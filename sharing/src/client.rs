//! The client: what others share, as a pin and the streams of its files.
//!
//! Nothing of an answer is taken on trust that its end, its format and its version do not bear out: a stream that was cut
//! off is an error and never a smaller table. Limits and predicates are hints to the server, and **whoever reads the files
//! applies them again**. Tokens go to the endpoint of the profile alone, and addresses of files get none.

mod answer;
mod profile;
mod snapshot;

use std::io::Read;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use glovebox::Clock;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

pub use self::profile::Profile;
pub use self::snapshot::{FileStream, Pin, PinnedFile, Snapshot};
use crate::error::{Code, Fault, Result};
use crate::protocol::{CAPABILITIES, Capabilities, Format, Page, TABLE_VERSION};

/// No connection takes longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A server that says nothing for so long is taken for gone.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest page of a list.
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// How many pages a list may have.
const PAGES_MAX: usize = 1_000;
/// The longest answer to a query.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What is read of an error's body.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// By how much the clocks of two honest hosts may differ.
const SKEW: TimeDelta = TimeDelta::minutes(5);
/// What stays as it is in a path.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A shared table by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The share.
    pub share: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

/// What to ask of a table.
#[derive(Clone, Debug)]
pub struct Query {
    /// The newest version where none is named.
    pub version: Option<u64>,
    /// How many rows will be read at most: a hint.
    pub limit: Option<u64>,
    /// A JSON predicate over partition columns: a hint.
    pub predicate: Option<String>,
    /// The formats that the caller can read.
    pub formats: Vec<Format>,
}

impl Default for Query {
    fn default() -> Self {
        Self { version: None, limit: None, predicate: None, formats: vec![Format::Parquet, Format::Delta] }
    }
}

/// A reader of what one profile opens.
#[derive(Debug)]
pub struct Client {
    profile: Profile,
    agent: Agent,
    clock: Clock,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Client {
    /// A client that reads with this profile. Nothing is sent yet.
    #[must_use]
    pub fn new(profile: Profile, clock: Clock) -> Self {
        let is_https = profile.endpoint.as_str().starts_with("https://");
        let agent = Agent::config_builder()
            // An address of a file may not lead from a server elsewhere to one on this machine.
            .https_only(is_https)
            // What is on this machine is asked directly, or a proxy would see the token.
            .proxy(if is_https { Proxy::try_from_env() } else { None })
            .http_status_as_error(false)
            // A redirect would be followed to wherever a server likes.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("glovebox-sharing/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Self { profile, agent: agent.into(), clock }
    }

    /// Where the server is, without anything secret.
    pub(crate) fn endpoint(&self) -> &str {
        self.profile.endpoint.as_str()
    }

    /// The shares that the profile opens.
    pub fn shares(&self) -> Result<Vec<String>> {
        self.names(&["shares"])
    }

    /// The schemas of a share.
    pub fn schemas(&self, share: &str) -> Result<Vec<String>> {
        self.names(&["shares", share, "schemas"])
    }

    /// The tables of a schema.
    pub fn tables(&self, share: &str, schema: &str) -> Result<Vec<Table>> {
        self.list(&["shares", share, "schemas", schema, "tables"])
    }

    /// All tables of a share.
    pub fn all_tables(&self, share: &str) -> Result<Vec<Table>> {
        self.list(&["shares", share, "all-tables"])
    }

    /// The number of a table's newest version.
    pub fn version(&self, table: &Table) -> Result<u64> {
        let response = self.get(&table.path("version"), &[])?;
        table_version(&response)
    }

    /// Asks for a version of a table: which files it has, and where they are for a while.
    pub fn query(&self, table: &Table, query: &Query) -> Result<Snapshot> {
        let asked = Capabilities { formats: query.formats.clone(), end_stream_action: true };
        let mut body = json!({});
        let hints = [
            ("version", query.version.map(Value::from)),
            ("limitHint", query.limit.map(Value::from)),
            ("jsonPredicateHints", query.predicate.clone().map(Value::from)),
        ];
        for (name, value) in hints.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            body[name] = value;
        }
        let request = self
            .agent
            .post(self.url(&table.path("query"))?)
            .header("authorization", self.authorization()?)
            .header(CAPABILITIES, asked.to_header())
            .header("content-type", "application/json; charset=utf-8");
        let response = request.send(body.to_string());
        let response = self.accepted(response.map_err(|error| self.network_failed(&error))?)?;
        let version = table_version(&response)?;
        if let Some(pinned) = query.version.filter(|pinned| *pinned != version) {
            return Err(Fault::new(
                Code::PinLost,
                format!("version {pinned} of {table} was asked for, and the server answers with version {version}"),
                "ask the provider to keep versions, or pin a newer one",
            ));
        }
        let said = Capabilities::parse(header(&response, CAPABILITIES));
        let format = said.formats.first().copied().filter(|format| asked.formats.contains(format));
        let format = format.ok_or_else(|| {
            Fault::new(
                Code::FormatUnexpected,
                format!(
                    "the server answers in format {:?} where {:?} was asked for",
                    header(&response, CAPABILITIES),
                    asked.to_header()
                ),
                "ask for a format that the server has",
            )
        })?;
        let ahead = self.server_is_ahead(&response);
        let text = read_text(response, ANSWER_BYTES_MAX)?;
        let answer = answer::parse(&text, format, said.end_stream_action)?;
        Ok(Snapshot::new(table.clone(), version, format, query.clone(), answer, ahead))
    }

    /// Opens a file of a snapshot, by its place in the pin. Asks for new addresses first where they are about to end.
    pub fn open(&self, snapshot: &mut Snapshot, file: usize) -> Result<FileStream> {
        if snapshot.ends_soon(self.clock.now()) {
            let again = self.query(&snapshot.pin().table, &snapshot.query_again()).map_err(pin_lost)?;
            snapshot.renew(&again)?;
            snapshot.require_usable(self.clock.now())?;
        }
        let (pinned, url) = snapshot.file(file)?;
        crate::address::require_confidential(url)?;
        let response = self.agent.get(url).call().map_err(|error| self.network_failed(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Fault::new(
                Code::ServerFailed,
                format!("file {} answers {}", pinned.id, response.status()),
                "query again; if the pinned version is gone, pin a newer one",
            ));
        }
        Ok(FileStream::new(pinned, response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn names(&self, path: &[&str]) -> Result<Vec<String>> {
        let named: Vec<Named> = self.list(path)?;
        Ok(named.into_iter().map(|named| named.name).collect())
    }

    /// All pages of a list.
    fn list<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut token = None::<String>;
        for _ in 0..PAGES_MAX {
            let query: Vec<_> = token.iter().map(|token| ("pageToken", token.as_str())).collect();
            let text = read_text(self.get(&join(path), &query)?, PAGE_BYTES_MAX)?;
            // Read as an object first: an array would pass for a page without entries.
            let page: serde_json::Map<String, Value> =
                serde_json::from_str(&text).map_err(|error| not_a_page(&error))?;
            let page: Page<T> = serde_json::from_value(page.into()).map_err(|error| not_a_page(&error))?;
            items.extend(page.items);
            let next = page.next_page_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(items);
            }
            if next == token {
                break;
            }
            token = next;
        }
        Err(Fault::new(
            Code::AnswerInvalid,
            format!("the list {} does not end", join(path)),
            "ask whoever runs the server",
        ))
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<http::Response<Body>> {
        let mut request = self.agent.get(self.url(path)?).header("authorization", self.authorization()?);
        for (key, value) in query {
            request = request.query(key, value);
        }
        self.accepted(request.call().map_err(|error| self.network_failed(&error))?)
    }

    fn url(&self, path: &str) -> Result<String> {
        self.profile.require_unexpired(self.clock.now(), SKEW)?;
        Ok(format!("{}/{path}", self.profile.endpoint))
    }

    fn authorization(&self) -> Result<http::HeaderValue> {
        let mut value: http::HeaderValue = format!("Bearer {}", self.profile.token).parse().map_err(|_| {
            Fault::new(Code::ProfileInvalid, "the token cannot stand in a header", "ask for a new profile")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn accepted(&self, response: http::Response<Body>) -> Result<http::Response<Body>> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let endpoint = &self.profile.endpoint;
        let said = complaint(response);
        let (code, remedy) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (Code::AccessDenied, "check the time of this host, or ask the provider for a new profile")
            }
            StatusCode::NOT_FOUND => (Code::NotShared, "list what is shared, or ask the provider"),
            _ => (Code::ServerFailed, "try again later, or ask whoever runs the server"),
        };
        Err(Fault::new(code, format!("{endpoint} answers {status}: {said}"), remedy))
    }

    /// By how much the server's clock is ahead of ours.
    fn server_is_ahead(&self, response: &http::Response<Body>) -> TimeDelta {
        let date = header(response, "date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        date.map_or_else(TimeDelta::zero, |date| date.to_utc() - self.clock.now())
    }

    fn network_failed(&self, error: &ureq::Error) -> Fault {
        Fault::new(
            Code::NetworkFailed,
            format!("{} or a file of it cannot be reached: {error}", self.profile.endpoint),
            "check the address, the network and the server's certificate, or try again later",
        )
    }
}

impl Table {
    fn path(&self, verb: &str) -> String {
        join(&["shares", &self.share, "schemas", &self.schema, "tables", &self.name, verb])
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.share, self.schema, self.name)
    }
}

fn join(path: &[&str]) -> String {
    let encoded: Vec<String> = path.iter().map(|part| utf8_percent_encode(part, UNRESERVED).to_string()).collect();
    encoded.join("/")
}

fn header<'a>(response: &'a http::Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn table_version(response: &http::Response<Body>) -> Result<u64> {
    header(response, TABLE_VERSION).and_then(|version| version.parse().ok()).ok_or_else(|| {
        Fault::new(
            Code::AnswerInvalid,
            "the server does not say which version it answers with",
            "ask whoever runs the server",
        )
    })
}

/// A whole body of bounded length. One that breaks off is no shorter body.
fn read_text(response: http::Response<Body>, max: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader().take(max + 1);
    reader.read_to_end(&mut bytes).map_err(|error| {
        Fault::new(Code::AnswerTruncated, format!("the answer broke off: {error}"), "try again; nothing was kept")
    })?;
    if bytes.len() as u64 > max {
        return Err(Fault::new(
            Code::Oversize,
            format!("the server sends more than {max} bytes"),
            "nothing was kept; ask whoever runs the server",
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| Fault::new(Code::AnswerInvalid, "the answer is not UTF-8 text", "ask whoever runs the server"))
}

/// The beginning of an error's body, for a fact.
fn complaint(response: http::Response<Body>) -> String {
    let mut bytes = Vec::new();
    let _ = response.into_body().into_reader().take(COMPLAINT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).chars().take(300).collect()
}

fn not_a_page(error: &serde_json::Error) -> Fault {
    Fault::new(Code::AnswerInvalid, format!("a list is malformed: {error}"), "ask whoever runs the server")
}

/// What is not there when it is asked for again was there when it was pinned.
fn pin_lost(fault: Fault) -> Fault {
    match fault.code() {
        Code::NotShared => {
            Fault::new(Code::PinLost, format!("the pinned version is gone: {}", fault.fact()), fault.remedy())
        }
        _ => fault,
    }
}

/// A time as people read it, from milliseconds since 1970.
fn time(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis).map_or_else(|| millis.to_string(), |time| time.to_rfc3339())
}
