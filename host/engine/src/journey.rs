//! The way of a message, top to bottom. The ten steps of `docs/ARCHITECTURE.md` are the ten numbers here;
//! control flow is in this file, work is in the stations.

use chela_gateway::Gateway;
use chela_sandbox::CallOptions;
use chela_store::{Claimed, CountsAs, Lease, Outgoing, Stage, Store, Trouble, Turn};
use chela_types::{AgentId, Blame, ChannelId, Clock, Decision, RoutedBy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

use crate::agent::{AgentStation, Handling, Outcome};
use crate::capability::{Lent, Whom};
use crate::channel::{Acknowledgement, ChannelStation, Delivery, Webhook};
use crate::config::Config;
use crate::drafts::{Draft, Drafts, Sink};
use crate::error::Error;
use crate::journal::Journal;
use crate::router::{RouterStation, Routing};

/// Everything a message meets on its way.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) channels: BTreeMap<ChannelId, ChannelStation>,
    pub(crate) router: RouterStation,
    pub(crate) agents: AgentStation,
    pub(crate) drafts: Drafts,
}

/// How far `advance` has brought a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// Closed: delivered, given up or dead.
    Closed,
    /// Run again later.
    Later,
}

impl Journey {
    /// Takes a request in.
    pub(crate) async fn accept(&self, channel: &str, webhook: Webhook) -> Result<Acknowledgement, Error> {
        let channel = self.channel(channel)?;
        let verified = channel.verify(webhook)?; //                                                     1
        let received = channel.receive(verified, &self.config.tenant).await?; //                        2
        if !received.arrivals.is_empty() {
            self.store.accept(received.arrivals).await?; //                                             3
            self.tell_sessions(channel, received.sessions);
        }
        Ok(received.acknowledgement)
    }

    /// Carries a claimed turn (4) to its end, or as far as it comes.
    pub(crate) async fn advance(&self, claimed: &Claimed) -> Result<Advanced, Error> {
        let Claimed { lease, turn } = claimed;
        let outgoing = match &turn.stage {
            Stage::Answered(outgoing) => outgoing.clone(),
            stage => {
                let journal =
                    Journal::open(self.store.clone(), lease.clone(), Arc::clone(&self.clock)).await?;
                let journal = Arc::new(Mutex::new(journal));
                let decision = match stage {
                    Stage::Decided(decision) => decision.clone(),
                    _ => self.decide(lease, turn, &journal).await?, //                                  5
                };
                match self.answer(lease, turn, decision, &journal).await {
                    //                                                                             6, 7, 8
                    Ok(Some(outgoing)) => outgoing,
                    Ok(None) => return Ok(Advanced::Later),
                    Err(error) => {
                        journal.lock().await.forget_failures().await?;
                        return Err(error);
                    }
                }
            }
        };
        self.deliver(lease, turn, &outgoing).await?; //                                             9, 10
        Ok(Advanced::Closed)
    }

    /// Step 5: policy, router, agent; the decision is kept before the agent works.
    async fn decide(
        &self,
        lease: &Lease,
        turn: &Turn,
        journal: &Arc<Mutex<Journal>>,
    ) -> Result<Decision, Error> {
        let past = match self.router.wants_history() {
            true => self.store.utterances(lease, HISTORY_FOR_ROUTERS).await?,
            false => Vec::new(),
        };
        let fallback = crate::policy::Policy::new(&self.config).default_agent(&turn.message)?;
        let version = self.router.plugin().map(|plugin| plugin.digest().to_string()).unwrap_or_default();
        let start = journal.lock().await.start();
        let routing = Routing {
            config: &self.config,
            lent: self.lend(lease, turn, fallback, version, journal)?,
            options: CallOptions { started: start.now, seed: derive(&start.seed, "router"), deadline: None },
            past,
            sticky: turn.sticky.clone(),
        };
        let decision = self.router.route(turn, routing).await?;
        self.store.decided_behind(lease, &decision).await?;
        Ok(decision)
    }

    /// Steps 6 to 8: the agent works, hands over if it wants, and its answer is kept before it is sent.
    /// `None`: the agent asked to be run again later.
    async fn answer(
        &self,
        lease: &Lease,
        turn: &Turn,
        mut decision: Decision,
        journal: &Arc<Mutex<Journal>>,
    ) -> Result<Option<Outgoing>, Error> {
        for hand_overs in 0..=self.config.routing.hand_overs_max {
            let agent = decision.agent.clone();
            let _seat = self.agents.seat(&agent).await?;
            match self.handle(lease, turn, &agent, journal, hand_overs).await? {
                Outcome::Say { reply, word } => {
                    let outgoing = self
                        .store
                        .answered(
                            lease,
                            chela_store::Answer { agent, reply, outcome: word.to_owned(), notice: false },
                        )
                        .await?;
                    return Ok(Some(outgoing));
                }
                Outcome::AskAgain { after } => {
                    journal.lock().await.forget().await?;
                    self.put_off(lease, after).await?;
                    return Ok(None);
                }
                Outcome::HandOver { agent: to, reason } => {
                    decision = Decision {
                        channel: decision.channel,
                        agent: to,
                        by: RoutedBy::HandOver { from: agent },
                        score: 1.0,
                        reason,
                        overruled: None,
                        micros: 0,
                    };
                    self.store.decided_behind(lease, &decision).await?;
                }
            }
        }
        let what = format!("was handed a turn after {} hand-overs", self.config.routing.hand_overs_max);
        Err(Error::Misbehaved { agent: decision.agent, what })
    }

