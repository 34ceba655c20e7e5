//! Recorded turns under another version, or under the one that ran them: what would have been said.
//!
//! A part of a turn is a function of what is kept: the message, what was said before, the frame, the time and the
//! randomness of the turn, and what the host answered. So the version that ran it says the same again, byte for byte;
//! another one says what it makes of it, until it asks for what was not asked (`diverged`).

use chela_gateway::Gateway;
use chela_sandbox::{Build, PluginKind, Sandbox, Source};
use chela_store::{Recorded, Store, TurnState};
use chela_types::{AgentId, Clock, ConversationId, Digest, Message, Millis, PluginId, TurnId, Utterance};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OnceCell;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::edition::{Edition, Settled};
use super::fleet::kept_build;
use super::recent::Recent;
use super::recording::{self, Began, Part, Recording};
use super::refused::{SwapRefused, the_one};
use super::replayed::{Outcome, ReplayProgress, ReplayReport};
use super::rerun::{Rerun, Rerunned};
use crate::config::Config;
use crate::contract::{self, answering, routing};
use crate::error::Error;
use crate::journal::Start;
use crate::router;
use crate::trust;

/// Turns that are read at once, each with all of its journal.
const PAGE: usize = 16;
/// Parts that run at once.
const AT_ONCE: usize = 4;
/// Versions that are held loaded.
const EDITIONS_MAX: usize = 16;
/// Frames that are held.
const FRAMES_MAX: usize = 64;
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
    /// Turns that hold such parts, at most; the oldest first.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Runs that diverge go on, and ask models at the expense of the scope `replay`.
    #[serde(default)]
    pub live: bool,
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

/// Runs recorded turns again, and tells how far it is. Dropped, it ends what it runs.
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
    if request.live && !rooms.gateway.has_budget_apart() {
        return Err(Error::Configuration(NO_BUDGET.to_owned()));
    }
    let replaying = Arc::new(Replaying {
        config: config.clone(),
        rooms: rooms.clone(),
        request: request.clone(),
        candidate: candidate(config, rooms, request).await?,
        editions: Mutex::new(Recent::new(EDITIONS_MAX)),
        frames: Mutex::new(Recent::new(FRAMES_MAX)),
    });
    let since = Millis(request.since_ms);
    let all = rooms.store.count_recorded(&config.tenant, since).await?;
    let mut report = ReplayReport::default();
    let (mut left, mut after) = (request.limit.unwrap_or(u64::MAX), 0);
    let mut running = FuturesOrdered::new();
    while left > 0 {
        let turns = rooms.store.recorded(&config.tenant, since, after, PAGE).await?;
        if turns.is_empty() {
            break;
        }
        for turn in turns {
            after = turn.seq;
            let wanted = replaying.wanted(turn, &mut report);
            left -= u64::from(!wanted.is_empty());
            for part in wanted {
                if running.len() >= AT_ONCE
                    && let Some(ended) = running.next().await
                {
                    replaying.ended(&mut report, ended);
                }
                running.push_back(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&replaying).run(part))));
            }
            if left == 0 {
                break;
            }
        }
        tell(ReplayProgress { turns: report.turns, of: all.min(report.turns.saturating_add(left)) });
    }
    while let Some(ended) = running.next().await {
        replaying.ended(&mut report, ended);
    }
    report.order();
    report.millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Nobody's messages are to stay unanswered because a replay has spent what all may.
const NO_BUDGET: &str = "a replay that goes on alone is paid by the scope `replay`, and nothing bounds what that may spend: \
    write into chela.toml what it may, as `shadow = \"5.00\"` under [budget]";

/// The version that takes a plugin's place.
async fn candidate(
    config: &Config,
    rooms: &ReplayRooms,
    request: &ReplayRequest,
) -> Result<Option<Arc<Edition>>, Error> {
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
            let named = rooms.store.named_version(&config.tenant, id, digits).await?;
            let version = the_one(named, id, digits)?;
            (id.clone(), kept_build(&rooms.store, &rooms.sandbox, id, &version).await?)
        }
    };
    if build.manifest.kind == PluginKind::Channel {
        let why =
            "a channel's calls are not recorded: what comes in is kept as messages, and not as requests";
        return Err(Error::Configuration(why.to_owned()));
    }
    let settled = Settled::for_a_look(config, &id, (&build.provenance, build.component_digest))?;
    let settled = settled.ok_or_else(|| Error::from(SwapRefused::NoPlugin(id.to_string())))?;
    if let Some(agent) = request.agent.as_ref().filter(|agent| !settled.agents.contains_key(*agent)) {
        return Err(Error::Configuration(format!(
            "plugin `{id}` does not serve the agent `{agent}` but {}: no part of that agent can be run under it",
            settled.serves().join(", ")
        )));
    }
    let edition = Edition::load(&rooms.sandbox, (&id, &build, settled), &|_, _| {}).await?;
    Ok(Some(Arc::new(edition)))
}

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

/// A version that ran parts.
#[derive(Debug, Clone)]
enum Loaded {
    Edition(Arc<Edition>),
    /// Not kept any more.
    Gone,
    /// It cannot be loaded, and why.
    Broken(String),
}

