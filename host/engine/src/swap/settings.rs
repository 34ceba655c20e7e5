//! The same versions under other settings: the active one again, with all that stands behind and beside it, and watched
//! as it was.

use chela_store::VersionState;
use chela_types::Digest;
use serde_json::json;
use std::sync::Arc;

use super::change::Change;
use super::edition::Edition;
use super::state::Plugged;
use super::work::{RECONFIGURED, Work};
use crate::error::Error;

impl Work<'_> {
    /// The active version again, and what stands behind and beside it.
    ///
    /// # Errors
    /// The active version refuses the settings.
    pub(super) async fn reconfigure(&self, change: &mut Change) -> Result<(), Error> {
        let old = change.plugged.clone();
        let (proposal, edition) = self.again(change.id(), old.active.digest()).await?;
        let earlier = Some(old.active.digest()).filter(|earlier| *earlier != proposal.digest);
        let mut next = Plugged::new(old.deployment.clone(), edition);
        next.draining.clone_from(&old.draining);
        next.refused.clone_from(&old.refused);
        next.deployment.active = Some(proposal.digest);
        next.deployment.since = self.below.clock.now();
        next.deployment.by.clone_from(&self.who.0);
        RECONFIGURED.1.clone_into(&mut next.deployment.why);
        change.plugged = next;
        self.activated(change, proposal, RECONFIGURED, earlier);
        let active = Arc::clone(&change.plugged.active);
        if old.active.release.is_withdrawn() {
            // It has been judged, and its rollback is under way.
            change.withdraw(&active);
        }
        let standby = self.standing_behind(change, old.standby.clone()).await;
        let on_trial = old.active.release.is_on_trial();
        self.stand_behind(change, standby, on_trial, old.watch_until);
        self.beside_again(change, &old).await;
        old.editions().for_each(|edition| change.end(edition));
        Ok(())
    }

    /// Canary and shadow again under other settings.
    async fn beside_again(&self, change: &mut Change, old: &Plugged) {
        change.plugged.deployment.canary = None;
        change.plugged.deployment.shadow = None;
        if let Some((canary, share)) = &old.canary
            && let Some((digest, edition)) = self.one_again(change, canary).await
        {
            let active = Arc::clone(&change.plugged.active);
            change.watch(&edition, Some(self.watching(&active, canary.release.is_on_trial())));
            change.plugged.deployment.canary = Some((digest, *share));
            change.plugged.canary = Some((edition, *share));
        }
        if let Some(shadow) = &old.shadow
            && let Some((digest, edition)) = self.one_again(change, shadow).await
        {
            change.plugged.deployment.shadow = Some(digest);
            change.plugged.shadow = Some(edition);
        }
    }

    async fn one_again(&self, change: &mut Change, edition: &Edition) -> Option<(Digest, Arc<Edition>)> {
        let id = change.id().clone();
        match self.again(&id, edition.digest()).await {
            Ok((proposal, edition)) => {
                let digest = proposal.digest;
                change.keep(proposal, VersionState::Ready, "");
                Some((digest, edition))
            }
            Err(error) => {
                let why = format!("it cannot run under the new settings: {error}");
                let version = (edition.digest(), &*edition.release.version);
                change.event(self.happened(&id, version, ("stopped", &why), json!({})));
                None
            }
        }
    }
}
