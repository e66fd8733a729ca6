//! What reviewers would otherwise have to look for: every file says what it is, no test is asleep, no link is dead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::checkout;

/// Everything that is written in Rust.
const TREES: [&str; 10] =
    ["runtime", "sandbox", "trust", "exchange", "sdk", "sharing", "sources", "xtask", "guest-examples", "tests"];

/// The Rust files below the given folders of the checkout.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(&checkout().join(folder), "rs", &mut files));
    assert!(files.len() > 5, "{folders:?} hold no sources");
    files
}

fn collect(folder: &Path, ending: &str, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, ending, files);
        } else if path.extension().is_some_and(|found| found == ending) {
            files.push((path.clone(), fs::read_to_string(&path).expect("text")));
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources(&TREES) {
        assert!(text.starts_with("//! "), "{} does not start with `//! `", path.display());
    }
}

#[test]
fn no_test_is_asleep_and_nothing_is_left_to_do() {
    // Written in two parts, so that this file passes.
    let banned = [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    for (path, text) in sources(&TREES) {
        for word in banned {
            assert!(!text.contains(word), "{} has `{word}`", path.display());
        }
    }
}

/// Where unsafe code is: memory that two processes map, code that a worker loads, and files that it inherits; and how
/// often, in tests as well, of which one pages its own memory out and one counts allocations.
const UNSAFE: [(&str, usize); 4] = [
    ("sandbox/src/shared.rs", 3),
    ("sandbox/src/worker.rs", 3),
    ("sandbox/src/testing.rs", 8),
    ("sandbox/src/tests/pressure.rs", 1),
];

#[test]
fn unsafe_code_is_where_it_must_be_and_nowhere_else() {
    let mut sources = Vec::new();
    collect(&checkout().join("sandbox"), "rs", &mut sources);
    for (path, text) in sources {
        let blocks = text.matches("unsafe {").count() + text.matches("unsafe fn").count();
        let known = UNSAFE.iter().find(|(known, _)| path.ends_with(known)).map_or(0, |(_, blocks)| *blocks);
        assert_eq!(blocks, known, "{}", path.display());
    }
}

/// Every workspace forbids it and every crate but one inherits that; `forbid` cannot be lifted further down. (What
/// libFuzzer's macro writes into the fuzz targets is that crate's own, and passes as such.)
#[test]
fn no_other_crate_may_have_unsafe_code() {
    let mut manifests = Vec::new();
    TREES.iter().for_each(|folder| collect(&checkout().join(folder), "toml", &mut manifests));
    manifests.retain(|(path, _)| path.ends_with("Cargo.toml"));
    let root = checkout().join("Cargo.toml");
    manifests.push((root.clone(), fs::read_to_string(root).expect("a manifest")));
    let having =
        |section: &str| manifests.iter().filter(|(_, text)| text.lines().any(|line| line == section)).collect();
    let (workspaces, crates): (Vec<_>, Vec<_>) = (having("[workspace]"), having("[package]"));
    // The main one, the questions, the exchange, the reader of sources and the fuzz targets of two crates.
    assert!(workspaces.len() == 6 && crates.len() >= 8, "{} and {}", workspaces.len(), crates.len());
    for (path, text) in workspaces {
        assert!(text.contains("[workspace.lints.rust]\nunsafe_code = \"forbid\""), "{}", path.display());
    }
    for (path, text) in crates {
        let is_denied = path.ends_with("sandbox/Cargo.toml") && text.contains("[lints.rust]\nunsafe_code = \"deny\"");
        assert!(is_denied || text.contains("[lints]\nworkspace = true"), "{}", path.display());
    }
}

/// What carries questions shares no code with what runs them, and takes what that takes.
#[test]
fn the_exchange_carries_components_as_long_as_may_run() {
    let files = fs::read_to_string(checkout().join("exchange/src/files.rs")).expect("text");
    let line = format!("const COMPONENT_BYTES_MAX: u64 = {} << 20;", glovebox_sandbox::COMPONENT_BYTES_MAX >> 20);
    assert!(files.contains(&line), "{line}");
}

/// Crates that speak over a network, or without which nothing in Rust does.
const NETWORK: [&str; 24] = [
    "async-std",
    "attohttpc",
    "curl",
    "glovebox-exchange",
    "h2",
    "h3",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "isahc",
    "mio",
    "native-tls",
    "oci-client",
    "openssl",
    "quinn",
    "reqwest",
    "rustls",
    "s2n-quic",
    "smol",
    "socket2",
    "tiny_http",
    "tonic",
    "tungstenite",
    "ureq",
];

/// All that a member of the workspace is built from.
fn depends_on(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--offline", "--locked"])
        .current_dir(checkout())
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// What it does not have it cannot leak through: what talks to a network is a program of its own, which sees no data.
#[test]
fn the_program_that_sees_data_has_no_network_code() {
    let tree = depends_on("glovebox");
    assert!(
        ["glovebox", "glovebox-trust", "wasmtime", "datafusion"].iter().all(|name| tree.contains(*name)),
        "{tree:?}"
    );
    let found: Vec<_> = NETWORK.into_iter().filter(|name| tree.contains(*name)).collect();
    assert!(found.is_empty(), "the runtime depends on {found:?}");

    // In the lock file is what shows views to others, and no more: what one member asks for, all are built with.
    let in_lock = |path: &str| -> Vec<&str> {
        let lock = fs::read_to_string(checkout().join(path)).expect("a lock file");
        NETWORK.into_iter().filter(|name| lock.contains(&format!("\nname = \"{name}\"\n"))).collect()
    };
    let sharing = depends_on("glovebox-sharing");
    let of_sharing: Vec<_> = NETWORK.into_iter().filter(|name| sharing.contains(*name)).collect();
    assert_eq!(in_lock("Cargo.lock"), of_sharing, "the main lock file");
    // The names are right: the programs that do talk to a network have some of them.
    for path in ["exchange/Cargo.lock", "sources/Cargo.lock"] {
        assert!(in_lock(path).len() >= 5, "{path}: {:?}", in_lock(path));
    }

    // Nor does it use what the standard library has, but for the socket of an ssh-agent.
    let sources = sources(&["runtime/src", "trust/src"]);
    for word in ["std::net", "TcpStream", "TcpListener", "UdpSocket", "UnixListener", "UnixDatagram"] {
        let found: Vec<_> = sources.iter().filter(|(_, text)| text.contains(word)).map(|(path, _)| path).collect();
        assert!(found.is_empty(), "{word} stands in {found:?}");
    }
    let sockets = sources.iter().filter(|(_, text)| text.contains("os::unix::net"));
    let sockets: Vec<_> = sockets.map(|(path, _)| path.strip_prefix(checkout()).expect("in the checkout")).collect();
    assert_eq!(sockets, [Path::new("runtime/src/signing/agent.rs")]);
}

/// Crates of one workspace are built together, with what any of them asks of a library: the sockets of the program that
/// shares views come from a library of its own, so that the runtime's get none.
#[test]
fn sharing_turns_on_no_network_in_what_the_runtime_uses() {
    let lock = fs::read_to_string(checkout().join("Cargo.lock")).expect("a lock file");
    assert!(lock.contains("\nname = \"async-io\"\n"), "the server of shares has moved to another library");
    for name in ["mio", "reqwest", "hyper-util", "tokio-rustls"] {
        assert!(!lock.contains(&format!("\nname = \"{name}\"\n")), "the workspace has {name}");
    }
}

/// A run is decided by its inputs, `clock.rs` and `random.rs`: there is the stopwatch of its slots, too. That of the
/// benchmark is not part of a run.
#[test]
fn time_and_randomness_have_one_source_each() {
    let sources = sources(&["runtime/src", "trust/src"]);
    let holders = |word: &str| -> BTreeSet<&str> {
        let holding = sources.iter().filter(|(_, text)| text.contains(word));
        holding.filter_map(|(path, _)| path.file_name()?.to_str()).collect()
    };
    assert_eq!(holders("Utc::now("), BTreeSet::from(["clock.rs"]));
    assert_eq!(holders("SystemTime::now("), BTreeSet::new());
    assert_eq!(holders("Instant::now("), BTreeSet::from(["bench.rs", "clock.rs"]));
    assert_eq!(holders("getrandom::"), BTreeSet::from(["random.rs"]));
    assert_eq!(holders("ChaCha20Rng::"), BTreeSet::from(["random.rs"]));
}

/// The documents at the root of the checkout and below `docs`.
fn documents() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&checkout().join("docs"), "md", &mut files);
    for name in ["README.md", "CONTRIBUTING.md"] {
        let path = checkout().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        files.push((path, text));
    }
    assert!(files.len() > 10, "the documents have moved");
    files
}

