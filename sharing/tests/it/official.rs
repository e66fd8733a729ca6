//! The official Python client reads what we share: a program that others wrote says whether we speak the protocol.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Sharing, expected};

/// A Python with the client; the task installs it where it is missing.
fn python() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let installed = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "clients"])
        .current_dir(checkout)
        .output()
        .unwrap();
    assert!(installed.status.success(), "cargo xtask clients: {}", String::from_utf8_lossy(&installed.stderr));
    checkout.join("target/sharing/venv/bin/python")
}

/// Asks the client, which answers in JSON.
fn ask(sharing: &Sharing, who: &str, arguments: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/official.py");
    let said =
        Command::new(python()).arg(script).arg(sharing.profile(who)).arg(arguments.to_string()).output().unwrap();
    assert!(said.status.success(), "{arguments}: {}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn the_official_client_lists_and_reads_a_view_in_both_formats() {
    let sharing = Sharing::new(1_000);
    let table = "Weekly.Sales.Visits";
    assert_eq!(
        ask(&sharing, "brand", &json!({ "list": true })),
        json!({ "shares": ["Weekly"], "schemas": ["Sales"], "tables": [table], "all": [table], "paged": [table] })
    );
    assert_eq!(ask(&sharing, "agency", &json!({ "list": true }))["shares"], json!(["empty-handed"]));

    let read = |asked: Value| ask(&sharing, "brand", &json!({ "table": table, "read": asked }));
    let all = expected(1_000);
    assert!(all.len() > 600 && all.len() < 1_000, "the view leaves rows out");
    for use_delta_format in [json!(true), json!(false), Value::Null] {
        let rows = read(json!({ "use_delta_format": use_delta_format }));
        assert_eq!(rows, json!(all), "use_delta_format={use_delta_format}");
    }

    sharing.put_visits(10);
    for use_delta_format in [true, false] {
        let of = |version: Option<u64>, limit: Option<u64>| {
            read(json!({ "use_delta_format": use_delta_format, "version": version, "limit": limit }))
        };
        assert_eq!(of(None, None), json!(expected(10)));
        assert_eq!(of(Some(0), None), json!(all), "the pinned version is as it was");
        assert_eq!(of(Some(1), None), json!(expected(10)));
        let limited = of(Some(0), Some(7));
        let limited = limited.as_array().unwrap();
        assert_eq!(limited.len(), 7);
        assert!(limited.iter().all(|row| all.contains(row)), "{limited:?}");
    }
    sharing.put_visits(0);
    assert_eq!(read(json!({ "use_delta_format": false })), json!([]), "a view without rows");
}

#[test]
fn the_official_client_is_refused_what_is_not_shared_with_it() {
    let sharing = Sharing::new(10);
    let error = ask(&sharing, "agency", &json!({ "table": "Weekly.Sales.Visits", "read": {} }));
    assert!(error["error"].as_str().unwrap().contains("RESOURCE_DOES_NOT_EXIST"), "{error}");
}
