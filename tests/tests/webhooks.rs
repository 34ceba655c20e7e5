//! Requests of platforms: recorded ones are taken, and whatever is not what the platform sent is refused with
//! nothing kept and no model asked.

use bytes::Bytes;
use chela_engine::{Error, Refusal, Webhook};
use chela_tests::outside::{PARTNER_SECRET, SLACK_SECRET};
use chela_tests::signing::{Scheme, Signed};
use chela_tests::{Host, Outside, host};
use chela_types::signature::Recipe;
use chela_types::{Clock, ManualClock, Millis};
use serde::Deserialize;
use serde_json::json;

/// A signed request as somebody else recorded it; see `data/README.md`.
#[derive(Debug, Deserialize)]
struct Recorded {
    id: String,
    secret: String,
    timestamp: String,
    body: String,
    signature: String,
    msg_id: Option<String>,
}

fn recorded(id: &str) -> Recorded {
    let all: Vec<Recorded> = serde_json::from_str(include_str!("../data/webhook-vectors.json")).unwrap();
    all.into_iter().find(|recorded| recorded.id == id).unwrap_or_else(|| panic!("{id} is not recorded"))
}

impl Recorded {
    fn scheme(&self) -> Scheme {
        if self.msg_id.is_some() { Scheme::Standard } else { Scheme::Slack }
    }

    fn time(&self) -> Millis {
        Millis(self.timestamp.parse::<i64>().unwrap() * 1_000)
    }

    fn signed(&self) -> Signed {
        Signed {
            scheme: self.scheme(),
            id: self.msg_id.clone().unwrap_or_default(),
            timestamp: self.timestamp.clone(),
            signature: self.signature.clone(),
            body: Bytes::from(self.body.clone()),
        }
    }

    /// The channel's name and plugin in these tests.
    fn channel(&self) -> &'static str {
        if self.scheme() == Scheme::Slack { "slack" } else { "partner" }
    }
}

/// A host with both channels, at a time that stands still.
async fn at(now: Millis, slack_secret: &str, partner_secret: &str) -> (Host, Outside, ManualClock) {
    let (outside, clock) = Outside::at(now).await;
    let secret = |value: &str| value.to_owned().into();
    let host = host(&outside)
        .agent("support", "assistant")
        .slack("slack", "support")
        .with_channel("slack", |c| drop(c.secrets.insert("signing_secret".to_owned(), secret(slack_secret))))
        .webhook("partner", "support")
        .with_channel("partner", |c| {
            drop(c.secrets.insert("signing_secret".to_owned(), secret(partner_secret)))
        })
        .run()
        .await;
    (host, outside, clock)
}

async fn of(recorded: &Recorded) -> (Host, Outside, ManualClock) {
    match recorded.scheme() {
        Scheme::Slack => at(recorded.time(), &recorded.secret, PARTNER_SECRET).await,
        Scheme::Standard => at(recorded.time(), SLACK_SECRET, &recorded.secret).await,
    }
}

/// Nothing was kept, nothing was paid.
async fn assert_untouched(host: &Host, case: &str) {
    assert_eq!(host.turns().await, 0, "{case}: a turn is kept");
    assert!(host.store.ledger(1).await.unwrap().rows.is_empty(), "{case}: a model was asked");
}

/// The recipe that a plugin's own manifest declares.
fn declared(plugin: &str) -> Recipe {
    let manifest: toml::Table = chela_bundle::get(plugin).unwrap().manifest.parse().unwrap();
    manifest["verify"]["recipe"].clone().try_into().unwrap()
}

