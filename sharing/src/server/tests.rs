//! The server without a socket, at times of our choosing: versions, addresses that end, and who sees what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use glovebox::Clock;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Server;
use super::request::Request;
use crate::error::Code;

const ROOM: &str = r#"
version = 1
id = "grocery"
unit = "household"

[[party]]
id = "retailer"

[[party]]
id = "brand"

[[view]]
id = "visits"
owner = "retailer"
unit = "household"
sources = { visits = "data/retailer/visits.csv" }
sql = "SELECT household, spent FROM visits WHERE spent < 100"

[[view]]
id = "campaigns"
owner = "brand"
unit = "household"
sources = { campaigns = "data/brand/campaigns.csv" }
sql = "SELECT household FROM campaigns"
"#;

const SHARES: &str = r#"
version = 1
party = "retailer"
endpoint = "http://127.0.0.1:1/sharing"
url_minutes = 60
keep_days = 7
rows_per_file = 2

[[share]]
name = "Weekly"
[[share.schema]]
name = "sales"
[[share.schema.view]]
name = "Visits"
view = "visits"
recipients = ["brand"]
[[share.schema.view]]
name = "foreign"
view = "campaigns"
recipients = ["brand"]

[[share]]
name = "other"
[[share.schema]]
name = "sales"
[[share.schema.view]]
name = "visits"
recipients = ["agency"]
"#;

/// A room with one small view, and a server that is asked directly.
struct Fixture {
    folder: TempDir,
    now: DateTime<Utc>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for party in ["retailer", "brand"] {
            fs::create_dir_all(folder.path().join("room/data").join(party)).unwrap();
        }
        let fixture = Self { folder, now: "2026-11-01T12:00:00Z".parse().unwrap() };
        fs::write(fixture.path("room/room.toml"), ROOM).unwrap();
        fs::write(fixture.path("room/data/brand/campaigns.csv"), "household\n1\n").unwrap();
        fixture.put("household,spent\n1,10\n2,20\n3,30\n4,400\n5,50\n6,60\n");
        fixture.write_shares(SHARES);
        for name in ["brand", "agency"] {
            crate::new_recipient(&fixture.path("shares.toml"), name, 30, &fixture.path(name), fixture.now).unwrap();
        }
        fixture
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    /// Replaces the view's file, as an owner should.
    fn put(&self, rows: &str) {
        fs::write(self.path("room/data/retailer/new"), rows).unwrap();
        fs::rename(self.path("room/data/retailer/new"), self.path("room/data/retailer/visits.csv")).unwrap();
    }

