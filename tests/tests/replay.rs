//! Recorded turns run again: the version that ran them says the same to the last byte, another one says what it makes of
//! them, and nothing of it is seen outside.

use std::time::Duration;

use chela_engine::Difference;
use chela_sandbox::Grants;
use chela_server::standin::Fault;
use chela_store::TurnState;
use chela_tests::compared::{Compared, counted, counts, under};
use chela_tests::recorded::{company, same_but_newer, written};
use chela_tests::{Outside, Setup, eventually, guests};
use serde_json::json;

/// Rounds of what people write: more than a thousand messages.
const ROUNDS: usize = 22;
const HOUR: Duration = Duration::from_secs(3_600);
/// Answers as usual, and is counted.
const ANSWERED: Fault = Fault::Delay(Duration::ZERO);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_recorded_turns_say_the_same_to_the_last_byte() {
    let outside = Outside::new().await;
    let host = company(&outside).run().await;
    host.learns().await;
    let all = written(ROUNDS);
    assert!(all.len() >= 1_000, "{}", all.len());
    host.hears(&outside, &all).await;
    assert_eq!(host.strays(&all).await, [], "each call of a component is recorded");
    let replies = outside.partner.replies().len();
    let ledger = host.store.ledger(1).await.unwrap().settled;
    let report = host.is_the_same(all.iter().map(|it| it.parts).sum()).await;
    assert_eq!(report.turns, all.len() as u64);
    println!(
        "{} turns, {} parts, {} the same, {} ms",
        report.turns, report.parts, report.same, report.millis
    );
    assert_eq!(outside.partner.replies().len(), replies, "nothing is sent");
    assert_eq!(host.store.ledger(1).await.unwrap().settled, ledger, "nothing is paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_in_whose_middle_the_host_crashed_is_the_same() {
    for (text, before, parts) in [
        ("double #q", 1, 1),
        ("dice #q", 0, 1),
        ("memory-kv-ask #q", 0, 1),
        ("stream-ask #q two three four five six", 1, 1),
        ("stream-drop-ask #q two three four five six", 1, 1),
        // The colleague's question, and with it the second part, is where it ends.
        ("ask-hand-over #q", 1, 2),
    ] {
        let outside = Outside::new().await;
        let hr = |agent: &mut chela_engine::AgentConfig| {
            agent.config.insert("behaviour".to_owned(), json!("model"));
        };
        let host = counted(&outside).with_agent("hr", hr).run().await;
        outside.provider.faults().inject(&ANSWERED, before);
        outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
        host.partner_says(&outside, "t1", text).await;
        eventually("the last question is asked", async || outside.provider.faults().is_spent()).await;
        let host = host.crash().restart().await;
        let record = host.closed(text).await;
        assert_eq!((record.state, record.crashes), (TurnState::Delivered, 1), "{text}: {record:?}");
        host.is_the_same(parts).await;
    }
}

/// A host whose agent's plugin is this build of the guest.
fn built(outside: &Outside, behaviour: &str) -> Setup {
    counted(outside).plugin("agent", guests::get("agent").version("1.0.0", behaviour), json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_the_version_before_took_over_is_the_same() {
    for (before, after, bills, expected) in [
        ("double", "ask-trap", 2, "You said: what  | You said: what"),
        // It asks in another order, and has what was paid for.
        ("memory-kv-ask", "ask-trap", 1, "1@1 1@1 1@1 true false | You said: what"),
        ("echo", "ask-trap", 1, "echo: what"),
        ("model", "trap", 1, "You said: what"),
    ] {
        let outside = Outside::new().await;
        let mut host = built(&outside, before).run().await;
        let next = guests::get("agent").version("1.1.0", after);
        host.reload(|setup| setup.with_plugin("agent", |plugin| plugin.source = next)).await.unwrap();
        host.partner_says(&outside, "t1", "what").await;
        let record = host.closed("what").await;
        let said = record.reply.as_ref().map(|reply| reply.text.trim_end());
        assert_eq!((record.state, said), (TurnState::Delivered, Some(expected)), "{before}, {after}");
        assert_eq!(outside.provider.bills().len(), bills, "{before}, {after}");
        let version =
            host.plugin("agent").await.versions.into_iter().find(|it| it.version == "1.1.0").unwrap();
        assert_eq!(version.failures, 1, "the new one was asked first: {version:?}");
        host.is_the_same(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_new_version_did_not_read_to_its_end_is_whole_for_the_one_before() {
    for after in ["stream-trap", "stream-drop-trap"] {
        let outside = Outside::new().await;
        let mut host = built(&outside, "stream").run().await;
        let next = guests::get("agent").version("1.1.0", after);
        host.reload(|setup| setup.with_plugin("agent", |plugin| plugin.source = next)).await.unwrap();
        let text = "one two three four five six seven eight nine";
        host.partner_says(&outside, "t1", text).await;
        let record = host.closed(text).await;
        let said = record.reply.map(|reply| reply.text.trim_end().to_owned());
        assert_eq!(
            said,
            Some(format!("3 pieces, true: You said: {text}")),
            "{after}: {:?}",
            record.last_error
        );
        host.is_the_same(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_took_too_long_is_asked_for_anew_and_not_taken_for_whole() {
    let outside = Outside::new().await;
    let host = company(&outside).run().await;
    host.told(&outside, "hasty", ("t1", "stream drip-me")).await;
    let record = host.closed("drip-me").await;
    let (error, blame) = record.last_error.clone().expect("why it was given up");
    assert_eq!(blame.as_deref(), Some("provider"), "{error}");
    assert!(error.contains("it still waited for `models`"), "{error}");
    assert!(record.waits > 0 && record.calls.len() > 1, "each try asks: {record:?}");
    host.is_the_same(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_the_router_before_routed_is_the_same() {
    for (before, grants, after) in [
        ("past", None, "trap"),
        ("scored 0.1", Some(Grants::NONE), "trap"),
        ("model", None, "trap"),
        ("past", None, "model-twice"),
    ] {
        let outside = Outside::new().await;
        let router = |version: &str, behaviour: &str| guests::get("router").version(version, behaviour);
        let mut host = counted(&outside)
            .router("router", json!({}))
            .with_plugin("router", |plugin| {
                plugin.source = router("1.0.0", before);
                plugin.grants = grants.unwrap_or(plugin.grants);
            })
            .run()
            .await;
        let next = router("1.1.0", after);
        host.reload(|setup| setup.with_plugin("router", |plugin| plugin.source = next)).await.unwrap();
        for text in ["one", "two", "three"] {
            host.partner_says(&outside, "t1", text).await;
            assert_eq!(host.closed(text).await.state, TurnState::Delivered, "{text}");
        }
        host.is_the_same(6).await;
    }
}

fn shown(list: &[Difference]) -> Vec<(&str, &str, &str, &str)> {
    list.iter().map(|it| (&*it.part, &*it.what, &*it.before, &*it.after)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_that_does_the_same_says_the_same() {
    let it = Compared::new(&["hello", "memory-kv #a", "clock", "stream #b c d", "escalate"]).await;
    for (plugin, parts) in [("agent", 5), ("router", 5)] {
        let request = under(&it.folder, plugin, &same_but_newer(guests::get(plugin).manifest));
        let report = it.host.replay(&request).await.unwrap();
        assert_eq!(counts(&report), [parts, 0, 0, 0], "{plugin}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_reply_is_shown_before_and_after_the_worst_first() {
    let it = Compared::new(&["You are support", "utterly different words", "model #q", "persona"]).await;
    let bills = it.outside.provider.bills().len();
    let report = it.behaving("agent", "persona", false).await;
    assert_eq!(counts(&report), [1, 3, 0, 0], "{report:?}");
    let after = "reply: You are support.";
    let differences = [
        ("support", "changed", "reply: echo: utterly different words", after),
        ("support", "changed", "reply: You said: #q ", after),
        ("support", "changed", "reply: echo: You are support", after),
    ];
    let mut shown = shown(&report.differences);
    assert_eq!(shown.last(), Some(&differences[2]), "the likest is last");
    assert!(report.differences.is_sorted_by(|one, other| one.weight >= other.weight), "{report:?}");
    shown.sort_unstable();
    let mut expected = differences;
    expected.sort_unstable();
    assert_eq!(shown, expected);
    assert_eq!(it.outside.provider.bills().len(), bills);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_asks_what_was_not_asked_diverges_at_that_call() {
    let it = Compared::new(&["memory-kv #a", "model #q"]).await;
    let bills = it.outside.provider.bills().len();
    // Behind the router, nine calls of the memory as before from place 4 on; then it asks a model. The router of the other
    // turn has asked, too.
    let report = it.behaving("agent", "memory-kv-ask", false).await;
    assert_eq!(counts(&report), [0, 0, 2, 0], "{report:?}");
    assert!(report.differences.is_empty());
    let mut asked: Vec<&str> = report.divergences.iter().map(|it| &*it.after).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["asked for `memory.get` as call 5", "asked for `models.complete` as call 13"]);
    // The same function with another question.
    let report = it.behaving("agent", "model", false).await;
    assert_eq!(counts(&report), [0, 0, 2, 0], "{report:?}");
    let mut asked: Vec<&str> = report.divergences.iter().map(|it| &*it.after).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["asked for `models.complete` as call 4", "asked for `models.complete` as call 5"]);
    assert_eq!(it.outside.provider.bills().len(), bills, "no provider hears of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_traps_has_failed() {
    let it = Compared::new(&["hello", "model #q"]).await;
    for plugin in ["agent", "router"] {
        let report = it.behaving(plugin, "trap", false).await;
        assert_eq!(counts(&report), [0, 0, 0, 2], "{plugin}: {report:?}");
        for difference in &report.differences {
            assert_eq!((&*difference.what, difference.weight), ("failed", 1.0));
            assert!(difference.after.starts_with("trapped: "), "{difference:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_conversations_sees_where_routers_send_and_no_words() {
    const HIDDEN: &str = "(words of a conversation)";
    let it = Compared::new(&["hello", "hr model #q"]).await;
    let seen = async |plugin: &str, behaviour: &str| {
        let report = it.behaving(plugin, behaviour, false).await.without_words();
        let all = report.differences.iter().chain(&report.divergences);
        let mut seen: Vec<_> = all.map(|it| (it.before.clone(), it.after.clone())).collect();
        seen.sort();
        seen
    };
    let pairs = |pairs: [(&str, &str); 2]| pairs.map(|(before, after)| (before.to_owned(), after.to_owned()));
    assert_eq!(seen("agent", "persona").await, pairs([(HIDDEN, HIDDEN); 2]));
    // The second message was sent there before, with another reason.
    assert_eq!(seen("router", "unauthorised").await, pairs([("hr", "hr"), ("support", "hr")]));
    // Nobody is called so: it could as well be what somebody wrote.
    assert_eq!(seen("router", "ghost").await, pairs([("hr", HIDDEN), ("support", HIDDEN)]));
    assert_eq!(seen("agent", "hand-over-ghost").await, pairs([(HIDDEN, HIDDEN); 2]));
    assert_eq!(seen("agent", "hand-over-hr").await, pairs([(HIDDEN, "hand-over to hr"); 2]));
    let trapped = seen("agent", "trap").await;
    assert!(
        trapped.iter().all(|(before, after)| before == HIDDEN && after.starts_with("trapped: ")),
        "{trapped:?}"
    );
    let asked = seen("agent", "memory-kv").await;
    assert!(
        asked.iter().all(|(before, after)| before == HIDDEN && after.starts_with("asked for ")),
        "{asked:?}"
    );
}
