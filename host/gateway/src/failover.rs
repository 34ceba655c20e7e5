//! Walks a chain until somebody answers.
//!
//! Each link is asked at most once. Until the first text or tool call is there, any failure whose class allows it
//! moves on to the next link, and *slow* is a failure too, as is an answer that ends well and says nothing. After
//! something has been shown there is no way back: a second model would say something else, so a break is told as
//! one.

use chela_egress::Begun;
use chela_types::{Attempt, Blame, Fault, Finish, ModelCall, Money, Tokens, Usage};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::breaker::Trial;
use crate::calls::Calls;
use crate::plan::{Link, Plan};
use crate::provider::{Ask, Piece, Pieces, Trouble};
use crate::{Answer, Call, Chunk, Completed, Error, Kind, Model, Rate, ToolDelta};

/// Longest text of an answer: 1 MiB. A provider that goes on beyond its own output limit is cut off.
/// Its tool calls may have as much besides.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;

/// A tier's chain.
pub(crate) struct Failover {
    pub(crate) plan: Arc<Plan>,
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
        let patience = self.plan.links.iter().map(|link| link.limits.total).max().unwrap_or_default();
        let until = Instant::now() + patience;
        for (index, link) in self.plan.links.iter().enumerate() {
            let rate = self.plan.rate(link, &call);
            let started = Instant::now();
            let by = share(until, self.plan.links.len() - index);
            let trouble = match admitted(link) {
                Err(trouble) => trouble,
                Ok(mut trial) => match first(link, &call, (rate, by)).await {
                    Ok(opened) => {
                        trial.began();
                        return Ok(answer(opened, (link.clone(), rate), (tally, trial)));
                    }
                    Err(trouble) => {
                        trial.failed(&trouble.kind);
                        link.rest.for_another(trouble.kind.retry_after().min(self.cooldown_max));
                        trouble
                    }
                },
            };
            tally.failed(link, rate, &trouble, started);
            let moves_on = trouble.kind.elsewhere();
            failed = Some(worse(failed, trouble));
            if !moves_on {
                break;
            }
        }
        let error = failed.unwrap_or_else(|| Error::new(Kind::Config("chain is empty".into())));
        Err(error.with_call(tally.record(None, Usage::default(), Charge::default())))
    }
}

/// A provider that asked for rest is not asked before it is over, nor a model that fails before it is tried again.
pub(crate) fn admitted(link: &Link) -> Result<Trial, Trouble> {
    let retry_after = link.rest.remaining();
    if !retry_after.is_zero() {
        return Err(Trouble::new(Kind::RateLimited { retry_after }, false));
    }
    let left_alone = |retry_after| Kind::Unavailable { code: "left alone".into(), retry_after };
    link.breaker.admit().map_err(|rest| Trouble::new(left_alone(rest), false))
}

/// When a link must have said its first word, so that those after it have their time too: one that thinks and
/// thinks is slow as well.
fn share(until: Instant, links: usize) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / u32::try_from(links.max(1)).unwrap_or(u32::MAX)
}

/// Of two failures the one that tells best what to do: one that passes before one that stays, and of two that
/// pass the shorter wait.
pub(crate) fn worse(before: Option<Error>, trouble: Trouble) -> Error {
    let new = told(trouble);
    match before {
        None => new,
        Some(before) => match (&before.kind, &new.kind) {
            (old, kind) if kind.passes() && kind.retry_after() < old.retry_after() => new,
            (old, kind) if old.passes() && !matches!(kind, Kind::Refused | Kind::Invalid { .. }) => before,
            _ => new,
        },
    }
}

/// A failed attempt as an error.
fn told(trouble: Trouble) -> Error {
    let error = Error::new(trouble.kind);
    match trouble.cause {
        Some(cause) => error.because(*cause),
        None => error,
    }
}

/// An attempt under way.
struct Opened {
    /// What it has said.
    text: String,
    /// The tools that it has called.
    calls: Calls,
    rest: Pieces,
    usage: Option<Usage>,
    finish: Option<Finish>,
    started: Instant,
    first_token: Instant,
    /// When it must have come to its end.
    until: Instant,
}

