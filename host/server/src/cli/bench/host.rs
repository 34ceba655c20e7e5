//! `chela bench host`: whole messages, from a signed webhook to the delivered answer, every step durable.
//!
//! Sender, host and receiver share this process and this machine's cores; what is told is what is left for
//! messages. Model time is excluded: the script answers at once.

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
use super::{Bar, Machine, Report, Times, progress};
use crate::compose::Surroundings;
use crate::host::{Host, Options, Progress};
use crate::standin::SenderSettings;
use crate::standin::webhook::{Say, Settings, Webhook};

/// Conversations at once.
const CONVERSATIONS: usize = 64;
/// Messages a second, sustained.
const RATE_MIN: f64 = 500.0;
/// p99 at half of that, in milliseconds, or this many commit floors, whichever is longer.
const P99_MAX_MS: f64 = 50.0;
const P99_MAX_FLOORS: f64 = 10.0;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(time: Duration) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::look(Some(folder.path()))?;
    let bench = Bench::start(folder.path()).await?;
    // Connections, caches, first pages of the store.
    bench.measure("warming up", Duration::from_secs(1), None).await?;
    let (flood, took) = bench.measure("as fast as it goes", time, None).await?;
    let rate = flood.0.len() as f64 / took.as_secs_f64();
    let pace = RATE_MIN.min(rate) / 2.0;
    let (paced, _) = bench.measure("at half the bar's rate", time, Some(pace)).await?;
    bench.stop().await?;

    let ms = |times: &Times, share| times.quantile(share).as_secs_f64() * 1e3;
    let floor_ms = machine.commit_floor_us.unwrap_or_default() / 1e3;
    let bars = vec![
        Bar::told("whole messages a second", rate, "/s").at_least(RATE_MIN),
        Bar::told(&format!("webhook in to delivered at {pace:.0}/s, p99"), ms(&paced, 0.99), "ms")
            .at_most(P99_MAX_MS.max(P99_MAX_FLOORS * floor_ms)),
        Bar::told(&format!("webhook in to delivered at {pace:.0}/s, p50"), ms(&paced, 0.5), "ms"),
        Bar::told("webhook in to delivered, as fast as it goes, p50", ms(&flood, 0.5), "ms"),
        Bar::told("webhook in to delivered, as fast as it goes, p99", ms(&flood, 0.99), "ms"),
        Bar::told("conversations at once", CONVERSATIONS as f64, ""),
        Bar::told("messages", (flood.0.len() + paced.0.len()) as f64, ""),
    ];
    Ok(Report { machine, bars })
}

struct Bench {
    partner: Arc<Webhook>,
    url: Url,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), crate::host::Error>>,
    threads: AtomicU64,
}

impl Bench {
    async fn start(folder: &Path) -> Result<Self, Failure> {
        let secret = format!("whsec_{}", BASE64.encode(rand::random::<[u8; 24]>()));
        let egress =
            Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })?;
        let sender = SenderSettings::quick(0, Duration::ZERO);
        let settings = Settings { sender, ..Settings::new(&secret) };
        let partner = Webhook::start(settings, egress, Arc::new(SystemClock)).await?;
        let config = lay_out(folder, &secret, &partner.reply_url())?;
        let config = super::super::load(&ConfigPath { config })?;
        let options = Options {
            surroundings: Surroundings::of_this_program()?,
            chats: BTreeMap::new(),
            metrics: None,
            progress: Progress(&|_, _| {}),
        };
        let host = Host::start(config, options).await?;
        let url = Url::parse(&format!("http://{}/channels/partner", host.addresses().public))?;
        let stop = CancellationToken::new();
        let running = tokio::spawn(host.run(stop.clone()));
        Ok(Self { partner: Arc::new(partner), url, stop, running, threads: AtomicU64::new(0) })
    }

    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        Ok(self.running.await??)
    }

    /// Messages for this long, from all conversations at once; with a pace, so many a second and no more.
    async fn measure(
        &self,
        what: &str,
        time: Duration,
        pace: Option<f64>,
    ) -> Result<(Times, Duration), Failure> {
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
                self.url.clone(),
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
fn lay_out(folder: &Path, secret: &str, partner: &str) -> Result<std::path::PathBuf, Failure> {
    for document in chela_bundle::demo().filter(|document| document.path.starts_with("knowledge/support/")) {
        let path = folder.join("documents").join(document.path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, document.text)?;
    }
    crate::demo::write_secret(&folder.join("secret"), secret)?;
    std::fs::write(folder.join("script.toml"), "[default]\nsay = \"Here is what I found. {quote}\"\n")?;
    let config = folder.join("chela.toml");
    std::fs::write(&config, include_str!("host.toml").replace("{partner}", partner))?;
    Ok(config)
}
