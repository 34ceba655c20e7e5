//! A router's folder, the way an author changes it, and a host whose router comes from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chela_engine::Candidate;
use chela_sandbox::{Grants, Source};
use chela_store::TurnState;
use serde_json::json;
use tempfile::TempDir;

use crate::guests;
use crate::host::Host;
use crate::outside::Outside;
use crate::setup::{Setup, host};
use crate::versions::router_of;

/// A folder with the guest router.
#[derive(Debug)]
pub struct Folder {
    parent: TempDir,
    /// Where it is.
    pub path: PathBuf,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// With version 1.0.0, whose decisions say `tag-old`.
    pub fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = guests::get("router").folder(parent.path());
        let folder = Self { parent, path };
        folder.manifest("1.0.0", "tag-old");
        folder
    }

    /// Another folder, with another build.
    pub fn with(version: &str, behaviour: &str) -> Self {
        let folder = Self::new();
        folder.manifest(version, behaviour);
        folder
    }

    /// From now on it holds this version.
    pub fn manifest(&self, version: &str, behaviour: &str) {
        self.write(&guests::get("router").manifest_of(version, behaviour));
    }

    /// The same, and it asks for more than the usual ones.
    pub fn asking(&self, version: &str, behaviour: &str) {
        let manifest = guests::get("router").manifest_of(version, behaviour);
        let wishes = "optional = [\"models\", \"history\", \"memory\"]";
        self.write(&manifest.replace("optional = [\"models\", \"history\"]", wishes));
    }

    /// From now on this is its manifest.
    pub fn write(&self, manifest: &str) {
        std::fs::write(self.path.join("plugin.toml"), manifest).unwrap();
    }

    /// The component's file.
    pub fn component(&self) -> PathBuf {
        self.path.join("router.wasm")
    }

    /// As it was at first.
    pub fn restore(&self) {
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = std::fs::remove_file(&self.path);
        guests::get("router").folder(self.parent.path());
        self.manifest("1.0.0", "tag-old");
    }

    /// What it holds, for an order.
    pub fn candidate(&self) -> Candidate {
        Candidate { folder: Some(self.path.clone()), ..Candidate::default() }
    }
}

/// The file in which a host keeps the router's component.
pub fn kept_component(data: &Path) -> PathBuf {
    data.join("artefacts").join(guests::kept_as(guests::get("router").component).to_string())
}

/// A host whose router comes from a folder.
pub fn routed(outside: &Outside, folder: &Folder) -> Setup {
    host(outside)
        .agent("support", "agent")
        .router("router", json!({}))
        .with_plugin("router", |plugin| {
            (plugin.source, plugin.grants) = (Source::Folder(folder.path.clone()), Grants::NONE);
        })
        .webhook("partner", "support")
        .with_swap(|swap| swap.latency_floor = Duration::from_secs(60))
}

/// Somebody writes, and is answered; by this version's decision.
pub async fn is_served_by(host: &Host, outside: &Outside, digest: &str) {
    let number = host.turns().await;
    let text = format!("message {number}.");
    host.partner_says(outside, &format!("t{number}"), &text).await;
    let record = host.closed(&text).await;
    assert_eq!(record.state, TurnState::Delivered, "{record:?}");
    assert!(digest.starts_with(router_of(&record)), "{record:?}");
    assert!(record.decisions[0].1.overruled.is_none(), "{record:?}");
    assert_eq!(host.active("router").await.digest, digest);
    assert_eq!(host.deployed("router").await.to_string(), digest);
}