    async fn handle(
        &self,
        lease: &Lease,
        turn: &Turn,
        agent: &AgentId,
        journal: &Arc<Mutex<Journal>>,
        hand_overs: usize,
    ) -> Result<Outcome, Error> {
        let config = self.config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let version = self.agents.plugin(agent)?.digest().to_string();
        let start = journal.lock().await.start();
        let purpose = format!("agent {agent} {hand_overs}");
        let handling = Handling {
            config: &self.config,
            message: &turn.message,
            past: self.store.utterances(lease, config.history).await?,
            lent: self.lend(lease, turn, agent, version, journal)?,
            options: CallOptions { started: start.now, seed: derive(&start.seed, &purpose), deadline: None },
        };
        self.agents.handle(agent, handling).await
    }

    /// The agent asked to be run again later: nobody's fault.
    async fn put_off(&self, lease: &Lease, after: Duration) -> Result<(), Error> {
        let trouble = Trouble {
            blame: Blame::Plugin,
            error: "the agent asked to be run again later".to_owned(),
            counts_as: CountsAs::Nothing,
            ambiguous: false,
        };
        Ok(self.store.defer(lease, self.clock.now().plus(after), trouble).await?)
    }

    /// Steps 9 and 10.
    pub(crate) async fn deliver(&self, lease: &Lease, turn: &Turn, outgoing: &Outgoing) -> Result<(), Error> {
        let channel = self.channel(turn.message.channel.as_str())?;
        let delivery = Delivery {
            store: &self.store,
            drafts: &self.drafts,
            lease,
            outgoing,
            target: &turn.target,
            steps_max: self.config.delivery.steps_max,
        };
        channel.deliver(delivery).await?;
        let took = self.clock.now().since(turn.message.received);
        metrics::histogram!("turn_duration_seconds", "agent" => outgoing.agent.to_string())
            .record(took.as_secs_f64());
        Ok(())
    }

    /// What a router or an agent may use while it works on this turn.
    fn lend(
        &self,
        lease: &Lease,
        turn: &Turn,
        agent: &AgentId,
        version: String,
        journal: &Arc<Mutex<Journal>>,
    ) -> Result<Lent, Error> {
        let config = self.config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let message = &turn.message;
        let sink = turn.target.bound.get("session").map(|session| Sink {
            drafts: self.drafts.clone(),
            channel: message.channel.clone(),
            session: session.clone(),
            turn: message.id,
            attempt: turn.tries + turn.crashes + turn.waits,
        });
        Ok(Lent {
            store: self.store.clone(),
            gateway: self.gateway.clone(),
            journal: Arc::clone(journal),
            whom: Arc::new(Whom {
                tenant: turn.tenant.clone(),
                agent: agent.clone(),
                version,
                turn: message.id,
                conversation: lease.conversation(),
                person: format!("{}/{}", message.channel, message.sender.id),
                tier: config.tier.clone(),
                tiers_allowed: config.tiers_allowed.clone(),
                knowledge: config.knowledge.as_ref().map(|(name, digest)| (name.clone(), digest.to_string())),
                confidential: config.confidential,
            }),
            drafts: sink,
        })
    }

    /// Tells every window of a web session that something was said; what, is kept with the message.
    fn tell_sessions(&self, channel: &ChannelStation, sessions: Vec<String>) {
        for session in sessions {
            self.drafts.tell(&channel.name, &session, Draft::Kept);
        }
    }

    pub(crate) fn channel(&self, name: &str) -> Result<&ChannelStation, Error> {
        self.channels
            .iter()
            .find_map(|(id, station)| (id.as_str() == name).then_some(station))
            .ok_or_else(|| Error::UnknownChannel(name.to_owned()))
    }
}

/// Earlier utterances that a router with the `history` grant is shown.
const HISTORY_FOR_ROUTERS: usize = 8;

/// Randomness of one call, from the turn's.
fn derive(seed: &[u8; 32], purpose: &str) -> [u8; 32] {
    *chela_types::Digest::of("chela call seed", &[seed, purpose.as_bytes()]).as_bytes()
}
