//! What whoever runs a registry, or may write to it, can try on those who pull. Nothing is ever written then.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::registry::{Registry, sha256};
use crate::room::{Room, agreement, approval, component};
use crate::server::serve;
use crate::tool::{Ran, exchange, text};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A question with agreement and approvals in a registry, as everyone wants it.
struct Scene {
    registry: Registry,
    room: Room,
    digest: String,
}

impl Scene {
    fn new() -> Self {
        let (registry, room) = (Registry::start(), Room::new());
        let digest = room.push(&registry);
        Self { registry, room, digest }
    }

    fn folder(&self) -> PathBuf {
        self.room.path("incoming")
    }

    fn pull(&self) -> Ran {
        self.pull_of(&self.digest, &[])
    }

    fn pull_of(&self, digest: &str, more: &[&str]) -> Ran {
        let pinned = format!("{}@{digest}", self.registry.repository());
        let folder = self.folder();
        exchange(&[&["pull", &pinned, text(&folder), "--plain-http", "--json"], more].concat())
    }

    /// It is refused so, and leaves nothing behind.
    #[track_caller]
    fn refuses(&self, ran: &Ran, code: &str) {
        ran.refused(3, code);
        let left: Vec<String> = fs::read_dir(self.room.folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(left.iter().all(|name| name != "incoming" && !name.starts_with(".glovebox")), "{left:?}");
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&self.registry.manifest(&self.digest)).unwrap()
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&self.registry.manifest(&self.tag())).unwrap()
    }

    fn tag(&self) -> String {
        self.digest.replace(':', "-")
    }

    /// Replaces the list of referrers.
    fn list(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        assert_eq!(self.registry.put(&self.tag(), INDEX, index.as_bytes()), 201);
    }

    /// Plants a manifest; gives the answer to pulling it.
    fn pull_planted(&self, manifest: &Value) -> Ran {
        let digest = self.registry.plant_manifest(manifest.to_string().as_bytes());
        self.pull_of(&digest, &[])
    }

    /// Plants a referrer and lists it alone.
    fn refer(&self, title: &str, kind: &str, content: &[u8], subject: &str) {
        self.registry.plant_blob(content);
        self.registry.plant_blob(b"{}");
        let layer = json!({"mediaType": kind, "digest": sha256(content), "size": content.len(),
            "annotations": {"org.opencontainers.image.title": title}});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2},
            "layers": [layer], "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}})
        .to_string();
        let digest = self.registry.plant_manifest(manifest.as_bytes());
        self.list(&[entry(&digest, manifest.len(), kind)]);
    }
}

fn entry(digest: &str, size: usize, kind: &str) -> Value {
    json!({"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": kind})
}

#[test]
fn a_tag_moved_after_approval_changes_nothing_and_is_not_pulled() {
    let scene = Scene::new();
    let original = scene.registry.manifest(&scene.digest);
    assert_eq!(scene.registry.put("v1", MANIFEST, &original), 201);
    // Someone with access builds another question and moves the tag to it.
    fs::write(scene.room.path("evil.wasm"), component("evil")).unwrap();
    fs::write(scene.room.path("evil.toml"), "name = \"reach\"\n").unwrap();
    let evil = scene.room.path("evil.wasm");
    let pushed = exchange(&["push", &scene.registry.repository(), text(&evil), "--plain-http", "--json"]).json();
    let moved = pushed["manifest"].as_str().unwrap();
    assert_eq!(scene.registry.put("v1", MANIFEST, &scene.registry.manifest(moved)), 201);

    let folder = scene.folder();
    for name in [":v1".to_owned(), String::new(), format!(":v1@{}", scene.digest)] {
        let tagged = format!("{}{name}", scene.registry.repository());
        let ran = exchange(&["pull", &tagged, text(&folder), "--plain-http", "--json"]);
        scene.refuses(&ran, "TAG_REFUSED");
    }
    // A manifest digest that someone passed on is not the agreement's component either.
    let agreement = scene.room.path("agreements/reach-r1/agreement.json");
    scene.refuses(&scene.pull_of(moved, &["--agreement", text(&agreement)]), "COMPONENT_CHANGED");
    let agreed = sha256(&scene.room.component)[7..].to_owned();
    scene.refuses(&scene.pull_of(moved, &["--component-sha256", &agreed]), "COMPONENT_CHANGED");
    scene.pull_of(&scene.digest, &["--component-sha256", &agreed]).json();
    assert_eq!(fs::read(folder.join("question.wasm")).unwrap(), scene.room.component);
}

