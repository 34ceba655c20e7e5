//! The cache's rules: what shapes an answer shapes the key, and only whole answers are kept.

use super::entry::{Told, pieces};
use super::*;
use crate::failover::tests::{call, tool};
use crate::{Effort, Form, Image, Kind, Media, Part, Prompt, Role, Schema, Tool, ToolChoice, ToolResult};
use chela_types::{AgentId, ModelCall, Money, TenantId, TierId, Tokens};
use std::sync::atomic::{AtomicU32, Ordering};

struct Numbered {
    asked: AtomicU32,
    finish: Option<Finish>,
    blank: bool,
}

impl Model for Numbered {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let text = if self.blank { " \n".to_owned() } else { format!("answer {number}") };
        let model = Some("p/m".to_owned());
        let told = Told { text, calls: Vec::new(), finish: Finish::Stop, model: model.clone() };
        let mut answer = told.replay(ModelCall { model, cost: COST, ..call.record() });
        let finish = self.finish;
        answer.chunks = answer
            .chunks
            .map(move |chunk| match (chunk, finish) {
                (Ok(Chunk::End(end)), Some(finish)) => Ok(Chunk::End(Box::new(Completed { finish, ..*end }))),
                (Ok(Chunk::End(_)), None) => Err(Error::new(Kind::Interrupted)),
                (chunk, _) => chunk,
            })
            .boxed();
        Box::pin(async move { Ok(answer) })
    }
}

/// What each of its answers costs.
const COST: Money = Money::from_nanos(77);

/// A cache over this model, where no lot is drawn for a real call.
pub(crate) fn over(config: Cache, below: Arc<dyn Model>) -> Cached {
    Cached::new(config, below, (Arc::new(|| 0.999), None))
}

fn cached(finish: Option<Finish>, config: Cache) -> Cached {
    over(config, Arc::new(Numbered { asked: AtomicU32::new(0), finish, blank: false }))
}

pub(crate) fn on() -> Call {
    Call { cache: CachePolicy::exact("k1"), ..call("What does it cost?") }
}

pub(crate) async fn ask(cached: &Cached, call: Call) -> Result<Completed, Error> {
    cached.complete(Arc::new(call)).await?.whole().await
}

#[tokio::test]
async fn the_same_question_is_answered_again_for_nothing() {
    let cached = cached(Some(Finish::Stop), Cache::standard());
    let first = ask(&cached, on()).await.unwrap();
    let second = ask(&cached, on()).await.unwrap();
    assert_eq!((first.call.cache, second.call.cache), (CacheVerdict::Miss, CacheVerdict::Hit));
    assert_eq!((second.text.as_str(), second.call.cost), ("answer 0", Money::ZERO));
    assert_eq!(second.call.model.as_deref(), Some("p/m"));
    assert_eq!((first.call.saved, second.call.saved), (Money::ZERO, COST));
    assert_eq!(second.call.kept.unwrap().why, "exact");
}

