//! Texts as vectors: by a chain of models that are paid for as calls are, or by this program itself, which costs nothing: a
//! model in its memory, or words and letters.
//!
//! Each link is asked at most once. Vectors of two models have nothing in common: whoever keeps them keeps the model's
//! name beside them, and compares none of two.

use chela_lexical::Vector;
use chela_store::{Lease, Used};
use chela_types::{
    AgentId, Attempt, ChannelId, DepartmentId, Fault, ModelCall, Money, TenantId, TierId, Tokens, TurnId,
    Usage,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::failover::{later, worse};
use crate::ledger::{Purses, Reservation};
use crate::plan::{Link, Plan, SharedClock};
use crate::provider::{Embed, Embedded, Sent, Trouble};
use crate::retries::Retry;
use crate::{Budgets, Call, Error, Kind, LocalModel, Purse, Rate};

/// Texts of one call: OpenAI's limit.
pub const INPUTS_MAX: usize = 2_048;
/// Bytes of one text. Models read some eight thousand tokens.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all texts together.
pub const BYTES_MAX: usize = 1 << 20;
/// Numbers of one vector.
pub const DIMS_MAX: usize = crate::provider::DIMS_MAX;
/// What this program makes itself.
pub const LEXICAL: &str = "builtin:lexical";
/// Dimensions of these.
pub const LEXICAL_DIMS: usize = 512;
/// As what calls for vectors stand in records and in the ledger.
pub(crate) const TIER: &str = "embedding";

/// Tokens around each text, and around all.
const AROUND: u64 = 16;

/// Who makes vectors.
#[derive(Debug, Clone, Default)]
pub enum Embedding {
    /// This program, by hashed words and letters.
    #[default]
    Lexical,
    /// The first model that answers.
    Chain(Vec<crate::ModelName>),
    /// A model in this program's memory.
    Local(LocalModel),
}

/// Texts that are to become vectors.
#[derive(Debug, Clone)]
pub struct EmbedCall {
    /// Whose.
    pub tenant: TenantId,
    /// The agent that asks, and pays.
    pub agent: AgentId,
    /// The agent's department, which pays too.
    pub department: Option<DepartmentId>,
    /// The person on whose behalf, who pays too.
    pub user: String,
    /// Where the person asked; it has a budget as well.
    pub channel: Option<ChannelId>,
    /// The turn, if there is one.
    pub turn: Option<TurnId>,
    /// Proof that the caller still owns the turn.
    pub lease: Option<Lease>,
    /// Who pays.
    pub purse: Purse,
    /// The texts: 1 to [`INPUTS_MAX`], none of them empty.
    pub inputs: Vec<String>,
    /// How long the vectors are to be; absent: as long as the model makes them. Only some models can make shorter ones,
    /// and one that cannot refuses.
    pub dims: Option<usize>,
}

/// Vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, in their order, all of one length, of finite numbers.
    pub vectors: Vec<Vec<f32>>,
    /// Who made them: `provider/model`, [`LEXICAL`], or `local:NAME`.
    pub model: String,
    /// The record.
    pub call: ModelCall,
}

/// Makes vectors.
pub(crate) struct Embedder {
    /// Absent: this program does.
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) purses: Arc<Purses>,
    pub(crate) clock: SharedClock,
    pub(crate) cooldown_max: Duration,
}

impl Embedder {
    /// Who is asked, in order.
    pub(crate) fn chain(&self) -> Vec<String> {
        match &self.plan {
            Some(plan) => plan.links.iter().map(|link| link.name.clone()).collect(),
            None => vec![LEXICAL.to_owned()],
        }
    }

