//! `chela demo --tour`: a message through every channel to every agent, and the record of each.
//!
//! The stand-in platforms judge: they sign what they send as the real ones do, and only what reaches them,
//! rightly addressed and signed, counts as an answer. The decision record must then say the same.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use chela_store::{Store, TurnState};
use chela_types::TurnId;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{Failure, Outcome, say, table};
use crate::demo::{Demo, GENERAL, PEOPLE};
use crate::standin::visitor::Visitor;
use crate::standin::{slack, webhook};
use crate::turn::{Turn, printable};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the record is asked whether it is closed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where a message is sent.
#[derive(Debug, Clone, Copy)]
enum Via {
    Web,
    /// A channel of the stand-in Slack.
    Slack(&'static str),
    /// The same, from somebody of another company.
    SlackGuest(&'static str),
    Partner,
}

/// One stop of the tour.
struct Stop {
    via: Via,
    says: &'static str,
    /// Who must answer.
    agent: &'static str,
    /// What the answer must hold.
    holds: &'static str,
    /// What there is to see.
    lesson: &'static str,
}

/// A document's name in an answer shows that the right knowledge was used.
const STOPS: [Stop; 13] = [
    stop(Via::Web, "How much are the Pincer Tongs?", "sales", "pricing.md", "the web chat; drafts stream in"),
    stop(
        Via::Web,
        "Can I return a peeler that I have used twice?",
        "support",
        "returns.md",
        "another agent, same chat",
    ),
    stop(Via::Web, "Which header carries my API key?", "technical", "api-basics.md", "and a third"),
    stop(
        Via::Web,
        "How long is parental leave?",
        "technical",
        "",
        "no HR for strangers: whoever has the talk keeps it",
    ),
    stop(
        Via::Slack(GENERAL),
        "What discount do I get for 50 pieces?",
        "sales",
        "pricing.md",
        "a signed Slack event",
    ),
    stop(
        Via::Slack(GENERAL),
        "My parcel is late. What now?",
        "support",
        "shipping.md",
        "answered in its thread",
    ),
    stop(
        Via::Slack(GENERAL),
        "What does the API answer beyond the rate limit?",
        "technical",
        "api-basics.md",
        "tier `smart`",
    ),
    stop(
        Via::Slack(PEOPLE),
        "How many weeks of parental leave do I get?",
        "hr",
        "parental-leave.md",
        "HR, from its channel",
    ),
    stop(
        Via::Slack(GENERAL),
        "How many weeks of parental leave do I get?",
        "support",
        "",
        "the same from elsewhere: no HR",
    ),
    stop(
        Via::SlackGuest(PEOPLE),
        "When is my payslip there?",
        "support",
        "",
        "somebody of another company in HR's channel: no HR either",
    ),
    stop(
        Via::Partner,
        "How much is the Starter Claw bundle?",
        "sales",
        "pricing.md",
        "a signed webhook, and a signed reply",
    ),
    stop(
        Via::Partner,
        "I need a refund. How long does it take?",
        "support",
        "returns.md",
        "the partner checks our signature",
    ),
    stop(
        Via::Partner,
        "How do your webhooks sign their requests?",
        "technical",
        "webhooks.md",
        "the last one",
    ),
];

const fn stop(
    via: Via,
    says: &'static str,
    agent: &'static str,
    holds: &'static str,
    lesson: &'static str,
) -> Stop {
    Stop { via, says, agent, holds, lesson }
}

/// What came of a stop.
struct Seen {
    answer: String,
    /// Who the platform says has answered, where it can tell.
    agent: Option<String>,
    turn: Option<Turn>,
}

/// Goes around; success only if every stop went as it should.
pub(super) async fn run(demo: &Demo, store: &Store, public: SocketAddr) -> Outcome {
    let mut tour = Tour { demo, store, public, visitor: None };
    let mut rows = table(&["#", "channel", "agent", "model", "cache", "tokens", "cost", "time", ""]);
    let mut failed = 0;
    for (n, stop) in STOPS.iter().enumerate() {
        say(&heading(n + 1, stop));
        let problem = match timeout(PATIENCE, tour.visit(stop)).await {
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(failure)) => Some(failure.render(false)),
            Ok(Ok(seen)) => {
                say(&page(&seen));
                rows.add_row(row(n + 1, &seen));
                wrong(stop, &seen)
            }
        };
        match problem {
            None => say(&format!("  {} as it should be\n", mark(true))),
            Some(problem) => {
                failed += 1;
                say(&format!("  {} {problem}\n", mark(false)));
            }
        }
    }
    say(&format!("\n{rows}\n\n"));
    if let Some(problem) = repeated(demo) {
        failed += 1;
        say(&format!("{} {problem}\n", mark(false)));
    }
    match failed {
        0 => {
            say(&format!(
                "{} All {} messages were answered as they should be, each exactly once.\n",
                mark(true),
                STOPS.len()
            ));
            Ok(ExitCode::SUCCESS)
        }
        failed => Err(Failure::new(format!(
            "{failed} of {} messages were not answered as they should be",
            STOPS.len()
        ))),
    }
}

/// Answers that the stand-ins received beyond one for each message.
fn repeated(demo: &Demo) -> Option<String> {
    let sent = |of: fn(&Via) -> bool| STOPS.iter().filter(|stop| of(&stop.via)).count();
    let slack = (demo.slack.posts().len(), sent(|via| matches!(via, Via::Slack(_) | Via::SlackGuest(_))));
    let partner = (demo.partner.replies().len(), sent(|via| matches!(via, Via::Partner)));
    [("Slack", slack), ("the partner", partner)]
        .into_iter()
        .find(|(_, (received, asked))| received > asked)
        .map(|(who, (received, asked))| format!("{who} received {received} answers to {asked} messages"))
}

struct Tour<'a> {
    demo: &'a Demo,
    store: &'a Store,
    public: SocketAddr,
    visitor: Option<Visitor>,
}

