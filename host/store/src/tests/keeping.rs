//! Inbox, journal, memory, knowledge, streams.

use super::*;
use crate::{MemoryOutcome, MemoryScope, MemoryWrite, Passage, Revision, StreamEvent};
use chela_types::Speaker;

#[tokio::test]
async fn a_known_key_is_the_old_turn_and_unknown_keys_are_added() {
    let b = bench().await;
    let first = b.store.accept(vec![arrival("c", &["a", "b"])]).await.unwrap()[0];
    let overlap = b.store.accept(vec![arrival("c", &["b", "c"])]).await.unwrap()[0];
    let added = b.store.accept(vec![arrival("c", &["c"])]).await.unwrap()[0];
    assert!(first.fresh && !overlap.fresh && !added.fresh);
    assert_eq!((first.turn, first.turn), (overlap.turn, added.turn));
    let mut elsewhere = arrival("c", &["a"]);
    elsewhere.message.channel = ChannelId::new("other").unwrap();
    assert!(b.store.accept(vec![elsewhere]).await.unwrap()[0].fresh, "keys are a channel's own");
}

#[tokio::test]
async fn any_number_of_keys_is_kept_and_the_oldest_turn_wins() {
    let b = bench().await;
    let one = b.store.accept(vec![arrival("c", &["a"])]).await.unwrap()[0];
    let many = b.store.accept(vec![arrival("c", &["b", "c", "d", "e"])]).await.unwrap()[0];
    assert!(one.fresh && many.fresh);
    assert_eq!(b.accept("c", "e").await, Accepted { turn: many.turn, fresh: false });
    let both = b.store.accept(vec![arrival("c", &["d", "x", "a"])]).await.unwrap()[0];
    assert_eq!(both, Accepted { turn: one.turn, fresh: false });
    assert_eq!(b.accept("c", "x").await, Accepted { turn: one.turn, fresh: false });
    assert_eq!(b.store.counts().await.unwrap().waiting, 2);
}

#[tokio::test]
async fn what_is_journaled_is_seen_under_every_lease_of_the_turn() {
    let b = bench().await;
    b.accept("c", "a").await;
    let first = b.claim_one().await.lease;
    assert!(b.store.journal(&first).await.unwrap().is_empty());
    b.store.record(&first.clone(), entry(0, "v")).await.unwrap();
    assert_eq!(b.store.journal(&first).await.unwrap().len(), 1);
    b.store.release(&first).await.unwrap();
    let second = b.claim_one().await.lease;
    assert_eq!(b.store.journal(&second).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_request_may_tell_of_a_post_twice() {
    let b = bench().await;
    let both = b.store.accept(vec![arrival("c", &["a"]), arrival("c", &["a"])]).await.unwrap();
    assert_eq!((both[0].fresh, both[1].fresh), (true, false));
    assert_eq!(b.store.counts().await.unwrap().waiting, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_fresh() {
    let b = bench().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = b.store.clone();
            tokio::spawn(async move { store.accept(vec![arrival("c", &["same"])]).await.unwrap()[0] })
        })
        .collect();
    let accepted: Vec<Accepted> =
        futures::future::join_all(tasks).await.into_iter().map(|one| one.unwrap()).collect();
    assert_eq!(accepted.iter().filter(|one| one.fresh).count(), 1);
    assert!(accepted.iter().all(|one| one.turn == accepted[0].turn));
}

#[tokio::test]
async fn a_message_without_a_key_is_refused_with_all_of_its_request() {
    let b = bench().await;
    let refused = b.store.accept(vec![arrival("c", &["a"]), arrival("c", &[])]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert_eq!(b.store.counts().await.unwrap().waiting, 0);
}

#[tokio::test]
async fn the_journal_survives_a_crash_in_order() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    for seq in [0, 1, 2] {
        b.store.record(&claimed.lease, entry(seq, &format!("v{seq}"))).await.unwrap();
    }
    b.store.record_behind(&claimed.lease, entry(3, "v3")).await.unwrap();
    assert!(matches!(b.store.record(&claimed.lease, entry(1, "x")).await, Err(Error::Invalid(_))));
    let again = b.crashed().await;
    let lease = again.claim_one().await.lease;
    let values: Vec<_> = again.store.journal(&lease).await.unwrap();
    assert_eq!(values, [0, 1, 2, 3].map(|seq| entry(seq, &format!("v{seq}"))));
}

#[tokio::test]
async fn a_journal_is_revised_as_a_whole_or_not_at_all() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    for seq in [0, 1, 2, Entry::ASIDE] {
        b.store.record(&lease, entry(seq, "old")).await.unwrap();
    }
    let refused =
        Revision { void: 1..2, gone: vec![Entry::ASIDE], entries: vec![entry(1, "new"), entry(2, "taken")] };
    b.store.revise_journal_behind(&lease, refused).await.unwrap();
    let moved =
        Revision { void: 2..Entry::ASIDE, gone: vec![Entry::ASIDE], entries: vec![entry(3, "moved")] };
    b.store.revise_journal_behind(&lease, moved).await.unwrap();
    b.store.record(&lease, entry(4, "flush")).await.unwrap();
    let wanted = [entry(0, "old"), entry(1, "old"), entry(3, "moved"), entry(4, "flush")];
    assert_eq!(b.store.journal(&lease).await.unwrap(), wanted);
}

#[tokio::test]
async fn a_write_to_memory_empties_what_it_makes_void() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    for seq in [0, 7, 8] {
        b.store.record(&lease, entry(seq, "old")).await.unwrap();
    }
    let write = MemoryWrite {
        agent: agent("hr"),
        scope: MemoryScope::Agent,
        key: "k".into(),
        value: "one".into(),
        expected: None,
        void: vec![7],
    };
    b.store.memory_set(&lease, write, |_| entry(1, "written")).await.unwrap();
    let kept = [entry(0, "old"), entry(1, "written"), entry(8, "old")];
    assert_eq!(b.store.journal(&lease).await.unwrap(), kept);
}

