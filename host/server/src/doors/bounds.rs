//! How much is served at once, and how often one client may come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;
use super::listener::Peer;

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
    /// How long one event stream lives before the browser has to ask anew.
    pub stream_lifetime: Duration,
    /// Requests of one client in a minute.
    pub rate_per_minute: u32,
    /// Requests of one client at once, on top.
    pub rate_burst: u32,
}

/// Default bounds.
pub mod defaults {
    use std::time::Duration;

    /// Event streams at once.
    pub const STREAMS_MAX: usize = 2_000;
    /// Life of an event stream.
    pub const STREAM_LIFETIME: Duration = Duration::from_secs(60 * 60);
    /// Clients that are remembered before those at rest are forgotten.
    pub const CLIENTS_MAX: usize = 50_000;
}

type Clients = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

/// The gates that requests pass.
#[derive(Debug)]
pub(super) struct Gates {
    pub(super) bounds: Bounds,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    clients: Clients,
}

impl Gates {
    pub(super) fn new(bounds: Bounds) -> Self {
        let per_minute = NonZeroU32::new(bounds.rate_per_minute).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(bounds.rate_burst).unwrap_or(NonZeroU32::MIN);
        Self {
            requests: Arc::new(Semaphore::new(bounds.requests_max)),
            streams: Arc::new(Semaphore::new(bounds.streams_max)),
            clients: RateLimiter::hashmap(Quota::per_minute(per_minute).allow_burst(burst)),
            bounds,
        }
    }

    /// A seat for one request.
    pub(super) fn request(&self, peer: Option<Peer>) -> Result<OwnedSemaphorePermit, Error> {
        self.rate(peer)?;
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Error::Busy)
    }

    /// A seat for one stream of events.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Error::Busy)
    }

    fn rate(&self, peer: Option<Peer>) -> Result<(), Error> {
        let Some(Peer(address)) = peer else { return Ok(()) };
        let client = client(address.ip());
        // Whoever speaks from this machine is the operator's own proxy, and speaks for many.
        if client.is_loopback() {
            return Ok(());
        }
        if self.clients.len() > defaults::CLIENTS_MAX {
            self.clients.retain_recent();
        }
        self.clients.check_key(&client).map_err(|_| Error::Flood)
    }
}

/// Whom a rate belongs to: an IPv4 address, or the /64 that one customer is given in IPv6.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Gates {
        Gates::new(Bounds {
            body_bytes_max: 1,
            request_timeout: Duration::from_secs(1),
            requests_max: 2,
            streams_max: 1,
            stream_lifetime: Duration::from_secs(1),
            rate_per_minute: 1,
            rate_burst: 3,
        })
    }

    fn peer(ip: &str) -> Option<Peer> {
        Some(Peer((ip.parse::<IpAddr>().unwrap(), 1).into()))
    }

    #[test]
    fn requests_at_once_obeyed() {
        let gates = gates();
        let (_one, _two) = (gates.request(None).unwrap(), gates.request(None).unwrap());
        let _stream = gates.stream().unwrap();
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
    fn one_clients_flood_is_not_anothers() {
        let gates = gates();
        for _ in 0..3 {
            drop(gates.request(peer("192.0.2.1")).unwrap());
        }
        assert!(matches!(gates.request(peer("192.0.2.1")), Err(Error::Flood)));
        assert!(matches!(gates.request(peer("::ffff:192.0.2.1")), Err(Error::Flood)), "the same client");
        assert!(gates.request(peer("192.0.2.2")).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_proxy_on_this_machine_is_none() {
        let gates = gates();
        for last in 1..=3 {
            drop(gates.request(peer(&format!("2001:db8::{last}"))).unwrap());
        }
        assert!(matches!(gates.request(peer("2001:db8::9")), Err(Error::Flood)));
        for _ in 0..10 {
            drop(gates.request(peer("127.0.0.1")).unwrap());
            drop(gates.request(peer("::1")).unwrap());
        }
    }
}
