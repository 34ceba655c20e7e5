//! The sandbox: one engine, one cache, one compiler, and the way of a plugin from its folder to its first call.
//!
//! Nothing here is on a message's path. A load that fails leaves everything else as it was.

use crate::cache::{Cache, Origin};
use crate::call::Call;
use crate::compiler::{self, Compiler, Job, Stage};
use crate::engine;
use crate::error::{Error, HostError, Reason, Refusal};
use crate::grants::Grants;
use crate::inspect::{self, Interfaces};
use crate::limits::Limits;
use crate::link;
use crate::manifest::Manifest;
use crate::plugin::{Home, Kind, Known, Plugin, Ready, Shared};
use crate::pool::{Pool, PoolError};
use crate::source::{self, Build, Source};
use crate::worker::jail::Jailed;
use crate::worker::{Isolation, Loading, Spares, Workers};
use bytes::Bytes;
use chela_types::{Digest, PluginId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

/// What the sandbox needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of compiled plugins; made with its key if it is not there.
    pub cache: PathBuf,
    /// Bytes of all compiled plugins together; the least recently used go first.
    pub cache_bytes_max: u64,
    /// Largest component in bytes.
    pub component_bytes_max: usize,
    /// How many guests live at once.
    pub pool: Pool,
    /// The child process that prepares plugins.
    pub compiler: Compiler,
    /// The child processes that run those which are not to run here.
    pub isolation: Isolation,
}

impl Config {
    /// Compiled plugins together: 2 GiB.
    pub const CACHE_BYTES_MAX: u64 = 2 << 30;
    /// Largest component: 64 MiB. Python's interpreter is 18.
    pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

    /// With the documented limits.
    pub fn new(cache: impl Into<PathBuf>, compiler: Compiler, isolation: Isolation) -> Self {
        Self {
            cache: cache.into(),
            cache_bytes_max: Self::CACHE_BYTES_MAX,
            component_bytes_max: Self::COMPONENT_BYTES_MAX,
            pool: Pool::STANDARD,
            compiler,
            isolation,
        }
    }
}

/// What the operator says of one plugin.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The plugin's name in the configuration (`[plugin.NAME]`).
    pub id: PluginId,
    /// Its configuration, an object; merged over the defaults of the manifest.
    pub config: Value,
    /// What it is given.
    pub grants: Grants,
    /// The most that a call of it may use; the manifest can only lower them.
    pub limits: Limits,
    /// Where its calls run.
    pub level: Level,
}

/// Where the calls of a plugin run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// In this process: for what the operator trusts.
    InProcess,
    /// In a jailed process of their own: for everything else.
    Worker,
}

impl Level {
    /// As it is written in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Worker => "worker",
        }
    }
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The component is checked: valid, of its world, granted.
    Checked,
    /// Its machine code was in the cache.
    Cached,
    /// A child process prepares it.
    Preparing(Stage),
    /// It can be called.
    Ready,
}

/// Loads plugins. Clones are the same sandbox.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    config: Config,
    engine: Engine,
    fingerprint: [u8; 32],
    cache: Cache,
    preparing: Semaphore,
    shared: Shared,
    spares: Arc<Spares>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sandbox").field(&self.0.config).finish()
    }
}

/// A plugin that passed every check that needs no compiler.
struct Checked {
    /// The text of the manifest.
    text: String,
    manifest: Manifest,
    component: Bytes,
    interfaces: Interfaces,
    grants: Grants,
    limits: Limits,
    config: Arc<str>,
}

impl Sandbox {
    /// Makes the engine with its pool and its ticker, opens the cache.
    ///
    /// # Errors
    /// [`HostError`] if this machine has no room for the pool, or the cache folder or its key cannot be used.
    pub fn new(config: Config) -> Result<Self, HostError> {
        config.pool.check().map_err(HostError::new)?;
        let engine = engine::running(&config.pool).map_err(|error| {
            let source = error.into_boxed_dyn_error();
            HostError::new(PoolError::Addresses { instances: config.pool.instances, source })
        })?;
        let artefact_bytes_max = config.compiler.artefact_bytes_max;
        let cache =
            Cache::open(&config.cache, config.cache_bytes_max, artefact_bytes_max).map_err(HostError::new)?;
        let shared = Shared::new(config.pool.instances);
        let fingerprint = engine::fingerprint(&engine);
        let preparing = Semaphore::new(config.compiler.at_once.max(1));
        let spares = Spares::new(config.isolation.clone());
        Ok(Self(Arc::new(Inner { config, engine, fingerprint, cache, preparing, shared, spares })))
    }

    /// The engine. For benches.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Which walls stood around the last worker; absent before the first.
    pub fn jailed(&self) -> Option<Jailed> {
        self.0.spares.jailed()
    }

    /// Instances that could be made now without waiting.
    pub fn free_instances(&self) -> usize {
        self.0.shared.instances.available_permits()
    }

