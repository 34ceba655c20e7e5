//! A whole host with a partner who writes to it, in this process: what the benches of whole messages stand on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chela_egress::Egress;
use chela_types::SystemClock;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::Failure;
use super::super::args::ConfigPath;
use super::{Times, progress};
use crate::compose::Surroundings;
use crate::host::{Host, Options, Progress};
use crate::standin::SenderSettings;
use crate::standin::webhook::{Say, Settings, Webhook};

/// Conversations at once.
pub(super) const CONVERSATIONS: usize = 64;
/// What people ask, and then the number of an order.
pub(super) const QUESTION: &str = "Can I return order";
/// Where the calm one's answers go.
const CALM: &str = "{calm}";
/// Replies that a partner keeps in memory.
const REMEMBERED: usize = 1_000;
/// The priority behind all others.
const LAST: i32 = 19;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with a partner who writes to it.
pub(super) struct Rig {
    pub(super) engine: chela_engine::Engine,
    pub(super) store: chela_store::Store,
    partner: Partner,
    /// Another one, of whom the first is a neighbour.
    calm: Option<Partner>,
    public: std::net::SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), crate::host::Error>>,
    threads: AtomicU64,
}

/// Who writes to the host, and takes its answers.
struct Partner {
    webhook: Arc<Webhook>,
    on: Handle,
    /// His own threads, if he has some.
    own: Option<Runtime>,
}

/// Where the code of a partner runs, who would be on another machine.
enum Threads {
    /// Where the host's does.
    Hosts,
    Own,
    /// On its own, and behind all others: what it costs to send is not the host's, and nobody is to wait for it.
    Behind,
}

impl Partner {
    async fn start(secret: &str, egress: Egress, threads: Threads) -> Result<Self, Failure> {
        let sender = SenderSettings::quick(0, Duration::ZERO);
        // What a partner remembers must not be taken for what a host does.
        let settings = Settings { sender, remembered: REMEMBERED, ..Settings::new(secret) };
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all();
        let own = match threads {
            Threads::Hosts => None,
            Threads::Own => Some(builder.build()?),
            Threads::Behind => Some(builder.on_thread_start(stand_behind).build()?),
        };
        let on = own.as_ref().map_or_else(Handle::current, |own| own.handle().clone());
        let webhook = on.spawn(Webhook::start(settings, egress, Arc::new(SystemClock))).await??;
        Ok(Self { webhook: Arc::new(webhook), on, own })
    }
}

/// This thread has the processor when nobody else wants it. Where that is not allowed, it has its share.
fn stand_behind() {
    let _ = rustix::process::setpriority_process(None, LAST);
}

impl Drop for Partner {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

impl Rig {
    /// Starts a host in this folder; `{partner}` in its configuration is where answers go. If it speaks of a `{calm}`
    /// one, there are two, each on a thread of his own, and the other one's is behind all others.
    pub(super) async fn start(folder: &Path, config: &str) -> Result<Self, Failure> {
        let secret = format!("whsec_{}", BASE64.encode(rand::random::<[u8; 24]>()));
        let egress =
            Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })?;
        let (partner, calm) = match config.contains(CALM) {
            true => (Threads::Behind, Some(Partner::start(&secret, egress.clone(), Threads::Own).await?)),
            false => (Threads::Hosts, None),
        };
        let partner = Partner::start(&secret, egress, partner).await?;
        let mut config = config.replace("{partner}", &partner.webhook.reply_url());
        if let Some(calm) = &calm {
            config = config.replace(CALM, &calm.webhook.reply_url());
        }
        let config = lay_out(folder, &secret, &config)?;
        let config = super::super::load(&ConfigPath { config })?;
        let options = Options {
            surroundings: Surroundings::of_this_program()?,
            chats: BTreeMap::new(),
            metrics: None,
            progress: Progress(&|_, _| {}),
        };
        let host = Host::start(config, options).await?;
        let public = host.addresses().public;
        let (engine, store) = (host.engine().clone(), host.store().clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(host.run(stop.clone()));
        Ok(Self { engine, store, partner, calm, public, stop, running, threads: AtomicU64::new(0) })
    }

