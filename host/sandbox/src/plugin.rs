//! A loaded plugin, and how it is called: a store and an instance of its own for each call.
//!
//! The deadline stands outside the guest's future, so that it covers host calls, waits and the guest's own loops. So
//! does the measure of processor time. A call that ends, however it ends, gives its store to the dropper; nothing of
//! it is used again.

use crate::call::{self, Beginning, Call, Phase};
use crate::cpu;
use crate::dropper;
use crate::error::{Ending, Error, HostError, Reason};
use crate::grants::Grants;
use crate::limits::{Limit, LimitReached, Limits};
use crate::log::{GuestLog, Stamp, cut, escaped};
use crate::manifest::{Manifest, PluginKind};
use crate::worker::{Begin, Event, Workers, decoded_within};
use chela_types::{Digest, Millis, PluginId};
use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, InstancePre, Linker, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store};

/// Longest message of a trap.
const TRAP_BYTES_MAX: usize = 4_000;
/// Longest line of a trap.
const TRAP_LINE_BYTES_MAX: usize = 200;

/// A boxed future, as closures over a store return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One kind of plugin: the world that it is compiled for and what it may touch. Implemented once by each station.
pub trait Kind: Send + Sync + 'static {
    /// Which kind.
    const KIND: PluginKind;
    /// What the host lends to one call: handles, behind [`Call::lend`].
    type Lent: Send + 'static;
    /// The pre-instantiated component with its exports looked up.
    type Pre: Send + Sync;
    /// The exports of one instance.
    type Exports: Send + Sync;
    /// What it is asked. As a worker reads it, too.
    type Ask: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What it says.
    type Said: Serialize + DeserializeOwned + Send + 'static;

    /// Links what this kind may import beyond `config`, `log` and WASI, which the sandbox links itself.
    ///
    /// # Errors
    /// What the linker says, for instance of a name that is linked twice.
    fn link(linker: &mut Linker<Call<Self::Lent>>) -> wasmtime::Result<()>;

    /// Looks up the exports, once when a plugin is loaded.
    ///
    /// # Errors
    /// If an export is missing or of another type.
    fn prepare(pre: InstancePre<Call<Self::Lent>>) -> wasmtime::Result<Self::Pre>;

    /// Makes an instance.
    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Store<Call<Self::Lent>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>>;

    /// Calls the export that answers what is asked.
    fn run<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Store<Call<Self::Lent>>,
        ask: Self::Ask,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Said>>;

    /// Answers what a guest asks from a worker ([`Call::ask`] there), through the same functions and grants as a guest
    /// here.
    fn serve<'a>(call: &'a mut Call<Self::Lent>, asked: &'a [u8])
    -> BoxFuture<'a, wasmtime::Result<Vec<u8>>>;

    /// Calls `init`, for components without a snapshot.
    fn init<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Store<Call<Self::Lent>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>>;
}

/// What differs from call to call.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Where the virtual clock begins.
    pub started: Millis,
    /// What randomness is drawn from. Kept in the journal: the same seed gives the same bytes.
    pub seed: [u8; 32],
    /// Shorter than the plugin's own limit, if given.
    pub deadline: Option<Duration>,
    /// How many times the plugin's own deadline and processor time it may take: 1, but where a call of another machine
    /// or hour is repeated.
    pub patience: u32,
}

/// What is known of a loaded plugin.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: PluginId,
    pub(crate) manifest: Manifest,
    pub(crate) digest: Digest,
    pub(crate) imports: Vec<String>,
    pub(crate) component_bytes: usize,
    pub(crate) code_bytes: usize,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    /// The manifest asks for less time than the operator would give.
    pub(crate) is_in_a_hurry: bool,
    pub(crate) config: Arc<str>,
    pub(crate) load_time: Duration,
    pub(crate) from_cache: bool,
}

/// What all plugins of a sandbox share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) instances: Arc<Semaphore>,
    pub(crate) instances_max: u32,
    pub(crate) turns: cpu::Turns,
}

struct Inner<K: Kind> {
    known: Known,
    shared: Shared,
    stamp: Arc<Stamp>,
    home: Home<K>,
    meters: Meters,
    is_open: AtomicBool,
}

