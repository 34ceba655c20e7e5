//! Conversations that never stop talking: each sends its next message once the one before is acknowledged, and
//! repeats what is not, as platforms do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chela_server::standin::{Fault, slack, webhook};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Name, Seen, Sent};
use crate::Outside;
use crate::outside::{MODEL, ROOMS};

/// Messages of one conversation that may wait for their answers.
const OUTSTANDING_MAX: u32 = 3;
/// Words of a long message, and bytes of each: three posts in Slack.
const LONG: (u32, usize) = (36, 300);
/// One message in so many is long.
const LONG_ONE_IN: u32 = 8;
/// Pause of a sender that has enough messages outstanding.
const PAUSE: Duration = Duration::from_millis(20);
/// Pauses between two misbehaviours of the platforms and the provider.
const FAULT_PAUSE_MS: std::ops::Range<u64> = 60..200;

/// What the program under test is configured to do.
pub fn configuration(outside: &Outside) -> String {
    let (model, slack, partner) =
        (outside.provider.base_url(), outside.slack.base_url(), outside.partner.reply_url());
    format!(
        r#"
[egress]
allow_loopback = true

[provider.stand-in]
kind = "openai"
url = "{model}"
key = "env:PROVIDER_KEY"

[provider.stand-in.price."{MODEL}"]
input = "0.10"
cached = "0.10"
output = "0.40"

[tier.fast]
chain = ["stand-in/{MODEL}"]

[budget]
agent = "10000"
user = "10000"
global = "10000"

[cache]
enabled = false

[plugin.assistant]
source = "builtin:assistant"
grants = ["models", "knowledge"]

[plugin.keyword]
source = "builtin:keyword"

[[plugin.keyword.config.rules]]
agent = "sales"
phrases = ["price"]

[plugin.slack]
source = "builtin:slack"

[plugin.webhook]
source = "builtin:webhook"

# Fewer places than turns, so that some wait with their agent chosen.
[agent.support]
plugin = "assistant"
persona = "You are support."
outsiders = true
tier = "fast"
knowledge = "knowledge"
concurrency = 6
rate_per_minute = 1000000

[agent.sales]
plugin = "assistant"
persona = "You are sales."
tier = "fast"
concurrency = 6
rate_per_minute = 1000000

[channel.slack]
plugin = "slack"
default_agent = "support"
rate_per_minute = 10000000
secrets = {{ signing_secret = "env:SLACK_SIGNING_SECRET", bot_token = "env:SLACK_BOT_TOKEN" }}

[channel.slack.config]
base_url = "{slack}"

[channel.partner]
plugin = "webhook"
default_agent = "support"
rate_per_minute = 10000000
secrets = {{ signing_secret = "env:PARTNER_SECRET" }}

[channel.partner.config]
reply_url = "{partner}"

[routing]
router = "keyword"

# More crashes than the test makes: a message that meets many of them is answered all the same.
[delivery]
crash_tries = 1000
unknown_tries = 100
backoff_max_s = 1
"#
    )
}

/// A second account in the same Slack, whose answers grow; quicker than the real one would like it. Its plugin's
/// folder is made in `folder`.
pub fn growing(folder: &Path, outside: &Outside) -> String {
    let found = chela_bundle::get("slack").unwrap();
    let manifest = found.manifest.replace("interval_ms = 1500", "interval_ms = 100");
    let manifest = manifest.replace("per_minute = 40", "per_minute = 60000");
    let plugin = folder.join("growing");
    std::fs::create_dir(&plugin).unwrap();
    std::fs::write(plugin.join("plugin.toml"), manifest).unwrap();
    std::fs::write(plugin.join("slack.wasm"), found.component).unwrap();
    let slack = outside.slack.base_url();
    format!(
        r#"
[plugin.growing]
source = "growing"

[channel.growing]
plugin = "growing"
default_agent = "support"
rate_per_minute = 10000000
progress = true
secrets = {{ signing_secret = "env:SLACK_SIGNING_SECRET", bot_token = "env:SLACK_BOT_TOKEN" }}

[channel.growing.config]
base_url = "{slack}"
"#
    )
}

