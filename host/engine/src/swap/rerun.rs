//! One recorded part run again, by any version, in a world that holds nothing but the recording. Shadow and replay are
//! this, side by side with the turn or long after it.

use chela_gateway::Gateway;
use chela_sandbox::{CallOptions, Plugin};
use chela_store::Store;
use chela_types::{AgentId, Clock, ConversationId, Digest, Message};
use std::sync::Arc;
use tokio::sync::Mutex;

use super::playback::{Playback, Stop};
use super::recording::{Part, Said};
use crate::agent::{self, Agent};
use crate::attempt::options;
use crate::capability::{Lent, Whom};
use crate::config::Config;
use crate::contract::{answering, routing};
use crate::error::Error;
use crate::journal::{Asked, Journal, Start};
use crate::router::{self, Router};

/// What a part is run again with.
pub(crate) struct Rerun<'a> {
    pub(crate) store: &'a Store,
    pub(crate) gateway: &'a Gateway,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) config: &'a Config,
    pub(crate) message: &'a Message,
    pub(crate) conversation: ConversationId,
    pub(crate) start: Start,
    pub(crate) part: &'a Part,
    /// Lets a run go on that diverges, and says who pays.
    pub(crate) live: Option<&'static str>,
    /// How many times the usual time it may take.
    pub(crate) patience: u32,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Rerunned {
    /// The component said this; where it left the recording, if it did.
    Said(Said, Option<Asked>),
    /// It was stopped where it left the recording.
    Diverged(Asked),
    /// The host failed; that says nothing.
    Host(Error),
}

impl Rerunned {
    /// Where it left the recording.
    pub(super) fn diverged(&self) -> Option<String> {
        let asked = match self {
            Self::Said(_, asked) => asked.as_ref()?,
            Self::Diverged(asked) => asked,
            Self::Host(_) => return None,
        };
        Some(format!("asked for `{}` as call {}", asked.function, asked.seq))
    }
}

impl Rerun<'_> {
    pub(crate) async fn router(
        &self,
        plugin: &Plugin<Router>,
        version: Digest,
        context: routing::Context,
    ) -> Rerunned {
        let Ok(account) = AgentId::new(context.default_agent.as_str()) else {
            return Rerunned::Host(Error::UnknownAgent(context.default_agent));
        };
        let (lent, journal) = match self.lend(&account, version) {
            Ok(lent) => lent,
            Err(error) => return Rerunned::Host(error),
        };
        let said = router::ask(plugin, (lent, self.options()), self.message, context).await;
        self.ended(said.map(|said| Said::answered(&said)), &journal).await
    }

    pub(crate) async fn agent(
        &self,
        plugin: &Plugin<Agent>,
        (agent, version): (&AgentId, Digest),
        turn: answering::Turn,
    ) -> Rerunned {
        let (lent, journal) = match self.lend(agent, version) {
            Ok(lent) => lent,
            Err(error) => return Rerunned::Host(error),
        };
        let said = agent::ask(plugin, (lent, self.options()), turn).await;
        self.ended(said.map(|said| Said::answered(&said)), &journal).await
    }

    fn options(&self) -> CallOptions {
        CallOptions { patience: self.patience, ..options(self.start, &self.part.began.purpose) }
    }

    fn lend(&self, agent: &AgentId, version: Digest) -> Result<(Lent, Arc<Mutex<Journal>>), Error> {
        let playback = Playback::of(&self.part.ended, self.live);
        let journal = Journal::played(playback, (self.start, self.part), Arc::clone(self.clock));
        let journal = Arc::new(Mutex::new(journal));
        let place = (self.message, self.conversation);
        let lent = Lent {
            store: self.store.clone(),
            gateway: self.gateway.clone(),
            journal: Arc::clone(&journal),
            whom: Arc::new(Whom::of_old(self.config, (agent, version), place)?),
            drafts: None,
            outward: None,
        };
        Ok((lent, journal))
    }

    async fn ended(&self, said: Result<Said, chela_sandbox::Error>, journal: &Mutex<Journal>) -> Rerunned {
        let diverged = journal.lock().await.playback().and_then(|playback| playback.diverged().cloned());
        match said {
            Ok(said) => Rerunned::Said(said, diverged),
            Err(error) => match Said::failed(&error) {
                Some(said) => Rerunned::Said(said, diverged),
                None => match Error::from(error) {
                    Error::Replay(Stop::Cut(_)) => Rerunned::Said(self.part.ended.said.clone(), None),
                    Error::Replay(Stop::Diverged(asked)) => Rerunned::Diverged(asked),
                    error => Rerunned::Host(error),
                },
            },
        }
    }
}
