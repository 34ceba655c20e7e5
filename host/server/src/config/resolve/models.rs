//! `provider`, `tier`, `budget`, `cache`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chela_gateway::price::{PriceTable, Tariff};
use chela_gateway::{AfterCut, Language, Limit, OpenAiWire, SimilarRule, TierFailover, Window};
use chela_types::TierId;
use jiff::tz::TimeZone;
use url::{Host, Url};

use super::host::seconds;
use super::prices::{vendor, vendor_price};
use super::{At, Resolver, dotted, size};
use crate::config::problem::{Code, Note, nearest};
use crate::config::raw::{self, Raw};
use crate::config::resolved::{Budget, Cache, Endpoint, ModelRef, Provider, ProviderKind, Script, Tier};

/// The vendors' own addresses.
const OPENAI_URL: &str = "https://api.openai.com/v1";
const ANTHROPIC_URL: &str = "https://api.anthropic.com/v1";

/// The one script that comes with the program, and the demo's file that holds it.
const DEMO_SCRIPT: (&str, &str) = ("demo", "model.toml");

impl Resolver<'_> {
    pub(super) fn providers(&mut self, raw: &Raw, known: &PriceTable) -> BTreeMap<String, Provider> {
        let each = |(name, provider): (&String, &raw::Provider)| {
            let prices = self.prices(raw, (name, provider), known);
            Some((name.clone(), self.provider(raw, (name, provider), prices)?))
        };
        raw.provider.iter().filter_map(each).collect()
    }

    fn provider(
        &mut self,
        raw: &Raw,
        (name, provider): (&str, &raw::Provider),
        prices: BTreeMap<String, Tariff>,
    ) -> Option<Provider> {
        let at: At<'_> = &["provider", name];
        // Providers have no id of their own; their names are spelled as all names are.
        self.name::<TierId>(at);
        let total = provider.total_timeout_s;
        let times = [("first_token_s", provider.first_token_s), ("idle_timeout_s", provider.idle_timeout_s)];
        for (key, time) in times {
            self.within((&["provider", name, key], time), (&["provider", name, "total_timeout_s"], total));
        }
        let kind = self.kind(raw, name, provider)?;
        Some(Provider {
            kind,
            first_token: seconds(provider.first_token_s),
            idle_timeout: seconds(provider.idle_timeout_s),
            total_timeout: seconds(total),
            concurrency: size(provider.concurrency),
            min_chars_per_s: provider.min_chars_per_s,
            requests_per_minute: provider.requests_per_minute,
            tokens_per_minute: provider.tokens_per_minute,
            prices,
        })
    }

    fn kind(&mut self, raw: &Raw, name: &str, provider: &raw::Provider) -> Option<ProviderKind> {
        self.own_keys(name, provider);
        let wire = match provider.wire {
            None | Some(raw::Wire::Chat) => OpenAiWire::Chat,
            Some(raw::Wire::Responses) => OpenAiWire::Responses,
        };
        Some(match provider.kind {
            raw::ProviderKind::Openai => {
                ProviderKind::OpenAi { at: self.endpoint(raw, name, (provider, OPENAI_URL))?, wire }
            }
            raw::ProviderKind::Azure => self.azure(raw, name, (provider, wire))?,
            raw::ProviderKind::Anthropic => ProviderKind::Anthropic {
                at: self.endpoint(raw, name, (provider, ANTHROPIC_URL))?,
                prompt_cache: provider.prompt_cache.unwrap_or(true),
            },
            raw::ProviderKind::Scripted => ProviderKind::Scripted(self.script(name, provider)?),
        })
    }

    /// Keys that only some kinds have.
    fn own_keys(&mut self, name: &str, provider: &raw::Provider) {
        use raw::ProviderKind::{Anthropic, Azure, Openai};
        let kind = provider.kind;
        for (key, is_stray, why) in [
            (
                "wire",
                provider.wire.is_some() && !matches!(kind, Openai | Azure),
                "only `openai` and `azure` have two wire formats",
            ),
            (
                "api_version",
                provider.api_version.is_some() && kind != Azure,
                "only an address at `azure` has a version",
            ),
            (
                "prompt_cache",
                provider.prompt_cache.is_some() && kind != Anthropic,
                "only `anthropic` is told what to keep",
            ),
        ] {
            if is_stray {
                self.not_for_kind(&["provider", name, key], why);
            }
        }
    }

    fn azure(
        &mut self,
        raw: &Raw,
        name: &str,
        (provider, wire): (&raw::Provider, OpenAiWire),
    ) -> Option<ProviderKind> {
        let Some(written) = &provider.url else {
            let help = "`url = \"https://NAME.openai.azure.com/openai/v1\"`";
            self.missing(&["provider", name], "url", help);
            return None;
        };
        let has_version = written.trim_end_matches('/').ends_with("/v1");
        if provider.api_version.is_none() && !has_version {
            let help = "`api_version = \"2024-10-21\"`; or let `url` end with `/openai/v1`";
            self.missing(&["provider", name], "api_version", help);
            return None;
        }
        let at = self.endpoint(raw, name, (provider, written))?;
        Some(ProviderKind::Azure { at, wire, api_version: provider.api_version.clone() })
    }

    fn script(&mut self, name: &str, provider: &raw::Provider) -> Option<Script> {
        for (key, written) in [("url", provider.url.is_some()), ("key", provider.key.is_some())] {
            if written {
                self.not_for_kind(&["provider", name, key], "a scripted provider calls nobody");
            }
        }
        let Some(script) = &provider.script else {
            self.missing(
                &["provider", name],
                "script",
                "a scripted provider needs `script`: `builtin:demo` or a file",
            );
            return None;
        };
        let at: At<'_> = &["provider", name, "script"];
        if let Some(builtin) = script.strip_prefix("builtin:") {
            self.builtin(at, ("script", builtin), &[DEMO_SCRIPT.0])?;
            let text = chela_bundle::document(DEMO_SCRIPT.1).unwrap_or_default();
            return Some(Script::Builtin { name: builtin.to_owned(), text });
        }
        let (path, text) = self.text_file(at, script)?;
        Some(Script::File { path, text })
    }

    fn endpoint(
        &mut self,
        raw: &Raw,
        name: &str,
        (provider, vendor): (&raw::Provider, &str),
    ) -> Option<Endpoint> {
        if provider.script.is_some() {
            self.not_for_kind(&["provider", name, "script"], "only a scripted provider has a script");
        }
        let key = provider.key.as_deref().map(|text| self.secret(&["provider", name, "key"], text));
        if provider.key.is_none() && provider.url.is_none() {
            let help = format!("{vendor} needs a key: `key = \"env:NAME\"`");
            self.missing(&["provider", name], "key", &help);
            return None;
        }
        let at: At<'_> = &["provider", name, "url"];
        let written = provider.url.as_deref().unwrap_or(vendor);
        let url = self.url(at, written, key.is_some())?;
        self.allowed(raw, at, &url);
        Some(Endpoint { url, key: key.flatten() })
    }

    fn url(&mut self, at: At<'_>, text: &str, has_key: bool) -> Option<Url> {
        let key = dotted(at);
        let parsed = Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let Some(url) = parsed else {
            let note =
                Note::new(Code::WrongValue, format!("`{key}` must be a web address"), "not an address");
            self.fail(at, note.help("it begins with `https://`"));
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            let note = Note::new(
                Code::SecretInline,
                format!("`{key}` has a name or password in it"),
                "inline secret",
            );
            self.fail(at, note.help("use `key = \"env:NAME\"`"));
            return None;
        }
        if url.scheme() == "http" && has_key && !is_loopback(&url) {
            let message =
                format!("the key would travel unencrypted to `{}`", url.host_str().unwrap_or_default());
            self.fail(at, Note::new(Code::InsecureUrl, message, "not encrypted").help("use `https://`"));
            return None;
        }
        Some(url)
    }

    /// What `[egress]` will refuse later is refused now. Names are looked up later: they may change.
    fn allowed(&mut self, raw: &Raw, at: At<'_>, url: &Url) {
        let private = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_private(),
            Some(Host::Ipv6(ip)) => ip.is_unique_local(),
            _ => false,
        };
        let denied = if is_loopback(url) && !raw.egress.allow_loopback {
            Some("allow_loopback")
        } else if private && !raw.egress.allow_private {
            Some("allow_private")
        } else {
            None
        };
        if let Some(key) = denied {
            let message = format!("`{}` leads to an address that is not allowed", dotted(at));
            let note = Note::new(Code::AddressDenied, message, "not allowed");
            self.fail(at, note.help(format!("if this is meant: `{key} = true` in `[egress]`")));
        }
    }

    pub(super) fn tiers(&mut self, raw: &Raw, known: &PriceTable) -> BTreeMap<TierId, Tier> {
        let each = |(name, tier): (&String, &raw::Tier)| {
            let id = self.name(&["tier", name]);
            let chain = self.chain(raw, (&["tier", name, "chain"], &tier.chain), known);
            self.first_token(raw, name, (tier.first_token_s, &chain));
            let tier = Tier {
                chain,
                max_output_tokens: tier.max_output_tokens,
                first_token: tier.first_token_s.map(seconds),
                cheaper: self.cheaper(raw, name, tier),
                failover: failover(tier),
            };
            Some((id?, tier))
        };
        raw.tier.iter().filter_map(each).collect()
    }

    /// Another tier, from which no way leads back.
    fn cheaper(&mut self, raw: &Raw, name: &str, tier: &raw::Tier) -> Option<TierId> {
        let at: At<'_> = &["tier", name, "cheaper"];
        let cheaper = tier.cheaper.as_deref()?;
        let id = self.reference(at, "tier", cheaper, &raw.tier)?;
        let next = |name: &str| raw.tier.get(name).and_then(|tier| tier.cheaper.as_deref());
        let steps = std::iter::successors(Some(cheaper), |at| next(at)).take(raw.tier.len() + 1);
        if steps.count() > raw.tier.len() {
            let message = format!("`{}` leads back to where it came from", dotted(at));
            let note = Note::new(Code::WrongValue, message, "goes round");
            self.fail(at, note.help("the last of the cheaper tiers has no `cheaper` of its own"));
            return None;
        }
        Some(id)
    }

    /// The tier's time stands in for that of each provider, so it must fit where theirs does.
    fn first_token(&mut self, raw: &Raw, name: &str, (first, chain): (Option<u64>, &[ModelRef])) {
        let Some(first) = first else { return };
        let owners: BTreeSet<&str> = chain.iter().map(|model| model.provider.as_str()).collect();
        for owner in owners {
            let Some(provider) = raw.provider.get(owner) else { continue };
            let total = (&["provider", owner, "total_timeout_s"][..], provider.total_timeout_s);
            self.within((&["tier", name, "first_token_s"], first), total);
        }
    }

    pub(super) fn chain(
        &mut self,
        raw: &Raw,
        (of, chain_of): (At<'_>, &[String]),
        known: &PriceTable,
    ) -> Vec<ModelRef> {
        let mut seen = BTreeSet::new();
        let mut chain = Vec::new();
        for (index, entry) in chain_of.iter().enumerate() {
            let index = index.to_string();
            let at: At<'_> = &[of, &[&*index]].concat();
            let Some((provider, model)) =
                entry.split_once('/').filter(|(p, m)| !p.is_empty() && !m.is_empty())
            else {
                let note =
                    Note::new(Code::WrongValue, format!("`{}` must be PROVIDER/MODEL", dotted(at)), "no `/`");
                self.fail(at, note.help("such as `anthropic/claude-haiku-4-5`"));
                continue;
            };
            if !seen.insert(entry) {
                let whose = match of {
                    [_, name, _] => format!("tier `{name}`"),
                    _ => format!("`{}`", of.first().copied().unwrap_or_default()),
                };
                let message = format!("the chain of {whose} has `{entry}` twice");
                let note = Note::new(Code::Duplicate, message, "already in this chain");
                self.fail(at, note.help("a model that failed is not asked again in the same call"));
            }
            let configured: Option<TierId> = self.reference(at, "provider", provider, &raw.provider);
            if let (Some(_), Some(raw)) = (configured, raw.provider.get(provider)) {
                self.priced(at, (provider, raw, model), known);
            }
            chain.push(ModelRef { provider: provider.to_owned(), model: model.to_owned() });
        }
        chain
    }

    fn priced(
        &mut self,
        at: At<'_>,
        (name, provider, model): (&str, &raw::Provider, &str),
        known: &PriceTable,
    ) {
        let embeds = at.first() == Some(&"embedding");
        if provider.price.contains_key(model) || vendor_price(provider, (model, embeds), known).is_some() {
            return;
        }
        let table = dotted(&["provider", name, "price", model]);
        let mut help = format!("add `[{table}]` with `input` and `output` in dollars for a million tokens");
        if let Some(vendor) = vendor(provider)
            && let Some(near) = nearest(model, known.answering(vendor))
        {
            help.push_str(&format!("; or did you mean `{near}`?"));
        }
        let note =
            Note::new(Code::UnknownPrice, format!("the price of `{name}/{model}` is not known"), "no price");
        self.fail(at, note.help(help));
    }

    pub(super) fn budget(&mut self, raw: &Raw) -> Budget {
        let given = &raw.budget;
        let mut thresholds = given.thresholds.clone();
        thresholds.sort_unstable();
        thresholds.dedup();
        let mut limits = |key, text: &str| self.spending((&["budget", key], text), given.window);
        Budget {
            agent: limits("agent", &given.agent),
            user: limits("user", &given.user),
            channel: limits("channel", &given.channel),
            department: limits("department", &given.department),
            global: limits("global", &given.global),
            shadow: given.shadow.as_deref().map(|text| limits("shadow", text)).unwrap_or_default(),
            zone: self.zone(&["budget", "time_zone"], &given.time_zone),
            thresholds,
            lower_at: given.lower_at,
            refusal: given.refusal.clone(),
        }
    }

    /// A time zone by its name; UTC where it is not known, which is told.
    fn zone(&mut self, at: At<'_>, name: &str) -> TimeZone {
        TimeZone::get(name).unwrap_or_else(|_| {
            let known: Vec<_> = jiff::tz::db().available().collect();
            let near = nearest(name, known.iter().map(|known| known.as_str()));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a name of the IANA time zone database, such as `Europe/Berlin`".to_owned(),
            };
            let message = format!("`{}` is no time zone that is known", dotted(at));
            self.fail(at, Note::new(Code::WrongValue, message, "not known").help(help));
            TimeZone::UTC
        })
    }

    /// Budgets of its own, or those that all of its kind have.
    pub(super) fn own_limits(
        &mut self,
        raw: &Raw,
        (at, own): (At<'_>, Option<&str>),
        all: &[Limit],
    ) -> Vec<Limit> {
        own.map_or_else(|| all.to_vec(), |text| self.spending((at, text), raw.budget.window))
    }

    /// Amounts above zero, none for the same unit and window twice; or no budget at all.
    fn spending(&mut self, (at, text): (At<'_>, &str), window: raw::Window) -> Vec<Limit> {
        if text == "unlimited" {
            return Vec::new();
        }
        let mut limits: Vec<Limit> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let wrong = match Limit::parse(part, Window::from(window)) {
                None => "not an amount above zero".to_owned(),
                Some(new) if limits.iter().any(|one| one.scope("") == new.scope("")) => {
                    format!("a second amount of {} for each {}", new.most.unit.as_str(), new.window.as_str())
                }
                Some(new) => {
                    limits.push(new);
                    continue;
                }
            };
            let message = format!("`{}` is not what a budget can be: `{part}`", dotted(at));
            let help = "such as `\"5.00\"`, `\"2.00/day, 20000 tokens/hour, 10 requests/minute\"` or `\"unlimited\"`";
            self.fail(at, Note::new(Code::BadAmount, message, wrong).help(help));
        }
        limits
    }

    pub(super) fn cache(&mut self, raw: &Raw) -> Cache {
        let raw = &raw.cache;
        let similar = self.similar(&["cache", "similar_error"], &raw.similar_error);
        Cache {
            enabled: raw.enabled,
            entries_max: raw.entries_max,
            bytes_max: raw.bytes_max,
            ttl: seconds(raw.ttl_s),
            similar,
            language: Language::of_tag(&raw.language),
        }
    }

    /// The share of wrong ones among similar answers.
    fn similar(&mut self, at: At<'_>, text: &str) -> Option<SimilarRule> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let rule = text.parse().ok().filter(|_| plain).and_then(chela_gateway::Cache::similar);
        if rule.is_none() {
            let message = format!("`{}` must be a share from 0.0001 to 0.5", dotted(at));
            let note = Note::new(Code::WrongValue, message, "not such a share");
            self.fail(at, note.help("a decimal text such as `\"0.02\"`: one of fifty may be wrong"));
        }
        rule
    }

    fn not_for_kind(&mut self, at: At<'_>, why: &str) {
        let message = format!("`{}` does not go with this kind of provider", dotted(at));
        self.fail_key(at, Note::new(Code::WrongValue, message, "does not belong here").help(why));
    }

    pub(super) fn missing(&mut self, at: At<'_>, key: &str, help: &str) {
        let message = format!("`{}` needs the key `{key}`", dotted(at));
        let note = Note::new(Code::MissingKey, message, format!("`{key}` is missing here"));
        self.fail_key(at, note.help(help));
    }
}

fn failover(tier: &raw::Tier) -> TierFailover {
    TierFailover {
        min_chars_per_s: tier.min_chars_per_s,
        hedge_after: tier.hedge_after_ms.map(Duration::from_millis),
        after_cut: match tier.after_cut {
            raw::AfterCut::Error => AfterCut::Error,
            raw::AfterCut::Continue => AfterCut::Continue,
        },
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
