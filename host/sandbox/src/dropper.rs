//! Gives back what a finished call held, off the caller's path.
//!
//! Resetting an instance's memory is a third of what a call costs, and the caller needs its answer, not the reset.
//! If the queue is full the caller does it after all: a bound that slows down is better than a queue that grows.

use std::any::Any;
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Finished calls that may wait.
const QUEUE: usize = 256;
/// How long they gather. Not longer: an instance that is back soon is still in the processor's cache.
const GATHER: Duration = Duration::from_micros(200);

type Finished = Box<dyn Any + Send>;

/// Takes what is to be dropped.
#[derive(Clone)]
pub(crate) struct Dropper(SyncSender<Finished>);

impl fmt::Debug for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dropper")
    }
}

impl Dropper {
    /// Starts the thread. It ends when the last clone is gone.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver): (_, Receiver<Finished>) = sync_channel(QUEUE);
        let run = move || {
            while let Ok(first) = receiver.recv() {
                drop(first);
                // While calls keep coming it looks by itself: being woken for each of them would cost its caller
                // more than the reset.
                let mut more = 1;
                while more > 0 {
                    std::thread::sleep(GATHER);
                    more = receiver.try_iter().map(drop).count();
                }
            }
        };
        std::thread::Builder::new().name("dropper".into()).spawn(run)?;
        Ok(Self(sender))
    }

    /// Drops `finished` soon, on the other thread; here and now if its queue is full.
    pub(crate) fn take(&self, finished: Finished) {
        drop(self.0.try_send(finished));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_dropped_elsewhere() {
        struct Tell(std::sync::mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }
        let (tell, told) = std::sync::mpsc::channel();
        Dropper::start().unwrap().take(Box::new(Tell(tell)));
        assert_ne!(told.recv().unwrap(), std::thread::current().id());
    }
}
