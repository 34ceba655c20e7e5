//! What operators order, and what the watch sends back.

use chela_sandbox::PluginKind;
use chela_store::{Deployment, Version, VersionState};
use chela_types::{Digest, PluginId};
use serde_json::{Value, json};
use std::sync::Arc;

use super::edition::{Edition, asks, more};
use super::fleet::{Fleet, Plugged, watching};
use super::refused::SwapRefused;
use super::release::Verdict;
use super::reload::refresh;
use super::status::{Candidate, Order, Who};
use super::work::{ORDERED, Proposal, ROLLED_BACK, VERSIONS_MAX, Work, is_lower};
use crate::error::Error;

/// Digits of a digest that name a version at least.
const DIGITS_MIN: usize = 4;

/// Carries an order out.
pub(super) async fn order(fleet: &Fleet, id: &PluginId, order: Order, who: &Who) -> Result<(), Error> {
    let (_right, mut state) = fleet.change().await;
    refresh(fleet, &mut state).await?;
    let config = Arc::clone(&state.config);
    let work = Work::of(fleet, &config, who);
    let standing = state.plugins.get(id).ok_or_else(|| SwapRefused::NoPlugin(id.to_string()))?;
    let next = match order {
        Order::Shadow { candidate } => work.shadow(standing, &candidate).await?,
        Order::Stop => work.stop(standing, ("stopped", "")).await?,
        Order::Canary { percent: 0, .. } => work.no_canary(standing, Vec::new(), ("stopped", "")).await?,
        Order::Canary { candidate, percent, approve } => {
            work.canary(standing, &candidate, (percent, approve)).await?
        }
        Order::Promote { candidate, approve, downgrade, unproven } => {
            let allowed = Allowed { approve, downgrade, unproven };
            work.promote(standing, &candidate, allowed).await?
        }
        Order::Rollback { why } => work.roll_back(standing, &why).await?,
    };
    state.plugins.insert(id.clone(), next);
    fleet.stand(state)
}

/// What an operator says beforehand that he means.
struct Allowed {
    approve: bool,
    downgrade: bool,
    unproven: bool,
}