#[test]
fn a_manifest_with_two_wasm_layers_or_none() {
    let scene = Scene::new();
    let other = component("other");
    scene.registry.plant_blob(&other);
    let mut manifest = scene.manifest();
    let second = json!({"mediaType": "application/wasm", "digest": sha256(&other), "size": other.len()});
    manifest["layers"].as_array_mut().unwrap().push(second);
    scene.refuses(&scene.pull_planted(&manifest), "ARTIFACT_INVALID");
    manifest["layers"].as_array_mut().unwrap().reverse();
    scene.refuses(&scene.pull_planted(&manifest), "ARTIFACT_INVALID");
    manifest["layers"] = json!([]);
    scene.refuses(&scene.pull_planted(&manifest), "ARTIFACT_INVALID");
    // One layer that is not the one the configuration is about.
    manifest["layers"] = json!([{"mediaType": "application/wasm", "digest": sha256(&other), "size": other.len()}]);
    scene.refuses(&scene.pull_planted(&manifest), "ARTIFACT_INVALID");
}

#[test]
fn manifests_of_another_form() {
    let scene = Scene::new();
    let wrong = |pointer: &str, value: Value| {
        let mut manifest = scene.manifest();
        let place = manifest.pointer_mut(pointer).unwrap();
        *place = value;
        scene.pull_planted(&manifest)
    };
    for (pointer, value) in [
        ("/mediaType", json!("application/vnd.docker.distribution.manifest.v2+json")),
        ("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
        ("/layers/0/mediaType", json!("application/octet-stream")),
        ("/annotations", json!({})),
    ] {
        scene.refuses(&wrong(pointer, value), "ARTIFACT_INVALID");
    }
    let size = scene.room.component.len();
    for wrong_size in [0, size - 1, size + 1] {
        scene.refuses(&wrong("/layers/0/size", json!(wrong_size)), "DIGEST_MISMATCH");
    }
    // This one the registry rewrites for those who did not ask for it, and so it has no longer its digest.
    scene.refuses(&wrong("/schemaVersion", json!(1)), "DIGEST_MISMATCH");
    let mut subject = scene.manifest();
    subject["subject"] = json!({"mediaType": MANIFEST, "digest": scene.digest, "size": 1});
    scene.refuses(&scene.pull_planted(&subject), "ARTIFACT_INVALID");
    // A list of manifests: which of them is meant?
    let index = scene.registry.manifest(&scene.tag());
    let digest = scene.registry.plant_manifest(&index);
    scene.refuses(&scene.pull_of(&digest, &[]), "ARTIFACT_INVALID");
    // Bytes that are no component, under an honest digest.
    let module = wat::parse_str("(module)").unwrap();
    let digest = scene.registry.plant_blob(&module);
    let layers = json!([{"mediaType": "application/wasm", "digest": digest, "size": module.len()}]);
    let config = json!({"created": "", "architecture": "wasm", "os": "wasip2", "layerDigests": [digest],
        "component": {"exports": [], "imports": []}})
    .to_string();
    let mut manifest = scene.manifest();
    manifest["layers"] = layers;
    manifest["config"]["digest"] = json!(scene.registry.plant_blob(config.as_bytes()));
    manifest["config"]["size"] = json!(config.len());
    scene.refuses(&scene.pull_planted(&manifest), "COMPONENT_INVALID");
}

#[test]
fn the_right_manifest_with_a_wrong_blob() {
    let scene = Scene::new();
    let file = scene.registry.blob_file(&sha256(&scene.room.component));
    let evil = component("evil99");
    assert_eq!(evil.len(), scene.room.component.len(), "the size alone must not give it away");
    for bytes in [evil.as_slice(), &evil[..evil.len() - 1], &[&evil[..], b"x"].concat(), b""] {
        fs::write(&file, bytes).unwrap();
        scene.refuses(&scene.pull(), "DIGEST_MISMATCH");
    }
    fs::remove_file(&file).unwrap();
    scene.pull().refused(6, "NOT_FOUND");
}

#[test]
fn every_other_blob_changed_on_the_registrys_disk() {
    let scene = Scene::new();
    let mut digests = vec![scene.digest.clone(), scene.manifest()["config"]["digest"].as_str().unwrap().to_owned()];
    for entry in scene.index()["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        let referrer: Value = serde_json::from_slice(&scene.registry.manifest(digest)).unwrap();
        digests.extend([digest.to_owned(), referrer["layers"][0]["digest"].as_str().unwrap().to_owned()]);
    }
    assert_eq!(digests.len(), 8);
    for digest in &digests {
        let file = scene.registry.blob_file(digest);
        let honest = fs::read(&file).unwrap();
        let mut changed = honest.clone();
        let at = changed.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        changed[at] ^= 1;
        fs::write(&file, changed).unwrap();
        let ran = scene.pull();
        // The registry itself notices some of it.
        match ran.code {
            6 => drop(ran.refused(6, "SERVER_FAILED")),
            _ => scene.refuses(&ran, "DIGEST_MISMATCH"),
        }
        fs::write(&file, honest).unwrap();
    }
    scene.pull().json();
}

#[test]
fn a_list_of_referrers_that_lies() {
    let scene = Scene::new();
    let honest = scene.index();
    let entries = honest["manifests"].as_array().unwrap();
    let (terms, approval) = (&entries[0], &entries[1]);
    let changed = |key: &str, value: Value| {
        let mut entry = approval.clone();
        entry[key] = value;
        [terms.clone(), entry]
    };
    // One kind for the other, a size that is not, a question for an approval.
    scene.list(&changed("artifactType", json!("application/vnd.glovebox.agreement+json")));
    scene.refuses(&scene.pull(), "REFERRERS_INVALID");
    scene.list(&changed("size", json!(1)));
    scene.refuses(&scene.pull(), "REFERRERS_INVALID");
    scene.list(&changed("digest", json!(scene.digest)));
    scene.refuses(&scene.pull(), "REFERRERS_INVALID");
    let question = scene.registry.manifest(&scene.digest);
    scene.list(&[entry(&scene.digest, question.len(), ENVELOPE)]);
    scene.refuses(&scene.pull(), "SUBJECT_MISMATCH");
    scene.list(&changed("mediaType", json!(INDEX)));
    scene.refuses(&scene.pull(), "REFERRERS_INVALID");
    // Something under the tag that is no list; then a list of what is not there.
    let plant = |bytes: &[u8]| {
        let digest = scene.registry.plant_manifest(bytes);
        let tags = scene.registry.blob_file(&digest);
        let root = tags.ancestors().nth(5).unwrap().join("repositories/rooms/reach/_manifests/tags");
        fs::write(root.join(scene.tag()).join("current/link"), digest).unwrap();
        scene.pull()
    };
    scene.refuses(&plant(&question), "REFERRERS_INVALID");
    let absent = entry(&sha256(b"absent"), 6, ENVELOPE);
    let list = |entries: &[Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    scene.refuses(&plant(list(&[absent]).as_bytes()), "REFERRERS_INVALID");
    let sha512 = entry(&format!("sha512:{}", "0".repeat(128)), 6, ENVELOPE);
    scene.refuses(&plant(list(&[sha512]).as_bytes()), "DIGEST_ALGORITHM");
    let big = entry(&sha256(b"absent"), (1 << 20) + 1, ENVELOPE);
    scene.refuses(&plant(list(&[big]).as_bytes()), "OVERSIZE");
    let many: Vec<Value> = (0..300).map(|n: u32| entry(&sha256(&n.to_be_bytes()), 1, ENVELOPE)).collect();
    scene.refuses(&plant(list(&many).as_bytes()), "OVERSIZE");

    // A list that leaves something out cannot be noticed here; it is told how much there was.
    scene.list(&entries[..2]);
    let pulled = scene.pull().json();
    assert_eq!(pulled["agreements"][0]["approvals"].as_array().unwrap().len(), 1);
}

#[test]
fn a_referrer_whose_subject_is_elsewhere() {
    let scene = Scene::new();
    let bytes = scene.room.approval("brand.dan");
    scene.refer("brand.dan.dsse.json", ENVELOPE, &bytes, &sha256(b"another question"));
    scene.refuses(&scene.pull(), "SUBJECT_MISMATCH");
    scene.refer("brand.dan.dsse.json", ENVELOPE, &bytes, &format!("sha512:{}", "0".repeat(128)));
    scene.refuses(&scene.pull(), "DIGEST_ALGORITHM");
    // An agreement on another component, put beside this one.
    let other = agreement(&component("other"), "1");
    scene.refer("agreement.json", "application/vnd.glovebox.agreement+json", &other, &scene.digest);
    scene.refuses(&scene.pull(), "COMPONENT_CHANGED");
    // An approval of another agreement counts for none here.
    scene.refer("brand.dan.dsse.json", ENVELOPE, &approval(&other, "brand.dan"), &scene.digest);
    let file = scene.room.path("agreements/reach-r1/agreement.json");
    let pulled = scene.pull_of(&scene.digest, &["--agreement", text(&file)]).json();
    assert_eq!((&pulled["ignored"], &pulled["agreements"][0]["approvals"]), (&json!(1), &json!([])));
}

#[test]
fn approvals_with_names_that_lead_elsewhere() {
    let scene = Scene::new();
    let bytes = scene.room.approval("brand.dan");
    for name in
        ["../../brand.dan.dsse.json", "/tmp/brand.dan.dsse.json", ".dsse.json", "agreement.json", "", "a/b.dsse.json"]
    {
        scene.refer(name, ENVELOPE, &bytes, &scene.digest);
        scene.refuses(&scene.pull(), "APPROVAL_INVALID");
    }
    scene.refer("brand.dan.dsse.json", ENVELOPE, b"{\"payload\":1}", &scene.digest);
    scene.refuses(&scene.pull(), "APPROVAL_INVALID");
}

#[test]
fn two_approvals_of_one_name() {
    let scene = Scene::new();
    let honest = scene.index();
    let mut entries = honest["manifests"].as_array().unwrap().clone();
    scene.refer("brand.dan.dsse.json", ENVELOPE, &approval(&scene.room.agreement, "eve"), &scene.digest);
    entries.extend(scene.index()["manifests"].as_array().unwrap().clone());
    scene.list(&entries);
    scene.refuses(&scene.pull(), "APPROVAL_INVALID");
}

#[test]
fn digests_of_another_algorithm() {
    let scene = Scene::new();
    let sha512 = format!("sha512:{}", "0".repeat(128));
    scene.refuses(&scene.pull_of(&sha512, &[]), "DIGEST_ALGORITHM");
    scene.refuses(&scene.pull_of(&scene.digest.to_uppercase(), &[]), "DIGEST_ALGORITHM");
    for pointer in ["/layers/0/digest", "/config/digest"] {
        let mut manifest = scene.manifest();
        *manifest.pointer_mut(pointer).unwrap() = json!(sha512);
        scene.refuses(&scene.pull_planted(&manifest), "DIGEST_ALGORITHM");
    }
}

#[test]
fn what_is_too_long() {
    let scene = Scene::new();
    for (pointer, size) in [("/layers/0/size", (8 << 20) + 1), ("/config/size", (1 << 20) + 1), ("/layers/0/size", -1)]
    {
        let mut manifest = scene.manifest();
        *manifest.pointer_mut(pointer).unwrap() = json!(size);
        scene.refuses(&scene.pull_planted(&manifest), "OVERSIZE");
    }
    let mut long = scene.manifest();
    long["annotations"]["x"] = json!("x".repeat(1 << 20));
    scene.refuses(&scene.pull_planted(&long), "OVERSIZE");
}

#[test]
fn a_registry_that_says_what_it_likes() {
    let room = Room::new();
    let folder = room.path("incoming");
    let pull = |status: u16, body: Vec<u8>| {
        let address = serve(move |request| match request.path.as_str() {
            "/v2/" => (200, String::new(), Vec::new()),
            _ => (status, String::new(), body.clone()),
        });
        let pinned = format!("{address}/rooms/reach@{}", sha256(b"agreed"));
        exchange(&["pull", &pinned, text(&folder), "--plain-http", "--json"])
    };
    pull(200, vec![b' '; 2 << 20]).refused(3, "OVERSIZE");
    pull(200, b"{}".to_vec()).refused(3, "DIGEST_MISMATCH");
    let ran = pull(500, b"\x1b[2Jerror\nhint: run this\r\n".repeat(1000).to_vec());
    assert!(!ran.refused(6, "SERVER_FAILED").stderr.contains('\x1b'), "{ran:?}");
    pull(301, Vec::new()).refused(6, "SERVER_FAILED");
    assert!(!folder.exists());
}
