//! Plugins that misbehave, in a whole host: each misbehaviour ends its own call only, is told with the plugin's
//! name and version, and the person hears of it. What may not run is refused when it is loaded.

use std::time::Duration;

use bytes::Bytes;
use chela_engine::{Error, Webhook};
use chela_sandbox::{Reason, Refusal};
use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_store::{TurnRecord, TurnState};
use chela_tests::guests::{self, imports};
use chela_tests::outside::{GUEST_TOKEN, PARTNER_SECRET};
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, NOTICE, Outside, Setup, host, say};
use serde_json::json;

/// Short enough that a loop does not hold up the tests, long enough for everything that is honest.
const DEADLINE: Duration = Duration::from_millis(500);

/// A host whose agent misbehaves as the first word of a message says.
fn with_guest_agent(outside: &Outside) -> Setup {
    host(outside)
        .agent("support", "agent")
        .with_plugin("agent", |plugin| {
            plugin.limits.deadline = DEADLINE;
            plugin.limits.memory_bytes = 16 << 20;
            plugin.limits.host_calls = 50;
        })
        .webhook("partner", "support")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_of_an_agent_ends_its_call_only_and_becomes_a_dead_letter() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    let cases = [
        ("trap", "trapped"),
        ("loop", "no answer within 500 ms"),
        ("sleep", "no answer within 500 ms"),
        ("flood-log", "no answer within 500 ms"),
        ("memory", "memory limit of 16 MiB"),
        ("recursion", "trapped"),
        ("host-calls", "host call limit of 50"),
        ("giant", "limit of"),
        ("blocks", "limit of"),
        ("unsuitable", "as told"),
        ("hand-over-ghost", "handed over to `ghost`"),
    ];
    for (behaviour, _) in cases {
        host.partner_says(&outside, behaviour, behaviour).await;
    }
    host.partner_says(&outside, "good", "hello").await;
    for (behaviour, expected) in cases {
        let record = host.closed(behaviour).await;
        assert_dead(behaviour, &record, expected);
        let notice = outside.partner.replies().wait_for(|reply| reply.reply.thread == behaviour).await;
        assert_eq!(notice.reply.text, NOTICE, "{behaviour}");
    }
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
    assert_eq!(outside.partner.replies().len(), cases.len() + 1, "one answer for each");
}

