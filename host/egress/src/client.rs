//! The client: checks, sends, guards the answer.
//!
//! Two connection pools: the one for plain http resolves to inside addresses only, so that no rule depends
//! on remembering the scheme. Redirects are answers like any other (a redirect would carry the credential
//! elsewhere), system proxies are ignored, nothing is decompressed (a small body stays small) and nothing is
//! repeated behind the caller's back.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::address::{Rules, host_of};
use crate::body::{Guard, collect};
use crate::error::{sort, unsent};
use crate::leak::Watch;
use crate::request::headers_leak;
use crate::resolver::Filtered;
use crate::{Error, Phase, Request, Way};

/// The documented defaults of [`Config`].
pub mod defaults {
    use std::time::Duration;

    /// Name, TCP and TLS.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Until the head of the answer.
    pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Between two pieces of a streamed answer.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    /// A whole exchange.
    pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(300);
    /// A whole answer: 8 MiB.
    pub const RESPONSE_BYTES_MAX: usize = 8 << 20;
    /// Requests in flight; more wait their turn.
    pub const IN_FLIGHT_MAX: usize = 16_384;
    /// Idle connections kept for each host.
    pub const IDLE_PER_HOST_MAX: usize = 64;
    /// How long an idle connection is kept.
    pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
}

/// `[egress]`.
#[derive(Debug, Clone)]
pub struct Config {
    /// This machine may be called (127.0.0.0/8, ::1, `localhost`).
    pub allow_loopback: bool,
    /// Private networks may be called (10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7).
    pub allow_private: bool,
    /// Name, TCP and TLS: [`defaults::CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// Until the head of the answer: [`defaults::FIRST_BYTE_TIMEOUT`].
    pub first_byte_timeout: Duration,
    /// Between two pieces: [`defaults::IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// A whole exchange: [`defaults::TOTAL_TIMEOUT`].
    pub total_timeout: Duration,
    /// A whole answer: [`defaults::RESPONSE_BYTES_MAX`].
    pub response_bytes_max: usize,
    /// Requests in flight: [`defaults::IN_FLIGHT_MAX`].
    pub in_flight_max: usize,
    /// Idle connections for each host: [`defaults::IDLE_PER_HOST_MAX`].
    pub idle_per_host_max: usize,
    /// How long an idle connection is kept: [`defaults::POOL_IDLE_TIMEOUT`].
    pub pool_idle_timeout: Duration,
}

impl Config {
    /// The documented defaults: the public internet over https, and nothing inside.
    pub const fn standard() -> Self {
        Self {
            allow_loopback: false,
            allow_private: false,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            first_byte_timeout: defaults::FIRST_BYTE_TIMEOUT,
            idle_timeout: defaults::IDLE_TIMEOUT,
            total_timeout: defaults::TOTAL_TIMEOUT,
            response_bytes_max: defaults::RESPONSE_BYTES_MAX,
            in_flight_max: defaults::IN_FLIGHT_MAX,
            idle_per_host_max: defaults::IDLE_PER_HOST_MAX,
            pool_idle_timeout: defaults::POOL_IDLE_TIMEOUT,
        }
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status; 3xx too, redirects are not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the limit.
    pub body: Bytes,
}

/// An answer whose head is known, whatever became of its body: a status says whether the peer took the request, also
/// when what followed it was cut or too long.
#[derive(Debug)]
pub struct Heard {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, or why there is none.
    pub body: Result<Bytes, Error>,
}

impl Heard {
    /// The answer, if all of it came.
    ///
    /// # Errors
    /// What the body ended with.
    pub fn whole(self) -> Result<Response, Error> {
        Ok(Response { status: self.status, headers: self.headers, body: self.body? })
    }
}

/// An answer whose body arrives piece by piece. Dropping it ends the exchange.
pub struct StreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; after an error nothing follows.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

impl StreamResponse {
    /// The rest of the body in one piece, within the same limits.
    ///
    /// # Errors
    /// What the body ends with.
    pub async fn whole(self) -> Result<Response, Error> {
        self.heard().await.whole()
    }

    /// The head, and the rest of the body or why it did not come.
    pub async fn heard(self) -> Heard {
        Heard { status: self.status, headers: self.headers, body: collect(self.body).await }
    }
}

impl std::fmt::Debug for StreamResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The way out. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    rules: Rules,
    plain: reqwest::Client,
    encrypted: reqwest::Client,
    in_flight: Arc<Semaphore>,
}

