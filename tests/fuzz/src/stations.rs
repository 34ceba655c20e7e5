//! What guests, adapters and strangers say to the stations. An input of a channel names its adapter in the first byte.

use bytes::Bytes;
use chela_egress::Egress;
use chela_engine::fuzzing::capability::{Answered as Told, Asker, NOW};
use chela_engine::fuzzing::channel::{Adapter, Inward, Outward};
use chela_engine::fuzzing::{Answered, answered, routed};
use chela_engine::{
    AgentConfig, Ambiguous, ChannelConfig, Config, DeliveryConfig, Origin, RetentionConfig, RoutingConfig,
    SwapConfig, TrustConfig, Webhook,
};
use chela_sandbox::{Limits, Manifest};
use chela_store::Arrival;
use chela_types::{
    AgentId, ChannelId, Identity, ManualClock, Message, Person, PluginId, Target, TenantId, TierId, TurnId,
};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

use crate::Reach;
use crate::oracle::{tame, words};

/// The host's own session in requests that have one.
const SESSION: &str = "s1";
/// The id that the headers of a request name.
const HEADER_ID: &str = "m1";
/// The secret that signs; base64, as one of the adapters needs it.
pub(crate) const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0";
/// The adapters: name, and whether their platform posts forms.
pub(crate) const ADAPTERS: [(&str, bool); 5] =
    [("slack", false), ("webhook", false), ("web-chat", false), ("everything", false), ("form", true)];
/// Questions before the turn that asks them is another.
const QUESTIONS_MAX: usize = 1_000;

/// Bounds that the documentation names.
const REASON_BYTES_MAX: usize = 500;
const TEXT_BYTES_MAX: usize = 64 << 10;
const REPLY_BYTES_MAX: usize = 128 << 10;
const NOTES_BYTES_MAX: usize = 4 << 10;
const NAME_CHARS_MAX: usize = 128;
const ATTACHMENTS_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 8 << 20;
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs on this thread's own runtime.
pub(crate) fn runtime<T>(run: impl FnOnce(&Runtime) -> T) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(run)
}

fn agent_id(name: &str) -> AgentId {
    AgentId::new(name).expect("a name")
}

/// `sales` and `support` are there for everybody, `hr` for the people of one channel that nobody writes to here.
fn configuration() -> Config {
    let elsewhere = Origin { channel: ChannelId::new("internal").expect("a name"), place: None };
    let agent = |reachable_from| AgentConfig {
        plugin: PluginId::new("worker").expect("a name"),
        department: None,
        description: "an agent".to_owned(),
        persona: "You are kind.".to_owned(),
        tier: TierId::new("fast").expect("a name"),
        tiers_allowed: Vec::new(),
        knowledge: None,
        reachable_from,
        outsiders: true,
        confidential: false,
        cache: chela_gateway::CacheLevel::Exact,
        cache_ttl: None,
        over_budget: chela_engine::OverBudget::default(),
        answer_within: None,
        rate_per_minute: 60,
        concurrency: 1,
        history: 0,
        config: Map::new(),
    };
    let agents = [("sales", None), ("support", None), ("hr", Some(vec![elsewhere]))];
    Config {
        tenant: TenantId::default_tenant(),
        plugins: BTreeMap::new(),
        agents: agents.map(|(name, from)| (agent_id(name), agent(from))).into(),
        departments: BTreeMap::new(),
        weights: BTreeMap::new(),
        channels: [(channel(), account(&json!({})))].into(),
        routing: RoutingConfig { router: None, fallback: None, sticky: true, hand_overs_max: 2 },
        delivery: DeliveryConfig {
            tries_max: 3,
            crashes_max: 10,
            unknown_max: 10,
            wait_max: Duration::from_secs(1),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(1),
            notice: "Sorry.".to_owned(),
            steps_max: 16,
        },
        swap: SwapConfig::STANDARD,
        trust: TrustConfig::STANDARD,
        retention: RetentionConfig::STANDARD,
        turns_max: 1,
        waiting_max: 1,
        lease: Duration::from_secs(60),
        session_key: [7; 32],
        guarded: Vec::new(),
    }
}

fn channel() -> ChannelId {
    ChannelId::new("partner").expect("a name")
}

