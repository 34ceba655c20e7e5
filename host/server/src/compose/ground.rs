//! What stays while configurations come and go, and what is built on it from each of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chela_egress::Egress;
use chela_gateway::Gateway;
use chela_store::Store;
use chela_types::{AgentId, Clock, Digest, TenantId};
use secrecy::{ExposeSecret, SecretString};

use super::knowledge::{self, Documents};
use super::{Error, keys, rooms};
use crate::config::Config;

/// What a change of the configuration does not touch.
#[derive(Clone)]
pub struct Ground {
    /// What is kept.
    pub store: Store,
    /// The way out.
    pub egress: Egress,
    /// The organisation.
    pub tenant: TenantId,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Key of the web chat's sessions.
    pub(super) session_key: [u8; 32],
}

impl std::fmt::Debug for Ground {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Ground {
    /// The engine's configuration. Documents that are not in the store yet are there then.
    ///
    /// # Errors
    /// [`Error`], also if a folder of documents cannot be read.
    pub async fn engine(&self, config: &Config) -> Result<chela_engine::Config, Error> {
        let knowledge = self.learn(config).await?;
        rooms::engine(config, &self.tenant, &knowledge, self.session_key)
    }

    /// The same for a configuration that is not to run yet: documents are read, and what agents search stays.
    ///
    /// # Errors
    /// As [`Ground::engine`].
    pub async fn considered(&self, config: &Config) -> Result<chela_engine::Config, Error> {
        let documents = documents(config).await?.into_iter();
        let knowledge = documents.map(|(agent, of)| (agent, (collection(of.digest), of.digest)));
        rooms::engine(config, &self.tenant, &knowledge.collect(), self.session_key)
    }

    /// A gateway with these providers, tiers and budgets. Its cache is empty.
    ///
    /// # Errors
    /// [`Error`] naming the key that is wrong.
    pub async fn gateway(&self, config: &Config) -> Result<Gateway, Error> {
        let clock = Arc::clone(&self.clock);
        Ok(Gateway::new(rooms::gateway(config).await?, self.store.clone(), &self.egress, clock)?)
    }

    /// The admin listener's token: the file's, or the host's own in its data folder.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Key`].
    pub fn admin_token(&self, config: &Config) -> Result<SecretString, Error> {
        match &config.server.admin_token {
            Some(token) => Ok(token.clone()),
            None => keys::admin_token(&config.store.folder),
        }
    }

    /// Removes documents that none of these names. A turn that began with them would find nothing any more.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn forget_but(&self, collections: impl Iterator<Item = &String>) -> Result<(), Error> {
        let names: Vec<&str> = collections.map(String::as_str).collect();
        let removed = self.store.knowledge_keep(&self.tenant, &names).await?;
        if removed > 0 {
            tracing::debug!(collections = removed, "documents that nobody names any more are removed");
        }
        Ok(())
    }

    /// Each agent's documents, put into the store unless they are there.
    async fn learn(&self, config: &Config) -> Result<BTreeMap<AgentId, (String, Digest)>, Error> {
        let mut known = BTreeMap::new();
        for (agent, documents) in documents(config).await? {
            let Documents { digest, passages } = documents;
            let collection = collection(digest);
            let count = passages.len();
            if self.store.knowledge_replace(&self.tenant, &collection, digest, passages).await? {
                tracing::info!(%agent, passages = count, "documents are read anew");
            }
            known.insert(agent, (collection, digest));
        }
        Ok(known)
    }
}

/// Under which name documents are kept: by what they say, so that what is read for a configuration that never comes to
/// serve is nothing that somebody searches.
fn collection(digest: Digest) -> String {
    format!("documents/{digest}")
}

/// The collection of each agent that has documents: another one means other documents.
pub type Knowledge = BTreeMap<AgentId, String>;

/// The collections that a configuration names.
pub fn knowledge(config: &chela_engine::Config) -> Knowledge {
    let agents = config.agents.iter();
    agents.filter_map(|(name, agent)| Some((name.clone(), agent.knowledge.as_ref()?.0.clone()))).collect()
}

