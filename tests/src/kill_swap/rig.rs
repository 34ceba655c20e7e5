//! A host under load whose plugins are swapped, killed, read and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chela_egress::{Credential, Egress, Request};
use chela_engine::PluginStatus;
use chela_server::standin::{Fault, SenderSettings, provider, slack, webhook};
use chela_store::{Phase, Store};
use chela_types::{Clock, SystemClock, TenantId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::sync::oneshot::Receiver;
use tokio::time::{sleep, timeout};

use super::{Build, Stage, Standing, Turns, Way, Window, part_files, standing};
use crate::kill::{Conversations, Load, Name, Sent};
use crate::outside::{MODEL, Outside, PRICE, PROVIDER_KEY, ROOMS, SLACK_SECRET, SLACK_TOKEN, loopback};
use crate::process::Process;
use crate::wait::{PATIENCE, eventually};

/// Conversations at once: fewer than a new version's calls on trial, so that none is sent to the version before.
const CONVERSATIONS: u32 = 8;
/// The latest moment of a kill after its trigger, at first.
const KILL_WITHIN: Duration = Duration::from_millis(150);
/// It is put off while kills come too early, and brought forward while they come too late, by this factor.
const CLOSER: f64 = 1.4;
/// Within these bounds.
const KILL_WITHIN_BOUNDS: (Duration, Duration) = (Duration::from_millis(15), Duration::from_secs(2));
/// How long the provider thinks about a question whose turn a kill is to cut off.
const SLOW: Duration = Duration::from_secs(4);

/// A plugin that is swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Swapped {
    /// The agent's.
    Worker,
    /// The router.
    Chooser,
    /// The channel's adapter.
    Adapter,
}

impl Swapped {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Worker, Self::Chooser, Self::Adapter];

    /// In the configuration; the agent has the same name as its plugin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Chooser => "chooser",
            Self::Adapter => "adapter",
        }
    }
}

/// Whether what lands in a folder serves by itself, and whether it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does, and stays whatever it does: the outside has bad moments.
    Auto,
    /// It does, until the watch sends it back.
    Watched,
    /// It waits for an order.
    Manual,
}

/// What a kill follows.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A build lands in its folder.
    Land(Build, Way),
    /// An order at the admin listener.
    Order(Value),
    /// The same by the command line.
    Command(Vec<String>),
    /// The host starts.
    Start,
}

/// What a kill has left.
#[derive(Debug)]
pub struct Kill {
    /// What was written down.
    pub standing: Standing,
    /// How far the change had come.
    pub stage: Stage,
    /// Whoever ordered was told that it is done.
    pub is_acknowledged: bool,
}

/// The host and all around it.
#[derive(Debug)]
pub struct Rig {
    /// The host.
    pub process: Process,
    /// Decides about moments.
    pub random: StdRng,
    pub(super) outside: Arc<Outside>,
    pub(super) load: Load,
    pub(super) windows: Vec<Window>,
    pub(super) cut: Turns,
    pub(super) probes: Vec<Sent>,
    egress: Egress,
    newest: BTreeMap<Swapped, u32>,
    hits: BTreeMap<Stage, u32>,
    within: Duration,
}

async fn outside() -> Outside {
    let model = provider::Settings {
        // Time enough for a turn to be under way when the host dies.
        first_token: Duration::from_millis(60),
        between: Duration::from_millis(10),
        ..provider::Settings::new(PROVIDER_KEY, PRICE)
    };
    let room = slack::Settings {
        sender: SenderSettings::quick(10_000, Duration::from_millis(40)),
        ..slack::Settings::new(SLACK_SECRET, SLACK_TOKEN, &ROOMS)
    };
    Outside::with_provider(Arc::new(SystemClock), model, room).await
}

