//! The tables about models and money: `provider`, `tier`, `budget`, `cache`.

use std::collections::BTreeMap;

use chela_gateway::defaults::{ATTEMPTS_MAX, THRESHOLDS};
use chela_types::LONG_CARDS_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which wire format a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ProviderKind {
    /// OpenAI; also vLLM, Ollama, OpenRouter and others.
    Openai,
    /// OpenAI's models at Azure.
    Azure,
    /// Anthropic messages.
    Anthropic,
    /// Answers from a script, offline: for demos and tests.
    Scripted,
}

/// OpenAI's wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Wire {
    /// Chat completions.
    Chat,
    /// Responses.
    Responses,
}

/// A model provider.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Provider {
    /// Which wire format it speaks.
    pub(in crate::config) kind: ProviderKind,
    /// Base address; left out, it is the vendor's own. Beginning with `https://`; with `http://` a key goes to this machine only.
    #[schemars(extend("format" = "url"))]
    pub(in crate::config) url: Option<String>,
    /// Key. Needed unless `url` names a server of one's own.
    #[schemars(extend("format" = "secret"))]
    pub(in crate::config) key: Option<String>,
    /// Which of OpenAI's wire formats: `openai` and `azure` only; left out, chat completions.
    pub(in crate::config) wire: Option<Wire>,
    /// The `api-version` of the address: `azure` only; needed unless `url` ends with `/v1`.
    pub(in crate::config) api_version: Option<String>,
    /// Whether long system prompts and tools are marked for the provider's own cache, where they cost less when they
    /// come again and more the first time: `anthropic` only; left out, they are.
    pub(in crate::config) prompt_cache: Option<bool>,
    /// What a scripted provider says: `builtin:NAME`, or a file.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) script: Option<String>,
    /// Time to the first token; later, the next model of the chain is asked.
    #[serde(default = "first_token_s")]
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) first_token_s: u64,
    /// Silence within an answer that ends it.
    #[serde(default = "idle_timeout_s")]
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) idle_timeout_s: u64,
    /// Time for a whole answer.
    #[serde(default = "total_timeout_s")]
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) total_timeout_s: u64,
    /// Calls at once; four times as many, at least 64, wait for as long as `first_token_s` allows, the others take the
    /// next model.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) concurrency: u32,
    /// Characters a second that an answer brings at least once it has begun; a slower one is left for the next model of
    /// the chain before anything is shown, and told as broken off after. Left out, any speed will do.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) min_chars_per_s: Option<u32>,
    /// Requests that are sent in a minute at most, whatever the provider allows. Left out, as many as there are.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) requests_per_minute: Option<u32>,
    /// Tokens that they may take in a minute at most, input and output together. Left out, as many as there are.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) tokens_per_minute: Option<u64>,
    /// Prices by model. Needed for each model that a tier uses and that Chela does not know the price of.
    #[serde(default)]
    pub(in crate::config) price: BTreeMap<String, Price>,
}

fn first_token_s() -> u64 {
    15
}
fn idle_timeout_s() -> u64 {
    20
}
fn total_timeout_s() -> u64 {
    180
}
fn concurrency() -> u32 {
    256
}

/// US dollars for a million tokens, as decimal texts such as `"0.15"`. For a model whose price is known, at its vendor's
/// own address, what is left out stays as it is known.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Price {
    /// Input tokens. Needed where nothing is known.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) input: Option<String>,
    /// Input tokens that the provider read from its own cache; left out where nothing is known, they cost as much as the
    /// others.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) cached: Option<String>,
    /// Input tokens that the provider wrote to its own cache; left out where nothing is known, they cost as much as the
    /// others.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) written: Option<String>,
    /// Output tokens. Needed where nothing is known.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) output: Option<String>,
    /// Cards for long prompts, the shortest first. An empty list takes away those that are known.
    #[schemars(length(max = LONG_CARDS_MAX))]
    pub(in crate::config) long: Option<Vec<LongPrice>>,
}

/// A card for long prompts. It holds for every token of such a call, the output's too.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LongPrice {
    /// For calls with more input tokens than this.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) above: u64,
    /// Input tokens.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) input: String,
    /// Input tokens that the provider read from its own cache; left out, they cost as much as the others.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) cached: Option<String>,
    /// Input tokens that the provider wrote to its own cache; left out, they cost as much as the others.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) written: Option<String>,
    /// Output tokens.
    #[schemars(extend("format" = "dollars"))]
    pub(in crate::config) output: String,
}

/// Prices of known models.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Prices {
    /// A file of the same form as the table that comes with the program, laid over it row by row and field by field.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) file: Option<String>,
}

/// A tier.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tier {
    /// `PROVIDER/MODEL`, in the order in which they are asked.
    // A longer chain would have models that the gateway never comes to.
    #[schemars(length(min = 1, max = ATTEMPTS_MAX))]
    pub(in crate::config) chain: Vec<String>,
    /// Most tokens of one answer.
    #[serde(default = "max_output_tokens")]
    #[schemars(range(min = 1, max = 131_072))]
    pub(in crate::config) max_output_tokens: u32,
    /// Time to the first token for this tier; left out, each provider's own.
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) first_token_s: Option<u64>,
    /// The tier that answers instead where a budget has no room for this one; left out, the call is refused then.
    #[schemars(extend("format" = "tier"))]
    pub(in crate::config) cheaper: Option<String>,
    /// Characters a second that an answer brings at least; left out, each provider's own.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) min_chars_per_s: Option<u32>,
    /// The next model of the chain is asked beside the first if that has said nothing by then; left out, never.
    #[schemars(range(min = 1, max = 600_000))]
    pub(in crate::config) hedge_after_ms: Option<u64>,
    /// What becomes of an answer that breaks off after some of it was shown: `error`, or `continue`, which has the next
    /// model go on with it where it is plain text.
    #[serde(default)]
    pub(in crate::config) after_cut: AfterCut,
}