/// How many conversations there are: in Slack, in Slack with answers that grow, and at the webhook partner.
#[derive(Debug, Clone, Copy)]
pub struct Conversations {
    /// Named `s0`, `s1` …
    pub slack: u32,
    /// Named `g0`, `g1` …
    pub growing: u32,
    /// Named `w0`, `w1` …
    pub partner: u32,
}

/// Where the host takes webhooks.
#[derive(Debug, Clone)]
struct Doors {
    slack: Url,
    growing: Url,
    partner: Url,
}

/// Running conversations.
#[derive(Debug)]
pub struct Load {
    outside: Arc<Outside>,
    sent: Arc<Mutex<Vec<Sent>>>,
    threads: Arc<Mutex<BTreeMap<String, String>>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// Requests, repetitions included.
    attempts: Arc<AtomicU64>,
}

impl Load {
    /// Starts the conversations and the platforms' misbehaviour, all from one seed.
    pub fn start(
        outside: Arc<Outside>,
        channel: impl Fn(&str) -> Url,
        seed: u64,
        Conversations { slack, growing, partner }: Conversations,
    ) -> Self {
        let doors =
            Doors { slack: channel("slack"), growing: channel("growing"), partner: channel("partner") };
        let mut load = Self {
            outside,
            sent: Arc::default(),
            threads: Arc::default(),
            stop: CancellationToken::new(),
            tasks: Vec::new(),
            attempts: Arc::default(),
        };
        let answered = Answered::default();
        load.tasks.push(tokio::spawn(watch(
            Arc::clone(&load.outside),
            Arc::clone(&answered),
            load.stop.clone(),
        )));
        let names = (0..slack).map(|n| format!("s{n}"));
        let names = names.chain((0..growing).map(|n| format!("g{n}")));
        let names = names.chain((0..partner).map(|n| format!("w{n}")));
        for (index, name) in names.enumerate() {
            let talk = Talk {
                outside: Arc::clone(&load.outside),
                doors: doors.clone(),
                sent: Arc::clone(&load.sent),
                threads: Arc::clone(&load.threads),
                answered: Arc::clone(&answered),
                stop: load.stop.clone(),
                attempts: Arc::clone(&load.attempts),
                random: StdRng::seed_from_u64(seed ^ (index as u64 + 1)),
                name,
            };
            load.tasks.push(tokio::spawn(talk.run()));
        }
        let faults = misbehave(Arc::clone(&load.outside), StdRng::seed_from_u64(!seed), load.stop.clone());
        load.tasks.push(tokio::spawn(faults));
        load
    }

    /// Lets each conversation finish the message that it is sending, and ends.
    pub async fn end(&mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }

    /// What was sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }

    /// Requests so far, repetitions included.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// What the platforms saw so far.
    pub fn seen(&self) -> Vec<Seen> {
        let threads = self.threads.lock();
        let slack = self.outside.slack.screen().into_iter().map(|post| Seen {
            conversation: post.thread_ts.and_then(|ts| threads.get(&ts).cloned()).unwrap_or_default(),
            text: post.text,
        });
        let partner = self.outside.partner.replies().all().into_iter();
        let partner = partner.map(|reply| Seen { conversation: reply.reply.thread, text: reply.reply.text });
        slack.chain(partner).collect()
    }
}

/// How many messages of each conversation are answered.
type Answered = Arc<Mutex<BTreeMap<String, u32>>>;

/// Keeps that count while the platforms' logs grow.
async fn watch(outside: Arc<Outside>, answered: Answered, stop: CancellationToken) {
    let note = |text: &str| {
        if let Some((name, _)) = text.split_whitespace().find_map(Name::read) {
            let mut answered = answered.lock();
            let count = answered.entry(name.conversation).or_default();
            *count = (*count).max(name.number + 1);
        }
        false
    };
    let slack = outside.slack.posts().wait_for(|post| note(&post.text));
    let partner = outside.partner.replies().wait_for(|reply| note(&reply.reply.text));
    tokio::select! {
        () = stop.cancelled() => {}
        _ = slack => {}
        _ = partner => {}
    }
}

