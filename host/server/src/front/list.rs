//! What a key may ask, as each format lists it.

use serde_json::{Value, json};

use super::Wire;
use super::client::Client;
use super::refusal::Refusal;
use super::vectors::EMBEDDING;

/// All of it.
pub(super) fn all(client: &Client, wire: Wire, since: i64) -> Value {
    let models: Vec<Value> = names(client).iter().map(|name| described(name, wire, since)).collect();
    match wire {
        Wire::OpenAi => json!({ "object": "list", "data": models }),
        Wire::Anthropic => {
            let id = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
            let (first, last) = (id(models.first()), id(models.last()));
            json!({ "data": models, "has_more": false, "first_id": first, "last_id": last })
        }
    }
}

/// One of them.
pub(super) fn one(client: &Client, wire: Wire, (name, since): (&str, i64)) -> Result<Value, Refusal> {
    let of_vectors = (client.embeddings && name == EMBEDDING).then(|| EMBEDDING.to_owned());
    let known = client.model(name).map(|model| model.name()).or(of_vectors);
    known.map(|name| described(&name, wire, since)).ok_or_else(|| Refusal::Model(name.to_owned()))
}

/// What makes vectors comes last, and once: a tier may be called the same.
fn names(client: &Client) -> Vec<String> {
    let mut names: Vec<String> = client.models().map(|model| model.name()).collect();
    if client.embeddings && !names.iter().any(|name| name == EMBEDDING) {
        names.push(EMBEDDING.to_owned());
    }
    names
}

/// `since`, in seconds since 1970, is when this host began to serve: it knows no other date of a model.
fn described(name: &str, wire: Wire, since: i64) -> Value {
    match wire {
        Wire::OpenAi => json!({ "id": name, "object": "model", "created": since, "owned_by": "chela" }),
        Wire::Anthropic => {
            let at = jiff::Timestamp::from_second(since).unwrap_or_default();
            json!({
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": at.to_string(),
                "lifecycle": "active",
            })
        }
    }
}
