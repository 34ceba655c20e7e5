//! What a guest, or a worker that somebody has taken over, could ask of a turn's capabilities, as bytes.

use chela_egress::{Egress, Request};
use chela_gateway::{CacheLevel, Gateway, Script};
use chela_sandbox::fuzzing::worker;
use chela_sandbox::{Call, HostError, Limits};
use chela_store::{Arrival, Store};
use chela_types::{AgentId, Digest, ManualClock, Millis, Price, TierId, Tokens};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

use super::http::Rules;
use super::remote::Asked;
use super::{Lent, Whom, answer};
use crate::contract::{http, memory, models};
use crate::error::Error;
use crate::journal::Journal;
use crate::swap::recording::Began;

const MODEL: &str = "crab-1";

/// A turn of an agent that asks what bytes say.
#[derive(Debug)]
pub struct Asker {
    call: Call<Lent>,
}

/// What became of a question.
#[derive(Debug)]
pub enum Answered {
    /// An answer, as a worker gets it.
    Told(Vec<u8>),
    /// The guest is stopped.
    Stopped(String),
    /// The host failed by it, which no question may make it do.
    HostFailed(String),
}

impl Asker {
    /// A store in this folder, with a turn of this arrival that was claimed and is handled.
    ///
    /// # Errors
    /// What the rooms below say.
    pub async fn open(folder: &Path, arrival: Arrival) -> Result<Self, Error> {
        let now = arrival.message.received;
        let clock = Arc::new(ManualClock::at(now));
        let store = Store::open(chela_store::Config::new(folder), clock.clone()).await?;
        store.accept(vec![arrival]).await?;
        let claimed = store.claim("fuzzed", 1).await?.pop();
        let claimed = claimed.ok_or_else(|| Error::Configuration("the turn is not there".to_owned()))?;
        let mut journal = Journal::open(store.clone(), claimed.lease, clock.clone()).await?;
        let agent = AgentId::new("sales").map_err(|error| Error::Configuration(error.to_string()))?;
        journal.begin_agent(&began(&agent)).await?;
        let egress = Egress::new(chela_egress::Config::standard())?;
        let turn = &claimed.turn;
        let tier = tier()?;
        let whom = Whom {
            tenant: turn.tenant.clone(),
            agent,
            department: None,
            version: String::new(),
            turn: turn.message.id,
            conversation: turn.conversation,
            person: "slack/U1".to_owned(),
            channel: turn.message.channel.clone(),
            tier: tier.clone(),
            tiers_allowed: Vec::new(),
            knowledge: Some(("sales".to_owned(), "1".to_owned())),
            cache: CacheLevel::Exact,
            cache_ttl: None,
            refusal: String::new(),
        };
        let lent = Lent {
            gateway: Gateway::new(gateway(tier), store.clone(), &egress, clock)?,
            store,
            journal: Arc::new(Mutex::new(journal)),
            whom: Arc::new(whom),
            drafts: None,
            outward: None,
        };
        let limits = Limits { host_calls: u32::MAX, input_bytes: usize::MAX, ..Limits::STANDARD };
        Ok(Self { call: chela_sandbox::fuzzing::call(lent, &limits) })
    }

    /// Answers a question.
    pub async fn ask(&mut self, asked: &[u8]) -> Answered {
        match answer(&mut self.call, asked).await {
            Ok(told) => Answered::Told(told),
            Err(error) => match error.downcast::<HostError>() {
                Ok(error) => Answered::HostFailed(format!("{:?}", error.into_inner())),
                Err(error) => Answered::Stopped(format!("{error:#}")),
            },
        }
    }
}

fn tier() -> Result<TierId, Error> {
    TierId::new("fast").map_err(|error| Error::Configuration(error.to_string()))
}

fn began(agent: &AgentId) -> Began {
    let digest = Digest::from_bytes([0; 32]);
    Began {
        agent: Some(agent.clone()),
        version: digest,
        frame: digest,
        past: 0,
        heard: digest,
        sticky: None,
        purpose: "fuzzed".to_owned(),
    }
}

fn gateway(tier: TierId) -> chela_gateway::Config {
    let provider = chela_gateway::Provider {
        name: "model".to_owned(),
        kind: chela_gateway::ProviderKind::Scripted(Script::default()),
        prices: BTreeMap::from([(MODEL.to_owned(), Price::FREE.into())]),
        limits: chela_gateway::ProviderLimits::standard(),
    };
    let model = chela_gateway::ModelName { provider: provider.name.clone(), model: MODEL.to_owned() };
    chela_gateway::Config {
        providers: vec![provider],
        tiers: vec![chela_gateway::Tier {
            id: tier,
            chain: vec![model],
            max_output: Tokens(100),
            first_token: None,
            cheaper: None,
            failover: Default::default(),
        }],
        agents: Default::default(),
        embedding: Default::default(),
        budgets: chela_gateway::Budgets::default(),
        cache: chela_gateway::Cache::standard(),
        unknown_price: chela_gateway::UnknownPrice::Refuse,
        attempts_max: chela_gateway::defaults::ATTEMPTS_MAX,
        cooldown_max: chela_gateway::defaults::COOLDOWN_MAX,
    }
}

