//! A host inside the test, in a runtime of its own.
//!
//! The runtime is what makes a crash possible without a process: it is torn down in the middle, and every task of
//! the host ends where it stands. What a crash does to the disk itself, `kill.rs` shows with the real program.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chela_egress::Egress;
use chela_engine::{
    Acknowledgement, Engine, Error, Order, PluginStatus, Reloaded, Rooms, Update, Webhook, Who,
};
use chela_gateway::Gateway;
use chela_sandbox::{Compiler, Isolation, Pool, Sandbox};
use chela_server::standin::{slack, webhook};
use chela_store::{Store, TurnRecord, TurnState};
use chela_types::{ChannelId, Clock, PluginId};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::outside::{Outside, loopback};
use crate::process::program;
use crate::setup::Setup;
use crate::signing::request;
use crate::wait::{PATIENCE, POLL, eventually, eventually_some};

/// Guests alive at once in one host; each reserves address space.
const INSTANCES: u32 = 80;
/// Turns that are looked through for one message.
const TURNS_MAX: usize = 1_000;

/// One host loads at a time: the second finds in the cache what the first has compiled.
static LOADING: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    /// What takes messages and runs turns.
    pub engine: Engine,
    /// What is kept.
    pub store: Store,
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: Gateway,
    pub(crate) setup: Setup,
    folder: Arc<TempDir>,
    runtime: Option<Runtime>,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

/// What a host consists of, begun in its own runtime.
struct Begun {
    engine: Engine,
    store: Store,
    sandbox: Sandbox,
    gateway: Gateway,
}

/// What a crash leaves: a folder, and what the host was told.
#[derive(Debug)]
pub struct Crashed {
    /// What it was told; may be changed before the next start.
    pub setup: Setup,
    folder: Arc<TempDir>,
}

impl Crashed {
    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts again in the same folder, or says why not.
    ///
    /// # Errors
    /// The engine's.
    pub async fn try_restart(&self) -> Result<Host, Error> {
        self.setup.clone().start(Arc::clone(&self.folder)).await
    }

    /// Starts again in the same folder.
    pub async fn restart(self) -> Host {
        self.setup.start(self.folder).await.expect("the host starts again")
    }
}

impl Setup {
    /// Runs it.
    pub async fn run(self) -> Host {
        self.try_run().await.unwrap_or_else(|error| panic!("the host does not start: {error}"))
    }

    /// Runs it, or says why not.
    ///
    /// # Errors
    /// What the engine says, mostly of a plugin that it does not load.
    pub async fn try_run(self) -> Result<Host, Error> {
        self.start(Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn start(self, folder: Arc<TempDir>) -> Result<Host, Error> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("host").enable_all().build().unwrap();
        let told = self.clone();
        let data = folder.path().to_owned();
        let begun = runtime.spawn(async move { told.begin(&data).await }).await.unwrap();
        let Begun { engine, store, sandbox, gateway } = match begun {
            Ok(begun) => begun,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let stop = CancellationToken::new();
        let (running, stopped) = (engine.clone(), stop.clone());
        let running = runtime.spawn(async move { running.run(stopped, Duration::from_secs(30)).await });
        let (runtime, running) = (Some(runtime), Some(running));
        Ok(Host { engine, store, sandbox, gateway, setup: self, folder, runtime, stop, running })
    }

    async fn begin(self, folder: &Path) -> Result<Begun, Error> {
        let store = open(folder, &self.clock).await;
        let egress: Egress = loopback();
        let gateway = Gateway::new(self.gateway.clone(), store.clone(), &egress, Arc::clone(&self.clock))?;
        let compiler =
            Compiler { wall: self.compile_wall, ..Compiler::new(program(), [chela_server::cli::COMPILER]) };
        let pool = Pool { instances: INSTANCES, ..Pool::STANDARD };
        let cache = program().with_file_name("chela-tests-cache");
        let isolation = Isolation::new(program(), [chela_server::cli::WORKER]);
        let config = chela_sandbox::Config { pool, ..chela_sandbox::Config::new(cache, compiler, isolation) };
        let sandbox = Sandbox::new(config).expect("a sandbox");
        let clock = Arc::clone(&self.clock);
        let rooms =
            Rooms { store: store.clone(), gateway: gateway.clone(), sandbox: sandbox.clone(), egress, clock };
        let _one = LOADING.lock().await;
        let engine = Engine::start(self.engine(), rooms, &|_, _| {}).await;
        if engine.is_err() {
            store.close().await.unwrap();
        }
        Ok(Begun { engine: engine?, store, sandbox, gateway })
    }
}

/// Opens the data folder as soon as a host that crashed before has let go of it.
async fn open(folder: &Path, clock: &Arc<dyn Clock>) -> Store {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Store::open(chela_store::Config::new(folder), Arc::clone(clock)).await {
            Ok(store) => return store,
            Err(chela_store::Error::Owned { .. }) if Instant::now() < deadline => sleep(POLL).await,
            Err(error) => panic!("the store does not open: {error}"),
        }
    }
}

impl Host {
    /// Hands a request in, as the doors do.
    ///
    /// # Errors
    /// The engine's.
    pub async fn receive(&self, channel: &str, webhook: Webhook) -> Result<Acknowledgement, Error> {
        let (engine, channel) = (self.engine.clone(), channel.to_owned());
        let runtime = self.runtime.as_ref().expect("it runs");
        runtime.spawn(async move { engine.receive(&channel, webhook).await }).await.unwrap()
    }

