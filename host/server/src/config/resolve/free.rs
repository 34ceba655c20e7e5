//! The `config` tables: free in shape, given to plugins as JSON, and searched for secrets on the way.

use serde_json::{Map, Value};

use super::{At, Resolver, dotted};
use crate::config::problem::{Code, Note};
use crate::config::raw::Free;
use crate::config::secret::{looks_secret, sounds_secret};

impl Resolver<'_> {
    /// A free table as JSON, with a warning for everything in it that may be a secret.
    pub(super) fn free(&mut self, at: At<'_>, table: &Free) -> Map<String, Value> {
        for (key, value) in table {
            self.exposed(&[at, &[key.as_str()]].concat(), sounds_secret(key), value);
        }
        json_map(table)
    }

    /// What is blotted out in messages is doubted here: everything under a key that sounds like a secret, and every
    /// text that looks like one.
    fn exposed(&mut self, at: At<'_>, within: bool, value: &toml::Value) {
        match value {
            toml::Value::String(text) if within || looks_secret(text) => {
                let message = format!("`{}` looks like a secret, and the plugin will see it", dotted(at));
                let note = Note::new(Code::SecretInConfig, message, "given to the plugin as it is");
                let help = "the host can hold it instead: see `secrets` of `[channel.NAME]` and `key` of \
                            `[provider.NAME]`";
                self.warn(at, note.help(help));
            }
            toml::Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.exposed(&[at, &[index.to_string().as_str()]].concat(), within, item);
                }
            }
            toml::Value::Table(table) => {
                for (key, value) in table {
                    self.exposed(&[at, &[key.as_str()]].concat(), within || sounds_secret(key), value);
                }
            }
            _ => {}
        }
    }
}

fn json_map(table: &Free) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

/// Dates become texts; infinities were refused before.
fn json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(on) => Value::Bool(*on),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => Value::Array(items.iter().map(json).collect()),
        toml::Value::Table(table) => Value::Object(json_map(table)),
    }
}
