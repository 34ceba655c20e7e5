//! Versions of plugins under test: what serves and what happened, people who write meanwhile, and calls that are counted
//! from a plugin's log.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use chela_engine::{Candidate, Order, VersionStatus};
use chela_store::{Event, TurnRecord, TurnState};
use chela_types::{Digest, Millis, PluginId, RoutedBy, TenantId};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use crate::guests;
use crate::host::Host;
use crate::outside::Outside;
use crate::setup::Setup;
use crate::wait::{eventually, eventually_some};

/// Events and turns that are looked through.
const EVERYTHING: usize = 1_000_000;

impl Setup {
    /// A plugin whose component is a guest, as another build: its manifest's version and behaviour are these.
    #[must_use]
    pub fn build(self, plugin: &str, (guest, version, behaviour): (&str, &str, &str)) -> Self {
        self.with_plugin(plugin, |plugin| plugin.source = guests::get(guest).version(version, behaviour))
    }
}

/// Make this the active version; nothing that needs a word of its own is allowed.
pub fn promote(candidate: Candidate) -> Order {
    Order::Promote { candidate, approve: false, downgrade: false, unproven: false }
}

/// Give what the folder holds a share of the conversations.
pub fn canary(percent: u8) -> Order {
    Order::Canary { candidate: Candidate::default(), percent, approve: false }
}

/// Go back.
pub fn rollback() -> Order {
    Order::Rollback { why: "a test wants it".to_owned() }
}

impl Host {
    /// The version that serves.
    pub async fn active(&self, plugin: &str) -> VersionStatus {
        let status = self.plugin(plugin).await;
        let mut active = status.versions.into_iter().filter(|version| version.state == "active");
        let (first, second) = (active.next(), active.next());
        assert!(second.is_none(), "two versions of {plugin} are active");
        first.unwrap_or_else(|| panic!("no version of {plugin} is active"))
    }

    /// The version of which a manifest says this.
    pub async fn version(&self, plugin: &str, version: &str) -> VersionStatus {
        let versions = self.plugin(plugin).await.versions;
        let found = versions.iter().find(|it| it.version == version).cloned();
        found.unwrap_or_else(|| panic!("{plugin} has no version {version}: {versions:?}"))
    }

    /// What is written down to be active, whatever serves.
    pub async fn deployed(&self, plugin: &str) -> Digest {
        let deployments = self.store.deployments(&TenantId::default_tenant()).await.unwrap();
        let found = deployments.into_iter().find(|deployment| deployment.plugin.as_str() == plugin);
        found.and_then(|deployment| deployment.active).expect("it is deployed")
    }

    /// Everything that happened to a plugin's versions.
    pub async fn history(&self, plugin: &str) -> Vec<Event> {
        let plugin = PluginId::new(plugin).unwrap();
        self.store.newest_events(&TenantId::default_tenant(), Some(&plugin), EVERYTHING).await.unwrap()
    }

    /// Waits until the watch has sent this version back; returns why.
    pub async fn sent_back(&self, plugin: &str, version: &str) -> String {
        let what = format!("version {version} of {plugin} is rolled back");
        let why = eventually_some(&what, async || {
            let mut events = self.history(plugin).await.into_iter().rev();
            events.find(|event| event.happened.what == "rolled back").map(|event| event.happened)
        })
        .await;
        assert_eq!(why.by, "the watch", "{why:?}");
        // Written down first, and then it serves; until its last calls end it is drained.
        eventually("it is refused", async || self.version(plugin, version).await.state == "refused").await;
        assert_eq!(self.version(plugin, version).await.reason, format!("rolled back: {}", why.why));
        why.why
    }

    /// The records of all turns.
    pub async fn records(&self) -> Vec<TurnRecord> {
        let mut records = Vec::new();
        for turn in self.store.recent_turns(EVERYTHING).await.unwrap() {
            records.push(self.store.turn_record(turn).await.unwrap().expect("it is kept"));
        }
        records
    }

