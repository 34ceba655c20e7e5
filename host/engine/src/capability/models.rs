//! `models`: language models through the gateway. A call is journaled before the guest hears its result.

use chela_gateway::Error as Failed;
use chela_gateway::{
    Answer, CacheLevel, CachePolicy, Call as ModelCall, Chunk, Completed, Kind, Prompt, Purse, Role,
};
use chela_sandbox::{Call, Grant};
use chela_types::{Fault, Finish, Millis, Retry, TierId, Tokens};
use futures::StreamExt;
use std::collections::VecDeque;
use wasmtime::component::Resource;

use super::{Lent, host_failed, lend};
use crate::contract::models::{self, Completion, ModelError, Request};
use crate::error::Error;
use crate::journal::{Found, Function, Journal, Place, Spoken, Streamed};

/// Prompts in one request.
const PROMPTS_MAX: usize = 256;
/// Bytes of one request's texts together.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

type Said = Result<Completion, ModelError>;

/// A stream while the guest reads it: live, or from the journal.
#[derive(Debug)]
pub struct StreamReader {
    kind: Reading,
    result: Option<Said>,
}

enum Reading {
    Live { answer: Box<Answer>, place: Place, spoken: Spoken },
    Kept { rest: VecDeque<String>, end: Option<Said>, place: Option<Place> },
    Ended,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Live { .. } => "Live",
            Self::Kept { .. } => "Kept",
            Self::Ended => "Ended",
        })
    }
}

impl models::Host for Call<Lent> {
    async fn complete(&mut self, request: Request) -> wasmtime::Result<Said> {
        let lent = lend!(self, Grant::Models, ModelError::NotGranted);
        let (said, at) = lent.say(Function::Complete, request, false).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(said)
    }

    async fn relay(&mut self, request: Request) -> wasmtime::Result<Said> {
        let lent = lend!(self, Grant::Models, ModelError::NotGranted);
        let (said, at) = lent.say(Function::Relay, request, true).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(said)
    }

    async fn stream(
        &mut self,
        request: Request,
    ) -> wasmtime::Result<Result<Resource<StreamReader>, ModelError>> {
        let lent = lend!(self, Grant::Models, ModelError::NotGranted);
        match lent.open(request).await.map_err(host_failed)? {
            Ok(reader) => Ok(Ok(self.table().push(reader)?)),
            Err(refused) => Ok(Err(refused)),
        }
    }
}

impl models::HostStreamReader for Call<Lent> {
    async fn next(
        &mut self,
        reader: Resource<StreamReader>,
    ) -> wasmtime::Result<Result<Option<String>, ModelError>> {
        let (lent, table) = match self.lend_with_table(Grant::Models)? {
            Ok(lent) => lent,
            Err(denial) => return Ok(Err(ModelError::NotGranted(denial.to_string()))),
        };
        let entry = table.get_mut(&reader)?;
        let kind = std::mem::replace(&mut entry.kind, Reading::Ended);
        let (kind, step) = lent.read(kind).await.map_err(host_failed)?;
        entry.kind = kind;
        let piece = match step {
            Step::Piece(text) => Ok(Some(text)),
            Step::End(said) => {
                entry.result = Some(said.clone());
                said.map(|_| None)
            }
            Step::Over => Ok(None),
        };
        self.hand(piece)
    }

    async fn completion(&mut self, reader: Resource<StreamReader>) -> wasmtime::Result<Said> {
        lend!(self, Grant::Models, ModelError::NotGranted);
        let result = self.table().get(&reader)?.result.clone();
        let whole = result.unwrap_or_else(|| Err(ModelError::Invalid("the stream has not ended".to_owned())));
        self.hand(whole)
    }

    async fn drop(&mut self, reader: Resource<StreamReader>) -> wasmtime::Result<()> {
        let reader = self.table().delete(reader)?;
        if let Reading::Live { place, spoken, .. } = reader.kind
            && let Ok(lent) = self.lend(Grant::Models)?
        {
            let mut journal = lent.journal.lock().await;
            let (spoken, content) = (spoken.lock().clone(), journal.version());
            let streamed = Streamed::<Said> { spoken, end: None, refused: false, content };
            journal.fill_behind(&place, &streamed).await.map_err(host_failed)?;
        }
        Ok(())
    }
}

enum Step {
    Piece(String),
    End(Said),
    Over,
}

impl Lent {
    /// One whole answer, from the journal or from the gateway; `relay` shows it as drafts while it comes.
    async fn say(
        &mut self,
        function: Function,
        request: Request,
        relay: bool,
    ) -> Result<(Said, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place(function, &request).await? {
            Found::Kept(said, at) => return Ok((said, at)),
            Found::Fresh(place) => place,
        };
        let call = match self.call(request, &mut journal) {
            Ok(call) => call,
            Err(refused) => {
                let said = Err(refused);
                let at = journal.fill(&place, &said).await?;
                return Ok((said, at));
            }
        };
        drop(journal);
        let outcome = self.listen(call, relay).await;
        let mut journal = self.journal.lock().await;
        let said = match outcome {
            Ok(completed) => Ok(completion(completed)),
            Err(error) => Err(self.explain(error, &mut journal, &place)?),
        };
        let at = journal.fill(&place, &said).await?;
        Ok((said, at))
    }

