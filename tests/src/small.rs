//! A small installation of the released program: a router and an agent from folders beside its configuration, a partner
//! who writes, and an operator who may only look.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use chela_egress::{Credential, Request, Response};
use chela_server::standin::webhook;
use serde_json::Value;

use crate::guests;
use crate::outside::{MODEL, Outside, loopback};
use crate::process::Process;
use crate::wait::{PATIENCE, eventually};

/// The token of the operator who may only look.
pub const READER: &str = "a token that opens little";
/// A second model, which costs the same.
pub const OTHER_MODEL: &str = "crab-2";

/// The installation.
#[derive(Debug)]
pub struct Small {
    /// The program.
    pub process: Process,
    outside: Outside,
    threads: AtomicU32,
}

/// What came back of a request of an operator.
#[derive(Debug)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// As it came.
    pub text: String,
}

impl Answer {
    async fn of(request: Request) -> Self {
        let response: Response = loopback().send(request).await.expect("the admin listener answers");
        let text = String::from_utf8_lossy(&response.body).into_owned();
        Self { status: response.status.as_u16(), text }
    }

    /// Read as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// `support` answers with its persona, `sales` asks a model; the first word of a message may name the agent.
fn configuration(outside: &Outside, folder: &Path, swap: &str) -> String {
    guests::get("router").folder(folder);
    let agent = guests::get("agent").folder(folder);
    std::fs::rename(agent, folder.join("worker")).unwrap();
    std::fs::write(folder.join("support.md"), "You are kind.").unwrap();
    std::fs::write(folder.join("reader.token"), READER).unwrap();
    let (model, partner) = (outside.provider.base_url(), outside.partner.reply_url());
    let price = |model: &str| {
        let prices = "input = \"0.10\"\ncached = \"0.10\"\noutput = \"0.40\"";
        format!("[provider.stand-in.price.\"{model}\"]\n{prices}\n")
    };
    let prices = format!("{}\n{}", price(MODEL), price(OTHER_MODEL));
    format!(
        r#"
[egress]
allow_loopback = true

[provider.stand-in]
kind = "openai"
url = "{model}"
key = "env:PROVIDER_KEY"

{prices}
[tier.fast]
chain = ["stand-in/{MODEL}"]

[budget]
agent = "100"

[cache]
enabled = false

# What nobody has signed runs whatever `reload` says.
[trust]
unsigned = "worker"

[swap]
latency_floor_ms = 600000
{swap}

[plugin.worker]
source = "worker"
grants = ["models", "memory"]

[plugin.router]
source = "router"

[plugin.webhook]
source = "builtin:webhook"

[agent.support]
plugin = "worker"
persona = "file:support.md"
outsiders = true
config = {{ behaviour = "persona" }}

[agent.sales]
plugin = "worker"
outsiders = true
config = {{ behaviour = "model" }}

[channel.partner]
plugin = "webhook"
default_agent = "support"
rate_per_minute = 54321
secrets = {{ signing_secret = "env:PARTNER_SECRET" }}

[channel.partner.config]
reply_url = "{partner}"

[routing]
router = "router"

[operator.reader]
token = "file:reader.token"
rights = ["read"]
"#
    )
}

impl Small {
    /// It runs; `swap` are further lines of `[swap]`.
    pub async fn run(swap: &str) -> Self {
        let outside = Outside::new().await;
        let mut process = Process::prepare(|folder| configuration(&outside, folder, swap));
        process.start();
        process.ready().await;
        Self { process, outside, threads: AtomicU32::new(0) }
    }

    /// What lies outside.
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Writes a file beside the configuration, or into a folder there, as a whole.
    pub fn write(&self, path: &str, text: &str) {
        let (path, next) = (self.process.folder().join(path), self.process.folder().join("next"));
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// Puts something else into the configuration.
    pub fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.process.folder().join("chela.toml")).unwrap();
        assert!(text.contains(from), "{from} is in the configuration");
        self.write("chela.toml", &text.replacen(from, to, 1));
    }

    /// Puts something else into the configuration, and waits until that runs.
    pub async fn reconfigure(&self, from: &str, to: &str) {
        let before = self.status().await["configuration"].clone();
        self.rewrite(from, to);
        eventually("another configuration runs", async || {
            let status = self.status().await;
            assert!(status["invalid"].is_null(), "{}", status["invalid"]["text"]);
            status["configuration"] != before
        })
        .await;
    }

    /// Who has the admin token asks for something.
    pub async fn get(&self, path: &str) -> Answer {
        self.asked(path, None, &self.token()).await
    }

    /// Who has the admin token orders something.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.asked(path, Some(body.to_string()), &self.token()).await
    }

    /// Whoever has this token asks for something, or posts a body.
    pub async fn asked(&self, path: &str, body: Option<String>, token: &str) -> Answer {
        let url = format!("http://{}{path}", self.process.admin).parse().unwrap();
        let mut request = match body {
            Some(body) => Request::new(http::Method::POST, url, body).json(),
            None => Request::new(http::Method::GET, url, ""),
        };
        request.credential = Some(Credential::Bearer(token.into()));
        Answer::of(request).await
    }

    fn token(&self) -> String {
        let token = std::fs::read_to_string(self.process.data().join("admin.token")).unwrap();
        token.trim().to_owned()
    }

    /// What `/status` says.
    pub async fn status(&self) -> Value {
        self.get("/status").await.json()
    }

    /// What `/plugins` says of one of them.
    pub async fn plugin(&self, name: &str) -> Value {
        let all = self.get("/plugins").await.json();
        let mut all = all.as_array().unwrap().iter();
        all.find(|plugin| plugin["plugin"] == name).cloned().unwrap_or_else(|| panic!("no plugin {name}"))
    }

    /// The value of a metric whose line begins so.
    pub async fn metric(&self, begins: &str) -> Option<f64> {
        let all = self.get("/metrics").await.text;
        let line = all.lines().find_map(|line| line.strip_prefix(begins))?;
        Some(line.trim().parse().unwrap_or_else(|_| panic!("{begins}: {line}")))
    }

    /// Somebody new writes, once; the status of the answer.
    pub async fn posts(&self, text: &str) -> u16 {
        let event = self.outside.partner.event(&self.say(text)).unwrap();
        let url = self.process.channel("partner");
        let mut request = Request::new(http::Method::POST, url, event.body.clone()).json();
        request.headers.extend(self.outside.partner.signed(&event.id, &event.body).unwrap());
        loopback().send(request).await.expect("the host answers").status.as_u16()
    }

    /// Somebody new writes, and is answered; the answer.
    pub async fn says(&self, text: &str) -> String {
        let say = self.say(text);
        let answer = self.outside.partner.expect(say.thread_id.as_deref().unwrap_or_default());
        let (_, sent) = self.outside.partner.say(&self.process.channel("partner"), &say).await.unwrap();
        assert!(sent.is_acknowledged(), "{sent:?}");
        let answered = tokio::time::timeout(PATIENCE, answer).await;
        answered.unwrap_or_else(|_| panic!("`{text}` is not answered")).unwrap().reply.text
    }

    fn say(&self, text: &str) -> webhook::Say {
        let thread = format!("t{}", self.threads.fetch_add(1, Ordering::Relaxed));
        let sender = format!("person-{thread}");
        webhook::Say { sender, text: text.to_owned(), thread_id: Some(thread), name: None }
    }

    /// What a command prints; it must go well.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let output = self.process.command(arguments).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}
