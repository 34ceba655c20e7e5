//! The host is killed while it swaps plugins, and afterwards there is exactly one active version of each: the old one
//! or the new one. It serves, nothing is half there, and every turn ends on the version that it began with.
//!
//! The real program, the real disk, `kill -9` within 150 ms after what triggers the swap, under load. After each kill
//! the store is read as the kill has left it, and it is told how far the swap had come. `CHELA_SWAP_KILLS` (10, for each
//! kind of swap) and `CHELA_SEED` (random, printed) are read from the environment.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use chela_tests::kill_swap::{
    Build, FILE_STEPS, Kill, Mode, Rig, Stage, Standing, Step, Swapped, Trigger, Way, begin, end,
    from_environment, goes_on, kills, tell,
};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// Canaries get half of the conversations.
const HALF: u8 = 50;
/// People who ask until both versions have answered one of them.
const PROBES_MAX: usize = 40;
/// So long an exact step is waited for. A step that a swap does not take is not hit.
const STEP_WAIT: Duration = Duration::from_secs(8);

/// One host at a time: the moments are meant for it.
static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// Every third swap is one of the router.
fn target(round: u32) -> Swapped {
    if round % 3 == 2 { Swapped::Chooser } else { Swapped::Worker }
}

fn promote() -> Value {
    json!({ "order": "promote" })
}

fn rollback() -> Value {
    json!({ "order": "rollback", "why": "as a test wants it" })
}