    /// Reads and checks a manifest and its component without preparing anything: validity, world, grants.
    /// What `chela check` and `chela plugin inspect` need. Returns the manifest and the names of the imports.
    ///
    /// # Errors
    /// [`Error`] with [`Reason::Refused`].
    pub async fn inspect<K: Kind>(
        &self,
        source: Source,
        settings: &Settings,
    ) -> Result<(Manifest, Vec<String>), Error> {
        let checked = self.check::<K>(source, settings).await?;
        Ok((checked.manifest, checked.interfaces.imports))
    }

    /// Reads a source into memory and its manifest; checks nothing else.
    ///
    /// # Errors
    /// [`Error`] with [`Reason::Refused`].
    pub async fn read(&self, id: &PluginId, source: Source) -> Result<Build, Error> {
        let bytes_max = self.0.config.component_bytes_max;
        let read = blocking(move || Ok(Build::parse(source.read(bytes_max)?)?)).await;
        read.map_err(|reason| Error::new(id, None, reason))
    }

    /// Loads a plugin: read, check, prepare in a child process or take from the cache, link.
    ///
    /// # Errors
    /// [`Error`] with [`Reason::Refused`] and which, or [`Reason::Host`] if this host could not do its part.
    pub async fn load<K: Kind>(
        &self,
        source: Source,
        settings: Settings,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Plugin<K>, Error> {
        let began = Instant::now();
        let checked = self.check::<K>(source, &settings).await?;
        progress(Progress::Checked);
        let version = checked.manifest.version.clone();
        let failed = |reason: Reason| Error::new(&settings.id, Some(&version), reason);

        let (code, from_cache) = self.code(&settings.id, &checked, &progress).await.map_err(failed)?;
        let code_bytes = code.len();
        let home = self.home::<K>(&settings, &checked, code).await.map_err(failed)?;
        progress(Progress::Ready);

        let known = Known {
            digest: checked.digest(),
            id: settings.id,
            imports: checked.interfaces.imports,
            component_bytes: checked.component.len(),
            code_bytes,
            manifest: checked.manifest,
            grants: checked.grants,
            is_in_a_hurry: checked.limits.deadline < settings.limits.deadline,
            limits: checked.limits,
            config: checked.config,
            load_time: began.elapsed(),
            from_cache,
        };
        Ok(Plugin::new(known, self.0.shared.clone(), home))
    }

    /// Machine code that can be called: here, or in a worker that has loaded it.
    async fn home<K: Kind>(
        &self,
        settings: &Settings,
        checked: &Checked,
        code: Vec<u8>,
    ) -> Result<Home<K>, Reason> {
        if settings.level == Level::InProcess {
            let engine = self.0.engine.clone();
            return Ok(Home::Here(blocking(move || ready::<K>(&engine, &code)).await?));
        }
        let Checked { text, manifest, limits, config, .. } = checked;
        let isolation = &self.0.config.isolation;
        let guests = (limits.memory_bytes as u64).saturating_mul(u64::from(Pool::STANDARD.instances));
        let guests = guests.min(isolation.guests_bytes);
        let loading = Loading {
            plugin: settings.id.to_string(),
            version: manifest.version.clone(),
            kind: K::KIND,
            manifest: text.clone(),
            config: config.as_ref().to_owned(),
            limits: limits.clone(),
            data_bytes_max: (isolation.base_bytes + Pool::STANDARD.reserved_bytes()).saturating_add(guests),
            code_bytes: code.len() as u64,
        };
        Ok(Home::There(Box::new(Workers::start(Arc::clone(&self.0.spares), loading, code.into()).await?)))
    }

    async fn check<K: Kind>(&self, source: Source, settings: &Settings) -> Result<Checked, Error> {
        let Settings { id, config, grants, limits, level: _ } = settings.clone();
        let Build { text, manifest, component, .. } = self.read(&id, source).await?;
        let version = manifest.version.clone();
        let name = id.to_string();
        let check = move || {
            if manifest.kind != K::KIND {
                return Err(Refusal::Kind { expected: K::KIND, found: manifest.kind }.into());
            }
            let interfaces = inspect::interfaces(&component)?;
            interfaces.check_world(K::KIND)?;
            let grants = interfaces.check_grants(&manifest, &name, grants)?;
            let limits = limits.lowered_by(&manifest.limits);
            let config = merged(&manifest, config)?;
            Ok(Checked { text, manifest, component, interfaces, grants, limits, config })
        };
        blocking(check).await.map_err(|reason| Error::new(&id, Some(&version), reason))
    }

    /// The machine code: from the cache, or made in a child process and filed. A disk that does not take it stops no
    /// start: the code is in hand.
    async fn code(
        &self,
        id: &PluginId,
        checked: &Checked,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<(Vec<u8>, bool), Reason> {
        let (component, config) = checked.origin();
        let inner = self.0.clone();
        let get = move || {
            let origin = inner.origin(&component, &config);
            Ok(inner.cache.get(origin))
        };
        if let Some(code) = blocking(get).await? {
            progress(Progress::Cached);
            return Ok((code, true));
        }
        let _turn = self.0.preparing.acquire().await.map_err(HostError::new)?;
        let job = self.job(id, checked);
        let stage = |stage| progress(Progress::Preparing(stage));
        let code = compiler::run(&self.0.config.compiler, &job, &checked.component, &stage).await?;
        let inner = self.0.clone();
        let put = move || {
            if let Err(error) = inner.cache.put(inner.origin(&component, &config), &code) {
                metrics::counter!("plugin_cache_failures_total").increment(1);
                tracing::warn!(
                    error = with_causes(&error),
                    "a compiled plugin is not filed; the next start compiles it again"
                );
            }
            Ok(code)
        };
        Ok((blocking(put).await?, false))
    }

    fn job(&self, id: &PluginId, checked: &Checked) -> Job {
        let Checked { manifest, component, limits, config, .. } = checked;
        let compiler = &self.0.config.compiler;
        Job {
            plugin: id.to_string(),
            version: manifest.version.clone(),
            config: config.as_ref().to_owned(),
            snapshot: manifest.snapshot,
            limits: limits.clone(),
            address_space_bytes: compiler.address_space_bytes,
            cpu_seconds: compiler.cpu.as_secs().max(1),
            component_bytes: component.len() as u64,
        }
    }
}

impl Inner {
    fn origin<'a>(&'a self, component: &'a Digest, config: &'a Digest) -> Origin<'a> {
        Origin { engine: &self.fingerprint, component: component.as_bytes(), config: config.as_bytes() }
    }
}

