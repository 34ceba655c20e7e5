//! What another model is asked to go on with, and what is told and charged then.

use super::*;
use crate::failover::Failover;
use crate::failover::tests::{Act, PRICE, call as hello, chain, down, tool, whole};
use crate::provider::Piece;
use crate::{Chunk, Completed, Error, Kind, Model, Purse};
use chela_types::{Finish, Money};
use futures::StreamExt;
use std::sync::atomic::Ordering;

fn half(text: &str) -> Act {
    Act::Break(vec![Piece::Text(text.into())], down())
}

fn continued(acts: Vec<Act>) -> (Failover, Vec<Arc<std::sync::atomic::AtomicU32>>) {
    let (mut failover, asked) = chain(acts);
    Arc::get_mut(&mut failover.plan).unwrap().failover.after_cut = AfterCut::Continue;
    (failover, asked)
}

/// What was shown, and how it ended.
async fn heard(failover: &Failover, call: Call) -> (String, Result<Completed, Error>) {
    let mut answer = failover.complete(Arc::new(call)).await.unwrap();
    let mut shown = String::new();
    while let Some(chunk) = answer.chunks.next().await {
        match chunk {
            Ok(Chunk::Text(text)) => shown.push_str(&text),
            Ok(Chunk::Tool(_)) => {}
            Ok(Chunk::End(completed)) => return (shown, Ok(*completed)),
            Err(error) => return (shown, Err(error)),
        }
    }
    panic!("it ends without an end");
}

