//! How much is served at once, and how often one client may come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;
use super::listener::Peer;
use super::shares::{Share, Shares};

/// Bounds of the public listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Largest body of any request.
    pub body_bytes_max: usize,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Requests at once; streams are counted apart.
    pub requests_max: usize,
    /// Event streams at once.
    pub streams_max: usize,
    /// Event streams of one session at once.
    pub streams_per_session: usize,
    /// Event streams of one client at once.
    pub streams_per_client: usize,
    /// How long one event stream lives before the browser has to ask anew.
    pub stream_lifetime: Duration,
    /// Requests of one client in a minute.
    pub rate_per_minute: u32,
    /// Requests of one client at once, on top.
    pub rate_burst: u32,
    /// New web sessions of one client: at once, and again in each hour.
    pub sessions_per_hour: u32,
}

/// Default bounds.
pub mod defaults {
    use std::time::Duration;

    /// Event streams at once.
    pub const STREAMS_MAX: usize = 2_000;
    /// Event streams of one session: its tabs.
    pub const STREAMS_PER_SESSION: usize = 16;
    /// Life of an event stream.
    pub const STREAM_LIFETIME: Duration = Duration::from_secs(60 * 60);
    /// Clients that are remembered before those at rest are forgotten.
    pub const CLIENTS_MAX: usize = 50_000;
}

type Clients = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

/// The gates that requests pass.
#[derive(Debug)]
pub(crate) struct Gates {
    pub(super) bounds: Bounds,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    sessions_streams: Shares<String>,
    clients_streams: Shares<IpAddr>,
    clients: Clients,
    newcomers: Clients,
}

/// A seat for one stream of events, in the house, of the session and of the client.
#[derive(Debug)]
pub(crate) struct StreamSeat {
    _of_all: OwnedSemaphorePermit,
    _of_session: Share<String>,
    _of_client: Option<Share<IpAddr>>,
}

impl Gates {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let requests = Quota::per_minute(some(bounds.rate_per_minute)).allow_burst(some(bounds.rate_burst));
        Self {
            requests: Arc::new(Semaphore::new(bounds.requests_max)),
            streams: Arc::new(Semaphore::new(bounds.streams_max)),
            sessions_streams: Shares::new(bounds.streams_per_session),
            clients_streams: Shares::new(bounds.streams_per_client),
            clients: RateLimiter::hashmap(requests),
            newcomers: RateLimiter::hashmap(Quota::per_hour(some(bounds.sessions_per_hour))),
            bounds,
        }
    }

    /// A seat for one request.
    pub(super) fn request(&self, peer: Option<Peer>) -> Result<OwnedSemaphorePermit, Error> {
        within_rate(&self.clients, peer)?;
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Error::Busy)
    }

    /// A seat for one stream of events.
    pub(crate) fn stream(&self, session: &str, peer: Option<Peer>) -> Result<StreamSeat, Error> {
        let of_client = match client(peer) {
            Some(client) => Some(self.clients_streams.take(client).ok_or(Error::Streams)?),
            None => None,
        };
        Ok(StreamSeat {
            _of_session: self.sessions_streams.take(session.to_owned()).ok_or(Error::Streams)?,
            _of_client: of_client,
            _of_all: Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Error::Busy)?,
        })
    }

    /// Whether a client may begin one more web session. Each is a person to the budgets, and costs nothing to make.
    pub(crate) fn session(&self, peer: Option<Peer>) -> Result<(), Error> {
        within_rate(&self.newcomers, peer)
    }
}

fn within_rate(clients: &Clients, peer: Option<Peer>) -> Result<(), Error> {
    let Some(client) = client(peer) else { return Ok(()) };
    if clients.len() > defaults::CLIENTS_MAX {
        clients.retain_recent();
    }
    clients.check_key(&client).map_err(|until| Error::Flood(until.wait_time_from(clients.clock().now())))
}

