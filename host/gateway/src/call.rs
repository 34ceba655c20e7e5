//! The words of the gateway: what is asked, and what comes back.

use chela_types::{
    AgentId, ChannelId, DepartmentId, Finish, ModelCall, Money, Price, TenantId, TierId, Tokens, TurnId,
    Usage,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

use crate::{
    CacheLevel, Effort, Error, Form, Kind, Prompt, Role, Tab, Tool, ToolCall, ToolChoice, ToolDelta,
};

/// What answers a call. Every layer of the gateway is a `Model` over the next one.
pub trait Model: Send + Sync {
    /// Answers; ready when the first text is there, so that everything before may still go elsewhere.
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>>;

    /// The answer, if it is kept, so that nobody is asked and nothing is paid.
    fn kept<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(std::future::ready(None))
    }
}

/// Whether an answer may come from the cache and go into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePolicy {
    /// It may; tenant, agent and its version, system prompt, conversation and parameters are always part of what is
    /// asked.
    On {
        /// What may answer it.
        level: CacheLevel,
        /// Version or digest of the knowledge behind the prompts.
        knowledge_version: String,
        /// How long its answer is kept; the cache's own time if absent.
        ttl: Option<Duration>,
    },
    /// It may not: the agent is confidential, or the prompts hold what is private.
    Off,
}

impl CachePolicy {
    /// Only by what was answered to exactly this.
    pub fn exact(knowledge_version: impl Into<String>) -> Self {
        Self::On { level: CacheLevel::Exact, knowledge_version: knowledge_version.into(), ttl: None }
    }
}

/// A model call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose.
    pub tenant: TenantId,
    /// The agent that asks, and pays.
    pub agent: AgentId,
    /// Its version: another version may want another answer.
    pub agent_version: String,
    /// The agent's department, which pays too.
    pub department: Option<DepartmentId>,
    /// The person on whose behalf, who pays too.
    pub user: String,
    /// Where the person asked; it has a budget as well.
    pub channel: Option<ChannelId>,
    /// The turn, if there is one.
    pub turn: Option<TurnId>,
    /// Proof that the caller still owns the turn; a stale one is refused before any money moves.
    pub lease: Option<chela_store::Lease>,
    /// Which tier.
    pub tier: TierId,
    /// The tier that was wanted, where a budget or how long people wait had another in its place. Set by the gateway.
    pub wanted: Option<TierId>,
    /// Why this tier: a short code, as it stands in the record. Set by the gateway.
    pub why: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// The conversation, the last one is to be answered.
    pub prompts: Vec<Prompt>,
    /// Most output tokens; the tier's maximum if absent or larger.
    pub max_output: Option<Tokens>,
    /// Sampling temperature; the provider's own if absent.
    pub temperature: Option<f32>,
    /// The share of likely tokens that is sampled from; the provider's own if absent.
    pub top_p: Option<f32>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Which of these it is to call.
    pub tool_choice: ToolChoice,
    /// Whether it may call several in one answer; the provider's own if absent.
    pub parallel_tool_calls: Option<bool>,
    /// The form of its text.
    pub form: Form,
    /// A wish for the same answer each time; wire formats without one do without it.
    pub seed: Option<i64>,
    /// A wish for more or less thought; wire formats without one do without it.
    pub effort: Option<Effort>,
    /// May the cache help?
    pub cache: CachePolicy,
    /// Who pays.
    pub purse: Purse,
    /// What it owes while it is under way. Set by the gateway.
    #[doc(hidden)]
    pub tab: Tab,
}

/// Who pays for a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Purse {
    /// Agent, department, person and channel, within the tenant's budget.
    #[default]
    Turn,
    /// A scope of its own, within the tenant's budget: no person waits for this.
    Apart(&'static str),
    /// A client's key of this name, its department and the person, within the tenant's budget: no agent of this host
    /// asks.
    Key(String),
}

