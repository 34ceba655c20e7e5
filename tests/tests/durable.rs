//! Nothing is acknowledged before it is on the disk: the kernel's own account of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use chela_server::standin::webhook::Say;
use chela_tests::kill::configuration;
use chela_tests::process::Process;
use chela_tests::{Outside, eventually};

/// What of a trace matters: syncs of the write-ahead log, and writes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Synced,
    Acknowledged,
}

/// Reads `strace -f -y`: `1234 fdatasync(9</data/chela.db-wal>) = 0`, or its end after another thread has spoken.
fn events(trace: &str) -> Vec<Event> {
    let mut waiting = std::collections::BTreeSet::new();
    let mut events = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if is_sync && call.contains("chela.db-wal") {
            if call.contains("<unfinished") {
                waiting.insert(thread.to_owned());
            } else if call.ends_with("= 0") {
                events.push(Event::Synced);
            }
        } else if call.contains("sync resumed>") && call.ends_with("= 0") && waiting.remove(thread) {
            events.push(Event::Synced);
        } else if call.contains("HTTP/1.1 200 OK") {
            events.push(Event::Acknowledged);
        }
    }
    events
}

#[test]
fn a_trace_is_read() {
    let trace = "7 sendto(12<socket:[1]>, \"HTTP/1.1 200 OK\\r\\n\", 20) = 20\n\
        8 fdatasync(9</d/chela.db-wal> <unfinished ...>\n\
        7 fdatasync(3</d/other>) = 0\n\
        8 <... fdatasync resumed>) = 0\n\
        7 writev(12<socket:[1]>, [{iov_base=\"HTTP/1.1 200 OK\"}]) = 20";
    assert_eq!(events(trace), [Event::Acknowledged, Event::Synced, Event::Acknowledged]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_is_synced_before_each_acknowledgement() {
    let found = std::process::Command::new("strace").arg("-V").output();
    assert!(
        found.is_ok_and(|out| out.status.success()),
        "strace is missing: install it to see what is synced"
    );
    let outside = Outside::new().await;
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        configuration(&outside)
    });
    let trace = process.folder().join("trace");
    let calls = "trace=fdatasync,fsync,write,writev,sendto,sendmsg";
    // `-D`: the child of this test is the program itself, so that it is the one that is ended.
    let options = ["strace", "-D", "-f", "-y", "-s", "24", "-e", calls, "-o"];
    process.wrapper = options.iter().map(ToString::to_string).chain([trace.display().to_string()]).collect();
    process.start();
    process.ready().await;
    let read = || std::fs::read_to_string(&trace).unwrap_or_default();
    let before = read().lines().count();
    // Nothing else is going on: whatever is synced now is synced for this message.
    let say = Say { sender: "ann".to_owned(), text: "an order".to_owned(), ..Say::default() };
    let (_, sent) = outside.partner.say(&process.channel("partner"), &say).await.unwrap();
    assert!(sent.is_acknowledged(), "{sent:?}");
    let since = || read().lines().skip(before).collect::<Vec<_>>().join("\n");
    eventually("the acknowledgement is in the trace", async || {
        events(&since()).contains(&Event::Acknowledged)
    })
    .await;
    assert_eq!(
        events(&since()).first(),
        Some(&Event::Synced),
        "acknowledged before it was synced:\n{}",
        since()
    );
    process.kill().await;
}