impl Checked {
    /// What the machine code depends on: the component, and what `init` sees and may use.
    fn origin(&self) -> (Digest, Digest) {
        let how = [u8::from(self.manifest.snapshot)];
        let Limits { memory_bytes, table_elements, instances, resources, .. } = self.limits;
        let limits = [memory_bytes, table_elements, instances, resources];
        let limits: Vec<u8> = limits.into_iter().flat_map(|limit| (limit as u64).to_le_bytes()).collect();
        let component = source::component_digest(&self.component);
        (component, Digest::of("chela 2026 init", &[self.config.as_bytes(), &how, &limits]))
    }

    /// What the plugin is: manifest, component and configuration.
    fn digest(&self) -> Digest {
        let manifest = serde_json::to_vec(&self.manifest).unwrap_or_default();
        Digest::of("chela 2026 plugin", &[&manifest, &self.component, self.config.as_bytes()])
    }
}

/// The plugin that a worker holds: nothing of it is loaded or checked but its machine code.
pub(crate) fn held<K: Kind>(engine: &Engine, loading: &Loading, code: &[u8]) -> Result<Plugin<K>, Reason> {
    let ready = ready::<K>(engine, code)?;
    let known = Known {
        id: PluginId::new(&loading.plugin).map_err(HostError::new)?,
        manifest: Manifest::parse(&loading.manifest).map_err(Refusal::from)?,
        digest: Digest::from_bytes([0; 32]),
        imports: Vec::new(),
        component_bytes: 0,
        code_bytes: code.len(),
        grants: Grants::NONE,
        limits: loading.limits.clone(),
        is_in_a_hurry: false,
        config: loading.config.as_str().into(),
        load_time: Duration::ZERO,
        from_cache: true,
    };
    Ok(Plugin::new(known, Shared::new(Pool::STANDARD.instances), Home::Here(ready)))
}

/// Loads machine code and links it.
fn ready<K: Kind>(engine: &Engine, code: &[u8]) -> Result<Ready<K>, Reason> {
    let compile = |error: wasmtime::Error| Refusal::Compile { message: format!("{error:#}") };
    let component = deserialized(engine, code).map_err(compile)?;
    let mut linker: Linker<Call<K::Lent>> = Linker::new(engine);
    link::base(&mut linker).map_err(compile)?;
    K::link(&mut linker).map_err(compile)?;
    let pre = linker.instantiate_pre(&component).and_then(K::prepare).map_err(compile)?;
    Ok(Ready { component, pre })
}

/// The one unsafe line of this program.
#[allow(
    unsafe_code,
    reason = "machine code must be what this host's own compiler made: see the comment inside"
)]
fn deserialized(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is either what the compiler child just returned through its pipe, or a file whose MAC, under a
    // key that only this user reads, says that this host filed it for this engine, component and configuration. It
    // is in this process's memory since before it was checked, so nothing can change it in between. In a worker, it is
    // what the host sent; if an attacker made the compiler lie, it is he who is shut in there.
    unsafe { Component::deserialize(engine, code) }
}

/// The operator's configuration over the manifest's defaults, as one JSON object.
fn merged(manifest: &Manifest, config: Value) -> Result<Arc<str>, Reason> {
    let mut whole = serde_json::to_value(&manifest.config).map_err(HostError::new)?;
    overlay(&mut whole, config);
    Ok(whole.to_string().into())
}

fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (under, over) => *under = over,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs what blocks or computes for long away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Reason> + Send + 'static,
) -> Result<T, Reason> {
    tokio::task::spawn_blocking(work).await.map_err(HostError::new)?
}
