//! The host's side: start workers, give each its plugin, hand calls over, and end whoever does not end his.

use crate::error::{Ending, HostError, Reason, Refusal};
use crate::limits::Limits;
use crate::log::{Line, cut, escaped};
use bytes::Bytes;
use chela_types::Millis;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::coop::consume_budget;

use super::Isolation;
use super::frame::{Begin, Failed, Failure, Frame, Kind as Word, Loading, broken, decoded, encoded};
use super::jail::Jailed;
use super::look::{Looks, look};
use super::pipe::{self, Here, Incoming, Pipe};
use super::within;

/// Of a worker that holds no plugin yet.
const GREETING_BYTES_MAX: usize = 4 << 10;
/// Beside what a guest may say and log.
const WORDS_BYTES: usize = 1 << 20;
/// Of a line beside its text.
const LINE_HEAD_BYTES: usize = 8;
/// What is kept of a worker's stderr, and what of it is shown.
const STDERR_BYTES: (u64, usize) = (8 << 10, 500);
/// What a call may hear at once: a question, and then the worker's end.
pub(super) const HEARD_MAX: usize = 2;

/// What a call hears of its worker.
#[derive(Debug)]
pub(crate) enum Event {
    /// The guest asks something of the host.
    Asked(Vec<u8>),
    /// The guest has said its word.
    Said(Vec<Line>, Vec<u8>),
    /// The guest has failed.
    Failed(Vec<Line>, Failure),
    /// The worker is gone.
    Gone(Ending),
}

/// Workers that hold no plugin yet, started in advance.
#[derive(Debug)]
pub(crate) struct Spares {
    isolation: Isolation,
    up: Mutex<Vec<Up>>,
    /// What the walls of the last one lacked.
    jailed: Mutex<Option<Jailed>>,
}

/// A worker that is jailed and holds nothing.
#[derive(Debug)]
struct Up {
    child: Child,
    stderr: ChildStderr,
    pipe: Pipe,
    incoming: Incoming,
}

impl Up {
    /// What it says once it is jailed; `None` if it ends instead.
    async fn greeting(&mut self, wall: Duration) -> io::Result<Option<Jailed>> {
        let heard = tokio::time::timeout(wall, self.incoming.next()).await;
        match heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            Some(Frame { kind: Word::Up, body, .. }) => Ok(Some(decoded(&body)?)),
            Some(_) => Err(broken("a worker that does not greet")),
            None => Ok(None),
        }
    }

    /// Asks it whether it is still there.
    async fn asked(&mut self, wall: Duration) -> io::Result<()> {
        self.pipe.send((Word::Up, 0), &[])?;
        let there = self.greeting(wall).await?;
        there.map(drop).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Spares {
    pub(crate) fn new(isolation: Isolation) -> Arc<Self> {
        Arc::new(Self { isolation, up: Mutex::default(), jailed: Mutex::default() })
    }

    /// Which walls stood around the last worker; absent before the first.
    pub(crate) fn jailed(&self) -> Option<Jailed> {
        *self.jailed.lock()
    }

    /// A worker for a plugin; another one is started in its place. One that has waited, and does not answer now, is none.
    async fn take(self: &Arc<Self>) -> io::Result<Up> {
        let mut spare = self.up.lock().pop();
        if let Some(up) = &mut spare
            && let Err(error) = up.asked(self.isolation.grace).await
        {
            tracing::warn!(%error, "a worker that was started in advance is not there any more");
            spare = None;
        }
        let spare = match spare {
            Some(up) => up,
            None => self.start().await?,
        };
        let spares = Arc::downgrade(self);
        tokio::spawn(async move {
            let Some(spares) = spares.upgrade() else { return };
            if spares.up.lock().len() >= spares.isolation.spare {
                return;
            }
            match spares.start().await {
                Ok(up) => spares.up.lock().push(up),
                Err(error) => tracing::warn!(%error, "no worker can be started in advance"),
            }
        });
        Ok(spare)
    }

    async fn start(&self) -> io::Result<Up> {
        let (ours, theirs) = Socket::pair()?;
        let mut command = Command::new(&self.isolation.program);
        command.args(&self.isolation.args).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // It holds their end of the socket, which would never seem closed.
        drop(command);
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("the worker has no stderr"))?;
        let (pipe, incoming) = pipe::open(ours, GREETING_BYTES_MAX)?;
        let mut up = Up { child, stderr, pipe, incoming };
        match up.greeting(self.isolation.load_wall).await? {
            Some(jailed) => {
                self.tell(jailed);
                Ok(up)
            }
            None => Err(io::Error::other(last_words(&mut up.child, up.stderr).await.to_string())),
        }
    }

    /// Once for each machine: a kernel does not change.
    fn tell(&self, jailed: Jailed) {
        let earlier = self.jailed.lock().replace(jailed);
        if let Some(lacks) = jailed.lacks().filter(|_| earlier != Some(jailed)) {
            tracing::warn!(
                lacks,
                "workers are not shut in as they should be: this kernel lacks a part of it"
            );
        }
    }
}

