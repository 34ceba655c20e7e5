//! The two kinds of connection take the same statements and bring the same rows.

use super::*;
use crate::DatabaseError;
use crate::sql::{self, Argument, Connection};
use crate::writer::{Operation, Transaction};
use rusqlite::types::{FromSql, Value};
use std::thread;

/// One of each kind, to the same database.
async fn both(b: &Bench) -> [Connection; 2] {
    let here = crate::connect::reopen_writer(&b.folder.path().join("chela.db")).unwrap();
    [here, Connection::There(b.aside().await)]
}

/// A value as it comes back, and what SQLite took it for.
async fn told<'a>(connection: &mut Connection, given: impl Argument<'a>) -> (Value, String) {
    let query = sql::query("SELECT $1 AS given, typeof($1) AS kind").bind(given);
    let row = query.fetch_one(connection).await.unwrap();
    (crate::row::get(&row, "given").unwrap(), crate::row::get(&row, "kind").unwrap())
}

#[tokio::test]
async fn values_come_back_as_they_were_given() {
    let b = bench().await;
    for mut connection in both(&b).await {
        let c = &mut connection;
        let integer = |n| (Value::Integer(n), "integer".to_owned());
        let text = |text: &str| (Value::Text(text.to_owned()), "text".to_owned());
        let blob = |bytes: &[u8]| (Value::Blob(bytes.to_vec()), "blob".to_owned());
        let null = (Value::Null, "null".to_owned());
        assert_eq!(told(c, i64::MIN).await, integer(i64::MIN));
        assert_eq!(told(c, u32::MAX).await, integer(u32::MAX.into()));
        assert_eq!(told(c, -1).await, integer(-1));
        assert_eq!(told(c, 255_u8).await, integer(255));
        assert_eq!(told(c, true).await, integer(1));
        assert_eq!(told(c, "").await, text(""));
        assert_eq!(told(c, "a\0é☃").await, text("a\0é☃"));
        assert_eq!(told(c, &"a".to_owned()).await, text("a"));
        assert_eq!(told(c, "a".to_owned()).await, text("a"));
        assert_eq!(told(c, [0, 255].as_slice()).await, blob(&[0, 255]));
        assert_eq!(told(c, vec![1]).await, blob(&[1]));
        assert_eq!(told(c, &vec![1]).await, blob(&[1]));
        assert_eq!(told(c, [].as_slice()).await, blob(&[]));
        assert_eq!(told(c, Some("a")).await, text("a"));
        assert_eq!(told(c, &Some("a".to_owned())).await, text("a"));
        assert_eq!(told(c, None::<&str>).await, null);
        let real: f64 = sql::query("SELECT 0.5").fetch_value(c).await.unwrap();
        assert!((real - 0.5).abs() < f64::EPSILON);
    }
}

#[tokio::test]
async fn the_statements_of_a_query_share_their_arguments() {
    let b = bench().await;
    for (mut connection, key) in both(&b).await.into_iter().zip(["here", "there"]) {
        let c = &mut connection;
        let changed = sql::query(
            "INSERT INTO budgets (tenant, scope, window_start, settled, reserved) VALUES ($2, $1, 1, 0, 0), ($2, $1, 2, 0, 0);
             SELECT 1;
             UPDATE budgets SET settled = $3 WHERE scope = $1 AND window_start = 2; ",
        );
        let changed = changed.bind(key).bind("t").bind(7).execute(c).await.unwrap();
        assert!(changed >= 3, "{changed}");
        let rows = sql::query(
            "SELECT settled AS first FROM budgets WHERE tenant = $1 AND scope = $2 ORDER BY window_start;
             UPDATE budgets SET settled = settled + $3 WHERE scope = $2 AND changes() >= 0 RETURNING settled AS second",
        );
        let rows = rows.bind("t").bind(key).bind(1).fetch_all(c).await.unwrap();
        let read = |row, column| crate::row::get::<i64>(row, column).ok();
        let read: Vec<_> = rows.iter().map(|row| (read(row, "first"), read(row, "second"))).collect();
        assert_eq!(read, [(Some(0), None), (Some(7), None), (None, Some(1)), (None, Some(8))]);
        let again = sql::query("DELETE FROM budgets WHERE scope = $1").bind(key).execute(c).await.unwrap();
        assert_eq!(again, 2);
    }
}

/// What only reads does not count again what was changed before.
#[tokio::test]
async fn the_writer_counts_what_each_statement_changed() {
    let b = bench().await;
    let [mut here, _] = both(&b).await;
    let text = "UPDATE health SET at = 1; SELECT at FROM health; UPDATE health SET at = 2 WHERE changes() = 1; SELECT 1";
    assert_eq!(sql::query(text).execute(&mut here).await.unwrap(), 2);
    assert_eq!(sql::query("SELECT 1").execute(&mut here).await.unwrap(), 0);
    let nothing = "UPDATE health SET at = 1 WHERE id = 9";
    assert_eq!(sql::query(nothing).execute(&mut here).await.unwrap(), 0);
}

