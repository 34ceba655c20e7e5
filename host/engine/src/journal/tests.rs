//! What a run of a turn finds of the runs before it.

use super::*;
use crate::testing::Bench;

async fn open(bench: &Bench) -> Journal {
    let clock = Arc::new(chela_types::SystemClock);
    Journal::open(bench.store.clone(), bench.claimed.lease.clone(), clock).await.unwrap()
}

/// Asks `search` and keeps `value`; what was kept before, if there was something.
async fn search(journal: &mut Journal, value: &str) -> Option<String> {
    match journal.place::<String>(Function::Search, &("question", 4)).await.unwrap() {
        Found::Kept(kept, _) => Some(kept),
        Found::Fresh(place) => {
            journal.fill(&place, &value).await.unwrap();
            None
        }
    }
}

fn began(name: Option<&str>) -> Began {
    Began {
        agent: name.map(agent),
        version: Digest::from_bytes([1; 32]),
        frame: Digest::from_bytes([2; 32]),
        past: 0,
        heard: Digest::from_bytes([3; 32]),
        sticky: None,
        purpose: "test".to_owned(),
    }
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

#[tokio::test]
async fn a_colleague_never_hears_what_another_agent_was_told() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("hr"))).await.unwrap();
    assert_eq!(search(&mut journal, "salaries").await, None);
    // It hands over, and the run ends before the colleague has asked anything.
    let mut journal = open(&bench).await;
    assert_eq!(journal.resume(&agent("sales")).unwrap(), 1, "one agent handed over");
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "prices").await, None, "the same question of somebody else");
    // And the colleague goes on with what itself was told.
    let mut journal = open(&bench).await;
    assert_eq!(journal.resume(&agent("sales")).unwrap(), 1);
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "").await.as_deref(), Some("prices"));
}

#[tokio::test]
async fn another_version_has_what_was_paid_for_also_where_it_asks_in_another_order() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "prompt", Some("dear")).await);
    assert_eq!(search(&mut journal, "found").await, None);
    // The version before searches first: the answer is not asked for again, the search is.
    let before = Began { version: Digest::from_bytes([9; 32]), ..began(Some("sales")) };
    journal.again();
    journal.begin_agent(&before).await.unwrap();
    assert_eq!(search(&mut journal, "found anew").await, None);
    assert!(ask(&mut journal, "prompt", None).await);
    assert!(!ask(&mut journal, "prompt", Some("once more")).await, "once is once");
    // And so after a crash in between.
    let mut journal = open(&bench).await;
    journal.resume(&agent("sales")).unwrap();
    assert_eq!(journal.pinned(), Some(before.version));
    journal.begin_agent(&before).await.unwrap();
    assert_eq!(search(&mut journal, "").await.as_deref(), Some("found anew"));
    assert!(ask(&mut journal, "prompt", None).await && ask(&mut journal, "prompt", None).await);
}

#[tokio::test]
async fn what_is_set_aside_outlives_a_crash() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "prompt", Some("dear")).await);
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    // It leaves the journal, and the host ends before it comes to its own question.
    assert_eq!(search(&mut journal, "found").await, None);
    let mut journal = open(&bench).await;
    journal.resume(&agent("sales")).unwrap();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "").await.as_deref(), Some("found"));
    assert!(ask(&mut journal, "prompt", None).await, "paid for before the crash");
}

