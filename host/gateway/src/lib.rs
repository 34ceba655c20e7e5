//! Models: a call meets `budget(cache(tier(failover(providers))))`, in this order.
//!
//! Every layer is a [`Model`] over the next one, held as `dyn`: one virtual call beside a network call of
//! seconds buys short types and an order that is read in one function (`Gateway::new`). The budget stands
//! outermost, so that nothing reaches a provider without money set aside, and settles with what the layers
//! below report. This room knows nothing of plugins.

mod breaker;
mod budget;
mod cache;
mod call;
mod config;
mod error;
mod failover;
mod flight;
mod gateway;
mod ledger;
mod plan;
pub mod price;
pub mod provider;
pub mod reconcile;
mod standing;
mod tier;
mod watch;
mod window;

pub use call::{Answer, CachePolicy, Call, Chunk, Completed, Model, Prompt, Purse, Rate, Role};
pub use config::{
    Budgets, Cache, Config, Each, Limit, ModelName, Provider, ProviderKind, ProviderLimits, Tier,
    UnknownPrice, Window, defaults,
};
pub use error::{Error, Kind};
pub use gateway::Gateway;
pub use provider::scripted::{Fail, Rule, Script};
pub use standing::Standing;
