//! Models: a call meets `choice(budget(cache(tier(failover(providers)))))`, in this order.
//!
//! Every layer is a [`Model`] over the next one, held as `dyn`: one virtual call beside a network call of
//! seconds buys short types and an order that is read in one function (`Gateway::new`). The choice of a tier costs
//! nothing and comes first; the budget stands around everything else, so that nothing reaches a provider without money
//! set aside, and settles with what the layers below report. This room knows nothing of plugins.

mod account;
mod attempt;
mod bound;
mod breaker;
mod budget;
mod cache;
mod call;
mod calls;
mod check;
mod choice;
mod config;
mod content;
mod continuation;
pub mod difficulty;
mod embedding;
mod error;
mod escrow;
mod failover;
mod flight;
mod form;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod ledger;
mod pace;
mod plan;
pub mod price;
pub mod provider;
pub mod reconcile;
mod relay;
mod retries;
mod schema;
mod speed;
mod standing;
mod tab;
mod tally;
mod tier;
mod tool;
mod watch;
mod window;

pub use cache::{AgentStock, Candidate, Evict, Evicted, Explained, Stock};
pub use call::{Answer, CachePolicy, Call, Chunk, Completed, Model, Purse, Rate};
pub use chela_lexical::{BandStanding, Language, Rule as SimilarRule};
pub use choice::{AgentTier, Pressure, TierPolicy};
pub use config::{
    AfterCut, Budgets, Cache, CacheLevel, Config, Each, Limit, ModelName, OpenAiWire, Provider, ProviderKind,
    ProviderLimits, Tier, TierFailover, UnknownPrice, Window, defaults,
};
pub use content::{Image, Media, Part, Prompt, Role};
pub use embedding::{
    BYTES_MAX as EMBED_BYTES_MAX, DIMS_MAX as EMBED_DIMS_MAX, EmbedCall, Embedding, Embeddings,
    INPUT_BYTES_MAX as EMBED_INPUT_BYTES_MAX, INPUTS_MAX as EMBED_INPUTS_MAX, LEXICAL, LEXICAL_DIMS,
};
pub use error::{Error, Kind};
pub use form::{Effort, Form};
pub use gateway::Gateway;
pub use provider::LocalModel;
pub use provider::scripted::{Fail, Rule, Script};
pub use schema::Schema;
pub use standing::Standing;
#[doc(hidden)]
pub use tab::Tab;
pub use tool::{
    NAME_BYTES_MAX as TOOL_NAME_BYTES_MAX, Tool, ToolCall, ToolChoice, ToolDelta, ToolHead, ToolResult,
};
