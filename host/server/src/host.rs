//! The host: everything composed, every listener open, until it is told to stop.
//!
//! Stopping is a promise too: what was acknowledged is kept, what runs is given time to end, and what does
//! not end in time goes on after the next start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chela_engine::Engine;
use chela_store::Store;
use chela_types::ChannelId;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compose::{self, Composed, Ground, OnProgress, Surroundings, compose, open_store};
use crate::config::Config;
use crate::doors::{
    Admin, Bounds, Connections, Files, Operators, Orders, Proof, Public, Replays, defaults, serve,
};
use crate::front::Clients;
use crate::reload::Reloader;
use crate::telemetry::Metrics;
use crate::webchat::Setup;

/// Name of the socket in the data folder.
pub const SOCKET: &str = "chela.sock";
/// How often histograms are put in order while nobody asks for them.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why the host does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rooms could not be put together.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// An address could not be listened on.
    #[error("could not listen on {address}: change [server] {key} in chela.toml, or stop what listens there")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The key that names it.
        key: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The Unix socket could not be made.
    #[error("could not make the socket {path}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store did not close well.
    #[error("could not close the store")]
    Close(#[source] chela_store::Error),
}

/// What the configuration does not say.
#[derive(Debug)]
pub struct Options<'a> {
    /// The program, and how it becomes a compiler.
    pub surroundings: Surroundings,
    /// What the pages of web chats say.
    pub chats: BTreeMap<ChannelId, Setup>,
    /// Metrics, if this process has started them.
    pub metrics: Option<Metrics>,
    /// Told while plugins load.
    pub progress: Progress<'a>,
}

/// Somebody who is told while plugins load.
pub struct Progress<'a>(pub OnProgress<'a>);

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// A host that is ready to run.
#[derive(Debug)]
pub struct Host {
    engine: Engine,
    ground: Ground,
    operators: Operators,
    reloader: Reloader,
    config: Config,
    chats: BTreeMap<ChannelId, Setup>,
    metrics: Option<Metrics>,
    listeners: Listeners,
    files: Files,
}

#[derive(Debug)]
struct Listeners {
    public: TcpListener,
    admin: TcpListener,
    socket: UnixListener,
    addresses: Addresses,
}

/// Where a host listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Webhooks and web chat.
    pub public: SocketAddr,
    /// Operators, with a token.
    pub admin: SocketAddr,
    /// Operators on this machine.
    pub socket: PathBuf,
}

