//! The way of a message, top to bottom. The ten steps of `docs/ARCHITECTURE.md` are the ten numbers here;
//! control flow is in this file, work is in the stations.

use chela_gateway::Gateway;
use chela_sandbox::CallOptions;
use chela_store::{Accepted, Answer, Claimed, Lease, Outgoing, Stage, Store, Turn};
use chela_types::{AgentId, ChannelId, Clock, Decision, RoutedBy};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

use crate::agent::{AgentStation, Handling, Outcome};
use crate::capability::{Lent, Whom};
use crate::channel::{
    Acknowledgement, ChannelStation, Delivered, Delivery, Received, Response, Showing, Shown, Waiting,
    Webhook,
};
use crate::config::Config;
use crate::dispatcher::answered;
use crate::drafts::{Draft, Drafts, Sink, Windows};
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
    pub(crate) channels: BTreeMap<ChannelId, Arc<ChannelStation>>,
    /// Platforms' requests that wait for the answer.
    pub(crate) waiting: Waiting,
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
    /// Shows the answer while it is made, on channels that edit.
    shown: Option<&'a Shown>,
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
        self.keep(channel, received).await
    }

    /// Step 3. A request whose response may be the answer waits for it, not long.
    async fn keep(&self, channel: &ChannelStation, received: Received) -> Result<Acknowledgement, Error> {
        let Received { arrivals, changes, receipts, sessions, response } = received;
        // A worker may have the answer before this goes on: who waits is put down first.
        let wait = match (&response, arrivals.first()) {
            (Response::Deferred { .. }, Some(first)) => self.waiting.put(first.message.id),
            _ => None,
        };
        let mut accepted = Vec::new();
        if !arrivals.is_empty() {
            accepted = self.store.accept(arrivals).await?;
            self.tell_sessions(channel, sessions);
        }
        if !changes.is_empty() {
            channel.count_changes(&self.store.change(changes).await?);
        }
        if !receipts.is_empty() {
            channel.count_receipts(&receipts);
            self.store.keep_receipts(receipts).await?;
        }
        let (deadline, fallback) = match response {
            Response::Now(acknowledgement) => return Ok(acknowledgement),
            Response::Deferred { deadline, fallback } => (deadline, fallback),
        };
        let answer = match (accepted.first(), wait) {
            (Some(Accepted { fresh: true, .. }), Some(wait)) => wait.within(deadline).await,
            (Some(Accepted { fresh: false, turn }), _) => match self.store.answer_in_response(*turn).await? {
                Some((outgoing, target)) => channel.respond_again(&outgoing, &target).await?,
                None => None,
            },
            _ => None,
        };
        Ok(answer.unwrap_or(fallback))
    }

    /// Carries a turn that is claimed (step 4) to its end. If that fails, `claimed` says how far it came.
    pub(crate) async fn advance(&self, claimed: &mut Claimed) -> Result<(), Error> {
        let channel = self.channel(claimed.turn.message.channel.as_str())?;
        if !matches!(claimed.turn.stage, Stage::Answered(_)) {
            let shown = self.show(channel, claimed);
            let worked = self.work(claimed, shown.as_ref()).await;
            if let Some(shown) = shown {
                claimed.turn.progress = shown.end().await;
            }
            answered(&mut claimed.turn, worked?);
        }
        // 9, 10: rendered, checked against the stored target, sent, closed.
        self.deliver_by(channel, claimed).await
    }

    /// Steps 5 to 8.
    async fn work(&self, claimed: &Claimed, shown: Option<&Shown>) -> Result<Outgoing, Error> {
        let Claimed { lease, turn } = claimed;
        let decided = match &turn.stage {
            Stage::Decided(decision) => Some(decision),
            Stage::Received | Stage::Answered(_) => None,
        };
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
        let run = Run { lease, turn, journal: Arc::new(Mutex::new(journal)), shown };
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
        let Run { lease, turn, journal, .. } = run;
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
            // A router's words are no answer, and nobody sees them.
            lent: self.lend(run, fallback, version, None)?,
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
        let Run { lease, turn, journal, .. } = run;
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
            lent: self.lend(run, agent, version, self.sink(run, agent))?,
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
            progress: turn.progress.clone(),
        };
        if channel.deliver(delivery).await? == Delivered::Done {
            let took = self.clock.now().since(turn.message.received);
            metrics::histogram!("turn_duration_seconds", "agent" => outgoing.agent.to_string())
                .record(took.as_secs_f64());
        }
        Ok(())
    }

    /// What a router or an agent may use while it works on this turn.
    fn lend(
        &self,
        run: &Run<'_>,
        agent: &AgentId,
        version: String,
        drafts: Option<Sink>,
    ) -> Result<Lent, Error> {
        let Run { lease, turn, journal, .. } = run;
        let config = self.config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let message = &turn.message;
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
            drafts,
        })
    }

    /// Where an agent's drafts go: into the windows of a web session, or into a post that is edited.
    fn sink(&self, run: &Run<'_>, agent: &AgentId) -> Option<Sink> {
        let Turn { target, message, tries, crashes, waits, .. } = run.turn;
        if let Some(session) = target.bound.get("session") {
            return Some(Sink::Session(Windows {
                drafts: self.drafts.clone(),
                channel: message.channel.clone(),
                session: session.clone(),
                turn: message.id,
                attempt: tries + crashes + waits,
            }));
        }
        run.shown.map(|shown| Sink::Post(shown.drawer(agent.clone())))
    }

    /// Shows the turn's answer while it is made, if its channel does that.
    fn show(&self, channel: &Arc<ChannelStation>, claimed: &Claimed) -> Option<Shown> {
        let Claimed { lease, turn } = claimed;
        let showing = Showing {
            channel: Arc::clone(channel),
            store: self.store.clone(),
            lease: lease.clone(),
            target: turn.target.clone(),
            received: turn.message.received,
            progress: turn.progress.clone(),
        };
        showing.begin()
    }

    /// Tells every window of a web session that something was said; what, is kept with the message.
    fn tell_sessions(&self, channel: &ChannelStation, sessions: Vec<String>) {
        for session in sessions {
            self.drafts.tell(&channel.name, &session, Draft::Kept);
        }
    }

    pub(crate) fn channel(&self, name: &str) -> Result<&Arc<ChannelStation>, Error> {
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
