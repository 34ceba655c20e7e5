//! Answers that call tools, through the chain and the cache.

use super::*;
use crate::cache::tests::{ask, on};
use crate::failover::tests::{Act, call, chain, tool, usage, whole};
use crate::provider::Piece;
use crate::{Cache, Completed, Purse, ToolChoice, ToolDelta, ToolHead, cache};
use chela_types::{Finish, Tokens};
use futures::StreamExt;
use std::sync::atomic::Ordering;

fn head(index: usize, name: &str) -> Piece {
    let head = ToolHead { id: format!("c{index}"), name: name.into() };
    Piece::Tool(ToolDelta { index, head: Some(head), arguments: String::new() })
}

fn more(index: usize, arguments: &str) -> Piece {
    Piece::Tool(ToolDelta { index, head: None, arguments: arguments.into() })
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

const CALLED: Piece = Piece::Finish(Finish::ToolCalls);
const STOPPED: Piece = Piece::Finish(Finish::Stop);

fn asked() -> Call {
    Call { tools: vec![tool("look"), tool("take")], ..call("hello") }
}

async fn run(failover: &Failover, call: Call) -> Result<Completed, Error> {
    failover.complete(Arc::new(call)).await?.whole().await
}

fn made(completed: &Completed) -> Vec<(&str, &str, &str)> {
    completed.calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect()
}

/// What was told piece by piece.
fn told(chunks: &[Result<Chunk, Error>]) -> (String, Vec<String>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for chunk in chunks {
        match chunk {
            Ok(Chunk::Text(more)) => text.push_str(more),
            Ok(Chunk::Tool(delta)) => {
                if delta.head.is_some() {
                    calls.push(String::new());
                }
                calls[delta.index].push_str(&delta.arguments);
            }
            Ok(Chunk::End(_)) | Err(_) => {}
        }
    }
    (text, calls)
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_call_tools_and_say_nothing() {
    for (pieces, said) in [
        (vec![head(0, "look"), more(0, "{\"a\""), more(0, ":1}"), usage(10, 3), CALLED], ""),
        (vec![text("\n"), head(0, "look"), more(0, "{\"a\":1}"), CALLED], "\n"),
        (vec![text("Let me "), text("see."), head(0, "look"), more(0, "{\"a\":1}"), CALLED], "Let me see."),
        // Some say that it stopped, OpenAI where the tool was named.
        (vec![head(0, "look"), more(0, "{\"a\":1}"), STOPPED], ""),
    ] {
        let (failover, asked_second) = chain(vec![Act::Say(pieces), whole("two")]);
        let chunks: Vec<_> = failover.complete(Arc::new(asked())).await.unwrap().chunks.collect().await;
        assert_eq!(told(&chunks), (said.to_owned(), vec!["{\"a\":1}".to_owned()]));
        let Some(Ok(Chunk::End(completed))) = chunks.last() else { panic!("{chunks:?}") };
        assert_eq!((completed.text.as_str(), completed.finish), (said, Finish::ToolCalls));
        assert_eq!(made(completed), [("c0", "look", "{\"a\":1}")]);
        assert_eq!(asked_second[1].load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_arguments_is_told_an_empty_object() {
    let (failover, _) = chain(vec![Act::Say(vec![head(0, "look"), CALLED])]);
    let chunks: Vec<_> = failover.complete(Arc::new(asked())).await.unwrap().chunks.collect().await;
    assert_eq!(told(&chunks).1, ["{}"]);
    let Some(Ok(Chunk::End(completed))) = chunks.last() else { panic!("{chunks:?}") };
    assert_eq!(made(completed), [("c0", "look", "{}")]);
}

/// A client's loop over tools ended in an error, asked again and charged each time, where a model had nothing to add.
#[tokio::test(start_paused = true)]
async fn to_say_nothing_is_an_answer_to_a_client_and_none_to_an_agent() {
    for said in [None, Some(text("\n"))] {
        let pieces = said.into_iter().chain([usage(10, 3), STOPPED, Piece::End]).collect();
        let (failover, asked_second) = chain(vec![Act::Say(pieces), whole("two")]);
        let of_key = Call { purse: Purse::Key("app".into()), ..asked() };
        let completed = run(&failover, of_key).await.unwrap();
        assert_eq!((completed.text.trim(), completed.finish), ("", Finish::Stop));
        assert_eq!(completed.call.usage.output, Tokens(3));
        assert_eq!(asked_second[1].load(Ordering::SeqCst), 0);
        assert_eq!(run(&failover, asked()).await.unwrap().text, "two");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_is_told_as_it_is() {
    for finish in [Finish::Length, Finish::Filtered] {
        let pieces = vec![head(0, "look"), more(0, "{\"a\":"), Piece::Finish(finish)];
        let (failover, _) = chain(vec![Act::Say(pieces)]);
        let completed = run(&failover, asked()).await.unwrap();
        assert_eq!((made(&completed), completed.finish), (vec![("c0", "look", "{\"a\":")], finish));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_call_that_nobody_has_seen_is_made_elsewhere() {
    let none = Call { tool_choice: ToolChoice::None, ..asked() };
    for (call, pieces) in [
        (asked(), vec![head(0, "drop"), CALLED]),
        (asked(), vec![head(1, "look"), CALLED]),
        (asked(), vec![more(0, "{}"), CALLED]),
        (asked(), vec![CALLED]),
        (asked(), vec![usage(10, 3), STOPPED, head(0, "look")]),
        (call("hello"), vec![head(0, "look"), CALLED]),
        (none, vec![head(0, "look"), CALLED]),
    ] {
        let (failover, _) = chain(vec![Act::Say(pieces), whole("two")]);
        let completed = run(&failover, call).await.unwrap();
        assert_eq!(completed.call.attempts[0].class, "bad_response");
        assert_eq!((completed.text.as_str(), completed.finish), ("two", Finish::Stop));
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_first_fragment_there_is_no_way_back() {
    let many = (0..129).map(|number| head(number, "look")).chain([CALLED]).collect();
    for pieces in [
        vec![head(0, "look"), head(1, "drop"), CALLED],
        vec![head(0, "look"), more(1, "{}"), CALLED],
        vec![head(0, "look"), more(0, "{\"a\":"), CALLED],
        vec![head(0, "look"), more(0, "{}"), more(0, "{}"), CALLED],
        vec![head(0, "look"), more(0, "{}")],
        vec![text("I look."), CALLED],
        many,
    ] {
        let (failover, asked_second) = chain(vec![Act::Say(pieces.clone()), whole("two")]);
        let error = run(&failover, asked()).await.unwrap_err();
        assert_eq!(
            (error.kind, asked_second[1].load(Ordering::SeqCst)),
            (Kind::Interrupted, 0),
            "{pieces:?}"
        );
        assert_eq!(error.call.unwrap().attempts[0].class, "bad_response");
    }
    let broken = Act::Break(vec![head(0, "look")], Kind::TooSlow { after: Duration::ZERO });
    let (failover, asked_second) = chain(vec![broken, whole("two")]);
    let error = run(&failover, asked()).await.unwrap_err();
    assert_eq!((error.kind, asked_second[1].load(Ordering::SeqCst)), (Kind::Interrupted, 0));
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_end_is_not_part_of_it() {
    let pieces = vec![text("one"), STOPPED, text(" and more"), head(0, "look")];
    let (failover, _) = chain(vec![Act::Say(pieces)]);
    let chunks: Vec<_> = failover.complete(Arc::new(asked())).await.unwrap().chunks.collect().await;
    assert_eq!(told(&chunks), ("one".to_owned(), Vec::new()));
    let Some(Ok(Chunk::End(completed))) = chunks.last() else { panic!("{chunks:?}") };
    assert_eq!((completed.text.as_str(), completed.finish), ("one", Finish::Stop));
}

fn cached(pieces: Vec<Piece>) -> cache::Cached {
    crate::cache::tests::over(Cache::standard(), Arc::new(chain(vec![Act::Say(pieces)]).0))
}

#[tokio::test(start_paused = true)]
async fn calls_of_tools_are_kept_and_told_again() {
    let pieces = vec![text("I look."), head(0, "look"), more(0, "{\"a\":1}"), head(1, "take"), CALLED];
    let cached = cached(pieces);
    let asked = || Call { tools: asked().tools, ..on() };
    let first = ask(&cached, asked()).await.unwrap();
    let answer = cached.complete(Arc::new(asked())).await.unwrap();
    assert_eq!(answer.begun.cache, chela_types::CacheVerdict::Hit);
    let chunks: Vec<_> = answer.chunks.collect().await;
    assert_eq!(told(&chunks), ("I look.".to_owned(), vec!["{\"a\":1}".to_owned(), "{}".to_owned()]));
    let Some(Ok(Chunk::End(second))) = chunks.last() else { panic!("{chunks:?}") };
    assert_eq!((&second.text, &second.calls, second.finish), (&first.text, &first.calls, first.finish));
}

#[tokio::test(start_paused = true)]
async fn half_a_call_is_not_kept() {
    let cached = cached(vec![head(0, "look"), more(0, "{"), Piece::Finish(Finish::Length)]);
    let asked = || Call { tools: asked().tools, ..on() };
    for _ in 0..2 {
        let completed = ask(&cached, asked()).await.unwrap();
        assert_eq!(completed.call.cache, chela_types::CacheVerdict::Miss);
    }
}

#[test]
fn a_kept_answer_of_before_has_no_calls() {
    let completed =
        Completed { text: "x".into(), calls: Vec::new(), finish: Finish::Stop, call: on().record() };
    let mut old = serde_json::to_value(&completed).unwrap();
    old.as_object_mut().unwrap().remove("calls");
    assert_eq!(serde_json::from_value::<Completed>(old).unwrap(), completed);
    assert_eq!(serde_json::to_value(Finish::ToolCalls).unwrap(), "tool_calls");
}
