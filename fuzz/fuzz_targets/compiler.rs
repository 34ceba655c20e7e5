//! What the process that compiles says, once a component has taken it over.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    chela_fuzz::compiler(bytes);
});
