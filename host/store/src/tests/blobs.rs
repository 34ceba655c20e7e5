//! Files that agents keep.

use super::*;
use crate::{Blob, BlobBounds};
use chela_types::Clock as _;

const BOUNDS: BlobBounds = BlobBounds { count: 2, bytes: 10 };

fn blob(handle: &str, content: &[u8]) -> Blob {
    Blob {
        handle: handle.to_owned(),
        agent: agent("hr"),
        name: "a.txt".to_owned(),
        media_type: "text/plain".to_owned(),
        content: content.to_vec(),
    }
}

#[tokio::test]
async fn a_file_is_read_in_parts_by_its_agent_in_its_conversation_alone() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    b.store.blob_put(&claimed.lease, blob("h", b"0123456789"), BOUNDS, entry(0, "h")).await.unwrap();
    let conversation = claimed.turn.conversation;
    let read = async |(tenant, name, conversation): (&TenantId, &str, _), handle: &str, part| {
        b.store.blob_read((tenant, &agent(name), conversation), handle, part).await.unwrap()
    };
    let own = (&tenant(), "hr", conversation);
    assert_eq!(read(own, "h", (0, 4)).await.as_deref(), Some(&b"0123"[..]));
    assert_eq!(read(own, "h", (8, 4)).await.as_deref(), Some(&b"89"[..]));
    assert_eq!(read(own, "h", (10, 4)).await.as_deref(), Some(&b""[..]));
    assert_eq!(read(own, "h", (u64::MAX, 4)).await.as_deref(), Some(&b""[..]));
    assert_eq!(read(own, "i", (0, 4)).await, None);
    assert_eq!(read((&tenant(), "sales", conversation), "h", (0, 4)).await, None);
    assert_eq!(read((&TenantId::new("other").unwrap(), "hr", conversation), "h", (0, 4)).await, None);
    b.accept("d", "b").await;
    let elsewhere = b.claim_one().await.turn.conversation;
    assert_eq!(read((&tenant(), "hr", elsewhere), "h", (0, 4)).await, None);
    assert_eq!(b.store.journal(&claimed.lease).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_conversation_keeps_obeyed_and_violated() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.store.blob_put(&lease, blob("one", b"12345"), BOUNDS, entry(0, "")).await.unwrap();
    let large = b.store.blob_put(&lease, blob("two", b"123456"), BOUNDS, entry(1, "")).await;
    assert!(matches!(large, Err(Error::TooLarge { size: 11, max: 10, .. })), "{large:?}");
    b.store.blob_put(&lease, blob("two", b"12345"), BOUNDS, entry(1, "")).await.unwrap();
    let many = b.store.blob_put(&lease, blob("three", b""), BOUNDS, entry(2, "")).await;
    assert!(matches!(many, Err(Error::TooLarge { size: 3, max: 2, .. })), "{many:?}");
    assert_eq!(b.store.journal(&lease).await.unwrap().len(), 2, "neither a file nor its entry");
    b.accept("d", "b").await;
    let other = b.claim_one().await.lease;
    b.store.blob_put(&other, blob("four", b"12345"), BOUNDS, entry(0, "")).await.unwrap();
}

#[tokio::test]
async fn a_file_is_kept_with_its_entry_and_under_the_lease_or_not_at_all() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.store.record(&lease, entry(0, "taken")).await.unwrap();
    let taken = b.store.blob_put(&lease, blob("h", b"1"), BOUNDS, entry(0, "h")).await;
    assert!(matches!(taken, Err(Error::Invalid(_))), "{taken:?}");
    b.store.release(&lease).await.unwrap();
    let fenced = b.store.blob_put(&lease, blob("h", b"1"), BOUNDS, entry(1, "h")).await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    let later = b.claim_one().await;
    let own = (&tenant(), &agent("hr"), later.turn.conversation);
    assert_eq!(b.store.blob_read(own, "h", (0, 1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_goes_with_the_words_of_its_turn() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    b.store.blob_put(&claimed.lease, blob("h", b"1"), BOUNDS, entry(0, "h")).await.unwrap();
    let out = b.store.answered(&claimed.lease, answer("hello")).await.unwrap();
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    b.clock.advance(Duration::from_millis(1));
    let purged = b.store.purge_turns(&tenant(), b.clock.now(), 0, 99).await.unwrap();
    assert_eq!(purged.turns, 1);
    let own = (&tenant(), &agent("hr"), claimed.turn.conversation);
    assert_eq!(b.store.blob_read(own, "h", (0, 1)).await.unwrap(), None);
}
