//! A JSON schema as it was written.
//!
//! A model that is held to a schema says its properties in the schema's order: one that is to reason and then to answer
//! must not be asked to answer first. A map of `serde_json` has no order but the alphabet's, so a schema stays a text.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A schema, in the order in which it was written, without blanks.
#[derive(Debug, Clone)]
pub struct Schema(Box<RawValue>);

impl Schema {
    /// As it is written; none if that is no JSON.
    pub fn read(text: &str) -> Option<Self> {
        // What is no JSON could become some without its blanks.
        let json: &RawValue = serde_json::from_str(text).ok()?;
        RawValue::from_string(compact(json.get())).ok().map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is an object, as each schema of parameters is.
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

/// Without the blanks outside of texts.
fn compact(json: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let stays = |character: &char| {
        let stays = in_text || !character.is_ascii_whitespace();
        match character {
            '"' if !is_escaped => in_text = !in_text,
            _ => {}
        }
        is_escaped = *character == '\\' && !is_escaped;
        stays
    };
    json.chars().filter(stays).collect()
}

impl From<Value> for Schema {
    /// In the alphabet's order.
    fn from(value: Value) -> Self {
        Self(serde_json::value::to_raw_value(&value).unwrap_or_default())
    }
}

impl PartialEq for Schema {
    /// Another order is another schema: it asks for another answer.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Schema {}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_keeps_its_order_and_its_texts_and_no_blanks() {
        for (written, kept) in [
            ("{ \"b\" : 1,\n\t\"a\":[ 1 , 2 ] }", r#"{"b":1,"a":[1,2]}"#),
            (r#" {"a b": "c \" d", "e": "\\", "f" : "g h"} "#, r#"{"a b":"c \" d","e":"\\","f":"g h"}"#),
            (r#""\\\" x" "#, r#""\\\" x""#),
            ("1.50", "1.50"),
        ] {
            let schema = Schema::read(written).unwrap();
            assert_eq!(schema.as_str(), kept);
            assert_eq!(schema.is_object(), kept.starts_with('{'));
            let same: Value = serde_json::from_str(written).unwrap();
            assert_eq!(serde_json::from_str::<Value>(schema.as_str()).unwrap(), same);
        }
        for none in ["", "{", "{\"a\":1}}", "{a:1}", "\"a", "1 2"] {
            assert_eq!(Schema::read(none), None, "{none}");
        }
        assert_eq!(Schema::from(json!({"b": 1, "a": 2})).as_str(), r#"{"a":2,"b":1}"#);
    }
}
