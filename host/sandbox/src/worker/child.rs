//! The worker's side: shut itself in, take a plugin, run its calls.
//!
//! One thread runs all calls; a guest that works yields every few milliseconds, so that the others go on. A call here is
//! the same call as in the host, with the same limits, on an instance of its own; only what the host lends is far away.

use crate::call::Call;
use crate::engine;
use crate::error::Reason;
use crate::log::GuestLog;
use crate::manifest::PluginKind;
use crate::plugin::{BoxFuture, CallOptions, Kind, Plugin};
use crate::pool::Pool;
use crate::sandbox;
use chela_types::Millis;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Socket;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use wasmtime::Engine;

use super::frame::{self, Begin, Failed, Failure, Frame, Kind as Word, Loading, broken, decoded, encoded};
use super::jail;
use super::look::{Looks, look};
use super::pipe::{self, Incoming, Pipe};

/// Largest body of a frame from the host but the machine code: what a call is asked or told.
const WORDS_BYTES_MAX: usize = 256 << 20;

/// Open files: the socket, the log, those of the runtime, and of the engine one for each snapshot that it maps.
const OPEN_FILES_MAX: u64 = 128;

/// Runs one plugin: what the hidden subcommand of the binary calls, with the socket as its stdin. `serve` says which kind
/// runs how.
pub fn main(serve: impl FnOnce(PluginKind, Worker) -> BoxFuture<'static, io::Result<()>>) -> ExitCode {
    match run(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: impl FnOnce(PluginKind, Worker) -> BoxFuture<'static, io::Result<()>>) -> io::Result<()> {
    let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Engine and runtime open what they need; every further thread is begun behind the walls.
    let engine = engine::pooled(&Pool::STANDARD).map_err(io::Error::other)?;
    let runtime = runtime(socket.try_clone()?)?;
    let jailed = jail::shut(OPEN_FILES_MAX)?;
    engine::tick(&engine)?;
    runtime.block_on(async {
        let (pipe, mut incoming) = pipe::open(socket, WORDS_BYTES_MAX)?;
        let pipe = Arc::new(pipe);
        let loading: Loading = loop {
            pipe.send((Word::Up, 0), &[&encoded(&jailed)?])?;
            pipe.drain().await?;
            match incoming.next().await? {
                // Started in advance, and asked whether it is still there.
                Some(Frame { kind: Word::Up, .. }) => {}
                Some(Frame { kind: Word::Load, body, .. }) => break decoded(&body)?,
                Some(_) => return Err(broken("a worker is told first what it is to hold")),
                None => return Ok(()),
            }
        };
        incoming.bound(WORDS_BYTES_MAX.max(usize::try_from(loading.code_bytes).unwrap_or(usize::MAX)));
        let code = match incoming.next().await? {
            Some(Frame { kind: Word::Code, body, .. }) => body,
            _ => return Err(broken("the machine code does not come")),
        };
        incoming.bound(WORDS_BYTES_MAX);
        let kind = loading.kind;
        serve(kind, Worker { pipe, incoming, engine, loading, code }).await
    })
}

/// A runtime on this thread alone, which looks at the socket before it sleeps.
fn runtime(socket: Socket) -> io::Result<Runtime> {
    let waits = Arc::new((Looks::default(), Mutex::new(Instant::now())));
    let over = Arc::clone(&waits);
    let before_sleep = move || {
        let ((looks, since), now) = (&*waits, Instant::now());
        *since.lock() = now;
        if looks.pay(now) {
            look(now, || something_comes(&socket).then_some(()));
        }
    };
    let after_sleep = move || {
        let (looks, since) = &*over;
        looks.waited(*since.lock(), Instant::now());
    };
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time().on_thread_park(before_sleep).on_thread_unpark(after_sleep).build()
}

/// Something can be read, or the other end is gone. What is wrong with the socket is said by whoever reads it.
fn something_comes(socket: &Socket) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())) != Ok(0)
}

/// A worker that knows what it is to hold.
#[derive(Debug)]
pub struct Worker {
    pipe: Arc<Pipe>,
    incoming: Incoming,
    engine: Engine,
    loading: Loading,
    code: Vec<u8>,
}

impl Worker {
    /// Loads the plugin and runs its calls until the host is gone.
    ///
    /// # Errors
    /// A broken protocol, or a machine that has no room.
    pub async fn serve<K: Kind>(self) -> io::Result<()>
    where
        K::Lent: From<Remote>,
    {
        let Self { pipe, mut incoming, engine, loading, code } = self;
        let plugin = match sandbox::held::<K>(&engine, &loading, &code) {
            Ok(plugin) => plugin,
            Err(reason) => {
                pipe.send((Word::Refused, 0), &[reason.to_string().as_bytes()])?;
                return pipe.drain().await;
            }
        };
        drop(code);
        // The first instance maps the snapshot; after the seal no other can be mapped.
        let running = Running::default();
        let nobody = Remote { call: 0, pipe: Arc::clone(&pipe), running: running.clone() };
        if let Err(reason) = plugin.try_instance(nobody.into()).await {
            pipe.send((Word::Refused, 0), &[reason.to_string().as_bytes()])?;
            return pipe.drain().await;
        }
        jail::seal(loading.data_bytes_max)?;
        pipe.send((Word::Ready, 0), &[])?;
        tokio::select! {
            ended = listen(&plugin, &pipe, &mut incoming, &running) => ended,
            ended = pipe.flush() => ended,
        }
    }
}

