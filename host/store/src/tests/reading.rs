//! Records, counts, phases.

use super::*;
use crate::{Phase, Reserve, SettledAs, Settlement, TurnState, Used};
use chela_types::Money;

#[tokio::test]
async fn a_record_tells_the_whole_turn() {
    let b = bench().await;
    let turn = b.accept("c", "a").await.turn;
    let lease = b.claim_one().await.lease;
    b.store.decided_behind(&lease, &decision()).await.unwrap();
    let reserve = Reserve {
        lease: Some(lease.clone()),
        tenant: tenant(),
        turn: Some(turn),
        scopes: vec![],
        amount: Money::from_nanos(9),
        model: "m".into(),
    };
    let id = b.store.reserve(reserve).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::ModelCallOpen], 1);
    let settlement = Settlement {
        used: Used { cost: Money::from_nanos(4), ..Used::default() },
        call: None,
        state: SettledAs::Settled,
    };
    b.store.settle(id, settlement).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Decided], 1);
    // The turn's own marks are no host calls.
    let start = crate::Entry { function: "turn.start".into(), ..entry(0, "v") };
    b.store.record(&lease, start).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Decided], 1);
    b.store.record(&lease, entry(1, "v")).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Journaled], 1);
    let out = b.store.answered(&lease, answer("fine")).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Answered], 1);
    b.store.sending(&lease, out.id, None, None).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Sending], 1);
    b.store.delivered(&lease, out.id, Some("ts".into())).await.unwrap();
    assert_eq!(b.store.phases().await.unwrap()[&Phase::Closed], 1);

    let record = b.store.turn_record(turn).await.unwrap().unwrap();
    assert_eq!((record.state, record.outcome.as_deref()), (TurnState::Delivered, Some("reply")));
    assert_eq!(
        (record.received, record.claimed, record.closed),
        (Millis(999), Some(Millis(1_000_000)), record.claimed)
    );
    assert_eq!(record.decisions, [(Millis(1_000_000), decision())]);
    assert_eq!((record.calls.len(), record.calls[0].cost), (1, Money::from_nanos(4)));
    let parts = [(0, "turn.start"), (1, "models.complete")];
    assert_eq!(record.journal, parts.map(|(seq, function)| (seq, function.to_owned(), Millis(5))));
    assert_eq!(record.message.unwrap().text, "text of a");
    assert_eq!(record.reply.unwrap().text, "fine");
    assert_eq!(record.outbox.unwrap().status, "delivered");
    assert!(b.store.turn_record(TurnId::new()).await.unwrap().is_none());
    assert_eq!(b.store.recent_turns(5).await.unwrap(), [turn]);
}

#[tokio::test]
async fn calls_are_told_by_their_name_and_without_what_is_set_aside() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    let failed = crate::Entry { function: "models.complete!".into(), ..entry(1, "v") };
    for kept in [entry(0, "v"), failed, entry(crate::Entry::ASIDE, "paid by a run that is void")] {
        b.store.record(&lease, kept).await.unwrap();
    }
    let record = b.store.turn_record(lease.turn()).await.unwrap().unwrap();
    let calls: Vec<_> = record.journal.iter().map(|(seq, function, _)| (*seq, &**function)).collect();
    assert_eq!(calls, [(0, "models.complete"), (1, "models.complete")]);
}

#[tokio::test]
async fn counts_say_how_things_stand() {
    let b = bench().await;
    b.accept("c", "a").await;
    b.accept("c", "b").await;
    b.claim_one().await;
    let counts = b.store.counts().await.unwrap();
    assert_eq!((counts.waiting, counts.leased, counts.oldest_waiting), (1, 1, Some(Millis(999))));
    let (claimed, out) = b.answered("d", "c").await;
    b.store.sending(&claimed.lease, out.id, None, None).await.unwrap();
    let b = b.crashed().await;
    let (counts, standing) = (b.store.counts().await.unwrap(), b.store.standing().await.unwrap());
    assert_eq!((standing.waiting, standing.leased, standing.answered, standing.ambiguous), (3, 0, 1, 1));
    assert_eq!((counts.waiting, counts.leased, counts.answered, counts.ambiguous), (3, 0, 1, 1));
    assert_eq!((counts.delivered, counts.dead, counts.undelivered), (0, 0, 0));
}
