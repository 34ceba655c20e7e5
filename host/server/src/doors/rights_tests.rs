//! Who is who, and who may what.

use super::*;
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::ServiceExt;

const FILE: &str = "[operator.ann]\ntoken = \"env:ANN\"\nrights = [\"read\"]\n[operator.bob]\ntoken = \"env:BOB\"\nrights = [\"operate\", \"content\"]\n[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n";

fn config(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chela.toml");
    std::fs::write(&path, text).unwrap();
    let env = |name: &str| Some(format!("the-long-token-of-{name}"));
    crate::config::load(&path, &env).unwrap().0
}

fn operators() -> Operators {
    Operators::new(&config(FILE), &SecretString::from("the-long-token-of-all"))
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
}

fn shown(proof: &Proof, headers: &HeaderMap) -> Option<(String, Vec<Right>)> {
    let caller = proof.caller(headers).ok()?;
    Some((caller.name, caller.rights.into_iter().collect()))
}

#[test]
fn a_token_says_who_it_is() {
    let proof = Proof::Token(operators());
    let of = |token: &str| shown(&proof, &headers("authorization", &format!("Bearer {token}")));
    assert_eq!(of("the-long-token-of-all"), Some(("admin".to_owned(), Right::ALL.to_vec())));
    assert_eq!(of("the-long-token-of-ANN"), Some(("ann".to_owned(), vec![Right::Read])));
    assert_eq!(of("the-long-token-of-BOB"), Some(("bob".to_owned(), vec![Right::Content, Right::Operate])));
    for wrong in ["", "the-long-token-of-al", "the-long-token-of-alle", "the-long-token-of-ann"] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
    assert_eq!(shown(&proof, &HeaderMap::new()), None);
    assert_eq!(shown(&proof, &headers("authorization", "Basic the-long-token-of-all")), None);
    assert_eq!(shown(&proof, &headers(OPERATOR_HEADER, "ann")), None, "a name is no proof");
}

#[test]
fn another_configuration_has_other_operators() {
    let operators = operators();
    let proof = Proof::Token(operators.clone());
    let of = |token: &str| shown(&proof, &headers("authorization", &format!("Bearer {token}")));
    let (_, without_ann) = FILE.split_once("[operator.bob]").unwrap();
    let admin = SecretString::from("another-long-token");
    operators.replace(&config(&format!("[operator.bob]{without_ann}")), &admin);
    assert_eq!(of("the-long-token-of-ANN"), None);
    assert_eq!(of("the-long-token-of-all"), None);
    assert!(of("the-long-token-of-BOB").is_some() && of("another-long-token").is_some());
}

#[test]
fn tokens_are_not_printed() {
    let shown = format!("{:?}", operators());
    assert_eq!(shown, "[\"admin\", \"ann\", \"bob\"]");
}

#[test]
fn whoever_comes_through_the_socket_has_every_right_and_a_plain_name() {
    let of = |name: &str| shown(&Proof::Socket, &headers(OPERATOR_HEADER, name)).unwrap();
    assert_eq!(of("ann.b_c-1"), ("ann.b_c-1".to_owned(), Right::ALL.to_vec()));
    for odd in ["", "-ann", "ann b", "ann\u{e9}", "the loader", &"a".repeat(33)] {
        let header = HeaderMap::from_iter([(
            OPERATOR_HEADER.parse().unwrap(),
            axum::http::HeaderValue::from_bytes(odd.as_bytes()).unwrap(),
        )]);
        assert_eq!(shown(&Proof::Socket, &header).unwrap().0, "socket", "{odd}");
    }
    assert_eq!(shown(&Proof::Socket, &HeaderMap::new()).unwrap().0, "socket");
    assert!(is_plain(&"a".repeat(32)));
}

/// A caller as the routes see him: what is asked of `who`'s token, and how it is answered.
async fn asked(proof: Proof, token: &str, path: &str) -> (StatusCode, serde_json::Value) {
    // What `Allowed` does before it opens the gate, without a host behind it.
    async fn needs<R: Needed>(request: Request) -> Result<(), Error> {
        let caller = request.extensions().get::<Caller>().ok_or(Error::Unauthorized)?;
        caller.check(R::RIGHT)
    }
    let router = Router::new()
        .route("/read", get(needs::<Read>))
        .route("/content", get(needs::<Content>))
        .route("/operate", get(needs::<Operate>))
        .layer(from_fn_with_state(proof, identify));
    let request = Request::builder().uri(path).header("authorization", format!("Bearer {token}"));
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    for (who, path, status) in [
        ("ANN", "/read", 200),
        ("ANN", "/content", 403),
        ("ANN", "/operate", 403),
        ("BOB", "/read", 403),
        ("BOB", "/content", 200),
        ("BOB", "/operate", 200),
        ("all", "/read", 200),
        ("all", "/content", 200),
        ("all", "/operate", 200),
        ("eve", "/read", 401),
    ] {
        let (found, problem) =
            asked(Proof::Token(operators()), &format!("the-long-token-of-{who}"), path).await;
        assert_eq!(found, status, "{who} {path}");
        if status == 403 {
            let right = path.trim_start_matches('/');
            assert_eq!(problem["error"]["code"], "forbidden", "{problem}");
            assert_eq!(problem["error"]["right"], right, "{problem}");
            assert!(problem["error"]["message"].as_str().unwrap().contains(right), "{problem}");
        }
    }
    let (found, _) = asked(Proof::Socket, "", "/operate").await;
    assert_eq!(found, 200);
}
