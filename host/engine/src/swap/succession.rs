//! Which version takes the active one's place, and which one stands behind it.
//!
//! Behind a new version stands the last one that has shown that it works (decision 0014): it takes over where the new
//! one fails. One that is on trial itself, or was withdrawn, is passed over: two bad versions one after the other fall
//! back to the good one before both.

use chela_store::{Deployment, VersionState};
use chela_types::Digest;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

use super::change::Change;
use super::edition::Edition;
use super::fleet::watching;
use super::refused::SwapRefused;
use super::release::Watch;
use super::state::Plugged;
use super::work::{Cause, FIRST, ORDERED, Proposal, ROLLED_BACK, Work};
use crate::error::Error;

/// What ended with the version beside which it ran.
const ENDED: &str = "another version became the active one";

impl Work<'_> {
    /// The first version of a plugin.
    pub(super) fn first(&self, proposal: Proposal, edition: Arc<Edition>) -> Change {
        let none = Deployment {
            plugin: proposal.id.clone(),
            revision: 0,
            active: Some(proposal.digest),
            before: None,
            proven: None,
            canary: None,
            shadow: None,
            noticed: Some(proposal.digest),
            since: self.below.clock.now(),
            by: self.who.0.clone(),
            why: FIRST.1.to_owned(),
        };
        let mut change = Change::first(Plugged::new(none, edition));
        self.activated(&mut change, proposal, FIRST, None);
        change
    }

    /// What the folder holds takes the place of an active version that is lost.
    pub(super) fn restored(
        &self,
        lost: Deployment,
        proposal: Proposal,
        edition: Arc<Edition>,
        cause: Cause,
    ) -> Change {
        let earlier = lost.active.filter(|earlier| *earlier != proposal.digest);
        let mut change = Change::of(Plugged::new(lost, edition));
        let active = Some(proposal.digest);
        let written = &mut change.plugged.deployment;
        (written.active, written.noticed) = (active, active);
        (written.before, written.canary, written.shadow) = (earlier, None, None);
        self.activated(&mut change, proposal, cause, earlier);
        change
    }

    /// A version takes the active one's place; one that has had its trial, as a canary, has no other.
    pub(super) async fn succeed(
        &self,
        change: &mut Change,
        (proposal, edition): (Proposal, Arc<Edition>),
        cause: Cause,
        is_tried: bool,
    ) -> Result<(), Error> {
        let digest = proposal.digest;
        let old = change.plugged.clone();
        let earlier = old.deployment.active.filter(|earlier| *earlier != digest);
        let is_proven = old.is_proven() && !change.puts_on_trial(&old.active);
        let behind = if is_proven { Some(&old.active) } else { old.standby.as_ref() };
        let behind = behind.filter(|behind| behind.digest() != digest).cloned();
        let mut next = Plugged::new(
            Deployment {
                active: Some(digest),
                before: earlier,
                proven: if is_proven { earlier } else { old.deployment.proven }.filter(|it| *it != digest),
                canary: None,
                shadow: None,
                // An order may take what is in no folder: what was seen in the plugin's own stays seen.
                noticed: if cause == ORDERED { old.deployment.noticed } else { Some(digest) },
                since: self.below.clock.now(),
                by: self.who.0.clone(),
                why: cause.1.to_owned(),
                ..old.deployment.clone()
            },
            edition,
        );
        next.draining.clone_from(&old.draining);
        change.plugged = next;
        self.activated(change, proposal, cause, earlier);
        let active = Arc::clone(&change.plugged.active);
        change.watch(&active, None);
        change.reinstate(&active);
        let standby = self.standing_behind(change, behind).await;
        self.leave(change, &old, standby.as_ref());
        self.stand_behind(change, standby, !is_tried, None);
        Ok(())
    }

    /// What every new active version has written of it.
    pub(super) fn activated(
        &self,
        change: &mut Change,
        proposal: Proposal,
        (what, why): Cause,
        earlier: Option<Digest>,
    ) {
        let Proposal { id, digest, build, .. } = &proposal;
        let version = (*digest, &*build.manifest.version);
        let happened = self.happened(id, version, (what, why), json!({ "before": earlier }));
        change.event(happened);
        change.state(*digest, VersionState::Ready, String::new());
        if let Some(earlier) = earlier {
            let why = format!("{} took its place", digest.short());
            change.state(earlier, VersionState::Retired, why);
        }
        change.keep(proposal, VersionState::Ready, "");
        change.counts_as(what);
    }

    /// The version that is to take over, under the settings of the one that it takes over from: what the operator has
    /// taken from a plugin, no version before gets back.
    pub(super) async fn standing_behind(
        &self,
        change: &mut Change,
        behind: Option<Arc<Edition>>,
    ) -> Option<Arc<Edition>> {
        let behind = behind.filter(|_| !self.config.swap.watch.is_zero())?;
        if self.is_current(&behind) {
            return Some(behind);
        }
        let id = change.id().clone();
        match self.again(&id, behind.digest()).await {
            Ok((proposal, edition)) => {
                change.plugged.deployment.proven = Some(proposal.digest);
                change.keep(proposal, VersionState::Retired, "");
                Some(edition)
            }
            Err(error) => {
                let version = behind.digest().short();
                tracing::warn!(plugin = %id, version, %error, "no version before can take over under the new settings");
                None
            }
        }
    }

    /// What served and serves no more, but for the one that stands behind.
    pub(super) fn leave(&self, change: &mut Change, old: &Plugged, standby: Option<&Arc<Edition>>) {
        let stays = [Some(&change.plugged.active), standby];
        let stays: Vec<Digest> = stays.into_iter().flatten().map(|it| it.digest()).collect();
        for edition in old.editions() {
            let is_new = Arc::ptr_eq(edition, &change.plugged.active);
            let is_behind = standby.is_some_and(|standby| Arc::ptr_eq(standby, edition));
            if is_new || is_behind {
                continue;
            }
            change.watch(edition, None);
            if !stays.contains(&edition.digest()) {
                change.plugged.drain(edition);
            }
        }
        let active = change.plugged.active.digest();
        let beside = old.canary.iter().map(|(edition, _)| edition).chain(&old.shadow);
        for edition in beside.filter(|it| it.digest() != active) {
            let version = (edition.digest(), &*edition.release.version);
            change.event(self.happened(change.id(), version, ("stopped", ENDED), json!({})));
        }
    }

    /// From then on the active version is held against another, which takes over where it fails.
    pub(super) fn stand_behind(
        &self,
        change: &mut Change,
        standby: Option<Arc<Edition>>,
        on_trial: bool,
        until: Option<Instant>,
    ) {
        let Some(standby) = standby else { return };
        let active = Arc::clone(&change.plugged.active);
        change.watch(&standby, None);
        change.watch(&active, Some(self.watching(&standby, on_trial)));
        change.plugged.watch_until = until.or_else(|| Instant::now().checked_add(self.config.swap.watch));
        change.plugged.standby = Some(standby);
    }

    pub(super) fn watching(&self, against: &Arc<Edition>, on_trial: bool) -> Watch {
        watching(self.tell, against, self.config, on_trial)
    }

    /// Goes back to a version: to the one before if it is ordered, to the proven one if the watch has judged.
    pub(super) async fn back(
        &self,
        change: &mut Change,
        to: Option<Digest>,
        (state, why): (VersionState, &str),
    ) -> Result<(), Error> {
        let id = change.id().clone();
        let to = to.ok_or_else(|| SwapRefused::NoBefore { plugin: id.clone() })?;
        let old = change.plugged.clone();
        let (proposal, edition) = match old.loaded(to).filter(|it| self.is_current(it)) {
            Some(edition) => {
                let version = self.below.store.version(&self.config.tenant, &id, to).await?;
                let version = version.ok_or_else(|| SwapRefused::NoBefore { plugin: id.clone() })?;
                let build = self.kept_build(&id, &version).await?;
                (self.proposal(&id, build)?, Arc::clone(edition))
            }
            None => self.again(&id, to).await?,
        };
        let behind = old.standby.as_ref().filter(|behind| behind.digest() != edition.digest()).cloned();
        let version = (proposal.digest, &*proposal.build.manifest.version);
        let left = old.active.digest();
        let happened = self.happened(&id, version, ("rolled back", why), json!({ "from": left }));
        let mut next = Plugged::new(
            Deployment {
                active: Some(proposal.digest),
                before: None,
                proven: old.deployment.proven.filter(|it| *it != proposal.digest),
                canary: None,
                shadow: None,
                since: self.below.clock.now(),
                by: self.who.0.clone(),
                why: why.to_owned(),
                ..old.deployment.clone()
            },
            edition,
        );
        next.draining.clone_from(&old.draining);
        next.refused.clone_from(&old.refused);
        change.plugged = next;
        change.event(happened);
        change.state(left, state, format!("{ROLLED_BACK}{why}"));
        change.state(proposal.digest, VersionState::Ready, String::new());
        change.keep(proposal, VersionState::Ready, "");
        change.counts_as("rolled back");
        let active = Arc::clone(&change.plugged.active);
        change.watch(&active, None);
        change.reinstate(&active);
        let standby = self.standing_behind(change, behind).await;
        self.leave(change, &old, standby.as_ref());
        self.stand_behind(change, standby, true, None);
        Ok(())
    }
}