    /// Stops it.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        Ok(self.running.await??)
    }

    /// Messages for this long, from all conversations at once; with a pace, so many a second and no more.
    pub(super) async fn measure(
        &self,
        what: &str,
        time: Duration,
        pace: Option<f64>,
    ) -> Result<(Times, Duration), Failure> {
        self.measure_at(("partner", QUESTION), what, time, pace).await
    }

    /// The same through one of its channels, with these words.
    pub(super) async fn measure_at(
        &self,
        (channel, words): (&str, &'static str),
        what: &str,
        time: Duration,
        pace: Option<f64>,
    ) -> Result<(Times, Duration), Failure> {
        let (partner, url) = (self.partner(channel), self.url(channel)?);
        let bar = progress(what, u64::try_from(time.as_millis())?);
        let began = Instant::now();
        let gap = pace.map(|pace| Duration::from_secs_f64(CONVERSATIONS as f64 / pace));
        let mut talks = JoinSet::new();
        for n in 0..CONVERSATIONS {
            let thread = self.threads.fetch_add(1, Ordering::Relaxed);
            // Spread over the first gap, or all would come at once.
            let offset = gap.map(|gap| gap.mul_f64(n as f64 / CONVERSATIONS as f64)).unwrap_or_default();
            let pace = Pace { end: began + time, gap, offset };
            let talk = talk(Arc::clone(&partner.webhook), url.clone(), (thread, words), pace);
            talks.spawn_on(talk, &partner.on);
        }
        let mut times = Times::default();
        while let Some(joined) = talks.join_next().await {
            times.0.extend(joined?.map_err(Failure::new)?);
            bar.set_position(u64::try_from(began.elapsed().min(time).as_millis())?);
        }
        bar.finish_and_clear();
        Ok((times, began.elapsed()))
    }
}

impl Rig {
    /// So many messages a second through this channel for this long, each in a conversation of its own, whatever comes
    /// back; how many were taken, in which time.
    pub(super) async fn flood(
        &self,
        (channel, words): (&str, &str),
        time: Duration,
        pace: f64,
    ) -> Result<(usize, Duration), Failure> {
        let (partner, url) = (self.partner(channel), self.url(channel)?);
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / pace));
        let mut sent = JoinSet::new();
        while began.elapsed() < time {
            ticks.tick().await;
            let thread = self.threads.fetch_add(1, Ordering::Relaxed);
            let say = said((thread, 0), words);
            let (webhook, url) = (Arc::clone(&partner.webhook), url.clone());
            sent.spawn_on(async move { webhook.say(&url, &say).await }, &partner.on);
        }
        let mut taken = 0;
        while let Some(joined) = sent.join_next().await {
            let (_, sent) = joined?.map_err(|error| Failure::new(error.to_string()))?;
            taken += usize::from(sent.is_acknowledged());
        }
        Ok((taken, began.elapsed()))
    }

    fn partner(&self, channel: &str) -> &Partner {
        self.calm.as_ref().filter(|_| channel == "calm").unwrap_or(&self.partner)
    }

    fn url(&self, channel: &str) -> Result<Url, Failure> {
        Ok(Url::parse(&format!("http://{}/channels/{channel}", self.public))?)
    }
}

/// When one conversation speaks.
#[derive(Debug, Clone, Copy)]
struct Pace {
    end: Instant,
    gap: Option<Duration>,
    offset: Duration,
}

/// One conversation: say, wait for the answer, say again. Times count from when a message was due, so that
/// a host that falls behind is seen to.
async fn talk(
    partner: Arc<Webhook>,
    url: Url,
    (thread, words): (u64, &str),
    pace: Pace,
) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    let mut due = Instant::now() + pace.offset;
    for number in 0_u64.. {
        tokio::time::sleep_until(due.into()).await;
        if Instant::now() >= pace.end {
            break;
        }
        let say = said((thread, number), words);
        let heard = partner.expect(say.thread_id.as_deref().unwrap_or_default());
        let (_, sent) = partner.say(&url, &say).await.map_err(|error| error.to_string())?;
        if !sent.is_acknowledged() {
            return Err(format!("a webhook was answered with {:?}", sent.status()));
        }
        let answer = tokio::time::timeout(PATIENCE, heard).await;
        if !matches!(answer, Ok(Ok(_))) {
            return Err("an answer did not come".to_owned());
        }
        times.push(due.elapsed());
        due = match pace.gap {
            Some(gap) => due + gap,
            None => Instant::now(),
        };
    }
    Ok(times)
}

/// A message in a conversation of its own.
fn said((thread, number): (u64, u64), words: &str) -> Say {
    Say {
        sender: format!("person-{thread}"),
        text: format!("{words} {thread}-{number}?"),
        thread_id: Some(format!("t{thread}-{number}")),
        name: None,
    }
}

/// The configuration and what it names.
fn lay_out(folder: &Path, secret: &str, text: &str) -> Result<std::path::PathBuf, Failure> {
    for document in chela_bundle::demo().filter(|document| document.path.starts_with("knowledge/support/")) {
        let path = folder.join("documents").join(document.path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, document.text)?;
    }
    crate::demo::write_secret(&folder.join("secret"), secret)?;
    std::fs::write(folder.join("script.toml"), "[default]\nsay = \"Here is what I found. {quote}\"\n")?;
    let config = folder.join("chela.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}
