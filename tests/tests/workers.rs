//! Plugins in processes of their own: they do what they do in the host, to the last byte, and no turn is lost with one.

use std::time::Duration;

use chela_server::standin::Fault;
use chela_store::TurnState;
use chela_tests::compared::{Compared, counted, counts, under};
use chela_tests::process::workers;
use chela_tests::{Outside, eventually, guests};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::Mutex;

const HOUR: Duration = Duration::from_secs(3_600);

/// One test's workers are to be none of another's.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Everything that a guest may ask of the host, and the ways in which it may end.
const SAID: [&str; 17] = [
    "hello",
    "model #a",
    "relay #b",
    "stream #c",
    "stream-drop #d",
    "stream-ask #e",
    "stream-drop-ask #f",
    "memory-kv #g",
    "memory-kv-ask #h",
    "search #i",
    "dice #j",
    "double #k",
    "clock #l",
    "env #m",
    "absent #n",
    "past #o",
    "escalate #p",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_in_workers_says_the_same_in_the_host() {
    let _alone = ALONE.lock().await;
    let it = Compared::with(|setup| setup.in_workers(), &SAID).await;
    assert!(!workers().is_empty());
    assert_eq!(it.outside.partner.replies().len(), SAID.len());
    // From now on everything runs here.
    let mut stopped = it.host.stop().await;
    stopped.setup = stopped.setup.in_process();
    let host = stopped.restart().await;
    for plugin in ["agent", "router"] {
        let folder = TempDir::new().unwrap();
        let report = host.replay(&under(&folder, plugin, guests::get(plugin).manifest)).await.unwrap();
        assert_eq!(counts(&report), [SAID.len() as u64, 0, 0, 0], "{plugin}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_worker_is_killed_is_answered_by_the_next() {
    let _alone = ALONE.lock().await;
    let outside = Outside::new().await;
    let host = counted(&outside).in_workers().run().await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    host.partner_says(&outside, "t1", "model #q").await;
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    for worker in workers() {
        kill_process(worker, Signal::KILL).unwrap();
    }
    let record = host.closed("model #q").await;
    assert_eq!((record.state, record.tries), (TurnState::Delivered, 1), "{record:?}");
    let error = record.last_error.unwrap().0;
    assert!(error.contains("the process that ran it is gone") && error.contains("signal: 9"), "{error}");
}
