//! A platform's request, and what its adapter says of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::inbound(bytes);
});