impl Egress {
    /// Builds the clients; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Setup`] if the machine's TLS set-up is unusable.
    pub fn new(config: Config) -> Result<Self, Error> {
        let rules = Rules { loopback: config.allow_loopback, private: config.allow_private };
        let client = |encrypted| build(&config, Filtered { rules, encrypted });
        let (plain, encrypted) = (client(false)?, client(true)?);
        let in_flight = Arc::new(Semaphore::new(config.in_flight_max));
        Ok(Self(Arc::new(Inner { rules, plain, encrypted, in_flight, config })))
    }

    /// How many more requests may start now, for metrics.
    pub fn free_places(&self) -> usize {
        self.0.in_flight.available_permits()
    }

    /// Sends and waits for the whole answer.
    ///
    /// # Errors
    /// [`Error`]; any status is an answer, not an error.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        self.stream(request).await?.whole().await
    }

    /// Sends and waits for the whole answer; keeps the head of one whose body does not come whole.
    ///
    /// # Errors
    /// [`Error`] if not even the head of an answer came.
    pub async fn ask(&self, request: Request) -> Result<Heard, Error> {
        Ok(self.stream(request).await?.heard().await)
    }

    /// Sends and returns as soon as the head of the answer is there.
    ///
    /// # Errors
    /// [`Error`]; any status is an answer, not an error.
    pub async fn stream(&self, request: Request) -> Result<StreamResponse, Error> {
        let Inner { config, rules, plain, encrypted, in_flight } = &*self.0;
        rules.check(&request.url)?;
        let host = host_of(&request.url);
        if request.leaks() {
            return Err(Error::Leak { host, way: Way::Out });
        }
        let headers = request.sealed_headers()?;
        let first_byte = request.timeouts.first_byte.unwrap_or(config.first_byte_timeout);
        let total = request.timeouts.total.unwrap_or(config.total_timeout);
        let now = Instant::now();
        let (head_until, until) = (now + first_byte.min(total), now + total);
        let late = |phase| Error::Timeout { host: host.clone(), phase, after: first_byte.min(total) };

        let permit = timeout_at(head_until, in_flight.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(late(Phase::Turn)) };
        let client = if request.url.scheme() == "https" { encrypted } else { plain };
        let begun = request.begun.clone();
        let body = begun.watch(request.body);
        let sending = client.request(request.method, request.url).headers(headers).body(body).send();
        let answer = match timeout_at(head_until, sending).await {
            Err(_) if begun.give_up() => return Err(late(Phase::Connect)),
            Err(_) => return Err(late(Phase::FirstByte)),
            Ok(Err(error)) if !begun.is_begun() => {
                return Err(unsent(sort(&host, config.connect_timeout, error)));
            }
            Ok(Err(error)) => return Err(sort(&host, config.connect_timeout, error)),
            Ok(Ok(answer)) => answer,
        };
        tracing::debug!(host, status = answer.status().as_u16(), "answered");
        let idle = request.timeouts.idle.unwrap_or(config.idle_timeout);
        let bytes_max = config.response_bytes_max;
        let bytes_max = request.response_bytes_max.map_or(bytes_max, |own| own.min(bytes_max));
        // A refusal is read whole, like any other answer.
        let streamed = request.stream_bytes_max.filter(|_| answer.status().is_success());
        let bytes_max = streamed.unwrap_or(bytes_max);
        if request.leaks.as_ref().is_some_and(|leaks| headers_leak(leaks, answer.headers())) {
            return Err(Error::Leak { host, way: Way::In });
        }
        let leaks = request.leaks.map(Watch::new);
        let guard = Guard { host, bytes_max, idle, total: (total, until), leaks };
        Ok(guarded(answer, guard, permit, config.connect_timeout))
    }
}

fn guarded(
    answer: reqwest::Response,
    guard: Guard,
    permit: OwnedSemaphorePermit,
    connect_timeout: Duration,
) -> StreamResponse {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let host = guard.host.clone();
    let pieces = answer.bytes_stream().map(move |piece| {
        let _held_until_the_body_ends = &permit;
        piece.map_err(|error| sort(&host, connect_timeout, error))
    });
    StreamResponse { status, headers, body: guard.watch(pieces) }
}

fn build(config: &Config, resolver: Filtered) -> Result<reqwest::Client, Error> {
    install_crypto();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("chela/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(config.idle_per_host_max)
            .pool_idle_timeout(config.pool_idle_timeout)
            .https_only(resolver.encrypted)
            .dns_resolver(resolver)
    };
    builder().build().or_else(|error| {
        // A machine without root certificates can still do what needs none: offline demo, loopback. Every
        // https call will fail with a clear certificate error.
        tracing::warn!(%error, "no root certificates were found, https will fail; install `ca-certificates`");
        builder().tls_certs_only([]).build().map_err(|error| Error::Setup(Box::new(error)))
    })
}

/// rustls wants to know who computes: ring, for the whole process. A second call changes nothing.
pub(crate) fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
    }
}
