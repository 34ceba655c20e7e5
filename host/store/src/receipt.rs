//! Receipts: what a platform tells of an answer after it has taken it.
//!
//! They are kept under the platform's own id of the answer, not at the turn: a platform may tell of an answer before
//! we have written down how it calls it.

use chela_types::{ChannelId, Millis, TenantId};

use crate::row;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// How far an answer came, as its platform says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptState {
    /// Underway.
    Sent,
    /// On the person's device.
    Delivered,
    /// Read.
    Read,
    /// The person will not get it.
    Failed,
}

impl ReceiptState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    fn read(word: &str) -> Result<Self> {
        let all = [Self::Sent, Self::Delivered, Self::Read, Self::Failed];
        all.into_iter().find(|state| state.word() == word).ok_or(Error::Unreadable("receipt"))
    }
}

/// One word of a platform.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Whose it is.
    pub tenant: TenantId,
    /// The channel account.
    pub channel: ChannelId,
    /// The answer, as the platform calls it.
    pub platform_id: String,
    /// How far it came.
    pub state: ReceiptState,
    /// The platform's own words.
    pub detail: Option<String>,
}

/// A receipt as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// How far the answer came.
    pub state: ReceiptState,
    /// When the platform told so first.
    pub at: Millis,
    /// The platform's own words.
    pub detail: Option<String>,
}

impl Store {
    /// Keeps receipts; one that is told again changes nothing. Returns how many were new.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn keep_receipts(&self, receipts: Vec<Receipt>) -> Result<u64> {
        self.commit(Keep(receipts)).await
    }
}

struct Keep(Vec<Receipt>);

impl Operation for Keep {
    type Output = u64;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<u64> {
        let mut new = 0;
        for receipt in &self.0 {
            let written = sql::query(
                "INSERT INTO receipts (tenant, channel, platform_id, state, at, detail)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(receipt.tenant.as_str())
            .bind(receipt.channel.as_str())
            .bind(&receipt.platform_id)
            .bind(receipt.state.word())
            .bind(tx.now.0)
            .bind(&receipt.detail)
            .execute(&mut *tx.connection)
            .await?;
            new += written;
        }
        Ok(new)
    }
}

/// What was told of an answer, in order.
pub(crate) async fn receipts(
    connection: &mut crate::sql::Connection,
    (tenant, channel): (&TenantId, &ChannelId),
    platform_id: &str,
) -> Result<Vec<ReceiptRecord>> {
    let rows = sql::query(
        "SELECT state, at, detail FROM receipts WHERE tenant = $1 AND channel = $2 AND platform_id = $3 ORDER BY at",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(platform_id)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ReceiptRecord {
                state: ReceiptState::read(row::text(row, "state")?)?,
                at: Millis(row::get(row, "at")?),
                detail: row::get(row, "detail")?,
            })
        })
        .collect()
}
