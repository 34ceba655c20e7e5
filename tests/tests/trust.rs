//! Whose plugins may serve: what nobody signed runs apart or not at all, what was changed after it was signed is refused,
//! what is revoked begins no call from then on.

use chela_engine::{TrustConfig, TrustedKey, Unsigned};
use chela_sandbox::{PublicKey, SIGNATURE_FILE, SigningKey};
use chela_store::TurnState;
use chela_tests::folder::{Folder, is_served_by, routed};
use chela_tests::versions::promote;
use chela_tests::{Host, Outside, Setup, eventually};
use chela_types::DepartmentId;

/// Somebody signs what a folder holds.
fn sign(folder: &Folder, key: &SigningKey) {
    let manifest = std::fs::read_to_string(folder.path.join("plugin.toml")).unwrap();
    let component = std::fs::read(folder.component()).unwrap();
    let signature = key.sign(&manifest, &component).text();
    std::fs::write(folder.path.join(SIGNATURE_FILE), signature).unwrap();
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn trusts(trust: &mut TrustConfig, key: PublicKey, departments: Option<&[&str]>) {
    let of = |names: &[&str]| names.iter().map(|name| DepartmentId::new(*name).unwrap()).collect();
    let key_of = TrustedKey { name: "ada".to_owned(), departments: departments.map(of) };
    trust.keys.insert(key, key_of);
}

/// A host that refuses what nobody it trusts has signed, and trusts this key.
fn strict(setup: Setup, key: &SigningKey) -> Setup {
    let public = key.public();
    setup.with_trust(|trust| {
        trust.unsigned = Unsigned::Refused;
        trusts(trust, public, None);
    })
}

async fn refused(setup: Setup) -> String {
    setup.try_run().await.expect_err("it is refused").to_string()
}

async fn where_it_runs(host: &Host) -> (String, Option<String>) {
    let active = host.active("router").await;
    (active.isolation, active.signer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_runs_in_a_process_of_its_own_and_what_a_trusted_key_signed_here() {
    let (outside, folder, ada) = (Outside::new().await, Folder::new(), key());
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    assert_eq!(where_it_runs(&host).await, ("worker".to_owned(), None));
    is_served_by(&host, &outside, &host.active("router").await.digest).await;

    // A key that nobody here knows changes nothing about where it runs.
    sign(&folder, &ada);
    host.update(&setup).await.unwrap();
    let signer = Some(ada.public().to_string());
    assert_eq!(where_it_runs(&host).await, ("worker".to_owned(), signer.clone()));

    let setup = setup.with_trust(|trust| trusts(trust, ada.public(), None));
    let reloaded = host.update(&setup).await.unwrap();
    assert_eq!(reloaded.changed, ["plugin router is configured otherwise"]);
    assert_eq!(where_it_runs(&host).await, ("in-process".to_owned(), signer.clone()));
    is_served_by(&host, &outside, &host.active("router").await.digest).await;

    // What is kept is checked anew when the host starts.
    let digest = host.active("router").await.digest;
    let mut crashed = host.crash();
    crashed.setup = setup;
    let host = crashed.restart().await;
    assert_eq!(where_it_runs(&host).await, ("in-process".to_owned(), signer));
    is_served_by(&host, &outside, &digest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_after_it_was_signed_is_refused_even_where_nothing_must_be_signed() {
    let (outside, folder, ada) = (Outside::new().await, Folder::new(), key());
    sign(&folder, &ada);
    let setup = routed(&outside, &folder);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    folder.manifest("1.1.0", "tag-new");
    let reloaded = host.update(&setup).await.unwrap();
    assert!(reloaded.refused[0].1.contains("changed after it was signed"), "{reloaded:?}");
    is_served_by(&host, &outside, &old).await;

    // A change of the component alone, with the manifest that was signed.
    folder.manifest("1.0.0", "tag-old");
    let mut component = std::fs::read(folder.component()).unwrap();
    // A custom section more: the same code.
    component.extend([0, 2, 1, b'x']);
    std::fs::write(folder.component(), component).unwrap();
    let reloaded = host.update(&setup).await.unwrap();
    assert!(reloaded.refused[0].1.contains("changed after it was signed"), "{reloaded:?}");
    is_served_by(&host, &outside, &old).await;

    sign(&folder, &ada);
    let reloaded = host.update(&setup).await.unwrap();
    assert_eq!(reloaded.changed.len(), 1, "{reloaded:?}");
    assert_ne!(host.active("router").await.digest, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_must_be_signed_nothing_else_starts() {
    let (outside, folder, ada) = (Outside::new().await, Folder::new(), key());
    let setup = strict(routed(&outside, &folder), &ada);
    let why = refused(setup.clone()).await;
    assert!(why.contains("is not signed") && why.contains("chela plugin sign"), "{why}");

    sign(&folder, &key());
    let why = refused(setup.clone()).await;
    assert!(why.contains("no key of [trust.signer]"), "{why}");

    // An operator's word on where it runs does not make it trusted.
    let forced =
        setup.clone().with_plugin("router", |plugin| plugin.level = Some(chela_sandbox::Level::Worker));
    assert!(refused(forced).await.contains("no key of [trust.signer]"));

    let of_sales = setup.clone().with_trust(|trust| trusts(trust, ada.public(), Some(&["sales"])));
    sign(&folder, &ada);
    let why = refused(of_sales).await;
    assert!(why.contains("signs for sales") && why.contains("routing of the whole organisation"), "{why}");

    // A refusal is no version's mark for ever: what is signed then serves.
    let host = setup.run().await;
    assert_eq!(where_it_runs(&host).await, ("in-process".to_owned(), Some(ada.public().to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_build_in_a_folder_serves_as_soon_as_its_key_is_trusted() {
    let (outside, folder, ada, bob) = (Outside::new().await, Folder::new(), key(), key());
    sign(&folder, &ada);
    let setup = strict(routed(&outside, &folder), &ada);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    folder.manifest("1.1.0", "tag-new");
    sign(&folder, &bob);
    for _ in 0..2 {
        let reloaded = host.update(&setup).await.unwrap();
        assert!(reloaded.refused[0].1.contains("no key of [trust.signer]"), "{reloaded:?}");
    }
    let events = host.history("router").await;
    let refusals = events.iter().filter(|event| event.happened.what == "refused").count();
    assert_eq!(refusals, 1, "told once: {events:?}");
    is_served_by(&host, &outside, &old).await;
    // By hand it is refused, too.
    let by_hand = host.order("router", promote(folder.candidate())).await.unwrap_err();
    assert!(by_hand.to_string().contains("no key of [trust.signer]"), "{by_hand}");

    let setup = setup.with_trust(|trust| trusts(trust, bob.public(), None));
    host.update(&setup).await.unwrap();
    assert_eq!(host.active("router").await.version, "1.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_begins_no_call_and_what_takes_its_place_answers() {
    let (outside, folder, ada, bob) = (Outside::new().await, Folder::new(), key(), key());
    sign(&folder, &ada);
    let setup = strict(routed(&outside, &folder), &ada);
    let setup = setup.with_trust(|trust| trusts(trust, bob.public(), None));
    let host = setup.clone().run().await;
    is_served_by(&host, &outside, &host.active("router").await.digest).await;

    let setup = setup.with_trust(|trust| _ = trust.revoked_keys.insert(ada.public()));
    for _ in 0..2 {
        let reloaded = host.update(&setup).await.unwrap();
        assert!(reloaded.refused[0].1.contains("[trust] revoked names"), "{reloaded:?}");
    }
    let versions = host.plugin("router").await.versions;
    let closed: Vec<_> = versions.iter().filter(|version| version.state == "closed").collect();
    assert!(closed.len() == 1 && closed[0].reason.contains("[trust] revoked"), "{versions:?}");
    let events = host.history("router").await;
    assert_eq!(events.iter().filter(|event| event.happened.what == "closed").count(), 1, "told once");

    // A router that may not speak is overruled: the policy decides.
    host.partner_says(&outside, "t", "while it is closed.").await;
    let record = host.closed("while it is closed.").await;
    let overruled = record.decisions[0].1.overruled.clone().unwrap_or_default();
    assert!(overruled.contains("not trusted any more"), "{record:?}");

    folder.manifest("1.1.0", "tag-new");
    sign(&folder, &bob);
    host.update(&setup).await.unwrap();
    assert_eq!(host.active("router").await.version, "1.1.0");
    is_served_by(&host, &outside, &host.active("router").await.digest).await;
    // Nothing leads back to what was revoked.
    let back = host.order("router", chela_tests::versions::rollback()).await.unwrap_err();
    assert!(back.to_string().contains("[trust] revoked names"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_an_agent_that_was_closed_waits_for_what_takes_its_place() {
    let (outside, ada) = (Outside::new().await, key());
    let parent = tempfile::tempdir().unwrap();
    let path = chela_tests::guests::get("agent").folder(parent.path());
    let write = |version: &str| {
        let guest = chela_tests::guests::get("agent");
        let manifest = guest.manifest_of(version, "echo");
        let component = std::fs::read(path.join("agent.wasm")).unwrap();
        std::fs::write(path.join("plugin.toml"), &manifest).unwrap();
        let signature = ada.sign(&manifest, &component).text();
        std::fs::write(path.join(SIGNATURE_FILE), signature).unwrap();
    };
    write("1.0.0");
    let public = ada.public();
    let setup = chela_tests::host(&outside)
        .agent("support", "agent")
        .with_plugin("agent", |plugin| plugin.source = chela_sandbox::Source::Folder(path.clone()))
        .webhook("partner", "support")
        .with_trust(|trust| trusts(trust, public, None));
    let host = setup.clone().run().await;
    let component = chela_tests::guests::kept_as(&std::fs::read(path.join("agent.wasm")).unwrap());
    let revoked = setup.clone().with_trust(|trust| _ = trust.revoked_components.insert(component));
    host.update(&revoked).await.unwrap();
    let expected = outside.partner.expect("t");
    host.partner_says(&outside, "t", "is anybody there?").await;
    eventually("it has been tried", async || {
        host.find("is anybody there?").await.is_some_and(|record| record.waits > 1)
    })
    .await;
    // The operator thinks better of it.
    host.update(&setup).await.unwrap();
    let answer = tokio::time::timeout(chela_tests::PATIENCE, expected).await.unwrap().unwrap();
    assert!(!answer.reply.text.is_empty());
    let record = host.closed("is anybody there?").await;
    assert_eq!((record.state, record.tries), (TurnState::Delivered, 0), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_of_the_same_version_and_a_lower_one_do_not_pass_for_new() {
    let (outside, folder, ada) = (Outside::new().await, Folder::with("1.1.0", "tag-old"), key());
    sign(&folder, &ada);
    let setup = strict(routed(&outside, &folder), &ada);
    let host = setup.clone().run().await;
    let old = host.active("router").await.digest;
    for (version, why) in
        [("1.1.0", "a new build needs a new version"), ("1.0.9", "would go from version 1.1.0 back")]
    {
        folder.manifest(version, "tag-new");
        sign(&folder, &ada);
        let reloaded = host.update(&setup).await.unwrap();
        assert!(reloaded.waiting[0].1.contains(why), "{reloaded:?}");
        let by_hand = host.order("router", promote(folder.candidate())).await.unwrap_err();
        assert!(by_hand.to_string().contains(why), "{by_hand}");
        is_served_by(&host, &outside, &old).await;
    }
    let order = chela_engine::Order::Promote {
        candidate: folder.candidate(),
        approve: false,
        downgrade: true,
        unproven: false,
    };
    host.order("router", order).await.unwrap();
    assert_eq!(host.active("router").await.version, "1.0.9");
}