/// Where the calls run.
pub(crate) enum Home<K: Kind> {
    /// In this process.
    Here(Ready<K>),
    /// In a process of their own.
    There(Box<Workers>),
}

/// A component that can be instantiated.
pub(crate) struct Ready<K: Kind> {
    pub(crate) component: Component,
    pub(crate) pre: K::Pre,
}

/// The log of one call.
type Log = Arc<Mutex<GuestLog>>;

/// Looked up once: a call should not search for its metrics.
struct Meters {
    ok: Counter,
    closed: Counter,
    trap: Counter,
    timeout: Counter,
    waiting: Counter,
    limit: Counter,
    worker: Counter,
    host: Counter,
    seconds: Histogram,
}

/// A loaded plugin. Clones are the same plugin.
pub struct Plugin<K: Kind>(Arc<Inner<K>>);

impl<K: Kind> Clone for Plugin<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> fmt::Debug for Plugin<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plugin").field(&self.0.known).finish()
    }
}

/// Gives the store and its place in the pool to the dropper, also when the call's future is dropped half-way.
struct Held<T: Send + 'static> {
    store: Option<(Store<T>, OwnedSemaphorePermit)>,
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(held) = self.store.take() {
            dropper::later(Box::new(held));
        }
    }
}

impl<K: Kind> Plugin<K> {
    pub(crate) fn new(known: Known, shared: Shared, home: Home<K>) -> Self {
        let stamp = Stamp { name: known.id.to_string(), version: known.manifest.version.clone() };
        let meters = Meters::of(known.id.as_str());
        let shared = Shared { turns: shared.turns.of_another_plugin(), ..shared };
        let (stamp, is_open) = (Arc::new(stamp), AtomicBool::new(true));
        Self(Arc::new(Inner { known, shared, stamp, home, meters, is_open }))
    }

