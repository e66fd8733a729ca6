//! Feeds `glovebox_trust_fuzz::checkpoint` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glovebox_trust_fuzz::checkpoint::check(data));
