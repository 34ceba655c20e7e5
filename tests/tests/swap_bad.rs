//! What must not serve, does not: each mistake in a plugin's folder, in what it asks for and in the configuration is a
//! typed refusal that says what is wrong, and what served before goes on serving.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use chela_engine::{Candidate, Error, Order, Reloaded, SwapRefused};
use chela_sandbox::Source;
use chela_tests::folder::{Folder, is_served_by, routed};
use chela_tests::versions::{promote, rollback};
use chela_tests::{Crashed, Host, Outside, guests, host};
use serde_json::json;

fn only<'a>(words: &'a [(String, String)], plugin: &str) -> &'a str {
    match words {
        [(name, why)] if name == plugin => why,
        other => panic!("{other:?}"),
    }
}

/// What the refusal says, and a way to break a folder.
type Case<'a> = (&'a str, &'a dyn Fn(&Folder));

/// Breaks a running host's folder in one way after the other.
async fn each_is_refused(cases: &[Case<'_>]) {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    for (expected, spoil) in cases {
        spoil(&folder);
        let reloaded = host.update(&setup).await.unwrap_or_else(|error| panic!("{expected}: {error}"));
        let why = only(&reloaded.refused, "router");
        assert!(why.contains(expected), "expected `{expected}` in `{why}`");
        assert!(why.contains("router"), "it says which plugin: {why}");
        assert!(reloaded.changed.is_empty() && reloaded.waiting.is_empty(), "{expected}: {reloaded:?}");
        is_served_by(&host, &outside, &old).await;
        let event = host.history("router").await.pop().unwrap().happened;
        assert_eq!((&*event.what, &*event.why), ("refused", why), "{expected}");
        let shown = host.plugin("router").await.versions;
        assert!(shown.iter().any(|it| it.state == "refused" && it.reason == why), "{expected}: {shown:?}");
        // It is told once, however often it is looked at.
        let told = host.history("router").await.len();
        assert_eq!(only(&host.update(&setup).await.unwrap().refused, "router"), why);
        assert_eq!(host.history("router").await.len(), told, "{expected}");

        folder.restore();
        let well = Reloaded { applied: true, ..Reloaded::default() };
        assert_eq!(host.update(&setup).await.unwrap(), well, "{expected}: all is well again");
    }
    // And what is right then, serves.
    folder.manifest("1.1.0", "tag-new");
    let reloaded = host.update(&setup).await.unwrap();
    assert_eq!((reloaded.changed.len(), reloaded.refused.len()), (1, 0), "{reloaded:?}");
    let new = host.active("router").await;
    assert_eq!(new.version, "1.1.0");
    is_served_by(&host, &outside, &new.digest).await;
}

