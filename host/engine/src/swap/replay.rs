//! Recorded turns under another version, or under the one that ran them: what would have been said.
//!
//! A part of a turn is a function of what is kept: the message, what was said before, the frame, the time and the
//! randomness of the turn, and what the host answered. So the version that ran it says the same again, byte for byte;
//! another one says what it makes of it, until it asks for what was not asked (`diverged`).

use chela_gateway::Gateway;
use chela_sandbox::{Build, PluginKind, Sandbox, Source};
use chela_store::{Recorded, Store};
use chela_types::{AgentId, Clock, Digest, Message, Millis, PluginId, TurnId, Utterance};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::compare::{compared, heard, shown};
use super::edition::{Edition, Settled};
use super::fleet::kept_build;
use super::recording::{self, Part, Recording};
use super::rerun::{Rerun, Rerunned};
use super::shadow::Compared;
use crate::config::Config;
use crate::contract::{self, answering, routing};
use crate::error::Error;
use crate::router;

/// Turns that are read at once.
const PAGE: usize = 64;
/// Parts that run at once.
const AT_ONCE: usize = 4;
/// Differences of one kind that are reported; all are counted.
const DIFFERENCES_MAX: usize = 200;
/// Longest words of a difference in bytes.
const WORDS_BYTES_MAX: usize = 2_000;
/// A machine that is busy now must not make a timeout of what was none.
const PATIENCE: u32 = 4;
/// Who pays for what a replay asks by itself.
const PURSE: &str = "replay";

/// Which version the recorded turns are run under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Under {
    /// The one that ran them.
    #[default]
    Recorded,
    /// The one in this folder.
    Folder(PathBuf),
    /// A kept one of a plugin, by the first digits of its digest.
    Version(PluginId, String),
}

/// What is to be replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// Under which version.
    #[serde(default)]
    pub under: Under,
    /// The plugin of the configuration whose place it takes; absent: the one whose folder or name it has.
    #[serde(default)]
    pub plugin: Option<PluginId>,
    /// Turns received since then, in milliseconds since 1970.
    pub since_ms: i64,
    /// This agent's parts alone.
    #[serde(default)]
    pub agent: Option<AgentId>,
    /// Turns at most; the oldest first.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Runs that diverge go on, and ask models at the expense of the scope `replay`.
    #[serde(default)]
    pub live: bool,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Turns that were looked at.
    pub turns: u64,
    /// Of so many.
    pub of: u64,
}

/// What a replay has shown. Counts are of parts: one call of a router or an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Turns that were looked at.
    pub turns: u64,
    /// Parts that were run.
    pub parts: u64,
    /// The same, byte for byte.
    pub same: u64,
    /// Something else was said.
    pub changed: u64,
    /// It asked for what the recording does not hold.
    pub diverged: u64,
    /// It failed where the recorded version did not.
    pub failed: u64,
    /// Not run: their words are purged.
    pub purged: u64,
    /// Not run: they were cut off, or kept by a host that wrote less.
    pub incomplete: u64,
    /// Not run: the host could not, and why the first time.
    pub broken: (u64, Option<String>),
    /// Changed and failed parts, the worst first.
    pub differences: Vec<Difference>,
    /// Where diverged parts left the recording.
    pub divergences: Vec<Difference>,
    /// How long it took.
    pub millis: u64,
}

/// One part that is not the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The turn.
    pub turn: String,
    /// The agent, or `router`.
    pub part: String,
    /// `failed`, `changed` or `diverged`.
    pub what: String,
    /// What was said.
    pub before: String,
    /// What is said now, or asked.
    pub after: String,
    /// Holds words of a conversation.
    pub private: bool,
    /// How bad it is, from 0 to 1.
    pub weight: f64,
}

