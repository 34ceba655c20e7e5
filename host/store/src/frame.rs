//! Frames: what an agent or router was told beside message and history, by digest, so that a call can be made again
//! as it was. Most turns are told the same, so each distinct frame is kept once.

use chela_types::{Digest, TenantId};

use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Result, Store};

impl Store {
    /// Keeps a frame, if none is kept under its digest. Not awaited: the next awaited write carries it to the disk.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] or [`crate::Error::Closed`].
    pub async fn keep_frame_behind(&self, tenant: &TenantId, digest: Digest, body: String) -> Result<()> {
        self.behind(Keep { tenant: tenant.clone(), digest, body }).await
    }

    /// A frame.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn frame(&self, tenant: &TenantId, digest: Digest) -> Result<Option<String>> {
        self.read(async |connection| {
            let body = sql::query("SELECT body FROM frames WHERE tenant = $1 AND digest = $2")
                .bind(tenant.as_str())
                .bind(digest.as_bytes().as_slice())
                .fetch_optional_value(connection)
                .await?;
            Ok(body)
        })
        .await
    }
}

struct Keep {
    tenant: TenantId,
    digest: Digest,
    body: String,
}

pub(crate) const KEEP: &str =
    "INSERT INTO frames (tenant, digest, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

impl Operation for Keep {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sql::query(KEEP)
            .bind(self.tenant.as_str())
            .bind(self.digest.as_bytes().as_slice())
            .bind(&self.body)
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}
