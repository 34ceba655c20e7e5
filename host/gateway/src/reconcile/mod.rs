//! What a provider billed against what the ledger says.
//!
//! A file that the provider's own pages export is read (`export`), summed by UTC day and model, and held against the
//! ledger's calls, summed in the same way (`books`). Where they are further apart than a bound, that is told (`drift`).
//! Nothing here reads a store or changes an amount.

mod amount;
mod books;
mod drift;
mod export;

use chela_types::{Money, Usage};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use books::{Booked, Books};
pub use drift::{Bound, Drift, Off, Report, What, compare};
pub use export::{EXPORT_BYTES_MAX, Export, ExportError, Form};

/// What a provider says of one model and one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// In UTC.
    pub day: Date,
    /// As the provider calls it; absent if the file does not tell models apart.
    pub model: Option<String>,
    /// Tokens, if the file has them.
    pub usage: Option<Usage>,
    /// Dollars, if the file has them.
    pub cost: Option<Money>,
    /// Calls, if the file has them.
    pub requests: Option<u64>,
}
