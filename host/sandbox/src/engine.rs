//! The engine: one set of settings for the process that compiles and the process that runs.
//!
//! What shapes machine code is in [`settings`] and has no switches, so that both processes agree by construction;
//! what shapes only the running host, the pool, is configuration. Replay depends on two of the settings: NaNs are
//! canonical and relaxed SIMD is deterministic.

use crate::pool::{self, Pool};
use std::hash::{Hash, Hasher};
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

/// How often a running guest lets others run.
const EPOCH_TICK: Duration = Duration::from_millis(2);
/// Bytes that stay resident in a freed memory slot: resetting them is cheaper than faulting them in again.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Largest metadata of one instance.
const INSTANCE_BYTES_MAX: usize = 4 << 20;

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
    let engine = pooled(pool)?;
    tick(&engine).map_err(wasmtime::Error::new)?;
    Ok(engine)
}

/// The engine that runs plugins, before it ticks.
pub(crate) fn pooled(pool: &Pool) -> wasmtime::Result<Engine> {
    let all = |each: u32| pool.instances.saturating_mul(each);
    let mut allocation = PoolingAllocationConfig::new();
    allocation
        .total_component_instances(pool.instances)
        .total_stacks(pool.instances)
        .total_memories(all(pool::MEMORIES_MAX))
        .total_core_instances(all(pool::CORE_INSTANCES_MAX))
        .total_tables(all(pool::TABLES_MAX))
        .total_gc_heaps(0)
        .max_core_instances_per_component(pool::CORE_INSTANCES_MAX)
        .max_memories_per_component(pool::MEMORIES_MAX)
        .max_tables_per_component(pool::TABLES_MAX)
        .max_tables_per_module(pool::TABLES_MAX)
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
    Engine::new(&config)
}

/// Ticks from a thread of its own: a task of the runtime would not tick while a guest spins on the runtime's threads.
/// It ends with the engine.
pub(crate) fn tick(engine: &Engine) -> std::io::Result<()> {
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
