//! What the version before does in the place of a new one, what is held against which of the two, and what only one
//! version may go on with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use chela_engine::{Acknowledgement, Ambiguous, Candidate, Error, Order, Refusal, Reload};
use chela_sandbox::{Grant, Grants};
use chela_server::standin::Fault;
use chela_store::TurnState;
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::versions::{canary, promote};
use chela_tests::{Host, Outside, Setup, eventually, guests, host};
use chela_types::{Clock, Millis, PluginId, SystemClock, TenantId};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);

/// Only what a version does is judged, and not how long a busy machine takes for it.
fn patient(setup: Setup) -> Setup {
    setup.with_swap(|swap| swap.latency_floor = Duration::from_secs(60))
}

/// What is found in a folder waits for an order.
fn by_hand(setup: Setup) -> Setup {
    patient(setup).with_swap(|swap| swap.reload = Reload::Manual)
}

/// A host whose only channel is the guest's.
fn adapted(outside: &Outside, behaviour: &str) -> Setup {
    patient(host(outside))
        .agent("support", "agent")
        .guest_channel("guest", "honest", "support")
        .with_channel("guest", |channel| drop(channel.config.remove("behaviour")))
        .build("channel", ("channel", "1.0.0", behaviour))
}

/// A host that routes by the guest.
fn routed(outside: &Outside) -> Setup {
    by_hand(host(outside))
        .agent("support", "agent")
        .agent("sales", "agent")
        .router("router", json!({}))
        .with_plugin("router", |plugin| plugin.grants = Grants::NONE)
        .build("router", ("router", "1.0.0", "tag-old"))
        .webhook("partner", "support")
}

/// A message for the guest's channel.
async fn hears(host: &Host, (id, room): (&str, &str)) -> Result<Acknowledgement, Error> {
    let body = json!({ "id": id, "room": room, "sender": "ann", "text": format!("hello {id}") });
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, SystemClock.now(), body.to_string());
    host.receive("guest", signed.webhook()).await
}

/// Messages in a room each; whether all are taken.
async fn all_heard(host: &Host, numbers: Range<usize>) -> bool {
    let mut all = true;
    for number in numbers {
        let (id, room) = (format!("m{number}"), format!("r{number}"));
        all &= hears(host, (&id, &room)).await.is_ok_and(|taken| taken.status == 200);
    }
    all
}

