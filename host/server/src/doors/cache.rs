//! Kept answers: what is kept, what would become of a question, and what is to go.

use chela_gateway::{Evict, Evicted, Explained, Stock};
use chela_store::Happened;
use chela_types::AgentId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Error;
use super::extract::Json;
use super::rights::{Allowed, Content, Operate, Read};

/// A question, and whom it is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainCached {
    /// The agent.
    pub agent: AgentId,
    /// The question, as a person would ask it.
    pub question: String,
    /// With the questions of others.
    #[serde(default)]
    pub content: bool,
}

/// What is to go, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvictCached {
    /// What.
    pub which: Evict,
    /// It was wrong where it was served.
    #[serde(default)]
    pub wrong: bool,
    /// Why; may be empty.
    #[serde(default)]
    pub why: String,
}

pub(super) async fn list(admin: Allowed<Read>) -> Result<Json<Stock>, Error> {
    Ok(Json(admin.engine.gateway().cache_stock(&admin.tenant).await))
}

pub(super) async fn explain(
    admin: Allowed<Read>,
    Json(asked): Json<ExplainCached>,
) -> Result<Json<Explained>, Error> {
    let ExplainCached { agent, question, content } = asked;
    let (engine, tenant) = (admin.engine.clone(), admin.tenant.clone());
    if content {
        admin.and::<Content>()?;
    }
    let level = engine.cache_level(&agent).ok_or(Error::NotFound)?;
    Ok(Json(engine.gateway().explain_cached((&tenant, &agent), (&question, level), content).await))
}

pub(super) async fn evict(
    admin: Allowed<Operate>,
    Json(asked): Json<EvictCached>,
) -> Result<Json<Evicted>, Error> {
    let EvictCached { which, wrong, why } = asked;
    let evicted = admin.engine.gateway().evict_cached(&admin.tenant, &which, wrong).await;
    let Evicted { entries, wrong: counted } = evicted;
    let detail = json!({ "of": of(&which), "entries": entries, "wrong": wrong, "counted_as_wrong": counted });
    let what = "cache evicted".to_owned();
    let happened = Happened { plugin: None, digest: None, what, by: admin.who().0, why, detail };
    admin.store.happened(&admin.tenant, happened).await?;
    Ok(Json(evicted))
}

/// What was meant, for the history. A person who wants to be forgotten is not in it: a digest of his name would be found
/// by trying names.
fn of(which: &Evict) -> Value {
    match which {
        Evict::All => json!("all"),
        Evict::Agent(agent) => json!({ "agent": agent }),
        Evict::Entry(entry) => json!({ "entry": entry }),
        Evict::User(_) => json!({ "user": true }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_be_forgotten_is_not_named() {
        assert_eq!(of(&Evict::User("slack/U123".to_owned())), json!({ "user": true }));
        assert_eq!(of(&Evict::Entry("ab".to_owned())), json!({ "entry": "ab" }));
    }

    #[test]
    fn what_is_to_go_is_read_as_it_is_written() {
        for which in [Evict::All, Evict::Entry("ab".to_owned()), Evict::User("slack/U1".to_owned())] {
            let asked = EvictCached { which, wrong: true, why: String::new() };
            let sent = serde_json::to_string(&asked).unwrap();
            assert_eq!(serde_json::from_str::<EvictCached>(&sent).unwrap().which, asked.which);
        }
    }
}
