//! Our client: what it makes of an honest server, and what of one that is not.

use std::io::Read;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use glovebox::Clock;
use glovebox_sharing::{Client, Code, Fault, Format, Profile, Query, Snapshot, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::faulty::{Asked, Faulty, Reply};
use crate::support::{Sharing, expected, write_private};

fn table() -> Table {
    Table { share: "weekly".into(), schema: "sales".into(), name: "visits".into() }
}

fn client(sharing: &Sharing, who: &str) -> Client {
    Client::new(Profile::read(&sharing.profile(who)).unwrap(), Clock::System)
}

/// All rows of a snapshot, in order, as JSON.
fn rows(client: &Client, snapshot: &mut Snapshot) -> Vec<Value> {
    let mut rows = Vec::new();
    for file in 0..snapshot.pin().files.len() {
        let mut bytes = Vec::new();
        client.open(snapshot, file).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, snapshot.pin().files[file].size);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().build().unwrap();
        reader.for_each(|batch| rows.extend(of_batch(&batch.unwrap())));
    }
    rows.sort_by_key(|row| row[0].as_i64());
    rows
}

fn of_batch(batch: &RecordBatch) -> Vec<Value> {
    let column = |index| batch.column(index);
    let (visit, household) = (column(0).as_primitive::<Int64Type>(), column(1).as_primitive::<Int64Type>());
    let (store, spent) = (column(2).as_string::<i32>(), column(3).as_primitive::<Float64Type>());
    let (day, at) = (column(4).as_primitive::<Date32Type>(), column(5).as_primitive::<TimestampMicrosecondType>());
    let store = |row| store.is_valid(row).then(|| store.value(row));
    let row = |row| {
        json!([visit.value(row), household.value(row), store(row), spent.value(row), day.value(row), at.value(row)])
    };
    (0..batch.num_rows()).map(row).collect()
}

#[test]
fn it_lists_and_reads_what_our_server_shares() {
    let sharing = Sharing::new(1_000);
    let client = client(&sharing, "brand");
    assert_eq!(client.shares().unwrap(), ["Weekly"]);
    assert_eq!(client.schemas("weekly").unwrap(), ["Sales"]);
    let listed = Table { share: "Weekly".into(), schema: "Sales".into(), name: "Visits".into() };
    assert_eq!(client.tables("WEEKLY", "sales").unwrap(), vec![listed.clone()]);
    assert_eq!(client.all_tables("weekly").unwrap(), vec![listed.clone()]);
    assert_eq!(client.version(&listed).unwrap(), 0);

    let all = expected(1_000);
    let pins: Vec<_> = [Format::Parquet, Format::Delta]
        .into_iter()
        .map(|format| {
            let mut snapshot = client.query(&table(), &Query { formats: vec![format], ..Query::default() }).unwrap();
            assert_eq!(snapshot.format(), format);
            assert_eq!(rows(&client, &mut snapshot), all);
            snapshot.pin().clone()
        })
        .collect();
    assert_eq!(pins[0], pins[1], "a pin does not depend on the format");
    assert!(pins[0].files.len() > 2);

    sharing.put_visits(10);
    let mut newest = client.query(&table(), &Query::default()).unwrap();
    assert_eq!((newest.pin().version, rows(&client, &mut newest)), (1, expected(10)));
    let mut pinned = client.query(&table(), &Query { version: Some(0), ..Query::default() }).unwrap();
    assert_eq!(pinned.pin(), &pins[0]);
    assert_eq!(rows(&client, &mut pinned), all);
    // A limit is a hint: there are fewer files, and more rows than asked for.
    let mut some = client.query(&table(), &Query { version: Some(0), limit: Some(7), ..Query::default() }).unwrap();
    assert_eq!((some.pin().files.len(), rows(&client, &mut some).len()), (1, 200));
}

