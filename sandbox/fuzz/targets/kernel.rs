//! Feeds `glovebox_sandbox_fuzz::kernel` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glovebox_sandbox_fuzz::kernel::check(data));
