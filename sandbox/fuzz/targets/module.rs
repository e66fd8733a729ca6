//! Feeds `glovebox_sandbox_fuzz::module` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glovebox_sandbox_fuzz::module::check(data));
