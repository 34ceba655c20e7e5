//! Plugins are swapped a thousand times while messages come in: nothing is lost, nothing fails, and each message is
//! handled by a version that served at some time between its arrival and its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chela_gateway::Rule;
use chela_sandbox::Grants;
use chela_store::{Recorded, SettledAs};
use chela_tests::versions::{Exchange, Senders, each_is_answered_once, router_of};
use chela_tests::{Host, Outside, Setup, host, say};
use chela_types::{Clock, Millis, SystemClock, TenantId};
use serde_json::json;

const SWAPS: usize = 1_000;
const SENDERS: usize = 4;
/// Streams at once: each is longer than many swaps.
const STREAMS: usize = 16;
/// More than any message can meet: so that one which is handled by a version of long ago is found out.
const BUILDS: usize = 16;
/// What `turn show` calls the beginning of an agent's part.
const AGENT: &str = "turn.agent";
const END: &str = "turn.end";

/// When a version served, at most.
#[derive(Debug, Clone)]
struct Reign {
    build: usize,
    from: Millis,
    until: Millis,
}

/// Swaps a plugin through its builds, again and again; returns the digest of each build, and when each served.
async fn swapped(
    host: &Host,
    plugin: &str,
    (builds, senders): (&[Setup], impl FnOnce() -> Senders),
) -> (Vec<String>, Vec<Reign>, Vec<Exchange>) {
    let now = || SystemClock.now();
    // Each is compiled before the swaps are timed, the first one last: it serves when they begin.
    let mut digests = vec![String::new(); builds.len()];
    for (number, build) in builds.iter().enumerate().rev() {
        let done = host.update(build).await.unwrap();
        assert!(done.refused.is_empty() && done.waiting.is_empty(), "{done:?}");
        digests[number] = host.active(plugin).await.digest;
    }
    let mut reigns = vec![Reign { build: 0, from: now(), until: now() }];
    let senders = senders();
    let started = Instant::now();
    for swap in 1..=SWAPS {
        let (build, from) = (swap % builds.len(), now());
        let done = host.update(&builds[build]).await.unwrap();
        assert_eq!(done.changed.len(), 1, "swap {swap}: {done:?}");
        reigns.last_mut().unwrap().until = now();
        reigns.push(Reign { build, from, until: now() });
    }
    let took = started.elapsed();
    let exchanges = senders.stop().await;
    reigns.last_mut().unwrap().until = now();
    println!("{SWAPS} swaps of {plugin} in {took:?}, {} messages", exchanges.len());
    (digests, reigns, exchanges)
}

/// The builds that served at some time between these.
fn served(reigns: &[Reign], from: Millis, until: Millis) -> Vec<usize> {
    let within = |reign: &&Reign| reign.from <= until && from <= reign.until;
    reigns.iter().filter(within).map(|reign| reign.build).collect()
}