    /// From now on no call of it begins, or calls begin again. Those that run end as they do.
    pub fn set_open(&self, is_open: bool) {
        self.0.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Asks the plugin: a fresh instance, the limits, the deadline; here or in its worker.
    ///
    /// # Errors
    /// As [`Plugin::call`], or a worker that is gone.
    pub async fn ask(&self, lent: K::Lent, options: CallOptions, ask: K::Ask) -> Result<K::Said, Error> {
        let began = Instant::now();
        let said = self.asked(lent, (options, self.log()), ask).await;
        let said = said.map_err(|reason| self.failed(reason));
        self.0.meters.record(began, said.as_ref().err());
        said
    }

    pub(crate) async fn asked(
        &self,
        lent: K::Lent,
        (options, log): (CallOptions, Log),
        ask: K::Ask,
    ) -> Result<K::Said, Reason> {
        if !self.0.is_open.load(Ordering::Relaxed) {
            return Err(Reason::Closed);
        }
        match &self.0.home {
            Home::Here(_) => {
                self.attempt((lent, options, log), move |store, exports| K::run(exports, store, ask)).await
            }
            Home::There(workers) => self.away(workers, (lent, options, log), ask).await,
        }
    }

    /// Calls the plugin in this process: a fresh instance, the limits, the deadline, then `run`. For benches, and tests of
    /// the sandbox itself.
    ///
    /// # Errors
    /// Trap, timeout, limit, or a failure or slowness of the host, stamped with the plugin's name and version. It ends
    /// this call only.
    pub async fn call<R, F>(&self, lent: K::Lent, options: CallOptions, run: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<Call<K::Lent>>, &'a K::Exports) -> BoxFuture<'a, wasmtime::Result<R>>
            + Send
            + 'static,
    {
        let began = Instant::now();
        let result = self.attempt((lent, options, self.log()), run).await;
        let result = result.map_err(|reason| self.failed(reason));
        self.0.meters.record(began, result.as_ref().err());
        result
    }

    /// Runs it in this process, on the threads that it belongs on.
    async fn attempt<R, F>(&self, what: (K::Lent, CallOptions, Log), run: F) -> Result<R, Reason>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<Call<K::Lent>>, &'a K::Exports) -> BoxFuture<'a, wasmtime::Result<R>>
            + Send
            + 'static,
    {
        self.0.shared.turns.run(|share| self.clone().attempt_here(what, run, share)).await?
    }

    async fn attempt_here<R, F>(
        self,
        (lent, options, log): (K::Lent, CallOptions, Log),
        run: F,
        share: cpu::Share,
    ) -> Result<R, Reason>
    where
        R: Send,
        F: for<'a> FnOnce(&'a mut Store<Call<K::Lent>>, &'a K::Exports) -> BoxFuture<'a, wasmtime::Result<R>>
            + Send,
    {
        let Inner { known, shared, home, .. } = &*self.0;
        let Home::Here(ready) = home else { return Err(HostError::new(ELSEWHERE).into()) };
        let deadline = known.deadline(&options);
        let cpu = known.limits.cpu.saturating_mul(options.patience.max(1));
        let permit = shared.place(deadline).await?;
        let begin = self.beginning(Instant::now().checked_add(deadline), (lent, log), &options);
        let store = call::store(ready.component.engine(), &known.limits, begin);
        let mut held = Held { store: Some((store, permit)) };
        let Some((store, _)) = held.store.as_mut() else {
            return Err(HostError::new("a store was gone before its call").into()); // unreachable by construction
        };
        let work = async {
            let exports = K::instantiate(&ready.pre, store).await?;
            if !known.manifest.snapshot
                && let Err(refused) = K::init(&exports, store).await?
            {
                wasmtime::bail!("`init` was content once, and now refuses: {refused}");
            }
            run(store, &exports).await
        };
        let ended = tokio::time::timeout(deadline, cpu::bounded(work, cpu, &share)).await;
        let call = store.data();
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(reason(error, call, (deadline, known.is_in_a_hurry))),
            Err(_) => Err(late(call, (deadline, known.is_in_a_hurry))),
        }
    }

    /// Makes an instance in this process and lets it go: whether there can be one.
    pub(crate) async fn try_instance(&self, lent: K::Lent) -> Result<(), Reason> {
        let Home::Here(_) = &self.0.home else { return Ok(()) };
        let options = CallOptions { started: Millis(0), seed: [0; 32], deadline: None, patience: 1 };
        self.attempt((lent, options, self.log()), |_, _| Box::pin(async { Ok(()) })).await
    }

    /// The same in a worker. What it asks of the host is answered here, counted and granted as if it ran here.
    async fn away(
        &self,
        workers: &Workers,
        (lent, options, log): (K::Lent, CallOptions, Log),
        ask: K::Ask,
    ) -> Result<K::Said, Reason> {
        let Inner { known, shared, .. } = &*self.0;
        let deadline = known.deadline(&options);
        let time = (deadline, known.is_in_a_hurry);
        let _permit = shared.place(deadline).await?;
        let begin = self.beginning(None, (lent, Arc::clone(&log)), &options);
        let mut call = Call::new(&known.limits, begin);
        let begin =
            Begin { started: options.started, seed: options.seed, deadline, patience: options.patience };
        let work = async {
            let ask = match call.hand(ask) {
                Ok(ask) => postcard::to_stdvec(&ask).map_err(HostError::new)?,
                Err(error) => return Err(reason(error, &call, time)),
            };
            let mut away = workers.begin(&begin, &ask).await?;
            let mut event = away.next().await;
            loop {
                match event {
                    Event::Asked(asked) => {
                        tokio::select! {
                            biased;
                            told = K::serve(&mut call, &asked) => {
                                let told = told.map_err(|error| reason(error, &call, time))?;
                                call.polls();
                                away.tell(call.now(), &told)?;
                                event = away.next().await;
                            }
                            other = away.unlooked_for() => match other {
                                // No guest asks while it waits. What it asked would be begun, and paid, for nobody.
                                Event::Asked(_) => return Err(broken("it asks while it is answered")),
                                other => event = other,
                            },
                        }
                    }
                    Event::Said(lines, said) => {
                        log.lock().pass_on(lines);
                        return decoded_within(&said, known.limits.output_bytes)
                            .map_err(|error| broken(&format!("its answer is none: {error}")));
                    }
                    Event::Failed(lines, why) => {
                        log.lock().pass_on(lines);
                        return Err(why.reason().unwrap_or_else(|| late(&call, time)));
                    }
                    Event::Gone(ending) => return Err(Reason::Worker(ending)),
                }
            }
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(ended) => ended,
            Err(_) => Err(late(&call, time)),
        }
    }

    fn log(&self) -> Log {
        Arc::new(Mutex::new(GuestLog::to_host(Arc::clone(&self.0.stamp), &self.0.known.limits)))
    }

    fn beginning(
        &self,
        end: Option<Instant>,
        (lent, log): (K::Lent, Log),
        options: &CallOptions,
    ) -> Beginning<K::Lent> {
        let Inner { known, stamp, .. } = &*self.0;
        Beginning {
            lent,
            plugin: stamp.clone(),
            config: known.config.clone(),
            grants: known.grants,
            phase: Phase::Serving,
            started: options.started,
            seed: options.seed,
            end,
            log,
        }
    }

    fn failed(&self, reason: Reason) -> Error {
        Error::new(&self.0.known.id, Some(&self.0.known.manifest.version), reason)
    }

    /// As the configuration names it.
    pub fn id(&self) -> &PluginId {
        &self.0.known.id
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.0.known.manifest
    }

    /// Its version, as the manifest says.
    pub fn version(&self) -> &str {
        &self.0.known.manifest.version
    }

    /// What it is made of: manifest, component and configuration.
    pub fn digest(&self) -> Digest {
        self.0.known.digest
    }

    /// Names of the interfaces that its component imports.
    pub fn imports(&self) -> &[String] {
        &self.0.known.imports
    }

    /// Bytes of the component.
    pub fn component_bytes(&self) -> usize {
        self.0.known.component_bytes
    }

    /// Bytes of the machine code, with the snapshot.
    pub fn code_bytes(&self) -> usize {
        self.0.known.code_bytes
    }

    /// What it asked for and was given.
    pub fn grants(&self) -> Grants {
        self.0.known.grants
    }

    /// The limits of each call: the operator's, lowered by the manifest's.
    pub fn limits(&self) -> &Limits {
        &self.0.known.limits
    }

    /// Its configuration as one JSON object, as the guest reads it.
    pub fn config(&self) -> &str {
        &self.0.known.config
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.0.known.load_time
    }

    /// Whether the compiled code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.0.known.from_cache
    }

