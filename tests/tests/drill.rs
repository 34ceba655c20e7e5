//! `chela drill`, as an operator runs it: under his own configuration, for a machine and for people. What each hostile
//! guest comes to, `host/drill/tests/attacks.rs` shows.

use std::collections::BTreeSet;

use chela_tests::process::Process;
use serde_json::Value;

/// What an operator has who wants guests to end soon.
const CONFIG: &str = "\
[limits.router]\nmemory_bytes = 16777216\ndeadline_ms = 400\ncpu_ms = 300\n\
[limits.agent]\ndeadline_ms = 400\ncpu_ms = 300\n\
[limits.channel]\ndeadline_ms = 400\ncpu_ms = 300\n\
[plugin.assistant]\nsource = \"builtin:assistant\"\n[agent.sales]\nplugin = \"assistant\"\n";

/// `chela drill` with arguments, under this configuration: whether it ended well, and what it printed.
async fn drilled(config: &str, arguments: &[&str]) -> (bool, String) {
    let process = Process::prepare(|_| config.to_owned());
    let words = [&["drill", "--config", "chela.toml"], arguments].concat();
    let output = process.command(&words).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.is_empty(), "{errors}");
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_tells_a_machine_its_score() {
    let only =
        ["trap", "memory-steps", "imports-files", "forged-sender", "guessed-memory", "to-the-metadata"];
    let arguments: Vec<&str> = only.iter().flat_map(|name| ["--only", name]).chain(["--json"]).collect();
    let (is_whole, said) = drilled(CONFIG, &arguments).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert!(is_whole, "{report:#}");
    assert_eq!((&report["contained"], &report["tried"]), (&Value::from(6), &Value::from(6)));
    for (attack, name) in report["attacks"].as_array().unwrap().iter().zip(only) {
        assert_eq!((&attack["attack"], &attack["isolation"]), (&Value::from(name), &Value::from("worker")));
        assert!(attack["load"]["ms"].is_u64() && attack["contained"] == true, "{attack:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_finds_something_fails_and_names_it() {
    let lifted =
        CONFIG.replace("cpu_ms = 300\n[limits.agent]", "cpu_ms = 300\nhost_calls = 1000000\n[limits.agent]");
    let (is_whole, said) = drilled(&lifted, &["--only", "host-ping-pong", "--only", "trap"]).await;
    assert!(!is_whole && said.contains("HOLE  host-ping-pong"), "{said}");
    assert!(said.contains("ok    trap") && said.contains("1 of 2 attacks were contained"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_lists_what_it_would_try() {
    let (is_whole, said) = drilled(CONFIG, &["--list", "--json"]).await;
    let list: Value = serde_json::from_str(&said).unwrap();
    let names: BTreeSet<&str> =
        list.as_array().unwrap().iter().map(|it| it["attack"].as_str().unwrap()).collect();
    assert!(is_whole && names.len() >= 40, "{names:?}");
    assert_eq!(names.len(), chela_drill::all().count());
}