/// Only what a version does is judged here, and not how long a busy machine takes for it.
fn patient(setup: Setup) -> Setup {
    setup.with_swap(|swap| swap.latency_floor = Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_swapped_a_thousand_times_and_each_message_is_decided_by_one_that_served_meanwhile() {
    let outside = Arc::new(Outside::new().await);
    let setup = patient(host(&outside))
        .agent("support", "agent")
        .router("router", json!({}))
        .with_plugin("router", |plugin| plugin.grants = Grants::NONE)
        .webhook("partner", "support");
    let build = |number| setup.clone().build("router", ("router", "1.0.0", &format!("tag-{number}")));
    let builds: Vec<Setup> = (0..BUILDS).map(build).collect();
    let host = Arc::new(builds[0].clone().run().await);
    let start = || Senders::start(&host, &outside, SENDERS);
    let (digests, reigns, exchanges) = swapped(&host, "router", (&builds, start)).await;

    each_is_answered_once(&outside, &exchanges);
    let exchanges: BTreeMap<String, Exchange> =
        exchanges.into_iter().map(|exchange| (exchange.text.clone(), exchange)).collect();
    let mut deciders = vec![0; BUILDS];
    let mut told_apart = 0;
    for record in host.flawless(exchanges.len(), true).await {
        let exchange = &exchanges[&record.message.as_ref().unwrap().text];
        let decided = digests.iter().position(|digest| digest.starts_with(router_of(&record)));
        let decided = decided.unwrap_or_else(|| panic!("no build decided: {record:?}"));
        assert_eq!(record.decisions[0].1.reason, format!("tag-{decided}"));
        let served = served(&reigns, exchange.asked, exchange.answered);
        assert!(served.contains(&decided), "build {decided} decided {exchange:?}, and {served:?} served");
        deciders[decided] += 1;
        told_apart += usize::from(served.len() < BUILDS);
    }
    assert!(deciders.iter().all(|count| *count > 0), "each build has decided: {deciders:?}");
    assert!(told_apart * 2 > exchanges.len(), "{told_apart} of {} could be told apart", exchanges.len());
    println!("{told_apart} of {} could be told apart; decided by build: {deciders:?}", exchanges.len());
    let rolled_back = host.history("router").await.into_iter().filter(|it| it.happened.what == "rolled back");
    assert_eq!(rolled_back.count(), 0);
}

/// All turns with their journals.
async fn recorded(host: &Host) -> Vec<Recorded> {
    let mut turns: Vec<Recorded> = Vec::new();
    loop {
        let after = turns.last().map_or(0, |turn| turn.seq);
        let page = host.store.recorded(&TenantId::default_tenant(), Millis(0), after, 500).await.unwrap();
        if page.is_empty() {
            return turns;
        }
        turns.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_swapped_a_thousand_times_and_each_stream_ends_on_the_version_that_began_it() {
    let outside = Arc::new(Outside::new().await);
    let words = "word ".repeat(40);
    let setup = patient(host(&outside))
        .agent("support", "agent")
        .model([Rule { chunk_ms: 10, ..say(&words) }])
        .webhook("partner", "support");
    let how = |number| if number % 2 == 0 { "stream" } else { "relay" };
    let build =
        |number| setup.clone().build("agent", ("agent", "1.0.0", &format!("{}-tag-{number}", how(number))));
    let builds: Vec<Setup> = (0..BUILDS).map(build).collect();
    let host = Arc::new(builds[0].clone().run().await);
    let start = || Senders::start(&host, &outside, STREAMS);
    let (digests, reigns, exchanges) = swapped(&host, "agent", (&builds, start)).await;

    each_is_answered_once(&outside, &exchanges);
    let exchanges: BTreeMap<String, Exchange> =
        exchanges.into_iter().map(|exchange| (exchange.text.clone(), exchange)).collect();
    host.flawless(exchanges.len(), false).await;
    let ledger = host.store.ledger(100_000).await.unwrap();
    assert_eq!(ledger.rows.len(), exchanges.len(), "one stream for each turn");
    assert!(ledger.rows.iter().all(|row| row.state == SettledAs::Settled));

    let mut outlived = 0;
    for turn in recorded(&host).await {
        let exchange = &exchanges[&turn.message.as_ref().unwrap().text];
        let begun: Vec<_> = turn.entries.iter().filter(|entry| entry.function == AGENT).collect();
        let [begun] = begun.as_slice() else { panic!("one part: {turn:?}") };
        let end = turn.entries.iter().find(|entry| entry.function == END).expect("it has ended");
        assert_eq!(end.version, begun.version, "{exchange:?}");
        let version = begun.version.unwrap().to_string();
        let build = digests.iter().position(|digest| *digest == version).expect("a build began it");
        let served_then = served(&reigns, exchange.asked, begun.at);
        assert!(served_then.contains(&build), "build {build} began {exchange:?}, and {served_then:?} served");
        let tags = (exchange.reply.split_once(' '), exchange.reply.rsplit_once(' '));
        let (Some((first, _)), Some((middle, last))) = tags else { panic!("{exchange:?}") };
        assert_eq!((first, last), (&*build.to_string(), &*build.to_string()), "{exchange:?}");
        assert!(middle.ends_with(words.trim()), "the whole stream: {exchange:?}");
        outlived += usize::from(!served(&reigns, end.at, end.at).contains(&build));
    }
    println!("{outlived} of {} streams outlived their version", exchanges.len());
    assert!(outlived * 2 > exchanges.len(), "{outlived} of {} outlived", exchanges.len());
}