#[test]
fn every_relative_link_in_the_documents_leads_somewhere() {
    for (path, text) in documents() {
        for target in links(&text) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let found = path.parent().expect("a folder").join(target);
            assert!(found.exists(), "{} links to {target}, which is not there", path.display());
        }
    }
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        let plain = line.split('`').step_by(2);
        targets
            .extend(plain.flat_map(|piece| piece.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next()));
    }
    targets
}

/// A promise stands in the specification with the tests that keep it; each of them must be there.
#[test]
fn every_test_that_the_specification_names_exists() {
    let specification = fs::read_to_string(checkout().join("docs/specification.md")).expect("a specification");
    let trees = sources(&TREES);
    let functions: BTreeSet<&str> = trees.iter().flat_map(|(_, text)| functions(text)).collect();
    let enforcers = enforcers(&specification);
    assert!(enforcers.len() > 50, "the specification's tables are not read");
    let missing: Vec<&str> = enforcers.into_iter().filter(|name| !functions.contains(name)).collect();
    assert!(missing.is_empty(), "docs/specification.md names tests that are not there: {missing:?}");
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| rest.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next())
}

/// What stands in backticks in the column `Enforced by`, by its last name: `gate::no_approval` is `no_approval`.
fn enforcers(text: &str) -> Vec<&str> {
    let mut column = None;
    let mut names = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if !line.trim_start().starts_with('|') {
            column = None;
        } else if let Some(found) = cells.iter().position(|cell| cell.eq_ignore_ascii_case("enforced by")) {
            column = Some(found);
        } else if let Some(cell) = column.and_then(|column| cells.get(column)) {
            let quoted = cell.split('`').skip(1).step_by(2);
            names.extend(quoted.map(|name| name.rsplit("::").next().unwrap_or(name)));
        }
    }
    names
}

