//! The command line as operators use it, beside a host that runs and without one.

use std::process::Stdio;
use std::time::Duration;

use chela_egress::Request;
use chela_server::standin::{Fault, webhook};
use chela_tests::kill::configuration;
use chela_tests::outside::{PARTNER_SECRET, loopback};
use chela_tests::process::{Process, program};
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Outside, PATIENCE, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use url::Url;

const HOUR: Duration = Duration::from_secs(3_600);

fn prepare(outside: &Outside) -> Process {
    prepare_with(outside, "")
}

/// With further keys of `[server]`.
fn prepare_with(outside: &Outside, keys: &str) -> Process {
    Process::prepare_with(keys, |folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        configuration(outside)
    })
}

/// How a command ended: its exit code, what it printed, what it complained of.
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

async fn run(process: &Process, arguments: &[&str]) -> Ended {
    let output = process.command(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

async fn json(process: &Process, arguments: &[&str]) -> Value {
    let Ended { code, out, errors } = run(process, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {out}"))
}

async fn partner_says(process: &Process, outside: &Outside, text: &str) {
    let say = webhook::Say { sender: "ann".to_owned(), text: text.to_owned(), ..webhook::Say::default() };
    let (_, sent) = outside.partner.say(&process.channel("partner"), &say).await.unwrap();
    assert!(sent.is_acknowledged(), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_shown_while_a_host_runs_and_without_one() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside);
    process.start();
    process.ready().await;
    partner_says(&process, &outside, "an order").await;
    let mut newest = Value::Null;
    eventually("it is delivered", async || {
        newest = json(&process, &["turn", "list", "--json"]).await[0].clone();
        newest["state"] == "delivered"
    })
    .await;
    let id = newest["id"].as_str().unwrap().to_owned();
    let mut pages = Vec::new();
    for is_running in [true, false] {
        let page = run(&process, &["turn", "show", &id]).await;
        assert!(page.out.contains("delivered") && !page.out.contains("an order"), "{}", page.out);
        let whole = json(&process, &["turn", "show", &id, "--json"]).await;
        assert_eq!((&whole["id"], &whole["channel"]), (&Value::from(id.as_str()), &Value::from("partner")));
        let unknown = run(&process, &["turn", "show", "0198f3c1a2b37c4d8e9f0a1b2c3d4e5f"]).await;
        assert_eq!(unknown.code, Some(1));
        assert!(unknown.errors.contains("0198f3c1a2b37c4d8e9f0a1b2c3d4e5f"), "{}", unknown.errors);
        let nonsense = run(&process, &["turn", "show", "nonsense"]).await;
        assert!(nonsense.code != Some(0) && nonsense.errors.contains("nonsense"), "{}", nonsense.errors);
        let status = run(&process, &["status"]).await;
        assert!(status.out.contains('1') && status.out.contains("delivered"), "{}", status.out);
        pages.push((page.out, whole));
        if is_running {
            assert!(process.terminate().await);
        }
    }
    assert_eq!(pages[0], pages[1], "the store tells what the host told");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_listed_with_what_they_serve_and_may() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside);
    for is_running in [false, true] {
        if is_running {
            process.start();
            process.ready().await;
        }
        let table = run(&process, &["plugin", "list"]).await;
        assert_eq!(table.code, Some(0), "{}", table.errors);
        for word in ["assistant", "keyword", "slack", "webhook"] {
            assert!(table.out.contains(word), "{word} in {}", table.out);
        }
        let list = json(&process, &["plugin", "list", "--json"]).await;
        assert!(list.to_string().contains("\"assistant\""), "{list}");
    }
    let inspected = json(&process, &["plugin", "inspect", "builtin:slack", "--json"]).await;
    assert_eq!(inspected["manifest"]["name"], "slack", "{inspected}");
    let misspelt = run(&process, &["plugin", "inspect", "builtin:slak"]).await;
    assert!(misspelt.code != Some(0) && misspelt.errors.contains("slack"), "{}", misspelt.errors);
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_at_the_terminal_goes_through_a_running_host() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside);
    process.start();
    process.ready().await;
    let said = run(&process, &["chat", "sales", "--message", "what does it cost"]).await;
    assert!(said.code == Some(0) && said.out.contains("what does it cost"), "{} {}", said.out, said.errors);
    // Lines that are typed, or come through a pipe.
    let mut command = process.command(&["chat", "support"]);
    let mut chat =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"the first line\nthe second line\n").await.unwrap();
    let output = tokio::time::timeout(PATIENCE, chat.wait_with_output()).await.unwrap().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out} {errors}");
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("{text} in {out}"));
    assert!(at("the first line") < at("the second line"));
    assert_eq!(json(&process, &["turn", "list", "--json"]).await.as_array().unwrap().len(), 3);
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_lines_of_json_and_holds_nobodys_words() {
    const CANARY: &str = "canary-7f3a";
    let outside = Outside::new().await;
    let mut process = prepare(&outside);
    process.start();
    process.ready().await;
    // One that goes well, one that is answered by nobody for a while, and two that are refused.
    outside.provider.faults().inject(&Fault::Status(500), 3);
    partner_says(&process, &outside, CANARY).await;
    outside.partner.replies().wait_for(|reply| reply.reply.text.contains(CANARY)).await;
    let broken = format!("{{\"sender\": \"{CANARY}\", \"text\": [");
    let forged =
        Signed::now(Scheme::Standard, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", outside.clock.now(), CANARY);
    let malformed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), broken);
    for (signed, status) in [(forged, 401), (malformed, 400)] {
        let mut request = Request::new(http::Method::POST, process.channel("partner"), signed.body.clone());
        for (name, value) in signed.webhook().headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(loopback().send(request).await.unwrap().status, status);
    }
    assert!(process.terminate().await);
    let log = process.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string() && line["target"].is_string(),
            "{line}"
        );
    }
    assert!(!log.contains(CANARY), "{log}");
    assert!(log.contains("refused") || log.contains("WARN"), "something was logged of all that: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_cannot_wait_gives_back_what_runs_and_it_counts_as_no_crash() {
    let outside = Outside::new().await;
    let mut process = prepare_with(&outside, "drain_s = 1");
    process.start();
    process.ready().await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    partner_says(&process, &outside, "an order").await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    assert!(process.terminate().await, "it stops well all the same: {}", process.log());
    assert!(process.log().contains("stopped before these turns came to their end"), "{}", process.log());
    process.start();
    process.ready().await;
    outside.partner.replies().wait_for(|reply| reply.reply.text.contains("an order")).await;
    let newest = &json(&process, &["turn", "list", "--json"]).await[0];
    assert_eq!((&newest["crashes"], &newest["tries"]), (&Value::from(0), &Value::from(0)), "{newest}");
    assert!(outside.provider.bills().len() <= 2, "what was being said may be billed, and no more");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_is_one_object_of_json() {
    let output = Command::new(program())
        .args(["bench", "sandbox", "--seconds", "1", "--json"])
        .output()
        .await
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object on standard output");
    assert!(report["machine"].is_object(), "{report}");
    let bars = report["bars"].as_array().unwrap();
    assert!(bars.len() > 2, "{report}");
    for bar in bars {
        let keys: Vec<&str> = bar.as_object().unwrap().keys().map(String::as_str).collect();
        for key in ["name", "value", "unit", "bound", "holds"] {
            assert!(keys.contains(&key), "{key} in {bar}");
        }
        assert!(bar["value"].as_f64().unwrap() > 0.0 && bar["name"].is_string(), "{bar}");
    }
    assert!(bars.iter().any(|bar| bar["bound"].is_string() && bar["holds"].is_boolean()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_prints_where_its_web_chat_is_and_serves_it() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command
        .args(["demo", "--port", "0", "--data"])
        .arg(data.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let url = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let found = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:"));
            if let Some(url) = found.map(|word| word.trim_end_matches(['.', ',']).parse::<Url>().unwrap()) {
                return url;
            }
        }
        panic!("no address was printed");
    })
    .await
    .unwrap();
    let page = loopback().send(Request::new(http::Method::GET, url.clone(), "")).await.unwrap();
    let page = match page.status.is_redirection() {
        true => {
            let to = page.headers.get(http::header::LOCATION).unwrap().to_str().unwrap();
            loopback().send(Request::new(http::Method::GET, url.join(to).unwrap(), "")).await.unwrap()
        }
        false => page,
    };
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.body).contains("<html"), "a page");
    demo.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_signed_and_verified() {
    let outside = Outside::new().await;
    let process = prepare(&outside);
    let plugin = chela_tests::guests::get("router").folder(process.folder());
    let none = run(&process, &["plugin", "verify", "router"]).await;
    assert!(none.code == Some(1) && none.errors.contains("is not signed"), "{}", none.errors);

    let made = run(&process, &["plugin", "keygen", "ada"]).await;
    assert_eq!(made.code, Some(0), "{}", made.errors);
    let trusted: String = made
        .out
        .lines()
        .filter(|line| line.starts_with("[trust") || line.starts_with("public"))
        .fold(String::new(), |text, line| text + line + "\n");
    let key = std::fs::read_to_string(process.folder().join("ada.key")).unwrap();
    assert!(
        key.starts_with("-----BEGIN PRIVATE KEY-----") && !made.out.contains(key.lines().nth(1).unwrap())
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(process.folder().join("ada.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let again = run(&process, &["plugin", "keygen", "ada"]).await;
    assert!(again.code == Some(1) && again.errors.contains("never written over"), "{}", again.errors);

    let signed = run(&process, &["plugin", "sign", "router", "--key", "ada.key"]).await;
    assert!(signed.code == Some(0) && signed.out.contains("is signed by ed25519:"), "{}", signed.errors);
    let stranger = run(&process, &["plugin", "verify", "router"]).await;
    assert!(
        stranger.code == Some(1) && stranger.errors.contains("a process of its own"),
        "{}",
        stranger.errors
    );
    let config = process.folder().join("chela.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n{trusted}")).unwrap();
    let verified = run(&process, &["plugin", "verify", "router"]).await;
    assert!(
        verified.code == Some(0)
            && verified.out.contains("(ada)")
            && verified.out.contains("every department"),
        "{} {}",
        verified.out,
        verified.errors
    );
    let whole = json(&process, &["plugin", "verify", "router", "--json"]).await;
    assert_eq!(whole["signer"], "ada", "{whole}");
    let public = whole["key"].as_str().unwrap().to_owned();
    let (first, rest) = public.split_at(1);
    let other = format!("{}{rest}", if first == "A" { "B" } else { "A" });
    assert_eq!(run(&process, &["plugin", "verify", "router", "--public", &public]).await.code, Some(0));
    assert_eq!(run(&process, &["plugin", "verify", "router", "--public", &other]).await.code, Some(1));

    // Where builds are signed by a machine.
    let mut by_variable = process.command(&["plugin", "sign", "router", "--key", "env:SIGNING_KEY"]);
    let output = by_variable.env("SIGNING_KEY", &key).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    std::fs::write(
        plugin.join("plugin.toml"),
        std::fs::read_to_string(plugin.join("plugin.toml")).unwrap() + "\n",
    )
    .unwrap();
    let changed = run(&process, &["plugin", "verify", "router"]).await;
    assert!(
        changed.code == Some(1) && changed.errors.contains("changed after it was signed"),
        "{}",
        changed.errors
    );
    // An old signature is no reason not to sign anew.
    assert_eq!(run(&process, &["plugin", "sign", "router", "--key", "ada.key"]).await.code, Some(0));
    assert_eq!(run(&process, &["plugin", "verify", "router"]).await.code, Some(0));

    for (key, why) in [("none.key", "none.key"), ("chela.toml", "PKCS#8"), ("env:NOT_SET", "NOT_SET")] {
        let failed = run(&process, &["plugin", "sign", "router", "--key", key]).await;
        assert!(failed.code == Some(1) && failed.errors.contains(why), "{}", failed.errors);
    }
}
