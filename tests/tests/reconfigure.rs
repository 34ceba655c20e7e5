//! What the configuration says is another thing while the host runs: the next message meets it, without a restart; and
//! what cannot run leaves everything as it was, and is told.

use chela_tests::eventually;
use chela_tests::outside::MODEL;
use chela_tests::small::{OTHER_MODEL, Small};
use serde_json::Value;

const KIND: &str = "You are kind.";
const STRICT: &str = "You are strict.";

/// The models that were asked, in order.
fn models(small: &Small) -> Vec<String> {
    small.outside().provider.bills().all().into_iter().map(|bill| bill.model).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_where_the_routes_of_now_send_it() {
    let small = Small::run("").await;
    assert_eq!(small.says("hello").await, KIND);
    small.reconfigure("default_agent = \"support\"", "default_agent = \"sales\"").await;
    assert_eq!(small.says("hello").await.trim(), "You said: hello");
    // Without a router, its first word leads nobody anywhere.
    assert_eq!(small.says("support hello").await, KIND);
    small.reconfigure("router = \"router\"\n", "").await;
    assert_eq!(small.says("support hello").await.trim(), "You said: support hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_by_the_persona_that_its_file_holds_now() {
    let small = Small::run("").await;
    assert_eq!(small.says("hello").await, KIND);
    let before = small.status().await["configuration"].clone();
    small.write("support.md", STRICT);
    eventually("the file is read again", async || small.status().await["configuration"] != before).await;
    assert_eq!(small.says("hello").await, STRICT);
    small.reconfigure("\"file:support.md\"", "\"You are brief.\"").await;
    assert_eq!(small.says("hello").await, "You are brief.");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_the_model_that_its_tier_names_now() {
    let small = Small::run("").await;
    small.says("sales one").await;
    small
        .reconfigure(
            &format!("chain = [\"stand-in/{MODEL}\"]"),
            &format!("chain = [\"stand-in/{OTHER_MODEL}\"]"),
        )
        .await;
    small.says("sales two").await;
    assert_eq!(models(&small), [MODEL, OTHER_MODEL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_spends_no_more_than_its_budget_is_now() {
    let small = Small::run("").await;
    // One that says what is wrong.
    let guest = "[agent.sales]\nplugin = \"worker\"\noutsiders = true\nconfig = { behaviour = \"model\" }";
    let assistant = "[plugin.assistant]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n\n\
                     [agent.sales]\nplugin = \"assistant\"\noutsiders = true";
    small.reconfigure(guest, assistant).await;
    let said = small.says("sales one").await;
    assert!(said.contains("sales one"), "{said}");
    small.reconfigure("agent = \"100\"", "agent = \"0.00001\"").await;
    let told = small.says("sales two").await;
    assert!(told.contains("budget"), "{told}");
    assert_eq!(models(&small).len(), 1, "no model was asked for the second");
    small.reconfigure("agent = \"0.00001\"", "agent = \"100\"").await;
    let said = small.says("sales three").await;
    assert!(said.contains("sales three"), "{said}");
    assert_eq!(models(&small).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_takes_no_more_than_its_rate_is_now() {
    let small = Small::run("").await;
    for text in ["one", "two", "three"] {
        assert_eq!(small.posts(text).await, 200, "{text}");
    }
    small.reconfigure("rate_per_minute = 54321", "rate_per_minute = 1").await;
    assert_eq!((small.posts("four").await, small.posts("five").await), (200, 429));
    small.reconfigure("rate_per_minute = 1\n", "rate_per_minute = 54321\n").await;
    assert_eq!((small.posts("six").await, small.posts("seven").await), (200, 200));
}

/// What the public is told of the configuration.
async fn readyz(small: &Small) -> (u16, Value) {
    let url = format!("http://{}/readyz", small.process.public).parse().unwrap();
    let request = chela_egress::Request::new(http::Method::GET, url, "");
    let response = chela_tests::outside::loopback().send(request).await.unwrap();
    let said: Value = serde_json::from_slice(&response.body).unwrap();
    (response.status.as_u16(), said["configuration"].clone())
}

/// Breaks the files, and sees the old ones serve and everybody told; mends them, and sees them told to be well.
async fn what_ran_before_runs_on(
    small: &Small,
    (spoil, mend): (impl FnOnce(&Small), impl FnOnce(&Small)),
    expected: &str,
) {
    let before = small.status().await["configuration"].clone();
    assert_eq!(readyz(small).await, (200, "valid".into()));
    spoil(small);
    eventually("it is found out", async || readyz(small).await.1 == "invalid").await;
    assert_eq!(readyz(small).await.0, 200, "it serves");
    assert_eq!((small.says("hello").await, small.says("support hello").await), (KIND.into(), KIND.into()));
    let status = small.command(&["status"]).await;
    assert!(status.contains("the files say what cannot run"), "{status}");
    let status = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains(expected), "expected `{expected}` in {status}");
    assert_eq!(small.status().await["configuration"], before);
    assert_eq!(small.metric("config_invalid ").await, Some(1.0));
    let reload = small.process.command(&["reload"]).output().await.unwrap();
    assert!(!reload.status.success(), "whoever reloads is told at once");
    mend(small);
    eventually("it is well again", async || readyz(small).await.1 == "valid").await;
    assert_eq!(
        (small.status().await["invalid"].clone(), small.says("hello").await),
        (Value::Null, KIND.into())
    );
    assert_eq!(small.metric("config_invalid ").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_nobody_leaves_the_old_one_and_is_told() {
    let small = Small::run("").await;
    let (here, ghost) = ("default_agent = \"support\"", "default_agent = \"suport\"");
    let steps = (|small: &Small| small.rewrite(here, ghost), |small: &Small| small.rewrite(ghost, here));
    what_ran_before_runs_on(&small, steps, "did you mean `support`?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_of_an_unknown_provider_leaves_the_old_one_and_is_told() {
    let small = Small::run("").await;
    let (here, ghost) = ("chain = [\"stand-in/", "chain = [\"nobody/");
    let steps = (|small: &Small| small.rewrite(here, ghost), |small: &Small| small.rewrite(ghost, here));
    what_ran_before_runs_on(&small, steps, "nobody").await;
    small.says("sales hello").await;
    assert_eq!(models(&small), [MODEL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_none_leaves_the_old_one_and_is_told() {
    let small = Small::run("").await;
    let (here, none) = ("rate_per_minute = 54321", "rate_per_minute = 0");
    let steps = (|small: &Small| small.rewrite(here, none), |small: &Small| small.rewrite(none, here));
    what_ran_before_runs_on(&small, steps, "channel.partner.rate_per_minute").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_whose_file_is_gone_leaves_the_old_one_and_is_told() {
    let small = Small::run("").await;
    let spoil = |small: &Small| std::fs::remove_file(small.process.folder().join("support.md")).unwrap();
    what_ran_before_runs_on(&small, (spoil, |small: &Small| small.write("support.md", KIND)), "support.md")
        .await;
}

/// The file is a right one, and the plugin that it is meant for refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_plugin_refuses_leave_the_old_ones_and_are_told() {
    let small = Small::run("").await;
    let (here, refused) = ("behaviour = \"model\"", "behaviour = \"model\", init = \"error\"");
    let steps = (|small: &Small| small.rewrite(here, refused), |small: &Small| small.rewrite(refused, here));
    what_ran_before_runs_on(&small, steps, "the guest refuses to start").await;
}
