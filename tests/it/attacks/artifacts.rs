//! Attacks on files: other bytes under an approved name, bytes of another kind under an approved digest, files that
//! change while they are read, and names that lead elsewhere.
//!
//! There is no cache of compiled code on disk that could be poisoned (the catalogue's E7). Artifacts from a registry (E8)
//! are the matter of the crate in `exchange`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::Fixture;
use crate::support::forge::sha256;

/// What a runtime would make of the component ahead of time: never what anyone signs.
fn precompiled(component: &[u8]) -> Vec<u8> {
    wasmtime::Engine::default().precompile_component(component).expect("the component compiles")
}

/// The file as `gzip` packs it.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(&[0x1f, 0x8b]));
    output.stdout
}

/// Puts bytes of another kind under the approved name; and lets all sign them, so that nothing is left but the bytes.
#[test]
fn e01_bytes_that_are_no_component() {
    let (room, agreement) = Fixture::with_evil();
    let (component, manifest) = (room.component("evil"), room.read("questions/evil.toml"));
    let backup = room.backup(&agreement);
    let kinds: [(&str, Vec<u8>); 8] = [
        ("precompiled", precompiled(&component)),
        ("text", b"(component)".to_vec()),
        ("text with a comment first", b";; a comment\n(component)".to_vec()),
        ("a core module", wat::parse_str("(module)").unwrap()),
        ("packed", gzipped(&component)),
        ("a program", fs::read(env!("CARGO_BIN_EXE_glovebox")).unwrap()[..4096].to_vec()),
        ("a header alone", component[..4].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in kinds {
        println!("{what}");
        room.write("questions/evil.wasm", &bytes);
        room.denied(&agreement, "COMPONENT_CHANGED");
        room.write("questions/evil.wasm", &component);
        room.forge_question(&agreement, &bytes, &manifest);
        room.denied(&agreement, "COMPONENT_INVALID");
        backup.restore();
    }
    room.is_unharmed(&agreement);
}

/// Changes the bytes and not what they do: a section that nobody reads, a length that is written in five bytes.
#[test]
fn e02_a_component_that_does_the_same() {
    let (room, agreement) = Fixture::with_evil();
    let component = room.component("evil");
    let custom = [component.as_slice(), &[0, 2, 1, b'x']].concat();
    let screened = |bytes: &[u8]| {
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(bytes).is_ok()
    };
    // The first section after the header: its length in as many bytes as such a number may have.
    let (mut length, mut at, mut shift) = (0u32, 9, 0);
    loop {
        length |= u32::from(component[at] & 0x7f) << shift;
        (at, shift) = (at + 1, shift + 7);
        if component[at - 1] & 0x80 == 0 {
            break;
        }
    }
    let long: Vec<u8> = (0..5).map(|n| ((length >> (7 * n)) & 0x7f) as u8 | if n < 4 { 0x80 } else { 0 }).collect();
    let padded = [&component[..9], &long, &component[at..]].concat();
    for bytes in [custom, padded] {
        assert!(bytes != component && screened(&bytes), "the change is one of bytes alone");
        room.write("questions/evil.wasm", &bytes);
        room.denied(&agreement, "COMPONENT_CHANGED");
    }
    room.write("questions/evil.wasm", &component);
    room.is_unharmed(&agreement);
}

/// Says in the header that the component is a module, or of another version.
#[test]
fn e03_a_header_that_was_changed() {
    let (room, agreement) = Fixture::with_evil();
    let (component, manifest) = (room.component("evil"), room.read("questions/evil.toml"));
    let backup = room.backup(&agreement);
    assert_eq!(component[..8], *b"\0asm\x0d\0\x01\0");
    for (at, byte) in [(0, 1), (4, 1), (4, 0x0e), (6, 0), (6, 2)] {
        let mut changed = component.clone();
        changed[at] = byte;
        room.write("questions/evil.wasm", &changed);
        room.denied(&agreement, "COMPONENT_CHANGED");
        room.write("questions/evil.wasm", &component);
        room.forge_question(&agreement, &changed, &manifest);
        room.denied(&agreement, "COMPONENT_INVALID");
        backup.restore();
    }
    room.is_unharmed(&agreement);
}

/// Stops a thread at the end, also where a test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps component, manifest and room.toml for others, again and again, while runs go on. Whatever the moment: a run is
/// refused, or it is a run of the bytes that were agreed.
#[test]
fn e04_files_that_are_swapped_during_runs() {
    let (room, agreement) = Fixture::with_evil();
    let files = [
        ("questions/evil.wasm", room.component("evil"), room.component("reach")),
        ("questions/evil.toml", room.read("questions/evil.toml"), room.read("questions/reach.toml")),
        ("room.toml", room.read("room.toml"), room.read_text("room.toml").replace("= 20", "= 2").into_bytes()),
    ];
    let agreed = [sha256(&files[0].1), sha256(&files[1].1)];
    let stop = AtomicBool::new(false);
    let (mut released, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let put = |path: &str, bytes: &[u8]| {
                let aside = room.path(&format!("{path}.aside"));
                fs::write(&aside, bytes).unwrap();
                fs::rename(aside, room.path(path)).unwrap();
            };
            let pause = |millis| std::thread::sleep(std::time::Duration::from_millis(millis));
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (path, honest, other) = &files[turn % files.len()];
                put(path, other);
                pause([1, 5, 20, 100][turn % 4]);
                put(path, honest);
                // Long enough now and then for a whole run, or for its gate.
                pause([1, 20, 5, 100, 1, 600][turn % 6]);
            }
        });
        // At most so many as there is budget for.
        for _ in 0..9 {
            if released > 1 && refused > 2 {
                break;
            }
            // Each on other files: an answer that is kept would do without the question.
            room.renew_data();
            let outcome = room.ask(&agreement, &super::forge::Asked::default(), &|_| {});
            match outcome.result {
                Ok(result) => {
                    released += 1;
                    let record = room.record(&outcome.receipt);
                    let of = &record["predicate"]["released"];
                    assert_eq!(
                        [&of["component_sha256"], &of["manifest_sha256"]],
                        [&json!(agreed[0]), &json!(agreed[1])]
                    );
                    assert_eq!(of["k_min"], 20);
                    room.take_output(&result.path);
                }
                Err(fault) => {
                    refused += 1;
                    let codes = ["COMPONENT_CHANGED", "MANIFEST_CHANGED", "CONTROL_CHANGED"];
                    assert!(codes.contains(&fault.code().as_str()), "{fault}");
                }
            }
        }
    });
    println!("{released} released, {refused} refused");
    assert!(refused > 0, "nothing was ever swapped");
    // Swapped back, it runs.
    let next = room.agreed("evil", crate::support::forge::EVIL);
    room.is_unharmed(&next);
}

