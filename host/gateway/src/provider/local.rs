//! A model of vectors in this program: nobody is asked, and nothing leaves the machine.
//!
//! It stands in a chain of one, as a provider does: reserved (tokens and requests have budgets, too), recorded, and bounded
//! in time and number. Each call computes on a thread of its own kind, a text after the other; so many at once as the
//! operator allows, since turns want the processors, too.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chela_embedder::Model;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::{Ask, Backend, Embed, Embedded, Pieces, Trouble};
use crate::Kind;

/// A model in this program, as the configuration names it.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Read into memory.
    pub model: Arc<Model>,
    /// Calls at once.
    pub concurrency: NonZeroUsize,
}

impl LocalModel {
    /// `local:NAME`, as it stands in records.
    pub fn name(&self) -> String {
        format!("local:{}", self.model.folder().name())
    }
}

/// The same as a provider.
pub(crate) struct Local {
    model: Arc<Model>,
    places: Arc<Semaphore>,
}

impl Local {
    pub(crate) fn new(local: &LocalModel) -> Self {
        Self { model: local.model.clone(), places: Arc::new(Semaphore::new(local.concurrency.get())) }
    }

    async fn vectors(&self, ask: Embed) -> Result<Embedded, Trouble> {
        let makes = self.model.folder().dims();
        if ask.dims.is_some_and(|dims| dims != makes) {
            let code = format!("its vectors have {makes} dimensions");
            return Err(Trouble::new(Kind::Invalid { code }, false));
        }
        let gone = || Trouble::new(Kind::Config("the local model broke off".to_owned()), false);
        let place = self.places.clone().acquire_owned().await.map_err(|_| gone())?;
        let (model, inputs, stop) = (self.model.clone(), ask.inputs.clone(), Stop::default());
        let is_stopped = stop.0.clone();
        let made = tokio::task::spawn_blocking(move || {
            // It is free again when the work has ended, not when nobody waits for it any more.
            let _place = place;
            work(&model, &inputs, &is_stopped)
        });
        made.await.map_err(|_| gone())?
    }
}

impl Backend for Local {
    fn start(&self, _: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        Box::pin(async { Err(Trouble::new(Kind::Unsupported { what: "answers" }, false)) })
    }

    fn embed(&self, ask: Embed) -> BoxFuture<'_, Result<Embedded, Trouble>> {
        Box::pin(self.vectors(ask))
    }
}

/// Set when nobody waits any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn work(model: &Model, inputs: &[String], is_stopped: &AtomicBool) -> Result<Embedded, Trouble> {
    let (mut vectors, mut tokens, mut cut) = (Vec::with_capacity(inputs.len()), 0_u64, 0_u64);
    for text in inputs {
        if is_stopped.load(Ordering::Relaxed) {
            return Err(Trouble::new(Kind::Interrupted, false));
        }
        let made = model.embed(text);
        if !made.vector.iter().all(|number| number.is_finite()) {
            return Err(Trouble::new(
                Kind::BadResponse { what: "a vector has something that is no number" },
                false,
            ));
        }
        tokens = tokens.saturating_add(made.tokens);
        cut += u64::from(made.is_cut);
        vectors.push(made.vector);
    }
    if cut > 0 {
        metrics::counter!("gateway_embedding_texts_cut_total").increment(cut);
    }
    Ok(Embedded { vectors, tokens: Some(tokens) })
}
