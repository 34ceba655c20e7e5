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
/// Replies that the partner keeps in memory.
const REMEMBERED: usize = 1_000;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with a partner who writes to it.
pub(super) struct Rig {
    pub(super) engine: chela_engine::Engine,
    pub(super) store: chela_store::Store,
    partner: Arc<Webhook>,
    public: std::net::SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), crate::host::Error>>,
    threads: AtomicU64,
}

impl Rig {
    /// Starts a host in this folder; `{partner}` in its configuration is where answers go.
    pub(super) async fn start(folder: &Path, config: &str) -> Result<Self, Failure> {
        let secret = format!("whsec_{}", BASE64.encode(rand::random::<[u8; 24]>()));
        let egress =
            Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })?;
        let sender = SenderSettings::quick(0, Duration::ZERO);
        // What a partner remembers must not be taken for what a host does.
        let settings = Settings { sender, remembered: REMEMBERED, ..Settings::new(&secret) };
        let partner = Webhook::start(settings, egress, Arc::new(SystemClock)).await?;
        let config = lay_out(folder, &secret, &config.replace("{partner}", &partner.reply_url()))?;
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
        Ok(Self {
            engine,
            store,
            partner: Arc::new(partner),
            public,
            stop,
            running,
            threads: AtomicU64::new(0),
        })
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
        self.measure_at("partner", what, time, pace).await
    }

    /// The same through one of its channels.
    pub(super) async fn measure_at(
        &self,
        channel: &str,
        what: &str,
        time: Duration,
        pace: Option<f64>,
    ) -> Result<(Times, Duration), Failure> {
        let url = Url::parse(&format!("http://{}/channels/{channel}", self.public))?;
        let bar = progress(what, u64::try_from(time.as_millis())?);
        let began = Instant::now();
        let gap = pace.map(|pace| Duration::from_secs_f64(CONVERSATIONS as f64 / pace));
        let mut talks = JoinSet::new();
        for n in 0..CONVERSATIONS {
            let thread = self.threads.fetch_add(1, Ordering::Relaxed);
            // Spread over the first gap, or all would come at once.
            let offset = gap.map(|gap| gap.mul_f64(n as f64 / CONVERSATIONS as f64)).unwrap_or_default();
            talks.spawn(talk(
                Arc::clone(&self.partner),
                url.clone(),
                thread,
                Pace { end: began + time, gap, offset },
            ));
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

/// When one conversation speaks.
#[derive(Debug, Clone, Copy)]
struct Pace {
    end: Instant,
    gap: Option<Duration>,
    offset: Duration,
}

/// One conversation: say, wait for the answer, say again. Times count from when a message was due, so that
/// a host that falls behind is seen to.
async fn talk(partner: Arc<Webhook>, url: Url, thread: u64, pace: Pace) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    let mut due = Instant::now() + pace.offset;
    for number in 0_u64.. {
        tokio::time::sleep_until(due.into()).await;
        if Instant::now() >= pace.end {
            break;
        }
        let conversation = format!("t{thread}-{number}");
        let say = Say {
            sender: format!("person-{thread}"),
            text: format!("Can I return order {thread}-{number}?"),
            thread_id: Some(conversation.clone()),
            name: None,
        };
        let heard = partner.expect(&conversation);
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
