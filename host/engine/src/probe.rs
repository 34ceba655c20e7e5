//! One plugin, asked outside the journey and by the same stations: for `chela drill`, which must hear how a call ended,
//! and not only what became of a turn.
//!
//! Everything that stands between a plugin and the world stands here too: grants, journal, store, gateway, policy,
//! identities, targets, the way out. What is left out is what comes before (a platform's signature) and after (tries,
//! notices).

use bytes::Bytes;
use chela_egress::Leaks;
use chela_sandbox::{Plugin, PluginKind, Settings, Source};
use chela_store::{Answer, Arrival, Claimed, Outgoing};
use chela_types::{AgentId, ChannelId, Digest, Identity, Message, Person, Reply, TurnId};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

use crate::agent::{self, Agent, Outcome};
use crate::attempt::options;
use crate::capability::{Lent, Outward, Whom};
use crate::channel::{
    Account, Channel, ChannelStation, Delivery, Parts, Sessions, Verified, Waiting, Webhook,
};
use crate::config::Config;
use crate::contract::{self, answering};
use crate::drafts::Drafts;
use crate::engine::Rooms;
use crate::error::Error;
use crate::journal::Journal;
use crate::router::{self, Router, Routing, Taken};
use crate::swap::recording::{Began, heard};

/// How a turn of a probe ends in the store.
const CLOSED: &str = "probed";

/// Rooms and a configuration in which plugins are asked.
#[derive(Debug)]
pub struct Probe {
    rooms: Rooms,
    config: Arc<Config>,
    leaks: Arc<Leaks>,
    drafts: Drafts,
    sessions: Arc<Sessions>,
}

/// A plugin that is loaded.
#[derive(Debug)]
pub enum Probed {
    /// A router.
    Router(Plugin<Router>),
    /// An agent.
    Agent(Plugin<Agent>),
    /// An adapter, as the one account of the configuration.
    Channel(Box<Adapter>),
}

/// An adapter in its station.
#[derive(Debug)]
pub struct Adapter(ChannelStation);

/// Who asks, and whom.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The agent; for a router, it is the default of the channel that counts.
    pub agent: AgentId,
    /// Who writes.
    pub sender: String,
    /// In which conversation.
    pub conversation: String,
    /// What.
    pub text: String,
}

impl Probe {
    /// In these rooms. Its configuration names agents, one channel whose default they may be, and the secrets of a plugin
    /// of the probed one's name.
    pub fn new(rooms: Rooms, config: Config) -> Self {
        let sessions = Arc::new(Sessions::new(config.session_key));
        let leaks = Arc::new(Leaks::of(config.all_secrets()));
        Self { rooms, config: Arc::new(config), leaks, drafts: Drafts::default(), sessions }
    }

