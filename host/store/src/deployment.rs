//! Deployments: which version of a plugin is to serve, and which one each node has.
//!
//! One row for each plugin with one column for the active version: two of them cannot be. A change says from which
//! revision it was made, and one that was made from another than the kept one is refused; so whoever changes has
//! seen what is changed.

use chela_types::{Digest, Millis, PluginId, TenantId};
use serde::{Deserialize, Serialize};

use crate::event::{self, EVENTS_MAX, Happened, Prepared, cut};
use crate::row;
use crate::sql::{self, Row};
use crate::version::VersionState;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// What is to serve of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which plugin.
    pub plugin: PluginId,
    /// From 1, grows with each change.
    pub revision: u64,
    /// The version that serves.
    pub active: Option<Digest>,
    /// The one that served before: what an ordered rollback goes back to.
    pub before: Option<Digest>,
    /// The last one before it that has shown that it works: what takes over where the active one fails.
    pub proven: Option<Digest>,
    /// The one that serves some, and how many of a hundred.
    pub canary: Option<(Digest, u8)>,
    /// The one that is run beside the active one, without effect.
    pub shadow: Option<Digest>,
    /// The one that was last seen in the plugin's folder.
    pub noticed: Option<Digest>,
    /// Since when it is so.
    pub since: Millis,
    /// Who made it so.
    pub by: String,
    /// Why, in words; cut at 500 bytes.
    pub why: String,
}

impl Deployment {
    /// Every version that it names.
    fn names(&self) -> impl Iterator<Item = Digest> {
        let canary = self.canary.map(|(digest, _)| digest);
        [self.active, self.before, self.proven, canary, self.shadow, self.noticed].into_iter().flatten()
    }
}

/// A change of what is to serve.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// Whose plugin.
    pub tenant: TenantId,
    /// What is to be. Its revision is the one from which it was made; 0: there is none yet.
    pub deployment: Deployment,
    /// Who changes it.
    pub by: String,
    /// How versions stand from now on, and why. Since when and by whom moves where the state is another one, and where
    /// the deployment makes it a canary or a shadow.
    pub states: Vec<(Digest, VersionState, String)>,
    /// What is told of it.
    pub happened: Vec<Happened>,
}

impl Store {
    /// Changes what is to serve of a plugin, together with how its versions stand and what is told of it; returns
    /// the deployment with its new revision, after it is on the disk.
    ///
    /// # Errors
    /// Nothing is changed then: [`Error::Changed`] if it was made from another revision than the kept one,
    /// [`Error::NoVersion`] if it names a version that is not kept, [`Error::Invalid`] for a share above 100
    /// percent, [`Error::TooLarge`] for an event's detail, or those of the disk.
    pub async fn deploy(&self, deploy: Deploy) -> Result<Deployment> {
        self.commit(Change::of(deploy)?).await
    }

    /// The same of several plugins: all of it or nothing.
    ///
    /// # Errors
    /// Those of [`Store::deploy`] of any of them.
    pub async fn deploy_all(&self, deploys: Vec<Deploy>) -> Result<Vec<Deployment>> {
        self.commit(Changes(deploys.into_iter().map(Change::of).collect::<Result<_>>()?)).await
    }

    /// What is to serve, of every plugin that was ever deployed, by name.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn deployments(&self, tenant: &TenantId) -> Result<Vec<Deployment>> {
        self.read(async |connection| {
            let rows = sql::query("SELECT * FROM deployments WHERE tenant = $1 ORDER BY plugin")
                .bind(tenant.as_str())
                .fetch_all(connection)
                .await?;
            rows.iter().map(deployment).collect()
        })
        .await
    }

    /// Keeps which version of a plugin a node has active; returns after it is on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn observe(
        &self,
        tenant: &TenantId,
        node: &str,
        plugin: &PluginId,
        digest: Digest,
    ) -> Result<()> {
        let (tenant, node, plugin) = (tenant.clone(), node.to_owned(), plugin.clone());
        self.commit(Observe { tenant, node, plugin, digest }).await
    }

    /// Which version of each plugin each node has active, and since when it said so: node, plugin, version, time.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn observed(&self, tenant: &TenantId) -> Result<Vec<(String, PluginId, Digest, Millis)>> {
        self.read(async |connection| {
            let rows = sql::query("SELECT * FROM observed WHERE tenant = $1 ORDER BY node, plugin")
                .bind(tenant.as_str())
                .fetch_all(connection)
                .await?;
            rows.iter()
                .map(|row| {
                    let (plugin, digest) = (row::name(row, "plugin")?, row::digest(row, "digest")?);
                    Ok((row::get(row, "node")?, plugin, digest, Millis(row::get(row, "at")?)))
                })
                .collect()
        })
        .await
    }
}

fn deployment(row: &Row) -> Result<Deployment> {
    let percent: Option<i64> = row::get(row, "percent")?;
    let percent = percent.map(u8::try_from).transpose().map_err(|_| Error::Unreadable("percent"))?;
    Ok(Deployment {
        plugin: row::name(row, "plugin")?,
        revision: row::get::<i64>(row, "revision")?.unsigned_abs(),
        active: row::maybe_digest(row, "active")?,
        before: row::maybe_digest(row, "before")?,
        proven: row::maybe_digest(row, "proven")?,
        canary: row::maybe_digest(row, "canary")?.zip(percent),
        shadow: row::maybe_digest(row, "shadow")?,
        noticed: row::maybe_digest(row, "noticed")?,
        since: Millis(row::get(row, "since")?),
        by: row::get(row, "by")?,
        why: row::get(row, "why")?,
    })
}

struct Change {
    deploy: Deploy,
    events: Vec<Prepared>,
}

