//! Change while the host runs: the files are read again, and what they say now is what runs, or what ran before runs
//! on and everybody is told why.
//!
//! A [`Reloader`] reads; `rounds.rs` says when. Everything that the configuration names is read each time: nobody has
//! to know what has changed, and a reload that finds nothing new does nothing.

mod look;
mod news;
mod restart;
mod roots;
mod rounds;
mod standing;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chela_engine::{Engine, Reloaded, Update, Who};
use chela_types::{AgentId, Blame, Digest, Fault, Retry};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::compose::{self, Ground, Knowledge};
use crate::config::{self, Config, ConfigError, Source, Warning};
use crate::doors::Operators;
use crate::front::Clients;
use crate::turn::in_one_line;
use look::Seen;
pub(crate) use roots::Roots;
pub(crate) use rounds::Reloads;
pub use standing::{Invalid, Standing};

/// What is missing may be there again in a moment: editors and deployments put files aside before others come.
const MISSING_WAIT: Duration = Duration::from_millis(200);
/// So long documents are kept at least that no configuration names any more: turns that began with them search them.
const DOCUMENTS_KEPT: Duration = Duration::from_secs(600);
/// A turn may be handed on from agent to agent: so many times the longest call.
const CALLS_OF_A_TURN: u32 = 4;
/// Columns of a mistake as it is kept and shown.
const WIDTH: usize = 100;

/// Why what the files say does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has mistakes.
    #[error("the configuration cannot be used: {0}")]
    Invalid(Box<ConfigError>),
    /// A file that it names cannot be used, or a room cannot run with it.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] chela_engine::Error),
}

impl Error {
    /// Where and why, for whoever mends it. Holds no secret.
    pub fn text(&self) -> String {
        if let Self::Invalid(error) = self {
            return error.render(WIDTH, false);
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// Whether whoever writes the files has to mend something.
    pub(crate) fn is_of_files(&self) -> bool {
        match self {
            Self::Compose(compose::Error::Store(error)) => is_of_files(error),
            Self::Compose(compose::Error::Engine(error)) | Self::Engine(error) => is_of_files(error),
            Self::Compose(compose::Error::Sandbox(_)) => false,
            Self::Invalid(_) | Self::Compose(_) => true,
        }
    }

    /// True for what may be over without a change of any file.
    fn passes(&self) -> bool {
        match self {
            Self::Compose(compose::Error::File { .. } | compose::Error::Store(_)) => true,
            Self::Compose(compose::Error::Engine(error)) | Self::Engine(error) => {
                error.retry() != Retry::Never || error.blame() == Blame::Host
            }
            Self::Invalid(_) | Self::Compose(_) => false,
        }
    }
}

fn is_of_files(error: &impl Fault) -> bool {
    matches!(error.blame(), Blame::Operator | Blame::Plugin)
}

/// Reads the configuration again. Cheap to clone; clones reload one after another.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ground: Ground,
    engine: Engine,
    operators: Operators,
    clients: Clients,
    standing: Standing,
    running: Mutex<Running>,
    watched: RwLock<(Arc<Roots>, Duration)>,
}

/// What runs.
#[derive(Debug)]
struct Running {
    /// As the file said it, but for what waits for a restart.
    config: Config,
    /// Of everything that the gateway is made from.
    models: Digest,
    /// The documents of its agents.
    knowledge: Knowledge,
    /// Documents that it does not name, and since when: read for what was refused, or named before.
    unnamed: BTreeMap<String, Instant>,
}

impl Reloader {
    /// For an engine that runs with this configuration and these documents.
    pub fn new(
        (config, knowledge): (Config, Knowledge),
        engine: Engine,
        ground: Ground,
        (operators, clients): (Operators, Clients),
    ) -> Self {
        Self(Arc::new(Inner {
            ground,
            engine,
            operators,
            clients,
            standing: Standing::new(config.digest),
            watched: RwLock::new((Arc::new(Roots::of(&config)), config.swap.poll)),
            running: Mutex::new(Running {
                models: compose::models_digest(&config),
                config,
                knowledge,
                unnamed: BTreeMap::new(),
            }),
        }))
    }