#[tokio::test]
async fn memory_is_written_with_its_journal_entry_or_not_at_all() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    let write = |value: &str, expected| MemoryWrite {
        agent: agent("hr"),
        scope: MemoryScope::User("U1".into()),
        key: "k".into(),
        value: value.into(),
        expected,
        void: vec![],
    };
    let log = |seq| move |outcome: MemoryOutcome| entry(seq, &format!("{outcome:?}"));
    let set = |w, seq| b.store.memory_set(&lease, w, log(seq));
    assert_eq!(set(write("one", Some(0)), 0).await.unwrap(), MemoryOutcome::Written(1));
    assert_eq!(set(write("two", Some(0)), 1).await.unwrap(), MemoryOutcome::Conflict(1));
    assert!(matches!(set(write("three", None), 1).await, Err(Error::Invalid(_))), "the place is taken");
    let user = MemoryScope::User("U1".into());
    let kept = b.store.memory_get(&tenant(), &agent("hr"), &user, "k").await.unwrap().unwrap();
    assert_eq!((kept.value.as_str(), kept.version), ("one", 1));
    let journal = b.store.journal(&lease).await.unwrap();
    assert_eq!(journal[0].value, b"Written(1)");
    assert_eq!(journal[1].value, b"Conflict(1)");
    let other = b.store.memory_get(&tenant(), &agent("hr"), &MemoryScope::User("U2".into()), "k").await;
    assert_eq!(other.unwrap(), None);
}

