//! What an operator orders of caches and budgets at the command line, beside a host that runs: kept answers are listed,
//! explained and taken out, a budget is raised and ends as it was, and who did what stands in the history.

use chela_egress::Request;
use chela_tests::kill::configuration;
use chela_tests::outside::loopback;
use chela_tests::process::Process;
use chela_tests::{Outside, eventually};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-thirty-two-characters-at-least";
/// Two ways to ask the same, and another question.
const ASKED: [&str; 3] = [
    "How do I reset my password?",
    "Hi, how can I reset my passwords please",
    "When does the canteen open on Mondays?",
];

async fn ready(outside: &Outside) -> Process {
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        std::fs::write(folder.join("app.key"), KEY).unwrap();
        let kept = configuration(outside).replace("[cache]\nenabled = false", "[cache]\nenabled = true");
        let kept = kept.replace("persona = \"You are sales.\"", "persona = \"Sell.\"\ncache = \"canonical\"");
        // Of a thousandth of a cent no call can be paid.
        let key =
            "key = \"file:app.key\"\ntiers = [\"fast\"]\nagents = [\"sales\"]\nbudget = \"0.00001/day\"\n";
        format!("{kept}[api_key.app]\n{key}")
    });
    process.start();
    process.ready().await;
    process
}

/// Asks as a client does; the status and what is said.
async fn ask(process: &Process, model: &str, text: &str) -> (u16, Value) {
    let url = format!("http://{}/v1/chat/completions", process.public).parse().unwrap();
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] }).to_string();
    let mut request = Request::new(http::Method::POST, url, body);
    for (name, value) in
        [("authorization", format!("Bearer {KEY}")), ("content-type", "application/json".into())]
    {
        request.headers.insert(name, value.parse().unwrap());
    }
    let response = loopback().send(request).await.unwrap();
    (response.status.as_u16(), serde_json::from_slice(&response.body).unwrap())
}

