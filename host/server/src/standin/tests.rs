//! The stand-ins against each other and against a host that is two routes long: real loopback, no waiting.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chela_egress::{Config, Credential, Egress, Request, Response};
use chela_types::{Clock, ManualClock, Millis, Money, Price};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::socket::{Server, serve};
use super::*;

const NOW: Millis = Millis(1_531_431_954_000);

fn egress() -> Egress {
    Egress::new(Config { allow_loopback: true, ..Config::standard() }).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

async fn workspace() -> slack::Slack {
    let mut settings = slack::Settings::new("secret", "xoxb-1", &["C1"]);
    settings.sender = SenderSettings::quick(2, Duration::ZERO);
    slack::Slack::start(settings, egress(), clock()).await.unwrap()
}

async fn call(url: &str, token: &str, body: &Value) -> Result<Response, chela_egress::Error> {
    let mut request = Request::new(http::Method::POST, Url::parse(url).unwrap(), body.to_string()).json();
    request.credential = Some(Credential::Bearer(token.into()));
    egress().send(request).await
}

async fn posted(slack: &slack::Slack, token: &str, body: &Value) -> Value {
    let response = call(&format!("{}/api/chat.postMessage", slack.base_url()), token, body).await.unwrap();
    serde_json::from_slice(&response.body).unwrap()
}

/// Takes whatever comes, refuses the first `refusals` of it, and keeps headers and body.
#[derive(Clone, Default)]
struct Host {
    seen: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    refusals: Arc<AtomicUsize>,
}

impl Host {
    async fn start(&self) -> (Server, Url) {
        let take = |State(host): State<Self>, headers: HeaderMap, body: String| async move {
            let challenge =
                serde_json::from_str::<Value>(&body).unwrap()["challenge"].as_str().map(str::to_owned);
            host.seen.lock().push((headers, body));
            let left = host.refusals.load(Ordering::SeqCst);
            if left > 0 {
                host.refusals.store(left - 1, Ordering::SeqCst);
                return (StatusCode::SERVICE_UNAVAILABLE, String::new());
            }
            (StatusCode::OK, challenge.unwrap_or_default())
        };
        let router = Router::new().route("/", post(take)).with_state(self.clone());
        let server = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router).await.unwrap();
        let url = Url::parse(&format!("http://{}/", server.address)).unwrap();
        (server, url)
    }
}

#[tokio::test]
async fn slack_posts_what_is_right_and_refuses_what_is_wrong() {
    let slack = workspace().await;
    let good = json!({ "channel": "C1", "text": "hi", "thread_ts": "1.000001" });
    assert_eq!(posted(&slack, "xoxb-1", &good).await["ok"], true);
    let long = "x".repeat(40_001);
    for (token, body, error) in [
        ("xoxb-2", good.clone(), "invalid_auth"),
        ("xoxb-1", json!({ "channel": "C2", "text": "hi" }), "channel_not_found"),
        ("xoxb-1", json!({ "channel": "C1" }), "no_text"),
        ("xoxb-1", json!({ "channel": "C1", "text": long }), "msg_too_long"),
        ("xoxb-1", json!({ "channel": "C1", "text": "hi", "thread_ts": "now" }), "invalid_thread_ts"),
        ("xoxb-1", json!(["C1"]), "invalid_json"),
    ] {
        let answer = posted(&slack, token, &body).await;
        assert_eq!((&answer["ok"], answer["error"].as_str()), (&json!(false), Some(error)));
    }
    let posts = slack.posts().all();
    assert_eq!(posts.len(), 1);
    assert_eq!((posts[0].text.as_str(), posts[0].thread_ts.as_deref()), ("hi", Some("1.000001")));
    assert_eq!(slack.refusals().len(), 6);
}

#[tokio::test]
async fn slack_knows_its_bot() {
    let slack = workspace().await;
    let url = format!("{}/api/auth.test", slack.base_url());
    let answer: Value =
        serde_json::from_slice(&call(&url, "xoxb-1", &json!({})).await.unwrap().body).unwrap();
    assert_eq!((answer["user_id"].as_str(), answer["bot_id"].as_str()), (Some("U0CHELA"), Some("B0CHELA")));
}

