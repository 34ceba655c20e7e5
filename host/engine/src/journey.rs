//! The way of a message, top to bottom. The ten steps of `docs/ARCHITECTURE.md` are the ten numbers here;
//! control flow is in this file, work is in the stations.

use chela_store::{Accepted, Answer, Claimed, Lease, Outgoing, Stage, Store, Turn};
use chela_types::{AgentId, Clock, Decision, Digest, RoutedBy};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, Semaphore};

use crate::agent::Outcome;
use crate::attempt::{self, Frames, IGNORED};
use crate::capability::{Lent, Outward, Whom};
use crate::channel::{
    Acknowledgement, ChannelStation, Delivered, Delivery, Received, Response, Showing, Shown, Waiting,
    Webhook,
};
use crate::config::AgentConfig;
use crate::dispatcher::answered;
use crate::drafts::{Draft, Drafts, Sink, Windows};
use crate::error::Error;
use crate::journal::Journal;
use crate::policy::Policy;
use crate::promptness::Promptness;
use crate::router::Routing;
use crate::swap::{Fleet, House, RECEIVE, Seen, Share};

/// Calls of agents in one run of a turn whose drafts are told apart.
const CALLS_MAX: u32 = 1_000;

/// Everything a message meets on its way.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    /// The configuration and the plugins, in their versions.
    pub(crate) fleet: Arc<Fleet>,
    /// Platforms' requests that wait for the answer.
    pub(crate) waiting: Waiting,
    pub(crate) drafts: Drafts,
    /// What components were told, as far as it is known to be kept.
    pub(crate) frames: Frames,
    /// Whether people wait longer than was promised.
    pub(crate) promptness: Promptness,
    /// The one place for turns that may stop the host.
    pub(crate) suspects: Semaphore,
}

/// One run of a turn: what is held while its answer is made. It ends in the house in which it began.
pub(crate) struct Run<'a> {
    pub(crate) house: &'a House,
    pub(crate) lease: &'a Lease,
    pub(crate) turn: &'a Turn,
    pub(crate) journal: Arc<Mutex<Journal>>,
    /// The conversation, for canaries.
    pub(crate) share: [u8; 8],
    /// Shows the answer while it is made, on channels that edit.
    shown: Option<&'a Shown>,
    /// Agents' calls that have shown drafts.
    calls: AtomicU32,
}

/// Which agent is to answer; kept before it works.
enum Choice {
    Kept(Decision),
    /// By the policy alone, and not kept yet.
    Policys(Decision),
}

impl Journey {
    /// Takes a request in: steps 1 to 3.
    pub(crate) async fn accept(&self, channel: &str, webhook: Webhook) -> Result<Acknowledgement, Error> {
        let house = self.fleet.house();
        let (lineup, tenant) = (house.channel(channel)?, &house.config.tenant);
        // A canary has its share of those who write; where nobody can be read, of the requests.
        let whereabouts = match &lineup.canary {
            Some(_) => lineup.active.plugin.whereabouts(webhook.clone(), tenant),
            None => None,
        };
        let adapter =
            lineup.choose(Share { asked: RECEIVE, of: whereabouts.as_deref().unwrap_or(&webhook.body) });
        let station = Arc::clone(&adapter.plugin);
        let again = adapter.before().map(|_| webhook.clone());
        // 1: method, size, signature, rate. Nothing of the request is run before it has passed.
        let verified = station.verify(webhook)?;
        station.admit(&verified)?;
        // 2: the component reads it; every identity it returns must be one that the host has read itself.
        let received = station.receive(verified, tenant).await;
        let over = match (&received, &again) {
            // What a new version cannot read or makes nothing of, the one before may read.
            (Err(error), Some(_)) if error.is_malformed() => {
                adapter.doubted(Seen::Bad("malformed"), Seen::Nothing)
            }
            (Ok(made), Some(_)) if attempt::received(made) == IGNORED => {
                adapter.doubted(Seen::Good(IGNORED), Seen::Good(IGNORED))
            }
            // One that fails is not the last word where there is one before it.
            _ => adapter.judged(&received, attempt::received),
        };
        let (Some(before), Some(again)) = (over, again) else {
            // 3: kept on the disk, and only then acknowledged.
            return self.keep(&station, received?).await;
        };
        let earlier = Arc::clone(&before.plugin);
        let read = match earlier.verify(again) {
            Ok(verified) => earlier.receive(verified, tenant).await,
            Err(error) => Err(error),
        };
        let is_better = match (&received, &read) {
            (Err(error), Err(_)) => !error.is_malformed(),
            (Err(_), Ok(_)) => true,
            (Ok(_), read) => read.as_ref().is_ok_and(|made| attempt::received(made) != IGNORED),
        };
        match is_better {
            true => {
                before.judged(&read, attempt::received);
                self.keep(&earlier, read?).await
            }
            false => {
                before.likewise().judged(&read, attempt::received);
                self.keep(&station, received?).await
            }
        }
    }