/// Rooms that the bare platform was told of: each once.
fn rooms(outside: &Outside) -> usize {
    let rooms: Vec<String> =
        outside.bare.posted().iter().map(|posted| posted.body["room"].to_string()).collect();
    assert_eq!(rooms.len(), rooms.iter().collect::<BTreeSet<_>>().len(), "{rooms:?}");
    rooms.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_adapter_ignores_or_gives_up_is_taken_and_delivered_by_the_one_before() {
    for (behaviour, expected) in [
        ("receive-nothing", "`ignored` +100 points"),
        ("receive-unsupported", "`ignored` +100 points"),
        ("render-permanent", "calls failed (given up"),
    ] {
        let outside = Outside::new().await;
        let setup = adapted(&outside, "honest").with_swap(|swap| swap.drift_calls_min = 10);
        let host = setup.clone().run().await;
        assert!(all_heard(&host, 0..20).await, "{behaviour}");
        host.drained().await;
        host.update(&setup.build("channel", ("channel", "1.1.0", behaviour))).await.unwrap();
        assert!(all_heard(&host, 20..40).await, "{behaviour}");
        let why = host.sent_back("channel", "1.1.0").await;
        assert!(why.contains(expected), "{behaviour}: {why}");
        host.flawless(40, false).await;
        assert_eq!(rooms(&outside), 40, "{behaviour}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_no_version_delivers_is_held_against_none() {
    let outside = Outside::new().await;
    let setup = adapted(&outside, "render-permanent");
    let host = setup.clone().run().await;
    host.update(&setup.build("channel", ("channel", "1.1.0", "render-permanent"))).await.unwrap();
    assert!(all_heard(&host, 0..12).await);
    host.drained().await;
    let records = host.records().await;
    assert!(records.iter().all(|record| record.state == TurnState::Undelivered), "{records:?}");
    let active = host.active("channel").await;
    assert_eq!((active.version.as_str(), active.failures), ("1.1.0", 0), "{active:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_refuses_what_the_one_before_traps_on_is_right() {
    let outside = Outside::new().await;
    let setup = adapted(&outside, "receive-trap");
    let host = setup.clone().run().await;
    host.update(&setup.build("channel", ("channel", "1.1.0", "receive-malformed"))).await.unwrap();
    for number in 0..12 {
        let refused = hears(&host, (&format!("m{number}"), "r")).await;
        assert!(matches!(refused, Err(Error::Refused { kind: Refusal::Malformed, .. })), "{refused:?}");
    }
    let active = host.active("channel").await;
    assert_eq!((active.version.as_str(), active.failures), ("1.1.0", 0), "{active:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_counts_once_against_the_rate_whatever_versions_read_it() {
    const RATE: u32 = 20;
    let outside = Outside::new().await;
    let setup = adapted(&outside, "honest").with_channel("guest", |channel| channel.rate_per_minute = RATE);
    let host = setup.clone().run().await;
    host.update(&setup.build("channel", ("channel", "1.1.0", "receive-malformed"))).await.unwrap();
    assert!(all_heard(&host, 0..RATE as usize).await);
    host.sent_back("channel", "1.1.0").await;
    host.flawless(RATE as usize, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_waits_too_long_for_its_model_goes_back_where_the_one_before_answers() {
    let outside = Outside::new().await;
    let setup = patient(host(&outside))
        .agent("support", "agent")
        .with_plugin("agent", |plugin| plugin.limits.deadline = Duration::from_millis(300))
        .build("agent", ("agent", "1.0.0", "tag-old"))
        .billed_model(&outside)
        .webhook("partner", "support");
    let host = setup.clone().run().await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 100);
    host.update(&setup.build("agent", ("agent", "2.0.0", "ask-tag-new"))).await.unwrap();
    for number in 0..6 {
        host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
    }
    let why = host.sent_back("agent", "2.0.0").await;
    assert!(why.contains("calls failed (waiting 3)"), "{why}");
    let records = host.flawless(6, false).await;
    let replies: Vec<_> = records.iter().map(|record| record.reply.as_ref().unwrap().text.as_str()).collect();
    assert!(replies.iter().all(|reply| reply.starts_with("old ")), "{replies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_waits_too_long_for_its_model_goes_back_and_the_one_before_decides() {
    let outside = Outside::new().await;
    let grants: Grants = [Grant::Models].into_iter().collect();
    let setup = routed(&outside)
        .with_swap(|swap| swap.reload = Reload::Auto)
        .billed_model(&outside)
        .with_plugin("router", |plugin| {
            plugin.grants = grants;
            plugin.limits.deadline = Duration::from_millis(300);
        });
    let host = setup.clone().run().await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 100);
    host.update(&setup.build("router", ("router", "2.0.0", "asks"))).await.unwrap();
    for number in 0..6 {
        host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
    }
    let why = host.sent_back("router", "2.0.0").await;
    assert!(why.contains("calls failed (waiting 3)"), "{why}");
    let records = host.flawless(6, true).await;
    assert!(records.iter().all(|record| record.decisions[0].1.reason == "tag-old"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_either_version_meets_is_held_against_none() {
    let outside = Outside::new().await;
    let setup = patient(host(&outside))
        .agent("support", "agent")
        .with_plugin("agent", |plugin| plugin.limits.deadline = Duration::from_millis(300))
        .build("agent", ("agent", "1.0.0", "ask-tag-old"))
        .billed_model(&outside)
        .webhook("partner", "support");
    let host = setup.clone().run().await;
    host.update(&setup.build("agent", ("agent", "2.0.0", "ask-tag-new"))).await.unwrap();
    for number in 0..4 {
        outside.provider.faults().inject(&Fault::Delay(HOUR), 2);
        let said = format!("hello {number}");
        host.partner_says(&outside, &format!("t{number}"), &said).await;
        let record = host.closed(&said).await;
        assert_eq!((record.state, record.tries, record.waits), (TurnState::Delivered, 0, 1), "{record:?}");
        assert!(outside.provider.faults().is_spent());
    }
    assert_eq!(host.active("agent").await.version, "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_on_its_way_stays_its_adapters_also_when_no_house_has_that_any_more() {
    let outside = Outside::new().await;
    // The bare platform answers as the text says: not now.
    let setup = adapted(&outside, "honest")
        .with_swap(|swap| swap.reload = Reload::Manual)
        .with_agent("support", |agent| agent.persona = "status 429".to_owned())
        .build("agent", ("agent", "1.0.0", "persona"));
    let host = setup.clone().run().await;
    let first = host.active("channel").await.digest;
    assert!(all_heard(&host, 0..1).await);
    eventually("it is tried", async || !outside.bare.posted().is_empty()).await;
    for version in ["1.1.0", "1.2.0"] {
        host.update(&setup.clone().build("channel", ("channel", version, "honest"))).await.unwrap();
        host.order("channel", promote(Candidate::default())).await.unwrap();
    }
    let tried = outside.bare.posted().len();
    eventually("it is tried again", async || outside.bare.posted().len() > tried + 2).await;
    // Nobody has it but the answer that it began to send.
    let tenant = TenantId::default_tenant();
    host.store.purge_versions(&tenant, Millis(i64::MAX)).await.unwrap();
    let versions = host.plugin("channel").await.versions;
    assert!(versions.iter().any(|version| version.digest == first), "{versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_adapter_is_gone_begins_anew_where_that_is_allowed_and_is_given_up_where_not() {
    for (ambiguous, state) in
        [(Ambiguous::AtLeastOnce, TurnState::Delivered), (Ambiguous::AtMostOnce, TurnState::Undelivered)]
    {
        let outside = Outside::new().await;
        let setup = adapted(&outside, "honest")
            .with_channel("guest", |channel| channel.ambiguous = ambiguous)
            .with_agent("support", |agent| agent.persona = "status 429".to_owned())
            .build("agent", ("agent", "1.0.0", "persona"));
        let host = setup.clone().run().await;
        assert!(all_heard(&host, 0..1).await);
        eventually("it is tried", async || !outside.bare.posted().is_empty()).await;
        // Another plugin is the channel's adapter from now on.
        let adapter = guests::get("channel").version("1.0.0", "anew");
        let other = setup
            .plugin("other", adapter, json!({}))
            .with_channel("guest", |channel| channel.plugin = PluginId::new("other").unwrap());
        host.update(&other).await.unwrap();
        let record = host.closed("hello m0").await;
        assert_eq!((record.state, record.tries), (state, 0), "{record:?}");
        let anew = outside.bare.posted().iter().filter(|posted| posted.body["text"] == "anew").count();
        assert_eq!(anew, usize::from(state == TurnState::Delivered), "{:?}", outside.bare.posted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_a_channel_reads_and_delivers_in_its_rooms_and_in_no_others() {
    const ROOMS: usize = 16;
    let outside = Outside::new().await;
    let setup = adapted(&outside, "honest").with_swap(|swap| swap.reload = Reload::Manual);
    let host = setup.clone().run().await;
    host.update(&setup.build("channel", ("channel", "1.1.0", "honest"))).await.unwrap();
    host.order("channel", canary(40)).await.unwrap();
    let mut by_room: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let (mut all, mut new) = (0, 0);
    for round in 0..3 {
        for room in 0..ROOMS {
            hears(&host, (&format!("{round}-{room}"), &format!("r{room}"))).await.unwrap();
            all += 2;
            let calls = async |version| host.version("channel", version).await.calls;
            eventually("it is read and delivered", async || {
                calls("1.0.0").await + calls("1.1.0").await == all
            })
            .await;
            let now = calls("1.1.0").await;
            by_room.entry(room).or_default().insert(now - new);
            new = now;
        }
    }
    assert!(by_room.values().all(|calls| calls.len() == 1), "{by_room:?}");
    let calls: BTreeSet<u64> = by_room.into_values().flatten().collect();
    assert_eq!(calls, [0, 2].into(), "both ways, or neither");
}

/// A shadow of what the folder holds.
fn shadow() -> Order {
    Order::Shadow { candidate: Candidate::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_with_the_active_version_alone() {
    let outside = Outside::new().await;
    let setup = routed(&outside);
    let host = setup.clone().run().await;
    host.update(&setup.build("router", ("router", "2.0.0", "tag-new"))).await.unwrap();
    host.order("router", shadow()).await.unwrap();
    host.order("router", canary(100)).await.unwrap();
    for number in 0..4 {
        host.partner_says(&outside, &format!("t{number}"), &format!("hello {number}")).await;
    }
    host.drained().await;
    let records = host.records().await;
    assert!(records.iter().all(|record| record.decisions[0].1.reason == "tag-new"), "{records:?}");
    host.order("router", canary(0)).await.unwrap();
    let shown = host.version("router", "2.0.0").await.shadow.unwrap();
    assert_eq!((shown.compared, shown.skipped), (0, 4), "not with itself: {shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_loops_is_not_run_for_ever() {
    let outside = Outside::new().await;
    let deadline = Duration::from_millis(100);
    let setup = routed(&outside).with_plugin("router", |plugin| plugin.limits.deadline = deadline);
    let host = setup.clone().run().await;
    host.update(&setup.build("router", ("router", "2.0.0", "loop"))).await.unwrap();
    host.order("router", shadow()).await.unwrap();
    let shown = async || host.version("router", "2.0.0").await.shadow.unwrap();
    let mut said = 0;
    while !shown().await.stopped {
        assert!(said < 20, "it is run again and again: {:?}", shown().await);
        host.partner_says(&outside, &format!("t{said}"), &format!("hello {said}")).await;
        said += 1;
        eventually("it has been run", async || shown().await.compared == said).await;
    }
    host.partner_says(&outside, "last", "one more").await;
    host.drained().await;
    let shown = shown().await;
    assert_eq!((shown.compared, shown.failed, shown.skipped), (said, said, 1), "{shown:?}");
}

/// So many messages, each in a conversation of its own, that nobody sees fail.
async fn eight_are_answered(host: &Host, outside: &Outside) {
    for number in 0..8 {
        host.partner_says(outside, &format!("t{number}"), &format!("say {number}")).await;
    }
    host.flawless(8, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bad_versions_one_after_the_other_fall_back_to_the_good_one_before_both() {
    let outside = Outside::new().await;
    let setup = routed(&outside).with_swap(|swap| swap.reload = Reload::Auto);
    let host = setup.clone().run().await;
    let good = host.active("router").await.digest;
    for version in ["2.0.0", "2.1.0"] {
        host.update(&setup.clone().build("router", ("router", version, "noted-trap"))).await.unwrap();
        assert_eq!(host.active("router").await.version, version);
    }
    eight_are_answered(&host, &outside).await;
    host.sent_back("router", "2.1.0").await;
    assert_eq!(host.active("router").await.digest, good);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_are_no_way_out_of_the_watch() {
    let outside = Outside::new().await;
    let setup = routed(&outside).with_swap(|swap| swap.reload = Reload::Auto);
    let host = setup.clone().run().await;
    let bad = setup.build("router", ("router", "2.0.0", "noted-trap"));
    host.update(&bad).await.unwrap();
    let other = bad.with_plugin("router", |plugin| plugin.limits.host_calls += 1);
    host.update(&other).await.unwrap();
    let configured = host.active("router").await;
    assert!(configured.on_trial && configured.version == "2.0.0", "{configured:?}");
    eight_are_answered(&host, &outside).await;
    host.sent_back("router", "2.0.0").await;
    assert_eq!(host.active("router").await.version, "1.0.0");
}
