//! `chela bench gateway`: what it costs that a model is asked through a gateway.
//!
//! The same requests go to the same model: straight, and through each gateway in turn. Model, clients and gateway share
//! this machine's cores, so what is told of a gateway is what is left for it. Ours has everything on; the others have what
//! they have when nothing is said.

mod child;
mod load;
mod others;
mod provider;

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::super::Failure;
use super::super::args::GatewayBench;
use super::{Bar, Machine, Report, Times, progress};
use child::{Gateway, free_address};
use load::{Asked, CONNECTIONS, Load, Pace, Target};
use others::{Peer, Start, litellm, portkey};
use provider::Provider;

/// Calls a second at which the time that is added is measured.
const RATE: f64 = 1_000.0;
/// What may be added there.
const ADDED_P50_MS: f64 = 0.3;
const ADDED_P99_MS: f64 = 1.0;
/// Rates at which the second one is looked for, too: where it holds, and where it does not.
const FASTER: [f64; 9] = [1_500.0, 2_000.0, 2_500.0, 3_000.0, 4_000.0, 5_000.0, 6_000.0, 8_000.0, 10_000.0];
const SLOWER: [f64; 4] = [750.0, 500.0, 250.0, 100.0];
/// How often straight calls and others take turns.
const ROUNDS: u32 = 5;
/// An answer that is kept comes within this time.
const HIT_P50_MS: f64 = 0.2;
/// As many calls as another gateway makes, and so many times more.
const TIMES_LITELLM: f64 = 50.0;
const TIMES_PORTKEY: f64 = 5.0;
/// Memory at the end of many calls, against a tenth of them.
const GROWTH_MAX: f64 = 1.05;
const KEY_BYTES: usize = 24;

/// Whoever measures, and the model.
struct Bench {
    load: Load,
    provider: Provider,
    straight: Target,
    /// For each measurement.
    time: Duration,
}

/// What was measured of a gateway.
struct Measured {
    /// Calls a second, as fast as it goes.
    rate: f64,
    times: Times,
    /// What it used of the processors for each call, in microseconds.
    processor_us: f64,
}

/// Whoever stops it stops the gateways, too: they are processes of their own.
pub(super) async fn run(asked: &GatewayBench) -> Result<Report, Failure> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        report = report(asked) => report,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::new("interrupted"))
        }
        _ = terminated.recv() => Err(Failure::new("terminated")),
    }
}

async fn report(asked: &GatewayBench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::look(Some(folder.path()))?;
    let provider = Provider::start().await?;
    let key = format!("sk-{}", hex::encode(rand::random::<[u8; KEY_BYTES]>()));
    let straight =
        Target { address: provider.address, model: "model", key: key.clone(), headers: Vec::new() };
    let bench =
        Bench { load: Load::new()?, provider, straight, time: Duration::from_secs(asked.seconds.max(1)) };
    let direct = bench.flat(&bench.straight, "straight, flat out").await?;
    let chela = bench.chela(folder.path(), &key).await?;
    let mut bars = bench.ours(&chela, asked).await?;
    drop(chela);
    let ours = bars.iter().find(|bar| bar.name == FLAT_OUT).map_or(0.0, |bar| bar.value);
    bars.push(Bar::told("straight calls a second, flat out", direct.rate, "/s"));
    if let Some(program) = &asked.litellm {
        bars.extend(bench.other(("LiteLLM", TIMES_LITELLM, litellm), (program, &key), ours).await?);
    }
    if let Some(program) = &asked.portkey {
        bars.extend(bench.other(("Portkey", TIMES_PORTKEY, portkey), (program, &key), ours).await?);
    }
    Ok(Report { machine, bars })
}

/// What all are compared by, and what it takes.
const FLAT_OUT: &str = "calls a second, flat out";
const PROCESSOR: &str = "processor time of a call";