fn canary() -> Value {
    json!({ "order": "canary", "percent": HALF })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_hot_reload_leaves_one_version_and_the_next_start_serves_what_landed() {
    let _alone = ALONE.lock().await;
    let mut rig = begin("hot reload", Mode::Auto).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let plugin = target(round);
        let old = rig.standing(plugin).await.active;
        let (new, way) = (rig.next(plugin), rig.way());
        rig.attack((old, new), Trigger::Land(new, way), |left| left.active == new).await;
        let standing = rig.start_again(plugin).await;
        assert_eq!(standing.active, new, "what landed whole serves after the next start");
        rig.serves(new).await;
    }
    end("hot reload", rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_promotion_leaves_the_old_version_or_the_new_one_and_no_start_promotes() {
    let _alone = ALONE.lock().await;
    let mut rig = begin("promotion", Mode::Manual).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let plugin = target(round);
        let old = rig.standing(plugin).await.active;
        let (new, way) = (rig.next(plugin), rig.way());
        rig.land(new, way);
        // Noticed before, or found by the order itself.
        if rig.random.random() {
            rig.until(new, "ready").await;
        }
        let command = ["plugin", "promote", plugin.name(), "--json"].map(str::to_owned).to_vec();
        let trigger = if round % 4 == 3 { Trigger::Command(command) } else { Trigger::Order(promote()) };
        let kill = rig.attack((old, new), trigger, |left| left.active == new).await;
        let standing = rig.start_again(plugin).await;
        assert_eq!(standing.active, kill.standing.active, "a start promotes nothing");
        rig.serves(standing.active).await;
        if standing.active == old {
            rig.may_serve(&[old, new]);
            rig.order(plugin, &promote()).await;
            rig.until(new, "active").await;
            rig.serves(new).await;
        }
    }
    end("promotion", rig).await;
}

/// The canary serves its share, and the active version the rest.
async fn both_serve(rig: &mut Rig, (active, canary): (Build, Build)) {
    if active.plugin == Swapped::Chooser {
        rig.probe().await; // the decisions are judged in the end
        return;
    }
    let mut answered = BTreeSet::new();
    for _ in 0..PROBES_MAX {
        let said = rig.probe().await;
        answered.extend([active, canary].into_iter().filter(|build| build.can_have_said(&said)));
        if answered.len() == 2 {
            return;
        }
    }
    panic!("of {active:?} and its canary {canary:?}, only {answered:?} answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_around_a_canary_leaves_it_or_not_and_never_two_active_versions() {
    let _alone = ALONE.lock().await;
    let mut rig = begin("canary", Mode::Manual).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let plugin = target(round);
        let old = rig.standing(plugin).await.active;
        let (new, way) = (rig.next(plugin), rig.way());
        let running = Some((new, HALF));
        rig.land(new, way);
        // Half of the kills hit its beginning, the others its end.
        if round % 2 == 0 {
            let trigger = Trigger::Order(canary());
            let kill = rig.attack((old, new), trigger, |left| left.canary == running).await;
            assert_eq!(kill.standing.active, old, "a canary is not active");
            let standing = rig.start_again(plugin).await;
            assert_eq!((standing.active, standing.canary), (old, kill.standing.canary));
        }
        rig.may_serve(&[old, new]);
        if rig.standing(plugin).await.canary.is_none() {
            rig.order(plugin, &canary()).await;
        }
        both_serve(&mut rig, (old, new)).await;
        if round % 4 == 1 {
            let kill = rig.attack((old, new), Trigger::Order(promote()), |left| left.active == new).await;
            let is_one = |left: &Standing| match left.canary {
                None => left.active == new,
                Some(_) => left.active == old && left.canary == running,
            };
            assert!(is_one(&kill.standing), "a canary is promoted as a whole: {:?}", kill.standing);
            let standing = rig.start_again(plugin).await;
            assert_eq!((standing.active, standing.canary), (kill.standing.active, kill.standing.canary));
        } else if round % 4 == 3 {
            let stop = Trigger::Order(json!({ "order": "stop" }));
            let kill = rig.attack((old, new), stop, |left| left.canary.is_none()).await;
            assert_eq!(kill.standing.active, old);
            let standing = rig.start_again(plugin).await;
            assert_eq!((standing.active, standing.canary), (old, kill.standing.canary));
        }
        if rig.standing(plugin).await.canary.is_some() {
            rig.order(plugin, &promote()).await;
            rig.until(new, "active").await;
        }
        let active = rig.standing(plugin).await.active;
        rig.serves(active).await;
    }
    end("canary", rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_rollback_leaves_the_new_version_or_the_old_one_and_no_start_undoes_it() {
    let _alone = ALONE.lock().await;
    let mut rig = begin("rollback", Mode::Auto).await;
    let order = rollback();
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let plugin = target(round);
        let old = rig.standing(plugin).await.active;
        let (new, way) = (rig.next(plugin), rig.way());
        rig.may_serve(&[old, new]);
        rig.land(new, way);
        rig.until(new, "active").await;
        rig.serves(new).await;
        let kill = rig.attack((new, old), Trigger::Order(order.clone()), |left| left.active == old).await;
        // The folder holds the version that was rolled back.
        let standing = rig.start_again(plugin).await;
        assert_eq!(standing.active, kill.standing.active, "a start undoes no rollback, and makes none");
        rig.serves(standing.active).await;
        if standing.active == new {
            rig.may_serve(&[new, old]);
            rig.order(plugin, &order).await;
            rig.until(old, "active").await;
            rig.serves(old).await;
        }
    }
    end("rollback", rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_start_that_finds_a_new_version_leaves_one_version_and_a_later_start_serves_it() {
    let _alone = ALONE.lock().await;
    let mut rig = begin("restart", Mode::Auto).await;
    let mut round = 0;
    while goes_on(&rig, &mut round) {
        let plugin = target(round);
        let old = rig.standing(plugin).await.active;
        let (new, way) = (rig.next(plugin), rig.way());
        rig.process.kill().await;
        rig.may_serve(&[old, new]);
        rig.land(new, way);
        // Once, or again and again.
        for _ in 0..=rig.random.random_range(0..2) {
            rig.attack((old, new), Trigger::Start, |left| left.active == new).await;
        }
        let standing = rig.start_again(plugin).await;
        assert_eq!(standing.active, new, "what landed whole serves after a start that is let be");
        rig.serves(new).await;
    }
    end("restart", rig).await;
}

/// Orders of which each step is killed at, and what they make of the active build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reload,
    Promotion,
    Canary,
    Rollback,
}

impl Kind {
    fn is_done(self, (old, new): (Build, Build), left: &Standing) -> bool {
        match self {
            Self::Reload | Self::Promotion => left.active == new,
            Self::Canary => left.active == old && left.canary == Some((new, HALF)),
            Self::Rollback => left.active == old && left.before.is_none(),
        }
    }

    fn has_not_begun(self, (old, new): (Build, Build), left: &Standing) -> bool {
        match self {
            Self::Rollback => left.active == new && left.before == Some(old),
            _ => left.active == old && left.canary.is_none(),
        }
    }

    fn trigger(self, new: Build, aside: &std::path::Path) -> Trigger {
        // From another folder: nobody notices it before the order comes.
        let candidate = json!({ "folder": aside });
        match self {
            Self::Reload => Trigger::Land(new, Way::AsAWhole),
            Self::Promotion => Trigger::Order(json!({ "order": "promote", "candidate": candidate })),
            Self::Canary => {
                Trigger::Order(json!({ "order": "canary", "percent": HALF, "candidate": candidate }))
            }
            Self::Rollback => Trigger::Order(rollback()),
        }
    }
}

/// A turn is in its agent's hands; a swap is killed as it enters a step; and the turn ends on the version that it began
/// with, whatever serves then. Returns how far the swap had come, or `None` if it does not take that step: then it is
/// whole.
async fn kill_at(rig: &mut Rig, kind: Kind, step: Step) -> Option<Stage> {
    let plugin = Swapped::Worker;
    let (old, new) = (rig.standing(plugin).await.active, rig.next(plugin));
    let aside = rig.process.folder().join("aside");
    if kind == Kind::Rollback {
        rig.may_serve(&[old, new]);
        rig.land(new, Way::AsAWhole);
        rig.until(new, "active").await;
        rig.serves(new).await;
    } else {
        new.land(&aside, Way::FileByFile);
    }
    let (serves, next) = if kind == Kind::Rollback { (new, old) } else { (old, new) };
    let asked = rig.ask_slowly().await;
    let mut tracer = step.lie_in_wait(&rig.process.data(), rig.process.pid(), new).await;
    rig.may_serve(&[old, new]);
    let logged = rig.process.log().len();
    let ordered = rig.pull(plugin, kind.trigger(new, &aside.join(plugin.name())));
    let is_hit = timeout(STEP_WAIT, tracer.wait()).await.is_ok();
    if is_hit {
        let _ = rig.process.ended().await;
    } else {
        tracer.kill().await.unwrap();
        rig.process.kill().await;
    }
    let is_acknowledged = ordered.await.unwrap();
    let is_done = |left: &Standing| kind.is_done((old, new), left);
    let Kill { standing, stage, .. } = rig.left((serves, next), (is_acknowledged, logged), is_done).await;
    let is_whole = is_done(&standing) || kind.has_not_begun((old, new), &standing);
    assert!(is_whole, "{kind:?} at {step}: {standing:?}");
    assert!(is_hit || is_done(&standing), "{kind:?} was let be, and is not done: {standing:?}");
    let again = rig.start_again(plugin).await;
    match kind {
        Kind::Reload => assert_eq!(again.active, new, "what landed whole serves after the next start"),
        _ => assert_eq!((again.active, again.canary), (standing.active, standing.canary)),
    }
    let said = asked.answer().await;
    assert!(serves.can_have_said(&said), "{kind:?} at {step}: a turn of {serves:?} was answered: {said}");
    settle(rig, kind, (old, new)).await;
    is_hit.then_some(stage)
}

/// One version serves, and nothing beside it.
async fn settle(rig: &mut Rig, kind: Kind, (old, new): (Build, Build)) {
    let plugin = old.plugin;
    let standing = rig.standing(plugin).await;
    if kind == Kind::Rollback && standing.active == new {
        rig.order(plugin, &rollback()).await;
    } else if standing.canary.is_some() {
        rig.order(plugin, &json!({ "order": "stop" })).await;
    }
    let active = rig.standing(plugin).await.active;
    rig.until(active, "active").await;
    rig.serves(active).await;
}

/// At every step of the component's file, at every commit, and at writes within them, the further the fewer.
async fn kill_at_each_step(kind: Kind, mode: Mode) {
    let _alone = ALONE.lock().await;
    let mut rig = Rig::start_quiet(mode, 0).await;
    let files = if kind == Kind::Rollback { &[][..] } else { &FILE_STEPS[..] };
    for step in files {
        let stage = kill_at(&mut rig, kind, *step).await;
        tell(&format!("{kind:?}: killed at {step}: {stage:?}"));
        assert!(stage.is_some(), "{kind:?} keeps a component");
    }
    let (mut nth, mut hit) = (1, 0);
    while let Some(stage) = kill_at(&mut rig, kind, Step::log_sync(nth)).await {
        tell(&format!("{kind:?}: killed at {}: {stage:?}", Step::log_sync(nth)));
        (nth, hit) = (nth + 1, hit + 1);
    }
    assert!(hit > 0, "{kind:?} commits");
    let (mut nth, mut stride) = (1, 1);
    while let Some(stage) = kill_at(&mut rig, kind, Step::log_write(nth)).await {
        tell(&format!("{kind:?}: killed at {}: {stage:?}", Step::log_write(nth)));
        (nth, stride) = (nth + stride, stride + 2);
    }
    end(&format!("{kind:?}, step by step"), rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_of_a_hot_reload_leaves_the_old_version_or_the_new_one() {
    kill_at_each_step(Kind::Reload, Mode::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_of_a_promotion_leaves_the_old_version_or_the_new_one() {
    kill_at_each_step(Kind::Promotion, Mode::Manual).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_of_a_canary_leaves_it_or_none() {
    kill_at_each_step(Kind::Canary, Mode::Manual).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_of_a_rollback_leaves_the_new_version_or_the_old_one() {
    kill_at_each_step(Kind::Rollback, Mode::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_the_first_start_of_all_leaves_what_the_next_one_can_go_on_with() {
    let _alone = ALONE.lock().await;
    let seed = from_environment("CHELA_SEED").unwrap_or_else(rand::random);
    tell(&format!("first start: CHELA_SEED={seed}"));
    let mut rig = Rig::prepare(Mode::Auto, seed).await;
    for _ in 0..kills() {
        rig.process.start();
        let moment = Duration::from_millis(rig.random.random_range(0..500));
        sleep(moment).await;
        rig.process.kill().await;
        let standing = rig.start_again(Swapped::Worker).await;
        assert_eq!(standing.active.number, 0);
        rig.serves(standing.active).await;
        rig.process.kill().await;
        std::fs::remove_dir_all(rig.process.data()).unwrap();
    }
}
