//! Feeds `glovebox_sandbox_fuzz::component` from libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: glovebox_sandbox_fuzz::component::allow_the_decoders_asserts(),
    |data: &[u8]| glovebox_sandbox_fuzz::component::check(data)
);
