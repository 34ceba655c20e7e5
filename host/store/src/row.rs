//! From columns to words: every value that is read back is checked again, and a wrong one is an error that
//! names what it should have been.

use chela_types::{Digest, Millis, Money};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteRow};

use crate::{Error, Result};

/// A column by name.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(|_| Error::Unreadable(column))
}

/// A count.
pub(crate) fn count(row: &SqliteRow, column: &'static str) -> Result<u32> {
    let kept: i64 = get(row, column)?;
    u32::try_from(kept).map_err(|_| Error::Unreadable(column))
}

/// A time that may be absent.
pub(crate) fn time(row: &SqliteRow, column: &'static str) -> Result<Option<Millis>> {
    Ok(get::<Option<i64>>(row, column)?.map(Millis))
}

/// An amount.
pub(crate) fn money(row: &SqliteRow, column: &'static str) -> Result<Money> {
    Ok(Money::from_nanos(get(row, column)?))
}

/// The 16 bytes of an id.
pub(crate) fn id(row: &SqliteRow, column: &'static str) -> Result<[u8; 16]> {
    let kept: &[u8] = get(row, column)?;
    kept.try_into().map_err(|_| Error::Unreadable(column))
}

/// A digest.
pub(crate) fn digest(row: &SqliteRow, column: &'static str) -> Result<Digest> {
    let kept: &[u8] = get(row, column)?;
    kept.try_into().map(Digest::from_bytes).map_err(|_| Error::Unreadable(column))
}

/// A digest that may be absent.
pub(crate) fn maybe_digest(row: &SqliteRow, column: &'static str) -> Result<Option<Digest>> {
    let kept: Option<&[u8]> = get(row, column)?;
    kept.map(|bytes| bytes.try_into().map(Digest::from_bytes).map_err(|_| Error::Unreadable(column)))
        .transpose()
}

/// A name such as an agent's.
pub(crate) fn name<T: TryFrom<String>>(row: &SqliteRow, column: &'static str) -> Result<T> {
    T::try_from(get::<String>(row, column)?).map_err(|_| Error::Unreadable(column))
}

/// A name that may be absent.
pub(crate) fn maybe_name<T: TryFrom<String>>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    let kept: Option<String> = get(row, column)?;
    kept.map(|text| T::try_from(text).map_err(|_| Error::Unreadable(column))).transpose()
}

/// A value kept as JSON that may be absent.
pub(crate) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    let kept: Option<&[u8]> = row.try_get_unchecked(column).map_err(|_| Error::Unreadable(column))?;
    kept.map(|bytes| serde_json::from_slice(bytes).map_err(|_| Error::Unreadable(column))).transpose()
}

/// A value as it is kept.
pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::Unreadable(what))
}
