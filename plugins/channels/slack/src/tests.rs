//! The slack component without a host: what it understands, what it refuses, and hostile input.

use chela_sdk::{
    Acknowledgement, Change, Channel, Edit, Event, Frame, Header, HttpFrame, Incoming, Outgoing, Rejection,
    RenderingError, Reply, Response, Revision, Step, Surroundings, Target,
};
use serde_json::{Value, json};

use super::Slack;

fn receive_bytes(body: Vec<u8>) -> Result<chela_sdk::Inbound, Rejection> {
    let headers = vec![Header::new("content-type", "application/json")];
    let frame = HttpFrame { method: "POST".into(), path: "/".into(), query: String::new(), headers, body };
    let surroundings = Surroundings { channel: "slack".into(), own_ids: vec!["UBOT".into(), "BBOT".into()] };
    Slack.receive(Frame::Http(frame), surroundings)
}

fn receive(body: &Value) -> Result<chela_sdk::Inbound, Rejection> {
    receive_bytes(body.to_string().into_bytes())
}

fn envelope(event: Value) -> Value {
    json!({ "type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": event })
}

fn post(text: &str) -> Value {
    json!({ "type": "message", "channel": "C1", "channel_type": "channel", "user": "U1", "ts": "1.2", "text": text })
}

fn with(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}

fn message(event: Value) -> Incoming {
    let inbound = receive(&envelope(event)).unwrap();
    match inbound.events.into_iter().next() {
        Some(Event::Message(incoming)) => incoming,
        other => panic!("{other:?}"),
    }
}

fn is_ignored(event: Value) -> bool {
    matches!(receive(&envelope(event)).unwrap().events.as_slice(), [Event::Ignored(_)])
}

#[test]
fn a_challenge_is_given_back() {
    let inbound = receive(&json!({ "type": "url_verification", "token": "x", "challenge": "abc" })).unwrap();
    assert!(inbound.events.is_empty());
    assert_eq!(inbound.acknowledgement, Acknowledgement::Now(Response::text("abc")));
}

#[test]
fn a_challenge_has_a_limit() {
    let of = |challenge: Value| receive(&json!({ "type": "url_verification", "challenge": challenge }));
    assert!(of(json!("x".repeat(1_024))).is_ok());
    for challenge in [json!("x".repeat(1_025)), json!(7), json!(null)] {
        assert!(matches!(of(challenge), Err(Rejection::Malformed(_))));
    }
}

#[test]
fn a_post_starts_a_conversation_of_its_own() {
    let incoming = message(post("hello"));
    assert_eq!(incoming.text, "hello");
    assert_eq!(incoming.identity.sender, "U1");
    assert_eq!(incoming.identity.conversation, ["T1", "C1", "1.2"]);
    assert_eq!(incoming.identity.dedupe, [vec!["Ev1"], vec!["T1", "C1", "1.2"]]);
}

#[test]
fn a_post_in_a_thread_belongs_to_it() {
    let incoming = message(with(post("hello"), "thread_ts", json!("1.0")));
    assert_eq!(incoming.identity.conversation, ["T1", "C1", "1.0"]);
    assert_eq!(incoming.identity.dedupe[1], ["T1", "C1", "1.2"]);
}

#[test]
fn a_direct_conversation_is_one_and_flat() {
    let direct = with(post("hello"), "channel_type", json!("im"));
    let incoming = message(direct.clone());
    assert_eq!(incoming.identity.conversation, ["T1", "C1"]);
    assert_eq!(incoming.notes.as_deref(), Some("flat"));
    assert_eq!(message(with(direct, "thread_ts", json!("1.0"))).notes, None);
}

#[test]
fn own_mentions_go_and_references_keep_their_names() {
    let cases = [
        ("<@UBOT> where is my order?", "where is my order?"),
        ("hi <@UBOT|claw>", "hi"),
        ("<@U2> and <@U3|ann> in <#C9|ops>", "@U2 and @ann in #ops"),
        (
            "see <https://x.test/a?b=1|our page> or <https://x.test>",
            "see our page (https://x.test/a?b=1) or https://x.test",
        ),
        ("<!here> <!date^1^{date}|today>", "@here today"),
        ("1 &lt; 2 &amp;amp; 3 &gt; 2", "1 < 2 &amp; 3 > 2"),
        ("a < b", "a < b"),
    ];
    for (written, plain) in cases {
        assert_eq!(message(post(written)).text, plain, "{written}");
    }
}

