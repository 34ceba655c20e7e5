//! One end of the socket between the host and a worker. Writing never waits: what the socket does not take is kept, up
//! to a bound, and written as soon as it does.
//!
//! The socket is watched for what comes in, and for room only while something waits for it. A runtime's own sockets are
//! watched for both, and so each frame that the other end has read wakes this one for nothing, which costs more than the
//! frame. Its pipes have one direction, and it asks of what it calls a pipe nothing that a socket cannot do.

use parking_lot::Mutex;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use super::frame::{self, Frame, Kind, broken};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// What may wait to be written: some calls' worth. Whoever reads so slowly is stuck.
const UNSENT_BYTES_MAX: usize = 256 << 20;

/// Both directions of an end; what comes in are frames with at most so many bytes of body.
pub(super) fn open(socket: Socket, body_bytes_max: usize) -> io::Result<(Pipe, Incoming)> {
    socket.set_nonblocking(true)?;
    let comes = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(socket.try_clone()?))?;
    let pipe = Pipe { socket, unsent: Mutex::default(), more: Notify::new() };
    Ok((pipe, Incoming { comes, buffer: Vec::new(), body_bytes_max }))
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: Socket,
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
            match (&self.socket).write(rest) {
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
    comes: pipe::Receiver,
    buffer: Vec<u8>,
    body_bytes_max: usize,
}

impl Incoming {
    /// From the next frame on, other bounds.
    pub(super) fn bound(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame; `None` at the end. Nothing is lost if it is dropped while it waits.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer, self.body_bytes_max)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            if self.comes.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
