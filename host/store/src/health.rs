//! Whether something could be kept now. Told by the last transaction; in doubt, by one that is tried.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// How long a try may take.
const TRY_WAIT: Duration = Duration::from_secs(2);

/// The statement of a try. It writes: an empty transaction succeeds on a full disk too.
pub(crate) const TRY: &str = "UPDATE health SET at = $1 WHERE id = 1";

/// Transactions that failed, and how many of them a successful try came after. Numbers and not a flag: a failure
/// during a try is not forgotten with those before it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicU64,
    overcome: AtomicU64,
    /// One try at a time: whoever asks often must not fill the queue.
    trying: Mutex<()>,
}

impl Health {
    /// A transaction came to nothing.
    pub(crate) fn doubt(&self) {
        self.failed.fetch_add(1, Ordering::AcqRel);
    }

    /// How many failures no try has overcome yet; `None`: there is no doubt.
    fn doubts(&self) -> Option<u64> {
        let failed = self.failed.load(Ordering::Acquire);
        (failed > self.overcome.load(Ordering::Acquire)).then_some(failed)
    }

    fn overcome(&self, failed: u64) {
        self.overcome.fetch_max(failed, Ordering::AcqRel);
    }
}

impl Store {
    /// Returns at once while transactions succeed. After one that failed, a row is written to see whether the
    /// disk takes it, within two seconds.
    ///
    /// # Errors
    /// Why nothing can be kept now; [`Error::ReadOnly`] of a store that was opened for reading.
    pub async fn writable(&self) -> Result<()> {
        let health = self.health()?;
        if health.doubts().is_none() {
            return Ok(());
        }
        let attempt = async {
            let _one = health.trying.lock().await;
            let Some(failed) = health.doubts() else { return Ok(()) };
            self.commit(Try).await?;
            health.overcome(failed);
            Ok(())
        };
        timeout(TRY_WAIT, attempt).await.unwrap_or(Err(Error::Busy(TRY_WAIT)))
    }
}

struct Try;

impl Operation for Try {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sql::query(TRY).bind(tx.now.0).execute(&mut *tx.connection).await?;
        Ok(())
    }
}