/// What a replay stands on. The store may be one that is only read.
#[derive(Debug, Clone)]
pub struct ReplayRooms {
    /// What is kept.
    pub store: Store,
    /// Plugins.
    pub sandbox: Sandbox,
    /// Models, for runs that go on.
    pub gateway: Gateway,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Runs recorded turns again, and tells how far it is.
///
/// # Errors
/// A version that is refused or not kept; the store.
pub async fn replay(
    config: &Config,
    rooms: &ReplayRooms,
    request: &ReplayRequest,
    mut tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, Error> {
    let began = Instant::now();
    let replaying = Replaying {
        config,
        rooms,
        request,
        candidate: candidate(config, rooms, request).await?,
        editions: Mutex::default(),
        frames: Mutex::default(),
    };
    let since = Millis(request.since_ms);
    let all = rooms.store.count_recorded(&config.tenant, since).await?;
    let of = request.limit.map_or(all, |limit| all.min(limit));
    let mut report = ReplayReport::default();
    let mut after = 0;
    while report.turns < of {
        let page = usize::try_from(of - report.turns).unwrap_or(PAGE).min(PAGE);
        let turns = rooms.store.recorded(&config.tenant, since, after, page).await?;
        let Some(last) = turns.last() else { break };
        after = last.seq;
        let tasks: Vec<Task> =
            turns.into_iter().flat_map(|turn| replaying.tasks(turn, &mut report)).collect();
        // In order, and not by a stream of closures, whose lifetimes keep a future from being sent to another thread.
        let (mut running, mut ended) = (FuturesOrdered::new(), tasks.iter());
        for task in &tasks {
            running.push_back(replaying.run(task));
            if running.len() >= AT_ONCE
                && let (Some(task), Some(outcome)) = (ended.next(), running.next().await)
            {
                report.take(task, outcome);
            }
        }
        while let (Some(task), Some(outcome)) = (ended.next(), running.next().await) {
            report.take(task, outcome);
        }
        tell(ReplayProgress { turns: report.turns, of });
    }
    report.order();
    report.millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// The version that takes a plugin's place.
async fn candidate(
    config: &Config,
    rooms: &ReplayRooms,
    request: &ReplayRequest,
) -> Result<Option<(PluginId, Arc<Edition>)>, Error> {
    let (id, build) = match &request.under {
        Under::Recorded => return Ok(None),
        Under::Folder(folder) => {
            let source = Source::Folder(folder.clone());
            let reading = request.plugin.clone().map_or_else(|| PluginId::new("candidate"), Ok);
            let reading = reading.map_err(|error| Error::Configuration(error.to_string()))?;
            let build = rooms.sandbox.read(&reading, source).await?;
            (whose_place(config, request, (folder, &build))?, build)
        }
        Under::Version(id, digits) => {
            let versions = rooms.store.versions(&config.tenant, Some(id), VERSIONS_MAX).await?;
            let named = |version: &&chela_store::Version| version.digest.to_string().starts_with(digits);
            let version = versions.iter().find(named).ok_or_else(|| {
                let (plugin, digest) = (id.clone(), digits.clone());
                Error::from(super::refused::SwapRefused::NoVersion { plugin, digest })
            })?;
            (id.clone(), kept_build(&rooms.store, &rooms.sandbox, id, version).await?)
        }
    };
    if build.manifest.kind == PluginKind::Channel {
        let why =
            "a channel's calls are not recorded: what comes in is kept as messages, and not as requests";
        return Err(Error::Configuration(why.to_owned()));
    }
    let settled = Settled::of(config, &id)?
        .ok_or_else(|| Error::from(super::refused::SwapRefused::NoPlugin(id.to_string())))?;
    let edition = Edition::load(&rooms.sandbox, (&id, &build, settled), &|_, _| {}).await?;
    Ok(Some((id, Arc::new(edition))))
}

/// Versions of a plugin that are looked through for one.
const VERSIONS_MAX: usize = 1_000;

/// The plugin of the configuration whose place a folder takes.
fn whose_place(
    config: &Config,
    request: &ReplayRequest,
    (folder, build): (&std::path::Path, &Build),
) -> Result<PluginId, Error> {
    if let Some(id) = &request.plugin {
        return Ok(id.clone());
    }
    if let Some(agent) = request.agent.as_ref().filter(|_| build.manifest.kind == PluginKind::Agent) {
        let known = config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        return Ok(known.plugin.clone());
    }
    if build.manifest.kind == PluginKind::Router
        && let Some(router) = &config.routing.router
    {
        return Ok(router.clone());
    }
    let has_folder = |source: &Source| matches!(source, Source::Folder(known) if known == folder);
    let by_folder = config.plugins.iter().find(|(_, plugin)| has_folder(&plugin.source));
    let by_name = || config.plugins.get_key_value(&build.manifest.name);
    by_folder.or_else(by_name).map(|(id, _)| id.clone()).ok_or_else(|| {
        Error::Configuration(format!(
            "no plugin of the configuration has the folder {} or the name `{}`; say which one it is to stand for: --as NAME",
            folder.display(),
            build.manifest.name
        ))
    })
}

/// Versions that ran parts, by who asked and their digest; `None`: not kept any more.
type Editions = HashMap<(Option<AgentId>, Digest), Option<Arc<Edition>>>;

struct Replaying<'a> {
    config: &'a Config,
    rooms: &'a ReplayRooms,
    request: &'a ReplayRequest,
    candidate: Option<(PluginId, Arc<Edition>)>,
    editions: Mutex<Editions>,
    frames: Mutex<BTreeMap<Digest, Arc<str>>>,
}

/// One part that is run.
struct Task {
    turn: TurnId,
    seq: i64,
    conversation: chela_types::ConversationId,
    message: Arc<Message>,
    recording: Arc<Recording>,
    part: usize,
}

impl Task {
    fn part(&self) -> Option<&Part> {
        self.recording.parts.get(self.part)
    }
}

enum Outcome {
    Run(Rerunned),
    Purged,
}

impl Replaying<'_> {
    /// The parts of a turn that are asked for.
    fn tasks(&self, turn: Recorded, report: &mut ReplayReport) -> Vec<Task> {
        report.turns += 1;
        let Some(recording) = Recording::read(&turn.entries) else { return Vec::new() };
        report.incomplete += recording.incomplete as u64;
        let wanted: Vec<usize> = (0..recording.parts.len())
            .filter(|at| recording.parts.get(*at).is_some_and(|part| self.wants(part)))
            .collect();
        let Some(message) = turn.message else {
            report.purged += wanted.len() as u64;
            return Vec::new();
        };
        let (message, recording) = (Arc::new(message), Arc::new(recording));
        let task = |part| Task {
            turn: turn.id,
            seq: turn.seq,
            conversation: turn.conversation,
            message: Arc::clone(&message),
            recording: Arc::clone(&recording),
            part,
        };
        wanted.into_iter().map(task).collect()
    }

    fn wants(&self, part: &Part) -> bool {
        let agent = part.began.agent.as_ref();
        let is_asked = self.request.agent.as_ref().is_none_or(|only| agent == Some(only));
        let takes_its_place = self.candidate.as_ref().is_none_or(|(_, edition)| match agent {
            None => edition.router().is_some(),
            Some(agent) => edition.agent(agent).is_some(),
        });
        is_asked && takes_its_place
    }

    async fn run(&self, task: &Task) -> Outcome {
        match self.rerun(task).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Run(Rerunned::Host(error)),
        }
    }

