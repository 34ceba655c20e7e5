//! Answers to other questions: when they are given, when not, and that an operator can take them back.

use super::judge::Judge;
use super::*;
use crate::cache::tests::{ask, on};
use crate::failover::tests::tool;
use crate::{Form, Image, Kind, Media, Part, Prompt, Role, ToolCall, ToolResult};
use chela_lexical::Rule;
use chela_types::{AgentId, ModelCall, Money, TenantId, TierId};
use futures::FutureExt;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// What each real answer costs.
pub(super) const COST: Money = Money::from_nanos(77);
pub(super) const KEPT: &str = "How do I reset my password?";
/// In another form.
pub(super) const FORM: &str = "hi, how can I reset my passwords please";
/// Verified as the same, and of another form.
pub(super) const ALIKE: [&str; 2] =
    ["Which browsers are supported by the portal?", "What browsers are supported by the portal?"];

/// What is answered to a call.
type Answers = Box<dyn Fn(&Call) -> String + Send + Sync>;

/// Answers by what was asked: every question whose words say the same gets the same, until it changes its mind.
pub(super) struct Knows {
    pub(super) asked: AtomicU32,
    pub(super) answers: Mutex<Answers>,
    pub(super) cut: AtomicBool,
}

impl Model for Knows {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let text = (self.answers.lock())(&call);
        let record = ModelCall { model: Some("p/m".into()), cost: COST, ..call.record() };
        let finish = if self.cut.load(Ordering::SeqCst) { Finish::Length } else { Finish::Stop };
        let told = entry::Told { text, calls: Vec::new(), finish, model: Some("p/m".into()) };
        std::future::ready(Ok(told.replay(record))).boxed()
    }
}

pub(super) struct Desk {
    pub(super) model: Arc<Knows>,
    pub(super) cached: Arc<Cached>,
}

/// What lots are drawn: nothing that could be served is asked for real, but while bands are closed.
pub(super) const NEVER: f64 = 0.999;

pub(super) fn desk(answers: impl Fn(&Call) -> String + Send + Sync + 'static) -> Desk {
    with(Cache::standard(), answers)
}

pub(super) fn with(config: Cache, answers: impl Fn(&Call) -> String + Send + Sync + 'static) -> Desk {
    let answers: Answers = Box::new(answers);
    let model = Arc::new(Knows {
        asked: AtomicU32::new(0),
        answers: Mutex::new(answers),
        cut: AtomicBool::new(false),
    });
    let below: Arc<dyn Model> = model.clone();
    let cached = Arc::new(Cached::new(config, below, (Arc::new(|| NEVER), None)));
    Desk { model, cached }
}

/// A bound that a few comparisons are enough for.
pub(super) fn loose() -> Cache {
    Cache { similar: Rule::new(0.5, 0.05), ..Cache::standard() }
}

pub(super) fn at(level: CacheLevel, question: &str) -> Call {
    let cache = CachePolicy::On { level, knowledge_version: "k1".into(), ttl: None };
    Call { cache, prompts: vec![Prompt::text(Role::User, question)], ..on() }
}

pub(super) fn same() -> impl Fn(&Call) -> String + Send + Sync {
    |_: &Call| "Under Settings.".to_owned()
}

impl Desk {
    pub(super) async fn ask(&self, call: Call) -> Completed {
        ask(&self.cached, call).await.unwrap()
    }

    pub(super) fn asked(&self) -> u32 {
        self.model.asked.load(Ordering::SeqCst)
    }

    pub(super) fn kept(&self) -> &Kept {
        self.cached.kept().unwrap()
    }

