//! What the host lends to agents and routers, through real components: streams, memory, models for a router, and what
//! is not lent. Money and crashes around it: what was paid for is not paid again, what was dropped is not free.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::Duration;

use chela_engine::{Draft, Webhook};
use chela_gateway::Rule;
use chela_sandbox::{Grant, Grants};
use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_server::standin::webhook;
use chela_store::{SettledAs, TurnState};
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed, request};
use chela_tests::{Host, NOTICE, Outside, Setup, eventually, eventually_some, host, say};
use chela_types::{ChannelId, Clock, Decision, ManualClock, Millis, Money, RoutedBy};
use parking_lot::Mutex;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const NOW: Millis = Millis(1_760_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
/// Ten words of an answer, and so three events of the provider's stream.
const QUESTION: &str = "one two three four five six seven eight nine";
const ANSWER: &str = "You said: one two three four five six seven eight nine";
/// Answers as usual, and is counted.
const ANSWERED: Fault = Fault::Delay(Duration::ZERO);

/// A host whose agent does what the first word of a message says.
fn with_guest_agent(outside: &Outside) -> Setup {
    host(outside).agent("support", "agent").webhook("partner", "support")
}

/// Somebody writes in a thread, and is answered.
async fn answer(host: &Host, outside: &Outside, (sender, thread): (&str, &str), text: &str) -> String {
    let say = webhook::Say {
        sender: sender.to_owned(),
        text: text.to_owned(),
        thread_id: Some(thread.to_owned()),
        name: None,
    };
    let event = outside.partner.event(&say).unwrap();
    let headers = outside.partner.signed(&event.id, &event.body).unwrap();
    assert_eq!(host.receive("partner", request(&headers, event.body)).await.unwrap().status, 200);
    said(host, text).await
}

/// What the turn of `text` was answered with.
async fn said(host: &Host, text: &str) -> String {
    let record = host.closed(text).await;
    assert_eq!(record.state, TurnState::Delivered, "{record:?}");
    record.reply.expect("an answer").text
}

/// The agent asks until a question meets a provider that thinks for an hour; the host crashes, and starts again.
async fn crashed(host: Host, outside: &Outside, before: &[Fault], text: &str) -> Host {
    let forever = Fault::Delay(HOUR);
    before.iter().chain([&forever]).for_each(|fault| outside.provider.faults().inject(fault, 1));
    host.partner_says(outside, "t1", text).await;
    eventually("the last question is asked", async || outside.provider.faults().is_spent()).await;
    let paid = before.iter().filter(|fault| **fault == ANSWERED).count();
    assert_eq!(outside.provider.bills().len(), paid, "before the crash");
    host.crash().restart().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_in_pieces_that_are_the_whole() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).billed_model(&outside).run().await;
    host.partner_says(&outside, "t1", &format!("stream {QUESTION}")).await;
    assert_eq!(said(&host, "stream").await.trim_end(), format!("3 pieces, true: {ANSWER}"));
    let ledger = host.store.ledger(10).await.unwrap();
    assert_eq!(ledger.rows.iter().map(|row| row.state).collect::<Vec<_>>(), [SettledAs::Settled]);
    assert_eq!(ledger.settled, outside.provider.total(), "what the provider counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_early_is_charged_and_never_above_what_was_reserved() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).billed_model(&outside).run().await;
    host.partner_says(&outside, "t1", &format!("stream-drop {QUESTION}")).await;
    let piece = said(&host, "stream-drop").await;
    assert!(ANSWER.starts_with(piece.trim_end()) && piece.len() < ANSWER.len(), "the first piece: {piece}");
    host.drained().await;
    let ledger = host.store.ledger(10).await.unwrap();
    let [row] = ledger.rows.as_slice() else { panic!("one call, one reservation: {ledger:?}") };
    assert_eq!((row.state, ledger.reserved), (SettledAs::Unknown, Money::ZERO));
    assert!(Money::ZERO < row.cost && row.cost <= row.amount, "{row:?}");
    assert!(row.cost >= outside.provider.total(), "the provider may have made it all, and has: {row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_behind_which_the_host_crashes_is_not_paid_again() {
    for (behaviour, streamed) in [
        ("stream-ask", format!("3 pieces, true: {ANSWER}")),
        // Its end never came, and the journal holds the piece that the agent took.
        ("stream-drop-ask", "You said: one two three".to_owned()),
    ] {
        let outside = Outside::new().await;
        let host = with_guest_agent(&outside).billed_model(&outside).run().await;
        let host = crashed(host, &outside, &[ANSWERED], &format!("{behaviour} {QUESTION}")).await;
        let reply = said(&host, behaviour).await;
        let (first, second) = reply.split_once(" | ").expect("two answers");
        assert_eq!((first.trim_end(), second.trim_end()), (&*streamed, ANSWER), "{behaviour}");
        assert_eq!(outside.provider.bills().len(), 2, "{behaviour}: the stream came from the journal");
        host.drained().await;
        let ledger = host.store.ledger(10).await.unwrap();
        assert!(ledger.settled >= outside.provider.total(), "{behaviour}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_a_conversations_a_persons_or_the_agents() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    // Counts in the conversation, of the person and of all, each with its version; then a compare-and-set of each end.
    for (number, (who, expected)) in [
        (("ann", "t1"), "1@1 1@1 1@1 true false"),
        (("bob", "t1"), "2@2 1@1 2@2 true false"),
        (("ann", "t2"), "1@1 2@2 3@3 true false"),
        (("ann", "t1"), "3@3 3@3 4@4 true false"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("memory-kv {number}");
        assert_eq!(answer(&host, &outside, who, &text).await, expected, "{number}: {who:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_a_write_does_not_write_again() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).billed_model(&outside).run().await;
    let host = crashed(host, &outside, &[], "memory-kv-ask #q").await;
    assert_eq!(said(&host, "memory-kv-ask").await.trim_end(), "1@1 1@1 1@1 true false | You said: #q");
    host.partner_says(&outside, "t1", "memory-kv again").await;
    assert_eq!(said(&host, "memory-kv again").await, "2@2 2@2 2@2 true false", "each was written once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_or_not_served_is_denied_with_the_reason() {
    let functions = [
        ("list-tools", "tools"),
        ("call", "tools"),
        ("fetch", "http"),
        ("read", "blobs"),
        ("write", "blobs"),
    ];
    let outside = Outside::new().await;
    for grants in [[Grant::Tools].into_iter().collect(), Grants::NONE] {
        let host =
            with_guest_agent(&outside).with_plugin("agent", |plugin| plugin.grants = grants).run().await;
        host.partner_says(&outside, "t1", "absent").await;
        let why = |grant: &str| match grants.contains(Grant::Tools) && grant == "tools" {
            true => "this host does not serve this interface yet".to_owned(),
            false => format!(
                "`{grant}` is optional in plugin.toml and not in `grants` of [plugin.agent] in chela.toml"
            ),
        };
        let expected: Vec<String> =
            functions.iter().map(|(name, grant)| format!("{name}: not granted, {}", why(grant))).collect();
        let said = said(&host, "absent").await;
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{grants:?}");
    }
}

/// A host whose router does as `behaviour` says, over agents that ask no model of themselves.
fn routed(outside: &Outside, behaviour: &str) -> Setup {
    host(outside)
        .agent("support", "agent")
        .agent("sales", "agent")
        .agent("hr", "agent")
        .only_from("hr", "slack", Some("C0PEOPLE"))
        .router("router", json!({ "behaviour": behaviour }))
        .slack("slack", "support")
        .webhook("partner", "support")
}

/// What the guest's router asks about `subject` is answered with `agent`.
fn names(agent: &str, subject: &str) -> Rule {
    Rule { when: vec!["route:".to_owned(), subject.to_owned()], ..say(&format!("{agent} I think")) }
}

async fn decision(host: &Host, text: &str) -> Decision {
    let record = host.closed(text).await;
    assert_eq!(record.state, TurnState::Delivered, "{record:?}");
    record.decisions.last().expect("a decision").1.clone()
}

/// Whom the decision's record names as the one who took it.
fn is_the_routers(decision: &Decision) -> bool {
    matches!(&decision.by, RoutedBy::Router { plugin, version, .. } if plugin.as_str() == "router" && version == "0.1.0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_asks_a_model_and_the_policy_has_the_last_word() {
    let outside = Outside::new().await;
    let rules = || [names("sales", "price"), names("hr", "salary")];
    let host = routed(&outside, "model").model(rules()).run().await;
    host.partner_says(&outside, "t1", "about the price").await;
    let by_model = decision(&host, "price").await;
    assert_eq!((by_model.agent.as_str(), &*by_model.reason), ("sales", "the model names it"));
    assert!(is_the_routers(&by_model), "{by_model:?}");
    let record = host.closed("price").await;
    assert_eq!(record.calls.len(), 1, "the turn pays for it: {record:?}");
    // A model is no authority either.
    host.partner_says(&outside, "t2", "about the salary").await;
    let refused = decision(&host, "salary").await;
    let overruled = refused.overruled.expect("a word on what was refused");
    assert_eq!((refused.agent.as_str(), &refused.by), ("support", &RoutedBy::Policy));
    assert!(overruled.contains("router chose `hr`"), "{overruled}");

    let host = routed(&outside, "model")
        .model(rules())
        .with_plugin("router", |plugin| plugin.grants = Grants::NONE)
        .run()
        .await;
    host.partner_says(&outside, "t1", "about the price").await;
    let denied = decision(&host, "price").await;
    let overruled = denied.overruled.expect("a word on what failed");
    assert_eq!((denied.agent.as_str(), &denied.by), ("support", &RoutedBy::Policy));
    assert!(overruled.contains("not in `grants` of [plugin.router]"), "{overruled}");
    assert!(host.store.ledger(10).await.unwrap().rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_sees_the_past_if_it_is_granted_and_no_word_of_it_otherwise() {
    let outside = Outside::new().await;
    let history: Grants = [Grant::History].into_iter().collect();
    for (grants, agent, reason) in
        [(history, "sales", "2 earlier utterances"), (Grants::NONE, "support", "0 earlier utterances")]
    {
        let host =
            routed(&outside, "past").with_plugin("router", |plugin| plugin.grants = grants).run().await;
        host.partner_says(&outside, "t1", "sales please").await;
        let first = decision(&host, "sales please").await;
        assert_eq!((first.agent.as_str(), &*first.reason), ("support", "0 earlier utterances"), "{grants:?}");
        host.partner_says(&outside, "t1", "and now").await;
        let second = decision(&host, "and now").await;
        assert_eq!((second.agent.as_str(), &*second.reason), (agent, reason), "{grants:?}");
        assert!(is_the_routers(&second), "{second:?}");
        // Another conversation has another past.
        host.partner_says(&outside, "t2", "and here").await;
        assert_eq!(decision(&host, "and here").await.reason, "0 earlier utterances", "{grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_relays_is_seen_by_nobody() {
    let outside = Outside::new().await;
    let host = routed(&outside, "relay")
        .with_agent("sales", |agent| drop(agent.config.insert("behaviour".to_owned(), json!("relay"))))
        .model([names("sales", "price")])
        .web_chat("web", "support")
        .run()
        .await;
    let web = ChannelId::new("web").unwrap();
    let (session, token) = host.engine.new_session(&web);
    let mut drafts = host.engine.listen(&web, &session);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let webhook = Webhook {
        method: "POST".to_owned(),
        path: "/messages".to_owned(),
        query: String::new(),
        headers: vec![header("content-type", "application/json"), header("chela-session", &session)],
        body: json!({ "id": uuid::Uuid::now_v7(), "text": "about the price" }).to_string().into(),
        session: Some(token),
    };
    host.receive("web", webhook).await.expect("the message is taken");
    let answered = said(&host, "price").await;
    let by_model = decision(&host, "price").await;
    assert!(by_model.agent.as_str() == "sales" && is_the_routers(&by_model), "{by_model:?}");
    assert_eq!(answered, "You said: about the price");
    let mut drafted = String::new();
    while let Ok(draft) = drafts.try_recv() {
        if let Draft::Text { text, .. } = draft {
            drafted.push_str(&text);
        }
    }
    assert_eq!(drafted, answered, "the agent's drafts, and no others");
}

/// Waits until the turn of `text` waits for the `waits`th time, and nothing is due before `due`.
async fn waits_until(host: &Host, clock: &ManualClock, (text, waits): (&str, u32), due: Millis) {
    eventually("it waits", async || {
        let counts = host.store.counts().await.unwrap();
        counts.leased == 0 && host.find(text).await.is_some_and(|record| record.waits == waits)
    })
    .await;
    // A second before, the store is asked for work and has none.
    clock.advance(due.since(clock.now()) - Duration::from_secs(1));
    let next = eventually_some("the due time is known", async || {
        host.store.next_due().await.unwrap().filter(|due| *due > clock.now())
    })
    .await;
    assert_eq!(next, due, "now {:?}", clock.now());
    clock.advance(Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_asks_to_come_again_comes_at_its_time_and_has_waited() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = with_guest_agent(&outside).run().await;
    host.partner_says(&outside, "t1", "ask-again-once 30000").await;
    waits_until(&host, &clock, ("ask-again-once", 1), NOW.plus(Duration::from_secs(30))).await;
    let record = host.closed("ask-again-once").await;
    assert_eq!((record.state, record.tries, record.waits), (TurnState::Delivered, 0, 1), "{record:?}");
    assert_eq!(record.reply.unwrap().text, "now");
    assert_eq!(outside.partner.replies().len(), 1, "nothing was said before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_always_asks_to_come_again_ends_when_it_has_waited_enough() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = with_guest_agent(&outside)
        .with_delivery(|delivery| delivery.wait_max = Duration::from_secs(70))
        .run()
        .await;
    host.partner_says(&outside, "t1", "ask-again 30000").await;
    // The last wait is shortened to what is left.
    for (waits, after) in [(1, 30), (2, 60), (3, 70)] {
        waits_until(&host, &clock, ("ask-again", waits), NOW.plus(Duration::from_secs(after))).await;
    }
    let record = host.closed("ask-again").await;
    assert_eq!((record.state, record.tries, record.waits), (TurnState::Dead, 0, 3), "{record:?}");
    let (error, blame) = record.last_error.unwrap();
    assert!(error.contains("asked to be run again later"), "{error}");
    assert_eq!(blame.as_deref(), Some("plugin"));
    let replies = outside.partner.replies().all();
    assert_eq!((replies.len(), replies[0].reply.text.as_str()), (1, NOTICE));
}

/// Fields of a line of a plugin's log.
type Fields = BTreeMap<&'static str, String>;

/// The lines of all plugins in this process. Written by hand: what makes a log of them lives in the server alone.
static LINES: LazyLock<Mutex<Vec<Fields>>> = LazyLock::new(Mutex::default);

struct PluginLines;

impl Subscriber for PluginLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(BTreeMap::new());
        event.record(&mut line);
        LINES.lock().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(Fields);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_prints_goes_into_the_log_under_its_name_and_version() {
    tracing::subscriber::set_global_default(PluginLines).unwrap();
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    host.partner_says(&outside, "t1", "print a-word\u{1b}[2J").await;
    assert_eq!(said(&host, "print").await, "printed");
    for text in ["out a-word", "err a-word"] {
        let line = eventually_some("the line is in the log", async || {
            LINES.lock().iter().find(|line| line["message"].starts_with(text)).cloned()
        })
        .await;
        assert_eq!((&*line["plugin"], &*line["version"]), ("agent", "0.1.0"), "{line:?}");
        assert!(!line["message"].contains('\u{1b}'), "a terminal would obey it: {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_hands_over_to_whom_the_person_may_reach_and_to_nobody_else() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "agent")
        .agent("hr", "assistant")
        .only_from("hr", "slack", Some("C0PEOPLE"))
        .slack("slack", "support")
        .run()
        .await;
    let from = |room: &str, text: &str| Say {
        channel: room.to_owned(),
        user: "U1".to_owned(),
        text: text.to_owned(),
        ..Say::default()
    };
    host.slack_says(&outside, &from("C0PUBLIC", "hand-over-hr one")).await;
    let refused = host.closed("hand-over-hr one").await;
    assert_eq!(refused.state, TurnState::Dead, "{refused:?}");
    let (error, blame) = refused.last_error.unwrap();
    assert!(error.contains("handed over to `hr`, which may not be reached from here"), "{error}");
    assert_eq!(blame.as_deref(), Some("plugin"));
    assert!(refused.decisions.iter().all(|(_, decision)| decision.agent.as_str() == "support"));
    assert!(host.store.ledger(10).await.unwrap().rows.is_empty(), "hr asks a model as soon as it runs");
    assert_eq!(outside.slack.posts().all()[0].text, NOTICE);
    // The same agent, the same wish, where the policy allows it.
    host.slack_says(&outside, &from("C0PEOPLE", "hand-over-hr two")).await;
    let allowed = host.closed("hand-over-hr two").await;
    assert_eq!((allowed.state, allowed.outbox.unwrap().agent.as_str()), (TurnState::Delivered, "hr"));
    assert_eq!(host.store.ledger(10).await.unwrap().rows.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_for_behind_a_failure_is_not_paid_again() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).billed_model(&outside).run().await;
    let host = crashed(host, &outside, &[Fault::Status(503), ANSWERED], "fallback #q").await;
    let record = host.closed("fallback").await;
    assert_eq!((record.state, record.crashes, record.waits), (TurnState::Delivered, 1, 0), "{record:?}");
    assert!(record.reply.unwrap().text.starts_with("failed | You said: #q"), "the failure stays one");
    assert_eq!(outside.provider.bills().len(), 2, "the second question came from the journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_a_model_is_asked_costs_nothing() {
    let outside = Outside::new().await;
    let agent = with_guest_agent(&outside).billed_model(&outside).run().await;
    for behaviour in ["trap", "giant", "unsuitable", "hand-over-ghost"] {
        agent.partner_says(&outside, behaviour, behaviour).await;
        assert_eq!(agent.closed(behaviour).await.state, TurnState::Dead, "{behaviour}");
    }
    assert!(agent.store.ledger(10).await.unwrap().rows.is_empty());
    agent.partner_says(&outside, "t1", "model #q").await;
    assert_eq!(agent.closed("model").await.state, TurnState::Delivered);
    assert_eq!(agent.store.ledger(10).await.unwrap().rows.len(), 1, "and it is seen when one is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_may_not_bring_in_costs_nothing() {
    let outside = Outside::new().await;
    for (behaviour, turns) in [
        ("receive-trap", 0),
        ("receive-malformed", 0),
        ("receive-many", 0),
        ("lie-sender", 0),
        ("no-dedupe", 0),
        // So that a ledger is known to show something.
        ("honest", 1),
    ] {
        let host = host(&outside)
            .agent("support", "assistant")
            .billed_model(&outside)
            .guest_channel("guest", behaviour, "support")
            .run()
            .await;
        let body = json!({ "id": "m1", "room": "r1", "sender": "ann", "text": "hello" }).to_string();
        let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
        let taken = host.receive("guest", signed.webhook()).await;
        assert_eq!((taken.is_ok(), host.turns().await), (turns == 1, turns), "{behaviour}: {taken:?}");
        host.drained().await;
        assert_eq!(host.store.ledger(10).await.unwrap().rows.len(), turns, "{behaviour}");
    }
    assert_eq!(outside.provider.bills().len(), 1);
}
