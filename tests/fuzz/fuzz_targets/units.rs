#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gaia_tests::fuzz::units(data));