    /// Asks questions that are alike to `ALIKE[0]` until one is served; how many were asked for real.
    pub(super) async fn opens(&self) -> u32 {
        self.ask(at(CacheLevel::Similar, ALIKE[0])).await;
        for asked in 0..2_000 {
            let answer = self.ask(at(CacheLevel::Similar, ALIKE[1])).await;
            if answer.call.cache == CacheVerdict::Similar {
                return asked;
            }
            assert_eq!(answer.call.cache, CacheVerdict::Miss);
            // The answer to the other question is kept now, too; it is to be asked as if it were new.
            self.forgets(ALIKE[1]).await;
        }
        panic!("the band stays closed");
    }

    pub(super) async fn forgets(&self, question: &str) {
        let asked = Asked::of(&at(CacheLevel::Similar, question), Language::English).unwrap();
        self.kept().entries.invalidate(&asked.key).await;
    }
}

pub(super) fn tenant() -> TenantId {
    on().tenant
}

#[tokio::test]
async fn another_form_is_answered_again_where_the_agent_says_so() {
    for (level, expected) in [
        (CacheLevel::Exact, CacheVerdict::Miss),
        (CacheLevel::Canonical, CacheVerdict::Canonical),
        (CacheLevel::Similar, CacheVerdict::Canonical),
    ] {
        let desk = desk(same());
        let first = desk.ask(at(level, KEPT)).await;
        assert_eq!((first.call.cache, first.call.saved), (CacheVerdict::Miss, Money::ZERO));
        assert_eq!(desk.ask(at(level, KEPT)).await.call.cache, CacheVerdict::Hit, "{level:?}");
        let other = desk.ask(at(level, FORM)).await;
        assert_eq!(other.call.cache, expected, "{level:?}");
        if expected == CacheVerdict::Canonical {
            assert_eq!((other.call.cost, other.call.saved), (Money::ZERO, COST));
            let note = other.call.kept.unwrap();
            assert_eq!((note.why.as_str(), note.likeness, note.entry.len()), ("canonical", None, 12));
        }
        // Who says it in this form once has made no exact entry of it, and hears the same.
        assert_eq!(other.text, "Under Settings.");
    }
}

#[tokio::test]
async fn a_kept_answer_comes_as_a_stream_at_each_level() {
    let long =
        "One two three, and a good many more words that make up more than a single piece of an answer.";
    let desk = with(loose(), |_| long.to_owned());
    desk.ask(at(CacheLevel::Similar, KEPT)).await;
    desk.opens().await;
    for question in [KEPT, FORM, ALIKE[1]] {
        let answer = desk.cached.complete(Arc::new(at(CacheLevel::Similar, question))).await.unwrap();
        let chunks: Vec<Chunk> = answer.chunks.map(Result::unwrap).collect().await;
        let text = |chunk: &Chunk| if let Chunk::Text(text) = chunk { text.clone() } else { String::new() };
        assert!(chunks.len() > 2, "{question}: in pieces");
        assert_eq!(chunks.iter().map(text).collect::<String>(), long);
        assert!(matches!(chunks.last(), Some(Chunk::End(end)) if end.text == long));
    }
}

