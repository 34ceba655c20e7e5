//! The way of a message, top to bottom. The ten steps of `docs/ARCHITECTURE.md` are the ten numbers here;
//! control flow is in this file, work is in the stations.

use chela_gateway::Gateway;
use chela_sandbox::CallOptions;
use chela_store::{Answer, Claimed, Lease, Outgoing, Stage, Store, Turn};
use chela_types::{AgentId, ChannelId, Clock, Decision, RoutedBy};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

use crate::agent::{AgentStation, Handling, Outcome};
use crate::capability::{Lent, Whom};
use crate::channel::{Acknowledgement, ChannelStation, Delivered, Delivery, Webhook};
use crate::config::Config;
use crate::dispatcher::answered;
use crate::drafts::{Draft, Drafts, Sink};
use crate::error::Error;
use crate::journal::Journal;
use crate::policy::Policy;
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
    /// The one place for turns that may stop the host.
    pub(crate) suspects: Semaphore,
}

/// One run of a turn: what is held while its answer is made.
struct Run<'a> {
    lease: &'a Lease,
    turn: &'a Turn,
    journal: Arc<Mutex<Journal>>,
}

impl Journey {
    /// Takes a request in: steps 1 to 3.
    pub(crate) async fn accept(&self, channel: &str, webhook: Webhook) -> Result<Acknowledgement, Error> {
        let channel = self.channel(channel)?;
        // 1: method, size, signature, rate. Nothing of the request is run before it has passed.
        let verified = channel.verify(webhook)?;
        // 2: the component reads it; every identity it returns must be one that the host has read itself.
        let received = channel.receive(verified, &self.config.tenant).await?;
        // 3: kept on the disk, and only then acknowledged.
        if !received.arrivals.is_empty() {
            self.store.accept(received.arrivals).await?;
            self.tell_sessions(channel, received.sessions);
        }
        Ok(received.acknowledgement)
    }

    /// Carries a turn that is claimed (step 4) to its end. If that fails, `claimed` says how far it came.
    pub(crate) async fn advance(&self, claimed: &mut Claimed) -> Result<(), Error> {
        let channel = self.channel(claimed.turn.message.channel.as_str())?;
        let Claimed { lease, turn } = &*claimed;
        let outgoing = match &turn.stage {
            Stage::Received => Some(self.work(lease, turn, None).await?),
            Stage::Decided(decision) => Some(self.work(lease, turn, Some(decision)).await?),
            Stage::Answered(_) => None,
        };
        if let Some(outgoing) = outgoing {
            answered(&mut claimed.turn, outgoing);
        }
        // 9, 10: rendered, checked against the stored target, sent, closed.
        self.deliver_by(channel, claimed).await
    }

    /// Steps 5 to 8.
    async fn work(&self, lease: &Lease, turn: &Turn, decided: Option<&Decision>) -> Result<Outgoing, Error> {
        let mut journal = Journal::open(self.store.clone(), lease.clone(), Arc::clone(&self.clock)).await?;
        // A decision of an earlier run stands if the policy would still allow it.
        let allowed = |decision: &&Decision| {
            let mut candidates = Policy::new(&self.config).candidates(&turn.message).into_iter();
            candidates.any(|(name, _)| *name == decision.agent)
        };
        let decided = match decided.filter(allowed) {
            Some(decision) => Some((decision.clone(), journal.resume(&decision.agent)?)),
            None => None,
        };
        let run = Run { lease, turn, journal: Arc::new(Mutex::new(journal)) };
        // 5: which agent.
        let (decision, hand_overs) = match decided {
            Some(decided) => decided,
            None => (self.decide(&run).await?, 0),
        };
        // 6, 7, 8: the agent works, models are asked, the answer is kept.
        let answered = self.answer(&run, decision, hand_overs).await;
        let Err(error) = answered else { return answered };
        let outage = run.journal.lock().await.forget_failures().await?;
        Err(error.if_outage(outage))
    }