/// One conversation.
struct Talk {
    outside: Arc<Outside>,
    doors: Doors,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// Slack's threads: the time stamp of the first post, and the conversation's name.
    threads: Arc<Mutex<BTreeMap<String, String>>>,
    answered: Answered,
    stop: CancellationToken,
    attempts: Arc<AtomicU64>,
    random: StdRng,
    name: String,
}

impl Talk {
    async fn run(mut self) {
        let mut thread = None;
        for number in 0.. {
            while number > self.answered() + OUTSTANDING_MAX && !self.stop.is_cancelled() {
                tokio::time::sleep(PAUSE).await;
            }
            if self.stop.is_cancelled() {
                return;
            }
            let name = Name { conversation: self.name.clone(), number };
            let is_long = match self.name.chars().next() {
                Some('g') => self.random.random(),
                Some('s') => self.random.random_range(0..LONG_ONE_IN) == 0,
                _ => false,
            };
            let words = if is_long { LONG.0 } else { 1 };
            let text = self.text(&name, words);
            let at = {
                let mut sent = self.sent.lock();
                sent.push(Sent { name, words, is_acknowledged: false });
                sent.len() - 1
            };
            let answer = match self.name.starts_with('w') {
                true => self.partner(text).await,
                false => self.slack(text, &mut thread).await,
            };
            self.attempts.fetch_add(answer.attempts.len() as u64, Ordering::Relaxed);
            self.sent.lock()[at].is_acknowledged = answer.is_acknowledged();
        }
    }

    /// Messages of this conversation up to the newest whose answer has been seen.
    fn answered(&self) -> u32 {
        self.answered.lock().get(&self.name).copied().unwrap_or(0)
    }

    fn text(&mut self, name: &Name, words: u32) -> String {
        let pad = if words > 1 { "x".repeat(LONG.1) } else { String::new() };
        let words: Vec<String> = (0..words).map(|word| format!("{}{pad}", name.word(word))).collect();
        let topic = if self.random.random() { "price" } else { "order" };
        // The stand-in model repeats the first forty words.
        format!("{} {topic}", words.join(" "))
    }

    async fn slack(&self, text: String, thread: &mut Option<String>) -> chela_server::standin::Sent {
        let say = slack::Say {
            channel: ROOMS[0].to_owned(),
            user: format!("U{}", self.name.to_uppercase()),
            text,
            thread_ts: thread.clone(),
            ..slack::Say::default()
        };
        let event = self.outside.slack.event(&say).unwrap();
        let first = thread.get_or_insert_with(|| event.ts.clone());
        self.threads.lock().insert(first.clone(), self.name.clone());
        let door = if self.name.starts_with('g') { &self.doors.growing } else { &self.doors.slack };
        self.outside.slack.send(door, &event).await.unwrap()
    }

    async fn partner(&self, text: String) -> chela_server::standin::Sent {
        let (sender, thread_id) = (format!("person-{}", self.name), Some(self.name.clone()));
        let say = webhook::Say { sender, text, thread_id, name: None };
        let event = self.outside.partner.event(&say).unwrap();
        self.outside.partner.send(&self.doors.partner, &event).await.unwrap()
    }
}

/// The outside has bad moments: slow, busy, gone in the middle. They also widen the phases of a turn that last
/// only as long as the outside takes.
async fn misbehave(outside: Arc<Outside>, mut random: StdRng, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let slow = Fault::Delay(Duration::from_millis(random.random_range(30..250)));
        let platform = match random.random_range(0..2) {
            0 => outside.slack.faults(),
            _ => outside.partner.faults(),
        };
        match random.random_range(0..20) {
            0..10 => platform.inject(&slow, 2),
            10..12 => platform.inject(&Fault::TooMany { retry_after: 1 }, 1),
            12 => platform.inject(&Fault::Drop, 1),
            13 => platform.inject(&Fault::Status(500), 1),
            14 => outside.provider.faults().inject(&Fault::Status(503), 1),
            15 => outside.provider.faults().inject(&Fault::Cut, 1),
            _ => outside.provider.faults().inject(&slow, 3),
        }
        let pause = Duration::from_millis(random.random_range(FAULT_PAUSE_MS));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
