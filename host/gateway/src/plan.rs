//! A tier made ready: its chain with prices, limits and connections in place.
//!
//! Both the budget (what can this cost?) and the failover (whom to ask?) read the same plan, so that they
//! cannot disagree.

use chela_store::Used;
use chela_types::{Clock, TierId, Tokens};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::account::Account;
use crate::bound::{ANTHROPIC_IMAGE, OPENAI_IMAGE};
use crate::breaker::Breaker;
use crate::config::{
    Config, ModelName, Provider, ProviderKind, ProviderLimits, Tier, TierFailover, UnknownPrice,
};
use crate::continuation;
use crate::embedding::{Embedding, TIER};
use crate::price::Tariff;
use crate::provider::{Backend, Local, LocalModel};
use crate::retries::Retries;
use crate::{Call, Error, Kind, Rate};

/// Providers by their names, each with how its key stands.
pub(crate) type Backends = BTreeMap<String, (Arc<dyn Backend>, Arc<Account>)>;

/// Breakers by `provider/model`.
type Breakers = BTreeMap<String, Arc<Breaker>>;

/// All tiers.
pub(crate) type Plans = BTreeMap<TierId, Arc<Plan>>;

/// One tier.
pub(crate) struct Plan {
    pub(crate) links: Vec<Arc<Link>>,
    pub(crate) max_output: Tokens,
    /// Who is asked instead where a budget has no room.
    pub(crate) cheaper: Option<TierId>,
    /// When and how the next takes over.
    pub(crate) failover: TierFailover,
    /// Attempts beyond the first, of all calls together.
    pub(crate) retries: Arc<Retries>,
}

/// One model of a chain.
pub(crate) struct Link {
    /// `provider/model`.
    pub(crate) name: String,
    /// As the provider calls it.
    pub(crate) model: String,
    pub(crate) tariff: Tariff,
    /// The most tokens that one image can be.
    pub(crate) image: Tokens,
    pub(crate) limits: ProviderLimits,
    pub(crate) backend: Arc<dyn Backend>,
    /// Whether the provider may be asked now; shared by all its models.
    pub(crate) account: Arc<Account>,
    /// Whether it is asked at all; shared by all tiers.
    pub(crate) breaker: Arc<Breaker>,
    /// Whether its wire format goes on with an answer that is begun for it.
    pub(crate) prefills: bool,
}

impl Plan {
    /// The output limit of a call: what it asks, within the tier's maximum.
    pub(crate) fn output(&self, asked: Option<Tokens>) -> Tokens {
        asked.map_or(self.max_output, |asked| asked.min(self.max_output)).max(Tokens(1))
    }

    /// What a link charges for a call.
    pub(crate) fn rate(&self, link: &Link, call: &Call) -> Rate {
        Rate {
            price: link.tariff.price,
            input: call.input_bound_with(link.image),
            output: self.output(call.max_output),
        }
    }

    /// The most a call can use: every link is asked once, each takes the input and breaks off at its end
    /// without telling what it counted. The sum, not the dearest: the ledger is never below the bill.
    pub(crate) fn worst_case(&self, call: &Call) -> Used {
        let goes_on = continuation::input(self, call);
        let rates = self.links.iter().enumerate().map(|(index, link)| {
            let rate = self.rate(link, call);
            // Only who comes after another goes on with what that has said.
            let more = if index > 0 { goes_on } else { Tokens(0) };
            Rate { input: rate.input.plus(more), ..rate }
        });
        rates.fold(Used { requests: 1, ..Used::default() }, |most, rate| Used {
            cost: most.cost.plus(rate.bound()),
            tokens: most.tokens.plus(rate.tokens()),
            ..most
        })
    }
}

/// Checks the configuration and builds every chain: that of each tier, and that of whoever makes vectors, if there is one.
pub(crate) fn plans(config: &Config, backends: &Backends) -> Result<(Plans, Option<Arc<Plan>>), Error> {
    let (mut plans, mut breakers) = (Plans::new(), Breakers::new());
    for tier in &config.tiers {
        let plan = plan(config, (backends, &mut breakers), tier)?;
        if plans.insert(tier.id.clone(), Arc::new(plan)).is_some() {
            return Err(wrong(format!("[tier.{}] is there twice", tier.id)));
        }
    }
    plans.keys().try_for_each(|tier| cheaper(&plans, tier))?;
    let embedding = match &config.embedding {
        Embedding::Lexical => None,
        Embedding::Chain(chain) => Some(vectors(config, (backends, &mut breakers), chain)?),
        Embedding::Local(model) => Some(Arc::new(local(model))),
    };
    Ok((plans, embedding))
}

