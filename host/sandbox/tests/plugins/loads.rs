//! Loading: what init may do, what the cache trusts, how the child may die.

use crate::rig::*;
use chela_sandbox::{Compiler, Ending, Limit, Limits, Progress, Reason, Refusal, Settings, Source, Stage};
use chela_types::{Blame, Fault};
use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;

tests!(
    init_may_refuse_its_configuration,
    init_is_asked_also_without_a_snapshot,
    init_that_traps_is_refused,
    init_that_takes_all_memory_is_refused,
    init_that_fills_its_memory_and_is_content_is_loaded,
    init_has_no_clock_no_randomness_and_no_capability,
    init_that_prints_is_refused,
    init_that_loops_is_killed,
    init_that_loops_uses_up_its_processor_time,
    a_child_without_memory_is_a_refusal,
    a_child_that_dies_is_a_refusal,
    a_child_that_hangs_is_killed,
    a_child_that_babbles_is_a_refusal,
    a_program_that_is_not_there_is_the_hosts_fault,
    compiled_once_and_loaded_from_the_cache,
    a_tampered_artefact_is_compiled_again,
    a_cache_that_takes_nothing_stops_no_start,
    a_folder_is_loaded_and_its_defaults_merged,
    refusals_name_the_plugin,
);

async fn init_refusal(n: u8) -> Refusal {
    refusal(rig().load(doing(n)).await)
}

async fn init_may_refuse_its_configuration() {
    let error = rig().load(doing(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: refused: init says: no such agent");
    assert_eq!(error.blame(), Blame::Operator);
}

/// A component that cannot be snapshotted has its `init` all the same.
async fn init_is_asked_also_without_a_snapshot() {
    let load = async |n| {
        let manifest = format!("{MANIFEST}snapshot = false");
        let source = Source::Embedded { manifest, component: guest().into() };
        rig().sandbox.load::<Router>(source, doing(n), |_| {}).await
    };
    let refused = refusal(load(1).await);
    assert!(matches!(&refused, Refusal::Init { message } if message == "no such agent"), "{refused}");
    assert!(matches!(refusal(load(2).await), Refusal::InitTrap { .. }));
    assert_eq!(call(&load(0).await.unwrap(), 0).await.unwrap(), 1_001);
}

async fn init_that_traps_is_refused() {
    assert!(
        matches!(init_refusal(2).await, Refusal::InitTrap { message } if message.contains("unreachable"))
    );
}

async fn init_that_takes_all_memory_is_refused() {
    let refusal = init_refusal(4).await;
    assert!(matches!(refusal, Refusal::InitLimit { limit: Limit::Memory, bound: 4_194_304 }), "{refusal}");
}

async fn init_that_fills_its_memory_and_is_content_is_loaded() {
    let plugin = rig().load(doing(6)).await.unwrap();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
}

async fn init_has_no_clock_no_randomness_and_no_capability() {
    for (n, part) in [
        (5, "clock does not answer during init"),
        (7, "models@0.1.0#ask` does not answer during init"),
        (8, "randomness does not answer"),
    ] {
        let refusal = init_refusal(n).await;
        assert!(matches!(&refusal, Refusal::InitTrap { message } if message.contains(part)), "{refusal}");
    }
}

async fn init_that_prints_is_refused() {
    let prints = settings(json!({ "do": "print" }), Limits::STANDARD);
    let refusal = refusal(rig().load(prints).await);
    assert!(matches!(refusal, Refusal::InitHandles), "{refusal}");
    assert!(refusal.to_string().contains("interface `log`"), "{refusal}");
}

fn ending(refusal: Refusal) -> (Stage, Ending) {
    match refusal {
        Refusal::Preparation { stage, ending } => (stage, ending),
        other => panic!("prepared: {other}"),
    }
}

async fn init_that_loops_is_killed() {
    let wall = Duration::from_millis(1_500);
    let rig = rig_with(Compiler { wall, ..child() }, 1);
    assert_eq!(ending(refusal(rig.load(doing(3)).await)), (Stage::Init, Ending::TimedOut(wall)));
}

async fn init_that_loops_uses_up_its_processor_time() {
    let rig = rig_with(Compiler { cpu: Duration::from_secs(1), ..child() }, 1);
    assert_eq!(ending(refusal(rig.load(doing(3)).await)), (Stage::Init, Ending::CpuTime));
}

async fn a_child_without_memory_is_a_refusal() {
    let rig = rig_with(Compiler { address_space_bytes: 1 << 20, ..child() }, 1);
    let (_, how) = ending(refusal(rig.load(doing(0)).await));
    assert!(matches!(how, Ending::Crashed { .. }), "{how}");
}

fn program(path: &str, args: &[&str]) -> Compiler {
    Compiler { wall: Duration::from_secs(60), ..Compiler::new(path, args) }
}

async fn a_child_that_dies_is_a_refusal() {
    let rig = rig_with(program("/bin/sh", &["-c", "echo 'out of luck' >&2; exit 3"]), 1);
    let (stage, how) = ending(refusal(rig.load(doing(0)).await));
    let Ending::Crashed { status, stderr } = how else { panic!("{how}") };
    assert_eq!((stage, stderr.as_str()), (Stage::Start, "out of luck"));
    assert!(status.contains('3'), "{status}");
}

async fn a_child_that_hangs_is_killed() {
    let wall = Duration::from_millis(100);
    let rig = rig_with(Compiler { wall, ..program("/bin/sh", &["-c", "exec sleep 600"]) }, 1);
    assert_eq!(ending(refusal(rig.load(doing(0)).await)), (Stage::Start, Ending::TimedOut(wall)));
}

async fn a_child_that_babbles_is_a_refusal() {
    let rig = rig_with(program("/bin/sh", &["-c", "echo this is not the protocol; exec sleep 600"]), 1);
    let (_, how) = ending(refusal(rig.load(doing(0)).await));
    assert!(matches!(how, Ending::Protocol(_)), "{how}");
}

async fn a_program_that_is_not_there_is_the_hosts_fault() {
    let error = rig_with(program("/no/such/program", &[]), 1).load(doing(0)).await.unwrap_err();
    assert!(matches!(*error.reason, Reason::Host(_)), "{error}");
    assert_eq!(error.blame(), Blame::Host);
}

async fn compiled_once_and_loaded_from_the_cache() {
    let rig = rig();
    let seen = Mutex::new(Vec::new());
    let load = async |settings: Settings| {
        let tell = |progress| seen.lock().unwrap().push(progress);
        rig.sandbox.load::<Router>(source(), settings, tell).await.unwrap()
    };
    let first = load(doing(0)).await;
    assert!(!first.from_cache());
    let stages = [Stage::Init, Stage::Snapshot, Stage::Compile].map(Progress::Preparing);
    let expected = [&[Progress::Checked], stages.as_slice(), &[Progress::Ready]].concat();
    assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), expected);

    let second = load(doing(0)).await;
    assert!(second.from_cache());
    assert_eq!(second.digest(), first.digest());
    assert_eq!(*seen.lock().unwrap(), [Progress::Checked, Progress::Cached, Progress::Ready]);
    assert_eq!(call(&second, 0).await.unwrap(), 1_001);

    let other = load(doing(9)).await;
    assert!(!other.from_cache(), "init saw another configuration");
    assert_ne!(other.digest(), first.digest());
}