    /// Waits until everything is answered, and checks that nobody has seen a failure: `turns` turns, each delivered by
    /// its first run, decided by a router if there is one.
    pub async fn flawless(&self, turns: usize, has_router: bool) -> Vec<TurnRecord> {
        self.drained().await;
        let records = self.records().await;
        assert_eq!(records.len(), turns);
        for record in &records {
            assert_eq!(record.state, TurnState::Delivered, "{record:?}");
            assert_eq!((record.tries, record.crashes, record.waits), (0, 0, 0), "{record:?}");
            assert!(record.outbox.as_ref().is_some_and(|answer| !answer.notice), "{record:?}");
            let (_, decision) = record.decisions.first().expect("a decision");
            assert_eq!(decision.overruled, None, "{record:?}");
            assert_eq!(matches!(decision.by, RoutedBy::Router { .. }), has_router, "{record:?}");
        }
        records
    }
}

/// Short digest of the router that decided a turn.
pub fn router_of(record: &TurnRecord) -> &str {
    match record.decisions.first().map(|(_, decision)| &decision.by) {
        Some(RoutedBy::Router { digest, .. }) => digest,
        other => panic!("not decided by a router: {other:?}"),
    }
}

/// A message of somebody, and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What was said; no two say the same.
    pub text: String,
    /// In which conversation: one for each message.
    pub thread: String,
    /// Before it was handed in.
    pub asked: Millis,
    /// When the partner had the answer.
    pub answered: Millis,
    /// The answer.
    pub reply: String,
}

/// People who write through the partner, each as soon as he has his answer, until they are stopped.
#[derive(Debug)]
pub struct Senders {
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Exchange>>>,
}

impl Senders {
    /// So many at once.
    pub fn start(host: &Arc<Host>, outside: &Arc<Outside>, count: usize) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..count).map(|sender| {
            let (host, outside) = (Arc::clone(host), Arc::clone(outside));
            let (stop, answered) = (stop.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut exchanges = Vec::new();
                while !stop.is_cancelled() {
                    let thread = format!("s{sender}m{}", exchanges.len());
                    exchanges.push(exchange(&host, &outside, thread).await);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                exchanges
            })
        });
        Self { tasks: tasks.collect(), stop, answered }
    }

    /// Waits until so many more are answered.
    pub async fn more(&self, count: usize) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        eventually("further messages are answered", async || {
            self.answered.load(Ordering::Relaxed) >= until || self.tasks.iter().any(JoinHandle::is_finished)
        })
        .await;
    }

    /// Lets each have his last answer; returns everything that was said.
    ///
    /// # Panics
    /// If somebody's message was not taken.
    pub async fn stop(self) -> Vec<Exchange> {
        self.stop.cancel();
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("each message is taken and answered"));
        }
        all
    }
}

async fn exchange(host: &Host, outside: &Outside, thread: String) -> Exchange {
    let text = format!("hello from {thread}");
    let expected = outside.partner.expect(&thread);
    let asked = outside.clock.now();
    host.partner_says(outside, &thread, &text).await;
    let received = tokio::time::timeout(crate::PATIENCE, expected).await;
    let reply = received.unwrap_or_else(|_| panic!("`{text}` has no answer")).unwrap().reply.text;
    Exchange { text, thread, asked, answered: outside.clock.now(), reply }
}

/// Each message has one answer, and there are no others.
pub fn each_is_answered_once(outside: &Outside, exchanges: &[Exchange]) {
    let mut replies: BTreeMap<String, usize> = BTreeMap::new();
    for reply in outside.partner.replies().all() {
        *replies.entry(reply.reply.thread).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> = exchanges.iter().map(|it| (it.thread.clone(), 1)).collect();
    assert_eq!(replies, expected);
}

/// Lines that plugins logged: plugin, version, and what.
static LINES: Mutex<BTreeMap<(String, String), usize>> = Mutex::new(BTreeMap::new());

/// How often a guest whose behaviour begins with `noted-` was called, by its version: so each test needs its own.
#[derive(Debug)]
pub struct Calls;

impl Calls {
    /// Counts from now on.
    pub fn count() -> Self {
        static LISTENING: Once = Once::new();
        LISTENING.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
        Self
    }

    /// So far.
    pub fn of(&self, plugin: &str, version: &str) -> usize {
        LINES.lock().get(&(plugin.to_owned(), version.to_owned())).copied().unwrap_or_default()
    }
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        if line.message == "called" {
            *LINES.lock().entry((line.plugin, line.version)).or_default() += 1;
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    plugin: String,
    version: String,
    message: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "plugin" => value.clone_into(&mut self.plugin),
            "version" => value.clone_into(&mut self.version),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