fn assert_dead(behaviour: &str, record: &TurnRecord, expected: &str) {
    assert_eq!(record.state, TurnState::Dead, "{behaviour}: {record:?}");
    let (error, blame) = record.last_error.clone().expect("an error");
    assert!(error.contains(expected), "{behaviour}: expected `{expected}` in `{error}`");
    assert_eq!(blame.as_deref(), Some("plugin"), "{behaviour}: {error}");
    // What the sandbox ends carries the plugin's name and version; what the agent itself says, the agent's name.
    let stamped = error.contains("plugin `agent` 0.1.0") || error.contains("agent `support`");
    assert!(stamped, "{behaviour}: {error}");
    // The third failure is the end, and is not counted as one that is tried again.
    assert_eq!((record.tries, record.crashes, record.waits), (2, 0, 0), "{behaviour}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_names_an_outage_where_there_was_none_is_blamed_itself() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    host.partner_says(&outside, "t1", "unavailable").await;
    let record = host.closed("unavailable").await;
    assert_eq!((record.state, record.waits), (TurnState::Dead, 0), "{record:?}");
    assert_eq!(record.last_error.unwrap().1.as_deref(), Some("plugin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_to_the_human_who_takes_over_is_in_the_record() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    host.partner_says(&outside, "t1", "escalate").await;
    let record = host.closed("escalate").await;
    assert_eq!((record.state, record.outcome.as_deref()), (TurnState::Delivered, Some("escalated: as told")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_model_is_slow_waits_and_is_not_blamed() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside)
        .with_plugin("agent", |plugin| plugin.limits.deadline = Duration::from_secs(3))
        .billed_model(&outside)
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(Duration::from_secs(3_600)), 1);
    host.partner_says(&outside, "t1", "model wait").await;
    let record = host.closed("model wait").await;
    assert_eq!((record.state, record.tries, record.waits), (TurnState::Delivered, 0, 1), "{record:?}");
    let (error, blame) = record.last_error.unwrap();
    assert!(error.contains("still waited for `models` after 3000 ms"), "{error}");
    assert_eq!(blame.as_deref(), Some("provider"));
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
}

/// A host whose agent may take its time and work for a tenth of a second.
fn with_little_cpu(outside: &Outside) -> Setup {
    with_guest_agent(outside).with_plugin("agent", |plugin| {
        plugin.limits.deadline = Duration::from_secs(20);
        plugin.limits.cpu = Duration::from_millis(100);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_obeyed() {
    let outside = Outside::new().await;
    let host = with_little_cpu(&outside).run().await;
    host.partner_says(&outside, "t1", "sleep 400").await;
    assert_eq!(host.closed("sleep").await.state, TurnState::Delivered, "waiting is no work");
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_violated() {
    let outside = Outside::new().await;
    let host = with_little_cpu(&outside).run().await;
    host.partner_says(&outside, "t1", "loop").await;
    assert_dead("loop", &host.closed("loop").await, "processor time limit of 100 ms");
}

/// A host whose agent is handed 3 KiB at most, and whose model says more than that.
fn with_little_input(outside: &Outside) -> Setup {
    with_guest_agent(outside)
        .with_plugin("agent", |plugin| plugin.limits.input_bytes = 3 << 10)
        .model([say(&"word ".repeat(700))])
}

#[tokio::test(flavor = "multi_thread")]
async fn input_bytes_obeyed() {
    let outside = Outside::new().await;
    let host = with_little_input(&outside).run().await;
    host.partner_says(&outside, "t1", &format!("good {}", "x".repeat(1_000))).await;
    assert_eq!(host.closed("good").await.state, TurnState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_bytes_violated() {
    let outside = Outside::new().await;
    let host = with_little_input(&outside).run().await;
    let long = format!("good {}", "x".repeat(4_000));
    for (text, what) in [(&*long, "an argument"), ("relay more", "what a host call returns")] {
        host.partner_says(&outside, what, text).await;
        assert_dead(what, &host.closed(text).await, "input limit of 3 KiB");
    }
}

/// A host whose agent says 3 KiB at most at once: its answer, or what it asks a model.
fn with_little_output(outside: &Outside) -> Setup {
    with_guest_agent(outside).with_plugin("agent", |plugin| plugin.limits.output_bytes = 3 << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn output_bytes_obeyed() {
    let outside = Outside::new().await;
    let host = with_little_output(&outside).run().await;
    for text in ["good", "relay"] {
        host.partner_says(&outside, text, &format!("{text} {}", "x".repeat(1_000))).await;
        assert_eq!(host.closed(text).await.state, TurnState::Delivered, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_bytes_violated() {
    let outside = Outside::new().await;
    let host = with_little_output(&outside).run().await;
    for text in ["good", "relay"] {
        host.partner_says(&outside, text, &format!("{text} {}", "x".repeat(4_000))).await;
        assert_dead(text, &host.closed(text).await, "output limit of 3 KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_call() {
    let outside = Outside::new().await;
    let host = with_guest_agent(&outside).run().await;
    for number in 0..5 {
        host.partner_says(&outside, "t1", &format!("state {number}")).await;
    }
    host.partner_says(&outside, "t2", "env").await;
    host.drained().await;
    let replies = outside.partner.replies().all();
    let states: Vec<_> =
        replies.iter().filter(|reply| reply.reply.thread == "t1").map(|reply| &*reply.reply.text).collect();
    assert_eq!(states, ["0"; 5], "a counter in the guest's memory starts anew");
    let seen = replies.iter().find(|reply| reply.reply.thread == "t2").unwrap();
    assert_eq!(seen.reply.text, "0 0", "no environment, no arguments");
}

async fn refused(case: &str, setup: Setup) -> chela_sandbox::Error {
    match setup.try_run().await {
        Err(Error::Sandbox(error)) => error,
        Err(other) => panic!("{case}: expected a refusal, got {other}"),
        Ok(_) => panic!("{case}: expected a refusal, and it runs"),
    }
}

/// A host whose only agent has this component, under the manifest of the guest `agent`.
fn with_component(outside: &Outside, component: Vec<u8>) -> Setup {
    let source = guests::get("agent").with_component(component);
    host(outside).plugin("agent", source, json!({})).agent("support", "agent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_may_not_run_is_refused_when_it_is_loaded() {
    let outside = Outside::new().await;
    for (guest, interface) in [("files", "wasi:filesystem"), ("sockets", "wasi:sockets")] {
        let error = refused(guest, host(&outside).agent("support", guest)).await;
        let Reason::Refused(Refusal::Import { interface: found, .. }) = &*error.reason else {
            panic!("{error}")
        };
        assert!(found.starts_with(interface), "{error}");
        assert!(error.to_string().contains(&format!("plugin `{guest}` 0.1.0")), "{error}");
    }
    let whole = guests::get("agent").component.to_vec();
    type Expected = fn(&Refusal) -> bool;
    let cases: [(&str, Vec<u8>, Expected); 6] = [
        ("truncated", whole[..whole.len() / 2].to_vec(), |why| matches!(why, Refusal::Invalid { .. })),
        ("one byte", whole[..1].to_vec(), |why| matches!(why, Refusal::NotWasm)),
        ("nothing", Vec::new(), |why| matches!(why, Refusal::NotWasm)),
        ("text", b"fn main() {}".to_vec(), |why| matches!(why, Refusal::NotWasm)),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), |why| matches!(why, Refusal::CoreModule)),
        ("another world", guests::get("router").component.to_vec(), |why| {
            matches!(why, Refusal::World { .. } | Refusal::Kind { .. })
        }),
    ];
    for (case, component, expected) in cases {
        let error = refused(case, with_component(&outside, component)).await;
        let Reason::Refused(why) = &*error.reason else { panic!("{case}: {error}") };
        assert!(expected(why), "{case}: {why:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_init_stays_in_init() {
    let outside = Outside::new().await;
    let of = |behaviour: &str| {
        let source = guests::get("agent").source();
        host(&outside)
            .plugin("agent", source, json!({ "init": behaviour }))
            .with_plugin("agent", |plugin| plugin.limits.memory_bytes = 16 << 20)
            .agent("support", "agent")
    };
    for behaviour in ["error", "trap", "loop", "memory", "clock", "print"] {
        // What never ends is stopped; the others may take as long as a busy machine needs.
        let wall = if behaviour == "loop" { Duration::from_secs(3) } else { chela_sandbox::Compiler::WALL };
        let error = refused(behaviour, of(behaviour).compile_wall(wall)).await;
        let text = error.to_string();
        assert!(text.contains("plugin `agent` 0.1.0") && text.contains("init"), "{behaviour}: {text}");
        assert!(matches!(&*error.reason, Reason::Refused(_)), "{behaviour}: {text}");
        assert_eq!(text.contains("chela_sdk::log"), behaviour == "print", "{behaviour}: {text}");
    }
    // The pair: what init may do. Four megabytes of prepared state come with the snapshot.
    let host = of("large").webhook("partner", "support").run().await;
    host.partner_says(&outside, "t1", "init").await;
    host.closed("init").await;
    assert_eq!(outside.partner.replies().all()[0].reply.text, format!("{} bytes", 4 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_router_does_there_is_an_answer_and_the_record_says_why() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .agent("hr", "assistant")
        .only_from("hr", "slack", Some("C0PEOPLE"))
        .router("router", json!({}))
        .with_plugin("router", |plugin| {
            plugin.limits.deadline = DEADLINE;
            plugin.limits.memory_bytes = 16 << 20;
            plugin.limits.host_calls = 50;
            plugin.limits.output_bytes = 1 << 20;
        })
        .slack("slack", "support")
        .webhook("partner", "support")
        .run()
        .await;
    let cases = [
        ("trap", "trapped"),
        ("loop", "no answer within 500 ms"),
        ("memory", "memory limit of 16 MiB"),
        ("flood-log", "no answer within 500 ms"),
        ("host-calls", "host call limit of 50"),
        ("giant", "limit of"),
        ("alternatives", "limit of"),
        ("ghost", "router chose `ghost`"),
        ("unauthorised", "router chose `hr`"),
        ("none", "no match: as told"),
        ("error", "router reported: as told"),
    ];
    for (behaviour, expected) in cases {
        host.partner_says(&outside, behaviour, behaviour).await;
        let record = host.closed(behaviour).await;
        let (_, decision) = &record.decisions[0];
        assert_eq!((record.state, decision.agent.as_str()), (TurnState::Delivered, "support"), "{behaviour}");
        let overruled = decision.overruled.clone().unwrap_or_default();
        assert!(overruled.contains(expected), "{behaviour}: expected `{expected}` in `{overruled}`");
    }
    // The same wish where the policy allows it.
    let say = Say {
        channel: "C0PEOPLE".to_owned(),
        user: "U1".to_owned(),
        text: "unauthorised too".to_owned(),
        ..Say::default()
    };
    host.slack_says(&outside, &say).await;
    let record = host.closed("unauthorised too").await;
    assert_eq!((record.decisions[0].1.agent.as_str(), &record.decisions[0].1.overruled), ("hr", &None));
    // State does not outlive a call, and a score that is no number is none.
    for text in ["state one", "state two", "score"] {
        host.partner_says(&outside, text, text).await;
    }
    assert_eq!(host.closed("state one").await.decisions[0].1.reason, "0");
    assert_eq!(host.closed("state two").await.decisions[0].1.reason, "0");
    assert!(host.closed("score").await.decisions[0].1.score.abs() < f32::EPSILON);
}

/// A request of the guest channel's platform.
fn posted(outside: &Outside, id: &str, room: &str) -> Webhook {
    let body = json!({ "id": id, "room": room, "sender": "ann", "text": "hello" });
    let body = Bytes::from(serde_json::to_vec(&body).unwrap());
    Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body).webhook()
}

async fn with_guest_channel(outside: &Outside, behaviour: &str) -> Host {
    host(outside)
        .agent("support", "assistant")
        .guest_channel("guest", behaviour, "support")
        .with_plugin("channel", |plugin| plugin.limits.deadline = DEADLINE)
        .run()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_channel_is_taken_at_its_word() {
    let outside = Outside::new().await;
    let host = with_guest_channel(&outside, "honest").await;
    assert_eq!(host.receive("guest", posted(&outside, "m1", "r1")).await.unwrap().status, 200);
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
    let sent = outside.bare.posted();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].body, json!({ "room": "r1", "text": "You said: hello" }));
    assert_eq!((&*sent[0].path, &*sent[0].authorization), ("/post", &*format!("Bearer {GUEST_TOKEN}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_lies_about_what_came_in_is_refused_and_nothing_is_kept() {
    let outside = Outside::new().await;
    for behaviour in ["lie-sender", "lie-conversation", "lie-dedupe", "lie-swap", "no-dedupe", "receive-many"]
    {
        let host = with_guest_channel(&outside, behaviour).await;
        let answer = host.receive("guest", posted(&outside, "m1", "r1")).await;
        assert!(matches!(answer, Err(Error::Forged { .. })), "{behaviour}: {answer:?}");
        assert_eq!(host.turns().await, 0, "{behaviour}");
    }
    for behaviour in ["receive-trap", "receive-loop", "receive-giant", "receive-other"] {
        let host = with_guest_channel(&outside, behaviour).await;
        let answer = host.receive("guest", posted(&outside, "m1", "r1")).await;
        let blame = answer.as_ref().map_err(chela_types::Fault::blame);
        assert_eq!(blame, Err(chela_types::Blame::Plugin), "{behaviour}: {answer:?}");
        assert_eq!(host.turns().await, 0, "{behaviour}");
    }
    assert_eq!(outside.bare.posted(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_lies_about_where_an_answer_goes_sends_nothing() {
    let outside = Outside::new().await;
    for behaviour in [
        "other-target",
        "no-target",
        "two-targets",
        "not-json",
        "ghost-endpoint",
        "header",
        "header-injection",
        "giant-state",
        "render-trap",
        "render-loop",
        "render-giant",
        "render-error",
    ] {
        let host = with_guest_channel(&outside, behaviour).await;
        assert_eq!(host.receive("guest", posted(&outside, "m1", "r1")).await.unwrap().status, 200);
        let record = host.closed("hello").await;
        // Not even the notice could be said.
        assert_eq!(record.state, TurnState::Dead, "{behaviour}: {record:?}");
        assert_eq!(
            record.last_error.as_ref().and_then(|(_, blame)| blame.as_deref()),
            Some("plugin"),
            "{behaviour}"
        );
        assert_eq!(outside.bare.posted(), [], "{behaviour}");
        drop(host);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_never_ends_is_stopped() {
    let outside = Outside::new().await;
    let host = with_guest_channel(&outside, "sent-forever").await;
    host.receive("guest", posted(&outside, "m1", "r1")).await.unwrap();
    assert_eq!(host.closed("hello").await.state, TurnState::Undelivered);
    assert!(outside.bare.posted().len() <= 16, "as many requests as one answer may take");
}

#[test]
fn our_own_components_import_no_files_no_sockets_and_no_network() {
    let reaches_out = |component: &[u8]| {
        let forbidden = ["wasi:filesystem/", "wasi:sockets/", "wasi:http/"];
        imports(component)
            .into_iter()
            .filter(|name| forbidden.iter().any(|start| name.starts_with(start)))
            .collect::<Vec<_>>()
    };
    let mut seen = 0;
    for plugin in chela_bundle::all() {
        assert!(
            imports(plugin.component).iter().any(|name| name.starts_with("chela:plugin/")),
            "{}",
            plugin.name
        );
        assert_eq!(reaches_out(plugin.component), Vec::<String>::new(), "{}", plugin.name);
        seen += 1;
    }
    assert_eq!(seen, 5);
    // The same look at guests that do reach out, so that it is known to see something.
    assert!(!reaches_out(guests::get("files").component).is_empty());
    assert!(!reaches_out(guests::get("sockets").component).is_empty());
}
