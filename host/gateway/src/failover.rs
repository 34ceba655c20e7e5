//! Walks a chain until somebody answers.
//!
//! Each link is asked at most once. Until the first text is there, any failure whose class allows it moves on
//! to the next link, and *slow* is a failure too. After the first text has been shown there is no way back:
//! a second model would say something else, so a break is told as one.

use chela_types::{Attempt, Blame, Fault, Finish, ModelCall, Money, Usage};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::plan::{Link, Plan, SharedClock};
use crate::provider::{Ask, Piece, Pieces, Sent, Trouble};
use crate::{Answer, Call, Chunk, Completed, Error, Kind, Model, Rate};

/// Longest text of an answer: 1 MiB. A provider that goes on beyond its own output limit is cut off.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A tier's chain.
pub(crate) struct Failover {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clock: SharedClock,
    pub(crate) cooldown_max: Duration,
}

impl Model for Failover {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.walk(call))
    }
}

impl Failover {
    async fn walk(&self, call: Arc<Call>) -> Result<Answer, Error> {
        let mut tally = Tally::new(&self.plan, &call);
        let mut failed: Option<Error> = None;
        for link in &self.plan.links {
            let rate = self.plan.rate(link, &call);
            let started = Instant::now();
            let trouble = match self.resting(link) {
                Some(trouble) => trouble,
                None => match first(link, &call, rate).await {
                    Ok(opened) => return Ok(answer(opened, link.clone(), rate, tally)),
                    Err(trouble) => trouble,
                },
            };
            self.note_rest(link, &trouble.kind);
            tally.failed(link, rate, &trouble, started);
            let moves_on = trouble.kind.elsewhere();
            failed = Some(worse(failed, trouble));
            if !moves_on {
                break;
            }
        }
        let error = failed.unwrap_or_else(|| Error::new(Kind::Unavailable { code: "chain is empty".into() }));
        Err(error.with_call(tally.record(None, Usage::default(), Money::ZERO)))
    }

    /// A provider that asked for rest is not asked before it is over.
    fn resting(&self, link: &Link) -> Option<Trouble> {
        let retry_after = link.rest.remaining(self.clock.now());
        (!retry_after.is_zero()).then(|| Trouble::new(Kind::RateLimited { retry_after }, false))
    }

    fn note_rest(&self, link: &Link, kind: &Kind) {
        if let Kind::RateLimited { retry_after } = kind {
            link.rest.until(self.clock.now().plus((*retry_after).min(self.cooldown_max)));
        }
    }
}

/// Of two failures the one that tells best what to do: one that passes before one that stays, and of two rate
/// limits the shorter wait.
fn worse(before: Option<Error>, trouble: Trouble) -> Error {
    let new = Error::new(trouble.kind);
    let new = match trouble.cause {
        Some(cause) => new.because(cause),
        None => new,
    };
    match before {
        None => new,
        Some(before) => match (&before.kind, &new.kind) {
            (Kind::RateLimited { retry_after: old }, Kind::RateLimited { retry_after })
                if old <= retry_after =>
            {
                before
            }
            (Kind::RateLimited { .. }, kind) if kind.passes() => new,
            (old, kind) if old.passes() && !matches!(kind, Kind::Refused | Kind::Invalid { .. }) => before,
            _ => new,
        },
    }
}

/// An attempt that has said its first word, or has ended well without any.
struct Opened {
    text: Option<String>,
    rest: Pieces,
    usage: Option<Usage>,
    finish: Option<Finish>,
    started: Instant,
    first_token: Instant,
    until: Instant,
}

/// Asks one link and waits for its first text.
async fn first(link: &Link, call: &Arc<Call>, rate: Rate) -> Result<Opened, Trouble> {
    let started = Instant::now();
    let (sent, total) = (Sent::default(), link.limits.total);
    let ask = Ask {
        call: call.clone(),
        model: link.model.clone(),
        max_output: rate.output,
        total,
        sent: sent.clone(),
    };
    let opening = async {
        let mut rest = link.backend.start(ask).await?;
        let (mut usage, mut finish) = (None, None);
        while let Some(piece) = rest.next().await {
            match piece? {
                Piece::Text(text) => return Ok((Some(text), rest, usage, finish)),
                Piece::Usage(counted) => usage = Some(counted),
                Piece::Finish(reason) => finish = Some(reason),
            }
        }
        match finish {
            Some(Finish::Filtered) => Err(Trouble::new(Kind::Refused, true)),
            Some(_) => Ok((None, rest, usage, finish)),
            None => Err(Trouble::bad("it ended before it began")),
        }
    };
    let after = link.limits.first_token.min(total);
    match timeout_at(started + after, opening).await {
        Err(_) => Err(Trouble::new(Kind::TooSlow { after }, sent.is_marked())),
        Ok(Err(trouble)) => Err(trouble),
        Ok(Ok((text, rest, usage, finish))) => {
            let until = started + total;
            Ok(Opened { text, rest, usage, finish, started, first_token: Instant::now(), until })
        }
    }
}

