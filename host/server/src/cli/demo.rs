//! `chela demo`: everything at work, nothing to configure.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::up::{Loading, stopped};
use super::{Failure, Outcome, args, load, say, tour};
use crate::compose::Surroundings;
use crate::demo::Demo;
use crate::host::{self, Host, Options, Progress};
use crate::telemetry;

/// What the demo logs unless `CHELA_LOG` says otherwise: trouble only, the terminal is for the tour.
const FILTER: &str = "warn";

pub(super) async fn run(asked: args::Demo) -> Outcome {
    let filter = std::env::var("CHELA_LOG").unwrap_or_else(|_| FILTER.to_owned());
    let _log = telemetry::log(telemetry::Format::Pretty, &filter)?;
    let data = Data::of(asked.data)?;
    // The tour speaks to itself and takes any port.
    let port = if asked.tour { 0 } else { asked.port };
    let demo = Demo::lay_out(data.path(), port).await?;
    let host = start(&demo).await?;
    if asked.tour {
        return around(demo, host).await;
    }
    let addresses = host.addresses().clone();
    say(&format!(
        "\n  Crab & Co is open: four agents, scripted models.\n\n    web chat   http://{}/\n    data       {}\n\n  \
         Every channel with a record of each decision:  chela demo --tour\n  Ctrl-C stops.\n\n",
        addresses.public,
        data.path().display(),
    ));
    host.run(stopped()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Loads the demo's configuration and starts a host on it.
pub(super) async fn start(demo: &Demo) -> Result<Host, Failure> {
    let config = load(&args::ConfigPath { config: demo.config.clone() })?;
    let loading = Loading::new();
    let options = Options {
        surroundings: Surroundings::of_this_program()?,
        chats: demo.chats.clone(),
        metrics: Some(telemetry::metrics()?),
        progress: Progress(&|serves, progress| loading.tell(serves, progress)),
    };
    let host = Host::start(config, options).await;
    loading.finish();
    host.map_err(|error| match error {
        host::Error::Listen { address, .. } => {
            Failure::from(error).help(format!("`--port 0` takes any port instead of {}", address.port()))
        }
        error => error.into(),
    })
}

async fn around(demo: Demo, host: Host) -> Outcome {
    let (store, addresses) = (host.store().clone(), host.addresses().clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn(host.run(stop.clone()));
    let result = tour::run(&demo, &store, addresses.public).await;
    stop.cancel();
    running.await??;
    result
}

/// The demo's folder: the given one, or a temporary one that goes with the demo.
enum Data {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Data {
    fn of(given: Option<PathBuf>) -> Result<Self, Failure> {
        match given {
            Some(folder) => {
                std::fs::create_dir_all(&folder)?;
                Ok(Self::Given(folder.canonicalize()?))
            }
            None => Ok(Self::Temporary(tempfile::Builder::new().prefix("chela-demo-").tempdir()?)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(folder) => folder,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
