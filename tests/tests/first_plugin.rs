//! The path of a first plugin, as its author walks it: a folder with a manifest and a component, a few lines of
//! configuration, `chela check`, `chela plugin inspect`, `chela chat`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use chela_tests::guests;
use chela_tests::process::Process;
use chela_tests::{Outside, host};

/// As the lesson's README says it.
const CONFIGURATION: &str = r#"
[plugin.echo]
source = "echo"

[agent.parrot]
plugin = "echo"
description = "Says back what it heard."
"#;

fn prepared() -> Process {
    Process::prepare(|folder| {
        guests::get("echo").folder(folder);
        CONFIGURATION.to_owned()
    })
}

/// Runs a command to its end: whether it went well, and everything that it said.
async fn said(process: &Process, arguments: &[&str]) -> (bool, String) {
    let output = process.command(arguments).output().await.unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lesson_is_loaded_and_answers() {
    let outside = Outside::new().await;
    let host = host(&outside).agent("parrot", "echo").webhook("partner", "parrot").run().await;
    host.partner_says(&outside, "t1", "hello").await;
    host.closed("hello").await;
    assert_eq!(outside.partner.replies().all()[0].reply.text, "You said: hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authors_path_from_a_folder_to_an_answer() {
    let process = prepared();
    let (well, text) = said(&process, &["check"]).await;
    assert!(well, "{text}");
    let (well, text) = said(&process, &["plugin", "inspect", "echo"]).await;
    assert!(well && text.contains("Says back what it heard."), "{text}");
    let (well, text) = said(&process, &["chat", "parrot", "--message", "hello"]).await;
    assert!(well && text.contains("You said: hello"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_on_the_way_is_named() {
    let process = prepared();
    std::fs::remove_file(process.folder().join("echo/echo.wasm")).unwrap();
    let (well, text) = said(&process, &["check"]).await;
    assert!(!well && text.contains("holds no `*.wasm`"), "{text}");
    let (well, text) = said(&process, &["chat", "parot", "--message", "hello"]).await;
    assert!(!well && text.contains("parot") && text.contains("parrot"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_refuses_is_found_by_check_and_what_it_prepared_is_kept() {
    let process = Process::prepare(|folder| {
        guests::get("agent").folder(folder);
        let agent = |name: &str, init: &str| {
            format!(
                "[plugin.{name}]\nsource = \"agent\"\nconfig = {{ init = \"{init}\" }}\n\n\
                 [agent.{name}]\nplugin = \"{name}\"\n\n"
            )
        };
        agent("well", "ok") + &agent("ill", "error")
    });
    std::fs::create_dir(process.data()).unwrap();
    let (well, text) = said(&process, &["check"]).await;
    assert!(!well && text.contains("agent ill: ") && text.contains("1 plugin is refused"), "{text}");
    assert!(text.contains("ok  agent well") && text.contains("the guest refuses to start"), "{text}");
    let kept = std::fs::read_dir(process.data().join("plugins")).unwrap().count();
    assert!(kept >= 2, "a key and what was prepared");
}

/// The lesson's README says what these tests do: its configuration is theirs, but for the folder.
#[test]
fn the_lesson_says_what_is_tested() {
    let readme = chela_tests::tree::root().join("examples/echo-agent/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let configuration = CONFIGURATION.trim().replace("source = \"echo\"", "source = \"examples/echo-agent\"");
    assert!(readme.contains(&configuration), "the README's configuration is not:\n{configuration}");
}
