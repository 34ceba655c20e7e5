//! Nothing is acknowledged before it is on the disk: the kernel's own account of it.

use std::sync::Arc;

use chela_server::standin::slack;
use chela_server::standin::webhook::Say;
use chela_tests::kill::configuration;
use chela_tests::outside::ROOMS;
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

/// The program under `strace`, and its trace so far.
struct Traced {
    process: Process,
    trace: std::path::PathBuf,
}

impl Traced {
    async fn start(outside: &Outside) -> Self {
        let found = std::process::Command::new("strace").arg("-V").output();
        assert!(
            found.is_ok_and(|out| out.status.success()),
            "strace is missing: install it to see what is synced"
        );
        let mut process = Process::prepare(|folder| {
            std::fs::create_dir(folder.join("knowledge")).unwrap();
            std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
            configuration(outside)
        });
        let trace = process.folder().join("trace");
        let calls = "trace=fdatasync,fsync,write,writev,sendto,sendmsg";
        // `-D`: the child of this test is the program itself, so that it is the one that is ended.
        let options = ["strace", "-D", "-f", "-y", "-s", "24", "-e", calls, "-o"];
        process.wrapper =
            options.iter().map(ToString::to_string).chain([trace.display().to_string()]).collect();
        process.start();
        process.ready().await;
        Self { process, trace }
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.trace).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What has happened since there were `before` lines, once `acknowledged` answers are among it.
    async fn since(&self, before: usize, acknowledged: usize) -> Vec<Event> {
        let seen = || events(&self.lines()[before..].join("\n"));
        eventually("the acknowledgements are in the trace", async || {
            seen().iter().filter(|event| **event == Event::Acknowledged).count() >= acknowledged
        })
        .await;
        seen()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_is_synced_before_each_acknowledgement() {
    let outside = Outside::new().await;
    let traced = Traced::start(&outside).await;
    // One after the other: between two acknowledgements there must be a sync, whoever sends.
    for number in 0..20 {
        let before = traced.lines().len();
        let text = format!("order {number}");
        let is_acknowledged = if number % 2 == 0 {
            let say = Say { sender: format!("ann-{number}"), text, ..Say::default() };
            outside.partner.say(&traced.process.channel("partner"), &say).await.unwrap().1.is_acknowledged()
        } else {
            let (channel, user) = (ROOMS[0].to_owned(), format!("U{number}"));
            let say = slack::Say { channel, user, text, ..slack::Say::default() };
            outside.slack.say(&traced.process.channel("slack"), &say).await.unwrap().1.is_acknowledged()
        };
        assert!(is_acknowledged, "{number}");
        let events = traced.since(before, 1).await;
        let at = |wanted| events.iter().position(|event| *event == wanted).unwrap_or(usize::MAX);
        assert!(
            at(Event::Synced) < at(Event::Acknowledged),
            "{number}: acknowledged before a sync: {events:?}"
        );
    }
    let mut process = traced.process;
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_come_at_once_share_their_syncs() {
    const MESSAGES: usize = 200;
    let outside = Arc::new(Outside::new().await);
    let traced = Traced::start(&outside).await;
    let before = traced.lines().len();
    let url = traced.process.channel("partner");
    let senders = (0..MESSAGES).map(|number| {
        let (outside, url) = (Arc::clone(&outside), url.clone());
        let say = Say { sender: format!("ann-{number}"), text: "an order".to_owned(), ..Say::default() };
        tokio::spawn(async move { outside.partner.say(&url, &say).await.unwrap().1.is_acknowledged() })
    });
    for sender in senders.collect::<Vec<_>>() {
        assert!(sender.await.unwrap());
    }
    let events = traced.since(before, MESSAGES).await;
    let mut acknowledged = 0;
    let until_all = events.iter().take_while(|event| {
        acknowledged += usize::from(**event == Event::Acknowledged);
        acknowledged < MESSAGES
    });
    let syncs = until_all.filter(|event| **event == Event::Synced).count();
    // Each message also awaits commits of its own after it: without sharing there would be seven for each.
    assert!(syncs < MESSAGES, "{syncs} syncs for {MESSAGES} messages");
    let mut process = traced.process;
    process.kill().await;
}