    async fn rerun(&self, task: &Task) -> Result<Outcome, Error> {
        let Some(part) = task.part() else { return Ok(Outcome::Purged) };
        let began = &part.began;
        let store = &self.rooms.store;
        let past = match began.past {
            0 => Vec::new(),
            max => store.utterances_of(task.conversation, task.seq, max).await?,
        };
        let (Some(frame), true) = (self.frame(began.frame).await?, recording::heard(&past) == began.heard)
        else {
            return Ok(Outcome::Purged);
        };
        let Some(edition) = self.edition(part).await? else { return Ok(Outcome::Purged) };
        let rerun = Rerun {
            store,
            gateway: &self.rooms.gateway,
            clock: &self.rooms.clock,
            config: self.config,
            message: &task.message,
            conversation: task.conversation,
            start: task.recording.start,
            part,
            live: self.request.live.then_some(PURSE),
            patience: if part.ended.said.is_out_of_time() { 1 } else { PATIENCE },
        };
        self.under(&rerun, &edition, (&frame, &past)).await.map(Outcome::Run)
    }

    async fn under(
        &self,
        rerun: &Rerun<'_>,
        edition: &Edition,
        (frame, past): (&str, &[Utterance]),
    ) -> Result<Rerunned, Error> {
        let unread = |error: serde_json::Error| {
            Error::Configuration(format!("what a component was told cannot be read back: {error}"))
        };
        let began = &rerun.part.began;
        let gone = || Error::Configuration("the version serves no such place".to_owned());
        match &began.agent {
            None => {
                let frame: routing::Context = serde_json::from_str(frame).map_err(unread)?;
                let post = edition.router().ok_or_else(gone)?;
                let context = router::told(frame, began.sticky.as_ref(), past);
                Ok(rerun.router(&post.plugin, edition.digest(), context).await)
            }
            Some(agent) => {
                let profile: answering::Profile = serde_json::from_str(frame).map_err(unread)?;
                let post = edition.agent(agent).ok_or_else(gone)?;
                let message = contract::message(rerun.message);
                let turn = answering::Turn { message, profile, past: contract::utterances(past) };
                Ok(rerun.agent(&post.plugin, (agent, edition.digest()), turn).await)
            }
        }
    }

