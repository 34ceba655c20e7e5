//! Nothing is asked without money set aside for the worst case.
//!
//! The worst case is proven: input tokens are bounded by bytes, output tokens by the limit that the provider
//! is given, and every link of the chain is counted, because each may work and break off. Afterwards the
//! provider's own count is charged where it can be true, and the bound of each link that may have worked where it
//! is missing or cannot.

use chela_store::Used;
use chela_types::{ModelCall, Money, Tokens};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

use crate::ledger::{Purses, Reservation};
use crate::plan::{Plans, SharedClock};
use crate::{Answer, Budgets, Call, Chunk, Completed, Error, Kind, Model, Rate, Tab};

/// The layer around all that spend.
pub(crate) struct Budget {
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) purses: Arc<Purses>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) clock: SharedClock,
    pub(crate) below: Arc<dyn Model>,
}

impl Model for Budget {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            let Affordable { call, mut reservation, kept } =
                self.affordable(Arc::unwrap_or_clone(call)).await?;
            if let Some(answer) = kept {
                return Ok(meter(answer, call, reservation));
            }
            match self.below.complete(Arc::clone(&call)).await {
                Ok(answer) => Ok(meter(answer, call, reservation)),
                Err(error) => Err(failed(error, &call, &mut reservation)),
            }
        })
    }
}

impl Budget {
    /// The call as it is paid for: by the tier that it asks for, or where a budget has no room for that, by nobody if its
    /// answer is kept, or by the next cheaper tier. The refusal that is told is the first.
    async fn affordable(&self, mut call: Call) -> Result<Affordable, Error> {
        let max_output = call.max_output;
        let mut refused = None;
        loop {
            let plan = self.plans.get(&call.tier);
            let plan = plan.ok_or_else(|| Error::new(Kind::UnknownTier(call.tier.clone())))?;
            // From here on everybody sees the limit that was paid for.
            call.max_output = Some(plan.output(max_output));
            call.tab = Tab::default();
            let most = (plan.worst_case(&call), self.clock.now());
            match Reservation::make(&self.purses, &self.budgets, &call, most).await {
                Ok(reservation) => return Ok(Affordable { call: Arc::new(call), reservation, kept: None }),
                Err(error) => {
                    let is_over = matches!(error.kind, Kind::OverBudget { .. });
                    if is_over && let Some((reservation, answer)) = self.kept(&call).await {
                        return Ok(Affordable { call: Arc::new(call), reservation, kept: Some(answer) });
                    }
                    count(&call, error.kind.class());
                    let error = refused.unwrap_or_else(|| error.with_call(call.record()));
                    match plan.cheaper.as_ref().filter(|_| is_over) {
                        Some(cheaper) => {
                            let asked = std::mem::replace(&mut call.tier, cheaper.clone());
                            call.wanted.get_or_insert(asked);
                            call.why = Some("budget".to_owned());
                        }
                        None => return Err(error),
                    }
                    refused = Some(error);
                }
            }
        }
    }

    /// The answer, if it is kept, with the reservation of nothing that its record needs.
    async fn kept(&self, call: &Call) -> Option<(Reservation, Answer)> {
        let nothing = (Used::default(), self.clock.now());
        let answer = self.below.kept(call).await?;
        let reservation = Reservation::make(&self.purses, &self.budgets, call, nothing).await.ok()?;
        Some((reservation, answer))
    }
}

/// A call that may be made.
struct Affordable {
    call: Arc<Call>,
    reservation: Reservation,
    /// Its answer: nobody is to be asked.
    kept: Option<Answer>,
}

/// Settles a call that failed: what may have been spent, which is nothing if no provider can have worked for it.
fn failed(mut error: Error, call: &Call, reservation: &mut Reservation) -> Error {
    count(call, error.kind.class());
    if let Some(record) = &mut error.call {
        record.reserved = reservation.most.cost;
    }
    match error.call.as_deref().cloned() {
        Some(record) if is_charged(&record) => reservation.unknown(record),
        record => reservation.release(record),
    }
    error
}

/// Whether a provider may have worked for it. What costs nothing has its tokens counted all the same.
fn is_charged(record: &ModelCall) -> bool {
    record.cost > Money::ZERO || record.charged > Tokens(0)
}

/// An answer under way, and its money.
struct Metered {
    chunks: BoxStream<'static, Result<Chunk, Error>>,
    reservation: Reservation,
    call: Arc<Call>,
    begun: ModelCall,
    rate: Rate,
}

fn meter(mut answer: Answer, call: Arc<Call>, reservation: Reservation) -> Answer {
    answer.begun.reserved = reservation.most.cost;
    let (begun, rate) = (answer.begun.clone(), answer.rate);
    let metered = Metered { chunks: answer.chunks, reservation, call, begun, rate };
    answer.chunks = futures::stream::unfold(metered, |mut metered| async move {
        if !metered.reservation.is_open() {
            return None;
        }
        let chunk = metered.chunks.next().await?;
        Some((metered.pass(chunk), metered))
    })
    .boxed();
    answer
}

impl Metered {
    fn pass(&mut self, chunk: Result<Chunk, Error>) -> Result<Chunk, Error> {
        match chunk {
            Ok(Chunk::End(completed)) => Ok(Chunk::End(self.end(completed))),
            Ok(said) => Ok(said),
            Err(error) => Err(failed(error, &self.call, &mut self.reservation)),
        }
    }

    fn end(&mut self, mut completed: Box<Completed>) -> Box<Completed> {
        let most = self.reservation.most;
        completed.call.reserved = most.cost;
        completed.call.cost = completed.call.cost.min(most.cost);
        count(&self.call, "ok");
        metrics::counter!("gateway_cost_nanodollars_total", "agent" => self.call.agent.to_string())
            .increment(u64::try_from(completed.call.cost.nanos()).unwrap_or(0));
        let usage = completed.call.usage;
        metrics::counter!("gateway_tokens_total", "kind" => "input").increment(usage.input.0);
        metrics::counter!("gateway_tokens_total", "kind" => "output").increment(usage.output.0);
        self.reservation.settle(completed.call.clone());
        completed
    }
}

impl Drop for Metered {
    /// The caller stopped listening. The provider may go on to its limit, and thinks unseen; so the bound is
    /// charged, beside what failed before.
    fn drop(&mut self) {
        if !self.reservation.is_open() {
            return;
        }
        let begun = (self.begun.cost.plus(self.rate.bound()), self.begun.charged.plus(self.rate.tokens()));
        // Another model may have been asked to go on.
        let (cost, charged) = self.call.tab.close().unwrap_or(begun);
        let record = ModelCall { cost, charged, ..self.begun.clone() };
        count(&self.call, "abandoned");
        if is_charged(&record) { self.reservation.unknown(record) } else { self.reservation.settle(record) }
    }
}

fn count(call: &Call, class: &'static str) {
    metrics::counter!("gateway_calls_total", "tier" => call.tier.to_string(), "class" => class).increment(1);
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