/// The worker of one version of one plugin: one process at a time, replaced when it dies.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spares: Arc<Spares>,
    loading: Loading,
    code: Bytes,
    now: tokio::sync::Mutex<Option<Arc<Held>>>,
    calls: AtomicU64,
}

impl Workers {
    /// Starts one and gives it its plugin.
    ///
    /// # Errors
    /// A plugin that cannot be loaded, or a machine that starts no process.
    pub(crate) async fn start(spares: Arc<Spares>, loading: Loading, code: Bytes) -> Result<Self, Reason> {
        let workers = Self::later(spares, loading, code);
        workers.0.held().await?;
        Ok(workers)
    }

    /// Starts one when a call needs it.
    pub(super) fn later(spares: Arc<Spares>, loading: Loading, code: Bytes) -> Self {
        let (now, calls) = (tokio::sync::Mutex::new(None), AtomicU64::new(1));
        Self(Arc::new(Inner { spares, loading, code, now, calls }))
    }

    /// Hands a call over.
    ///
    /// # Errors
    /// A worker that cannot be started anew.
    pub(crate) async fn begin(&self, begin: &Begin, ask: &[u8]) -> Result<Away, Reason> {
        let begin = encoded(begin).map_err(HostError::new)?;
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let held = self.held().await?;
        let (hears, heard) = mpsc::channel(HEARD_MAX);
        held.calls.lock().insert(call, Caller::Waits(hears));
        let away = Away { held, call, heard, is_over: false, grace: self.0.spares.isolation.grace };
        // One that has died meanwhile says so to whoever waits.
        let _ = away.held.pipe.send((Word::Call, call), &[&begin, ask]);
        away.held.tell_if_gone(call);
        Ok(away)
    }

    /// The worker that lives, or a new one. A call that has no time to wait for that leaves it to the next.
    async fn held(&self) -> Result<Arc<Held>, Reason> {
        if let Ok(now) = self.0.now.try_lock()
            && let Some(held) = now.as_ref().filter(|held| held.lives())
        {
            return Ok(Arc::clone(held));
        }
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.held().await }).await.map_err(HostError::new)?
    }
}

impl Inner {
    /// The worker that lives, or a new one.
    async fn held(&self) -> Result<Arc<Held>, Reason> {
        let mut now = self.now.lock().await;
        if let Some(held) = now.as_ref().filter(|held| held.lives()) {
            return Ok(Arc::clone(held));
        }
        if now.is_some() {
            metrics::counter!("plugin_workers_replaced_total", "plugin" => self.loading.plugin.clone())
                .increment(1);
        }
        let held = self.load().await?;
        *now = Some(Arc::clone(&held));
        Ok(held)
    }

    async fn load(&self) -> Result<Arc<Held>, Reason> {
        let tried = |error: io::Error| HostError::new(format!("starting a worker for a plugin: {error}"));
        let Up { mut child, stderr, pipe, mut incoming } = self.spares.take().await.map_err(tried)?;
        incoming.bound(GREETING_BYTES_MAX);
        let answer = async {
            pipe.send((Word::Load, 0), &[&encoded(&self.loading)?])?;
            pipe.send((Word::Code, 0), &[&self.code])?;
            tokio::select! {
                answer = incoming.next() => answer,
                ended = pipe.flush() => ended.map(|()| None),
            }
        };
        let wall = self.spares.isolation.load_wall;
        match tokio::time::timeout(wall, answer).await {
            Ok(Ok(Some(Frame { kind: Word::Ready, .. }))) => {}
            Ok(Ok(Some(Frame { kind: Word::Refused, body, .. }))) => {
                return Err(Refusal::Compile { message: escaped(&String::from_utf8_lossy(&body)) }.into());
            }
            Ok(Ok(None) | Err(_)) => return Err(Reason::Worker(last_words(&mut child, stderr).await)),
            Ok(Ok(Some(_))) => return Err(Reason::Worker(Ending::Protocol("it is not ready".to_owned()))),
            Err(_) => return Err(Reason::Worker(Ending::TimedOut(wall))),
        }
        incoming.bound(frame_bytes_max(&self.loading.limits));
        let held = Arc::new(Held::new(pipe, incoming, &self.loading.limits));
        tokio::spawn(Arc::clone(&held).attend(child, stderr));
        Ok(held)
    }
}

/// Of a worker that holds a plugin with these limits: what a guest says, and its log, in which a control character
/// becomes up to six others.
pub(super) fn frame_bytes_max(limits: &Limits) -> usize {
    let log = limits.log_bytes.saturating_mul(6).saturating_add(limits.log_lines as usize * LINE_HEAD_BYTES);
    limits.output_bytes.saturating_mul(2).saturating_add(log).saturating_add(WORDS_BYTES)
}