    /// The clients that may ask over `/v1`.
    pub fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// What is told of the configuration.
    pub fn standing(&self) -> &Standing {
        &self.0.standing
    }

    /// Reads everything again and runs with it. `apply`: also in a host that reloads by hand, which would only report
    /// what is new.
    ///
    /// # Errors
    /// [`Error`]; what ran before runs on, and the error is kept for [`Reloader::standing`].
    pub async fn reload(&self, apply: bool, who: &Who) -> Result<Reloaded, Error> {
        let mut running = self.0.running.lock().await;
        let (outcome, named) = match read(running.config.named.clone()).await {
            Ok(read) => {
                let named = Roots::of(&read.0);
                (self.take_over(&mut running, read, apply, who).await, named)
            }
            Err(error) => {
                let named = Roots::of_files(error.paths());
                (Err(Error::Invalid(Box::new(error))), named)
            }
        };
        // What is refused or waits may come to be right: what it names is watched as well.
        let roots = Roots::of(&running.config).and(named);
        *self.0.watched.write() = (Arc::new(roots), running.config.swap.poll);
        match &outcome {
            // Of versions that are refused or wait, the engine tells once.
            Ok(reloaded) => {
                for change in &reloaded.changed {
                    tracing::info!(by = who.0, "{}", in_one_line(change));
                }
            }
            Err(error) => self.failed(error, &running.config),
        }
        metrics::counter!("config_reloads_total", "result" => self.result(&outcome)).increment(1);
        outcome
    }

    /// One word for the metric.
    fn result(&self, outcome: &Result<Reloaded, Error>) -> &'static str {
        let waits = |reloaded: &Reloaded| !reloaded.waiting.is_empty() || self.0.standing.waiting().is_some();
        match outcome {
            Ok(reloaded) if !reloaded.refused.is_empty() => "refused",
            Ok(reloaded) if reloaded.applied && !reloaded.changed.is_empty() => "applied",
            Ok(reloaded) if waits(reloaded) => "waiting",
            Ok(_) => "unchanged",
            Err(Error::Invalid(_)) => "invalid",
            Err(_) => "failed",
        }
    }

    async fn take_over(
        &self,
        running: &mut Running,
        (mut config, doubts): (Config, Vec<Warning>),
        apply: bool,
        who: &Who,
    ) -> Result<Reloaded, Error> {
        let restart = restart::keep(&running.config, &mut config);
        restart::check(&config).map_err(compose::Error::Configuration)?;
        wait_for_plugins(&config).await;
        let update = self.update(running, &config, apply).await?;
        let knowledge = compose::knowledge(&update.config);
        let admin_token = self.0.ground.admin_token(&config)?;
        let mut reloaded = self.0.engine.reload(update, who).await?;
        let news = news::between((&running.config, &running.knowledge), (&config, &knowledge));
        if config.digest != running.config.digest {
            doubts.iter().for_each(|doubt| tracing::warn!(code = %doubt.code(), "{doubt}"));
        }
        if reloaded.applied {
            let known = self.0.standing.restart();
            let later = restart.iter().filter(|key| !known.contains(key));
            let later = later.map(|key| format!("{key} is another one after a restart"));
            reloaded.changed.splice(0..0, news.into_iter().chain(later));
            self.0.operators.replace(&config, &admin_token);
            self.0.clients.replace(&config);
            self.0.standing.runs(config.digest, restart);
            self.evict(&running.config, &config).await;
            running.models = compose::models_digest(&config);
            running.config = config;
            self.forget(running, knowledge).await;
        } else {
            let is_told = self.0.standing.waiting().is_some_and(|waiting| waiting.contents == news);
            if !news.is_empty() && !is_told {
                reloaded.changed.insert(0, format!("{} waits for `chela reload --apply`", news.join(", ")));
            }
            self.0.standing.waits(config.digest, news);
        }
        Ok(reloaded)
    }