    /// Step 3. A request whose response may be the answer waits for it, not long.
    async fn keep(&self, channel: &ChannelStation, received: Received) -> Result<Acknowledgement, Error> {
        let Received { mut arrivals, changes, receipts, sessions, response } = received;
        let lane = self.fleet.house().config.lane_of(&channel.name);
        arrivals.iter_mut().for_each(|arrival| arrival.lane.clone_from(&lane));
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
        let house = self.fleet.house();
        if !matches!(claimed.turn.stage, Stage::Answered(_)) {
            let shown = self.show(&house, claimed)?;
            let worked = self.work(&house, claimed, shown.as_ref()).await;
            if let Some(shown) = shown {
                claimed.turn.progress = shown.end().await;
            }
            answered(&mut claimed.turn, worked?);
        }
        // 9, 10: rendered, checked against the stored target, sent, closed.
        self.deliver_in(&house, claimed).await
    }

    /// Steps 5 to 8.
    async fn work(&self, house: &House, claimed: &Claimed, shown: Option<&Shown>) -> Result<Outgoing, Error> {
        let Claimed { lease, turn } = claimed;
        let decided = match &turn.stage {
            Stage::Decided(decision) => Some(decision),
            Stage::Received | Stage::Answered(_) => None,
        };
        let mut journal = Journal::open(self.store.clone(), lease.clone(), Arc::clone(&self.clock)).await?;
        // A decision of an earlier run stands if the policy would still allow it.
        let allowed = |decision: &&Decision| {
            let mut candidates = Policy::new(&house.config).candidates(&turn.message).into_iter();
            candidates.any(|(name, _)| *name == decision.agent)
        };
        let decided = match decided.filter(allowed) {
            Some(decision) => Some((decision.clone(), journal.resume(&decision.agent)?)),
            None => None,
        };
        let share = turn.conversation.0.to_le_bytes();
        let run = Run {
            house,
            lease,
            turn,
            journal: Arc::new(Mutex::new(journal)),
            share,
            shown,
            calls: AtomicU32::new(0),
        };
        // 5: which agent.
        let (choice, hand_overs) = match decided {
            Some((decision, hand_overs)) => (Choice::Kept(decision), hand_overs),
            None => (self.decide(&run).await?, 0),
        };
        // 6, 7, 8: the agent works, models are asked, the answer is kept.
        let answered = self.answer(&run, choice, hand_overs).await;
        let Err(error) = answered else { return answered };
        let outage = run.journal.lock().await.has_failed();
        Err(error.if_outage(outage))
    }

    /// Step 5: policy, router, agent. What a router said is kept at once; what the policy says can be asked again.
    async fn decide(&self, run: &Run<'_>) -> Result<Choice, Error> {
        let Run { house, lease, turn, .. } = run;
        let routing = Routing::new(&house.config, &turn.message, turn.sticky.clone())?;
        let Some(router) = house.router_of(&turn.message.channel) else {
            return Ok(Choice::Policys(routing.by_policy()));
        };
        let decision = self.route(run, router, &routing).await?;
        self.store.decided_behind(lease, &decision).await?;
        Ok(Choice::Kept(decision))
    }