    /// Step 5: policy, router, agent; the decision is kept before the agent works.
    async fn decide(&self, run: &Run<'_>) -> Result<Decision, Error> {
        let Run { lease, turn, journal } = run;
        let past = match self.router.wants_history() {
            true => self.store.utterances(lease, HISTORY_FOR_ROUTERS).await?,
            false => Vec::new(),
        };
        let fallback = Policy::new(&self.config).default_agent(&turn.message)?;
        let version = self.router.plugin().map(|plugin| plugin.digest().to_string()).unwrap_or_default();
        let start = {
            let mut journal = journal.lock().await;
            journal.begin_router();
            journal.start()
        };
        let routing = Routing {
            config: &self.config,
            lent: self.lend(run, fallback, version)?,
            options: CallOptions { started: start.now, seed: derive(&start.seed, "router"), deadline: None },
            past,
            sticky: turn.sticky.clone(),
        };
        let decision = self.router.route(turn, routing).await?;
        self.store.decided_behind(lease, &decision).await?;
        Ok(decision)
    }

    /// Steps 6 to 8: the agent works, hands over if it wants, and its answer is kept before it is sent.
    /// `handed` agents before it did so in an earlier run.
    async fn answer(&self, run: &Run<'_>, mut decision: Decision, handed: usize) -> Result<Outgoing, Error> {
        let Run { lease, journal, .. } = run;
        for hand_overs in handed..=self.config.routing.hand_overs_max {
            let agent = decision.agent.clone();
            let _seat = self.agents.seat(&agent, run.turn.message.id).await?;
            match self.handle(run, &agent, hand_overs).await? {
                Outcome::Say { reply, word } => {
                    let answer = Answer { agent, reply, outcome: word, notice: false };
                    return Ok(self.store.answered(lease, answer).await?);
                }
                Outcome::AskAgain { after } => {
                    journal.lock().await.forget().await?;
                    return Err(Error::AskedAgain { agent, after });
                }
                Outcome::HandOver { agent: to, reason } => {
                    decision = Decision {
                        channel: decision.channel,
                        agent: to,
                        by: RoutedBy::HandOver { from: agent },
                        score: 1.0,
                        reason,
                        alternatives: Vec::new(),
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

    async fn handle(&self, run: &Run<'_>, agent: &AgentId, hand_overs: usize) -> Result<Outcome, Error> {
        let Run { lease, turn, journal } = run;
        let config = self.config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let version = self.agents.plugin(agent)?.digest().to_string();
        let start = {
            let mut journal = journal.lock().await;
            journal.begin_agent(agent).await?;
            journal.start()
        };
        let purpose = format!("agent {agent} {hand_overs}");
        let handling = Handling {
            config: &self.config,
            message: &turn.message,
            past: self.store.utterances(lease, config.history).await?,
            lent: self.lend(run, agent, version)?,
            options: CallOptions { started: start.now, seed: derive(&start.seed, &purpose), deadline: None },
        };
        self.agents.handle(agent, handling).await
    }

    /// Steps 9 and 10, for a turn that has its answer.
    pub(crate) async fn deliver(&self, claimed: &Claimed) -> Result<(), Error> {
        self.deliver_by(self.channel(claimed.turn.message.channel.as_str())?, claimed).await
    }

    async fn deliver_by(&self, channel: &ChannelStation, claimed: &Claimed) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let Stage::Answered(outgoing) = &turn.stage else { return Ok(()) };
        let delivery = Delivery {
            store: &self.store,
            drafts: &self.drafts,
            lease,
            outgoing,
            target: &turn.target,
            steps_max: self.config.delivery.steps_max,
        };
        if channel.deliver(delivery).await? == Delivered::Done {
            let took = self.clock.now().since(turn.message.received);
            metrics::histogram!("turn_duration_seconds", "agent" => outgoing.agent.to_string())
                .record(took.as_secs_f64());
        }
        Ok(())
    }

    /// What a router or an agent may use while it works on this turn.
    fn lend(&self, run: &Run<'_>, agent: &AgentId, version: String) -> Result<Lent, Error> {
        let Run { lease, turn, journal } = run;
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