    /// The same snapshot on the same engine with every import a trap: no limiter, no WASI, no grants. The floor that
    /// `chela bench sandbox` measures calls against. Its stores need an epoch deadline (`set_epoch_deadline`).
    ///
    /// # Errors
    /// What the linker says.
    pub fn bare(&self) -> wasmtime::Result<InstancePre<()>> {
        let Home::Here(Ready { component, .. }) = &self.0.home else { wasmtime::bail!(ELSEWHERE) };
        let mut linker = Linker::new(component.engine());
        linker.define_unknown_imports_as_traps(component)?;
        linker.instantiate_pre(component)
    }
}

/// Whose time it was that ran out: who waits for the host is not at fault, unless he wanted no longer to wait; who
/// works or sleeps is.
fn late<L>(call: &Call<L>, (deadline, is_in_a_hurry): (Duration, bool)) -> Reason {
    match call.waits_for().filter(|_| !is_in_a_hurry) {
        Some(for_what) => Reason::Waiting { for_what, after: deadline },
        None => Reason::Timeout(deadline),
    }
}

/// Why the guest ended. What the host said comes first: a guest cannot make a host's error. Then what a limit did, then
/// what the guest made of it.
fn reason<L>(error: wasmtime::Error, call: &Call<L>, time: (Duration, bool)) -> Reason {
    let error = match error.downcast::<HostError>() {
        Ok(host) => return Reason::Host(host),
        Err(error) => error,
    };
    if call.overdue() {
        return late(call, time);
    }
    if let Some((limit, bound)) = call.hit() {
        return Reason::Limit { limit, bound };
    }
    if let Some(LimitReached(limit, bound)) = error.downcast_ref() {
        return Reason::Limit { limit: *limit, bound: *bound };
    }
    if let Some((limit, bound)) = engine_limit(&error, call) {
        return Reason::Limit { limit, bound };
    }
    trap(&error)
}

