//! The command line `chela`.
fn main() {}
