//! Limits in pairs, those that the engine itself enforces: time, handles, parts of a component, its size.

use crate::rig::*;
use chela_sandbox::{
    Config, Error, Isolation, Limit, Limits, Plugin, Pool, Reason, Refusal, Sandbox, Settings, Source,
};

tests!(
    deadline_obeyed,
    deadline_violated,
    handles_obeyed,
    handles_violated,
    own_handles_obeyed,
    own_handles_violated,
    core_instances_obeyed,
    core_instances_violated,
    component_bytes_obeyed,
    component_bytes_violated,
);

/// It covers what the host does.
async fn deadline_obeyed() {
    let plugin = rig().limited(Limits { deadline: SLOW * 20, ..Limits::STANDARD }).await;
    assert_eq!(call(&plugin, ASK_SLOWLY).await.unwrap(), ASK_SLOWLY);
}

async fn deadline_violated() {
    let plugin = rig().limited(Limits { deadline: SLOW / 3, ..Limits::STANDARD }).await;
    let error = call(&plugin, ASK_SLOWLY).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin `helper` 1.2.3: it still waited for `models` after 50 ms");
}

/// A guest that is not what `guest.wat` says, under these limits.
async fn changed(text: String, limits: Limits, manifest: &str) -> Result<Plugin<Router>, Error> {
    let component = wat::parse_str(text).unwrap().into();
    let source = Source::Embedded { manifest: manifest.to_owned(), component };
    let settings = Settings { limits, ..doing(0) };
    rig().sandbox.load(source, settings, |_| {}).await
}

/// How a call ended that takes so many handles where five are allowed: of the host's streams, or of its own.
async fn with_handles(handles: u32, is_own: bool) -> Result<u32, Error> {
    let mut text = include_str!("guest.wat").to_owned();
    if is_own {
        for (from, to) in [
            ("(drop (call $print))", "(drop (call $mine (i32.const 1)))"),
            (
                "(core func $print (canon",
                "(type $mine (resource (rep i32))) (core func $mine (canon resource.new $mine)) (core func $print (canon",
            ),
            (
                "(import \"host\" \"print\" (func $print (result i32)))",
                "(import \"host\" \"mine\" (func $mine (param i32) (result i32)))",
            ),
            ("(export \"print\" (func $print))", "(export \"mine\" (func $mine))"),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
    }
    let limits = Limits { resources: 5, ..Limits::STANDARD };
    let plugin = changed(text, limits, &format!("{MANIFEST}snapshot = false")).await.unwrap();
    call(&plugin, 500 + handles).await
}

fn limit(result: Result<u32, Error>) -> (Limit, u64) {
    let error = result.unwrap_err();
    match *error.reason {
        Reason::Limit { limit, bound } => (limit, bound),
        _ => panic!("no limit: {error}"),
    }
}

async fn handles_obeyed() {
    assert_eq!(with_handles(5, false).await.unwrap(), 0);
}

async fn handles_violated() {
    assert_eq!(limit(with_handles(6, false).await), (Limit::Resources, 5));
}

async fn own_handles_obeyed() {
    assert_eq!(with_handles(5, true).await.unwrap(), 0);
}

async fn own_handles_violated() {
    assert_eq!(limit(with_handles(6, true).await), (Limit::Resources, 5));
}

/// A guest of its two core instances and so many more, where five are allowed.
async fn with_core_instances(more: usize, manifest: &str) -> Result<Plugin<Router>, Error> {
    let modules: String =
        (0..more).map(|n| format!("(core module $i{n}) (core instance (instantiate $i{n}))")).collect();
    let text =
        include_str!("guest.wat").replace("(core module $libc", &format!("{modules} (core module $libc"));
    changed(text, Limits { instances: 5, ..Limits::STANDARD }, manifest).await
}

async fn core_instances_obeyed() {
    for manifest in [MANIFEST.to_owned(), format!("{MANIFEST}snapshot = false")] {
        let plugin = with_core_instances(3, &manifest).await.unwrap();
        assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
    }
}

/// With a snapshot, which makes an instance more, and without.
async fn core_instances_violated() {
    for manifest in [MANIFEST.to_owned(), format!("{MANIFEST}snapshot = false")] {
        let refused = refusal(with_core_instances(4, &manifest).await);
        assert!(matches!(refused, Refusal::InitLimit { limit: Limit::Instances, bound: 5 }), "{refused}");
        assert_eq!(refused.to_string(), "init reached the core instance limit of 5");
    }
}

async fn loaded_within(component_bytes_max: usize) -> Result<Plugin<Router>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let isolation = Isolation::new(std::env::current_exe().unwrap(), [WORKER]);
    let pool = Pool { instances: 1, ..Pool::STANDARD };
    let config = Config::new(folder.path(), child(), isolation);
    let sandbox = Sandbox::new(Config { component_bytes_max, pool, ..config }).unwrap();
    sandbox.load(source(), doing(0), |_| {}).await
}

async fn component_bytes_obeyed() {
    let plugin = loaded_within(guest().len()).await.unwrap();
    assert_eq!(call(&plugin, 0).await.unwrap(), 1_001);
}

async fn component_bytes_violated() {
    let bound = guest().len() - 1;
    let refused = refusal(loaded_within(bound).await);
    let is_it = matches!(&refused, Refusal::TooLarge { limit_bytes, .. } if *limit_bytes == bound as u64);
    assert!(is_it, "{refused}");
}