    pub(crate) async fn embed(&self, asked: EmbedCall) -> Result<Embeddings, Error> {
        let tier = TierId::new(TIER).map_err(|error| Error::new(Kind::Config(error.to_string())))?;
        if let Some(what) = wrong(&asked.inputs) {
            let record = ModelCall::new(tier);
            return Err(Error::new(Kind::Invalid { code: what.to_owned() }).with_call(record));
        }
        let Some(plan) = &self.plan else { return lexical(&asked, tier) };
        let texts = Texts::of(&asked);
        let call = call(asked, tier);
        let most = worst_case(plan, texts.bound);
        let now = self.clock.now();
        let reserved = Reservation::make(&self.purses, &self.budgets, &call, (most, now)).await;
        let mut reservation = reserved.map_err(|error| error.with_call(call.record()))?;
        let record = ModelCall { reserved: most.cost, ..call.record() };
        let walked = Walk { record, begun: Instant::now() }.walk(plan, &texts, self.cooldown_max).await;
        match walked {
            Ok(embeddings) => {
                count("ok");
                reservation.settle(embeddings.call.clone());
                Ok(embeddings)
            }
            Err(error) => {
                count(error.kind.class());
                match error.call.as_deref().cloned() {
                    Some(record) if record.charged > Tokens(0) => reservation.unknown(record),
                    record => reservation.release(record),
                }
                Err(error)
            }
        }
    }
}

/// What each link is asked.
struct Texts {
    inputs: Arc<Vec<String>>,
    /// The most tokens that they are.
    bound: Tokens,
    dims: Option<usize>,
}

impl Texts {
    fn of(asked: &EmbedCall) -> Self {
        Self { inputs: Arc::new(asked.inputs.clone()), bound: bound(&asked.inputs), dims: asked.dims }
    }
}

/// The attempts so far.
struct Walk {
    record: ModelCall,
    begun: Instant,
}

impl Walk {
    async fn walk(mut self, plan: &Plan, texts: &Texts, cooldown_max: Duration) -> Result<Embeddings, Error> {
        plan.retries.called();
        let (mut failed, mut has_asked, mut retry) = (None, false, None);
        for link in &plan.links {
            if has_asked && retry.is_none() {
                match plan.retries.take(Instant::now() + link.limits.first_token).await {
                    Ok(place) => retry = Some(place),
                    Err(wait) => {
                        metrics::counter!("gateway_retries_refused_total").increment(1);
                        failed = failed.map(|error| later(error, wait));
                        break;
                    }
                }
            }
            let (rate, started, sent) = (rate(link, texts.bound), Instant::now(), Sent::default());
            let trouble = match link.admit(rate.tokens().0) {
                Err(trouble) => trouble,
                Ok(mut leave) => {
                    has_asked = true;
                    // Dropped by a failure, which keeps it taken.
                    let place: Option<Retry> = retry.take();
                    match ask(link, texts, sent.clone()).await {
                        Ok(embedded) => {
                            place.into_iter().for_each(Retry::give_back);
                            leave.began();
                            leave.answered(embedded.tokens.unwrap_or(rate.input.0).min(rate.input.0));
                            return Ok(self.answered(link, (embedded, rate), started));
                        }
                        Err(trouble) => {
                            leave.failed(&trouble, cooldown_max);
                            if !sent.is_begun() && !trouble.billed {
                                leave.unsent();
                            }
                            trouble
                        }
                    }
                }
            };
            self.failed(link, (&trouble, rate), started);
            let moves_on = trouble.kind.elsewhere();
            failed = Some(worse(failed, trouble));
            if !moves_on {
                break;
            }
        }
        // Nobody was left who could use it.
        retry.into_iter().for_each(Retry::give_back);
        let error = failed.unwrap_or_else(|| Error::new(Kind::Config("chain is empty".into())));
        Err(error.with_call(self.record))
    }

    fn answered(mut self, link: &Link, (embedded, rate): (Embedded, Rate), started: Instant) -> Embeddings {
        let counted = embedded.tokens.map(Tokens).filter(|tokens| (1..=rate.input.0).contains(&tokens.0));
        let usage = Usage { input: counted.unwrap_or(rate.input), ..Usage::default() };
        let cost = if counted.is_some() { link.tariff.price.cost(&usage) } else { rate.bound() };
        self.tried(link, ("ok", None), started);
        let record = &mut self.record;
        record.model = Some(link.name.clone());
        record.price = Some(link.tariff.version.to_string());
        record.usage = usage;
        record.cost = record.cost.plus(cost).min(record.reserved);
        record.charged = record.charged.plus(usage.input);
        Embeddings { vectors: embedded.vectors, model: link.name.clone(), call: self.record }
    }