impl Work<'_> {
    /// The version that an order means, under the settings that hold now.
    async fn candidate(&self, standing: &Plugged, candidate: &Candidate) -> Result<Proposal, Error> {
        let id = &standing.deployment.plugin;
        let settled = self.settled(id)?;
        if let Some(digits) = &candidate.digest {
            let version = self.named(id, digits).await?;
            return Ok(Proposal::new(id, self.kept_build(id, &version).await?, settled));
        }
        if let Some(folder) = &candidate.folder {
            let build = self.below.sandbox.read(id, chela_sandbox::Source::Folder(folder.clone())).await?;
            return Ok(Proposal::new(id, build, settled));
        }
        let beside = standing.canary.as_ref().map(|(edition, _)| edition).or(standing.shadow.as_ref());
        let noticed = beside.map(|edition| edition.digest());
        if let Some(digest) = noticed
            && let Some(version) = self.below.store.version(&self.config.tenant, id, digest).await?
        {
            return Ok(Proposal::new(id, self.kept_build(id, &version).await?, settled));
        }
        let build = self.below.sandbox.read(id, self.source(id)?).await?;
        if build.digest() == standing.active.build {
            return Err(SwapRefused::NothingNew { plugin: id.clone() }.into());
        }
        Ok(Proposal::new(id, build, settled))
    }

    async fn named(&self, id: &PluginId, digits: &str) -> Result<Version, Error> {
        let digest = digits.to_ascii_lowercase();
        let versions = self.below.store.versions(&self.config.tenant, Some(id), VERSIONS_MAX).await?;
        let mut found =
            versions.into_iter().filter(|version| version.digest.to_string().starts_with(&digest));
        let plugin = id.clone();
        match (found.next(), found.next()) {
            (Some(one), None) if digest.len() >= DIGITS_MIN => Ok(one),
            (Some(_), _) => Err(SwapRefused::Ambiguous { plugin, digest }.into()),
            (None, _) => Err(SwapRefused::NoVersion { plugin, digest }.into()),
        }
    }

    /// The version that an order means, loaded and kept; not the active one.
    async fn prepared(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
    ) -> Result<(Proposal, Arc<Edition>), Error> {
        let proposal = self.candidate(standing, candidate).await?;
        if proposal.digest == standing.active.digest() {
            let (plugin, digest) = (proposal.id, proposal.digest.short());
            return Err(SwapRefused::Active { plugin, digest }.into());
        }
        let edition = match standing.loaded(proposal.digest) {
            Some(edition) => Arc::clone(edition),
            None => self.load(&proposal).await?,
        };
        let known = self.below.store.version(&self.config.tenant, &proposal.id, proposal.digest).await?;
        if known.is_none() {
            self.keep(&proposal, (VersionState::Ready, ""), Vec::new()).await?;
        }
        Ok((proposal, edition))
    }

    async fn shadow(&self, standing: &Plugged, candidate: &Candidate) -> Result<Plugged, Error> {
        if standing.active.kind == PluginKind::Channel {
            return Err(SwapRefused::NoShadow { plugin: standing.deployment.plugin.clone() }.into());
        }
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        let next = Deployment { shadow: Some(proposal.digest), ..standing.deployment.clone() };
        let written = self.noted(next, &proposal, None, ("shadow", json!({}))).await?;
        let mut plugged = Plugged { deployment: written, ..standing.clone() };
        plugged.shadow = Some(edition);
        Ok(plugged)
    }

    async fn canary(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
        (percent, approve): (u8, bool),
    ) -> Result<Plugged, Error> {
        if percent > 100 {
            return Err(SwapRefused::Percent(percent).into());
        }
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        self.approved(standing, &proposal, approve)?;
        let next = Deployment { canary: Some((proposal.digest, percent)), ..standing.deployment.clone() };
        let what = ("canary", json!({ "percent": percent }));
        let written = self.noted(next, &proposal, Some(VersionState::Ready), what).await?;
        let mut plugged = Plugged { deployment: written, ..standing.clone() };
        let is_new = plugged.canary.as_ref().is_none_or(|(it, _)| it.digest() != edition.digest());
        if is_new {
            edition.release.watch(Some(watching(self.tell, &standing.active, self.config, true)));
        }
        plugged.canary = Some((edition, percent));
        Ok(plugged)
    }

    /// Writes down what runs beside the active version, and since when and by whom. Why it waited or was sent back
    /// still holds when it has ended.
    async fn noted(
        &self,
        next: Deployment,
        proposal: &Proposal,
        state: Option<VersionState>,
        (what, detail): (&str, Value),
    ) -> Result<Deployment, Error> {
        let Proposal { id, digest, build, .. } = proposal;
        let store = &self.below.store;
        if let Some(known) = store.version(&self.config.tenant, id, *digest).await? {
            let state = state.unwrap_or(known.state);
            let (since, by) = (self.below.clock.now(), self.who.0.clone());
            store
                .keep_version(&self.config.tenant, Version { state, since, by, ..known }, Vec::new())
                .await?;
        }
        let happened = self.happened(id, (*digest, &build.manifest.version), (what, ""), detail);
        Ok(store.deploy(self.beside(next, Vec::new(), vec![happened])).await?)
    }

    fn approved(&self, standing: &Plugged, proposal: &Proposal, approve: bool) -> Result<(), Error> {
        let asked = more(&asks(&proposal.build), &standing.active.asks);
        match asked.is_empty() || approve {
            true => Ok(()),
            false => Err(SwapRefused::AsksMore { plugin: proposal.id.clone(), asked }.into()),
        }
    }

    async fn promote(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
        allowed: Allowed,
    ) -> Result<Plugged, Error> {
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        self.approved(standing, &proposal, allowed.approve)?;
        let (from, to) = (&standing.active.release.version, &proposal.build.manifest.version);
        if is_lower(to, from) && !allowed.downgrade {
            let (from, to) = (from.clone(), to.clone());
            return Err(SwapRefused::Downgrade { plugin: proposal.id.clone(), from, to }.into());
        }
        if !allowed.unproven {
            self.proven(&proposal, &edition)?;
        }
        let written = self.activate(&standing.deployment, &proposal, ORDERED).await?;
        // A canary that has served its share has had its trial.
        let is_tried = standing.canary.as_ref().is_some_and(|(it, _)| {
            it.digest() == edition.digest()
                && !edition.release.is_on_trial()
                && !edition.release.is_withdrawn()
        });
        edition.release.watch(None);
        edition.release.reinstate();
        Ok(self.replace(standing, edition, written, !is_tried))
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

    /// Ends what runs beside the active version.
    async fn stop(&self, standing: &Plugged, what: (&str, &str)) -> Result<Plugged, Error> {
        let next = Deployment { canary: None, shadow: None, ..standing.deployment.clone() };
        self.end(standing, (next, Vec::new()), what).await
    }

    /// Ends the canary; a shadow beside it stays.
    async fn no_canary(
        &self,
        standing: &Plugged,
        states: Vec<(Digest, VersionState, String)>,
        what: (&str, &str),
    ) -> Result<Plugged, Error> {
        let next = Deployment { canary: None, ..standing.deployment.clone() };
        self.end(standing, (next, states), what).await
    }

    /// Writes down that what is beside the active version and not named any more has ended.
    async fn end(
        &self,
        standing: &Plugged,
        (next, states): (Deployment, Vec<(Digest, VersionState, String)>),
        what: (&str, &str),
    ) -> Result<Plugged, Error> {
        let id = &standing.deployment.plugin;
        let mut plugged = standing.clone();
        let canary = plugged.canary.take_if(|_| next.canary.is_none()).map(|(edition, _)| edition);
        let shadow = plugged.shadow.take_if(|_| next.shadow.is_none());
        let ended: Vec<Arc<Edition>> = canary.into_iter().chain(shadow).collect();
        let happened = ended
            .iter()
            .map(|it| self.happened(id, (it.digest(), &it.release.version), what, json!({})))
            .collect();
        plugged.deployment = self.below.store.deploy(self.beside(next, states, happened)).await?;
        for edition in ended.iter().filter(|it| it.digest() != standing.active.digest()) {
            edition.release.watch(None);
            plugged.drain(edition);
        }
        Ok(plugged)
    }

    /// Goes back: from a canary or a shadow to none, else from the active version to the one before.
    async fn roll_back(&self, standing: &Plugged, why: &str) -> Result<Plugged, Error> {
        if standing.canary.is_some() || standing.shadow.is_some() {
            return self.stop(standing, ("rolled back", why)).await;
        }
        self.back(standing, (VersionState::Retired, why)).await
    }

    async fn back(&self, standing: &Plugged, (state, why): (VersionState, &str)) -> Result<Plugged, Error> {
        let id = &standing.deployment.plugin;
        let no_before = || Error::from(SwapRefused::NoBefore { plugin: id.clone() });
        let digest = standing.deployment.before.ok_or_else(no_before)?;
        let version = self.below.store.version(&self.config.tenant, id, digest).await?;
        let build = self.kept_build(id, &version.ok_or_else(no_before)?).await?;
        let proposal = Proposal::new(id, build, self.settled(id)?);
        let edition = match standing.loaded(proposal.digest) {
            Some(edition) => Arc::clone(edition),
            None => self.load(&proposal).await?,
        };
        self.keep(&proposal, (VersionState::Ready, ""), Vec::new()).await?;
        let left = standing.active.digest();
        let reason = format!("{ROLLED_BACK}{why}");
        let states = vec![(proposal.digest, VersionState::Ready, String::new()), (left, state, reason)];
        let detail = json!({ "from": left });
        let version = (proposal.digest, &*edition.release.version);
        let happened = self.happened(id, version, ("rolled back", why), detail);
        let next = Deployment {
            active: Some(proposal.digest),
            before: None,
            canary: None,
            shadow: None,
            why: why.to_owned(),
            ..standing.deployment.clone()
        };
        let written = self.below.store.deploy(self.now(next, states, vec![happened])).await?;
        self.observe(id, proposal.digest).await;
        edition.release.watch(None);
        edition.release.reinstate();
        let mut plugged = Plugged::new(written, edition);
        plugged.draining = standing.draining.clone();
        let active = plugged.active.digest();
        for other in standing.editions().filter(|it| it.digest() != active) {
            other.release.watch(None);
            plugged.drain(other);
        }
        Ok(plugged)
    }
}

/// A version that the watch has judged goes: the one before serves again, or the canary ends.
pub(super) async fn withdraw(fleet: &Fleet, verdict: &Verdict) -> Result<(), Error> {
    let who = Who::watch();
    let (_right, mut state) = fleet.change().await;
    refresh(fleet, &mut state).await?;
    let config = Arc::clone(&state.config);
    let work = Work::of(fleet, &config, &who);
    let Some(standing) = state.plugins.get(&verdict.plugin) else { return Ok(()) };
    let is_canary = standing.canary.as_ref().is_some_and(|(it, _)| it.digest() == verdict.digest);
    let next = if is_canary {
        let refused = (verdict.digest, VersionState::Refused, format!("{ROLLED_BACK}{}", verdict.why));
        work.no_canary(standing, vec![refused], ("rolled back", &verdict.why)).await?
    } else if standing.active.digest() == verdict.digest {
        work.back(standing, (VersionState::Refused, &verdict.why)).await?
    } else {
        return Ok(()); // somebody was quicker
    };
    state.plugins.insert(verdict.plugin.clone(), next);
    fleet.stand(state)
}