#[test]
fn what_no_person_posted_now_is_ignored() {
    for event in [
        with(post("x"), "user", json!("UBOT")),
        with(post("x"), "user", json!(null)),
        with(post("x"), "bot_id", json!("B7")),
        with(post("x"), "subtype", json!("message_changed")),
        with(post("x"), "subtype", json!("bot_message")),
        with(post("x"), "subtype", json!("channel_join")),
        with(post("x"), "hidden", json!(true)),
        post("<@UBOT>"),
        json!({ "type": "reaction_added", "user": "U1" }),
    ] {
        assert!(is_ignored(event.clone()), "{event}");
    }
}

#[test]
fn files_come_along() {
    let event = with(
        post(""),
        "files",
        json!([{ "name": "a\u{0}.pdf", "mimetype": "application/pdf", "size": 5 }, 3, {}]),
    );
    let incoming = message(with(event, "subtype", json!("file_share")));
    assert_eq!(incoming.attachments.len(), 1);
    assert_eq!(incoming.attachments[0].name, "a.pdf");
}

#[test]
fn wrong_shapes_are_malformed() {
    let broken = [
        json!({}),
        json!([]),
        json!({ "type": 1 }),
        json!({ "type": "event_callback" }),
        json!({ "type": "event_callback", "event": "message" }),
        envelope(with(post("x"), "ts", json!(1.2))),
        envelope(with(post("x"), "channel", json!({}))),
        envelope(with(post("x"), "text", json!(["x"]))),
        envelope(with(post("x"), "ts", json!(null))),
        json!({ "type": "event_callback", "event": post("x") }),
    ];
    for body in broken {
        assert!(matches!(receive(&body), Err(Rejection::Malformed(_))), "{body}");
    }
    assert!(matches!(receive(&json!({ "type": "block_actions" })), Err(Rejection::Unsupported(_))));
}

#[test]
fn hostile_bytes_are_malformed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [b"\xff\xfe{}".to_vec(), Vec::new(), b"{".to_vec(), deep.into_bytes()] {
        assert!(matches!(receive_bytes(body), Err(Rejection::Malformed(_))));
    }
}

#[test]
fn a_long_text_is_read_whole() {
    assert_eq!(message(post(&"<a ".repeat(300_000))).text.len(), 899_999);
    assert_eq!(message(post(&"<>x".repeat(300_000))).text.len(), 300_000);
}

fn target(notes: Option<&str>) -> Target {
    let bound = vec![Header::new("channel", "C1"), Header::new("thread", "1.2")];
    Target { bound, notes: notes.map(str::to_owned), waits: false }
}

fn render(reply: Reply, notes: Option<&str>) -> Result<Step, RenderingError> {
    Slack.render(Outgoing { id: "o1".into(), agent: "hr".into(), reply }, target(notes), None)
}

/// The body of a step's request, and its state.
fn next(step: Step) -> (Value, String) {
    match step {
        Step::Next(out) => {
            let body: Value = serde_json::from_slice(&out.request.body).unwrap();
            let edits = if body.get("ts").is_some() { "update-message" } else { "post-message" };
            assert_eq!(out.request.endpoint, edits);
            assert!(out.state.len() <= 64 * 1024);
            (body, out.state)
        }
        other => panic!("{other:?}"),
    }
}

fn answer(status: u16, body: &str) -> Response {
    Response { status, headers: Vec::new(), body: body.into() }
}

fn sent(state: &str, response: Response) -> Step {
    Slack.sent(state.to_owned(), response).unwrap()
}

