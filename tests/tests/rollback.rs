//! A new version that does worse goes back by itself, and nobody who writes meanwhile sees it: routers, agents, adapters.
//! What operators order beside that: canaries, shadows, promotions and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Candidate, Error, Order, Reload, SwapRefused};
use chela_sandbox::{Grant, Grants};
use chela_server::standin::Fault;
use chela_store::TurnState;
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::versions::{Calls, Senders, canary, each_is_answered_once, promote, rollback, router_of};
use chela_tests::{Host, Outside, Setup, eventually, host};
use chela_types::{Clock, SystemClock};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);
/// Messages that a new version may meet before it is gone, whatever it does.
const TOUCHED_MAX: usize = 20;
/// Messages that the version before has decided by then: enough to know how long it takes.
const BEFORE: usize = 60;

/// A host that routes by the guest, and sends everything to `support`.
fn routed(outside: &Outside) -> Setup {
    host(outside)
        .agent("support", "agent")
        .agent("sales", "agent")
        .router("router", json!({}))
        .with_plugin("router", |plugin| plugin.grants = Grants::NONE)
        .build("router", ("router", "1.0.0", "tag-old"))
        .webhook("partner", "support")
}

/// A host whose only agent is the guest, and asks a model that bills.
fn answering(outside: &Outside, behaviour: &str) -> Setup {
    host(outside)
        .agent("support", "agent")
        .build("agent", ("agent", "1.0.0", behaviour))
        .billed_model(outside)
        .webhook("partner", "support")
}

/// Only what a version does is judged, and not how long a busy machine takes for it.
fn patient(setup: Setup) -> Setup {
    setup.with_swap(|swap| swap.latency_floor = Duration::from_secs(60))
}

/// What is found in a folder waits for an order.
fn by_hand(setup: Setup) -> Setup {
    patient(setup).with_swap(|swap| swap.reload = Reload::Manual)
}

