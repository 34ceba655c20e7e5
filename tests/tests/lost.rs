//! The kept component of an active version is lost, and the host starts again: what its plugin's folder holds takes its
//! place where it might have served anyway, and nothing else does.

use chela_engine::{Candidate, Reload};
use chela_tests::folder::{Folder, is_served_by, kept_component, routed};
use chela_tests::versions::{promote, rollback};
use chela_tests::{Crashed, Host, Outside, Setup};

/// A host that serves 1.0.0 of its router.
struct World {
    outside: Outside,
    folder: Folder,
    setup: Setup,
    host: Host,
    old: String,
}

impl World {
    async fn new(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (outside, folder) = (Outside::new().await, Folder::new());
        let setup = change(routed(&outside, &folder));
        let host = setup.clone().run().await;
        let old = host.active("router").await.digest;
        Self { outside, folder, setup, host, old }
    }

    /// Looks at the folder, as it is now.
    async fn look(&self) {
        self.host.update(&self.setup).await.unwrap();
        assert_eq!(self.host.active("router").await.digest, self.old);
    }

    /// It has stopped, and the component is gone.
    async fn lose(self) -> Lost {
        let stopped = self.host.stop().await;
        std::fs::remove_file(kept_component(stopped.folder())).unwrap();
        Lost { outside: self.outside, folder: self.folder, old: self.old, stopped }
    }
}

/// A host that has stopped, and whose router's component is lost.
struct Lost {
    outside: Outside,
    folder: Folder,
    old: String,
    stopped: Crashed,
}

impl Lost {
    /// It starts, and what the folder holds serves.
    async fn starts_with(self, version: &str) {
        let host = self.stopped.restart().await;
        let active = host.active("router").await;
        assert_eq!(active.version, version);
        is_served_by(&host, &self.outside, &active.digest).await;
        let last = host.history("router").await.pop().unwrap().happened;
        assert_eq!((&*last.what, &*last.by), ("restored", "the loader"));
        // It is kept again: the folder is not needed any more.
        let stopped = host.stop().await;
        std::fs::remove_dir_all(&self.folder.path).unwrap();
        is_served_by(&stopped.restart().await, &self.outside, &active.digest).await;
    }

    /// It does not start, however often, and says why; with the component it starts as it was.
    async fn starts_not(self, why: &str) {
        for _ in 0..2 {
            match self.stopped.try_restart().await {
                Ok(host) => panic!("version {} serves", host.active("router").await.version),
                Err(error) => {
                    let text = error.to_string();
                    let is_told = text.contains("plugin `router` is lost") && text.contains(why);
                    assert!(is_told, "expected `{why}` in `{text}`");
                }
            }
        }
        std::fs::copy(self.folder.component(), kept_component(self.stopped.folder())).unwrap();
        is_served_by(&self.stopped.restart().await, &self.outside, &self.old).await;
    }
}

fn by_hand(setup: Setup) -> Setup {
    setup.with_swap(|swap| swap.reload = Reload::Manual)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_build_is_restored_from_its_folder() {
    World::new(|setup| setup).await.lose().await.starts_with("1.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_build_that_asks_for_no_more_takes_its_place() {
    let lost = World::new(|setup| setup).await.lose().await;
    lost.folder.manifest("1.1.0", "tag-new");
    lost.starts_with("1.1.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_waits_for_approval_does_not_take_its_place() {
    let world = World::new(|setup| setup).await;
    world.folder.asking("1.1.0", "tag-new");
    world.look().await;
    assert_eq!(world.host.version("router", "1.1.0").await.state, "waiting");
    world.lose().await.starts_not("asks for more than the active one: grant memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_asks_for_more_and_was_never_seen_does_not_take_its_place() {
    let lost = World::new(|setup| setup).await.lose().await;
    lost.folder.asking("1.1.0", "tag-new");
    lost.starts_not("asks for more than the active one: grant memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_version_does_not_take_its_place() {
    let lost = World::new(|setup| setup).await.lose().await;
    lost.folder.manifest("0.9.0", "tag-lower");
    lost.starts_not("from version 1.0.0 back to 0.9.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_an_operator_sent_back_does_not_take_its_place() {
    let world = World::new(|setup| setup).await;
    world.folder.manifest("1.1.0", "tag-new");
    world.host.update(&world.setup).await.unwrap();
    world.host.order("router", rollback()).await.unwrap();
    world.lose().await.starts_not("rolled back: a test wants it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_watch_sent_back_does_not_take_its_place() {
    let world = World::new(|setup| setup).await;
    world.folder.manifest("1.1.0", "trap");
    world.host.update(&world.setup).await.unwrap();
    for number in 0..3 {
        world.host.partner_says(&world.outside, &format!("w{number}"), &format!("watched {number}")).await;
    }
    world.host.sent_back("router", "1.1.0").await;
    world.lose().await.starts_not("rolled back: 3 of 3 calls failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reloads_by_hand_starts_with_what_nobody_has_seen() {
    let lost = World::new(by_hand).await.lose().await;
    lost.folder.manifest("1.1.0", "tag-new");
    lost.starts_with("1.1.0").await;
}

/// Nobody can promote it in a host that does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reloads_by_hand_starts_with_what_is_ready() {
    let world = World::new(by_hand).await;
    world.folder.manifest("1.1.0", "tag-new");
    world.look().await;
    assert_eq!(world.host.version("router", "1.1.0").await.state, "ready");
    world.lose().await.starts_with("1.1.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_folder_it_is_said_what_is_lost() {
    let lost = World::new(|setup| setup).await.lose().await;
    std::fs::remove_dir_all(&lost.folder.path).unwrap();
    let refused = lost.stopped.try_restart().await.map(|_| "it serves").unwrap_err().to_string();
    let expected = format!("the component of version {} of plugin `router` is not kept", &lost.old[..12]);
    assert!(refused.contains(&expected), "{refused}");
}

/// What took the place of an approved version was approved for no more than that one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_once_is_restored_without_a_question() {
    let world = World::new(|setup| setup).await;
    world.folder.asking("1.1.0", "tag-new");
    world.look().await;
    let approved = chela_engine::Order::Promote {
        candidate: Candidate::default(),
        approve: true,
        downgrade: false,
        unproven: false,
    };
    assert!(world.host.order("router", promote(Candidate::default())).await.is_err());
    world.host.order("router", approved).await.unwrap();
    world.lose().await.starts_with("1.1.0").await;
}
