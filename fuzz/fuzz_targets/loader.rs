//! A component, before a compiler sees it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::loader(bytes);
});