/// The stream of an answer whose first text is there.
fn answer(opened: Opened, link: Arc<Link>, rate: Rate, tally: Tally) -> Answer {
    let begun = tally.record(Some(&link), Usage::default(), Money::ZERO);
    metrics::histogram!("gateway_first_token_seconds", "model" => link.name.clone())
        .record(opened.first_token.duration_since(opened.started).as_secs_f64());
    Answer { chunks: relay(opened, link, rate, tally), begun, rate }
}

fn relay(
    mut opened: Opened,
    link: Arc<Link>,
    rate: Rate,
    mut tally: Tally,
) -> BoxStream<'static, Result<Chunk, Error>> {
    async_stream::stream! {
        let mut whole = String::new();
        if let Some(text) = opened.text.take() {
            whole.push_str(&text);
            yield Ok(Chunk::Text(text));
        }
        let trouble = loop {
            match next(&mut opened, link.limits.idle).await {
                Ok(Some(Piece::Text(text))) => {
                    whole.push_str(&text);
                    if whole.len() > TEXT_BYTES_MAX {
                        break Some(Trouble::bad("it is longer than any answer may be"));
                    }
                    yield Ok(Chunk::Text(text));
                }
                Ok(Some(Piece::Usage(usage))) => opened.usage = Some(usage),
                Ok(Some(Piece::Finish(finish))) => opened.finish = Some(finish),
                Ok(None) => break None,
                Err(trouble) => break Some(trouble),
            }
        };
        match (trouble, opened.finish) {
            // What was said is whole; how the connection ended after it does not matter.
            (_, Some(finish)) => {
                if opened.usage.is_none_or(|usage| !rate.is_plausible(&usage, !whole.is_empty())) {
                    metrics::counter!("gateway_usage_implausible_total", "model" => link.name.clone()).increment(1);
                }
                let (cost, usage) = (rate.cost(opened.usage, !whole.is_empty()), opened.usage.unwrap_or_default());
                tally.answered(&link, &opened);
                let call = tally.record(Some(&link), usage, cost);
                yield Ok(Chunk::End(Box::new(Completed { text: whole, finish, call })));
            }
            (trouble, None) => {
                let trouble = trouble.unwrap_or(Trouble::bad("it ended without an end"));
                tally.failed(&link, rate, &trouble, opened.started);
                let record = tally.record(None, opened.usage.unwrap_or_default(), Money::ZERO);
                let error = Error::new(Kind::Interrupted).with_call(record);
                let cause = Error::new(trouble.kind);
                yield Err(error.because(match trouble.cause {
                    Some(egress) => cause.because(egress),
                    None => cause,
                }));
            }
        }
    }
    .boxed()
}

async fn next(opened: &mut Opened, idle: Duration) -> Result<Option<Piece>, Trouble> {
    let until = opened.until.min(Instant::now() + idle);
    match timeout_at(until, opened.rest.next()).await {
        Err(_) => Err(Trouble::new(Kind::TooSlow { after: idle }, true)),
        Ok(None) => Ok(None),
        Ok(Some(piece)) => piece.map(Some),
    }
}

/// What the attempts of one call amount to.
struct Tally {
    call: ModelCall,
    started: Instant,
}

impl Tally {
    fn new(plan: &Plan, call: &Call) -> Self {
        let call = ModelCall { reserved: plan.worst_case(call), ..call.record() };
        Self { call, started: Instant::now() }
    }

    /// Notes a failed attempt, and what it may have cost: its bound, for nobody told a count.
    fn failed(&mut self, link: &Link, rate: Rate, trouble: &Trouble, started: Instant) {
        if trouble.billed {
            self.call.cost = self.call.cost.plus(rate.bound());
        }
        let blame: Blame = Error::new(trouble.kind.clone()).blame();
        self.note(link, trouble.kind.class(), Some(blame), (started, None));
    }

    fn answered(&mut self, link: &Link, opened: &Opened) {
        self.note(link, "ok", None, (opened.started, Some(opened.first_token)));
    }

    fn note(
        &mut self,
        link: &Link,
        class: &'static str,
        blame: Option<Blame>,
        times: (Instant, Option<Instant>),
    ) {
        let (started, first) = times;
        let millis = |until: Instant| u64::try_from((until - started).as_millis()).unwrap_or(u64::MAX);
        metrics::counter!("gateway_attempts_total", "model" => link.name.clone(), "class" => class)
            .increment(1);
        tracing::debug!(model = link.name, class, "attempt");
        self.call.attempts.push(Attempt {
            model: link.name.clone(),
            class: class.to_owned(),
            blame,
            millis: millis(Instant::now()),
            first_token_millis: first.map(millis),
        });
    }

    /// The record, with the answering attempt's usage and cost on top of what failed ones cost.
    fn record(&self, link: Option<&Arc<Link>>, usage: Usage, cost: Money) -> ModelCall {
        ModelCall {
            model: link.map(|link| link.name.clone()),
            usage,
            cost: self.call.cost.plus(cost),
            millis: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..self.call.clone()
        }
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
pub(crate) mod tests;
