//! What must hold of words that a hostile hand wrote, wherever they go.

use serde_json::Value;
use std::collections::BTreeSet;

/// Longest text of an error, whatever a plugin says in it.
const ERROR_BYTES_MAX: usize = 3_000;

/// A text that a log, a record or a terminal may show.
pub(crate) fn tame(what: &str, text: &str) {
    assert!(text.len() <= ERROR_BYTES_MAX, "{what} has {} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "{what} controls a terminal: {text:?}");
}

/// Everything in a request that could be an id: what the host must have read there, if it says so.
pub(crate) fn words(body: &[u8], is_form: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if is_form {
        for (_, value) in url::form_urlencoded::parse(body) {
            if let Ok(json) = serde_json::from_str(&value) {
                scalars(&json, &mut found);
            }
            found.insert(value.into_owned());
        }
    } else if let Ok(json) = serde_json::from_slice(body) {
        scalars(&json, &mut found);
    }
    found
}

fn scalars(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Number(number) => drop(found.insert(number.to_string())),
        Value::Array(items) => items.iter().for_each(|item| scalars(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| scalars(field, found)),
        Value::Null | Value::Bool(_) => {}
    }
}
