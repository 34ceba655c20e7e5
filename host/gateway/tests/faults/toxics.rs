//! A proxy on loopback that does to a stream what networks do, in the words of Toxiproxy. It knows no HTTP: what comes
//! from the provider is held back, cut into pieces or cut off by bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What is done to what the provider sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toxic {
    /// Each piece comes so much later.
    Latency(Duration),
    /// Nothing comes, and after so long the connection is closed.
    Timeout(Duration),
    /// The connection is reset after the first bytes of the answer were due.
    Reset,
    /// It comes in pieces of 1 to so many bytes.
    Slicer(usize),
    /// After so many bytes the connection is closed.
    LimitData(usize),
    /// The end comes so much later.
    SlowClose(Duration),
    /// So many bytes a second.
    Bandwidth(usize),
    /// Nobody is there.
    Down,
}

/// Begins to listen before a provider, and gives its address. The seed decides how it slices.
pub(crate) async fn proxy(provider: SocketAddr, toxics: Vec<Toxic>, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    if toxics.contains(&Toxic::Down) {
        return address;
    }
    tokio::spawn(async move {
        let mut seed = seed;
        while let Ok((near, _)) = listener.accept().await {
            seed = next(seed);
            tokio::spawn(pass(near, provider, toxics.clone(), seed));
        }
    });
    address
}

/// The next of a row of numbers (xorshift); the same seed gives the same row.
const fn next(seed: u64) -> u64 {
    let mut x = seed | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

async fn pass(near: TcpStream, provider: SocketAddr, toxics: Vec<Toxic>, seed: u64) {
    let Ok(far) = TcpStream::connect(provider).await else { return };
    if toxics.contains(&Toxic::Reset) {
        // What is closed with a linger of zero is reset.
        near.set_zero_linger().unwrap();
    }
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let forth = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_near, &mut to_far).await;
        from_near
    });
    let (mut sent, mut seed, mut buffer) = (0, seed, vec![0; 16 << 10]);
    'all: while let Ok(count @ 1..) = from_far.read(&mut buffer).await {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let mut size = rest.len();
            for toxic in &toxics {
                match *toxic {
                    Toxic::Latency(time) => sleep(time).await,
                    Toxic::Timeout(time) => {
                        sleep(time).await;
                        break 'all;
                    }
                    Toxic::Reset => break 'all,
                    Toxic::Slicer(most) => {
                        seed = next(seed);
                        size = size.min(1 + usize::try_from(seed).unwrap_or(0) % most);
                    }
                    Toxic::LimitData(most) if sent >= most => break 'all,
                    Toxic::LimitData(most) => size = size.min(most - sent),
                    Toxic::Bandwidth(bytes) => {
                        size = size.min((bytes / 10).max(1));
                        sleep(Duration::from_millis(100)).await;
                    }
                    Toxic::SlowClose(_) | Toxic::Down => {}
                }
            }
            let (piece, after) = rest.split_at(size);
            if to_near.write_all(piece).await.is_err() || to_near.flush().await.is_err() {
                break 'all;
            }
            (sent, rest) = (sent + size, after);
        }
    }
    for toxic in &toxics {
        if let Toxic::SlowClose(time) = toxic {
            sleep(*time).await;
        }
    }
    forth.abort();
}