    async fn listen(&self, call: ModelCall, relay: bool) -> Result<Completed, Failed> {
        let mut answer = self.gateway.complete(call).await?;
        while let Some(chunk) = answer.chunks.next().await {
            match chunk? {
                Chunk::Text(text) => {
                    if let Some(sink) = self.drafts.as_ref().filter(|_| relay) {
                        sink.push(text);
                    }
                }
                // None is offered, and one that was not offered is a bad answer.
                Chunk::Tool(_) => {}
                Chunk::End(completed) => return Ok(*completed),
            }
        }
        Err(Failed::new(Kind::Interrupted))
    }

    async fn open(&mut self, request: Request) -> Result<Result<StreamReader, ModelError>, Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place::<Streamed<Said>>(Function::Stream, &request).await? {
            Found::Kept(Streamed { refused: true, end: Some(Err(refused)), .. }, _) => {
                return Ok(Err(refused));
            }
            Found::Kept(kept, _) if journal.suffices(&kept) => {
                let place = journal.last(Function::Stream, &request)?;
                let kind = Reading::Kept { rest: kept.spoken.into(), end: kept.end, place: Some(place) };
                return Ok(Ok(StreamReader { kind, result: None }));
            }
            Found::Kept(..) => {
                let place = journal.last(Function::Stream, &request)?;
                journal.renew(&place).await?;
                place
            }
            Found::Fresh(place) => place,
        };
        let call = match self.call(request, &mut journal) {
            Ok(call) => call,
            Err(refused) => {
                let end = Some(Err(refused.clone()));
                let streamed = Streamed::<Said> { spoken: Vec::new(), end, refused: true, content: None };
                journal.fill_behind(&place, &streamed).await?;
                return Ok(Err(refused));
            }
        };
        drop(journal);
        match self.gateway.complete(call).await {
            Ok(answer) => {
                let spoken = self.journal.lock().await.opened(&place);
                let kind = Reading::Live { answer: Box::new(answer), place, spoken };
                Ok(Ok(StreamReader { kind, result: None }))
            }
            Err(error) => {
                let mut journal = self.journal.lock().await;
                let refused = self.explain(error, &mut journal, &place)?;
                let end = Some(Err(refused));
                let streamed = Streamed::<Said> { spoken: Vec::new(), end, refused: false, content: None };
                journal.fill(&place, &streamed).await?;
                let kind = Reading::Kept { rest: VecDeque::new(), end: streamed.end, place: None };
                Ok(Ok(StreamReader { kind, result: None }))
            }
        }
    }

    async fn read(&mut self, kind: Reading) -> Result<(Reading, Step), Error> {
        match kind {
            Reading::Ended => Ok((Reading::Ended, Step::Over)),
            Reading::Kept { mut rest, end, place } => match (rest.pop_front(), end) {
                (Some(text), end) => Ok((Reading::Kept { rest, end, place }, Step::Piece(text))),
                (None, Some(said)) => Ok((Reading::Ended, Step::End(said))),
                (None, None) => {
                    // The recorded run read no further.
                    if let (Some(place), Some(playback)) = (place, self.journal.lock().await.playback()) {
                        playback.beyond(place.asked())?;
                    }
                    Ok((Reading::Ended, Step::Over))
                }
            },
            Reading::Live { mut answer, place, spoken } => {
                let said = match heard(&mut answer).await {
                    Heard::Text(text) => {
                        spoken.lock().push(text.clone());
                        return Ok((Reading::Live { answer, place, spoken }, Step::Piece(text)));
                    }
                    Heard::End(Ok(completed)) => Ok(completion(*completed)),
                    Heard::End(Err(error)) => {
                        let mut journal = self.journal.lock().await;
                        Err(self.explain(error, &mut journal, &place)?)
                    }
                };
                let (spoken, end) = (spoken.lock().clone(), Some(said.clone()));
                let streamed = Streamed::<Said> { spoken, end, refused: false, content: None };
                self.journal.lock().await.fill(&place, &streamed).await?;
                Ok((Reading::Ended, Step::End(said)))
            }
        }
    }

    /// The gateway's call, or why the request is refused before anything is reserved.
    fn call(&self, request: Request, journal: &mut Journal) -> Result<ModelCall, ModelError> {
        let whom = &self.whom;
        let purse = journal.playback().map_or(Purse::Turn, |playback| Purse::Apart(playback.purse()));
        let is_apart = purse != Purse::Turn;
        let tier = match request.tier {
            // Where another decides, what the plugin asks for is not looked at.
            Some(_) if !self.gateway.may_wish(&whom.agent) => whom.tier.clone(),
            None => whom.tier.clone(),
            Some(name) => TierId::new(name.as_str())
                .ok()
                .filter(|tier| *tier == whom.tier || whom.tiers_allowed.contains(tier))
                .ok_or_else(|| {
                    ModelError::Invalid(format!("tier `{name}` is not allowed for agent `{}`", whom.agent))
                })?,
        };
        if request.prompts.is_empty() || request.prompts.len() > PROMPTS_MAX {
            return Err(ModelError::Invalid(format!("a request has 1 to {PROMPTS_MAX} prompts")));
        }
        let bytes = request.prompts.iter().map(|prompt| prompt.text.len()).sum::<usize>()
            + request.system.as_ref().map_or(0, String::len);
        if bytes > REQUEST_BYTES_MAX {
            return Err(ModelError::Limit(format!("a request has at most {REQUEST_BYTES_MAX} bytes")));
        }
        if request.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(ModelError::Invalid("temperature is 0.0 to 2.0".to_owned()));
        }
        let cache = match whom.cache {
            CacheLevel::Off => CachePolicy::Off,
            _ if is_apart => CachePolicy::Off,
            level => {
                let version = whom.knowledge.as_ref().map(|(_, version)| version.clone());
                let knowledge_version = version.unwrap_or_default();
                CachePolicy::On { level, knowledge_version, ttl: whom.cache_ttl }
            }
        };
        let prompts = request.prompts.into_iter();
        let prompts = prompts.map(|prompt| Prompt::text(role(prompt.role), prompt.text)).collect();
        Ok(ModelCall {
            agent_version: whom.version.clone(),
            department: whom.department.clone(),
            channel: Some(whom.channel.clone()),
            turn: (!is_apart).then_some(whom.turn),
            lease: journal.lease().cloned(),
            system: request.system,
            max_output: request.max_output_tokens.map(|tokens| Tokens(u64::from(tokens))),
            temperature: request.temperature,
            cache,
            purse,
            ..ModelCall::new(whom.tenant.clone(), whom.agent.clone(), whom.person.clone(), tier, prompts)
        })
    }

    /// The gateway's error in the contract's words. What only time can heal is marked, so that a later try
    /// asks again; a failure of the host itself stops the guest.
    fn explain(&self, error: Failed, journal: &mut Journal, place: &Place) -> Result<ModelError, Error> {
        if matches!(error.kind, Kind::Ledger { .. }) {
            return Err(error.into());
        }
        tracing::warn!(turn = %self.whom.turn, agent = %self.whom.agent, %error, blame = %error.blame(), "model call failed");
        // A budget's window ends: a turn that waits for it must ask again.
        let heals = matches!(error.kind, Kind::OverBudget { .. }) || !matches!(error.retry(), Retry::Never);
        if heals {
            journal.failed(place);
        }
        let text = error.to_string();
        Ok(match error.kind {
            Kind::OverBudget { .. } => {
                journal.refused_by_budget();
                ModelError::OverBudget(self.whom.refusal.clone())
            }
            Kind::Invalid { .. }
            | Kind::TooLong { .. }
            | Kind::Unsupported { .. }
            | Kind::NoRoom
            | Kind::UnknownTier(_) => ModelError::Invalid(text),
            Kind::Refused => ModelError::Refused(text),
            _ => ModelError::Unavailable(text),
        })
    }
}

