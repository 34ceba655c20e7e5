//! The shape of the file, read from the JSON schema of the raw structs.
//!
//! serde stops at the first unknown key; the check here finds all of them, with their lines, and the
//! reference in `docs/` walks the same shape. So the structs in `raw` stay the only place that names a key.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::Raw;

/// A table's key.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// What it means, for people.
    pub(super) meaning: String,
    /// It has to be written.
    pub(super) needed: bool,
    /// What it is if not written.
    pub(super) default: Option<Value>,
    /// What may be written.
    pub(super) shape: Shape,
}

/// What may be written.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Text; `format` names what it means (`secret`, `dollars`, `path` …).
    Text { format: Option<String>, chars_max: Option<u64> },
    /// One of some texts.
    Choice(Vec<String>),
    /// A whole number.
    Integer { min: i64, max: i64 },
    /// A number, with or without decimals.
    Number { min: f64, max: f64 },
    /// `true` or `false`.
    Switch,
    /// A list.
    List { item: Box<Shape>, min: u64, max: u64 },
    /// A table with names of the operator's own.
    Named(Box<Shape>),
    /// A table with these keys.
    Table(BTreeMap<String, Field>),
    /// A table that a plugin reads.
    Free,
}

/// The JSON schema of `chela.toml`, for editors.
pub fn json_schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<Raw>().to_value()
}

/// The shape of the whole file.
pub(super) fn shape() -> Shape {
    read(&json_schema())
}

fn read(schema: &Value) -> Shape {
    if let Some(choices) = choices(schema) {
        return Shape::Choice(choices);
    }
    // `Option<T>` is written as `anyOf [T, null]` when T is more than a plain type.
    if let Some(inner) = schema.get("anyOf").and_then(Value::as_array).and_then(|any| any.first()) {
        return read(inner);
    }
    match kind(schema) {
        "string" => Shape::Text {
            format: schema.get("format").and_then(Value::as_str).map(str::to_owned),
            chars_max: schema.get("maxLength").and_then(Value::as_u64),
        },
        "integer" => Shape::Integer {
            min: schema.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN),
            max: schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX),
        },
        "number" => Shape::Number {
            min: schema.get("minimum").and_then(Value::as_f64).unwrap_or(f64::MIN),
            max: schema.get("maximum").and_then(Value::as_f64).unwrap_or(f64::MAX),
        },
        "boolean" => Shape::Switch,
        "array" => Shape::List {
            item: Box::new(schema.get("items").map_or(Shape::Free, read)),
            min: schema.get("minItems").and_then(Value::as_u64).unwrap_or(0),
            max: schema.get("maxItems").and_then(Value::as_u64).unwrap_or(LIST_MAX),
        },
        "object" => table(schema),
        _ => Shape::Free,
    }
}

/// No list in the file is longer than this.
const LIST_MAX: u64 = 1_000;

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or("")
        }
        _ => "",
    }
}

fn choices(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().filter_map(text).collect());
    }
    let one = |variant: &Value| match variant.get("const") {
        Some(value) => text(value).map(|t| vec![t]),
        None => choices(variant),
    };
    if let Some(value) = schema.get("const") {
        return text(value).map(|t| vec![t]);
    }
    let variants = schema.get("oneOf").and_then(Value::as_array)?;
    variants.iter().map(one).collect::<Option<Vec<_>>>().map(|lists| lists.into_iter().flatten().collect())
}

fn table(schema: &Value) -> Shape {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return match schema.get("additionalProperties") {
            Some(value @ Value::Object(_)) => Shape::Named(Box::new(read(value))),
            _ => Shape::Free,
        };
    };
    let needed: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let field = |(name, schema): (&String, &Value)| {
        let field = Field {
            meaning: schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " "),
            needed: needed.contains(&name.as_str()),
            default: schema.get("default").filter(|value| !value.is_null()).cloned(),
            shape: read(schema),
        };
        (name.clone(), field)
    };
    Shape::Table(properties.iter().map(field).collect())
}
