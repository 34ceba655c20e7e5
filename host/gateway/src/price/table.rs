//! The table of known prices, and files of the same shape that are laid over it.
//!
//! A file that cannot be read is an error and never a table with less in it: prices that nobody noticed to be old would
//! be worse than none.

use chela_types::{Digest, LongCard, Money, Price, Rates, Tokens};
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Card, Tariff};

/// What comes with the program.
const BUILTIN: &str = include_str!("../../prices.toml");

/// Whose own address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// `api.anthropic.com`.
    Anthropic,
    /// `api.openai.com`.
    Openai,
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it costs, and by which table.
    pub tariff: Tariff,
    /// When the price was read.
    pub as_of: Date,
    /// Where, as a web address.
    pub source: String,
    /// From when on the vendor may take it away.
    pub deprecated: Option<Date>,
    /// The most tokens that it takes, if known.
    pub context: Option<Tokens>,
    /// The most tokens that it gives, if known.
    pub max_output: Option<Tokens>,
    /// It makes vectors of texts and answers nothing.
    pub is_embedding: bool,
}

/// Known prices by vendor and exact name. The default knows nothing.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    models: BTreeMap<Vendor, BTreeMap<String, Known>>,
    version: Arc<str>,
}

/// Why a table is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct TableError {
    /// The line, from one, if it is one line's fault.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
}

impl PriceTable {
    /// What comes with the program.
    ///
    /// # Errors
    /// [`TableError`] if it was built with a table that is none.
    pub fn builtin() -> Result<Self, TableError> {
        Self::default().with("builtin", BUILTIN)
    }

    /// With a file of the same shape over it, row by row and field by field.
    ///
    /// # Errors
    /// [`TableError`] with what is wrong in the file.
    pub fn overlaid(&self, text: &str) -> Result<Self, TableError> {
        self.clone().with("file", text)
    }

    fn with(mut self, origin: &str, text: &str) -> Result<Self, TableError> {
        let written: Written = toml::from_str(text).map_err(|error| TableError {
            line: error.span().map(|span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count()),
            what: error.message().to_owned(),
        })?;
        let Some(date) = written.0.values().flat_map(BTreeMap::values).map(|row| row.as_of).max() else {
            return Err(TableError { line: None, what: "it has no prices".to_owned() });
        };
        // What is laid over something is another price if that was another.
        let said = serde_json::to_vec(&written)
            .map_err(|error| TableError { line: None, what: error.to_string() })?;
        let digest = Digest::of("chela price table", &[self.version.as_bytes(), &said]).short();
        self.version = format!("{origin} {date} {digest}").into();
        for (vendor, rows) in written.0 {
            let models = self.models.entry(vendor).or_default();
            for (name, row) in rows {
                let known = row.over(models.get(&name), &self.version).map_err(|what| {
                    let vendor = vendor.as_str();
                    TableError { line: None, what: format!("[{vendor}.\"{name}\"] {what}") }
                })?;
                models.insert(name, known);
            }
        }
        Ok(self)
    }

    /// Whence it is, the date of its newest row, and a digest of all that it says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What is known of a model by its exact name.
    pub fn known(&self, vendor: Vendor, model: &str) -> Option<&Known> {
        self.models.get(&vendor)?.get(model)
    }

    /// The models of a vendor that answer.
    pub fn answering(&self, vendor: Vendor) -> impl Iterator<Item = &str> + Clone {
        let models = self.models.get(&vendor).into_iter().flatten();
        models.filter(|(_, known)| !known.is_embedding).map(|(name, _)| name.as_str())
    }
}

impl Vendor {
    fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
        }
    }
}

/// A file as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written(BTreeMap<Vendor, BTreeMap<String, Row>>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    as_of: Date,
    source: String,
    deprecated: Option<Date>,
    #[serde(default)]
    embedding: bool,
    input: Option<Dollars>,
    cached: Option<Dollars>,
    written: Option<Dollars>,
    output: Option<Dollars>,
    long: Option<Vec<LongRow>>,
    context: Option<u64>,
    max_output: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongRow {
    above: u64,
    input: Dollars,
    cached: Option<Dollars>,
    written: Option<Dollars>,
    output: Dollars,
}

impl Row {
    fn over(self, below: Option<&Known>, version: &Arc<str>) -> Result<Known, String> {
        if !self.source.starts_with("https://") {
            return Err("`source` is not a web address".to_owned());
        }
        let is_embedding = self.embedding || below.is_some_and(|known| known.is_embedding);
        let output = match (self.output, is_embedding) {
            (Some(_), true) => return Err("`output` is nothing that embeddings have".to_owned()),
            (output, false) => output.map(|amount| amount.0),
            (None, true) => Some(Money::ZERO),
        };
        let card = Card {
            input: self.input.map(|amount| amount.0),
            cached: self.cached.map(|amount| amount.0),
            written: self.written.map(|amount| amount.0),
            output,
            long: self.long.map(|long| long.iter().map(LongRow::card).collect()),
        };
        let price: Price =
            card.over(below.map(|known| &known.tariff.price)).map_err(|incomplete| incomplete.to_string())?;
        let limit =
            |own: Option<u64>, known: fn(&Known) -> Option<Tokens>| own.map(Tokens).or(below.and_then(known));
        Ok(Known {
            tariff: Tariff { price, version: version.clone() },
            as_of: self.as_of,
            source: self.source,
            deprecated: self.deprecated.or(below.and_then(|known| known.deprecated)),
            context: limit(self.context, |known| known.context),
            max_output: limit(self.max_output, |known| known.max_output),
            is_embedding,
        })
    }
}

impl LongRow {
    fn card(&self) -> LongCard {
        let or_input = |amount: &Option<Dollars>| amount.as_ref().unwrap_or(&self.input).0;
        let rates = Rates {
            input: self.input.0,
            cached: or_input(&self.cached),
            written: or_input(&self.written),
            output: self.output.0,
        };
        LongCard { above: Tokens(self.above), rates }
    }
}

/// A decimal text.
#[derive(Debug)]
struct Dollars(Money);

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let amount = Money::parse_dollars(&text);
        amount
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an amount of dollars")))
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
