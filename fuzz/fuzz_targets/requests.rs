//! The `[[http]]` of a manifest, and what a guest asks for under them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::requests(bytes);
});
