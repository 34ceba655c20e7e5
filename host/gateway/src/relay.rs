//! The stream of an answer whose first text or tool call is there.

use std::sync::Arc;
use std::time::Duration;

use chela_types::{Finish, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::account::Leave;
use crate::attempt::{Heard, Opened, Way, first, heard};
use crate::continuation;
use crate::plan::{Link, Plan};
use crate::provider::{Sent, Trouble};
use crate::retries::Retry;
use crate::tally::{Charge, Tally};
use crate::{Answer, Call, Chunk, Completed, Error, Kind, Rate, ToolDelta};

/// An answer under way.
pub(crate) struct Relay {
    pub(crate) plan: Arc<Plan>,
    pub(crate) rest_max: Duration,
    pub(crate) call: Arc<Call>,
    pub(crate) tally: Tally,
    /// The first link that was not asked yet.
    pub(crate) next: usize,
    pub(crate) voice: Voice,
    /// What another model said before it broke off.
    pub(crate) before: Option<String>,
}

/// Who speaks.
pub(crate) struct Voice {
    pub(crate) opened: Opened,
    pub(crate) link: Arc<Link>,
    pub(crate) rate: Rate,
    pub(crate) leave: Leave,
    /// The place that it has among the attempts beyond the first.
    pub(crate) retry: Option<Retry>,
}

impl Voice {
    /// It has begun to speak, so that nothing more is to be tried.
    fn began(&mut self) {
        self.leave.began();
        if let Some(retry) = self.retry.take() {
            retry.give_back();
        }
        metrics::histogram!("gateway_first_token_seconds", "model" => self.link.name.clone())
            .record(self.opened.first_token.duration_since(self.opened.started).as_secs_f64());
    }
}

/// The answer, with what was said already.
pub(crate) fn answer(mut relay: Relay, said: Vec<Chunk>) -> Answer {
    relay.voice.began();
    let begun = relay.tally.record(Some(&relay.voice.link), Usage::default(), Charge::default());
    let rate = relay.voice.rate;
    Answer { chunks: tell(relay, said), begun, rate }
}

fn tell(mut relay: Relay, mut said: Vec<Chunk>) -> BoxStream<'static, Result<Chunk, Error>> {
    async_stream::stream! {
        loop {
            for chunk in said {
                yield Ok(chunk);
            }
            let trouble = loop {
                match heard(&mut relay.voice.opened, &relay.voice.link).await {
                    Ok(Heard::Said(chunk)) => yield Ok(chunk),
                    Ok(Heard::Noted) => {}
                    Ok(Heard::End) => break None,
                    Err(trouble) => break Some(trouble),
                }
            };
            let trouble = match relay.ended(trouble) {
                Ok((rest, finish)) => {
                    for delta in rest {
                        yield Ok(Chunk::Tool(delta));
                    }
                    yield Ok(Chunk::End(Box::new(relay.completed(finish))));
                    return;
                }
                Err(trouble) => trouble,
            };
            relay.broke_off(&trouble);
            match relay.goes_on().await {
                Some(more) => said = more,
                None => {
                    yield Err(relay.interrupted(trouble));
                    return;
                }
            }
        }
    }
    .boxed()
}

impl Relay {
    /// What was said is whole; how the connection ended after it does not matter.
    fn ended(&mut self, trouble: Option<Trouble>) -> Result<(Vec<ToolDelta>, Finish), Trouble> {
        let opened = &mut self.voice.opened;
        match opened.finish {
            Some(finish) => opened.end(finish),
            None => Err(trouble.unwrap_or(Trouble::bad("it ended without an end"))),
        }
    }

