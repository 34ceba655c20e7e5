//! One call: its own instance, its limits, its ends.

use crate::rig::*;
use chela_sandbox::{
    CallOptions, Error, Grants, HostError, Level, Limit, Limits, Reason, Refusal, Settings, Source,
};
use chela_types::{Blame, Fault, Retry};
use serde_json::json;
use std::time::Duration;

tests!(
    each_call_begins_at_the_snapshot,
    a_trap_ends_its_call_only,
    memory_obeyed,
    memory_violated,
    tables_obeyed,
    tables_violated,
    host_calls_obeyed,
    host_calls_violated,
    a_spinning_guest_is_stopped_and_others_run,
    a_guest_that_waits_for_the_host_is_stopped_and_not_blamed,
    a_guest_that_came_back_from_the_host_is_blamed,
    a_guest_that_wants_no_longer_to_wait_is_blamed,
    a_failure_of_the_host_comes_before_a_limit,
    cpu_obeyed,
    cpu_violated,
    input_bytes_obeyed,
    input_bytes_violated,
    memories_obeyed,
    memories_violated,
    a_dropped_call_gives_its_instance_back,
    too_many_live_instances_is_the_hosts_fault,
    an_optional_capability_is_denied_as_a_result,
    a_stations_error_comes_back_whole,
    the_same_seed_and_clock_give_the_same_answer,
    a_bare_instance_answers,
);

fn limit(result: Result<u32, Error>) -> (Limit, u64) {
    let error = result.unwrap_err();
    match *error.reason {
        Reason::Limit { limit, bound } => (limit, bound),
        _ => panic!("no limit: {error}"),
    }
}

async fn each_call_begins_at_the_snapshot() {
    let plugin = rig().load(doing(0)).await.unwrap();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001, "init ran before");
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001, "and nothing of the call before is there");
}

async fn a_trap_ends_its_call_only() {
    let plugin = rig().load(doing(0)).await.unwrap();
    let error = call(&plugin, 1).await.unwrap_err();
    assert!(matches!(&*error.reason, Reason::Trap { short, .. } if short.contains("unreachable")), "{error}");
    assert!(error.to_string().starts_with("plugin `helper` 1.2.3: trapped"), "{error}");
    assert_eq!((error.blame(), error.retry()), (Blame::Plugin, Retry::Later(Duration::ZERO)));
    let error = call(&plugin, 7).await.unwrap_err();
    assert!(matches!(&*error.reason, Reason::Trap { short, .. } if short.contains("stack")), "{error}");
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
}

async fn memory_obeyed() {
    let plugin = rig().limited(Limits { memory_bytes: 4 << 16, ..Limits::STANDARD }).await;
    assert_eq!(call(&plugin, 4).await.unwrap(), 1, "three pages more than one");
}

async fn memory_violated() {
    let plugin = rig().limited(Limits { memory_bytes: 1 << 20, ..Limits::STANDARD }).await;
    let error = call(&plugin, 3).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: memory limit of 1 MiB");
}

/// Grows its table by 99. Such a guest can't be snapshotted, and says so in its manifest.
async fn growing_tables(table_elements: usize) -> u32 {
    let grow = "(return (table.grow $table (ref.null func) (i32.const 99)))))";
    let text = include_str!("guest.wat").replace("(return (i32.const 6))))", grow);
    let component = wat::parse_str(text).unwrap().into();
    let limits = Limits { table_elements, ..Limits::STANDARD };
    let load = async |manifest: String, component| {
        let source = Source::Embedded { manifest, component };
        rig().sandbox.load::<Router>(source, settings(json!({ "do": 0 }), limits.clone()), |_| {}).await
    };
    let refused = refusal(load(MANIFEST.into(), Clone::clone(&component)).await);
    assert!(matches!(refused, Refusal::Snapshot { .. }), "{refused}");
    let plugin = load(format!("{MANIFEST}snapshot = false"), component).await.unwrap();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001, "init runs in each call");
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
    call(&plugin, 6).await.unwrap()
}

async fn tables_obeyed() {
    assert_eq!(growing_tables(100).await, 1);
}

async fn tables_violated() {
    assert_eq!(growing_tables(99).await, u32::MAX, "the guest is told, and may go on");
}

async fn host_calls_obeyed() {
    let plugin = rig().limited(Limits { host_calls: 5, ..Limits::STANDARD }).await;
    assert_eq!(call(&plugin, 105).await.unwrap(), 0);
}

async fn host_calls_violated() {
    let plugin = rig().limited(Limits { host_calls: 5, ..Limits::STANDARD }).await;
    assert_eq!(limit(call(&plugin, 106).await), (Limit::HostCalls, 5));
}