    /// What the engine is told. Of a configuration that is only looked at, because nobody has applied it, nothing is
    /// kept yet.
    async fn update(&self, running: &mut Running, config: &Config, apply: bool) -> Result<Update, Error> {
        let ground = &self.0.ground;
        if !apply && !running.config.swap.auto {
            // Made to be sure that it could be.
            ground.gateway(config).await?;
            return Ok(Update { config: ground.considered(config).await?, gateway: None, apply });
        }
        let is_other = compose::models_digest(config) != running.models;
        if is_other {
            self.0.engine.gateway().write_down_cached().await;
        }
        let gateway = if is_other { Some(ground.gateway(config).await?) } else { None };
        let config = ground.engine(config).await?;
        // In case that it does not come to serve.
        let read = compose::knowledge(&config).into_values().map(|collection| (collection, Instant::now()));
        running.unnamed.extend(read);
        Ok(Update { config, gateway, apply })
    }

    /// What was said to an agent whose answers are no longer kept is not held for the rest of its time.
    async fn evict(&self, before: &Config, now: &Config) {
        for agent in no_longer_kept(before, now) {
            let which = chela_gateway::Evict::Agent(agent);
            self.0.engine.gateway().evict_cached(&self.0.ground.tenant, &which, false).await;
        }
    }

    /// Agents search these documents from now on; what was read for nobody, or is searched by nobody any more, is
    /// removed.
    async fn forget(&self, running: &mut Running, knowledge: Knowledge) {
        let before = std::mem::replace(&mut running.knowledge, knowledge);
        running.unnamed.extend(before.into_values().map(|collection| (collection, Instant::now())));
        let longest = running.config.plugins.values().map(|plugin| plugin.limits.deadline).max();
        let kept = (longest.unwrap_or_default() * CALLS_OF_A_TURN).max(DOCUMENTS_KEPT);
        running.unnamed.retain(|collection, _| !running.knowledge.values().any(|named| named == collection));
        let all = running.unnamed.len();
        running.unnamed.retain(|_, since| since.elapsed() < kept);
        if running.unnamed.len() == all {
            return;
        }
        let kept = running.knowledge.values().chain(running.unnamed.keys());
        if let Err(error) = self.0.ground.forget_but(kept).await {
            // The next start removes them.
            tracing::warn!(%error, "documents that nobody searches any more are not removed");
        }
    }

    /// Keeps what is wrong.
    fn failed(&self, error: &Error, config: &Config) {
        let invalid =
            Invalid { at: self.0.ground.clock.now(), text: error.text(), of_host: !error.is_of_files() };
        let what = invalid.what();
        if self.0.standing.fails(invalid) {
            tracing::error!(file = %config.named.display(), error = %in_one_line(&error.to_string()), "{what}; what ran before runs on: see `chela status`");
        }
    }

    /// Reloads whenever a file changes, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        // What lay there when the host read its files, nobody has seen: they are read once more.
        rounds::watch(self, None, stop).await;
    }
}

impl Reloads for Reloader {
    fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.0.watched.read().0)
    }

    fn poll(&self) -> Duration {
        self.0.watched.read().1
    }

    async fn reload(&self) -> bool {
        match Reloader::reload(self, false, &Who::loader()).await {
            Ok(_) => true,
            Err(error) => !error.passes(),
        }
    }
}

/// Watches files that are no host's, in the same way, until `stop`. Begins with a reload.
pub(crate) async fn watch(reloads: impl Reloads, stop: CancellationToken) {
    rounds::watch(reloads, None, stop).await;
}

/// Reads the file; what is missing is looked for once more.
async fn read(file: PathBuf) -> Result<(Config, Vec<Warning>), ConfigError> {
    match load(file.clone()).await {
        Err(error) if error.is_missing() => tokio::time::sleep(MISSING_WAIT).await,
        outcome => return outcome,
    }
    load(file).await
}

/// The agents that are confidential now, want no cache, or are gone, and of which there may be kept answers.
fn no_longer_kept(before: &Config, now: &Config) -> Vec<AgentId> {
    let is_kept = |config: &Config, agent: &AgentId| {
        config.agents.get(agent).is_some_and(|agent| agent.cache != chela_gateway::CacheLevel::Off)
    };
    before.agents.keys().filter(|agent| is_kept(before, agent) && !is_kept(now, agent)).cloned().collect()
}