/// Asks one link and waits for its first text or tool call, and tells it. Blank text is none: an answer may begin with
/// it, and one that is nothing else is a failure.
async fn first(
    link: &Link,
    call: &Arc<Call>,
    (rate, share): (Rate, Instant),
) -> Result<(Opened, Vec<Chunk>), Trouble> {
    let mut opened = open(link, call, rate).await?;
    let mut silence = Silence::first(link, opened.started);
    while let Some(piece) = next(&mut opened, silence.until_at_most(share)).await? {
        match piece {
            Piece::Text(text) => {
                opened.say(&text)?;
                if !text.trim().is_empty() {
                    opened.first_token = Instant::now();
                    let said = vec![Chunk::Text(opened.text.clone())];
                    return Ok((opened, said));
                }
                silence = Silence::between(link);
            }
            Piece::Tool(delta) => {
                opened.call(&delta)?;
                opened.first_token = Instant::now();
                let blank = (!opened.text.is_empty()).then(|| Chunk::Text(opened.text.clone()));
                let said = blank.into_iter().chain([Chunk::Tool(delta)]).collect();
                return Ok((opened, said));
            }
            Piece::Alive => silence = Silence::between(link),
            piece => opened.note(&piece),
        }
    }
    let trouble = match opened.finish {
        Some(Finish::Filtered) => Trouble::new(Kind::Refused, true),
        Some(Finish::Length) => Trouble::new(Kind::NoRoom, true),
        Some(Finish::Stop) => Trouble::bad("it is empty"),
        Some(Finish::ToolCalls) => Trouble::bad(NO_CALLS),
        None => Trouble::bad("it ended before it began"),
    };
    Err(Trouble { usage: opened.usage, ..trouble })
}

/// An answer that says that it called tools, and did not.
const NO_CALLS: &str = "it calls no tool and says that it does";

/// Asks one link.
async fn open(link: &Link, call: &Arc<Call>, rate: Rate) -> Result<Opened, Trouble> {
    let (started, sent, total) = (Instant::now(), Begun::default(), link.limits.total);
    let ask = Ask {
        call: call.clone(),
        model: link.model.clone(),
        max_output: rate.output,
        total,
        sent: sent.clone(),
    };
    let Silence { until, after } = Silence::first(link, started);
    let late = |_| Trouble::new(Kind::TooSlow { after }, sent.is_begun());
    let rest = timeout_at(until, link.backend.start(ask)).await.map_err(late)??;
    Ok(Opened {
        text: String::new(),
        calls: Calls::new(call.clone()),
        rest,
        usage: None,
        finish: None,
        started,
        first_token: started,
        until: started + total,
    })
}

/// How long an attempt may be silent.
#[derive(Clone, Copy)]
struct Silence {
    until: Instant,
    after: Duration,
}

impl Silence {
    /// Until the first sign of life.
    fn first(link: &Link, started: Instant) -> Self {
        let after = link.limits.first_token.min(link.limits.total);
        Self { until: started + after, after }
    }

    fn until_at_most(self, latest: Instant) -> Self {
        Self { until: self.until.min(latest), ..self }
    }

    /// From now to the next piece.
    fn between(link: &Link) -> Self {
        let after = link.limits.idle;
        Self { until: Instant::now() + after, after }
    }
}

/// The next piece, if there is one.
async fn next(opened: &mut Opened, silence: Silence) -> Result<Option<Piece>, Trouble> {
    match timeout_at(opened.until.min(silence.until), opened.rest.next()).await {
        Err(_) => Err(Trouble::new(Kind::TooSlow { after: silence.after }, true)),
        Ok(None | Some(Ok(Piece::End))) => Ok(None),
        Ok(Some(piece)) => piece.map(Some),
    }
}

impl Opened {
    fn say(&mut self, text: &str) -> Result<(), Trouble> {
        self.is_going_on()?;
        self.text.push_str(text);
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(Trouble::bad("it is longer than any answer may be"));
        }
        Ok(())
    }

    fn call(&mut self, delta: &ToolDelta) -> Result<(), Trouble> {
        self.is_going_on()?;
        self.calls.take(delta)
    }

    /// What comes after the end belongs to nothing.
    fn is_going_on(&self) -> Result<(), Trouble> {
        match self.finish {
            None => Ok(()),
            Some(_) => Err(Trouble::bad("it goes on after its end")),
        }
    }

    /// What is still to be told of tool calls, and how the answer ended. Some say `stop` where a tool was called.
    fn end(&mut self, finish: Finish) -> Result<(Vec<ToolDelta>, Finish), Trouble> {
        match finish {
            Finish::Length | Finish::Filtered => Ok((Vec::new(), finish)),
            Finish::Stop if self.calls.is_empty() => Ok((Vec::new(), finish)),
            Finish::ToolCalls if self.calls.is_empty() => Err(Trouble::bad(NO_CALLS)),
            Finish::Stop | Finish::ToolCalls => {
                let rest = self.calls.close();
                let error = Trouble::bad("the arguments of its tool calls are no json objects");
                if self.calls.are_whole() { Ok((rest, Finish::ToolCalls)) } else { Err(error) }
            }
        }
    }

    fn note(&mut self, piece: &Piece) {
        match piece {
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::Finish(finish) => self.finish = Some(*finish),
            Piece::Text(_) | Piece::Tool(_) | Piece::Alive | Piece::End => {}
        }
    }
}