impl Change {
    fn of(mut deploy: Deploy) -> Result<Self> {
        if deploy.deployment.canary.is_some_and(|(_, percent)| percent > 100) {
            return Err(Error::Invalid("a canary gets at most 100 percent"));
        }
        let events = event::prepare(std::mem::take(&mut deploy.happened))?;
        cut(&mut deploy.deployment.why);
        deploy.states.iter_mut().for_each(|(_, _, reason)| cut(reason));
        Ok(Self { deploy, events })
    }
}

struct Changes(Vec<Change>);

impl Operation for Changes {
    type Output = Vec<Deployment>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Vec<Deployment>> {
        // A refusal takes back nothing that its operation has written.
        for change in &self.0 {
            change.check(tx).await?;
        }
        let mut deployed = Vec::new();
        for change in &self.0 {
            deployed.push(change.write(tx).await?);
        }
        Ok(deployed)
    }
}

impl Operation for Change {
    type Output = Deployment;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Deployment> {
        self.check(tx).await?;
        self.write(tx).await
    }
}

impl Change {
    async fn check(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let wanted = &self.deploy.deployment;
        if self.revision(tx).await? != wanted.revision {
            return Err(Error::Changed(wanted.plugin.clone()));
        }
        for digest in wanted.names().chain(self.deploy.states.iter().map(|(digest, ..)| *digest)) {
            self.check_kept(tx, digest).await?;
        }
        Ok(())
    }

    async fn write(&self, tx: &mut Transaction<'_>) -> Result<Deployment> {
        let wanted = &self.deploy.deployment;
        let deployment = Deployment { revision: wanted.revision.saturating_add(1), ..wanted.clone() };
        self.put(tx, &deployment).await?;
        for (digest, state, reason) in &self.deploy.states {
            self.set(tx, *digest, *state, reason).await?;
        }
        event::append(tx, &self.deploy.tenant, &self.events, EVENTS_MAX).await?;
        Ok(deployment)
    }
}

const PUT: &str = "
    INSERT INTO deployments (tenant, plugin, revision, active, before, proven, canary, percent, shadow, noticed, since,
        by, why)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (tenant, plugin) DO UPDATE SET revision = excluded.revision, active = excluded.active,
        before = excluded.before, proven = excluded.proven, canary = excluded.canary, percent = excluded.percent, shadow = excluded.shadow,
        noticed = excluded.noticed, since = excluded.since, by = excluded.by, why = excluded.why";

impl Change {
    async fn revision(&self, tx: &mut Transaction<'_>) -> Result<u64> {
        let kept: Option<i64> =
            sql::query("SELECT revision FROM deployments WHERE tenant = $1 AND plugin = $2")
                .bind(self.deploy.tenant.as_str())
                .bind(self.deploy.deployment.plugin.as_str())
                .fetch_optional_value(&mut *tx.connection)
                .await?;
        Ok(kept.unwrap_or(0).unsigned_abs())
    }

    async fn check_kept(&self, tx: &mut Transaction<'_>, digest: Digest) -> Result<()> {
        let plugin = &self.deploy.deployment.plugin;
        let kept: Option<i64> =
            sql::query("SELECT 1 FROM versions WHERE tenant = $1 AND plugin = $2 AND digest = $3")
                .bind(self.deploy.tenant.as_str())
                .bind(plugin.as_str())
                .bind(digest.as_bytes().as_slice())
                .fetch_optional_value(&mut *tx.connection)
                .await?;
        kept.map(|_| ()).ok_or_else(|| Error::NoVersion { plugin: plugin.clone(), digest })
    }

    async fn put(&self, tx: &mut Transaction<'_>, deployment: &Deployment) -> Result<()> {
        let blob = |digest: Option<Digest>| digest.map(|digest| digest.as_bytes().to_vec());
        let (canary, percent) = deployment.canary.unzip();
        sql::query(PUT)
            .bind(self.deploy.tenant.as_str())
            .bind(deployment.plugin.as_str())
            .bind(i64::try_from(deployment.revision).unwrap_or(i64::MAX))
            .bind(blob(deployment.active))
            .bind(blob(deployment.before))
            .bind(blob(deployment.proven))
            .bind(blob(canary))
            .bind(percent)
            .bind(blob(deployment.shadow))
            .bind(blob(deployment.noticed))
            .bind(deployment.since.0)
            .bind(&deployment.by)
            .bind(&deployment.why)
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }

    async fn set(
        &self,
        tx: &mut Transaction<'_>,
        digest: Digest,
        state: VersionState,
        reason: &str,
    ) -> Result<()> {
        let Deployment { canary, shadow, .. } = &self.deploy.deployment;
        let begins = canary.map(|(digest, _)| digest) == Some(digest) || *shadow == Some(digest);
        sql::query(
            "UPDATE versions SET since = iif(state = $4 AND NOT $8, since, $6), by = iif(state = $4 AND NOT $8, by, $7),
                 state = $4, reason = $5
             WHERE tenant = $1 AND plugin = $2 AND digest = $3",
        )
        .bind(self.deploy.tenant.as_str())
        .bind(self.deploy.deployment.plugin.as_str())
        .bind(digest.as_bytes().as_slice())
        .bind(state.as_str())
        .bind(reason)
        .bind(tx.now.0)
        .bind(&self.deploy.by)
        .bind(begins)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}

struct Observe {
    tenant: TenantId,
    node: String,
    plugin: PluginId,
    digest: Digest,
}

impl Operation for Observe {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sql::query(
            "INSERT INTO observed (tenant, node, plugin, digest, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO UPDATE SET digest = excluded.digest, at = excluded.at",
        )
        .bind(self.tenant.as_str())
        .bind(&self.node)
        .bind(self.plugin.as_str())
        .bind(self.digest.as_bytes().as_slice())
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}