#[tokio::test]
async fn whatever_shapes_the_answer_asks_anew() {
    let prompt = |role, text: &str| Prompt::text(role, text);
    let user = |parts| Prompt { role: Role::User, parts };
    let parts = |texts: &[&str]| user(texts.iter().map(|text| Part::Text((*text).into())).collect());
    let shown = |base64: &str| user(vec![Part::Image(Image::base64(Media::Png, base64).unwrap())]);
    let told = |id: &str, text: &str, is_error| {
        user(vec![Part::ToolResult(ToolResult { id: id.into(), text: text.into(), is_error })])
    };
    let schema = |schema: serde_json::Value| Form::JsonSchema {
        name: "n".into(),
        schema: schema.into(),
        strict: None,
    };
    let variants = [
        on(),
        Call { tenant: TenantId::new("other").unwrap(), ..on() },
        Call { agent: AgentId::new("hr").unwrap(), ..on() },
        Call { agent_version: "2".into(), ..on() },
        Call { cache: CachePolicy::exact("k2"), ..on() },
        Call { tier: TierId::new("smart").unwrap(), ..on() },
        Call { system: Some(String::new()), ..on() },
        Call { system: Some("Be kind.".into()), ..on() },
        Call { max_output: Some(Tokens(7)), ..on() },
        Call { temperature: Some(0.0), ..on() },
        Call { temperature: Some(0.5), ..on() },
        Call { prompts: vec![prompt(Role::User, "What does it cost")], ..on() },
        Call { prompts: vec![prompt(Role::User, "What does it"), prompt(Role::User, " cost?")], ..on() },
        Call { prompts: vec![prompt(Role::Assistant, "What does it cost?")], ..on() },
        Call { prompts: vec![parts(&["What does it cost?", ""])], ..on() },
        Call { prompts: vec![parts(&["What does it", " cost?"])], ..on() },
        Call { prompts: vec![shown("iVBORw0KGgo=")], ..on() },
        Call { prompts: vec![shown("iVBORw0KGgA=")], ..on() },
        Call { prompts: vec![told("c1", "It rains.", false)], ..on() },
        Call { prompts: vec![told("c1", "It rains.", true)], ..on() },
        Call { prompts: vec![told("c2", "It rains.", false)], ..on() },
        Call { tools: vec![tool("look")], ..on() },
        Call { tools: vec![tool("take")], ..on() },
        Call { tools: vec![tool("look"), tool("take")], ..on() },
        Call { tools: vec![Tool { description: Some(String::new()), ..tool("look") }], ..on() },
        Call { tools: vec![Tool { parameters: serde_json::json!({}).into(), ..tool("look") }], ..on() },
        Call { tools: vec![Tool { strict: Some(false), ..tool("look") }], ..on() },
        Call { tools: vec![tool("look")], tool_choice: ToolChoice::None, ..on() },
        Call { tools: vec![tool("look")], tool_choice: ToolChoice::Required, ..on() },
        Call { tools: vec![tool("look")], tool_choice: ToolChoice::Named("look".into()), ..on() },
        Call { tools: vec![tool("look")], parallel_tool_calls: Some(false), ..on() },
        Call { top_p: Some(0.5), ..on() },
        Call { stop: vec!["END".into()], ..on() },
        Call { stop: vec!["E".into(), "ND".into()], ..on() },
        Call { seed: Some(7), ..on() },
        Call { effort: Some(Effort::Low), ..on() },
        Call { form: Form::JsonObject, ..on() },
        Call { form: schema(serde_json::json!({})), ..on() },
        Call { form: schema(serde_json::json!({"type": "object"})), ..on() },
    ];
    let cached = cached(Some(Finish::Stop), Cache::standard());
    for (number, variant) in variants.iter().enumerate() {
        let answer = ask(&cached, variant.clone()).await.unwrap();
        assert_eq!(answer.text, format!("answer {number}"), "variant {number} met another's answer");
    }
    // Who asks does not shape an answer of the agent's public knowledge.
    let other_user = Call { user: "u2".into(), ..on() };
    assert_eq!(ask(&cached, other_user).await.unwrap().text, "answer 0");
}

#[tokio::test]
async fn off_is_off() {
    let cached = cached(Some(Finish::Stop), Cache::standard());
    for number in 0..2 {
        let answer = ask(&cached, Call { cache: CachePolicy::Off, ..on() }).await.unwrap();
        assert_eq!(answer.text, format!("answer {number}"));
    }
    let disabled = super::tests::cached(Some(Finish::Stop), Cache { enabled: false, ..Cache::standard() });
    let _first = ask(&disabled, on()).await.unwrap();
    assert_eq!(ask(&disabled, on()).await.unwrap().text, "answer 1");
}

/// What is behind an address may change.
#[tokio::test]
async fn an_image_that_is_somewhere_else_is_looked_at_each_time() {
    let image = Image::from_address("https://a.example/b.png").unwrap();
    let prompts = vec![Prompt { role: Role::User, parts: vec![Part::Image(image)] }];
    let cached = cached(Some(Finish::Stop), Cache::standard());
    for number in 0..2 {
        let answer = ask(&cached, Call { prompts: prompts.clone(), ..on() }).await.unwrap();
        assert_eq!(answer.text, format!("answer {number}"));
    }
}

