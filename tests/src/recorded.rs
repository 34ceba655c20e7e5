//! Turns worth recording, and running them again: a company whose people write whatever agents and routers can be led
//! into, and what of it must be the same when it is run once more.

use std::time::Duration;

use chela_engine::{Config, Error, ReplayReport, ReplayRequest, ReplayRooms};
use chela_gateway::{Fail, Limit, ModelName, Provider, ProviderKind, ProviderLimits, Rule, Script, Window};
use chela_sandbox::Limits;
use chela_server::standin::webhook::Say;
use chela_store::{Passage, TurnState};
use chela_types::{AgentId, Digest, Millis, Money, TenantId, TierId, Tokens};
use futures::StreamExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::guests;
use crate::host::Host;
use crate::outside::{MODEL, Outside, PRICE};
use crate::setup::{Setup, host, say};
use crate::signing::request;

/// Senders at once.
const SENDERS: usize = 16;
/// Conversations of each channel that go on.
const THREADS: usize = 6;
/// Turns that are read at once.
const PAGE: usize = 200;
/// Of so many rounds one has the messages that take their time.
const SLOW_EVERY: usize = 4;

/// A message, and what is known of its record beforehand.
#[derive(Debug, Clone)]
pub struct Written {
    /// The channel account.
    pub channel: &'static str,
    /// The conversation.
    pub thread: String,
    /// What is said.
    pub text: String,
    /// How it ends.
    pub state: TurnState,
    /// Calls of routers and agents that its last run leaves.
    pub parts: u64,
}

/// To the agent that does as the first word says.
const PLAIN: &str = "hello,model,double,relay,stream,stream-drop,stream-leak,stream-ask,stream-drop-ask,memory-kv,\
    memory-kv-ask,clock,clock-model,dice,search refunds and,past,escalate,resolve,absent,state,print,env,sleep 3,\
    persona";
/// The same, and nothing comes of it: `init` has nothing to say.
const FAILING: &str = "trap,init,unsuitable,unavailable,hand-over-ghost,model refuse-me";
/// The same, and a colleague answers.
const HANDED_OVER: &str = "hand-over-hr,ask-hand-over";
/// To the router, and whom it chooses.
const ROUTED: &str = "hello,hr,past,scored 0.1,scored 0.7,model about the price,relay about the price,none,error,ghost,\
    words";
/// These take time or memory, and end by a limit: channel, text, parts.
const SLOW: [(&str, &str, u64); 13] = [
    ("partner", "memory", 1),
    ("partner", "recursion", 1),
    ("partner", "giant", 1),
    ("partner", "host-calls", 1),
    ("partner", "wordy", 1),
    // Each run begins anew, and nothing of the last one is kept.
    ("partner", "ask-again 1000", 0),
    ("hasty", "loop", 1),
    ("hasty", "model slow-me", 1),
    ("hasty", "stream drip-me", 1),
    ("brief", "loop", 1),
    ("brief", "sleep 60000", 1),
    ("poor", "model", 1),
    ("down", "model", 1),
];

/// What people write in so many rounds.
pub fn written(rounds: usize) -> Vec<Written> {
    use TurnState::{Dead, Delivered};
    let mut all = Vec::new();
    let mut write = |channel: &'static str, thread: String, text: &str, (state, parts)| {
        // A number is taken as a time, and must stand alone.
        let text =
            if text.starts_with("sleep") { text.to_owned() } else { format!("{text} #m{}", all.len()) };
        all.push(Written { channel, thread, text, state, parts });
    };
    for round in 0..rounds {
        let thread = |channel: &str| format!("{channel}-{}", round % THREADS);
        PLAIN.split(',').for_each(|text| write("partner", thread("partner"), text, (Delivered, 1)));
        FAILING.split(',').for_each(|text| write("partner", thread("partner"), text, (Dead, 1)));
        // A conversation stays with whom it was handed to: nobody else writes in it.
        HANDED_OVER.split(',').for_each(|text| {
            write("partner", format!("{text}-{round}"), text, (Delivered, 2));
        });
        ROUTED.split(',').for_each(|text| write("routed", thread("routed"), text, (Delivered, 2)));
        write("routed", format!("trap-{round}"), "trap", (Dead, 2));
        let score = format!("scored {}", (round * 7 + 3) as f32 / 97.0);
        write("routed", thread("routed"), &score, (Delivered, 2));
        write("wise", thread("wise"), "How do refunds work?", (Delivered, 1));
        if round % SLOW_EVERY == 0 {
            // Nobody waits behind these.
            write("partner", format!("again-{round}"), "ask-again-once 1000", (Delivered, 1));
            for (n, (channel, text, parts)) in SLOW.iter().enumerate() {
                write(channel, format!("slow-{round}-{n}"), text, (Dead, *parts));
            }
        }
    }
    all
}

