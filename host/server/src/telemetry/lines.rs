//! Log lines on their way out, written by a thread of their own.
//!
//! Standard error may be a pipe whose reader is slow, stands still or is gone. No turn waits for that and none
//! ends of it: what does not fit into the queue is dropped and counted, and what cannot be written is gone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that wait: some ten thousand lines.
const BYTES_MAX: usize = 4 << 20;
/// How long the last lines may take.
const END_WAIT: Duration = Duration::from_secs(1);

/// The queue. Cheap to clone; a clone takes whole lines.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Of these lines and of the one that is being written.
    bytes: usize,
}

impl Lines {
    /// Starts the thread.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let lines = Self(Arc::clone(&queue));
        std::thread::Builder::new().name("log".to_owned()).spawn(move || queue.write(out))?;
        Ok(lines)
    }

    /// Waits a moment for what is not written yet.
    pub(super) fn finish(&self) {
        // Whoever does not read now will not read.
        self.finish_within(END_WAIT);
    }

    fn finish_within(&self, limit: Duration) {
        let mut waiting = self.0.waiting.lock();
        let _ = self.0.changed.wait_while_for(&mut waiting, |waiting| waiting.bytes > 0, limit);
    }
}

impl Queue {
    fn write(&self, mut out: impl Write) {
        let mut waiting = self.waiting.lock();
        loop {
            let Some(line) = waiting.lines.pop_front() else {
                self.changed.wait(&mut waiting);
                continue;
            };
            drop(waiting);
            let _ = out.write_all(&line);
            waiting = self.waiting.lock();
            waiting.bytes -= line.len();
            self.changed.notify_all();
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock();
        if waiting.bytes + line.len() > BYTES_MAX {
            metrics::counter!("log_lines_dropped_total").increment(1);
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_vec());
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const LINE: [u8; 1024] = [b'x'; 1024];
    /// Far above what the thread needs on a loaded machine: its end is a failure.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn what_waits_at_the_end_is_written() {
        let (mut from, to) = io::pipe().unwrap();
        let mut lines = Lines::to(to).unwrap();
        for n in 0..100 {
            writeln!(lines, "line {n}").unwrap();
        }
        lines.finish_within(PATIENCE);
        let mut bytes = [0; 1 << 16];
        let count = from.read(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("line 99\n"), "{text}");
    }

    #[test]
    fn bytes_that_wait_obeyed() {
        let (_unread, to) = io::pipe().unwrap();
        let mut lines = Lines::to(to).unwrap();
        for _ in 0..BYTES_MAX / LINE.len() {
            lines.write_all(&LINE).unwrap();
        }
        let taken = lines.0.waiting.lock().lines.len();
        // A pipe holds 64 KiB, and one line is on its way.
        assert!(taken >= (BYTES_MAX - (64 << 10)) / LINE.len() - 1, "{taken}");
    }

    #[test]
    fn bytes_that_wait_violated() {
        let (_unread, to) = io::pipe().unwrap();
        let mut lines = Lines::to(to).unwrap();
        for _ in 0..2 * BYTES_MAX / LINE.len() {
            lines.write_all(&LINE).expect("nobody who logs is told");
        }
        assert!(lines.0.waiting.lock().bytes <= BYTES_MAX);
    }

    #[test]
    fn a_reader_that_is_gone_harms_nobody() {
        let (from, to) = io::pipe().unwrap();
        drop(from);
        let mut lines = Lines::to(to).unwrap();
        for _ in 0..2 * BYTES_MAX / LINE.len() {
            lines.write_all(&LINE).unwrap();
        }
        lines.finish_within(PATIENCE);
        assert_eq!(lines.0.waiting.lock().bytes, 0, "they are gone, and no more wait");
    }
}