/// The documents of each agent that has some.
pub(super) async fn documents(config: &Config) -> Result<Vec<(AgentId, Documents)>, Error> {
    let agents = config.agents.iter();
    let folders: Vec<(AgentId, PathBuf)> =
        agents.filter_map(|(agent, of)| Some((agent.clone(), of.knowledge.clone()?))).collect();
    let read =
        move || folders.into_iter().map(|(agent, folder)| Ok((agent, knowledge::read(&folder)?))).collect();
    // Some thousand files: the threads of the runtime have turns to run.
    let broken_off = |error| Error::Configuration(format!("the documents were not read: {error}"));
    tokio::task::spawn_blocking(read).await.map_err(broken_off)?
}

/// Of everything that a gateway is made from, and of nothing else: with another one, cached answers and what it knows of
/// providers' outages are gone.
pub fn models_digest(config: &Config) -> Digest {
    let Config { providers, tiers, cache, embedding, .. } = config;
    let agents: Vec<_> = config.agents.iter().map(|(id, of)| (id, &of.tier, &of.tier_policy)).collect();
    let made_from = (providers, tiers, embedding, cache, rooms::budgets(config), agents);
    let mut parts = vec![format!("{made_from:?}").into_bytes()];
    // Secrets do not print.
    for (name, provider) in providers {
        if let Some(at) = provider.kind.endpoint()
            && let Some(key) = &at.key
        {
            parts.extend([name.clone().into_bytes(), key.expose_secret().as_bytes().to_vec()]);
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Digest::of("chela models 4", &parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const FILE: &str = "[provider.a]\nkind = \"anthropic\"\nkey = \"env:KEY\"\n[plugin.a]\nsource = \"builtin:assistant\"\ngrants = [\"knowledge\"]\n[agent.x]\nplugin = \"a\"\n";

    fn load(folder: &Path, text: &str, key: &'static str) -> Config {
        let path = folder.join("chela.toml");
        fs::write(&path, text).unwrap();
        crate::config::load(&path, &|_| Some(key.to_owned())).unwrap().0
    }

    #[test]
    fn another_key_makes_another_gateway_and_another_comment_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let with = |text: &str, key| models_digest(&load(folder.path(), text, key));
        let usual = with(FILE, "one");
        assert_ne!(usual, with(FILE, "two"));
        assert_eq!(usual, with(&format!("# a note\n{FILE}persona = \"kind\"\n"), "one"));
        let others = [
            "budget = \"1.00\"\n",
            "budget = \"unlimited\"\n",
            "tier_policy = \"fixed\"\n",
            "[cache]\nttl_s = 7\n",
            "[budget]\ntime_zone = \"Europe/Berlin\"\n",
            "[department.d]\nbudget = \"1.00\"\n",
        ];
        for other in others {
            assert_ne!(usual, with(&format!("{FILE}{other}"), "one"), "{other}");
        }
    }

    #[tokio::test]
    async fn documents_of_a_configuration_that_does_not_come_to_serve_are_searched_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["open", "internal"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("a.md"), format!("A refund is {name}.")).unwrap();
        }
        let with = |name: &str| load(folder.path(), &format!("{FILE}knowledge = \"{name}\"\n"), "one");
        let config = with("open");
        let clock: Arc<dyn Clock> = Arc::new(chela_types::SystemClock);
        let ground = Ground {
            store: Store::open(rooms::store(&config), Arc::clone(&clock)).await.unwrap(),
            egress: Egress::new(rooms::egress(&config)).unwrap(),
            tenant: TenantId::default_tenant(),
            clock,
            session_key: [0; 32],
        };
        let serves = knowledge(&ground.engine(&config).await.unwrap());
        let found = async || {
            let collection = serves.values().next().unwrap();
            ground.store.knowledge_search(&ground.tenant, collection, "refund", 5).await.unwrap()
        };
        let before = found().await;
        assert!(before[0].0.text.contains("open"), "{before:?}");
        let refused = knowledge(&ground.engine(&with("internal")).await.unwrap());
        assert_eq!(found().await, before);
        ground.forget_but(serves.values()).await.unwrap();
        assert_eq!(found().await, before);
        let gone = refused.values().next().unwrap();
        let gone = ground.store.knowledge_search(&ground.tenant, gone, "refund", 5).await.unwrap();
        assert!(gone.is_empty(), "{gone:?}");
    }
}
