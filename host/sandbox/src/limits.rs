//! What one call may use. There is no `Default`: whoever makes a [`Limits`] has written each one down.
//!
//! The meter remembers which limit was hit. A guest that is refused memory aborts with `unreachable`, and
//! an operator who reads "unreachable" learns nothing; "memory limit of 64 MiB" tells him which key to change.

use crate::pool;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// What one call of a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of linear memory, all memories of the instance together.
    pub memory_bytes: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Core instances: a component is several of them. How many memories and tables it may have, the pool says.
    pub instances: usize,
    /// Wall-clock time, host calls included. The wait for a free instance before it may take as long again.
    pub deadline: Duration,
    /// Processor time that the threads of this host spend on the call: the guest's own work, and the host's for it
    /// between two waits. Waiting costs nothing, and neither does a machine that is busy with others.
    pub cpu: Duration,
    /// Calls from the guest into the host. WASI is not counted, nor are log lines, which have limits of their own.
    pub host_calls: u32,
    /// Lines in the plugin's log; further lines are dropped and counted.
    pub log_lines: u32,
    /// Bytes of all log lines together.
    pub log_bytes: usize,
    /// Bytes that the host hands to the guest: the arguments of the call, and what its host calls return.
    pub input_bytes: usize,
    /// Bytes that the guest hands to the host in one crossing.
    pub output_bytes: usize,
    /// Handles that the guest holds at once (streams, pollables).
    pub resources: usize,
}

impl Limits {
    /// What is right for most plugins, written down once: 64 MiB, 10,000 table elements, 48 core instances, 30 s,
    /// 5 s of processor time, 1,000 host calls, 200 lines of together 64 KiB, 4 MiB in, 4 MiB out, 256 handles.
    pub const STANDARD: Self = Self {
        memory_bytes: 64 << 20,
        table_elements: 10_000,
        instances: 48,
        deadline: Duration::from_secs(30),
        cpu: Duration::from_secs(5),
        host_calls: 1_000,
        log_lines: 200,
        log_bytes: 64 << 10,
        input_bytes: 4 << 20,
        output_bytes: 4 << 20,
        resources: 256,
    };

    /// The lower of these (the operator's) and what the plugin asks for.
    #[must_use]
    pub fn lowered_by(&self, asked: &Requested) -> Self {
        fn lower<T: Ord + Copy>(bound: T, asked: Option<T>) -> T {
            asked.map_or(bound, |asked| asked.min(bound))
        }
        Self {
            memory_bytes: lower(self.memory_bytes, asked.memory_bytes),
            table_elements: lower(self.table_elements, asked.table_elements),
            deadline: lower(self.deadline, asked.deadline_ms.map(Duration::from_millis)),
            cpu: lower(self.cpu, asked.cpu_ms.map(Duration::from_millis)),
            host_calls: lower(self.host_calls, asked.host_calls),
            log_lines: lower(self.log_lines, asked.log_lines),
            log_bytes: lower(self.log_bytes, asked.log_bytes),
            input_bytes: lower(self.input_bytes, asked.input_bytes),
            output_bytes: lower(self.output_bytes, asked.output_bytes),
            instances: lower(self.instances, asked.instances),
            resources: lower(self.resources, asked.resources),
        }
    }
}

/// The `[limits]` of a manifest: what the plugin says is enough for it. It can only lower the operator's limits.
///
/// A version's digest is taken over this: keys that came later are left out where nobody wrote them, so that what was
/// deployed before them is still the same version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// Bytes of linear memory.
    pub memory_bytes: Option<usize>,
    /// Elements of all tables.
    pub table_elements: Option<usize>,
    /// Milliseconds for one call, host calls included.
    pub deadline_ms: Option<u64>,
    /// Milliseconds of processor time.
    pub cpu_ms: Option<u64>,
    /// Calls into the host.
    pub host_calls: Option<u32>,
    /// Lines in the log.
    pub log_lines: Option<u32>,
    /// Bytes of all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<usize>,
    /// Bytes from the host.
    pub input_bytes: Option<usize>,
    /// Bytes to the host, in one crossing.
    pub output_bytes: Option<usize>,
    /// Core instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<usize>,
    /// Handles at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<usize>,
}