/// What the lines of one call may take here: each of them, and a word on those that were dropped.
fn lines_bytes_max(limits: &Limits) -> usize {
    (limits.log_lines as usize).saturating_add(1).saturating_mul(size_of::<Line>())
}

impl Drop for Inner {
    /// Calls hold their plugin, so none is under way.
    fn drop(&mut self) {
        if let Some(held) = self.now.get_mut().take() {
            held.kill.notify_one();
        }
    }
}

/// A worker that holds its plugin.
#[derive(Debug)]
pub(super) struct Held {
    pipe: Pipe,
    /// For who listens, or for a moment for who looks.
    incoming: Mutex<Incoming>,
    /// It is watched again.
    rewatched: Notify,
    looks: Looks,
    pub(super) calls: Mutex<HashMap<u64, Caller>>,
    /// Of the lines of one call.
    lines_bytes_max: usize,
    gone: Mutex<Option<Ending>>,
    /// What was heard instead of a word.
    failed: Mutex<Option<io::Error>>,
    kill: Notify,
    runtime: Handle,
}

/// Who waits for a call.
#[derive(Debug)]
pub(super) enum Caller {
    Waits(mpsc::Sender<Event>),
    /// Nobody; the worker has been told.
    Cancelled,
}

impl Held {
    pub(super) fn new(pipe: Pipe, incoming: Incoming, limits: &Limits) -> Self {
        Self {
            pipe,
            incoming: Mutex::new(incoming),
            rewatched: Notify::new(),
            looks: Looks::default(),
            calls: Mutex::default(),
            lines_bytes_max: lines_bytes_max(limits),
            gone: Mutex::default(),
            failed: Mutex::default(),
            kill: Notify::new(),
            runtime: Handle::current(),
        }
    }

    /// Listens until the worker is gone, and tells whoever waits for it.
    async fn attend(self: Arc<Self>, mut child: Child, stderr: ChildStderr) {
        let heard = tokio::select! {
            heard = self.listen() => heard,
            written = self.pipe.flush() => written,
            () = self.kill.notified() => self.failed.lock().take().map_or(Ok(()), Err),
            // Of a socket that nobody watches it is not seen. What it has said before is heard.
            _ = child.wait() => match self.watch() {
                Ok(()) => self.listen().await,
                failed => failed,
            },
        };
        let ending = match heard {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let _ = child.kill().await;
                Ending::Protocol(escaped(&error.to_string()))
            }
            Ok(()) | Err(_) => last_words(&mut child, stderr).await,
        };
        *self.gone.lock() = Some(ending.clone());
        let calls = std::mem::take(&mut *self.calls.lock());
        for caller in calls.into_values() {
            if let Caller::Waits(hears) = caller {
                let _ = hears.try_send(Event::Gone(ending.clone()));
            }
        }
    }

    /// Hands on what the worker says, until it is gone or breaks the protocol.
    pub(super) async fn listen(&self) -> io::Result<()> {
        loop {
            let here = self.hand_on(&mut self.incoming.lock())?;
            match here {
                Here::End => return Ok(()),
                Here::Frame(_) | Here::Part => consume_budget().await,
                Here::Nothing => tokio::select! {
                    come = poll_fn(|context| self.incoming.lock().poll_something(context)) => come?,
                    () = self.rewatched.notified() => {}
                },
            }
        }
    }

    /// Looks for the next word of a call, if that pays. Whoever sees it himself need not be woken for it.
    fn look(&self, began: Instant, heard: &mut mpsc::Receiver<Event>) -> Option<Event> {
        let mut incoming = self.looks.pay(began).then(|| self.incoming.try_lock()).flatten()?;
        incoming.unwatch();
        let seen = || match self.hand_on(&mut incoming) {
            Ok(Here::End) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => heard.try_recv().ok().map(Ok),
            Err(error) => Some(Err(error)),
        };
        let seen = look(began, seen);
        drop(incoming);
        match seen? {
            Ok(event) => {
                self.watch_if_awaited();
                Some(event)
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Whoever waits is woken when the worker speaks.
    fn watch_if_awaited(&self) {
        if !self.calls.lock().is_empty()
            && let Err(error) = self.watch()
        {
            self.fail(error);
        }
    }

    fn watch(&self) -> io::Result<()> {
        if self.incoming.lock().watch()? {
            self.rewatched.notify_one();
        }
        Ok(())
    }

    /// Ends the worker for this.
    fn fail(&self, error: io::Error) {
        *self.failed.lock() = Some(error);
        self.kill.notify_one();
    }

    /// Hands on one word of the worker, if it is there.
    fn hand_on(&self, incoming: &mut Incoming) -> io::Result<Here> {
        match incoming.here()? {
            Here::Frame(frame) => self.said(frame).map(|()| Here::Part),
            other => Ok(other),
        }
    }

    fn said(&self, Frame { kind, call, body }: Frame) -> io::Result<()> {
        match kind {
            Word::Asked => self.asked(call, body),
            Word::Said => {
                let (lines, said) = within::split::<Vec<Line>>(&body, self.lines_bytes_max)?;
                self.ended(call, Event::Said(lines, said.to_vec()))
            }
            Word::Failed => {
                let Failed { lines, why } = within::decoded(&body, self.lines_bytes_max)?;
                self.ended(call, Event::Failed(lines, why))
            }
            _ => Err(broken("a frame that only the host sends")),
        }
    }

    /// A guest asks one thing at a time. Who asks more than is answered breaks the protocol.
    fn asked(&self, call: u64, asked: Vec<u8>) -> io::Result<()> {
        match self.calls.lock().get(&call) {
            Some(Caller::Waits(hears)) => hears.try_send(Event::Asked(asked)).or_else(|error| {
                if error_is_full(&error) { Err(broken("it asks while it is answered")) } else { Ok(()) }
            }),
            Some(Caller::Cancelled) => Ok(()),
            None => Err(broken("it asks for a call that is over")),
        }
    }

    fn ended(&self, call: u64, event: Event) -> io::Result<()> {
        match self.calls.lock().remove(&call) {
            Some(Caller::Waits(hears)) => drop(hears.try_send(event)),
            Some(Caller::Cancelled) => {}
            None => return Err(broken("it ends a call that is over")),
        }
        Ok(())
    }

    fn lives(&self) -> bool {
        self.gone.lock().is_none()
    }

    /// For a call that was handed over to one who had just died.
    fn tell_if_gone(&self, call: u64) {
        let Some(ending) = self.gone.lock().clone() else { return };
        if let Some(Caller::Waits(hears)) = self.calls.lock().remove(&call) {
            let _ = hears.try_send(Event::Gone(ending));
        }
    }

    /// Nobody waits for the call any more. A worker that does not end it within `grace` is killed.
    fn cancel(self: &Arc<Self>, call: u64, grace: Duration) {
        match self.calls.lock().get_mut(&call) {
            Some(caller) => *caller = Caller::Cancelled,
            None => return,
        }
        let _ = self.pipe.send((Word::Cancel, call), &[]);
        self.watch_if_awaited();
        let held = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            if held.calls.lock().contains_key(&call) {
                held.kill.notify_one();
            }
        });
    }
}