/// Whom a rate or a share belongs to: an IPv4 address, or the /64 that one customer is given in IPv6. `None`: who
/// speaks from this machine is the operator's own proxy, and speaks for many.
fn client(peer: Option<Peer>) -> Option<IpAddr> {
    let client = match peer?.0.ip().to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    };
    (!client.is_loopback()).then_some(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Gates {
        Gates::new(Bounds {
            body_bytes_max: 1,
            request_timeout: Duration::from_secs(1),
            requests_max: 2,
            streams_max: 5,
            streams_per_session: 2,
            streams_per_client: 3,
            stream_lifetime: Duration::from_secs(1),
            rate_per_minute: 1,
            rate_burst: 3,
            sessions_per_hour: 2,
        })
    }

    fn peer(ip: &str) -> Option<Peer> {
        Some(Peer((ip.parse::<IpAddr>().unwrap(), 1).into()))
    }

    #[test]
    fn requests_at_once_obeyed() {
        let gates = gates();
        let (_one, _two) = (gates.request(None).unwrap(), gates.request(None).unwrap());
        let _stream = gates.stream("ann", None).unwrap();
    }

    #[test]
    fn requests_at_once_violated() {
        let gates = gates();
        let seats = (gates.request(None).unwrap(), gates.request(None).unwrap());
        assert!(matches!(gates.request(None), Err(Error::Busy)));
        drop(seats);
        assert!(gates.request(None).is_ok());
    }

    #[test]
    fn streams_of_a_session_and_of_a_client_obeyed() {
        let gates = gates();
        let client = peer("192.0.2.1");
        let _seats = ["ann", "ann", "bob"].map(|session| gates.stream(session, client).unwrap());
        let _others = ["cat", "dan"].map(|session| gates.stream(session, peer("192.0.2.2")).unwrap());
    }

    #[test]
    fn streams_of_a_session_violated() {
        let gates = gates();
        let (one, _two) = (gates.stream("ann", None).unwrap(), gates.stream("ann", None).unwrap());
        assert!(matches!(gates.stream("ann", None), Err(Error::Streams)));
        let _other = gates.stream("bob", None).unwrap();
        drop(one);
        assert!(gates.stream("ann", None).is_ok());
    }

    #[test]
    fn streams_of_a_client_violated() {
        let gates = gates();
        let seats = ["1", "2", "3"].map(|session| gates.stream(session, peer("192.0.2.1")).unwrap());
        assert!(matches!(gates.stream("4", peer("192.0.2.1")), Err(Error::Streams)));
        let _other = gates.stream("4", peer("192.0.2.2")).unwrap();
        drop(seats);
        assert!(gates.stream("4", peer("192.0.2.1")).is_ok());
    }

    #[test]
    fn streams_of_all_violated() {
        let gates = gates();
        let _seats =
            ["1", "2", "3", "4", "5"].map(|session| gates.stream(session, peer("127.0.0.1")).unwrap());
        assert!(matches!(gates.stream("6", peer("127.0.0.1")), Err(Error::Busy)));
    }

    #[test]
    fn new_sessions_obeyed() {
        let gates = gates();
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "::1", "::1", "::1"] {
            gates.session(peer(client)).unwrap();
        }
    }

    #[test]
    fn new_sessions_violated() {
        let gates = gates();
        for _ in 0..2 {
            gates.session(peer("192.0.2.1")).unwrap();
        }
        let refused = gates.session(peer("192.0.2.1")).unwrap_err();
        let Error::Flood(wait) = refused else { panic!("{refused}") };
        assert!((1_700..=1_800).contains(&wait.as_secs()), "the next in half an hour: {wait:?}");
    }

    #[test]
    fn one_clients_flood_is_not_anothers() {
        let gates = gates();
        for _ in 0..3 {
            drop(gates.request(peer("192.0.2.1")).unwrap());
        }
        assert!(matches!(gates.request(peer("192.0.2.1")), Err(Error::Flood(_))));
        assert!(matches!(gates.request(peer("::ffff:192.0.2.1")), Err(Error::Flood(_))), "the same client");
        assert!(gates.request(peer("192.0.2.2")).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_proxy_on_this_machine_is_none() {
        let gates = gates();
        for last in 1..=3 {
            drop(gates.request(peer(&format!("2001:db8::{last}"))).unwrap());
        }
        assert!(matches!(gates.request(peer("2001:db8::9")), Err(Error::Flood(_))));
        for _ in 0..10 {
            drop(gates.request(peer("127.0.0.1")).unwrap());
            drop(gates.request(peer("::1")).unwrap());
        }
    }
}
