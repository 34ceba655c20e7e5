//! Clients on a thread of their own: as many as there are connections, each with one request at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::super::Failure;
use super::super::Times;

/// Connections at once.
pub(super) const CONNECTIONS: usize = 64;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 1 << 20;

/// Whom requests are sent to, and how.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) model: &'static str,
    pub(super) key: String,
    /// What it wants to be told beside.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Each time something else.
    Anew,
    /// Always the same.
    Again,
}

/// How long requests are sent, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many a second. Times count from when a request was due, so that a gateway that falls behind is seen to.
    Paced { rate: f64, time: Duration },
    /// So many clients, each as fast as it is answered.
    Flat { clients: usize, time: Duration },
    /// So many requests, as fast as they are answered.
    Count(u64),
}

/// Who sends them.
pub(super) struct Load {
    runtime: Option<Runtime>,
    /// Of questions: none is asked twice.
    number: Arc<AtomicU64>,
}

impl Load {
    pub(super) fn new() -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime: Some(runtime), number: Arc::default() })
    }

    /// Sends them and waits for every answer; how long each took, and all together.
    pub(super) async fn send(
        &self,
        target: &Target,
        (asked, pace): (Asked, Pace),
        bar: &ProgressBar,
    ) -> Result<(Times, Duration), Failure> {
        let runtime = self.runtime.as_ref().ok_or_else(|| Failure::new("nobody is there to ask"))?;
        let (clients, length) = match pace {
            Pace::Flat { clients, time } => (clients, u64::try_from(time.as_millis())?),
            Pace::Paced { time, .. } => (CONNECTIONS, u64::try_from(time.as_millis())?),
            Pace::Count(count) => (CONNECTIONS, count),
        };
        bar.reset();
        bar.set_length(length);
        let (begun, left) = (Instant::now(), Arc::new(AtomicU64::new(length)));
        let (mut all, mut lanes) = (JoinSet::new(), Vec::new());
        for _ in 0..clients {
            let client = Client {
                connection: runtime.spawn(connect(target.address)).await??,
                target: target.clone(),
                asked,
                number: Arc::clone(&self.number),
                bar: bar.clone(),
            };
            let until = match pace {
                Pace::Flat { time, .. } => Until::Time(begun + time),
                Pace::Count(_) => Until::None(Arc::clone(&left)),
                Pace::Paced { .. } => {
                    let (lane, due) = mpsc::unbounded_channel();
                    lanes.push(lane);
                    Until::Due(due)
                }
            };
            all.spawn_on(client.run(begun, until), runtime.handle());
        }
        if let Pace::Paced { rate, time } = pace {
            thread::Builder::new().name("pace".into()).spawn(move || keep(rate, time, &lanes))?;
        }
        let mut times = Times::default();
        while let Some(joined) = all.join_next().await {
            times.0.extend(joined?.map_err(Failure::new)?);
        }
        Ok((times, begun.elapsed()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Says when each request is due. A timer of the runtime has ticks of a millisecond: too coarse for what is measured here.
fn keep(rate: f64, time: Duration, lanes: &[mpsc::UnboundedSender<Instant>]) {
    let begun = Instant::now();
    let mut turns = lanes.iter().cycle();
    for number in 0_u32.. {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= begun + time {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A client that has failed is told of when all are joined.
        let Some(Ok(())) = turns.next().map(|lane| lane.send(due)) else { return };
    }
}

/// When a client is done.
enum Until {
    Time(Instant),
    /// When nothing is left.
    None(Arc<AtomicU64>),
    /// When nothing is due any more.
    Due(mpsc::UnboundedReceiver<Instant>),
}

impl Until {
    /// When the next request is due.
    async fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        match self {
            Self::Time(end) => (now < *end).then_some(now),
            Self::None(left) => {
                let before =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                before.is_ok().then_some(now)
            }
            Self::Due(due) => due.recv().await,
        }
    }
}

struct Client {
    connection: SendRequest<Body>,
    target: Target,
    asked: Asked,
    number: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Client {
    async fn run(mut self, begun: Instant, mut until: Until) -> Result<Vec<Duration>, String> {
        let mut times = Vec::new();
        let counts = matches!(until, Until::None(_));
        while let Some(due) = until.next().await {
            timeout(PATIENCE, self.ask()).await.map_err(|_| "an answer did not come".to_owned())??;
            times.push(due.elapsed());
            match counts {
                true => self.bar.inc(1),
                false => {
                    self.bar.set_position(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
                }
            }
        }
        Ok(times)
    }

    async fn ask(&mut self) -> Result<(), String> {
        let request = self.request().map_err(|error| error.to_string())?;
        self.connection.ready().await.map_err(|error| error.to_string())?;
        let answer = self.connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_MAX).await;
        let body = body.map_err(|error| error.to_string())?;
        match status == StatusCode::OK {
            true => Ok(()),
            false => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    }

    fn request(&self) -> http::Result<Request<Body>> {
        let number = match self.asked {
            Asked::Anew => self.number.fetch_add(1, Ordering::Relaxed),
            Asked::Again => 0,
        };
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"system","content":"You answer questions about orders, returns and refunds, in one or two sentences."}},{{"role":"user","content":"Can I return order {number}, which came on Monday?"}}],"max_tokens":64}}"#,
            self.target.model,
        );
        let mut request = Request::post("/v1/chat/completions")
            .header(HOST, self.target.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.target.key))
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.target.headers {
            request = request.header(*name, value);
        }
        request.body(Body::from(body))
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Body>, Failure> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
