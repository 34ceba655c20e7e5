//! What an adapter wants to send.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::outbound(bytes);
});
