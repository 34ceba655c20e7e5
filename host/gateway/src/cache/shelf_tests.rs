//! How many questions a cache may hold, and how long they may be, until it takes a worker's time.

use super::alike_tests::{ALIKE, Desk, FORM, KEPT, NEVER, at, desk, loose, same, tenant};
use super::*;
use crate::cache::tests::on;
use chela_lexical::Pool;

fn parcel(number: usize) -> String {
    format!("What does it cost to send parcel number {number} from Berlin to Rome?")
}

/// Keeps an answer to each question, as if it had been asked.
async fn keep(desk: &Desk, questions: impl Iterator<Item = String>) {
    for question in questions {
        let call = at(CacheLevel::Similar, &question);
        let asked = Asked::of(&call, Language::English).unwrap();
        let completed =
            Completed { text: "x".into(), calls: Vec::new(), finish: Finish::Stop, call: call.record() };
        let how = (Duration::from_secs(60), Language::English);
        let entry = Entry::of((&call, &asked), &completed, how).unwrap();
        desk.kept().insert(entry, (CacheLevel::Similar, 0)).await;
    }
}

/// What is looked through at most, and what that takes.
#[tokio::test]
async fn a_full_shelf_is_looked_through_in_a_moment() {
    let desk = desk(same());
    // Of one form each, and none is the same as another.
    keep(&desk, (0..2 * shelf::SHELF_MAX + 50).map(parcel)).await;
    let begun = std::time::Instant::now();
    for number in 0..20 {
        let answer = desk.ask(at(CacheLevel::Similar, &parcel(1_000_000 + number))).await;
        assert_eq!(answer.call.kept.unwrap().why, "number");
    }
    println!("a full shelf of {} takes {:?}", shelf::SHELF_MAX, begun.elapsed() / 20);
    assert!(begun.elapsed() < Duration::from_secs(10));
    // As long as a question may be, and half of it is what all have.
    let long = format!("{} {}", parcel(7), "and why does it take so long ".repeat(30));
    let begun = std::time::Instant::now();
    let explained = desk.kept().explain((&tenant(), &on().agent), (&long, CacheLevel::Similar), false).await;
    println!("to explain it takes {:?}", begun.elapsed());
    assert!(explained.form.is_some() && begun.elapsed() < Duration::from_secs(3));
}

/// Many look more like it than the one that may answer it.
#[tokio::test]
async fn what_can_be_verified_is_found_whatever_the_number() {
    let desk = desk(same());
    let portal =
        |what: &str, number: usize| format!("{what} browsers are supported by portal number {number}?");
    let others = (70..80).chain(700..800).map(|number| portal("What", number));
    keep(&desk, std::iter::once(portal("Which", 7)).chain(others)).await;
    let answer = desk.ask(at(CacheLevel::Similar, &portal("What", 7))).await;
    // Both have one answer, which is not the one that was put there.
    assert_eq!(answer.call.kept.unwrap().why, "other_answer");
}

#[tokio::test]
async fn what_is_too_long_for_a_question_is_answered_by_nothing_but_itself() {
    let desk = desk(same());
    let long = |question: &str| format!("{question} {}", "It worked before. ".repeat(60));
    for (question, cache) in
        [(KEPT, CacheVerdict::Miss), (KEPT, CacheVerdict::Hit), (FORM, CacheVerdict::Miss)]
    {
        let answer = desk.ask(at(CacheLevel::Similar, &long(question))).await;
        assert_eq!(answer.call.cache, cache, "{question}");
    }
    let whose = (tenant(), on().agent);
    let asked = (&*long(KEPT), CacheLevel::Similar);
    let explained = desk.kept().explain((&whose.0, &whose.1), asked, false).await;
    let [candidate] = &explained.candidates[..] else { panic!("{explained:?}") };
    assert_eq!((candidate.why.as_str(), explained.form), ("exact", None));
}

/// At this level nobody looks for likeness, so that nothing is held for it.
#[tokio::test]
async fn an_answer_to_another_form_holds_no_more_than_its_words() {
    let mut bytes = Vec::new();
    for level in [CacheLevel::Exact, CacheLevel::Canonical, CacheLevel::Similar] {
        let desk = desk(same());
        desk.ask(at(level, KEPT)).await;
        bytes.push(desk.kept().stock(&tenant()).await.bytes);
        let explained = desk.kept().explain((&tenant(), &on().agent), (ALIKE[0], level), false).await;
        assert!(explained.candidates.is_empty(), "nothing is near: {explained:?}");
        let near = "How do I reset my phone?";
        let explained = desk.kept().explain((&tenant(), &on().agent), (near, level), false).await;
        assert_eq!(explained.candidates.len(), usize::from(level > CacheLevel::Exact), "{level:?}");
    }
    let words = KEPT.len() as u64;
    assert_eq!(bytes[1] - bytes[0], words);
    assert!(bytes[2] - bytes[1] > 8 * words, "{bytes:?}");
}

/// A host that falls within the minute must not serve again what was closed.
#[tokio::test]
async fn a_band_that_opens_or_closes_is_written_down_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(chela_types::SystemClock);
    let store = chela_store::Store::open(chela_store::Config::new(folder.path()), clock).await.unwrap();
    let model = desk(same()).model;
    let cached = Cached::new(loose(), model.clone(), (Arc::new(|| NEVER), Some(store.clone())));
    let desk = Desk { model, cached: Arc::new(cached) };
    let written = async |is_open: bool| {
        let is_so = async || {
            let kept = store.cache_trust(&tenant(), &on().agent).await.unwrap();
            let pool = kept.map(|kept| serde_json::from_str::<Pool>(&kept.learned).unwrap());
            pool.is_some_and(|pool| pool.open().contains(&true) == is_open)
        };
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    let soon = Duration::from_secs(20);
    desk.opens().await;
    tokio::time::timeout(soon, written(true)).await.expect("it opened");
    let served = desk.ask(at(CacheLevel::Similar, ALIKE[1])).await.call.kept.unwrap();
    desk.kept().evict(&tenant(), &Evict::Entry(served.entry), true).await;
    tokio::time::timeout(soon, written(false)).await.expect("it closed");
}
