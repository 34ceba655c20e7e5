//! One routing call, three ways, for `chela bench sandbox`: as the product makes it, on one warm instance, and
//! as a bare wasmtime loop would. The router runs without capabilities, so that all three do the same work.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Level, Plugin, PluginKind, Sandbox, Settings, Source};
use chela_types::Millis;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use wasmtime::component::{InstancePre, Linker};

use crate::contract::{router, routing, types};
use crate::error::Error;

/// Beyond what any loop needs; the bare stores are never interrupted.
const NEVER: u64 = 1 << 40;

/// The router world with nothing lent.
#[derive(Debug)]
struct Bare;

impl Kind for Bare {
    const KIND: PluginKind = PluginKind::Router;
    type Lent = ();
    type Pre = router::RouterPre<Call<()>>;
    type Exports = router::Router;
    type Ask = (types::Message, routing::Context);
    type Said = Result<routing::Decision, routing::RoutingError>;

    fn link(_: &mut Linker<Call<()>>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn prepare(pre: InstancePre<Call<()>>) -> wasmtime::Result<Self::Pre> {
        router::RouterPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<()>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }

    fn run<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<()>>,
        (message, context): Self::Ask,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Said>> {
        Box::pin(async move { exports.chela_plugin_routing().call_route(store, &message, &context).await })
    }

    fn serve<'a>(_: &'a mut Call<()>, _: &'a [u8]) -> BoxFuture<'a, wasmtime::Result<Vec<u8>>> {
        Box::pin(async { wasmtime::bail!("nothing is lent to it") })
    }

    fn init<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<()>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>> {
        Box::pin(exports.call_init(store))
    }
}

/// A router in a worker, that is measured.
pub struct Away(Plugin<Bare>);

impl std::fmt::Debug for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Away").field(self.0.id()).finish()
    }
}

impl Away {
    /// Loads a router that imports no capability.
    ///
    /// # Errors
    /// As any load.
    pub async fn load(sandbox: &Sandbox, source: Source, settings: Settings) -> Result<Self, Error> {
        let settings = Settings { level: Level::Worker, ..settings };
        Ok(Self(sandbox.load::<Bare>(source, settings, |_| {}).await?))
    }

    /// As the product calls, in the worker's process.
    ///
    /// # Errors
    /// As any call.
    pub async fn call(&self) -> Result<Duration, Error> {
        timed(&self.0, (message(), context())).await
    }
}

/// A call as the product makes it.
async fn timed(plugin: &Plugin<Bare>, ask: (types::Message, routing::Context)) -> Result<Duration, Error> {
    let began = Instant::now();
    let options = CallOptions { started: Millis(0), seed: [0; 32], deadline: None, patience: 1 };
    let said = plugin.ask((), options, ask).await?;
    let took = began.elapsed();
    answered(&said)?;
    Ok(took)
}

/// A router that is measured.
pub struct Measured {
    plugin: Plugin<Bare>,
    floor: router::RouterPre<()>,
    engine: wasmtime::Engine,
    message: types::Message,
    context: routing::Context,
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").field("plugin", self.plugin.id()).finish_non_exhaustive()
    }
}

impl Measured {
    /// Loads a router that imports no capability.
    ///
    /// # Errors
    /// As any load.
    pub async fn load(sandbox: &Sandbox, source: Source, settings: Settings) -> Result<Self, Error> {
        let plugin = sandbox.load::<Bare>(source, settings, |_| {}).await?;
        let floor = plugin.bare().and_then(router::RouterPre::new).map_err(engine_failed)?;
        let engine = sandbox.engine().clone();
        Ok(Self { plugin, floor, engine, message: message(), context: context() })
    }

    /// As the product calls: fresh store and instance, limits, deadline, store dropped off the caller's path.
    ///
    /// # Errors
    /// As any call.
    pub async fn fresh(&self) -> Result<Duration, Error> {
        timed(&self.plugin, (self.message.clone(), self.context.clone())).await
    }

    /// The floor: a fresh bare store and instance on the same engine and snapshot; no limiter, no WASI.
    ///
    /// # Errors
    /// What wasmtime says.
    pub async fn bare(&self) -> Result<Duration, Error> {
        let (message, context) = (self.message.clone(), self.context.clone());
        let began = Instant::now();
        let mut store = wasmtime::Store::new(&self.engine, ());
        store.set_epoch_deadline(NEVER);
        let exports = self.floor.instantiate_async(&mut store).await.map_err(engine_failed)?;
        let said = exports
            .chela_plugin_routing()
            .call_route(&mut store, &message, &context)
            .await
            .map_err(engine_failed)?;
        drop(store);
        let took = began.elapsed();
        answered(&said)?;
        Ok(took)
    }

    /// `count` calls on one instance that stays; the time of each.
    ///
    /// # Errors
    /// What wasmtime says.
    pub async fn warm(&self, count: usize) -> Result<Vec<Duration>, Error> {
        let mut store = wasmtime::Store::new(&self.engine, ());
        store.set_epoch_deadline(NEVER);
        let exports = self.floor.instantiate_async(&mut store).await.map_err(engine_failed)?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            let said = exports
                .chela_plugin_routing()
                .call_route(&mut store, &self.message, &self.context)
                .await
                .map_err(engine_failed)?;
            times.push(began.elapsed());
            answered(&said)?;
        }
        Ok(times)
    }
}

/// A call that did not route measured nothing.
fn answered(said: &Result<routing::Decision, routing::RoutingError>) -> Result<(), Error> {
    match said {
        Ok(decision) if decision.agent == "support" => Ok(()),
        other => Err(Error::Configuration(format!("the measured router answered {other:?}"))),
    }
}

fn engine_failed(error: wasmtime::Error) -> Error {
    Error::Configuration(format!("the measured router failed: {error}"))
}

fn message() -> types::Message {
    types::Message {
        id: "0".to_owned(),
        text: "Hello, I would like to return my order, it arrived with a crack in the handle.".to_owned(),
        sender: types::Person { id: "U1".to_owned(), name: None, outsider: false },
        channel: "bench".to_owned(),
        place: None,
        attachments: Vec::new(),
        received_ms: 0,
    }
}

fn context() -> routing::Context {
    let candidate = |agent: &str| routing::Candidate { agent: agent.to_owned(), description: String::new() };
    routing::Context {
        department: None,
        candidates: ["hr", "sales", "support", "technical"].map(candidate).to_vec(),
        sticky: None,
        default_agent: "sales".to_owned(),
        past: Vec::new(),
    }
}
