//! Each wall is tried from within: the test program starts itself again, puts the walls up, and does what a question that
//! has broken out of its engine would do. Without the wall the same attempt succeeds, or it would show nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use super::*;

const ATTEMPT: &str = "GLOVEBOX_TEST_ATTEMPT";
const WALLS: &str = "GLOVEBOX_TEST_WALLS";
const PORT: &str = "GLOVEBOX_TEST_PORT";
/// What the child ends with where the attempt fails with an error.
const DENIED: i32 = 77;
/// What it ends with where the attempt succeeds.
const DONE: i32 = 78;

/// What stands in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Nothing,
    /// All but the filter of system calls.
    Enclosed,
    /// All, as while a question is loaded.
    Loading,
    /// All, as while units are asked about.
    Asking,
}

const STANDINGS: [(Standing, &str); 4] = [
    (Standing::Nothing, "nothing"),
    (Standing::Enclosed, "enclosed"),
    (Standing::Loading, "loading"),
    (Standing::Asking, "asking"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Denied,
    Killed,
}

const CAPS: Caps = Caps { address_bytes: 8 << 30, data_bytes: 512 << 20, cpu_seconds: 2 };

/// The child's side. Run as a test of its own it has nothing to do.
#[test]
fn attempt() {
    let Ok(attempt) = std::env::var(ATTEMPT) else { return };
    let walls = std::env::var(WALLS).unwrap_or_default();
    let port: u16 = std::env::var(PORT).ok().and_then(|port| port.parse().ok()).unwrap_or(0);
    let standing =
        STANDINGS.iter().find(|(_, name)| *name == walls).map_or(Standing::Nothing, |(standing, _)| *standing);
    if standing != Standing::Nothing {
        assert_eq!(enclose(&CAPS).len(), 3, "this kernel has all walls");
    }
    if matches!(standing, Standing::Loading | Standing::Asking) {
        filter_calls(Calls::Load).unwrap();
    }
    if standing == Standing::Asking {
        close_behind(true).unwrap();
    }
    let succeeded = match attempt.as_str() {
        "nothing" => true,
        "read a file" => File::open("/etc/passwd").and_then(|mut file| file.read(&mut [0; 1])).is_ok(),
        "write a file" => File::create("/tmp/glovebox-wall").and_then(|mut file| file.write(b"x")).is_ok(),
        "connect" => TcpStream::connect(("127.0.0.1", port)).is_ok(),
        "execute" => Command::new("/bin/true").status().is_ok(),
        "start a thread" => std::thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok()),
        "new code" => rustix_exec_mapping(),
        "new file" => rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).is_ok(),
        "signal the parent" => rustix::process::getppid()
            .is_some_and(|parent| rustix::process::kill_process(parent, Signal::CHILD).is_ok()),
        "raise a limit" => {
            let free = Rlimit { current: None, maximum: None };
            rustix::process::setrlimit(Resource::Data, free).is_ok()
        }
        "look at a file" => std::fs::metadata("/etc/passwd").is_ok(),
        "take shared memory" => crate::shared::Region::new(1 << 20).is_ok(),
        "limit the parent" => rustix::process::getppid().is_some_and(|parent| {
            // To what it has already: the test is whether it could.
            let limit = rustix::process::getrlimit(Resource::Sigpending);
            rustix::process::prlimit(Some(parent), Resource::Sigpending, limit).is_ok()
        }),
        "outlive the parent" => rustix::process::set_parent_process_death_signal(None).is_ok(),
        "take memory" => Vec::<u8>::new().try_reserve_exact(1 << 30).is_ok(),
        "compute without end" => loop {
            std::hint::black_box(());
        },
        other => panic!("{other}"),
    };
    std::process::exit(if succeeded { DONE } else { DENIED });
}

fn rustix_exec_mapping() -> bool {
    use memmap2::MmapOptions;
    // An anonymous mapping, made executable: where new code would be put.
    MmapOptions::new().len(4096).map_anon().is_ok_and(|memory| memory.make_exec().is_ok())
}

fn end_of(attempt: &str, standing: Standing) -> End {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = STANDINGS.iter().find(|(known, _)| *known == standing).unwrap().1;
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "walls::tests::attempt", "--nocapture", "--test-threads=1"])
        .env(ATTEMPT, attempt)
        .env(WALLS, name)
        .env(PORT, listener.local_addr().unwrap().port().to_string())
        .output()
        .unwrap()
        .status;
    end(status).unwrap_or_else(|| panic!("{attempt} with {standing:?}: {status}"))
}

fn end(status: ExitStatus) -> Option<End> {
    match (status.code(), status.signal()) {
        (Some(DONE), _) => Some(End::Done),
        (Some(DENIED), _) => Some(End::Denied),
        (_, Some(libc::SIGSYS | libc::SIGXCPU | libc::SIGKILL)) => Some(End::Killed),
        _ => None,
    }
}

/// Of each attempt: what it comes to behind all but the filter, while loading, and while asking.
#[test]
fn what_a_question_that_broke_out_can_do() {
    use End::{Denied, Done, Killed};
    for (attempt, enclosed, loading, asking) in [
        ("nothing", Done, Done, Done),
        ("read a file", Denied, Denied, Killed),
        ("write a file", Denied, Denied, Killed),
        ("connect", Denied, Killed, Killed),
        ("execute", Denied, Killed, Killed),
        ("start a thread", Done, Killed, Killed),
        ("new code", Done, Done, Killed),
        ("new file", Done, Done, Killed),
        ("signal the parent", Denied, Killed, Killed),
        ("look at a file", Done, Denied, Killed),
        ("take shared memory", Done, Killed, Killed),
        ("limit the parent", Done, Killed, Killed),
        ("outlive the parent", Done, Killed, Killed),
        ("take memory", Denied, Denied, Denied),
    ] {
        assert_eq!(end_of(attempt, Standing::Nothing), Done, "{attempt} with no wall: the reference");
        assert_eq!(end_of(attempt, Standing::Enclosed), enclosed, "{attempt} behind all walls but the filter");
        assert_eq!(end_of(attempt, Standing::Loading), loading, "{attempt} while a question is loaded");
        assert_eq!(end_of(attempt, Standing::Asking), asking, "{attempt} while units are asked about");
        println!("\nHOSTILE | H5 | a question that broke out of its engine: {attempt} | {asking:?}");
    }
}

/// A limit that stands cannot be raised, by root's process neither: it has no capability.
#[test]
fn limits_cannot_be_raised_where_units_are_asked_about() {
    assert_eq!(end_of("raise a limit", Standing::Nothing), End::Done);
    assert_eq!(end_of("raise a limit", Standing::Enclosed), End::Denied);
    assert_eq!(end_of("raise a limit", Standing::Asking), End::Killed);
}

#[test]
fn processor_time_has_an_end() {
    assert_eq!(end_of("compute without end", Standing::Asking), End::Killed);
}
