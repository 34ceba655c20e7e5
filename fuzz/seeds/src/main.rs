//! Makes the components that the corpus of the target `loader` begins with, the same each time:
//!
//! ```sh
//! cd fuzz && cargo run --release -p chela-fuzz-seeds
//! ```
//!
//! Three sorts: whole components of wasm-smith, which are valid and of no world; components of our worlds by hand;
//! and such with a module of wasm-smith in them.

use std::path::Path;

use arbitrary::Unstructured;
use wasm_smith::{Component, Config, Module};

/// Of each sort that wasm-smith makes.
const COUNT: u64 = 16;
/// Largest component that is kept, and the smallest that is worth it.
const BYTES: std::ops::RangeInclusive<usize> = 200..=6_000;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/loader");
    std::fs::create_dir_all(&folder).expect("the corpus");
    let mut kept = 0;
    let mut keep = |name: String, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).expect("the corpus");
        kept += bytes.len();
    };
    for (number, bytes) in smith(component).enumerate() {
        keep(format!("smith-{number}"), &bytes);
    }
    for (name, text) in by_hand() {
        keep(name.to_owned(), &wat::parse_str(text).expect("a component"));
    }
    for (number, module) in smith(module).enumerate() {
        let kind = KINDS[number % KINDS.len()];
        let component = wat::parse_str(world(kind, "", "")).expect("a component");
        // A section of its own at the end: a core module.
        let whole = [component, vec![1], length(module.len()), module].concat();
        keep(format!("smith-in-{}-{number}", kind.0), &whole);
    }
    println!("{kept} bytes in {}", folder.display());
}

/// Bytes of wasm-smith from one number after the other, until there are enough.
fn smith(make: fn(&mut Unstructured<'_>) -> Option<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let made = (1..).filter_map(move |seed| {
        let noise = noise(seed, 4_096);
        make(&mut Unstructured::new(&noise)).filter(|bytes| BYTES.contains(&bytes.len()))
    });
    made.take(COUNT as usize)
}

fn component(noise: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    Some(Component::new(config(), noise).ok()?.to_bytes())
}

fn module(noise: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let bytes = Module::new(config(), noise).ok()?.to_bytes();
    wasmparser::Validator::new().validate_all(&bytes).is_ok().then_some(bytes)
}

/// Without what the host's own engine has switched off.
fn config() -> Config {
    Config {
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        max_imports: 4,
        max_memories: 1,
        ..Config::default()
    }
}

/// SplitMix64.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// As wasm writes lengths: seven bits in each byte, the lowest first.
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The kinds of plugins with the interface and the function that each exports.
const KINDS: [(&str, &str, &str); 3] =
    [("router", "routing", "route"), ("agent", "answering", "handle"), ("channel", "translating", "receive")];

/// A component of a world by its names: their types are the engine's to check, when it is linked.
fn world((_, interface, function): (&str, &str, &str), modules: &str, imports: &str) -> String {
    format!(
        "(component
          {imports}
          {modules}
          (core module $m (func (export \"f\")))
          (core instance $i (instantiate $m))
          (func $f (canon lift (core func $i \"f\")))
          (instance $own (export \"{function}\" (func $f)))
          (export \"chela:plugin/{interface}@0.1.0\" (instance $own))
          (export \"init\" (func $f)))"
    )
}

fn import(name: &str) -> String {
    format!("(import \"{name}\" (instance))")
}

fn by_hand() -> Vec<(&'static str, String)> {
    let [router, agent, channel] = KINDS;
    let all = |names: &[&str]| names.iter().map(|name| import(name)).collect::<String>();
    vec![
        ("router", world(router, "", "")),
        ("agent", world(agent, "", "")),
        ("channel", world(channel, "", "")),
        (
            "agent-asks",
            world(
                agent,
                "",
                &all(&["chela:plugin/models@0.1.0", "chela:plugin/memory@0.1.0", "chela:plugin/log@0.1.0"]),
            ),
        ),
        ("router-asks", world(router, "", &all(&["chela:plugin/models@0.1.0", "chela:plugin/config@0.1.0"]))),
        (
            "stand-ins",
            world(
                agent,
                "",
                &all(&["wasi:cli/stdout@0.2.6", "wasi:clocks/wall-clock@0.2.0", "wasi:random/random@0.2.3"]),
            ),
        ),
        ("channel-asks", world(channel, "", &import("chela:plugin/models@0.1.0"))),
        ("files", world(agent, "", &import("wasi:filesystem/types@0.2.6"))),
        ("sockets", world(agent, "", &import("wasi:sockets/tcp@0.2.6"))),
        ("http", world(agent, "", &import("wasi:http/outgoing-handler@0.2.6"))),
        ("later", world(agent, "", &import("chela:plugin/models@0.2.0"))),
        ("unknown", world(agent, "", &import("acme:own/thing"))),
        ("nested", world(agent, "(component (import \"wasi:filesystem/types@0.2.6\" (instance)))", "")),
        ("no-world", "(component)".to_owned()),
        ("module", "(module (func (export \"init\")))".to_owned()),
    ]
}