/// Whoever makes vectors, as a tier that is no agent's.
fn vectors(
    config: &Config,
    made: (&Backends, &mut Breakers),
    chain: &[ModelName],
) -> Result<Arc<Plan>, Error> {
    let id = TierId::new(TIER).map_err(|error| wrong(error.to_string()))?;
    let tier = Tier {
        id,
        chain: chain.to_vec(),
        max_output: Tokens(0),
        first_token: None,
        cheaper: None,
        failover: TierFailover::default(),
    };
    plan(config, made, &tier).map(Arc::new)
}

/// A model in this program, as a chain of one that costs nothing.
fn local(model: &LocalModel) -> Plan {
    let (name, limits) = (model.name(), ProviderLimits::standard());
    let link = Link {
        model: name.clone(),
        tariff: Tariff::free(),
        image: Tokens(0),
        limits,
        backend: Arc::new(Local::new(model)),
        account: Arc::new(Account::new(&name, &limits)),
        breaker: Arc::new(Breaker::new(name.clone())),
        prefills: false,
        name,
    };
    Plan {
        links: vec![Arc::new(link)],
        max_output: Tokens(0),
        cheaper: None,
        failover: TierFailover::default(),
        retries: Arc::default(),
    }
}

/// Each step to a cheaper tier leads to one that exists, and never back.
fn cheaper(plans: &Plans, tier: &TierId) -> Result<(), Error> {
    let mut at = tier;
    // Who has gone through as many as there are goes round.
    for _ in 0..=plans.len() {
        let plan = plans.get(at);
        let plan = plan.ok_or_else(|| wrong(format!("[tier.{tier}] cheaper: there is no tier `{at}`")))?;
        match &plan.cheaper {
            Some(next) => at = next,
            None => return Ok(()),
        }
    }
    Err(wrong(format!("[tier.{tier}] cheaper leads back to itself")))
}

fn plan(
    config: &Config,
    (backends, breakers): (&Backends, &mut Breakers),
    tier: &Tier,
) -> Result<Plan, Error> {
    let mut links = Vec::new();
    // More links than attempts would be reserved for and never asked.
    for name in tier.chain.iter().take(config.attempts_max.max(1)) {
        let provider = config.providers.iter().find(|provider| provider.name == name.provider);
        let (Some(provider), Some((backend, account))) = (provider, backends.get(&name.provider)) else {
            return Err(wrong(format!(
                "[tier.{}] chain: provider `{}` is not configured",
                tier.id, name.provider
            )));
        };
        let mut limits = provider.limits;
        limits.first_token = tier.first_token.unwrap_or(limits.first_token);
        limits.min_chars_per_s = tier.failover.min_chars_per_s.or(limits.min_chars_per_s);
        let breaker = breakers.entry(name.to_string());
        let breaker = breaker.or_insert_with_key(|name| Arc::new(Breaker::new(name.clone()))).clone();
        links.push(Arc::new(Link {
            name: name.to_string(),
            model: name.model.clone(),
            tariff: tariff(config, provider, &name.model)?,
            image: image(&provider.kind),
            limits,
            backend: backend.clone(),
            account: account.clone(),
            breaker,
            prefills: matches!(provider.kind, ProviderKind::Anthropic { .. }),
        }));
    }
    if links.is_empty() {
        return Err(wrong(format!("[tier.{}] chain is empty", tier.id)));
    }
    Ok(Plan {
        links,
        max_output: tier.max_output,
        cheaper: tier.cheaper.clone(),
        failover: tier.failover,
        retries: Arc::default(),
    })
}

/// The most tokens that one image can be there.
const fn image(kind: &ProviderKind) -> Tokens {
    match kind {
        ProviderKind::Anthropic { .. } => ANTHROPIC_IMAGE,
        ProviderKind::OpenAi { .. } | ProviderKind::Azure { .. } | ProviderKind::Scripted(_) => OPENAI_IMAGE,
    }
}

fn tariff(config: &Config, provider: &Provider, model: &str) -> Result<Tariff, Error> {
    match (provider.prices.get(model), &provider.kind, config.unknown_price) {
        (Some(tariff), _, _) => Ok(tariff.clone()),
        (None, ProviderKind::Scripted(_), _) => Ok(Tariff::free()),
        (None, _, UnknownPrice::Assume(price)) => Ok(Tariff::assumed(price)),
        (None, _, UnknownPrice::Refuse) => Err(wrong(format!(
            "price of `{}/{model}` is unknown: give it in [provider.{}.price.\"{model}\"]",
            provider.name, provider.name
        ))),
    }
}

fn wrong(text: String) -> Error {
    Error::new(Kind::Config(text))
}

/// A clock that is shared.
pub(crate) type SharedClock = Arc<dyn Clock>;