/// Limits that the engine itself enforces. To most of these errors it gives no type.
pub(crate) fn engine_limit<L>(error: &wasmtime::Error, call: &Call<L>) -> Option<(Limit, u64)> {
    let says = |words: &str| error.chain().any(|cause| cause.to_string().contains(words));
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        Some((Limit::Pool, 0))
    } else if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full))
        || says("store handle limit exceeded")
    {
        Some((Limit::Resources, call.resources_max()))
    } else if says("fuel allocated for hostcalls") {
        Some((Limit::OutputBytes, call.output_bytes_max()))
    } else if says("instance count too high") {
        Some((Limit::Instances, call.instances_max()))
    } else {
        None
    }
}

fn trap(error: &wasmtime::Error) -> Reason {
    Reason::trap(&error.root_cause().to_string(), &format!("{error:?}"))
}

impl Reason {
    /// Within its bounds.
    pub(crate) fn trap(short: &str, message: &str) -> Self {
        let short = escaped(cut(short.lines().next().unwrap_or_default(), TRAP_LINE_BYTES_MAX));
        Self::Trap { short, message: cut(message, TRAP_BYTES_MAX).to_owned() }
    }
}

/// What a benchmark or a test of the sandbox asked of a plugin that runs in a worker.
const ELSEWHERE: &str = "this plugin does not run in this process";

/// A worker that says what no guest can say.
fn broken(what: &str) -> Reason {
    Reason::Worker(Ending::Protocol(what.to_owned()))
}

impl Known {
    fn deadline(&self, options: &CallOptions) -> Duration {
        let usual = self.limits.deadline.saturating_mul(options.patience.max(1));
        options.deadline.map_or(usual, |asked| asked.min(usual))
    }
}

impl Shared {
    /// So many instances on this runtime.
    pub(crate) fn new(instances: u32) -> Self {
        Self {
            instances: Arc::new(Semaphore::new(instances as usize)),
            instances_max: instances,
            turns: cpu::Turns::of_this_runtime(),
        }
    }

    /// A place among those that live.
    async fn place(&self, wait_max: Duration) -> Result<OwnedSemaphorePermit, Reason> {
        match tokio::time::timeout(wait_max, Arc::clone(&self.instances).acquire_owned()).await {
            Ok(permit) => Ok(permit.map_err(HostError::new)?),
            Err(_) => Err(Reason::Limit { limit: Limit::Pool, bound: u64::from(self.instances_max) }),
        }
    }
}

impl Meters {
    fn of(plugin: &str) -> Self {
        let count = |outcome: &'static str| metrics::counter!("plugin_calls_total", "plugin" => plugin.to_owned(), "outcome" => outcome);
        Self {
            ok: count("ok"),
            closed: count("closed"),
            trap: count("trap"),
            timeout: count("timeout"),
            waiting: count("waiting"),
            limit: count("limit"),
            worker: count("worker"),
            host: count("host"),
            seconds: metrics::histogram!("plugin_call_seconds", "plugin" => plugin.to_owned()),
        }
    }

    fn record(&self, began: Instant, error: Option<&Error>) {
        let counter = match error.map(|error| &*error.reason) {
            None => &self.ok,
            Some(Reason::Trap { .. } | Reason::Refused(_)) => &self.trap,
            Some(Reason::Closed) => &self.closed,
            Some(Reason::Timeout(_)) => &self.timeout,
            Some(Reason::Waiting { .. }) => &self.waiting,
            Some(Reason::Limit { .. }) => &self.limit,
            Some(Reason::Worker(_)) => &self.worker,
            Some(Reason::Host(_)) => &self.host,
        };
        counter.increment(1);
        self.seconds.record(began.elapsed());
    }
}
