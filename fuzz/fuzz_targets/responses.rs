//! What a provider streams: responses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::responses(bytes);
});