fn account(config: &Value) -> ChannelConfig {
    let secrets = ["signing_secret", "bot_token"];
    ChannelConfig {
        plugin: PluginId::new("adapter").expect("a name"),
        department: None,
        default_agent: agent_id("support"),
        routed: true,
        operator: false,
        reaches: None,
        ambiguous: Ambiguous::AtLeastOnce,
        secrets: secrets.map(|name| (name.to_owned(), SecretString::from(SECRET))).into(),
        config: config.as_object().cloned().unwrap_or_default(),
        rate_per_minute: 60,
        progress: false,
    }
}

fn message() -> Message {
    Message {
        id: TurnId::from_bytes([7; 16]),
        channel: channel(),
        place: None,
        sender: Person { id: "U1".to_owned(), name: None, outsider: false },
        text: "hello".to_owned(),
        attachments: Vec::new(),
        received: NOW,
    }
}

static CONFIGURATION: LazyLock<Config> = LazyLock::new(configuration);

fn is_reachable(agent: &AgentId) -> bool {
    ["sales", "support"].contains(&agent.as_str())
}

/// What a router says.
pub fn router(said: &[u8]) -> Reach {
    let Ok(decided) = routed(&CONFIGURATION, &message(), (said, &Limits::STANDARD)) else {
        return Reach::Unread;
    };
    let decision = decided.expect("whatever a router says, somebody answers");
    assert!(is_reachable(&decision.agent), "{decision:?}");
    let scores: Vec<f32> = decision.alternatives.iter().map(|other| other.score).collect();
    assert!(scores.iter().chain([&decision.score]).all(|score| (0.0..=1.0).contains(score)), "{decision:?}");
    assert!(scores.is_sorted_by(|one, other| one >= other) && scores.len() <= 8, "{decision:?}");
    let others: BTreeSet<_> = decision.alternatives.iter().map(|other| &other.agent).collect();
    assert!(others.len() == scores.len() && !others.contains(&decision.agent), "{decision:?}");
    assert!(others.into_iter().all(is_reachable), "{decision:?}");
    assert!(decision.reason.len() <= REASON_BYTES_MAX, "{decision:?}");
    tame("a reason", &decision.reason);
    match &decision.overruled {
        Some(overruled) => {
            tame("what was overruled", overruled);
            Reach::Refused
        }
        None => Reach::Taken,
    }
}

/// What an agent says.
pub fn agent(said: &[u8]) -> Reach {
    let own = agent_id("support");
    let answered = match answered(&CONFIGURATION, (&own, &message()), (said, &Limits::STANDARD)) {
        Err(_) => return Reach::Unread,
        Ok(Err(error)) => {
            tame("an error", &error.to_string());
            return Reach::Refused;
        }
        Ok(Ok(answered)) => answered,
    };
    match answered {
        Answered::Say(reply, word) => {
            assert!(!reply.text.trim().is_empty() && !reply.text.contains('\0'), "{reply:?}");
            let bytes = serde_json::to_vec(&reply).expect("JSON").len();
            assert!(bytes <= REPLY_BYTES_MAX, "a reply of {bytes} bytes");
            tame("the word of an outcome", &word);
        }
        Answered::HandOver(agent, reason) => {
            assert!(agent != own && is_reachable(&agent), "{agent}");
            assert!(reason.len() <= REASON_BYTES_MAX, "{reason}");
            tame("a reason", &reason);
        }
        Answered::Again(after) => {
            assert!((Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&after), "{after:?}");
        }
    }
    Reach::Taken
}

/// The manifest of an adapter.
pub(crate) fn adapter_manifest(name: &str) -> Manifest {
    let text = match name {
        "everything" => include_str!("adapters/everything.toml"),
        "form" => include_str!("adapters/form.toml"),
        name => chela_bundle::get(name).expect("an adapter of the product").manifest,
    };
    Manifest::parse(text).expect("a manifest")
}

fn adapter(name: &str) -> Adapter {
    let settings = json!({ "base_url": "https://example.com", "reply_url": "https://example.com/reply" });
    let egress = Egress::new(chela_egress::Config::standard()).expect("a client");
    let clock = Arc::new(ManualClock::at(NOW));
    Adapter::new(adapter_manifest(name), account(&settings), egress, clock).expect("an account")
}

static OPEN: LazyLock<Vec<Adapter>> =
    LazyLock::new(|| ADAPTERS.iter().map(|(name, _)| adapter(name)).collect());

fn chosen(input: &[u8]) -> Option<(usize, &[u8])> {
    let (which, rest) = input.split_first()?;
    Some((usize::from(*which) % ADAPTERS.len(), rest))
}