#[tokio::test]
async fn what_is_more_than_one_question_is_answered_by_nothing_but_itself() {
    let with = |prompts: Vec<Prompt>| move |call: Call| Call { prompts: prompts.clone(), ..call };
    let user = |parts| vec![Prompt { role: Role::User, parts }];
    let text = |text: &str| Part::Text(text.to_owned());
    let image = || Part::Image(Image::base64(Media::Png, "iVBORw0KGgo=").unwrap());
    let result = || Part::ToolResult(ToolResult { id: "c".into(), text: "x".into(), is_error: false });
    let called = || Part::ToolCall(ToolCall { id: "c".into(), name: "n".into(), arguments: "{}".into() });
    let said = |role, text: &str| Prompt::text(role, text);
    let earlier = |text: &str| {
        with(vec![said(Role::User, "Hello"), said(Role::Assistant, "Yes?"), said(Role::User, text)])
    };
    type Changed = Box<dyn Fn(Call) -> Call>;
    let table: Vec<(&str, Changed, Changed)> = vec![
        ("a conversation", Box::new(earlier(KEPT)), Box::new(earlier(FORM))),
        (
            "an image",
            Box::new(with(user(vec![text(KEPT), image()]))),
            Box::new(with(user(vec![text(FORM), image()]))),
        ),
        (
            "a tool's result",
            Box::new(with(user(vec![result(), text(KEPT)]))),
            Box::new(with(user(vec![result(), text(FORM)]))),
        ),
        (
            "a tool's call",
            Box::new(with(user(vec![called(), text(KEPT)]))),
            Box::new(with(user(vec![called(), text(FORM)]))),
        ),
        (
            "two texts",
            Box::new(with(user(vec![text(KEPT), text("")]))),
            Box::new(with(user(vec![text(FORM), text("")]))),
        ),
        (
            "of the model",
            Box::new(with(vec![said(Role::Assistant, KEPT)])),
            Box::new(with(vec![said(Role::Assistant, FORM)])),
        ),
        (
            "tools",
            Box::new(|call| Call { tools: vec![tool("look")], ..call }),
            Box::new(|_| Call { tools: vec![tool("look")], ..at(CacheLevel::Similar, FORM) }),
        ),
        (
            "a form",
            Box::new(|call| Call { form: Form::JsonObject, ..call }),
            Box::new(|_| Call { form: Form::JsonObject, ..at(CacheLevel::Similar, FORM) }),
        ),
    ];
    for (name, one, other) in table {
        let desk = desk(same());
        let first = at(CacheLevel::Similar, KEPT);
        desk.ask(one(first.clone())).await;
        assert_eq!(desk.ask(other(first.clone())).await.call.cache, CacheVerdict::Miss, "{name}");
        assert_eq!(desk.ask(one(first)).await.call.cache, CacheVerdict::Hit, "{name}");
        assert_eq!(desk.asked(), 2, "{name}");
    }
}

/// In a partition of its own: neither its other form nor what is alike is answered by what another one keeps.
#[tokio::test]
async fn whatever_else_shapes_the_answer_has_answers_of_its_own() {
    let similar = |question| at(CacheLevel::Similar, question);
    let policy = |version: &str| CachePolicy::On {
        level: CacheLevel::Similar,
        knowledge_version: version.into(),
        ttl: None,
    };
    type Changed = Box<dyn Fn(Call) -> Call>;
    let table: Vec<(&str, Changed)> = vec![
        ("tenant", Box::new(|call| Call { tenant: TenantId::new("other").unwrap(), ..call })),
        ("agent", Box::new(|call| Call { agent: AgentId::new("hr").unwrap(), ..call })),
        ("agent version", Box::new(|call| Call { agent_version: "2".into(), ..call })),
        ("knowledge", Box::new(move |call| Call { cache: policy("k2"), ..call })),
        ("system", Box::new(|call| Call { system: Some("Be kind.".into()), ..call })),
        ("temperature", Box::new(|call| Call { temperature: Some(0.5), ..call })),
        ("top p", Box::new(|call| Call { top_p: Some(0.5), ..call })),
        ("tier", Box::new(|call| Call { tier: TierId::new("smart").unwrap(), ..call })),
        ("stop", Box::new(|call| Call { stop: vec!["END".into()], ..call })),
        ("seed", Box::new(|call| Call { seed: Some(7), ..call })),
        ("confidential", Box::new(|call| Call { cache: CachePolicy::Off, ..call })),
    ];
    for (name, other) in table {
        let desk = with(loose(), same());
        desk.ask(similar(KEPT)).await;
        desk.opens().await;
        for question in [KEPT, FORM, ALIKE[0], ALIKE[1]] {
            let answer = desk.ask(other(similar(question))).await;
            let kept = answer.call.kept;
            let is_own = matches!(answer.call.cache, CacheVerdict::Miss | CacheVerdict::Off);
            // What it asked itself a moment ago is its own.
            assert!(is_own || question == FORM, "{name}: {question}: {:?} {kept:?}", answer.call.cache);
        }
    }
}