/// The stream of an answer whose first text or tool call is there.
fn answer(
    (opened, said): (Opened, Vec<Chunk>),
    (link, rate): (Arc<Link>, Rate),
    (tally, trial): (Tally, Trial),
) -> Answer {
    let begun = tally.record(Some(&link), Usage::default(), Charge::default());
    metrics::histogram!("gateway_first_token_seconds", "model" => link.name.clone())
        .record(opened.first_token.duration_since(opened.started).as_secs_f64());
    Answer { chunks: relay((opened, said), (link, rate), (tally, trial)), begun, rate }
}

fn relay(
    (mut opened, said): (Opened, Vec<Chunk>),
    (link, rate): (Arc<Link>, Rate),
    (tally, mut trial): (Tally, Trial),
) -> BoxStream<'static, Result<Chunk, Error>> {
    async_stream::stream! {
        for chunk in said {
            yield Ok(chunk);
        }
        let trouble = loop {
            match heard(&mut opened, &link).await {
                Ok(Heard::Said(chunk)) => yield Ok(chunk),
                Ok(Heard::Noted) => {}
                Ok(Heard::End) => break None,
                Err(trouble) => break Some(trouble),
            }
        };
        // What was said is whole; how the connection ended after it does not matter.
        let ended = match opened.finish {
            Some(finish) => opened.end(finish),
            None => Err(trouble.unwrap_or(Trouble::bad("it ended without an end"))),
        };
        match ended {
            Ok((rest, finish)) => {
                trial.answered();
                for delta in rest {
                    yield Ok(Chunk::Tool(delta));
                }
                yield Ok(Chunk::End(Box::new(completed(opened, finish, (&link, rate), tally))));
            }
            Err(trouble) => {
                trial.failed(&Kind::Interrupted);
                yield Err(interrupted(&opened, trouble, (&link, rate), tally));
            }
        }
    }
    .boxed()
}

/// What came of one piece.
enum Heard {
    Said(Chunk),
    Noted,
    End,
}

async fn heard(opened: &mut Opened, link: &Link) -> Result<Heard, Trouble> {
    Ok(match next(opened, Silence::between(link)).await? {
        Some(Piece::Text(text)) => {
            opened.say(&text)?;
            Heard::Said(Chunk::Text(text))
        }
        Some(Piece::Tool(delta)) => {
            opened.call(&delta)?;
            Heard::Said(Chunk::Tool(delta))
        }
        Some(piece) => {
            opened.note(&piece);
            Heard::Noted
        }
        None => Heard::End,
    })
}

fn completed(
    opened: Opened,
    finish: Finish,
    (link, rate): (&Arc<Link>, Rate),
    mut tally: Tally,
) -> Completed {
    let usage = opened.usage.filter(|usage| rate.is_plausible(usage));
    if usage.is_none() {
        metrics::counter!("gateway_usage_implausible_total", "model" => link.name.clone()).increment(1);
    }
    tally.answered(link, &opened);
    let call = tally.record(Some(link), usage.unwrap_or_default(), Charge::of(rate, usage));
    Completed { text: opened.text, calls: opened.calls.into_made(), finish, call }
}

fn interrupted(
    opened: &Opened,
    trouble: Trouble,
    (link, rate): (&Arc<Link>, Rate),
    mut tally: Tally,
) -> Error {
    tally.failed(link, rate, &trouble, opened.started);
    let usage = opened.usage.filter(|usage| rate.is_plausible(usage));
    let record = tally.record(None, usage.unwrap_or_default(), Charge::default());
    Error::new(Kind::Interrupted).with_call(record).because(told(trouble))
}

/// What one attempt is charged.
#[derive(Default)]
struct Charge {
    cost: Money,
    tokens: Tokens,
}

impl Charge {
    fn of(rate: Rate, usage: Option<Usage>) -> Self {
        Self { cost: rate.cost(usage), tokens: rate.charged(usage) }
    }
}

/// What the attempts of one call amount to.
struct Tally {
    call: ModelCall,
    started: Instant,
}

impl Tally {
    fn new(plan: &Plan, call: &Call) -> Self {
        let call = ModelCall { reserved: plan.worst_case(call).cost, ..call.record() };
        Self { call, started: Instant::now() }
    }

    /// Notes a failed attempt, and what it may have cost: its bound, unless it told a count.
    fn failed(&mut self, link: &Link, rate: Rate, trouble: &Trouble, started: Instant) {
        if trouble.billed {
            let Charge { cost, tokens } = Charge::of(rate, trouble.usage);
            self.call.cost = self.call.cost.plus(cost);
            self.call.charged = self.call.charged.plus(tokens);
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

    /// The record, with the answering attempt's usage and charge on top of what failed ones cost.
    fn record(&self, link: Option<&Arc<Link>>, usage: Usage, charge: Charge) -> ModelCall {
        ModelCall {
            model: link.map(|link| link.name.clone()),
            price: link.map(|link| link.tariff.version.to_string()),
            usage,
            cost: self.call.cost.plus(charge.cost),
            charged: self.call.charged.plus(charge.tokens),
            millis: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..self.call.clone()
        }
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tools_tests;