/// A request of a platform, and what its adapter says of it: two bytes of length, the body, then the words.
pub fn inbound(input: &[u8]) -> Reach {
    let Some((which, rest)) = chosen(input) else { return Reach::Unread };
    let Some(([low, high], rest)) = rest.split_first_chunk::<2>() else { return Reach::Unread };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (body, said) = rest.split_at(length.min(rest.len()));
    let (_, is_form) = ADAPTERS[which];
    let webhook = Webhook {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers: vec![("webhook-id".to_owned(), HEADER_ID.to_owned())],
        body: Bytes::copy_from_slice(body),
        session: None,
    };
    match OPEN[which].inward(webhook, (Some(SESSION.to_owned()), is_form), said) {
        Err(_) => Reach::Unread,
        Ok(Err(error)) => {
            tame("an error", &error.to_string());
            Reach::Refused
        }
        Ok(Ok(inward)) => {
            honest(&inward, body, is_form);
            Reach::Taken
        }
    }
}

/// Nothing is kept of who and which but what the request itself holds.
fn honest(inward: &Inward, body: &[u8], is_form: bool) {
    let mut held = words(body, is_form);
    held.extend([SESSION.to_owned(), HEADER_ID.to_owned()]);
    let holds = |text: &String| assert!(held.contains(text), "{text:?} is not in the request: {inward:?}");
    for arrival in &inward.arrivals {
        let identity = &arrival.identity;
        assert!(!identity.dedupe.is_empty() && !identity.conversation.is_empty(), "{identity:?}");
        identity.dedupe.iter().flatten().chain(&identity.conversation).for_each(holds);
        identity.target.values().chain(&identity.place).chain([&identity.sender]).for_each(holds);
        fits(arrival);
    }
    for change in &inward.changes {
        assert!(!change.dedupe.is_empty(), "{change:?}");
        change.dedupe.iter().flatten().chain(&change.post).chain([&change.sender]).for_each(holds);
        assert!(change.text.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX), "{change:?}");
    }
    for receipt in &inward.receipts {
        holds(&receipt.platform_id);
        tame("a receipt", receipt.detail.as_deref().unwrap_or_default());
    }
    let response = &inward.response;
    assert!((200..500).contains(&response.status) && response.body.len() <= TEXT_BYTES_MAX, "{response:?}");
    assert!(response.headers.iter().all(|(name, _)| name == "content-type"), "{response:?}");
    assert!(inward.deadline.is_none_or(|deadline| deadline <= WAIT_MAX), "{inward:?}");
}

/// What is kept of a message has its bounds.
fn fits(arrival: &Arrival) {
    let message = &arrival.message;
    assert!(message.text.len() <= TEXT_BYTES_MAX && !message.text.contains('\0'), "{message:?}");
    assert!(arrival.notes.as_ref().is_none_or(|notes| notes.len() <= NOTES_BYTES_MAX), "{arrival:?}");
    let name = message.sender.name.as_deref().unwrap_or_default();
    assert!(name.chars().count() <= NAME_CHARS_MAX, "{name}");
    tame("a name", name);
    assert!(message.attachments.len() <= ATTACHMENTS_MAX, "{}", message.attachments.len());
    for file in &message.attachments {
        tame("a file's name", &file.name);
        tame("a file's type", &file.media_type);
    }
}

/// Where the answers of these tests go.
const ROOM: &str = "r1";
/// The post that shows one of them already.
const POST: &str = "p1";

/// What an adapter wants to send. An even byte after the adapter's: there is a post that shows the answer.
pub fn outbound(input: &[u8]) -> Reach {
    let Some((which, rest)) = chosen(input) else { return Reach::Unread };
    let Some((with_post, said)) = rest.split_first() else { return Reach::Unread };
    let post = (with_post % 2 == 0).then_some(POST);
    let manifest = adapter_manifest(ADAPTERS[which].0);
    let bound = manifest.channel["bind"].as_array().expect("bindings").iter();
    let bound = bound.map(|bind| (bind["name"].as_str().unwrap_or_default().to_owned(), ROOM.to_owned()));
    let target = Target { bound: bound.collect(), notes: None };
    let outward = match OPEN[which].outward(said, &target, post) {
        Err(_) => return Reach::Unread,
        Ok(Err(error)) => {
            tame("an error", &error.to_string());
            return Reach::Refused;
        }
        Ok(Ok(outward)) => outward,
    };
    match outward {
        Outward::Http(request, is_edit) => {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON leaves");
            directed(&manifest, &body);
            assert_eq!(request.url.host_str(), Some("example.com"));
            let type_ = request.headers.get("content-type").and_then(|value| value.to_str().ok());
            assert_eq!(type_, Some("application/json; charset=utf-8"));
            let may = ["content-type", "x-kind"];
            assert!(request.headers.keys().all(|name| may.contains(&name.as_str())), "{:?}", request.headers);
            if is_edit {
                let id = manifest.channel["progress"]["id"].as_str().unwrap_or_default();
                assert_eq!((body.pointer(id).and_then(Value::as_str), post), (Some(POST), Some(POST)));
            }
        }
        Outward::Stream(event) => directed(&manifest, &event),
        Outward::Response(body) => drop(serde_json::from_slice::<Value>(&body).expect("JSON leaves")),
        Outward::Nothing => return Reach::Refused,
    }
    Reach::Taken
}