impl Tour<'_> {
    async fn visit(&mut self, stop: &Stop) -> Result<Seen, Failure> {
        let before = self.newest().await?;
        let (answer, agent) = match stop.via {
            Via::Web => self.web(stop.says).await?,
            Via::Slack(place) => (self.slack(place, stop.says, None).await?, None),
            Via::SlackGuest(place) => (self.slack(place, stop.says, Some("T0ELSEWHERE")).await?, None),
            Via::Partner => self.partner(stop.says).await?,
        };
        Ok(Seen { answer, agent, turn: self.record(before).await? })
    }

    fn address(&self, path: &str) -> Result<Url, Failure> {
        Ok(Url::parse(&format!("http://{}/channels/{path}", self.public))?)
    }

    async fn web(&mut self, says: &str) -> Result<(String, Option<String>), Failure> {
        let mut visitor = match self.visitor.take() {
            Some(visitor) => visitor,
            None => Visitor::open(self.demo.egress.clone(), self.address("web/")?).await?,
        };
        visitor.say(says).await?;
        let answer = visitor.hear().await?;
        self.visitor = Some(visitor);
        Ok((answer.text, Some(answer.agent)))
    }

    async fn slack(&self, place: &str, says: &str, foreign: Option<&str>) -> Result<String, Failure> {
        let (slack, url) = (&self.demo.slack, self.address("slack")?);
        let say = slack::Say {
            channel: place.to_owned(),
            user: "U0VISITOR".to_owned(),
            text: says.to_owned(),
            foreign_team: foreign.map(str::to_owned),
            ..slack::Say::default()
        };
        let (event, sent) = slack.say(&url, &say).await?;
        if !sent.is_acknowledged() {
            return Err(Failure::new(format!("Slack's event was answered with {:?}", sent.status())));
        }
        let is_answer =
            |post: &slack::Posted| post.channel == place && post.thread_ts.as_deref() == Some(&event.ts);
        Ok(slack.posts().wait_for(is_answer).await.text)
    }

    async fn partner(&self, says: &str) -> Result<(String, Option<String>), Failure> {
        let (partner, url) = (&self.demo.partner, self.address("partner")?);
        let thread = format!("order-{}", partner.replies().len() + 1);
        let say = webhook::Say {
            sender: "customer-7".to_owned(),
            text: says.to_owned(),
            thread_id: Some(thread.clone()),
            name: Some("Ada".to_owned()),
        };
        let (_, sent) = partner.say(&url, &say).await?;
        if !sent.is_acknowledged() {
            return Err(Failure::new(format!("the partner's webhook was answered with {:?}", sent.status())));
        }
        let received = partner.replies().wait_for(|received| received.reply.thread == thread).await;
        Ok((received.reply.text, Some(received.reply.agent)))
    }

    async fn newest(&self) -> Result<Option<TurnId>, Failure> {
        Ok(self.store.recent_turns(1).await?.first().copied())
    }

    /// The record of the turn that came after `before`, once it is closed: the platform has the answer a
    /// moment before that is written down.
    async fn record(&self, before: Option<TurnId>) -> Result<Option<Turn>, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let turn = self.newest().await?.filter(|turn| Some(*turn) != before);
            let record = match turn {
                Some(turn) => self.store.turn_record(turn).await?,
                None => None,
            };
            match record {
                Some(record) if record.state != TurnState::Open || Instant::now() > end => {
                    return Ok(Some(Turn::new(record, false)));
                }
                None if Instant::now() > end => return Ok(None),
                _ => sleep(LOOK_AGAIN).await,
            }
        }
    }
}

