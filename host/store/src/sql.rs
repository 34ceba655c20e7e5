//! Queries, and the two kinds of connection that run them.
//!
//! The writer runs most statements in less time than a trip to another thread and back takes, so its connection is
//! rusqlite's, which runs them where it is asked. Readers may wait for the disk, so theirs are sqlx's, each with a
//! thread of its own; and another database comes behind those. The statements, and the code around them, are the
//! same for both: values have rusqlite's types, and what is awaited is ready at once on the writer's connection.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::OpenFlags;
use rusqlite::types::{FromSql, FromSqlError, ToSqlOutput, Value, ValueRef};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Column as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};

/// Why the database refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The writer's connection says so.
    #[error(transparent)]
    Writing(#[from] rusqlite::Error),
    /// A reader's connection says so.
    #[error(transparent)]
    Reading(#[from] sqlx::Error),
    /// A value is not of the kind that was asked for.
    #[error(transparent)]
    Kind(#[from] FromSqlError),
    /// The writer has no thread to run on.
    #[error("no thread for the writer")]
    Thread(#[source] std::io::Error),
    /// A query that has a row at any time brought none.
    #[error("no row where there is one at any time")]
    NoRow,
}

impl DatabaseError {
    /// SQLite's `CORRUPT` and `NOTADB`, whatever their extended code.
    pub(crate) fn is_damage(&self) -> bool {
        let code = match self {
            Self::Writing(cause) => cause.sqlite_error().map(|error| error.extended_code),
            Self::Reading(cause) => {
                cause.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse().ok())
            }
            _ => None,
        };
        code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
    }
}

type Result<T, E = DatabaseError> = std::result::Result<T, E>;

/// Whatever runs queries.
#[derive(Debug)]
pub(crate) enum Connection {
    /// On the thread that asks.
    Here(Here),
    /// On a thread of its own.
    There(SqliteConnection),
}

impl Connection {
    /// Closes it.
    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Here(here) => here.connection.close().map_err(|(_, cause)| cause.into()),
            Self::There(there) => Ok(there.close().await?),
        }
    }
}

/// One or more statements, separated by semicolons; no statement has one within. Arguments are `$1`, `$2` …, the same
/// for all of them.
pub(crate) fn query<'a>(sql: &'static str) -> Query<'a> {
    Query { sql, arguments: Vec::new() }
}

/// Statements and their arguments.
pub(crate) struct Query<'a> {
    sql: &'static str,
    arguments: Vec<ToSqlOutput<'a>>,
}

impl<'a> Query<'a> {
    /// The next argument.
    pub(crate) fn bind(mut self, argument: impl Argument<'a>) -> Self {
        self.arguments.push(argument.given());
        self
    }

    /// How many rows were changed by all statements together.
    pub(crate) async fn execute(self, connection: &mut Connection) -> Result<u64> {
        match connection {
            Connection::Here(here) => here.run(&self, |_| ()),
            Connection::There(there) => Ok(self.apart()?.execute(there).await?.rows_affected()),
        }
    }

    /// The rows of all statements, in order.
    pub(crate) async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<Row>> {
        match connection {
            Connection::Here(here) => {
                let mut rows = Vec::new();
                here.run(&self, |row| rows.push(row))?;
                Ok(rows)
            }
            Connection::There(there) => {
                Ok(self.apart()?.fetch_all(there).await?.into_iter().map(Row::There).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub(crate) async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<Row>> {
        Ok(self.fetch_all(connection).await?.into_iter().next())
    }

    /// The first row.
    pub(crate) async fn fetch_one(self, connection: &mut Connection) -> Result<Row> {
        self.fetch_optional(connection).await?.ok_or(DatabaseError::NoRow)
    }

    /// The first column of the first row.
    pub(crate) async fn fetch_value<T: FromSql>(self, connection: &mut Connection) -> Result<T> {
        self.fetch_one(connection).await?.first()
    }

    /// The same, if there is a row.
    pub(crate) async fn fetch_optional_value<T: FromSql>(
        self,
        connection: &mut Connection,
    ) -> Result<Option<T>> {
        self.fetch_optional(connection).await?.map(|row| row.first()).transpose()
    }

    /// The first column of each row.
    pub(crate) async fn fetch_values<T: FromSql>(self, connection: &mut Connection) -> Result<Vec<T>> {
        self.fetch_all(connection).await?.iter().map(Row::first).collect()
    }

    /// The same for sqlx.
    fn apart(&self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>> {
        let mut query = sqlx::query(self.sql);
        for argument in &self.arguments {
            query = match value(argument) {
                ValueRef::Null => query.bind(None::<i64>),
                ValueRef::Integer(number) => query.bind(number),
                ValueRef::Real(number) => query.bind(number),
                text @ ValueRef::Text(_) => query.bind(text.as_str()?.to_owned()),
                ValueRef::Blob(bytes) => query.bind(bytes.to_vec()),
            };
        }
        Ok(query)
    }
}

fn value<'v>(argument: &'v ToSqlOutput<'_>) -> ValueRef<'v> {
    match argument {
        ToSqlOutput::Borrowed(value) => *value,
        ToSqlOutput::Owned(value) => value.into(),
        _ => ValueRef::Null,
    }
}

/// What a query can be given.
pub(crate) trait Argument<'a> {
    /// As SQLite takes it.
    fn given(self) -> ToSqlOutput<'a>;
}

macro_rules! arguments {
    ($($owned:ty),*; $($borrowed:ty),*) => {
        $(impl<'a> Argument<'a> for $owned {
            fn given(self) -> ToSqlOutput<'a> {
                ToSqlOutput::Owned(self.into())
            }
        })*
        $(impl<'a> Argument<'a> for &'a $borrowed {
            fn given(self) -> ToSqlOutput<'a> {
                ToSqlOutput::Borrowed(self.into())
            }
        })*
    };
}

arguments!(bool, u8, i32, u32, i64, String, Vec<u8>; str, [u8]);

impl<'a> Argument<'a> for &'a String {
    fn given(self) -> ToSqlOutput<'a> {
        self.as_str().given()
    }
}

