//! One end of the socket between the host and a worker. Writing never waits: what the socket does not take is kept, up
//! to a bound, and written as soon as it does.
//!
//! The runtime watches the socket for what comes in while somebody sleeps until it does, and for room only while something
//! waits for it. A runtime's own sockets are always watched for both, and so each frame that the other end has read wakes
//! this one for nothing, which costs more than the frame; and each that somebody has seen himself ([`super::look`]) would
//! wake another thread for it.

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use super::frame::{self, Frame, Kind, broken};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// What may wait to be written: some calls' worth. Whoever reads so slowly is stuck.
const UNSENT_BYTES_MAX: usize = 256 << 20;

/// Both directions of an end; what comes in are frames with at most so many bytes of body.
pub(super) fn open(socket: Socket, body_bytes_max: usize) -> io::Result<(Pipe, Incoming)> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(socket);
    let pipe = Pipe { socket: Arc::clone(&socket), unsent: Mutex::default(), more: Notify::new() };
    Ok((pipe, Incoming { socket, watched: None, is_dry: false, buffer: Vec::new(), body_bytes_max }))
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: Arc<Socket>,
    unsent: Mutex<Vec<u8>>,
    more: Notify,
}

impl Pipe {
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
            match (&*self.socket).write(rest) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
            let room = pipe::Sender::from_owned_fd_unchecked(OwnedFd::from(self.socket.try_clone()?))?;
            room.writable().await?;
            self.write(&mut self.unsent.lock())?;
        }
        Ok(())
    }
}

/// What comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: Arc<Socket>,
    /// While somebody is woken for it.
    watched: Option<AsyncFd<Arc<Socket>>>,
    /// All that had come was read.
    is_dry: bool,
    buffer: Vec<u8>,
    body_bytes_max: usize,
}

/// What there is of it.
#[derive(Debug)]
pub(super) enum Here {
    Frame(Frame),
    /// A part of one, and perhaps more.
    Part,
    Nothing,
    End,
}

impl Incoming {
    /// From the next frame on, other bounds.
    pub(super) fn bound(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame; `None` at the end. Nothing is lost if it is dropped while it waits.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.here()? {
                Here::Frame(frame) => return Ok(Some(frame)),
                Here::End => return Ok(None),
                Here::Part => consume_budget().await,
                Here::Nothing => self.something().await?,
            }
        }
    }

    /// What is there. Reads once at most, and not if all has been read and nobody has been woken since.
    pub(super) fn here(&mut self) -> io::Result<Here> {
        match frame::take(&mut self.buffer, self.body_bytes_max)? {
            Some(frame) => Ok(Here::Frame(frame)),
            None if self.is_dry && self.watched.is_some() => Ok(Here::Nothing),
            None => self.read(),
        }
    }

    fn read(&mut self) -> io::Result<Here> {
        self.buffer.reserve(READ_BYTES);
        let room = self.buffer.capacity() - self.buffer.len();
        let read = rustix::io::read(&*self.socket, spare_capacity(&mut self.buffer));
        // As the runtime's own sockets know it: what fills no room was the rest.
        self.is_dry = !matches!(read, Ok(bytes) if bytes == room) && read != Err(Errno::INTR);
        match read {
            Ok(0) => Ok(Here::End),
            Ok(_) => Ok(frame::take(&mut self.buffer, self.body_bytes_max)?.map_or(Here::Part, Here::Frame)),
            Err(Errno::INTR) => Ok(Here::Part),
            Err(Errno::AGAIN) => Ok(Here::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something may have come since all was read.
    async fn something(&mut self) -> io::Result<()> {
        self.watch()?;
        poll_fn(|context| self.poll_something(context)).await
    }

    /// The same, if it is watched.
    pub(super) fn poll_something(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_dry {
            let Some(watched) = &self.watched else { return Poll::Pending };
            ready!(watched.poll_read_ready(context))?.clear_ready();
            self.is_dry = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whoever waits is woken from now on, also for what is there already. False if he was before.
    pub(super) fn watch(&mut self) -> io::Result<bool> {
        let is_new = self.watched.is_none();
        if is_new {
            self.watched = Some(watched(Arc::clone(&self.socket))?);
        }
        Ok(is_new)
    }

    /// Nobody is woken any more.
    pub(super) fn unwatch(&mut self) {
        self.watched = None;
    }
}

/// The runtime tells of what is there already, too.
#[expect(
    deprecated,
    reason = "the successor is unsafe for what may become another descriptor; a socket cannot"
)]
fn watched(socket: Arc<Socket>) -> io::Result<AsyncFd<Arc<Socket>>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn both(body_bytes_max: usize) -> [(Pipe, Incoming); 2] {
        let (one, other) = Socket::pair().unwrap();
        [one, other].map(|socket| open(socket, body_bytes_max).unwrap())
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_comes_all_the_same() {
        let large = vec![7; 4 << 20];
        let [(one, _), (_other, mut incoming)] = both(large.len());
        one.send((Kind::Code, 0), &[&large]).unwrap();
        one.send((Kind::Cancel, 9), &[]).unwrap();
        let both = async {
            let first = incoming.next().await.unwrap().unwrap();
            (first, incoming.next().await.unwrap().unwrap())
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
        let [(one, mut incoming), other] = both(9);
        drop(other);
        assert!(incoming.next().await.unwrap().is_none());
        assert!(one.send((Kind::Cancel, 1), &[]).is_err());
    }

    #[tokio::test]
    async fn what_has_come_unwatched_is_told_of_when_somebody_waits() {
        let [(one, _), (_other, mut incoming)] = both(9);
        let nothing = tokio::time::timeout(Duration::from_millis(20), incoming.next()).await;
        assert!(nothing.is_err() && incoming.watched.is_some());
        incoming.unwatch();
        assert!(matches!(incoming.here().unwrap(), Here::Nothing));
        one.send((Kind::Cancel, 1), &[]).unwrap();
        let unwatched = poll_fn(|context| incoming.poll_something(context));
        assert!(tokio::time::timeout(Duration::from_millis(20), unwatched).await.is_err(), "nobody is woken");
        incoming.something().await.unwrap();
        assert!(matches!(incoming.here().unwrap(), Here::Frame(Frame { call: 1, .. })));
    }

    #[tokio::test]
    async fn who_was_not_woken_does_not_read() {
        let [(one, _), (_other, mut incoming)] = both(9);
        one.send((Kind::Cancel, 1), &[]).unwrap();
        assert_eq!(incoming.next().await.unwrap().unwrap().call, 1);
        let nothing = tokio::time::timeout(Duration::from_millis(20), incoming.next()).await;
        assert!(nothing.is_err());
        one.send((Kind::Cancel, 2), &[]).unwrap();
        assert!(matches!(incoming.here().unwrap(), Here::Nothing), "it has not been told yet");
        assert_eq!(incoming.next().await.unwrap().unwrap().call, 2);
    }
}
