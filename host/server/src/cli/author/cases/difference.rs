//! In what an outcome differs from what a case expects. A case says as much as it wants: what it does not name, it does
//! not ask about.

use serde::Serialize;
use serde_json::{Map, Value};

/// Scores travel as 32-bit numbers.
const NUMBERS_APART_MAX: f64 = 1e-4;
/// Stands in a case in place of a text: these parts are in it.
const CONTAINS: &str = "contains";
/// Stands in a case in place of a value: there is none.
const ABSENT: &str = "absent";

/// One place where they differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// `messages[0].sender`.
    pub(super) at: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Every place where `found` is not what `expected` says.
pub(super) fn between(expected: &Value, found: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare("", expected, Some(found), &mut differences);
    differences
}

fn compare(at: &str, expected: &Value, found: Option<&Value>, into: &mut Vec<Difference>) {
    match (expected, found) {
        (Value::Object(matcher), found) if is_matcher(matcher) => {
            if !matches(matcher, found) {
                into.push(difference(at, expected, found));
            }
        }
        (Value::Object(expected), Some(Value::Object(found))) => {
            for (key, value) in expected {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                compare(&at, value, found.get(key), into);
            }
        }
        (Value::Array(all), Some(Value::Array(found))) if all.len() == found.len() => {
            for (index, (expected, found)) in all.iter().zip(found).enumerate() {
                compare(&format!("{at}[{index}]"), expected, Some(found), into);
            }
        }
        (Value::Number(one), Some(Value::Number(other))) if is_near(one, other) => {}
        (expected, Some(found)) if expected == found => {}
        (expected, found) => into.push(difference(at, expected, found)),
    }
}

fn is_near(one: &serde_json::Number, other: &serde_json::Number) -> bool {
    let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
    (one - other).abs() <= NUMBERS_APART_MAX
}

fn is_matcher(table: &Map<String, Value>) -> bool {
    table.len() == 1 && (table.contains_key(CONTAINS) || table.get(ABSENT) == Some(&Value::Bool(true)))
}

fn matches(matcher: &Map<String, Value>, found: Option<&Value>) -> bool {
    let Some(parts) = matcher.get(CONTAINS) else { return found.is_none() };
    let Some(Value::String(found)) = found else { return false };
    let is_in = |part: &Value| part.as_str().is_some_and(|part| found.contains(part));
    match parts {
        Value::Array(parts) => parts.iter().all(is_in),
        part => is_in(part),
    }
}

fn difference(at: &str, expected: &Value, found: Option<&Value>) -> Difference {
    let expected = match expected {
        Value::Object(table) if is_matcher(table) => match table.get(CONTAINS) {
            Some(parts) => format!("a text with {parts}"),
            None => "nothing".to_owned(),
        },
        expected => expected.to_string(),
    };
    let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let at = if at.is_empty() { "the outcome".to_owned() } else { at.to_owned() };
    Difference { at, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(expected: Value, found: Value) -> Vec<String> {
        between(&expected, &found).into_iter().map(|it| it.at).collect()
    }

    #[test]
    fn what_a_case_does_not_name_it_does_not_ask_about() {
        let found = json!({ "agent": "support", "score": 0.666_666_7_f32, "asked": ["a", "b"] });
        assert_eq!(places(json!({}), found.clone()), Vec::<String>::new());
        assert_eq!(
            places(json!({ "agent": "support", "score": 0.6667 }), found.clone()),
            Vec::<String>::new()
        );
        assert_eq!(places(json!({ "agent": "sales", "score": 0.6 }), found.clone()), ["agent", "score"]);
        assert_eq!(places(json!({ "asked": ["a"] }), found.clone()), ["asked"]);
        assert_eq!(places(json!({ "asked": ["a", "c"], "why": "x" }), found), ["asked[1]", "why"]);
        let found = json!({ "messages": [{ "text": "hello", "sender": "ann" }] });
        assert_eq!(places(json!({ "messages": [{ "sender": "bob" }] }), found), ["messages[0].sender"]);
    }

    #[test]
    fn a_text_may_be_named_in_part_and_a_value_may_be_missed() {
        let found = json!({ "text": "The tide comes twice a day.", "n": 1 });
        assert_eq!(places(json!({ "text": { "contains": "twice" } }), found.clone()), Vec::<String>::new());
        let both = json!({ "text": { "contains": ["tide", "thrice"] } });
        assert_eq!(places(both, found.clone()), ["text"]);
        assert_eq!(places(json!({ "n": { "contains": "1" } }), found.clone()), ["n"], "a number is no text");
        assert_eq!(places(json!({ "why": { "absent": true } }), found.clone()), Vec::<String>::new());
        let differs = between(&json!({ "text": { "absent": true } }), &found);
        assert_eq!(differs[0].expected, "nothing");
    }
}
