#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| stallspan_fuzz::framing(data));
