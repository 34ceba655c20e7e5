//! From columns to words: every value that is read back is checked again, and a wrong one is an error that
//! names what it should have been.

use chela_types::{Digest, Millis, Money};
use rusqlite::types::FromSql;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sql::Row;
use crate::{Error, Result};

/// A column by name.
pub(crate) fn get<T: FromSql>(row: &Row, column: &'static str) -> Result<T> {
    row.value(column).and_then(|kept| T::column_result(kept).ok()).ok_or(Error::Unreadable(column))
}

/// A text.
pub(crate) fn text<'r>(row: &'r Row, column: &'static str) -> Result<&'r str> {
    maybe_text(row, column)?.ok_or(Error::Unreadable(column))
}

/// A text that may be absent.
pub(crate) fn maybe_text<'r>(row: &'r Row, column: &'static str) -> Result<Option<&'r str>> {
    row.value(column).and_then(|kept| kept.as_str_or_null().ok()).ok_or(Error::Unreadable(column))
}

/// A count.
pub(crate) fn count(row: &Row, column: &'static str) -> Result<u32> {
    let kept: i64 = get(row, column)?;
    u32::try_from(kept).map_err(|_| Error::Unreadable(column))
}

/// A time that may be absent.
pub(crate) fn time(row: &Row, column: &'static str) -> Result<Option<Millis>> {
    Ok(get::<Option<i64>>(row, column)?.map(Millis))
}

/// An amount.
pub(crate) fn money(row: &Row, column: &'static str) -> Result<Money> {
    Ok(Money::from_nanos(get(row, column)?))
}

/// The 16 bytes of an id.
pub(crate) fn id(row: &Row, column: &'static str) -> Result<[u8; 16]> {
    get(row, column)
}

/// A digest.
pub(crate) fn digest(row: &Row, column: &'static str) -> Result<Digest> {
    get(row, column).map(Digest::from_bytes)
}

/// A digest that may be absent.
pub(crate) fn maybe_digest(row: &Row, column: &'static str) -> Result<Option<Digest>> {
    Ok(get::<Option<_>>(row, column)?.map(Digest::from_bytes))
}

/// A name such as an agent's.
pub(crate) fn name<T: TryFrom<String>>(row: &Row, column: &'static str) -> Result<T> {
    T::try_from(get::<String>(row, column)?).map_err(|_| Error::Unreadable(column))
}

/// A name that may be absent.
pub(crate) fn maybe_name<T: TryFrom<String>>(row: &Row, column: &'static str) -> Result<Option<T>> {
    let kept: Option<String> = get(row, column)?;
    kept.map(|text| T::try_from(text).map_err(|_| Error::Unreadable(column))).transpose()
}

/// A value kept as JSON that may be absent.
pub(crate) fn json<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<Option<T>> {
    let unreadable = Error::Unreadable(column);
    let kept = row.value(column).and_then(|kept| kept.as_bytes_or_null().ok()).ok_or(unreadable.clone())?;
    kept.map(|bytes| serde_json::from_slice(bytes).map_err(|_| unreadable)).transpose()
}

/// A value as it is kept.
pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::Unreadable(what))
}
