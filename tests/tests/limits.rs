//! Limits that only a whole host meets, in pairs: rates of channels and of agents, stops of the host in one turn, the
//! time that a graceful stop has.

use std::time::Duration;

use chela_engine::{Acknowledgement, Error};
use chela_server::standin::Fault;
use chela_store::{SettledAs, TurnState};
use chela_tests::outside::PARTNER_SECRET;
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, NOTICE, Outside, Setup, eventually, host};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3_600);

/// A host whose channel `partner` takes so many requests a minute.
fn with_channel_rate(outside: &Outside, per_minute: u32) -> Setup {
    host(outside)
        .agent("support", "agent")
        .webhook("partner", "support")
        .with_channel("partner", |channel| channel.rate_per_minute = per_minute)
}

/// A request of the partner, signed with `secret`.
async fn requested(
    host: &Host,
    outside: &Outside,
    secret: &str,
    text: &str,
) -> Result<Acknowledgement, Error> {
    let body = json!({ "sender": "ann", "text": text }).to_string();
    let signed = Signed::now(Scheme::Standard, secret, outside.clock.now(), body);
    host.receive("partner", signed.webhook()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_rate_obeyed() {
    let outside = Outside::new().await;
    let host = with_channel_rate(&outside, 2).run().await;
    for text in ["one", "two"] {
        assert_eq!(requested(&host, &outside, PARTNER_SECRET, text).await.unwrap().status, 200, "{text}");
        assert_eq!(host.closed(text).await.state, TurnState::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_rate_violated() {
    let outside = Outside::new().await;
    let host = with_channel_rate(&outside, 1).run().await;
    // A stranger's flood takes nothing of the platform's allowance.
    for _ in 0..10 {
        let answer = requested(&host, &outside, "whsec_c3RyYW5nZXI=", "a stranger").await;
        assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
    }
    assert_eq!(requested(&host, &outside, PARTNER_SECRET, "one").await.unwrap().status, 200);
    let answer = requested(&host, &outside, PARTNER_SECRET, "two").await;
    assert!(matches!(&answer, Err(Error::Flooded(channel)) if channel.as_str() == "partner"), "{answer:?}");
    assert_eq!(host.closed("one").await.state, TurnState::Delivered);
    assert_eq!(
        (host.turns().await, outside.partner.replies().len()),
        (1, 1),
        "nothing of the second is kept"
    );
}

/// A host whose agent answers so many messages a minute.
fn with_agent_rate(outside: &Outside, per_minute: u32) -> Setup {
    host(outside)
        .agent("support", "assistant")
        .with_agent("support", |agent| agent.rate_per_minute = per_minute)
        .billed_model(outside)
        .webhook("partner", "support")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_rate_obeyed() {
    let outside = Outside::new().await;
    let host = with_agent_rate(&outside, 2).run().await;
    for text in ["one", "two"] {
        host.partner_says(&outside, text, text).await;
        let record = host.closed(text).await;
        assert_eq!((record.state, record.last_error), (TurnState::Delivered, None), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_rate_violated() {
    let outside = Outside::new().await;
    let host = with_agent_rate(&outside, 1).run().await;
    host.partner_says(&outside, "one", "one").await;
    assert_eq!(host.closed("one").await.state, TurnState::Delivered);
    host.partner_says(&outside, "two", "two").await;
    eventually("the second is sent away", async || {
        host.find("two").await.is_some_and(|record| record.last_error.is_some())
    })
    .await;
    let record = host.find("two").await.unwrap();
    assert_eq!(record.state, TurnState::Open);
    assert_eq!((record.tries, record.crashes, record.waits), (0, 0, 0), "it is nobody's fault: {record:?}");
    let (error, blame) = record.last_error.unwrap();
    assert!(error.contains("agent `support` is busy"), "{error}");
    assert_eq!(blame.as_deref(), Some("host"));
    assert!(record.decisions.is_empty(), "the policy is asked again when there is a seat");
    assert_eq!(outside.provider.bills().len(), 1, "no model is asked for it");
    // Another run of the host has an allowance of its own, and the turn was not lost.
    let host = host.stop().await.restart().await;
    let record = host.closed("two").await;
    assert_eq!((record.state, record.tries, record.crashes), (TurnState::Delivered, 0, 0), "{record:?}");
    assert_eq!((record.decisions.len(), outside.provider.bills().len()), (1, 2));
}

/// A turn in which the host stops three times, each time while a model thinks.
async fn stopped_three_times(outside: &Outside, crashes_max: u32) -> Host {
    let mut host = host(outside)
        .agent("support", "assistant")
        .billed_model(outside)
        .with_delivery(|delivery| delivery.crashes_max = crashes_max)
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(outside, "t1", "hello").await;
    for stops in 1..=3 {
        eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
        if stops < 3 {
            outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
        }
        host = host.crash().restart().await;
    }
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_of_the_host_in_one_turn_obeyed() {
    let outside = Outside::new().await;
    let host = stopped_three_times(&outside, 4).await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.crashes, record.tries), (TurnState::Delivered, 3, 0), "{record:?}");
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_of_the_host_in_one_turn_violated() {
    let outside = Outside::new().await;
    let host = stopped_three_times(&outside, 3).await;
    let record = host.closed("hello").await;
    assert_eq!((record.state, record.crashes, record.tries), (TurnState::Dead, 3, 0), "{record:?}");
    let (error, blame) = record.last_error.unwrap();
    assert!(error.contains("the host stopped 3 times in this turn"), "{error}");
    assert_eq!(blame.as_deref(), Some("host"));
    let replies = outside.partner.replies().all();
    assert_eq!((replies.len(), replies[0].reply.text.as_str()), (1, NOTICE));
    assert!(outside.provider.bills().is_empty(), "the model, which would answer now, is not asked again");
    // Each of the three may have been billed, as far as anybody knows.
    let rows = host.store.ledger(10).await.unwrap().rows;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.iter().all(|row| row.state == SettledAs::Unknown && row.cost == row.amount), "{rows:?}");
    // The conversation goes on.
    host.partner_says(&outside, "t1", "goodbye").await;
    assert_eq!(host.closed("goodbye").await.state, TurnState::Delivered);
}

/// A second loop over the host's turns, which the test stops by itself and in less time than the harness has.
fn second_loop(host: &Host, stop: &CancellationToken) -> JoinHandle<()> {
    let (engine, stop) = (host.engine.clone(), stop.clone());
    tokio::spawn(async move { engine.run(stop, Duration::from_millis(50)).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_graceful_stop_does_not_see_end_goes_back_as_it_is() {
    let outside = Outside::new().await;
    let host = host(&outside)
        .agent("support", "assistant")
        .billed_model(&outside)
        .turns_max(1)
        .webhook("partner", "support")
        .run()
        .await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 2);
    // One turn for the harness's loop, which is full then; and one for the loop that is stopped.
    host.partner_says(&outside, "t1", "the first").await;
    eventually("the first is at work", async || host.store.counts().await.unwrap().open_reservations == 1)
        .await;
    host.partner_says(&outside, "t2", "the second").await;
    let stop = CancellationToken::new();
    let stopped = second_loop(&host, &stop);
    eventually("both are at work", async || {
        outside.provider.faults().is_spent() && host.store.counts().await.unwrap().leased == 2
    })
    .await;
    stop.cancel();
    stopped.await.unwrap();
    eventually("the second is nobody's, and no money is set aside for it", async || {
        let counts = host.store.counts().await.unwrap();
        (counts.leased, counts.waiting, counts.open_reservations) == (1, 1, 1)
    })
    .await;
    let record = host.find("the second").await.unwrap();
    assert_eq!((record.state, record.last_error), (TurnState::Open, None));
    assert_eq!((record.tries, record.crashes, record.waits), (0, 0, 0));
    // Whoever comes next goes on with it.
    let stop = CancellationToken::new();
    let next = second_loop(&host, &stop);
    let record = host.closed("the second").await;
    assert_eq!((record.state, record.crashes), (TurnState::Delivered, 0), "{record:?}");
    assert_eq!((outside.provider.bills().len(), outside.partner.replies().len()), (1, 1));
    stop.cancel();
    next.await.unwrap();
}
