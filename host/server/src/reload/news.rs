//! What the files say otherwise than what runs, in words: what a reload has changed, or what waits for somebody to apply
//! it. The digest of the configuration does not tell of secrets and documents.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use crate::compose::Knowledge;
use crate::config::Config;

/// What is another in the second than in the first.
pub(super) fn between(old: (&Config, &Knowledge), new: (&Config, &Knowledge)) -> Vec<String> {
    let mut news = Vec::new();
    if new.0.digest != old.0.digest {
        news.push(format!("configuration {}", new.0.digest.short()));
    }
    let known = secrets(old.0);
    for (key, secret) in secrets(new.0) {
        // Of one that was not there before, the configuration tells.
        if known.get(&key).is_some_and(|known| known.expose_secret() != secret.expose_secret()) {
            news.push(format!("secret {key}"));
        }
    }
    for (agent, documents) in new.1 {
        if old.1.get(agent) != Some(documents) {
            news.push(format!("documents of agent {agent}"));
        }
    }
    news
}

/// Every secret by its key in the file.
fn secrets(config: &Config) -> BTreeMap<String, &SecretString> {
    let mut secrets = BTreeMap::new();
    secrets.extend(config.server.admin_token.iter().map(|token| ("server.admin_token".to_owned(), token)));
    for (name, provider) in &config.providers {
        if let Some(at) = provider.kind.endpoint() {
            secrets.extend(at.key.iter().map(|key| (format!("provider.{name}.key"), key)));
        }
    }
    for (name, channel) in &config.channels {
        let of_channel = channel.secrets.iter();
        secrets.extend(of_channel.map(|(key, secret)| (format!("channel.{name}.secrets.{key}"), secret)));
    }
    let operators = config.operators.iter();
    secrets.extend(operators.map(|(name, operator)| (format!("operator.{name}.token"), &operator.token)));
    let clients = config.api_keys.iter();
    secrets.extend(clients.map(|(name, client)| (format!("api_key.{name}.key"), &client.key)));
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::AgentId;
    use std::fs;
    use std::path::Path;

    fn load(folder: &Path) -> Config {
        crate::config::load(&folder.join("chela.toml"), &|_| None).unwrap().0
    }

    #[test]
    fn secrets_and_documents_that_are_others_are_news_and_no_secret_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "chela.toml",
            "[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n[operator.bea]\ntoken = \"file:bea\"\nrights = [\"read\"]\n",
        );
        write("bea", "a-token-that-is-long-enough");
        let agent = AgentId::new("x").unwrap();
        let knowledge = |digest: &str| Knowledge::from([(agent.clone(), digest.to_owned())]);
        let (old, of_old) = (load(folder.path()), knowledge("1"));
        assert_eq!(between((&old, &of_old), (&load(folder.path()), &of_old)), [""; 0]);
        write("bea", "another-token-that-is-long");
        let told = between((&old, &of_old), (&load(folder.path()), &knowledge("2")));
        assert_eq!(told, ["secret operator.bea.token", "documents of agent x"]);
    }
}
