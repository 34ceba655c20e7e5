//! What is written down serves, whoever has written it: another node, or this one without having heard that the disk
//! had taken it.

use chela_store::{Deployment, VersionState};
use chela_types::Digest;
use std::sync::Arc;

use super::change::Change;
use super::edition::Edition;
use super::state::Plugged;
use super::work::{Proposal, RECONFIGURED, Work};

impl Work<'_> {
    /// Makes a plugin as it is written down; what cannot be loaded is left as it is.
    pub(super) async fn follow(&self, change: &mut Change) {
        let old = change.plugged.clone();
        let Deployment { active, canary, shadow, .. } = old.deployment.clone();
        if let Some(written) = active.filter(|written| *written != old.active.digest()) {
            match self.again(change.id(), written).await {
                Ok(found) => self.follow_active(change, &old, written, found).await,
                Err(error) => {
                    let (plugin, version) = (change.id(), written.short());
                    tracing::warn!(%plugin, version, %error, "what is written down to serve cannot be loaded");
                    return;
                }
            }
        }
        let serves = change.plugged.canary.as_ref().map(|(edition, share)| (edition.digest(), *share));
        if serves != canary {
            self.follow_canary(change, canary).await;
        }
        if change.plugged.shadow.as_ref().map(|edition| edition.digest()) != shadow {
            if let Some(ended) = change.plugged.shadow.take() {
                change.end(&ended);
            }
            change.plugged.shadow = match shadow {
                Some(digest) => self.one_of(change, digest).await,
                None => None,
            };
            change.plugged.deployment.shadow = change.plugged.shadow.as_ref().map(|it| it.digest());
        }
    }

    async fn follow_active(
        &self,
        change: &mut Change,
        old: &Plugged,
        written: Digest,
        (proposal, edition): (Proposal, Arc<Edition>),
    ) {
        let behind = if old.is_proven() { Some(&old.active) } else { old.standby.as_ref() };
        let behind = behind.filter(|it| it.digest() != edition.digest()).cloned();
        let mut next = Plugged::new(old.deployment.clone(), edition);
        next.draining.clone_from(&old.draining);
        next.refused.clone_from(&old.refused);
        change.plugged = next;
        if proposal.digest != written {
            change.plugged.deployment.active = Some(proposal.digest);
            self.activated(change, proposal, RECONFIGURED, Some(written));
        }
        let standby = self.standing_behind(change, behind).await;
        self.leave(change, old, standby.as_ref());
        self.stand_behind(change, standby, true, None);
    }

    async fn follow_canary(&self, change: &mut Change, written: Option<(Digest, u8)>) {
        let serves = change.plugged.canary.take();
        if let (Some((edition, _)), Some((digest, share))) = (&serves, written)
            && edition.digest() == digest
        {
            change.plugged.canary = Some((Arc::clone(edition), share));
            return;
        }
        if let Some((ended, _)) = serves {
            change.end(&ended);
        }
        if let Some((digest, share)) = written
            && let Some(edition) = self.one_of(change, digest).await
        {
            let active = Arc::clone(&change.plugged.active);
            change.watch(&edition, Some(self.watching(&active, true)));
            change.plugged.canary = Some((edition, share));
        }
        let canary = change.plugged.canary.as_ref();
        change.plugged.deployment.canary = canary.map(|(edition, share)| (edition.digest(), *share));
    }

    /// A version that is written down beside the active one.
    pub(super) async fn one_of(&self, change: &mut Change, digest: Digest) -> Option<Arc<Edition>> {
        let id = change.id().clone();
        match self.again(&id, digest).await {
            Ok((proposal, edition)) => {
                change.keep(proposal, VersionState::Ready, "");
                Some(edition)
            }
            Err(error) => {
                tracing::warn!(plugin = %id, version = %digest.short(), %error, "a version beside the active one cannot be loaded");
                None
            }
        }
    }
}
