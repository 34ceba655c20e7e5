//! What a worker that somebody has taken over says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::worker(bytes);
});
