//! A turn of a case: kept and claimed as any other, in a store of its own, so that what a plugin asks goes the way that
//! it goes in production: journal, budgets, gateway, memory.

use chela_sandbox::{Grant, Grants};
use chela_store::{Arrival, Claimed, Entry, MemoryOutcome, MemoryScope, MemoryWrite};
use chela_types::{AgentId, Digest, Identity, Message, Person, RoutedBy, TurnId, Utterance};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

use super::{MemoryOf, Remembered, Spoken, Stage};
use crate::agent::{self, Agent, Outcome};
use crate::attempt::options;
use crate::capability::{Lent, Whom};
use crate::contract::{self, answering};
use crate::error::Error;
use crate::journal::{Function, Journal};
use crate::router::{self, Router, Routing, Taken};
use crate::swap::recording::{Began, Ended, Said, heard};

/// Earlier utterances that a router with the `history` grant is shown.
const HISTORY_FOR_ROUTERS: usize = 8;
/// Who claims the turn.
const OWNER: &str = "case";

pub(super) async fn route(
    stage: &Stage<'_>,
    spoken: &Spoken,
    sticky: Option<AgentId>,
) -> Result<Value, Error> {
    let none = || Error::Configuration("chela.toml: [routing] router is missing".to_owned());
    let name = stage.config.routing.router.as_ref().ok_or_else(none)?;
    let (plugin, _) = stage.load::<Router>(name, &Map::new()).await?;
    let mut turn = Turn::begin(stage, spoken, &Remembered::new()).await?;
    let message = turn.claimed.turn.message.clone();
    let routing = Routing::new(stage.config, &message, sticky)?;
    let past = match plugin.grants().contains(Grant::History) {
        true => last(&spoken.past, HISTORY_FOR_ROUTERS),
        false => &[],
    };
    let version = plugin.digest();
    let began = turn.began((None, version), past, routing.sticky.clone());
    turn.journal.lock().await.begin_router(&began, plugin.grants() != Grants::NONE).await?;
    let context = router::told(routing.frame(), routing.sticky.as_ref(), past);
    let lent = turn.lend(routing.default(), version)?;
    let options = options(turn.journal.lock().await.start(), &began.purpose);
    let said = router::ask(&plugin, (lent, options), &message, context).await;
    turn.end(began, said.as_ref().map_or_else(Said::failed, |said| Some(Said::answered(said)))).await?;
    let taken = routing.taken((name, plugin.version(), version.short()), said)?;
    let (decision, failed) = match taken {
        Taken::Sound(decision) => (decision, None),
        Taken::Failed(decision, kind) => (decision, Some(kind)),
    };
    let alternatives: Vec<_> = decision.alternatives.iter().map(|other| other.agent.as_str()).collect();
    Ok(without_nulls(json!({
        "agent": decision.agent,
        "by": if matches!(decision.by, RoutedBy::Router { .. }) { "router" } else { "policy" },
        "score": decision.score,
        "reason": decision.reason,
        "alternatives": alternatives,
        "overruled": decision.overruled,
        "failed": failed,
        "asked": turn.asked().await,
    })))
}

pub(super) async fn answer(
    stage: &Stage<'_>,
    name: &AgentId,
    spoken: &Spoken,
    (memory, watched): (&Remembered, &Remembered),
) -> Result<Value, Error> {
    let agent = stage.config.agents.get(name).ok_or_else(|| Error::UnknownAgent(name.to_string()))?;
    let (plugin, _) = stage.load::<Agent>(&agent.plugin, &agent.config).await?;
    let mut turn = Turn::begin(stage, spoken, memory).await?;
    turn.remember(name, memory).await?;
    let message = turn.claimed.turn.message.clone();
    let past = last(&spoken.past, agent.history);
    let version = plugin.digest();
    let began = turn.began((Some(name), version), past, None);
    turn.journal.lock().await.begin_agent(&began).await?;
    let told = answering::Turn {
        message: contract::message(&message),
        profile: agent::profile(name, stage.config, &message)?,
        past: contract::utterances(past),
    };
    let lent = turn.lend(name, version)?;
    let options = options(turn.journal.lock().await.start(), &began.purpose);
    let said = agent::ask(&plugin, (lent, options), told).await;
    turn.end(began, said.as_ref().map_or_else(Said::failed, |said| Some(Said::answered(said)))).await?;
    let outcome = match said {
        Ok(said) => agent::taken(name, stage.config, &message, said),
        Err(error) => Err(error.into()),
    };
    let mut told = outcome_of(outcome)?;
    told.insert("asked".to_owned(), json!(turn.asked().await));
    if !watched.is_empty() {
        told.insert("memory".to_owned(), json!(turn.remembered(name, watched).await?));
    }
    Ok(without_nulls(Value::Object(told)))
}

