//! Pushing to and pulling from a real registry.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::registry::{Registry, sha256};
use crate::room::{QUESTION_TOML, Room, agreement, approval, bundle, component, files_below};
use crate::server::{Request, http, serve};
use crate::tool::{exchange, exchange_with, run, text};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn a_question_comes_back_byte_for_byte_with_its_agreement_and_approvals() {
    let (registry, room) = (Registry::start(), Room::new());
    let digest = room.push(&registry);
    let pinned = format!("{}@{digest}", registry.repository());
    let folder = room.path("incoming");
    let pulled = exchange(&[
        "pull",
        &pinned,
        text(&folder),
        "--agreement",
        text(&room.path("agreements/reach-r1/agreement.json")),
        "--plain-http",
        "--json",
    ])
    .json();
    let id = &sha256(&room.agreement)[7..];
    let expected = ["agreement.json", "brand.dan.dsse.json", "retailer.ana.dsse.json"];
    let mut expected: Vec<String> = expected.iter().map(|name| format!("agreements/{id}/{name}")).collect();
    expected.extend(["question.toml".to_owned(), "question.wasm".to_owned()]);
    assert_eq!(files_below(&folder), expected);
    assert_eq!(fs::read(folder.join("question.wasm")).unwrap(), room.component);
    assert_eq!(fs::read(folder.join("question.toml")).unwrap(), QUESTION_TOML.as_bytes());
    for name in ["agreement.json", "retailer.ana.dsse.json", "brand.dan.dsse.json"] {
        let pulled = fs::read(folder.join(format!("agreements/{id}/{name}"))).unwrap();
        assert_eq!(pulled, fs::read(room.path(&format!("agreements/reach-r1/{name}"))).unwrap(), "{name}");
    }
    assert_eq!(pulled["compared"], true);
    assert_eq!(pulled["component_sha256"], sha256(&room.component)[7..]);
    assert_eq!(pulled["agreements"][0]["approvals"], json!(["brand.dan.dsse.json", "retailer.ana.dsse.json"]));

    // Never over another.
    exchange(&["pull", &pinned, text(&folder), "--plain-http", "--json"]).refused(2, "FILE_EXISTS");
    assert_eq!(files_below(&folder).len(), 5);
}

