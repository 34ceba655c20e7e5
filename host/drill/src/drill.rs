//! The drill: one attack after the other, each judged by everything that it must not do.

use bytes::Bytes;
use chela_engine::Error as EngineError;
use chela_engine::probe::{Asking, Probed};
use chela_sandbox::{Grant, Grants, Level, Limits, PluginKind, Settings, Source};
use chela_types::AgentId;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Error;
use crate::attack::{Act, Attack, Guest, MARK, SHOP};
use crate::cost::{Meter, Spent};
use crate::ground::{self, AGENT, COLLEAGUE, Ground, Laid};
use crate::labels::Labels;
use crate::outcome::Outcome;
use crate::verdict::{Cost, Verdict};

/// On a machine that is busy with others, an end may come so much later than it should.
const SLACK: Duration = Duration::from_secs(2);
/// Memory that a call may take beside the guest's own.
const BESIDE_BYTES: u64 = 64 << 20;
/// What is neither ended by the host nor by this is a hole; beyond all other bounds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Series that one attack may add: those of a plugin, each with its outcomes.
const SERIES_MAX: usize = 64;
/// Longest text of what the host said.
const SAID_CHARS_MAX: usize = 200;
/// How long a place may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);
/// What everybody else has kept.
const CANARY: &str = "canary-9c07";

/// What the honest router says.
const HONEST: &str = "support: harmless";

/// What an agent is granted, and one that sends requests and keeps files.
const AGENT_GRANTS: [Grant; 2] = [Grant::Models, Grant::Memory];
const SENDER: [Grant; 4] = [Grant::Models, Grant::Memory, Grant::Http, Grant::Blobs];

/// What an adapter does that does nothing bad.
const HONESTLY: &str = "honest";

/// Everything that is attacked.
pub struct Drill {
    ground: Ground,
    laid: Laid,
    labels: Labels,
    honest: BTreeMap<&'static str, Probed>,
    /// Requests of platforms so far.
    requests: AtomicU64,
}

impl std::fmt::Debug for Drill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drill").field("ground", &self.ground).finish_non_exhaustive()
    }
}

/// What came of a guest: loaded and asked, or refused.
struct Ended {
    outcome: Outcome,
    said: String,
    load: Cost,
    call: Option<Cost>,
}

impl Drill {
    /// Lays the ground, and lets the guest that behaves be served at these levels.
    ///
    /// # Errors
    /// [`Error`] if a drill can't be held here.
    pub async fn begin(ground: Ground, levels: &[Level], labels: Labels) -> Result<Arc<Self>, Error> {
        let laid = ground.lay().await?;
        let mut drill = Self { ground, laid, labels, honest: BTreeMap::new(), requests: AtomicU64::new(0) };
        for level in levels {
            let probed = drill.load(Guest::Written("honest"), *level).await;
            let probed = probed.map_err(|error| Error::Honest(error.to_string()))?;
            drill.honest.insert(word(*level), probed);
            drill.serves(*level).await.map_err(Error::Honest)?;
        }
        Ok(Arc::new(drill))
    }

    /// Tries an attack at one of the levels that it was begun with.
    pub async fn try_one(self: &Arc<Self>, attack: &'static Attack, level: Level) -> Verdict {
        let (places, series) = (self.laid.sandbox.free_instances(), self.labels.count());
        let drill = Arc::clone(self);
        // A host that panics is a hole, and not the end of the drill.
        let task = tokio::spawn(async move { drill.attacked(attack, level).await });
        let ended = match task.await {
            Ok(ended) => ended,
            Err(error) => self.panicked(attack, level, &error.to_string()),
        };
        let mut against = self.held_against(attack, &ended);
        if let Err(why) = self.serves(level).await {
            against.push(format!("the next caller was not served: {why}"));
        }
        if !self.gives_back(places).await {
            against.push("a place among those that live was not given back".to_owned());
        }
        let more = self.labels.count().saturating_sub(series);
        if more > SERIES_MAX {
            against.push(format!("it made {more} series of metrics"));
        }
        if self.labels.hold(MARK) || self.labels.hold(CANARY) {
            against.push("its words stand in a metric".to_owned());
        }
        Verdict {
            attack: attack.name,
            tries: attack.tries,
            family: attack.family,
            isolation: level,
            contained: against.is_empty(),
            ended: ended.outcome.to_string(),
            must_end: attack.ends.iter().map(ToString::to_string).collect(),
            said: ended.said,
            against,
            load: ended.load,
            call: ended.call,
        }
    }

    /// The way of an attack against itself: how it ended, what it said, what it cost.
    fn held_against(&self, attack: &Attack, ended: &Ended) -> Vec<String> {
        let mut against = ended.load.over("the load");
        against.extend(ended.call.iter().flat_map(|call| call.over("the call")));
        if !attack.ends.contains(&ended.outcome) {
            against.push(format!("it ended with `{}`", ended.outcome));
        }
        let is_said = attack.says.is_none_or(|says| ended.said.contains(says));
        if !is_said {
            against.push(format!("it did not end with the word `{}`", attack.says.unwrap_or_default()));
        }
        if ended.said.contains(CANARY) {
            against.push("it said what is another's".to_owned());
        }
        against
    }

