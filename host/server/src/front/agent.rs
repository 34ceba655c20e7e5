//! A message to an agent, on the way that every message goes: kept, routed by nobody, answered with all that bounds the
//! agent. Drafts are pieces of the answer as they come; the kept answer is the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chela_engine::{Draft, Webhook, session_events_key};
use chela_types::{AgentId, ChannelId, Digest, Finish};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Sleep;
use uuid::Uuid;

use super::asked::Asked;
use super::client::Client;
use super::refusal::Refusal;
use super::said::{Ended, Said, Saying};
use crate::compose::api_channel;
use crate::doors::{Doors, Error, Share};

/// Events that are read at once.
const PAGE: usize = 50;
/// How long a client may wait for an agent: less than the ten minutes after which both vendors' clients give up by
/// themselves, and say it again. The answer that comes later is kept in the conversation all the same.
const WAIT_MAX: Duration = Duration::from_mins(9);

/// Says the last message to the agent; ready when it is kept.
pub(super) async fn ask(
    doors: &Arc<Doors>,
    client: &Client,
    agent: &AgentId,
    asked: &Asked,
) -> Result<Saying, Refusal> {
    let said = asked.said()?;
    let channel = api_channel(agent).ok_or_else(|| Refusal::Model(asked.model.clone()))?;
    let session = session(&client.name, asked);
    let events = session_events_key(&channel, &session);
    let seat = doors.conversations.take(events.clone()).ok_or(Refusal::Conversation)?;
    // Listening begins before anything is said: what is drafted in between is told, and read then.
    let news = doors.engine.listen(&channel, &session);
    let last = doors.store.last_event(&doors.tenant, &events).await.map_err(Error::from)?;
    let webhook = webhook(doors, (&channel, &session), &said);
    doors.engine.receive(channel.as_str(), webhook).await.map_err(Error::from)?;
    let doors = Arc::clone(doors);
    Ok(Following { doors, events, last, turn: None, news, shown: Shown::default(), _seat: seat }.pieces())
}

/// The conversation of this client, with this person, under this name. One that is not named is begun anew with each
/// request: nobody reads what somebody else has said before.
fn session(client: &str, asked: &Asked) -> String {
    let own = || Uuid::now_v7().simple().to_string();
    let (user, conversation) = match (&asked.user, &asked.conversation) {
        (None, None) => (String::new(), own()),
        (user, conversation) => (user.clone().unwrap_or_default(), conversation.clone().unwrap_or_default()),
    };
    let parts = [client.as_bytes(), user.as_bytes(), conversation.as_bytes()];
    hex::encode(Digest::of("chela api conversation 1", &parts).as_bytes())
}

fn webhook(doors: &Doors, (channel, session): (&ChannelId, &str), said: &str) -> Webhook {
    let body = json!({ "id": Uuid::now_v7().simple().to_string(), "text": said });
    Webhook {
        method: "POST".to_owned(),
        path: "/messages".to_owned(),
        query: String::new(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("chela-session".to_owned(), session.to_owned()),
        ],
        body: Bytes::from(body.to_string()),
        session: Some(doors.engine.session_token(channel, session)),
    }
}

/// A client that waits for an answer.
struct Following {
    doors: Arc<Doors>,
    events: String,
    last: u64,
    /// The turn of what was said, once it is read.
    turn: Option<String>,
    news: Receiver<Draft>,
    shown: Shown,
    _seat: Share<String>,
}

impl Following {
    fn pieces(mut self) -> Saying {
        let pieces = async_stream::stream! {
            let end = tokio::time::sleep(WAIT_MAX);
            tokio::pin!(end);
            loop {
                match self.kept().await {
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        if let Some(rest) = self.shown.rest(&text) {
                            yield Ok(Said::Text(rest));
                        }
                        let (calls, finish) = (Vec::new(), Finish::Stop);
                        yield Ok(Said::End(Box::new(Ended { text, calls, finish, counted: None })));
                        return;
                    }
                    Err(error) => {
                        yield Err(unread(&error));
                        return;
                    }
                }
                while let Some(heard) = self.heard(end.as_mut()).await {
                    let is_over = heard.is_err();
                    yield heard.map(Said::Text);
                    if is_over {
                        return;
                    }
                }
            }
        };
        pieces.boxed()
    }

    /// The next draft that can be shown; none once something is kept.
    async fn heard(&mut self, mut end: Pin<&mut Sleep>) -> Option<Result<String, Refusal>> {
        loop {
            let news = tokio::select! {
                news = self.news.recv() => news,
                () = end.as_mut() => return Some(Err(Refusal::Silent)),
            };
            match news {
                Ok(Draft::Text { turn, attempt, text }) => {
                    let is_own = self.turn.as_deref() == Some(turn.to_string().as_str());
                    if is_own && self.shown.take(attempt, &text) {
                        return Some(Ok(text));
                    }
                }
                Ok(Draft::Kept) => return None,
                Err(RecvError::Lagged(_)) => {
                    self.shown.is_broken = true;
                    return None;
                }
                Err(RecvError::Closed) => return Some(Err(Refusal::Silent)),
            }
        }
    }

    /// The kept answer to what was said, if it is there.
    async fn kept(&mut self) -> Result<Option<String>, chela_store::Error> {
        loop {
            let page =
                self.doors.store.events_after(&self.doors.tenant, &self.events, self.last, PAGE).await?;
            if page.is_empty() {
                return Ok(None);
            }
            for (number, event) in page {
                self.last = number;
                let event: Value = serde_json::from_str(&event).unwrap_or_default();
                let text = |key: &str| event.get(key).and_then(Value::as_str).map(str::to_owned);
                match (event.get("kind").is_some(), &self.turn) {
                    (true, None) => self.turn = text("turn"),
                    (false, Some(turn)) if text("turn").as_ref() == Some(turn) => return Ok(text("text")),
                    _ => {}
                }
            }
        }
    }
}

