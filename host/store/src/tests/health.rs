//! Whether something could be kept now: told at once while all is well, and tried in earnest when it is not.

use super::*;
use crate::sql;
use crate::writer::{Operation, Transaction};

/// Statements in a transaction.
struct Run(&'static str);

impl Operation for Run {
    type Output = ();
    async fn run(&self, tx: &mut Transaction<'_>) -> crate::Result<()> {
        sql::query(self.0).execute(&mut *tx.connection).await?;
        Ok(())
    }
}

/// Stands for a disk that takes nothing: every try fails from now on.
const BREAK: &str =
    "CREATE TRIGGER full BEFORE UPDATE ON health BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
const MEND: &str = "DROP TRIGGER full";
/// A transaction that fails, whatever the disk.
const FAIL: Run = Run("INSERT INTO budgets VALUES (NULL)");
/// One that writes nothing.
const NOTHING: Run = Run("SELECT 1");

#[tokio::test]
async fn a_store_that_could_not_keep_something_is_tried() {
    let b = bench().await;
    b.store.writable().await.unwrap();
    b.meddle(BREAK).await;
    b.store.writable().await.expect("nothing failed, so nothing is tried");
    b.store.commit(FAIL).await.unwrap_err();
    assert!(matches!(b.store.writable().await, Err(Error::Database(_))));
    b.store.commit(NOTHING).await.unwrap();
    b.store.writable().await.expect_err("an empty transaction proves nothing");
    b.meddle(MEND).await;
    b.store.writable().await.unwrap();
    b.meddle(BREAK).await;
    b.store.writable().await.expect("the doubt is overcome, so nothing is tried");
}

#[tokio::test]
async fn many_who_ask_at_once_are_all_told() {
    let b = bench().await;
    b.meddle(BREAK).await;
    b.store.commit(FAIL).await.unwrap_err();
    let asked = (0..5).map(|_| b.store.writable());
    for answer in futures::future::join_all(asked).await {
        assert!(matches!(answer, Err(Error::Database(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_only_read_or_is_closed_is_not_writable() {
    let b = bench().await;
    b.store.commit(FAIL).await.unwrap_err();
    b.store.close().await.unwrap();
    assert!(matches!(b.store.writable().await, Err(Error::Closed)));
    let read = Store::open_read_only(b.folder.path()).await.unwrap();
    assert!(matches!(read.writable().await, Err(Error::ReadOnly)));
}
