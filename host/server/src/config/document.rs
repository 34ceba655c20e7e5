//! The file as text with positions: where does `agent.hr.tier` stand?
//!
//! The raw structs are plain, without spans in their types; a mistake is found by its path here. A path that
//! is not written (a missing key) leads to the table that should hold it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses as far as possible; the errors are those of the syntax, duplicate keys included.
    pub(super) fn parse(text: &'a str) -> (Self, Vec<toml::de::Error>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        (Self { root }, errors)
    }

    /// The outermost table.
    pub(super) fn root(&self) -> &DeTable<'a> {
        self.root.get_ref()
    }

    /// Where the value at `path` stands; for a table, its header. Elements of arrays are named by number.
    pub(super) fn value(&self, path: &[&str]) -> Option<Range<usize>> {
        self.find(path, false)
    }

    /// Where the key at `path` stands.
    pub(super) fn key(&self, path: &[&str]) -> Option<Range<usize>> {
        self.find(path, true)
    }

    /// True if all of `path` is written.
    pub(super) fn is_written(&self, path: &[&str]) -> bool {
        let mut table = Some(self.root());
        path.iter().all(|step| {
            let value = table.and_then(|table| table.get(*step));
            table = value.and_then(|value| value.get_ref().as_table());
            value.is_some()
        })
    }

    fn find(&self, path: &[&str], want_key: bool) -> Option<Range<usize>> {
        let (first, rest) = path.split_first()?;
        let (key, value) = self.root().get_key_value(*first)?;
        let mut at = Place { key: key.span(), value };
        for step in rest {
            match at.step(step) {
                Some(next) => at = next,
                None => return Some(at.key),
            }
        }
        let table = matches!(at.value.get_ref(), DeValue::Table(_));
        Some(if want_key || table { at.key } else { at.value.span() })
    }
}

struct Place<'t, 'a> {
    key: Range<usize>,
    value: &'t Spanned<DeValue<'a>>,
}

impl<'t, 'a> Place<'t, 'a> {
    fn step(&self, step: &str) -> Option<Self> {
        match self.value.get_ref() {
            DeValue::Table(table) => {
                table.get_key_value(step).map(|(key, value)| Place { key: key.span(), value })
            }
            DeValue::Array(items) => {
                let value = items.get(step.parse::<usize>().ok()?)?;
                Some(Place { key: value.span(), value })
            }
            _ => None,
        }
    }
}

/// A path as people write it, with quotes where TOML needs them.
pub(super) fn dotted(path: &[&str]) -> String {
    let bare =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let quoted = |s: &&str| if bare(s) { (*s).to_owned() } else { format!("{s:?}") };
    path.iter().map(quoted).collect::<Vec<_>>().join(".")
}
