//! What goes wrong around a turn: platforms that take an answer and do not say so, crashes in the middle of a
//! hand-over, configurations that change while a turn waits, floods for one agent.

use std::time::Duration;

use chela_engine::{Ambiguous, Error};
use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_store::TurnState;
use chela_tests::outside::{GUEST_ID, PARTNER_SECRET};
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, NOTICE, Outside, eventually, host, say};
use chela_types::{Clock, Millis};
use secrecy::SecretString;
use serde_json::json;

const NOW: Millis = Millis(1_760_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn public(user: &str, text: &str) -> Say {
    Say { channel: "C0PUBLIC".to_owned(), user: user.to_owned(), text: text.to_owned(), ..Say::default() }
}

/// A message for the channel `guest`.
async fn guest_says(host: &Host, outside: &Outside, id: &str, text: &str) {
    guest_hears(host, outside, "ann", (id, text)).await;
}

async fn guest_hears(host: &Host, outside: &Outside, sender: &str, (id, text): (&str, &str)) {
    let body = json!({ "id": id, "room": "r1", "sender": sender, "text": text }).to_string();
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
    assert_eq!(host.receive("guest", signed.webhook()).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_took_and_did_not_confirm_is_counted_and_repeated_or_not_as_the_channel_says() {
    for (policy, posts, state) in [
        (Ambiguous::AtLeastOnce, 2, TurnState::Delivered),
        (Ambiguous::AtMostOnce, 1, TurnState::Undelivered),
    ] {
        let outside = Outside::new().await;
        let host = host(&outside)
            .agent("support", "assistant")
            .slack("slack", "support")
            .with_channel("slack", |channel| channel.ambiguous = policy)
            .run()
            .await;
        outside.slack.faults().inject(&Fault::Late(502), 1);
        host.slack_says(&outside, &public("U1", "hello")).await;
        let record = host.closed("hello").await;
        assert_eq!((record.state, outside.slack.posts().len()), (state, posts), "{policy:?}");
        assert_eq!(host.store.counts().await.unwrap().ambiguous, 1, "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_says_it_did_not_take_is_sent_again_whatever_the_channel_says() {
    for policy in [Ambiguous::AtLeastOnce, Ambiguous::AtMostOnce] {
        let outside = Outside::new().await;
        let host = host(&outside)
            .agent("support", "assistant")
            .slack("slack", "support")
            .with_channel("slack", |channel| channel.ambiguous = policy)
            .run()
            .await;
        // Slack refuses with 200.
        outside.slack.faults().inject(&Fault::Refusal("ratelimited".to_owned()), 1);
        host.slack_says(&outside, &public("U1", "hello")).await;
        assert_eq!(host.closed("hello").await.state, TurnState::Delivered, "{policy:?}");
        assert_eq!((outside.slack.posts().len(), host.store.counts().await.unwrap().ambiguous), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_fails_after_the_platform_took_the_answer_does_not_send_it_again() {
    for policy in [Ambiguous::AtLeastOnce, Ambiguous::AtMostOnce] {
        let outside = Outside::new().await;
        let host = host(&outside)
            .agent("support", "assistant")
            .guest_channel("guest", "sent-trap", "support")
            .with_channel("guest", |channel| channel.ambiguous = policy)
            .run()
            .await;
        guest_says(&host, &outside, "m1", "hello").await;
        let record = host.closed("hello").await;
        assert_eq!((record.state, outside.bare.posted().len()), (TurnState::Undelivered, 1), "{policy:?}");
        assert!(record.last_error.unwrap().0.contains("took a part"));
        assert_eq!(host.store.counts().await.unwrap().ambiguous, 0, "it is known that it has it");
    }
}

/// Its request left in the run that is its last: the notice must not take the place of what may have been said.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_which_a_request_has_left_is_given_up_and_not_replaced() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .model([say("status 429")])
        .with_delivery(|delivery| delivery.tries_max = 1)
        .guest_channel("guest", "sent-trap", "support")
        .run()
        .await;
    guest_says(&host, &outside, "m1", "hello").await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.crashes), (TurnState::Undelivered, 0), "{record:?}");
    assert_eq!(outside.bare.posted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_never_confirms_gets_an_answer_a_few_times_only() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .with_delivery(|delivery| delivery.unknown_max = 3)
        .slack("slack", "support")
        .run()
        .await;
    outside.slack.faults().inject(&Fault::Drop, 50);
    host.slack_says(&outside, &public("U1", "hello")).await;
    assert_eq!(host.closed("hello").await.state, TurnState::Undelivered);
    assert_eq!((outside.slack.posts().len(), host.store.counts().await.unwrap().ambiguous), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_puts_an_answer_off_for_ever_does_not_park_the_conversation() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = host(&outside)
        .agent("support", "assistant")
        .with_delivery(|delivery| delivery.wait_max = HOUR)
        .guest_channel("guest", "render-retry-never", "support")
        .run()
        .await;
    guest_says(&host, &outside, "m1", "the first").await;
    eventually("it is put off", async || {
        let counts = host.store.counts().await.unwrap();
        counts.answered == 1 && counts.leased == 0
    })
    .await;
    clock.advance(HOUR);
    assert_eq!(host.closed("the first").await.state, TurnState::Undelivered);
}

/// The Slack adapter leaves its own posts out as well; this one does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_leaves_an_accounts_own_posts_out_whatever_its_adapter_does() {
    let outside = Outside::new().await;
    let host =
        host(&outside).agent("support", "assistant").guest_channel("guest", "honest", "support").run().await;
    eventually("the host knows its own id", async || {
        host.engine.channel_health().iter().any(|channel| channel.own_ids.iter().any(|id| id == GUEST_ID))
    })
    .await;
    guest_hears(&host, &outside, GUEST_ID, ("m1", "an own post")).await;
    guest_hears(&host, &outside, "ann", ("m2", "a person's post")).await;
    host.closed("a person's post").await;
    assert_eq!((host.turns().await, outside.bare.posted().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_checked_in_what_the_platform_will_read() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .guest_channel("guest", "form-body", "support")
        .run()
        .await;
    guest_says(&host, &outside, "m1", "hello").await;
    host.closed("hello").await;
    let types: Vec<_> = outside.bare.posted().into_iter().map(|posted| posted.content_type).collect();
    assert_eq!(types, ["application/json; charset=utf-8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notice_after_an_outage_has_a_delivery_of_its_own() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .with_delivery(|delivery| delivery.wait_max = Duration::from_secs(60))
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Status(503), 1_000);
    outside.partner.faults().inject(&Fault::TooMany { retry_after: 1 }, 1);
    host.partner_says(&outside, "t1", "hello").await;
    eventually("the turn waits", async || host.find("hello").await.is_some_and(|turn| turn.waits > 0)).await;
    clock.advance(Duration::from_secs(61));
    eventually("the partner asks to wait", async || outside.partner.faults().is_spent()).await;
    eventually("the notice is put off", async || host.store.counts().await.unwrap().leased == 0).await;
    clock.advance(Duration::from_secs(2));
    assert_eq!(host.closed("hello").await.state, TurnState::Dead);
    assert_eq!(outside.partner.replies().all()[0].reply.text, NOTICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_hand_over_a_crash_pays_nothing_twice() {
    let outside = Outside::new().await;
    let behaviour = |name: &'static str| {
        move |agent: &mut chela_engine::AgentConfig| {
            agent.config.insert("behaviour".to_owned(), json!(name));
        }
    };
    let host = host(&outside)
        .agent("alpha", "agent")
        .with_agent("alpha", behaviour("ask-hand-over"))
        .agent("beta", "agent")
        .with_agent("beta", behaviour("double"))
        .billed_model(&outside)
        .webhook("partner", "alpha")
        .run()
        .await;
    // Alpha asks, hands over, beta asks; its second question meets a provider that thinks for an hour.
    outside.provider.faults().inject(&Fault::Delay(Duration::ZERO), 2);
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "hello #q").await;
    eventually("the third question is asked", async || outside.provider.faults().is_spent()).await;
    assert_eq!(outside.provider.bills().len(), 2);
    let host = host.crash().restart().await;
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
    assert_eq!(outside.provider.bills().len(), 3, "two answers came from the journal");
    assert_eq!(outside.partner.replies().all()[0].reply.agent, "beta");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_the_policy_no_longer_allows_is_taken_anew() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [{ "agent": "hr", "phrases": ["payslip"] }] });
    let host = host(&outside)
        .agent("support", "assistant")
        .agent("hr", "assistant")
        .router("keyword", rules)
        .billed_model(&outside)
        .webhook("partner", "support")
        .slack("slack", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "my payslip").await;
    eventually("hr is at work", async || outside.provider.faults().is_spent()).await;
    let decided = host.find("payslip").await.unwrap().decisions;
    assert_eq!(decided.last().unwrap().1.agent.as_str(), "hr");
    let mut crashed = host.crash();
    crashed.setup = crashed.setup.only_from("hr", "slack", Some("C0PEOPLE"));
    let host = crashed.restart().await;
    let record = host.closed("payslip").await;
    assert_eq!(record.state, TurnState::Delivered);
    assert_eq!(outside.partner.replies().all()[0].reply.agent, "support");
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_a_channel_that_is_gone_come_to_an_end() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .webhook("partner", "support")
        .slack("slack", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "the first").await;
    host.partner_says(&outside, "t1", "the second").await;
    eventually("the first is at work", async || outside.provider.faults().is_spent()).await;
    let mut crashed = host.crash();
    crashed.setup = crashed.setup.without_channel("partner");
    let host = crashed.restart().await;
    for text in ["the first", "the second"] {
        assert_eq!(host.closed(text).await.state, TurnState::Dead, "{text}");
    }
    assert!(outside.provider.bills().is_empty(), "and no model is asked for them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_stops_the_host_runs_alone_and_takes_nobody_with_it() {
    let (outside, clock) = Outside::at(NOW).await;
    let mut host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .with_delivery(|delivery| delivery.crashes_max = 4)
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1_000);
    for thread in ["t1", "t2", "t3"] {
        host.partner_says(&outside, thread, thread).await;
    }
    for running in [3, 3, 1, 1] {
        // Twice: those that may not run are sent away, come back a second later, and are sent away again.
        for _ in 0..2 {
            eventually("as many as may are at work, and the others are put off", async || {
                let counts = host.store.counts().await.unwrap();
                let put_off = host.store.next_due().await.unwrap().is_none_or(|due| due > clock.now());
                (counts.leased, counts.open_reservations) == (running, running) && put_off
            })
            .await;
            clock.advance(Duration::from_secs(1));
        }
        host = host.crash().restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_for_one_agent_leaves_room_for_another() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [{ "agent": "slow", "phrases": ["flood"] }] });
    let host = host(&outside)
        .agent("slow", "assistant")
        .with_agent("slow", |agent| agent.concurrency = 1)
        .agent("quick", "agent")
        .router("keyword", rules)
        .billed_model(&outside)
        .turns_max(8)
        .webhook("partner", "quick")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1_000);
    for thread in 0..100 {
        host.partner_says(&outside, &format!("f{thread}"), "flood").await;
    }
    host.partner_says(&outside, "t1", "hello").await;
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
    assert_eq!(host.store.counts().await.unwrap().delivered, 1, "while the other agent is full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapses_under_a_run_ends_that_run_and_one_follows() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "hello").await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    // The machine's clock jumps over the lease: the turn is claimed again.
    clock.advance(Duration::from_secs(16));
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.crashes), (TurnState::Delivered, 1), "{record:?}");
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_plugins_are_kept_short_and_control_nothing() {
    let outside = Outside::new().await;
    let host = host(&outside).agent("support", "agent").webhook("partner", "support").run().await;
    host.partner_says(&outside, "t1", "wordy").await;
    let (error, _) = host.closed("wordy").await.last_error.unwrap();
    assert!(error.len() < 700 && !error.contains(char::is_control), "{} bytes: {error:.80}", error.len());
    assert!(error.contains("words"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_of_the_web_chat_is_an_outsider() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [{ "agent": "hr", "phrases": ["payslip"] }] });
    let setup = host(&outside)
        .agent("support", "assistant")
        .agent("hr", "assistant")
        .with_agent("hr", |agent| agent.outsiders = false)
        .router("keyword", rules)
        .web_chat("web", "support");
    let refused = setup.clone().with_agent("support", |agent| agent.outsiders = false).try_run().await;
    let Err(Error::Configuration(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("[channel.web]") && words.contains("[agent.support] outsiders"), "{words}");
    let host = setup.run().await;
    host.visitor_says("web", "my payslip").await;
    let record = host.closed("payslip").await;
    assert_eq!(record.outbox.unwrap().agent.as_str(), "support");
    assert!(record.decisions[0].1.overruled.is_some(), "{:?}", record.decisions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_could_not_answer_is_refused_before_it_takes_a_message() {
    let outside = Outside::new().await;
    let setup = host(&outside).agent("support", "assistant").webhook("partner", "support");
    let no_address = setup.clone().with_channel("partner", |channel| channel.config.clear());
    let bad_secret = setup.with_channel("partner", |channel| {
        channel.secrets.insert("signing_secret".to_owned(), SecretString::from("whsec_not base64"));
    });
    for (setup, word) in [(no_address, "reply_url"), (bad_secret, "signing_secret")] {
        let refused = setup.try_run().await;
        let Err(Error::Configuration(words)) = refused else { panic!("{refused:?}") };
        assert!(words.contains("[channel.partner") && words.contains(word), "{words}");
        assert!(!words.contains("not base64"), "a secret is not repeated");
    }
}
