//! One call for several identical ones that are under way at once: who comes later hears what was said so far, and the
//! rest as it comes.
//!
//! The call has no task of its own. Whoever of its listeners is awake moves it on, and wakes the others; so it ends with
//! the last of them, and none waits for another that has stopped listening (as `futures::future::Shared` does it). The
//! first one pays, and has the record. If he goes, he is charged as anybody who goes; the others hear the rest for
//! nothing.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use chela_types::{CacheVerdict, Digest, Finish, ModelCall};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream};
use futures::task::{ArcWake, waker_ref};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;

use crate::{Answer, Call, Chunk, Completed, Error, Kind, Rate, ToolCall};

/// The calls that are under way, by what shapes their answers.
#[derive(Default)]
pub(crate) struct Flights(Mutex<UnderWay>);

#[derive(Default)]
struct UnderWay {
    flights: HashMap<Digest, Weak<Flight>>,
    /// With so many those that are over are taken out: that is a constant time for each.
    full: usize,
}

/// Fewer flights than this are never looked through.
const FULL_MIN: usize = 64;

/// A call and its listeners.
struct Flight {
    state: Mutex<State>,
    listeners: Arc<Listeners>,
    /// How many have listened so far.
    listened: AtomicU64,
    /// Has an end. Who begins a call need not wait for another's state.
    is_over: AtomicBool,
}

struct State {
    source: Source,
    /// Which model answers, and what that costs; once it has begun.
    begun: Option<(ModelCall, Rate)>,
    /// Texts and fragments of tool calls.
    said: Vec<Chunk>,
    end: Option<End>,
}

enum Source {
    Opening(BoxFuture<'static, Result<Answer, Error>>),
    Open(BoxStream<'static, Result<Chunk, Error>>),
    Over,
}

/// How it ended. What it cost is the first one's.
struct End {
    outcome: Result<Whole, Kind>,
    model: Option<String>,
    /// Until he takes it.
    for_the_first: Option<Result<Box<Completed>, Error>>,
}

/// A whole answer without its record.
struct Whole {
    text: String,
    calls: Vec<ToolCall>,
    finish: Finish,
}

/// Who is to be woken when there is more to hear.
#[derive(Default)]
struct Listeners(Mutex<HashMap<u64, Waker>>);

impl ArcWake for Listeners {
    fn wake_by_ref(all: &Arc<Self>) {
        let wakers = std::mem::take(&mut *all.0.lock());
        wakers.into_values().for_each(Waker::wake);
    }
}

/// One of those who listen: until the first text or tool call ([`Listener::opened`]), and then as the stream of an answer.
pub(crate) struct Listener {
    flight: Arc<Flight>,
    number: u64,
    /// How many pieces.
    heard: usize,
    is_first: bool,
    is_over: bool,
    call: Arc<Call>,
}

impl Flights {
    /// Listens to the call under way that has this key, or begins it.
    pub(crate) fn join(
        &self,
        key: Digest,
        call: Arc<Call>,
        begin: impl FnOnce() -> BoxFuture<'static, Result<Answer, Error>>,
    ) -> Listener {
        let (flight, is_first) = self.flight(key, begin);
        let number = flight.listened.fetch_add(1, Ordering::Relaxed);
        if !is_first {
            call.tab.share();
        }
        Listener { flight, number, heard: 0, is_first, is_over: false, call }
    }

    /// Who asks from now on asks anew; who listens already hears the rest. Of which tenant a call is, its key does not
    /// tell: so all part, and the others pay one call more.
    pub(crate) fn part(&self) {
        self.0.lock().flights.clear();
    }

    fn flight(
        &self,
        key: Digest,
        begin: impl FnOnce() -> BoxFuture<'static, Result<Answer, Error>>,
    ) -> (Arc<Flight>, bool) {
        let mut under_way = self.0.lock();
        if let Some(flight) = under_way.flights.get(&key).and_then(Weak::upgrade)
            && !flight.is_over.load(Ordering::Acquire)
        {
            return (flight, false);
        }
        if under_way.flights.len() >= under_way.full {
            under_way.flights.retain(|_, flight| flight.strong_count() > 0);
            under_way.full = FULL_MIN.max(under_way.flights.len() * 2);
        }
        let flight = Arc::new(Flight::new(begin()));
        under_way.flights.insert(key, Arc::downgrade(&flight));
        (flight, true)
    }
}

#[cfg(test)]
impl Flights {
    /// How many listen to the call under way that has this key.
    pub(crate) fn listeners(&self, key: &Digest) -> usize {
        self.0.lock().flights.get(key).map_or(0, Weak::strong_count)
    }
}

impl Flight {
    fn new(opening: BoxFuture<'static, Result<Answer, Error>>) -> Self {
        let state = State { source: Source::Opening(opening), begun: None, said: Vec::new(), end: None };
        Self {
            state: Mutex::new(state),
            listeners: Arc::default(),
            listened: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }
}

impl State {
    /// Takes what the source has now; false if that is nothing.
    fn advance(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.source {
            Source::Opening(opening) => match opening.poll_unpin(context) {
                Poll::Pending => return false,
                Poll::Ready(Ok(answer)) => {
                    self.begun = Some((answer.begun, answer.rate));
                    self.source = Source::Open(answer.chunks);
                }
                Poll::Ready(Err(error)) => self.failed(error),
            },
            Source::Open(chunks) => match chunks.poll_next_unpin(context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(Chunk::End(completed)))) => {
                    let Completed { text, calls, finish, .. } = &*completed;
                    let outcome = Ok(Whole { text: text.clone(), calls: calls.clone(), finish: *finish });
                    let model = completed.call.model.clone();
                    self.ended(End { outcome, model, for_the_first: Some(Ok(completed)) });
                }
                Poll::Ready(Some(Ok(chunk))) => self.said.push(chunk),
                Poll::Ready(Some(Err(error))) => self.failed(error),
                Poll::Ready(None) => self.failed(Error::new(Kind::Interrupted)),
            },
            Source::Over => return false,
        }
        true
    }

    fn failed(&mut self, error: Error) {
        let outcome = Err(error.kind.clone());
        self.ended(End { outcome, model: None, for_the_first: Some(Err(error)) });
    }

    fn ended(&mut self, end: End) {
        self.source = Source::Over;
        self.end = Some(end);
    }
}

impl Listener {
    /// True for the one whose call it is.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Waits for the first text or tool call.
    pub(crate) async fn opened(self) -> Result<Answer, Error> {
        let (begun, rate) = poll_fn(|context| {
            self.poll(context, |listener, state| match (&state.begun, &mut state.end) {
                (Some(begun), _) => Some(Ok(begun.clone())),
                (None, Some(end)) => Some(listener.end(end).map(|end| (end.call, Rate::FREE))),
                (None, None) => None,
            })
        })
        .await?;
        let (begun, rate) = match self.is_first {
            true => (begun, rate),
            false => (self.record(begun.model), Rate::FREE),
        };
        Ok(Answer { chunks: self.boxed(), begun, rate })
    }

