//! Versions of plugins: what was loaded or refused, with all that is needed to load it again but the component's
//! bytes, which are a file (`artefact.rs`).

use std::str::FromStr;

use chela_types::{Digest, Millis, PluginId, TenantId};
use serde::{Deserialize, Serialize};

use crate::event::cut;
use crate::row::{self, to_json};
use crate::sql::{self, Row};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// How a version stands, apart from the deployment that may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// It can be deployed.
    Ready,
    /// It asks for more than the approved one, and waits for somebody to allow that.
    Waiting,
    /// It cannot be loaded, or failed its trial.
    Refused,
    /// Another took its place.
    Retired,
}

impl VersionState {
    /// As it is kept and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Retired => "retired",
        }
    }
}

impl FromStr for VersionState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "ready" => Self::Ready,
            "waiting" => Self::Waiting,
            "refused" => Self::Refused,
            "retired" => Self::Retired,
            _ => return Err(Error::Unreadable("state of a version")),
        })
    }
}

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Whose.
    pub plugin: PluginId,
    /// Over manifest, component and what the operator configures.
    pub digest: Digest,
    /// What kind of plugin its manifest says.
    pub kind: String,
    /// The semantic version of its manifest.
    pub version: String,
    /// Of the component: the name of its artefact.
    pub component: Digest,
    /// The component's size.
    pub component_bytes: u64,
    /// The manifest's text.
    pub manifest: String,
    /// Where the build comes from, in the words of whoever keeps it: a signature is checked anew when it is read.
    pub provenance: String,
    /// What the operator configures of it, as JSON.
    pub settings: String,
    /// What it asks to be granted.
    pub asks: Vec<String>,
    /// How it stands.
    pub state: VersionState,
    /// Why it stands so, in words; cut at 500 bytes.
    pub reason: String,
    /// Since when it stands so.
    pub since: Millis,
    /// Who brought that about.
    pub by: String,
    /// When it was last kept: somebody is about to name it.
    pub noticed: Millis,
}

/// What the first hex digits of a digest name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// This version.
    One(Box<Version>),
    /// None of the plugin's.
    None,
    /// More than one.
    Several,
    /// Nothing: they are fewer than [`Named::DIGITS_MIN`].
    TooShort,
}

impl Named {
    /// Digits that name a version at least.
    pub const DIGITS_MIN: usize = 4;
}

/// The first and the last digest that begin so; `None` if no digest does.
fn range(digits: &str) -> Option<(Digest, Digest)> {
    let padded = |with: &str| format!("{digits}{}", with.repeat(DIGEST_DIGITS.saturating_sub(digits.len())));
    Some((Digest::try_from(padded("0")).ok()?, Digest::try_from(padded("f")).ok()?))
}

/// Hex digits of a whole digest.
const DIGEST_DIGITS: usize = 64;

pub(crate) const NAMED: &str =
    "SELECT * FROM versions WHERE tenant = $1 AND plugin = $2 AND digest BETWEEN $3 AND $4 LIMIT 2";

pub(crate) const OF_ANY: &str = "SELECT * FROM versions WHERE tenant = $1 AND digest = $2 LIMIT 1";

impl Store {
    /// Keeps a version; how one stands that is kept already is left to [`Store::deploy`]. Returns after it is on the
    /// disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn keep_version(&self, tenant: &TenantId, mut version: Version) -> Result<()> {
        cut(&mut version.reason);
        let (component, asks) = (version.component, to_json("asks", &version.asks)?);
        self.commit(Keep { tenant: tenant.clone(), version, asks }).await?;
        self.inner.artefacts.named(component).await;
        Ok(())
    }

    /// A version.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn version(
        &self,
        tenant: &TenantId,
        plugin: &PluginId,
        digest: Digest,
    ) -> Result<Option<Version>> {
        self.read(async |connection| {
            let row = sql::query("SELECT * FROM versions WHERE tenant = $1 AND plugin = $2 AND digest = $3")
                .bind(tenant.as_str())
                .bind(plugin.as_str())
                .bind(digest.as_bytes().as_slice())
                .fetch_optional(connection)
                .await?;
            row.map(|row| version(&row)).transpose()
        })
        .await
    }

    /// The version of a plugin whose digest begins with these hex digits, in upper or lower case.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn named_version(&self, tenant: &TenantId, plugin: &PluginId, digits: &str) -> Result<Named> {
        if digits.len() < Named::DIGITS_MIN {
            return Ok(Named::TooShort);
        }
        let Some((first, last)) = range(digits) else { return Ok(Named::None) };
        self.read(async |connection| {
            let rows = sql::query(NAMED)
                .bind(tenant.as_str())
                .bind(plugin.as_str())
                .bind(first.as_bytes().as_slice())
                .bind(last.as_bytes().as_slice())
                .fetch_all(connection)
                .await?;
            Ok(match rows.as_slice() {
                [] => Named::None,
                [row] => Named::One(Box::new(version(row)?)),
                _ => Named::Several,
            })
        })
        .await
    }

    /// The version with this digest, whichever plugin's it is. Two plugins that have the same one have it of the same
    /// build under the same settings.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn version_of_any(&self, tenant: &TenantId, digest: Digest) -> Result<Option<Version>> {
        self.read(async |connection| {
            let row = sql::query(OF_ANY)
                .bind(tenant.as_str())
                .bind(digest.as_bytes().as_slice())
                .fetch_optional(connection)
                .await?;
            row.map(|row| version(&row)).transpose()
        })
        .await
    }

    /// Versions by the time since when they stand as they do, the newest first, at most `limit`; of one plugin, or
    /// of all.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn versions(
        &self,
        tenant: &TenantId,
        plugin: Option<&PluginId>,
        limit: usize,
    ) -> Result<Vec<Version>> {
        self.read(async |connection| {
            let rows = sql::query(
                "SELECT * FROM versions WHERE tenant = $1 AND ($2 IS NULL OR plugin = $2)
                 ORDER BY since DESC, id DESC LIMIT $3 + 0",
            )
            .bind(tenant.as_str())
            .bind(plugin.map(PluginId::as_str))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
            rows.iter().map(version).collect()
        })
        .await
    }

    /// Forgets versions that stand as they do, and were last kept, before `unchanged_since`, unless a deployment, an entry of
    /// a journal or an answer on its way names them; then components that no version has any more. Returns how many
    /// versions are forgotten. If the process dies in between, a component that is left over goes the next time.
    ///
    /// # Errors
    /// Those of the disk; the versions may be forgotten then.
    pub async fn purge_versions(&self, tenant: &TenantId, unchanged_since: Millis) -> Result<usize> {
        let forgotten = self.commit(Purge { tenant: tenant.clone(), before: unchanged_since }).await?;
        self.purge_artefacts().await?;
        Ok(forgotten)
    }
}

