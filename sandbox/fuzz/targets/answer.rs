//! Feeds `glovebox_sandbox_fuzz::answer` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glovebox_sandbox_fuzz::answer::check(data));
