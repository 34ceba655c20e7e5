//! Who looks at a budget while it is used: in the store, and as an operator does.

use std::path::PathBuf;
use std::time::Duration;

use chela_gateway::Standing as Listed;
use chela_types::Money;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::books::{Books, Standing};
use super::crowd::Crowd;
use crate::process::Process;

/// Between two looks into the store.
const LOOK: Duration = Duration::from_millis(2);

/// Looks into the store again and again.
pub(super) struct Watch {
    stop: CancellationToken,
    task: JoinHandle<Vec<Standing>>,
}

impl Watch {
    pub(super) fn begin(data: PathBuf, scope: String) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (books, mut seen) = (Books::beside(&data).await, Vec::new());
            while !stopped.is_cancelled() {
                seen.extend(books.budgets().await.get(&scope));
                sleep(LOOK).await;
            }
            books.close().await;
            seen
        });
        Self { stop, task }
    }

    /// Lets go of the store, and tells what was seen.
    pub(super) async fn end(self) -> Vec<Standing> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// What `chela budget list` tells of a budget until the callers are done.
pub(super) async fn listed(process: &Process, scope: &str, crowd: &Crowd) -> Vec<Standing> {
    let mut seen = Vec::new();
    while !crowd.is_done() {
        let output = process.command(&["budget", "list", "--json"]).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all: Vec<Listed> = serde_json::from_slice(&output.stdout).unwrap();
        let own = all.iter().filter(|one| one.scope == scope);
        seen.extend(own.map(|one| Standing {
            settled: Money::from_nanos(one.settled.amount),
            reserved: Money::from_nanos(one.reserved.amount),
        }));
    }
    seen
}
