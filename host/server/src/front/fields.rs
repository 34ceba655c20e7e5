//! A request's JSON, read field by field: what is missing, of another type or not known is told with its place.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The field, as in `messages.0.content`.
    pub(super) at: String,
    /// What about it.
    pub(super) what: What,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// It has to be there.
    Missing,
    /// No field of this name is known.
    Unknown,
    /// It is of another type than this one.
    Type(&'static str),
    /// It cannot be this.
    Value(String),
    /// It is known, and nothing here can do it.
    Unsupported,
}

impl Wrong {
    pub(super) fn new(at: impl Into<String>, what: What) -> Self {
        Self { at: at.into(), what }
    }

    /// A value that cannot be.
    pub(super) fn value(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(at, What::Value(why.into()))
    }
}

/// The fields of one object. `null` is as good as absent.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    at: String,
    table: &'a Map<String, Value>,
    /// In no order: few of them are written, and only those are looked up.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(at: impl Into<String>, value: &'a Value) -> Result<Self, Wrong> {
        let at = at.into();
        match value.as_object() {
            Some(table) => Ok(Self { at, table, known: Vec::new() }),
            None => Err(Wrong::new(at, What::Type("an object"))),
        }
    }

    /// The place of a field.
    pub(super) fn at(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.table.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        of: impl FnOnce(&'a Value) -> Option<T>,
        name: &'static str,
    ) -> Result<Option<T>, Wrong> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => of(value).map(Some).ok_or_else(|| Wrong::new(self.at(key), What::Type(name))),
        }
    }

    fn needed<T>(&self, key: &str, found: Option<T>) -> Result<T, Wrong> {
        found.ok_or_else(|| Wrong::new(self.at(key), What::Missing))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, Wrong> {
        self.typed(key, Value::as_str, "a string")
    }

    pub(super) fn needed_text(&mut self, key: &'static str) -> Result<&'a str, Wrong> {
        let found = self.text(key)?;
        self.needed(key, found)
    }

    pub(super) fn needed_value(&mut self, key: &'static str) -> Result<&'a Value, Wrong> {
        let found = self.value(key);
        self.needed(key, found)
    }

    pub(super) fn switch(&mut self, key: &'static str) -> Result<Option<bool>, Wrong> {
        self.typed(key, Value::as_bool, "a boolean")
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Result<Option<i64>, Wrong> {
        self.typed(key, Value::as_i64, "an integer")
    }

    /// A number of things, one at least.
    pub(super) fn count(&mut self, key: &'static str) -> Result<Option<u64>, Wrong> {
        match self.integer(key)? {
            Some(number) if number < 1 => Err(Wrong::value(self.at(key), "it is at least 1")),
            number => Ok(number.map(i64::unsigned_abs)),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, Wrong> {
        match self.typed(key, Value::as_f64, "a number")? {
            Some(number) if !range.contains(&number) => {
                let why = format!("it is {} to {}", range.start(), range.end());
                Err(Wrong::value(self.at(key), why))
            }
            number => Ok(number.map(|number| number as f32)),
        }
    }

    pub(super) fn list(&mut self, key: &'static str) -> Result<Option<&'a [Value]>, Wrong> {
        self.typed(key, |value| value.as_array().map(Vec::as_slice), "an array")
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Wrong> {
        let list = self.list(key)?.unwrap_or_default();
        let text = |(index, value): (usize, &Value)| {
            let at = || format!("{}.{index}", self.at(key));
            value.as_str().map(str::to_owned).ok_or_else(|| Wrong::new(at(), What::Type("a string")))
        };
        list.iter().enumerate().map(text).collect()
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Wrong> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|(known, _)| *known == word) {
            Some((_, means)) => Ok(Some(*means)),
            None => {
                let known: Vec<_> = words.iter().map(|(known, _)| format!("'{known}'")).collect();
                Err(Wrong::value(self.at(key), format!("it is {}", known.join(" or "))))
            }
        }
    }

    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Self>, Wrong> {
        let at = self.at(key);
        self.value(key).map(|value| Self::of(at, value)).transpose()
    }

    pub(super) fn needed_table(&mut self, key: &'static str) -> Result<Self, Wrong> {
        let found = self.table(key)?;
        self.needed(key, found)
    }

    /// Known fields that change nothing here.
    pub(super) fn pass(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Known fields for which there is no place here.
    pub(super) fn refuse(&mut self, keys: &[&'static str]) -> Result<(), Wrong> {
        for key in keys {
            if self.value(key).is_some() {
                return Err(Wrong::new(self.at(key), What::Unsupported));
            }
        }
        Ok(())
    }

    /// A known field that may only be what it would be without being written.
    pub(super) fn only(&mut self, key: &'static str, allowed: &[Value]) -> Result<(), Wrong> {
        match self.value(key) {
            Some(value) if !allowed.contains(value) => Err(Wrong::new(self.at(key), What::Unsupported)),
            _ => Ok(()),
        }
    }

    /// Whether everything that was written is known.
    pub(super) fn end(self) -> Result<(), Wrong> {
        match self.table.keys().find(|key| !self.known.contains(&key.as_str())) {
            Some(key) => Err(Wrong::new(self.at(key), What::Unknown)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let body = json!({"a": 1, "b": null, "c": ["x", 2], "d": {"e": true}, "f": 3.5});
        let mut fields = Fields::of("", &body).unwrap();
        let told = |result: Result<(), Wrong>| result.unwrap_err();
        let missing = told(fields.needed_text("b").map(|_| ()));
        assert_eq!(missing, Wrong::new("b", What::Missing));
        assert_eq!(told(fields.text("a").map(|_| ())), Wrong::new("a", What::Type("a string")));
        assert_eq!(told(fields.texts("c").map(|_| ())), Wrong::new("c.1", What::Type("a string")));
        let mut inner = fields.needed_table("d").unwrap();
        assert_eq!(told(inner.integer("e").map(|_| ())), Wrong::new("d.e", What::Type("an integer")));
        assert_eq!(told(fields.number("f", 0.0..=2.0).map(|_| ())).at, "f");
        assert_eq!(told(fields.refuse(&["b", "a"])), Wrong::new("a", What::Unsupported));
        let mut rest = Fields::of("x", &body).unwrap();
        rest.pass(&["a", "b", "c", "d"]);
        assert_eq!(told(rest.end()), Wrong::new("x.f", What::Unknown));
    }
}