/// What the rows of tables that say what enforces them begin with: `P-1`.
fn promises(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let is_id = |id: &&str| {
        id.split_once('-').is_some_and(|(letter, number)| letter.len() == 1 && number.parse::<u32>().is_ok())
    };
    rows.filter(is_id).collect()
}

/// Two branches may give one number to two promises, and merge without a conflict.
#[test]
fn every_promise_has_a_number_of_its_own() {
    let specification = fs::read_to_string(checkout().join("docs/specification.md")).expect("text");
    let promises = promises(&specification);
    assert!(promises.len() > 100, "the specification's tables are not read");
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = promises.into_iter().filter(|id| !seen.insert(*id)).collect();
    assert_eq!(twice, [""; 0]);
}

#[test]
fn the_tidy_rules_themselves_work() {
    assert_eq!(promises("| P-1 | x |\n| P | y |\n|---|---|\n| P-x | z |\n| S-12 | w |"), ["P-1", "S-12"]);
    assert_eq!(links("a [b](c.md#d) `[e](f)`\n```\n[g](h)\n```\n[i](j \"k\")"), ["c.md#d", "j"]);
    let table = "| Promise | Enforced by |\n|---|---|\n| x | `gate::a_b`, `c` |\n\n| `d` | `e` |";
    assert_eq!(enforcers(table), ["a_b", "c"]);
    assert_eq!(functions("pub fn a_b() {}\nfn c<T>()").collect::<Vec<_>>(), ["a_b", "c"]);
}