#[test]
fn the_artifact_has_the_form_of_the_wasm_working_group_and_a_list_of_referrers() {
    let (registry, room) = (Registry::start(), Room::new());
    let digest = room.push(&registry);
    let manifest: Value = serde_json::from_slice(&registry.manifest(&digest)).unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let layer =
        json!({"mediaType": "application/wasm", "digest": sha256(&room.component), "size": room.component.len()});
    assert_eq!(manifest["layers"], json!([layer]));
    assert_eq!(manifest["annotations"]["dev.glovebox.question.toml"], QUESTION_TOML);
    let config = fs::read(registry.blob_file(manifest["config"]["digest"].as_str().unwrap())).unwrap();
    let expected = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
        "layerDigests": [sha256(&room.component)],
        "component": {"exports": ["answer"], "imports": []},
    });
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap(), expected);

    let index: Value = serde_json::from_slice(&registry.manifest(&digest.replace(':', "-"))).unwrap();
    let types: Vec<&str> =
        index["manifests"].as_array().unwrap().iter().map(|entry| entry["artifactType"].as_str().unwrap()).collect();
    let envelope = "application/vnd.dsse.envelope.v1+json";
    assert_eq!(types, ["application/vnd.glovebox.agreement+json", envelope, envelope]);
    for entry in index["manifests"].as_array().unwrap() {
        let referrer: Value = serde_json::from_slice(&registry.manifest(entry["digest"].as_str().unwrap())).unwrap();
        assert_eq!(referrer["subject"]["digest"], digest.as_str());
        assert_eq!(referrer["artifactType"], entry["artifactType"]);
        assert_eq!(referrer["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    }
}

#[test]
fn pushing_again_changes_no_digest_and_adds_what_is_new() {
    let (registry, room) = (Registry::start(), Room::new());
    let digest = room.push(&registry);
    fs::write(room.path("agreements/reach-r1/retailer.ben.dsse.json"), room.approval("retailer.ben")).unwrap();
    assert_eq!(room.push(&registry), digest);
    let index: Value = serde_json::from_slice(&registry.manifest(&digest.replace(':', "-"))).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
}

#[test]
fn a_bundle_stands_for_its_envelope_and_gives_it_back() {
    let (registry, room) = (Registry::start(), Room::new());
    let ana = bundle(&room.approval("retailer.ana"));
    fs::write(room.path("agreements/reach-r1/retailer.ana.sigstore.json"), &ana).unwrap();
    let digest = room.push(&registry);
    let index: Value = serde_json::from_slice(&registry.manifest(&digest.replace(':', "-"))).unwrap();
    let bundles = index["manifests"].as_array().unwrap().iter();
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert_eq!(bundles.filter(|entry| entry["artifactType"] == kind).count(), 1);
    let folder = room.path("incoming");
    let pinned = format!("{}@{digest}", registry.repository());
    exchange(&["pull", &pinned, text(&folder), "--plain-http", "--json"]).json();
    let agreement = folder.join("agreements").join(&sha256(&room.agreement)[7..]);
    let names = ["agreement.json", "brand.dan.dsse.json", "retailer.ana.dsse.json", "retailer.ana.sigstore.json"];
    assert_eq!(files_below(&agreement), names);
    assert_eq!(fs::read(agreement.join("retailer.ana.sigstore.json")).unwrap(), ana);
    let envelope: Value = serde_json::from_slice(&fs::read(agreement.join("retailer.ana.dsse.json")).unwrap()).unwrap();
    assert_eq!(envelope, serde_json::from_slice::<Value>(&room.approval("retailer.ana")).unwrap());
}

#[test]
fn only_the_named_agreement_and_its_approvals_are_pulled() {
    let (registry, room) = (Registry::start(), Room::new());
    let digest = room.push(&registry);
    let second = agreement(&room.component, "2");
    fs::create_dir(room.path("agreements/reach-r2")).unwrap();
    fs::write(room.path("agreements/reach-r2/agreement.json"), &second).unwrap();
    fs::write(room.path("agreements/reach-r2/brand.dan.dsse.json"), approval(&second, "brand.dan")).unwrap();
    let folder = room.path("agreements/reach-r2");
    let component = room.path("reach.wasm");
    let push =
        ["push", &registry.repository(), text(&component), "--agreement", text(&folder), "--plain-http", "--json"];
    assert_eq!(exchange(&push).json()["manifest"], digest.as_str());

    let pinned = format!("{}@{digest}", registry.repository());
    let both = exchange(&["pull", &pinned, text(&room.path("both")), "--plain-http", "--json"]).json();
    assert_eq!(both["agreements"].as_array().unwrap().len(), 2);
    let file = folder.join("agreement.json");
    let one = room.path("one");
    let one = exchange(&["pull", &pinned, text(&one), "--agreement", text(&file), "--plain-http", "--json"]).json();
    assert_eq!(one["agreements"].as_array().unwrap().len(), 1);
    assert_eq!(one["agreements"][0]["approvals"], json!(["brand.dan.dsse.json"]));
    assert_eq!(one["ignored"], 3);
}

#[test]
fn what_is_not_whole_is_not_pushed() {
    let (registry, room) = (Registry::start(), Room::new());
    let repository = registry.repository();
    let component_file = room.path("reach.wasm");
    let folder = room.path("agreements/reach-r1");
    let push = |repository: &str, file: &str| {
        exchange(&["push", repository, file, "--agreement", text(&folder), "--plain-http", "--json"])
    };
    push(&format!("{repository}:v1"), text(&component_file)).refused(3, "TAG_REFUSED");
    push("reach", text(&component_file)).refused(2, "USAGE");
    push(&repository, text(&room.path("none.wasm"))).refused(2, "FILE_UNREADABLE");
    fs::write(room.path("module.wasm"), wat::parse_str("(module)").unwrap()).unwrap();
    push(&repository, text(&room.path("module.wasm"))).refused(3, "COMPONENT_INVALID");
    fs::write(room.path("other.wasm"), component("other")).unwrap();
    fs::write(room.path("other.toml"), QUESTION_TOML).unwrap();
    push(&repository, text(&room.path("other.wasm"))).refused(3, "COMPONENT_CHANGED");
    fs::write(room.path("reach.toml"), "name = \"reached\"\n").unwrap();
    push(&repository, text(&component_file)).refused(3, "MANIFEST_CHANGED");
    fs::write(room.path("reach.toml"), "x".repeat((1 << 20) + 1)).unwrap();
    push(&repository, text(&component_file)).refused(3, "OVERSIZE");
    fs::write(room.path("reach.toml"), QUESTION_TOML).unwrap();

    let stray = folder.join("retailer.eve.dsse.json");
    fs::write(&stray, approval(b"another agreement", "retailer.eve")).unwrap();
    push(&repository, text(&component_file)).refused(3, "SUBJECT_MISMATCH");
    fs::write(&stray, b"{}").unwrap();
    push(&repository, text(&component_file)).refused(3, "APPROVAL_INVALID");
    fs::remove_file(&stray).unwrap();
    std::os::unix::fs::symlink(folder.join("brand.dan.dsse.json"), &stray).unwrap();
    push(&repository, text(&component_file)).refused(2, "FILE_UNREADABLE");

    let big = fs::File::create(room.path("big.wasm")).unwrap();
    big.set_len((8 << 20) + 1).unwrap();
    push(&repository, text(&room.path("big.wasm"))).refused(3, "OVERSIZE");
    let (status, ..) = http(&registry.address, "GET", "/v2/rooms/reach/tags/list", "", b"");
    assert_eq!(status, 404, "nothing reached the registry");
}

#[test]
fn what_is_not_there_or_cannot_be_reached_is_told() {
    let (registry, room) = (Registry::start(), Room::new());
    let pinned = format!("{}@{}", registry.repository(), sha256(b"nothing"));
    let folder = room.path("incoming");
    exchange(&["pull", &pinned, text(&folder), "--plain-http", "--json"]).refused(6, "NOT_FOUND");
    exchange(&["pull", &pinned, text(&folder), "--json"]).refused(6, "NETWORK_FAILED");
    let address = registry.address.clone();
    drop(registry);
    let pinned = format!("{address}/rooms/reach@{}", sha256(b"nothing"));
    exchange(&["pull", &pinned, text(&folder), "--plain-http", "--json"]).refused(6, "NETWORK_FAILED");
    exchange(&["pull", "--json"]).refused(2, "USAGE");
    exchange(&["pull", &pinned, text(&folder), "--component-sha256", "0", "--agreement", "x"]).refused(2, "USAGE");
}

#[test]
fn a_registry_with_tls_is_trusted_by_its_certificate() {
    let room = Room::new();
    let here = room.folder.path();
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let names =
        ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    run(here, "openssl", &[&request[..], &names, &["-keyout", "tls.key", "-out", "tls.crt"]].concat());
    let tls = format!("  tls:\n    certificate: '{0}/tls.crt'\n    key: '{0}/tls.key'\n", here.display());
    let registry = Registry::start_with(&tls, "");
    let (repository, component) = (registry.repository(), room.path("reach.wasm"));
    let push = ["push", &repository, text(&component), "--json"];
    let certificate = room.path("tls.crt");
    let pushed = exchange_with(&push, &[("SSL_CERT_FILE", text(&certificate))]).json();
    exchange(&push).refused(6, "NETWORK_FAILED");
    let folder = room.path("incoming");
    let pull = ["pull", pushed["question"].as_str().unwrap(), text(&folder), "--json"];
    exchange_with(&pull, &[("SSL_CERT_FILE", text(&certificate))]).json();
    assert_eq!(files_below(&folder), ["question.toml", "question.wasm"]);
}

#[test]
fn credentials_come_from_the_environment() {
    let room = Room::new();
    // User ana, password secret.
    fs::write(room.path("htpasswd"), "ana:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: room, path: '{}'}}}}\n", room.path("htpasswd").display());
    let registry = Registry::start_with("", &auth);
    let (repository, component) = (registry.repository(), room.path("reach.wasm"));
    let push = ["push", &repository, text(&component), "--plain-http", "--json"];
    let credentials = |password| [("GLOVEBOX_REGISTRY_USER", "ana"), ("GLOVEBOX_REGISTRY_PASSWORD", password)];
    exchange(&push).refused(6, "SERVER_FAILED");
    exchange_with(&push, &credentials("wrong")).refused(6, "SERVER_FAILED");
    let pushed = exchange_with(&push, &credentials("secret")).json();
    let folder = room.path("incoming");
    let pull = ["pull", pushed["question"].as_str().unwrap(), text(&folder), "--plain-http", "--json"];
    exchange(&pull).refused(6, "SERVER_FAILED");
    exchange_with(&pull, &credentials("secret")).json();
}

/// Stands before a real registry and adds what Debian's lacks: a list of referrers of its own, in pages.
fn with_referrers(registry: &Registry) -> String {
    let upstream = registry.address.clone();
    let listed: Arc<Mutex<Vec<Value>>> = Arc::default();
    serve(move |request: &Request| {
        let mut listed = listed.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path.starts_with("/v2/rooms/reach/referrers/sha256:") {
            let page: usize = query.strip_prefix("page=").map_or(0, |page| page.parse().unwrap());
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed.get(page..=page).unwrap_or_default()});
            let more = page + 1 < listed.len();
            let link = if more { format!("Link: <{path}?page={}>; rel=\"next\"\r\n", page + 1) } else { String::new() };
            return (200, format!("Content-Type: {INDEX}\r\n{link}"), index.to_string().into_bytes());
        }
        let headers = request.head.lines().skip(1).filter(|line| {
            let name = line.to_ascii_lowercase();
            !line.is_empty() && !["content-length", "connection", "host"].iter().any(|other| name.starts_with(other))
        });
        let headers: String = headers.map(|line| format!("{line}\r\n")).collect();
        let (status, head, body) = http(&upstream, &request.method, &request.path, &headers, &request.body);
        let kept = head.lines().filter(|line| {
            let name = line.to_ascii_lowercase();
            name.starts_with("location") || name.starts_with("docker-")
        });
        let mut answer: String = kept.map(|line| format!("{line}\r\n")).collect();
        let manifest: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if request.method == "PUT" && manifest["subject"].is_object() {
            answer += &format!("OCI-Subject: {}\r\n", manifest["subject"]["digest"].as_str().unwrap());
            listed.push(json!({
                "mediaType": manifest["mediaType"], "digest": sha256(&request.body), "size": request.body.len(),
                "artifactType": manifest["artifactType"],
            }));
        }
        // A HEAD has the length of what it does not bring.
        let body = if request.method == "HEAD" { Vec::new() } else { body };
        (status, answer, body)
    })
}

#[test]
fn a_registry_with_a_list_of_its_own_gets_no_tag() {
    let (registry, room) = (Registry::start(), Room::new());
    let repository = format!("{}/rooms/reach", with_referrers(&registry));
    let (component, folder) = (room.path("reach.wasm"), room.path("agreements/reach-r1"));
    let push = ["push", &repository, text(&component), "--agreement", text(&folder), "--plain-http", "--json"];
    let pushed = exchange(&push).json();
    assert_eq!(pushed["referrers_tag"], Value::Null);
    let (_, _, tags) = http(&registry.address, "GET", "/v2/rooms/reach/tags/list", "", b"");
    assert!(!String::from_utf8(tags).unwrap().contains("sha256-"));
    let incoming = room.path("incoming");
    let pulled = exchange(&["pull", pushed["question"].as_str().unwrap(), text(&incoming), "--plain-http", "--json"]);
    assert_eq!(pulled.json()["agreements"][0]["approvals"].as_array().unwrap().len(), 2);
}
