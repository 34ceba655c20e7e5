//! What is old goes, while the host runs: words, then versions of plugins that nothing names any more.

use chela_types::{Millis, TenantId};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::journey::Journey;

/// How often what is kept is looked through.
const EVERY: Duration = Duration::from_secs(3_600);
/// Turns, or events of web sessions, that go in one commit.
const PART: usize = 100;
/// Budgets of ended windows are kept so long for reports: those of minutes, which are many, and the others.
const MINUTES: Duration = Duration::from_secs(24 * 3_600);
const WINDOWS: Duration = Duration::from_secs(400 * 24 * 3_600);
/// Between two parts: messages are not to wait behind a year of old ones.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs until it is aborted.
pub(crate) async fn run(journey: Arc<Journey>) {
    let mut hour = tokio::time::interval(EVERY);
    loop {
        hour.tick().await;
        if let Err(error) = journey.purge().await {
            tracing::warn!(%error, "what is old cannot be purged now; it is tried again within the hour");
        }
    }
}

impl Journey {
    /// One round.
    async fn purge(&self) -> Result<(), Error> {
        let house = self.fleet.house();
        // A long round keeps no old house alive.
        let (tenant, retention) = (house.config.tenant.clone(), house.config.retention);
        drop(house);
        let now = self.clock.now();
        if let Some(words) = retention.words {
            let before = now.minus(words);
            tell("turns", self.purge_turns(&tenant, before).await?);
            tell("session_events", self.purge_stream_events(&tenant, before).await?);
        }
        tell("budgets", self.purge_budgets(&tenant, (now.minus(MINUTES), "%/minute%")).await?);
        tell("budgets", self.purge_budgets(&tenant, (now.minus(WINDOWS), "%")).await?);
        tell("versions", self.store.purge_versions(&tenant, now.minus(retention.versions)).await?);
        Ok(())
    }

    async fn purge_turns(&self, tenant: &TenantId, before: Millis) -> Result<usize, Error> {
        let (mut purged, mut next) = (0, Some(0));
        while let Some(from) = next {
            let part = self.store.purge_turns(tenant, before, from, PART).await?;
            purged += part.turns;
            next = part.next;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(purged)
    }

    async fn purge_budgets(&self, tenant: &TenantId, which: (Millis, &'static str)) -> Result<usize, Error> {
        let mut purged = 0;
        loop {
            let part = self.store.purge_budgets(tenant, which, PART).await?;
            purged += part;
            if part < PART {
                return Ok(purged);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn purge_stream_events(&self, tenant: &TenantId, before: Millis) -> Result<usize, Error> {
        let mut purged = 0;
        loop {
            let part = self.store.purge_stream_events(tenant, before, PART).await?;
            purged += part;
            if part < PART {
                return Ok(purged);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn tell(what: &'static str, purged: usize) {
    if purged > 0 {
        tracing::info!(purged, what, "what was old is gone");
    }
    metrics::counter!("purged_total", "what" => what).increment(purged as u64);
}
