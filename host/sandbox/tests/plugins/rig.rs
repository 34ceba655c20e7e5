//! A sandbox with a test guest, and a kind whose one capability does what its argument says.

use chela_sandbox::wasmtime::component::{InstancePre, Linker, TypedFunc};
use chela_sandbox::wasmtime::{self, Store};
use chela_sandbox::worker::Remote;
use chela_sandbox::{
    BoxFuture, Call, CallOptions, Compiler, Config, Error, Grant, Grants, HostError, Isolation, Kind, Level,
    Limits, Plugin, PluginKind, Pool, Reason, Refusal, Sandbox, Settings, Source,
};
use chela_types::{Millis, PluginId};
use serde_json::{Value, json};
use std::marker::PhantomData;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) const CHILD: &str = "prepare-plugin";
pub(crate) const WORKER: &str = "run-plugin";
pub(crate) const ESCAPE: &str = "escape";
pub(crate) const MANIFEST: &str =
    "name = \"guest\"\nversion = \"1.2.3\"\nkind = \"router\"\ncontract = \"0.1.0\"\ngrants = [\"models\"]\n";

pub(crate) type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::rig::Test> {
            vec![$((stringify!($name), || Box::pin($name()))),*]
        }
    };
}
pub(crate) use tests;

/// What the guest's `ask` does beside answering its argument, after it was handed so many bytes.
pub(crate) const ASK_FOREVER: u32 = 2_000;
pub(crate) const ASK_BROKEN: u32 = 2_001;
pub(crate) const ASK_SLOWLY: u32 = 2_002;
pub(crate) const DENIED: u32 = 9_999;
/// How long a slow answer takes.
pub(crate) const SLOW: Duration = Duration::from_millis(150);

/// Handles that are lent to a call: says when a guest waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lent {
    pub(crate) waits: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) struct Router<L = Lent>(PhantomData<fn() -> L>);

pub(crate) type Route = TypedFunc<(u32,), (u32,)>;
type Init = TypedFunc<(), (Result<(), String>,)>;

/// What the host makes of `models.ask`.
async fn asked(call: &mut Call<Lent>, n: u32) -> wasmtime::Result<u32> {
    let lent = match call.lend(Grant::Models)? {
        Ok(lent) => lent,
        Err(_) => return Ok(DENIED),
    };
    match n {
        ASK_SLOWLY => tokio::time::sleep(SLOW).await,
        ASK_FOREVER => {
            lent.waits.notify_one();
            std::future::pending::<()>().await;
        }
        ASK_BROKEN => return Err(HostError::new(std::io::Error::other("disk full")).into()),
        n => drop(call.hand(vec![0_u8; n as usize])?),
    }
    Ok(n)
}

/// Who answers `models.ask`: this process, or the one that started it.
trait Asks: Send + Sized + 'static {
    fn ask(call: &mut Call<Self>, n: u32) -> BoxFuture<'_, wasmtime::Result<u32>>;
}

impl Asks for Lent {
    fn ask(call: &mut Call<Self>, n: u32) -> BoxFuture<'_, wasmtime::Result<u32>> {
        Box::pin(asked(call, n))
    }
}

impl Asks for Remote {
    fn ask(call: &mut Call<Self>, n: u32) -> BoxFuture<'_, wasmtime::Result<u32>> {
        Box::pin(async move { call.ask(&n).await })
    }
}

/// What the hidden command of the product is.
pub(crate) fn worker() -> ExitCode {
    chela_sandbox::worker::main(|_, worker| Box::pin(worker.serve::<Router<Remote>>()))
}

impl<L: Asks> Kind for Router<L> {
    const KIND: PluginKind = PluginKind::Router;
    type Lent = L;
    type Pre = InstancePre<Call<L>>;
    type Exports = (Route, Init);
    type Ask = u32;
    type Said = u32;

    fn link(linker: &mut Linker<Call<L>>) -> wasmtime::Result<()> {
        linker.instance("chela:plugin/models@0.1.0")?.func_wrap_async("ask", |mut store, (n,): (u32,)| {
            Box::new(async move { Ok((L::ask(store.data_mut(), n).await?,)) })
        })
    }