#[tokio::test]
async fn one_value_or_none_or_all() {
    let b = bench().await;
    for mut connection in both(&b).await {
        let c = &mut connection;
        let three = || sql::query("SELECT value FROM json_each('[3, 2, 1]')");
        let none = || sql::query("SELECT id FROM health WHERE id = 9");
        assert_eq!(three().fetch_value::<i64>(c).await.unwrap(), 3);
        assert_eq!(three().fetch_optional_value::<i64>(c).await.unwrap(), Some(3));
        assert_eq!(three().fetch_values::<i64>(c).await.unwrap(), [3, 2, 1]);
        assert_eq!(none().fetch_optional_value::<i64>(c).await.unwrap(), None);
        assert_eq!(none().fetch_values::<i64>(c).await.unwrap(), [] as [i64; 0]);
        assert!(matches!(none().fetch_value::<i64>(c).await, Err(DatabaseError::NoRow)));
        assert!(matches!(three().fetch_value::<String>(c).await, Err(DatabaseError::Kind(_))));
        let row = sql::query("SELECT NULL AS gone, x'00' AS bytes").fetch_one(c).await.unwrap();
        assert_eq!(crate::row::maybe_text(&row, "gone").unwrap(), None);
        assert!(crate::row::text(&row, "gone").is_err() && crate::row::text(&row, "bytes").is_err());
        assert!(row.value("other").is_none());
    }
}

/// An argument that is missing is not `NULL` to the writer.
#[tokio::test]
async fn a_query_that_is_wrong_is_refused_each_time_and_runs_nothing() {
    async fn refused<T: FromSql>(here: &mut Connection, text: &'static str) -> String {
        sql::query(text).bind(1).fetch_values::<T>(here).await.err().unwrap().to_string()
    }
    let b = bench().await;
    let [mut here, _] = both(&b).await;
    for _ in 0..2 {
        assert!(refused::<i64>(&mut here, "SELECT $1, $2").await.contains("Got 1, needed 2"));
        assert!(refused::<i64>(&mut here, "SELECT ?").await.contains("Invalid parameter name"));
        assert!(refused::<i64>(&mut here, "SELECT $0").await.contains("Invalid parameter name"));
        let half = "UPDATE health SET at = 77; SELECT at FROM nowhere";
        assert!(refused::<i64>(&mut here, half).await.contains("no such table"));
    }
    let at: i64 = sql::query("SELECT at FROM health").fetch_value(&mut here).await.unwrap();
    assert_ne!(at, 77, "all statements are looked at before one runs");
}

/// `FULL` is what makes a 2xx true.
#[tokio::test]
async fn the_writers_connection_waits_for_the_disk() {
    let b = bench().await;
    for mut connection in both(&b).await {
        let c = &mut connection;
        assert_eq!(sql::query("PRAGMA synchronous").fetch_value::<i64>(c).await.unwrap(), 2);
        assert_eq!(sql::query("PRAGMA journal_mode").fetch_value::<String>(c).await.unwrap(), "wal");
        assert_eq!(sql::query("PRAGMA foreign_keys").fetch_value::<i64>(c).await.unwrap(), 1);
        assert_eq!(sql::query("PRAGMA wal_autocheckpoint").fetch_value::<i64>(c).await.unwrap(), 4096);
        assert_eq!(sql::query("PRAGMA cache_size").fetch_value::<i64>(c).await.unwrap(), -65_536);
    }
}

/// Says on which thread it is run.
struct Where;

impl Operation for Where {
    type Output = Option<String>;
    async fn run(&self, _: &mut Transaction<'_>) -> crate::Result<Self::Output> {
        Ok(thread::current().name().map(str::to_owned))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_has_a_thread_of_its_own() {
    let b = bench().await;
    assert_eq!(b.store.commit(Where).await.unwrap().as_deref(), Some("store-writer"));
    b.store.close().await.unwrap();
    assert!(matches!(b.store.commit(Where).await, Err(Error::Closed)));
    let store = open(&b.folder, &b.clock).await.expect("the folder is free again");
    drop(store);
}

/// Ends the transaction itself, as SQLite does after some errors.
struct Ends {
    then: &'static str,
}

impl Operation for Ends {
    type Output = ();
    async fn run(&self, tx: &mut Transaction<'_>) -> crate::Result<()> {
        sql::query("ROLLBACK").execute(&mut *tx.connection).await?;
        sql::query(self.then).execute(&mut *tx.connection).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_transaction_that_ended_by_itself_is_told_and_the_next_one_is_kept() {
    let b = bench().await;
    let bad = b.store.commit(Ends { then: "SELECT * FROM nowhere" }).await;
    assert!(matches!(bad, Err(Error::Database(_))), "{bad:?}");
    assert!(b.accept("c", "a").await.fresh);
    let lost = b.store.commit(Ends { then: "SELECT 1" }).await;
    assert!(matches!(lost, Err(Error::Commit(_))), "{lost:?}");
    assert!(b.accept("c", "b").await.fresh);
    assert_eq!(b.crashed().await.store.counts().await.unwrap().waiting, 2);
}
