//! The kept inputs, in `fuzz/corpus`: a folder for each target. Those that code makes are made here; the rest was found,
//! or is a component (`fuzz/seeds` makes those).

use chela_engine::fuzzing as engine;
use chela_sandbox::fuzzing as sandbox;
use chela_types::signature::Recipe;
use std::io;
use std::path::{Path, PathBuf};

use crate::stations::{ADAPTERS, SECRET, adapter_manifest};

/// The folder of a target.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The kept inputs of a target by name, sorted.
///
/// # Errors
/// There is no such folder.
pub fn kept(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(target))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, std::fs::read(&path)?));
    }
    found.sort();
    Ok(found)
}

/// What stands beside the inputs that were found: target, name and bytes.
pub fn made() -> Vec<(&'static str, String, Vec<u8>)> {
    let of = |target: &'static str, samples: Vec<(&'static str, Vec<u8>)>| {
        samples.into_iter().map(move |(name, bytes)| (target, name.to_owned(), bytes))
    };
    of("worker", sandbox::worker::samples())
        .chain(of("compiler", sandbox::compiler::samples()))
        .chain(of("router", engine::router_samples()))
        .chain(of("agent", engine::agent_samples()))
        .chain(of("asked", engine::capability::samples()))
        .chain(requests())
        .chain(manifests())
        .chain(inbound())
        .chain(outbound())
        .chain(webhooks())
        .collect()
}

/// Writes what code makes.
///
/// # Errors
/// What the disk says.
pub fn write() -> io::Result<()> {
    for (target, name, bytes) in made() {
        std::fs::create_dir_all(folder(target))?;
        std::fs::write(folder(target).join(name), bytes)?;
    }
    Ok(())
}

fn requests() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let tables = engine::capability::REQUEST_TABLES;
    let length = u16::try_from(tables.len()).unwrap_or_default().to_le_bytes();
    engine::capability::request_samples().into_iter().map(move |(name, asked)| {
        ("requests", name.to_owned(), [&length[..], tables.as_bytes(), &asked].concat())
    })
}

fn manifests() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let ours = chela_bundle::all().map(|plugin| (plugin.name, plugin.manifest));
    let others = [
        ("everything", include_str!("adapters/everything.toml")),
        ("form", include_str!("adapters/form.toml")),
        (
            "misspelt",
            "name = \"a\"\nversion = \"1.0.0\"\nkind = \"agent\"\ncontract = \"0.1.0\"\n[limits]\nmemory_byte = 1\n",
        ),
        (
            "another-kind",
            "name = \"a\"\nversion = \"1.0.0\"\nkind = \"router\"\ncontract = \"0.1.0\"\n[[bind]]\nname = \"to\"\n",
        ),
    ];
    ours.chain(others).map(|(name, text)| ("manifest", name.to_owned(), text.as_bytes().to_vec()))
}

/// A request of each adapter's platform.
const BODIES: [&str; ADAPTERS.len()] = [
    r#"{"team_id":"T1","event_id":"m1","event":{"user":"ann","channel":"r1","ts":"1.2","message":{"ts":"m0","user":"ann"}}}"#,
    r#"{"thread_id":"r1","sender":"ann","text":"hello"}"#,
    r#"{"id":"m1","text":"hello"}"#,
    r#"{"id":"m1","room":"r1","sender":"ann","post":"m0","items":[{"id":"m1","room":"r1","sender":"ann","at":7},{"id":"m2","room":"r2","sender":"bob"}],"statuses":[{"id":"p1"}]}"#,
    "id=m1&room=r1&sender=ann&payload=%7B%22room%22%3A%22r1%22%7D",
];

fn inbound() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let inputs = ADAPTERS.iter().zip(BODIES).enumerate().flat_map(|(at, ((adapter, _), body))| {
        let said = engine::channel::inward_samples().into_iter();
        said.map(move |(name, said)| {
            let length = u16::try_from(body.len()).unwrap_or_default().to_le_bytes();
            let input = [&[at as u8][..], &length, body.as_bytes(), &said].concat();
            ("inbound", format!("{adapter}-{name}"), input)
        })
    });
    // Each adapter's own, and everything of the one that has everything.
    inputs.filter(|(_, name, _)| ["everything", "message", "own"].iter().any(|part| name.contains(part)))
}

fn outbound() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let samples = engine::channel::outward_samples();
    let input = |at: usize, post: u8, said: &[u8]| [&[at as u8, post][..], said].concat();
    let of_all = ADAPTERS.iter().enumerate().flat_map(move |(at, (adapter, _))| {
        let own = samples
            .clone()
            .into_iter()
            .filter(move |(name, _)| *adapter == "everything" || name.strip_prefix("own-") == Some(*adapter));
        own.map(move |(name, said)| ("outbound", format!("{adapter}-{name}"), input(at, 0, &said)))
    });
    of_all.collect::<Vec<_>>().into_iter()
}

/// A signed request as text, of an adapter whose platform signs.
pub(crate) fn signed(adapter: &str) -> Option<Vec<u8>> {
    let manifest = adapter_manifest(adapter);
    let recipe: Recipe = manifest.channel["verify"].get("recipe")?.clone().try_into().ok()?;
    let at = (engine::capability::NOW.0 / 1_000).to_string();
    let body = BODIES[ADAPTERS.iter().position(|(name, _)| *name == adapter)?];
    let timestamp = manifest.channel["verify"]["timestamp"]["header"].as_str()?.to_owned();
    let look_up = |name: &str| match name {
        "webhook-id" => Some("m1"),
        name if name == timestamp => Some(at.as_str()),
        _ => None,
    };
    let signature = recipe.sign(SECRET, body.as_bytes(), look_up).ok()?;
    let header = &recipe.header;
    let head =
        format!("content-type: application/json\nwebhook-id: m1\n{timestamp}: {at}\n{header}: {signature}");
    Some(format!("{head}\n\n{body}").into_bytes())
}

fn webhooks() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let session = b"content-type: application/json\ncookie: s1.0000\n\n{\"id\":\"m1\"}".to_vec();
    ADAPTERS.iter().enumerate().map(move |(at, (name, _))| {
        let text = signed(name).unwrap_or_else(|| session.clone());
        ("webhook", (*name).to_owned(), [vec![at as u8], text].concat())
    })
}
