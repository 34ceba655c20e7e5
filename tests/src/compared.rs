//! Recorded turns under another build: what a replay says of them.

use std::path::PathBuf;

use chela_engine::{Error, ReplayReport, ReplayRequest, Under};
use chela_gateway::{Limit, Window};
use chela_store::TurnState;
use chela_types::{Money, PluginId};
use serde_json::json;
use tempfile::TempDir;

use crate::guests;
use crate::host::Host;
use crate::outside::Outside;
use crate::setup::{Setup, host};

/// A host whose agent does what the first word of a message says, over a provider that counts.
pub fn counted(outside: &Outside) -> Setup {
    host(outside)
        .agent("support", "agent")
        .agent("hr", "agent")
        .billed_model(outside)
        .webhook("partner", "support")
}

/// The same with a router, and with something to spend for replays.
fn paid(outside: &Outside) -> Setup {
    counted(outside).router("router", json!({})).with_gateway(|gateway| {
        let amount = Money::from_nanos(1_000_000_000);
        gateway.budgets.apart = vec![Limit { most: amount.into(), window: Window::Day }];
    })
}

/// Another build of the guest in a folder, and a request to run what is recorded under it.
pub fn under(folder: &TempDir, plugin: &str, manifest: &str) -> ReplayRequest {
    let path: PathBuf = guests::get(plugin).folder(folder.path());
    std::fs::write(path.join("plugin.toml"), manifest).unwrap();
    let plugin = Some(PluginId::new(plugin).unwrap());
    ReplayRequest { under: Under::Folder(path), plugin, ..ReplayRequest::default() }
}

/// A host that has answered messages, one after the other, and what a build that behaves otherwise makes of them.
#[derive(Debug)]
pub struct Compared {
    /// The world around it.
    pub outside: Outside,
    /// The host.
    pub host: Host,
    /// Where builds are put.
    pub folder: TempDir,
}

impl Compared {
    /// After these messages.
    pub async fn new(texts: &[&str]) -> Self {
        Self::with(|setup| setup, texts).await
    }

    /// After these messages to a host that is told something more.
    pub async fn with(change: impl FnOnce(Setup) -> Setup, texts: &[&str]) -> Self {
        let outside = Outside::new().await;
        let host = change(paid(&outside)).run().await;
        for text in texts {
            host.partner_says(&outside, "t1", text).await;
            assert_eq!(host.closed(text).await.state, TurnState::Delivered, "{text}");
        }
        Self { outside, host, folder: tempfile::tempdir().unwrap() }
    }

    /// A request to run what is recorded under a build of this guest that behaves so.
    pub fn request(&self, plugin: &str, behaviour: &str) -> ReplayRequest {
        under(&self.folder, plugin, &guests::get(plugin).manifest_of("0.2.0", behaviour))
    }

    /// The same, run.
    pub async fn behaving(&self, plugin: &str, behaviour: &str, live: bool) -> ReplayReport {
        let request = ReplayRequest { live, ..self.request(plugin, behaviour) };
        self.host.replay(&request).await.unwrap()
    }

    /// Why a request is refused.
    pub async fn refused(&self, request: &ReplayRequest) -> Error {
        self.host.replay(request).await.unwrap_err()
    }
}

/// same, changed, diverged, failed: and nothing else happened.
pub fn counts(report: &ReplayReport) -> [u64; 4] {
    let ReplayReport { same, changed, diverged, failed, .. } = *report;
    let not_run = (report.purged, report.gone, report.incomplete, &report.broken);
    assert_eq!(not_run, (0, 0, 0, &(0, None)), "{report:?}");
    assert_eq!(report.parts, same + changed + diverged + failed);
    [same, changed, diverged, failed]
}
