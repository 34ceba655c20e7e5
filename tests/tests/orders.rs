//! What operators order of a plugin's versions, and what stays of it: whatever a folder holds, whatever another changes
//! meanwhile, whatever kind of plugin it is.

use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Candidate, Error, Order, PluginStatus, Reload, ReplayRequest, SwapRefused};
use chela_sandbox::Source;
use chela_store::{Deploy, Deployment};
use chela_tests::folder::{Folder, is_served_by, routed};
use chela_tests::versions::{canary, promote, rollback};
use chela_tests::{Host, Outside, Setup, eventually, guests, host};
use chela_types::{AgentId, TenantId};
use tokio::task::JoinHandle;

/// A plugin's own folder, and another one with another build of the same version: no number keeps what lies in the own one
/// from coming back.
async fn from_elsewhere() -> (Outside, Folder, Folder) {
    (Outside::new().await, Folder::new(), Folder::with("1.0.0", "tag-new"))
}

/// Two looks into a folder that change nothing.
async fn stays(host: &Host, outside: &Outside, (setup, digest): (&Setup, &str)) {
    for _ in 0..2 {
        let reloaded = host.update(setup).await.unwrap();
        assert!(reloaded.changed.is_empty() && reloaded.refused.is_empty(), "{reloaded:?}");
        is_served_by(host, outside, digest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_from_elsewhere_is_not_undone_by_a_look_into_the_plugins_own_folder() {
    let (outside, folder, elsewhere) = from_elsewhere().await;
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    let new = host.active("router").await;
    assert_ne!(new.digest, old);
    stays(&host, &outside, (&setup, &new.digest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_from_elsewhere_is_not_undone_by_a_start() {
    let (outside, folder, elsewhere) = from_elsewhere().await;
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    let new = host.active("router").await.digest;
    // Where it came from is not needed any more.
    drop(elsewhere);
    let host = host.crash().restart().await;
    stays(&host, &outside, (&setup, &new)).await;
    let host = host.stop().await.restart().await;
    stays(&host, &outside, (&setup, &new)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_from_elsewhere_is_not_undone_by_other_settings() {
    let (outside, folder, elsewhere) = from_elsewhere().await;
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    let setup = setup.with_plugin("router", |plugin| plugin.limits.memory_bytes = 16 << 20);
    let reloaded = host.update(&setup).await.unwrap();
    assert_eq!(reloaded.changed, ["plugin router is configured otherwise"]);
    let new = host.active("router").await;
    stays(&host, &outside, (&setup, &new.digest)).await;
    let mut crashed = host.crash();
    crashed.setup = setup.clone();
    stays(&crashed.restart().await, &outside, (&setup, &new.digest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_promotion_from_elsewhere_the_next_build_in_the_plugins_own_folder_serves() {
    let (outside, folder, elsewhere) = from_elsewhere().await;
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    folder.manifest("1.2.0", "tag-newer");
    assert_eq!(host.update(&setup).await.unwrap().changed.len(), 1);
    assert_eq!(host.active("router").await.version, "1.2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_what_came_from_elsewhere_is_not_undone_either() {
    let (outside, folder, elsewhere) = from_elsewhere().await;
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    host.order("router", rollback()).await.unwrap();
    stays(&host, &outside, (&setup, &old)).await;
    stays(&host.crash().restart().await, &outside, (&setup, &old)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_by_its_digest_is_not_undone_by_the_newer_build_in_the_folder() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    folder.manifest("1.1.0", "tag-new");
    host.update(&setup).await.unwrap();
    let candidate = Candidate { digest: Some(old[..8].to_owned()), ..Candidate::default() };
    let order = Order::Promote { candidate, approve: false, downgrade: true, unproven: false };
    host.order("router", order).await.unwrap();
    stays(&host, &outside, (&setup, &old)).await;
    stays(&host.crash().restart().await, &outside, (&setup, &old)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_adapter_has_no_shadow() {
    let outside = Outside::new().await;
    let setup = host(&outside)
        .agent("support", "agent")
        .guest_channel("guest", "honest", "support")
        .with_channel("guest", |channel| drop(channel.config.remove("behaviour")))
        .with_swap(|swap| swap.reload = Reload::Manual)
        .build("channel", ("channel", "1.0.0", "honest"));
    let host = setup.clone().run().await;
    host.update(&setup.build("channel", ("channel", "1.1.0", "honest"))).await.unwrap();
    let before = host.plugin("channel").await;
    match host.order("channel", Order::Shadow { candidate: Candidate::default() }).await {
        Err(Error::Swap(SwapRefused::NoShadow { plugin })) => assert_eq!(plugin.as_str(), "channel"),
        other => panic!("{other:?}"),
    }
    assert_eq!(host.plugin("channel").await, before, "nothing has changed");
    // What it is told to do instead.
    host.order("channel", canary(50)).await.unwrap();
    assert_eq!(host.version("channel", "1.1.0").await.share, Some(50));
}

/// Promotes a build that nobody has compiled yet, and that takes its time for it; returns as soon as that has begun.
async fn slow_promotion(
    host: &Arc<Host>,
    elsewhere: &Folder,
    version: &str,
) -> JoinHandle<Result<PluginStatus, Error>> {
    let manifest = guests::get("router").manifest_of(version, "tag-new");
    elsewhere.write(&format!("{manifest}init = \"slow\"\nnever = \"{}\"\n", uuid::Uuid::now_v7()));
    let (ordering, candidate) = (Arc::clone(host), elsewhere.candidate());
    let ordering = tokio::spawn(async move { ordering.order("router", promote(candidate)).await });
    eventually("it is being loaded", async || {
        host.plugin("router").await.versions.iter().any(|version| version.state == "loading")
    })
    .await;
    ordering
}

/// What is written down of the router.
async fn deployment(host: &Host) -> Deployment {
    let deployments = host.store.deployments(&TenantId::default_tenant()).await.unwrap();
    deployments.into_iter().find(|it| it.plugin.as_str() == "router").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_promotion_stands_what_has_shown_that_it_works_while_that_was_loaded() {
    let (outside, folder, elsewhere) = (Outside::new().await, Folder::new(), Folder::new());
    let setup = routed(&outside, &folder).with_swap(|swap| swap.trial_calls = 1);
    let host = Arc::new(setup.clone().run().await);
    let first = deployment(&host).await.active;
    folder.manifest("1.1.0", "tag-newer");
    host.update(&setup).await.unwrap();
    let on_trial = deployment(&host).await;
    assert_eq!(on_trial.proven, first);
    let ordering = slow_promotion(&host, &elsewhere, "1.2.0").await;
    is_served_by(&host, &outside, &on_trial.active.unwrap().to_string()).await;
    assert!(!ordering.is_finished(), "the message was quicker");
    ordering.await.unwrap().unwrap();
    assert_eq!(deployment(&host).await.proven, on_trial.active);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_refused_whose_plugin_another_changed_meanwhile_and_can_be_given_again() {
    let (outside, folder, elsewhere) = (Outside::new().await, Folder::new(), Folder::new());
    let host = Arc::new(routed(&outside, &folder).run().await);
    let old = host.active("router").await.digest;
    let ordering = slow_promotion(&host, &elsewhere, "1.1.0").await;
    let tenant = TenantId::default_tenant();
    let deployment = deployment(&host).await;
    let by = "another node".to_owned();
    let other = Deploy { tenant, deployment, by, states: Vec::new(), happened: Vec::new() };
    host.store.deploy(other).await.unwrap();
    let refused = ordering.await.unwrap();
    assert!(matches!(refused, Err(Error::Store(chela_store::Error::Changed(_)))), "{refused:?}");
    is_served_by(&host, &outside, &old).await;
    host.order("router", promote(elsewhere.candidate())).await.unwrap();
    let new = host.active("router").await;
    assert_eq!(new.version, "1.1.0");
    is_served_by(&host, &outside, &new.digest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_gets_at_most_a_hundred_percent() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder).with_swap(|swap| swap.reload = Reload::Manual);
    let host = setup.clone().run().await;
    folder.manifest("1.1.0", "tag-new");
    host.update(&setup).await.unwrap();
    let before = host.plugin("router").await;
    let refused = host.order("router", canary(101)).await;
    assert!(matches!(refused, Err(Error::Swap(SwapRefused::Percent(101)))), "{refused:?}");
    assert_eq!(host.plugin("router").await, before, "nothing has changed");
    host.order("router", canary(100)).await.unwrap();
    let new = host.version("router", "1.1.0").await;
    assert_eq!(new.share, Some(100));
    host.partner_says(&outside, "t1", "hello").await;
    assert_eq!(host.closed("hello").await.decisions[0].1.reason, "tag-new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_would_post_elsewhere_or_believe_others_waits_for_approval() {
    let outside = Outside::new().await;
    let setup = host(&outside)
        .agent("support", "agent")
        .guest_channel("guest", "honest", "support")
        .build("channel", ("channel", "1.0.0", "honest"));
    let host = setup.clone().run().await;
    let old = host.active("channel").await.digest;
    let guest = guests::get("channel");
    let plain = guest.manifest_of("1.1.0", "honest");
    for (from, to) in [
        // The operator may say nothing of it: then the host's own credential would go there.
        ("base_url = \"http://127.0.0.1:9\"", "base_url = \"http://127.0.0.1:10\""),
        ("url = \"{base_url}/post\"", "url = \"{base_url}/elsewhere\""),
        ("credential = { bearer = \"token\" }", ""),
    ] {
        assert!(plain.contains(from), "{from}");
        let manifest = plain.replacen(from, to, 1);
        let component = bytes::Bytes::from_static(guest.component);
        let source = Source::Embedded { manifest, component };
        let reloaded =
            host.update(&setup.clone().with_plugin("channel", |plugin| plugin.source = source)).await;
        let waiting = reloaded.unwrap().waiting;
        assert!(waiting.iter().any(|(_, why)| why.contains("asks for more")), "{to}: {waiting:?}");
        assert_eq!(host.active("channel").await.digest, old, "{to}");
    }
    // The same tables in a later version are nothing to ask about.
    host.update(&setup.build("channel", ("channel", "1.2.0", "honest"))).await.unwrap();
    assert_eq!(host.active("channel").await.version, "1.2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_outlives_the_turns_that_it_ran_and_then_goes_with_their_words() {
    let (outside, folder) = (Outside::new().await, Folder::new());
    let setup = routed(&outside, &folder).with_swap(|swap| swap.trial_calls = 1);
    let host = setup.clone().run().await;
    let ran = host.active("router").await.digest;
    is_served_by(&host, &outside, &ran).await;
    let mut idle = String::new();
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        folder.manifest(version, "tag-newer");
        host.update(&setup).await.unwrap();
        if idle.is_empty() {
            idle = host.active("router").await.digest;
        }
    }
    // Nothing stands behind this one but itself, once it has shown that it works and another serves.
    is_served_by(&host, &outside, &host.active("router").await.digest).await;
    folder.manifest("1.4.0", "tag-newer");
    host.update(&setup).await.unwrap();
    let kept = async |host: &Host| -> Vec<bool> {
        let versions = host.plugin("router").await.versions;
        [&ran, &idle].map(|digest| versions.iter().any(|version| version.digest == *digest)).to_vec()
    };
    let host = host.stop().await.restart().await;
    assert_eq!(kept(&host).await, [true, true], "neither is old enough");
    let mut stopped = host.stop().await;
    stopped.setup = setup.clone().keeps(None, Duration::ZERO);
    let host = stopped.restart().await;
    eventually("what nothing names goes", async || kept(&host).await == [true, false]).await;
    let turn = host.store.recent_turns(1).await.unwrap()[0];
    let words = async |host: &Host| host.store.turn_record(turn).await.unwrap().unwrap().message;
    assert!(words(&host).await.is_some());
    let mut stopped = host.stop().await;
    stopped.setup = setup.keeps(Some(Duration::ZERO), Duration::ZERO);
    let host = stopped.restart().await;
    eventually("it goes", async || kept(&host).await == [false, false]).await;
    assert_eq!(words(&host).await, None);
    let again = ReplayRequest { agent: Some(AgentId::new("support").unwrap()), ..ReplayRequest::default() };
    let report = host.replay(&again).await.unwrap();
    assert_eq!((report.turns, report.same, report.purged), (2, 0, 2), "{report:?}");
}