    /// Looks whether there is what it wants to hear, and moves the call on until there is.
    fn poll<T>(
        &self,
        context: &Context<'_>,
        mut hear: impl FnMut(&Self, &mut State) -> Option<T>,
    ) -> Poll<T> {
        let listeners = &self.flight.listeners;
        // Before it looks: what comes then wakes it.
        let before = listeners.0.lock().insert(self.number, context.waker().clone());
        // To drop a waker may run what others wrote: not under the lock.
        drop(before);
        let waker = waker_ref(listeners);
        let mut state = self.flight.state.lock();
        let mut has_moved = false;
        let heard = loop {
            match hear(self, &mut state) {
                None if state.advance(&mut Context::from_waker(&waker)) => has_moved = true,
                heard => break heard,
            }
        };
        self.flight.is_over.store(state.end.is_some(), Ordering::Release);
        drop(state);
        if heard.is_some() {
            listeners.forget(self.number);
        }
        if has_moved {
            ArcWake::wake_by_ref(listeners);
        }
        heard.map_or(Poll::Pending, Poll::Ready)
    }

    /// The end as it is this one's.
    fn end(&self, end: &mut End) -> Result<Completed, Error> {
        if self.is_first
            && let Some(own) = end.for_the_first.take()
        {
            return own.map(|completed| *completed);
        }
        match &end.outcome {
            Ok(Whole { text, calls, finish }) => Ok(Completed {
                text: text.clone(),
                calls: calls.clone(),
                finish: *finish,
                call: self.record(end.model.clone()),
            }),
            Err(kind) => Err(Error::new(kind.clone()).with_call(self.record(None))),
        }
    }

    /// The record of one who only listened.
    fn record(&self, model: Option<String>) -> ModelCall {
        ModelCall { model, cache: CacheVerdict::Joined, ..self.call.record() }
    }
}

impl Stream for Listener {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next =
            self.poll(context, |listener, state| match (state.said.get(listener.heard), &mut state.end) {
                (Some(said), _) => Some(Ok(said.clone())),
                (None, Some(end)) => Some(listener.end(end).map(|completed| Chunk::End(Box::new(completed)))),
                (None, None) => None,
            });
        match &next {
            Poll::Ready(Ok(Chunk::End(_)) | Err(_)) => self.is_over = true,
            Poll::Ready(Ok(_)) => self.heard += 1,
            Poll::Pending => {}
        }
        next.map(Some)
    }
}

impl Listeners {
    fn forget(&self, number: u64) {
        let gone = self.0.lock().remove(&number);
        drop(gone);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.flight.listeners.forget(self.number);
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
