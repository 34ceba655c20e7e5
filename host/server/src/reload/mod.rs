//! Change while the host runs: the files are read again, and what they say now is what runs, or what ran before runs
//! on and everybody is told why.
//!
//! A [`Reloader`] reads; `rounds.rs` says when. Everything that the configuration names is read each time: nobody has
//! to know what has changed, and a reload that finds nothing new does nothing.

mod look;
mod restart;
mod roots;
mod rounds;
mod standing;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Engine, Reloaded, Update, Who};
use chela_types::{Digest, Fault, Retry};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::compose::{self, Ground};
use crate::config::{self, Config, ConfigError, Source, Warning};
use crate::doors::Operators;
use crate::turn::in_one_line;
use look::Seen;
use roots::Roots;
use rounds::Reloads;
pub use standing::{Invalid, Standing};

/// What is missing may be there again in a moment: editors and deployments put files aside before others come.
const MISSING_WAIT: Duration = Duration::from_millis(200);
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

    /// True for what may be over without a change of any file.
    fn passes(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Compose(compose::Error::File { .. } | compose::Error::Store(_)) => true,
            Self::Compose(compose::Error::Engine(error)) | Self::Engine(error) => {
                error.retry() != Retry::Never
            }
            Self::Compose(_) => false,
        }
    }
}

/// Reads the configuration again. Cheap to clone; clones reload one after another.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ground: Ground,
    engine: Engine,
    operators: Operators,
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
}

/// What lay there when the configuration was read: changes since then are new.
#[derive(Debug)]
pub struct Begun {
    config: Config,
    seen: Seen,
}

impl Begun {
    /// Looks at the files of a configuration that was just read.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone(), seen: Seen::at(&Roots::of(config)) }
    }
}

impl Reloader {
    /// For an engine that runs with what was read at `begun`; and what was seen then, for [`Reloader::watch`].
    pub fn new(begun: Begun, engine: Engine, ground: Ground, operators: Operators) -> (Self, Watching) {
        let Begun { config, seen } = begun;
        let inner = Inner {
            ground,
            engine,
            operators,
            standing: Standing::new(config.digest),
            watched: RwLock::new((Arc::new(Roots::of(&config)), config.swap.poll)),
            running: Mutex::new(Running { models: compose::models_digest(&config), config }),
        };
        (Self(Arc::new(inner)), Watching(seen))
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
        let outcome = self.attempt(&mut running, apply, who).await;
        match &outcome {
            // Of versions that are refused or wait, the engine tells once.
            Ok(reloaded) => {
                for change in &reloaded.changed {
                    tracing::info!(by = who.0, "{}", in_one_line(change));
                }
            }
            Err(error) => self.failed(error, &running.config).await,
        }
        let result = match &outcome {
            Ok(reloaded) if !reloaded.refused.is_empty() => "refused",
            Ok(reloaded) if reloaded.changed.is_empty() => "unchanged",
            Ok(_) => "applied",
            Err(Error::Invalid(_)) => "invalid",
            Err(_) => "failed",
        };
        metrics::counter!("config_reloads_total", "result" => result).increment(1);
        outcome
    }

    async fn attempt(&self, running: &mut Running, apply: bool, who: &Who) -> Result<Reloaded, Error> {
        let (mut config, doubts) = read(running.config.named.clone()).await?;
        let restart = restart::keep(&running.config, &mut config);
        restart::check(&config).map_err(compose::Error::Configuration)?;
        wait_for_plugins(&config).await;
        let update = self.update(running, &config, apply).await?;
        let admin_token = self.0.ground.admin_token(&config)?;
        let mut reloaded = self.0.engine.reload(update, who).await?;
        if config.digest != running.config.digest {
            doubts.iter().for_each(|doubt| tracing::warn!(code = %doubt.code(), "{doubt}"));
        }
        if reloaded.applied {
            reloaded.changed.splice(0..0, self.news(running, &config, &restart));
            self.0.operators.replace(&config, &admin_token);
            self.0.standing.runs(config.digest, restart);
            *self.0.watched.write() = (Arc::new(Roots::of(&config)), config.swap.poll);
            *running = Running { models: compose::models_digest(&config), config };
        } else {
            if config.digest != running.config.digest && self.0.standing.waiting() != Some(config.digest) {
                let waits =
                    format!("configuration {} waits for `chela reload --apply`", config.digest.short());
                reloaded.changed.insert(0, waits);
            }
            self.0.standing.waits(config.digest);
            self.0.watched.write().0 = Arc::new(Roots::of(&running.config).and(&config.paths));
        }
        Ok(reloaded)
    }

