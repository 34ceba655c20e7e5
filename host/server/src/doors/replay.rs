//! Recorded turns run again by the host itself: for runs that go on alone and cost money, and for operators who are
//! elsewhere. One at a time: it takes the processor that messages need.

use std::sync::Arc;
use std::time::Duration;

use chela_engine::{ReplayProgress, ReplayReport, ReplayRequest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::WAIT_MAX;
use super::error::Error;
use super::extract::{Json, Path, Query};
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

    fn without_words(self) -> Self {
        Self { report: self.report.map(ReplayReport::without_words), ..self }
    }
}

/// The last replay of this host. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Replays {
    last: Arc<Mutex<Last>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Last {
    job: ReplayJob,
    stop: CancellationToken,
}

/// Whatever becomes of the task that runs a replay, the replay ends with it.
struct Ending {
    replays: Replays,
    outcome: Result<ReplayReport, String>,
}

impl Ending {
    fn with(mut self, outcome: Result<ReplayReport, String>) {
        self.outcome = outcome;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let job = &mut self.replays.last.lock().job;
        match std::mem::replace(&mut self.outcome, Err(String::new())) {
            Ok(report) => job.report = Some(report),
            Err(why) => job.error = Some(why),
        }
    }
}

impl Replays {
    /// Begins one, if none runs. It ends with the host.
    fn begin<F>(
        &self,
        host: &CancellationToken,
        work: impl FnOnce(Box<dyn Fn(ReplayProgress) + Send + Sync>) -> F,
    ) -> Result<ReplayJob, Error>
    where
        F: Future<Output = Result<ReplayReport, chela_engine::Error>> + Send + 'static,
    {
        let mut last = self.last.lock();
        let ReplayJob { id, .. } = last.job;
        if id > 0 && !last.job.has_ended() {
            let why =
                format!("replay {id} still runs, and there is one at a time: DELETE /replay/{id} ends it");
            return Err(Error::Invalid(why));
        }
        *last = Last { job: ReplayJob { id: id + 1, ..ReplayJob::default() }, stop: host.child_token() };
        let (host, stop, replays) = (host.clone(), last.stop.clone(), self.clone());
        let work = work(Box::new(move |progress| replays.last.lock().job.progress = progress));
        let ending = Ending { replays: self.clone(), outcome: Err(BROKEN_OFF.to_owned()) };
        self.tasks.spawn(async move {
            ending.with(match stop.run_until_cancelled_owned(work).await {
                Some(outcome) => outcome.map_err(|error| error.to_string()),
                None if host.is_cancelled() => Err(Error::Draining.to_string()),
                None => Err(STOPPED.to_owned()),
            });
        });
        Ok(last.job.clone())
    }

    fn job(&self, id: u64) -> Option<ReplayJob> {
        Some(self.last.lock().job.clone()).filter(|job| job.id == id)
    }

    /// Ends one, with what it runs.
    fn cancel(&self, id: u64) -> Option<ReplayJob> {
        let last = self.last.lock();
        (last.job.id == id).then(|| {
            last.stop.cancel();
            last.job.clone()
        })
    }

    /// Waits until none runs; for a host that stops.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Why a replay has no report that somebody has ended.
const STOPPED: &str = "it was stopped";
/// Why a replay has none whose task is gone.
const BROKEN_OFF: &str = "it broke off; the host's log says why";

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
    if admin.stop.is_cancelled() {
        return Err(Error::Draining);
    }
    let engine = admin.engine.clone();
    let work = |tell| async move { engine.replay(&request, tell).await };
    admin.replays.begin(&admin.stop, work).map(Json)
}

/// Ends a replay: no further part is run, and those that run are cut off.
pub(super) async fn cancel(admin: Allowed<Operate>, Path(id): Path<u64>) -> Result<Json<ReplayJob>, Error> {
    admin.replays.cancel(id).map(|job| Json(job.without_words())).ok_or(Error::NotFound)
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
        let job = admin.replays.job(id).ok_or(Error::NotFound)?;
        if job.has_ended() || Instant::now() >= end {
            return Ok(Json(if with_words { job } else { job.without_words() }));
        }
        if admin.stop.is_cancelled() {
            return Err(Error::Draining);
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// The job once it has ended.
    async fn ended(replays: &Replays, id: u64) -> ReplayJob {
        loop {
            let job = replays.job(id).expect("it is the last one");
            if job.has_ended() {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_replay_that_is_ended_ends_and_another_may_begin() {
        let (replays, host) = (Replays::default(), CancellationToken::new());
        assert!(replays.cancel(1).is_none());
        replays.begin(&host, |_| pending()).unwrap();
        let refused = replays.begin(&host, |_| pending()).unwrap_err();
        assert!(refused.to_string().contains("DELETE /replay/1"), "{refused}");
        assert!(replays.cancel(2).is_none());
        replays.cancel(1).unwrap();
        assert_eq!(ended(&replays, 1).await.error.as_deref(), Some(STOPPED));
        let report = || ReplayReport { turns: 7, ..ReplayReport::default() };
        let second = replays.begin(&host, |_| async move { Ok(report()) }).unwrap();
        assert_eq!(ended(&replays, second.id).await.report, Some(report()));
        assert_eq!(replays.cancel(2).unwrap().report, Some(report()), "what has ended stays as it is");
    }

    #[tokio::test]
    async fn a_replay_whose_task_panics_does_not_keep_out_the_next() {
        let (replays, host) = (Replays::default(), CancellationToken::new());
        replays.begin(&host, |_| async { panic!("a test's") }).unwrap();
        assert_eq!(ended(&replays, 1).await.error.as_deref(), Some(BROKEN_OFF));
        replays.begin(&host, |_| pending()).unwrap();
    }

    #[tokio::test]
    async fn a_replay_ends_with_its_host() {
        let (replays, host) = (Replays::default(), CancellationToken::new());
        replays.begin(&host, |_| pending()).unwrap();
        host.cancel();
        replays.ended().await;
        assert_eq!(ended(&replays, 1).await.error.as_deref(), Some("the host stops"));
    }
}