    fn completed(mut self, finish: Finish) -> Completed {
        let Voice { opened, link, rate, mut leave, .. } = self.voice;
        let usage = opened.counted().filter(|usage| rate.is_plausible(usage));
        if usage.is_none() {
            metrics::counter!("gateway_usage_implausible_total", "model" => link.name.clone()).increment(1);
        }
        leave.answered(rate.charged(usage).0);
        self.tally.answered(&link, opened.started, opened.first_token);
        let call = self.tally.record(Some(&link), usage.unwrap_or_default(), Charge::of(rate, usage));
        let text = self.before.unwrap_or_default() + &opened.text;
        Completed { text, calls: opened.calls.into_made(), finish, call }
    }

    fn broke_off(&mut self, trouble: &Trouble) {
        let Voice { opened, link, rate, leave, .. } = &mut self.voice;
        leave.broke_off();
        self.tally.failed(link, *rate, trouble, opened.started);
    }

    fn interrupted(&self, trouble: Trouble) -> Error {
        let Voice { opened, rate, .. } = &self.voice;
        let usage = opened.counted().filter(|usage| rate.is_plausible(usage));
        let record = self.tally.record(None, usage.unwrap_or_default(), Charge::default());
        Error::new(Kind::Interrupted).with_call(record).because(trouble.told())
    }

    /// Lets the next model go on that can, once for each call, and gives what it says first.
    async fn goes_on(&mut self) -> Option<Vec<Chunk>> {
        if self.before.is_some() || !self.voice.opened.calls.is_empty() {
            return None;
        }
        let said = self.voice.opened.text.clone();
        while let Some(link) = self.plan.links.get(self.next).cloned() {
            self.next += 1;
            let (call, rate) = continuation::call(&self.plan, &link, (&self.call, &said))?;
            let until = Instant::now() + link.limits.first_token;
            let retry = self.plan.retries.take(until).await.ok()?;
            let (cost, tokens) = self.tally.owed(rate);
            if !self.call.tab.owe(cost, tokens) {
                return None;
            }
            if let Some((voice, chunks)) = self.asked(&link, (&call, rate), retry).await {
                self.voice = voice;
                self.voice.began();
                self.before = Some(said);
                return Some(self.joined(chunks));
            }
        }
        None
    }

    /// Asks one link to go on. Whatever its failure is, the next may do better: that it cannot go on with what another
    /// began is no fault of the call.
    async fn asked(
        &mut self,
        link: &Arc<Link>,
        (call, rate): (&Arc<Call>, Rate),
        retry: Retry,
    ) -> Option<(Voice, Vec<Chunk>)> {
        let (started, sent) = (Instant::now(), Sent::default());
        let mut leave = match link.admit(rate.tokens().0) {
            Ok(leave) => leave,
            Err(trouble) => {
                retry.give_back();
                self.tally.failed(link, rate, &trouble, started);
                return None;
            }
        };
        // Who is to go on with half an answer, and has nothing to say, has not ended it.
        let share = started + link.limits.total;
        let way = Way { rate, share, is_probed: false, may_be_silent: false };
        match first(link, call, way, sent.clone()).await {
            Ok((opened, chunks)) => {
                let (link, retry) = (Arc::clone(link), Some(retry));
                Some((Voice { opened, link, rate, leave, retry }, chunks))
            }
            Err(trouble) => {
                leave.failed(&trouble, self.rest_max);
                if !sent.is_begun() && !trouble.billed {
                    leave.unsent();
                }
                self.tally.failed(link, rate, &trouble, started);
                None
            }
        }
    }

    /// The seam: what was shown may have ended with the space that the other begins with.
    fn joined(&mut self, chunks: Vec<Chunk>) -> Vec<Chunk> {
        let ends_blank = self.before.as_deref().is_some_and(|text| text.ends_with(char::is_whitespace));
        if !ends_blank {
            return chunks;
        }
        let text = &mut self.voice.opened.text;
        text.drain(..text.len() - text.trim_start().len());
        let trimmed = chunks.into_iter().map(|chunk| match chunk {
            Chunk::Text(text) => Chunk::Text(text.trim_start().to_owned()),
            other => other,
        });
        trimmed.collect()
    }
}
