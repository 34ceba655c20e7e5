//! Versions of plugins: what they do, what happened to them, and the orders of operators.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Order, PluginStatus, Reloaded};
use chela_store::Event;
use chela_types::PluginId;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::admin::{Admin, WAIT_MAX};
use super::error::Error;
use super::extract::{Json, Path, Query};
use super::rights::{Allowed, Content, Operate, Read};

/// Reloads and orders at once; they are carried out one after another.
const ORDERS_MAX: usize = 4;
/// Events in one answer, unless another number is asked for.
const EVENTS_USUAL: usize = 100;
/// Events in one answer at most.
const EVENTS_MAX: usize = 1_000;
/// How often the store is asked for new events while somebody waits for one. They are rare, and each of his questions
/// is one read.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Every plugin with its versions; what was said in differences of shadows is for whoever may see that.
pub(super) async fn plugins(admin: Allowed<Read>) -> Result<Json<Vec<PluginStatus>>, Error> {
    Ok(Json(admin.engine.plugins(admin.has::<Content>()).await?))
}

/// An order, by whoever may give one.
pub(super) async fn order(
    admin: Allowed<Operate>,
    Path(name): Path<String>,
    Json(order): Json<Order>,
) -> Result<Json<PluginStatus>, Error> {
    let plugin = id(&name)?;
    if let Order::Shadow { candidate } | Order::Canary { candidate, .. } | Order::Promote { candidate, .. } =
        &order
        && candidate.folder.as_deref().is_some_and(FilePath::is_relative)
    {
        return Err(Error::Invalid("`folder` must be an absolute path".to_owned()));
    }
    let (engine, who) = (admin.engine.clone(), admin.who());
    let ordered = async move { engine.order(&plugin, order, &who).await.map_err(Error::Order) };
    admin.orders.to_its_end(ordered).await.map(Json)
}

fn id(name: &str) -> Result<PluginId, Error> {
    PluginId::new(name).map_err(|_| Error::Invalid(format!("`{name}` cannot be a plugin's name")))
}

#[derive(Debug, Deserialize)]
pub(super) struct Newest {
    #[serde(default = "usual")]
    limit: usize,
}

fn usual() -> usize {
    EVENTS_USUAL
}

/// What happened to one plugin: the newest events, the last one last.
pub(super) async fn history(
    admin: Allowed<Read>,
    Path(name): Path<String>,
    Query(newest): Query<Newest>,
) -> Result<Json<Vec<Event>>, Error> {
    let plugin = id(&name)?;
    let limit = newest.limit.min(EVENTS_MAX);
    let events = admin.store.newest_events(&admin.tenant, Some(&plugin), limit).await?;
    // A plugin that is gone has its history still.
    if events.is_empty() && !admin.engine.plugins(false).await?.iter().any(|known| known.plugin == name) {
        return Err(Error::NotFound);
    }
    Ok(Json(events))
}

/// What is asked of a reload.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Reload {
    /// Apply what a host that reloads by hand would only report.
    #[serde(default)]
    pub apply: bool,
}

/// Reads the configuration and everything that it names again.
pub(super) async fn reload(
    admin: Allowed<Operate>,
    Json(asked): Json<Reload>,
) -> Result<Json<Reloaded>, Error> {
    let (reloader, who) = (admin.reloader.clone(), admin.who());
    let reload = async move { reloader.reload(asked.apply, &who).await.map_err(Error::Reload) };
    admin.orders.to_its_end(reload).await.map(Json)
}

/// Reloads and orders that are being carried out or wait for the one before: a few, and clones share them.
#[derive(Debug, Clone)]
pub struct Orders(Arc<Semaphore>);

impl Default for Orders {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ORDERS_MAX)))
    }
}

impl Orders {
    /// Whoever asked may be gone before it is done: half an order is none.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let seat = Arc::clone(&self.0).try_acquire_owned().map_err(|_| Error::Busy)?;
        let work = async move {
            let _until_it_is_done = seat;
            work.await
        };
        tokio::spawn(work).await.unwrap_or(Err(Error::Busy))
    }
}

/// Which events.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// After this one; left out, the newest.
    after: Option<u64>,
    plugin: Option<String>,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default = "usual")]
    limit: usize,
}

/// Events in their order; waits for one if there is none yet.
pub(super) async fn events(
    admin: Allowed<Read>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<Event>>, Error> {
    let plugin = wanted.plugin.as_deref().map(id).transpose()?;
    let (plugin, limit) = (plugin.as_ref(), wanted.limit.min(EVENTS_MAX));
    let Some(after) = wanted.after else {
        return Ok(Json(admin.store.newest_events(&admin.tenant, plugin, limit).await?));
    };
    let end = Instant::now() + Duration::from_millis(wanted.wait_ms).min(WAIT_MAX);
    let admin: &Admin = &admin;
    loop {
        let events = admin.store.events(&admin.tenant, after, plugin, limit).await?;
        let left = end.saturating_duration_since(Instant::now());
        if !events.is_empty() || left.is_zero() {
            return Ok(Json(events));
        }
        if admin.stop.is_cancelled() {
            return Err(Error::Draining);
        }
        tokio::select! {
            () = sleep(left.min(LOOK_AGAIN)) => {}
            () = admin.stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn orders_at_once_obeyed() {
        let orders = Orders::default();
        for n in 0..ORDERS_MAX * 2 {
            assert_eq!(orders.to_its_end(async move { Ok(n) }).await.unwrap(), n, "each gives back its seat");
        }
    }

    #[tokio::test]
    async fn orders_at_once_violated() {
        let orders = Orders::default();
        for _ in 0..ORDERS_MAX {
            // Whoever asked is gone, and it is carried out all the same.
            let asked = orders.to_its_end(pending::<Result<(), Error>>());
            let _ = tokio::time::timeout(Duration::ZERO, asked).await;
        }
        assert!(matches!(orders.to_its_end(async { Ok(()) }).await, Err(Error::Busy)));
    }
}