impl Call {
    /// A call that asks for nothing special: no system prompt, tools or limits, outside of turns and the cache.
    pub fn new(
        tenant: TenantId,
        agent: AgentId,
        user: impl Into<String>,
        tier: TierId,
        prompts: Vec<Prompt>,
    ) -> Self {
        Self {
            tenant,
            agent,
            agent_version: String::new(),
            department: None,
            user: user.into(),
            channel: None,
            turn: None,
            lease: None,
            tier,
            wanted: None,
            why: None,
            system: None,
            prompts,
            max_output: None,
            temperature: None,
            top_p: None,
            stop: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: None,
            form: Form::Text,
            seed: None,
            effort: None,
            cache: CachePolicy::Off,
            purse: Purse::Turn,
            tab: Tab::default(),
        }
    }

    /// The record of this call before anything happened.
    pub(crate) fn record(&self) -> ModelCall {
        ModelCall { asked: self.wanted.clone(), why: self.why.clone(), ..ModelCall::new(self.tier.clone()) }
    }

    /// The last thing the person said.
    pub fn last_prompt(&self) -> &str {
        let said = self.prompts.iter().rev().filter(|prompt| prompt.role == Role::User);
        said.flat_map(|prompt| prompt.texts().rev()).next().unwrap_or_default()
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Text, as it arrives.
    Text(String),
    /// A fragment of a tool call, as it arrives.
    Tool(ToolDelta),
    /// The end; exactly one, and nothing after it.
    End(Box<Completed>),
}

/// A whole answer, with its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// The text.
    pub text: String,
    /// The tools that are to be called. Each has a whole JSON object for its arguments if the answer ended with
    /// [`Finish::ToolCalls`]; those of an answer that was cut are as they were then.
    #[serde(default)]
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Finish,
    /// The record.
    pub call: ModelCall,
}

/// What one model charges for this call.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Its price.
    pub price: Price,
    /// The most input tokens it can count.
    pub input: Tokens,
    /// The most output tokens it may produce.
    pub output: Tokens,
}

impl Rate {
    /// Costs nothing: an answer from the cache.
    pub const FREE: Self = Self { price: Price::FREE, input: Tokens(0), output: Tokens(0) };

    /// The most this call can cost.
    pub fn bound(&self) -> Money {
        self.price.worst_case(self.input, self.output)
    }

    /// The most tokens it can take.
    pub const fn tokens(&self) -> Tokens {
        self.input.plus(self.output)
    }

    /// The tokens to charge: those counted if that can be true, the bound otherwise.
    pub(crate) fn charged(&self, usage: Option<Usage>) -> Tokens {
        usage.filter(|usage| self.is_plausible(usage)).map_or(self.tokens(), |usage| usage.tokens())
    }

    /// The cost by the provider's own count, if it is one that can be true; by the bound otherwise.
    pub(crate) fn cost(&self, usage: Option<Usage>) -> Money {
        match usage {
            Some(usage) if self.is_plausible(&usage) => self.price.cost(&usage),
            _ => self.bound(),
        }
    }

    /// Whether a provider's count of an answer can be true: not missing, and not above what was sent and allowed.
    pub(crate) fn is_plausible(&self, usage: &Usage) -> bool {
        let counted = usage.input.0 > 0 && usage.output.0 > 0;
        counted && usage.input <= self.input && usage.output <= self.output && usage.is_consistent()
    }
}

/// An answer under way. Dropping it ends the call, which is then charged at the model's bound.
pub struct Answer {
    /// The pieces: text and tool calls, then one [`Chunk::End`]; or an error, and nothing after it.
    pub chunks: BoxStream<'static, Result<Chunk, Error>>,
    /// The record so far: which model answers, and what failed before.
    pub begun: ModelCall,
    /// What the answering model charges.
    pub rate: Rate,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Answer {
    /// Waits for the end.
    ///
    /// # Errors
    /// What the stream ends with.
    pub async fn whole(mut self) -> Result<Completed, Error> {
        while let Some(chunk) = self.chunks.next().await {
            if let Chunk::End(completed) = chunk? {
                return Ok(*completed);
            }
        }
        Err(Error::new(Kind::Interrupted).with_call(self.begun))
    }
}
