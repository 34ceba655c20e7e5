//! The house stands: arrows between rooms point down only, and a third-party library that matters has one door.
//!
//! Read from the manifests (what may be used) and the sources (where it is used). The checks are functions over
//! plain data, so that the tests below also show each of them going red.

use chela_tests::tree;
use std::collections::BTreeMap;

/// A room and the rooms it may know, top floor first.
const FLOORS: &[(&str, &[&str])] = &[
    ("server", &["types", "egress", "store", "sandbox", "gateway", "engine", "drill", "bundle", "embedder"]),
    ("drill", &["types", "egress", "store", "sandbox", "gateway", "engine", "plugin-build"]),
    ("engine", &["types", "lexical", "egress", "store", "sandbox", "gateway"]),
    ("gateway", &["types", "lexical", "egress", "store", "embedder"]),
    ("sandbox", &["types"]),
    ("store", &["types"]),
    ("egress", &["types"]),
    ("lexical", &["types"]),
    ("embedder", &[]),
    ("types", &[]),
];

/// A library and the rooms that may depend on it.
const DOORS: &[(&str, &[&str])] = &[
    ("wasmtime", &["sandbox", "engine"]),
    ("wasmtime-wasi", &["sandbox"]),
    ("wasmtime-wasi-io", &["sandbox"]),
    ("wasmtime-wizer", &["sandbox"]),
    ("landlock", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("wasmparser", &["sandbox"]),
    ("sqlx", &["store"]),
    ("rusqlite", &["store"]),
    ("reqwest", &["egress"]),
    ("rustls", &["egress"]),
    ("axum", &["server"]),
    ("csv", &["gateway"]),
    ("ndarray", &["embedder"]),
    ("clap", &["server"]),
    ("tracing-subscriber", &["server"]),
    ("metrics-exporter-prometheus", &["server"]),
    ("tokio", &["egress", "store", "sandbox", "gateway", "engine", "drill", "server"]),
    ("notify", &["server"]),
];

/// Engine files that may speak of wasmtime: bindings and the stations that link them.
const BINDINGS: &[&str] = &[
    "contract.rs",
    "agent.rs",
    "router.rs",
    "channel/component.rs",
    "channel/station.rs",
    "capability/",
    "measure.rs",
];

type Manifests = BTreeMap<String, Vec<String>>;

fn arrows_up(manifests: &Manifests) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, dependencies) in manifests {
        let allowed = FLOORS.iter().find(|(name, _)| name == room).map_or(&[][..], |(_, below)| below);
        for dependency in dependencies {
            if let Some(other) = dependency.strip_prefix("chela-")
                && !allowed.contains(&other)
            {
                wrong.push(format!("{room} → {other}"));
            }
        }
    }
    wrong
}

fn doors_elsewhere(manifests: &Manifests) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, dependencies) in manifests {
        for (library, rooms) in DOORS {
            if dependencies.iter().any(|name| name == library) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{library} in {room}"));
            }
        }
    }
    wrong
}

fn manifests() -> Manifests {
    FLOORS.iter().map(|(room, _)| (room.to_string(), tree::dependencies(&format!("host/{room}")))).collect()
}

#[test]
fn arrows_point_down_only() {
    assert_eq!(arrows_up(&manifests()), Vec::<String>::new());
}

#[test]
fn an_arrow_up_or_across_is_seen() {
    let mut broken = manifests();
    broken.entry("sandbox".into()).or_default().push("chela-gateway".into());
    broken.entry("store".into()).or_default().push("chela-engine".into());
    assert_eq!(arrows_up(&broken), ["sandbox → gateway", "store → engine"]);
}

#[test]
fn a_library_has_one_door() {
    assert_eq!(doors_elsewhere(&manifests()), Vec::<String>::new());
}

#[test]
fn a_second_door_is_seen() {
    let mut broken = manifests();
    broken.entry("gateway".into()).or_default().push("reqwest".into());
    broken.entry("engine".into()).or_default().push("sqlx".into());
    assert_eq!(doors_elsewhere(&broken), ["sqlx in engine", "reqwest in gateway"]);
}

#[test]
fn every_room_of_the_host_has_its_floor() {
    let known: Vec<&str> = FLOORS.iter().map(|(room, _)| *room).collect();
    for room in tree::folders("host") {
        assert!(known.contains(&room.as_str()), "host/{room} stands on no floor: add it to FLOORS");
    }
}

#[test]
fn a_door_behind_another_name_target_or_build_is_seen() {
    let manifest = r#"
        [dependencies]
        plain = "1"
        db = { package = "sqlx", version = "0.9" }
        [build-dependencies]
        reqwest = "0.13"
        [target.'cfg(unix)'.dependencies]
        wasmtime = "48"
        [dev-dependencies]
        insta = "1"
    "#;
    let mut found = tree::dependencies_in(&manifest.parse().unwrap());
    found.sort();
    assert_eq!(found, ["plain", "reqwest", "sqlx", "wasmtime"]);
}

/// Ways to the network that need no library.
const SOCKETS: [&str; 4] = ["TcpStream::connect", "UdpSocket", "UnixStream::connect", "TcpSocket"];

/// Files that open a socket, with what they are for: the way out, and the host's own socket on this machine.
const MAY_CONNECT: [&str; 2] = ["egress/", "server/src/cli/"];

fn sockets_elsewhere(sources: &[(String, String)]) -> Vec<String> {
    let product = |text: &str| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let is_test =
        |path: &str| path.contains("/tests") || path.ends_with("_tests.rs") || path.ends_with("tests.rs");
    sources
        .iter()
        .filter(|(path, _)| !is_test(path) && !MAY_CONNECT.iter().any(|start| path.starts_with(start)))
        .filter(|(_, text)| SOCKETS.iter().any(|way| product(text).contains(way)))
        .map(|(path, _)| path.clone())
        .collect()
}

#[test]
fn only_egress_opens_sockets_outward() {
    let sources = tree::sources("host");
    assert_eq!(sockets_elsewhere(&sources), Vec::<String>::new());
    let broken = ("engine/src/agent.rs".to_owned(), "let way = TcpStream::connect(address);".to_owned());
    assert_eq!(sockets_elsewhere(&[broken]), ["engine/src/agent.rs"]);
}

#[test]
fn in_other_rooms_nobody_speaks_of_wasmtime() {
    for room in ["types", "lexical", "egress", "store", "gateway", "drill", "server"] {
        for (path, text) in tree::sources(&format!("host/{room}/src")) {
            assert!(!text.contains("wasmtime::"), "host/{room}/src/{path} speaks of wasmtime");
        }
    }
}

#[test]
fn in_the_engine_only_bindings_and_stations_speak_of_wasmtime() {
    for (path, text) in tree::sources("host/engine/src") {
        let allowed = BINDINGS.iter().any(|name| path.starts_with(name));
        assert!(allowed || !text.contains("wasmtime::"), "host/engine/src/{path} speaks of wasmtime");
    }
}

#[test]
fn guests_know_nothing_of_the_host() {
    for guest in [
        "plugins/routers/keyword",
        "plugins/agents/assistant",
        "plugins/channels/slack",
        "plugins/channels/webhook",
        "plugins/channels/web-chat",
        "examples/echo-agent",
        "sdk/rust",
    ] {
        for dependency in tree::dependencies(guest) {
            let ours = dependency.strip_prefix("chela-");
            assert!(ours.is_none_or(|name| name == "sdk"), "{guest} depends on {dependency}");
        }
    }
}
