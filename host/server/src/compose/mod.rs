//! The one composition root: from the configuration as it runs to rooms that stand on each other.
//!
//! Every room has its own `Config`; this is the only place that knows all of them.

mod drilled;
mod ground;
mod keys;
mod knowledge;
mod rooms;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chela_egress::Egress;
use chela_engine::{Engine, Loaded, ReplayRooms, Rooms};
use chela_gateway::Gateway;
use chela_sandbox::{Compiler, Isolation, Progress, Sandbox};
use chela_store::Store;
use chela_types::{AgentId, ChannelId, Clock, PluginId, SystemClock, TenantId};
use secrecy::SecretString;

use crate::config::{Config, Source};

pub use drilled::drilled;
pub use ground::{Ground, Knowledge, knowledge, models_digest};
pub use rooms::Use;
pub(crate) use rooms::budgets;

/// Why the host could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the host's own could not be read or written.
    #[error("could not {what} {path}")]
    File {
        /// `read`, `write` …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A key file holds something else.
    #[error("{0} does not hold a key; move it away, and the host makes a new one")]
    Key(PathBuf),
    /// Something that the configuration names is not in this program.
    #[error("{0}")]
    Configuration(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] chela_store::Error),
    /// The way out.
    #[error(transparent)]
    Egress(#[from] chela_egress::Error),
    /// Models.
    #[error(transparent)]
    Gateway(#[from] chela_gateway::Error),
    /// Plugins' engine.
    #[error("the sandbox could not be prepared")]
    Sandbox(#[source] chela_sandbox::HostError),
    /// A plugin was refused, or the configuration cannot run.
    #[error(transparent)]
    Engine(#[from] chela_engine::Error),
}

/// What the configuration does not say.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// This program: it is started again as the compiler of plugins, and as their workers.
    pub program: PathBuf,
    /// Arguments that make it a compiler.
    pub compiler: Vec<String>,
    /// Arguments that make it a worker.
    pub worker: Vec<String>,
}

impl Surroundings {
    /// The running program with its hidden subcommand.
    ///
    /// # Errors
    /// [`Error::File`] if the system does not tell where the program is.
    pub fn of_this_program() -> Result<Self, Error> {
        let failed = |source| Error::File { what: "find", path: PathBuf::from("this program"), source };
        let program = std::env::current_exe().map_err(failed)?;
        let hidden = |command: &str| vec![command.to_owned()];
        Ok(Self { program, compiler: hidden(crate::cli::COMPILER), worker: hidden(crate::cli::WORKER) })
    }

    /// A sandbox with the documented limits, and compiled plugins in this folder.
    pub(crate) fn sandbox(&self, cache: impl Into<PathBuf>) -> chela_sandbox::Config {
        let compiler = Compiler::new(&self.program, &self.compiler);
        chela_sandbox::Config::new(cache, compiler, Isolation::new(&self.program, &self.worker))
    }
}

/// The rooms, put together.
#[derive(Debug)]
pub struct Composed {
    /// What takes messages and runs turns.
    pub engine: Engine,
    /// What it stands on, whatever the configuration says later.
    pub ground: Ground,
    /// The documents of its agents.
    pub knowledge: Knowledge,
    /// The admin listener's token.
    pub admin_token: SecretString,
}

/// What is told while plugins load: what a plugin serves, and how far it is.
pub type OnProgress<'a> = &'a (dyn Fn(&str, Progress) + Send + Sync);

/// Takes the data folder and opens the store in it.
///
/// # Errors
/// [`Error::Store`].
pub async fn open_store(config: &Config) -> Result<Store, Error> {
    Ok(Store::open(rooms::store(config), Arc::new(SystemClock)).await?)
}

/// Connects the rooms on the open store, loads every plugin.
///
/// # Errors
/// [`Error`]; nothing runs then, and the store is still open.
pub async fn compose(
    config: &Config,
    store: Store,
    surroundings: &Surroundings,
    progress: OnProgress<'_>,
) -> Result<Composed, Error> {
    let ground = Ground {
        egress: Egress::new(rooms::egress(config))?,
        store,
        tenant: TenantId::default_tenant(),
        clock: Arc::new(SystemClock),
        session_key: keys::session_key(&config.store.folder)?,
    };
    let gateway = ground.gateway(config).await?;
    let sandbox = Sandbox::new(sandbox(config, surroundings)).map_err(Error::Sandbox)?;
    let engine = ground.engine(config).await?;
    let knowledge = knowledge(&engine);
    let Ground { egress, store, clock, .. } = ground.clone();
    let engine = Engine::start(engine, Rooms { store, gateway, sandbox, egress, clock }, progress).await?;
    // Nobody searches the others: whoever began with them goes on with these.
    ground.forget_but(knowledge.values()).await?;
    let admin_token = ground.admin_token(config)?;
    Ok(Composed { engine, ground, knowledge, admin_token })
}

/// The sandbox's configuration; compiled plugins lie in the data folder.
fn sandbox(config: &Config, surroundings: &Surroundings) -> chela_sandbox::Config {
    let cache = config.store.folder.join("plugins");
    chela_sandbox::Config { pool: rooms::pool(config), ..surroundings.sandbox(cache) }
}

/// A sandbox for looking at plugins: it reads and refuses, and runs nothing. Its cache lies in a temporary folder,
/// because looking leaves nothing behind.
///
/// # Errors
/// [`Error::File`] or [`Error::Sandbox`].
pub fn looking_sandbox(surroundings: &Surroundings) -> Result<Sandbox, Error> {
    let failed = |source| Error::File { what: "make", path: std::env::temp_dir(), source };
    // Gone when it is opened: nothing will be filed.
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut config = surroundings.sandbox(folder.path());
    config.pool.instances = 1;
    Sandbox::new(config).map_err(Error::Sandbox)
}

/// A sandbox for the cases of a plugin's author; what it compiles stays in `cache`.
///
/// # Errors
/// [`Error::Sandbox`].
pub fn case_sandbox(surroundings: &Surroundings, cache: PathBuf) -> Result<Sandbox, Error> {
    let mut config = surroundings.sandbox(cache);
    config.pool.instances = CASE_INSTANCES;
    Sandbox::new(config).map_err(Error::Sandbox)
}

/// One call at a time; what it leaves is still being cleaned up when the next begins.
const CASE_INSTANCES: u32 = 4;

/// The rooms of one case, on a store of its own, with the same gateway, budgets and documents as in a host.
///
/// # Errors
/// As for [`compose`].
pub async fn staged(config: &Config, sandbox: Sandbox) -> Result<(chela_engine::Config, Rooms), Error> {
    let ground = Ground {
        egress: Egress::new(rooms::egress(config))?,
        store: open_store(config).await?,
        tenant: TenantId::default_tenant(),
        clock: Arc::new(SystemClock),
        session_key: [0; 32],
    };
    let gateway = ground.gateway(config).await?;
    let engine = ground.engine(config).await?;
    let Ground { egress, store, clock, .. } = ground;
    Ok((engine, Rooms { store, gateway, sandbox, egress, clock }))
}

/// What a use of a plugin came to: `agent hr`, and the plugin or why it is refused.
pub type CheckedUse = (String, Result<Loaded, chela_engine::Error>);

/// Does all that [`compose`] does short of opening the store: documents are read, plugins prepared, their `init`
/// run. Machine code is kept for the start that follows if the data folder is there and this user's, and forgotten
/// if not.
///
/// # Errors
/// [`Error`] for what is no plugin's own.
pub async fn check(
    config: &Config,
    surroundings: &Surroundings,
    progress: OnProgress<'_>,
) -> Result<Vec<CheckedUse>, Error> {
    rooms::gateway(config).await?;
    let documents = ground::documents(config).await?.into_iter();
    let knowledge = documents.map(|(agent, of)| (agent, (String::new(), of.digest)));
    let engine = rooms::engine(config, &TenantId::default_tenant(), &knowledge.collect(), [0; 32])?;
    let egress = Egress::new(rooms::egress(config))?;
    let failed = |source| Error::File { what: "make", path: std::env::temp_dir(), source };
    let aside = tempfile::tempdir().map_err(failed)?;
    let mut sandbox = sandbox(config, surroundings);
    if !is_own_folder(&config.store.folder) {
        sandbox.cache = aside.path().to_owned();
    }
    let sandbox = Sandbox::new(sandbox).map_err(Error::Sandbox)?;
    Ok(chela_engine::check(&engine, &sandbox, &egress, Arc::new(SystemClock), progress).await)
}

/// What recorded turns are run again with, beside a host that may be running: the store is only read, and compiled
/// plugins are shared with the host.
///
/// # Errors
/// [`Error`]; nothing was run then.
pub async fn replaying(
    config: &Config,
    surroundings: &Surroundings,
) -> Result<(chela_engine::Config, ReplayRooms), Error> {
    let store = Store::open_beside(&config.store.folder).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let egress = Egress::new(rooms::egress(config))?;
    let gateway = Gateway::new(rooms::gateway(config).await?, store.clone(), &egress, Arc::clone(&clock))?;
    let sandbox = Sandbox::new(sandbox(config, surroundings)).map_err(Error::Sandbox)?;
    // What the agents know is in their recordings.
    let engine = rooms::engine(config, &TenantId::default_tenant(), &BTreeMap::new(), [0; 32])?;
    Ok((engine, ReplayRooms { store, sandbox, gateway, clock }))
}

/// Whether the folder is there and this user's: what another one (`sudo chela check`) leaves in it, the host could
/// not read.
fn is_own_folder(folder: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(folder).is_ok_and(|folder| folder.is_dir() && folder.uid() == own)
}

/// Every plugin that something uses, as the configuration says it.
///
/// # Errors
/// As for [`compose`].
pub fn uses(config: &Config) -> Result<Vec<Use>, Error> {
    rooms::uses(config)
}

/// The operator's own channel to an agent, for the terminal.
pub fn terminal_channel(agent: &AgentId) -> Option<ChannelId> {
    rooms::terminal(agent)
}

/// The channel on which clients with keys speak to an agent.
pub fn api_channel(agent: &AgentId) -> Option<ChannelId> {
    rooms::api(agent)
}

/// Where a plugin comes from, with the bytes of one that this program carries.
///
/// # Errors
/// [`Error::Configuration`] if it carries none of this name.
pub fn plugin_source(name: &PluginId, given: &Source) -> Result<chela_sandbox::Source, Error> {
    rooms::source(name, given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn only_a_folder_of_ones_own_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_own_folder(folder.path()));
        assert!(!is_own_folder(&folder.path().join("none")));
        // Only root may give a folder away; to anybody else, root's own is foreign.
        match chown(folder.path(), Some(12_345), None) {
            Ok(()) => assert!(!is_own_folder(folder.path())),
            Err(_) => assert!(!is_own_folder(Path::new("/"))),
        }
    }
}