impl<'a> Argument<'a> for &'a Vec<u8> {
    fn given(self) -> ToSqlOutput<'a> {
        self.as_slice().given()
    }
}

impl<'a> Argument<'a> for &'a Option<String> {
    fn given(self) -> ToSqlOutput<'a> {
        self.as_deref().given()
    }
}

impl<'a, T: Argument<'a>> Argument<'a> for Option<T> {
    fn given(self) -> ToSqlOutput<'a> {
        self.map_or(ToSqlOutput::Owned(Value::Null), Argument::given)
    }
}

/// A row that was read.
pub(crate) enum Row {
    /// By the writer.
    Here {
        /// The names of the values.
        columns: Arc<[String]>,
        /// One for each column.
        values: Vec<Value>,
    },
    /// By a reader.
    There(SqliteRow),
}

impl Row {
    /// The value in a column; `None` if there is no such column.
    pub(crate) fn value(&self, column: &str) -> Option<ValueRef<'_>> {
        let place = match self {
            Self::Here { columns, .. } => columns.iter().position(|name| name == column)?,
            Self::There(row) => row.try_column(column).ok()?.ordinal(),
        };
        self.at(place)
    }

    fn first<T: FromSql>(&self) -> Result<T> {
        Ok(T::column_result(self.at(0).ok_or(DatabaseError::NoRow)?)?)
    }

    fn at(&self, place: usize) -> Option<ValueRef<'_>> {
        match self {
            Self::Here { values, .. } => values.get(place).map(Into::into),
            Self::There(row) => {
                let kept = row.try_get_raw(place).ok()?;
                Some(match kept.type_info().name() {
                    _ if kept.is_null() => ValueRef::Null,
                    "INTEGER" => ValueRef::Integer(row.try_get_unchecked(place).ok()?),
                    "REAL" => ValueRef::Real(row.try_get_unchecked(place).ok()?),
                    "TEXT" => ValueRef::Text(row.try_get_unchecked(place).ok()?),
                    _ => ValueRef::Blob(row.try_get_unchecked(place).ok()?),
                })
            }
        }
    }
}

/// A connection that runs statements on the thread that asks.
#[derive(Debug)]
pub(crate) struct Here {
    connection: rusqlite::Connection,
    /// What each text of statements consists of.
    texts: HashMap<&'static str, Arc<[Statement]>>,
}

/// A statement of a text, and what SQLite says of it.
#[derive(Debug)]
struct Statement {
    sql: &'static str,
    /// Which of the text's arguments it wants, in its own order.
    arguments: Vec<usize>,
    columns: Arc<[String]>,
    writes: bool,
}

/// Compiled statements that are kept: more than there are.
const STATEMENTS_MAX: usize = 400;

impl Here {
    /// Opens a database that exists.
    pub(crate) fn open(file: &Path, pragmas: &[(&'static str, &'static str)]) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(file, flags)?;
        for (name, value) in pragmas {
            connection.pragma_update(None, name, value)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self { connection, texts: HashMap::new() })
    }

    /// Runs all statements to their ends; how many rows they changed.
    fn run(&mut self, query: &Query<'_>, mut each: impl FnMut(Row)) -> Result<u64> {
        let mut changed = 0;
        for statement in &*self.statements(query.sql)? {
            let mut prepared = self.connection.prepare_cached(statement.sql)?;
            for (place, wanted) in (1..).zip(&statement.arguments) {
                let missing = || rusqlite::Error::InvalidParameterCount(query.arguments.len(), wanted + 1);
                prepared.raw_bind_parameter(place, query.arguments.get(*wanted).ok_or_else(missing)?)?;
            }
            let mut rows = prepared.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..statement.columns.len()).map(|column| row.get(column));
                let columns = Arc::clone(&statement.columns);
                each(Row::Here { columns, values: values.collect::<Result<_, _>>()? });
            }
            if statement.writes {
                changed += self.connection.changes();
            }
        }
        Ok(changed)
    }

    fn statements(&mut self, text: &'static str) -> Result<Arc<[Statement]>> {
        if let Some(known) = self.texts.get(text) {
            return Ok(Arc::clone(known));
        }
        let parts = text.split(';').map(str::trim).filter(|sql| !sql.is_empty());
        let statements: Arc<[_]> = parts.map(|sql| self.statement(sql)).collect::<Result<_>>()?;
        self.texts.insert(text, Arc::clone(&statements));
        Ok(statements)
    }

    fn statement(&self, sql: &'static str) -> Result<Statement> {
        let prepared = self.connection.prepare_cached(sql)?;
        let argument = |place| {
            let name = prepared.parameter_name(place).unwrap_or_default();
            let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
            let argument = number.and_then(|number| number.checked_sub(1));
            argument.ok_or_else(|| rusqlite::Error::InvalidParameterName(name.to_owned()))
        };
        Ok(Statement {
            sql,
            arguments: (1..=prepared.parameter_count()).map(argument).collect::<Result<_, _>>()?,
            columns: prepared.column_names().into_iter().map(str::to_owned).collect(),
            writes: !prepared.readonly(),
        })
    }
}
