//! Versions of plugins, deployments, events, and what a purge takes.

use super::*;
use crate::event::{Append, prepare};
use crate::version::Purge;
use crate::{Deploy, Deployment, Event, Happened, Named, Version, VersionState};
use bytes::Bytes;
use chela_types::{Clock, PluginId};
use sqlx::Row;

pub(super) fn plugin(name: &str) -> PluginId {
    PluginId::new(name).unwrap()
}

pub(super) fn digest(of: &str) -> Digest {
    Digest::of("test version", &[of.as_bytes()])
}

pub(super) fn version(of: &str, since: i64) -> Version {
    Version {
        plugin: plugin("hr"),
        digest: digest(of),
        kind: "agent".into(),
        version: "1.2.3".into(),
        component: Digest::of("chela 2026 component", &[of.as_bytes()]),
        component_bytes: of.len() as u64,
        manifest: format!("name = \"{of}\""),
        provenance: format!("signed by {of}"),
        settings: r#"{"tier":"fast"}"#.into(),
        asks: vec!["models".into(), "memory".into()],
        state: VersionState::Ready,
        reason: String::new(),
        since: Millis(since),
        by: "folder".into(),
        noticed: Millis(since),
    }
}

fn happened(what: &str) -> Happened {
    Happened {
        plugin: Some(plugin("hr")),
        digest: Some(digest(what)),
        what: what.into(),
        by: "ada".into(),
        why: "because".into(),
        detail: serde_json::json!({ "what": what }),
    }
}

fn deployment(revision: u64, active: &str) -> Deployment {
    Deployment {
        plugin: plugin("hr"),
        revision,
        active: Some(digest(active)),
        before: None,
        proven: None,
        canary: None,
        shadow: None,
        noticed: None,
        since: Millis(77),
        by: "ada".into(),
        why: "better".into(),
    }
}

fn deploy(deployment: Deployment) -> Deploy {
    let happened = vec![happened("promoted")];
    Deploy { tenant: tenant(), deployment, by: "ada".into(), states: Vec::new(), happened }
}

pub(super) async fn keep(b: &Bench, versions: &[&str]) {
    for (n, of) in versions.iter().enumerate() {
        b.store.keep_version(&tenant(), version(of, n as i64)).await.unwrap();
    }
}

async fn state(b: &Bench, of: &str) -> Option<(VersionState, String, Millis, String)> {
    let kept = b.store.version(&tenant(), &plugin("hr"), digest(of)).await.unwrap()?;
    Some((kept.state, kept.reason, kept.since, kept.by))
}

fn whats(events: &[Event]) -> Vec<(u64, &str)> {
    events.iter().map(|event| (event.seq, event.happened.what.as_str())).collect()
}

fn other() -> TenantId {
    TenantId::new("other").unwrap()
}

#[tokio::test]
async fn a_version_is_kept_once_under_its_digest() {
    let b = bench().await;
    let (first, hr) = (version("a", 5), plugin("hr"));
    b.store.keep_version(&tenant(), first.clone()).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(b.store.version(&tenant(), &hr, digest("a")).await.unwrap(), Some(first.clone()));
    for (whose, plugin, digest) in
        [(other(), &hr, digest("a")), (tenant(), &plugin("it"), digest("a")), (tenant(), &hr, digest("b"))]
    {
        assert_eq!(b.store.version(&whose, plugin, digest).await.unwrap(), None);
    }
    let again = Version {
        kind: "router".into(),
        version: "2.0.0".into(),
        component: digest("component"),
        component_bytes: 99,
        manifest: "m".into(),
        provenance: "builtin".into(),
        settings: "{}".into(),
        asks: Vec::new(),
        state: VersionState::Waiting,
        reason: "asks for more".into(),
        since: Millis(8),
        by: "ada".into(),
        noticed: Millis(7),
        ..first.clone()
    };
    b.store.keep_version(&tenant(), again.clone()).await.unwrap();
    let kept = Version { asks: Vec::new(), noticed: Millis(7), provenance: "builtin".into(), ..first };
    assert_eq!(
        b.store.versions(&tenant(), None, 10).await.unwrap(),
        [kept],
        "how it stands is a deployment's"
    );
}