async fn a_spinning_guest_is_stopped_and_others_run() {
    let plugin = rig().limited(Limits { deadline: Duration::from_millis(300), ..Limits::STANDARD }).await;
    let spinning: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let plugin = plugin.clone();
                async move { call(&plugin, 2).await }
            })
        })
        .collect();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001, "three spin on two threads");
    for spinning in spinning {
        let error = spinning.await.unwrap().unwrap_err();
        assert!(matches!(*error.reason, Reason::Timeout(_)), "{error}");
    }
}

async fn a_guest_that_waits_for_the_host_is_stopped_and_not_blamed() {
    let plugin = rig().load(doing(0)).await.unwrap();
    let deadline = Some(Duration::from_secs(1));
    let error = call_with(&plugin, ASK_FOREVER, Lent::default(), CallOptions { deadline, ..options(0) })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: it still waited for `models` after 1000 ms");
    assert_eq!((error.blame(), error.retry()), (Blame::Provider, Retry::Later(Duration::ZERO)));
}

/// A manifest that asks for less time than the operator gives: who is in a hurry is not kept waiting.
async fn a_guest_that_wants_no_longer_to_wait_is_blamed() {
    let manifest = format!("{MANIFEST}[limits]\ndeadline_ms = 500");
    let component = wat::parse_str(include_str!("guest.wat")).unwrap().into();
    let source = Source::Embedded { manifest, component };
    let plugin = rig().sandbox.load::<Router>(source, doing(0), |_| {}).await.unwrap();
    let error = call_with(&plugin, ASK_FOREVER, Lent::default(), options(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: no answer within 500 ms");
    assert_eq!(error.blame(), Blame::Plugin);
}

/// The host answered in time, and then the guest span.
async fn a_guest_that_came_back_from_the_host_is_blamed() {
    let text = include_str!("guest.wat");
    let spins = "(drop (call $ask (local.get $do))) (call $spin)";
    let text = text.replace("(return (call $ask (local.get $do)))", spins);
    let source = Source::Embedded {
        manifest: format!("{MANIFEST}snapshot = false"),
        component: wat::parse_str(text).unwrap().into(),
    };
    let plugin = rig().sandbox.load::<Router>(source, doing(0), |_| {}).await.unwrap();
    let deadline = Some(Duration::from_secs(1));
    let error =
        call_with(&plugin, 1_000, Lent::default(), CallOptions { deadline, ..options(0) }).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: no answer within 1000 ms");
    assert_eq!(error.blame(), Blame::Plugin);
}

/// A guest that was refused memory, and met a broken host afterwards.
async fn a_failure_of_the_host_comes_before_a_limit() {
    let text = include_str!("guest.wat");
    let fills = "(if (i32.ge_u (local.get $do) (i32.const 1000)) (then (call $fill)";
    let text = text.replace("(if (i32.ge_u (local.get $do) (i32.const 1000)) (then", fills);
    let source = Source::Embedded {
        manifest: format!("{MANIFEST}snapshot = false"),
        component: wat::parse_str(text).unwrap().into(),
    };
    let plugin = rig().sandbox.load::<Router>(source, doing(0), |_| {}).await.unwrap();
    let error = call(&plugin, ASK_BROKEN).await.unwrap_err();
    assert!(matches!(*error.reason, Reason::Host(_)), "{error}");
    assert_eq!(error.blame(), Blame::Host);
}

async fn cpu_obeyed() {
    let plugin = rig().limited(Limits { cpu: SLOW / 3, ..Limits::STANDARD }).await;
    assert_eq!(call(&plugin, ASK_SLOWLY).await.unwrap(), ASK_SLOWLY, "waiting costs nothing");
}

async fn cpu_violated() {
    let plugin = rig().limited(Limits { cpu: Duration::from_millis(50), ..Limits::STANDARD }).await;
    let error = call(&plugin, 2).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: processor time limit of 50 ms");
    assert_eq!(error.blame(), Blame::Plugin);
}

/// 1,500 bytes and the two of their number, and two of the question.
async fn input_bytes_obeyed() {
    let plugin = rig().limited(Limits { input_bytes: 1_504, ..Limits::STANDARD }).await;
    assert_eq!(call(&plugin, 1_500).await.unwrap(), 1_500);
}

async fn input_bytes_violated() {
    let plugin = rig().limited(Limits { input_bytes: 1_503, ..Limits::STANDARD }).await;
    assert_eq!(limit(call(&plugin, 1_500).await), (Limit::InputBytes, 1_503));
}

/// A guest with so many memories beside its own; such a one cannot be snapshotted.
async fn with_memories(more: usize) -> Result<u32, Error> {
    let modules: String = (0..more)
        .map(|n| format!("(core module $m{n} (memory 1)) (core instance (instantiate $m{n}))"))
        .collect();
    let text =
        include_str!("guest.wat").replace("(core module $libc", &format!("{modules} (core module $libc"));
    let source = Source::Embedded {
        manifest: format!("{MANIFEST}snapshot = false"),
        component: wat::parse_str(text).unwrap().into(),
    };
    let rig = rig_with(child(), 2);
    let plugin = rig.sandbox.load::<Router>(source, doing(0), |_| {}).await?;
    // As many as there are places: none takes a slot of another.
    let lent = Lent::default();
    let waiting = tokio::spawn({
        let (plugin, lent) = (plugin.clone(), lent.clone());
        async move { call_with(&plugin, ASK_FOREVER, lent, options(0)).await }
    });
    lent.waits.notified().await;
    let answer = call(&plugin, 0).await;
    waiting.abort();
    answer
}

async fn memories_obeyed() {
    assert_eq!(with_memories(1).await.unwrap(), 1_001);
}

async fn memories_violated() {
    let error = with_memories(2).await.unwrap_err();
    let Reason::Refused(Refusal::Compile { message }) = &*error.reason else { panic!("{error}") };
    assert!(message.contains("3 Wasm linear memories"), "{message}");
}

async fn a_dropped_call_gives_its_instance_back() {
    let rig = rig_with(child(), 1);
    let plugin = rig.load(doing(0)).await.unwrap();
    let lent = Lent::default();
    let waiting = tokio::spawn({
        let (plugin, lent) = (plugin.clone(), lent.clone());
        async move { call_with(&plugin, ASK_FOREVER, lent, options(0)).await }
    });
    lent.waits.notified().await;
    assert_eq!(rig.sandbox.free_instances(), 0);
    waiting.abort();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001, "the only place in the pool is free again");
}

async fn too_many_live_instances_is_the_hosts_fault() {
    let rig = rig_with(child(), 1);
    let plugin = rig.load(doing(0)).await.unwrap();
    let lent = Lent::default();
    let waiting = tokio::spawn({
        let (plugin, lent) = (plugin.clone(), lent.clone());
        async move { call_with(&plugin, ASK_FOREVER, lent, options(0)).await }
    });
    lent.waits.notified().await;
    let deadline = Some(Duration::from_millis(20));
    let error =
        call_with(&plugin, 0, Lent::default(), CallOptions { deadline, ..options(0) }).await.unwrap_err();
    assert_eq!(error.blame(), Blame::Host);
    assert_eq!(limit(Err(error)), (Limit::Pool, 1));
    waiting.abort();
}

async fn an_optional_capability_is_denied_as_a_result() {
    let manifest = MANIFEST.replace("grants =", "optional =");
    let source = Source::Embedded { manifest, component: guest().into() };
    let settings = Settings { grants: Grants::NONE, ..doing(0) };
    let plugin = rig().sandbox.load(source, settings, |_| {}).await.unwrap();
    assert_eq!(call(&plugin, 1_000).await.unwrap(), DENIED);
    let granted = rig().load(doing(0)).await.unwrap();
    assert_eq!(call(&granted, 1_000).await.unwrap(), 1_000);
}

async fn a_stations_error_comes_back_whole() {
    let plugin = rig().load(doing(0)).await.unwrap();
    let error = call(&plugin, ASK_BROKEN).await.unwrap_err();
    assert_eq!(error.blame(), Blame::Host);
    let Reason::Host(host) = *error.reason else { panic!("not the host's") };
    assert_eq!(HostError::downcast_ref::<std::io::Error>(&host).unwrap().to_string(), "disk full");
}

async fn the_same_seed_and_clock_give_the_same_answer() {
    let plugin = rig().load(doing(0)).await.unwrap();
    let answer = async |seed| call_with(&plugin, 5, Lent::default(), options(seed)).await.unwrap();
    let first = answer(1).await;
    assert_eq!(first, answer(1).await);
    assert_ne!(first, answer(2).await);
}

async fn a_bare_instance_answers() {
    let plugin = rig().load(Settings { level: Level::InProcess, ..doing(0) }).await.unwrap();
    let bare = plugin.bare().unwrap();
    let mut store = chela_sandbox::wasmtime::Store::new(bare.component().engine(), ());
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = bare.instantiate_async(&mut store).await.unwrap();
    let routing = instance.get_export_index(&mut store, None, "chela:plugin/routing@0.1.0").unwrap();
    let route = instance.get_export_index(&mut store, Some(&routing), "route").unwrap();
    let route = instance.get_typed_func::<(u32,), (u32,)>(&mut store, route).unwrap();
    assert_eq!(route.call_async(&mut store, (0,)).await.unwrap().0, 1_001);
}