#[test]
fn another_recipients_token_opens_nothing() {
    let sharing = Sharing::new(10);
    let theirs = client(&sharing, "agency");
    assert_eq!(theirs.query(&table(), &Query::default()).unwrap_err().code(), Code::NotShared);
    assert_eq!(theirs.schemas("Weekly").unwrap_err().code(), Code::NotShared);
    let mut profile = json!({ "shareCredentialsVersion": 1, "endpoint": sharing.endpoint, "bearerToken": "guessed" });
    let stranger = Client::new(Profile::parse(&profile.to_string()).unwrap(), Clock::System);
    assert_eq!(stranger.shares().unwrap_err().code(), Code::AccessDenied);
    profile["bearerToken"] = json!(sharing.token("brand"));
    assert_eq!(Client::new(Profile::parse(&profile.to_string()).unwrap(), Clock::System).shares().unwrap(), ["Weekly"]);
}

#[test]
fn addresses_are_renewed_before_they_end_and_measured_by_the_clock_that_set_them() {
    let sharing = Sharing::new(1_000);
    // A clock that is hours ahead or behind makes no address look ended that is not.
    for hours in [-5, 0, 5] {
        let clock = Clock::Fixed(Utc::now() + TimeDelta::hours(hours));
        let client = Client::new(Profile::read(&sharing.profile("brand")).unwrap(), clock);
        let mut snapshot = client.query(&table(), &Query::default()).unwrap();
        assert_eq!(rows(&client, &mut snapshot), expected(1_000), "{hours} hours ahead");
    }
    let queries = |log: &str| log.lines().filter(|line| line.contains("\"asked\":\"query\"")).count();
    let log = || std::fs::read_to_string(sharing.path("state/access.jsonl")).unwrap();
    assert_eq!(queries(&log()), 3, "none was asked for twice");

    // With a minute to live each is renewed, under the version that was pinned.
    let text = std::fs::read_to_string(sharing.path("shares.toml")).unwrap();
    write_private(&sharing.path("shares.toml"), &text.replace("rows_per_file", "url_minutes = 1\nrows_per_file"));
    let client = client(&sharing, "brand");
    let mut snapshot = client.query(&table(), &Query::default()).unwrap();
    sharing.put_visits(10);
    assert_eq!(rows(&client, &mut snapshot), expected(1_000));
    assert_eq!(queries(&log()), 4 + snapshot.pin().files.len());
}

#[test]
fn an_expired_profile_is_refused_before_any_call() {
    let server = Faulty::new(|_, _| Reply::ok("{\"items\":[]}"));
    let expires = Utc::now();
    let mut profile = server.profile();
    profile["expirationTime"] = json!(expires.to_rfc3339());
    let shares = |later: TimeDelta| {
        let profile = Profile::parse(&profile.to_string()).unwrap();
        Client::new(profile, Clock::Fixed(expires + later)).shares()
    };
    // Clocks differ by minutes: by then it is for the server to say.
    assert_eq!(shares(TimeDelta::minutes(4)).unwrap(), Vec::<String>::new());
    assert_eq!(server.asked().len(), 1);
    let fault = shares(TimeDelta::minutes(6)).unwrap_err();
    assert_eq!(fault.code(), Code::ProfileExpired);
    assert!(fault.fact().contains("expired at 20") && fault.fact().contains("it is 20"), "{fault}");
    assert_eq!(server.asked().len(), 1, "it was asked with an expired token");
}