    async fn frame(&self, digest: Digest) -> Result<Option<Arc<str>>, Error> {
        if let Some(known) = self.frames.lock().get(&digest) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(frame) = self.rooms.store.frame(&self.config.tenant, digest).await? else { return Ok(None) };
        let frame: Arc<str> = frame.into();
        self.frames.lock().insert(digest, Arc::clone(&frame));
        Ok(Some(frame))
    }

    /// The candidate, or the version that ran the part.
    async fn edition(&self, part: &Part) -> Result<Option<Arc<Edition>>, Error> {
        if let Some((_, candidate)) = &self.candidate {
            return Ok(Some(Arc::clone(candidate)));
        }
        let key = (part.began.agent.clone(), part.began.version);
        if let Some(known) = self.editions.lock().get(&key) {
            return Ok(known.clone());
        }
        let edition = self.kept(part.began.version).await?;
        self.editions.lock().insert(key, edition.clone());
        Ok(edition)
    }

    async fn kept(&self, digest: Digest) -> Result<Option<Arc<Edition>>, Error> {
        let ReplayRooms { store, sandbox, .. } = self.rooms;
        let all = store.versions(&self.config.tenant, None, VERSIONS_MAX).await?;
        let Some(version) = all.into_iter().find(|version| version.digest == digest) else { return Ok(None) };
        let settled: Settled = serde_json::from_str(&version.settings)
            .map_err(|error| Error::Configuration(format!("settings of a version: {error}")))?;
        let build = kept_build(store, sandbox, &version.plugin, &version).await?;
        let edition = Edition::load(sandbox, (&version.plugin, &build, settled), &|_, _| {}).await?;
        Ok(Some(Arc::new(edition)))
    }
}

impl ReplayReport {
    fn take(&mut self, task: &Task, outcome: Outcome) {
        let Some(part) = task.part() else { return };
        let rerun = match outcome {
            Outcome::Purged => {
                self.purged += 1;
                return;
            }
            Outcome::Run(Rerunned::Host(error)) => {
                self.broken.0 += 1;
                self.broken.1.get_or_insert_with(|| error.to_string());
                return;
            }
            Outcome::Run(rerun) => rerun,
        };
        self.parts += 1;
        let recorded = &part.ended.said;
        if matches!(&rerun, Rerunned::Said(said, None) if said == recorded) {
            self.same += 1;
            return;
        }
        let (before, after) = (shown(&part.began, recorded), heard(&part.began, &rerun));
        let what = match compared(&part.began, recorded, &rerun) {
            Compared::Failed => "failed",
            Compared::Diverged => "diverged",
            Compared::Same | Compared::Different => "changed",
        };
        let weight = match what {
            "failed" => 1.0,
            _ if before.text == after.text => 0.0,
            _ if part.began.agent.is_none() => 0.9,
            _ => 0.8 * (1.0 - strsim::sorensen_dice(&before.text, &after.text)),
        };
        let cut = |text: &str| crate::words::short(text, WORDS_BYTES_MAX);
        let difference = Difference {
            turn: task.turn.to_string(),
            part: part.began.agent.as_ref().map_or_else(|| "router".to_owned(), ToString::to_string),
            what: what.to_owned(),
            before: cut(&before.text),
            after: cut(&after.text),
            private: before.is_private || after.is_private,
            weight,
        };
        match what {
            "failed" => self.failed += 1,
            "diverged" => self.diverged += 1,
            _ => self.changed += 1,
        }
        let list = if what == "diverged" { &mut self.divergences } else { &mut self.differences };
        list.push(difference);
        // Kept short on the way, with what is worst.
        if list.len() > 2 * DIFFERENCES_MAX {
            worst_first(list);
        }
    }

    fn order(&mut self) {
        worst_first(&mut self.differences);
        worst_first(&mut self.divergences);
    }

    /// Without words of conversations, for those who may not read them.
    #[must_use]
    pub fn without_words(mut self) -> Self {
        let private = self.differences.iter_mut().chain(&mut self.divergences).filter(|it| it.private);
        for difference in private {
            difference.before = "(words of a conversation)".to_owned();
            difference.after = difference.before.clone();
        }
        self
    }
}

fn worst_first(list: &mut Vec<Difference>) {
    list.sort_by(|one, other| other.weight.total_cmp(&one.weight));
    list.truncate(DIFFERENCES_MAX);
}
