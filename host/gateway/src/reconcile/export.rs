//! Files that providers' pages export, as rows by day and model.
//!
//! The header says which of the known forms it is; one that is none is refused with the columns that the nearest form
//! would have had. A row that cannot be read refuses the whole file: a sum that leaves something out is no bill.

use chela_types::{Tokens, Usage};
use csv::{ByteRecord, ReaderBuilder};
use jiff::civil::Date;
use std::collections::BTreeMap;

use super::Billed;
use super::amount::Amount;

/// Largest file: 64 MiB.
pub const EXPORT_BYTES_MAX: usize = 64 << 20;
/// Most rows: a year of hours for a hundred models.
const ROWS_MAX: usize = 1_000_000;
/// Longest name of a model.
const NAME_BYTES_MAX: usize = 256;
const DAY_SECONDS: i64 = 86_400;

/// A form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's usage: tokens by model, the cached ones within the input.
    OpenAiUsage,
    /// OpenAI's costs: dollars by line item, or by day alone.
    OpenAiCosts,
    /// Anthropic's usage: tokens by model, each class apart.
    AnthropicUsage,
    /// Anthropic's costs: dollars by model and class of token.
    AnthropicCosts,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Which form it has.
    pub form: Form,
    /// Its sums, by day and model.
    pub billed: Vec<Billed>,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// More than it may hold.
    #[error("it is larger than {} MiB", EXPORT_BYTES_MAX >> 20)]
    TooLarge,
    /// More rows than it may have.
    #[error("it has more than {ROWS_MAX} rows")]
    TooLong,
    /// A sum that is none.
    #[error("a sum is more than can be counted")]
    TooMuch,
    /// Nothing below the header, or not even that.
    #[error("it has no rows")]
    Empty,
    /// No form that is known.
    #[error("it is no export that is known: for {} it lacks {}", form.name(), missing.join(", "))]
    Unknown {
        /// The form that is nearest.
        form: Form,
        /// Columns that it would have.
        missing: Vec<&'static str>,
    },
    /// A row that cannot be read.
    #[error("row {row}: {what}")]
    Row {
        /// Its line, from one; the header is the first.
        row: u64,
        /// What is wrong.
        what: String,
    },
}

impl Form {
    const ALL: [Self; 4] = [Self::OpenAiUsage, Self::OpenAiCosts, Self::AnthropicUsage, Self::AnthropicCosts];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiUsage => "OpenAI's usage",
            Self::OpenAiCosts => "OpenAI's costs",
            Self::AnthropicUsage => "Anthropic's usage",
            Self::AnthropicCosts => "Anthropic's costs",
        }
    }

    /// The columns that are read; others may be there.
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::OpenAiUsage => &[
                "start_time",
                "model",
                "input_tokens",
                "input_cached_tokens",
                "output_tokens",
                "num_model_requests",
            ],
            Self::OpenAiCosts => &["start_time", "line_item", "amount_value", "amount_currency"],
            Self::AnthropicUsage => &[
                "usage_date_utc",
                "model_version",
                "usage_input_tokens_no_cache",
                "usage_input_tokens_cache_read",
                "usage_input_tokens_cache_write_5m",
                "usage_input_tokens_cache_write_1h",
                "usage_output_tokens",
            ],
            Self::AnthropicCosts => &["usage_date_utc", "model", "token_type", "cost_usd"],
        }
    }

    fn of(header: &ByteRecord) -> Result<Self, ExportError> {
        let lacks = |form: &Self| -> Vec<&'static str> {
            let there = |column: &&str| header.iter().any(|name| name == column.as_bytes());
            form.columns().iter().copied().filter(|column| !there(column)).collect()
        };
        let form = Self::ALL.into_iter().min_by_key(|form| lacks(form).len()).unwrap_or(Self::OpenAiUsage);
        let missing = lacks(&form);
        if missing.is_empty() { Ok(form) } else { Err(ExportError::Unknown { form, missing }) }
    }
}