    /// Loads a plugin of this kind.
    ///
    /// # Errors
    /// As any load; for an adapter also what its tables lack.
    pub fn load(
        &self,
        kind: PluginKind,
        source: Source,
        settings: Settings,
    ) -> BoxFuture<'_, Result<Probed, Error>> {
        Box::pin(async move {
            let sandbox = &self.rooms.sandbox;
            Ok(match kind {
                PluginKind::Router => Probed::Router(sandbox.load(source, settings, |_| {}).await?),
                PluginKind::Agent => Probed::Agent(sandbox.load(source, settings, |_| {}).await?),
                PluginKind::Channel => {
                    let plugin = sandbox.load(source, settings, |_| {}).await?;
                    Probed::Channel(Box::new(Adapter(self.station(plugin)?)))
                }
            })
        })
    }

    fn station(&self, plugin: Plugin<Channel>) -> Result<ChannelStation, Error> {
        let (name, channel) = self.channel()?;
        ChannelStation::new(Parts {
            name: name.clone(),
            config: channel.clone(),
            settings: serde_json::from_str(plugin.config()).unwrap_or_default(),
            plugin,
            egress: self.rooms.egress.clone(),
            clock: Arc::clone(&self.rooms.clock),
            sessions: Arc::clone(&self.sessions),
            waiting: Waiting::new(self.config.waiting_max),
            account: Arc::new(Account::new(channel)),
        })
    }

    fn channel(&self) -> Result<(&ChannelId, &crate::config::ChannelConfig), Error> {
        let none = || Error::Configuration("a probe needs a channel".to_owned());
        self.config.channels.iter().next().ok_or_else(none)
    }

    /// Asks a router or an agent in a turn of its own. What it said, in words: `agent: reason`, or the reply's text.
    ///
    /// # Errors
    /// How the call ended, or what the policy has against what was said.
    pub async fn ask(&self, probed: &Probed, asking: Asking) -> Result<String, Error> {
        Ok(self.time(probed, asking).await?.0)
    }

    /// The same, and how long the call itself took, without what the store does for its turn before and after.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn time<'a>(
        &'a self,
        probed: &'a Probed,
        asking: Asking,
    ) -> BoxFuture<'a, Result<(String, Duration), Error>> {
        Box::pin(async move {
            let agent = asking.agent.clone();
            let claimed = self.turn(self.arrival(asking)?).await?;
            let said = match probed {
                Probed::Router(plugin) => self.route(plugin, &claimed).await,
                Probed::Agent(plugin) => self.handle(plugin, &agent, &claimed).await,
                Probed::Channel(_) => Err(Error::Configuration("an adapter is not asked".to_owned())),
            };
            self.close(&claimed, &agent).await?;
            said
        })
    }

    /// Lets an adapter read a request that has proved its origin; how many messages and changes were taken of it.
    ///
    /// # Errors
    /// How the call ended, or what of it was forged.
    pub fn receive<'a>(&'a self, adapter: &'a Adapter, body: Bytes) -> BoxFuture<'a, Result<usize, Error>> {
        Box::pin(async move {
            let received = adapter.0.receive(verified(body), &self.config.tenant).await?;
            Ok(received.arrivals.len() + received.changes.len() + received.receipts.len())
        })
    }

    /// Lets an adapter read a request, and deliver this answer to it.
    ///
    /// # Errors
    /// How a call ended, what was forged or forbidden, or where a request could not go.
    pub fn deliver<'a>(
        &'a self,
        adapter: &'a Adapter,
        body: Bytes,
        text: &'a str,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            let received = adapter.0.receive(verified(body), &self.config.tenant).await?;
            let none = || Error::Configuration("the request holds no message".to_owned());
            let claimed = self.turn(received.arrivals.into_iter().next().ok_or_else(none)?).await?;
            let (_, channel) = self.channel()?;
            let outgoing = self.answered(&claimed, &channel.default_agent, text).await?;
            let delivery = Delivery {
                store: &self.rooms.store,
                drafts: &self.drafts,
                lease: &claimed.lease,
                outgoing: &outgoing,
                target: &claimed.turn.target,
                steps_max: self.config.delivery.steps_max,
                progress: None,
                adapter: adapter.0.plugin.digest(),
                is_orphan: false,
                has_left: &AtomicBool::new(false),
                may_decline: false,
                failed: OnceLock::new(),
            };
            match adapter.0.deliver(delivery).await {
                Ok(delivered) => Ok(delivered.went().to.to_owned()),
                Err(error) => {
                    self.rooms.store.give_up_delivery(&claimed.lease, outgoing.id, CLOSED).await?;
                    Err(error)
                }
            }
        })
    }

    async fn route(&self, plugin: &Plugin<Router>, claimed: &Claimed) -> Result<(String, Duration), Error> {
        let message = &claimed.turn.message;
        let routing = Routing::new(&self.config, message, None)?;
        let began = began(None, plugin.digest());
        let (lent, options) = self.lent(claimed, routing.default(), &began).await?;
        let context = router::told(routing.frame(), None, &[]);
        let asked = Instant::now();
        let said = router::ask(plugin, (lent, options), message, context).await?;
        let took = asked.elapsed();
        match routing.taken((plugin.id(), plugin.version(), plugin.digest().short()), Ok(said))? {
            Taken::Sound(decision) => Ok((format!("{}: {}", decision.agent, decision.reason), took)),
            Taken::Failed(decision, _) => {
                Err(Error::Misbehaved { agent: decision.agent, what: decision.overruled.unwrap_or_default() })
            }
        }
    }

    async fn handle(
        &self,
        plugin: &Plugin<Agent>,
        agent: &AgentId,
        claimed: &Claimed,
    ) -> Result<(String, Duration), Error> {
        let message = &claimed.turn.message;
        let began = began(Some(agent.clone()), plugin.digest());
        let (lent, options) = self.lent(claimed, agent, &began).await?;
        let told = answering::Turn {
            message: contract::message(message),
            profile: agent::profile(agent, &self.config, message)?,
            past: Vec::new(),
        };
        let asked = Instant::now();
        let said = agent::ask(plugin, (lent, options), told).await?;
        let took = asked.elapsed();
        let words = match agent::taken(agent, &self.config, message, said)? {
            Outcome::Say { reply, .. } => reply.text,
            Outcome::HandOver { agent, .. } => format!("hand-over to {agent}"),
            Outcome::AskAgain { after } => format!("again after {} ms", after.as_millis()),
        };
        Ok((words, took))
    }

    /// What a call may use, and its time.
    async fn lent(
        &self,
        claimed: &Claimed,
        agent: &AgentId,
        began: &Began,
    ) -> Result<(Lent, chela_sandbox::CallOptions), Error> {
        let Rooms { store, gateway, egress, clock, .. } = &self.rooms;
        let Claimed { lease, turn } = claimed;
        let mut journal = Journal::open(store.clone(), lease.clone(), Arc::clone(clock)).await?;
        match &began.agent {
            Some(_) => journal.begin_agent(began).await?,
            None => journal.begin_router(began, true).await?,
        }
        let options = options(journal.start(), &began.purpose);
        let whom = Whom::of(&self.config, (agent, began.version), (&turn.message, turn.conversation))?;
        let lent = Lent {
            store: store.clone(),
            gateway: gateway.clone(),
            journal: Arc::new(Mutex::new(journal)),
            whom: Arc::new(whom),
            drafts: None,
            outward: Some(Outward {
                egress: egress.clone(),
                leaks: Arc::clone(&self.leaks),
                config: Arc::clone(&self.config),
                plugin: None,
            }),
        };
        Ok((lent, options))
    }

    fn arrival(&self, asking: Asking) -> Result<Arrival, Error> {
        let Asking { sender, conversation, text, .. } = asking;
        let (channel, _) = self.channel()?;
        let id = TurnId::new();
        let identity = Identity {
            dedupe: vec![vec![id.to_string()]],
            conversation: vec![conversation],
            sender: sender.clone(),
            place: None,
            outsider: false,
            target: BTreeMap::new(),
        };
        let message = Message {
            id,
            channel: channel.clone(),
            place: None,
            sender: Person { id: sender, name: None, outsider: false },
            text,
            attachments: Vec::new(),
            received: self.rooms.clock.now(),
        };
        Ok(Arrival {
            tenant: self.config.tenant.clone(),
            identity,
            message,
            notes: None,
            echo: None,
            lane: String::new(),
        })
    }

    async fn turn(&self, arrival: Arrival) -> Result<Claimed, Error> {
        let store = &self.rooms.store;
        store.accept(vec![arrival]).await?;
        let none = || Error::Configuration("a turn that was kept cannot be claimed".to_owned());
        store.claim(CLOSED, 1).await?.pop().ok_or_else(none)
    }

    async fn answered(&self, claimed: &Claimed, agent: &AgentId, text: &str) -> Result<Outgoing, Error> {
        let reply = Reply { text: text.to_owned(), ..Reply::default() };
        let answer =
            Answer { agent: agent.clone(), reply, outcome: CLOSED.to_owned(), notice: false, lane: None };
        Ok(self.rooms.store.answered(&claimed.lease, answer).await?)
    }

    async fn close(&self, claimed: &Claimed, agent: &AgentId) -> Result<(), Error> {
        let outgoing = self.answered(claimed, agent, CLOSED).await?;
        Ok(self.rooms.store.give_up_delivery(&claimed.lease, outgoing.id, CLOSED).await?)
    }
}

/// The platform's own signature is not what is tried here.
fn verified(body: Bytes) -> Verified {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let webhook = Webhook {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers,
        body,
        session: None,
    };
    Verified { webhook, session: None, is_form: false }
}

fn began(agent: Option<AgentId>, version: Digest) -> Began {
    Began {
        agent,
        version,
        frame: Digest::of("chela 2026 frame", &[CLOSED.as_bytes()]),
        past: 0,
        heard: heard(&[]),
        sticky: None,
        purpose: CLOSED.to_owned(),
    }
}