    fn run<'a>(
        (route, _): &'a (Route, Init),
        store: &'a mut Store<Call<L>>,
        n: u32,
    ) -> BoxFuture<'a, wasmtime::Result<u32>> {
        Box::pin(async move {
            let n = store.data_mut().hand(n)?;
            Ok(route.call_async(store, (n,)).await?.0)
        })
    }

    fn serve<'a>(call: &'a mut Call<L>, asked: &'a [u8]) -> BoxFuture<'a, wasmtime::Result<Vec<u8>>> {
        Box::pin(async move {
            let n = postcard::from_bytes(asked)?;
            Ok(postcard::to_stdvec(&L::ask(call, n).await?)?)
        })
    }

    fn prepare(pre: InstancePre<Call<L>>) -> wasmtime::Result<Self::Pre> {
        Ok(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Store<Call<L>>,
    ) -> BoxFuture<'a, wasmtime::Result<(Route, Init)>> {
        Box::pin(async move {
            let instance = pre.instantiate_async(&mut *store).await?;
            let routing = instance.get_export_index(&mut *store, None, "chela:plugin/routing@0.1.0").unwrap();
            let route = instance.get_export_index(&mut *store, Some(&routing), "route").unwrap();
            let route = instance.get_typed_func(&mut *store, route)?;
            Ok((route, instance.get_typed_func(&mut *store, "init")?))
        })
    }

    fn init<'a>(
        (_, init): &'a (Route, Init),
        store: &'a mut Store<Call<L>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>> {
        Box::pin(async move { Ok(init.call_async(store, ()).await?.0) })
    }
}

pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
}

pub(crate) fn child() -> Compiler {
    Compiler::new(std::env::current_exe().unwrap(), [CHILD])
}

/// Where the calls of the tests run.
static LEVEL: AtomicBool = AtomicBool::new(false);

/// From now on they run there.
pub(crate) fn run_in(level: Level) {
    LEVEL.store(level == Level::Worker, Ordering::Relaxed);
}

pub(crate) fn level() -> Level {
    if LEVEL.load(Ordering::Relaxed) { Level::Worker } else { Level::InProcess }
}

pub(crate) fn rig() -> Rig {
    rig_with(child(), 4)
}

pub(crate) fn rig_with(compiler: Compiler, instances: u32) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool { instances, ..Pool::STANDARD };
    let sandbox = Sandbox::new(Config {
        pool,
        ..Config::new(folder.path(), compiler, Isolation::new(std::env::current_exe().unwrap(), [WORKER]))
    })
    .unwrap();
    Rig { folder, sandbox }
}

pub(crate) fn guest() -> Vec<u8> {
    wat::parse_str(include_str!("guest.wat")).unwrap()
}

pub(crate) fn settings(config: Value, limits: Limits) -> Settings {
    let grants: Grants = [Grant::Models].into_iter().collect();
    Settings { id: PluginId::new("helper").unwrap(), config, grants, limits, level: level() }
}

/// {"do":N} for `init`.
pub(crate) fn doing(n: u8) -> Settings {
    settings(json!({ "do": n }), Limits { memory_bytes: 4 << 20, ..Limits::STANDARD })
}

pub(crate) fn source() -> Source {
    Source::Embedded { manifest: MANIFEST.into(), component: guest().into() }
}

impl Rig {
    pub(crate) async fn load(&self, settings: Settings) -> Result<Plugin<Router>, Error> {
        self.sandbox.load(source(), settings, |_| {}).await
    }

    pub(crate) async fn limited(&self, limits: Limits) -> Plugin<Router> {
        self.load(settings(json!({ "do": 0 }), limits)).await.unwrap()
    }
}

pub(crate) fn options(seed: u8) -> CallOptions {
    CallOptions { started: Millis(1_000), seed: [seed; 32], deadline: None, patience: 1 }
}

pub(crate) async fn call_with(
    plugin: &Plugin<Router>,
    n: u32,
    lent: Lent,
    options: CallOptions,
) -> Result<u32, Error> {
    plugin.ask(lent, options, n).await
}

pub(crate) async fn call(plugin: &Plugin<Router>, n: u32) -> Result<u32, Error> {
    call_with(plugin, n, Lent::default(), options(0)).await
}

pub(crate) fn refusal(result: Result<Plugin<Router>, Error>) -> Refusal {
    let error = result.err().unwrap();
    match *error.reason {
        Reason::Refused(refusal) => refusal,
        other => panic!("not refused: {other}"),
    }
}
