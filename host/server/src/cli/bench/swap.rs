//! `chela bench swap`: what a change costs those who write meanwhile, and how soon it is there.
//!
//! Host, sender and receiver share this process and this machine's cores. What is divided, was measured in the same
//! run: messages while routers are swapped beside messages while none is, with a shadow beside without.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chela_engine::{Candidate, Order, Who};
use chela_store::TurnState;
use chela_types::{PluginId, RoutedBy};

use super::super::Failure;
use super::rig::Rig;
use super::{Bar, Machine, Report, Times, progress, resident_bytes};

/// Files that land while their machine code is there already, and while it is not.
const LANDED: (usize, usize) = (40, 8);
/// Until a file that landed is live, in milliseconds.
const LIVE_MAX_MS: (f64, f64) = (100.0, 1_000.0);
/// p99 of messages during swaps, against without.
const P99_MAX: f64 = 1.5;
/// Memory after all swaps against memory after the first tenth, in percent, either way.
const MEMORY_MAX_PERCENT: f64 = 5.0;
/// Start with these many plugins, until it is ready.
const PLUGINS: usize = 20;
const READY_MAX_MS: f64 = 300.0;
/// What a shadow may cost the active path, in percent of its median.
const SHADOW_MAX_PERCENT: f64 = 5.0;
/// Messages a second while swaps are measured: a host at work, and not at its end.
const PACE: f64 = 100.0;
/// Rounds with and without a shadow, by turns.
const ROUNDS: usize = 6;
/// The longest wait for one change.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(time: Duration, swaps: u32) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::look(Some(folder.path()))?;
    let router = RouterFolder::make(folder.path())?;
    let rig = Rig::start(folder.path(), include_str!("swap.toml")).await?;
    warm(&rig).await?;
    let mut bars = vec![Bar::told("size of the router's component", router.kib(), "KiB")];
    bars.extend(landed(&rig, &router).await?);
    bars.extend(swapped(&rig, &router, time, swaps).await?);
    bars.extend(shadowed(&rig, &router, time).await?);
    rig.stop().await?;
    bars.push(started(folder.path()).await?);
    Ok(Report { machine, bars })
}

