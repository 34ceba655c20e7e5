//! The keyword component without a host: what it understands, what it refuses, and hostile input.

use chela_sdk::{Candidate, Context, Decision, Message, Person, Router, RoutingError, testing::Host};
use serde_json::json;

use super::Keyword;

fn message(text: &str) -> Message {
    Message {
        id: "turn-1".into(),
        text: text.into(),
        sender: Person { id: "U1".into(), name: None, outsider: false },
        channel: "slack".into(),
        place: None,
        attachments: Vec::new(),
        received_ms: 0,
    }
}

fn context(sticky: Option<&str>) -> Context {
    let candidate = |agent: &str| Candidate { agent: agent.into(), description: String::new() };
    Context {
        department: None,
        candidates: ["sales", "support", "hr"].map(candidate).to_vec(),
        sticky: sticky.map(str::to_owned),
        default_agent: "support".into(),
        past: Vec::new(),
    }
}

fn router(rules: serde_json::Value) -> Result<Keyword, String> {
    Host::new().config(json!({ "rules": rules })).run(Keyword::init)
}

fn route(rules: serde_json::Value, text: &str) -> Result<Decision, RoutingError> {
    router(rules).unwrap().route(message(text), context(None))
}

fn agent(rules: serde_json::Value, text: &str) -> Option<String> {
    route(rules, text).ok().map(|decision| decision.agent)
}

#[test]
fn a_phrase_matches_whole_words_only() {
    let rules = json!([{ "agent": "hr", "phrases": ["leave"] }]);
    assert_eq!(agent(rules.clone(), "How much leave do I have?").as_deref(), Some("hr"));
    assert_eq!(agent(rules, "cleave and sleeves"), None);
}

#[test]
fn case_width_and_accents_composed_or_not_are_the_same() {
    let rules = json!([{ "agent": "hr", "phrases": ["Café Straße"] }]);
    for text in ["cafe\u{301} STRASSE", "CAFÉ straße", "ｃａｆé strasse", "ca\u{ad}fé\nstraße!"] {
        assert_eq!(agent(rules.clone(), text).as_deref(), Some("hr"), "{text}");
    }
    assert_eq!(agent(json!([{ "agent": "hr", "phrases": ["ΟΔΟΣ"] }]), "οδος").as_deref(), Some("hr"));
}

#[test]
fn a_phrase_needs_its_words_in_a_row() {
    let rules = json!([{ "agent": "hr", "phrases": ["parental leave"] }]);
    assert_eq!(agent(rules.clone(), "about Parental-Leave").as_deref(), Some("hr"));
    assert_eq!(agent(rules, "leave the parental unit"), None);
}

#[test]
fn a_negative_phrase_cancels_its_rule() {
    let rules = json!([{ "agent": "sales", "phrases": ["price"], "not": ["half price"] }]);
    assert_eq!(agent(rules.clone(), "the price?").as_deref(), Some("sales"));
    assert_eq!(agent(rules, "Half Price sale"), None);
}

#[test]
fn priority_then_words_then_order_decide() {
    let rules = json!([
        { "agent": "sales", "phrases": ["order"] },
        { "agent": "support", "phrases": ["order", "late order"] },
        { "agent": "hr", "phrases": ["payslip"], "priority": 10 },
    ]);
    assert_eq!(agent(rules.clone(), "an order").as_deref(), Some("sales"));
    assert_eq!(agent(rules.clone(), "a late order").as_deref(), Some("support"));
    assert_eq!(agent(rules, "a late order and my payslip").as_deref(), Some("hr"));
}

#[test]
fn the_reason_holds_words_of_the_configuration_only() {
    let decision =
        route(json!([{ "agent": "hr", "phrases": ["x", "Payslip"] }]), "my secret PAYSLIP").unwrap();
    assert_eq!(decision.reason, "rule 1 matches the phrase “Payslip”");
    assert!((decision.score - 1.0).abs() < f32::EPSILON);
}

#[test]
fn alternatives_are_named_once_each() {
    let rules = json!([
        { "agent": "sales", "phrases": ["order"] },
        { "agent": "sales", "phrases": ["order"] },
        { "agent": "support", "phrases": ["order"] },
    ]);
    let decision = route(rules, "order").unwrap();
    let others: Vec<_> = decision.alternatives.iter().map(|other| other.agent.as_str()).collect();
    assert_eq!((decision.agent.as_str(), others), ("sales", vec!["support"]));
}

#[test]
fn an_agent_that_may_not_be_reached_is_never_chosen() {
    assert_eq!(agent(json!([{ "agent": "board", "phrases": ["order"] }]), "order"), None);
}

#[test]
fn the_sticky_agent_stays_when_nothing_matches() {
    let router = router(json!([{ "agent": "hr", "phrases": ["payslip"] }])).unwrap();
    assert_eq!(router.route(message("thanks"), context(Some("sales"))).unwrap().agent, "sales");
    assert_eq!(router.route(message("my payslip"), context(Some("sales"))).unwrap().agent, "hr");
    assert!(matches!(router.route(message("thanks"), context(None)), Err(RoutingError::NoMatch(_))));
}

#[test]
fn a_sticky_agent_is_let_go_where_the_operator_says_so() {
    let router = Host::new().config(json!({ "sticky": false })).run(Keyword::init).unwrap();
    assert!(router.route(message("thanks"), context(Some("sales"))).is_err());
}

#[test]
fn a_bad_configuration_is_named() {
    let said = |rules| router(rules).unwrap_err();
    assert_eq!(
        said(json!([{ "agent": "hr", "phrases": ["a", "?!"] }])),
        "rules[0].phrases[1] has no word in it"
    );
    assert!(said(json!([{ "agent": "hr", "phrases": [] }])).contains("phrases is empty"));
    assert!(said(json!([{ "agent": "hr", "phrase": ["a"] }])).contains("unknown field `phrase`"));
    assert!(said(json!([{ "agent": "hr", "phrases": ["x".repeat(201)] }])).contains("longer than"));
}

#[test]
fn hostile_texts_are_only_texts() {
    let rules = json!([{ "agent": "hr", "phrases": ["needle"], "not": ["stop"] }]);
    for text in ["", "\u{301}\u{301}", "\u{202e}elbeen", &"a ".repeat(500_000), &"\u{fdfa}".repeat(50_000)] {
        assert_eq!(agent(rules.clone(), text), None);
    }
    assert_eq!(agent(rules, &format!("needle {}", "hay ".repeat(250_000))).as_deref(), Some("hr"));
}

#[test]
fn the_demos_rules_send_each_question_to_its_agent() {
    let rules: serde_json::Value = toml::from_str(include_str!("../../../bundle/demo/rules.toml")).unwrap();
    let router = Host::new().config(rules).run(Keyword::init).unwrap();
    let mut context = context(None);
    context.candidates.push(Candidate { agent: "technical".into(), description: String::new() });
    for (text, agent) in [
        ("How much does the Starter Claw cost, and is there a discount for 12?", "sales"),
        ("My parcel is late. Can I get a refund?", "support"),
        ("Which header does the API want for an idempotency key?", "technical"),
        ("How many weeks of parental leave do I have?", "hr"),
        ("Where do I find my payslip?", "hr"),
    ] {
        assert_eq!(router.route(message(text), context.clone()).unwrap().agent, agent, "{text}");
    }
}