/// Every place that names a target names the stored one.
fn directed(manifest: &Manifest, body: &Value) {
    for bind in manifest.channel["bind"].as_array().expect("bindings") {
        let is_optional = bind.get("optional").and_then(|it| it.as_bool()).unwrap_or_default();
        match body.pointer(bind["out"].as_str().unwrap_or_default()) {
            Some(found) => assert_eq!(found.as_str(), Some(ROOM), "{body}"),
            None => assert!(is_optional, "{body} names no target"),
        }
    }
}

/// A request of a stranger, as text: headers, an empty line, the body.
pub fn webhook(input: &[u8]) -> Reach {
    let Some((which, rest)) = chosen(input) else { return Reach::Unread };
    let Some(webhook) = posted(rest) else { return Reach::Unread };
    let (name, _) = ADAPTERS[which];
    let signed = crate::corpus::signed(name);
    match OPEN[which].verify(webhook.clone()) {
        Err(error) => {
            tame("an error", &error.to_string());
            Reach::Refused
        }
        Ok(()) => {
            // Nobody here has the secret, or a session of this host: only what was signed before can pass.
            let signed = signed.as_deref().and_then(posted).expect("an adapter whose requests are signed");
            assert_eq!(webhook.body, signed.body, "a forged body passes");
            Reach::Taken
        }
    }
}

/// A request from its text.
fn posted(text: &[u8]) -> Option<Webhook> {
    let at = text.windows(2).position(|two| two == b"\n\n")?;
    let (head, body) = text.split_at(at);
    let head = String::from_utf8_lossy(head).into_owned();
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    Some(Webhook {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: Bytes::copy_from_slice(body.get(2..).unwrap_or_default()),
        session: head.lines().find_map(|line| line.strip_prefix("cookie: ")).map(str::to_owned),
    })
}

/// A turn that asks, with its store and what runs both.
struct Asking {
    asker: Option<Asker>,
    questions: usize,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Default for Asking {
    fn default() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Identity {
            dedupe: vec![vec!["m1".to_owned()]],
            conversation: vec!["c1".to_owned()],
            sender: "U1".to_owned(),
            place: None,
            outsider: false,
            target: BTreeMap::new(),
        };
        let tenant = TenantId::default_tenant();
        let arrival =
            Arrival { tenant, identity, message: message(), notes: None, echo: None, lane: String::new() };
        let asker = runtime.block_on(Asker::open(folder.path(), arrival)).expect("a turn");
        Self { asker: Some(asker), questions: 0, runtime, _folder: folder }
    }
}

impl Drop for Asking {
    /// A store ends where it ran.
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        self.asker = None;
    }
}

impl Asking {
    fn ask(&mut self, question: &[u8]) -> Told {
        if self.questions >= QUESTIONS_MAX {
            *self = Self::default();
        }
        self.questions += 1;
        let asker = self.asker.as_mut().expect("a turn");
        self.runtime.block_on(asker.ask(question))
    }
}

/// What a guest asks of the host, as a worker hands it on.
pub fn asked(question: &[u8]) -> Reach {
    thread_local! {
        static ASKING: RefCell<Asking> = RefCell::default();
    }
    match ASKING.with_borrow_mut(|asking| asking.ask(question)) {
        Told::Told(answer) => {
            assert!(answer.len() <= ANSWER_BYTES_MAX, "an answer of {} bytes", answer.len());
            Reach::Taken
        }
        Told::Stopped(_) => Reach::Refused,
        Told::HostFailed(error) => panic!("a question makes the host fail: {error}"),
    }
}
