//! Texts of a client as vectors: by whoever `[embedding]` names, paid for as its calls of tiers are.
//!
//! A client names no tier here. Vectors of two models cannot be compared, so a model's own name is good for a chain that
//! has no other: whoever asks for that model never gets the numbers of another one.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chela_gateway::{EmbedCall, Kind, Purse};
use chela_types::{AgentId, IdError, TenantId};

use super::client::Client;
use super::openai::{Wanted, listed, wanted};
use super::refusal::Refusal;
use super::said::Counted;
use super::{Asking, tell_apart};

/// What makes vectors, whichever model that is.
pub(super) const EMBEDDING: &str = "embedding";

/// Embeddings.
pub(super) async fn make(asking: Asking) -> Result<Response, Refusal> {
    let Asking { doors, client, body, seat, .. } = asking;
    let wanted = wanted(&body)?;
    let gateway = doors.engine.gateway();
    if !client.embeddings || !is_named(&wanted.model, &gateway.embedding_chain()) {
        return Err(Refusal::Model(wanted.model));
    }
    let (model, form) = (wanted.model.clone(), wanted.form);
    let call = client.vectors(&doors.tenant, wanted);
    let call = call.map_err(|error| Refusal::Gateway(Kind::Config(error.to_string())))?;
    let made = gateway.embed(call).await?;
    let (usage, cost, cache) = (made.call.usage, made.call.cost, made.call.cache);
    let counted = Counted { usage, cost, model: Some(made.model.clone()), cache };
    let mut response = Json(listed(model, form, made)).into_response();
    tell_apart(response.headers_mut(), &counted);
    drop(seat);
    Ok(response)
}

/// Whether a chain goes by this name: each of its models has it, with or without the provider before it.
fn is_named(name: &str, chain: &[String]) -> bool {
    let is_one = |model: &String| {
        model == name || model.split_once('/').is_some_and(|(_, of_provider)| of_provider == name)
    };
    name == EMBEDDING || !chain.is_empty() && chain.iter().all(is_one)
}

impl Client {
    /// The gateway's call for what is wanted.
    fn vectors(&self, tenant: &TenantId, wanted: Wanted) -> Result<EmbedCall, IdError> {
        Ok(EmbedCall {
            tenant: tenant.clone(),
            agent: AgentId::new(format!("chela-key-{}", self.name))?,
            department: self.department.clone(),
            user: self.person(wanted.user.as_deref()),
            channel: None,
            turn: None,
            lease: None,
            purse: Purse::Key(self.name.clone()),
            inputs: wanted.inputs,
            dims: wanted.dims,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{Clients, tests::config};
    use super::*;
    use axum::http::{HeaderMap, HeaderValue};
    use serde_json::{Value, json};

    #[test]
    fn vectors_are_the_keys_to_pay() {
        let keys =
            "[department.d]\n[api_key.ann]\nkey = \"env:ANN\"\nembeddings = true\ndepartment = \"d\"\n";
        let key = HeaderValue::from_static("the-rather-long-key-of-the-client-ANN");
        let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), key)]);
        let client = Clients::new(&config(keys)).whose(&headers).unwrap();
        let of = |user| {
            let body = json!({"model": "embedding", "input": "one", "dimensions": 8, "user": user});
            client.vectors(&TenantId::default_tenant(), wanted(&body).unwrap()).unwrap()
        };
        let call = of(Value::Null);
        assert_eq!((call.agent.as_str(), &call.purse), ("chela-key-ann", &Purse::Key("ann".into())));
        assert_eq!(call.department.map(|id| id.to_string()).as_deref(), Some("d"));
        assert_eq!((call.user.as_str(), of(json!("bob")).user.as_str()), ("key:ann", "key:ann/bob"));
        assert_eq!((call.inputs, call.dims), (vec!["one".to_owned()], Some(8)));
    }

    #[test]
    fn a_models_name_is_good_for_a_chain_of_that_model_alone() {
        let chain = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let one = chain(&["openai/e-small", "azure/e-small"]);
        assert!(is_named("embedding", &one) && is_named("e-small", &one));
        assert!(!is_named("openai/e-small", &one) && !is_named("e", &one) && !is_named("", &one));
        assert!(is_named("openai/e-small", &chain(&["openai/e-small"])));
        let two = chain(&["openai/e-small", "openai/e-large"]);
        assert!(is_named("embedding", &two) && !is_named("e-small", &two) && !is_named("e-large", &two));
        assert!(is_named("org/e", &chain(&["router/org/e"])) && !is_named("e", &chain(&["router/org/e"])));
        assert!(is_named("builtin:lexical", &chain(&["builtin:lexical"])) && !is_named("x", &[]));
    }
}