/// The message is taken, whatever became of waiting for its answer: who hears of a failure that passes says it again.
fn unread(error: &chela_store::Error) -> Refusal {
    tracing::warn!(%error, "an agent's answer could not be read");
    Refusal::Silent
}

/// What was shown of an answer that is being made.
#[derive(Debug, Default)]
struct Shown {
    attempt: Option<u32>,
    text: String,
    /// Some of it is lost, so that what follows cannot be shown.
    is_broken: bool,
}

impl Shown {
    /// Whether a draft can be shown: of the first run that says something. What was told is not taken back.
    fn take(&mut self, attempt: u32, text: &str) -> bool {
        let is_first = *self.attempt.get_or_insert(attempt) == attempt;
        self.is_broken |= !is_first;
        if !self.is_broken {
            self.text.push_str(text);
        }
        !self.is_broken
    }

    /// What is missing of the kept answer; all of it, after an empty line, where it is another than was shown.
    fn rest(&self, kept: &str) -> Option<String> {
        // Who keeps an answer may trim it, and add something.
        let begun = self.text.trim_start();
        let forms = [self.text.as_str(), self.text.trim_end(), begun, begun.trim_end()];
        let rest = forms.into_iter().find_map(|shown| kept.strip_prefix(shown));
        match rest {
            Some("") => None,
            Some(rest) => Some(rest.to_owned()),
            None if kept.trim() == self.text.trim() => None,
            None => Some(format!("\n\n{kept}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::Wire;

    #[test]
    fn a_conversation_is_of_one_client_and_one_person() {
        let asked = |user: Option<&str>, conversation: Option<&str>| Asked {
            user: user.map(str::to_owned),
            conversation: conversation.map(str::to_owned),
            ..Asked::default()
        };
        let of = |client, user, conversation| session(client, &asked(user, conversation));
        let ann = of("app", Some("ann"), None);
        assert_eq!(ann, of("app", Some("ann"), None));
        for other in [
            of("other", Some("ann"), None),
            of("app", Some("bob"), None),
            of("app", Some("ann"), Some("2")),
            of("app", None, Some("ann")),
        ] {
            assert_ne!(ann, other);
        }
        assert_ne!(of("app", None, None), of("app", None, None), "one that has no name is a new one");
    }

    #[test]
    fn who_waits_for_an_agent_in_vain_does_not_say_it_again() {
        let clients_own_patience = Duration::from_mins(10);
        assert!(WAIT_MAX < clients_own_patience);
        let error = chela_store::Error::Missing { folder: "x".into() };
        for wire in [Wire::OpenAi, Wire::Anthropic] {
            let response = unread(&error).response(wire, "r");
            assert_eq!(response.status(), 504);
            assert_eq!(response.headers()["x-should-retry"], "false");
        }
    }

    #[test]
    fn the_kept_answer_is_told_to_its_end() {
        type Case = (&'static [(u32, &'static str)], &'static str, Option<&'static str>);
        let cases: [Case; 9] = [
            (&[], "Hi.", Some("Hi.")),
            (&[(1, "Hi")], "Hi.", Some(".")),
            (&[(1, "Hi"), (1, ". ")], "Hi.", None),
            (&[(1, "\nHi.")], "Hi.", None),
            (&[(1, "\n\nHi.")], "Hi.\n\nSources: a", Some("\n\nSources: a")),
            (&[(1, "\n\nHi. ")], "Hi.\n\nSources: a", Some("\n\nSources: a")),
            (&[(1, "Hi. ")], "Hi.\n\nSources: a", Some("\n\nSources: a")),
            (&[(1, "Hi"), (2, "Good")], "Good.", Some("\n\nGood.")),
            (&[(1, "H"), (2, "H"), (2, "i")], "Hi.", Some("i.")),
        ];
        for (drafts, kept, rest) in cases {
            let mut shown = Shown::default();
            for (attempt, text) in drafts {
                shown.take(*attempt, text);
            }
            assert_eq!(shown.rest(kept).as_deref(), rest, "{drafts:?}");
        }
    }
}
