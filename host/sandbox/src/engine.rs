//! The engine: one set of settings for the process that compiles and the process that runs.
//!
//! What shapes machine code is in [`settings`] and has no switches, so that both processes agree by construction;
//! what shapes only the running host, the pool, is configuration. Replay depends on two of the settings: NaNs are
//! canonical and relaxed SIMD is deterministic.

use std::hash::{Hash, Hasher};
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

/// How often a running guest lets others run.
const EPOCH_TICK: Duration = Duration::from_millis(2);
/// Bytes that stay resident in a freed memory slot: resetting them is cheaper than faulting them in again.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Core instances, and tables, for each live component: `wit-component` makes four of one guest module.
const CORE_INSTANCES_FOR_EACH: u32 = 8;
/// Most core instances, memories and tables of one component.
const PARTS_MAX: u32 = 64;
/// Largest metadata of one instance.
const INSTANCE_BYTES_MAX: usize = 4 << 20;

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

/// Default bounds of the pool.
pub mod pool {
    /// Live instances.
    pub const INSTANCES: u32 = 1_000;
    /// Largest memory of one instance: 256 MiB.
    pub const MEMORY_BYTES_MAX: usize = 256 << 20;
    /// Largest table of one instance.
    pub const TABLE_ELEMENTS_MAX: usize = 50_000;
}

impl Pool {
    /// 1,000 instances of at most 256 MiB and 50,000 table elements.
    pub const STANDARD: Self = Self {
        instances: pool::INSTANCES,
        memory_bytes_max: pool::MEMORY_BYTES_MAX,
        table_elements_max: pool::TABLE_ELEMENTS_MAX,
    };
}

/// Everything that shapes compiled code.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .gc_support(false);
    config
}

/// The engine that compiles, in the child process. No pool: it would reserve the address space that is limited.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&settings())
}

/// The engine that runs `init`, in the child process. Memory grows by moving, so that little address space is
/// reserved; nothing that it compiles is kept.
pub(crate) fn initialising() -> wasmtime::Result<Engine> {
    let mut config = settings();
    config
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(0)
        .memory_init_cow(false)
        .epoch_interruption(false);
    Engine::new(&config)
}

/// The engine that runs plugins, and its ticker.
pub(crate) fn running(pool: &Pool) -> wasmtime::Result<Engine> {
    let parts = pool.instances.saturating_mul(CORE_INSTANCES_FOR_EACH);
    let mut allocation = PoolingAllocationConfig::new();
    allocation
        .total_component_instances(pool.instances)
        .total_stacks(pool.instances)
        .total_memories(pool.instances)
        .total_core_instances(parts)
        .total_tables(parts)
        .total_gc_heaps(0)
        .max_core_instances_per_component(PARTS_MAX)
        .max_memories_per_component(PARTS_MAX)
        .max_tables_per_component(PARTS_MAX)
        .max_tables_per_module(PARTS_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .table_elements(pool.table_elements_max)
        .max_memory_size(pool.memory_bytes_max)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    let mut config = settings();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(allocation));
    let engine = Engine::new(&config)?;
    tick(&engine).map_err(wasmtime::Error::new)?;
    Ok(engine)
}

/// Ticks from a thread of its own: a task of the runtime would not tick while a guest spins on the runtime's threads.
/// It ends with the engine.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH_TICK);
        }
    };
    std::thread::Builder::new().name("epoch".into()).spawn(ticker).map(drop)
}

/// What compiled code depends on: the engine's version, its settings and this machine's processor features.
pub(crate) fn fingerprint(engine: &Engine) -> [u8; 32] {
    struct Absorb(blake3::Hasher);
    impl Hasher for Absorb {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0 // never asked: the whole digest is taken below
        }
    }
    let mut absorb = Absorb(blake3::Hasher::new_derive_key("chela 2026 engine"));
    engine.precompile_compatibility_hash().hash(&mut absorb);
    *absorb.0.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_processes_agree_on_the_settings() {
        let running = running(&Pool { instances: 2, ..Pool::STANDARD }).unwrap();
        assert_eq!(fingerprint(&running), fingerprint(&compiling().unwrap()));
        assert_ne!(fingerprint(&running), fingerprint(&initialising().unwrap()));
    }
}