fn configuration(outside: &Outside, mode: Mode) -> String {
    let (model, partner) = (outside.provider.base_url(), outside.partner.reply_url());
    let (reload, failures) = match mode {
        Mode::Auto => ("auto", 1_000),
        Mode::Watched => ("auto", 3),
        Mode::Manual => ("manual", 1_000),
    };
    format!(
        r#"
[egress]
allow_loopback = true

[provider.stand-in]
kind = "openai"
url = "{model}"
key = "env:PROVIDER_KEY"

[provider.stand-in.price."{MODEL}"]
input = "0.10"
cached = "0.10"
output = "0.40"

[tier.fast]
chain = ["stand-in/{MODEL}"]

[budget]
agent = "10000"
user = "10000"
global = "10000"

[cache]
enabled = false

[trust]
unsigned = "worker"

[swap]
reload = "{reload}"
min_failures = {failures}
latency_floor_ms = 600000

[plugin.worker]
source = "worker"
grants = ["models", "memory"]

[plugin.chooser]
source = "chooser"

[plugin.adapter]
source = "adapter"

[agent.worker]
plugin = "worker"
outsiders = true
tier = "fast"
rate_per_minute = 1000000

[channel.partner]
plugin = "adapter"
default_agent = "worker"
rate_per_minute = 10000000
secrets = {{ signing_secret = "env:PARTNER_SECRET" }}

[channel.partner.config]
reply_url = "{partner}"

[routing]
router = "chooser"

[delivery]
crash_tries = 1000
unknown_tries = 100
backoff_max_s = 1
"#
    )
}

impl Rig {
    /// The first builds serve, and messages come in.
    pub async fn start(mode: Mode, seed: u64) -> Self {
        let mut rig = Self::start_quiet(mode, seed).await;
        let channel = |name: &str| rig.process.channel(name);
        let conversations = Conversations { slack: 0, growing: 0, partner: CONVERSATIONS };
        rig.load = Load::start(Arc::clone(&rig.outside), channel, seed, conversations);
        rig
    }

    /// The first builds serve, and nobody says anything yet.
    pub async fn start_quiet(mode: Mode, seed: u64) -> Self {
        let mut rig = Self::prepare(mode, seed).await;
        rig.process.start();
        rig.process.ready().await;
        rig
    }

    /// The first builds lie in their folders; nothing runs.
    pub async fn prepare(mode: Mode, seed: u64) -> Self {
        let outside = Arc::new(outside().await);
        let first = Swapped::ALL.map(|plugin| Build { plugin, number: 0, is_bad: false });
        let process = Process::prepare(|folder| {
            first.iter().for_each(|build| build.land(folder, Way::AsAWhole));
            configuration(&outside, mode)
        });
        let nobody = Conversations { slack: 0, growing: 0, partner: 0 };
        let mut load = Load::start(Arc::clone(&outside), |name| process.channel(name), seed, nobody);
        load.end().await;
        let mut rig = Self {
            process,
            random: StdRng::seed_from_u64(seed),
            outside,
            load,
            windows: Vec::new(),
            cut: Turns::default(),
            probes: Vec::new(),
            egress: loopback(),
            newest: Swapped::ALL.map(|plugin| (plugin, 0)).into(),
            hits: BTreeMap::new(),
            within: KILL_WITHIN,
        };
        first.iter().for_each(|build| rig.may_serve(&[*build]));
        rig
    }

    /// The next build of a plugin; not landed yet.
    pub fn next(&mut self, plugin: Swapped) -> Build {
        let number = self.newest.get_mut(&plugin).unwrap();
        *number += 1;
        Build { plugin, number: *number, is_bad: false }
    }

    /// One way or the other.
    pub fn way(&mut self) -> Way {
        if self.random.random() { Way::FileByFile } else { Way::AsAWhole }
    }

    /// From now on, these builds of their plugin may serve, and no other.
    pub fn may_serve(&mut self, builds: &[Build]) {
        self.windows.push(Window { from: SystemClock.now(), builds: builds.to_vec() });
    }

    /// A build lands in its folder.
    pub fn land(&mut self, build: Build, way: Way) {
        build.land(self.process.folder(), way);
    }

