//! `api_key`: who may ask over `/v1`, and for what.

use std::collections::{BTreeMap, BTreeSet};

use chela_types::{AgentId, TierId};
use secrecy::{ExposeSecret as _, SecretString};

use super::{At, Resolver, dotted, size};
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};
use crate::config::resolved::{ApiKey, Budget};

/// Shortest key: it stands on the public listener, where anybody may try.
const KEY_CHARS_MIN: usize = 32;
/// Longest name of a key, or of an agent that one may speak to: the host makes names of its own from them.
const NAME_BYTES_MAX: usize = 50;

impl Resolver<'_> {
    pub(super) fn api_keys(&mut self, raw: &Raw, budget: &Budget) -> BTreeMap<String, ApiKey> {
        let mut keys = BTreeMap::<String, ApiKey>::new();
        for (name, written) in &raw.api_key {
            let Some(key) = self.api_key(raw, (name, written), budget) else { continue };
            let same = |other: &ApiKey| other.key.expose_secret() == key.key.expose_secret();
            if keys.values().any(same) {
                let at: At<'_> = &["api_key", name, "key"];
                let message = format!("`{}` is another one's key too", dotted(at));
                let note = Note::new(Code::Duplicate, message, "the same key");
                self.fail(at, note.help("give each client a key of its own: it says who pays"));
            }
            keys.insert(name.clone(), key);
        }
        keys
    }

    fn api_key(
        &mut self,
        raw: &Raw,
        (name, written): (&str, &raw::ApiKey),
        budget: &Budget,
    ) -> Option<ApiKey> {
        let is_name =
            self.name::<AgentId>(&["api_key", name]).is_some() && self.is_short(&["api_key", name], name);
        let at: At<'_> = &["api_key", name, "key"];
        let key = self.secret(at, &written.key).filter(|key| self.is_long_key(at, key));
        let department = written.department.as_deref().and_then(|department| {
            self.reference(&["api_key", name, "department"], "department", department, &raw.department)
        });
        let agents = self.named(name, "agent", (&written.agents, &raw.agent));
        for (index, agent) in written.agents.iter().enumerate() {
            self.is_short(&["api_key", name, "agents", &index.to_string()], agent);
        }
        let tiers: BTreeSet<TierId> = self.named(name, "tier", (&written.tiers, &raw.tier));
        let own = (&["api_key", name, "budget"][..], written.budget.as_deref());
        let budget = self.own_limits(raw, own, &budget.agent);
        Some(ApiKey {
            key: key.filter(|_| is_name)?,
            department,
            user: written.user.clone().unwrap_or_else(|| format!("key:{name}")),
            agents,
            tiers,
            embeddings: written.embeddings,
            budget,
            cache: written.cache,
            requests_per_minute: written.requests_per_minute,
            concurrency: size(written.concurrency),
        })
    }

    /// The tables that a list of a key names, each once.
    fn named<T: TryFrom<String> + Ord, V>(
        &mut self,
        name: &str,
        kind: &str,
        (written, known): (&[String], &BTreeMap<String, V>),
    ) -> BTreeSet<T> {
        let list = format!("{kind}s");
        let each = |(index, one): (usize, &String)| {
            self.reference(&["api_key", name, &list, &index.to_string()], kind, one, known)
        };
        written.iter().enumerate().filter_map(each).collect()
    }

    fn is_short(&mut self, at: At<'_>, name: &str) -> bool {
        let is_short = name.len() <= NAME_BYTES_MAX;
        if !is_short {
            let message =
                format!("`{name}` is too long a name for a client's key, or for an agent that one names");
            let label = format!("longer than {NAME_BYTES_MAX} characters");
            self.fail(at, Note::new(Code::BadName, message, label));
        }
        is_short
    }

    fn is_long_key(&mut self, at: At<'_>, key: &SecretString) -> bool {
        let is_long = key.expose_secret().chars().count() >= KEY_CHARS_MIN;
        if !is_long {
            let message = format!("the key of `{}` could be guessed", dotted(at));
            let label = format!("shorter than {KEY_CHARS_MIN} characters");
            let note = Note::new(Code::SecretShort, message, label);
            self.fail(at, note.help("make one: `openssl rand -hex 24`"));
        }
        is_long
    }
}