struct Replaying {
    config: Config,
    rooms: ReplayRooms,
    request: ReplayRequest,
    candidate: Option<Arc<Edition>>,
    editions: Mutex<Recent<OnceCell<Loaded>>>,
    frames: Mutex<Recent<OnceCell<Option<Arc<str>>>>>,
}

/// One part that is asked for.
struct Wanted {
    turn: TurnId,
    seq: i64,
    conversation: ConversationId,
    message: Arc<Message>,
    start: Start,
    part: Part,
}

impl Replaying {
    /// The parts of a turn that are asked for.
    fn wanted(&self, turn: Recorded, report: &mut ReplayReport) -> Vec<Wanted> {
        report.turns += 1;
        let Some(message) = turn.message.map(Arc::new) else {
            // Whose it was, the journal said.
            report.purged += u64::from(turn.state != TurnState::Withdrawn);
            return Vec::new();
        };
        let Some(recording) = Recording::read(&turn.entries) else { return Vec::new() };
        let cut_off = recording.cut_off.iter();
        let incomplete = cut_off.filter(|began| began.as_ref().is_none_or(|began| self.wants(began)));
        report.incomplete += incomplete.count() as u64;
        let start = recording.start;
        let wanted = recording.parts.into_iter().filter(|part| self.wants(&part.began)).map(|part| Wanted {
            turn: turn.id,
            seq: turn.seq,
            conversation: turn.conversation,
            message: message.clone(),
            start,
            part,
        });
        wanted.collect()
    }

    fn wants(&self, began: &Began) -> bool {
        let agent = began.agent.as_ref();
        let is_asked = self.request.agent.as_ref().is_none_or(|only| agent == Some(only));
        let takes_its_place = self.candidate.as_ref().is_none_or(|edition| match agent {
            None => edition.router().is_some(),
            Some(agent) => edition.agent(agent).is_some(),
        });
        is_asked && takes_its_place
    }

    async fn run(self: Arc<Self>, wanted: Wanted) -> (Wanted, Outcome) {
        let outcome = match self.rerun(&wanted).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Broken(error.to_string()),
        };
        (wanted, outcome)
    }

    fn ended(&self, report: &mut ReplayReport, ended: Result<(Wanted, Outcome), JoinError>) {
        match ended {
            Ok((Wanted { turn, part, .. }, outcome)) => report.take(&self.config, (turn, &part), outcome),
            Err(error) => report.broke(format!("a run broke off: {error}")),
        }
    }

    async fn rerun(&self, wanted: &Wanted) -> Result<Outcome, Error> {
        let Wanted { conversation, message, start, part, .. } = wanted;
        let (began, store) = (&part.began, &self.rooms.store);
        let past = match began.past {
            0 => Vec::new(),
            max => store.utterances_of(*conversation, wanted.seq, max).await?,
        };
        let (Some(frame), true) = (self.frame(began.frame).await?, recording::heard(&past) == began.heard)
        else {
            return Ok(Outcome::Purged);
        };
        let edition = match self.edition(began.version).await {
            Loaded::Edition(edition) => edition,
            Loaded::Gone => return Ok(Outcome::Gone),
            Loaded::Broken(why) => return Ok(Outcome::Broken(why)),
        };
        let rerun = Rerun {
            store,
            gateway: &self.rooms.gateway,
            clock: &self.rooms.clock,
            config: &self.config,
            message,
            conversation: *conversation,
            start: *start,
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
        let known = self.frames.lock().get(digest);
        let read = async || {
            let frame = self.rooms.store.frame(&self.config.tenant, digest).await?;
            Ok::<_, Error>(frame.map(Arc::from))
        };
        known.get_or_try_init(read).await.cloned()
    }

    /// The candidate, or the version that ran the part.
    async fn edition(&self, version: Digest) -> Loaded {
        if let Some(candidate) = &self.candidate {
            return Loaded::Edition(Arc::clone(candidate));
        }
        let known = self.editions.lock().get(version);
        // What cannot be loaded for one part cannot be for the next.
        let load =
            async || self.kept(version).await.unwrap_or_else(|error| Loaded::Broken(error.to_string()));
        known.get_or_init(load).await.clone()
    }

    async fn kept(&self, digest: Digest) -> Result<Loaded, Error> {
        let ReplayRooms { store, sandbox, .. } = &self.rooms;
        let Some(version) = store.version_of_any(&self.config.tenant, digest).await? else {
            return Ok(Loaded::Gone);
        };
        let mut settled: Settled = serde_json::from_str(&version.settings)
            .map_err(|error| Error::Configuration(format!("settings of a version: {error}")))?;
        let build = kept_build(store, sandbox, &version.plugin, &version).await?;
        let origin = (&build.provenance, build.component_digest);
        settled.level = trust::level_for_a_look(&self.config, &version.plugin, origin)?;
        let edition = Edition::load(sandbox, (&version.plugin, &build, settled), &|_, _| {}).await?;
        Ok(Loaded::Edition(Arc::new(edition)))
    }
}
