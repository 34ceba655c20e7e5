//! Answers that can be watched while they are made: one post, edited, and in the end it says the kept answer, whatever
//! happened in between.

use std::time::Duration;

use chela_engine::{Ambiguous, Error};
use chela_gateway::{Fail, Rule};
use chela_sandbox::Source;
use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_store::{Progress, TurnState};
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, NOTICE, Outside, Setup, eventually, host, say};
use chela_types::Tokens;
use serde_json::{Value, json};

/// Forty words.
fn long() -> String {
    (0..40).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ")
}

/// A model that takes about two seconds for them.
fn slow() -> Rule {
    Rule { first_ms: 20, chunk_ms: 50, ..say(&long()) }
}

fn public(text: &str) -> Say {
    Say { channel: "C0PUBLIC".to_owned(), user: "U1".to_owned(), text: text.to_owned(), ..Say::default() }
}

/// A Slack that shows progress, and quicker than the real one would like it.
fn showing(outside: &Outside) -> Setup {
    showing_each(outside, 150)
}

/// The same with a draft each so many milliseconds.
fn showing_each(outside: &Outside, interval_ms: u32) -> Setup {
    let found = chela_bundle::get("slack").unwrap();
    let manifest = found.manifest.replace("interval_ms = 1500", &format!("interval_ms = {interval_ms}"));
    let manifest = manifest.replace("per_minute = 40", "per_minute = 6000");
    let component = found.component.into();
    host(outside)
        .agent("support", "assistant")
        .model([slow()])
        .slack("slack", "support")
        .with_plugin("slack", |plugin| plugin.source = Source::Embedded { manifest, component })
        .with_channel("slack", |channel| channel.progress = true)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_grows_in_one_post_and_ends_as_the_kept_answer() {
    let outside = Outside::new().await;
    let host = showing(&outside).run().await;
    host.slack_says(&outside, &public("hello")).await;
    let record = host.closed("hello").await;
    let screen = outside.slack.screen();
    assert_eq!((screen.len(), screen[0].text.as_str()), (1, long().as_str()));
    let outbox = record.outbox.unwrap();
    assert_eq!((record.state, outbox.ambiguous, outbox.requests), (TurnState::Delivered, 0, 1));
    assert_eq!(outbox.platform_id.as_ref(), Some(&screen[0].ts));
    let drafts: Vec<String> = outside.slack.edits().all().into_iter().map(|edit| edit.text).collect();
    assert!(drafts.len() > 3, "it was seen growing: {drafts:?}");
    let (last, drafts) = drafts.split_last().unwrap();
    assert_eq!(*last, long());
    for draft in drafts.iter().chain([&outside.slack.posts().all()[0].text]) {
        let shown = draft.strip_suffix(" …").expect("a draft says that more is to come");
        assert!(long().starts_with(shown), "{draft}");
    }
    assert!(drafts.windows(2).all(|pair| pair[0].len() <= pair[1].len()), "in order: {drafts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_at_once_has_no_drafts_and_what_is_off_neither() {
    let outside = Outside::new().await;
    let quick = showing(&outside).model([say("at once")]).run().await;
    quick.slack_says(&outside, &public("hello")).await;
    assert_eq!(quick.closed("hello").await.state, TurnState::Delivered);
    let off = showing(&outside).with_channel("slack", |channel| channel.progress = false).run().await;
    off.slack_says(&outside, &public("hello")).await;
    assert_eq!(off.closed("hello").await.state, TurnState::Delivered);
    assert_eq!((outside.slack.posts().len(), outside.slack.edits().len()), (2, 0));
    // And an adapter that cannot edit is no promise.
    let refused = host(&outside)
        .agent("support", "assistant")
        .webhook("partner", "support")
        .with_channel("partner", |channel| channel.progress = true)
        .try_run()
        .await;
    assert!(
        matches!(&refused, Err(Error::Configuration(why)) if why.contains("[channel.partner] progress = true")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_leaves_one_post_and_it_says_the_answer() {
    let outside = Outside::new().await;
    let running = showing(&outside).run().await;
    running.slack_says(&outside, &public("hello")).await;
    eventually("a draft was edited", async || outside.slack.edits().len() > 1).await;
    let host = running.crash().restart().await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.crashes), (TurnState::Delivered, 1));
    let screen = outside.slack.screen();
    assert_eq!((screen.len(), screen[0].text.as_str()), (1, long().as_str()), "{screen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_answer_takes_its_place_repeats_the_edit_and_nothing_else() {
    let outside = Outside::new().await;
    let longer = vec![long(); 30].join(" ");
    let model = Rule { first_ms: 20, chunk_ms: 1, ..say(&longer) };
    let running = showing(&outside)
        .agent("support", "agent")
        .with_plugin("agent", |plugin| drop(plugin.config.insert("behaviour".to_owned(), json!("relay"))))
        .model([model])
        .with_gateway(|gateway| gateway.tiers[0].max_output = Tokens(10_000))
        .run()
        .await;
    running.slack_says(&outside, &public("hello")).await;
    eventually("a draft is there", async || !outside.slack.posts().is_empty()).await;
    // From now on each call takes so long that the crash meets one.
    outside.slack.faults().inject(&Fault::Delay(Duration::from_millis(300)), 100);
    eventually("the answer is kept", async || {
        running.find("hello").await.is_some_and(|record| record.outbox.is_some())
    })
    .await;
    let host = running.crash().restart().await;
    let record = host.closed("hello").await;
    assert_eq!(
        (record.state, record.outbox.unwrap().ambiguous),
        (TurnState::Delivered, 0),
        "an edit is never in doubt"
    );
    let said: Vec<String> = outside.slack.screen().into_iter().map(|post| post.text).collect();
    assert!(said.len() > 1, "one post does not hold it");
    assert_eq!(said.join(" ").split_whitespace().count(), longer.split_whitespace().count());
    assert!(!said.iter().any(|text| text.ends_with('…')));
}

/// Whatever the channel's policy is: an edit that is made twice changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_edit_is_cut_off_is_edited_in_again() {
    for policy in [Ambiguous::AtLeastOnce, Ambiguous::AtMostOnce] {
        let outside = Outside::new().await;
        // One draft, and then the answer.
        let host = showing_each(&outside, 1_500)
            .with_channel("slack", |channel| channel.ambiguous = policy)
            .run()
            .await;
        for fault in [Fault::Delay(Duration::ZERO), Fault::Drop] {
            outside.slack.faults().inject(&fault, 1);
        }
        host.slack_says(&outside, &public("hello")).await;
        let record = host.closed("hello").await;
        assert_eq!((record.state, record.outbox.unwrap().ambiguous), (TurnState::Delivered, 0), "{policy:?}");
        let screen = outside.slack.screen();
        assert_eq!((screen.len(), screen[0].text.as_str()), (1, long().as_str()), "{policy:?}");
        assert_eq!(outside.slack.edits().len(), 2, "{policy:?}: cut off, and again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_waits_for_a_draft_that_is_underway() {
    let outside = Outside::new().await;
    let host = showing(&outside).run().await;
    // Longer than the model speaks.
    outside.slack.faults().inject(&Fault::Delay(Duration::from_secs(4)), 1);
    host.slack_says(&outside, &public("hello")).await;
    let record = host.closed("hello").await;
    assert_eq!((outside.slack.posts().len(), outside.slack.edits().len()), (1, 1));
    assert_eq!(
        (record.state, outside.slack.screen()[0].text.as_str()),
        (TurnState::Delivered, long().as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_draft_of_unknown_outcome_is_left_alone_and_the_answer_is_said_once() {
    let outside = Outside::new().await;
    let host = showing(&outside).run().await;
    outside.slack.faults().inject(&Fault::Drop, 1);
    host.slack_says(&outside, &public("hello")).await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.outbox.unwrap().ambiguous), (TurnState::Delivered, 0));
    let posts = outside.slack.posts().all();
    assert_eq!(posts.len(), 2, "the draft that nobody confirmed, and the answer");
    assert!(posts[0].text.ends_with(" …"));
    assert_eq!((posts[1].text.as_str(), outside.slack.edits().len()), (long().as_str(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_draft_of_unknown_outcome_stays_so_in_a_later_run() {
    let outside = Outside::new().await;
    let host = failing(&outside, 2).run().await;
    outside.slack.faults().inject(&Fault::Drop, 1);
    host.slack_says(&outside, &public("hello")).await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.progress), (TurnState::Dead, Some(Progress::Lost)));
    let posts = outside.slack.posts().all();
    assert_eq!((posts.len(), outside.slack.edits().len()), (2, 0), "no second draft was posted: {posts:?}");
    assert_eq!(posts[1].text, NOTICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_that_fail_harm_no_answer() {
    let outside = Outside::new().await;
    let host = showing(&outside).run().await;
    for (text, faults) in [
        ("one", [Fault::TooMany { retry_after: 1 }, Fault::Status(503)]),
        ("two", [Fault::Delay(Duration::ZERO), Fault::Status(500)]),
        ("three", [Fault::Delay(Duration::ZERO), Fault::Drop]),
        ("four", [Fault::Refusal("channel_not_found".to_owned()), Fault::Delay(Duration::ZERO)]),
    ] {
        let before = outside.slack.screen().len();
        faults.iter().for_each(|fault| outside.slack.faults().inject(fault, 1));
        host.slack_says(&outside, &public(text)).await;
        let record = host.closed(text).await;
        assert_eq!(record.state, TurnState::Delivered, "{text}");
        let screen = outside.slack.screen();
        assert_eq!(
            (screen.len(), screen.last().unwrap().text.as_str()),
            (before + 1, long().as_str()),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_given_up_says_so_where_its_drafts_stood() {
    // At its first try, and after others that have left their post behind.
    for tries in [1, 3] {
        given_up_after(tries).await;
    }
}

/// Its drafts are seen, and then nothing comes of them.
fn failing(outside: &Outside, tries: u32) -> Setup {
    let cut = Rule { fail: Some(Fail::Cut), ..slow() };
    showing(outside)
        .with_delivery(|delivery| delivery.tries_max = tries)
        .agent("support", "agent")
        .with_plugin("agent", |plugin| {
            drop(plugin.config.insert("behaviour".to_owned(), json!("relay-trap")));
        })
        .model([cut])
}

async fn given_up_after(tries: u32) {
    let outside = Outside::new().await;
    let host = failing(&outside, tries).run().await;
    host.slack_says(&outside, &public("hello")).await;
    assert_eq!(host.closed("hello").await.state, TurnState::Dead);
    let screen = outside.slack.screen();
    assert_eq!((screen.len(), screen[0].text.as_str()), (1, NOTICE), "{screen:?}");
}

async fn tell(host: &Host, outside: &Outside, id: &str) {
    let body = json!({ "id": id, "room": "r1", "sender": "ann", "text": "hello" }).to_string();
    let signed = Signed::now(Scheme::Standard, PARTNER_SECRET, outside.clock.now(), body);
    assert_eq!(host.receive("guest", signed.webhook()).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_edits_its_own_turns_post_or_none() {
    // What it does, what becomes of the turn, and what was said in the end.
    for (behaviour, state, posts) in [
        ("honest", TurnState::Delivered, 1),
        // It would edit another's post: refused, and the answer is a post of its own.
        ("update-lie", TurnState::Delivered, 2),
        ("update-trap", TurnState::Delivered, 2),
        ("update-never", TurnState::Delivered, 2),
        ("edit-refused", TurnState::Delivered, 2),
    ] {
        let outside = Outside::new().await;
        let host = host(&outside)
            .agent("support", "assistant")
            .model([slow()])
            .guest_channel("guest", behaviour, "support")
            .with_channel("guest", |channel| channel.progress = true)
            .run()
            .await;
        tell(&host, &outside, "m1").await;
        assert_eq!(host.closed("hello").await.state, state, "{behaviour}");
        let said = outside.bare.posted();
        let bodies = |path: &str| {
            let of = said.iter().filter(|posted| posted.path == path).map(|posted| posted.body.clone());
            of.collect::<Vec<Value>>()
        };
        let edits = bodies("/edit");
        assert_eq!(bodies("/post").len(), posts, "{behaviour}: {said:?}");
        assert!(edits.iter().all(|body| body["post"] == "p1"), "{behaviour}: {said:?}");
        let last = said.last().unwrap();
        assert_eq!(last.body["text"], long(), "{behaviour}");
        let seqs: Vec<u64> = edits.iter().filter_map(|body| body["seq"].as_u64()).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{behaviour}: {seqs:?}");
        let finals = edits.iter().filter(|body| body["final"] == Value::Bool(true)).count();
        let edits_at_the_end = matches!(behaviour, "honest" | "edit-refused");
        assert_eq!(finals, usize::from(edits_at_the_end), "{behaviour}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_without_a_post_of_its_own_edits_nothing() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .guest_channel("guest", "edit-foreign", "support")
        .run()
        .await;
    tell(&host, &outside, "m1").await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, outside.bare.posted().len()), (TurnState::Dead, 0), "{record:?}");
    assert!(record.last_error.unwrap().0.contains("not the turn's own post"));
}
