//! What an attack costs: time, and the most memory that it took from the machine, in this process and in its children.
//!
//! The kernel keeps a process's own peak and can be told to forget it; of children, who come and go, a thread of this
//! one looks at every few milliseconds. Where there is no `/proc`, nothing is seen, and nothing is said of memory.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Time and memory, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    /// This process, above what it was.
    pub(crate) host_bytes: Option<u64>,
    /// The largest child, above what it was.
    pub(crate) child_bytes: Option<u64>,
}

/// Measures from its beginning to its end.
pub(crate) struct Meter {
    began: Instant,
    before: Option<u64>,
    stop: Arc<AtomicBool>,
    looks: Option<JoinHandle<u64>>,
}

impl Meter {
    pub(crate) fn begin() -> Self {
        // What the process had before is not what the attack took; a kernel that does not forget shows too much.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let stop = Arc::new(AtomicBool::new(false));
        let first = children().map(|child| (child, peak(child).unwrap_or(0))).collect::<HashMap<_, _>>();
        let until = Arc::clone(&stop);
        let look = move || looked(first, &until);
        let looks = std::thread::Builder::new().name("drill-memory".to_owned()).spawn(look).ok();
        Self { began: Instant::now(), before: field("self", "VmRSS:"), stop, looks }
    }

    pub(crate) fn end(mut self) -> Spent {
        let time = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let child_bytes = self.looks.take().and_then(|looks| looks.join().ok());
        let after = field("self", "VmHWM:");
        let host_bytes = self.before.zip(after).map(|(before, after)| after.saturating_sub(before));
        Spent { time, host_bytes, child_bytes: child_bytes.filter(|_| host_bytes.is_some()) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The most that any child had above what it had at first; one that came later had nothing.
fn looked(first: HashMap<u32, u64>, stop: &AtomicBool) -> u64 {
    let mut most = 0;
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        for child in children() {
            let before = first.get(&child).copied().unwrap_or(0);
            most = most.max(peak(child).unwrap_or(0).saturating_sub(before));
        }
        if is_last {
            return most;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The children of every thread of this process.
fn children() -> impl Iterator<Item = u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.flat_map(|thread| {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    })
}

fn peak(pid: u32) -> Option<u64> {
    field(&pid.to_string(), "VmHWM:")
}

/// A field of a process's status, in bytes.
pub(crate) fn field(process: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Descriptors that this process has open.
pub(crate) fn descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Said to a process that runs one test of this module and no other.
    const ALONE: &str = "CHELA_DRILL_ALONE";

    /// A process's memory is that of all tests which run in it, and they give back theirs meanwhile; so this one runs
    /// in a process of its own.
    #[test]
    fn memory_that_was_taken_and_given_back_is_seen() {
        if std::env::var_os(ALONE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone
                .args(["--exact", "cost::tests::memory_that_was_taken_and_given_back_is_seen"])
                .env(ALONE, "1");
            let output = alone.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let meter = Meter::begin();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        let spent = meter.end();
        assert!(spent.host_bytes.unwrap() >= 60 << 20, "{spent:?}");
    }

    #[test]
    fn memory_of_a_child_is_seen() {
        let meter = Meter::begin();
        // `dd` holds one block; it waits for nobody, so several are taken.
        let arguments = ["if=/dev/zero", "of=/dev/null", "bs=32M", "count=20"];
        assert!(Command::new("dd").args(arguments).output().unwrap().status.success());
        let spent = meter.end();
        assert!(spent.child_bytes.unwrap() >= 30 << 20, "{spent:?}");
    }
}
