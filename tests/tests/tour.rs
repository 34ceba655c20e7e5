//! The tour of the released program: it passes when all is well, and says so when it is not.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use chela_store::{Config, Reserve, ScopeLimit, SettledAs, Settlement, Store, Used};
use chela_tests::process::program;
use chela_types::{Clock, Millis, Money, SystemClock, TenantId};
use tokio::process::Command;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Whether `chela demo --tour` was content, and all that it said.
async fn tour(data: &Path) -> (bool, String) {
    tour_of(&program(), data).await
}

async fn tour_of(program: &Path, data: &Path) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(["demo", "--tour", "--data"]).arg(data).env("NO_COLOR", "1").env_remove("CHELA_LOG");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("chela starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A column of the table at the end.
fn column(said: &str, index: usize) -> BTreeSet<&str> {
    let rows = said.lines().filter(|line| line.starts_with('│'));
    rows.filter_map(|row| row.trim_matches('│').split('┆').nth(index)).map(str::trim).collect()
}

/// Somebody has spent all that the demo's budgets allow today.
async fn spend_everything(data: &Path) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(Config::new(data.join("store")), Arc::clone(&clock)).await.unwrap();
    let now = clock.now();
    let cost = Money::from_nanos(10_000_000_000);
    let window_start = Millis(now.0 - now.0 % DAY_MS);
    let scope = ScopeLimit { scope: "global/day".into(), window_start, limit: None, most: cost.into() };
    let reserve = Reserve {
        lease: None,
        tenant: TenantId::default_tenant(),
        turn: None,
        scopes: vec![scope],
        amount: cost,
        model: "demo/large".to_owned(),
    };
    let id = store.reserve(reserve).await.unwrap();
    store
        .settle(
            id,
            Settlement { used: Used { cost, ..Used::default() }, call: None, state: SettledAs::Settled },
        )
        .await
        .unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_goes_everywhere_and_is_not_content_with_anything() {
    let data = tempfile::tempdir().unwrap();
    let (is_content, said) = tour(data.path()).await;
    assert!(is_content, "{said}");
    for (index, expected) in
        [(1, &["web", "slack", "partner"][..]), (2, &["sales", "support", "technical", "hr"])]
    {
        let seen = column(&said, index);
        assert!(expected.iter().all(|name| seen.contains(name)), "{seen:?} in {said}");
    }

    // Answers are still given, politely and through the right agents; they are not the ones that are wanted.
    spend_everything(data.path()).await;
    let (is_content, said) = tour(data.path()).await;
    assert!(!is_content, "{said}");
    assert!(said.contains("does not name pricing.md"), "{said}");
    assert!(said.contains("were not answered as they should be"), "{said}");
}

/// The program with one word of its Slack component changed, in the component itself.
fn with_a_broken_component(folder: &Path) -> std::path::PathBuf {
    let (whole, broken) = (b"/event/type", b"/event/typo");
    let mut bytes = std::fs::read(program()).unwrap();
    let found: Vec<usize> =
        bytes.windows(whole.len()).enumerate().filter(|(_, word)| word == whole).map(|(at, _)| at).collect();
    assert_eq!(found.len(), 1, "the word stands in the component and nowhere else");
    bytes[found[0]..][..broken.len()].copy_from_slice(broken);
    let path = folder.join("chela");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_component_is_seen_by_the_tour_and_breaks_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let program = with_a_broken_component(folder.path());
    let (is_content, said) = tour_of(&program, &folder.path().join("data")).await;
    assert!(!is_content, "{said}");
    let refused = said.matches("Slack's event was answered with Some(400)").count();
    assert_eq!(refused, 6, "each of Slack's messages: {said}");
    assert!(said.contains("6 of 13 messages were not answered as they should be"), "{said}");
}