#[test]
fn a_short_answer_is_one_post_in_its_thread() {
    let (body, state) = next(render(Reply::text("Hello **you**"), None).unwrap());
    assert_eq!(body["channel"], "C1");
    assert_eq!(body["thread_ts"], "1.2");
    assert_eq!(body["text"], "Hello *you*");
    let done = sent(&state, answer(200, r#"{"ok":true,"ts":"9.1"}"#));
    assert_eq!(done, Step::Done(Some("9.1".into())));
}

#[test]
fn a_direct_answer_has_no_thread() {
    let (body, _) = next(render(Reply::text("Hello"), Some("flat")).unwrap());
    assert!(body.get("thread_ts").is_none());
}

#[test]
fn nobody_is_called_by_an_answer() {
    let (body, _) =
        next(render(Reply::text("<!channel> & <@U1> @here @Everyone me@host.test"), None).unwrap());
    let said = "&lt;!channel&gt; &amp; &lt;@U1&gt; @\u{200b}here @\u{200b}Everyone me@host.test";
    assert_eq!(body["text"], said);
}

#[test]
fn headings_and_code_are_kept_apart() {
    let (body, _) = next(render(Reply::text("# Returns\n```\n**a** <b>\n```\n#channel"), None).unwrap());
    assert_eq!(body["text"], "*Returns*\n```\n**a** &lt;b&gt;\n```\n#channel");
}

#[test]
fn a_long_answer_goes_out_in_parts() {
    let text = "word ".repeat(2_000);
    let (body, mut state) = next(render(Reply::text(&text), None).unwrap());
    let mut said = vec![body["text"].as_str().unwrap().to_owned()];
    for ts in 1.. {
        match sent(&state, answer(200, &format!(r#"{{"ok":true,"ts":"{ts}"}}"#))) {
            Step::Done(id) => {
                assert_eq!(id.as_deref(), Some("1"));
                break;
            }
            step => {
                let (body, after) = next(step);
                said.push(body["text"].as_str().unwrap().to_owned());
                state = after;
            }
        }
    }
    assert!(said.iter().all(|part| part.chars().count() <= 4_000));
    assert_eq!((said.len(), said.join(" ")), (3, text.trim().to_owned()));
}

#[test]
fn after_a_restart_the_same_part_is_sent_again() {
    let (_, state) = next(render(Reply::text("word ".repeat(2_000)), None).unwrap());
    let (second, state) = next(sent(&state, answer(200, r#"{"ok":true,"ts":"1"}"#)));
    let outgoing = Outgoing { id: "o1".into(), agent: "hr".into(), reply: Reply::text("unused") };
    let (again, _) = next(Slack.render(outgoing, target(None), Some(state)).unwrap());
    assert_eq!(second, again);
}

#[test]
fn an_endless_answer_is_shortened_and_fits_the_state() {
    for text in ["\"\\".repeat(500_000), "\u{1}<&\u{1f980}".repeat(100_000), "x".repeat(1_000_000)] {
        let (body, state) = next(render(Reply::text(text), None).unwrap());
        assert!(body["text"].as_str().unwrap().chars().count() <= 4_000);
        assert!(state.len() <= 64 * 1024);
        assert!(state.contains("(shortened)"));
    }
}

#[test]
fn what_is_worth_another_attempt_is_tried_again() {
    let (_, state) = next(render(Reply::text("x"), None).unwrap());
    let mut limited = answer(429, "");
    limited.headers.push(Header::new("retry-after", "30"));
    assert_eq!(sent(&state, limited), Step::Retry(30_000));
    for response in [
        answer(429, ""),
        answer(500, "oops"),
        answer(503, ""),
        answer(200, "<html>"),
        answer(200, r#"{"ok":false,"error":"ratelimited"}"#),
        answer(200, r#"{"ok":false,"error":"internal_error"}"#),
        answer(200, r#"{"ok":false,"error":"service_unavailable"}"#),
    ] {
        assert_eq!(sent(&state, response), Step::Retry(1_000));
    }
}

#[test]
fn what_will_never_work_is_given_up() {
    let (_, state) = next(render(Reply::text("x"), None).unwrap());
    let codes =
        "channel_not_found not_in_channel is_archived invalid_auth token_revoked msg_too_long brand_new";
    for code in codes.split(' ') {
        let step = sent(&state, answer(200, &format!(r#"{{"ok":false,"error":"{code}"}}"#)));
        assert_eq!(step, Step::Permanent(format!("slack refuses: {code}")));
    }
    for response in [answer(404, ""), answer(302, ""), answer(200, "{}"), answer(200, "[]")] {
        assert!(matches!(sent(&state, response), Step::Permanent(_)));
    }
}

#[test]
fn a_state_of_somebody_else_is_an_error() {
    for state in ["", "{}", "null", r#"{"channel":"C1","thread":null,"parts":[],"posted":null,"x":1}"#] {
        assert!(Slack.sent(state.to_owned(), answer(200, r#"{"ok":true}"#)).is_err());
    }
}

#[test]
fn a_reply_without_text_or_target_is_an_error() {
    assert!(matches!(render(Reply::text(" \n "), None), Err(RenderingError::Unsuitable(_))));
    let nowhere = Target { bound: Vec::new(), notes: None, waits: false };
    let outgoing = Outgoing { id: "o1".into(), agent: "hr".into(), reply: Reply::text("x") };
    assert!(Slack.render(outgoing, nowhere, None).is_err());
}

fn revise(text: &str, platform_id: Option<&str>, final_: bool) -> (Value, String) {
    let outgoing = Outgoing { id: "o1".into(), agent: "hr".into(), reply: Reply::text(text) };
    let revision = Revision { platform_id: platform_id.map(str::to_owned), seq: 1, final_ };
    next(Slack.update(outgoing, target(None), revision).unwrap())
}

#[test]
fn a_draft_is_one_post_that_is_edited_and_the_answer_takes_its_place() {
    let (body, state) = revise("You can", None, false);
    assert_eq!((&body["text"], &body["thread_ts"]), (&json!("You can …"), &json!("1.2")));
    let done = sent(&state, answer(200, r#"{"ok":true,"ts":"5.5"}"#));
    assert_eq!(done, Step::Done(Some("5.5".into())));

    let (body, state) = revise("You can **send**", Some("5.5"), false);
    assert_eq!(body["ts"], "5.5");
    assert_eq!((&body["channel"], &body["text"]), (&json!("C1"), &json!("You can *send* …")));
    assert_eq!(sent(&state, answer(200, r#"{"ok":true,"ts":"5.5"}"#)), Step::Done(Some("5.5".into())));

    let (body, _) = revise(&"word ".repeat(2_000), Some("5.5"), false);
    assert!(body["text"].as_str().unwrap().len() <= 4_000 + " …".len(), "what does not fit is left out");

    let long = "word ".repeat(2_000);
    let (body, state) = revise(&long, Some("5.5"), true);
    assert_eq!(body["ts"], "5.5");
    let (body, state) = next(sent(&state, answer(200, r#"{"ok":true,"ts":"5.5"}"#)));
    assert_eq!((body.get("ts"), &body["thread_ts"]), (None, &json!("1.2")), "what follows are posts");
    let (_, state) = next(sent(&state, answer(200, r#"{"ok":true,"ts":"6.6"}"#)));
    let done = sent(&state, answer(200, r#"{"ok":true,"ts":"7.7"}"#));
    assert_eq!(done, Step::Done(Some("5.5".into())));
}

#[test]
fn a_post_that_is_gone_cannot_be_edited() {
    let (_, state) = revise("done", Some("5.5"), true);
    let refused = sent(&state, answer(200, r#"{"ok":false,"error":"message_not_found"}"#));
    assert!(matches!(refused, Step::Permanent(why) if why.contains("message_not_found")));
}

fn changed(message: Value) -> Value {
    json!({ "type": "message", "subtype": "message_changed", "hidden": true, "channel": "C1", "ts": "9.9",
        "message": message, "previous_message": { "type": "message", "user": "U1", "ts": "1.2", "text": "helo" } })
}

fn edited(text: &str) -> Value {
    json!({ "type": "message", "user": "U1", "text": text, "ts": "1.2", "edited": { "user": "U1", "ts": "9.9" } })
}

fn change() -> Change {
    let post = ["T1", "C1", "1.2"].map(str::to_owned).to_vec();
    Change { dedupe: vec![vec!["Ev1".to_owned()]], post, sender: "U1".to_owned() }
}

#[test]
fn what_a_person_does_to_a_post_is_an_edit_or_a_deletion() {
    let inbound = receive(&envelope(changed(edited("hello <@UBOT>")))).unwrap();
    assert_eq!(inbound.events, [Event::Edit(Edit { change: change(), text: "hello".to_owned() })]);
    let deleted = json!({ "type": "message", "subtype": "message_deleted", "hidden": true, "channel": "C1",
        "ts": "9.9", "deleted_ts": "1.2", "previous_message": { "user": "U1", "ts": "1.2", "text": "hello" } });
    assert_eq!(receive(&envelope(deleted.clone())).unwrap().events, [Event::Deletion(change())]);

    let own = with(edited("x"), "user", json!("UBOT"));
    let bots = with(edited("x"), "bot_id", json!("B2"));
    let link = with(edited("x"), "edited", Value::Null);
    for nobodys in [changed(own), changed(bots), changed(link), changed(edited(" "))] {
        assert!(is_ignored(nobodys.clone()), "{nobodys}");
    }
    assert!(is_ignored(with(deleted.clone(), "previous_message", json!({ "user": "U1", "bot_id": "B2" }))));
    assert!(is_ignored(with(deleted.clone(), "previous_message", Value::Null)));
    for broken in [with(deleted, "deleted_ts", json!(7)), changed(with(edited("x"), "ts", Value::Null))] {
        assert!(matches!(receive(&envelope(broken)), Err(Rejection::Malformed(_))));
    }
}