impl Bench {
    async fn chela(&self, folder: &Path, key: &str) -> Result<Gateway, Failure> {
        let address = free_address()?;
        crate::demo::write_secret(&folder.join("key"), key)?;
        let config = include_str!("gateway.toml")
            .replace("{public}", &address.to_string())
            .replace("{provider}", &self.provider.base_url());
        std::fs::write(folder.join("chela.toml"), config)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["up", "--config", "chela.toml"]).current_dir(folder);
        let target = Target { address, model: "fast", key: key.to_owned(), headers: Vec::new() };
        Gateway::start(command, target, (&self.load, folder)).await
    }

    /// Everything that is measured of ours.
    async fn ours(&self, chela: &Gateway, asked: &GatewayBench) -> Result<Vec<Bar>, Failure> {
        self.flat(&chela.target, "warming up").await?;
        let bytes = chela.memory_bytes();
        let [straight, through] = self.beside(&chela.target, RATE).await?;
        let p99 = added(&through, &straight, 0.99);
        let mut bars = vec![
            Bar::told("added at 1,000 calls a second, p50", added(&through, &straight, 0.5), "ms")
                .at_most(ADDED_P50_MS),
            Bar::told("added at 1,000 calls a second, p99", p99, "ms").at_most(ADDED_P99_MS),
        ];
        for (name, times) in [("straight", &straight), ("through the gateway", &through)] {
            for (share, what) in [(0.5, "p50"), (0.99, "p99")] {
                bars.push(Bar::told(&format!("{name}, {what}"), ms(times, share), "ms"));
            }
        }
        let highest = self.highest(chela, p99 <= ADDED_P99_MS).await?;
        bars.push(Bar::told("highest rate at which added p99 is ≤ 1 ms", highest, "/s"));
        let flat = self.flat_through(chela, "flat out").await?;
        bars.push(Bar::told(FLAT_OUT, flat.rate, "/s"));
        bars.push(Bar::told(PROCESSOR, flat.processor_us, "µs"));
        bars.push(Bar::told(&format!("flat out, {CONNECTIONS} clients, p99"), ms(&flat.times, 0.99), "ms"));
        bars.push(Bar::told("a kept answer, p50", self.kept(chela).await?, "ms").at_most(HIT_P50_MS));
        bars.push(Bar::told("memory at the beginning", bytes as f64 / MIB, "MiB"));
        if let Some(calls) = asked.soak {
            bars.extend(self.soak(chela, calls).await?);
        }
        bars.push(Bar::told("memory at the end", chela.memory_bytes() as f64 / MIB, "MiB"));
        Ok(bars)
    }

    /// As fast as it goes.
    async fn flat(&self, target: &Target, what: &str) -> Result<Measured, Failure> {
        let pace = Pace::Flat { clients: CONNECTIONS, time: self.time };
        let (times, took) = self.anew(target, pace, what).await?;
        Ok(Measured { rate: times.0.len() as f64 / took.as_secs_f64(), times, processor_us: 0.0 })
    }

    /// The same through a gateway.
    async fn flat_through(&self, gateway: &Gateway, what: &str) -> Result<Measured, Failure> {
        let before = gateway.processor_time();
        let measured = self.flat(&gateway.target, what).await?;
        let used = gateway.processor_time().saturating_sub(before);
        Ok(Measured { processor_us: used.as_secs_f64() * 1e6 / measured.times.0.len() as f64, ..measured })
    }

    /// Sends what was not asked before, and sees that the model was asked for each: an answer from a cache costs less.
    async fn anew(&self, target: &Target, pace: Pace, what: &str) -> Result<(Times, Duration), Failure> {
        let (before, bar) = (self.provider.answered(), progress(what, 1));
        let (times, took) = self.load.send(target, (Asked::Anew, pace), &bar).await?;
        bar.finish_and_clear();
        let asked = self.provider.answered() - before;
        match asked >= times.0.len() as u64 {
            true => Ok((times, took)),
            false => {
                Err(Failure::new(format!("the model was asked {asked} times for {} answers", times.0.len())))
            }
        }
    }

    /// Straight and through a gateway, in turns.
    async fn beside(&self, target: &Target, rate: f64) -> Result<[Times; 2], Failure> {
        let mut times = [Times::default(), Times::default()];
        let pace = Pace::Paced { rate, time: self.time / ROUNDS };
        for _ in 0..ROUNDS {
            for (target, times) in [&self.straight, target].into_iter().zip(&mut times) {
                times.0.extend(self.anew(target, pace, &format!("{rate:.0} calls a second")).await?.0.0);
            }
        }
        Ok(times)
    }

    /// Of the rates that are tried: where the first one holds, the last before one at which more is added than may be; where
    /// it does not, the first at which no more is. None of them is 0.
    async fn highest(&self, chela: &Gateway, first_holds: bool) -> Result<f64, Failure> {
        let mut highest = if first_holds { RATE } else { 0.0 };
        for rate in if first_holds { FASTER.as_slice() } else { &SLOWER } {
            let [straight, through] = self.beside(&chela.target, *rate).await?;
            let holds = added(&through, &straight, 0.99) <= ADDED_P99_MS;
            if holds {
                highest = *rate;
            }
            if holds != first_holds {
                break;
            }
        }
        Ok(highest)
    }

    /// One client who asks what was answered before; nobody else asks meanwhile.
    async fn kept(&self, chela: &Gateway) -> Result<f64, Failure> {
        let (before, bar) = (self.provider.answered(), progress("kept answers", 1));
        let pace = Pace::Flat { clients: 1, time: self.time };
        let (times, _) = self.load.send(&chela.target, (Asked::Again, pace), &bar).await?;
        bar.finish_and_clear();
        let asked = self.provider.answered() - before;
        match asked <= 1 {
            true => Ok(ms(&times, 0.5)),
            false => Err(Failure::new(format!("the model was asked {asked} times for what is kept"))),
        }
    }

    /// Many calls, and the memory after each tenth of them.
    async fn soak(&self, chela: &Gateway, calls: u64) -> Result<Vec<Bar>, Failure> {
        let mut memory = Vec::new();
        for tenth in 1..=TENTHS {
            let pace = Pace::Count(calls / TENTHS);
            self.anew(&chela.target, pace, &format!("{tenth} of {TENTHS} tenths of all")).await?;
            memory.push(chela.memory_bytes() as f64);
        }
        let first = memory.first().copied().unwrap_or_default();
        let most = memory.iter().copied().fold(0.0, f64::max);
        Ok(vec![
            Bar::told("memory after a tenth of many calls", first / MIB, "MiB"),
            Bar::told(&format!("most memory until the end of {calls} calls, against it"), most / first, "×")
                .at_most(GROWTH_MAX),
        ])
    }

    /// Everything that is measured of another one.
    async fn other(
        &self,
        (name, times, how): (&str, f64, Start),
        (program, key): (&Path, &str),
        ours: f64,
    ) -> Result<Vec<Bar>, Failure> {
        let folder = tempfile::tempdir()?;
        let (provider, address) = (self.provider.base_url(), free_address()?);
        let (command, target) = how(&Peer { program, folder: folder.path(), provider, address, key })?;
        let gateway = Gateway::start(command, target, (&self.load, folder.path())).await?;
        self.flat(&gateway.target, &format!("{name}, warming up")).await?;
        let flat = self.flat_through(&gateway, &format!("{name}, flat out")).await?;
        let rate = RATE.min(flat.rate / 2.0);
        let [straight, through] = self.beside(&gateway.target, rate).await?;
        let bytes = gateway.memory_bytes();
        let told = |what: &str, value, unit| Bar::told(&format!("{name}: {what}"), value, unit);
        let at = |share| format!("added at {rate:.0} calls a second, {share}");
        Ok(vec![
            Bar::told(&format!("calls a second, flat out, against {name}"), ours / flat.rate, "×")
                .at_least(times),
            told(FLAT_OUT, flat.rate, "/s"),
            told(PROCESSOR, flat.processor_us, "µs"),
            told(&at("p50"), added(&through, &straight, 0.5), "ms"),
            told(&at("p99"), added(&through, &straight, 0.99), "ms"),
            told("memory at the end", bytes as f64 / MIB, "MiB"),
        ])
    }
}

const MIB: f64 = 1_048_576.0;
const TENTHS: u64 = 10;

fn ms(times: &Times, share: f64) -> f64 {
    times.quantile(share).as_secs_f64() * 1e3
}

fn added(through: &Times, straight: &Times, share: f64) -> f64 {
    ms(through, share) - ms(straight, share)
}
