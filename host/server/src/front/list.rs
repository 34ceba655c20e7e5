//! What a key may ask, as each format lists it.

use serde_json::{Value, json};

use super::Wire;
use super::asked::Model;
use super::client::Client;
use super::refusal::Refusal;

/// All of it.
pub(super) fn all(client: &Client, wire: Wire, since: i64) -> Value {
    let models: Vec<Value> = client.models().map(|model| described(&model, wire, since)).collect();
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
    let model = client.model(name).ok_or_else(|| Refusal::Model(name.to_owned()))?;
    Ok(described(&model, wire, since))
}

/// `since`, in seconds since 1970, is when this host began to serve: it knows no other date of a model.
fn described(model: &Model, wire: Wire, since: i64) -> Value {
    let name = model.name();
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
