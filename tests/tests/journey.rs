//! The way of a message through a whole host: order, duplicates, restrictions, hand-overs, outages, money, delivery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Ambiguous, OverBudget};
use chela_gateway::{AgentTier, Budgets, Limit, Rule, Tier, TierPolicy, Window};
use chela_server::standin::slack::Say;
use chela_server::standin::{Fault, provider};
use chela_store::{Phase, Store, TurnState};
use chela_tests::NOTICE;
use chela_tests::{Outside, eventually, eventually_some, host, say};
use chela_types::{AgentId, Clock, DepartmentId, Millis, Money, RoutedBy, TenantId, TierId};
use serde_json::json;

const DAY_MS: i64 = 24 * 3_600 * 1_000;
const NOW: Millis = Millis(1_760_000_000_000);

fn public(user: &str, text: &str) -> Say {
    Say { channel: "C0PUBLIC".to_owned(), user: user.to_owned(), text: text.to_owned(), ..Say::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_conversation_keeps_its_order_while_many_run() {
    const CONVERSATIONS: usize = 20;
    const MESSAGES: usize = 5;
    let outside = Arc::new(Outside::new().await);
    let host =
        Arc::new(host(&outside).agent("support", "assistant").webhook("partner", "support").run().await);
    let talks: Vec<_> = (0..CONVERSATIONS)
        .map(|talk| {
            let (host, outside) = (Arc::clone(&host), Arc::clone(&outside));
            tokio::spawn(async move {
                for number in 0..MESSAGES {
                    host.partner_says(&outside, &format!("t{talk}"), &format!("message {number}")).await;
                }
            })
        })
        .collect();
    for talk in talks {
        talk.await.unwrap();
    }
    host.drained().await;
    let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reply in outside.partner.replies().all() {
        heard.entry(reply.reply.thread).or_default().push(reply.reply.text);
    }
    let expected: Vec<String> = (0..MESSAGES).map(|number| format!("You said: message {number}")).collect();
    assert_eq!(heard.len(), CONVERSATIONS);
    heard.iter().for_each(|(thread, texts)| assert_eq!(*texts, expected, "{thread}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_post_is_one_turn_however_often_it_is_told() {
    let outside = Outside::new().await;
    let host = host(&outside).agent("support", "assistant").slack("slack", "support").run().await;
    let message = outside.slack.event(&public("U1", "hello")).unwrap();
    // Slack tells of a mention twice: as a message, and as a mention with an event id of its own.
    let ts = Some(message.ts.clone());
    let mention = outside.slack.event(&Say { is_mention: true, ts, ..public("U1", "hello") }).unwrap();
    assert_ne!(message.id, mention.id);
    for event in [&message, &mention, &message, &message] {
        assert_eq!(host.slack(&outside, event).await.unwrap().status, 200);
    }
    let (first, second) = tokio::join!(host.slack(&outside, &mention), host.slack(&outside, &message));
    assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
    host.drained().await;
    assert_eq!((host.turns().await, outside.slack.posts().len()), (1, 1));
    assert_eq!(outside.slack.posts().all()[0].text, "You said: hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_agent_is_reached_from_its_room_only() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [{ "agent": "hr", "phrases": ["payslip"] }] });
    let host = host(&outside)
        .agent("support", "assistant")
        .agent("hr", "assistant")
        .only_from("hr", "slack", Some("C0PEOPLE"))
        .with_agent("hr", |agent| agent.outsiders = false)
        .router("keyword", rules)
        .slack("slack", "support")
        .webhook("partner", "support")
        .run()
        .await;
    let people = |user: &str, text: &str| Say { channel: "C0PEOPLE".to_owned(), ..public(user, text) };
    host.slack_says(&outside, &people("U1", "my payslip one")).await;
    host.slack_says(&outside, &public("U1", "my payslip two")).await;
    let foreign_team = Some("T0OTHER".to_owned());
    host.slack_says(&outside, &Say { foreign_team, ..people("U2", "my payslip three") }).await;
    host.partner_says(&outside, "t1", "my payslip four").await;
    for (text, agent) in [
        ("payslip one", "hr"),
        ("payslip two", "support"),
        ("payslip three", "support"),
        ("payslip four", "support"),
    ] {
        let record = host.closed(text).await;
        let (_, decision) = record.decisions.last().expect("a decision");
        assert_eq!(decision.agent.as_str(), agent, "{text}: {decision:?}");
        assert_eq!(record.outbox.unwrap().agent.as_str(), agent, "{text}");
    }
    let routed = host.closed("payslip one").await.decisions[0].1.clone();
    assert!(matches!(routed.by, RoutedBy::Router { .. }) && routed.overruled.is_none(), "{routed:?}");
    assert!(!routed.reason.contains("my payslip one"), "a reason never holds what was said: {routed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_names_whom_the_router_thought_of_as_well() {
    let outside = Outside::new().await;
    let rules = json!({ "rules": [
        { "agent": "sales", "phrases": ["price"], "priority": 2 },
        { "agent": "technical", "phrases": ["api"], "priority": 1 },
        { "agent": "hr", "phrases": ["payslip"] },
    ] });
    let host = host(&outside)
        .agent("support", "assistant")
        .agent("sales", "assistant")
        .agent("technical", "assistant")
        .agent("hr", "assistant")
        .only_from("hr", "slack", None)
        .router("keyword", rules)
        .slack("slack", "support")
        .webhook("partner", "support")
        .run()
        .await;
    host.partner_says(&outside, "t1", "the price of the api, and my payslip").await;
    let (_, decision) = host.closed("payslip").await.decisions.remove(0);
    let others: Vec<_> = decision.alternatives.iter().map(|other| other.agent.as_str()).collect();
    assert_eq!((decision.agent.as_str(), others), ("sales", vec!["technical"]), "and nobody out of reach");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_hands_over_and_the_next_one_answers() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("alpha", "agent")
        .with_agent("alpha", |agent| drop(agent.config.insert("behaviour".into(), json!("hand-over-loop"))))
        .agent("beta", "agent")
        .with_agent("beta", |agent| drop(agent.config.insert("behaviour".into(), json!("persona"))))
        .webhook("partner", "alpha")
        .run()
        .await;
    host.partner_says(&outside, "t1", "hello").await;
    let record = host.closed("hello").await;
    assert_eq!(outside.partner.replies().all()[0].reply.text, "You are beta.");
    assert_eq!(outside.partner.replies().all()[0].reply.agent, "beta");
    let (_, last) = record.decisions.last().unwrap();
    assert!(matches!(&last.by, RoutedBy::HandOver { from } if from.as_str() == "alpha"), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_hand_over_for_ever_end_in_a_dead_letter_with_a_notice() {
    let outside = Outside::new().await;
    let host =
        host(&outside).agent("alpha", "agent").agent("beta", "agent").webhook("partner", "alpha").run().await;
    host.partner_says(&outside, "t1", "hand-over-loop").await;
    let record = host.closed("hand-over-loop").await;
    assert_eq!(record.state, TurnState::Dead);
    let (error, blame) = record.last_error.unwrap();
    assert!(error.contains("hand-overs") && blame.as_deref() == Some("plugin"), "{error}, {blame:?}");
    assert_eq!(outside.partner.replies().all()[0].reply.text, NOTICE);
    // The conversation goes on.
    host.partner_says(&outside, "t1", "hello").await;
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journaled_model_call_is_not_paid_again_after_a_crash() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "agent")
        .billed_model(&outside)
        .webhook("partner", "support")
        .run()
        .await;
    // The agent asks twice; the first call is answered, the second one meets a provider that thinks for an hour.
    outside.provider.faults().inject(&Fault::Delay(Duration::ZERO), 1);
    outside.provider.faults().inject(&Fault::Delay(Duration::from_secs(3_600)), 1);
    host.partner_says(&outside, "t1", "double #q").await;
    eventually("the second call is on its way", async || outside.provider.faults().is_spent()).await;
    assert_eq!(outside.provider.bills().len(), 1);
    let host = host.crash().restart().await;
    let record = host.closed("double").await;
    assert_eq!(record.state, TurnState::Delivered);
    assert_eq!(outside.provider.bills().len(), 2, "the first call came from the journal");
    assert_eq!((outside.partner.replies().len(), record.crashes), (1, 1));
    let ledger = host.store.ledger(10).await.unwrap();
    assert!(ledger.settled >= outside.provider.total(), "{ledger:?}");
}

/// Found by the kill test: the failure of a model call was in the journal, the crash came before it was forgotten,
/// and from then on every run of the turn read it there and waited again, until the turn was given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_was_journaled_before_a_crash_does_not_last_for_ever() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "agent")
        .billed_model(&outside)
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Status(503), 1);
    // The agent hears of the failure and takes its time to fail itself: the crash comes in between.
    host.partner_says(&outside, "t1", "fail-late").await;
    eventually("the failure is journaled", async || {
        let record = host.find("fail-late").await;
        record.is_some_and(|record| {
            record.journal.iter().any(|(_, function, _)| function.starts_with("models."))
        })
    })
    .await;
    let host = host.crash().restart().await;
    let record = host.closed("fail-late").await;
    assert_eq!((record.state, record.crashes), (TurnState::Delivered, 1), "{record:?}");
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_waits_and_is_nobodys_try() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .webhook("partner", "support")
        .run()
        .await;
    // More failures than one turn's attempts, and more than a plugin's tries.
    outside.provider.faults().inject(&Fault::Status(503), 6);
    host.partner_says(&outside, "t1", "hello").await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.tries), (TurnState::Delivered, 0), "{record:?}");
    assert!(record.waits > 0, "{record:?}");
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_lasts_ends_in_a_notice() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .with_delivery(|delivery| delivery.wait_max = Duration::from_secs(60))
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Status(503), 1_000);
    host.partner_says(&outside, "t1", "hello").await;
    eventually("the turn waits", async || host.find("hello").await.is_some_and(|turn| turn.waits > 0)).await;
    assert_eq!(host.find("hello").await.unwrap().state, TurnState::Open);
    clock.advance(Duration::from_secs(61));
    let record = host.closed("hello").await;
    assert_eq!(
        (record.state, outside.partner.replies().all()[0].reply.text.as_str()),
        (TurnState::Dead, NOTICE)
    );
    assert!(outside.provider.bills().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_budget_no_model_is_asked_and_the_person_is_told() {
    let spent: [fn(&mut Budgets, Vec<Limit>); 4] = [
        |budgets, limit| budgets.agent.all = limit,
        |budgets, limit| budgets.user = limit,
        |budgets, limit| budgets.channel.all = limit,
        |budgets, limit| budgets.department.all = limit,
    ];
    for (nth, spend) in spent.into_iter().enumerate() {
        let to_human = nth == 0;
        let outside = Outside::new().await;
        let limit = Limit { most: Money::from_nanos(1_000).into(), window: Window::Day };
        let host = host(&outside)
            .agent("support", "assistant")
            .with_agent("support", |agent| {
                agent.department = DepartmentId::new("service").ok();
                agent.over_budget = OverBudget { refusal: "No budget, and no answer.".to_owned(), to_human };
            })
            .billed_model(&outside)
            .with_gateway(|gateway| spend(&mut gateway.budgets, vec![limit]))
            .webhook("partner", "support")
            .run()
            .await;
        host.partner_says(&outside, "t1", "hello").await;
        let record = host.closed("hello").await;
        let outcome = if to_human { "escalated: a budget is used up" } else { "reply" };
        assert_eq!((record.state, record.outcome.as_deref()), (TurnState::Delivered, Some(outcome)));
        let replies = outside.partner.replies().all();
        assert!(replies[0].reply.text.contains("No budget, and no answer."), "{replies:?}");
        assert!(outside.provider.bills().is_empty() && outside.provider.faults().is_spent());
        assert_eq!(host.store.ledger(1).await.unwrap().settled, Money::ZERO);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_longer_than_promised_is_answered_by_a_faster_tier() {
    let outside = Outside::new().await;
    let (support, usual) = (AgentId::new("support").unwrap(), TierId::new("usual").unwrap());
    let own = AgentTier { tier: usual.clone(), policy: TierPolicy::Wish };
    let host = host(&outside)
        .agent("support", "assistant")
        .with_agent("support", |agent| {
            agent.tier = usual.clone();
            // Every answer comes later than this.
            agent.answer_within = Some(Duration::ZERO);
        })
        .with_gateway(|gateway| {
            let fast = gateway.tiers[0].clone();
            gateway.tiers.push(Tier { id: usual.clone(), cheaper: Some(fast.id.clone()), ..fast });
            gateway.agents.insert(support, own);
        })
        .webhook("partner", "support")
        .run()
        .await;
    for (text, why) in [("one", "wish"), ("two", "wish"), ("three", "wish"), ("four", "sla")] {
        host.partner_says(&outside, "t1", text).await;
        let record = host.closed(text).await;
        let call = record.calls[0].call.as_ref().unwrap();
        assert_eq!(call.why.as_deref(), Some(why), "{text}: {call:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_charged_to_agent_department_person_and_channel() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .with_agent("support", |agent| agent.department = DepartmentId::new("service").ok())
        .billed_model(&outside)
        .webhook("partner", "support")
        .run()
        .await;
    host.partner_says(&outside, "t1", "hello").await;
    host.closed("hello").await;
    let cost = outside.provider.total();
    assert!(cost > Money::ZERO);
    let day = Millis(outside.clock.now().0 / DAY_MS * DAY_MS);
    for scope in ["agent:support", "department:service", "user:partner/person-t1", "channel:partner"] {
        let budget =
            host.store.budget(&TenantId::default_tenant(), &format!("{scope}/day"), day).await.unwrap();
        assert_eq!((budget.settled, budget.reserved), (cost.nanos(), 0), "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_whose_outcome_is_unknown_is_repeated_or_not_as_the_channel_says() {
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
        outside.slack.faults().inject(&Fault::Drop, 1);
        host.slack_says(&outside, &public("U1", "hello")).await;
        let record = host.closed("hello").await;
        assert_eq!((record.state, outside.slack.posts().len()), (state, posts), "{policy:?}");
        let answered: Vec<bool> = outside.slack.posts().all().iter().map(|post| post.is_answered).collect();
        assert!(!answered[0], "{answered:?}");
        assert_eq!(host.store.counts().await.unwrap().ambiguous, 1, "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_sending_is_counted_and_repeated_or_not_as_the_channel_says() {
    for (policy, posts, state) in [
        (Ambiguous::AtLeastOnce, 1, TurnState::Delivered),
        (Ambiguous::AtMostOnce, 0, TurnState::Undelivered),
    ] {
        let outside = Outside::new().await;
        let host = host(&outside)
            .agent("support", "assistant")
            .slack("slack", "support")
            .with_channel("slack", |channel| channel.ambiguous = policy)
            .run()
            .await;
        outside.slack.faults().inject(&Fault::Delay(Duration::from_secs(3_600)), 1);
        host.slack_says(&outside, &public("U1", "hello")).await;
        eventually("bytes are leaving", async || {
            outside.slack.faults().is_spent()
                && host.store.phases().await.unwrap().contains_key(&Phase::Sending)
        })
        .await;
        let host = host.crash().restart().await;
        let record = host.closed("hello").await;
        assert_eq!((record.state, outside.slack.posts().len()), (state, posts), "{policy:?}");
        assert_eq!(host.store.counts().await.unwrap().ambiguous, 1, "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_lets_what_runs_come_to_its_end() {
    let outside = Outside::new().await;
    let slow = Rule { first_ms: 400, ..say("There you are.") };
    let host =
        host(&outside).agent("support", "assistant").model([slow]).webhook("partner", "support").run().await;
    host.partner_says(&outside, "t1", "hello").await;
    eventually("the model is asked", async || {
        host.store.phases().await.unwrap().contains_key(&Phase::ModelCallOpen)
    })
    .await;
    let stopped = host.stop().await;
    assert_eq!(outside.partner.replies().len(), 1, "it was answered before the host ended");
    let store = Store::open_read_only(stopped.folder()).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.delivered, counts.waiting, counts.leased), (1, 0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bot_wrote_itself_is_ignored() {
    let outside = Outside::new().await;
    let host = host(&outside).agent("support", "assistant").slack("slack", "support").run().await;
    eventually("the host knows its own ids", async || {
        host.engine.channel_health().iter().any(|channel| channel.own_ids.contains(&"U0CHELA".to_owned()))
    })
    .await;
    host.slack_says(&outside, &public("U0CHELA", "an own post")).await;
    host.slack_says(&outside, &public("U1", "a person's post")).await;
    host.closed("a person's post").await;
    assert_eq!((host.turns().await, outside.slack.posts().len()), (1, 1));
}

/// Ninety words of a hundred characters: three posts in Slack.
fn long_reply() -> String {
    (0..90).map(|word| format!("{word:02}{}", "x".repeat(98))).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reply_is_posted_in_parts_and_goes_on_where_it_was_stopped() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .model([say(&long_reply())])
        .slack("slack", "support")
        .run()
        .await;
    // The second part meets a limit.
    outside.slack.faults().inject(&Fault::Delay(Duration::ZERO), 1);
    outside.slack.faults().inject(&Fault::TooMany { retry_after: 1 }, 1);
    let event = host.slack_says(&outside, &public("U1", "tell me")).await;
    host.closed("tell me").await;
    let posts = outside.slack.posts().all();
    let words: Vec<&str> = posts.iter().flat_map(|post| post.text.split_whitespace()).collect();
    assert_eq!(words.join(" "), long_reply());
    assert!(posts.len() > 1 && posts.iter().all(|post| post.thread_ts.as_ref() == Some(&event.ts)));
    assert_eq!(host.store.counts().await.unwrap().ambiguous, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_asks_to_wait_is_not_asked_before() {
    let (outside, clock) = Outside::at(NOW).await;
    let host = host(&outside).agent("support", "assistant").slack("slack", "support").run().await;
    outside.slack.faults().inject(&Fault::TooMany { retry_after: 30 }, 1);
    host.slack_says(&outside, &public("U1", "hello")).await;
    eventually("the answer is put off", async || {
        let counts = host.store.counts().await.unwrap();
        counts.answered == 1 && counts.leased == 0
    })
    .await;
    // One second before: the store is asked for work, has none, and knows when it will.
    clock.advance(Duration::from_secs(29));
    let due = eventually_some("the due time is known", async || {
        host.store.next_due().await.unwrap().filter(|due| *due > clock.now())
    })
    .await;
    assert!(due >= NOW.plus(Duration::from_secs(30)), "due {due:?}, now {NOW:?}");
    assert_eq!((outside.slack.posts().len(), outside.slack.refusals().len()), (0, 1));
    clock.advance(due.since(clock.now()));
    assert_eq!(host.closed("hello").await.state, TurnState::Delivered);
    assert_eq!((outside.slack.posts().len(), outside.slack.refusals().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_is_not_repeated() {
    let outside = Outside::new().await;
    let host = host(&outside).agent("support", "assistant").slack("slack", "support").run().await;
    outside.slack.faults().inject(&Fault::Refusal("is_archived".to_owned()), 1);
    host.slack_says(&outside, &public("U1", "hello")).await;
    let record = host.closed("hello").await;
    assert_eq!(record.state, TurnState::Undelivered);
    assert!(record.last_error.unwrap().0.contains("is_archived"));
    assert_eq!(host.store.counts().await.unwrap().ambiguous, 0, "a refusal leaves no doubt");
    assert_eq!((outside.slack.posts().len(), outside.slack.refusals().len()), (0, 1));
    host.slack_says(&outside, &public("U1", "goodbye")).await;
    assert_eq!(host.closed("goodbye").await.state, TurnState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_and_randomness_of_a_turn_are_the_same_when_it_is_run_again() {
    let model = provider::Settings {
        first_token: Duration::from_secs(3_600),
        ..provider::Settings::new(chela_tests::outside::PROVIDER_KEY, chela_tests::outside::PRICE)
    };
    let slow = Outside::with_provider(
        Arc::new(chela_types::SystemClock),
        model,
        chela_server::standin::slack::Settings::new("a", "b", &[]),
    )
    .await;
    let quick = Outside::new().await;
    let host =
        host(&quick).agent("support", "agent").billed_model(&slow).webhook("partner", "support").run().await;
    // The agent asks the model about what it saw of time and randomness, so the providers' bills tell it.
    host.partner_says(&quick, "t1", "clock-model").await;
    let first = slow.provider.bills().wait_for(|_| true).await;
    let mut crashed = host.crash();
    crashed.setup = crashed.setup.billed_model(&quick);
    let host = crashed.restart().await;
    assert_eq!(host.closed("clock-model").await.state, TurnState::Delivered);
    let second = quick.provider.bills().all()[0].clone();
    assert!(first.marker.is_some());
    assert_eq!(first.marker, second.marker);
    // Another turn sees another time.
    host.partner_says(&quick, "t2", "clock-model again").await;
    host.closed("clock-model again").await;
    assert_ne!(quick.provider.bills().all()[1].marker, first.marker);
}
