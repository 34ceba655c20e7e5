//! What the attempts of one call amount to.

use std::sync::Arc;

use chela_types::{Attempt, Blame, Fault, ModelCall, Money, Tokens, Usage};
use tokio::time::Instant;

use crate::plan::Link;
use crate::provider::Trouble;
use crate::{Call, Error, Rate};

/// What one attempt is charged.
#[derive(Default)]
pub(crate) struct Charge {
    cost: Money,
    tokens: Tokens,
}

impl Charge {
    pub(crate) fn of(rate: Rate, usage: Option<Usage>) -> Self {
        Self { cost: rate.cost(usage), tokens: rate.charged(usage) }
    }
}

/// The record so far.
pub(crate) struct Tally {
    call: ModelCall,
    started: Instant,
}

impl Tally {
    /// What is reserved, whoever pays writes into it.
    pub(crate) fn new(call: &Call) -> Self {
        Self { call: call.record(), started: Instant::now() }
    }

    /// Notes a failed attempt, and what it may have cost: its bound, unless it told a count.
    pub(crate) fn failed(&mut self, link: &Link, rate: Rate, trouble: &Trouble, started: Instant) {
        if trouble.billed {
            self.lose(link, &Charge::of(rate, trouble.usage.as_deref().copied()));
        }
        let blame: Blame = Error::new(trouble.kind.clone()).blame();
        self.note(link, trouble.kind.class(), Some(blame), (started, None));
    }

    /// Notes an attempt that was given up because another was faster. What was sent may be billed, at most its bound: a
    /// count so far is not the last one.
    pub(crate) fn overtaken(
        &mut self,
        (link, rate): (&Link, Rate),
        class: &'static str,
        (sent, started): (bool, Instant),
    ) {
        if sent {
            self.lose(link, &Charge::of(rate, None));
        }
        self.note(link, class, None, (started, None));
    }

    pub(crate) fn answered(&mut self, link: &Link, started: Instant, first_token: Instant) {
        self.note(link, "ok", None, (started, Some(first_token)));
    }

    /// What is owed if the answer of this rate is not heard to its end.
    pub(crate) fn owed(&self, rate: Rate) -> (Money, Tokens) {
        (self.call.cost.plus(rate.bound()), self.call.charged.plus(rate.tokens()))
    }

    fn lose(&mut self, link: &Link, charge: &Charge) {
        self.call.cost = self.call.cost.plus(charge.cost);
        self.call.charged = self.call.charged.plus(charge.tokens);
        if charge.cost > Money::ZERO {
            let lost = self.call.lost.entry(link.name.clone()).or_default();
            *lost = lost.plus(charge.cost);
        }
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
    pub(crate) fn record(&self, link: Option<&Arc<Link>>, usage: Usage, charge: Charge) -> ModelCall {
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
