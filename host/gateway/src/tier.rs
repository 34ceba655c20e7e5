//! From a tier's name to its chain.

use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Answer, Call, Error, Kind, Model};
use chela_types::TierId;

/// Picks the chain that the call names.
pub(crate) struct Tiers {
    pub(crate) chains: BTreeMap<TierId, Arc<dyn Model>>,
}

impl Model for Tiers {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        match self.chains.get(&call.tier) {
            Some(chain) => chain.complete(call),
            None => Box::pin(async move { Err(Error::new(Kind::UnknownTier(call.tier.clone()))) }),
        }
    }
}
