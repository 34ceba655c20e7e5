//! Runs `init` once, snapshots the memory and compiles the snapshot. Runs in the child only.
//!
//! During `init` only `config` and `log` answer: a clock or a random number that was read here would be the same in
//! every instance for ever, and a capability would be used without a turn to bill it to. They trap.

use super::Stage;
use super::child::at;
use super::frame::{Frame, Job, MESSAGE_BYTES_MAX, Verdict};
use crate::call::{self, Beginning, Call, Phase};
use crate::engine;
use crate::grants::Grants;
use crate::inspect;
use crate::limits::Limit;
use crate::link;
use crate::log::{GuestLog, Stamp, cut};
use crate::plugin::engine_limit;
use chela_types::Millis;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Store, bail};
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};

/// Memory for the snapshot's accessors, which add a page or two to each memory that they read.
const HEADROOM_BYTES: usize = 16 << 20;

type Tell<'a> = &'a mut dyn FnMut(Frame) -> io::Result<()>;
type Prepared<T> = io::Result<Result<T, Verdict>>;

/// The compiled artefact, or why there is none.
pub(super) fn prepare(
    job: &Job,
    component: &[u8],
    mut tell: impl FnMut(Frame) -> io::Result<()>,
) -> Prepared<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if !job.snapshot {
        return match runtime.block_on(try_init(job, component, &mut tell))? {
            Ok(()) => compile(component, &mut tell),
            Err(verdict) => Ok(Err(verdict)),
        };
    }
    match runtime.block_on(snapshot(job, component, &mut tell))? {
        Ok(snapshot) => compile(&snapshot, &mut tell),
        Err(verdict) => Ok(Err(verdict)),
    }
}

fn compile(component: &[u8], tell: Tell<'_>) -> Prepared<Vec<u8>> {
    tell(at(Stage::Compile))?;
    let engine = engine::compiling().map_err(io::Error::other)?;
    Ok(engine.precompile_component(component).map_err(|error| Verdict::Compile(said(&error))))
}

async fn snapshot(job: &Job, component: &[u8], tell: Tell<'_>) -> Prepared<Vec<u8>> {
    tell(at(Stage::Init))?;
    let engine = engine::initialising().map_err(io::Error::other)?;
    let mut store = call::store(&engine, &job.limits(), beginning(job));
    let mut wizer = Wizer::new();
    wizer.init_func("init").keep_init_func(true);

    let (context, instrumented) = match wizer.instrument_component(component) {
        Ok(both) => both,
        Err(error) => return Ok(Err(Verdict::Snapshot(said(&error)))),
    };
    let instance = match init(&mut store, (job, &instrumented), tell).await? {
        // A handle lies in the guest's memory, and so in the snapshot; what it stands for does not.
        Ok(_) if store.data().holds_handles() => return Ok(Err(Verdict::InitHandles)),
        Ok(instance) => instance,
        Err(verdict) => return Ok(Err(verdict)),
    };

    tell(at(Stage::Snapshot))?;
    store.data_mut().meter().add_headroom(HEADROOM_BYTES);
    let mut state = WasmtimeWizerComponent { store: &mut store, instance };
    let snapshot = wizer.snapshot_component(&context, &mut state).await;
    Ok(snapshot.map_err(|error| Verdict::Snapshot(said(&error))))
}

/// Whether `init` has something against its configuration; each call will run it again.
async fn try_init(job: &Job, component: &[u8], tell: Tell<'_>) -> Prepared<()> {
    tell(at(Stage::Init))?;
    let engine = engine::initialising().map_err(io::Error::other)?;
    let mut store = call::store(&engine, &job.limits(), beginning(job));
    Ok(init(&mut store, (job, component), tell).await?.map(|_| ()))
}

/// Runs `init`, and tells what it logged, however it ended.
async fn init(
    store: &mut Store<Call<()>>,
    (job, component): (&Job, &[u8]),
    tell: Tell<'_>,
) -> Prepared<wasmtime::component::Instance> {
    let instance = run_init(store, job, component).await;
    let lines = store.data().log().lock().take_kept();
    lines.into_iter().try_for_each(|line| tell(Frame::Line(line)))?;
    Ok(instance)
}

async fn run_init(
    store: &mut Store<Call<()>>,
    job: &Job,
    component: &[u8],
) -> Result<wasmtime::component::Instance, Verdict> {
    let broken = |error: wasmtime::Error| Verdict::Compile(said(&error));
    let component = Component::new(store.engine(), component).map_err(broken)?;
    let mut linker = Linker::new(store.engine());
    link::base(&mut linker).map_err(broken)?;
    refuse_capabilities(&mut linker, &component).map_err(broken)?;

    let instance = linker.instantiate_async(&mut *store, &component).await;
    let instance = instance.map_err(|error| failed(store, job, &error))?;
    let init = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, "init").map_err(broken)?;
    match init.call_async(&mut *store, ()).await {
        Ok((Ok(()),)) => Ok(instance),
        Ok((Err(message),)) => Err(Verdict::Init(cut(&message, MESSAGE_BYTES_MAX).to_owned())),
        Err(error) => Err(failed(store, job, &error)),
    }
}

/// Every capability that the component imports is there, and traps. Not `define_unknown_imports_as_traps`: that takes
/// `wasi:…@0.2.0` for unknown where the linker has 0.2.6, and the guest would lose its stand-ins.
fn refuse_capabilities(linker: &mut Linker<Call<()>>, component: &Component) -> wasmtime::Result<()> {
    struct Absent;
    let engine = linker.engine().clone();
    for (interface, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        if inspect::capability(interface).ok().flatten().is_none() {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface}#{name}");
                    linked
                        .func_new(name, move |_, _, _, _| bail!("`{called}` does not answer during init"))?;
                }
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<Absent>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn failed(store: &Store<Call<()>>, job: &Job, error: &wasmtime::Error) -> Verdict {
    match store.data().hit().or_else(|| engine_limit(error, store.data())) {
        // The one of the snapshot is not the plugin's.
        Some((Limit::Instances, _)) => Verdict::InitLimit(Limit::Instances, job.limits.instances as u64),
        Some((limit, bound)) => Verdict::InitLimit(limit, bound),
        None => Verdict::InitTrap(said(error)),
    }
}

fn beginning(job: &Job) -> Beginning<()> {
    Beginning {
        lent: (),
        plugin: Arc::new(Stamp { name: job.plugin.clone(), version: job.version.clone() }),
        config: job.config.as_str().into(),
        grants: Grants::NONE,
        phase: Phase::Init,
        started: Millis(0),
        seed: [0; 32],
        end: None,
        log: Arc::new(Mutex::new(GuestLog::kept(&job.limits()))),
    }
}

fn said(error: &wasmtime::Error) -> String {
    cut(&format!("{error:#}"), MESSAGE_BYTES_MAX).to_owned()
}