    /// What the engine is told. Of a configuration that is only looked at, because nobody has applied it, nothing is
    /// kept yet.
    async fn update(&self, running: &Running, config: &Config, apply: bool) -> Result<Update, Error> {
        let ground = &self.0.ground;
        if !apply && !running.config.swap.auto {
            // Made to be sure that it could be.
            ground.gateway(config)?;
            return Ok(Update { config: ground.considered(config).await?, gateway: None, apply });
        }
        let is_other = compose::models_digest(config) != running.models;
        let gateway = if is_other { Some(ground.gateway(config)?) } else { None };
        // Documents go first: with an old digest, new ones are only not cached; the other way round, an answer from the
        // old ones would be.
        Ok(Update { config: ground.engine(config).await?, gateway, apply })
    }

    /// What is another than before of what the engine does not tell.
    fn news(&self, running: &Running, config: &Config, restart: &[String]) -> Vec<String> {
        let mut news = Vec::new();
        if config.digest != running.config.digest {
            news.push(format!("configuration {}", config.digest.short()));
        }
        let known = self.0.standing.restart();
        let later = restart.iter().filter(|key| !known.contains(key));
        news.extend(later.map(|key| format!("{key} is another one after a restart")));
        news
    }

    /// Keeps what is wrong, and watches for what is missing.
    async fn failed(&self, error: &Error, config: &Config) {
        if self.0.standing.fails(self.0.ground.clock.now(), error.text()) {
            tracing::error!(file = %config.named.display(), error = %in_one_line(&error.to_string()), "what the files say cannot run; what ran before runs on: see `chela status`");
        }
        if let Error::Invalid(error) = error {
            let roots = Roots::of(config).and(error.paths());
            self.0.watched.write().0 = Arc::new(roots);
        }
    }

    /// Reloads whenever a file changes, until `stop`.
    pub async fn watch(self, watching: Watching, stop: CancellationToken) {
        rounds::watch(self, watching.0, stop).await;
    }
}

/// What a watch begins with.
#[derive(Debug)]
pub struct Watching(Seen);

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

/// Reads the file; what is missing is looked for once more.
async fn read(file: PathBuf) -> Result<(Config, Vec<Warning>), Error> {
    match load(file.clone()).await {
        Err(error) if error.is_missing() => tokio::time::sleep(MISSING_WAIT).await,
        outcome => return outcome.map_err(|error| Error::Invalid(Box::new(error))),
    }
    load(file).await.map_err(|error| Error::Invalid(Box::new(error)))
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
        let error = read(path).await.unwrap_err();
        assert!(error.text().contains("not found") && !error.passes(), "{}", error.text());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mistake_is_not_looked_at_twice_and_shows_its_line_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        std::fs::write(&path, format!("[server]\nadmin_tokn = \"hunter2\"\n{GOOD}")).unwrap();
        let began = tokio::time::Instant::now();
        let error = read(path).await.unwrap_err();
        assert!(began.elapsed() < MISSING_WAIT);
        let text = error.text();
        assert!(text.contains("chela.toml:2:1") && text.contains("did you mean `admin_token`?"), "{text}");
        assert!(!text.contains("hunter2") && !error.passes(), "{text}");
    }

    #[test]
    fn what_may_be_over_by_itself_is_tried_again() {
        let busy = chela_store::Error::Busy(Duration::ZERO);
        assert!(Error::Compose(compose::Error::Store(busy)).passes());
        assert!(!Error::Compose(compose::Error::Configuration("no".to_owned())).passes());
        let wrong = chela_engine::Error::Configuration("no".to_owned());
        assert!(!Error::Engine(wrong).passes());
    }
}
