//! One end of the socket between the host and a worker. Writing never waits: what the socket does not take is kept, up
//! to a bound, and written as soon as it does.

use parking_lot::Mutex;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::frame::{self, Frame, Kind, broken};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// What may wait to be written: some calls' worth. Whoever reads so slowly is stuck.
const UNSENT_BYTES_MAX: usize = 256 << 20;

/// An end.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: UnixStream,
    unsent: Mutex<Vec<u8>>,
    more: Notify,
}

impl Pipe {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(socket)?, unsent: Mutex::default(), more: Notify::new() })
    }

    /// Sends a frame, its body in parts.
    pub(super) fn send(&self, head: (Kind, u64), parts: &[&[u8]]) -> io::Result<()> {
        let mut unsent = self.unsent.lock();
        let was_empty = unsent.is_empty();
        frame::put(&mut unsent, head, parts)?;
        if was_empty {
            self.write(&mut unsent)?;
        }
        if unsent.len() > UNSENT_BYTES_MAX {
            return Err(broken("the other end does not read"));
        }
        if !unsent.is_empty() {
            self.more.notify_one();
        }
        Ok(())
    }

    /// As much as the socket takes now.
    fn write(&self, unsent: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            let rest = unsent.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.stream.try_write(rest) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        unsent.drain(..written);
        outcome
    }

    /// Writes what was kept, as long as the other end lives.
    pub(super) async fn flush(&self) -> io::Result<()> {
        loop {
            self.more.notified().await;
            self.drain().await?;
        }
    }

    /// Writes what was kept.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while !self.unsent.lock().is_empty() {
            self.stream.writable().await?;
            self.write(&mut self.unsent.lock())?;
        }
        Ok(())
    }
}

/// What comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    body_bytes_max: usize,
}

impl Incoming {
    /// Frames with at most so many bytes of body.
    pub(super) fn new(body_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), body_bytes_max }
    }

    /// From the next frame on, other bounds.
    pub(super) fn bound(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame; `None` at the end. Nothing is lost if it is dropped while it waits.
    pub(super) async fn next(&mut self, pipe: &Pipe) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer, self.body_bytes_max)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            match pipe.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => pipe.stream.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (Pipe, Pipe) {
        let (one, other) = Socket::pair().unwrap();
        (Pipe::new(one).unwrap(), Pipe::new(other).unwrap())
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_comes_all_the_same() {
        let (one, other) = both();
        let large = vec![7; 4 << 20];
        one.send((Kind::Code, 0), &[&large]).unwrap();
        one.send((Kind::Cancel, 9), &[]).unwrap();
        let mut incoming = Incoming::new(large.len());
        let both = async {
            let first = incoming.next(&other).await.unwrap().unwrap();
            (first, incoming.next(&other).await.unwrap().unwrap())
        };
        let (first, second) = tokio::select! {
            both = both => both,
            error = one.flush() => panic!("{error:?}"),
        };
        assert_eq!((first.kind, first.body.len()), (Kind::Code, large.len()));
        assert_eq!((second.kind, second.call), (Kind::Cancel, 9));
    }

    #[tokio::test]
    async fn the_end_is_told_and_nobody_can_be_told_after_it() {
        let (one, other) = both();
        drop(other);
        assert!(Incoming::new(9).next(&one).await.unwrap().is_none());
        assert!(one.send((Kind::Cancel, 1), &[]).is_err());
    }
}
