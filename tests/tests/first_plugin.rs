//! The path of a first plugin, as its author walks it: a folder with a manifest and a component, a few lines of
//! configuration, `chela check`, `chela plugin inspect`, `chela chat`.

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

/// A block of the README, by the words before it.
fn block(readme: &str, label: &str) -> String {
    let (_, after) = readme.split_once(label).unwrap_or_else(|| panic!("{label} is not in the README"));
    let block = after.split("```").nth(1).unwrap_or_else(|| panic!("nothing stands behind {label}"));
    block.split_once('\n').unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_first_plugin_is_built_and_answers_as_it_says() {
    let root = chela_tests::tree::root();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let process = Process::prepare(|folder| {
        let crate_folder = folder.join("hours");
        std::fs::create_dir_all(crate_folder.join("src")).unwrap();
        let sdk = format!("path = \"{}\"", root.join("sdk/rust").canonicalize().unwrap().display());
        let manifest = block(&readme, "`hours/Cargo.toml`");
        assert!(manifest.contains("path = \"../../chela/sdk/rust\""), "{manifest}");
        let manifest = manifest.replace("path = \"../../chela/sdk/rust\"", &sdk);
        std::fs::write(crate_folder.join("Cargo.toml"), manifest).unwrap();
        std::fs::write(crate_folder.join("src/lib.rs"), block(&readme, "`hours/src/lib.rs`")).unwrap();
        std::fs::write(crate_folder.join("plugin.toml"), block(&readme, "`hours/plugin.toml`")).unwrap();
        std::fs::copy(root.join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
        block(&readme, "`chela.toml`, in `shop`")
    });
    // The same crates as the workspace's, which are on this machine; its own target folder, kept for the next time.
    let crate_folder = process.folder().join("hours");
    let built = tokio::process::Command::new("cargo")
        .args(["build", "--release", "--offline", "--target", "wasm32-wasip2"])
        .current_dir(&crate_folder)
        .env("CARGO_TARGET_DIR", root.join("target/readme"))
        .env_remove("RUSTFLAGS")
        .output()
        .await
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::copy(
        root.join("target/readme/wasm32-wasip2/release/hours.wasm"),
        crate_folder.join("hours.wasm"),
    )
    .unwrap();
    let (well, text) = said(&process, &["check"]).await;
    assert!(well, "{text}");
    let (well, text) = said(&process, &["chat", "hours", "--message", "And on Sunday?"]).await;
    assert!(well && text.contains("At the weekend we are open from 11 to 15."), "{text}");
}

/// The lesson's README says what these tests do: its configuration is theirs, but for the folder.
#[test]
fn the_lesson_says_what_is_tested() {
    let readme = chela_tests::tree::root().join("examples/echo-agent/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let configuration = CONFIGURATION.trim().replace("source = \"echo\"", "source = \"examples/echo-agent\"");
    assert!(readme.contains(&configuration), "the README's configuration is not:\n{configuration}");
}