    async fn attacked(&self, attack: &Attack, level: Level) -> Ended {
        let kind = attack.guest.kind();
        let limits = self.ground.limits.of(kind).clone();
        // Made before anything is measured: some are large.
        let source = attack.guest.source();
        let meter = Meter::begin();
        let loaded = self.load_from(attack.guest, source, level);
        let loaded = self.within(self.ground.load_time(), loaded).await;
        let load = self.ground.load_cost(&limits, meter.end());
        let probed = match loaded {
            Ok(probed) => probed,
            Err(error) => {
                let failed: Result<(), _> = Err(error);
                return Ended {
                    outcome: Outcome::of(&failed),
                    said: said(failed.map(|()| String::new())),
                    load,
                    call: None,
                };
            }
        };
        if matches!(attack.act, Act::Load) {
            return Ended { outcome: Outcome::Answered, said: "it was loaded".to_owned(), load, call: None };
        }
        let times = if let Act::Ask(_, times) = attack.act { times } else { 2 };
        let time = limits.deadline.saturating_mul(times);
        let meter = Meter::begin();
        let ended = self.within(time, self.acted(attack.act, &probed, level)).await;
        let call = self.ground.call_cost(&limits, (level, time), meter.end());
        Ended { outcome: Outcome::of(&ended), said: said(ended), load, call: Some(call) }
    }

