//! Recorded turns run again by the host itself: for runs that go on alone and cost money, and for operators who are
//! elsewhere. One at a time: it takes the processor that messages need.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query};
use chela_engine::{Engine, ReplayProgress, ReplayReport, ReplayRequest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::admin::WAIT_MAX;
use super::error::Error;
use super::rights::{Allowed, Content, Operate};

/// How often it is looked whether there is news.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A replay as it stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReplayJob {
    /// Its number.
    pub id: u64,
    /// How far it is.
    pub progress: ReplayProgress,
    /// Once it has ended.
    pub report: Option<ReplayReport>,
    /// Why it could not.
    pub error: Option<String>,
}

impl ReplayJob {
    fn has_ended(&self) -> bool {
        self.report.is_some() || self.error.is_some()
    }
}

/// The last replay of this host.
#[derive(Debug, Clone, Default)]
pub struct Replays(Arc<Mutex<ReplayJob>>);

impl Replays {
    /// Begins one, if none runs.
    fn begin(&self, engine: Engine, request: ReplayRequest) -> Result<ReplayJob, Error> {
        let mut job = self.0.lock();
        if job.id > 0 && !job.has_ended() {
            return Err(Error::Invalid(format!("replay {} still runs; there is one at a time", job.id)));
        }
        *job = ReplayJob { id: job.id + 1, ..ReplayJob::default() };
        let replays = self.clone();
        tokio::spawn(async move {
            let tell = |progress| replays.0.lock().progress = progress;
            let outcome = engine.replay(&request, tell).await;
            let mut job = replays.0.lock();
            match outcome {
                Ok(report) => job.report = Some(report),
                Err(error) => job.error = Some(error.to_string()),
            }
        });
        Ok(job.clone())
    }

    fn job(&self, id: u64) -> Option<ReplayJob> {
        Some(self.0.lock().clone()).filter(|job| job.id == id)
    }
}

/// Begins a replay.
pub(super) async fn begin(
    admin: Allowed<Operate>,
    Json(request): Json<ReplayRequest>,
) -> Result<Json<ReplayJob>, Error> {
    if let chela_engine::Under::Folder(folder) = &request.under
        && folder.is_relative()
    {
        return Err(Error::Invalid("`folder` must be an absolute path".to_owned()));
    }
    admin.replays.begin(admin.engine.clone(), request).map(Json)
}

/// What is asked of one.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    content: bool,
}

/// How a replay stands, and what was said in it for whoever may read conversations.
pub(super) async fn look(
    admin: Allowed<Operate>,
    Path(id): Path<u64>,
    Query(asked): Query<Asked>,
) -> Result<Json<ReplayJob>, Error> {
    let with_words = asked.content;
    let admin = if with_words { admin.and::<Content>()?.and::<Operate>()? } else { admin };
    let end = Instant::now() + Duration::from_millis(asked.wait_ms).min(WAIT_MAX);
    loop {
        let mut job = admin.replays.job(id).ok_or(Error::NotFound)?;
        if job.has_ended() || Instant::now() >= end || admin.stop.is_cancelled() {
            if !with_words {
                job.report = job.report.map(ReplayReport::without_words);
            }
            return Ok(Json(job));
        }
        sleep(LOOK_AGAIN).await;
    }
}