#[tokio::test]
async fn nothing_similar_is_served_until_the_bound_holds_and_nothing_after_a_wrong_one() {
    let desk = desk(same());
    let asked = desk.opens().await;
    // The first comparison vets the entry; each look at each of ten bands has its part of the 5 %.
    let least = (0.0025_f64.ln() / 0.98_f64.ln()).ceil() as u32 + 1;
    assert!(asked >= least, "{asked} comparisons, not {least}");
    let served = desk.ask(at(CacheLevel::Similar, ALIKE[1])).await;
    let note = served.call.kept.unwrap();
    assert_eq!((served.call.cost, served.call.saved, note.why.as_str()), (Money::ZERO, COST, "similar"));
    assert!(note.likeness.is_some_and(|likeness| (500..1_000).contains(&likeness)));
    // Somebody sees that it was wrong.
    let evict = Evict::Entry(note.entry);
    let evicted = desk.kept().evict(&tenant(), &evict, true).await;
    assert_eq!(evicted, Evicted { entries: 1, wrong: 1 });
    desk.ask(at(CacheLevel::Similar, ALIKE[0])).await;
    for _ in 0..3 {
        desk.forgets(ALIKE[1]).await;
        let answer = desk.ask(at(CacheLevel::Similar, ALIKE[1])).await;
        assert_eq!(answer.call.cache, CacheVerdict::Miss, "the band is closed");
        assert_eq!(answer.call.kept.unwrap().why, "same_answer");
    }
}

#[tokio::test]
async fn a_comparison_that_fails_closes_the_band() {
    // All calls are asked for real once this is 1, whatever is open.
    let lot = Arc::new(AtomicU32::new(0));
    let (model, drawn) = (desk(same()).model, lot.clone());
    let lots: Lots = Arc::new(move || if drawn.load(Ordering::SeqCst) == 0 { NEVER } else { 0.0 });
    let cached = Arc::new(Cached::new(loose(), model.clone(), (lots, None)));
    let desk = Desk { model, cached };
    desk.opens().await;
    *desk.model.answers.lock() = Box::new(|_| "No longer.".to_owned());
    lot.store(1, Ordering::SeqCst);
    let asked = desk.ask(at(CacheLevel::Similar, ALIKE[1])).await;
    // It is paid as usual, and its answer is what the caller gets.
    assert_eq!((asked.call.cache, asked.call.cost), (CacheVerdict::Miss, COST));
    assert_eq!((asked.text.as_str(), asked.call.kept.unwrap().why.as_str()), ("No longer.", "other_answer"));
    lot.store(0, Ordering::SeqCst);
    desk.forgets(ALIKE[1]).await;
    // Its own history does: it was wrong so alike.
    assert_eq!(desk.ask(at(CacheLevel::Similar, ALIKE[1])).await.call.cache, CacheVerdict::Miss);
}

#[tokio::test]
async fn half_an_answer_says_nothing_and_what_calls_tools_answers_nobody_else() {
    let desk = desk(same());
    desk.ask(at(CacheLevel::Similar, ALIKE[0])).await;
    desk.model.cut.store(true, Ordering::SeqCst);
    let cut = desk.ask(at(CacheLevel::Similar, ALIKE[1])).await;
    assert_eq!(cut.call.kept.unwrap().why, "compared");
    let stock = desk.kept().stock(&tenant()).await;
    assert_eq!(stock.entries, 1, "and is not kept");
}

#[tokio::test]
async fn what_is_another_question_says_why() {
    let desk = desk(same());
    desk.ask(at(CacheLevel::Similar, "What is the status of order 48213?")).await;
    let other = desk.ask(at(CacheLevel::Similar, "What is the status of order 48231?")).await;
    assert_eq!((other.call.cache, other.call.kept.unwrap().why.as_str()), (CacheVerdict::Miss, "number"));
}