#[test]
fn recorded_signatures_are_right_by_the_manifests_recipes() {
    for (id, plugin) in [
        ("slack-docs-slash-command", "slack"),
        ("slack-url-verification", "slack"),
        ("slack-event-callback-app-mention", "slack"),
        ("svix-standard-webhooks", "webhook"),
    ] {
        let recorded = recorded(id);
        let webhook = recorded.signed().webhook();
        let header = |name: &str| {
            webhook.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
        };
        let recipe = declared(plugin);
        recipe
            .verify(&recorded.secret, recorded.body.as_bytes(), header)
            .unwrap_or_else(|e| panic!("{id}: {e}"));
        let other = format!("{} ", recorded.body);
        assert!(recipe.verify(&recorded.secret, other.as_bytes(), header).is_err(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_challenge_is_answered() {
    let recorded = recorded("slack-url-verification");
    let (host, _outside, _) = of(&recorded).await;
    let answer = host.receive("slack", recorded.signed().webhook()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, b"P7sFXA4o3HV2hTx4zb4zcQ9yrvuQs8pDh6EacOxmMRj0tJaXfQFF");
    assert_untouched(&host, "a challenge").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_mention_is_kept_and_answered_in_its_thread() {
    let recorded = recorded("slack-event-callback-app-mention");
    let (host, outside, _) = of(&recorded).await;
    assert_eq!(host.receive("slack", recorded.signed().webhook()).await.unwrap().status, 200);
    let posted = outside.slack.posts().wait_for(|_| true).await;
    assert_eq!(
        (posted.channel.as_str(), posted.thread_ts.as_deref()),
        ("TTTTTTTTT", Some("1531431954.000073"))
    );
    assert!(posted.text.contains("hello world"), "{}", posted.text);
    host.closed("hello world").await;
    assert_eq!((host.turns().await, outside.slack.posts().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_standard_webhook_passes_verification_and_only_then_is_read() {
    let recorded = recorded("svix-standard-webhooks");
    let (host, _outside, _) = of(&recorded).await;
    // Properly signed, and not what this channel's partners write: refused one step later.
    let refused = host.receive("partner", recorded.signed().webhook()).await;
    assert!(matches!(refused, Err(Error::Refused { kind: Refusal::Malformed, .. })), "{refused:?}");
}

/// Slack's own sample is a slash command: a form, which the Events API never sends. It proves its origin, at its time
/// and no other, and is then not what this channel takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_slash_command_passes_verification_and_is_not_taken() {
    let recorded = recorded("slack-docs-slash-command");
    for (seconds, expected) in [
        (0, Refusal::ContentType),
        (300, Refusal::ContentType),
        (-300, Refusal::ContentType),
        (301, Refusal::Unverified),
        (-301, Refusal::Unverified),
    ] {
        let now = Millis(recorded.time().0 + seconds * 1_000);
        let (host, _outside, _) = at(now, &recorded.secret, PARTNER_SECRET).await;
        let mut webhook = recorded.signed().webhook();
        webhook.headers[0].1 = "application/x-www-form-urlencoded".to_owned();
        match host.receive("slack", webhook).await {
            Err(Error::Refused { kind, .. }) => assert_eq!(kind, expected, "{seconds} s"),
            other => panic!("{seconds} s: {other:?}"),
        }
        assert_untouched(&host, "a slash command").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tampered_byte_is_refused() {
    for id in [
        "slack-docs-slash-command",
        "slack-url-verification",
        "slack-event-callback-app-mention",
        "svix-standard-webhooks",
    ] {
        let recorded = recorded(id);
        let (host, _outside, _) = of(&recorded).await;
        let flip = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            bytes
        };
        let right = recorded.signed();
        let text = |text: &str, at| String::from_utf8(flip(text.as_bytes(), at)).unwrap();
        let bodies =
            (0..right.body.len()).map(|at| Signed { body: flip(&right.body, at).into(), ..right.clone() });
        let times = (0..right.timestamp.len())
            .map(|at| Signed { timestamp: text(&right.timestamp, at), ..right.clone() });
        let signatures = (0..right.signature.len())
            .map(|at| Signed { signature: text(&right.signature, at), ..right.clone() });
        let ids = (0..right.id.len()).map(|at| Signed { id: text(&right.id, at), ..right.clone() });
        for tampered in bodies.chain(times).chain(signatures).chain(ids) {
            let refused = host.receive(recorded.channel(), tampered.webhook()).await;
            let unverified = matches!(refused, Err(Error::Refused { kind: Refusal::Unverified, .. }));
            assert!(unverified, "{id}: {tampered:?} gave {refused:?}");
        }
        assert_untouched(&host, id).await;
    }
}

const NOW: Millis = Millis(1_760_000_000_000);

/// A message that would be answered.
fn good(scheme: Scheme) -> Vec<u8> {
    let body = match scheme {
        Scheme::Standard => json!({ "sender": "ann", "text": "hello" }),
        Scheme::Slack => json!({
            "type": "event_callback", "team_id": "T0CRAB", "event_id": "Ev1", "event": {
                "type": "message", "user": "U1", "text": "hello", "ts": "1760000000.000001", "channel": "C0PUBLIC",
            },
        }),
    };
    serde_json::to_vec(&body).unwrap()
}

/// A signed request, spoilt.
fn spoilt(scheme: Scheme, spoil: impl FnOnce(&mut Webhook)) -> Webhook {
    let secret = if scheme == Scheme::Slack { SLACK_SECRET } else { PARTNER_SECRET };
    let mut webhook = Signed::now(scheme, secret, NOW, good(scheme)).webhook();
    spoil(&mut webhook);
    webhook
}

fn with_time(scheme: Scheme, timestamp: &str) -> Webhook {
    let secret = if scheme == Scheme::Slack { SLACK_SECRET } else { PARTNER_SECRET };
    Signed::at(scheme, secret, timestamp, good(scheme)).webhook()
}

fn with_body(scheme: Scheme, body: impl Into<Bytes>) -> Webhook {
    let secret = if scheme == Scheme::Slack { SLACK_SECRET } else { PARTNER_SECRET };
    Signed::now(scheme, secret, NOW, body).webhook()
}

fn nested(depth: usize) -> Vec<u8> {
    let mut body = b"{\"sender\":\"ann\",\"text\":\"hello\",\"x\":".to_vec();
    body.extend(std::iter::repeat_n(b'[', depth));
    body.extend(std::iter::repeat_n(b']', depth));
    body.push(b'}');
    body
}

/// Requests that are not what they should be at the gate.
fn unverified(scheme: Scheme) -> Vec<(&'static str, Webhook)> {
    let second = |seconds: i64| (NOW.0 / 1_000 + seconds).to_string();
    let other = match scheme {
        Scheme::Slack => "another-signing-secret",
        Scheme::Standard => "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==",
    };
    let (time, signature) = (scheme.timestamp_header(), scheme.signature_header());
    let without =
        |name: &'static str| spoilt(scheme, |webhook| webhook.headers.retain(|(given, _)| given != name));
    let twice = |name: &'static str| {
        spoilt(scheme, |webhook| {
            let again = webhook.headers.iter().find(|(given, _)| given == name).cloned().unwrap();
            webhook.headers.push(again);
        })
    };
    let with = |name: &'static str, value: &str| {
        spoilt(scheme, |webhook| {
            webhook
                .headers
                .iter_mut()
                .filter(|(given, _)| given == name)
                .for_each(|(_, old)| *old = value.to_owned());
        })
    };
    vec![
        ("no signature", without(signature)),
        ("an empty signature", with(signature, "")),
        ("two signature headers", twice(signature)),
        ("no timestamp", without(time)),
        ("two timestamps", twice(time)),
        ("an empty timestamp", with_time(scheme, "")),
        ("301 seconds old", with_time(scheme, &second(-301))),
        ("301 seconds early", with_time(scheme, &second(301))),
        ("a negative timestamp", with_time(scheme, "-1760000000")),
        ("a timestamp that is no number", with_time(scheme, "now")),
        ("a timestamp with a sign", with_time(scheme, "+1760000000")),
        ("a timestamp of 2^63", with_time(scheme, "9223372036854775808")),
        ("a fraction of a timestamp", with_time(scheme, "1760000000.5")),
        ("somebody else's secret", Signed::now(scheme, other, NOW, good(scheme)).webhook()),
        (
            "the same JSON written anew",
            spoilt(scheme, |webhook| {
                let value: serde_json::Value = serde_json::from_slice(&webhook.body).unwrap();
                webhook.body = serde_json::to_vec_pretty(&value).unwrap().into();
            }),
        ),
    ]
}

/// Properly signed requests that are nothing that a platform sends.
fn malformed(scheme: Scheme) -> Vec<(&'static str, Webhook)> {
    let text = |text: &str| with_body(scheme, text.to_owned().into_bytes());
    let good = String::from_utf8(good(scheme)).unwrap();
    vec![
        (
            "not UTF-8",
            with_body(
                scheme,
                good.replace("hello", "hel\u{1}lo")
                    .into_bytes()
                    .into_iter()
                    .map(|b| if b == 1 { 0xff } else { b })
                    .collect::<Vec<u8>>(),
            ),
        ),
        ("10,000 deep", with_body(scheme, nested(10_000))),
        ("a key twice", text(&good.replacen('{', "{\"sender\":\"boss\",\"sender\":\"ann\",", 1))),
        ("a number out of range", text(&good.replacen('{', "{\"x\":1e400,", 1))),
        ("a byte order mark", text(&format!("\u{feff}{good}"))),
        ("a lone surrogate", text(&good.replace("hello", "\\ud800"))),
        ("half of it", text(&good[..good.len() / 2])),
        ("no JSON", text("hello")),
        ("JSON of another shape", text("[]")),
        ("nothing", text("")),
    ]
}

async fn assert_refused(host: &Host, channel: &str, (case, webhook): (&str, Webhook), expected: Refusal) {
    let refused = host.receive(channel, webhook).await;
    let right = matches!(&refused, Err(Error::Refused { kind, .. }) if *kind == expected);
    assert!(right, "{channel}, {case}: expected {expected:?}, got {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_type_and_leave_nothing() {
    let (host, _outside, clock) = at(NOW, SLACK_SECRET, PARTNER_SECRET).await;
    for (channel, scheme) in [("slack", Scheme::Slack), ("partner", Scheme::Standard)] {
        for case in unverified(scheme) {
            assert_refused(&host, channel, case, Refusal::Unverified).await;
        }
        for case in malformed(scheme) {
            assert_refused(&host, channel, case, Refusal::Malformed).await;
        }
        let method = |method: &str| spoilt(scheme, |webhook| webhook.method = method.to_owned());
        for name in ["GET", "PUT", "DELETE"] {
            assert_refused(&host, channel, (name, method(name)), Refusal::Method).await;
        }
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json5", ""] {
            let webhook = spoilt(scheme, |webhook| webhook.headers[0].1 = content_type.to_owned());
            assert_refused(&host, channel, (content_type, webhook), Refusal::ContentType).await;
        }
        let oversized = with_body(scheme, vec![b' '; (1 << 20) + 1]);
        assert_refused(&host, channel, ("too long", oversized), Refusal::TooLarge).await;
    }
    let unknown = host.receive("ghost", with_body(Scheme::Slack, good(Scheme::Slack))).await;
    assert!(matches!(unknown, Err(Error::UnknownChannel(_))), "{unknown:?}");
    assert_eq!(clock.now(), NOW);
    assert_untouched(&host, "all of them").await;
}

/// The pair of the test above: the same requests, unspoilt and at the edge of what is allowed, are taken.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_edge_are_taken() {
    let (host, outside, _) = at(NOW, SLACK_SECRET, PARTNER_SECRET).await;
    let second = |seconds: i64| (NOW.0 / 1_000 + seconds).to_string();
    for seconds in [-300, 0, 300] {
        for (scheme, channel) in [(Scheme::Standard, "partner"), (Scheme::Slack, "slack")] {
            let webhook = with_time(scheme, &second(seconds));
            assert_eq!(host.receive(channel, webhook).await.unwrap().status, 200, "{seconds} s");
        }
    }
    let charset =
        spoilt(Scheme::Slack, |webhook| webhook.headers[0].1 = "application/json; charset=utf-8".to_owned());
    assert_eq!(host.receive("slack", charset).await.unwrap().status, 200);
    host.drained().await;
    assert_eq!((outside.partner.replies().len(), outside.slack.posts().len()), (3, 1));
}
