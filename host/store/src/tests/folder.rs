//! The data folder: who owns it, and what is refused instead of started empty.

use super::*;
use crate::Phase;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_second_owner_is_refused_by_name() {
    let b = bench().await;
    let refused = open(&b.folder, &b.clock).await.unwrap_err();
    let words = refused.to_string();
    assert!(words.contains(&b.folder.path().display().to_string()), "{words}");
    assert!(words.contains(&format!("process {}", std::process::id())), "{words}");
    assert!(matches!(Store::open_read_only(b.folder.path()).await, Err(Error::Owned { .. })));
    b.store.close().await.unwrap();
    open(&b.folder, &b.clock).await.unwrap();
}

#[tokio::test]
async fn a_folder_and_its_files_are_private() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("new");
    let store = Store::open(Config::new(&folder), Arc::new(ManualClock::at(Millis(1)))).await.unwrap();
    store.accept(vec![arrival("c", &["a"])]).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "database, log and lock");
}

#[tokio::test]
async fn a_closed_store_has_kept_all_and_holds_nothing() {
    let b = bench().await;
    b.accept("c", "a").await;
    let held = b.claim_one().await;
    b.store.decided_behind(&held.lease, &decision()).await.unwrap();
    b.store.close().await.unwrap();
    assert!(matches!(b.store.accept(vec![arrival("c", &["b"])]).await, Err(Error::Closed)));
    assert!(matches!(b.store.counts().await, Err(Error::Closed)));
    let store = open(&b.folder, &b.clock).await.unwrap();
    let again = store.claim("test", 1).await.unwrap().remove(0);
    assert!(matches!(again.turn.stage, crate::Stage::Decided(_)));
    assert_eq!(again.turn.crashes, 0, "an end in order is no crash");
}

#[tokio::test]
async fn reading_only_shows_where_a_process_died() {
    let b = bench().await;
    b.accept("c", "a").await;
    b.accept("c", "b").await;
    b.claim_one().await;
    let left = b.killed();
    let store = Store::open_read_only(left.path()).await.unwrap();
    let phases = store.phases().await.unwrap();
    assert_eq!((phases[&Phase::Claimed], phases[&Phase::Received]), (1, 1));
    assert_eq!(store.counts().await.unwrap().leased, 1);
    assert!(matches!(store.accept(vec![arrival("c", &["x"])]).await, Err(Error::ReadOnly)));
    store.close().await.unwrap();
    let nothing = TempDir::new().unwrap();
    assert!(matches!(Store::open_read_only(nothing.path()).await, Err(Error::Missing { .. })));
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0, "looking makes nothing");
}

/// Closes the store, damages its folder, and says what opening it again says.
async fn after(damage: impl FnOnce(&std::path::Path)) -> Error {
    let b = bench().await;
    b.accept("c", "a").await;
    b.store.close().await.unwrap();
    damage(&b.folder.path().join("chela.db"));
    open(&b.folder, &b.clock).await.unwrap_err()
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_not_replaced() {
    let garbage = |file: &std::path::Path| std::fs::write(file, vec![7; 9000]).unwrap();
    let torn = |file: &std::path::Path| {
        let mut bytes = std::fs::read(file).unwrap();
        let page = bytes.len() / 4096 / 2 * 4096;
        bytes[page..page + 4096].fill(0xa5);
        std::fs::write(file, bytes).unwrap();
    };
    let cut = |file: &std::path::Path| {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    };
    assert!(matches!(after(garbage).await, Error::Corrupt { .. }));
    assert!(matches!(after(torn).await, Error::Corrupt { .. }));
    assert!(matches!(after(cut).await, Error::Corrupt { .. }));
    assert!(matches!(after(|file| std::fs::remove_file(file).unwrap()).await, Error::Corrupt { .. }));
    assert!(matches!(after(|file| std::fs::write(file, "").unwrap()).await, Error::Corrupt { .. }));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let b = bench().await;
    b.store.close().await.unwrap();
    let file = b.folder.path().join("chela.db");
    let mut newer = sqlx::ConnectOptions::connect(&crate::connect::writing(&file)).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9, 'later', true, x'00', 0)",
    )
    .execute(&mut newer)
    .await
    .unwrap();
    sqlx::Connection::close(newer).await.unwrap();
    assert!(matches!(open(&b.folder, &b.clock).await, Err(Error::Newer { version: 9, .. })));
    assert!(matches!(Store::open_read_only(b.folder.path()).await, Err(Error::Newer { version: 9, .. })));
}
