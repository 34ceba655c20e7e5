//! What a version that takes a turn over reads and writes where the one before it has written, and what a run that is
//! played may write.

use chela_egress::Egress;
use chela_gateway::{Budgets, Cache, CacheLevel, Gateway, UnknownPrice, defaults};
use chela_types::{AgentId, Digest, SystemClock, TierId};
use std::sync::Arc;
use tokio::sync::Mutex;

use super::*;
use crate::capability::Whom;
use crate::swap::playback::Playback;
use crate::swap::recording::{Began, Ended, Recording, Said};
use crate::testing::Bench;

fn sales() -> AgentId {
    AgentId::new("sales").unwrap()
}

fn began(version: u8) -> Began {
    Began {
        agent: Some(sales()),
        version: Digest::from_bytes([version; 32]),
        frame: Digest::from_bytes([2; 32]),
        past: 0,
        heard: Digest::from_bytes([3; 32]),
        sticky: None,
        purpose: "test".to_owned(),
    }
}

/// What an agent is lent, with this journal.
fn lent(bench: &Bench, journal: Journal) -> Lent {
    let config = chela_gateway::Config {
        providers: Vec::new(),
        tiers: Vec::new(),
        agents: Default::default(),
        embedding: Default::default(),
        budgets: Budgets::default(),
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let (store, clock) = (bench.store.clone(), Arc::new(SystemClock));
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    let turn = &bench.claimed.turn;
    Lent {
        gateway: Gateway::new(config, store.clone(), &egress, clock).unwrap(),
        store,
        journal: Arc::new(Mutex::new(journal)),
        whom: Arc::new(Whom {
            tenant: turn.tenant.clone(),
            agent: sales(),
            department: None,
            version: String::new(),
            turn: turn.message.id,
            conversation: turn.conversation,
            person: "slack/U1".to_owned(),
            channel: turn.message.channel.clone(),
            tier: TierId::new("fast").unwrap(),
            tiers_allowed: Vec::new(),
            knowledge: None,
            cache: CacheLevel::Exact,
            cache_ttl: None,
            refusal: String::new(),
        }),
        drafts: None,
        outward: None,
    }
}

async fn open(bench: &Bench) -> Lent {
    let (store, lease) = (bench.store.clone(), bench.claimed.lease.clone());
    lent(bench, Journal::open(store, lease, Arc::new(SystemClock)).await.unwrap())
}

impl Lent {
    async fn begin(&self, version: u8) {
        self.journal.lock().await.begin_agent(&began(version)).await.unwrap();
    }

    /// The version before takes over, and asks the knowledge first: what follows is void.
    async fn taken_over(&self) {
        self.journal.lock().await.again();
        self.begin(1).await;
        assert!(!self.elsewhere().await);
    }

    /// A search, by which the version before differs. True if it was made before.
    async fn elsewhere(&self) -> bool {
        let mut journal = self.journal.lock().await;
        match journal.place::<String>(Function::Search, &"elsewhere").await.unwrap() {
            Found::Kept(..) => true,
            Found::Fresh(place) => {
                journal.fill_behind(&place, &"found").await.unwrap();
                false
            }
        }
    }

    /// The host is killed, and the next one goes on with what is on the disk.
    async fn crashed(&self, bench: &Bench, version: u8) -> Lent {
        bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
        let lent = open(bench).await;
        lent.journal.lock().await.resume(&sales()).unwrap();
        lent.begin(version).await;
        lent
    }

    /// Value and version.
    async fn get(&self) -> Option<(String, u64)> {
        let (entry, _) = self.remember(Scope::Agent, "k".to_owned()).await.unwrap();
        entry.map(|entry| (entry.value, entry.version))
    }

    async fn put(&self, key: &str, value: &str, expected: Option<u64>) -> Kept {
        let function = if expected.is_some() { Function::CompareAndSet } else { Function::Set };
        let write = (key.to_owned(), value.to_owned(), expected);
        self.keep(function, Scope::Agent, write).await.unwrap().0
    }

    async fn set(&self, value: &str) -> u64 {
        self.put("k", value, None).await.unwrap().1
    }

    /// Whether it was written.
    async fn compare_and_set(&self, expected: u64, value: &str) -> bool {
        self.put("k", value, Some(expected)).await.unwrap().0
    }
}

fn at(value: &str, version: u64) -> Option<(String, u64)> {
    Some((value.to_owned(), version))
}

async fn stands(bench: &Bench) -> Option<(String, u64)> {
    let turn = &bench.claimed.turn;
    let kept = bench.store.memory_get(&turn.tenant, &sales(), &MemoryScope::Agent, "k").await.unwrap();
    kept.map(|entry| (entry.value, entry.version))
}

/// Somebody else writes, in another turn as it were.
async fn somebody_writes(bench: &Bench, value: &str) {
    let entry = chela_store::Entry {
        seq: 1_000,
        function: Function::Set.name().to_owned(),
        arguments: Digest::from_bytes([7; 32]),
        value: Vec::new(),
        at: Millis(0),
        version: None,
    };
    let write = MemoryWrite {
        agent: sales(),
        scope: MemoryScope::Agent,
        key: "k".to_owned(),
        value: value.to_owned(),
        expected: None,
        void: Vec::new(),
    };
    bench.store.memory_set(&bench.claimed.lease, write, move |_| entry.clone()).await.unwrap();
}

/// A new version has counted to one, and trapped.
async fn counted(bench: &Bench) -> Lent {
    let lent = open(bench).await;
    lent.begin(2).await;
    assert_eq!((lent.get().await, lent.set("1").await), (None, 1));
    lent
}

#[tokio::test]
async fn a_version_that_takes_over_counts_from_where_the_turn_began() {
    for crashes in [false, true] {
        let bench = Bench::new().await;
        let mut lent = counted(&bench).await;
        lent.taken_over().await;
        if crashes {
            lent = lent.crashed(&bench, 1).await;
            assert!(lent.elsewhere().await);
        }
        assert_eq!((lent.get().await, lent.get().await), (None, None), "as often as it looks");
        assert_eq!(lent.set("1").await, 1, "the same write is made");
        assert_eq!((lent.get().await, stands(&bench).await), (at("1", 1), at("1", 1)));
        assert_eq!(lent.set("2").await, 2);
        assert_eq!(lent.get().await, at("2", 2));
    }
}

#[tokio::test]
async fn a_version_that_counts_otherwise_counts_from_there_too_and_then_sees_its_own() {
    for crashes in [false, true] {
        let bench = Bench::new().await;
        let mut lent = counted(&bench).await;
        lent.taken_over().await;
        assert_eq!((lent.get().await, lent.set("10").await), (None, 2));
        if crashes {
            lent = lent.crashed(&bench, 1).await;
            assert!(lent.elsewhere().await);
            assert_eq!((lent.get().await, lent.set("10").await), (None, 2));
        }
        assert_eq!((lent.get().await, stands(&bench).await), (at("10", 2), at("10", 2)));
        assert_eq!(lent.set("1").await, 3, "what was void long ago is not taken for it");
        assert_eq!(stands(&bench).await, at("1", 3));
    }
}

#[tokio::test]
async fn a_version_that_compares_finds_what_the_one_before_it_found() {
    let bench = Bench::new().await;
    let lent = open(&bench).await;
    lent.begin(2).await;
    assert_eq!(lent.get().await, None);
    assert!(lent.compare_and_set(0, "1").await);
    assert_eq!(lent.get().await, at("1", 1));
    assert!(lent.compare_and_set(1, "2").await);
    lent.taken_over().await;
    assert_eq!(lent.get().await, None);
    assert!(lent.compare_and_set(0, "1").await, "the same write is made");
    assert_eq!(lent.get().await, at("1", 1));
    assert!(lent.compare_and_set(1, "other").await, "nobody else has written since");
    assert_eq!((lent.get().await, stands(&bench).await), (at("other", 3), at("other", 3)));
}

#[tokio::test]
async fn a_version_that_compares_sees_what_somebody_else_wrote_meanwhile() {
    let bench = Bench::new().await;
    let lent = counted(&bench).await;
    lent.taken_over().await;
    somebody_writes(&bench, "theirs").await;
    assert_eq!(lent.get().await, None);
    assert!(!lent.compare_and_set(0, "5").await, "theirs is not overwritten");
    assert_eq!(lent.get().await, at("theirs", 2), "and it is seen then");
    assert!(lent.compare_and_set(2, "5").await);
}

#[tokio::test]
async fn a_read_behind_which_nothing_was_written_is_read_again() {
    let bench = Bench::new().await;
    let lent = open(&bench).await;
    lent.begin(2).await;
    assert_eq!(lent.get().await, None);
    lent.put("other", "1", None).await.unwrap();
    lent.taken_over().await;
    somebody_writes(&bench, "theirs").await;
    assert_eq!(lent.get().await, at("theirs", 1));
}

#[tokio::test]
async fn what_a_run_has_overwritten_itself_is_not_taken_for_what_stands() {
    let bench = Bench::new().await;
    let lent = counted(&bench).await;
    assert_eq!(lent.set("2").await, 2);
    lent.taken_over().await;
    lent.set("1").await;
    assert_eq!((lent.get().await, stands(&bench).await), (at("1", 3), at("1", 3)));
}

/// The part as it is recorded, played by a run that goes on alone.
async fn played(bench: &Bench, lent_before: Lent) -> Lent {
    let ended = Ended { began: None, said: Said::answered(&"yes"), pending: Vec::new() };
    lent_before.journal.lock().await.end(ended).await.unwrap();
    bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
    let recording = Recording::read(&bench.store.journal(&bench.claimed.lease).await.unwrap()).unwrap();
    let part = &recording.parts[0];
    let playback = Playback::of(&part.ended, Some("replay"));
    lent(bench, Journal::played(playback, (recording.start, part), Arc::new(SystemClock)))
}

#[tokio::test]
async fn a_run_that_leaves_its_recording_sees_what_it_has_written_before() {
    let bench = Bench::new().await;
    let lent = played(&bench, counted(&bench).await).await;
    somebody_writes(&bench, "later").await;
    assert_eq!((lent.get().await, lent.set("1").await), (None, 1), "as it is recorded");
    assert_eq!(lent.get().await, at("1", 1), "and not as it stands today");
    assert!(lent.compare_and_set(1, "2").await);
    assert_eq!((lent.get().await, stands(&bench).await), (at("2", 2), at("later", 2)));
}

#[tokio::test]
async fn what_is_written_apart_has_the_limits_of_what_is_kept() {
    use chela_store::Config;
    let bench = Bench::new().await;
    let lent = played(&bench, counted(&bench).await).await;
    assert!(lent.get().await.is_none() && lent.set("1").await == 1);
    let most = "x".repeat(Config::MEMORY_VALUE_BYTES_MAX);
    assert!(lent.put("big", &most, None).await.is_ok());
    let more = format!("{most}x");
    let refused = lent.put("big", &more, None).await;
    assert!(
        matches!(&refused, Err(HostError::Limit(why)) if why.starts_with("memory value: at most ")),
        "{refused:?}"
    );
    // One is kept, one is new already.
    for n in 2..Config::MEMORY_KEYS_MAX {
        assert!(lent.put(&format!("k{n}"), "v", None).await.is_ok(), "{n}");
    }
    let refused = lent.put("one too many", "v", None).await;
    assert!(
        matches!(&refused, Err(HostError::Limit(why)) if why.starts_with("memory: at most ")),
        "{refused:?}"
    );
    assert!(lent.put("k", "an old key", None).await.is_ok() && lent.put("big", "v", None).await.is_ok());
}
