//! The gateways that are measured: each a process of its own, started here and ended with what it started.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::super::super::Failure;
use super::load::{Asked, Load, Pace, Target};
use super::progress;

/// Longest wait until one answers. LiteLLM takes half a minute, on a busy machine many.
const START: Duration = Duration::from_secs(600);
/// How often it is asked whether it does.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of its log that are shown where it does not.
const LINES: usize = 12;

/// A gateway that runs.
pub(super) struct Gateway {
    child: Child,
    pub(super) target: Target,
}

impl Gateway {
    /// Starts it in this folder and waits until it answers.
    pub(super) async fn start(
        mut command: Command,
        target: Target,
        (load, folder): (&Load, &Path),
    ) -> Result<Self, Failure> {
        let log = folder.join("log");
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            Failure::new(format!("{} does not start: {error}", command.as_std().get_program().display()))
        })?;
        let mut gateway = Self { child, target };
        let (begun, bar) = (Instant::now(), progress("starting", 1));
        loop {
            sleep(LOOK).await;
            let one = load.send(&gateway.target, (Asked::Again, Pace::Count(1)), &bar).await;
            let Err(why) = one else { return Ok(gateway) };
            let has_ended = gateway.child.try_wait()?.is_some();
            if has_ended || begun.elapsed() > START {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(LINES).collect();
                let lines: Vec<_> = lines.into_iter().rev().collect();
                return Err(why.help(format!("it said:\n{}", lines.join("\n"))));
            }
        }
    }

    /// What it and its children hold of the memory; what several share is divided among them.
    pub(super) fn memory_bytes(&self) -> u64 {
        let group = self.child.id().unwrap_or_default();
        processes_of(group).into_iter().filter_map(proportional_bytes).sum()
    }

    /// What it and its children have used of the processors.
    pub(super) fn processor_time(&self) -> Duration {
        let group = self.child.id().unwrap_or_default();
        let ticks: u64 = processes_of(group).into_iter().filter_map(ticks).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// An address that nobody listens on.
pub(super) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?)
}

fn processes_of(group: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| group_of(*pid) == Some(group)).collect()
}

fn group_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(2)?.parse().ok()
}

/// Its own, and the system's for it.
fn ticks(pid: u32) -> Option<u64> {
    let stat = stat(pid)?;
    Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
}

/// What the system tells of a process after its name, which stands in parentheses and may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn proportional_bytes(pid: u32) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = maps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}