/// Lets a new build of a plugin loose on people who write, and checks that it goes back unseen; returns why.
async fn unseen(
    (outside, setup): (&Arc<Outside>, &Setup),
    (plugin, version, behaviour): (&str, &str, &str),
    senders: usize,
) -> String {
    let calls = Calls::count();
    let before = calls.of(plugin, version);
    let host = Arc::new(setup.clone().run().await);
    let old = host.active(plugin).await;
    let writing = Senders::start(&host, outside, senders);
    writing.more(BEFORE).await;
    let next = setup.clone().build(plugin, (plugin, version, behaviour));
    let reloaded = host.update(&next).await.unwrap();
    assert_eq!(reloaded.changed.len(), 1, "{reloaded:?}");
    let why = host.sent_back(plugin, version).await;
    writing.more(BEFORE).await;
    let exchanges = writing.stop().await;
    let touched = calls.of(plugin, version) - before;
    println!("{plugin} {behaviour}, {senders} senders, {} turns, {touched} touched: {why}", exchanges.len());

    assert_eq!(host.active(plugin).await.digest, old.digest);
    assert_eq!(host.deployed(plugin).await.to_string(), old.digest);
    host.flawless(exchanges.len(), plugin == "router").await;
    each_is_answered_once(outside, &exchanges);
    assert!((1..=TOUCHED_MAX).contains(&touched), "{touched} turns were touched by `{behaviour}`");
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_traps_goes_back_and_nobody_sees_it() {
    for (version, senders) in [("1.1.0", 4), ("1.1.1", 32)] {
        let outside = Arc::new(Outside::new().await);
        let setup = patient(routed(&outside));
        let why = unseen((&outside, &setup), ("router", version, "noted-trap"), senders).await;
        assert!(why.contains("calls failed (trap"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_loops_goes_back_and_nobody_sees_it() {
    for (version, senders) in [("1.2.0", 4), ("1.2.1", 32)] {
        let outside = Arc::new(Outside::new().await);
        let deadline = Duration::from_millis(100);
        let setup = patient(routed(&outside)).with_plugin("router", |it| it.limits.deadline = deadline);
        let why = unseen((&outside, &setup), ("router", version, "noted-loop"), senders).await;
        assert!(why.contains("calls failed (timeout"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_is_slow_goes_back_and_nobody_sees_it() {
    for (version, senders) in [("1.3.0", 4), ("1.3.1", 32)] {
        let outside = Arc::new(Outside::new().await);
        let why = unseen((&outside, &routed(&outside)), ("router", version, "noted-slow"), senders).await;
        assert!(why.contains("of its calls took up to") || why.contains("was slow"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_reports_an_error_goes_back_and_nobody_sees_it() {
    let outside = Arc::new(Outside::new().await);
    let setup = patient(routed(&outside));
    let why = unseen((&outside, &setup), ("router", "1.4.0", "noted-error"), 4).await;
    assert!(why.contains("calls failed (reported"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_sends_everything_elsewhere_goes_back_after_enough_decisions() {
    const ENOUGH: u32 = 25;
    let outside = Arc::new(Outside::new().await);
    let setup = patient(routed(&outside)).with_swap(|swap| swap.drift_calls_min = ENOUGH);
    let host = Arc::new(setup.clone().run().await);
    let old = host.active("router").await.digest;
    let writing = Senders::start(&host, &outside, 4);
    writing.more(BEFORE).await;
    host.update(&setup.build("router", ("router", "1.5.0", "sales"))).await.unwrap();
    let why = host.sent_back("router", "1.5.0").await;
    writing.more(BEFORE).await;
    let exchanges = writing.stop().await;
    assert!(why.contains("100 % of the messages go elsewhere"), "{why}");
    let records = host.flawless(exchanges.len(), true).await;
    let elsewhere = records.iter().filter(|record| !old.starts_with(router_of(record))).count();
    // Those that ran when the last one was counted are decided as well.
    let most = ENOUGH as usize + 2 * 4;
    assert!((ENOUGH as usize..=most).contains(&elsewhere), "{elsewhere} were sent elsewhere");
    assert_eq!(host.active("router").await.digest, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_traps_behind_its_model_call_goes_back_and_no_call_is_paid_twice() {
    for (version, senders) in [("1.1.0", 4), ("1.1.1", 32)] {
        let outside = Arc::new(Outside::new().await);
        let setup = patient(answering(&outside, "ask-tag-old"));
        let why = unseen((&outside, &setup), ("agent", version, "noted-ask-trap"), senders).await;
        assert!(why.contains("calls failed (trap"), "{why}");
        let replies = outside.partner.replies().all();
        assert!(replies.iter().all(|reply| reply.reply.text.starts_with("old You said: ")));
        assert_eq!(outside.provider.bills().len(), replies.len(), "one for each turn");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_reports_an_error_goes_back_and_nobody_sees_it() {
    let outside = Arc::new(Outside::new().await);
    let setup = patient(answering(&outside, "tag-old"));
    let why = unseen((&outside, &setup), ("agent", "1.2.0", "noted-unsuitable"), 4).await;
    assert!(why.contains("calls failed (reported"), "{why}");
}

/// A message for the guest's channel; whether it was taken.
async fn guest_hears(host: &Host, number: usize) -> bool {
    let (id, room) = (format!("m{number}"), format!("r{number}"));
    let body = json!({ "id": id, "room": room, "sender": "ann", "text": format!("hello {number}") });
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, SystemClock.now(), body.to_string());
    let taken = host.receive("guest", signed.webhook()).await;
    taken.is_ok_and(|taken| taken.status == 200)
}

/// Lets a new build of the guest's adapter loose on so many messages at once, and checks that it goes back and that each
/// answer reaches the platform once, `is_flawless` also for the books; how many calls met what fails, and why it went
/// back.
async fn adapter_goes_back(
    (version, behaviour): (&str, &str),
    at_once: usize,
    is_flawless: bool,
) -> (usize, String) {
    const AROUND: usize = 8;
    let (calls, outside) = (Calls::count(), Outside::new().await);
    let setup = patient(host(&outside))
        .agent("support", "agent")
        .guest_channel("guest", "honest", "support")
        .with_channel("guest", |channel| drop(channel.config.remove("behaviour")))
        .with_plugin("channel", |plugin| plugin.limits.deadline = Duration::from_millis(500))
        .build("channel", ("channel", "1.0.0", "honest"));
    let host = setup.clone().run().await;
    let old = host.active("channel").await.digest;
    let said = async |numbers: std::ops::Range<usize>| {
        let said = numbers.map(|number| guest_hears(&host, number));
        assert!(futures::future::join_all(said).await.into_iter().all(|taken| taken), "{behaviour}");
    };
    said(0..AROUND).await;
    host.drained().await;
    host.update(&setup.build("channel", ("channel", version, behaviour))).await.unwrap();
    said(AROUND..AROUND + at_once).await;
    let why = host.sent_back("channel", version).await;
    let all = 2 * AROUND + at_once;
    said(AROUND + at_once..all).await;
    match is_flawless {
        true => drop(host.flawless(all, false).await),
        false => host.drained().await,
    }
    let rooms: Vec<String> =
        outside.bare.posted().iter().map(|posted| posted.body["room"].to_string()).collect();
    assert_eq!((rooms.len(), rooms.iter().collect::<BTreeSet<_>>().len()), (all, all), "{behaviour}");
    assert_eq!(host.active("channel").await.digest, old, "{behaviour}");
    let touched = calls.of("channel", version);
    println!("adapter {behaviour}, {at_once} at once, {touched} touched: {why}");
    (touched, why)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_cannot_receive_goes_back_and_few_messages_meet_it() {
    for (version, behaviour, at_once, expected) in [
        ("1.1.0", "noted-receive-trap", 32, "calls failed (trap"),
        ("1.1.1", "noted-receive-trap", 120, "calls failed (trap"),
        ("1.2.0", "noted-receive-malformed", 32, "calls failed (malformed"),
    ] {
        let (touched, why) = adapter_goes_back((version, behaviour), at_once, true).await;
        assert!(why.contains(expected), "{behaviour}: {why}");
        assert!((1..=TOUCHED_MAX).contains(&touched), "{touched} of {at_once} met `{behaviour}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_cannot_render_goes_back_and_few_answers_meet_it() {
    for (version, behaviour, at_once, expected) in [
        ("1.3.0", "noted-render-trap", 32, "calls failed (trap"),
        ("1.3.1", "noted-render-trap", 120, "calls failed (trap"),
        // While none of them has ended yet, nobody knows that they fail.
        ("1.4.0", "noted-render-loop", 120, "calls failed (timeout"),
    ] {
        let (touched, why) = adapter_goes_back((version, behaviour), at_once, true).await;
        assert!(why.contains(expected), "{behaviour}: {why}");
        assert!((1..=TOUCHED_MAX).contains(&touched), "{touched} of {at_once} met `{behaviour}`");
    }
}

/// The platform has the answer by then: no other version sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_cannot_hear_what_became_of_an_answer_goes_back() {
    let (touched, why) = adapter_goes_back(("1.5.0", "noted-sent-trap"), 32, false).await;
    assert!(why.contains("calls failed (trap"), "{why}");
    assert!((1..=2 * TOUCHED_MAX).contains(&touched), "{touched} calls, two for each answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_ends_by_itself_and_nobody_sees_it() {
    let outside = Arc::new(Outside::new().await);
    let setup = by_hand(routed(&outside));
    let host = Arc::new(setup.clone().run().await);
    let old = host.active("router").await.digest;
    let found = host.update(&setup.build("router", ("router", "1.6.0", "noted-trap"))).await.unwrap();
    assert_eq!(found.waiting.len(), 1, "reloaded by hand: {found:?}");
    let calls = Calls::count();
    let writing = Senders::start(&host, &outside, 4);
    writing.more(BEFORE).await;
    assert_eq!(calls.of("router", "1.6.0"), 0, "it waits");
    host.order("router", canary(50)).await.unwrap();
    let why = host.sent_back("router", "1.6.0").await;
    writing.more(BEFORE).await;
    let exchanges = writing.stop().await;
    assert!(why.contains("calls failed (trap"), "{why}");
    host.flawless(exchanges.len(), true).await;
    let touched = calls.of("router", "1.6.0");
    assert!((1..=TOUCHED_MAX).contains(&touched), "{touched}");
    let status = host.plugin("router").await;
    assert!(status.versions.iter().all(|version| version.share.is_none()), "{status:?}");
    assert_eq!(host.active("router").await.digest, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_has_its_conversations_for_good_and_serves_all_once_it_is_promoted() {
    const TALKS: usize = 60;
    let outside = Outside::new().await;
    let setup = by_hand(routed(&outside));
    let host = setup.clone().run().await;
    host.update(&setup.build("router", ("router", "2.0.0", "tag-new"))).await.unwrap();
    host.order("router", canary(40)).await.unwrap();
    assert_eq!(host.version("router", "2.0.0").await.share, Some(40));
    let mut by_talk: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for round in 0..3 {
        for talk in 0..TALKS {
            host.partner_says(&outside, &format!("t{talk}"), &format!("{round} of {talk}.")).await;
        }
        host.drained().await;
    }
    for record in host.flawless(3 * TALKS, true).await {
        let text = record.message.as_ref().unwrap().text.clone();
        let talk = text.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        by_talk.entry(talk).or_default().insert(record.decisions[0].1.reason.clone());
    }
    assert!(by_talk.values().all(|by| by.len() == 1), "each by one version: {by_talk:?}");
    let new = by_talk.values().filter(|by| by.contains("tag-new")).count();
    assert!((TALKS / 5..=TALKS * 3 / 5).contains(&new), "{new} of {TALKS} with a share of 40 %");

    host.order("router", promote(Candidate::default())).await.unwrap();
    assert_eq!(host.active("router").await.version, "2.0.0");
    for talk in 0..TALKS {
        host.partner_says(&outside, &format!("t{talk}"), &format!("last of {talk}.")).await;
    }
    host.drained().await;
    let records = host.flawless(4 * TALKS, true).await;
    let last = records.iter().filter(|it| it.message.as_ref().unwrap().text.starts_with("last"));
    let by: Vec<_> = last.map(|record| record.decisions[0].1.reason.as_str()).collect();
    assert_eq!(by, vec!["tag-new"; TALKS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_is_rolled_back_by_order_once() {
    let outside = Outside::new().await;
    let setup = by_hand(routed(&outside));
    let host = setup.clone().run().await;
    let refused = host.order("router", rollback()).await;
    assert!(matches!(refused, Err(Error::Swap(SwapRefused::NoBefore { .. }))), "{refused:?}");
    let old = host.active("router").await.digest;
    host.update(&setup.build("router", ("router", "2.0.0", "tag-new"))).await.unwrap();
    host.order("router", promote(Candidate::default())).await.unwrap();
    host.partner_says(&outside, "t1", "first").await;
    assert_eq!(host.closed("first").await.decisions[0].1.reason, "tag-new");
    host.order("router", rollback()).await.unwrap();
    host.partner_says(&outside, "t2", "second").await;
    assert_eq!(host.closed("second").await.decisions[0].1.reason, "tag-old");
    assert_eq!(
        (host.active("router").await.digest, host.deployed("router").await.to_string()),
        (old.clone(), old)
    );
    let last = host.history("router").await.pop().unwrap().happened;
    assert_eq!((&*last.what, &*last.by, &*last.why), ("rolled back", "a test", "a test wants it"));
    let refused = host.order("router", rollback()).await;
    assert!(matches!(refused, Err(Error::Swap(SwapRefused::NoBefore { .. }))), "{refused:?}");
}

/// A shadow of what the folder holds.
fn shadow() -> Order {
    Order::Shadow { candidate: Candidate::default() }
}

/// What the shadow run of a version has shown, once so many calls were compared.
async fn compared(host: &Host, plugin: &str, (version, calls): (&str, u64)) -> chela_engine::ShadowStatus {
    eventually("the shadow has run", async || {
        host.version(plugin, version).await.shadow.is_some_and(|shadow| shadow.compared >= calls)
    })
    .await;
    host.version(plugin, version).await.shadow.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routers_shadow_is_compared_and_has_no_effect() {
    const MESSAGES: u64 = 6;
    for (version, behaviour, counts) in [
        ("2.0.0", "asks", (MESSAGES, 0, 0)),
        ("2.1.0", "sales", (0, MESSAGES, 0)),
        // It asks for what the active one has not asked.
        ("2.2.0", "asks-twice", (0, 0, MESSAGES)),
    ] {
        let outside = Outside::new().await;
        let grants: Grants = [Grant::Models].into_iter().collect();
        let setup = by_hand(routed(&outside))
            .billed_model(&outside)
            .with_plugin("router", |plugin| plugin.grants = grants)
            .build("router", ("router", "1.0.0", "asks"));
        let host = setup.clone().run().await;
        host.update(&setup.build("router", ("router", version, behaviour))).await.unwrap();
        host.order("router", shadow()).await.unwrap();
        for number in 0..MESSAGES {
            host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
        }
        host.drained().await;
        let shown = compared(&host, "router", (version, MESSAGES)).await;
        assert_eq!((shown.same, shown.different, shown.diverged), counts, "{behaviour}: {shown:?}");
        assert_eq!((shown.failed, shown.skipped), (0, 0), "{behaviour}: {shown:?}");
        assert_eq!(outside.provider.bills().len() as u64, MESSAGES, "{behaviour}: only the active one asks");
        assert_eq!(host.store.ledger(100).await.unwrap().rows.len() as u64, MESSAGES, "{behaviour}");
        let records = host.records().await;
        assert!(records.iter().all(|it| it.outbox.as_ref().unwrap().agent.as_str() == "support"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_shadow_writes_nothing_and_its_words_are_for_those_who_may_read_them() {
    let outside = Outside::new().await;
    let setup = by_hand(answering(&outside, "tag-old"));
    let host = setup.clone().run().await;
    host.update(&setup.clone().build("agent", ("agent", "2.0.0", "tag-new"))).await.unwrap();
    host.order("agent", shadow()).await.unwrap();
    host.partner_says(&outside, "t1", "a secret").await;
    let shown = compared(&host, "agent", ("2.0.0", 1)).await;
    assert_eq!((shown.different, shown.examples.len()), (1, 1), "{shown:?}");
    let example = &shown.examples[0];
    let words = ("reply: old a secret old", "reply: new a secret new");
    assert_eq!((&*example.active, &*example.candidate), words);
    let hidden = format!("{:?}", host.engine.plugins(false).await.unwrap());
    assert!(hidden.contains("(words of a conversation)") && !hidden.contains("a secret"), "{hidden}");

    // One that counts in its memory: whatever its shadow did, the first call that serves counts from one.
    host.update(&setup.build("agent", ("agent", "2.1.0", "memory-kv"))).await.unwrap();
    host.order("agent", Order::Stop).await.unwrap();
    host.order("agent", shadow()).await.unwrap();
    host.partner_says(&outside, "t1", "in the shadow").await;
    compared(&host, "agent", ("2.1.0", 1)).await;
    host.order("agent", promote(Candidate::default())).await.unwrap();
    host.partner_says(&outside, "t1", "in the light").await;
    let record = host.closed("in the light").await;
    assert_eq!(record.reply.unwrap().text, "1@1 1@1 1@1 true false");
    assert!(outside.provider.bills().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_promoted_once_its_shadow_has_shown_enough_or_somebody_answers_for_it() {
    let outside = Outside::new().await;
    let setup = by_hand(routed(&outside)).with_swap(|swap| {
        (swap.shadow.calls_min, swap.shadow.differences_percent) = (3, 50);
    });
    let host = setup.clone().run().await;
    let unproven = |refused: Result<_, Error>| match refused {
        Err(Error::Swap(SwapRefused::Unproven { why, .. })) => why,
        other => panic!("{other:?}"),
    };
    host.update(&setup.clone().build("router", ("router", "2.0.0", "tag-new"))).await.unwrap();
    let why = unproven(host.order("router", promote(Candidate::default())).await);
    assert!(why.contains("0 of 3 calls"), "{why}");
    host.order("router", shadow()).await.unwrap();
    for number in 0..3_u64 {
        let why = unproven(host.order("router", promote(Candidate::default())).await);
        assert!(why.contains(&format!("{number} of 3 calls")), "{why}");
        host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
        compared(&host, "router", ("2.0.0", number + 1)).await;
    }
    host.order("router", promote(Candidate::default())).await.unwrap();
    assert_eq!(host.active("router").await.version, "2.0.0");

    // One whose decisions differ does not become proven by it.
    host.update(&setup.build("router", ("router", "2.1.0", "sales"))).await.unwrap();
    host.order("router", shadow()).await.unwrap();
    for number in 3..6_u64 {
        host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
    }
    compared(&host, "router", ("2.1.0", 3)).await;
    let why = unproven(host.order("router", promote(Candidate::default())).await);
    assert!(why.contains("100.0 % of them differ"), "{why}");
    let anyway =
        Order::Promote { candidate: Candidate::default(), approve: false, downgrade: false, unproven: true };
    host.order("router", anyway).await.unwrap();
    assert_eq!(host.active("router").await.version, "2.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_ends_on_the_version_that_it_began_with_also_behind_a_crash() {
    let outside = Outside::new().await;
    let host = patient(answering(&outside, "ask-tag-old")).run().await;
    let old = host.active("agent").await.digest;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "begun before").await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    let mut crashed = host.crash();
    crashed.setup = crashed.setup.build("agent", ("agent", "2.0.0", "ask-tag-new"));
    let host = crashed.restart().await;
    assert_eq!(host.active("agent").await.version, "2.0.0");
    let record = host.closed("begun before").await;
    assert_eq!((record.state, record.crashes), (TurnState::Delivered, 1), "{record:?}");
    assert_eq!(record.reply.unwrap().text, "old You said: begun before old");
    host.partner_says(&outside, "t2", "begun behind").await;
    assert_eq!(host.closed("begun behind").await.reply.unwrap().text, "new You said: begun behind new");
    assert_ne!(host.active("agent").await.digest, old);
    assert_eq!(outside.provider.bills().len(), 2, "one for each turn");
}

/// Behind a crash its turn is the new version's still, and the new version fails only then.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_a_bad_version_began_before_a_crash_is_taken_over_by_the_one_before() {
    let outside = Outside::new().await;
    let setup = patient(answering(&outside, "ask-tag-old"));
    let host = setup.clone().run().await;
    let bad = setup.build("agent", ("agent", "2.0.0", "ask-trap"));
    host.update(&bad).await.unwrap();
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "begun before").await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    let mut crashed = host.crash();
    crashed.setup = bad;
    let host = crashed.restart().await;
    assert_eq!(host.active("agent").await.version, "2.0.0");
    let record = host.closed("begun before").await;
    let reply = record.reply.as_ref().map(|reply| reply.text.as_str());
    assert_eq!(reply, Some("old You said: begun before old"), "{record:?}");
    assert_eq!((record.state, record.tries, record.crashes), (TurnState::Delivered, 0, 1), "{record:?}");
    assert_eq!(outside.provider.bills().len(), 1, "what was paid for is not paid again");
}