#[tokio::test]
async fn memory_limits_obeyed_and_violated() {
    let folder = TempDir::new().unwrap();
    let clock = ManualClock::at(Millis(1));
    let config = Config { memory_value_bytes_max: 4, memory_keys_max: 2, ..Config::new(folder.path()) };
    let store = Store::open(config, Arc::new(clock.clone())).await.unwrap();
    let b = Bench { store, clock, folder };
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    let write = |key: &str, value: &str| MemoryWrite {
        agent: agent("hr"),
        scope: MemoryScope::Agent,
        key: key.into(),
        value: value.into(),
        expected: None,
        void: vec![],
    };
    let set = |w, seq| b.store.memory_set(&lease, w, move |_| entry(seq, ""));
    set(write("a", "1234"), 0).await.unwrap();
    set(write(&"k".repeat(128), "1"), 1).await.unwrap();
    set(write("a", "4321"), 2).await.unwrap();
    for (key, value) in [("a", "12345"), (&"k".repeat(129), "1"), ("third", "1")] {
        assert!(matches!(set(write(key, value), 3).await, Err(Error::TooLarge { .. })), "{key} {value}");
    }
    assert!(matches!(set(write("", "1"), 3).await, Err(Error::Invalid(_))));
}

fn passage(source: &str, text: &str) -> Passage {
    Passage { source: source.into(), text: text.into() }
}

async fn library(b: &Bench) {
    let passages = vec![
        passage("returns.md › Refunds", "A refund is paid within five days after the goods came back."),
        passage(
            "returns.md › How to return",
            "How do I send it? Print the label. How you do that is up to you.",
        ),
        passage("shipping.md › Zürich", "Parcels to Zurich take two days."),
    ];
    let digest = Digest::of("v", &[b"1"]);
    assert!(b.store.knowledge_replace(&tenant(), "support", digest, passages.clone()).await.unwrap());
    assert!(!b.store.knowledge_replace(&tenant(), "support", digest, passages).await.unwrap());
}

#[tokio::test]
async fn knowledge_is_found_by_matter_and_replaced_whole() {
    let b = bench().await;
    library(&b).await;
    let search = async |query: &str| {
        let found = b.store.knowledge_search(&tenant(), "support", query, 5).await.unwrap();
        found.into_iter().map(|(passage, _)| passage.source).collect::<Vec<_>>()
    };
    assert_eq!(search("How do I get refunds?").await, ["returns.md › Refunds"]);
    assert_eq!(search("zürich").await, ["shipping.md › Zürich"]);
    assert_eq!(search("ZURICH").await, ["shipping.md › Zürich"]);
    assert_eq!(search("").await, [""; 0]);
    let elsewhere = b.store.knowledge_search(&tenant(), "hr", "refund", 5).await.unwrap();
    assert!(elsewhere.is_empty(), "a collection is an agent's own");
    let new = vec![passage("new.md", "Refunds are gone.")];
    b.store.knowledge_replace(&tenant(), "support", Digest::of("v", &[b"2"]), new).await.unwrap();
    assert_eq!(search("refund days").await, ["new.md"]);
}

#[tokio::test]
async fn collections_that_nobody_names_are_removed_and_their_ids_lead_nowhere() {
    let b = bench().await;
    library(&b).await;
    let write = async |name: &str, text: &str| {
        let passages = vec![passage(name, text)];
        b.store.knowledge_replace(&tenant(), name, Digest::of("v", &[b"1"]), passages).await.unwrap();
    };
    let search = async |collection: &str| {
        b.store.knowledge_search(&tenant(), collection, "refund", 5).await.unwrap().len()
    };
    write("hr", "No refund of salaries.").await;
    assert_eq!(b.store.knowledge_keep(&tenant(), &["support", "none"]).await.unwrap(), 1);
    assert_eq!((search("support").await, search("hr").await), (1, 0));
    write("sales", "A refund is rare.").await;
    assert_eq!((search("sales").await, search("hr").await), (1, 0));
    assert_eq!(b.store.knowledge_keep(&tenant(), &[]).await.unwrap(), 2);
    write("hr", "What was there is gone.").await;
    assert_eq!((search("support").await, search("hr").await), (0, 0));
}

