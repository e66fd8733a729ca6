//! Memory pressure: the pages of this process leave memory when a test says so, as they do on a machine that runs short.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};

/// More than the tests of this crate have in memory together.
const SWAP_BYTES: u64 = 256 << 20;
const PROBE_BYTES: usize = 4 << 20;

/// Where pages go, for as long as this lives: the system's swap, or a file that takes root's rights to make.
pub(super) struct Swap(Option<PathBuf>);

impl Swap {
    /// None where no page can leave memory at all, and none can be missed when memory is reset. Swap is the whole
    /// machine's, so a file is made only where that is asked for, as `cargo xtask audit` does.
    pub(super) fn find() -> Option<Self> {
        if takes_pages() {
            return Some(Self(None));
        }
        std::env::var_os("GLOVEBOX_SWAP").and_then(|_| Self::make())
    }

    /// Beside the test program: what lies in memory itself cannot be swap.
    fn make() -> Option<Self> {
        let path = std::env::current_exe().ok()?.with_extension(format!("{}.swap", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).ok()?;
        let made = Self(Some(path.clone()));
        fallocate(&file, FallocateFlags::empty(), 0, SWAP_BYTES).ok()?;
        (succeeds("mkswap", &path) && succeeds("swapon", &path)).then_some(made)
    }

    pub(super) const fn whose(&self) -> &'static str {
        if self.0.is_some() { "swap of the test's own" } else { "the system's swap" }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            succeeds("swapoff", path);
            let _ = fs::remove_file(path);
        }
    }
}

fn succeeds(program: &str, path: &Path) -> bool {
    Command::new(program).arg(path).output().is_ok_and(|output| output.status.success())
}

fn takes_pages() -> bool {
    let probe = std::hint::black_box(vec![1_u8; PROBE_BYTES]);
    let out = page_out();
    drop(std::hint::black_box(probe));
    out > PROBE_BYTES / 2
}

/// Lets go of every page that this process alone has, and returns how many bytes of them are out.
pub(super) fn page_out() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter_map(writable).for_each(|(start, end)| let_go(start, end - start));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn writable(line: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    rest.starts_with("rw-p").then_some((number(start)?, number(end)?))
}

#[expect(unsafe_code, reason = "pages that are out come back, with what they held, when they are next touched")]
fn let_go(start: usize, bytes: usize) {
    unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), bytes, libc::MADV_PAGEOUT) };
}