/// What an agent came to, in the words of cases. What the host itself could not do is an error.
fn outcome_of(outcome: Result<Outcome, Error>) -> Result<Map<String, Value>, Error> {
    let told = match outcome {
        Ok(Outcome::Say { reply, word }) => {
            let (outcome, reason) = word.split_once(": ").unwrap_or((&word, ""));
            let blocks = (!reply.blocks.is_empty()).then_some(&reply.blocks);
            let reason = (!reason.is_empty()).then_some(reason);
            json!({ "outcome": outcome, "reason": reason, "text": reply.text, "blocks": blocks })
        }
        Ok(Outcome::HandOver { agent, reason }) => {
            json!({ "outcome": "hand-over", "agent": agent, "reason": reason })
        }
        Ok(Outcome::AskAgain { after }) => {
            json!({ "outcome": "again", "after_ms": u64::try_from(after.as_millis()).unwrap_or(u64::MAX) })
        }
        Err(Error::Reported { reason, outside, .. }) => {
            json!({ "outcome": if outside { "unavailable" } else { "error" }, "why": reason })
        }
        Err(error @ Error::Misbehaved { .. }) => json!({ "outcome": "misbehaved", "why": error.to_string() }),
        Err(error) => failed(error)?,
    };
    Ok(match told {
        Value::Object(told) => told,
        _ => Map::new(),
    })
}

/// A call that ended by a trap, a limit or a deadline. What the host itself could not do is an error.
pub(crate) fn failed(error: Error) -> Result<Value, Error> {
    match &error {
        Error::Sandbox(failed) if Said::failed(failed).is_some() => {
            Ok(json!({ "outcome": "failed", "failed": failed.outcome(), "why": error.to_string() }))
        }
        _ => Err(error),
    }
}

/// What is not there is not told.
pub(crate) fn without_nulls(told: Value) -> Value {
    match told {
        Value::Object(told) => {
            Value::Object(told.into_iter().filter(|(_, value)| !value.is_null()).collect())
        }
        other => other,
    }
}

fn last(past: &[Utterance], count: usize) -> &[Utterance] {
    past.get(past.len().saturating_sub(count)..).unwrap_or_default()
}

/// A turn that is claimed.
struct Turn<'a> {
    stage: &'a Stage<'a>,
    claimed: Claimed,
    /// Another one, beside it: what was remembered before is written in its name.
    before: Option<Claimed>,
    journal: Arc<Mutex<Journal>>,
}

impl<'a> Turn<'a> {
    async fn begin(stage: &'a Stage<'a>, spoken: &Spoken, memory: &Remembered) -> Result<Self, Error> {
        let store = &stage.rooms.store;
        let own = arrival(stage, spoken, "case");
        let turn = own.message.id;
        let before = (!memory.is_empty()).then(|| arrival(stage, spoken, "before"));
        let arrivals: Vec<_> = before.into_iter().chain([own]).collect();
        let count = arrivals.len();
        store.accept(arrivals).await?;
        let (mut own, mut others): (Vec<_>, Vec<_>) = (store.claim(OWNER, count).await?.into_iter())
            .partition(|claimed| claimed.turn.message.id == turn);
        let lost = || Error::Configuration("the turn of the case cannot be claimed".to_owned());
        let claimed = own.pop().ok_or_else(lost)?;
        let (store, clock) = (store.clone(), Arc::clone(&stage.rooms.clock));
        let journal = Journal::open(store, claimed.lease.clone(), clock).await?;
        Ok(Self { stage, claimed, before: others.pop(), journal: Arc::new(Mutex::new(journal)) })
    }