impl Export {
    /// Reads and sums a file.
    ///
    /// # Errors
    /// [`ExportError`] with the row or the columns that are at fault.
    pub fn read(bytes: &[u8]) -> Result<Self, ExportError> {
        if bytes.len() > EXPORT_BYTES_MAX {
            return Err(ExportError::TooLarge);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = reader.byte_headers().map_err(|error| unreadable(&error))?.clone();
        if header.is_empty() {
            return Err(ExportError::Empty);
        }
        let form = Form::of(&header)?;
        let mut sums = Sums::new();
        let mut rows = 0;
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|error| unreadable(&error))? {
            rows += 1;
            if rows > ROWS_MAX {
                return Err(ExportError::TooLong);
            }
            let at = record.position().map_or(0, csv::Position::line);
            let row = Row { header: &header, record: &record };
            let wrong = |what| ExportError::Row { row: at, what };
            if let Some((key, line)) = row.read(form).map_err(wrong)? {
                sums.entry(key).or_default().add(line).ok_or(ExportError::TooMuch)?;
            }
        }
        let billed = sums.into_iter().map(|(key, sum)| sum.billed(key)).collect::<Option<Vec<_>>>();
        let billed = billed.ok_or(ExportError::TooMuch)?;
        if billed.is_empty() { Err(ExportError::Empty) } else { Ok(Self { form, billed }) }
    }
}

fn unreadable(error: &csv::Error) -> ExportError {
    let row = error.position().map_or(0, csv::Position::line);
    ExportError::Row { row, what: "it is not a row of as many columns as the header has".to_owned() }
}

/// By day and model.
type Sums = BTreeMap<(Date, Option<String>), Sum>;

/// What rows of one day and model come to.
#[derive(Debug, Default)]
struct Sum {
    usage: Option<Usage>,
    cost: Option<Amount>,
    requests: Option<u64>,
}

impl Sum {
    fn add(&mut self, line: Self) -> Option<()> {
        if let Some(usage) = line.usage {
            self.usage = Some(self.usage.unwrap_or_default().plus(&usage));
        }
        if let Some(cost) = line.cost {
            self.cost = Some(self.cost.unwrap_or_default().plus(cost)?);
        }
        if let Some(requests) = line.requests {
            self.requests = Some(self.requests.unwrap_or_default().checked_add(requests)?);
        }
        Some(())
    }

    fn billed(self, (day, model): (Date, Option<String>)) -> Option<Billed> {
        let cost = match self.cost {
            Some(amount) => Some(amount.money()?),
            None => None,
        };
        Some(Billed { day, model, usage: self.usage, cost, requests: self.requests })
    }
}

/// What a row is about, and what it adds.
type Line = ((Date, Option<String>), Sum);

struct Row<'r> {
    header: &'r ByteRecord,
    record: &'r ByteRecord,
}

impl<'r> Row<'r> {
    /// Nothing, if it says nothing: a day without calls has a row, too.
    fn read(&self, form: Form) -> Result<Option<Line>, String> {
        match form {
            Form::OpenAiUsage => self.openai_usage(),
            Form::OpenAiCosts => self.openai_costs(),
            Form::AnthropicUsage => self.anthropic_usage(),
            Form::AnthropicCosts => self.anthropic_costs(),
        }
    }

    fn openai_usage(&self) -> Result<Option<Line>, String> {
        let usage = Usage {
            input: self.tokens("input_tokens")?,
            cached: self.tokens("input_cached_tokens")?,
            output: self.tokens("output_tokens")?,
            ..Usage::default()
        };
        self.used("model", (self.second("start_time")?, usage, Some(self.number("num_model_requests")?)))
    }

    fn anthropic_usage(&self) -> Result<Option<Line>, String> {
        let [fresh, cached, short, long] = [
            "usage_input_tokens_no_cache",
            "usage_input_tokens_cache_read",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
        ]
        .map(|column| self.tokens(column));
        let (cached, written) = (cached?, short?.plus(long?));
        let output = self.tokens("usage_output_tokens")?;
        let usage = Usage { input: fresh?.plus(cached).plus(written), cached, written, output };
        self.used("model_version", (self.date("usage_date_utc")?, usage, None))
    }

