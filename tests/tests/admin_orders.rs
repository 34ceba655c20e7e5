//! Orders about versions at the admin listener of the released program: what each refusal says and how it is coded, who
//! may order, what the metrics and `chela plugin diff` show of a plugin's versions.

use chela_tests::eventually;
use chela_tests::folder::Folder;
use chela_tests::guests;
use chela_tests::small::{Answer, READER, Small};
use serde_json::{Value, json};

/// The digests of a plugin's versions in a state.
fn digests(plugin: &Value, state: &str) -> Vec<String> {
    let versions = plugin["versions"].as_array().unwrap().iter();
    let found = versions.filter(|version| version["state"] == state);
    found.map(|version| version["digest"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the router has a version in this state; its digest.
async fn one_is(small: &Small, state: &str) -> String {
    let mut found = Vec::new();
    eventually(&format!("a version is {state}"), async || {
        found = digests(&small.plugin("router").await, state);
        !found.is_empty()
    })
    .await;
    assert_eq!(found.len(), 1, "{state}");
    found.remove(0)
}

/// A router that traps takes the place of the one that serves; its digest.
async fn trap(small: &Small) -> String {
    let old = one_is(small, "active").await;
    small.write("router/plugin.toml", &guests::get("router").manifest_of("1.1.0", "trap"));
    eventually("the new version serves", async || {
        !digests(&small.plugin("router").await, "active").contains(&old)
    })
    .await;
    one_is(small, "active").await
}

fn promote(candidate: &Value) -> Value {
    json!({ "order": "promote", "candidate": candidate })
}

fn refused(answer: &Answer, (status, code, words): (u16, &str, &str)) {
    assert_eq!(answer.status, status, "{words}: {}", answer.text);
    let problem = &answer.json()["error"];
    assert_eq!(problem["code"], code, "{}", answer.text);
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains(words), "expected `{words}` in `{message}`");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_that_is_not_carried_out_has_its_status_its_code_and_its_words() {
    let small = Small::run("reload = \"manual\"\npromote_after = 3").await;
    let before = small.plugin("router").await;
    let active = digests(&before, "active").remove(0);
    let (good, broken) = (Folder::with("1.1.0", "tag-new"), Folder::new());
    let manifest = guests::get("router").manifest_of("1.2.0", "tag-new");
    broken.write(&format!("{manifest}init = \"error\"\n"));
    let (lower, more) = (Folder::with("0.0.9", "tag-lower"), Folder::new());
    more.asking("1.3.0", "tag-more");
    let digest = |digest: &str| promote(&json!({ "digest": digest }));
    let folder = |folder: &Folder| promote(&json!({ "folder": folder.path }));
    let canary =
        |percent: u32| json!({ "order": "canary", "percent": percent, "candidate": { "folder": good.path } });
    for (plugin, order, expected) in [
        ("ghost", json!({ "order": "stop" }), (409, "swap", "no plugin in use is called `ghost`")),
        ("Router", json!({ "order": "stop" }), (400, "invalid", "`Router` cannot be a plugin's name")),
        ("router", digest("ffffff"), (409, "swap", "has a digest that begins with `ffffff`")),
        ("router", digest(&active[..2]), (409, "swap", "at least 4 digits")),
        ("router", digest(&active), (409, "swap", "is active already")),
        ("router", json!({ "order": "promote" }), (409, "swap", "its folder holds what serves already")),
        ("router", json!({ "order": "rollback" }), (409, "swap", "has no version before the active one")),
        ("router", canary(101), (409, "swap", "a canary has 0 to 100 percent, and not 101")),
        ("router", promote(&json!({ "folder": "elsewhere" })), (400, "invalid", "must be an absolute path")),
        ("router", promote(&json!({ "folder": "/nowhere" })), (422, "configuration", "/nowhere")),
        ("router", folder(&broken), (422, "configuration", "the guest refuses to start")),
        ("router", folder(&lower), (409, "swap", "from version 0.1.0 back to 0.0.9")),
        ("router", folder(&more), (409, "swap", "asks for more than the active one: grant memory")),
        ("router", folder(&good), (409, "swap", "is not proven: 0 of 3 calls were compared in shadow")),
        ("webhook", json!({ "order": "shadow" }), (409, "swap", "a channel has no shadow")),
    ] {
        let answer = small.post(&format!("/plugins/{plugin}"), &order).await;
        refused(&answer, expected);
    }
    let after = small.plugin("router").await;
    assert_eq!((digests(&after, "active"), &after["revision"]), (vec![active], &before["revision"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_orders_nothing_and_is_told_which_right_is_missing() {
    let small = Small::run("").await;
    let before = small.plugin("router").await;
    assert_eq!(small.asked("/plugins", None, READER).await.status, 200);
    let stop = || Some(json!({ "order": "stop" }).to_string());
    for (path, body) in
        [("/plugins/router", stop()), ("/plugins/ghost", stop()), ("/reload", Some("{}".into()))]
    {
        let answer = small.asked(path, body.clone(), READER).await;
        refused(&answer, (403, "forbidden", "this needs the right `operate`"));
        assert_eq!(answer.json()["error"]["right"], "operate", "{path}");
        refused(&small.asked(path, body, "nobody's").await, (401, "unauthorized", "a token is needed"));
    }
    assert_eq!(small.plugin("router").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_zero_percent_ends_it() {
    let small = Small::run("reload = \"manual\"").await;
    let (folder, canary) =
        (Folder::with("1.1.0", "tag-new"), |percent: u32| json!({ "order": "canary", "percent": percent }));
    let mut order = canary(50);
    order["candidate"] = json!({ "folder": folder.path });
    let begun = small.post("/plugins/router", &order).await;
    assert_eq!((begun.status, digests(&begun.json(), "canary").len()), (200, 1), "{}", begun.text);
    let ended = small.post("/plugins/router", &canary(0)).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let ended = ended.json();
    assert!(digests(&ended, "canary").is_empty(), "{ended}");
    assert_eq!(ended["versions"].as_array().unwrap().iter().filter(|it| !it["share"].is_null()).count(), 0);
    let events = small.get("/plugins/router/history").await.json();
    let last = &events.as_array().unwrap().last().unwrap()["happened"];
    assert_eq!((&last["what"], &last["by"]), (&"stopped".into(), &"admin".into()), "{last}");
}

/// Calls that the router's new version and the one before have both failed.
const LOST: &str = "swap_lost_total{plugin=\"router\"} ";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_both_versions_fail_is_counted_as_lost_and_no_other_is() {
    let small = Small::run("min_failures = 1000").await;
    assert_eq!(small.metric(LOST).await, Some(0.0), "zero is to be seen");
    trap(&small).await;
    // The new one fails, the one before does not.
    assert_eq!(small.says("hello").await, "You are kind.");
    assert_eq!(small.metric(LOST).await, Some(0.0));
    // The one before is told by the first word, and fails as well: the default agent answers.
    assert_eq!(small.says("trap hello").await, "You are kind.");
    assert_eq!(small.metric(LOST).await, Some(1.0));
    // One by one, so is each further one.
    small.says("trap again").await;
    assert_eq!(small.metric(LOST).await, Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_where_nothing_was_swapped_is_not_counted_as_lost() {
    let small = Small::run("").await;
    assert_eq!(small.says("trap hello").await, "You are kind.");
    assert_eq!(small.metric(LOST).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_used_since_a_reload_shows_that_it_has_lost_nothing() {
    let small = Small::run("").await;
    let keyword = "[plugin.keyword]\nsource = \"builtin:keyword\"\nconfig = { rules = [] }\n\n[routing]\nrouter = \"keyword\"";
    small.reconfigure("[routing]\nrouter = \"router\"", keyword).await;
    small.plugin("keyword").await;
    assert_eq!(small.metric("swap_lost_total{plugin=\"keyword\"} ").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_a_swapped_plugin_has_metrics_of_its_own() {
    let small = Small::run("min_failures = 1000").await;
    let old = one_is(&small, "active").await;
    small.says("hello").await;
    let new = trap(&small).await;
    for _ in 0..2 {
        small.says("hello").await;
    }
    for (begins, version, labels, value) in [
        ("version_calls_total", &old, ",outcome=\"good\"", 3.0),
        ("version_calls_total", &old, ",outcome=\"failed\"", 0.0),
        ("version_calls_total", &new, ",outcome=\"good\"", 0.0),
        ("version_calls_total", &new, ",outcome=\"failed\"", 2.0),
        ("version_rescued_total", &old, "", 0.0),
        ("version_rescued_total", &new, "", 2.0),
        ("version_call_seconds_count", &old, "", 3.0),
        ("version_call_seconds_count", &new, "", 2.0),
    ] {
        let line = format!("{begins}{{plugin=\"router\",version=\"{}\"{labels}}} ", &version[..12]);
        assert_eq!(small.metric(&line).await, Some(value), "{line}");
    }
    let swaps = "swaps_total{plugin=\"router\",what=\"promoted\"} ";
    assert_eq!(small.metric(swaps).await, Some(1.0));
}

/// What the folder of the router asks for: more than before.
fn ask_for_more(small: &Small, version: &str) {
    let manifest = guests::get("router").manifest_of(version, "tag-new");
    let wishes = "optional = [\"models\", \"history\", \"memory\"]";
    small.write("router/plugin.toml", &manifest.replace("optional = [\"models\", \"history\"]", wishes));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_is_the_active_version_against_what_waits() {
    let mut small = Small::run("").await;
    let active = one_is(&small, "active").await;
    ask_for_more(&small, "1.1.0");
    let waiting = one_is(&small, "waiting").await;
    for is_running in [true, false] {
        let shown = small.command(&["plugin", "diff", "router"]).await;
        let expected = format!(
            "--- guest-router 0.1.0 (router@{})\n+++ guest-router 1.1.0 (router@{})\ngrants\n  + memory (optional)\n",
            &active[..12],
            &waiting[..12]
        );
        assert!(shown.starts_with(&expected), "expected:\n{expected}in:\n{shown}");
        assert!(shown.ends_with("the code is the same\n"), "{shown}");
        if is_running {
            assert!(small.process.terminate().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_is_the_active_version_against_what_is_ready() {
    let small = Small::run("reload = \"manual\"").await;
    let active = one_is(&small, "active").await;
    small.write("router/plugin.toml", &guests::get("router").manifest_of("1.1.0", "tag-new"));
    let ready = one_is(&small, "ready").await;
    let shown = small.command(&["plugin", "diff", "router", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["a"], format!("guest-router 0.1.0 (router@{})", &active[..12]));
    assert_eq!(shown["b"], format!("guest-router 1.1.0 (router@{})", &ready[..12]));
    assert_eq!(shown["same_code"], true);
    assert_eq!(shown["differences"], json!({ "config": { "-": [], "+": ["behaviour = \"tag-new\""] } }));
}

/// The folder is called as the plugin is, and holds something else by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_bare_name_is_what_the_host_keeps_and_not_the_folder_of_that_name() {
    let small = Small::run("").await;
    let active = one_is(&small, "active").await;
    ask_for_more(&small, "1.1.0");
    let waiting = one_is(&small, "waiting").await;
    small.write("router/plugin.toml", "no manifest");
    let named = format!("router@{waiting}");
    let shown = small.command(&["plugin", "diff", "router", &named]).await;
    assert!(shown.starts_with(&format!("--- guest-router 0.1.0 (router@{})\n", &active[..12])), "{shown}");
    assert!(shown.contains("\ngrants\n  + memory (optional)\n"), "{shown}");
    let folder = small.process.command(&["plugin", "diff", "router", "./router"]).output().await.unwrap();
    assert!(!folder.status.success(), "a folder is named with a `/` in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_none_is_refused_in_json_like_any_other() {
    let small = Small::run("").await;
    let token = std::fs::read_to_string(small.process.data().join("admin.token")).unwrap();
    for body in ["{\"order\": \"dance\"}", "{\"order\": \"canary\", \"percent\": 300}", "{", "[]"] {
        let answer = small.asked("/plugins/router", Some(body.to_owned()), token.trim()).await;
        assert!((400..500).contains(&answer.status), "{body}: {} {}", answer.status, answer.text);
        assert!(answer.json()["error"]["message"].is_string(), "{body}: {}", answer.text);
    }
}