/// What is not as it should be.
fn wrong(stop: &Stop, seen: &Seen) -> Option<String> {
    let Some(turn) = &seen.turn else { return Some("there is no record of it".to_owned()) };
    let decided = turn.agent().unwrap_or("nobody");
    if decided != stop.agent {
        return Some(format!("{decided} answered, and {} should have", stop.agent));
    }
    if seen.agent.as_ref().is_some_and(|agent| agent != decided) {
        return Some("the platform was told of another agent than the record".to_owned());
    }
    if turn.state != "delivered" {
        return Some(format!("the turn is {}", turn.state));
    }
    let sent_once =
        turn.delivery.as_ref().is_some_and(|delivery| delivery.ambiguous == 0 && !delivery.is_notice);
    if !sent_once {
        return Some("the answer is the host's own notice, or may have been sent twice".to_owned());
    }
    (!seen.answer.contains(stop.holds)).then(|| format!("the answer does not name {}", stop.holds))
}

fn paint(code: &str, text: &str) -> String {
    match std::io::stdout().is_terminal() {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

fn mark(is_good: bool) -> String {
    if is_good { paint("32", "✓") } else { paint("31", "✗") }
}

fn heading(n: usize, stop: &Stop) -> String {
    let via = match stop.via {
        Via::Web => "web chat".to_owned(),
        Via::Slack(place) => format!("Slack, {place}"),
        Via::SlackGuest(place) => format!("Slack, {place}, a guest"),
        Via::Partner => "partner webhook".to_owned(),
    };
    let title = paint("1", &format!("{n:>2}/{} {via}", STOPS.len()));
    format!("\n{title} · {}\n  › {}\n", paint("2", stop.lesson), stop.says)
}

/// Answer and record.
fn page(seen: &Seen) -> String {
    let answer = printable(&seen.answer).replace("\n\n", "\n").replace('\n', "\n    ");
    let record = seen.turn.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "  ‹ {answer}\n\n{}\n",
        record.lines().map(|line| format!("  {line}\n")).collect::<String>().trim_end()
    )
}

fn row(n: usize, seen: &Seen) -> Vec<String> {
    let Some(turn) = &seen.turn else { return vec![n.to_string()] };
    let call = turn.calls.last().and_then(|call| call.record.as_ref());
    let model = call.map(|call| format!("{} → {}", call.tier, call.model.as_deref().unwrap_or("–")));
    let cache = call.map(|call| format!("{:?}", call.cache).to_lowercase());
    let tokens = call.map(|call| format!("{} + {}", call.usage.input, call.usage.output));
    vec![
        n.to_string(),
        turn.channel.clone(),
        turn.agent().unwrap_or("–").to_owned(),
        model.unwrap_or_else(|| "–".to_owned()),
        cache.unwrap_or_else(|| "–".to_owned()),
        tokens.unwrap_or_else(|| "–".to_owned()),
        turn.cost().to_string(),
        turn.closed_after_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
        turn.state.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::tests::turn;

    const STOP: Stop = stop(Via::Partner, "Leave?", "hr", "parental-leave.md", "");

    fn seen(spoil: impl FnOnce(&mut Seen)) -> Seen {
        let answer = "16 weeks.\n\nSources: parental-leave.md".to_owned();
        let mut seen = Seen { answer, agent: Some("hr".to_owned()), turn: Some(turn()) };
        spoil(&mut seen);
        seen
    }

    #[test]
    fn what_is_as_it_should_be_passes() {
        assert_eq!(wrong(&STOP, &seen(|_| {})), None);
        assert_eq!(wrong(&STOP, &seen(|seen| seen.agent = None)), None, "Slack does not say who answers");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        type Spoil = fn(&mut Turn);
        let lies: [(Spoil, &str); 6] = [
            (|turn| turn.decisions.clear(), "nobody answered"),
            (|turn| turn.decisions[0].agent = chela_types::AgentId::new("sales").unwrap(), "sales answered"),
            (|turn| turn.state = "undelivered".to_owned(), "the turn is undelivered"),
            (|turn| turn.delivery = None, "notice, or may"),
            (|turn| turn.delivery.as_mut().unwrap().is_notice = true, "notice, or may"),
            (|turn| turn.delivery.as_mut().unwrap().ambiguous = 1, "notice, or may"),
        ];
        for (lie, expected) in lies {
            let found = wrong(&STOP, &seen(|seen| lie(seen.turn.as_mut().unwrap()))).unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
        let told = |spoil: fn(&mut Seen)| wrong(&STOP, &seen(spoil)).unwrap_or_default();
        assert!(told(|seen| seen.turn = None).contains("no record"));
        assert!(told(|seen| seen.agent = Some("sales".to_owned())).contains("another agent"));
        assert!(told(|seen| seen.answer = "I do not know.".to_owned()).contains("parental-leave.md"));
    }
}