const fn role(role: models::Role) -> Role {
    match role {
        models::Role::User => Role::User,
        models::Role::Assistant => Role::Assistant,
    }
}

enum Heard {
    Text(String),
    End(Result<Box<Completed>, Failed>),
}

/// What comes next. No tool is offered, so none is called.
async fn heard(answer: &mut Answer) -> Heard {
    loop {
        match answer.chunks.next().await {
            Some(Ok(Chunk::Text(text))) => return Heard::Text(text),
            Some(Ok(Chunk::Tool(_))) => {}
            Some(Ok(Chunk::End(completed))) => return Heard::End(Ok(completed)),
            Some(Err(error)) => return Heard::End(Err(error)),
            None => return Heard::End(Err(Failed::new(Kind::Interrupted))),
        }
    }
}

fn completion(completed: Completed) -> Completion {
    let usage = completed.call.usage;
    Completion {
        text: completed.text,
        finish: match completed.finish {
            // The contract has no tools yet: none is offered, so none is called.
            Finish::Stop | Finish::ToolCalls => models::Finish::Stop,
            Finish::Length => models::Finish::Length,
            Finish::Filtered => models::Finish::Filtered,
        },
        usage: models::Usage {
            input_tokens: usage.input.0,
            cached_tokens: usage.cached.0,
            output_tokens: usage.output.0,
            cost_nanodollars: u64::try_from(completed.call.cost.nanos()).unwrap_or_default(),
        },
        model: completed.call.model.unwrap_or_else(|| "cache".to_owned()),
    }
}