#[tokio::test]
async fn each_way_of_evicting_takes_what_is_meant() {
    let elsewhere = TenantId::new("other").unwrap();
    let agent = AgentId::new("hr").unwrap();
    let filled = || async {
        let desk = desk(same());
        let one = at(CacheLevel::Canonical, KEPT);
        desk.ask(one.clone()).await;
        desk.ask(Call { user: "web/ann".into(), ..at(CacheLevel::Exact, "Anything else?") }).await;
        desk.ask(Call { agent: AgentId::new("hr").unwrap(), ..one.clone() }).await;
        desk.ask(Call { tenant: TenantId::new("other").unwrap(), ..one }).await;
        desk
    };
    let entry = filled().await.ask(at(CacheLevel::Canonical, FORM)).await.call.kept.unwrap().entry;
    for (which, gone) in [
        (Evict::All, 3),
        (Evict::Agent(agent), 1),
        (Evict::User("web/ann".into()), 1),
        (Evict::User("web/an".into()), 0),
        (Evict::Entry(entry), 1),
        (Evict::Entry("0123".into()), 0),
    ] {
        let desk = filled().await;
        let evicted = desk.kept().evict(&tenant(), &which, false).await;
        assert_eq!((evicted.entries, evicted.wrong), (gone, 0), "{which:?}");
        assert_eq!(desk.kept().stock(&tenant()).await.entries, 3 - gone, "{which:?}");
        assert_eq!(desk.kept().stock(&elsewhere).await.entries, 1, "{which:?}: another tenant's stay");
        let asked = desk.ask(at(CacheLevel::Canonical, FORM)).await.call.cache;
        let is_gone = matches!(which, Evict::All | Evict::Entry(_)) && gone > 0;
        assert_eq!(asked == CacheVerdict::Miss, is_gone, "{which:?}");
    }
}

#[tokio::test]
async fn what_is_asked_while_something_is_evicted_is_not_kept() {
    let desk = desk(same());
    let answer = desk.cached.complete(Arc::new(at(CacheLevel::Canonical, KEPT))).await.unwrap();
    desk.kept().evict(&tenant(), &Evict::All, false).await;
    answer.whole().await.unwrap();
    assert_eq!(desk.ask(at(CacheLevel::Canonical, FORM)).await.call.cache, CacheVerdict::Miss);
}

#[tokio::test]
async fn an_entry_has_its_own_time() {
    for (ttl, expected) in [
        (Some(Duration::ZERO), CacheVerdict::Miss),
        (Some(Duration::from_secs(3_600)), CacheVerdict::Canonical),
        (None, CacheVerdict::Canonical),
    ] {
        let desk = desk(same());
        let cache = CachePolicy::On { level: CacheLevel::Canonical, knowledge_version: String::new(), ttl };
        desk.ask(Call { cache: cache.clone(), ..at(CacheLevel::Canonical, KEPT) }).await;
        let again = desk.ask(Call { cache, ..at(CacheLevel::Canonical, FORM) }).await;
        assert_eq!(again.call.cache, expected, "{ttl:?}");
    }
}

#[tokio::test]
async fn a_question_is_explained_without_anybodys_words() {
    let desk = desk(same());
    desk.ask(at(CacheLevel::Similar, KEPT)).await;
    desk.ask(at(CacheLevel::Similar, ALIKE[0])).await;
    let agent = on().agent;
    let whose = (tenant(), agent);
    let explain = |question: &'static str, level, content| {
        desk.kept().explain((&whose.0, &whose.1), (question, level), content)
    };
    for (question, level, why, then) in [
        (KEPT, CacheLevel::Similar, "exact", "served"),
        (FORM, CacheLevel::Similar, "canonical", "served"),
        (FORM, CacheLevel::Exact, "similar", "asked"),
        (ALIKE[1], CacheLevel::Similar, "similar", "compared"),
        ("Which phones are supported by the portal?", CacheLevel::Similar, "content", "asked"),
    ] {
        let explained = explain(question, level, false).await;
        let candidate = explained.candidates.first().unwrap();
        assert_eq!((candidate.why.as_str(), candidate.then.as_str()), (why, then), "{question} {level:?}");
        assert!(explained.form.is_some() && candidate.question.is_none(), "{candidate:?}");
    }
    let explained = explain(ALIKE[1], CacheLevel::Similar, true).await;
    assert_eq!(explained.candidates[0].question.as_deref(), Some(ALIKE[0]));
    assert!(explain("Who is it?", CacheLevel::Similar, false).await.candidates.is_empty());
}