/// The company. Times are short only where something is to end by them.
pub fn company(outside: &Outside) -> Setup {
    let collection = || Some(("handbook".to_owned(), Digest::of("a test's handbook", &[])));
    let limited = |setup: Setup, name: &str, (cpu_ms, deadline_ms): (u64, u64)| {
        let (cpu, deadline) = (Duration::from_millis(cpu_ms), Duration::from_millis(deadline_ms));
        setup.plugin(name, guests::get("agent").source(), json!({})).with_plugin(name, |plugin| {
            plugin.limits = Limits { cpu, deadline, ..plugin.limits.clone() };
        })
    };
    let mut setup = limited(host(outside), "hasty", (60, 600));
    setup = limited(setup, "brief", (10_000, 150))
        .agent("support", "agent")
        .with_agent("support", |agent| (agent.history, agent.knowledge) = (6, collection()))
        .agent("hr", "agent")
        .with_agent("hr", |agent| drop(agent.config.insert("behaviour".to_owned(), json!("model"))))
        .agent("wise", "assistant")
        .with_agent("wise", |agent| (agent.history, agent.knowledge) = (6, collection()))
        .agent("x-hasty", "hasty")
        .agent("x-brief", "brief")
        .agent("x-poor", "agent")
        .agent("x-down", "agent")
        .with_agent("x-down", |agent| agent.tier = TierId::new("down").unwrap())
        .router("router", json!({}))
        .with_delivery(|delivery| {
            (delivery.tries_max, delivery.wait_max) = (2, Duration::from_millis(1_500));
        })
        .with_gateway(|gateway| {
            gateway.providers.push(provider("down", [failing(&[], Fail::Unavailable)]));
            gateway.tiers.push(tier("down"));
            let poor = Limit { most: Money::from_nanos(1).into(), window: Window::Day };
            gateway.budgets.agent.own.insert(AgentId::new("x-poor").unwrap(), vec![poor]);
        })
        .model([
            failing(&["refuse-me"], Fail::Refused),
            Rule { when: vec!["slow-me".to_owned()], first_ms: 5_000, ..say("late") },
            Rule {
                when: vec!["drip-me".to_owned()],
                chunk_ms: 150,
                ..say("one two three four five six seven")
            },
            Rule { when: vec!["route:".to_owned(), "price".to_owned()], ..say("hr I think") },
        ]);
    for (channel, agent) in [
        ("partner", "support"),
        ("routed", "support"),
        ("wise", "wise"),
        ("hasty", "x-hasty"),
        ("brief", "x-brief"),
        ("poor", "x-poor"),
        ("down", "x-down"),
    ] {
        setup = setup.webhook(channel, agent).with_channel(channel, |it| it.routed = channel == "routed");
    }
    setup
}

fn failing(when: &[&str], fail: Fail) -> Rule {
    Rule { when: when.iter().map(ToString::to_string).collect(), fail: Some(fail), ..Rule::default() }
}

fn provider(name: &str, rules: impl IntoIterator<Item = Rule>) -> Provider {
    Provider {
        name: name.to_owned(),
        kind: ProviderKind::Scripted(Script { rules: rules.into_iter().collect(), default: None }),
        prices: BTreeMap::from([(MODEL.to_owned(), PRICE.into())]),
        limits: ProviderLimits::standard(),
    }
}

fn tier(name: &str) -> chela_gateway::Tier {
    chela_gateway::Tier {
        id: TierId::new(name).unwrap(),
        chain: vec![ModelName { provider: name.to_owned(), model: MODEL.to_owned() }],
        max_output: Tokens(1_000),
        first_token: None,
        cheaper: None,
        failover: Default::default(),
    }
}