/// A command that does as it is told: what it prints.
async fn told(process: &Process, arguments: &[&str]) -> String {
    let output = process.command(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn json_of(process: &Process, arguments: &[&str]) -> Value {
    let text = told(process, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
}

/// A command that refuses: what it complains of.
async fn refused(process: &Process, arguments: &[&str]) -> String {
    let output = process.command(arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// What happened, of one kind, oldest first.
async fn events(process: &Process, what: &str) -> Vec<Value> {
    let all = json_of(process, &["events"]).await;
    let all = all.as_array().unwrap().iter().map(|event| event["happened"].clone());
    all.filter(|happened| happened["what"] == what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_answers_are_listed_explained_and_taken_out() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let bills = || outside.provider.bills().len();
    let asked = async |text| ask(&process, "agent:sales", text).await;
    for (text, count) in [(ASKED[0], 1), (ASKED[0], 1), (ASKED[1], 1), (ASKED[2], 2)] {
        let (status, body) = asked(text).await;
        assert_eq!((status, bills()), (200, count), "{text}: {body}");
    }
    let stock = json_of(&process, &["cache", "list"]).await;
    let sales = &stock["agents"][0];
    assert_eq!(
        (&stock["entries"], &sales["agent"], &sales["served"]),
        (&json!(2), &json!("sales"), &json!(2))
    );
    assert!(stock["bytes"].as_u64() > Some(0) && sales["saved"].as_i64() > Some(0), "{stock}");
    let page = told(&process, &["cache", "list"]).await;
    assert!(page.contains("sales") && page.contains("2 answers"), "{page}");

    // Nobody has asked it so yet, and it is seen which answer would do.
    let third = "please, how do i reset my password";
    let page = told(&process, &["cache", "explain", third, "--agent", "sales"]).await;
    assert!(page.contains("level canonical") && page.contains("would be served"), "{page}");
    assert!(!page.contains(ASKED[0]), "what people asked is shown to who asks for it: {page}");
    let explained = json_of(&process, &["cache", "explain", third, "--agent", "sales", "--content"]).await;
    let nearest = &explained["candidates"][0];
    assert_eq!((&nearest["then"], &nearest["question"]), (&json!("served"), &json!(ASKED[0])), "{explained}");
    let entry = nearest["entry"].as_str().unwrap();
    let unknown = refused(&process, &["cache", "explain", third, "--agent", "nobody"]).await;
    assert!(!unknown.is_empty());
    assert_eq!(bills(), 2, "who only looks asks nobody");

    let out = told(&process, &["cache", "evict", "--entry", entry, "--why", "the fee has changed"]).await;
    assert_eq!(out, "1 evicted\n");
    for (text, count) in [(ASKED[2], 2), (ASKED[1], 3), (ASKED[0], 3)] {
        asked(text).await;
        assert_eq!(bills(), count, "that one alone is gone: {text}");
    }
    assert_eq!(told(&process, &["cache", "evict", "--agent", "support"]).await, "0 evicted\n");
    assert_eq!(json_of(&process, &["cache", "evict", "--all"]).await["entries"], 2);
    assert_eq!(json_of(&process, &["cache", "list"]).await["entries"], 0);
    asked(ASKED[0]).await;
    assert_eq!(bills(), 4);

    let kept = events(&process, "cache evicted").await;
    let ofs: Vec<_> =
        kept.iter().map(|event| (&event["detail"]["of"], &event["detail"]["entries"])).collect();
    let (one, agent) = (json!({ "entry": entry }), json!({ "agent": "support" }));
    assert_eq!(ofs, [(&one, &json!(1)), (&agent, &json!(0)), (&json!("all"), &json!(2))]);
    assert_eq!(kept[0]["why"], "the fee has changed");
    assert!(kept.iter().all(|event| event["by"].as_str().is_some_and(|by| !by.is_empty())), "{kept:?}");
    assert!(process.terminate().await);
    let none = refused(&process, &["cache", "list"]).await;
    assert!(none.contains("no host runs"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_is_used_by_the_next_call_ends_by_itself_and_stands_in_the_history() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    // Each its own: what was kept would cost nothing.
    let mut count = 0;
    let mut asked = async || {
        count += 1;
        ask(&process, "fast", &format!("question {count}")).await.0
    };
    assert_eq!(asked().await, 429);
    let raise = |rest: &[&'static str]| [&["budget", "raise"][..], rest].concat();
    for (wrong, says) in [
        (&["key:app", "--by", "1.00", "--for", "1h", "--why", " "][..], "needs a reason"),
        (&["key:app/day/tokens", "--by", "10 tokens", "--for", "1h", "--why", "x"], "nothing limits"),
        (&["agent:ghost", "--by", "1.00", "--for", "1h", "--why", "x"], "there is no agent"),
        (&["key:app", "--by", "10 tokens", "--for", "1h", "--why", "x"], "no amount"),
        (&["channel:partner", "--by", "1.00", "--for", "1h", "--why", "x"], "nothing limits"),
    ] {
        let errors = refused(&process, &raise(wrong)).await;
        assert!(errors.contains(says), "{wrong:?}: {errors}");
    }
    assert!(events(&process, "budget raised").await.is_empty(), "what is refused raises nothing");
    assert_eq!(asked().await, 429);

    let fair = raise(&["key:app", "--by", "1.00", "--for", "6s", "--why", "the trade fair"]);
    let raised = json_of(&process, &fair).await;
    assert_eq!(raised["scope"], "key:app/day");
    assert_eq!(asked().await, 200, "the next call may use it");
    assert_eq!(outside.provider.bills().len(), 1);
    let standing = async || json_of(&process, &["budget", "show", "key:app"]).await;
    let shown = standing().await;
    let own = &shown["budgets"][0];
    assert_eq!(
        (&own["scope"], &own["raised"]["amount"]),
        (&json!("key:app/day"), &json!(1_000_000_000)),
        "{shown}"
    );
    let page = told(&process, &["budget", "list"]).await;
    assert!(page.contains("key:app/day") && page.contains("+ $1.00"), "{page}");

    let kept = events(&process, "budget raised").await;
    let [event] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(event["why"], "key:app/day by $1.00: the trade fair");
    assert!(event["by"].as_str().is_some_and(|by| !by.is_empty()), "{event}");
    assert_eq!(event["detail"]["until"], raised["until"]);
    assert_eq!(
        (&event["detail"]["amount"], &event["detail"]["unit"]),
        (&json!(1_000_000_000), &json!("dollars"))
    );
    let page = told(&process, &["budget", "show", "key:app"]).await;
    assert!(page.contains("budget raised by") && page.contains("the trade fair"), "{page}");

    eventually("it ends by itself", async || standing().await["budgets"][0]["raised"]["amount"] == 0).await;
    assert_eq!(asked().await, 429);
    assert_eq!(events(&process, "budget raised").await.len(), 1, "that it was raised stays told");
    assert!(process.terminate().await);
    let none = refused(&process, &fair).await;
    assert!(none.contains("no host runs"), "{none}");
    assert_eq!(events(&process, "budget raised").await.len(), 1, "also without a host");
}