/// Messages until the memory does not grow any more: the store's page cache alone is 64 MiB, and must not be taken for
/// what a swap leaves behind.
async fn warm(rig: &Rig) -> Result<(), Failure> {
    let (mut before, mut flat) = (resident_bytes()?, 0);
    for round in 0..WARM_ROUNDS.1 {
        rig.measure("warming up", Duration::from_secs(1), None).await?;
        let now = resident_bytes()?;
        flat = if (now as f64) < before as f64 * FLAT { flat + 1 } else { 0 };
        if flat >= 2 && round >= WARM_ROUNDS.0 {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// Seconds of messages until it is warm: at least, since what loading has freed is filled first and looks flat, and at
/// most; and what counts as flat from one to the next.
const WARM_ROUNDS: (usize, usize) = (15, 60);
const FLAT: f64 = 1.005;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A file lands in the plugin's folder: how long until the version in it serves.
async fn landed(rig: &Rig, router: &RouterFolder) -> Result<Vec<Bar>, Failure> {
    let (cached, compiled) = LANDED;
    // Both were compiled once.
    for build in [1, 0] {
        router.land_settings(rig, build).await?;
    }
    let bar = progress("a file lands", (cached + compiled) as u64);
    let mut times = (Times::default(), Times::default());
    for n in 0..cached {
        times.0.0.push(router.land_settings(rig, n + 1).await?);
        bar.inc(1);
    }
    for n in 0..compiled {
        times.1.0.push(router.land_component(rig, n).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (cached, compiled) = times;
    Ok(vec![
        Bar::told("file landed → live, compiled before, p95", ms(cached.quantile(0.95)), "ms")
            .at_most(LIVE_MAX_MS.0),
        Bar::told("file landed → live, compiled before, p50", ms(cached.quantile(0.5)), "ms"),
        Bar::told("file landed → live, with compiling, longest", ms(compiled.quantile(1.0)), "ms")
            .at_most(LIVE_MAX_MS.1),
        Bar::told("file landed → live, with compiling, p50", ms(compiled.quantile(0.5)), "ms"),
    ])
}

/// Messages at a steady pace, without swaps and with them.
async fn swapped(rig: &Rig, router: &RouterFolder, time: Duration, swaps: u32) -> Result<Vec<Bar>, Failure> {
    router.land_settings(rig, 1).await?;
    let one = serving(rig)?;
    router.land_settings(rig, 0).await?;
    let two = serving(rig)?;
    let (quiet, _) = rig.measure("messages, no swaps", time, Some(PACE)).await?;
    let ordering = {
        let engine = rig.engine.clone();
        tokio::spawn(async move {
            let mut memory = Vec::new();
            let (mut took, mut began) = (Times::default(), Instant::now());
            for n in 0..swaps {
                let to = if n % 2 == 0 { &one } else { &two };
                promote(&engine, to).await?;
                took.0.push(began.elapsed());
                if n % (swaps / 10).max(1) == 0 {
                    memory.push(resident_bytes()?);
                }
                // A breath, or nothing but swaps would run.
                tokio::time::sleep(GAP).await;
                began = Instant::now();
            }
            memory.push(resident_bytes()?);
            Ok::<_, Failure>((memory, took))
        })
    };
    let mut busy = Times::default();
    while !ordering.is_finished() {
        busy.0.extend(rig.measure("messages, routers swapped", time, Some(PACE)).await?.0.0);
    }
    let (memory, took) = ordering.await??;
    // The first tenth warms what is kept for each version.
    let (first, last) = (memory.get(1).copied().unwrap_or(1), memory.last().copied().unwrap_or(1));
    let grown = (last as f64 / first as f64 - 1.0) * 100.0;
    let failed = failures(rig, busy.0.len()).await?;
    Ok(vec![
        Bar::told("swaps under load", f64::from(swaps), ""),
        Bar::told("a swap, ordered, p50", ms(took.quantile(0.5)), "ms"),
        Bar::told("messages during them, each answered", busy.0.len() as f64, ""),
        // One that is lost ends the bench with an error.
        Bar::told("lost", 0.0, "").at_most(0.0),
        Bar::told("calls that failed", failed, "").at_most(0.0),
        Bar::told("memory, after all swaps against after a tenth", grown, "%").at_most(MEMORY_MAX_PERCENT),
        Bar::told("p99 of messages during swaps, against without", ratio(&busy, &quiet, 0.99), "×")
            .at_most(P99_MAX),
        Bar::told("p99 of messages without", ms(quiet.quantile(0.99)), "ms"),
    ])
}

/// Between two swaps.
const GAP: Duration = Duration::from_millis(10);

fn ratio(one: &Times, other: &Times, share: f64) -> f64 {
    one.quantile(share).as_secs_f64() / other.quantile(share).as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Messages with a shadow beside the router and without, by turns.
async fn shadowed(rig: &Rig, router: &RouterFolder, time: Duration) -> Result<Vec<Bar>, Failure> {
    let candidate = router.aside()?;
    let id = PluginId::new(NAME)?;
    let round = time / (ROUNDS as u32);
    let (mut with, mut without) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let shadow = Order::Shadow { candidate: Candidate { digest: None, folder: Some(candidate.clone()) } };
        rig.engine.order(&id, shadow, &who()).await?;
        with.0.extend(rig.measure("with a shadow", round, Some(PACE)).await?.0.0);
        rig.engine.order(&id, Order::Stop, &who()).await?;
        without.0.extend(rig.measure("without a shadow", round, Some(PACE)).await?.0.0);
    }
    let cost = (ratio(&with, &without, 0.5) - 1.0) * 100.0;
    Ok(vec![
        Bar::told("a shadow's cost, of the median of a message", cost, "%").at_most(SHADOW_MAX_PERCENT),
        Bar::told("median without", ms(without.quantile(0.5)), "ms"),
    ])
}

/// A host of its own with many plugins, started twice: the second start finds everything compiled.
async fn started(folder: &Path) -> Result<Bar, Failure> {
    let home = folder.join("many");
    std::fs::create_dir(&home)?;
    let mut config = include_str!("many.toml").to_owned();
    for n in 0..PLUGINS {
        config.push_str(&format!(
            "\n[plugin.p{n}]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\nconfig = {{ max_output_tokens = {} }}\n\n\
             [agent.a{n}]\nplugin = \"p{n}\"\ntier = \"fast\"\n",
            100 + n
        ));
    }
    let bar = progress("starts", 6);
    let mut times = Times::default();
    for round in 0..6 {
        let took = start_once(&home, &config).await?;
        if round > 0 {
            times.0.push(took);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let name = format!("start to ready, {PLUGINS} plugins compiled before, p50");
    Ok(Bar::told(&name, ms(times.quantile(0.5)), "ms").at_most(READY_MAX_MS))
}

/// From the start of the program until it says that it is ready.
async fn start_once(home: &Path, config: &str) -> Result<Duration, Failure> {
    // Free a moment ago; the bench is alone on its machine.
    let (public, admin) = (free_port()?, free_port()?);
    let text = config.replace("{public}", &public.to_string()).replace("{admin}", &admin.to_string());
    std::fs::write(home.join("chela.toml"), text)?;
    let program = std::env::current_exe()?;
    let began = Instant::now();
    let mut child = tokio::process::Command::new(program)
        .args(["up", "--config"])
        .arg(home.join("chela.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let ready = async {
        while !is_ready(public).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let is_ready = tokio::select! {
        waited = tokio::time::timeout(Duration::from_secs(180), ready) => waited.is_ok(),
        _ = child.wait() => false,
    };
    let took = began.elapsed();
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    child.wait().await?;
    match is_ready {
        true => Ok(took),
        false => Err(Failure::new("a host with many plugins did not become ready")),
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let asked = b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(asked).await.is_ok()
        && stream.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

/// The router's name in the configuration.
const NAME: &str = "router";

fn who() -> Who {
    Who("the bench".to_owned())
}

async fn promote(engine: &chela_engine::Engine, digest: &str) -> Result<(), Failure> {
    let candidate = Candidate { digest: Some(digest.to_owned()), folder: None };
    let order = Order::Promote { candidate, approve: false, downgrade: false, unproven: false };
    engine.order(&PluginId::new(NAME)?, order, &who()).await?;
    Ok(())
}

fn serving(rig: &Rig) -> Result<String, Failure> {
    let digest = rig.engine.serving(&PluginId::new(NAME)?);
    Ok(digest.ok_or_else(|| Failure::new("the bench has no router"))?.to_string())
}

/// Of the newest turns, those that no router has decided, or that did not end well.
async fn failures(rig: &Rig, turns: usize) -> Result<f64, Failure> {
    let mut failed = 0_u32;
    for id in rig.store.recent_turns(turns).await? {
        let Some(turn) = rig.store.turn_record(id).await? else { continue };
        let decided = turn.decisions.last().map(|(_, decision)| &decision.by);
        let is_well = turn.state == TurnState::Delivered && matches!(decided, Some(RoutedBy::Router { .. }));
        failed += u32::from(!is_well);
    }
    Ok(f64::from(failed))
}

/// The router as an author ships it: a folder that changes.
struct RouterFolder {
    folder: PathBuf,
    manifest: String,
    component: &'static [u8],
}

impl RouterFolder {
    fn make(home: &Path) -> Result<Self, Failure> {
        let found = chela_bundle::get("keyword").ok_or_else(|| Failure::new("no router is built in"))?;
        let folder = home.join("router");
        std::fs::create_dir(&folder)?;
        let made = Self { folder, manifest: found.manifest.to_owned(), component: found.component };
        std::fs::write(made.folder.join("router.wasm"), found.component)?;
        std::fs::write(made.folder.join("plugin.toml"), made.settings(0))?;
        Ok(made)
    }

    fn kib(&self) -> f64 {
        self.component.len() as f64 / 1_024.0
    }

    /// Two manifests that `init` sees differ: each has a snapshot and machine code of its own.
    fn settings(&self, build: usize) -> String {
        self.manifest.replace(
            "sticky = true",
            if build.is_multiple_of(2) { "sticky = true" } else { "sticky = false" },
        )
    }

    /// The manifest of one of two builds lands, as an editor saves it.
    async fn land_settings(&self, rig: &Rig, build: usize) -> Result<Duration, Failure> {
        self.land(rig, "plugin.toml", self.settings(build).as_bytes()).await
    }

    /// A component that nobody has seen yet lands.
    async fn land_component(&self, rig: &Rig, build: usize) -> Result<Duration, Failure> {
        let mut component = self.component.to_vec();
        component.extend(custom_section(&format!("build {build}"))?);
        self.land(rig, "router.wasm", &component).await
    }

    async fn land(&self, rig: &Rig, name: &str, bytes: &[u8]) -> Result<Duration, Failure> {
        let before = serving(rig)?;
        let part = self.folder.join(format!(".{name}.part"));
        std::fs::write(&part, bytes)?;
        let began = Instant::now();
        std::fs::rename(&part, self.folder.join(name))?;
        while serving(rig)? == before {
            if began.elapsed() > PATIENCE {
                return Err(Failure::new(format!(
                    "a new `{name}` did not go live in {} s",
                    PATIENCE.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(began.elapsed())
    }

    /// The build that does not serve, in a folder that nobody watches.
    fn aside(&self) -> Result<PathBuf, Failure> {
        let aside = self.folder.with_file_name("aside");
        std::fs::create_dir(&aside)?;
        std::fs::write(aside.join("router.wasm"), self.component)?;
        std::fs::write(aside.join("plugin.toml"), self.manifest.replace("Chooses", "Quietly chooses"))?;
        Ok(aside)
    }
}

/// A section that means nothing, of this name.
fn custom_section(name: &str) -> Result<Vec<u8>, Failure> {
    let length = u8::try_from(name.len())?;
    let mut section = vec![0, length + 1, length];
    section.extend(name.as_bytes());
    Ok(section)
}
