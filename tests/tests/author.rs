//! The author's day, as the guide says it: every command of its way in Rust, in order, and then what is saved while
//! `chela dev` runs. The same ways in Python and JavaScript are walked by `tests/languages.sh`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chela_tests::browser::Browser;
use chela_tests::process::{Process, program};
use chela_tests::{PATIENCE, eventually_within, guests, tree};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// A build of a crate, on a machine that is busy with others.
const COMPILERS_PATIENCE: Duration = PATIENCE.saturating_mul(5);

/// An author's desk: a folder, and the program in the path. What is compiled is kept for the next time.
struct Desk {
    folder: PathBuf,
    _made: Option<TempDir>,
}

impl Desk {
    fn new() -> Self {
        let made = tempfile::tempdir().unwrap();
        Self { folder: made.path().to_owned(), _made: Some(made) }
    }

    /// In a folder that is there.
    fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), _made: None }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn command(&self, program: &str, folder: &str) -> Command {
        let beside = chela_tests::process::program();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.at(folder))
            .env("PATH", format!("{}:{path}", beside.parent().unwrap().display()))
            .env("CARGO_TARGET_DIR", tree::root().join("target/author"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("NO_COLOR", "1")
            .env_remove("RUSTFLAGS")
            .env_remove("CHELA_LOG")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// One command of the guide, in the folder in which the ones before it left us.
    async fn types(&self, line: &str, folder: &mut String) {
        if let Some(to) = line.strip_prefix("cd ") {
            *folder = format!("{folder}/{to}");
            return;
        }
        let output = self.command("bash", folder).args(["-euc", line]).output().await.unwrap();
        assert!(output.status.success(), "{line}:\n{}", said(&output));
        // The same crates as the workspace's, which are on this machine.
        if line.contains("plugin new") {
            let name = line.split_whitespace().last().unwrap();
            let lock = self.at(folder).join(name).join("Cargo.lock");
            std::fs::copy(tree::root().join("Cargo.lock"), lock).unwrap();
        }
    }

    async fn chela(&self, folder: &str, arguments: &[&str]) -> Output {
        self.command(&program().display().to_string(), folder).args(arguments).output().await.unwrap()
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// The lines of the block behind a label of the guide.
fn block(label: &str) -> Vec<String> {
    let guide = std::fs::read_to_string(tree::root().join("docs/guide/plugins.md")).unwrap();
    let (_, behind) = guide.split_once(label).unwrap_or_else(|| panic!("{label} is not in the guide"));
    let block = behind.split("```").nth(1).unwrap();
    block.lines().skip(1).map(str::to_owned).collect()
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} holds no `{from}`", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// `chela dev` while it runs.
struct Dev {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Dev {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        tokio::spawn(collect(out, Arc::clone(&lines)));
        tokio::spawn(collect(errors, Arc::clone(&lines)));
        Self { child, lines }
    }

    /// The first line from `after` on that holds all of these; and the number of the line behind it.
    async fn says(&self, after: usize, words: &[&str]) -> (usize, String) {
        eventually_within(COMPILERS_PATIENCE, &format!("{words:?} is said"), async || {
            let lines = self.lines.lock();
            let mut rest = lines.iter().enumerate().skip(after);
            let line = rest.find(|(_, line)| words.iter().all(|word| line.contains(word)));
            line.map(|(at, line)| (at + 1, line.clone()))
        })
        .await
    }

    /// Ctrl-C, and waits; true if it said that all went well.
    async fn interrupt(mut self) -> bool {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().await.unwrap().success()
    }
}

async fn collect(from: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        into.lock().push(line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_way_in_rust_leads_to_a_live_router_that_changes_while_it_runs() {
    let desk = Desk::new();
    let (mut folder, lines) = (String::from("."), block("In Rust:"));
    assert_eq!(lines.last().map(String::as_str), Some("chela dev"));
    for line in &lines[..lines.len() - 1] {
        desk.types(line, &mut folder).await;
    }
    // Built already: the test before it did that.
    let tested = desk.chela(&folder, &["plugin", "test", "--json"]).await;
    let report: Value = serde_json::from_slice(&tested.stdout).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&2.into(), &0.into()), "{}", said(&tested));

    let mut command = desk.command(&program().display().to_string(), &folder);
    command.args(["dev", "--port", "0"]);
    let dev = Dev::start(command);
    let (at, line) = dev.says(0, &["http://", "/channels/web/"]).await;
    let address = line.split_whitespace().last().unwrap().trim_end_matches('/');
    let browser = Browser::begin(&address.parse().unwrap()).await;
    browser.says("My order arrived broken").await;
    let (at, _) = dev.says(at, &["web → support", "urgent 0.1.0", "the word `broken`"]).await;

    let manifest = desk.at(&folder).join("plugin.toml");
    replace(&manifest, "[\"broken\"", "[\"late\", \"broken\"");
    let (at, _) = dev.says(at, &["urgent", "promoted"]).await;
    browser.says("My parcel is late").await;
    let (at, _) = dev.says(at, &["web → support", "the word `late`"]).await;

    // What does not compile is said in the compiler's words, and what was built before serves.
    let source = desk.at(&folder).join("src/lib.rs");
    replace(&source, "let text = message.text", "let text = mesage.text");
    let (at, _) = dev.says(at, &["error[E0425]", "mesage"]).await;
    let (at, _) = dev.says(at, &["what was built before serves on"]).await;
    browser.says("It is late again").await;
    let (at, _) = dev.says(at, &["web → support", "the word `late`"]).await;

    // What builds and is refused: the host says why.
    replace(&source, "let text = mesage.text", "let text = message.text");
    replace(&manifest, "words = ", "wrods = ");
    let (at, _) = dev.says(at, &["refused", "wrods"]).await;
    browser.says("It is late for good").await;
    dev.says(at, &["web → support", "the word `late`"]).await;
    assert!(dev.interrupt().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_swapped_into_a_host_that_runs_and_stays_when_the_author_goes() {
    let mut process = Process::prepare(|folder| {
        guests::get("echo").folder(folder);
        let agent = |name: &str| format!("[agent.{name}]\nplugin = \"echo\"\noutsiders = true\n\n");
        let plugins = "[plugin.shop-router]\nsource = \"urgent/dist\"\n\n\
            [plugin.echo]\nsource = \"echo\"\n\n\
            [plugin.web-chat]\nsource = \"builtin:web-chat\"\n\n";
        let web = "[channel.web]\nplugin = \"web-chat\"\ndefault_agent = \"desk\"\n\n";
        format!("{plugins}{}{}{web}[routing]\nrouter = \"shop-router\"\n", agent("desk"), agent("support"))
    });
    let desk = Desk::of(process.folder());
    let mut folder = String::from(".");
    desk.types("chela plugin new --kind router --lang rust urgent", &mut folder).await;
    desk.types("chela plugin build urgent", &mut folder).await;
    process.start();
    process.ready().await;

    let mut command = desk.command(&program().display().to_string(), ".");
    command.args(["dev", "urgent"]);
    let dev = Dev::start(command);
    let (at, _) = dev.says(0, &["the host of chela.toml runs"]).await;
    replace(&desk.at("urgent/plugin.toml"), "[\"broken\"", "[\"late\", \"broken\"");
    let (at, _) = dev.says(at, &["shop-router", "promoted"]).await;
    let browser = Browser::begin(&process.channel("web")).await;
    browser.says("My parcel is late").await;
    dev.says(at, &["web → support", "shop-router 0.1.0", "the word `late`"]).await;
    assert!(dev.interrupt().await);
    assert_eq!(browser.says("Late, too").await, 200, "the host was there before, and is there after");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_fails_says_what_differs_and_a_limit_of_a_configuration_is_kept() {
    let desk = Desk::new();
    let mut folder = String::from(".");
    desk.types("chela plugin new --kind agent --lang rust tutor", &mut folder).await;
    let case = desk.at("tutor/cases/answer.toml");
    replace(&case, "text = \"The sea breathes, twice a day.\"\nasked", "text = \"Never.\"\nasked");
    let failed = desk.chela(".", &["plugin", "test", "tutor"]).await;
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    for words in
        ["FAIL  answer", "expected  \"Never.\"", "found     \"The sea breathes", "ok    outage", "1 failed"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }

    // An operator who gives it no call of the host.
    let operator = "[provider.a]\nkind = \"scripted\"\nscript = \"a.toml\"\n[tier.fast]\nchain = [\"a/x\"]\n\
        [plugin.tutor]\nsource = \"tutor/dist\"\ngrants = [\"models\"]\nlimits = { host_calls = 0 }\n\
        [agent.tutor]\nplugin = \"tutor\"\n";
    std::fs::write(desk.at("chela.toml"), operator).unwrap();
    std::fs::write(desk.at("a.toml"), "").unwrap();
    let tested = desk
        .chela(".", &["plugin", "test", "tutor", "--config", "chela.toml", "--case", "answer", "--json"])
        .await;
    let report: Value =
        serde_json::from_slice(&tested.stdout).unwrap_or_else(|_| panic!("{}", said(&tested)));
    let came = &report["cases"][0]["came"];
    assert_eq!((&came["outcome"], &came["failed"]), (&"failed".into(), &"limit".into()), "{report}");
    assert!(came["why"].as_str().unwrap().contains("host call limit of 0"), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_cases_are_signed_read_and_bound_as_in_production() {
    let desk = Desk::new();
    let mut folder = String::from(".");
    desk.types("chela plugin new --kind channel --lang rust pager", &mut folder).await;
    let case = |name: &str, text: &str| {
        std::fs::write(desk.at(&format!("pager/cases/{name}.toml")), text).unwrap();
    };
    let body = "body = { id = \"p1\", from = \"ann\", text = \"hi\" }";
    case(
        "stranger",
        &format!("[request]\n{body}\nsigned = false\n[expect]\nrefused = {{ contains = \"timestamp\" }}\n"),
    );
    case(
        "elsewhere",
        "[answer]\ntext = \"hi\"\ntarget = { to = \"ann\", room = \"x\" }\n[expect]\nend = \"done\"\n",
    );
    let tested = desk.chela(".", &["plugin", "test", "pager"]).await;
    let text = said(&tested);
    assert!(tested.status.success() && text.contains("4 passed, 0 failed"), "{text}");

    // An adapter that would answer somebody else is stopped where production stops it.
    replace(&desk.at("pager/src/lib.rs"), "json!({ \"to\": to,", "json!({ \"to\": \"bob\",");
    replace(&desk.at("pager/src/lib.rs"), "let to = target", "let _to = target");
    let tested = desk.chela(".", &["plugin", "test", "pager", "--case", "answer", "--json"]).await;
    let report: Value =
        serde_json::from_slice(&tested.stdout).unwrap_or_else(|_| panic!("{}", said(&tested)));
    assert_eq!(report["cases"][0]["came"]["end"], "forbidden", "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_a_host_would_refuse_leaves_the_one_before() {
    let desk = Desk::new();
    let mut folder = String::from(".");
    desk.types("chela plugin new --kind agent --lang rust tutor", &mut folder).await;
    let built = desk.chela(".", &["plugin", "build", "tutor", "--json"]).await;
    let json: Value = serde_json::from_slice(&built.stdout).unwrap_or_else(|_| panic!("{}", said(&built)));
    assert_eq!(json["world"], "chela:plugin/agent@0.1.0");
    let imports: Vec<_> = json["imports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let own: Vec<_> = imports.iter().filter(|import| import.starts_with("chela:")).collect();
    assert!(own.iter().any(|import| import.contains("/models@")), "{own:?}");
    for import in own {
        let is_base =
            ["config", "log", "types", "models"].iter().any(|name| import.contains(&format!("/{name}@")));
        assert!(is_base, "{import} is more than it asks for");
    }
    let before = std::fs::read(desk.at("tutor/dist/plugin.wasm")).unwrap();
    // It goes on calling models, and does not ask for them any more.
    replace(&desk.at("tutor/plugin.toml"), "grants = [\"models\"]", "grants = []");
    let refused = desk.chela(".", &["plugin", "build", "tutor"]).await;
    let text = said(&refused);
    assert!(!refused.status.success() && text.contains("\"models\" to `grants`"), "{text}");
    assert_eq!(std::fs::read(desk.at("tutor/dist/plugin.wasm")).unwrap(), before);
    let kept = std::fs::read_to_string(desk.at("tutor/dist/plugin.toml")).unwrap();
    assert!(kept.contains("grants = [\"models\"]"), "the manifest and its component are replaced together");
}