/// The manifest with something else in it.
fn with(from: &'static str, to: &'static str) -> impl Fn(&Folder) {
    move |folder| {
        let manifest = guests::get("router").manifest_of("1.1.0", "tag-new");
        assert!(manifest.contains(from), "{from}");
        folder.write(&manifest.replacen(from, to, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_mistake_is_refused_and_the_old_version_serves() {
    each_is_refused(&[
        ("plugin.toml line 2", &with("version = \"1.1.0\"", "version = 1.1.0")),
        ("did you mean `grants`?", &with("grants = []", "grant = []")),
        ("did you mean `memory_bytes`?", &with("memory_bytes", "memory_byte")),
        ("`version` is `1.1`, expected three numbers", &with("1.1.0", "1.1")),
        ("`contract` is `9.9.9`, this host serves", &with("contract = \"0.1.0\"", "contract = \"9.9.9\"")),
        ("expected kind `router`, and it is of kind `agent`", &with("\"router\"", "\"agent\"")),
        ("did you mean `router`?", &with("kind = \"router\"", "kind = \"ruoter\"")),
        ("missing field `kind`", &with("kind = \"router\"\n", "")),
        ("`verify` belongs to channels", &with("[config]", "[verify]\nkind = \"hmac\"\n\n[config]")),
        ("plugin.toml is not UTF-8", &|folder| {
            std::fs::write(folder.path.join("plugin.toml"), b"name = \"\xff\"").unwrap();
        }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_none_is_refused_and_the_old_version_serves() {
    let elsewhere = tempfile::tempdir().unwrap();
    let component = elsewhere.path().join("router.wasm");
    std::fs::write(&component, guests::get("router").component).unwrap();
    each_is_refused(&[
        ("No such file", &|folder| std::fs::remove_dir_all(&folder.path).unwrap()),
        ("plugin.toml", &|folder| std::fs::remove_file(folder.path.join("plugin.toml")).unwrap()),
        ("holds no `*.wasm`", &|folder| std::fs::remove_file(folder.component()).unwrap()),
        ("holds more than one `*.wasm`", &|folder| {
            std::fs::copy(folder.component(), folder.path.join("second.wasm")).unwrap();
        }),
        ("a link that leads out of the plugin's folder", &|folder| {
            std::fs::remove_file(folder.component()).unwrap();
            symlink(&component, folder.component()).unwrap();
        }),
        ("Not a directory", &|folder| {
            std::fs::remove_dir_all(&folder.path).unwrap();
            std::fs::write(&folder.path, "a file").unwrap();
        }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_not_whole_or_of_another_kind_is_refused_and_the_old_version_serves() {
    let whole = guests::get("router").component;
    let holding = |component: &'static [u8]| {
        move |folder: &Folder| std::fs::write(folder.component(), component).unwrap()
    };
    each_is_refused(&[
        ("the component is not valid", &holding(&whole[..whole.len() / 2])),
        ("the component is not valid", &holding(&whole[..whole.len() - 1])),
        ("the component is not WebAssembly", &holding(b"")),
        ("the component is not WebAssembly", &holding(b"#!/bin/sh\n")),
        ("core module", &holding(b"\0asm\x01\0\0\0")),
        ("of kind `agent`", &holding(guests::get("agent").component)),
        ("of kind `channel`", &holding(guests::get("channel").component)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_is_refused_for_good_and_the_old_one_serves() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    for (version, init, expected) in
        [("1.1.0", "error", "the guest refuses to start"), ("1.2.0", "trap", "trap")]
    {
        let manifest = guests::get("router").manifest_of(version, "tag-new");
        folder.write(&format!("{manifest}init = \"{init}\"\n"));
        for _ in 0..2 {
            let reloaded = host.update(&setup).await.unwrap();
            let why = only(&reloaded.refused, "router").to_owned();
            assert!(why.contains(expected), "{why}");
            is_served_by(&host, &outside, &old).await;
        }
        assert_eq!(host.version("router", version).await.state, "refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_version_waits_until_somebody_says_that_it_is_meant() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    folder.manifest("0.9.0", "tag-lower");
    let reloaded = host.update(&setup).await.unwrap();
    let why = only(&reloaded.waiting, "router");
    assert!(why.contains("from version 1.0.0 back to 0.9.0"), "{why}");
    is_served_by(&host, &outside, &old).await;
    let refused = host.order("router", promote(Candidate::default())).await;
    assert!(matches!(refused, Err(Error::Swap(SwapRefused::Downgrade { .. }))), "{refused:?}");
    is_served_by(&host, &outside, &old).await;
    let meant =
        Order::Promote { candidate: Candidate::default(), approve: false, downgrade: true, unproven: false };
    host.order("router", meant).await.unwrap();
    let new = host.active("router").await;
    assert_eq!(new.version, "0.9.0");
    is_served_by(&host, &outside, &new.digest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_asks_for_more_waits_and_says_for_what_until_it_is_approved() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let asking = |version: &str, optional: &str| {
        let manifest = guests::get("router").manifest_of(version, version);
        folder.write(&manifest.replace("optional = [\"models\", \"history\"]", optional));
    };
    asking("1.0.0", "optional = [\"models\"]");
    let host = setup.clone().run().await;
    let old = host.active("router").await;
    asking("1.1.0", "optional = [\"models\", \"history\"]");
    let reloaded = host.update(&setup).await.unwrap();
    let why = only(&reloaded.waiting, "router");
    assert!(why.contains("asks for more than the active one: grant history;"), "{why}");
    is_served_by(&host, &outside, &old.digest).await;
    let waiting = host.version("router", "1.1.0").await;
    assert_eq!((&*waiting.state, &*waiting.reason), ("waiting", why));
    let more: Vec<&String> = waiting.asks.iter().filter(|ask| !old.asks.contains(ask)).collect();
    assert_eq!(more, ["grant history"]);
    for order in [
        promote(Candidate::default()),
        Order::Canary { candidate: Candidate::default(), percent: 50, approve: false },
    ] {
        match host.order("router", order).await {
            Err(Error::Swap(SwapRefused::AsksMore { asked, .. })) => assert_eq!(asked, ["grant history"]),
            other => panic!("{other:?}"),
        }
    }
    is_served_by(&host, &outside, &old.digest).await;
    let approved =
        Order::Promote { candidate: Candidate::default(), approve: true, downgrade: false, unproven: false };
    host.order("router", approved).await.unwrap();
    let new = host.active("router").await;
    assert_eq!(new.version, "1.1.0");
    is_served_by(&host, &outside, &new.digest).await;
    // Fewer wishes are no question.
    asking("1.2.0", "optional = [\"models\"]");
    assert_eq!(host.update(&setup).await.unwrap().changed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_may_share_a_folder() {
    let outside = Outside::new().await;
    let parent = tempfile::tempdir().unwrap();
    let folder = guests::get("agent").folder(parent.path());
    let source = || Source::Folder(folder.clone());
    let setup = host(&outside)
        .plugin("one", source(), json!({}))
        .plugin("two", source(), json!({}))
        .agent("support", "one")
        .agent("sales", "two")
        .webhook("partner", "support");
    let host = setup.clone().run().await;
    let manifest = guests::get("agent").manifest_of("1.1.0", "tag-new");
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    let reloaded = host.update(&setup).await.unwrap();
    assert_eq!((reloaded.changed.len(), reloaded.refused.len()), (2, 0), "{reloaded:?}");
    for plugin in ["one", "two"] {
        assert_eq!(host.active(plugin).await.version, "1.1.0");
    }
    host.partner_says(&outside, "t1", "hello").await;
    assert_eq!(host.closed("hello").await.reply.unwrap().text, "new hello new");
}

/// The folder of kept components becomes a file, as good as a disk that takes nothing; returns where they are.
fn full(data: &Path) -> PathBuf {
    let (folder, aside) = (data.join("artefacts"), data.join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    aside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_kept_does_not_serve() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    let artefacts = host.folder().join("artefacts");
    let aside = full(host.folder());
    folder.manifest("1.1.0", "tag-new");
    for _ in 0..2 {
        let refused = host.update(&setup).await;
        assert!(matches!(refused, Err(Error::Store(chela_store::Error::Files { .. }))), "{refused:?}");
        is_served_by(&host, &outside, &old).await;
    }
    std::fs::remove_file(&artefacts).unwrap();
    std::fs::rename(&aside, &artefacts).unwrap();
    assert_eq!(host.update(&setup).await.unwrap().changed.len(), 1);
    let new = host.active("router").await;
    assert_eq!(new.version, "1.1.0");
    is_served_by(&host, &outside, &new.digest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_rolled_back_is_not_promoted_again_by_a_look_nor_by_a_start() {
    for (behaviour, is_watched) in [("trap", true), ("tag-new", false)] {
        let (outside, folder) = (Outside::new().await, Folder::new());
        let setup = routed(&outside, &folder);
        let host = setup.clone().run().await;
        let old = host.active("router").await.digest;
        folder.manifest("1.1.0", behaviour);
        host.update(&setup).await.unwrap();
        if is_watched {
            for number in 0..3 {
                host.partner_says(&outside, &format!("w{number}"), &format!("watched {number}")).await;
            }
            host.sent_back("router", "1.1.0").await;
        } else {
            host.order("router", rollback()).await.unwrap();
        }
        let stays = async |host: &Host| {
            let reloaded = host.update(&setup).await.unwrap();
            assert!(reloaded.changed.is_empty(), "{behaviour}: {reloaded:?}");
            let why = only(&reloaded.kept_back, "router");
            assert!(why.starts_with("rolled back: "), "{behaviour}: {why}");
            is_served_by(host, &outside, &old).await;
        };
        stays(&host).await;
        let crashed: Crashed = host.crash();
        let host = crashed.restart().await;
        is_served_by(&host, &outside, &old).await;
        stays(&host).await;
        // The next one is judged by itself.
        folder.manifest("1.2.0", "tag-new");
        assert_eq!(host.update(&setup).await.unwrap().changed.len(), 1, "{behaviour}");
        assert_eq!(host.active("router").await.version, "1.2.0", "{behaviour}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_run_changes_nothing() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let (router, agent) = (host.active("router").await.digest, host.active("agent").await.digest);
    let told = (host.history("router").await.len(), host.history("agent").await.len());
    let refuses = |agent: &mut chela_engine::AgentConfig| {
        agent.config.insert("init".to_owned(), json!("error"));
    };
    let broken = [
        ("the guest refuses to start", setup.clone().with_agent("support", refuses)),
        (
            "the guest refuses to start",
            setup.clone().with_plugin("router", |plugin| {
                plugin.config.insert("init".to_owned(), json!("error"));
            }),
        ),
        // Anybody may write to a web chat, and nobody may answer him.
        (
            "[channel.web]",
            setup.clone().web_chat("web", "support").with_agent("support", |agent| {
                agent.outsiders = false;
            }),
        ),
        ("signing_secret", setup.clone().with_channel("partner", |channel| channel.secrets.clear())),
    ];
    // Also where another plugin's new version would be fine, whichever is looked at first.
    for is_new in [false, true] {
        for (expected, setup) in &broken {
            let mut setup = setup.clone();
            if is_new {
                folder.manifest("1.1.0", "tag-new");
                setup = setup.build("agent", ("agent", "1.1.0", "tag-new"));
            }
            match host.update(&setup).await {
                Err(error) => assert!(error.to_string().contains(expected), "{expected}: {error}"),
                Ok(done) => panic!("{expected}: {done:?}"),
            }
            is_served_by(&host, &outside, &router).await;
            assert_eq!(host.active("agent").await.digest, agent, "{expected}");
            assert_eq!(host.deployed("agent").await.to_string(), agent, "{expected}, new: {is_new}");
        }
    }
    // What was refused is told; nothing is said to have served.
    for (plugin, told) in [("router", told.0), ("agent", told.1)] {
        let since: Vec<String> =
            host.history(plugin).await.into_iter().skip(told).map(|event| event.happened.what).collect();
        assert!(since.iter().all(|what| what == "refused"), "{plugin}: {since:?}");
    }
    // Without the mistake, all of it serves.
    let reloaded = host.update(&setup.build("agent", ("agent", "1.1.0", "tag-new"))).await.unwrap();
    assert_eq!((reloaded.changed.len(), reloaded.waiting.len()), (2, 0), "{reloaded:?}");
    host.partner_says(&outside, "last", "the end").await;
    assert_eq!(host.closed("the end").await.reply.unwrap().text, "new the end new");
}