#[tokio::test]
async fn a_part_is_read_back_with_what_it_said() {
    use crate::swap::recording::Said;
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    let ended =
        |said: &str| Ended { began: Some(began(None)), said: Said::answered(&said), pending: Vec::new() };
    journal.begin_router(&began(None), false).await.unwrap();
    journal.end(ended("sales")).await.unwrap();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "found").await, None);
    let unfilled = journal.place::<String>(Function::Complete, &"slow").await.unwrap();
    assert!(matches!(unfilled, Found::Fresh(_)));
    journal.end(Ended { began: None, ..ended("hello") }).await.unwrap();
    let part = journal.recording().parts.remove(0);
    assert_eq!((part.entries.len(), &part.ended.said), (1, &Said::answered(&"hello")));
    assert_eq!(part.ended.pending.len(), 1, "what it waited for");
    // The disk has the same, and a second end takes the first one's place.
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "").await.as_deref(), Some("found"));
    journal.end(Ended { began: None, ..ended("anew") }).await.unwrap();
    // What is written behind is on the disk with the next write that is awaited.
    bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
    let entries = bench.store.journal(&bench.claimed.lease).await.unwrap();
    let whole = Recording::read(&entries).unwrap();
    let said: Vec<_> = whole.parts.iter().map(|part| part.ended.said.clone()).collect();
    assert_eq!(said, [Said::answered(&"sales"), Said::answered(&"anew")]);
    assert!(whole.cut_off.is_empty());
}

#[tokio::test]
async fn an_agent_goes_on_behind_the_router_that_chose_it() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_router(&began(None), false).await.unwrap();
    assert_eq!(search(&mut journal, "of the router").await, None);
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "of the agent").await, None);
    let mut resumed = open(&bench).await;
    assert_eq!(resumed.resume(&agent("sales")).unwrap(), 0);
    resumed.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut resumed, "").await.as_deref(), Some("of the agent"));
    let mut anew = open(&bench).await;
    anew.begin_router(&began(None), false).await.unwrap();
    assert_eq!(search(&mut anew, "").await.as_deref(), Some("of the router"), "undecided, it starts there");
}

/// Asks a model; `None`: it fails in a way that time may heal. True if the journal had the answer.
async fn ask(journal: &mut Journal, prompt: &str, answer: Option<&str>) -> bool {
    match journal.place::<Option<String>>(Function::Complete, &prompt).await.unwrap() {
        Found::Kept(..) => true,
        Found::Fresh(place) => {
            if answer.is_none() {
                journal.failed(&place);
            }
            journal.fill(&place, &answer).await.unwrap();
            false
        }
    }
}

#[tokio::test]
async fn what_was_paid_for_behind_a_failure_is_not_asked_again() {
    let bench = Bench::new().await;
    for crashes in [true, false] {
        let mut journal = open(&bench).await;
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        // The dear model is not there, the cheap one answers; then a third call fails.
        let before = !crashes;
        assert_eq!(ask(&mut journal, "dear", None).await, before);
        assert_eq!(ask(&mut journal, "cheap", Some("yes")).await, before);
        assert!(!ask(&mut journal, "third", None).await, "a failure at the end is asked again");
        if !crashes {
            assert!(journal.has_failed(), "the third call was an outage");
        }
    }
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(ask(&mut journal, "dear", None).await && ask(&mut journal, "cheap", None).await);
    assert!(!journal.has_failed(), "the agent got over it: nothing is to be asked again");
}

#[tokio::test]
async fn a_turn_that_comes_back_to_an_agent_goes_on_with_its_second_part() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    for (name, value) in [("a", "first"), ("b", "other"), ("a", "second")] {
        journal.begin_agent(&began(Some(name))).await.unwrap();
        assert_eq!(search(&mut journal, value).await, None);
    }
    let mut resumed = open(&bench).await;
    assert_eq!(resumed.resume(&agent("a")).unwrap(), 2);
    resumed.begin_agent(&began(Some("a"))).await.unwrap();
    assert_eq!(search(&mut resumed, "").await.as_deref(), Some("second"));
}

/// What is written behind is on the disk.
async fn written(bench: &Bench) {
    bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
}

#[tokio::test]
async fn a_run_whose_time_is_over_while_it_leaves_the_journal_loses_nothing_that_was_paid_for() {
    use futures::FutureExt;
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "prompt", Some("dear")).await);
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    drop(journal.place::<String>(Function::Search, &("question", 4)).now_or_never());
    written(&bench).await;
    // Killed there.
    let mut journal = open(&bench).await;
    journal.resume(&agent("sales")).unwrap();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert_eq!(search(&mut journal, "found").await, None);
    assert!(ask(&mut journal, "prompt", None).await, "paid for before");
}