#[tokio::test]
async fn slack_misbehaves_as_told_and_then_no_more() {
    let slack = workspace().await;
    let url = format!("{}/api/chat.postMessage", slack.base_url());
    let body = json!({ "channel": "C1", "text": "hi" });
    slack.faults().inject(&Fault::TooMany { retry_after: 7 }, 1);
    slack.faults().inject(&Fault::Status(500), 1);
    slack.faults().inject(&Fault::Refusal("is_archived".to_owned()), 1);
    slack.faults().inject(&Fault::Drop, 1);

    let limited = call(&url, "xoxb-1", &body).await.unwrap();
    assert_eq!((limited.status.as_u16(), limited.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(call(&url, "xoxb-1", &body).await.unwrap().status.as_u16(), 500);
    assert_eq!(posted(&slack, "xoxb-1", &body).await["error"], "is_archived");
    assert!(slack.posts().is_empty());

    let error = call(&url, "xoxb-1", &body).await.unwrap_err();
    assert!(error.reached(), "the request was read: {error}");
    assert!(!slack.posts().all()[0].is_answered, "people see the message all the same");
    assert_eq!(posted(&slack, "xoxb-1", &body).await["ok"], true);
    assert!(slack.faults().is_spent());
}

#[tokio::test]
async fn slack_repeats_an_event_until_it_is_taken() {
    let (slack, host) = (workspace().await, Host::default());
    let (_server, url) = host.start().await;
    host.refusals.store(1, Ordering::SeqCst);
    let say =
        slack::Say { channel: "C1".into(), user: "U1".into(), text: "hello".into(), ..Default::default() };
    let (event, sent) = slack.say(&url, &say).await.unwrap();

    assert!(sent.is_acknowledged());
    assert_eq!(sent.attempts.iter().map(|a| a.status).collect::<Vec<_>>(), [Some(503), Some(200)]);
    let seen = host.seen.lock().clone();
    assert!(seen.iter().all(|(_, body)| body.as_bytes() == event.body));
    assert!(!seen[0].0.contains_key("x-slack-retry-num"));
    assert_eq!(seen[1].0["x-slack-retry-num"], "1");
    assert_eq!(seen[1].0["x-slack-retry-reason"], "http_error");
}

#[tokio::test]
async fn slack_gives_up_after_its_repetitions() {
    let (slack, host) = (workspace().await, Host::default());
    let (_server, url) = host.start().await;
    host.refusals.store(100, Ordering::SeqCst);
    let (_, sent) = slack.say(&url, &slack::Say::default()).await.unwrap();
    assert_eq!((sent.is_acknowledged(), sent.attempts.len()), (false, 3));
}

#[tokio::test]
async fn slack_verifies_an_address_by_its_challenge() {
    let (slack, host) = (workspace().await, Host::default());
    let (_server, url) = host.start().await;
    assert!(slack.verify_url(&url).await.unwrap());
    host.refusals.store(100, Ordering::SeqCst);
    assert!(!slack.verify_url(&url).await.unwrap());
}

/// The signed sample of slack-go/slack `security_test.go` (BSD-2-Clause).
#[tokio::test]
async fn slack_signs_like_slack() {
    let mut settings = slack::Settings::new("e6b19c573432dcc6b075501d51b51bb8", "", &[]);
    settings.sender = SenderSettings::slack();
    let slack = slack::Slack::start(settings, egress(), clock()).await.unwrap();
    let body = concat!(
        r#"{"token":"aF5ynEYQH0dFN9imlgcADxDB","team_id":"XXXXXXXXX","api_app_id":"YYYYYYYYY","event":"#,
        r#"{"type":"app_mention","user":"AAAAAAAAA","text":"<@EEEEEEEEE> hello world","client_msg_id":"#,
        r#""477cc591-ch73-a14z-4db8-g0cd76321bec","ts":"1531431954.000073","channel":"TTTTTTTTT","event_ts":"#,
        r#""1531431954.000073"},"type":"event_callback","event_id":"TvBP7LRED7","event_time":1531431954,"#,
        r#""authed_users":["EEEEEEEEE"]}"#
    );
    let headers = slack.signed(body.as_bytes()).unwrap();
    let expected = "v0=adada4ed31709aef585c2580ca3267678c6a8eaeb7e0c1aca3ee57b656886b2c";
    assert_eq!(headers["x-slack-signature"], expected);
}

#[tokio::test]
async fn the_partner_takes_its_own_signature_and_no_other() {
    let partner =
        |secret: &'static str| webhook::Webhook::start(webhook::Settings::new(secret), egress(), clock());
    let (right, wrong) = (partner("whsec_c2VjcmV0").await.unwrap(), partner("whsec_b3RoZXI=").await.unwrap());
    let body = json!({ "type": "reply", "id": "1", "agent": "hr", "text": "hi", "thread": "t" }).to_string();
    let send = async |from: &webhook::Webhook, body: &str| {
        let url = Url::parse(&right.reply_url()).unwrap();
        let mut request = Request::new(http::Method::POST, url, body.to_owned());
        request.headers = from.signed("msg_1", body.as_bytes()).unwrap();
        egress().send(request).await.unwrap().status.as_u16()
    };
    let expected = right.expect("t");
    assert_eq!(send(&right, &body).await, 200);
    assert_eq!(expected.await.unwrap().reply.text, "hi");
    assert_eq!(send(&wrong, &body).await, 401);
    assert_eq!(send(&right, "{}").await, 401);
    assert_eq!(right.replies().all()[0].reply.agent, "hr");
    assert_eq!((right.replies().len(), right.refusals().len()), (1, 2));
}

#[tokio::test]
async fn the_partner_refuses_stale_replies() {
    let time = ManualClock::at(NOW);
    let settings = webhook::Settings::new("whsec_c2VjcmV0");
    let partner = webhook::Webhook::start(settings, egress(), Arc::new(time.clone())).await.unwrap();
    let body = json!({ "type": "reply", "id": "1", "agent": "hr", "text": "hi", "thread": "t" }).to_string();
    let headers = partner.signed("msg_1", body.as_bytes()).unwrap();
    for (later, status) in [(300, 200), (1, 401)] {
        time.advance(Duration::from_secs(later));
        let mut request =
            Request::new(http::Method::POST, Url::parse(&partner.reply_url()).unwrap(), body.clone());
        request.headers = headers.clone();
        assert_eq!(egress().send(request).await.unwrap().status.as_u16(), status, "{later} s later");
    }
}

fn price() -> Price {
    let million = |dollars: i64| Money::from_nanos(dollars * 1_000_000_000);
    Price::flat(chela_types::Rates {
        input: million(1),
        cached: million(1),
        written: million(1),
        output: million(2),
    })
}

async fn asked(provider: &provider::Provider, stream: bool) -> Result<Response, chela_egress::Error> {
    let body = json!({
        "model": "m", "stream": stream, "stream_options": { "include_usage": stream },
        "messages": [{ "role": "system", "content": "be kind" }, { "role": "user", "content": "#7 where is my order" }],
    });
    call(&format!("{}/chat/completions", provider.base_url()), "key", &body).await
}

#[tokio::test]
async fn the_provider_bills_each_answer_once() {
    let provider = provider::Provider::start(provider::Settings::new("key", price()), clock()).await.unwrap();
    let whole: Value = serde_json::from_slice(&asked(&provider, false).await.unwrap().body).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "You said: #7 where is my order ");
    let events = String::from_utf8(asked(&provider, true).await.unwrap().body.to_vec()).unwrap();
    assert!(events.ends_with("data: [DONE]\n\n") && events.contains("\"prompt_tokens\":15"), "{events}");

    let bills = provider.bills().all();
    assert_eq!(bills.len(), 2);
    assert_eq!(bills[0].marker.as_deref(), Some("#7"));
    assert_eq!(bills[0].cost, Money::from_nanos(15 * 1_000 + 6 * 2_000));
    assert_eq!(provider.total(), Money::from_nanos(2 * (15 * 1_000 + 6 * 2_000)));
}

#[tokio::test]
async fn the_provider_bills_what_it_made_and_nothing_that_it_refused() {
    let provider = provider::Provider::start(provider::Settings::new("key", price()), clock()).await.unwrap();
    provider.faults().inject(&Fault::Status(500), 1);
    provider.faults().inject(&Fault::Refusal("content_policy".to_owned()), 1);
    assert_eq!(asked(&provider, true).await.unwrap().status.as_u16(), 500);
    assert_eq!(asked(&provider, true).await.unwrap().status.as_u16(), 400);
    assert!(provider.bills().is_empty());

    provider.faults().inject(&Fault::Cut, 1);
    provider.faults().inject(&Fault::Drop, 1);
    assert!(asked(&provider, true).await.is_err());
    assert!(asked(&provider, false).await.is_err());
    assert_eq!(provider.bills().len(), 2);
}

#[tokio::test]
async fn a_log_is_waited_for_and_kept_in_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = Arc::new(Log::open(Some(file.path())).unwrap());
    let later = Arc::clone(&log);
    let waiting = tokio::spawn(async move { later.wait_for(|n: &u32| *n == 2).await });
    log.push(1);
    log.push(2);
    assert_eq!(waiting.await.unwrap(), 2);
    assert_eq!(log.wait_for(|n| *n == 1).await, 1);
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "1\n2\n");
}