fn error_is_full(error: &mpsc::error::TrySendError<Event>) -> bool {
    matches!(error, mpsc::error::TrySendError::Full(_))
}

/// A call that runs in a worker. Whoever drops it before its end cancels it.
#[derive(Debug)]
pub(crate) struct Away {
    held: Arc<Held>,
    call: u64,
    heard: mpsc::Receiver<Event>,
    is_over: bool,
    grace: Duration,
}

impl Away {
    /// What comes next; after anything but [`Event::Asked`] nothing comes.
    pub(crate) async fn next(&mut self) -> Event {
        let began = Instant::now();
        let event = match self.held.look(began, &mut self.heard) {
            Some(event) => self.taken(event),
            None => self.unlooked_for().await,
        };
        self.held.looks.waited(began, Instant::now());
        event
    }

    /// The same where nothing is to come.
    pub(crate) async fn unlooked_for(&mut self) -> Event {
        self.held.watch_if_awaited();
        let event = self.heard.recv().await;
        let event = event.unwrap_or_else(|| Event::Gone(Ending::Protocol("it is gone".to_owned())));
        self.taken(event)
    }

    fn taken(&mut self, event: Event) -> Event {
        self.is_over = !matches!(event, Event::Asked(_));
        event
    }

    /// Answers what the guest has asked. One that is gone says so by itself.
    pub(crate) fn tell(&self, now: Millis, answer: &[u8]) -> Result<(), HostError> {
        let now = encoded(&now).map_err(HostError::new)?;
        let _ = self.held.pipe.send((Word::Told, self.call), &[&now, answer]);
        Ok(())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if !self.is_over {
            self.held.cancel(self.call, self.grace);
        }
    }
}

/// Ends a worker, and says how it ended.
async fn last_words(child: &mut Child, stderr: ChildStderr) -> Ending {
    let _ = child.start_kill(); // nothing more can come of it
    let (kept, shown) = STDERR_BYTES;
    let mut said = Vec::new();
    let status = child.wait().await;
    let _ = stderr.take(kept).read_to_end(&mut said).await;
    let said = escaped(String::from_utf8_lossy(&said).trim());
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    Ending::Crashed { status, stderr: cut(&said, shown).to_owned() }
}
