//! The rules seen from outside, against servers on loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use chela_egress::{Config, Credential, Egress, Error, Local, Phase, Request, Signing, Timeouts};
use chela_types::{Blame, Fault, Millis, Retry};
use futures::StreamExt;
use http::Method;
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use url::Url;

async fn serve(app: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Url::parse(&url).unwrap()
}

fn open() -> Egress {
    Egress::new(Config { allow_loopback: true, ..Config::standard() }).unwrap()
}

fn ask(url: Url) -> Request {
    Request::new(Method::GET, url, "")
}

#[tokio::test]
async fn loopback_is_denied_and_allowed() {
    let hits = Arc::new(AtomicU32::new(0));
    let seen = hits.clone();
    let count = any(move || async move { seen.fetch_add(1, Ordering::SeqCst).to_string() });
    let base = serve(Router::new().route("/", count)).await;
    let by_name = Url::parse(&format!("http://localhost:{}/", base.port().unwrap())).unwrap();

    let closed = Egress::new(Config::standard()).unwrap();
    for url in [&base, &by_name] {
        let error = closed.send(ask(url.clone())).await.unwrap_err();
        assert!(error.to_string().contains("[egress] allow_loopback"), "{error}");
        assert_eq!((error.blame(), error.retry(), error.reached()), (Blame::Operator, Retry::Never, false));
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);

    for url in [&base, &by_name] {
        assert_eq!(open().send(ask(url.clone())).await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(hits.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let followed = Arc::new(AtomicU32::new(0));
    let seen = followed.clone();
    let app = Router::new()
        .route("/", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/secret")]) }))
        .route("/secret", get(move || async move { seen.fetch_add(1, Ordering::SeqCst).to_string() }));
    let answer = open().send(ask(serve(app).await)).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(answer.headers[header::LOCATION], "/secret");
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_body_limit_is_obeyed_and_violated() {
    let base = serve(Router::new().route("/", get(|| async { "x".repeat(1000) }))).await;
    let limited = |max| {
        Egress::new(Config { allow_loopback: true, response_bytes_max: max, ..Config::standard() }).unwrap()
    };
    assert_eq!(limited(1000).send(ask(base.clone())).await.unwrap().body.len(), 1000);
    let error = limited(999).send(ask(base)).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 999, .. }), "{error}");
    assert!(error.reached());
}

#[tokio::test]
async fn a_compressed_bomb_stays_compressed() {
    let zip = || async { ([(header::CONTENT_ENCODING, "gzip")], "not unpacked") };
    let answer = open().send(ask(serve(Router::new().route("/", get(zip))).await)).await.unwrap();
    assert_eq!(answer.body, "not unpacked");
}

#[tokio::test]
async fn credential_and_signature_arrive_and_are_not_shown() {
    let echo = |headers: HeaderMap| async move {
        let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        format!("{}|{}|{}", text("authorization"), text("webhook-signature"), text("x-own"))
    };
    let mut request = Request::new(
        Method::POST,
        serve(Router::new().route("/", post(echo))).await,
        r#"{"test": 2432232314}"#,
    );
    request.headers.insert("x-own", "1".parse().unwrap());
    request.credential = Some(Credential::Bearer(SecretString::from("hunter2")));
    request.sign = Some(Signing::StandardWebhooks {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
        at: Millis(1_614_265_330_000),
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
    });
    let answer = open().send(request).await.unwrap();
    assert_eq!(answer.body, "Bearer hunter2|v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=|1");
}

#[tokio::test]
async fn an_error_shows_neither_path_nor_secret() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut request = ask(Url::parse(&format!("http://127.0.0.1:{port}/hunter2?token=hunter2")).unwrap());
    request.credential = Some(Credential::Bearer(SecretString::from("hunter2")));
    let shown_request = format!("{request:?}").replace("hunter2?token=hunter2", "");
    assert!(!shown_request.contains("\"hunter2\""));
    let error = open().send(request).await.unwrap_err();
    let mut chain = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        chain.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(!chain.contains("hunter2"), "{chain}");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!((error.reached(), error.retry()), (false, Retry::Later(Duration::ZERO)));
}

#[tokio::test]
async fn an_unknown_name_reached_nobody() {
    let url = Url::parse("https://no-such-host.invalid/").unwrap();
    let error = open().send(ask(url)).await.unwrap_err();
    assert!(!error.reached() && error.blame() == Blame::Provider, "{error}");
}

#[tokio::test]
async fn a_silent_peer_may_have_been_reached() {
    let never = || async { std::future::pending::<()>().await };
    let mut request = ask(serve(Router::new().route("/", get(never))).await);
    request.timeouts = Timeouts { first_byte: Some(Duration::from_millis(500)), ..Timeouts::default() };
    let error = open().send(request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }) && error.reached(), "{error}");
}

/// A peer whose connection never comes to stand: it takes the line and never speaks TLS.
async fn deaf() -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    url
}

#[tokio::test]
async fn a_peer_without_a_connection_was_not_reached_however_short_the_wait() {
    let url = deaf().await;
    for (method, body) in [(Method::GET, ""), (Method::POST, "text")] {
        let mut request = Request::new(method, url.clone(), body);
        // Shorter than the time to connect, as a model's first token may be.
        request.timeouts.first_byte = Some(Duration::from_millis(50));
        let error = open().send(request).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::Connect, .. }) && !error.reached(), "{error}");
    }
}