/// Calls that run, and what each waits to be told.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<HashMap<u64, Run>>>);

#[derive(Debug, Default)]
struct Run {
    task: Option<AbortHandle>,
    waits: Option<oneshot::Sender<(Millis, Vec<u8>)>>,
}

async fn listen<K: Kind>(
    plugin: &Plugin<K>,
    pipe: &Arc<Pipe>,
    incoming: &mut Incoming,
    running: &Running,
) -> io::Result<()>
where
    K::Lent: From<Remote>,
{
    while let Some(Frame { kind, call, body }) = incoming.next().await? {
        match kind {
            Word::Call => {
                let (begin, asked) = frame::split::<Begin>(&body)?;
                let asked: K::Ask = decoded(asked)?;
                running.0.lock().insert(call, Run::default());
                let remote = Remote { call, pipe: Arc::clone(pipe), running: running.clone() };
                let task = one(plugin.clone(), remote, begin, asked);
                let task = tokio::spawn(task).abort_handle();
                if let Some(run) = running.0.lock().get_mut(&call) {
                    run.task = Some(task);
                }
            }
            Word::Told => {
                let (now, told) = frame::split::<Millis>(&body)?;
                let waits = running.0.lock().get_mut(&call).and_then(|run| run.waits.take());
                if let Some(waits) = waits {
                    let _ = waits.send((now, told.to_vec()));
                }
            }
            // The end is told also if nobody waits for it: so the host knows that it has come.
            Word::Cancel => {
                let run = running.0.lock().remove(&call);
                if let Some(task) = run.and_then(|run| run.task) {
                    task.abort();
                    let cancelled = Failed { lines: Vec::new(), why: Failure::OutOfTime };
                    pipe.send((Word::Failed, call), &[&encoded(&cancelled)?])?;
                }
            }
            _ => return Err(broken("a frame that only a worker sends")),
        }
    }
    Ok(())
}

/// One call, and its end told.
async fn one<K: Kind>(plugin: Plugin<K>, remote: Remote, begin: Begin, asked: K::Ask)
where
    K::Lent: From<Remote>,
{
    let (call, pipe, running) = (remote.call, Arc::clone(&remote.pipe), remote.running.clone());
    let options = CallOptions {
        started: begin.started,
        seed: begin.seed,
        deadline: Some(begin.deadline),
        patience: begin.patience,
    };
    let log = Arc::new(Mutex::new(GuestLog::kept(plugin.limits())));
    let said = plugin.asked(remote.into(), (options, Arc::clone(&log)), asked).await;
    let lines = log.lock().take_kept();
    if running.0.lock().remove(&call).is_none() {
        return; // cancelled meanwhile, and told
    }
    let told = match said {
        Ok(said) => encoded(&lines).and_then(|lines| Ok((Word::Said, [lines, encoded(&said)?]))),
        Err(reason) => {
            let failed = Failed { lines, why: failure(reason) };
            encoded(&failed).map(|failed| (Word::Failed, [failed, Vec::new()]))
        }
    };
    // A host that is gone is seen by whoever listens.
    if let Ok((word, [first, second])) = told {
        let _ = pipe.send((word, call), &[&first, &second]);
    }
}

fn failure(reason: Reason) -> Failure {
    match reason {
        Reason::Trap { short, message } => Failure::Trap { short, message },
        Reason::Timeout(_) | Reason::Waiting { .. } => Failure::OutOfTime,
        Reason::Limit { limit, bound } => Failure::Limit(limit, bound),
        other @ (Reason::Refused(_) | Reason::Closed | Reason::Host(_) | Reason::Worker(_)) => {
            Failure::Trap { short: other.to_string(), message: other.to_string() }
        }
    }
}

/// What a worker lends to a call: the way to the host.
#[derive(Debug)]
pub struct Remote {
    call: u64,
    pipe: Arc<Pipe>,
    running: Running,
}

/// A kind that lends nothing asks nothing.
impl From<Remote> for () {
    fn from(_: Remote) {}
}

impl Remote {
    async fn ask(&self, asked: &[u8]) -> io::Result<(Millis, Vec<u8>)> {
        let (tell, told) = oneshot::channel();
        match self.running.0.lock().get_mut(&self.call) {
            Some(run) => run.waits = Some(tell),
            None => return Err(broken("the call is over")),
        }
        self.pipe.send((Word::Asked, self.call), &[asked])?;
        told.await.map_err(io::Error::other)
    }
}

impl Call<Remote> {
    /// Asks the host, in the words that both sides of a kind know; the virtual clock goes to where the host's is.
    ///
    /// # Errors
    /// A trap if the host is gone, or says what it cannot mean.
    pub async fn ask<T: DeserializeOwned>(&mut self, asked: &(impl Serialize + Sync)) -> wasmtime::Result<T> {
        let (now, told) = self.lent().ask(&encoded(asked)?).await?;
        self.clock_to(now);
        Ok(decoded(&told)?)
    }
}