    fn began(
        &self,
        (agent, version): (Option<&AgentId>, Digest),
        past: &[Utterance],
        sticky: Option<AgentId>,
    ) -> Began {
        Began {
            agent: agent.cloned(),
            version,
            frame: Digest::from_bytes([0; 32]),
            past: past.len(),
            heard: heard(past),
            sticky,
            purpose: OWNER.to_owned(),
        }
    }

    fn lend(&self, agent: &AgentId, version: Digest) -> Result<Lent, Error> {
        let turn = &self.claimed.turn;
        let whom = Whom::of(self.stage.config, (agent, version), (&turn.message, turn.conversation))?;
        let (store, gateway) = (self.stage.rooms.store.clone(), self.stage.rooms.gateway.clone());
        let journal = Arc::clone(&self.journal);
        // Nothing leaves the machine.
        Ok(Lent { store, gateway, journal, whom: Arc::new(whom), drafts: None, outward: None })
    }

    /// What a host failed in leaves nothing.
    async fn end(&mut self, began: Began, said: Option<Said>) -> Result<(), Error> {
        let Some(said) = said else { return Ok(()) };
        let ended = Ended { began: Some(began), said, pending: Vec::new() };
        self.journal.lock().await.end(ended).await
    }

    /// What it asked the host for, in order.
    async fn asked(&self) -> Vec<String> {
        let recording = self.journal.lock().await.recording();
        let part = recording.parts.last();
        part.map(|part| part.entries.iter().map(|entry| entry.called().to_owned()).collect())
            .unwrap_or_default()
    }

    fn scope(&self, of: MemoryOf) -> MemoryScope {
        let turn = &self.claimed.turn;
        match of {
            MemoryOf::Conversation => MemoryScope::Conversation(turn.conversation),
            MemoryOf::User => {
                MemoryScope::User(format!("{}/{}", turn.message.channel, turn.message.sender.id))
            }
            MemoryOf::Agent => MemoryScope::Agent,
        }
    }

    async fn remember(&self, agent: &AgentId, memory: &Remembered) -> Result<(), Error> {
        let Some(before) = &self.before else { return Ok(()) };
        let values = memory.iter().flat_map(|(of, values)| values.iter().map(move |pair| (*of, pair)));
        for (seq, (of, (key, value))) in (0_u32..).zip(values) {
            let write = MemoryWrite {
                agent: agent.clone(),
                scope: self.scope(of),
                key: key.clone(),
                value: value.clone(),
                expected: None,
                void: Vec::new(),
            };
            let at = self.stage.rooms.clock.now();
            let entry = move |_: MemoryOutcome| Entry {
                seq,
                function: Function::Set.name().to_owned(),
                arguments: Digest::from_bytes([0; 32]),
                value: Vec::new(),
                at,
                version: None,
            };
            self.stage.rooms.store.memory_set(&before.lease, write, entry).await?;
        }
        Ok(())
    }

    /// What is remembered now under the keys that somebody wants to know of.
    async fn remembered(&self, agent: &AgentId, watched: &Remembered) -> Result<Remembered, Error> {
        let (store, tenant) = (&self.stage.rooms.store, &self.stage.config.tenant);
        let mut found = Remembered::new();
        for (of, keys) in watched {
            let scope = self.scope(*of);
            for key in keys.keys() {
                let entry = store.memory_get(tenant, agent, &scope, key).await?;
                found.entry(*of).or_default().extend(entry.map(|entry| (key.clone(), entry.value)));
            }
        }
        Ok(found)
    }
}

fn arrival(stage: &Stage<'_>, spoken: &Spoken, conversation: &str) -> Arrival {
    let identity = Identity {
        dedupe: vec![vec![conversation.to_owned()]],
        conversation: vec![conversation.to_owned()],
        sender: spoken.sender.clone(),
        place: spoken.place.clone(),
        outsider: spoken.outsider,
        target: BTreeMap::new(),
    };
    let message = Message {
        id: TurnId::new(),
        channel: spoken.channel.clone(),
        place: spoken.place.clone(),
        sender: Person { id: spoken.sender.clone(), name: spoken.name.clone(), outsider: spoken.outsider },
        text: spoken.text.clone(),
        attachments: Vec::new(),
        received: stage.rooms.clock.now(),
    };
    Arrival {
        tenant: stage.config.tenant.clone(),
        identity,
        message,
        notes: None,
        echo: None,
        lane: String::new(),
    }
}