/// A model answers in its schema's order, so that another order is another question; another layout is none.
#[test]
fn a_key_hangs_on_the_order_of_names_and_not_on_blanks() {
    let asked = |schema: &str| {
        let parameters = Schema::read(schema).unwrap();
        let call = Call { tools: vec![Tool { parameters, ..tool("look") }], ..on() };
        Asked::of(&call, Language::English).map(|asked| asked.key)
    };
    let (one, other) = (r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"a":1}"#);
    assert_ne!(asked(one), asked(other));
    assert_eq!(asked(one), asked(&one.replace(':', " :\n  ")));
}

#[tokio::test]
async fn half_an_answer_is_not_kept() {
    for finish in [Some(Finish::Length), Some(Finish::Filtered), None] {
        let cached = cached(finish, Cache::standard());
        let _first = ask(&cached, on()).await;
        let mut second = cached.complete(Arc::new(on())).await.unwrap();
        assert_eq!(
            second.chunks.next().await.unwrap().unwrap(),
            Chunk::Text("answer 1".into()),
            "{finish:?}"
        );
    }
    let cached = cached(Some(Finish::Stop), Cache::standard());
    drop(cached.complete(Arc::new(on())).await.unwrap());
    assert_eq!(ask(&cached, on()).await.unwrap().text, "answer 1");
}

#[tokio::test]
async fn a_blank_answer_is_not_kept() {
    let below = Numbered { asked: AtomicU32::new(0), finish: Some(Finish::Stop), blank: true };
    let cached = over(Cache::standard(), Arc::new(below));
    for _ in 0..2 {
        assert_eq!(ask(&cached, on()).await.unwrap().call.cache, CacheVerdict::Miss);
    }
}

#[tokio::test]
async fn the_byte_limit_is_obeyed() {
    let cached =
        cached(Some(Finish::Stop), Cache { bytes_max: 5_000, entries_max: 1_000, ..Cache::standard() });
    for number in 0..50 {
        let _answer = ask(&cached, Call { agent_version: number.to_string(), ..on() }).await.unwrap();
    }
    let kept = &cached.kept.as_ref().unwrap().entries;
    kept.run_pending_tasks().await;
    assert!(kept.weighted_size() <= 5_000 && kept.entry_count() > 0, "{}", kept.weighted_size());
}

#[test]
fn a_replayed_answer_is_the_same_text() {
    let text =
        "One two three, and a good many more words that make up more than a single piece of an answer.";
    assert!(pieces(text).len() > 1);
    assert_eq!(pieces(text).concat(), text);
}

/// The call went on with another model: what it says was ended by itself for neither.
struct Spliced(Numbered);

impl Model for Spliced {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        assert!(call.tab.owe(COST, Tokens(1)));
        self.0.complete(call)
    }
}

#[tokio::test]
async fn what_two_models_said_together_is_not_kept() {
    let below = Numbered { asked: AtomicU32::new(0), finish: Some(Finish::Stop), blank: false };
    let cached = over(Cache::standard(), Arc::new(Spliced(below)));
    for number in 0..2 {
        let call = Call { tab: crate::Tab::default(), ..on() };
        assert_eq!(ask(&cached, call).await.unwrap().text, format!("answer {number}"));
    }
}

#[tokio::test]
async fn who_asks_after_an_eviction_joins_nothing_that_was_asked_before() {
    let cached = cached(Some(Finish::Stop), Cache::standard());
    let before = cached.complete(Arc::new(on())).await.unwrap();
    let joined = cached.complete(Arc::new(on())).await.unwrap();
    cached.evict(&on().tenant, &Evict::All, false).await;
    let after = ask(&cached, on()).await.unwrap();
    assert_eq!((after.text.as_str(), after.call.cache), ("answer 1", CacheVerdict::Miss));
    // Who listens already hears the rest, and it is not kept.
    for answer in [before, joined] {
        assert_eq!(answer.whole().await.unwrap().text, "answer 0");
    }
    assert_eq!(ask(&cached, on()).await.unwrap().text, "answer 1");
}