    fn failed(&mut self, link: &Link, (trouble, rate): (&Trouble, Rate), started: Instant) {
        let blame = Error::new(trouble.kind.clone()).blame();
        self.tried(link, (trouble.kind.class(), Some(blame)), started);
        if trouble.billed {
            self.record.cost = self.record.cost.plus(rate.bound());
            self.record.charged = self.record.charged.plus(rate.input);
        }
    }

    fn tried(&mut self, link: &Link, (class, blame): (&str, Option<chela_types::Blame>), started: Instant) {
        self.record.attempts.push(Attempt {
            model: link.name.clone(),
            class: class.to_owned(),
            blame,
            millis: millis(started),
            first_token_millis: None,
        });
        self.record.millis = millis(self.begun);
    }
}

/// Asks one link. Vectors come all at once: who is silent until then is slow only when all of its time is over.
async fn ask(link: &Link, texts: &Texts, sent: Sent) -> Result<Embedded, Trouble> {
    let (model, inputs) = (link.model.clone(), texts.inputs.clone());
    let ask = Embed { model, inputs, dims: texts.dims, sent: sent.clone() };
    let after = link.limits.total;
    timeout(after, link.backend.embed(ask)).await.map_err(|_| sent.late(after))?
}

fn wrong(inputs: &[String]) -> Option<&'static str> {
    let bytes = inputs.iter().map(String::len).fold(0, usize::saturating_add);
    if inputs.is_empty() || inputs.len() > INPUTS_MAX {
        Some("1 to 2048 texts")
    } else if inputs.iter().any(|text| text.trim().is_empty()) {
        Some("a text is empty")
    } else if inputs.iter().any(|text| text.len() > INPUT_BYTES_MAX) || bytes > BYTES_MAX {
        Some("a text has at most 64 KiB, all together 1 MiB")
    } else {
        None
    }
}

/// The most tokens that they are: a byte-level tokenizer never makes more of them than there are bytes.
fn bound(inputs: &[String]) -> Tokens {
    let each = inputs.iter().map(|text| (text.len() as u64).saturating_add(AROUND));
    Tokens(each.fold(AROUND, u64::saturating_add))
}

const fn rate(link: &Link, bound: Tokens) -> Rate {
    Rate { price: link.tariff.price, input: bound, output: Tokens(0) }
}

/// Every link may work and break off.
fn worst_case(plan: &Plan, bound: Tokens) -> Used {
    let rates = plan.links.iter().map(|link| rate(link, bound));
    rates.fold(Used { requests: 1, ..Used::default() }, |most, rate| Used {
        cost: most.cost.plus(rate.bound()),
        tokens: most.tokens.plus(rate.tokens()),
        ..most
    })
}

/// As the ledger knows calls.
fn call(asked: EmbedCall, tier: TierId) -> Call {
    Call {
        department: asked.department,
        channel: asked.channel,
        turn: asked.turn,
        lease: asked.lease,
        purse: asked.purse,
        ..Call::new(asked.tenant, asked.agent, asked.user, tier, Vec::new())
    }
}

/// Nobody is asked, and nothing is to be paid.
fn lexical(asked: &EmbedCall, tier: TierId) -> Result<Embeddings, Error> {
    if asked.dims.is_some_and(|dims| dims != LEXICAL_DIMS) {
        let code = format!("vectors of {LEXICAL} have {LEXICAL_DIMS} dimensions");
        return Err(Error::new(Kind::Invalid { code }).with_call(ModelCall::new(tier)));
    }
    let one = |text: &String| {
        let vector = Vector::of(text).ok().and_then(|vector| vector.dense(LEXICAL_DIMS));
        vector.ok_or_else(|| Error::new(Kind::TooLong { code: LEXICAL.to_owned() }))
    };
    let vectors = asked.inputs.iter().map(one).collect::<Result<_, _>>()?;
    let call = ModelCall { model: Some(LEXICAL.to_owned()), cost: Money::ZERO, ..ModelCall::new(tier) };
    Ok(Embeddings { vectors, model: LEXICAL.to_owned(), call })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn count(class: &'static str) {
    metrics::counter!("gateway_calls_total", "tier" => TIER, "class" => class).increment(1);
}
