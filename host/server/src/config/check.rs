//! Holds a file against its shape and names everything that does not fit: unknown keys with the nearest
//! valid one, missing keys, wrong types, numbers out of bounds, misspelled choices.
//!
//! Messages never repeat a value: it may be a secret in the wrong place.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::document::dotted;
use super::problem::{Code, Note, Problems, nearest, suggest};
use super::shape::Shape;

/// Reports every misfit of `root`.
pub(super) fn check(root: &DeTable<'_>, shape: &Shape, problems: &mut Problems) {
    if let Shape::Table(_) = shape {
        Check { problems }.table(root, None, shape, &[]);
    }
}

struct Check<'p> {
    problems: &'p mut Problems,
}

impl Check<'_> {
    fn value(&mut self, value: &Spanned<DeValue<'_>>, shape: &Shape, path: &[&str]) {
        match (shape, value.get_ref()) {
            (Shape::Table(_) | Shape::Named(_), DeValue::Table(table)) => {
                self.table(table, None, shape, path)
            }
            (Shape::List { item, min, max }, DeValue::Array(items)) => {
                self.length(value, items.len(), (*min, *max), path);
                for (index, element) in items.iter().enumerate() {
                    self.value(element, item, &[path, &[index.to_string().as_str()]].concat());
                }
            }
            (Shape::Text { chars_max, .. }, DeValue::String(text)) => {
                self.text(value, text, *chars_max, path)
            }
            (Shape::Choice(valid), DeValue::String(text)) => self.choice(value, text, valid, path),
            (Shape::Integer { min, max }, DeValue::Integer(number)) => {
                self.integer(value, number, (*min, *max), path);
            }
            (Shape::Number { min, max }, DeValue::Integer(number)) => {
                self.number(
                    value,
                    i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64),
                    (*min, *max),
                    path,
                );
            }
            (Shape::Number { min, max }, DeValue::Float(number)) => {
                self.number(value, number.as_str().parse().ok(), (*min, *max), path);
            }
            (Shape::Switch, DeValue::Boolean(_)) => {}
            (Shape::Free, DeValue::Table(_)) => self.free(value, path),
            _ => self.mismatch(value, shape, path),
        }
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        header: Option<std::ops::Range<usize>>,
        shape: &Shape,
        path: &[&str],
    ) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let inner = [path, &[name]].concat();
            match shape {
                Shape::Named(each) => self.entry(key, value, each, &inner),
                Shape::Table(fields) => match fields.get(name) {
                    Some(field) => self.entry(key, value, &field.shape, &inner),
                    None => self.unknown(key, fields.keys().map(String::as_str), path),
                },
                _ => {}
            }
        }
        if let Shape::Table(fields) = shape {
            let missing = fields.iter().filter(|(name, f)| f.needed && table.get(name.as_str()).is_none());
            for (name, field) in missing {
                let note = Note::new(
                    Code::MissingKey,
                    format!("`{}` needs the key `{name}`", dotted(path)),
                    format!("`{name}` is missing here"),
                );
                self.problems.error(
                    header.clone(),
                    note.help(format!("{} It must be {}.", field.meaning, expected(&field.shape))),
                );
            }
        }
    }

    /// A key with its value: as `value`, but a table's missing keys are shown at its header.
    fn entry(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        shape: &Shape,
        path: &[&str],
    ) {
        match (shape, value.get_ref()) {
            (Shape::Table(_) | Shape::Named(_), DeValue::Table(table)) => {
                self.table(table, Some(key.span()), shape, path);
            }
            _ => self.value(value, shape, path),
        }
    }

    fn unknown<'a>(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        valid: impl Iterator<Item = &'a str> + Clone,
        path: &[&str],
    ) {
        let name = key.get_ref().as_ref();
        let place = if path.is_empty() { "the file".to_owned() } else { format!("`{}`", dotted(path)) };
        let note = Note::new(Code::UnknownKey, format!("{place} has no key `{name}`"), "unknown key");
        self.problems.error(Some(key.span()), note.maybe_help(suggest(name, valid)));
    }

    fn mismatch(&mut self, value: &Spanned<DeValue<'_>>, shape: &Shape, path: &[&str]) {
        let message = format!("`{}` must be {}", dotted(path), expected(shape));
        let label = format!("this is {}", found(value.get_ref()));
        let mut note = Note::new(Code::WrongType, message, label);
        if matches!(shape, Shape::Text { format: Some(f), .. } if f == "dollars" || f == "budget") {
            note = note.help(
                "write amounts in quotes: decimal numbers of TOML are floats, and floats do not add up",
            );
        }
        self.problems.error(Some(value.span()), note);
    }

    fn choice(&mut self, value: &Spanned<DeValue<'_>>, text: &str, valid: &[String], path: &[&str]) {
        if valid.iter().any(|choice| choice == text) {
            return;
        }
        let message = format!("`{}` must be one of {}", dotted(path), valid.join(", "));
        let note = Note::new(Code::WrongValue, message, "not one of them");
        let near =
            nearest(text, valid.iter().map(String::as_str)).map(|name| format!("did you mean `{name}`?"));
        self.problems.error(Some(value.span()), note.maybe_help(near));
    }

    fn integer(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        number: &DeInteger<'_>,
        (min, max): (i64, i64),
        path: &[&str],
    ) {
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if read.is_some_and(|n| (min..=max).contains(&n)) {
            return;
        }
        let message = format!("`{}` must be from {min} to {max}", dotted(path));
        self.problems.error(Some(value.span()), Note::new(Code::WrongValue, message, "out of bounds"));
    }

    /// Of no number at all (`nan`) nothing is within bounds.
    fn number(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        read: Option<f64>,
        (min, max): (f64, f64),
        path: &[&str],
    ) {
        if read.is_some_and(|n| (min..=max).contains(&n)) {
            return;
        }
        let message = format!("`{}` must be from {min} to {max}", dotted(path));
        self.problems.error(Some(value.span()), Note::new(Code::WrongValue, message, "out of bounds"));
    }

    fn length(&mut self, value: &Spanned<DeValue<'_>>, count: usize, (min, max): (u64, u64), path: &[&str]) {
        if (min..=max).contains(&(count as u64)) {
            return;
        }
        let message = format!("`{}` must have {min} to {max} elements", dotted(path));
        self.problems
            .error(Some(value.span()), Note::new(Code::WrongValue, message, format!("this has {count}")));
    }

    fn text(&mut self, value: &Spanned<DeValue<'_>>, text: &str, max: Option<u64>, path: &[&str]) {
        let length = text.chars().count() as u64;
        if max.is_some_and(|max| length > max) {
            let message =
                format!("`{}` must have at most {} characters", dotted(path), max.unwrap_or_default());
            let note = Note::new(Code::WrongValue, message, format!("this has {length}"));
            self.problems.error(Some(value.span()), note);
        }
    }

    /// Free tables go to plugins as JSON, which has no infinities.
    fn free(&mut self, value: &Spanned<DeValue<'_>>, path: &[&str]) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.free(value, &[path, &[key.get_ref().as_ref()]].concat());
                }
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.free(item, path)),
            DeValue::Float(number) if !number.as_str().parse::<f64>().is_ok_and(f64::is_finite) => {
                let message = format!("`{}` must be a finite number", dotted(path));
                self.problems.error(Some(value.span()), Note::new(Code::WrongValue, message, "not finite"));
            }
            _ => {}
        }
    }
}

/// What a shape wants, as the end of "must be …".
pub(super) fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Text { format, .. } => match format.as_deref() {
            Some("secret") => "`\"env:NAME\"` or `\"file:PATH\"`".into(),
            Some("share") => "a decimal text such as `\"0.02\"`".into(),
            Some("dollars") => "a decimal text such as `\"0.15\"`".into(),
            Some("budget") => "a decimal text such as `\"5.00\"`, or `\"unlimited\"`".into(),
            Some("address") => "an address such as `\"127.0.0.1:8080\"`".into(),
            _ => "a text".into(),
        },
        Shape::Choice(valid) => format!("one of {}", valid.join(", ")),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Number { min, max } => format!("a number from {min} to {max}"),
        Shape::Switch => "`true` or `false`".into(),
        Shape::List { .. } => "a list".into(),
        Shape::Named(_) | Shape::Table(_) | Shape::Free => "a table".into(),
    }
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
