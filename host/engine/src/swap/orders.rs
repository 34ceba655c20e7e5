//! What operators order, and what the watch sends back.

use chela_sandbox::PluginKind;
use chela_store::{Happened, Version, VersionState};
use chela_types::{Digest, PluginId};
use serde_json::json;
use std::sync::Arc;

use super::change::Change;
use super::edition::{Edition, asks, more};
use super::refused::{SwapRefused, the_one};
use super::release::Verdict;
use super::state::Plugged;
use super::status::{Candidate, Order};
use super::work::{ORDERED, Proposal, ROLLED_BACK, Work, is_lower, is_passed_off};
use crate::error::Error;

/// What an operator says beforehand that he means.
struct Allowed {
    approve: bool,
    downgrade: bool,
    unproven: bool,
}

impl Work<'_> {
    /// What an order makes of a plugin.
    pub(super) async fn order(&self, change: &mut Change, order: &Order) -> Result<(), Error> {
        match order {
            Order::Shadow { candidate } => self.shadow(change, candidate).await,
            Order::Canary { percent: 0, .. } => {
                self.end_canary(change, ("stopped", ""));
                Ok(())
            }
            Order::Canary { candidate, percent, approve } => {
                self.canary(change, candidate, (*percent, *approve)).await
            }
            Order::Promote { candidate, approve, downgrade, unproven } => {
                let allowed = Allowed { approve: *approve, downgrade: *downgrade, unproven: *unproven };
                self.promote(change, candidate, allowed).await
            }
            Order::Rollback { why } if change.plugged.canary.is_some() => {
                self.end_canary(change, ("rolled back", why));
                Ok(())
            }
            Order::Rollback { why } => {
                let before = change.plugged.deployment.before;
                self.back(change, before, (VersionState::Retired, why)).await
            }
            Order::Stop => {
                self.end_canary(change, ("stopped", ""));
                self.end_shadow(change, ("stopped", ""));
                Ok(())
            }
        }
    }

    /// A version that the watch has judged goes: the proven one before it serves again, or the canary ends.
    pub(super) async fn send_back(&self, change: &mut Change, verdict: &Verdict) -> Result<(), Error> {
        let canary = change.plugged.canary.as_ref().map(|(edition, _)| edition.digest());
        if canary == Some(verdict.digest) {
            self.end_canary(change, ("rolled back", &verdict.why));
            let reason = format!("{ROLLED_BACK}{}", verdict.why);
            change.state(verdict.digest, VersionState::Refused, reason);
            return Ok(());
        }
        let active = change.plugged.active.digest();
        if active == verdict.digest || self.is_same_build(change.id(), active, verdict).await? {
            let proven = change.plugged.deployment.proven;
            self.back(change, proven, (VersionState::Refused, &verdict.why)).await?;
        }
        // Else somebody was quicker.
        Ok(())
    }

    /// Whether a version is the judged one under other settings.
    async fn is_same_build(&self, id: &PluginId, active: Digest, verdict: &Verdict) -> Result<bool, Error> {
        let store = &self.below.store;
        let judged = store.version(&self.config.tenant, id, verdict.digest).await?;
        let active = store.version(&self.config.tenant, id, active).await?;
        let build = |version: Version| (version.component, version.manifest);
        Ok(judged.map(build).zip(active.map(build)).is_some_and(|(judged, active)| judged == active))
    }

    /// The version that an order means, under the settings that hold now.
    async fn candidate(&self, standing: &Plugged, candidate: &Candidate) -> Result<Proposal, Error> {
        let id = &standing.deployment.plugin;
        if let Some(digits) = &candidate.digest {
            let version = self.named(id, digits).await?;
            return self.proposal(id, self.kept_build(id, &version).await?);
        }
        if let Some(folder) = &candidate.folder {
            let build = self.below.sandbox.read(id, chela_sandbox::Source::Folder(folder.clone())).await?;
            return self.proposal(id, build);
        }
        let beside = standing.canary.as_ref().map(|(edition, _)| edition).or(standing.shadow.as_ref());
        if let Some(digest) = beside.map(|edition| edition.digest())
            && let Some(version) = self.below.store.version(&self.config.tenant, id, digest).await?
        {
            return self.proposal(id, self.kept_build(id, &version).await?);
        }
        let build = self.below.sandbox.read(id, self.source(id)?).await?;
        if build.digest() == standing.active.build {
            return Err(SwapRefused::NothingNew { plugin: id.clone() }.into());
        }
        self.proposal(id, build)
    }

    async fn named(&self, id: &PluginId, digits: &str) -> Result<Version, Error> {
        let named = self.below.store.named_version(&self.config.tenant, id, digits).await?;
        Ok(the_one(named, id, digits)?)
    }

    /// The version that an order means; not the active one.
    async fn meant(&self, standing: &Plugged, candidate: &Candidate) -> Result<Proposal, Error> {
        let proposal = self.candidate(standing, candidate).await?;
        if proposal.digest == standing.active.digest() {
            let (plugin, digest) = (proposal.id, proposal.digest.short());
            return Err(SwapRefused::Active { plugin, digest }.into());
        }
        Ok(proposal)
    }

    /// The version, loaded: as it runs beside the active one, or anew. What stands behind the active version is not
    /// taken: it is what that one is held against.
    async fn loaded(&self, standing: &Plugged, proposal: &Proposal) -> Result<Arc<Edition>, Error> {
        let beside = standing.canary.as_ref().map(|(edition, _)| edition).into_iter().chain(&standing.shadow);
        let known = beside.into_iter().find(|edition| edition.digest() == proposal.digest);
        match known {
            Some(edition) => Ok(Arc::clone(edition)),
            None => self.load(proposal).await,
        }
    }

    async fn shadow(&self, change: &mut Change, candidate: &Candidate) -> Result<(), Error> {
        let standing = change.plugged.clone();
        if standing.active.kind == PluginKind::Channel {
            return Err(SwapRefused::NoShadow { plugin: change.id().clone() }.into());
        }
        let proposal = self.meant(&standing, candidate).await?;
        let edition = self.loaded(&standing, &proposal).await?;
        let other = standing.shadow.as_ref().is_some_and(|it| it.digest() != edition.digest());
        if other {
            self.end_shadow(change, ("stopped", "another one took its place"));
        }
        change.plugged.deployment.shadow = Some(proposal.digest);
        let happened = self.begun(&proposal, "shadow", json!({}));
        change.event(happened);
        self.stands(change, &proposal, None).await?;
        change.keep(proposal, VersionState::Ready, "");
        change.plugged.shadow = Some(edition);
        Ok(())
    }

    async fn canary(
        &self,
        change: &mut Change,
        candidate: &Candidate,
        (percent, approve): (u8, bool),
    ) -> Result<(), Error> {
        if percent > 100 {
            return Err(SwapRefused::Percent(percent).into());
        }
        let standing = change.plugged.clone();
        let proposal = self.meant(&standing, candidate).await?;
        approved(&standing, &proposal, approve)?;
        let edition = self.loaded(&standing, &proposal).await?;
        let runs = standing.canary.as_ref().map(|(it, _)| it.digest());
        if runs.is_some_and(|runs| runs != edition.digest()) {
            self.end_canary(change, ("stopped", "another one took its place"));
        }
        if runs != Some(edition.digest()) {
            change.watch(&edition, Some(self.watching(&standing.active, true)));
        }
        change.plugged.deployment.canary = Some((proposal.digest, percent));
        let happened = self.begun(&proposal, "canary", json!({ "percent": percent }));
        change.event(happened);
        self.stands(change, &proposal, Some(VersionState::Ready)).await?;
        change.keep(proposal, VersionState::Ready, "");
        change.plugged.canary = Some((edition, percent));
        Ok(())
    }

    fn begun(&self, proposal: &Proposal, what: &str, detail: serde_json::Value) -> Happened {
        let version = (proposal.digest, &*proposal.build.manifest.version);
        self.happened(&proposal.id, version, (what, ""), detail)
    }

    /// Whoever begins it and when is told of the version; why it waited or was sent back still holds when it has ended.
    async fn stands(
        &self,
        change: &mut Change,
        proposal: &Proposal,
        state: Option<VersionState>,
    ) -> Result<(), Error> {
        let Proposal { id, digest, .. } = proposal;
        let known = self.below.store.version(&self.config.tenant, id, *digest).await?;
        let (stood, reason) = known.map_or((VersionState::Ready, String::new()), |it| (it.state, it.reason));
        change.state(*digest, state.unwrap_or(stood), reason);
        Ok(())
    }

    async fn promote(
        &self,
        change: &mut Change,
        candidate: &Candidate,
        allowed: Allowed,
    ) -> Result<(), Error> {
        let standing = change.plugged.clone();
        let proposal = self.meant(&standing, candidate).await?;
        approved(&standing, &proposal, allowed.approve)?;
        let (from, to) = (&standing.active.release.version, &proposal.build.manifest.version);
        if is_lower(to, from) && !allowed.downgrade {
            let (from, to) = (from.clone(), to.clone());
            return Err(SwapRefused::Downgrade { plugin: proposal.id.clone(), from, to }.into());
        }
        let is_the_same = proposal.build.digest() == standing.active.build;
        if is_passed_off(self.config, to, from) && !is_the_same && !allowed.downgrade {
            let (plugin, version) = (proposal.id.clone(), to.clone());
            return Err(SwapRefused::SameVersion { plugin, version }.into());
        }
        let edition = self.loaded(&standing, &proposal).await?;
        if !allowed.unproven {
            self.proven(&proposal, &edition)?;
        }
        // A canary that has served its share has had its trial.
        let is_tried = standing.canary.as_ref().is_some_and(|(it, _)| {
            it.digest() == edition.digest()
                && !edition.release.is_on_trial()
                && !edition.release.is_withdrawn()
        });
        self.succeed(change, (proposal, edition), ORDERED, is_tried).await
    }

    fn proven(&self, proposal: &Proposal, edition: &Edition) -> Result<(), Error> {
        let needs = &self.config.swap.shadow;
        let (compared, percent) = edition.release.tally.differences();
        let plugin = proposal.id.clone();
        if compared < u64::from(needs.calls_min) {
            let why = format!("{compared} of {} calls were compared in shadow", needs.calls_min);
            return Err(SwapRefused::Unproven { plugin, why }.into());
        }
        if needs.calls_min > 0 && percent > f64::from(needs.differences_percent) {
            let why = format!("{percent:.1} % of them differ, at most {} % may", needs.differences_percent);
            return Err(SwapRefused::Unproven { plugin, why }.into());
        }
        Ok(())
    }

    fn end_canary(&self, change: &mut Change, what: (&str, &str)) {
        change.plugged.deployment.canary = None;
        if let Some((edition, _)) = change.plugged.canary.take() {
            self.ended(change, &edition, what);
        }
    }

    fn end_shadow(&self, change: &mut Change, what: (&str, &str)) {
        change.plugged.deployment.shadow = None;
        if let Some(edition) = change.plugged.shadow.take() {
            self.ended(change, &edition, what);
        }
    }

    fn ended(&self, change: &mut Change, edition: &Arc<Edition>, what: (&str, &str)) {
        let version = (edition.digest(), &*edition.release.version);
        change.event(self.happened(change.id(), version, what, json!({})));
        change.end(edition);
    }
}

fn approved(standing: &Plugged, proposal: &Proposal, approve: bool) -> Result<(), Error> {
    let asked = more(&asks(&proposal.build), &standing.active.asks);
    match asked.is_empty() || approve {
        true => Ok(()),
        false => Err(SwapRefused::AsksMore { plugin: proposal.id.clone(), asked }.into()),
    }
}