async fn load(file: PathBuf) -> Result<(Config, Vec<Warning>), ConfigError> {
    let env = |name: &str| std::env::var(name).ok();
    let read = tokio::task::spawn_blocking(move || config::load(&file, &env));
    read.await.unwrap_or_else(|error| Err(ConfigError::unread(&error.to_string())))
}

/// A folder whose component is put aside before the next one comes gets a moment.
async fn wait_for_plugins(config: &Config) {
    let folders = config.plugins.values().filter_map(|plugin| match &plugin.source {
        Source::Folder(folder) => Some(folder.clone()),
        Source::Builtin(_) => None,
    });
    let folders: Vec<_> = folders.collect();
    let is_whole = tokio::task::spawn_blocking(move || folders.iter().all(|folder| Seen::is_plugin(folder)));
    if !is_whole.await.unwrap_or(true) {
        tokio::time::sleep(MISSING_WAIT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n";

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_for_a_moment_is_looked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        let coming = {
            let path = path.clone();
            async move {
                tokio::time::sleep(MISSING_WAIT / 2).await;
                std::fs::write(path, GOOD).unwrap();
            }
        };
        let (found, ()) = tokio::join!(read(path.clone()), coming);
        assert_eq!(found.unwrap().0.agents.len(), 1);
        std::fs::remove_file(&path).unwrap();
        let error = invalid(read(path).await);
        assert!(error.text().contains("not found") && !error.passes(), "{}", error.text());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mistake_is_not_looked_at_twice_and_shows_its_line_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        std::fs::write(&path, format!("[server]\nadmin_tokn = \"hunter2\"\n{GOOD}")).unwrap();
        let began = tokio::time::Instant::now();
        let error = invalid(read(path).await);
        assert!(began.elapsed() < MISSING_WAIT);
        let text = error.text();
        assert!(text.contains("chela.toml:2:1") && text.contains("did you mean `admin_token`?"), "{text}");
        assert!(!text.contains("hunter2") && !error.passes(), "{text}");
    }

    #[tokio::test]
    async fn what_was_said_to_an_agent_that_becomes_confidential_is_kept_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        let read = async |text: &str| {
            std::fs::write(&path, format!("[plugin.a]\nsource = \"builtin:assistant\"\n{text}")).unwrap();
            load(path.clone()).await.unwrap().0
        };
        let agents = |of: [&str; 4]| -> String {
            let table = |(name, keys): (&str, &str)| format!("[agent.{name}]\nplugin = \"a\"\n{keys}\n");
            ["stays", "shut", "off", "gone"]
                .into_iter()
                .zip(of)
                .filter(|(_, keys)| *keys != "-")
                .map(table)
                .collect()
        };
        let before = read(&agents(["", "", "", ""])).await;
        let now = read(&agents(["persona = \"kind\"", "confidential = true", "cache = \"off\"", "-"])).await;
        let names: Vec<String> = no_longer_kept(&before, &now).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["gone", "off", "shut"]);
        assert!(no_longer_kept(&now, &now).is_empty());
    }

    fn invalid(read: Result<(Config, Vec<Warning>), ConfigError>) -> Error {
        Error::Invalid(Box::new(read.unwrap_err()))
    }

    #[test]
    fn what_may_be_over_by_itself_is_tried_again_and_is_not_held_against_the_files() {
        let of = |error: &Error| (error.passes(), error.is_of_files());
        let busy = chela_store::Error::Busy(Duration::ZERO);
        assert_eq!(of(&Error::Compose(compose::Error::Store(busy))), (true, false));
        assert_eq!(of(&Error::Compose(compose::Error::Configuration("no".to_owned()))), (false, true));
        let wrong = chela_engine::Error::Configuration("no".to_owned());
        assert_eq!(of(&Error::Engine(wrong)), (false, true));
        let crashed = chela_engine::Error::Crashed(1);
        assert_eq!(
            of(&Error::Engine(crashed)),
            (true, false),
            "what the host could not do, it may the next time"
        );
    }
}