#[tokio::test]
async fn a_hostile_query_is_only_words() {
    let b = bench().await;
    library(&b).await;
    for query in [
        "\"",
        "*",
        "NEAR(",
        "NEAR(refund, 2)",
        "-refund",
        "refund\0",
        "😀",
        "source:refund",
        "{source} : refund",
        "refund OR",
        "AND",
        "NOT refund",
        "^refund",
        "(((",
        "'; DROP TABLE turns; --",
        "refund*\"",
        "²",
        "\u{301}",
    ] {
        let found = b.store.knowledge_search(&tenant(), "support", query, 5).await;
        let found = found.unwrap_or_else(|error| panic!("{query}: {error}"));
        let wanted = query.contains("refund");
        assert_eq!(found.iter().any(|(one, _)| one.source.ends_with("Refunds")), wanted, "{query}");
    }
    let long = "refund ".repeat(10_000) + &(0..10_000).map(|n| format!("w{n} ")).collect::<String>();
    assert_eq!(b.store.knowledge_search(&tenant(), "support", &long, 5).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was() {
    let b = bench().await;
    let event = |text: &str| StreamEvent { session: "s".into(), event: text.into() };
    let mut with_echo = arrival("c", &["a"]);
    with_echo.echo = Some(event("person"));
    b.store.accept(vec![with_echo.clone()]).await.unwrap();
    b.store.accept(vec![with_echo]).await.unwrap();
    let claimed = b.claim_one().await;
    let out = b.store.answered(&claimed.lease, answer("hi")).await.unwrap();
    assert_eq!(b.store.delivered_to_stream(&claimed.lease, out.id, event("agent")).await.unwrap(), 2);
    assert_eq!(b.store.append_event(&tenant(), event("note")).await.unwrap(), 3);
    let all = b.store.events_after(&tenant(), "s", 0, 10).await.unwrap();
    assert_eq!(all, [(1, "person".into()), (2, "agent".into()), (3, "note".into())]);
    assert_eq!(b.store.events_after(&tenant(), "s", 2, 10).await.unwrap().len(), 1);
    assert_eq!(b.store.events_after(&tenant(), "t", 0, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn past_utterances_come_oldest_first_without_notices() {
    let b = bench().await;
    for (key, notice) in [("a", false), ("b", true), ("c", false)] {
        b.accept("talk", key).await;
        let claimed = b.claim_one().await;
        let out = b.store.answered(&claimed.lease, Answer { notice, ..answer(key) }).await.unwrap();
        b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    }
    b.accept("talk", "d").await;
    let claimed = b.claim_one().await;
    assert_eq!(claimed.turn.sticky, Some(agent("support")));
    let spoken = async |limit| {
        let past = b.store.utterances(&claimed.lease, limit).await.unwrap();
        past.into_iter().map(|one| (one.speaker == Speaker::Agent, one.text)).collect::<Vec<_>>()
    };
    let all = [(false, "text of a"), (true, "a"), (false, "text of b"), (false, "text of c"), (true, "c")];
    let all = all.map(|(agent, text)| (agent, text.to_owned()));
    assert_eq!(spoken(10).await, all);
    assert_eq!(spoken(2).await, all[3..]);
    assert_eq!(b.store.sticky(claimed.lease.conversation()).await.unwrap(), Some(agent("support")));
}

#[tokio::test]
async fn what_a_cache_has_learned_is_an_agents_own() {
    let b = bench().await;
    let (one, other) = (AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
    let elsewhere = TenantId::new("elsewhere").unwrap();
    let learned = |learned: &str| crate::CacheTrust { by: "rule".into(), learned: learned.into() };
    for text in ["{}", "{\"x\":1}"] {
        b.store.keep_cache_trust(&tenant(), &one, learned(text)).await.unwrap();
    }
    assert_eq!(b.store.cache_trust(&tenant(), &one).await.unwrap(), Some(learned("{\"x\":1}")));
    assert_eq!(b.store.cache_trust(&tenant(), &other).await.unwrap(), None);
    assert_eq!(b.store.cache_trust(&elsewhere, &one).await.unwrap(), None);
    let much = learned(&"x".repeat(65 << 10));
    let refused = b.store.keep_cache_trust(&tenant(), &one, much).await;
    assert!(matches!(refused, Err(crate::Error::TooLarge { .. })));
}
