//! What a provider streams: messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::messages(bytes);
});
