//! How many guests can live at once, and whether this machine has room for them.
//!
//! A pool reserves everything at the start, so that a call never finds the place taken that it was promised. That holds
//! only if no component can have more parts than its share; so the shares are bounds, and a component that has more is
//! refused when it is loaded.

use std::path::Path;

/// Live instances.
pub const INSTANCES: u32 = 1_000;
/// Largest memory of one instance: 256 MiB.
pub const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Largest table of one instance.
pub const TABLE_ELEMENTS_MAX: usize = 50_000;
/// Memories of one component. Toolchains make one; the second is for a component that holds another.
pub const MEMORIES_MAX: u32 = 2;
/// Tables of one component: each of its core modules may have one.
pub const TABLES_MAX: u32 = 8;
/// Core instances of one component. They take no place in advance.
pub const CORE_INSTANCES_MAX: u32 = 64;
/// Most live instances: each reserves a little over 4 GiB of addresses for each memory, and a process has 128 TiB.
pub const INSTANCES_MAX: usize = 10_000;
/// Instances beside those of turns and requests.
pub const SPARE: usize = 64;

/// One element of a table.
const TABLE_ELEMENT_BYTES: u64 = 8;
/// The engine's stack of a guest that waits, with its guard.
const STACK_BYTES: u64 = (2 << 20) + (64 << 10);

/// Mappings of one instance at most: two of its stack, four of each memory.
const MAPS_FOR_EACH: u64 = 10;
/// Mappings of everything else in this process.
const MAPS_BESIDE: u64 = 8_000;
/// Where Linux says how many mappings a process may have.
const MAPS_FILE: &str = "/proc/sys/vm/max_map_count";

/// How many guests can live at once, and how large they can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Live instances, waiting ones included. Each reserves address space, and resident memory only as it is used.
    pub instances: u32,
    /// Largest memory of one instance in bytes: the ceiling of every plugin's own limit.
    pub memory_bytes_max: usize,
    /// Largest table of one instance.
    pub table_elements_max: usize,
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error(
        "{instances} live plugins need {needed} memory mappings, and this machine allows a process {allowed}; allow more \
         (`sysctl -w vm.max_map_count={needed}`), or lower `max_turns` or `requests_max` of [server] in chela.toml"
    )]
    Maps { instances: u32, needed: u64, allowed: u64 },
    #[error(
        "the addresses for {instances} live plugins cannot be reserved; allow this process more (`ulimit -v`), or lower \
         `max_turns` or `requests_max` of [server] in chela.toml"
    )]
    Addresses { instances: u32, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Pool {
    /// 1,000 instances of at most 256 MiB and 50,000 table elements.
    pub const STANDARD: Self = Self {
        instances: INSTANCES,
        memory_bytes_max: MEMORY_BYTES_MAX,
        table_elements_max: TABLE_ELEMENTS_MAX,
    };

    /// Room for so many turns and requests at once, and a few calls beside them: none of them waits for another's place.
    /// Never more than [`INSTANCES_MAX`].
    #[must_use]
    pub fn of(turns: usize, requests: usize) -> Self {
        let instances = turns.saturating_add(requests).saturating_add(SPARE).min(INSTANCES_MAX);
        Self { instances: u32::try_from(instances).unwrap_or(u32::MAX), ..Self::STANDARD }
    }

    /// Bytes that count as this process's own from the start, though nothing is in them: tables and stacks.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        let tables = u64::from(TABLES_MAX) * (self.table_elements_max as u64) * TABLE_ELEMENT_BYTES;
        u64::from(self.instances) * (tables + STACK_BYTES)
    }

    /// Checks that this machine gives a process as many mappings as all instances may need. Where it does not say,
    /// there is nothing to check.
    pub(crate) fn check(&self) -> Result<(), PoolError> {
        mappings_allowed().map_or(Ok(()), |allowed| self.fits(allowed))
    }

    /// With no more instances than this machine has mappings for.
    #[must_use]
    pub fn fitted(self) -> Self {
        let Some(allowed) = mappings_allowed() else { return self };
        let fitting = allowed.saturating_sub(MAPS_BESIDE) / MAPS_FOR_EACH;
        Self { instances: self.instances.min(u32::try_from(fitting).unwrap_or(u32::MAX)), ..self }
    }

    fn fits(&self, allowed: u64) -> Result<(), PoolError> {
        let needed = u64::from(self.instances).saturating_mul(MAPS_FOR_EACH).saturating_add(MAPS_BESIDE);
        if needed > allowed {
            return Err(PoolError::Maps { instances: self.instances, needed, allowed });
        }
        Ok(())
    }
}

/// Where Linux does not say, nothing is known.
fn mappings_allowed() -> Option<u64> {
    std::fs::read_to_string(Path::new(MAPS_FILE)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_and_every_request_has_its_place() {
        assert_eq!(Pool::of(256, 512).instances, 832);
        assert_eq!(Pool::of(100_000, 1).instances, 10_000);
    }

    #[test]
    fn mappings_obeyed() {
        assert!(Pool::of(256, 512).fits(65_530).is_ok(), "what Linux allows unless it is told otherwise");
        assert!(Pool { instances: 10, ..Pool::STANDARD }.fits(8_100).is_ok());
    }

    #[test]
    fn mappings_violated() {
        let error = Pool { instances: 10, ..Pool::STANDARD }.fits(8_099).unwrap_err().to_string();
        assert!(
            error.contains("need 8100 memory mappings") && error.contains("max_map_count=8100"),
            "{error}"
        );
        assert!(error.contains("`max_turns`"), "{error}");
    }
}