/// Puts a link, a pipe, a folder or a device in the place of a file that the gate reads.
#[test]
fn e05_names_of_other_things_than_files() {
    let (room, agreement) = Fixture::with_evil();
    for (file, code) in [
        (format!("{agreement}/agreement.json"), "AGREEMENT_INVALID"),
        (format!("{agreement}/retailer.ana.dsse.json"), "AGREEMENT_INVALID"),
        ("questions/evil.wasm".to_owned(), "COMPONENT_INVALID"),
        ("questions/evil.toml".to_owned(), "MANIFEST_INVALID"),
        ("revocations/brand/1.dsse.json".to_owned(), "REVOCATIONS_MISSING"),
    ] {
        let path = room.path(&file);
        // In the same folder: a link to it leads nowhere else.
        let aside = path.with_file_name("aside");
        fs::rename(&path, &aside).unwrap();
        let places: [(&str, &dyn Fn()); 6] = [
            ("a link to the file", &|| symlink("aside", &path).unwrap()),
            ("a link to the file from anywhere", &|| symlink(&aside, &path).unwrap()),
            ("a link through /proc", &|| symlink("/proc/self/fd/0", &path).unwrap()),
            ("a device", &|| symlink("/dev/zero", &path).unwrap()),
            ("a folder", &|| fs::create_dir(&path).unwrap()),
            ("a pipe", &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success())),
        ];
        for (what, place) in places {
            println!("{file}: {what}");
            place();
            room.denied(&agreement, code);
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        }
        fs::rename(&aside, &path).unwrap();
    }
    // A second name of the very file is the file.
    let path = room.path("questions/evil.wasm");
    fs::hard_link(&path, room.path("questions/second.wasm")).unwrap();
    room.is_unharmed(&agreement);
}