impl Host {
    /// Composes the rooms and opens the listeners. Platforms are answered once [`Host::run`] runs.
    ///
    /// # Errors
    /// [`Error`]; nothing runs then.
    pub fn start(mut config: Config, options: Options<'_>) -> BoxFuture<'_, Result<Self, Error>> {
        Box::pin(async move {
            // As it is written: a reload holds the file against it.
            let written = config.clone();
            let files = Files::raise(config.egress.in_flight_max);
            config.egress.in_flight_max = config.egress.in_flight_max.min(files.calls());
            // The folder first: a second host is told of the first one, and not of its ports.
            let store = open_store(&config).await?;
            let started = Self::on(store.clone(), (config, written), files, options).await;
            if started.is_err()
                && let Err(error) = store.close().await
            {
                tracing::warn!(%error, "the store did not close well");
            }
            started
        })
    }

    async fn on(
        store: Store,
        (config, written): (Config, Config),
        files: Files,
        options: Options<'_>,
    ) -> Result<Self, Error> {
        let Options { surroundings, chats, metrics, progress } = options;
        // Ports before plugins: a port that is taken should not cost the compilation of each of them.
        let public = listen(config.server.public, "public").await?;
        let admin = listen(config.server.admin, "admin").await?;
        let Composed { engine, ground, knowledge, admin_token } =
            compose(&config, store, &surroundings, progress.0).await?;
        let operators = Operators::new(&config, &admin_token);
        let clients = Clients::new(&config);
        let reloader =
            Reloader::new((written, knowledge), engine.clone(), ground.clone(), (operators.clone(), clients));
        let path = config.store.folder.join(SOCKET);
        let addresses = Addresses {
            public: public.local_addr().unwrap_or(config.server.public),
            admin: admin.local_addr().unwrap_or(config.server.admin),
            socket: path.clone(),
        };
        let socket = socket(&path).map_err(|source| Error::Socket { path, source })?;
        Ok(Self {
            engine,
            ground,
            operators,
            reloader,
            config,
            chats,
            metrics,
            listeners: Listeners { public, admin, socket, addresses },
            files,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.listeners.addresses
    }

    /// What runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What is kept.
    pub fn store(&self) -> &Store {
        &self.ground.store
    }

    /// Serves until `stop`; then drains, closes and keeps.
    ///
    /// # Errors
    /// [`Error::Close`].
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let Self { engine, ground, operators, reloader, config, chats, metrics, listeners, files } = self;
            let Ground { store, tenant, clock, .. } = ground;
            // Listeners outlive the draining: a load balancer is told, and a late webhook is still kept.
            let closing = CancellationToken::new();
            let doors = TaskTracker::new();
            let public = Public {
                engine: engine.clone(),
                store: store.clone(),
                tenant: tenant.clone(),
                standing: reloader.standing().clone(),
                clients: reloader.clients().clone(),
                clock: Arc::clone(&clock),
                bounds: bounds(&config, files),
                chats,
                stop: stop.clone(),
            };
            let started = clock.now();
            let replays = Replays::default();
            let admin = Admin {
                engine: engine.clone(),
                store: store.clone(),
                tenant,
                metrics: metrics.clone(),
                clock,
                reloader: reloader.clone(),
                orders: Orders::default(),
                replays: replays.clone(),
                started,
                stop: stop.clone(),
            };
            let connections = |open_max| Connections { open_max, ..Connections::STANDARD };
            doors.spawn(serve(
                listeners.public,
                public.router(),
                connections(files.public()),
                closing.clone(),
            ));
            doors.spawn(serve(
                listeners.admin,
                admin.clone().router(Proof::Token(operators)),
                connections(files.operators()),
                closing.clone(),
            ));
            doors.spawn(serve(
                listeners.socket,
                admin.router(Proof::Socket),
                connections(files.operators()),
                closing.clone(),
            ));
            doors.spawn(upkeep(metrics, closing.clone()));
            let (over, stopping) = (closing.clone(), stop.clone());
            doors.spawn(async move {
                // A reload that runs when the host is told to stop may come to its end while turns do.
                over.run_until_cancelled(reloader.watch(stopping)).await;
            });
            doors.close();
            tracing::info!(public = %listeners.addresses.public, admin = %listeners.addresses.admin, "ready");
            engine.run(stop, config.server.drain).await;
            closing.cancel();
            doors.wait().await;
            replays.ended().await;
            let gateway = engine.gateway();
            gateway.write_down_cached().await;
            gateway.close().await;
            let closed = store.close().await.map_err(Error::Close);
            if let Err(error) = std::fs::remove_file(&listeners.addresses.socket) {
                tracing::debug!(%error, "socket file left behind");
            }
            tracing::info!("stopped");
            closed
        })
    }
}

async fn listen(address: SocketAddr, key: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, key, source })
}

/// The socket, for this user alone. One that lies there is a dead host's: the store's lock says so.
fn socket(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // In a folder that the host made nobody else comes this far; in another one the usual umask keeps others from
    // writing to the socket until its mode does.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn bounds(config: &Config, files: Files) -> Bounds {
    let server = &config.server;
    // Streams leave half of the connections to requests.
    let streams_max = defaults::STREAMS_MAX.min(files.public() / 2);
    if files.are_too_few_for(defaults::STREAMS_MAX + server.requests_max) {
        tracing::warn!(
            files = files.all(),
            connections = files.public(),
            streams = streams_max,
            "few files may be open, and each connection is one: raise the hard limit (`ulimit -Hn`)"
        );
    }
    Bounds {
        body_bytes_max: server.body_bytes_max,
        request_timeout: server.request_timeout,
        requests_max: server.requests_max,
        streams_max,
        streams_per_session: defaults::STREAMS_PER_SESSION,
        streams_per_client: server.streams_per_client,
        stream_lifetime: defaults::STREAM_LIFETIME,
        rate_per_minute: server.rate_per_minute,
        rate_burst: server.rate_burst,
        sessions_per_hour: server.sessions_per_hour,
    }
}

/// Without it, histograms of a host whose metrics nobody reads would grow for ever.
async fn upkeep(metrics: Option<Metrics>, closing: CancellationToken) {
    let Some(metrics) = metrics else { return };
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(METRICS_UPKEEP) => metrics.run_upkeep(),
        }
    }
}