/// Which limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Limits::memory_bytes`].
    Memory,
    /// [`Limits::table_elements`].
    TableElements,
    /// [`Limits::instances`].
    Instances,
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::host_calls`].
    HostCalls,
    /// [`Limits::input_bytes`].
    InputBytes,
    /// [`Limits::output_bytes`].
    OutputBytes,
    /// [`Limits::resources`].
    Resources,
    /// The host's own limit of live instances (`instances` of the pool): not the plugin's fault.
    Pool,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds.
    Millis,
}

impl Limit {
    /// What it counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Memory | Self::InputBytes | Self::OutputBytes => Unit::Bytes,
            Self::Cpu => Unit::Millis,
            Self::TableElements | Self::Instances | Self::HostCalls | Self::Resources | Self::Pool => {
                Unit::Count
            }
        }
    }

    /// `memory limit of 64 MiB`.
    pub(crate) fn with_bound(self, bound: u64) -> String {
        match self.unit() {
            Unit::Bytes => format!("{self} limit of {}", bytes(bound)),
            Unit::Count => format!("{self} limit of {bound}"),
            Unit::Millis => format!("{self} limit of {bound} ms"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::TableElements => "table element",
            Self::Instances => "core instance",
            Self::Cpu => "processor time",
            Self::HostCalls => "host call",
            Self::InputBytes => "input",
            Self::OutputBytes => "output",
            Self::Resources => "handle",
            Self::Pool => "live instance",
        })
    }
}

fn bytes(count: u64) -> String {
    match count {
        0 => "0 bytes".to_owned(),
        n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

/// Stops a guest that reached a limit. The meter knows which; this only ends the guest.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.with_bound(*.1))]
pub(crate) struct LimitReached(pub(crate) Limit, pub(crate) u64);

/// Counts what one call has used, and remembers the first limit that was hit.
#[derive(Debug)]
pub(crate) struct Meter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    instances_max: usize,
    host_calls_max: u32,
    input_bytes_max: usize,
    output_bytes_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    host_calls: u32,
    input_bytes: usize,
    hit: Option<(Limit, u64)>,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes,
            table_elements_max: limits.table_elements,
            instances_max: limits.instances,
            host_calls_max: limits.host_calls,
            input_bytes_max: limits.input_bytes,
            output_bytes_max: limits.output_bytes,
            memory_bytes: 0,
            table_elements: 0,
            host_calls: 0,
            input_bytes: 0,
            hit: None,
        }
    }

    /// The first limit that was hit, and its bound.
    pub(crate) fn hit(&self) -> Option<(Limit, u64)> {
        self.hit
    }

    /// Calls into the host so far.
    pub(crate) fn host_calls(&self) -> u32 {
        self.host_calls
    }

    /// The bound on core instances.
    pub(crate) fn instances_max(&self) -> usize {
        self.instances_max
    }

    /// The bound on one crossing towards the host.
    pub(crate) fn output_bytes_max(&self) -> usize {
        self.output_bytes_max
    }

    /// Counts a host call.
    pub(crate) fn host_call(&mut self) -> Result<(), LimitReached> {
        if self.host_calls >= self.host_calls_max {
            return Err(self.reached(Limit::HostCalls, u64::from(self.host_calls_max)));
        }
        self.host_calls += 1;
        Ok(())
    }

    /// Counts bytes on their way into the guest.
    pub(crate) fn input(&mut self, bytes: usize) -> Result<(), LimitReached> {
        let total = self.input_bytes.saturating_add(bytes);
        if total > self.input_bytes_max {
            return Err(self.reached(Limit::InputBytes, self.input_bytes_max as u64));
        }
        self.input_bytes = total;
        Ok(())
    }

    /// More memory than the limit: a snapshot reads memory through a page that it adds.
    pub(crate) fn add_headroom(&mut self, bytes: usize) {
        self.memory_bytes_max = self.memory_bytes_max.saturating_add(bytes);
    }

    fn reached(&mut self, limit: Limit, bound: u64) -> LimitReached {
        let (limit, bound) = *self.hit.get_or_insert((limit, bound));
        LimitReached(limit, bound)
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // the guest's own maximum, not ours
        }
        if total > self.memory_bytes_max {
            let _ = self.reached(Limit::Memory, self.memory_bytes_max as u64);
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if total > self.table_elements_max {
            let _ = self.reached(Limit::TableElements, self.table_elements_max as u64);
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    /// The pool says how many, when the plugin is loaded; this is no lower than what it says.
    fn tables(&self) -> usize {
        pool::CORE_INSTANCES_MAX as usize
    }

    fn memories(&self) -> usize {
        pool::CORE_INSTANCES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_can_only_lower() {
        let asked = Requested {
            memory_bytes: Some(1 << 20),
            deadline_ms: Some(3_600_000),
            cpu_ms: Some(7),
            ..Requested::default()
        };
        let limits = Limits::STANDARD.lowered_by(&asked);
        assert_eq!(limits.memory_bytes, 1 << 20);
        assert_eq!(limits.deadline, Limits::STANDARD.deadline);
        assert_eq!(limits.cpu, Duration::from_millis(7));
    }

    #[test]
    fn each_limit_can_be_lowered() {
        let asked = Requested {
            memory_bytes: Some(1),
            table_elements: Some(1),
            deadline_ms: Some(1),
            cpu_ms: Some(1),
            host_calls: Some(1),
            log_lines: Some(1),
            log_bytes: Some(1),
            input_bytes: Some(1),
            output_bytes: Some(1),
            instances: Some(1),
            resources: Some(1),
        };
        let lowest = Limits {
            memory_bytes: 1,
            table_elements: 1,
            instances: 1,
            deadline: Duration::from_millis(1),
            cpu: Duration::from_millis(1),
            host_calls: 1,
            log_lines: 1,
            log_bytes: 1,
            input_bytes: 1,
            output_bytes: 1,
            resources: 1,
        };
        assert_eq!(Limits::STANDARD.lowered_by(&asked), lowest);
        assert_eq!(Limits::STANDARD.lowered_by(&Requested::default()), Limits::STANDARD);
    }

    #[test]
    fn the_first_limit_is_remembered() {
        let mut meter = Meter::new(&Limits { memory_bytes: 2 << 16, host_calls: 1, ..Limits::STANDARD });
        assert!(meter.memory_growing(0, 1 << 16, None).unwrap());
        assert!(meter.memory_growing(0, 1 << 16, None).unwrap(), "a second memory");
        assert_eq!(meter.hit(), None);
        assert!(!meter.memory_growing(1 << 16, 2 << 16, None).unwrap(), "the sum is over the bound");
        assert!(meter.host_call().is_ok());
        assert!(meter.host_call().is_err());
        assert_eq!(meter.hit(), Some((Limit::Memory, 2 << 16)));
    }

    #[test]
    fn a_bound_reads_well() {
        assert_eq!(Limit::Memory.with_bound(64 << 20), "memory limit of 64 MiB");
        assert_eq!(Limit::HostCalls.with_bound(5), "host call limit of 5");
        assert_eq!(Limit::Cpu.with_bound(250), "processor time limit of 250 ms");
    }
}