/// Where the folder `aside` of the room lies, as seen from another one: the link never leaves the room.
fn inside(folder: &str) -> PathBuf {
    PathBuf::from("../".repeat(folder.matches('/').count())).join("aside")
}

/// A folder on the way that is a link, also one that stays inside the room.
#[test]
fn e05_folders_that_are_links() {
    let (room, agreement) = Fixture::with_evil();
    for (folder, code) in [
        (agreement.clone(), "AGREEMENT_INVALID"),
        ("questions".to_owned(), "COMPONENT_INVALID"),
        ("revocations/brand".to_owned(), "REVOCATIONS_MISSING"),
    ] {
        let (path, aside) = (room.path(&folder), room.path("aside"));
        fs::rename(&path, &aside).unwrap();
        for target in [inside(&folder), aside.clone()] {
            symlink(target, &path).unwrap();
            room.denied(&agreement, code);
            fs::remove_file(&path).unwrap();
        }
        fs::rename(&aside, &path).unwrap();
    }
    let (path, aside) = (room.path("registry"), room.path("aside"));
    fs::rename(&path, &aside).unwrap();
    symlink("aside", &path).unwrap();
    room.denied_unlogged(&agreement, "REGISTRY_INVALID", || {
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    });
    room.is_unharmed(&agreement);
}

/// Names paths in signed terms that lead out of the room, and agreements that are not in it.
#[test]
fn e05_paths_that_lead_elsewhere() {
    let (room, agreement) = Fixture::with_evil();
    let other = Fixture::new();
    let backup = room.backup(&agreement);
    let outside = other.path("questions/evil.wasm");
    for path in [
        "../evil.wasm",
        "questions/../../evil.wasm",
        outside.to_str().unwrap(),
        "/proc/self/exe",
        "questions/evil.wasm\u{0}",
        "",
        &"a/".repeat(2000),
    ] {
        room.forge(&agreement, |terms| terms["component_path"] = json!(path));
        room.denied(&agreement, "COMPONENT_INVALID");
        backup.restore();
    }
    let elsewhere = other.agreed("evil", crate::support::forge::EVIL);
    let climbing =
        format!("../../{}/room/{elsewhere}", other.root().parent().unwrap().file_name().unwrap().to_str().unwrap());
    for folder in [climbing.as_str(), other.path(&elsewhere).to_str().unwrap(), "", ".", &"x/".repeat(2000)] {
        room.denied(folder, "AGREEMENT_INVALID");
    }
    room.denied("agreements", "AGREEMENT_INVALID");
    room.is_unharmed(&agreement);
}

/// Makes files grow while they are read, beyond all measure.
#[test]
fn e06_files_that_grow_or_never_end() {
    let (room, agreement) = Fixture::with_evil();
    for (file, limit, code) in [
        ("questions/evil.wasm", (8u64 << 20) + 1, "COMPONENT_INVALID"),
        ("questions/evil.toml", (1 << 20) + 1, "MANIFEST_INVALID"),
        ("room.toml", (1 << 20) + 1, "ROOM_INVALID"),
    ] {
        let honest = room.read(file);
        // A hole of that size: nothing is written, and everything would have to be read.
        fs::File::options().append(true).open(room.path(file)).unwrap().set_len(limit).unwrap();
        if file == "room.toml" {
            room.denied_unlogged(&agreement, code, || room.write(file, &honest));
        } else {
            room.denied(&agreement, code);
        }
        room.write(file, &honest);
    }
    // One byte more is another file.
    let honest = room.read("questions/evil.toml");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(room.path("questions/evil.toml")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"#").unwrap();
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        while fs::metadata(room.path("questions/evil.toml")).unwrap().len() == honest.len() as u64 {
            std::thread::yield_now();
        }
        (0..3).for_each(|_| drop(room.denied(&agreement, "MANIFEST_CHANGED")));
    });
    room.write("questions/evil.toml", &honest);
    room.is_unharmed(&agreement);
}
