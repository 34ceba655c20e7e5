//! The reference of all keys in markdown, made from the same shape that checks the file.

use std::fmt::Write as _;

use serde_json::Value;

use super::shape::{Field, Shape, shape};

const HEAD: &str = "\
# Configuration reference

Generated from the program's own types; a test fails when it is stale. Write it anew with
`CHELA_WRITE_REFERENCE=1 cargo test -p chela-server config`.

Unknown keys are refused. Relative paths start in the folder of the configuration. A secret is written as
`\"env:NAME\"` (a variable of the environment) or `\"file:PATH\"` (a file's text without the line break at its
end), never as itself. Amounts of money are decimal texts in US dollars. Names are 1 to 64 of `a-z`, `0-9`,
`-` and `_`; those of plugins and channels do not begin with `chela-`. A whole example stands in
[example.toml](example.toml); each error has a page in [errors](../errors/).
";

/// `docs/reference/config.md`.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    if let Shape::Table(fields) = shape() {
        for (name, field) in &fields {
            section(&mut text, name, field);
        }
    }
    text
}

/// One table with its keys, then the tables in it.
fn section(text: &mut String, path: &str, table: &Field) {
    let (path, fields) = match &table.shape {
        Shape::Table(fields) => (path.to_owned(), fields),
        Shape::Named(inner) => match inner.as_ref() {
            Shape::Table(fields) => (format!("{path}.NAME"), fields),
            _ => return,
        },
        _ => return,
    };
    // Writing into a String does not fail.
    let _ = write!(text, "\n## `[{path}]`\n\n{}\n", table.meaning);
    if fields.values().any(|field| !is_section(&field.shape)) {
        text.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    for (name, field) in fields.iter().filter(|(_, field)| !is_section(&field.shape)) {
        // A table may have defaults of its own for keys that have none by themselves.
        let own = table.default.as_ref().and_then(|table| table.get(name)).filter(|value| !value.is_null());
        let (kind, default) = (kind(name, &field.shape), default(field, own));
        let _ = writeln!(text, "| `{name}` | {kind} | {default} | {} |", field.meaning.replace('|', "\\|"));
    }
    for (name, field) in fields.iter().filter(|(_, field)| is_section(&field.shape)) {
        section(text, &format!("{path}.{name}"), field);
    }
}

fn is_section(shape: &Shape) -> bool {
    match shape {
        Shape::Table(_) => true,
        Shape::Named(inner) => matches!(inner.as_ref(), Shape::Table(_)),
        _ => false,
    }
}

fn kind(name: &str, shape: &Shape) -> String {
    match shape {
        Shape::Text { format, chars_max } => {
            let kind = match format.as_deref() {
                Some("dollars" | "budget") => "amount".to_owned(),
                Some("text") | None => "text".to_owned(),
                Some("store") => "address".to_owned(),
                Some("plugin" | "agent" | "tier" | "department") => {
                    format!("name of a {}", format.as_deref().unwrap_or_default())
                        .replace("a agent", "an agent")
                }
                Some("place") => "`CHANNEL` or `CHANNEL/PLACE`".to_owned(),
                Some(other) => other.to_owned(),
            };
            chars_max.map_or(kind.clone(), |max| format!("{kind}, at most {max} characters"))
        }
        Shape::Choice(valid) => valid.iter().map(|v| format!("`\"{v}\"`")).collect::<Vec<_>>().join(" or "),
        Shape::Integer { min, max } => match unit(name) {
            Some(unit) => format!("{unit}, {min} to {max}"),
            None => format!("number, {min} to {max}"),
        },
        Shape::Number { min, max } => format!("number, {min} to {max}, with or without decimals"),
        Shape::Switch => "`true` or `false`".into(),
        Shape::List { item, .. } => format!("list of {}", kind("", item)),
        Shape::Named(inner) => format!("table of {}", kind("", inner)),
        Shape::Table(_) => "table".into(),
        Shape::Free => "table, as the plugin reads it".into(),
    }
}

/// Units stand in the names.
fn unit(name: &str) -> Option<&'static str> {
    let units = [
        ("_ms", "milliseconds"),
        ("_s", "seconds"),
        ("_h", "hours"),
        ("_days", "days"),
        ("_percent", "percent"),
        ("_bytes", "bytes"),
        ("bytes_max", "bytes"),
        ("_tokens", "tokens"),
        ("per_minute", "per minute"),
        ("per_hour", "per hour"),
    ];
    units.iter().find(|(end, _)| name.ends_with(end)).map(|(_, unit)| *unit)
}

fn default(field: &Field, own: Option<&Value>) -> String {
    match own.or(field.default.as_ref()) {
        _ if field.needed => "**needed**".into(),
        None | Some(Value::Null) => "–".into(),
        Some(Value::Array(items)) if items.is_empty() => "`[]`".into(),
        Some(Value::Object(table)) if table.is_empty() => "–".into(),
        Some(Value::String(text)) if text.is_empty() => "–".into(),
        Some(value) => format!("`{value}`"),
    }
}