fn classes(record: &chela_types::ModelCall) -> Vec<(&str, &str)> {
    record.attempts.iter().map(|attempt| (attempt.model.as_str(), attempt.class.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn another_goes_on_and_it_is_one_answer() {
    for (first, second, all) in
        [("Once upon", " a time.", "Once upon a time."), ("Once upon ", " a time.", "Once upon a time.")]
    {
        let (failover, _) = continued(vec![half(first), Act::Fail(down(), false), whole(second)]);
        let (shown, completed) = heard(&failover, hello("Tell me.")).await;
        let completed = completed.unwrap();
        assert_eq!((shown.as_str(), completed.text.as_str()), (all, all));
        assert_eq!(completed.finish, Finish::Stop);
        assert_eq!(
            classes(&completed.call),
            [("p0/m", "unavailable"), ("p1/m", "unavailable"), ("p2/m", "ok")]
        );
        assert_eq!(completed.call.model.as_deref(), Some("p2/m"));
        let bound = failover.plan.rate(&failover.plan.links[0], &hello("Tell me.")).bound();
        assert_eq!(completed.call.cost, bound.plus(Money::from_nanos(10 * 1000 + 3 * 2000)));
        assert!(completed.call.cost <= failover.plan.worst_case(&hello("Tell me.")).cost);
    }
}

#[tokio::test(start_paused = true)]
async fn only_plain_text_and_only_once() {
    let json = Call { form: Form::JsonObject, ..hello("x") };
    let tools = Call { tools: vec![tool("look")], ..hello("x") };
    for call in [json, tools] {
        let (failover, asked) = continued(vec![half("{\"a\":"), whole("1}")]);
        assert_eq!(heard(&failover, call).await.1.unwrap_err().kind, Kind::Interrupted);
        assert_eq!(asked[1].load(Ordering::SeqCst), 0);
    }
    let (failover, asked) = continued(vec![half("one "), half("two "), whole("three")]);
    let (shown, ended) = heard(&failover, hello("x")).await;
    assert_eq!((shown.as_str(), ended.unwrap_err().kind), ("one two ", Kind::Interrupted));
    assert_eq!(asked[2].load(Ordering::SeqCst), 0);
}

/// To a client's key an answer that says nothing is one; half an answer does not become a whole one by it.
#[tokio::test(start_paused = true)]
async fn who_goes_on_and_says_nothing_has_ended_nothing() {
    let nothing = Act::Say(vec![Piece::Finish(Finish::Stop), Piece::End]);
    let (failover, _) = continued(vec![half("one "), nothing]);
    let of_key = Call { purse: Purse::Key("app".into()), ..hello("x") };
    let (shown, ended) = heard(&failover, of_key).await;
    assert_eq!((shown.as_str(), ended.unwrap_err().kind), ("one ", Kind::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn without_the_key_and_without_another_a_cut_is_told() {
    let (failover, asked) = chain(vec![half("one "), whole("two")]);
    assert_eq!(heard(&failover, hello("x")).await.1.unwrap_err().kind, Kind::Interrupted);
    assert_eq!(asked[1].load(Ordering::SeqCst), 0);
    let (failover, _) = continued(vec![half("one ")]);
    assert_eq!(heard(&failover, hello("x")).await.1.unwrap_err().kind, Kind::Interrupted);
}

#[test]
fn what_is_asked_is_within_what_is_reserved() {
    let (failover, _) = continued(vec![whole("one"), whole("two")]);
    let (plan, link) = (&failover.plan, &failover.plan.links[1]);
    let (asked, rate) = call(plan, link, (&hello("x"), "So far ")).unwrap();
    let [_, said, go_on] = asked.prompts.as_slice() else { panic!("{:?}", asked.prompts) };
    assert_eq!((said.role, said.texts().collect::<String>().as_str()), (Role::Assistant, "So far"));
    assert_eq!((go_on.role, go_on.texts().collect::<String>().as_str()), (Role::User, GO_ON));
    let links = plan.links.iter().map(|link| plan.rate(link, &hello("x")).bound());
    let more = PRICE.worst_case(input(plan, &hello("x")), Tokens(0));
    assert_eq!(plan.worst_case(&hello("x")).cost, links.sum::<Money>().plus(more));
    assert!(rate.input <= plan.rate(link, &hello("x")).input.plus(input(plan, &hello("x"))));
    // A text that is longer than was reserved for is not gone on with.
    let fits = |bytes: usize| call(plan, link, (&hello("x"), &"x".repeat(bytes))).is_some();
    assert!(fits(400) && !fits(700) && !fits(0));
}

#[test]
fn a_format_that_goes_on_with_a_beginning_is_told_nothing_else() {
    let (mut failover, _) = continued(vec![whole("one"), whole("two")]);
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    Arc::get_mut(&mut plan.links[1]).unwrap().prefills = true;
    let (asked, _) = call(&failover.plan, &failover.plan.links[1], (&hello("x"), "So far ")).unwrap();
    assert_eq!(asked.prompts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_stops_listening_then_owes_both_and_nothing_new() {
    let rate = |failover: &Failover| failover.plan.rate(&failover.plan.links[0], &hello("x"));
    for (chunks, is_both) in [(1, false), (2, true)] {
        let (failover, _) = continued(vec![half("one "), whole("and on"), whole("never")]);
        let call = hello("x");
        let mut answer = failover.complete(Arc::new(call.clone())).await.unwrap();
        for _ in 0..chunks {
            assert!(matches!(answer.chunks.next().await, Some(Ok(Chunk::Text(_)))));
        }
        let owed = call.tab.close();
        assert_eq!(owed.is_some(), is_both);
        if let Some((cost, tokens)) = owed {
            let (bound, bounds) = (rate(&failover).bound(), rate(&failover).tokens());
            assert!(cost > bound.plus(bound) && cost <= failover.plan.worst_case(&call).cost, "{cost}");
            assert!(tokens > bounds.plus(bounds));
        }
    }
    let (failover, asked) = continued(vec![half("one "), whole("and on")]);
    let call = hello("x");
    let answer = failover.complete(Arc::new(call.clone())).await.unwrap();
    call.tab.close();
    assert_eq!(answer.whole().await.unwrap_err().kind, Kind::Interrupted, "nobody would pay");
    assert_eq!(asked[1].load(Ordering::SeqCst), 0);
}
