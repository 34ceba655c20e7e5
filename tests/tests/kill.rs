//! The host is killed at random moments under load, and nothing that it acknowledged is lost, said twice, said in
//! another order or paid wrongly.
//!
//! The real program, the real disk, `kill -9`. After each kill the store is read as the crash has left it, and the
//! turns' phases are counted, so that it is known which moments were hit. Phases that last microseconds are widened
//! only by what may happen outside: a provider that thinks, platforms that are slow or ask to wait, agents whose
//! places are taken. `CHELA_KILLS` (50) and `CHELA_SEED` (random, printed) are read from the environment.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chela_server::standin::{SenderSettings, provider, slack};
use chela_store::{Phase, Progress, Store, TurnRecord, TurnState};
use chela_tests::Outside;
use chela_tests::kill::{
    Books, Conversations, Evidence, Load, Name, Verdict, check, configuration, growing, rest,
};
use chela_tests::outside::{PRICE, PROVIDER_KEY, ROOMS, SLACK_SECRET, SLACK_TOKEN};
use chela_tests::process::Process;
use chela_types::SystemClock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

const KILLS: u32 = 50;
/// Conversations in Slack, in Slack with answers that grow, and at the webhook partner.
const CONVERSATIONS: Conversations = Conversations { slack: 24, growing: 10, partner: 14 };
/// Phases of one commit are hit seldom: it goes on until each was, at most so many times the kills that were asked.
const PATIENCE_IN_KILLS: u32 = 4;
/// Phases that must have been hit.
const PHASES: [Phase; 8] = [
    Phase::Received,
    Phase::Claimed,
    Phase::Decided,
    Phase::ModelCallOpen,
    Phase::Journaled,
    Phase::Answered,
    Phase::Sending,
    Phase::StepSent,
];

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Said also when the test passes.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Kills and turns of one phase.
#[derive(Debug, Default, Clone, Copy)]
struct Hit {
    kills: u64,
    turns: u64,
}

async fn outside() -> Outside {
    let model = provider::Settings {
        first_token: Duration::from_millis(40),
        // A long answer takes half a second: time for some drafts of those that grow.
        between: Duration::from_millis(12),
        ..provider::Settings::new(PROVIDER_KEY, PRICE)
    };
    let room = slack::Settings {
        // As patient as a platform and quicker: every message is sent until it is acknowledged.
        sender: SenderSettings::quick(10_000, Duration::from_millis(40)),
        ..slack::Settings::new(SLACK_SECRET, SLACK_TOKEN, &ROOMS)
    };
    Outside::with_provider(Arc::new(SystemClock), model, room).await
}

/// Kills, reads what is left, starts again.
async fn kill_again_and_again(
    process: &mut Process,
    kills: u32,
    random: &mut StdRng,
) -> BTreeMap<Phase, Hit> {
    let mut hits: BTreeMap<Phase, Hit> = BTreeMap::new();
    let missed = |hits: &BTreeMap<Phase, Hit>| PHASES.iter().any(|phase| !hits.contains_key(phase));
    let mut done = 0;
    while done < kills || (done < kills * PATIENCE_IN_KILLS && missed(&hits)) {
        done += 1;
        // The moments are the test: some while it starts, some just after, when everything that was left is
        // claimed at once, most of them under full load.
        match random.random_range(0..10) {
            0 => sleep(Duration::from_millis(random.random_range(0..400))).await,
            1..4 => {
                process.ready().await;
                sleep(Duration::from_millis(random.random_range(0..100))).await;
            }
            _ => {
                process.ready().await;
                sleep(Duration::from_millis(random.random_range(100..1_300))).await;
            }
        }
        process.kill().await;
        let store = Store::open_read_only(&process.data()).await.expect("the store can be read after a kill");
        for (phase, turns) in store.phases().await.expect("phases") {
            let hit = hits.entry(phase).or_default();
            hit.kills += 1;
            hit.turns += turns;
        }
        store.close().await.expect("a reader closes");
        process.start();
    }
    process.ready().await;
    tell(&format!("{done} kills"));
    hits
}