    /// A drill ends, also where an attack does not.
    async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let hang = || EngineError::Configuration("it was not ended at all".to_owned());
        tokio::time::timeout(time + SLACK + PATIENCE, work).await.unwrap_or_else(|_| Err(hang()))
    }

    async fn load(&self, guest: Guest, level: Level) -> Result<Probed, EngineError> {
        self.load_from(guest, guest.source(), level).await
    }

    async fn load_from(
        &self,
        guest: Guest,
        source: Option<Source>,
        level: Level,
    ) -> Result<Probed, EngineError> {
        let none = || EngineError::Configuration("this program does not carry the guest".to_owned());
        let source = source.ok_or_else(none)?;
        let id = ground::plugin().map_err(|error| EngineError::Configuration(error.to_string()))?;
        let kind = guest.kind();
        let grants = match (guest, kind) {
            (Guest::Sender(_), _) => &SENDER[..],
            (_, PluginKind::Agent) => &AGENT_GRANTS,
            _ => &[],
        };
        let grants: Grants = grants.iter().copied().collect();
        let limits = self.ground.limits.of(kind).clone();
        let settings = Settings { id, config: guest.config(), grants, limits, level };
        self.laid.probe.load(kind, source, settings).await
    }

    async fn acted(&self, act: Act, probed: &Probed, level: Level) -> Result<String, EngineError> {
        let Laid { probe, .. } = &self.laid;
        match (act, probed) {
            (Act::Load, _) => Ok(String::new()),
            (Act::Ask(text, times), _) => {
                let mut last = Ok(String::new());
                for n in 0..times {
                    last = probe.ask(probed, mallory(format!("{text} {MARK}-{n}"))?).await;
                }
                last
            }
            (Act::Guess(text), _) => {
                self.keep_secrets(level).await?;
                probe.ask(probed, mallory(text.to_owned())?).await
            }
            (Act::ReadFile, _) => {
                let keeper = self.load(Guest::Sender(SHOP), level).await?;
                let kept = asking(AGENT, "mallory", "mine", format!("file {CANARY}"))?;
                let kept = self.laid.other.ask(&keeper, kept).await?;
                let handle = kept.split(' ').next().unwrap_or_default();
                probe.ask(probed, mallory(format!("file-read {handle}"))?).await
            }
            (Act::Receive(does), Probed::Channel(adapter)) => {
                let taken = probe.receive(adapter, self.request(does)).await?;
                Ok(format!("{taken} events were taken"))
            }
            (Act::Deliver(does), Probed::Channel(adapter)) => {
                probe.deliver(adapter, self.request(HONESTLY), does).await
            }
            (Act::Receive(_) | Act::Deliver(_), _) => {
                Err(EngineError::Configuration("only an adapter translates".to_owned()))
            }
        }
    }

    /// A request as the guest's manifest reads it: a new one each time, and its own conversation.
    fn request(&self, does: &str) -> Bytes {
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        let request = json!({
            "id": format!("m{n}"), "room": format!("r{n}"), "sender": "mallory", "text": "hello", "does": does,
        });
        Bytes::from(request.to_string())
    }

    /// Everybody else keeps a secret: another person with the same agent, another agent, another organisation in which
    /// everything is called the same.
    async fn keep_secrets(&self, level: Level) -> Result<(), EngineError> {
        let keeper = self.load(Guest::Built(PluginKind::Agent, "agent"), level).await?;
        let keep = |agent: &str, sender: &str, conversation: &str| {
            asking(agent, sender, conversation, format!("keep {CANARY}"))
        };
        // What an agent keeps for itself, it may tell anybody.
        let apart = asking(AGENT, "victim", "theirs", format!("keep-apart {CANARY}"))?;
        self.laid.probe.ask(&keeper, apart).await?;
        self.laid.probe.ask(&keeper, keep(COLLEAGUE, "mallory", "mine")?).await?;
        self.laid.other.ask(&keeper, keep(AGENT, "mallory", "mine")?).await?;
        Ok(())
    }

    /// The guest that behaves is asked, and answers in its time.
    async fn serves(&self, level: Level) -> Result<(), String> {
        let probed = self.honest.get(word(level)).ok_or("no honest guest runs at this level")?;
        let asking =
            asking(AGENT, "someone", "theirs", "hello".to_owned()).map_err(|error| error.to_string())?;
        match self.laid.probe.ask(probed, asking).await {
            Ok(said) if said == HONEST => Ok(()),
            Ok(said) => Err(format!("it was answered `{said}`")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What a call held is given back off its path, soon.
    async fn gives_back(&self, places: usize) -> bool {
        let end = Instant::now() + GIVEN_BACK;
        while self.laid.sandbox.free_instances() < places {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    fn panicked(&self, attack: &Attack, level: Level, what: &str) -> Ended {
        let limits = self.ground.limits.of(attack.guest.kind());
        let nothing = Spent::default();
        Ended {
            outcome: Outcome::Host,
            said: short(what),
            load: self.ground.load_cost(limits, nothing),
            call: Some(self.ground.call_cost(limits, (level, Duration::ZERO), nothing)),
        }
    }

    /// One call of many at once: each in a conversation of its own.
    pub(crate) async fn ask(&self, probed: &Probed, call: u64) -> Outcome {
        let asking = asking(AGENT, "mallory", &format!("call {call}"), "hello".to_owned());
        let Ok(asking) = asking else { return Outcome::Host };
        Outcome::of(&self.laid.probe.ask(probed, asking).await)
    }

    pub(crate) async fn loaded(&self, name: &'static str, level: Level) -> Result<Probed, Error> {
        let loaded = self.load(Guest::Written(name), level).await;
        loaded.map_err(|error| Error::Honest(error.to_string()))
    }
}

impl Ground {
    /// How long a load may take: the child that prepares, and the worker that loads.
    fn load_time(&self) -> Duration {
        self.sandbox.compiler.wall.saturating_add(self.sandbox.isolation.load_wall)
    }

    /// The child has its address space; the host the code that it returns, twice while it is handed on.
    fn load_cost(&self, limits: &Limits, spent: Spent) -> Cost {
        let guest = limits.memory_bytes as u64;
        let host = guest.saturating_mul(3).saturating_add(self.sandbox.component_bytes_max as u64);
        cost(spent, self.load_time(), (host + BESIDE_BYTES, self.sandbox.compiler.address_space_bytes))
    }

    /// Whoever runs the guest has its memory; the other one only what crosses.
    fn call_cost(&self, limits: &Limits, (level, time): (Level, Duration), spent: Spent) -> Cost {
        let guest = limits.memory_bytes as u64 + BESIDE_BYTES;
        let (host, child) = match level {
            Level::InProcess => (guest, guest),
            Level::Worker => (BESIDE_BYTES, guest),
        };
        cost(spent, time.saturating_add(self.sandbox.isolation.grace), (host, child))
    }
}

fn cost(spent: Spent, time: Duration, (host_bytes_max, child_bytes_max): (u64, u64)) -> Cost {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Cost {
        ms: ms(spent.time),
        ms_max: ms(time + SLACK),
        host_bytes: spent.host_bytes,
        host_bytes_max,
        child_bytes: spent.child_bytes,
        child_bytes_max,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::InProcess => "in-process",
        Level::Worker => "worker",
    }
}

fn mallory(text: String) -> Result<Asking, EngineError> {
    asking(AGENT, "mallory", "mine", text)
}

fn asking(agent: &str, sender: &str, conversation: &str, text: String) -> Result<Asking, EngineError> {
    let agent = AgentId::new(agent).map_err(|error| EngineError::Configuration(error.to_string()))?;
    Ok(Asking { agent, sender: sender.to_owned(), conversation: conversation.to_owned(), text })
}

/// What the host said, of one line.
fn said(ended: Result<String, EngineError>) -> String {
    match ended {
        Ok(said) => short(&said),
        Err(error) => {
            let causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            short(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
        }
    }
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_CHARS_MAX).collect()
}