#[tokio::test]
async fn a_silent_peer_may_have_been_reached_by_a_body_too() {
    let never = || async { std::future::pending::<()>().await };
    let url = serve(Router::new().route("/", post(never))).await;
    let mut request = Request::new(Method::POST, url, "text");
    request.timeouts.first_byte = Some(Duration::from_millis(500));
    let error = open().send(request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }) && error.reached(), "{error}");
}

#[tokio::test]
async fn a_body_arrives_whole_with_its_length() {
    let echo = |headers: HeaderMap, body: Bytes| async move {
        let length = headers.get(header::CONTENT_LENGTH).map_or("none", |it| it.to_str().unwrap()).to_owned();
        format!("{length} {}", body.len())
    };
    let url = serve(Router::new().route("/", post(echo))).await;
    for (size, told) in [(100_000, "100000 100000"), (0, "none 0")] {
        let request = Request::new(Method::POST, url.clone(), "x".repeat(size));
        assert_eq!(open().send(request).await.unwrap().body, told);
    }
}

/// A peer that promises a hundred bytes and sends four.
async fn cutting() -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _read = socket.read(&mut head).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
    });
    url
}

#[tokio::test]
async fn a_cut_answer_may_have_been_reached() {
    let error = open().send(ask(cutting().await)).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }) && error.reached(), "{error}");
}

#[tokio::test]
async fn the_head_of_an_answer_is_kept_whatever_its_body_does() {
    let heard = open().ask(ask(cutting().await)).await.unwrap();
    assert_eq!(
        (heard.status, &heard.headers[header::CONTENT_LENGTH]),
        (StatusCode::OK, &"100".parse().unwrap())
    );
    assert!(matches!(heard.body, Err(Error::Broken { .. })), "{heard:?}");

    let long = || async { (StatusCode::CREATED, "x".repeat(1_000)) };
    let url = serve(Router::new().route("/", get(long))).await;
    let config = Config { allow_loopback: true, response_bytes_max: 999, ..Config::standard() };
    let heard = Egress::new(config).unwrap().ask(ask(url.clone())).await.unwrap();
    assert_eq!(heard.status, StatusCode::CREATED);
    assert!(matches!(heard.body, Err(Error::TooLarge { limit: 999, .. })), "{heard:?}");

    let heard = open().ask(ask(url)).await.unwrap();
    assert_eq!(heard.whole().unwrap().body.len(), 1_000, "and one that comes whole is whole");
}

#[tokio::test]
async fn a_stream_arrives_in_pieces_and_ends_on_silence() {
    let pieces = || async {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"one"))]);
        Body::from_stream(first.chain(futures::stream::pending())).into_response()
    };
    let mut request = ask(serve(Router::new().route("/", get(pieces))).await);
    request.timeouts.idle = Some(Duration::from_millis(50));
    let mut answer = open().stream(request).await.unwrap();
    assert_eq!(answer.body.next().await.unwrap().unwrap(), "one");
    let error = answer.body.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Idle, .. }), "{error}");
    assert!(answer.body.next().await.is_none());
}

#[tokio::test]
async fn requests_in_flight_are_limited_and_given_back() {
    let never = || async { std::future::pending::<()>().await };
    let app = Router::new().route("/", get(|| async { "ok" })).route("/never", get(never));
    let base = serve(app).await;
    let one = Egress::new(Config { allow_loopback: true, in_flight_max: 1, ..Config::standard() }).unwrap();
    let held = tokio::spawn({
        let (one, url) = (one.clone(), base.join("never").unwrap());
        async move { one.send(ask(url)).await }
    });
    while one.free_places() > 0 {
        tokio::task::yield_now().await;
    }
    let mut request = ask(base.clone());
    request.timeouts.total = Some(Duration::from_millis(30));
    let error = one.send(request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Turn, .. }) && !error.reached(), "{error}");
    held.abort();
    assert_eq!(one.send(ask(base)).await.unwrap().body, "ok");
}

#[tokio::test]
async fn the_command_line_speaks_to_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chela.sock");
    let local = Local::new(&path).unwrap();
    let error = local.get::<serde_json::Value>("/counts").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");

    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let app = Router::new()
        .route("/counts", get(|| async { axum::Json(serde_json::json!({"waiting": 3})) }))
        .route("/echo", post(|axum::Json(v): axum::Json<serde_json::Value>| async { axum::Json(v) }))
        .route("/no", get(|| async { (StatusCode::NOT_FOUND, "no such turn") }));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    assert_eq!(local.get::<serde_json::Value>("/counts").await.unwrap()["waiting"], 3);
    let echoed: Vec<u32> = local.post("/echo", &[1, 2]).await.unwrap();
    assert_eq!(echoed, [1, 2]);
    let error = local.get::<serde_json::Value>("/no").await.unwrap_err();
    assert!(matches!(&error, Error::Answer { status: 404, said, .. } if said == "no such turn"), "{error}");
}