fn report(hits: &BTreeMap<Phase, Hit>, verdict: &Verdict, evidence: &Evidence, load: &Load, bills: usize) {
    tell("phase of a turn   kills that hit it   turns");
    for phase in &PHASES {
        let Hit { kills, turns } = hits.get(phase).copied().unwrap_or_default();
        tell(&format!("{:<16}  {kills:>17}  {turns:>6}", format!("{phase:?}")));
    }
    let Books { bill, settled, unknown, .. } = evidence.books;
    let ambiguous: u64 = evidence.ambiguous.values().sum();
    tell(&format!(
        "messages          {} sent, {} acknowledged, {} requests",
        evidence.sent.len(),
        verdict.acknowledged,
        load.attempts()
    ));
    tell(&format!(
        "deliveries        {}, of them {} repeats of {ambiguous} ambiguous sends",
        evidence.seen.len(),
        verdict.repeats
    ));
    tell(&format!("model calls       {bills} billed: {bill}; ledger {settled}, of it {unknown} unknown"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_answered_once_whenever_the_host_is_killed() {
    let kills = from_environment("CHELA_KILLS").unwrap_or(KILLS);
    let seed: u64 = from_environment("CHELA_SEED").unwrap_or_else(rand::random);
    tell(&format!("kill test: {kills} kills, CHELA_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let outside = Arc::new(outside().await);
    let mut process = Process::prepare(|folder| {
        let documents = folder.join("knowledge");
        std::fs::create_dir(&documents).unwrap();
        std::fs::write(documents.join("orders.md"), "# Orders\n\nAn order ships in two days.").unwrap();
        configuration(&outside) + &growing(folder, &outside)
    });
    process.start();
    process.ready().await; // the first start compiles the plugins
    let mut load = Load::start(Arc::clone(&outside), |name| process.channel(name), seed, CONVERSATIONS);
    let hits = kill_again_and_again(&mut process, kills, &mut random).await;
    load.end().await;
    let evidence = || Evidence { sent: load.sent(), seen: load.seen(), ..Evidence::default() };
    rest(&process, evidence).await;
    assert!(process.terminate().await, "it does not stop well:\n{}", process.log());

    let store = Store::open_read_only(&process.data()).await.unwrap();
    let (counts, ledger) = (store.counts().await.unwrap(), store.ledger(0).await.unwrap());
    let books = Books {
        bill: outside.provider.total(),
        settled: ledger.settled,
        unknown: ledger.unknown,
        reserved: ledger.reserved,
    };
    let mut evidence = Evidence { sent: load.sent(), seen: load.seen(), books, ..Evidence::default() };
    let (mut records, mut grown) = (BTreeMap::new(), 0);
    for turn in store.recent_turns(usize::MAX).await.unwrap() {
        let record = store.turn_record(turn).await.unwrap().unwrap();
        let text = record.message.as_ref().map(|message| message.text.clone()).unwrap_or_default();
        let (name, _) = Name::read(text.split(' ').next().unwrap_or_default()).expect("one of our messages");
        let ambiguous = record.outbox.as_ref().map_or(0, |outbox| u64::from(outbox.ambiguous));
        evidence.ambiguous.insert(name.clone(), ambiguous);
        grown += u64::from(matches!(record.progress, Some(Progress::Settled { .. })));
        if record.progress == Some(Progress::Lost) {
            evidence.lost_posts.insert(name.clone());
        }
        records.insert(name, record);
    }
    let verdict = check(&evidence);
    report(&hits, &verdict, &evidence, &load, outside.provider.bills().len());
    tell(&format!(
        "growing answers   {grown} ended in the place of their drafts, {} drafts were left of {} lost posts",
        verdict.drafts,
        evidence.lost_posts.len()
    ));
    assert!(grown > 0, "no answer was seen growing");

    if !verdict.wrong.is_empty() {
        for (name, record) in
            records.iter().filter(|(_, record)| record.state != TurnState::Delivered).take(10)
        {
            let TurnRecord { state, tries, crashes, waits, last_error, outbox, .. } = record;
            tell(&format!("{}: {state:?} {tries} {crashes} {waits} {last_error:?} {outbox:?}", name.word(0)));
        }
    }
    assert!(verdict.wrong.is_empty(), "CHELA_SEED={seed}:\n{}", verdict.wrong.join("\n"));
    assert!(verdict.acknowledged > u64::from(kills), "no load to speak of: {}", verdict.acknowledged);
    assert_eq!(
        (counts.waiting, counts.leased, counts.dead, counts.undelivered),
        (0, 0, 0, 0),
        "CHELA_SEED={seed}"
    );
    let missed: Vec<_> =
        PHASES.iter().filter(|phase| hits.get(phase).is_none_or(|hit| hit.kills == 0)).collect();
    assert!(missed.is_empty(), "no kill hit {missed:?}; CHELA_SEED={seed}");
}