    fn write_shares(&self, text: &str) {
        fs::write(self.path("shares.toml"), text).unwrap();
        fs::set_permissions(self.path("shares.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn edit_shares(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("shares.toml")).unwrap();
        assert!(text.contains(from), "no `{from}` in shares.toml");
        self.write_shares(&text.replacen(from, to, 1));
    }

    /// Takes a recipient out, to the end of its paragraph.
    fn revoke(&self, name: &str) {
        let text = fs::read_to_string(self.path("shares.toml")).unwrap();
        let start = text.find(&format!("[[recipient]]\nname = \"{name}\"")).unwrap();
        let end = text[start..].find("\n\n").map_or(text.len(), |end| start + end);
        self.write_shares(&format!("{}{}", &text[..start], &text[end..]));
    }

    fn server(&self, later: TimeDelta) -> Server {
        let clock = Clock::Fixed(self.now + later);
        Server::open(&self.path("room"), &self.path("shares.toml"), &self.path("state"), clock).unwrap()
    }

    fn token(&self, name: &str) -> String {
        let profile: Value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        profile["bearerToken"].as_str().unwrap().to_owned()
    }

    /// Asks a server that starts so much later.
    fn ask(&self, later: TimeDelta, who: Option<&str>, request: &str, body: &Value, capabilities: &str) -> Told {
        told(&self.server(later), who.map(|who| self.token(who)), request, body, capabilities)
    }

    fn get(&self, who: &str, path: &str) -> Told {
        self.ask(TimeDelta::zero(), Some(who), &format!("GET /sharing{path}"), &Value::Null, "")
    }

    fn query(&self, later: TimeDelta, body: &Value) -> Told {
        let path = "POST /sharing/shares/weekly/schemas/SALES/tables/visits/query";
        self.ask(later, Some("brand"), path, body, "responseformat=parquet;includeendstreamaction=true")
    }

    /// The address of the first file of a query, without scheme and host.
    fn address(&self) -> String {
        let told = self.query(TimeDelta::zero(), &json!({}));
        let url = told.lines()[2]["file"]["url"].as_str().unwrap().to_owned();
        url.strip_prefix("http://127.0.0.1:1").unwrap().to_owned()
    }

    fn open_address(&self, later: TimeDelta, address: &str) -> Told {
        self.ask(later, None, &format!("GET {address}"), &Value::Null, "")
    }

    fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("state/access.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a server said.
#[derive(Debug)]
struct Told {
    status: u16,
    version: Option<String>,
    body: Vec<u8>,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errorCode"].as_str().unwrap_or_default().to_owned()
    }

    fn lines(&self) -> Vec<Value> {
        std::str::from_utf8(&self.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        let items = self.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    fn files(&self) -> usize {
        self.lines().iter().filter(|line| line.get("file").is_some()).count()
    }
}

fn told(server: &Server, token: Option<String>, request: &str, body: &Value, capabilities: &str) -> Told {
    let (method, uri) = request.split_once(' ').unwrap();
    let mut built = http::Request::builder().method(method).uri(uri);
    if let Some(token) = token {
        built = built.header("authorization", format!("Bearer {token}"));
    }
    if !capabilities.is_empty() {
        built = built.header("delta-sharing-capabilities", capabilities);
    }
    let (parts, ()) = built.body(()).unwrap().into_parts();
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = server.answer(&Request::new(&parts, &body)).into_response();
    let status = response.status().as_u16();
    let version = response.headers().get("delta-table-version").map(|value| value.to_str().unwrap().to_owned());
    let body = futures::executor::block_on(response.into_body().collect()).unwrap().to_bytes().to_vec();
    Told { status, version, body }
}

#[test]
fn a_recipient_sees_its_own_shares_alone_in_any_case() {
    let room = Fixture::new();
    assert_eq!(room.get("brand", "/shares").names(), ["Weekly"]);
    assert_eq!(room.get("agency", "/shares").names(), ["other"]);
    assert_eq!(room.get("brand", "/shares/WEEKLY/schemas").names(), ["sales"]);
    assert_eq!(room.get("brand", "/shares/weekly/schemas/Sales/tables").names(), ["foreign", "Visits"]);
    assert_eq!(room.get("brand", "/shares/weekly/all-tables").names(), ["foreign", "Visits"]);
    assert_eq!(room.get("brand", "/shares/weekly").json(), json!({ "share": { "name": "Weekly" } }));
    // What others may read looks like what is not there.
    for path in ["/shares/other", "/shares/other/schemas", "/shares/other/all-tables", "/shares/none/schemas"] {
        let told = room.get("brand", path);
        assert_eq!((told.status, told.code().as_str()), (404, "RESOURCE_DOES_NOT_EXIST"), "{path}");
    }
    let theirs = room.get("brand", "/shares/other/schemas/sales/tables/visits/metadata");
    assert_eq!(theirs.body, room.get("brand", "/shares/none/schemas/sales/tables/visits/metadata").body);
}

#[test]
fn only_the_tokens_of_recipients_open_anything_and_only_until_they_expire() {
    let room = Fixture::new();
    let server = room.server(TimeDelta::zero());
    let ask = |token: Option<&str>| told(&server, token.map(str::to_owned), "GET /sharing/shares", &Value::Null, "");
    let token = room.token("brand");
    assert_eq!(ask(Some(&token)).status, 200);
    for wrong in [None, Some(""), Some("x"), Some(&token[1..]), Some(&token.to_lowercase())] {
        let told = ask(wrong);
        assert_eq!((told.status, told.code().as_str()), (401, "UNAUTHENTICATED"), "{wrong:?}");
    }
    drop(server);
    let shares = |later| room.ask(later, Some("brand"), "GET /sharing/shares", &Value::Null, "").status;
    assert_eq!(shares(TimeDelta::days(30) - TimeDelta::seconds(1)), 200);
    assert_eq!(shares(TimeDelta::days(30)), 401);
    room.revoke("brand");
    assert_eq!(shares(TimeDelta::zero()), 401);
}

#[test]
fn lists_come_in_pages() {
    let room = Fixture::new();
    let tables = |query: &str| room.get("brand", &format!("/shares/weekly/all-tables{query}"));
    let first = tables("?maxResults=1");
    assert_eq!(first.names(), ["foreign"]);
    let token = first.json()["nextPageToken"].as_str().unwrap().to_owned();
    let second = tables(&format!("?maxResults=1&pageToken={token}"));
    assert_eq!((second.names(), second.json().get("nextPageToken")), (vec!["Visits".to_owned()], None));
    assert_eq!(tables("?maxResults=0").json(), json!({ "items": [], "nextPageToken": "0" }));
    assert_eq!(tables("?maxResults=-1").status, 400);
    assert_eq!(tables("?pageToken=x").status, 400);
}

#[test]
fn a_version_changes_with_data_or_definition_and_the_old_one_stays_for_a_while() {
    let room = Fixture::new();
    let rows = |told: &Told| -> u64 {
        let lines = told.lines();
        let stats = lines.iter().filter_map(|line| line["file"]["stats"].as_str());
        stats.map(|stats| serde_json::from_str::<Value>(stats).unwrap()["numRecords"].as_u64().unwrap()).sum()
    };
    let now = TimeDelta::zero();
    let first = room.query(now, &json!({}));
    assert_eq!((first.version.as_deref(), rows(&first)), (Some("0"), 5));
    // The same bytes in another file are the same version.
    room.put("household,spent\n1,10\n2,20\n3,30\n4,400\n5,50\n6,60\n");
    assert_eq!(room.query(now, &json!({})).version.as_deref(), Some("0"));

    room.put("household,spent\n1,10\n");
    let hour = TimeDelta::hours(1);
    let second = room.query(hour, &json!({}));
    assert_eq!((second.version.as_deref(), rows(&second)), (Some("1"), 1));
    let pinned = room.query(hour, &json!({ "version": 0 }));
    assert_eq!((pinned.version.as_deref(), rows(&pinned)), (Some("0"), 5));
    assert_eq!(pinned.lines()[1]["metaData"]["id"], second.lines()[1]["metaData"]["id"]);

    let terms = fs::read_to_string(room.path("room/room.toml")).unwrap();
    fs::write(room.path("room/room.toml"), terms.replace("spent < 100", "spent < 5")).unwrap();
    let third = room.query(hour, &json!({}));
    assert_eq!((third.version.as_deref(), rows(&third), third.files()), (Some("2"), 0, 0));

    // The first was replaced an hour from now, and is kept for seven days from then.
    let end = hour + TimeDelta::days(7);
    assert_eq!(room.query(end, &json!({ "version": 0 })).status, 200);
    let gone = room.query(end + TimeDelta::seconds(1), &json!({ "version": 0 }));
    assert_eq!((gone.status, gone.code().as_str()), (404, "VERSION_DOES_NOT_EXIST"));
    assert!(room.path("state/views/visits/0").exists());
    room.query(end + TimeDelta::seconds(1), &json!({}));
    assert!(!room.path("state/views/visits/0").exists(), "what nobody may read any more is removed");
    assert_eq!(room.query(now, &json!({ "version": 7 })).code(), "VERSION_DOES_NOT_EXIST");
}

#[test]
fn what_a_killed_server_left_of_a_version_is_removed() {
    let room = Fixture::new();
    let left = room.path("state/views/visits/.unfinished-x");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("part.parquet"), "rows").unwrap();
    assert_eq!(room.query(TimeDelta::zero(), &json!({})).version.as_deref(), Some("0"));
    assert!(!left.exists());
}

#[test]
fn only_views_of_the_party_itself_are_shared() {
    let room = Fixture::new();
    let told = room.get("brand", "/shares/weekly/schemas/sales/tables/foreign/metadata");
    assert_eq!((told.status, told.code().as_str()), (500, "INTERNAL_ERROR"));
    assert!(!room.path("state/views/campaigns").exists());
    let line = room.log().pop().unwrap();
    assert_eq!((line["code"].as_str(), line["status"].as_u64()), (Some("VIEW_INVALID"), Some(500)));
}

#[test]
fn an_address_is_a_key_to_one_file_of_one_version_for_one_recipient_until_it_ends() {
    let room = Fixture::new();
    let now = TimeDelta::zero();
    let address = room.address();
    let opened = room.open_address(now, &address);
    assert_eq!((opened.status, &opened.body[..4]), (200, b"PAR1".as_slice()));

    let tampered = |from: &str, to: &str| {
        assert!(address.contains(from), "{address} has no {from}");
        let told = room.open_address(now, &address.replacen(from, to, 1));
        assert_eq!((told.status, told.code().as_str()), (403, "PERMISSION_DENIED"), "{from} -> {to}");
    };
    tampered("/0/", "/1/");
    tampered("/00000-", "/00001-");
    tampered("recipient=brand", "recipient=agency");
    tampered("recipient=brand", "recipient=nobody");
    tampered("Visits", "foreign");
    let expires = address.split("expires=").nth(1).unwrap().split('&').next().unwrap();
    tampered(expires, &format!("9{expires}"));
    let signature = address.rsplit('=').next().unwrap();
    tampered(signature, &"0".repeat(64));
    tampered(signature, "");

    assert_eq!(room.open_address(TimeDelta::minutes(60) - TimeDelta::seconds(1), &address).status, 200);
    let ended = room.open_address(TimeDelta::minutes(60), &address);
    assert_eq!((ended.status, ended.code().as_str()), (403, "ADDRESS_EXPIRED"));
}

#[test]
fn what_is_taken_out_of_shares_toml_is_refused_at_once_with_addresses_that_are_out() {
    let now = TimeDelta::zero();
    let refused = |room: &Fixture, address: &str| {
        let told = room.open_address(now, address);
        assert_eq!((told.status, told.code().as_str()), (403, "PERMISSION_DENIED"));
    };
    // The view is no longer shared with the recipient.
    let room = Fixture::new();
    let address = room.address();
    room.edit_shares("view = \"visits\"\nrecipients = [\"brand\"]", "view = \"visits\"\nrecipients = []");
    refused(&room, &address);
    assert_eq!(room.query(now, &json!({})).status, 404);

    // The recipient is gone; it stays gone under a new token.
    let room = Fixture::new();
    let address = room.address();
    room.revoke("brand");
    refused(&room, &address);
    fs::remove_file(room.path("brand")).unwrap();
    crate::new_recipient(&room.path("shares.toml"), "brand", 30, &room.path("brand"), room.now).unwrap();
    assert_eq!(room.query(now, &json!({})).status, 200);
    refused(&room, &address);
}

#[test]
fn a_limit_is_a_hint_to_send_fewer_files() {
    let room = Fixture::new();
    let files = |body: &Value| room.query(TimeDelta::zero(), body).files();
    assert_eq!(files(&json!({})), 3);
    assert_eq!([0, 1, 2, 3, 5, 500].map(|limit| files(&json!({ "limitHint": limit }))), [0, 1, 1, 2, 3, 3]);
    assert_eq!(files(&json!({ "predicateHints": ["spent > 1000"], "unknown": {} })), 3);
    for other in [json!({ "timestamp": "2026-01-01" }), json!({ "startingVersion": 0 }), json!([]), json!("x")] {
        assert_eq!(room.query(TimeDelta::zero(), &other).status, 400, "{other}");
    }
}

#[test]
fn the_end_of_an_answer_shows_where_it_was_asked_for() {
    let room = Fixture::new();
    let with = room.query(TimeDelta::zero(), &json!({}));
    let expires = (room.now + TimeDelta::minutes(60)).timestamp_millis();
    assert_eq!(with.lines().last().unwrap(), &json!({ "endStreamAction": { "minUrlExpirationTimestamp": expires } }));
    let path = "POST /sharing/shares/weekly/schemas/sales/tables/visits/query";
    for format in ["", "responseformat=parquet", "responseformat=delta"] {
        let without = room.ask(TimeDelta::zero(), Some("brand"), path, &json!({}), format);
        assert!(without.lines().iter().all(|line| line.get("endStreamAction").is_none()), "{format}");
    }
    assert_eq!(room.ask(TimeDelta::zero(), Some("brand"), path, &json!({}), "responseformat=orc").status, 400);
}

#[test]
fn every_access_is_one_line_without_a_token_or_a_row() {
    let room = Fixture::new();
    room.get("brand", "/shares");
    let address = room.address();
    room.open_address(TimeDelta::zero(), &address);
    room.open_address(TimeDelta::zero(), &address.replace("/0/", "/1/"));
    let secret = "Bearer-that-was-put-into-a-path";
    room.ask(TimeDelta::zero(), None, &format!("GET /sharing/shares/{secret}"), &Value::Null, "");
    room.ask(TimeDelta::zero(), None, &format!("GET /{secret}"), &Value::Null, "");

    let text = fs::read_to_string(room.path("state/access.jsonl")).unwrap();
    let log = room.log();
    let told: Vec<_> = log.iter().map(|line| [&line["asked"], &line["recipient"], &line["status"]]).collect();
    assert_eq!(
        serde_json::to_value(told).unwrap(),
        json!([
            ["shares", "brand", 200],
            ["query", "brand", 200],
            ["file", "brand", 200],
            ["file", null, 403],
            ["share", null, 401],
            ["unknown", null, 401],
        ])
    );
    assert_eq!((&log[1]["view"], &log[1]["version"]), (&json!("Weekly.sales.Visits"), &json!(0)));
    assert_eq!(log[2]["time"], "2026-11-01T12:00:00Z");
    assert!(log[2]["file"].as_str().unwrap().starts_with("00000-"));
    let signature = address.rsplit('=').next().unwrap();
    for word in [secret, &room.token("brand"), signature] {
        assert!(!text.contains(word), "the log has {word}");
    }
    assert_eq!(fs::metadata(room.path("state/access.jsonl")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_logged_is_not_served() {
    let room = Fixture::new();
    let mut server = room.server(TimeDelta::zero());
    // A log that is full.
    server.audit = crate::audit::Audit::open(std::path::Path::new("/dev/full")).unwrap();
    let told = told(&server, Some(room.token("brand")), "GET /sharing/shares", &Value::Null, "");
    assert_eq!((told.status, told.code().as_str()), (500, "INTERNAL_ERROR"));
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let room = Fixture::new();
    let open = || {
        let clock = Clock::Fixed(room.now);
        Server::open(&room.path("room"), &room.path("shares.toml"), &room.path("state"), clock)
    };
    drop(open().unwrap());
    for secret in ["shares.toml", "state/url.key"] {
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(room.path(secret), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open().unwrap_err().code(), Code::FileExposed, "{secret} {mode:o}");
        }
        fs::set_permissions(room.path(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let profile = fs::metadata(room.path("brand")).unwrap().permissions().mode();
    let state = fs::metadata(room.path("state")).unwrap().permissions().mode();
    assert_eq!((profile & 0o777, state & 0o777), (0o600, 0o700));
}

#[test]
fn two_servers_do_not_share_a_state() {
    let room = Fixture::new();
    let _first = room.server(TimeDelta::zero());
    let clock = Clock::Fixed(room.now);
    let second = Server::open(&room.path("room"), &room.path("shares.toml"), &room.path("state"), clock);
    assert_eq!(second.unwrap_err().code(), Code::StateFailed);
}

#[test]
fn a_path_leads_to_names_and_never_to_files() {
    let room = Fixture::new();
    let address = room.address();
    for trick in [
        "/sharing/shares/..%2f..%2fetc/schemas",
        "/sharing/shares/weekly/schemas/sales/tables/..%2fvisits/query",
        "/sharing/shares/weekly/../../state",
        "/sharing/shares/%00/schemas",
        "/sharing/shares//schemas",
        "/sharing/shares/.hidden/schemas",
        "/sharing/../shares",
        "/shares",
        "/sharingshares",
        "/",
    ] {
        let told = room.ask(TimeDelta::zero(), Some("brand"), &format!("GET {trick}"), &Value::Null, "");
        assert_eq!((told.status, told.code().as_str()), (404, "RESOURCE_DOES_NOT_EXIST"), "{trick}");
    }
    let (path, query) = address.split_once('?').unwrap();
    let file = path.rsplit('/').next().unwrap();
    for trick in ["..%2fversion.json", "version.json", "..%2f..%2f..%2furl.key", "%2e%2e.parquet"] {
        let told = room.open_address(TimeDelta::zero(), &format!("{}?{query}", path.replace(file, trick)));
        assert!([401, 403, 404].contains(&told.status), "{trick}: {}", told.status);
    }
}

#[test]
fn a_shares_toml_that_contradicts_itself_is_refused() {
    let room = Fixture::new();
    let good = fs::read_to_string(room.path("shares.toml")).unwrap();
    for (from, to) in [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nversoin = 1"),
        ("url_minutes = 60", "url_minutes = 0"),
        ("keep_days = 7", "keep_days = 366"),
        ("rows_per_file = 2", "rows_per_file = 0"),
        ("name = \"Weekly\"", "name = \"OTHER\""),
        ("name = \"Weekly\"", "name = \"../up\""),
        ("view = \"visits\"", "view = \"..\""),
        ("name = \"foreign\"", "name = \"VISITS\""),
        ("token_sha256 = \"", "token_sha256 = \"A"),
        ("expires = \"", "expires = \"x"),
    ] {
        assert!(good.contains(from), "{from}");
        room.write_shares(&good.replacen(from, to, 1));
        let fault = crate::shares::Shares::read(&room.path("shares.toml")).unwrap_err();
        assert_eq!(fault.code(), Code::SharesInvalid, "{to}: {fault}");
    }
    let endpoint = "http://127.0.0.1:1/sharing";
    for other in
        ["http://share.example/sharing", "ftp://share.example", "share.example", "https://a@b/", "https://a/?b"]
    {
        room.write_shares(&good.replacen(endpoint, other, 1));
        let fault = crate::shares::Shares::read(&room.path("shares.toml")).unwrap_err();
        assert_eq!(fault.code(), Code::AddressRefused, "{other}");
    }
}

#[test]
fn a_recipient_is_made_once() {
    let room = Fixture::new();
    let make = |name: &str, days, profile: &str| {
        let made = crate::new_recipient(&room.path("shares.toml"), name, days, &room.path(profile), room.now);
        made.map(|made| (made.expires, made.views)).map_err(|fault| fault.code())
    };
    assert_eq!(make("BRAND", 1, "again"), Err(Code::RecipientExists));
    assert_eq!(make("eve", 1, "brand"), Err(Code::FileExists));
    assert_eq!(make("eve", 0, "eve"), Err(Code::Usage));
    assert_eq!(make("e/ve", 1, "eve"), Err(Code::SharesInvalid));
    assert_eq!(make("eve", 1, "eve"), Ok((room.now + TimeDelta::days(1), vec![])));
    room.revoke("brand");
    let views = ["Weekly.sales.foreign", "Weekly.sales.Visits"].map(str::to_owned).to_vec();
    assert_eq!(make("brand", 1, "brand-2"), Ok((room.now + TimeDelta::days(1), views)));
    let text = fs::read_to_string(room.path("shares.toml")).unwrap();
    assert!(!text.contains(&room.token("eve")), "the token stands in shares.toml");
}