fn version(row: &Row) -> Result<Version> {
    Ok(Version {
        plugin: row::name(row, "plugin")?,
        digest: row::digest(row, "digest")?,
        kind: row::get(row, "kind")?,
        version: row::get(row, "version")?,
        component: row::digest(row, "component")?,
        component_bytes: row::get::<i64>(row, "component_bytes")?.unsigned_abs(),
        manifest: row::get(row, "manifest")?,
        provenance: row::get(row, "provenance")?,
        settings: row::get(row, "settings")?,
        asks: row::json(row, "asks")?.unwrap_or_default(),
        state: row::text(row, "state")?.parse()?,
        reason: row::get(row, "reason")?,
        since: Millis(row::get(row, "since")?),
        by: row::get(row, "by")?,
        noticed: Millis(row::get(row, "noticed")?),
    })
}

struct Keep {
    tenant: TenantId,
    version: Version,
    asks: String,
}

/// What it asks for is read anew: the host may have learned to read more.
const KEEP: &str = "
    INSERT INTO versions (tenant, plugin, digest, kind, version, component, component_bytes, manifest, settings,
        asks, state, reason, since, by, noticed, provenance)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT (tenant, plugin, digest) DO UPDATE SET asks = excluded.asks,
        noticed = excluded.noticed, provenance = excluded.provenance";

impl Operation for Keep {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let version = &self.version;
        sql::query(KEEP)
            .bind(self.tenant.as_str())
            .bind(version.plugin.as_str())
            .bind(version.digest.as_bytes().as_slice())
            .bind(&version.kind)
            .bind(&version.version)
            .bind(version.component.as_bytes().as_slice())
            .bind(i64::try_from(version.component_bytes).unwrap_or(i64::MAX))
            .bind(&version.manifest)
            .bind(&version.settings)
            .bind(&self.asks)
            .bind(version.state.as_str())
            .bind(&version.reason)
            .bind(version.since.0)
            .bind(&version.by)
            .bind(version.noticed.0)
            .bind(&version.provenance)
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}

/// The rows of a purge, without the files.
pub(crate) struct Purge {
    pub(crate) tenant: TenantId,
    pub(crate) before: Millis,
}

/// A journal may be another tenant's: it keeps one version too many at most.
pub(crate) const PURGE: &str = "
    DELETE FROM versions WHERE tenant = $1 AND max(since, noticed) < $2
        AND NOT EXISTS (SELECT 1 FROM deployments AS d WHERE d.tenant = versions.tenant
            AND d.plugin = versions.plugin
            AND versions.digest IN (d.active, d.before, d.proven, d.canary, d.shadow, d.noticed))
        AND NOT EXISTS (SELECT 1 FROM journal AS j WHERE j.version = versions.digest)
        AND digest NOT IN (SELECT o.adapter FROM turns AS t INDEXED BY turns_open
            CROSS JOIN outbox AS o ON o.turn = t.seq WHERE t.state = 'open' AND o.adapter IS NOT NULL)";

impl Operation for Purge {
    type Output = usize;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize> {
        let purged = sql::query(PURGE)
            .bind(self.tenant.as_str())
            .bind(self.before.0)
            .execute(&mut *tx.connection)
            .await?;
        Ok(usize::try_from(purged).unwrap_or(usize::MAX))
    }
}