async fn a_tampered_artefact_is_compiled_again() {
    let rig = rig();
    rig.load(doing(0)).await.unwrap();
    let files = std::fs::read_dir(rig.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = files.filter(|path| path.extension().is_some()).last().unwrap();
    let mut code = std::fs::read(&path).unwrap();
    let last = code.len() - 1;
    *code.get_mut(last).unwrap() ^= 1;
    std::fs::write(&path, code).unwrap();
    let plugin = rig.load(doing(0)).await.unwrap();
    assert!(!plugin.from_cache());
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
    assert!(rig.load(doing(0)).await.unwrap().from_cache());
}

async fn a_cache_that_takes_nothing_stops_no_start() {
    let rig = rig();
    std::fs::remove_dir_all(rig.folder.path()).unwrap();
    let plugin = rig.load(doing(0)).await.unwrap();
    assert!(!plugin.from_cache());
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
}

async fn a_folder_is_loaded_and_its_defaults_merged() {
    let folder = tempfile::tempdir().unwrap();
    let manifest =
        format!("{MANIFEST}[limits]\nhost_calls = 7\n[config]\ndo = 2\n[config.other]\na = 1\nb = 2\n");
    std::fs::write(folder.path().join("plugin.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("guest.wasm"), guest()).unwrap();
    let settings = settings(json!({ "other": { "b": 3 } }), Limits::STANDARD);
    let source = Source::Folder(folder.path().to_owned());
    let refused = refusal(rig().sandbox.load(source.clone(), settings.clone(), |_| {}).await);
    assert!(matches!(refused, Refusal::InitTrap { .. }), "not the default `do`: {refused}");

    let config = json!({ "do": 0, "other": { "b": 3 } });
    let plugin = rig().sandbox.load::<Router>(source, Settings { config, ..settings }, |_| {}).await.unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(plugin.config()).unwrap(),
        json!({"do":0,"other":{"a":1,"b":3}})
    );
    assert_eq!(plugin.limits().host_calls, 7);
    assert_eq!(plugin.imports().len(), 6);
}

async fn refusals_name_the_plugin() {
    let settings = Settings { grants: chela_sandbox::Grants::NONE, ..doing(0) };
    let error = rig().load(settings).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin `helper` 1.2.3: refused: it asks for `models`; to allow it add \"models\" to `grants` of \
         [plugin.helper] in chela.toml"
    );
    assert_eq!(error.blame(), Blame::Operator);

    let load = async |manifest: String, component: Vec<u8>| {
        let source = Source::Embedded { manifest, component: component.into() };
        refusal(rig().sandbox.load(source, doing(0), |_| {}).await)
    };
    let agent = MANIFEST.replace("router", "agent");
    assert!(matches!(load(agent, guest()).await, Refusal::Kind { .. }));
    let cut = guest().get(..900).unwrap().to_vec();
    assert!(matches!(load(MANIFEST.into(), cut).await, Refusal::Invalid { .. }));
    let large = vec![0; chela_sandbox::Config::COMPONENT_BYTES_MAX + 1];
    assert!(matches!(load(MANIFEST.into(), large).await, Refusal::TooLarge { .. }));
}
