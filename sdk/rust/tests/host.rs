//! The sdk against its own stand-in: what authors rely on in their tests.

use chela_sdk::memory::{self, Scope};
use chela_sdk::models::{ModelError, Request, Role};
use chela_sdk::testing::Host;
use chela_sdk::{AnsweringError, Header, HostError, HttpFrame, Response, knowledge, log, tools};

#[test]
fn a_stream_is_an_iterator_with_a_whole_at_its_end() {
    Host::new().answer("one two three").run(|| {
        let mut stream = Request::new("count").stream().unwrap();
        assert_eq!(stream.next(), Some(Ok("one ".to_owned())));
        assert!(matches!(stream.completion(), Err(ModelError::Invalid(_))));
        let rest: Vec<String> = stream.by_ref().map(Result::unwrap).collect();
        assert_eq!(rest, ["two ", "three"]);
        assert_eq!(stream.next(), None);
        assert_eq!(stream.completion().unwrap().text, "one two three");
    });
}

#[test]
fn a_request_is_seen_as_it_was_built() {
    let request = Request::new("a").then(Role::Assistant, "b").tier("fast").system("s").temperature(0.5);
    let (said, seen) = Host::new().answer("ok").watch(|| request.complete().unwrap().text);
    assert_eq!((said.as_str(), seen.requests), ("ok", vec![request]));
}

#[test]
fn memory_has_versions_and_scopes() {
    Host::new().run(|| {
        assert_eq!(memory::get(Scope::User, "k"), Ok(None));
        assert_eq!(memory::compare_and_set(Scope::User, "k", 1, "x"), Ok(false));
        assert_eq!(memory::compare_and_set(Scope::User, "k", 0, "x"), Ok(true));
        assert_eq!(memory::set(Scope::User, "k", "y"), Ok(2));
        assert_eq!(memory::get(Scope::User, "k").unwrap().unwrap().value, "y");
        assert_eq!(memory::get(Scope::Agent, "k"), Ok(None));
    });
}

#[test]
fn nothing_is_granted_unless_it_was_given() {
    assert!(matches!(knowledge::search("x", 1), Err(HostError::NotGranted(_))));
    assert!(matches!(Request::new("x").complete(), Err(ModelError::NotGranted(_))));
    assert!(matches!(tools::list_tools(None), Err(HostError::NotGranted(_))));
    assert_eq!(chela_sdk::config_json(), "{}");
}

#[test]
fn one_host_ends_with_its_test() {
    let ((), seen) = Host::new().watch(|| log::warn("careful"));
    assert_eq!(seen.lines, [(log::Level::Warn, "careful".to_owned())]);
    assert!(Host::new().watch(|| ()).1.lines.is_empty());
}

#[test]
fn errors_of_the_host_become_errors_of_the_agent() {
    let of = AnsweringError::from;
    assert_eq!(of(HostError::Limit("l".into())), AnsweringError::Unavailable("l".into()));
    assert_eq!(of(HostError::Invalid("i".into())), AnsweringError::Other("i".into()));
    let of = AnsweringError::from;
    assert_eq!(of(ModelError::OverBudget("b".into())), AnsweringError::Unavailable("b".into()));
    assert_eq!(of(ModelError::Refused("r".into())), AnsweringError::Unsuitable("r".into()));
}

#[test]
fn a_config_of_another_shape_says_which_key() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        passages: u32,
    }
    let config = serde_json::json!({ "passagez": 1 });
    let said = Host::new().config(config).run(chela_sdk::config::<Config>).unwrap_err();
    assert!(said.starts_with("config: unknown field `passagez`, expected `passages`"), "{said}");
}

#[test]
fn headers_and_bodies_are_read_without_panics() {
    let frame = |body: &[u8]| HttpFrame {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: vec![Header::new("a", "1"), Header::new("a", "2")],
        body: body.to_vec(),
    };
    assert_eq!((frame(b"").header("a"), frame(b"").header("b")), (Some("1"), None));
    assert!(frame(b"{}").json().is_ok());
    assert!(frame("[".repeat(1_000).as_bytes()).json().is_err());
    let response =
        |value: &str| Response { headers: vec![Header::new("retry-after", value)], ..Response::text("") };
    assert_eq!(response(" 7 ").retry_after_ms(), Some(7_000));
    assert_eq!(response("Sun, 22 Nov 2026 08:00:00 GMT").retry_after_ms(), None);
}
