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
use crate::config::{Config, ProviderKind};

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
        let knowledge = documents.map(|(agent, of)| (agent.clone(), (collection(&agent), of.digest)));
        rooms::engine(config, &self.tenant, &knowledge.collect(), self.session_key)
    }

    /// A gateway with these providers, tiers and budgets. Its cache is empty.
    ///
    /// # Errors
    /// [`Error`] naming the key that is wrong.
    pub fn gateway(&self, config: &Config) -> Result<Gateway, Error> {
        let clock = Arc::clone(&self.clock);
        Ok(Gateway::new(rooms::gateway(config)?, self.store.clone(), &self.egress, clock)?)
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

    /// Each agent's documents, put into the store unless they are there.
    async fn learn(&self, config: &Config) -> Result<BTreeMap<AgentId, (String, Digest)>, Error> {
        let mut known = BTreeMap::new();
        for (agent, documents) in documents(config).await? {
            let collection = collection(&agent);
            let Documents { digest, passages } = documents;
            let count = passages.len();
            if self.store.knowledge_replace(&self.tenant, &collection, digest, passages).await? {
                tracing::info!(%agent, passages = count, "documents are read anew");
            }
            known.insert(agent, (collection, digest));
        }
        Ok(known)
    }
}

/// Under which name an agent's documents are kept.
fn collection(agent: &AgentId) -> String {
    format!("agent/{agent}")
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

/// Of everything that a gateway is made from: the configuration, and the keys that it only names.
pub fn models_digest(config: &Config) -> Digest {
    let mut parts = vec![config.digest.as_bytes().to_vec()];
    for (name, provider) in &config.providers {
        if let ProviderKind::OpenAi(at) | ProviderKind::Anthropic(at) = &provider.kind
            && let Some(key) = &at.key
        {
            parts.extend([name.clone().into_bytes(), key.expose_secret().as_bytes().to_vec()]);
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Digest::of("chela models 1", &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_makes_another_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        let text = "[provider.a]\nkind = \"anthropic\"\nkey = \"env:KEY\"\n[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n";
        std::fs::write(&path, text).unwrap();
        let with = |key: &'static str| {
            models_digest(&crate::config::load(&path, &|_| Some(key.to_owned())).unwrap().0)
        };
        assert_eq!(with("one"), with("one"));
        assert_ne!(with("one"), with("two"));
    }
}