/// What becomes of an answer that breaks off after some of it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum AfterCut {
    /// It is told.
    #[default]
    Error,
    /// The next model goes on with it.
    Continue,
}

fn max_output_tokens() -> u32 {
    1_024
}

/// Whoever makes vectors of texts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Embedding {
    /// `PROVIDER/MODEL`, in the order in which they are asked; or `builtin:lexical` alone, which is this program: words and
    /// letters, no meaning, no cost. Vectors of two models are not compared.
    #[schemars(length(min = 1, max = ATTEMPTS_MAX))]
    pub(in crate::config) chain: Vec<String>,
    /// A folder with a sentence model (BERT, as sentence-transformers keeps it) that this program runs itself, without
    /// cost or network, in place of `chain`. Only in a program built with the feature `local-embeddings`.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) model_dir: Option<String>,
    /// Calls of that model at once, each of which takes a processor. Left out: half of the processors.
    #[schemars(range(min = 1, max = 1_024))]
    pub(in crate::config) model_concurrency: Option<u32>,
}

impl Default for Embedding {
    fn default() -> Self {
        Self { chain: vec![chela_gateway::LEXICAL.to_owned()], model_dir: None, model_concurrency: None }
    }
}

/// How long a budget lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Window {
    /// The hour that the clock shows.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl From<Window> for chela_gateway::Window {
    fn from(window: Window) -> Self {
        match window {
            Window::Hour => Self::Hour,
            Window::Day => Self::Day,
            Window::Week => Self::Week,
            Window::Month => Self::Month,
        }
    }
}

/// What model calls may use in a window: US dollars as in `"5.00"`, tokens as in `"200000 tokens"`, or calls as in
/// `"30 requests"`; each with a window of its own if one follows (`"5.00/week"`: `minute`, `hour`, `day`, `week` or
/// `month`), several separated by commas (`"2.00/day, 10 requests/minute"`), or `"unlimited"`. All of them hold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Budget {
    /// For each agent, unless it has a budget of its own.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) agent: String,
    /// For each person.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) user: String,
    /// For each channel, unless it has a budget of its own: what is asked there, whoever answers.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) channel: String,
    /// For each department, unless it has a budget of its own: what its agents ask.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) department: String,
    /// For all together.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) global: String,
    /// For model calls of shadows and of replays, each beside the turns, in the scopes `shadow` and `replay`; left out,
    /// no replay may go on alone, and `budget.global` alone bounds shadows.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) shadow: Option<String>,
    /// How long a budget lasts that names no window.
    pub(in crate::config) window: Window,
    /// Where hours, days, weeks and months begin, such as `Europe/Berlin`.
    pub(in crate::config) time_zone: String,
    /// Shares of a budget, in percent, that are told once they are used: in the log, and in `chela events`. 100 is told
    /// when a call is refused.
    #[schemars(length(max = 10), inner(range(min = 1, max = 100)))]
    pub(in crate::config) thresholds: Vec<u8>,
    /// From this share of any budget on, in percent, calls are made by a cheaper tier where there is one: the agent's
    /// `cheap_tier`, or `cheaper` of the tier; left out, only where a budget has no room.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) lower_at: Option<u8>,
    /// What a person may read when a budget is used up.
    #[schemars(length(min = 1, max = 500))]
    pub(in crate::config) refusal: String,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            agent: "20.00".into(),
            user: "2.00".into(),
            channel: "unlimited".into(),
            department: "unlimited".into(),
            global: "50.00".into(),
            shadow: None,
            window: Window::Day,
            time_zone: "UTC".into(),
            thresholds: THRESHOLDS.to_vec(),
            lower_at: None,
            refusal: "I cannot answer this now, because the budget for it is used up for now. Please try again later."
                .into(),
        }
    }
}

/// Answers that are given again to the same question. Confidential agents never use it; which questions are the same
/// for the others, each says by `cache`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Cache {
    /// Switches it on.
    pub(in crate::config) enabled: bool,
    /// Answers kept at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) entries_max: u64,
    /// Bytes of all answers together.
    #[schemars(range(min = 1_024, max = 17_179_869_184_u64))]
    pub(in crate::config) bytes_max: u64,
    /// How long an answer is given again.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub(in crate::config) ttl_s: u64,
    /// What share of the answers to similar questions may be wrong, as a decimal text from `"0.0001"` to `"0.5"`: until
    /// comparisons with real answers show that it holds, nothing similar is served.
    #[schemars(extend("format" = "share"))]
    pub(in crate::config) similar_error: String,
    /// The language that questions are asked in, such as `en` or `de`: for any other, case, spaces and punctuation are
    /// folded and nothing else.
    #[schemars(length(min = 2, max = 35))]
    pub(in crate::config) language: String,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            entries_max: 100_000,
            bytes_max: 67_108_864,
            ttl_s: 86_400,
            similar_error: "0.02".into(),
            language: "en".into(),
        }
    }
}
