//! The operator speaks to an agent, from a terminal: on the way that every message goes.

use std::time::Duration;

use bytes::Bytes;
use chela_engine::{Draft, Webhook, session_events_key};
use chela_types::ChannelId;
use serde::{Deserialize, Serialize};

use super::admin::{Admin, WAIT_MAX};
use super::error::Error;
use super::extract::{Json, Path, Query};
use super::rights::{Allowed, Operate};
use crate::compose::terminal_channel;

/// Events in one answer to a terminal.
const EVENTS_MAX: usize = 100;

/// What a terminal says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Said {
    /// The conversation, by a name of the terminal's own.
    pub session: String,
    /// The message's own id: saying it twice is saying it once.
    pub id: String,
    /// The words.
    pub text: String,
}

/// What a terminal asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listening {
    /// The conversation.
    pub session: String,
    /// The last event's number that it has.
    #[serde(default)]
    pub after: u64,
    /// Milliseconds that it will wait for one.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What a terminal hears: kept events with their numbers, as the web chat's page gets them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Number and event.
    pub events: Vec<(u64, serde_json::Value)>,
}

impl Admin {
    fn terminal(&self, agent: &str, session: &str) -> Result<(ChannelId, String), Error> {
        let known = self.engine.agents().into_iter().find(|(name, _)| name.as_str() == agent);
        let (agent, _) = known.ok_or_else(|| Error::Invalid(format!("no agent is called `{agent}`")))?;
        let channel = terminal_channel(&agent).ok_or_else(|| {
            Error::Invalid(format!("`{agent}` is too long a name for a terminal's channel"))
        })?;
        let is_name =
            !session.is_empty() && session.len() <= 64 && session.bytes().all(|b| b.is_ascii_alphanumeric());
        match is_name {
            true => Ok((channel, session.to_owned())),
            false => Err(Error::Invalid("a session is 1 to 64 letters and digits".to_owned())),
        }
    }
}

/// Takes a message to an agent.
pub(super) async fn say(
    admin: Allowed<Operate>,
    Path(agent): Path<String>,
    Json(said): Json<Said>,
) -> Result<Json<serde_json::Value>, Error> {
    let (channel, session) = admin.terminal(&agent, &said.session)?;
    let body = serde_json::json!({ "id": said.id, "text": said.text });
    let webhook = Webhook {
        method: "POST".to_owned(),
        path: "/messages".to_owned(),
        query: String::new(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("chela-session".to_owned(), session.clone()),
        ],
        body: Bytes::from(body.to_string()),
        session: Some(admin.engine.session_token(&channel, &session)),
    };
    admin.engine.receive(channel.as_str(), webhook).await?;
    Ok(Json(serde_json::json!({ "taken": said.id })))
}

/// Tells what the agent said.
pub(super) async fn hear(
    admin: Allowed<Operate>,
    Path(agent): Path<String>,
    Query(listening): Query<Listening>,
) -> Result<Json<Heard>, Error> {
    let (channel, session) = admin.terminal(&agent, &listening.session)?;
    let mut news = admin.engine.listen(&channel, &session);
    let key = session_events_key(&channel, &session);
    let wait = Duration::from_millis(listening.wait_ms).min(WAIT_MAX);
    let end = tokio::time::Instant::now() + wait;
    loop {
        let kept = admin.store.events_after(&admin.tenant, &key, listening.after, EVENTS_MAX).await?;
        if !kept.is_empty() {
            let event = |(number, text): (u64, String)| Some((number, serde_json::from_str(&text).ok()?));
            return Ok(Json(Heard { events: kept.into_iter().filter_map(event).collect() }));
        }
        // Drafts are not for terminals: wait past them.
        let told = async { while let Ok(Draft::Text { .. }) = news.recv().await {} };
        tokio::select! {
            () = told => {}
            () = tokio::time::sleep_until(end) => return Ok(Json(Heard::default())),
            () = admin.stop.cancelled() => return Err(Error::Draining),
        }
    }
}