    fn used(
        &self,
        model: &'static str,
        (day, usage, requests): (Date, Usage, Option<u64>),
    ) -> Result<Option<Line>, String> {
        let model = self.name(model)?;
        if !usage.is_consistent() {
            return Err("more cached tokens than input".to_owned());
        }
        if model.is_none() && usage == Usage::default() {
            return Ok(None);
        }
        let model = model.ok_or("tokens of no model: export it with a row for each model")?;
        Ok(Some(((day, Some(model.to_owned())), Sum { usage: Some(usage), requests, cost: None })))
    }

    fn openai_costs(&self) -> Result<Option<Line>, String> {
        let day = self.second("start_time")?;
        let Some(cost) = self.amount("amount_value")? else { return Ok(None) };
        let currency = self.text("amount_currency")?;
        if !currency.is_empty() && !currency.eq_ignore_ascii_case("usd") {
            return Err(format!("`amount_currency` is `{currency}`, and not usd"));
        }
        // Such as `gpt-4o-mini-2024-07-18, input`.
        let item =
            self.name("line_item")?.map(|item| item.split(',').next().unwrap_or(item).trim().to_owned());
        Ok(Some(((day, item), Sum { cost: Some(cost), ..Sum::default() })))
    }

    fn anthropic_costs(&self) -> Result<Option<Line>, String> {
        let day = self.date("usage_date_utc")?;
        let Some(cost) = self.amount("cost_usd")? else { return Ok(None) };
        // A name for people: `Claude Haiku 4.5` is `claude-haiku-4-5`.
        let model = self.name("model")?.map(|name| name.to_ascii_lowercase().replace([' ', '.'], "-"));
        let model = model.or(Some("no model".to_owned()));
        Ok(Some(((day, model), Sum { cost: Some(cost), ..Sum::default() })))
    }

    fn text(&self, column: &'static str) -> Result<&'r str, String> {
        let index = self.header.iter().position(|name| name == column.as_bytes());
        let bytes = index.and_then(|index| self.record.get(index)).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| format!("`{column}` is not UTF-8"))
    }

    /// Absent if it is empty.
    fn name(&self, column: &'static str) -> Result<Option<&'r str>, String> {
        let text = self.text(column)?;
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("`{column}` is not a name"));
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Zero if it is empty.
    fn number(&self, column: &'static str) -> Result<u64, String> {
        let text = self.text(column)?;
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if text.is_empty() { Some(0) } else { text.parse().ok().filter(|_| is_number) };
        number.ok_or_else(|| format!("`{column}` is not a count"))
    }

    fn tokens(&self, column: &'static str) -> Result<Tokens, String> {
        self.number(column).map(Tokens)
    }

    /// Absent if it is empty.
    fn amount(&self, column: &'static str) -> Result<Option<Amount>, String> {
        match self.text(column)? {
            "" => Ok(None),
            text => Amount::parse(text).map(Some).ok_or_else(|| format!("`{column}` is not an amount")),
        }
    }

    /// The UTC day of a Unix time in seconds.
    fn second(&self, column: &'static str) -> Result<Date, String> {
        let seconds = self.text(column)?.parse::<i64>().ok();
        let start = seconds.and_then(|seconds| seconds.checked_sub(seconds.rem_euclid(DAY_SECONDS)));
        let moment = start.and_then(|start| jiff::Timestamp::from_second(start).ok());
        let day = moment.map(|moment| moment.to_zoned(jiff::tz::TimeZone::UTC).date());
        day.ok_or_else(|| format!("`{column}` is not a time in seconds"))
    }

    /// The day of `2026-11-30`, with or without a time behind it.
    fn date(&self, column: &'static str) -> Result<Date, String> {
        let text = self.text(column)?;
        let (day, time) = text.split_at_checked(10).unwrap_or((text, ""));
        let date = day.parse().ok().filter(|_| time.is_empty() || time.starts_with([' ', 'T']));
        date.ok_or_else(|| format!("`{column}` is not a date"))
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
