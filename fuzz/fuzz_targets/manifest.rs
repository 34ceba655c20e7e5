//! A `plugin.toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::manifest(bytes);
});