/// Joins only what has the same form.
#[tokio::test]
async fn who_asks_the_same_in_another_form_at_the_same_time_joins() {
    let desk = desk(same());
    let first = desk.cached.complete(Arc::new(at(CacheLevel::Canonical, KEPT))).await.unwrap();
    let second = desk.cached.complete(Arc::new(at(CacheLevel::Canonical, FORM))).await.unwrap();
    let third = desk.cached.complete(Arc::new(at(CacheLevel::Canonical, ALIKE[0]))).await.unwrap();
    let exact = desk.cached.complete(Arc::new(at(CacheLevel::Exact, FORM))).await.unwrap();
    assert_eq!(second.begun.cache, CacheVerdict::Joined);
    assert_eq!((third.begun.cache, exact.begun.cache), (CacheVerdict::Miss, CacheVerdict::Miss));
    for answer in [first, second, third, exact] {
        answer.whole().await.unwrap();
    }
    assert_eq!(desk.asked(), 3);
}

/// A judge that says what it is told to.
struct Says(bool);

impl Judge for Says {
    fn is_same<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, bool> {
        std::future::ready(self.0).boxed()
    }

    fn name(&self) -> &'static str {
        "says"
    }
}

#[tokio::test]
async fn what_is_wrong_is_what_the_judge_calls_so() {
    for (says, why) in [(true, "same_answer"), (false, "other_answer")] {
        let model = desk(|call| call.last_prompt().to_owned()).model;
        let means: (Lots, _, Arc<dyn Judge>) = (Arc::new(|| NEVER), None, Arc::new(Says(says)));
        let cached = Arc::new(Cached::judged(Cache::standard(), model.clone(), means));
        let desk = Desk { model, cached };
        desk.ask(at(CacheLevel::Similar, ALIKE[0])).await;
        assert_eq!(desk.ask(at(CacheLevel::Similar, ALIKE[1])).await.call.kept.unwrap().why, why);
    }
}

#[tokio::test]
async fn what_was_learned_outlives_the_cache_unless_the_rule_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(chela_types::SystemClock);
    let store = chela_store::Store::open(chela_store::Config::new(folder.path()), clock).await.unwrap();
    let over = |config: Cache| {
        let model = desk(same()).model;
        let cached = Cached::new(config, model.clone(), (Arc::new(|| NEVER), Some(store.clone())));
        Desk { model, cached: Arc::new(cached) }
    };
    let before = over(loose());
    let needed = before.opens().await;
    before.kept().write_down().await;
    assert!(over(loose()).opens().await < needed, "the entry alone has to be vetted anew");
    let stricter = Cache { similar: Rule::new(0.3, 0.05), ..loose() };
    assert!(over(stricter).opens().await > needed);
}

#[tokio::test]
async fn a_failure_keeps_nothing_and_says_miss() {
    let desk = desk(same());
    let call = at(CacheLevel::Canonical, KEPT);
    drop(desk.cached.complete(Arc::new(call)).await.unwrap());
    assert_eq!(desk.kept().stock(&tenant()).await.entries, 0);
    let error = missed(Error::new(Kind::Refused).with_call(on().record()));
    assert_eq!(error.call.unwrap().cache, CacheVerdict::Miss);
}
