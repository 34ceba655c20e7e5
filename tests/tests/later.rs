//! What comes after a message: it is edited or deleted, its answer is read or not, or the platform waits for the
//! answer in its own request. And clicks, which come as forms.

use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Acknowledgement, Error};
use chela_gateway::Rule;
use chela_sandbox::Source;
use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_store::{ReceiptState, TurnState};
use chela_tests::guests;
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, Outside, Setup, eventually, host, say};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

fn public(text: &str) -> Say {
    Say { channel: "C0PUBLIC".to_owned(), user: "U1".to_owned(), text: text.to_owned(), ..Say::default() }
}

/// Two agents, and a Slack in which one turn at a time runs: what is said while one hangs, waits.
fn one_at_a_time(outside: &Outside) -> Setup {
    let rules = json!({ "rules": [{ "agent": "sales", "phrases": ["price"] }] });
    host(outside)
        .agent("support", "assistant")
        .agent("sales", "assistant")
        .router("keyword", rules)
        .billed_model(outside)
        .turns_max(1)
        .slack("slack", "support")
}

/// Lets the model hang in a first turn, so that whatever comes now waits.
async fn hold(host: &Host, outside: &Outside) {
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.slack_says(outside, &public("the first")).await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_gives_a_waiting_message_its_new_words_and_comes_too_late_for_one_that_is_begun() {
    let outside = Outside::new().await;
    let host = one_at_a_time(&outside).run().await;
    let first = {
        outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
        host.slack_says(&outside, &public("the first")).await
    };
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    let post = host.slack_says(&outside, &public("teh order")).await;
    let edits = [
        outside.slack.changed(&public("teh order"), &post, Some("the order")).unwrap(),
        outside.slack.changed(&public("the order"), &post, Some("the price")).unwrap(),
    ];
    for edit in &edits {
        assert_eq!(host.slack(&outside, edit).await.unwrap().status, 200);
    }
    // Told again, the older edit changes nothing.
    assert_eq!(host.slack(&outside, &edits[0]).await.unwrap().status, 200);
    // Somebody else's edit, one of a post that never came, and one of what is being answered.
    let foreign = Say { user: "U2".to_owned(), ..public("x") };
    for edit in [
        outside.slack.changed(&foreign, &post, Some("mine now")).unwrap(),
        outside.slack.changed(&public("x"), &edits[0], Some("of nothing")).unwrap(),
        outside.slack.changed(&public("the first"), &first, Some("too late")).unwrap(),
    ] {
        assert_eq!(host.slack(&outside, &edit).await.unwrap().status, 200);
    }
    assert_eq!(host.turns().await, 2, "an edit begins no turn");
    let host = host.crash().restart().await;
    assert_eq!(host.closed("the price").await.state, TurnState::Delivered);
    let routed = host.closed("the price").await.decisions;
    assert_eq!(routed.last().unwrap().1.agent.as_str(), "sales", "it is routed by its new words");
    host.closed("the first").await;
    let mut texts: Vec<String> = outside.slack.posts().all().into_iter().map(|post| post.text).collect();
    texts.sort();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().any(|text| text.contains("the price")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("teh") || text.contains("mine") || text.contains("late")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_withdraws_a_waiting_message_for_good() {
    let outside = Outside::new().await;
    let host = one_at_a_time(&outside).run().await;
    hold(&host, &outside).await;
    let post = host.slack_says(&outside, &public("regretted")).await;
    let in_thread = Say { thread_ts: Some(post.ts.clone()), ..public("and more") };
    host.slack_says(&outside, &in_thread).await;
    let turn = host.find("regretted").await.unwrap().id;
    let deletion = outside.slack.changed(&public("regretted"), &post, None).unwrap();
    assert_eq!(host.slack(&outside, &deletion).await.unwrap().status, 200);
    // The post is told of again, late: it stays withdrawn.
    assert_eq!(host.slack(&outside, &post).await.unwrap().status, 200);
    let record = host.store.turn_record(turn).await.unwrap().unwrap();
    assert_eq!((record.state, record.message), (TurnState::Withdrawn, None), "its words are gone");
    let host = host.crash().restart().await;
    assert_eq!(host.closed("and more").await.state, TurnState::Delivered, "what follows it is answered");
    host.drained().await;
    assert_eq!((host.turns().await, outside.slack.posts().len()), (3, 2));
    assert!(outside.slack.posts().all().iter().all(|post| !post.text.contains("regretted")));
}

/// A request of the guest channel's platform.
fn told(outside: &Outside, body: &Value) -> chela_engine::Webhook {
    Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body.to_string()).webhook()
}

async fn tell(host: &Host, outside: &Outside, body: Value) -> Result<Acknowledgement, Error> {
    host.receive("guest", told(outside, &body)).await
}

fn message(id: &str, text: &str) -> Value {
    json!({ "id": id, "room": "r1", "sender": "ann", "text": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_lies_about_a_change_or_a_status_is_refused() {
    let outside = Outside::new().await;
    let edit = json!({ "kind": "edit", "event": "e1", "post": "m1", "sender": "ann", "text": "x" });
    for behaviour in ["lie-event", "lie-post", "lie-changer", "lie-status"] {
        let host = host(&outside)
            .agent("support", "assistant")
            .guest_channel("guest", behaviour, "support")
            .run()
            .await;
        let body = match behaviour {
            "lie-status" => json!({ "kind": "read", "answer": "p1" }),
            _ => edit.clone(),
        };
        let answer = tell(&host, &outside, body).await;
        assert!(matches!(answer, Err(Error::Forged { .. })), "{behaviour}: {answer:?}");
    }
    // A request that holds no change at all.
    let host =
        host(&outside).agent("support", "assistant").guest_channel("guest", "honest", "support").run().await;
    let hollow = json!({ "kind": "deletion", "event": "e1", "sender": "ann" });
    assert!(matches!(tell(&host, &outside, hollow).await, Err(Error::Forged { .. })));
    assert_eq!(host.turns().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_tells_of_an_answer_stands_beside_it() {
    let outside = Outside::new().await;
    let host =
        host(&outside).agent("support", "assistant").guest_channel("guest", "honest", "support").run().await;
    // Before we know how the platform calls the answer: as quick platforms do.
    tell(&host, &outside, json!({ "kind": "read", "answer": "p1" })).await.unwrap();
    tell(&host, &outside, message("m1", "hello")).await.unwrap();
    host.closed("hello").await;
    let failed = json!({ "kind": "failed", "answer": "p1", "detail": "no\u{1b}[2J device" });
    for _ in 0..2 {
        assert_eq!(tell(&host, &outside, failed.clone()).await.unwrap().status, 200);
    }
    tell(&host, &outside, json!({ "kind": "read", "answer": "p2" })).await.unwrap();
    let outbox = host.closed("hello").await.outbox.unwrap();
    assert_eq!(outbox.platform_id.as_deref(), Some("p1"));
    let receipts: Vec<_> = outbox.receipts.iter().map(|it| (it.state, it.detail.as_deref())).collect();
    assert_eq!(receipts.len(), 2, "told twice, it is one: {receipts:?}");
    assert!(receipts.contains(&(ReceiptState::Read, None)));
    assert!(receipts.contains(&(ReceiptState::Failed, Some("no [2J device"))), "{receipts:?}");
    assert_eq!(host.turns().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_waits_gets_its_answer_in_the_response_and_again_if_it_asks_again() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .webhook("partner", "support")
        .with_channel("partner", |channel| drop(channel.config.insert("wait_ms".to_owned(), json!(10_000))))
        .run()
        .await;
    let body = json!({ "sender": "ann", "text": "hello", "thread_id": "t1" }).to_string();
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
    let first = host.receive("partner", signed.webhook()).await.unwrap();
    let reply: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(
        (first.status, &reply["text"], &reply["thread"]),
        (200, &json!("You said: hello"), &json!("t1"))
    );
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.outbox.unwrap().ambiguous), (TurnState::Delivered, 0));
    // The sender never got the response, and repeats its request.
    assert_eq!(host.receive("partner", signed.webhook()).await.unwrap(), first);
    let host = host.crash().restart().await;
    assert_eq!(host.receive("partner", signed.webhook()).await.unwrap(), first, "also of another host");
    assert_eq!((host.turns().await, outside.partner.replies().len()), (1, 0), "it is said there alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_goes_out_in_the_usual_way() {
    let outside = Outside::new().await;
    let slow = Rule { first_ms: 600, ..say("at last") };
    let host = host(&outside)
        .agent("support", "assistant")
        .model([slow])
        .guest_channel("guest", "wait", "support")
        .run()
        .await;
    let in_time = tell(&host, &outside, message("m1", "one")).await.unwrap();
    assert_eq!(in_time.body, br#"{"said":"at last"}"#);
    let mut hasty = message("m2", "two");
    hasty["wait_ms"] = json!(50);
    let late = tell(&host, &outside, hasty).await.unwrap();
    assert_eq!((late.status, late.body.as_slice()), (202, b"later".as_slice()));
    host.closed("two").await;
    let posted: Vec<Value> = outside.bare.posted().into_iter().map(|posted| posted.body).collect();
    assert_eq!(posted, [json!({ "room": "r1", "text": "at last" })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_comes_as_a_form_and_is_checked_as_any_message() {
    let manifest = guests::get("channel").manifest;
    let manifest = ["id", "room", "sender"].iter().fold(manifest.to_owned(), |text, key| {
        text.replace(&format!("[[\"/{key}\"]]"), &format!("[[\"form:payload/{key}\"]]"))
            .replace(
                &format!("sender = \"/{key}\"\nplace"),
                &format!("sender = \"form:payload/{key}\"\nplace"),
            )
            .replace(&format!("in = [\"/{key}\"]"), &format!("in = [\"form:payload/{key}\"]"))
    });
    let component = guests::get("channel").component.into();
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .guest_channel("guest", "form", "support")
        .with_plugin("channel", |plugin| plugin.source = Source::Embedded { manifest, component })
        .run()
        .await;
    let send = async |body: String| {
        let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
        let mut webhook = signed.webhook();
        webhook.headers[0].1 = "application/x-www-form-urlencoded".to_owned();
        host.receive("guest", webhook).await
    };
    let click = json!({ "id": "c1", "room": "r 1", "sender": "ann", "value": "yes & no" }).to_string();
    let form = |pairs: &[(&str, &str)]| {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    assert_eq!(send(form(&[("token", "t"), ("payload", &click)])).await.unwrap().status, 200);
    assert_eq!(host.closed("yes & no").await.state, TurnState::Delivered);
    assert_eq!(outside.bare.posted()[0].body["room"], "r 1");
    // Two payloads: the guest reads the first, and the host none.
    let twice = form(&[("payload", &click.replace("c1", "c2")), ("payload", &click)]);
    assert!(matches!(send(twice).await, Err(Error::Forged { .. })));
    assert!(send(form(&[("payload", "{")])).await.is_err());
    assert_eq!(host.turns().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wait_at_once_and_each_gets_its_own_answer() {
    let outside = Arc::new(Outside::new().await);
    let host = Arc::new(
        host(&outside).agent("support", "assistant").guest_channel("guest", "wait", "support").run().await,
    );
    let waiting: Vec<_> = (0..100)
        .map(|n| {
            let (host, outside) = (Arc::clone(&host), Arc::clone(&outside));
            tokio::spawn(async move {
                let body = json!({ "id": format!("m{n}"), "room": format!("r{}", n % 7), "sender": "ann",
                    "text": format!("number {n}") });
                let answer = host.receive("guest", told(&outside, &body)).await.unwrap();
                assert_eq!(answer.body, format!("{{\"said\":\"You said: number {n}\"}}").into_bytes());
            })
        })
        .collect();
    for wait in waiting {
        wait.await.unwrap();
    }
    assert_eq!(outside.bare.posted(), []);
}