impl Host {
    /// What [`company`]'s agents may look up.
    pub async fn learns(&self) {
        let passage =
            |(source, text): (&str, &str)| Passage { source: source.to_owned(), text: text.to_owned() };
        let passages = [
            ("a.md", "Refunds take three days. A refund goes back to the card."),
            ("b.md", "Nobody refunds gifts, and refunds of vouchers are vouchers."),
            ("c.md", "The shop opens at nine."),
        ];
        let digest = Digest::of("a test's handbook", &[]);
        let passages = passages.into_iter().map(passage).collect();
        let learned =
            self.store.knowledge_replace(&TenantId::default_tenant(), "handbook", digest, passages).await;
        assert!(learned.unwrap(), "it is new");
    }

    /// Somebody writes through a channel that speaks as the partner does, and the host takes it.
    pub async fn told(&self, outside: &Outside, channel: &str, (thread, text): (&str, &str)) {
        let say = Say {
            sender: format!("person-{thread}"),
            text: text.to_owned(),
            thread_id: Some(thread.to_owned()),
            name: None,
        };
        let event = outside.partner.event(&say).unwrap();
        let headers = outside.partner.signed(&event.id, &event.body).unwrap();
        let taken = self.receive(channel, request(&headers, event.body)).await;
        assert_eq!(taken.expect("the message is taken").status, 200, "{text}");
    }

    /// All of it is written, by many at once, and answered.
    pub async fn hears(&self, outside: &Outside, all: &[Written]) {
        futures::stream::iter(all)
            .for_each_concurrent(SENDERS, async |it| {
                self.told(outside, it.channel, (&it.thread, &it.text)).await;
            })
            .await;
        self.drained().await;
    }

    /// Messages whose record is another than is expected: message, how it ended, and parts.
    pub async fn strays(&self, all: &[Written]) -> Vec<(String, TurnState, u64)> {
        let expected: BTreeMap<&str, _> = all.iter().map(|it| (&*it.text, (it.state, it.parts))).collect();
        let (mut strays, mut after) = (Vec::new(), 0);
        loop {
            let tenant = TenantId::default_tenant();
            let page = self.store.recorded(&tenant, Millis(0), after, PAGE).await.unwrap();
            let Some(last) = page.last() else { return strays };
            after = last.seq;
            for turn in page {
                let text = turn.message.expect("nothing is purged").text;
                let parts = turn.entries.iter().filter(|entry| entry.function == "turn.end").count() as u64;
                if expected[&*text] != (turn.state, parts) {
                    strays.push((text, turn.state, parts));
                }
            }
        }
    }

    /// What a replay stands on.
    pub fn rooms(&self) -> ReplayRooms {
        ReplayRooms {
            store: self.store.clone(),
            sandbox: self.sandbox.clone(),
            gateway: self.gateway.clone(),
            clock: Arc::clone(&self.setup.clock),
        }
    }

    /// What it was told.
    pub fn config(&self) -> Config {
        self.setup.engine()
    }

    /// Runs recorded turns again.
    ///
    /// # Errors
    /// The engine's.
    pub async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, Error> {
        chela_engine::replay(&self.config(), &self.rooms(), request, |_| {}).await
    }

    /// Runs all recorded turns again, each call by the version that ran it: `parts` calls, all the same to the last byte.
    pub async fn is_the_same(&self, parts: u64) -> ReplayReport {
        let report = self.replay(&ReplayRequest::default()).await.unwrap();
        let all = || report.differences.iter().chain(&report.divergences).take(20).collect::<Vec<_>>();
        let ReplayReport { same, changed, diverged, failed, purged, incomplete, ref broken, .. } = report;
        assert_eq!((changed, diverged, failed), (0, 0, 0), "of {} parts: {:#?}", report.parts, all());
        assert_eq!((purged, incomplete, broken), (0, 0, &(0, None)));
        assert_eq!((report.parts, same), (parts, parts));
        report
    }
}

/// The manifest of a guest as another build that does the same.
pub fn same_but_newer(manifest: &str) -> String {
    let newer = manifest.replacen("version = \"0.1.0\"", "version = \"0.2.0\"", 1);
    assert_ne!(newer, manifest);
    newer
}
