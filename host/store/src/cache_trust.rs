//! What a cache has learned of similar questions: so small that each agent has one row.

use chela_types::{AgentId, TenantId};

use crate::row;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Longest of what is learned; ten bands take less than a hundredth.
const LEARNED_BYTES_MAX: usize = 64 << 10;

/// What was learned, and by what: opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTrust {
    /// Rule, language and judge.
    pub by: String,
    /// As its owner writes it.
    pub learned: String,
}

impl Store {
    /// Keeps what was learned of an agent's questions, instead of what was kept before; returns after it is on the disk.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or those of the disk.
    pub async fn keep_cache_trust(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        trust: CacheTrust,
    ) -> Result<()> {
        let (what, size, max) = ("what a cache has learned", trust.learned.len(), LEARNED_BYTES_MAX);
        if size > max {
            return Err(Error::TooLarge { what, size, max });
        }
        self.commit(Keep { tenant: tenant.clone(), agent: agent.clone(), trust }).await
    }

    /// What was learned of an agent's questions.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn cache_trust(&self, tenant: &TenantId, agent: &AgentId) -> Result<Option<CacheTrust>> {
        self.read(async |connection| {
            let rows =
                sql::query(KEPT).bind(tenant.as_str()).bind(agent.as_str()).fetch_all(connection).await?;
            let trust = |row: &sql::Row| {
                Ok(CacheTrust { by: row::get(row, "learned_by")?, learned: row::get(row, "learned")? })
            };
            rows.first().map(trust).transpose()
        })
        .await
    }
}

const KEPT: &str = "SELECT learned_by, learned FROM cache_trust WHERE tenant = $1 AND agent = $2";

struct Keep {
    tenant: TenantId,
    agent: AgentId,
    trust: CacheTrust,
}

const KEEP: &str = "
    INSERT INTO cache_trust (tenant, agent, learned_by, learned, at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant, agent) DO UPDATE
        SET learned_by = excluded.learned_by, learned = excluded.learned, at = excluded.at";

impl Operation for Keep {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sql::query(KEEP)
            .bind(self.tenant.as_str())
            .bind(self.agent.as_str())
            .bind(&self.trust.by)
            .bind(&self.trust.learned)
            .bind(tx.now.0)
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}
