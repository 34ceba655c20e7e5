//! Builds the hostile guests of `tests/guests` and writes the tables that `guests.rs` includes: those in Rust as any
//! author builds his, and those in text, of a few lines each, as whole components.

use anyhow::Context as _;
use chela_plugin_build::{Built, Plugin, build};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

/// In Rust; each in a folder of its name.
const GUESTS: [&str; 5] = ["agent", "router", "channel", "files", "sockets"];

/// Section of a component that holds another, and the one that makes instances.
const COMPONENT_SECTION: u8 = 4;
const INSTANCE_SECTION: u8 = 5;
/// Bytes before the first section.
const HEADER: usize = 8;

/// What a guest in text may import beside the contract.
const WORLD: &str = include_str!("../../tests/guests/wat/world.wit");

// Printing is how a build script speaks to cargo.
#[allow(clippy::print_stdout)]
fn main() -> anyhow::Result<()> {
    let workspace = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let guests = workspace.join("tests/guests");
    let plugins =
        GUESTS.map(|name| Plugin { package: format!("chela-guest-{name}"), folder: guests.join(name) });
    let watch = ["sdk/rust", "wit"].map(|folder| workspace.join(folder));
    let mut table = "static BUILT: &[Built] = &[".to_owned();
    for (name, built) in GUESTS.iter().zip(build(&workspace, &plugins, &watch)?) {
        let Built { manifest, component, .. } = built;
        write!(
            table,
            "Built {{ name: {name:?}, manifest: include_str!({manifest:?}), component: include_bytes!({component:?}) }},"
        )?;
    }
    println!("cargo::rerun-if-changed={}", guests.join("wat").display());
    write!(table, "];\nstatic WRITTEN: &[Written] = &[{}];\n", written(&workspace, &guests.join("wat"))?)?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("guests.rs"), table)?;
    Ok(())
}

/// The guests in text.
fn written(workspace: &Path, folder: &Path) -> anyhow::Result<String> {
    let world = World::read(&workspace.join("wit/0.1.0"))?;
    let honest = world.router(&std::fs::read_to_string(folder.join("router/honest.wat"))?)?;
    let mut table = String::new();
    for (kind, make) in [
        ("router", &(|text: &str| world.router(text)) as &dyn Fn(&str) -> anyhow::Result<Vec<u8>>),
        ("graft", &|text| grafted(&honest, &wat::parse_str(text)?)),
        ("component", &|text| Ok(wat::parse_str(text)?)),
    ] {
        for (name, text) in texts(&folder.join(kind))? {
            let component = make(&text).with_context(|| format!("{kind}/{name}.wat"))?;
            let path = Path::new(&std::env::var("OUT_DIR")?).join(format!("{name}.wasm"));
            std::fs::write(&path, component)?;
            // Parts of a component, and a table that grows, cannot be snapshotted.
            let snapshot = kind == "router" && !text.starts_with(";; no snapshot");
            write!(
                table,
                "Written {{ name: {name:?}, snapshot: {snapshot}, component: include_bytes!({path:?}) }},"
            )?;
        }
    }
    Ok(table)
}

/// The texts of a folder by name, sorted.
fn texts(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder)? {
        let path = item?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, std::fs::read_to_string(&path)?));
    }
    found.sort();
    Ok(found)
}

/// The router's world, with what standard libraries import.
struct World {
    resolve: Resolve,
    package: PackageId,
}

impl World {
    fn read(contract: &Path) -> anyhow::Result<Self> {
        let mut resolve = Resolve::default();
        resolve.push_dir(contract)?;
        let package = resolve.push_str("world.wit", WORLD)?;
        Ok(Self { resolve, package })
    }

    /// A router of these fields of a module; whatever of a router is not among them is honest.
    fn router(&self, fields: &str) -> anyhow::Result<Vec<u8>> {
        let world = self.resolve.select_world(&[self.package], Some("hostile"))?;
        let mut module = wat::parse_str(module(fields))?;
        embed_component_metadata(&mut module, &self.resolve, world, StringEncoding::UTF8)?;
        ComponentEncoder::default().module(&module)?.encode()
    }
}

fn module(fields: &str) -> String {
    let honest = [
        ("(memory (export", r#"(memory (export "memory") 2)"#),
        ("\"cabi_realloc\"", REALLOC),
        ("\"init\"", r#"(func (export "init") (result i32) (i32.const 256))"#),
        (
            "(func $route",
            r"(func $route (param i32) (result i32) (call $answer (i32.const 528) (i32.const 8)))",
        ),
    ];
    let rest: String =
        honest.iter().filter(|(mark, _)| !fields.contains(mark)).map(|(_, text)| *text).collect();
    format!("(module {fields}\n{rest}\n{FRAME})")
}

/// Makes room and takes none back.
const REALLOC: &str = r#"
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
  (global.set $top (i32.add (local.get $at) (local.get 3)))
  (local.get $at))"#;

/// What every router in text has: where its room begins, and how it says its decision.
const FRAME: &str = r#"
(global $top (mut i32) (i32.const 8192))
(data (i32.const 512) "support")
(data (i32.const 528) "harmless")
(data (i32.const 544) "harmful")
(func $answer (param $reason i32) (param $length i32) (result i32)
  (call $decide (i32.const 512) (i32.const 7) (i32.const 0) (i32.const 0) (local.get $reason) (local.get $length)))
(func $decide (param $agent i32) (param $agents i32) (param $others i32) (param $count i32)
    (param $reason i32) (param $length i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 0))
  (i32.store (i32.const 1028) (local.get $agent))
  (i32.store (i32.const 1032) (local.get $agents))
  (f32.store (i32.const 1036) (f32.const 1))
  (i32.store (i32.const 1040) (local.get $others))
  (i32.store (i32.const 1044) (local.get $count))
  (i32.store (i32.const 1048) (local.get $reason))
  (i32.store (i32.const 1052) (local.get $length))
  (i32.const 1024))
(export "chela:plugin/routing@0.1.0#route" (func $route))"#;

/// An honest component with another one inside, which is made together with it: what its start functions do happens
/// before any export is called.
fn grafted(honest: &[u8], attack: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = honest.to_vec();
    section(&mut whole, COMPONENT_SECTION, attack)?;
    // One instance, of the component that was just added, without arguments.
    let mut instance = vec![1, 0];
    leb128(&mut instance, components(honest)?);
    instance.push(0);
    section(&mut whole, INSTANCE_SECTION, &instance)?;
    Ok(whole)
}

fn section(whole: &mut Vec<u8>, id: u8, body: &[u8]) -> anyhow::Result<()> {
    whole.push(id);
    leb128(whole, u32::try_from(body.len())?);
    whole.extend_from_slice(body);
    Ok(())
}

fn leb128(out: &mut Vec<u8>, mut number: u32) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Components at the root of this one: its sections of that kind.
fn components(component: &[u8]) -> anyhow::Result<u32> {
    let mut found = 0;
    let mut rest = component.get(HEADER..).context("no component")?;
    while let Some((id, after)) = rest.split_first() {
        let mut size = 0_usize;
        let mut bytes = after.iter().enumerate();
        let begins = loop {
            let (at, byte) = bytes.next().context("a section without a size")?;
            size |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                break at + 1;
            }
        };
        found += u32::from(*id == COMPONENT_SECTION);
        rest = after.get(begins + size..).context("a section beyond the end")?;
    }
    Ok(found)
}
