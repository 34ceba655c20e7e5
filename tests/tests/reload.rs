//! What the running program makes of files that change: what it watches, what waits for somebody, and what is told of it.

use std::path::Path;
use std::process::Stdio;

use chela_tests::process::Process;
use chela_tests::{PATIENCE, eventually, guests};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::timeout;

const COMPANY: &str = r#"
[provider.offline]
kind = "scripted"
script = "builtin:demo"

[tier.fast]
chain = ["offline/demo"]

[plugin.assistant]
source = "builtin:assistant"
grants = ["models", "knowledge"]

[agent.support]
plugin = "assistant"
knowledge = "documents"

[operator.bea]
token = "file:bea.token"
rights = ["read"]
"#;

fn prepare(more: &str) -> Process {
    Process::prepare(|folder| {
        std::fs::create_dir(folder.join("documents")).unwrap();
        write(folder, "documents/a.md", "# Returns\n\nWithin a month.");
        write(folder, "bea.token", "a-token-that-is-long-enough");
        format!("{COMPANY}{more}")
    })
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).unwrap();
}

async fn started(more: &str) -> Process {
    let mut process = prepare(more);
    process.start();
    process.ready().await;
    process
}

/// What a command printed, if it says that all went well.
async fn said(process: &Process, arguments: &[&str]) -> Result<String, String> {
    let output = process.command(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

async fn json(process: &Process, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(process, arguments).await.unwrap()).unwrap()
}

async fn status(process: &Process) -> Value {
    json(process, &["status", "--json"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_configuration_misses_is_taken_over_when_it_comes() {
    let mut process = started("").await;
    let folder = process.folder().to_owned();
    let config = std::fs::read_to_string(folder.join("chela.toml")).unwrap();
    std::fs::create_dir_all(folder.join("plugins/new")).unwrap();
    let router = guests::get("router");
    write(&folder, "plugins/new/plugin.toml", router.manifest_of("1.0.0", "tag-old"));
    let more =
        "\n[plugin.new]\nsource = \"plugins/new\"\n\n[routing]\nrouter = \"new\"\nfallback = \"support\"\n";
    write(&folder, "chela.toml", format!("{config}{more}"));
    eventually("it is refused", async || {
        status(&process).await["invalid"]["text"].as_str().is_some_and(|text| text.contains("*.wasm"))
    })
    .await;
    // Beside the folder first, so that nothing but its arrival is seen.
    write(&folder, "aside", router.component);
    std::fs::rename(folder.join("aside"), folder.join("plugins/new/router.wasm")).unwrap();
    eventually("it runs", async || status(&process).await["invalid"].is_null()).await;
    let list = json(&process, &["plugin", "list", "--json"]).await;
    assert!(list.as_array().unwrap().iter().any(|plugin| plugin["plugin"] == "new"), "{list}");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_applied_is_told_also_of_secrets_and_documents() {
    let mut process = started("\n[swap]\nreload = \"manual\"\n[trust]\nunsigned = \"worker\"\n").await;
    let folder = process.folder().to_owned();
    let waiting = async || status(&process).await["unapplied_contents"].clone();
    write(&folder, "bea.token", "another-token-that-is-long");
    eventually("the secret waits", async || waiting().await[0] == "secret operator.bea.token").await;
    write(&folder, "documents/a.md", "# Returns\n\nNever.");
    eventually("the documents wait", async || waiting().await[1] == "documents of agent support").await;
    let shown = said(&process, &["status"]).await.unwrap();
    assert!(shown.contains("documents of agent support waits: chela reload --apply"), "{shown}");
    let token = std::fs::read_to_string(process.data().join("admin.token")).unwrap();
    let url = format!("http://{}/metrics", process.admin);
    let mut curl = tokio::process::Command::new("curl");
    let asked = curl.args(["-sS", "-H", &format!("Authorization: Bearer {}", token.trim()), &url]);
    let metrics = String::from_utf8(asked.output().await.unwrap().stdout).unwrap();
    assert!(metrics.contains("config_reloads_total{result=\"waiting\"}"), "{metrics}");
    assert!(!metrics.contains("config_reloads_total{result=\"applied\"}"), "{metrics}");
    let reloaded = json(&process, &["reload", "--apply", "--json"]).await;
    let changed = &reloaded["changed"];
    assert_eq!(
        (&changed[0], &changed[1]),
        (&"secret operator.bea.token".into(), &"documents of agent support".into())
    );
    assert_eq!(waiting().await, Value::Array(Vec::new()));
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_ends_with_its_reader_and_with_the_host() {
    let mut process = started("").await;
    let follow = || {
        let mut command = process.command(&["events", "--follow", "-n", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (mut read, mut unread) = (follow(), follow());
    let mut lines = BufReader::new(unread.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some(), "there is an event");
    drop(lines);
    let ended = timeout(PATIENCE, unread.wait()).await.expect("it ends when nobody reads").unwrap();
    assert!(ended.success());
    let mut lines = BufReader::new(read.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some(), "there is an event");
    assert!(process.terminate().await);
    let ended = timeout(PATIENCE, read.wait()).await.expect("it ends with the host").unwrap();
    let mut errors = String::new();
    read.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
    assert!(ended.success() && errors.contains("the host stops"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_listed_in_one_shape_and_what_cannot_be_read_is_an_error() {
    let mut process = prepare("");
    let nobody = ["plugin", "history", "nobody"];
    let before = json(&process, &["plugin", "list", "--json"]).await;
    assert_eq!(before[0]["plugin"], "assistant", "{before}");
    assert_eq!(
        (&before[0]["versions"], &before[0]["serves"][0]),
        (&Value::Array(Vec::new()), &"agent support".into())
    );
    process.start();
    process.ready().await;
    let error = said(&process, &nobody).await.unwrap_err();
    assert!(error.contains("no plugin is called `nobody`"), "{error}");
    assert!(process.terminate().await);
    assert_eq!(said(&process, &nobody).await.unwrap_err(), error, "it is the same without a host");
    assert!(
        said(&process, &["plugin", "history", "assistant"]).await.unwrap().contains("first by the loader")
    );
    write(
        &process.data(),
        "chela.db",
        "this is no database, and is longer than its header would be".repeat(100),
    );
    let error = said(&process, &["plugin", "list"]).await.unwrap_err();
    assert!(error.contains("chela.db"), "{error}");
}
