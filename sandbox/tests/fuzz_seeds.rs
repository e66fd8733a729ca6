//! The seeds of the fuzzer hold their invariants, and the files in `sandbox/fuzz/corpus` are what the code makes.
//!
//! After a change of a format: `UPDATE_SEEDS=1 cargo test -p glovebox-sandbox --test fuzz_seeds`

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
pub mod invariants;

use std::fs;
use std::path::Path;

use invariants::Seed;

/// Some bytes of each seed are changed to these.
const VALUES: [u8; 3] = [0, 1, 0xff];

/// A change takes a compilation or two, so there are few.
fn check(target: &str, seeds: &[Seed], check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    if std::env::var_os("UPDATE_SEEDS").is_some() {
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        seeds.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), seeds.len(), "{target} has other seeds than files");
    for (name, bytes) in seeds {
        assert_eq!(fs::read(folder.join(name)).unwrap(), *bytes, "seed {name} of {target} is not up to date");
        check(bytes);
        // A little of what the fuzzer does.
        for at in (0..bytes.len()).step_by(bytes.len() / 8 + 1) {
            check(&bytes[..at]);
            for value in VALUES {
                let mut changed = bytes.clone();
                changed[at] = value;
                check(&changed);
            }
        }
    }
}

macro_rules! tests {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            check(stringify!($target), &invariants::$target::seeds(), invariants::$target::check);
        }
    )*};
}

tests! { answer batch component kernel module }
