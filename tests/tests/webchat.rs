//! The web chat of the released program over HTTP: whose session is whose, and what a browser gets that comes back.

use std::time::Duration;

use chela_server::standin::Fault;
use chela_tests::Outside;
use chela_tests::browser::{Browser, CHATS, Event};
use chela_tests::kill::configuration;
use chela_tests::process::Process;

/// Long enough that what could come would have.
const MOMENT: Duration = Duration::from_millis(300);

async fn ready(outside: &Outside) -> Process {
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        format!("{}{CHATS}", configuration(outside))
    });
    process.start();
    process.ready().await;
    process
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.number.expect("a kept event has a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_chats_own_page_with_the_chats_own_cookie_is_served() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let (web, other) = (process.channel("web"), process.channel("other"));
    let own = Browser::begin(&web).await;
    assert_eq!(own.says("good morning").await, 200);
    own.hears(0, "good morning").await;

    let none = Browser::new(&web);
    let made_up = own.showing("chela_session=0123.4567");
    let of_other = own.showing(Browser::begin(&other).await.cookie());
    for (who, browser) in
        [("no cookie", &none), ("a made-up cookie", &made_up), ("another channel's cookie", &of_other)]
    {
        assert_eq!(browser.events(0).await.expect_err(who), 401, "{who}");
        assert_eq!(browser.says("good evening").await, 401, "{who}");
    }
    for origin in [Some("https://evil.example"), Some("null"), None] {
        let foreign = own.from_page_of(origin);
        assert_eq!(foreign.says("good evening").await, 403, "{origin:?}");
        assert_eq!(foreign.post("session", &serde_json::Value::Null).await.status, 403, "{origin:?}");
    }
    let mut events = own.events(0).await.unwrap();
    for _ in 0..2 {
        assert!(events.next().await.text().contains("good morning"));
    }
    assert!(events.is_silent(MOMENT).await, "what was refused left nothing");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_hears_of_itself_alone() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let web = process.channel("web");
    let (ann, bob) = (Browser::begin(&web).await, Browser::begin(&web).await);
    assert_ne!(ann.cookie(), bob.cookie());
    // Both listen before anything is said, so that a draft for the wrong one would be seen too.
    let mut of_bob = bob.events(0).await.unwrap();
    assert_eq!(ann.says("a secret of ann").await, 200);
    ann.hears(0, "a secret of ann").await;
    assert!(of_bob.is_silent(MOMENT).await);
    assert_eq!(bob.says("a word of bob").await, 200);
    for event in bob.hears(0, "a word of bob").await {
        assert!(event.text().contains("a word of bob"), "{event:?}");
    }
    for event in ann.hears(0, "a secret of ann").await {
        assert!(event.text().contains("a secret of ann"), "{event:?}");
    }
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_back_after_a_restart_misses_nothing_and_reads_nothing_twice() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let browser = Browser::begin(&process.channel("web")).await;
    assert_eq!(browser.says("the first").await, 200);
    let first = browser.hears(0, "the first").await;
    assert_eq!(numbers(&first), [1, 2], "what was said, and the answer");
    assert!(process.terminate().await);
    process.start();
    process.ready().await;
    let browser = browser.restarted();
    assert_eq!(browser.says("the second").await, 200, "the session outlives the process");
    let rest = browser.hears(1, "the second").await;
    assert_eq!(numbers(&rest), [2, 3, 4]);
    assert_eq!(rest[0], first[1]);
    assert!(rest[1].is_said() && rest[1].text() == "the second", "{:?}", rest[1]);
    assert_eq!(numbers(&browser.hears(0, "the second").await), [1, 2, 3, 4], "a new tab reads it all");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_come_first_and_the_answer_replaces_them() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let browser = Browser::begin(&process.channel("web")).await;
    let mut events = browser.events(0).await.unwrap();
    let words: Vec<_> = (0..30).map(|n| format!("word{n}")).collect();
    let text = words.join(" ");
    // The stream has told what was said, and listens, before the first draft is made.
    outside.provider.faults().inject(&Fault::Delay(Duration::from_millis(500)), 1);
    assert_eq!(browser.says(&text).await, 200);
    assert!(events.next().await.is_said());
    let mut drafted = String::new();
    let answer = loop {
        let event = events.next().await;
        if event.kind != "draft" {
            break event;
        }
        assert_eq!(event.number, None, "a draft is not kept");
        drafted.push_str(event.text());
    };
    assert!(answer.text().contains(&text), "{answer:?}");
    assert!(!drafted.is_empty() && answer.text().contains(drafted.trim()), "{drafted}");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_session_obeyed_and_violated() {
    const MAX: usize = chela_server::doors::defaults::STREAMS_PER_SESSION;
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let web = process.channel("web");
    let greedy = Browser::begin(&web).await;
    let mut tabs = Vec::new();
    for n in 0..MAX {
        tabs.push(greedy.events(0).await.unwrap_or_else(|status| panic!("tab {n}: {status}")));
    }
    assert_eq!(greedy.events(0).await.expect_err("one tab too many"), 429);
    assert!(Browser::begin(&web).await.events(0).await.is_ok(), "another session has its own");
    drop(tabs);
    // The host sees that a browser has hung up when it next writes or reads.
    chela_tests::eventually("a tab that is closed leaves its seat", async || greedy.events(0).await.is_ok())
        .await;
    assert!(process.terminate().await);
}
