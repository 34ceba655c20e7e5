//! Routing calls for `chela bench sandbox`: as the product makes them, on one warm instance, and as a bare wasmtime loop
//! would. The routers run without capabilities, so that all of these do the same work.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Plugin, PluginKind, Sandbox, Settings, Source};
use chela_types::Millis;
use futures::future::BoxFuture;
use std::fmt;
use std::time::{Duration, Instant};
use wasmtime::component::{InstancePre, Linker};

use crate::contract::{router, routing, types};
use crate::error::Error;
use crate::router::Said;

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
    type Said = Said;

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

/// A router that is measured.
pub struct Routed(Plugin<Bare>);

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Routed").field(self.0.id()).finish()
    }
}

impl Routed {
    /// Loads a router that imports no capability.
    ///
    /// # Errors
    /// As any load.
    pub async fn load(sandbox: &Sandbox, source: Source, settings: Settings) -> Result<Self, Error> {
        Ok(Self(sandbox.load::<Bare>(source, settings, |_| {}).await?))
    }

    /// As its manifest names it.
    pub fn name(&self) -> &str {
        self.0.manifest().name.as_str()
    }

    /// As the product calls, here or in a worker: fresh store and instance, limits, deadline, store dropped off the
    /// caller's path. The agent that was chosen, if one was, and the time.
    ///
    /// # Errors
    /// As any call; a router that does not route has measured nothing.
    pub async fn call(&self) -> Result<(String, Duration), Error> {
        let ask = (message(), context());
        let began = Instant::now();
        let options = CallOptions { started: Millis(0), seed: [0; 32], deadline: None, patience: 1 };
        let said = self.0.ask((), options, ask).await?;
        let took = began.elapsed();
        Ok((chosen(said)?, took))
    }

    /// The floor under a router that runs here.
    ///
    /// # Errors
    /// What wasmtime says.
    pub fn floor(&self, sandbox: &Sandbox) -> Result<Floor, Error> {
        let pre = self.0.bare().and_then(router::RouterPre::new).map_err(engine_failed)?;
        Ok(Floor { pre, engine: sandbox.engine().clone(), message: message(), context: context() })
    }
}

/// The same calls without the product: no limiter, no WASI, no deadline.
pub struct Floor {
    pre: router::RouterPre<()>,
    engine: wasmtime::Engine,
    message: types::Message,
    context: routing::Context,
}

impl fmt::Debug for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floor").finish_non_exhaustive()
    }
}

impl Floor {
    /// A fresh bare store and instance on the same engine and snapshot.
    ///
    /// # Errors
    /// What wasmtime says.
    pub async fn fresh(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        let mut store = self.store();
        let exports = self.pre.instantiate_async(&mut store).await.map_err(engine_failed)?;
        let said = self.route(&exports, &mut store).await?;
        drop(store);
        let took = began.elapsed();
        chosen(said)?;
        Ok(took)
    }

    /// `count` calls on one instance that stays; the time of each.
    ///
    /// # Errors
    /// What wasmtime says.
    pub async fn warm(&self, count: usize) -> Result<Vec<Duration>, Error> {
        let mut store = self.store();
        let exports = self.pre.instantiate_async(&mut store).await.map_err(engine_failed)?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            let said = self.route(&exports, &mut store).await?;
            times.push(began.elapsed());
            chosen(said)?;
        }
        Ok(times)
    }

    fn store(&self) -> wasmtime::Store<()> {
        let mut store = wasmtime::Store::new(&self.engine, ());
        store.set_epoch_deadline(NEVER);
        store
    }

    async fn route(&self, exports: &router::Router, store: &mut wasmtime::Store<()>) -> Result<Said, Error> {
        let routing = exports.chela_plugin_routing();
        routing.call_route(store, &self.message, &self.context).await.map_err(engine_failed)
    }
}

/// Whom it chose; empty: nobody. A call that did not come to that measured nothing.
fn chosen(said: Said) -> Result<String, Error> {
    match said {
        Ok(decision) => Ok(decision.agent),
        Err(routing::RoutingError::NoMatch(_)) => Ok(String::new()),
        Err(error) => Err(Error::Configuration(format!("the measured router answered {error:?}"))),
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