#[tokio::test]
async fn versions_come_newest_first() {
    let b = bench().await;
    for (of, since) in [("a", 5), ("b", 9), ("c", 5), ("d", 1)] {
        b.store.keep_version(&tenant(), version(of, since)).await.unwrap();
    }
    let it = Version { plugin: plugin("it"), ..version("e", 7) };
    b.store.keep_version(&tenant(), it).await.unwrap();
    b.store.keep_version(&other(), version("f", 8)).await.unwrap();
    let newest = async |plugin: Option<&PluginId>, limit| {
        let found = b.store.versions(&tenant(), plugin, limit).await.unwrap();
        found.into_iter().map(|version| version.digest).collect::<Vec<_>>()
    };
    assert_eq!(newest(Some(&plugin("hr")), 10).await, ["b", "c", "a", "d"].map(digest));
    assert_eq!(newest(None, 3).await, ["b", "e", "c"].map(digest));
    assert_eq!(newest(Some(&plugin("none")), 3).await, []);
}

#[tokio::test]
async fn the_first_digits_of_a_digest_name_a_version_or_say_why_not() {
    let b = bench().await;
    let like = |first: [u8; 3], last: u8| {
        let mut bytes = [last; 32];
        bytes[..3].copy_from_slice(&first);
        Version { digest: Digest::from_bytes(bytes), ..version("x", i64::from(last)) }
    };
    let (one, two, edge) =
        (like([0xab, 0xcd, 0x11], 0), like([0xab, 0xcd, 0x12], 0xff), like([0xff; 3], 0xff));
    let elsewhere = Version { plugin: plugin("it"), ..like([0xab, 0xcd, 0x13], 1) };
    for kept in [&one, &two, &edge, &elsewhere] {
        b.store.keep_version(&tenant(), kept.clone()).await.unwrap();
    }
    let named = async |digits: &str| b.store.named_version(&tenant(), &plugin("hr"), digits).await.unwrap();
    let found = |version: &Version| Named::One(Box::new(version.clone()));
    for (digits, expected) in [
        ("", Named::TooShort),
        ("abc", Named::TooShort),
        ("abcd", Named::Several),
        ("abcd1", Named::Several),
        ("abcd11", found(&one)),
        ("ABCD12", found(&two)),
        (&two.digest.to_string(), found(&two)),
        (&format!("{}0", two.digest), Named::None),
        ("ffff", found(&edge)),
        ("abcd13", Named::None),
        ("abcd1x", Named::None),
        ("äbcd11", Named::None),
    ] {
        assert_eq!(named(digits).await, expected, "`{digits}`");
    }
    assert_eq!(b.store.named_version(&other(), &plugin("hr"), "ffff").await.unwrap(), Named::None);
}

#[tokio::test]
async fn a_version_is_found_by_its_digest_whoever_came_after_it_and_whose_it_is() {
    let b = bench().await;
    keep(&b, &["a", "b", "c"]).await;
    let of_any = async |tenant, of| b.store.version_of_any(&tenant, digest(of)).await.unwrap();
    assert_eq!(of_any(tenant(), "a").await, Some(version("a", 0)));
    assert_eq!(of_any(tenant(), "d").await, None);
    assert_eq!(of_any(other(), "a").await, None);
}

#[tokio::test]
async fn words_of_a_state_survive_text_and_json() {
    use VersionState::{Ready, Refused, Retired, Waiting};
    for (state, word) in [(Ready, "ready"), (Waiting, "waiting"), (Refused, "refused"), (Retired, "retired")]
    {
        assert_eq!((state.as_str(), word.parse::<VersionState>().unwrap()), (word, state));
        assert_eq!(serde_json::to_value(state).unwrap(), word);
    }
    assert!(matches!("Ready".parse::<VersionState>(), Err(Error::Unreadable(_))));
}