    /// Slack tells of a post, once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn slack(&self, outside: &Outside, event: &slack::Event) -> Result<Acknowledgement, Error> {
        let headers = outside.slack.signed(&event.body).unwrap();
        self.receive("slack", request(&headers, event.body.clone())).await
    }

    /// Somebody writes in Slack, and the host takes it.
    pub async fn slack_says(&self, outside: &Outside, say: &slack::Say) -> slack::Event {
        let event = outside.slack.event(say).unwrap();
        let taken = self.slack(outside, &event).await.expect("Slack's event is taken");
        assert_eq!(taken.status, 200);
        event
    }

    /// Somebody writes in a web chat, in a session of his own, and the host takes it.
    pub async fn visitor_says(&self, channel: &str, text: &str) {
        let name = ChannelId::new(channel).unwrap();
        let (id, token) = self.engine.new_session(&name);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let webhook = Webhook {
            method: "POST".to_owned(),
            path: "/messages".to_owned(),
            query: String::new(),
            headers: vec![header("content-type", "application/json"), header("chela-session", &id)],
            body: serde_json::json!({ "id": uuid::Uuid::now_v7(), "text": text }).to_string().into(),
            session: Some(token),
        };
        self.receive(channel, webhook).await.expect("the message is taken");
    }

    /// Somebody writes through the partner, in the conversation `thread`, and the host takes it.
    pub async fn partner_says(&self, outside: &Outside, thread: &str, text: &str) {
        let say = webhook::Say {
            sender: format!("person-{thread}"),
            text: text.to_owned(),
            thread_id: Some(thread.to_owned()),
            name: None,
        };
        let event = outside.partner.event(&say).unwrap();
        let headers = outside.partner.signed(&event.id, &event.body).unwrap();
        let taken =
            self.receive("partner", request(&headers, event.body)).await.expect("the message is taken");
        assert_eq!(taken.status, 200);
    }

    /// Is told something else while it runs, as by a reload of its configuration.
    ///
    /// # Errors
    /// The engine's; the host goes on as before.
    pub async fn reload(&mut self, change: impl FnOnce(Setup) -> Setup) -> Result<Reloaded, Error> {
        let next = change(self.setup.clone());
        let reloaded = self.update(&next).await?;
        self.setup = next;
        Ok(reloaded)
    }

    /// The same while others write to it; after a crash it is told what it was told before.
    ///
    /// # Errors
    /// As [`Host::reload`].
    pub async fn update(&self, next: &Setup) -> Result<Reloaded, Error> {
        let (engine, config) = (self.engine.clone(), next.engine());
        let runtime = self.runtime.as_ref().expect("it runs");
        let reload = async move {
            let update = Update { config, gateway: None, apply: true };
            engine.reload(update, &Who("a test".to_owned())).await
        };
        runtime.spawn(reload).await.unwrap()
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An order of an operator.
    ///
    /// # Errors
    /// The engine's; nothing has changed then.
    pub async fn order(&self, plugin: &str, order: Order) -> Result<PluginStatus, Error> {
        let (engine, plugin) = (self.engine.clone(), PluginId::new(plugin).unwrap());
        let runtime = self.runtime.as_ref().expect("it runs");
        let ordered = async move { engine.order(&plugin, order, &Who("a test".to_owned())).await };
        runtime.spawn(ordered).await.unwrap()
    }

    /// A plugin with its versions.
    pub async fn plugin(&self, name: &str) -> PluginStatus {
        let all = self.engine.plugins(true).await.unwrap();
        all.into_iter().find(|plugin| plugin.plugin == name).unwrap_or_else(|| panic!("no plugin {name}"))
    }

    /// The record of the turn whose message holds `text`, if it is kept.
    pub async fn find(&self, text: &str) -> Option<TurnRecord> {
        for turn in self.store.recent_turns(TURNS_MAX).await.unwrap() {
            let record = self.store.turn_record(turn).await.unwrap();
            if let Some(record) = record
                && record.message.as_ref().is_some_and(|message| message.text.contains(text))
            {
                return Some(record);
            }
        }
        None
    }

    /// The same once the turn is closed.
    pub async fn closed(&self, text: &str) -> TurnRecord {
        let what = format!("the turn of `{}` is closed", text.chars().take(40).collect::<String>());
        eventually_some(&what, async || {
            self.find(text).await.filter(|record| record.state != TurnState::Open)
        })
        .await
    }

    /// Turns that are kept, in whatever state.
    pub async fn turns(&self) -> usize {
        self.store.recent_turns(TURNS_MAX).await.unwrap().len()
    }

    /// Waits until no turn is open.
    pub async fn drained(&self) {
        eventually("every turn is closed", async || {
            let counts = self.store.counts().await.unwrap();
            counts.waiting + counts.leased == 0 && counts.open_reservations == 0
        })
        .await;
    }

    /// Ends everything where it stands.
    pub fn crash(mut self) -> Crashed {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        Crashed { setup: self.setup.clone(), folder: Arc::clone(&self.folder) }
    }

    /// Stops as on SIGTERM: what runs comes to its end, then the store is closed.
    pub async fn stop(mut self) -> Crashed {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
        self.store.close().await.unwrap();
        self.crash()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