    /// Steps 6 to 8: the agent works, hands over if it wants, and its answer is kept before it is sent.
    /// `handed` agents before it did so in an earlier run.
    async fn answer(&self, run: &Run<'_>, choice: Choice, handed: usize) -> Result<Outgoing, Error> {
        let Run { house, lease, journal, .. } = run;
        let hand_overs_max = house.config.routing.hand_overs_max;
        let (mut decision, mut is_kept) = match choice {
            Choice::Kept(decision) => (decision, true),
            Choice::Policys(decision) => (decision, false),
        };
        for hand_overs in handed..=hand_overs_max {
            let agent = decision.agent.clone();
            let _seat = house.agents.seat(&agent, run.turn.message.id).await?;
            // Not before: of those that find no seat there are many when somebody floods.
            if !is_kept {
                self.store.decided_behind(lease, &decision).await?;
                is_kept = true;
            }
            match self.handle(run, &agent, hand_overs).await? {
                Outcome::Say { reply, word } => {
                    let lane = house.config.agents.get(&agent).and_then(AgentConfig::lane);
                    let answer = Answer { agent, reply, outcome: word, notice: false, lane };
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
        let what = format!("was handed a turn after {hand_overs_max} hand-overs");
        Err(Error::Misbehaved { agent: decision.agent, what })
    }

    /// Steps 9 and 10, for a turn that has its answer.
    pub(crate) async fn deliver(&self, claimed: &Claimed) -> Result<(), Error> {
        self.deliver_in(&self.fleet.house(), claimed).await
    }

    async fn deliver_in(&self, house: &House, claimed: &Claimed) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let Stage::Answered(outgoing) = &turn.stage else { return Ok(()) };
        let mut adapter = self.adapter(house, claimed, outgoing).await?;
        let began = outgoing.begun_by();
        let delivered = loop {
            let station = Arc::clone(&adapter.plugin);
            let has_left = AtomicBool::new(outgoing.requests > 0);
            let delivery = Delivery {
                store: &self.store,
                drafts: &self.drafts,
                lease,
                outgoing,
                target: &turn.target,
                steps_max: house.config.delivery.steps_max,
                progress: turn.progress.clone(),
                adapter: adapter.release().digest,
                is_orphan: began.is_some_and(|began| began != adapter.release().digest),
                has_left: &has_left,
                may_decline: adapter.before().is_some(),
                failed: OnceLock::new(),
            };
            let delivered = station.deliver(delivery).await;
            // What has left cannot be taken over by a version that knows nothing of it.
            let called = if has_left.into_inner() { adapter.alone() } else { adapter };
            let over = match &delivered {
                Ok(made @ Delivered::Declined) => {
                    called.doubted(Seen::Bad("given up"), Seen::Good(made.went()))
                }
                // The platform has a part of it: nobody takes it over.
                Ok(Delivered::Broken(kind)) => called.alone().failed(kind),
                Ok(Delivered::GivenUp) => called.likewise().judged(&delivered, Delivered::went),
                _ => called.judged(&delivered, Delivered::went),
            };
            match over {
                Some(before) => adapter = before,
                None => break delivered?,
            }
        };
        if delivered == Delivered::Done {
            let took = self.clock.now().since(turn.message.received);
            metrics::histogram!("turn_duration_seconds", "agent" => outgoing.agent.to_string())
                .record(took.as_secs_f64());
            let promised = house.config.agents.get(&outgoing.agent).and_then(|agent| agent.answer_within);
            if let Some(within) = promised {
                let now = self.clock.now();
                let pressure = self.promptness.answered(&outgoing.agent, (took, within), now);
                house.gateway.press(&outgoing.agent, pressure);
            }
        }
        Ok(())
    }

    /// What a router or an agent may use while it works on this turn.
    pub(crate) fn lend(
        &self,
        run: &Run<'_>,
        agent: &AgentId,
        version: Digest,
        drafts: Option<Sink>,
    ) -> Result<Lent, Error> {
        let Run { house, turn, journal, .. } = run;
        let whom = Whom::of(&house.config, (agent, version), (&turn.message, turn.conversation))?;
        Ok(Lent {
            store: self.store.clone(),
            gateway: house.gateway.clone(),
            journal: Arc::clone(journal),
            whom: Arc::new(whom),
            drafts,
            outward: Some(Outward {
                egress: self.fleet.egress().clone(),
                leaks: Arc::clone(&house.leaks),
                config: Arc::clone(&house.config),
                plugin: None,
            }),
        })
    }

    /// Where an agent's drafts go: into the windows of a web session, or into a post that is edited.
    pub(crate) fn sink(&self, run: &Run<'_>, agent: &AgentId) -> Option<Sink> {
        let Turn { target, message, tries, crashes, waits, .. } = run.turn;
        if let Some(session) = target.bound.get("session") {
            let call = run.calls.fetch_add(1, Ordering::Relaxed);
            return Some(Sink::Session(Windows {
                drafts: self.drafts.clone(),
                channel: message.channel.clone(),
                session: session.clone(),
                turn: message.id,
                attempt: (tries + crashes + waits).saturating_mul(CALLS_MAX) + call.min(CALLS_MAX - 1),
            }));
        }
        run.shown.map(|shown| Sink::Post(shown.drawer(agent.clone())))
    }

    /// Shows the turn's answer while it is made, if its channel does that.
    fn show(&self, house: &House, claimed: &Claimed) -> Result<Option<Shown>, Error> {
        let Claimed { lease, turn } = claimed;
        let showing = Showing {
            channel: Arc::clone(house.station(turn.message.channel.as_str())?),
            store: self.store.clone(),
            lease: lease.clone(),
            target: turn.target.clone(),
            received: turn.message.received,
            progress: turn.progress.clone(),
        };
        Ok(showing.begin())
    }

    /// Tells every window of a web session that something was said; what, is kept with the message.
    fn tell_sessions(&self, channel: &ChannelStation, sessions: Vec<String>) {
        for session in sessions {
            self.drafts.tell(&channel.name, &session, Draft::Kept);
        }
    }
}