#[tokio::test]
async fn an_answer_whose_call_ended_while_it_was_written_is_there_for_the_version_that_takes_over() {
    use futures::FutureExt;
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    let Found::Fresh(place) = journal.place::<String>(Function::Complete, &"prompt").await.unwrap() else {
        panic!("nobody has asked before");
    };
    assert!(journal.fill(&place, &Some("dear")).now_or_never().is_none(), "the disk takes its time");
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(ask(&mut journal, "prompt", Some("paid twice")).await);
}

#[tokio::test]
async fn an_outage_of_a_run_that_is_void_marks_no_answer_that_another_paid_for() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "away", None).await);
    assert!(!ask(&mut journal, "cheap", Some("yes")).await);
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "other", Some("dear")).await);
    assert!(!journal.has_failed());
    let mut journal = open(&bench).await;
    journal.resume(&agent("sales")).unwrap();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(ask(&mut journal, "other", None).await, "paid for before the crash");
}

#[tokio::test]
async fn what_a_void_run_paid_for_hides_no_outage_of_the_one_that_takes_over() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "prompt", Some("dear")).await);
    assert!(!ask(&mut journal, "second", Some("dear")).await);
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "away", None).await);
    assert!(journal.has_failed(), "it is the provider's fault");
}

#[tokio::test]
async fn what_was_paid_for_twice_is_there_twice_also_behind_a_crash() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(!ask(&mut journal, "prompt", Some("first")).await);
    assert!(!ask(&mut journal, "prompt", Some("second")).await);
    journal.again();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(ask(&mut journal, "prompt", None).await, "the first at its place");
    assert_eq!(search(&mut journal, "found").await, None);
    let mut journal = open(&bench).await;
    journal.resume(&agent("sales")).unwrap();
    journal.begin_agent(&began(Some("sales"))).await.unwrap();
    assert!(ask(&mut journal, "prompt", None).await);
    assert_eq!(search(&mut journal, "").await.as_deref(), Some("found"));
    assert!(ask(&mut journal, "prompt", Some("third")).await, "the second was set aside");
    assert!(!ask(&mut journal, "prompt", Some("third")).await, "once is once");
    // What was taken lies aside no more.
    let entries = bench.store.journal(&bench.claimed.lease).await.unwrap();
    assert!(entries.iter().all(|entry| entry.seq < Entry::ASIDE));
}

#[tokio::test]
async fn an_outage_that_a_router_got_over_is_over_for_the_agent() {
    let bench = Bench::new().await;
    let mut journal = open(&bench).await;
    journal.begin_router(&began(None), true).await.unwrap();
    assert!(!ask(&mut journal, "which agent", None).await);
    let ended = Ended { began: None, said: Said::answered(&"sales"), pending: Vec::new() };
    journal.end(ended).await.unwrap();
    let version = Digest::from_bytes([9; 32]);
    let own = Began { version, ..began(Some("sales")) };
    journal.begin_agent(&own).await.unwrap();
    assert!(!journal.has_failed(), "it has asked for nothing itself");
    written(&bench).await;
    let mut journal = open(&bench).await;
    assert_eq!(journal.resume(&agent("sales")).unwrap(), 0);
    assert_eq!(journal.pinned(), Some(version));
    journal.begin_agent(&own).await.unwrap();
    assert!(!ask(&mut journal, "prompt", None).await && journal.has_failed());
    let parts = async || {
        let entries = bench.store.journal(&bench.claimed.lease).await.unwrap();
        entries.iter().filter_map(Function::of).collect::<Vec<_>>()
    };
    use Function::{Agent, Complete, End, Router, Start};
    assert_eq!(parts().await, [Start, Router, Complete, End, Agent, Complete], "both parts can be replayed");
    // And where nobody was chosen yet, the router asks again.
    let mut journal = open(&bench).await;
    journal.begin_router(&began(None), true).await.unwrap();
    assert!(!ask(&mut journal, "which agent", Some("sales")).await);
}
