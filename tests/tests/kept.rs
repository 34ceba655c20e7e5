//! Components that were built against a released contract run as they did then. They are files, and never built anew:
//! see `tests/kept/README.md`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use chela_sandbox::Source;
use chela_server::standin::slack::Say;
use chela_store::TurnState;
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, Outside, Setup, guests, host, say, tree};
use chela_types::RoutedBy;
use serde_json::json;

const CONTRACT: &str = "0.1.0";

fn folder(name: &str) -> PathBuf {
    tree::root().join("tests/kept").join(CONTRACT).join(name)
}

/// A plugin of this setup is the kept one of this name.
fn kept(setup: Setup, plugin: &str, name: &str) -> Setup {
    setup.with_plugin(plugin, |plugin| plugin.source = Source::Folder(folder(name)))
}

/// What the turn of `text` was answered with.
async fn said(host: &Host, text: &str) -> String {
    let record = host.closed(text).await;
    assert_eq!(record.state, TurnState::Delivered, "{record:?}");
    record.reply.expect("an answer").text
}

#[test]
fn what_is_kept_is_what_was_kept() {
    let list = std::fs::read_to_string(folder("digests.txt")).unwrap();
    let listed: BTreeSet<(String, String)> = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(digest, name)| (name.to_owned(), digest.to_owned()))
        .collect();
    let found = tree::folders(&format!("tests/kept/{CONTRACT}")).into_iter().map(|name| {
        let component = std::fs::read(folder(&name).join(format!("{name}.wasm"))).unwrap();
        (name, guests::kept_as(&component).to_string())
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), listed);
    assert_eq!(listed.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_router_an_agent_and_slack() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [{ "agent": "hr", "phrases": ["payslip"] }] });
    let setup = host(&outside)
        .agent("support", "assistant")
        .agent("hr", "assistant")
        .router("keyword", rules)
        .slack("slack", "support")
        .model([say("It comes on the 25th.")]);
    let setup = kept(kept(kept(setup, "assistant", "assistant"), "keyword", "keyword"), "slack", "slack");
    let host = setup.run().await;
    let say = Say {
        channel: "C0PUBLIC".to_owned(),
        user: "U1".to_owned(),
        text: "where is my payslip".to_owned(),
        ..Say::default()
    };
    host.slack_says(&outside, &say).await;
    assert_eq!(said(&host, "payslip").await, "It comes on the 25th.");
    let record = host.closed("payslip").await;
    let decision = &record.decisions[0].1;
    assert!(matches!(decision.by, RoutedBy::Router { .. }), "{decision:?}");
    assert_eq!((decision.agent.as_str(), &decision.overruled), ("hr", &None));
    assert_eq!(outside.slack.posts().all()[0].text, "It comes on the 25th.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_webhook_and_guests_that_ask() {
    let outside = Outside::new().await;
    let setup = host(&outside)
        .agent("support", "agent")
        .agent("hr", "agent")
        .router("router", json!({}))
        .webhook("partner", "support");
    let setup =
        kept(kept(kept(setup, "agent", "guest-agent"), "router", "guest-router"), "webhook", "webhook");
    let host = setup.run().await;
    for (text, answer) in [
        ("memory-kv 1", "1@1 1@1 1@1 true false"),
        ("relay one two", "You said: one two"),
        ("stream one two three four", "true: You said: one two three four"),
    ] {
        let thread = text.split(' ').next().unwrap_or_default();
        host.partner_says(&outside, thread, text).await;
        let said = said(&host, text).await;
        assert!(said.trim_end().ends_with(answer), "{text}: {said}");
        let reply = outside.partner.replies().wait_for(|reply| reply.reply.thread == thread).await;
        assert_eq!(reply.reply.text, said);
    }
    // The router asks a model, and does as it says.
    host.partner_says(&outside, "t1", "model and nobody knows").await;
    let decision = &host.closed("model and nobody").await.decisions[0].1;
    let overruled = decision.overruled.as_deref().unwrap_or_default();
    assert!(overruled.starts_with("router chose `You`"), "{decision:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_web_chat_and_the_first_lesson() {
    let outside = Outside::new().await;
    let setup = host(&outside).agent("support", "echo").web_chat("web", "support");
    let host = kept(kept(setup, "echo", "echo-agent"), "web-chat", "web-chat").run().await;
    host.visitor_says("web", "is anybody there").await;
    assert_eq!(said(&host, "anybody").await, "You said: is anybody there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_adapter_of_another_platform() {
    let outside = Outside::new().await;
    let setup = host(&outside).agent("support", "echo").guest_channel("guest", "honest", "support");
    let host = kept(kept(setup, "echo", "echo-agent"), "channel", "guest-channel").run().await;
    let body = json!({ "id": "m1", "room": "r1", "sender": "ann", "text": "hello" });
    let body = Bytes::from(serde_json::to_vec(&body).unwrap());
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
    assert_eq!(host.receive("guest", signed.webhook()).await.unwrap().status, 200);
    assert_eq!(said(&host, "hello").await, "You said: hello");
    assert_eq!(outside.bare.posted()[0].body, json!({ "room": "r1", "text": "You said: hello" }));
}
