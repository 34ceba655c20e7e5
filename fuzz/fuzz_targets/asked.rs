//! What a guest asks of the host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::asked(bytes);
});
