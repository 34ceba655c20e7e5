//! Clients with keys: who asks, for what he may ask, and how often.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chela_types::{AgentId, DepartmentId, Digest, TierId};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::RwLock;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;
use crate::config::{ApiKey, Config};

/// Whoever shows a key.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) department: Option<DepartmentId>,
    user: String,
    pub(super) agents: BTreeSet<AgentId>,
    pub(super) tiers: BTreeSet<TierId>,
    pub(super) cache: bool,
    pub(super) embeddings: bool,
    digest: Digest,
    limits: (u32, usize),
    rate: Arc<DefaultDirectRateLimiter>,
    seats: Arc<Semaphore>,
}

impl Client {
    fn new(name: &str, key: &ApiKey) -> Self {
        let rate = NonZeroU32::new(key.requests_per_minute).unwrap_or(NonZeroU32::MIN);
        Self {
            name: name.to_owned(),
            department: key.department.clone(),
            user: key.user.clone(),
            agents: key.agents.clone(),
            tiers: key.tiers.clone(),
            cache: key.cache,
            embeddings: key.embeddings,
            digest: digest(key.key.expose_secret()),
            limits: (key.requests_per_minute, key.concurrency),
            rate: Arc::new(RateLimiter::direct(Quota::per_minute(rate))),
            seats: Arc::new(Semaphore::new(key.concurrency)),
        }
    }

    /// The same client in another configuration keeps what it has used up.
    fn after(mut self, before: &[Arc<Self>]) -> Self {
        let same = |other: &&Arc<Self>| (&other.name, other.limits) == (&self.name, self.limits);
        if let Some(before) = before.iter().find(same) {
            (self.rate, self.seats) = (Arc::clone(&before.rate), Arc::clone(&before.seats));
        }
        self
    }

    /// A seat for one request, within the client's rate.
    pub(super) fn seat(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        // Before the rate: who finds no seat has used up nothing.
        let seat = Arc::clone(&self.seats).try_acquire_owned().map_err(|_| Refusal::Flood(Duration::ZERO))?;
        let early = |until: governor::NotUntil<_>| {
            Refusal::Flood(until.wait_time_from(DefaultClock::default().now()))
        };
        self.rate.check().map_err(early)?;
        Ok(seat)
    }

    /// The person who pays. One that the request names is the client's own, whatever it is called: no other person's
    /// name holds a colon before its first slash.
    pub(super) fn person(&self, named: Option<&str>) -> String {
        named.map_or_else(|| self.user.clone(), |user| format!("key:{}/{user}", self.name))
    }
}

/// The clients of the configuration that serves. Clones share them.
#[derive(Clone)]
pub struct Clients(Arc<RwLock<Vec<Arc<Client>>>>);

impl std::fmt::Debug for Clients {
    /// Names alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.read().iter().map(|client| &client.name)).finish()
    }
}

impl Clients {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        let clients = config.api_keys.iter().map(|(name, key)| Arc::new(Client::new(name, key)));
        Self(Arc::new(RwLock::new(clients.collect())))
    }

    /// Those of another configuration: a key that is not in it any more opens nothing from now on.
    pub fn replace(&self, config: &Config) {
        let mut clients = self.0.write();
        let next = config.api_keys.iter().map(|(name, key)| Arc::new(Client::new(name, key).after(&clients)));
        *clients = next.collect();
    }

    /// Whether there is none, so that nothing is served.
    pub(super) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// Who asks. Each key is compared, over digests of one length: the time tells neither how many characters were
    /// right nor whose.
    pub(super) fn whose(&self, headers: &HeaderMap) -> Result<Arc<Client>, Refusal> {
        let given = digest(shown(headers).unwrap_or_default());
        let mut found = None;
        for client in self.0.read().iter() {
            if bool::from(client.digest.as_bytes().ct_eq(given.as_bytes())) {
                found = Some(Arc::clone(client));
            }
        }
        found.ok_or(Refusal::Key)
    }
}

/// The key as OpenAI's clients show it, or as Anthropic's do.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A scheme's name is the same in capitals and without.
    let bearer = text(AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer").then_some(key));
    bearer.or_else(|| text("x-api-key")).map(str::trim)
}

fn digest(key: &str) -> Digest {
    Digest::of("chela api key 1", &[key.as_bytes()])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    const FILE: &str = "[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n[provider.p]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.fast]\nchain = [\"p/demo\"]\n[provider.p.price.demo]\ninput = \"1\"\noutput = \"1\"\n";

    pub(in crate::front) fn config(keys: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        std::fs::write(&path, format!("{FILE}{keys}")).unwrap();
        let env = |name: &str| Some(format!("the-rather-long-key-of-the-client-{name}"));
        crate::config::load(&path, &env).unwrap_or_else(|error| panic!("{}", error.render(100, false))).0
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_key_says_who_asks() {
        let clients =
            Clients::new(&config("[api_key.ann]\nkey = \"env:ANN\"\n[api_key.bob]\nkey = \"env:BOB\"\n"));
        let key = |name: &str| format!("the-rather-long-key-of-the-client-{name}");
        let of = |pairs: &[(&'static str, &str)]| {
            clients.whose(&headers(pairs)).ok().map(|client| client.name.clone())
        };
        assert_eq!(of(&[("authorization", &format!("Bearer {}", key("ANN")))]).as_deref(), Some("ann"));
        assert_eq!(of(&[("authorization", &format!("bearer {}", key("ANN")))]).as_deref(), Some("ann"));
        assert_eq!(of(&[("x-api-key", &key("BOB"))]).as_deref(), Some("bob"));
        for nobody in
            [&[][..], &[("x-api-key", "")], &[("x-api-key", &key("CAT"))], &[("authorization", &key("ANN"))]]
        {
            assert_eq!(of(nobody), None, "{nobody:?}");
        }
        assert!(!format!("{clients:?}").contains("long-key"));
        clients.replace(&config("[api_key.bob]\nkey = \"env:BOB\"\n"));
        assert_eq!(of(&[("x-api-key", &key("ANN"))]), None, "it is taken back");
    }

    #[test]
    fn a_rate_and_seats_obeyed_and_violated_also_after_a_reload() {
        let file = "[api_key.ann]\nkey = \"env:ANN\"\nrequests_per_minute = 3\nconcurrency = 1\n";
        let clients = Clients::new(&config(file));
        let ann = || clients.0.read()[0].clone();
        let seat = ann().seat().unwrap();
        for _ in 0..10 {
            assert!(matches!(ann().seat(), Err(Refusal::Flood(wait)) if wait.is_zero()), "one at once");
        }
        drop(seat);
        clients.replace(&config(file));
        for _ in 0..2 {
            drop(ann().seat().expect("who found no seat has used up nothing"));
        }
        assert!(matches!(ann().seat(), Err(Refusal::Flood(wait)) if !wait.is_zero()), "three in a minute");
    }

    #[test]
    fn a_person_that_a_request_names_is_nobody_elses() {
        let clients = Clients::new(&config(
            "[api_key.ann]\nkey = \"env:ANN\"\n[api_key.bob]\nkey = \"env:BOB\"\nuser = \"bob\"\n",
        ));
        let person = |index: usize, named| clients.0.read()[index].person(named);
        assert_eq!(person(0, None), "key:ann");
        assert_eq!(person(1, None), "bob");
        assert_eq!(person(0, Some("bob")), "key:ann/bob");
    }
}
