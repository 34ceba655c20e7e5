//! The host is killed around a rollback that nobody ordered: a build that fails lands under load, and `kill -9` comes
//! before it is found, while it fails, or when the watch has sent it back. After the next start one version is active,
//! the bad one goes back for good, and nobody has noticed anything. And adapters are swapped under kills, as routers and
//! agents are in `kill_swap.rs`.

use std::sync::LazyLock;

use chela_tests::kill_swap::{Mode, Rig, Swapped, Trigger, begin, end, goes_on};
use serde_json::json;
use tokio::sync::Mutex;

/// One host at a time: the moments are meant for it.
static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// Lets a bad build of a plugin land, again and again, and kills around what the watch makes of it.
async fn is_sent_back_for_good(plugin: Swapped) {
    let _alone = ALONE.lock().await;
    let what = format!("the watch of the {}", plugin.name());
    let mut rig = begin(&what, Mode::Watched).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let old = rig.standing(plugin).await.active;
        let bad = rig.next_bad(plugin);
        let kill = rig.attack_watch((old, bad), round % 2 == 0).await;
        let is_sent_back = kill.standing.refused.contains(&bad);
        assert!(!is_sent_back || kill.standing.active == old, "what was sent back is active: {kill:?}");
        let standing = rig.start_until_sent_back(bad).await;
        assert_eq!(standing.active, old, "{bad:?} lies in its folder, and was sent back");
        rig.serves(old).await;
        // A further start finds it there once more.
        rig.process.kill().await;
        let standing = rig.start_again(plugin).await;
        assert_eq!((standing.active, standing.refused.contains(&bad)), (old, true));
        rig.serves(old).await;
    }
    end(&what, rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_around_the_rollback_of_a_router_leaves_one_version_and_the_bad_one_goes_for_good() {
    is_sent_back_for_good(Swapped::Chooser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_around_the_rollback_of_an_agent_leaves_one_version_and_the_bad_one_goes_for_good() {
    is_sent_back_for_good(Swapped::Worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_around_the_rollback_of_an_adapter_leaves_one_version_and_the_bad_one_goes_for_good() {
    is_sent_back_for_good(Swapped::Adapter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_hot_reload_of_an_adapter_leaves_one_version_and_the_next_start_serves_what_landed() {
    let _alone = ALONE.lock().await;
    let what = "hot reload of an adapter";
    let mut rig = begin(what, Mode::Auto).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let old = rig.standing(Swapped::Adapter).await.active;
        let (new, way) = (rig.next(Swapped::Adapter), rig.way());
        rig.attack((old, new), Trigger::Land(new, way), |left| left.active == new).await;
        let standing = rig.start_again(Swapped::Adapter).await;
        assert_eq!(standing.active, new, "what landed whole serves after the next start");
        rig.serves(new).await;
    }
    end(what, rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_rollback_of_an_adapter_leaves_the_new_version_or_the_old_one() {
    let _alone = ALONE.lock().await;
    let what = "rollback of an adapter";
    let (mut rig, order): (Rig, _) = (begin(what, Mode::Auto).await, json!({ "order": "rollback" }));
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let old = rig.standing(Swapped::Adapter).await.active;
        let (new, way) = (rig.next(Swapped::Adapter), rig.way());
        rig.may_serve(&[old, new]);
        rig.land(new, way);
        rig.until(new, "active").await;
        rig.serves(new).await;
        let kill = rig.attack((new, old), Trigger::Order(order.clone()), |left| left.active == old).await;
        let standing = rig.start_again(Swapped::Adapter).await;
        assert_eq!(standing.active, kill.standing.active, "a start undoes no rollback, and makes none");
        rig.serves(standing.active).await;
        if standing.active == new {
            rig.order(Swapped::Adapter, &order).await;
            rig.until(old, "active").await;
        }
    }
    end(what, rig).await;
}