/// What honest guests ask, and what these words are called.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let request = |tier: Option<&str>, temperature| models::Request {
        tier: tier.map(str::to_owned),
        system: Some("You are kind.".to_owned()),
        prompts: vec![models::Prompt { role: models::Role::User, text: "hello".to_owned() }],
        max_output_tokens: Some(10),
        temperature,
    };
    let key = || "colour".to_owned();
    let fetch = http::Request {
        method: "GET".to_owned(),
        url: "https://example.com/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        credential: None,
    };
    let all = [
        ("complete", Asked::Complete(request(None, None))),
        ("tier", Asked::Relay(request(Some("smart"), None))),
        ("temperature", Asked::Complete(request(Some("fast"), Some(f32::NAN)))),
        ("stream", Asked::Stream(request(None, Some(1.0)))),
        ("next", Asked::Next(0)),
        ("completion", Asked::Completion(0)),
        ("drop", Asked::Drop(0)),
        ("search", Asked::Search("how \"to* OR NEAR(return) -it".to_owned(), 5)),
        ("get", Asked::Get(memory::Scope::User, key())),
        ("set", Asked::Set(memory::Scope::Agent, key(), "red".to_owned())),
        ("compare", Asked::CompareAndSet(memory::Scope::Conversation, key(), 0, "blue".to_owned())),
        ("tools", Asked::ListTools(None)),
        ("tool", Asked::CallTool("sum".to_owned(), "{}".to_owned())),
        ("fetch", Asked::Fetch(fetch)),
        ("read", Asked::Read("blob".to_owned(), 0)),
        ("write", Asked::Write("a.txt".to_owned(), "text/plain".to_owned(), b"hello".to_vec())),
    ];
    all.into_iter().map(|(name, asked)| (name, postcard::to_stdvec(&asked).unwrap_or_default())).collect()
}

/// When the turns of these questions were received.
pub const NOW: Millis = Millis(1_760_000_000_000);

/// What every secret is that a `[credential]` of fuzzed tables names.
pub const CREDENTIAL_SECRET: &str = "secret-of-a-credential";

/// What leaves when a guest asks for a request under these tables of its manifest.
///
/// # Errors
/// The bytes are none. Inside: in which words it is refused.
pub fn requested(tables: &toml::Table, asked: &[u8]) -> io::Result<Result<Request, String>> {
    let asked: http::Request = worker::read(asked, &Limits::STANDARD)?;
    Ok(leaving(tables, asked))
}

fn leaving(tables: &toml::Table, asked: http::Request) -> Result<Request, String> {
    let rules = Rules::read(tables, &serde_json::Value::Null).map_err(|wrong| wrong.to_string())?;
    let named = tables.get("credential").and_then(toml::Value::as_table).into_iter().flatten();
    let named = named.filter_map(|(_, table)| table.get("secret")?.as_str());
    let secrets = named.map(|name| (name.to_owned(), CREDENTIAL_SECRET.into())).collect();
    rules.check_secrets(&secrets).map_err(|wrong| wrong.to_string())?;
    rules.allow(asked, &secrets)
}

/// Tables of a manifest.
pub const REQUEST_TABLES: &str = r#"
[[http]]
url = "https://example.com/orders/*"
methods = ["GET", "POST"]
headers = ["x-request-id"]
credentials = ["shop"]

[[http]]
url = "http://10.0.0.1:8080/health"

[credential.shop]
kind = "bearer"
secret = "shop_token"
"#;

/// What guests ask for under them, and what these words are called.
pub fn request_samples() -> Vec<(&'static str, Vec<u8>)> {
    let request = |method: &str, url: &str, header: Option<(&str, &str)>, credential: Option<&str>| {
        let header =
            header.map(|(name, value)| http::Header { name: name.to_owned(), value: value.to_owned() });
        http::Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: header.into_iter().collect(),
            body: Vec::new(),
            credential: credential.map(str::to_owned),
        }
    };
    let all = [
        ("below", request("GET", "https://example.com/orders/7?full=1", Some(("X-Request-Id", "7")), None)),
        ("credential", request("POST", "https://example.com/orders/", None, Some("shop"))),
        ("exact", request("GET", "http://10.0.0.1:8080/health", None, None)),
        ("elsewhere", request("GET", "https://example.com.evil.example/orders/7", None, None)),
        ("above", request("GET", "https://example.com/orders/../admin", None, None)),
        ("encoded", request("GET", "https://example.com/orders/%2e%2e/admin", None, None)),
        ("user", request("GET", "https://example.com@evil.example/orders/7", None, None)),
        (
            "own-authorization",
            request("GET", "https://example.com/orders/7", Some(("authorization", "x")), None),
        ),
        ("not-lent", request("GET", "http://10.0.0.1:8080/health", None, Some("shop"))),
        ("split", request("GET", "https://example.com/orders/7", Some(("accept", "a\r\nhost: b")), None)),
    ];
    all.into_iter().map(|(name, asked)| (name, postcard::to_stdvec(&asked).unwrap_or_default())).collect()
}
