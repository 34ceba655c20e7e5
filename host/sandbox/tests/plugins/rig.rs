//! A sandbox with a test guest, and a kind whose one capability does what its argument says.

use chela_sandbox::wasmtime::component::{InstancePre, Linker, TypedFunc};
use chela_sandbox::wasmtime::{self, Store};
use chela_sandbox::{
    BoxFuture, Call, CallOptions, Compiler, Config, Error, Grant, Grants, HostError, Kind, Limits, Plugin,
    PluginKind, Pool, Reason, Refusal, Sandbox, Settings, Source,
};
use chela_types::{Millis, PluginId};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) const CHILD: &str = "prepare-plugin";
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
pub(crate) struct Router;

pub(crate) type Route = TypedFunc<(u32,), (u32,)>;
type Init = TypedFunc<(), (Result<(), String>,)>;

impl Kind for Router {
    const KIND: PluginKind = PluginKind::Router;
    type Lent = Lent;
    type Pre = InstancePre<Call<Lent>>;
    type Exports = (Route, Init);

    fn link(linker: &mut Linker<Call<Lent>>) -> wasmtime::Result<()> {
        linker.instance("chela:plugin/models@0.1.0")?.func_wrap_async("ask", |mut store, (n,): (u32,)| {
            Box::new(async move {
                let lent = match store.data_mut().lend(Grant::Models)? {
                    Ok(lent) => lent,
                    Err(_) => return Ok((DENIED,)),
                };
                match n {
                    ASK_SLOWLY => {
                        tokio::time::sleep(SLOW).await;
                        Ok((n,))
                    }
                    ASK_FOREVER => {
                        lent.waits.notify_one();
                        std::future::pending::<()>().await;
                        Ok((0,))
                    }
                    ASK_BROKEN => Err(HostError::new(std::io::Error::other("disk full")).into()),
                    n => {
                        store.data_mut().hand(vec![0_u8; n as usize])?;
                        Ok((n,))
                    }
                }
            })
        })
    }

    fn prepare(pre: InstancePre<Call<Lent>>) -> wasmtime::Result<Self::Pre> {
        Ok(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Store<Call<Lent>>,
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
        store: &'a mut Store<Call<Lent>>,
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

pub(crate) fn rig() -> Rig {
    rig_with(child(), 4)
}

pub(crate) fn rig_with(compiler: Compiler, instances: u32) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool { instances, ..Pool::STANDARD };
    let sandbox = Sandbox::new(Config { pool, ..Config::new(folder.path(), compiler) }).unwrap();
    Rig { folder, sandbox }
}

pub(crate) fn guest() -> Vec<u8> {
    wat::parse_str(include_str!("guest.wat")).unwrap()
}

pub(crate) fn settings(config: Value, limits: Limits) -> Settings {
    let grants: Grants = [Grant::Models].into_iter().collect();
    Settings { id: PluginId::new("helper").unwrap(), config, grants, limits }
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
    plugin
        .call(lent, options, move |store, (route, _)| {
            Box::pin(async move { Ok(route.call_async(store, (n,)).await?.0) })
        })
        .await
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