#[test]
fn profiles_of_versions_one_and_two_are_read_and_no_others() {
    let read = |profile: Value| Profile::parse(&profile.to_string()).map_err(|fault| fault.code()).map(drop);
    let endpoint = "https://share.example/sharing/";
    let token = "secret-token";
    read(json!({ "shareCredentialsVersion": 1, "endpoint": endpoint, "bearerToken": token })).unwrap();
    let two =
        json!({ "shareCredentialsVersion": 2, "type": "bearer_token", "endpoint": endpoint, "bearerToken": token });
    read(two.clone()).unwrap();
    let with = |key: &str, value: Value| {
        let mut profile = two.clone();
        profile[key] = value;
        read(profile)
    };
    for (key, value) in [
        ("shareCredentialsVersion", json!(3)),
        ("shareCredentialsVersion", json!(0)),
        ("shareCredentialsVersion", json!("2")),
        ("type", json!("basic")),
        ("type", json!("oauth_client_credentials")),
        ("bearerToken", json!("")),
        ("bearerToken", Value::Null),
        ("endpoint", Value::Null),
        ("expirationTime", json!("tomorrow")),
    ] {
        assert_eq!(with(key, value.clone()), Err(Code::ProfileInvalid), "{key}: {value}");
    }
    assert_eq!(with("endpoint", json!("http://share.example")), Err(Code::AddressRefused));
    let malformed = Profile::parse(&format!("{{\"bearerToken\": \"{token}\" nonsense")).unwrap_err();
    assert!(!malformed.to_string().contains(token), "{malformed}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("brand.share");
    write_private(&path, &two.to_string());
    assert!(!format!("{:?}", Profile::read(&path).unwrap()).contains(token));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(Profile::read(&path).unwrap_err().code(), Code::FileExposed);
}

/// The lines of an honest answer, in the format of Parquet: two files of ten bytes.
fn honest(endpoint: &str) -> Vec<Value> {
    let file = |id: &str| json!({ "file": { "id": id, "size": 10, "url": format!("{endpoint}/{id}?X-Amz-Signature=x"), "partitionValues": {} } });
    vec![
        json!({ "protocol": { "minReaderVersion": 1 } }),
        json!({ "metaData": { "id": "t", "schemaString": "{}", "partitionColumns": [], "format": { "provider": "parquet" } } }),
        file("one"),
        file("two"),
        json!({ "endStreamAction": {} }),
    ]
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// An answer of version 3 in some format, which says that its end shows.
fn answer(format: &str, body: String) -> Reply {
    let capabilities = format!("responseformat={format};includeEndStreamAction=true");
    Reply {
        headers: vec![("delta-table-version", "3".into()), ("delta-sharing-capabilities", capabilities)],
        ..Reply::ok(body)
    }
}

/// Asks a server that answers every query so.
fn asked(query: &Query, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Result<Snapshot, Fault> {
    let server = Faulty::new(move |endpoint, _| reply(endpoint));
    let profile = Profile::parse(&server.profile().to_string()).unwrap();
    Client::new(profile, Clock::System).query(&table(), query)
}

/// What becomes of an honest answer after a change to its lines.
fn changed(format: &'static str, change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Result<Snapshot, Code> {
    let snapshot = asked(&Query::default(), move |endpoint| {
        let mut lines = honest(endpoint);
        change(&mut lines);
        answer(format, text(&lines))
    });
    snapshot.map_err(|fault| fault.code())
}

#[test]
fn an_answer_that_is_not_whole_is_no_smaller_table() {
    let query = Query::default();
    let code = |reply: fn(&str) -> Reply| asked(&query, reply).map_err(|fault| fault.code()).map(|_| ());
    assert_eq!(code(|endpoint| answer("parquet", text(&honest(endpoint)))), Ok(()));
    // The connection breaks off, with and without a length that was announced.
    assert_eq!(
        code(|endpoint| Reply { breaks: true, ..answer("parquet", text(&honest(endpoint)[..3])) }),
        Err(Code::AnswerTruncated)
    );
    assert_eq!(
        code(|endpoint| {
            let mut reply = answer("parquet", text(&honest(endpoint)[..3]));
            reply.headers.push(("content-length", "4000".into()));
            Reply { breaks: true, ..reply }
        }),
        Err(Code::AnswerTruncated)
    );
    // The server ends it early: between two lines, and in one.
    assert_eq!(code(|endpoint| answer("parquet", text(&honest(endpoint)[..4]))), Err(Code::AnswerTruncated));
    assert_eq!(
        code(|endpoint| {
            let whole = text(&honest(endpoint));
            answer("parquet", whole[..whole.len() - 4].to_owned())
        }),
        Err(Code::AnswerTruncated)
    );
    assert_eq!(changed("parquet", |lines| drop(lines.remove(1))).unwrap_err(), Code::AnswerTruncated);
    // A server that promises no such line is believed, as the protocol has it.
    let silent = asked(&query, |endpoint| {
        let mut reply = answer("parquet", text(&honest(endpoint)[..4]));
        reply.headers.truncate(1);
        reply
    });
    assert_eq!(silent.unwrap().pin().files.len(), 2);
}

#[test]
fn an_error_after_a_good_status_fails_the_query() {
    let end = json!({ "endStreamAction": { "errorMessage": "the store is gone" } });
    let failed = asked(&Query::default(), move |endpoint| {
        let mut lines = honest(endpoint);
        lines[4] = end.clone();
        // Also where the server did not say that its end shows.
        let mut reply = answer("parquet", text(&lines));
        reply.headers.truncate(1);
        reply
    });
    let fault = failed.unwrap_err();
    assert_eq!(fault.code(), Code::QueryFailed);
    assert!(fault.fact().contains("the store is gone"), "{fault}");
}

#[test]
fn an_answer_in_another_format_or_version_is_an_error() {
    let parquet = Query { formats: vec![Format::Parquet], ..Query::default() };
    let code = |query: &Query, reply: fn(&str) -> Reply| asked(query, reply).unwrap_err().code();
    assert_eq!(code(&parquet, |endpoint| answer("delta", text(&honest(endpoint)))), Code::FormatUnexpected);
    assert_eq!(code(&parquet, |endpoint| answer("orc", text(&honest(endpoint)))), Code::FormatUnexpected);
    // It says one format and answers in the other.
    assert_eq!(code(&Query::default(), |endpoint| answer("delta", text(&honest(endpoint)))), Code::AnswerInvalid);
    let pinned = Query { version: Some(2), ..Query::default() };
    assert_eq!(code(&pinned, |endpoint| answer("parquet", text(&honest(endpoint)))), Code::PinLost);
    assert_eq!(code(&pinned, |endpoint| Reply::ok(text(&honest(endpoint)))), Code::AnswerInvalid);
}

#[test]
fn a_table_that_needs_more_of_its_reader_is_refused() {
    fn delta(lines: &mut [Value], protocol: Value, configuration: Value, vector: Value) {
        lines[0] = json!({ "protocol": { "deltaProtocol": protocol } });
        lines[1] = json!({ "metaData": { "deltaMetadata": { "id": "t", "schemaString": "{}", "configuration": configuration } } });
        for line in &mut lines[2..4] {
            let url = line["file"]["url"].take();
            line["file"]["deltaSingleAction"] = json!({ "add": { "path": url, "deletionVector": vector } });
        }
    }
    type Case = (Value, Value, Value);
    let code = |(protocol, configuration, vector): Case| {
        changed("delta", move |lines| delta(lines, protocol.clone(), configuration.clone(), vector.clone())).map(|_| ())
    };
    let plain = || json!({ "minReaderVersion": 1 });
    let feature = |name: &str| json!({ "minReaderVersion": 3, "readerFeatures": [name] });
    assert_eq!(code((plain(), json!({}), Value::Null)), Ok(()));
    assert_eq!(code((feature("timestampNtz"), json!({}), Value::Null)), Ok(()));
    let mapped = json!({ "delta.columnMapping.mode": "name" });
    for case in [
        (plain(), json!({}), json!({ "storageType": "u" })),
        (plain(), mapped, Value::Null),
        (feature("deletionVectors"), json!({}), Value::Null),
        (json!({ "minReaderVersion": 4 }), json!({}), Value::Null),
    ] {
        assert_eq!(code(case.clone()), Err(Code::FeatureUnsupported), "{case:?}");
    }
}

#[test]
fn an_answer_that_says_two_things_is_refused() {
    let code = |change: fn(&mut Vec<Value>)| changed("parquet", change).unwrap_err();
    assert_eq!(code(|lines| lines[3]["file"]["id"] = json!("one")), Code::AnswerInvalid);
    assert_eq!(code(|lines| lines[4]["endStreamAction"]["nextPageToken"] = json!("2")), Code::AnswerInvalid);
    assert_eq!(code(|lines| lines.swap(3, 4)), Code::AnswerInvalid);
    assert_eq!(code(|lines| lines[2]["metaData"] = json!({})), Code::AnswerInvalid);
    assert_eq!(code(|lines| lines[2] = json!({ "remove": {} })), Code::AnswerInvalid);
    assert_eq!(code(|lines| lines[2]["file"]["size"] = json!(-1)), Code::AnswerInvalid);
}

#[test]
fn lists_end_and_answers_have_bounds() {
    let shares = |reply: fn(&Asked) -> Reply| {
        let server = Faulty::new(move |_, asked| reply(asked));
        let shares = Client::new(Profile::parse(&server.profile().to_string()).unwrap(), Clock::System).shares();
        (shares.map_err(|fault| fault.code()), server.asked().len())
    };
    let paged = shares(|asked| match asked.path.as_str() {
        "/shares" => Reply::ok(r#"{"items":[{"name":"a"}],"nextPageToken":"x&y"}"#),
        "/shares?pageToken=x%26y" => Reply::ok(r#"{"items":[{"name":"b"}],"nextPageToken":""}"#),
        other => panic!("{other}"),
    });
    assert_eq!(paged, (Ok(vec!["a".into(), "b".into()]), 2));
    assert_eq!(shares(|_| Reply::ok("{}")), (Ok(vec![]), 1));
    assert_eq!(shares(|_| Reply::ok(r#"{"items":[],"nextPageToken":"again"}"#)), (Err(Code::AnswerInvalid), 2));
    assert_eq!(shares(|_| Reply::ok(" ".repeat((1 << 20) + 1))), (Err(Code::Oversize), 1));
    assert_eq!(shares(|_| Reply::ok("[]")), (Err(Code::AnswerInvalid), 1));
    assert_eq!(shares(|_| Reply::status(503)), (Err(Code::ServerFailed), 1));
}

#[test]
fn a_token_goes_nowhere_but_to_its_endpoint() {
    let elsewhere = Faulty::new(|_, _| Reply::ok("{}"));
    let target = elsewhere.endpoint.clone();
    let server = Faulty::new(move |_, _| Reply { headers: vec![("location", target.clone())], ..Reply::status(307) });
    let client = Client::new(Profile::parse(&server.profile().to_string()).unwrap(), Clock::System);
    assert_eq!(client.shares().unwrap_err().code(), Code::ServerFailed);
    assert!(elsewhere.asked().is_empty(), "a redirect was followed");
    assert_eq!(server.asked()[0].authorization.as_deref(), Some("Bearer secret"));

    let (client, mut snapshot, server) = files(|_, _| Reply::ok("0123456789"));
    client.open(&mut snapshot, 0).unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(server.asked().last().unwrap().authorization, None);

    let clear = changed("parquet", |lines| lines[2]["file"]["url"] = json!("http://store.example/one"));
    let fault = client.open(&mut clear.unwrap(), 0).unwrap_err();
    assert_eq!(fault.code(), Code::AddressRefused);
}

/// A snapshot of a server whose files are answered so; queries after the first are, too.
fn files(reply: impl Fn(&str, &Asked) -> Reply + Send + Sync + 'static) -> (Client, Snapshot, Faulty) {
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let server = Faulty::new(move |endpoint, asked| {
        if asked.path.ends_with("/query") && is_first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return answer("parquet", text(&ending(endpoint, None)));
        }
        if asked.path.contains("signature") || asked.path.ends_with("/query") || asked.path.contains('?') {
            return reply(endpoint, asked);
        }
        panic!("{asked:?}")
    });
    let client = Client::new(Profile::parse(&server.profile().to_string()).unwrap(), Clock::System);
    let snapshot = client.query(&table(), &Query::default()).unwrap();
    (client, snapshot, server)
}

/// An honest answer whose addresses end in so many minutes, if that is told.
fn ending(endpoint: &str, minutes: Option<i64>) -> Vec<Value> {
    let mut lines = honest(endpoint);
    if let Some(minutes) = minutes {
        let ends = Utc::now() + TimeDelta::minutes(minutes);
        lines[4]["endStreamAction"]["minUrlExpirationTimestamp"] = json!(ends.timestamp_millis());
    }
    lines
}

#[test]
fn a_file_is_as_long_as_it_was_pinned() {
    let read = |reply: fn() -> Reply| {
        let (client, mut snapshot, _) = files(move |_, _| reply());
        let mut bytes = Vec::new();
        client.open(&mut snapshot, 1).and_then(|mut stream| {
            stream.read_to_end(&mut bytes).map_err(|error| match error.downcast::<Fault>() {
                Ok(fault) => fault,
                Err(error) => panic!("{error}"),
            })
        })
    };
    assert_eq!(read(|| Reply::ok("0123456789")).unwrap(), 10);
    assert_eq!(read(|| Reply::ok("012345678")).unwrap_err().code(), Code::AnswerTruncated);
    assert_eq!(read(|| Reply::ok("0123456789a")).unwrap_err().code(), Code::AnswerTruncated);
    assert_eq!(read(|| Reply::status(403)).unwrap_err().code(), Code::ServerFailed);
    let (client, mut snapshot, _) = files(|_, _| Reply { breaks: true, ..Reply::ok("01234") });
    client.open(&mut snapshot, 0).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(client.open(&mut snapshot, 2).unwrap_err().code(), Code::Usage);
}

/// What becomes of a snapshot whose addresses have ended, when the server answers the second query so.
fn renewed(second: impl Fn(&str, &Asked) -> Reply + Send + Sync + 'static) -> Result<String, Code> {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Faulty::new(move |endpoint, asked| {
        if !asked.path.ends_with("/query") {
            return Reply::ok(if asked.path.contains("two") { "2222222222" } else { "1111111111" });
        }
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => answer("parquet", text(&ending(endpoint, Some(1)))),
            _ => second(endpoint, asked),
        }
    });
    let client = Client::new(Profile::parse(&server.profile().to_string()).unwrap(), Clock::System);
    let mut snapshot = client.query(&table(), &Query::default()).unwrap();
    let mut text = String::new();
    let stream = client.open(&mut snapshot, 1).map_err(|fault| fault.code());
    stream?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn renewed_addresses_are_of_the_same_files_or_the_pin_is_lost() {
    let same = renewed(|endpoint, asked| {
        assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), json!({ "version": 3 }));
        let mut lines = ending(endpoint, Some(60));
        lines.swap(2, 3);
        answer("parquet", text(&lines))
    });
    assert_eq!(same.unwrap(), "2222222222", "places mean what they meant");
    let lost = |change: fn(&mut Vec<Value>)| {
        renewed(move |endpoint, _| {
            let mut lines = ending(endpoint, Some(60));
            change(&mut lines);
            answer("parquet", text(&lines))
        })
        .unwrap_err()
    };
    assert_eq!(lost(|lines| lines[3]["file"]["id"] = json!("three")), Code::PinLost);
    assert_eq!(lost(|lines| lines[3]["file"]["size"] = json!(11)), Code::PinLost);
    assert_eq!(lost(|lines| drop(lines.remove(3))), Code::PinLost);
    assert_eq!(lost(|lines| lines[1]["metaData"]["id"] = json!("u")), Code::PinLost);
    assert_eq!(lost(|lines| lines[1]["metaData"]["schemaString"] = json!("[]")), Code::PinLost);
    assert_eq!(renewed(|_, _| Reply::status(404)).unwrap_err(), Code::PinLost, "a version that has vanished");
    assert_eq!(renewed(|_, _| Reply::status(403)).unwrap_err(), Code::AccessDenied);
    assert_eq!(
        renewed(|endpoint, _| answer("parquet", text(&ending(endpoint, Some(-1))))).unwrap_err(),
        Code::UrlExpired
    );
}