    /// An order, as it will be answered: true if it was carried out.
    fn ordered(
        &self,
        plugin: Swapped,
        order: &Value,
    ) -> impl Future<Output = Result<bool, String>> + Send + 'static {
        let token = std::fs::read_to_string(self.process.data().join("admin.token")).unwrap();
        let url = format!("http://{}/plugins/{}", self.process.admin, plugin.name());
        let mut request = Request::new(http::Method::POST, url.parse().unwrap(), order.to_string()).json();
        request.credential = Some(Credential::Bearer(token.trim().into()));
        let egress = self.egress.clone();
        async move {
            let response = egress.send(request).await.map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&response.body).into_owned();
            if response.status.is_success() { Ok(true) } else { Err(said) }
        }
    }

    /// An order that must be carried out.
    pub async fn order(&self, plugin: Swapped, order: &Value) {
        let done = self.ordered(plugin, order).await;
        assert_eq!(done, Ok(true), "{order} for {}", plugin.name());
    }

    /// Triggers a change of one plugin from `old` to `new`, kills soon after, and reads what is left.
    /// `is_deployed`: whether the change is written down.
    pub async fn attack(
        &mut self,
        (old, new): (Build, Build),
        trigger: Trigger,
        is_deployed: impl Fn(&Standing) -> bool,
    ) -> Kill {
        let moment = Duration::from_micros(self.random.random_range(0..self.within.as_micros() as u64));
        self.may_serve(&[old, new]);
        let logged = self.process.log().len();
        let asked = self.pull(new.plugin, trigger);
        // The moment is the test.
        sleep(moment).await;
        self.process.kill().await;
        let is_acknowledged = asked.await.unwrap();
        let kill = self.left((old, new), (is_acknowledged, logged), is_deployed).await;
        let (earliest, latest) = KILL_WITHIN_BOUNDS;
        self.within = match kill.stage {
            Stage::BeforeArtefact => self.within.mul_f64(CLOSER).min(latest),
            Stage::Serving => self.within.div_f64(CLOSER).max(earliest),
            _ => self.within,
        };
        kill
    }

    /// Begins what a kill follows; tells in the end whether it was acknowledged.
    pub fn pull(&mut self, plugin: Swapped, trigger: Trigger) -> tokio::task::JoinHandle<bool> {
        match trigger {
            Trigger::Land(build, way) => self.land(build, way),
            Trigger::Start => self.process.start(),
            Trigger::Order(order) => {
                let ordered = self.ordered(plugin, &order);
                return tokio::spawn(async move { ordered.await == Ok(true) });
            }
            Trigger::Command(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let mut command = self.process.command(&words);
                return tokio::spawn(async move { command.output().await.unwrap().status.success() });
            }
        }
        tokio::spawn(async { false })
    }

    /// Reads what a kill has left.
    pub async fn left(
        &mut self,
        (old, new): (Build, Build),
        (is_acknowledged, logged): (bool, usize),
        is_deployed: impl Fn(&Standing) -> bool,
    ) -> Kill {
        let data = self.process.data();
        let store = Store::open_beside(&data).await.expect("the store can be read after a kill");
        let standing = standing(&store, new.plugin).await;
        let active = standing.active;
        assert!(active == old || active == new, "after a kill {active:?} is active, not {old:?} or {new:?}");
        self.cut.note(&store).await;
        store.close().await.unwrap();
        let is_deployed = is_deployed(&standing);
        assert!(is_deployed || !is_acknowledged, "{new:?} was acknowledged, and is not kept");
        let log = self.process.log();
        let said = format!("plugin {} is version {} now", new.plugin.name(), standing.digest.short());
        let is_said = is_deployed && log.get(logged..).is_some_and(|log| log.contains(&said));
        let stage = match is_acknowledged || is_said {
            true => Stage::Serving,
            false => standing.stage(&data, new, is_deployed),
        };
        *self.hits.entry(stage).or_default() += 1;
        Kill { standing, stage, is_acknowledged }
    }

    /// Starts again, and looks whether everything is whole: what is listed, what is written down, what lies there.
    /// Returns how `plugin` stands.
    pub async fn start_again(&mut self, plugin: Swapped) -> Standing {
        self.process.start();
        self.process.ready().await;
        self.is_whole(plugin).await
    }

    /// Looks whether everything is whole while the host runs, and nothing changes. Returns how `plugin` stands.
    pub async fn is_whole(&self, plugin: Swapped) -> Standing {
        assert_eq!(part_files(&self.process.data()), Vec::<String>::new(), "nothing is left half-written");
        let listed = self.listed().await;
        let store = Store::open_beside(&self.process.data()).await.unwrap();
        let observed = store.observed(&TenantId::default_tenant()).await.unwrap();
        let mut found = None;
        for each in Swapped::ALL {
            let standing = standing(&store, each).await;
            let (_, versions) = listed.iter().find(|(name, _)| name == each.name()).expect("it is listed");
            let of = |state: &str| {
                let versions = versions.iter().filter(|(it, _)| it == state);
                versions.map(|(_, digest)| digest.clone()).collect::<Vec<_>>()
            };
            assert_eq!(of("active"), [standing.digest.to_string()], "{each:?}: exactly one is active");
            assert_eq!(of("canary").len(), usize::from(standing.canary.is_some()), "{each:?}: {versions:?}");
            assert_eq!(of("loading"), Vec::<String>::new(), "{each:?}");
            let here: Vec<_> = observed.iter().filter(|(_, id, ..)| id.as_str() == each.name()).collect();
            let here: Vec<_> = here.iter().map(|(_, _, digest, _)| *digest).collect();
            assert_eq!(here, [standing.digest], "{each:?}: what the node says that it serves");
            if each == plugin {
                found = Some(standing);
            }
        }
        store.close().await.unwrap();
        found.unwrap()
    }

    /// What `chela plugin list --json` says: plugins with the states and digests of their versions.
    pub async fn listed(&self) -> Vec<(String, Vec<(String, String)>)> {
        let output = self.process.command(&["plugin", "list", "--json"]).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let plugins: Vec<PluginStatus> = serde_json::from_slice(&output.stdout).unwrap();
        let state = |plugin: PluginStatus| {
            let versions = plugin.versions.into_iter().map(|version| (version.state, version.digest));
            (plugin.plugin, versions.collect())
        };
        plugins.into_iter().map(state).collect()
    }

    /// How a plugin stands while the host runs.
    pub async fn standing(&self, plugin: Swapped) -> Standing {
        let store = Store::open_beside(&self.process.data()).await.unwrap();
        let found = standing(&store, plugin).await;
        store.close().await.unwrap();
        found
    }

    /// Waits until a build is listed in this state.
    pub async fn until(&self, build: Build, state: &str) {
        let name = build.plugin.name();
        eventually(&format!("{build:?} is {state}"), async || {
            let digests = self.standing(build.plugin).await.versions;
            let Some((digest, _)) = digests.iter().find(|(_, it)| **it == build) else { return false };
            let wanted = (state.to_owned(), digest.to_string());
            self.listed().await.iter().any(|(plugin, versions)| plugin == name && versions.contains(&wanted))
        })
        .await;
    }

    /// Somebody new asks and is answered; the answer.
    pub async fn probe(&mut self) -> String {
        let asked = self.ask().await;
        asked.answer().await
    }

    /// Somebody new asks, and his agent waits for its model when this returns.
    pub async fn ask_slowly(&mut self) -> Asked {
        self.outside.provider.faults().inject(&Fault::Delay(SLOW), 1);
        let asked = self.ask().await;
        let store = Store::open_beside(&self.process.data()).await.unwrap();
        eventually("a model is asked", async || {
            store.phases().await.unwrap().contains_key(&Phase::ModelCallOpen)
        })
        .await;
        store.close().await.unwrap();
        asked
    }

    async fn ask(&mut self) -> Asked {
        let name = Name { conversation: format!("p{}", self.probes.len()), number: 0 };
        let say = webhook::Say {
            sender: format!("person-{}", name.conversation),
            text: format!("{} order", name.word(0)),
            thread_id: Some(name.conversation.clone()),
            name: None,
        };
        let answer = self.outside.partner.expect(&name.conversation);
        let channel = self.process.channel("partner");
        let (_, sent) = self.outside.partner.say(&channel, &say).await.unwrap();
        assert!(sent.is_acknowledged(), "{sent:?}");
        self.probes.push(Sent { name: name.clone(), words: 1, is_acknowledged: true });
        Asked { name, answer }
    }

    /// Somebody new asks, and the active build answers; from now on no other may.
    pub async fn serves(&mut self, active: Build) {
        self.may_serve(&[active]);
        let said = self.probe().await;
        if active.plugin == Swapped::Worker {
            assert!(active.can_have_said(&said), "{active:?} is active, and somebody else said: {said}");
        }
    }

    /// How many kills hit which stage.
    pub fn hits(&self) -> &BTreeMap<Stage, u32> {
        &self.hits
    }
}

/// A question on its way.
#[derive(Debug)]
pub struct Asked {
    name: Name,
    answer: Receiver<webhook::Received>,
}

impl Asked {
    /// Waits for the answer.
    pub async fn answer(self) -> String {
        let answered = timeout(PATIENCE, self.answer).await;
        answered.unwrap_or_else(|_| panic!("{} is not answered", self.name.word(0))).unwrap().reply.text
    }
}