#[tokio::test]
async fn a_deployment_is_changed_from_the_revision_that_was_seen() {
    let b = bench().await;
    keep(&b, &["a", "b", "c", "d", "e"]).await;
    let first = b.store.deploy(deploy(deployment(0, "a"))).await.unwrap();
    assert_eq!(first, deployment(1, "a"));
    let full = Deployment {
        active: Some(digest("b")),
        before: Some(digest("a")),
        proven: Some(digest("e")),
        canary: Some((digest("c"), 5)),
        shadow: Some(digest("d")),
        noticed: Some(digest("e")),
        ..first.clone()
    };
    let second = b.store.deploy(deploy(full.clone())).await.unwrap();
    assert_eq!(second, Deployment { revision: 2, ..full });
    for stale in [0, 1, 3] {
        let refused = b.store.deploy(deploy(deployment(stale, "c"))).await.unwrap_err();
        assert!(matches!(&refused, Error::Changed(name) if *name == plugin("hr")), "{refused}");
    }
    let b = b.crashed().await;
    assert_eq!(b.store.deployments(&tenant()).await.unwrap(), [second]);
    assert_eq!(b.store.deployments(&other()).await.unwrap(), []);
    let told = b.store.events(&tenant(), 0, None, 10).await.unwrap();
    assert_eq!(whats(&told), [(1, "promoted"), (2, "promoted")], "what was refused did not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_at_once_one_is_made() {
    let b = bench().await;
    keep(&b, &["a", "b"]).await;
    b.store.deploy(deploy(deployment(0, "a"))).await.unwrap();
    let tasks = (0..20).map(|_| {
        let store = b.store.clone();
        tokio::spawn(async move { store.deploy(deploy(deployment(1, "b"))).await })
    });
    let answers = futures::future::join_all(tasks).await;
    let made = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
    assert_eq!((made, b.store.deployments(&tenant()).await.unwrap()[0].revision), (1, 2));
    assert_eq!(b.store.events(&tenant(), 0, None, 99).await.unwrap().len(), 2);
}

#[tokio::test]
async fn states_change_with_the_deployment_or_not_at_all() {
    let b = bench().await;
    keep(&b, &["a", "b"]).await;
    let moved = |revision, active: &str, states| Deploy {
        states,
        ..deploy(Deployment { before: Some(digest("a")), ..deployment(revision, active) })
    };
    let retired = |of: &str| (digest(of), VersionState::Retired, "another took its place".to_owned());
    let ready = (digest("b"), VersionState::Ready, "approved".to_owned());
    b.store.deploy(moved(0, "b", vec![retired("a"), ready.clone()])).await.unwrap();
    let now = b.clock.now();
    let words = |text: &str| text.to_owned();
    assert_eq!(
        state(&b, "a").await,
        Some((VersionState::Retired, words("another took its place"), now, words("ada")))
    );
    assert_eq!(
        state(&b, "b").await,
        Some((VersionState::Ready, words("approved"), Millis(1), words("folder"))),
        "it stood so before"
    );
    assert!(matches!(b.store.deploy(moved(0, "b", vec![retired("b")])).await, Err(Error::Changed(_))));
    let unknown = b.store.deploy(moved(1, "b", vec![retired("b"), retired("nothing")])).await;
    assert!(matches!(unknown, Err(Error::NoVersion { digest: named, .. }) if named == digest("nothing")));
    assert_eq!(state(&b, "b").await.unwrap().0, VersionState::Ready);
}

#[tokio::test]
async fn who_begins_a_canary_or_a_shadow_and_when_is_told_of_its_version() {
    let b = bench().await;
    keep(&b, &["a", "b", "c"]).await;
    let beside =
        Deployment { canary: Some((digest("b"), 5)), shadow: Some(digest("c")), ..deployment(0, "a") };
    let ready = |of: &str| (digest(of), VersionState::Ready, String::new());
    let begun = Deploy { by: "bea".into(), states: ["a", "b", "c"].map(ready).to_vec(), ..deploy(beside) };
    b.store.deploy(begun).await.unwrap();
    let who = async |of: &str| state(&b, of).await.map(|(_, _, since, by)| (since, by)).unwrap();
    assert_eq!(who("a").await, (Millis(0), "folder".to_owned()));
    assert_eq!(who("b").await, (b.clock.now(), "bea".to_owned()));
    assert_eq!(who("c").await, (b.clock.now(), "bea".to_owned()));
}

#[tokio::test]
async fn of_several_plugins_all_change_or_none() {
    let b = bench().await;
    keep(&b, &["a"]).await;
    let it = Version { plugin: plugin("it"), ..version("a", 1) };
    b.store.keep_version(&tenant(), it).await.unwrap();
    let second = |revision| Deployment { plugin: plugin("it"), ..deployment(revision, "a") };
    let stale = vec![deploy(deployment(0, "a")), deploy(second(1))];
    assert!(matches!(b.store.deploy_all(stale).await, Err(Error::Changed(name)) if name == plugin("it")));
    assert_eq!(b.store.deployments(&tenant()).await.unwrap(), []);
    assert!(b.store.events(&tenant(), 0, None, 9).await.unwrap().is_empty());
    let both = vec![deploy(deployment(0, "a")), deploy(second(0))];
    let made = b.store.deploy_all(both).await.unwrap();
    assert_eq!(made.iter().map(|made| made.revision).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(b.store.deployments(&tenant()).await.unwrap(), made);
}

#[tokio::test]
async fn a_version_that_is_not_kept_cannot_be_deployed() {
    let b = bench().await;
    keep(&b, &["a"]).await;
    b.store.keep_version(&other(), version("theirs", 1)).await.unwrap();
    let its = Version { plugin: plugin("it"), ..version("its", 1) };
    b.store.keep_version(&tenant(), its).await.unwrap();
    for of in ["nothing", "theirs", "its"] {
        let named = Some(digest(of));
        let with_a = deployment(0, "a");
        for wrong in [
            Deployment { active: named, ..with_a.clone() },
            Deployment { before: named, ..with_a.clone() },
            Deployment { proven: named, ..with_a.clone() },
            Deployment { canary: named.map(|digest| (digest, 1)), ..with_a.clone() },
            Deployment { shadow: named, ..with_a.clone() },
            Deployment { noticed: named, ..with_a },
        ] {
            let refused = b.store.deploy(deploy(wrong)).await.unwrap_err();
            assert!(matches!(refused, Error::NoVersion { digest: found, .. } if found == digest(of)));
        }
    }
    let canary = |percent| Deployment { canary: Some((digest("a"), percent)), ..deployment(0, "a") };
    assert!(matches!(b.store.deploy(deploy(canary(101))).await, Err(Error::Invalid(_))));
    assert!(b.store.deployments(&tenant()).await.unwrap().is_empty());
    assert!(b.store.events(&tenant(), 0, None, 9).await.unwrap().is_empty());
    assert_eq!(b.store.deploy(deploy(canary(100))).await.unwrap().canary, Some((digest("a"), 100)));
}

#[tokio::test]
async fn a_crash_leaves_exactly_one_active_version_and_its_event() {
    let Bench { store, clock, folder } = bench().await;
    let b = Bench { store, clock, folder };
    keep(&b, &["a", "b"]).await;
    b.store.deploy(deploy(deployment(0, "a"))).await.unwrap();
    // Sent, and nobody waits for it any more.
    let mut change = Box::pin(b.store.deploy(deploy(deployment(1, "b"))));
    assert!(futures::poll!(&mut change).is_pending());
    drop(change);
    let killed = b.killed();
    let Bench { store, clock, folder } = b;
    drop(store);
    for folder in [folder, killed] {
        let store = open(&folder, &clock).await.unwrap();
        let found = store.deployments(&tenant()).await.unwrap();
        assert_eq!(found.len(), 1);
        let events = store.events(&tenant(), 0, None, 9).await.unwrap().len() as u64;
        let active = if found[0].revision == 1 { "a" } else { "b" };
        assert_eq!((found[0].revision, found[0].active), (events, Some(digest(active))));
    }
}

#[tokio::test]
async fn what_nodes_have_is_told_by_them() {
    let b = bench().await;
    let (hr, it) = (plugin("hr"), plugin("it"));
    b.store.observe(&tenant(), "n2", &hr, digest("a")).await.unwrap();
    b.store.observe(&tenant(), "n1", &it, digest("x")).await.unwrap();
    b.store.observe(&other(), "n1", &hr, digest("y")).await.unwrap();
    b.clock.advance(Duration::from_millis(5));
    b.store.observe(&tenant(), "n2", &hr, digest("b")).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(
        b.store.observed(&tenant()).await.unwrap(),
        [
            ("n1".to_owned(), it, digest("x"), Millis(1_000_000)),
            ("n2".to_owned(), hr, digest("b"), Millis(1_000_005))
        ]
    );
}

#[tokio::test]
async fn events_are_read_from_both_ends() {
    let b = bench().await;
    let of = |name: Option<&str>, what: &str| Happened { plugin: name.map(plugin), ..happened(what) };
    for (name, what) in [(Some("hr"), "one"), (None, "two"), (Some("it"), "three"), (Some("hr"), "four")] {
        b.store.happened(&tenant(), of(name, what)).await.unwrap();
    }
    b.store.happened(&other(), of(None, "theirs")).await.unwrap();
    let hr = plugin("hr");
    let (all, one) = (None, Some(&hr));
    let after = async |seq, plugin, limit| b.store.events(&tenant(), seq, plugin, limit).await.unwrap();
    let newest = async |plugin, limit| b.store.newest_events(&tenant(), plugin, limit).await.unwrap();
    assert_eq!(whats(&after(0, all, 2).await), [(1, "one"), (2, "two")]);
    assert_eq!(whats(&after(2, all, 9).await), [(3, "three"), (4, "four")]);
    assert_eq!(whats(&after(0, one, 9).await), [(1, "one"), (4, "four")]);
    assert_eq!(whats(&after(1, one, 9).await), [(4, "four")]);
    assert_eq!(whats(&newest(all, 3).await), [(2, "two"), (3, "three"), (4, "four")]);
    assert_eq!(whats(&newest(one, 1).await), [(4, "four")]);
    assert_eq!(whats(&b.store.events(&other(), 0, None, 9).await.unwrap()), [(1, "theirs")]);
    let event = &after(0, all, 1).await[0];
    let json = serde_json::to_string(event).unwrap();
    assert_eq!(&serde_json::from_str::<Event>(&json).unwrap(), event);
    assert_eq!((event.at, &event.happened), (Millis(1_000_000), &of(Some("hr"), "one")));
}

#[tokio::test]
async fn the_oldest_events_go_as_new_ones_come() {
    let b = bench().await;
    b.store.happened(&other(), happened("theirs")).await.unwrap();
    for ten in 0..100 {
        let events = (1..=10).map(|n| happened(&(ten * 10 + n).to_string())).collect();
        let append = Append { tenant: tenant(), events: prepare(events).unwrap(), max: 100 };
        b.store.commit(append).await.unwrap();
    }
    let kept = b.store.events(&tenant(), 0, None, 1_000).await.unwrap();
    let wanted: Vec<_> = (901..=1_000).map(|n: u64| (n, n.to_string())).collect();
    assert_eq!(whats(&kept), wanted.iter().map(|(n, what)| (*n, what.as_str())).collect::<Vec<_>>());
    assert_eq!(b.store.events(&other(), 0, None, 9).await.unwrap().len(), 1, "a tenant's own");
    b.store.happened(&tenant(), happened("more")).await.unwrap();
    assert_eq!(whats(&b.store.newest_events(&tenant(), None, 1).await.unwrap()), [(1_001, "more")]);
}

#[tokio::test]
async fn long_words_are_cut_and_a_large_detail_is_refused() {
    let b = bench().await;
    let long = format!("a{}", "ä".repeat(300));
    let cut = format!("a{}", "ä".repeat(249));
    let kept = Version { reason: long.clone(), ..version("a", 1) };
    let told = Happened { why: long.clone(), ..happened("loaded") };
    b.store.keep_version(&tenant(), kept).await.unwrap();
    assert_eq!(state(&b, "a").await.unwrap().1, cut);
    let wanted = Deploy {
        states: vec![(digest("a"), VersionState::Retired, "b".repeat(501))],
        happened: vec![told],
        ..deploy(Deployment { why: long, ..deployment(0, "a") })
    };
    assert_eq!(b.store.deploy(wanted.clone()).await.unwrap().why, cut);
    assert_eq!(state(&b, "a").await.unwrap().1, "b".repeat(500));
    assert_eq!(b.store.events(&tenant(), 0, None, 1).await.unwrap()[0].happened.why, cut);

    // Two of the bytes are the quotes.
    let sized = |bytes: usize| Happened { detail: "d".repeat(bytes - 2).into(), ..happened("large") };
    b.store.happened(&tenant(), sized(64 << 10)).await.unwrap();
    let large = || sized((64 << 10) + 1);
    let second = Deploy { deployment: deployment(1, "a"), happened: vec![large()], ..wanted };
    for refused in [b.store.happened(&tenant(), large()).await, b.store.deploy(second).await.map(|_| ())] {
        assert!(matches!(refused, Err(Error::TooLarge { max: 65_536, .. })));
    }
    assert_eq!(state(&b, "b").await, None);
    assert_eq!(b.store.deployments(&tenant()).await.unwrap()[0].revision, 1);
}

/// Keeps versions that may go, as far as they themselves say, each with its component.
pub(super) async fn left_behind(b: &Bench, versions: &[&str]) {
    for of in versions {
        let kept = Version { state: VersionState::Retired, ..version(of, 10) };
        let component = b.store.keep_artefact(Bytes::copy_from_slice(of.as_bytes())).await.unwrap();
        assert_eq!(component, kept.component);
        b.store.keep_version(&tenant(), kept).await.unwrap();
    }
}

/// Which of these are there: the version, and its component.
async fn there(b: &Bench, versions: &[&str]) -> Vec<(bool, bool)> {
    let mut found = Vec::new();
    for of in versions {
        let component = b.store.artefact(version(of, 0).component).await.unwrap();
        found.push((state(b, of).await.is_some(), component.is_some()));
    }
    found
}

const HERE: (bool, bool) = (true, true);
const GONE: (bool, bool) = (false, false);

#[tokio::test]
async fn a_purge_takes_old_ones_that_nobody_deploys() {
    let b = bench().await;
    let named = ["active", "before", "proven", "canary", "shadow", "noticed"];
    left_behind(&b, &named).await;
    for (of, state, since) in [
        ("refused", VersionState::Refused, 10),
        ("ready", VersionState::Ready, 10),
        ("waiting", VersionState::Waiting, 10),
        ("young", VersionState::Retired, 11),
    ] {
        b.store.keep_artefact(Bytes::copy_from_slice(of.as_bytes())).await.unwrap();
        b.store.keep_version(&tenant(), Version { state, ..version(of, since) }).await.unwrap();
    }
    left_behind(&b, &["retired"]).await;
    let deployed = Deployment {
        before: Some(digest("before")),
        proven: Some(digest("proven")),
        canary: Some((digest("canary"), 1)),
        shadow: Some(digest("shadow")),
        noticed: Some(digest("noticed")),
        ..deployment(0, "active")
    };
    b.store.deploy(deploy(deployed)).await.unwrap();
    assert_eq!(b.store.purge_versions(&other(), Millis(11)).await.unwrap(), 0);
    assert_eq!(b.store.purge_versions(&tenant(), Millis(10)).await.unwrap(), 0);
    assert_eq!(b.store.purge_versions(&tenant(), Millis(11)).await.unwrap(), 4);
    assert_eq!(there(&b, &named).await, [HERE; 6]);
    assert_eq!(there(&b, &["retired", "refused", "ready", "waiting"]).await, [GONE; 4]);
    assert_eq!(there(&b, &["young"]).await, [HERE]);
}

#[tokio::test]
async fn a_purge_leaves_what_a_journal_or_an_answer_on_its_way_names() {
    let b = bench().await;
    left_behind(&b, &["journal", "adapter", "nobody"]).await;
    let (claimed, out) = b.answered("c", "a").await;
    let recorded = Entry { version: Some(digest("journal")), ..entry(1, "v") };
    b.store.record(&claimed.lease, recorded).await.unwrap();
    b.store.sending(&claimed.lease, out.id, None, Some(digest("adapter"))).await.unwrap();
    let all = ["journal", "adapter", "nobody"];
    assert_eq!(b.store.purge_versions(&tenant(), Millis(99)).await.unwrap(), 1);
    assert_eq!(there(&b, &all).await, [HERE, HERE, GONE]);
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    assert_eq!(b.store.purge_versions(&tenant(), Millis(99)).await.unwrap(), 1);
    assert_eq!(there(&b, &all).await, [HERE, GONE, GONE]);
}

#[tokio::test]
async fn a_component_goes_with_the_last_version_that_names_it() {
    let b = bench().await;
    left_behind(&b, &["a"]).await;
    let shared = Version { component: version("a", 0).component, ..version("b", 1) };
    b.store.keep_version(&other(), shared).await.unwrap();
    assert_eq!(b.store.purge_versions(&tenant(), Millis(99)).await.unwrap(), 1);
    assert_eq!(there(&b, &["a"]).await, [(false, true)], "another tenant has it");
}

#[tokio::test]
async fn a_purge_that_dies_in_the_middle_is_finished_by_the_next() {
    let b = bench().await;
    left_behind(&b, &["a", "b"]).await;
    let rows = Purge { tenant: tenant(), before: Millis(99) };
    assert_eq!(b.store.commit(rows).await.unwrap(), 2);
    let b = b.crashed().await;
    assert_eq!(there(&b, &["a", "b"]).await, [(false, true); 2]);
    assert_eq!(b.store.purge_versions(&tenant(), Millis(99)).await.unwrap(), 0);
    assert_eq!(there(&b, &["a", "b"]).await, [GONE; 2]);
}

#[tokio::test]
async fn a_store_of_an_older_schema_keeps_what_it_has() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.record(&claimed.lease, entry(1, "v")).await.unwrap();
    b.store.sending(&claimed.lease, out.id, Some("step".into()), None).await.unwrap();
    b.store.close().await.unwrap();
    let mut aside = b.aside().await;
    let statements = "DROP TABLE deployments; DROP TABLE versions; DROP TABLE observed; DROP TABLE events;
        DROP TABLE frames; DROP INDEX journal_version; DROP INDEX turns_recorded; DROP INDEX stream_events_old;
        ALTER TABLE journal DROP COLUMN version; ALTER TABLE outbox DROP COLUMN adapter;
        DROP TABLE blobs; DROP INDEX conversations_lane; ALTER TABLE conversations DROP COLUMN lane;
        DROP TABLE slices; DROP TABLE budget_raises; DROP TABLE budget_marks; DROP INDEX budgets_begun;
        DROP TABLE cache_trust;
        INSERT INTO budgets VALUES ('default', 'agent:a', 0, 3, 4);
        INSERT INTO reservations (id, tenant, model, amount, state, scopes, at)
            VALUES (x'00112233445566778899aabbccddeeff', 'default', 'm', 4, 'open', '[[\"agent:a\",0,10]]', 0);
        DELETE FROM _sqlx_migrations WHERE version >= 3";
    sqlx::query(statements).execute(&mut aside).await.unwrap();
    sqlx::Connection::close(aside).await.unwrap();
    assert!(matches!(Store::open_beside(b.folder.path()).await, Err(Error::Invalid(_))), "an older schema");
    let store = open(&b.folder, &b.clock).await.unwrap();
    let b = Bench { store, ..b };
    // A budget had one window, and which one is not known: it stands under every name, and what was open is charged.
    for scope in ["agent:a/hour", "agent:a/day", "agent:a/week", "agent:a/month"] {
        let used = b.store.budget(&tenant(), scope, Millis(0)).await.unwrap();
        assert_eq!(used, crate::Budget { settled: 7, reserved: 0 }, "{scope}");
    }
    let again = b.claim_one().await;
    assert_eq!(b.store.journal(&again.lease).await.unwrap(), [entry(1, "v")]);
    let crate::Stage::Answered(kept) = &again.turn.stage else { panic!("{:?}", again.turn.stage) };
    assert_eq!((kept.state.as_deref(), kept.adapter), (Some("step"), None));
    keep(&b, &["a"]).await;
    b.store.deploy(deploy(deployment(0, "a"))).await.unwrap();
}

/// What the database itself would refuse, whatever the room's code says.
#[tokio::test]
async fn a_deployed_version_cannot_be_deleted_behind_the_stores_back() {
    let b = bench().await;
    keep(&b, &["a"]).await;
    b.store.deploy(deploy(deployment(0, "a"))).await.unwrap();
    let mut aside = b.aside().await;
    assert!(sqlx::query("DELETE FROM versions").execute(&mut aside).await.is_err());
    let second = "INSERT INTO deployments SELECT * FROM deployments";
    assert!(sqlx::query(second).execute(&mut aside).await.is_err(), "one row for each plugin");
    let rows = sqlx::query("SELECT count(*) FROM versions").fetch_one(&mut aside).await.unwrap();
    assert_eq!(rows.get::<i64, _>(0), 1);
}
