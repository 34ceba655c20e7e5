//! The versions that serve one place (routing, one agent, one channel), and which of them a call goes to.

use chela_types::Digest;
use std::sync::Arc;

use super::release::{Doubt, Release, Running, Seen};

/// One version in one place.
#[derive(Debug)]
pub(crate) struct Post<T> {
    pub(crate) release: Arc<Release>,
    pub(crate) plugin: T,
}

impl<T: Clone> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self { release: Arc::clone(&self.release), plugin: self.plugin.clone() }
    }
}

/// The versions that serve one place.
#[derive(Debug, Clone)]
pub(crate) struct Lineup<T: Clone> {
    pub(crate) active: Post<T>,
    /// While the active one is new: what takes over where it fails.
    pub(crate) before: Option<Post<T>>,
    /// And its share of a hundred.
    pub(crate) canary: Option<(Post<T>, u8)>,
    pub(crate) shadow: Option<Post<T>>,
}

/// The version that a call goes to.
#[derive(Debug)]
pub(crate) struct Chosen<T> {
    pub(crate) plugin: T,
    running: Running,
    fallback: Option<Post<T>>,
    /// It took over where a newer version failed.
    rescues: bool,
    /// What a newer version made of the same call, if it counts against it only where this one does better.
    doubt: Option<Doubt>,
}

impl<T: Clone> Lineup<T> {
    /// The version for a call. `share` is of the conversation, and the same for all its calls.
    pub(crate) fn choose(&self, share: Share) -> Chosen<T> {
        let sound = |post: &&Post<T>| !post.release.is_withdrawn();
        if let Some((canary, percent)) = &self.canary
            && share.is_within(&canary.release, *percent)
            && sound(&canary)
            && let Some(running) = canary.release.enter(share.asked)
        {
            return Chosen::new(canary, running, self.behind(canary));
        }
        let Some(before) = self.before.as_ref().filter(sound) else {
            return Chosen::new(&self.active, self.active.release.enter_anyway(), None);
        };
        if sound(&&self.active)
            && let Some(running) = self.active.release.enter(share.asked)
        {
            return Chosen::new(&self.active, running, Some(before));
        }
        Chosen::new(before, before.release.enter_anyway(), None)
    }

    /// What takes over where a version fails: the one before, while the active one is watched, else the active one. There
    /// is none behind itself, and none behind the version before.
    fn behind(&self, post: &Post<T>) -> Option<&Post<T>> {
        let known = self.before.as_ref().filter(|before| !before.release.is_withdrawn());
        let known = known.unwrap_or(&self.active);
        (known.release.digest != post.release.digest).then_some(known)
    }

    fn post(&self, digest: Digest) -> Option<&Post<T>> {
        std::iter::once(&self.active)
            .chain(&self.before)
            .chain(self.canary.as_ref().map(|(post, _)| post))
            .chain(&self.shadow)
            .find(|post| post.release.digest == digest)
    }

    /// A call for the version that an earlier run began with, if it serves here: whoever has met it ends with it, with or
    /// without a slot of its trial. If it was withdrawn, the version that would take over serves.
    pub(crate) fn pinned(&self, digest: Digest, asked: &'static str) -> Option<Chosen<T>> {
        let post = self.post(digest)?;
        let Some(behind) = self.behind(post) else {
            return Some(Chosen::new(post, post.release.enter_anyway(), None));
        };
        if post.release.is_withdrawn() {
            return Some(Chosen::new(behind, behind.release.enter_anyway(), None));
        }
        let running = post.release.enter(asked).unwrap_or_else(|| post.release.enter_anyway());
        Some(Chosen::new(post, running, Some(behind)))
    }

    /// A call for a version that was loaded again for it; should it fail, one that serves takes over.
    pub(crate) fn recalled(&self, post: &Post<T>) -> Chosen<T> {
        Chosen::new(post, post.release.enter_anyway(), self.behind(post))
    }

    /// A call that only this version can go on with, if it serves here.
    pub(crate) fn bound(&self, digest: Digest) -> Option<Chosen<T>> {
        self.post(digest).map(Chosen::bound)
    }
}

impl<T: Clone> Chosen<T> {
    fn new(post: &Post<T>, running: Running, fallback: Option<&Post<T>>) -> Self {
        let (plugin, fallback) = (post.plugin.clone(), fallback.cloned());
        Self { plugin, running, fallback, rescues: false, doubt: None }
    }

    /// A call that no other version can take over.
    pub(crate) fn bound(post: &Post<T>) -> Self {
        Self::new(post, post.release.enter_anyway(), None)
    }

    /// From now on no other version can take it over.
    pub(crate) fn alone(self) -> Self {
        Self { fallback: None, ..self }
    }

    pub(crate) fn release(&self) -> &Arc<Release> {
        self.running.release()
    }

    /// What would take over.
    pub(crate) fn before(&self) -> Option<&T> {
        self.fallback.as_ref().map(|post| &post.plugin)
    }

    /// The call has ended, and what it did counts.
    pub(crate) fn end(self, seen: Seen<'_>) {
        if let Some(doubt) = self.doubt {
            doubt.end(matches!(seen, Seen::Good(_)));
        }
        self.running.end(seen);
    }

    /// It does no better than the version whose call it does once more.
    pub(crate) fn likewise(mut self) -> Self {
        if let Some(doubt) = self.doubt.take() {
            doubt.end(false);
        }
        self
    }

    /// The call failed by the version's fault; the version that takes over, if there is one.
    pub(crate) fn failed(self, kind: &'static str) -> Option<Self> {
        let Self { running, fallback, rescues, .. } = self.likewise();
        if fallback.is_some() {
            running.count_rescue();
        }
        if rescues {
            // A newer version failed, and this one, too: nobody is left to answer.
            metrics::counter!("swap_lost_total", "plugin" => running.release().plugin.to_string())
                .increment(1);
        }
        running.end(Seen::Bad(kind));
        fallback.map(|post| Self { rescues: true, ..Self::bound(&post) })
    }

    /// The version before does the call once more, if there is one; what it says of this version turns on whether that
    /// one does better.
    pub(crate) fn doubted(self, if_better: Seen<'static>, otherwise: Seen<'static>) -> Option<Self> {
        let Self { running, fallback, .. } = self.likewise();
        let post = fallback?;
        Some(Self { doubt: Some(running.doubt(if_better, otherwise)), ..Self::bound(&post) })
    }
}

/// What is asked, and what says whether a canary gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a> {
    /// As in [`Went`](super::health::Went).
    pub(crate) asked: &'static str,
    /// Whose conversation it is.
    pub(crate) of: &'a [u8],
}

impl Share<'_> {
    /// The same conversations, however often it is asked, and the more the higher the percentage; other ones for each
    /// plugin, so that nobody is in every canary.
    fn is_within(self, release: &Release, percent: u8) -> bool {
        let digest = Digest::of("chela canary share", &[release.plugin.as_str().as_bytes(), self.of]);
        let [a, b, c, d, ..] = *digest.as_bytes();
        u32::from_le_bytes([a, b, c, d]) % 100 < u32::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SwapConfig;
    use crate::swap::health::Went;
    use crate::swap::release::{Verdict, Watch};
    use chela_types::PluginId;

    fn post(byte: u8) -> Post<u8> {
        let digest = Digest::from_bytes([byte; 32]);
        let release = Release::new(PluginId::new("p").unwrap(), digest, "1.0.0".to_owned());
        Post { release: Arc::new(release), plugin: byte }
    }

    fn lineup() -> Lineup<u8> {
        Lineup { active: post(1), before: None, canary: None, shadow: None }
    }

    fn within(lineup: &Lineup<u8>) -> Vec<u32> {
        (0_u32..1_000).filter(|n| lineup.choose(share(&n.to_le_bytes())).plugin == 2).collect()
    }

    #[test]
    fn a_canary_has_a_stable_share_that_grows() {
        let canary = |percent| Lineup { canary: Some((post(2), percent)), ..lineup() };
        let (five, twenty) = (within(&canary(5)), within(&canary(20)));
        assert!((20..80).contains(&five.len()) && (140..260).contains(&twenty.len()));
        assert!(five.iter().all(|n| twenty.contains(n)), "who is in it stays");
        assert_eq!(within(&canary(20)), twenty);
        assert!(within(&canary(0)).is_empty());
        assert_eq!(within(&canary(100)).len(), 1_000);
    }

    fn share(of: &[u8]) -> Share<'_> {
        Share { asked: "answer", of }
    }

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    /// Version 2 on trial, and version 1 before it.
    fn on_trial() -> (Lineup<u8>, tokio::sync::mpsc::UnboundedReceiver<Verdict>) {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let lineup = Lineup { active: post(2), before: Some(post(1)), ..lineup() };
        let against = Arc::clone(&lineup.before.as_ref().unwrap().release);
        let watch = Watch { against, bounds: SwapConfig::STANDARD, on_trial: true, tell };
        lineup.active.release.watch(Some(watch));
        (lineup, told)
    }

    const WELL: Seen<'static> = Seen::Good(Went { asked: "answer", to: "reply" });

    fn waited(chosen: Chosen<u8>) -> Option<Chosen<u8>> {
        chosen.doubted(Seen::Bad("waiting"), Seen::Nothing)
    }

    #[test]
    fn what_a_version_did_not_get_done_is_its_fault_only_if_the_one_before_does_it() {
        let (lineup, mut told) = on_trial();
        for _ in 0..40 {
            // Nobody gets an answer of the model: that is nobody's fault here.
            let before = waited(lineup.pinned(digest(2), "answer").unwrap()).unwrap();
            assert_eq!(before.plugin, 1);
            assert!(waited(before).is_none(), "there is no third");
        }
        assert!(told.try_recv().is_err() && !lineup.active.release.is_withdrawn());
        for _ in 0..3 {
            waited(lineup.choose(share(b"c"))).unwrap().likewise().end(WELL);
        }
        assert!(told.try_recv().is_err(), "the one before did no better");
        for _ in 0..3 {
            waited(lineup.choose(share(b"c"))).unwrap().end(WELL);
        }
        assert!(told.try_recv().unwrap().why.contains("waiting 3"));
    }

    #[test]
    fn a_pinned_call_takes_a_slot_of_the_trial_if_there_is_one_and_has_a_version_before() {
        let (lineup, _told) = on_trial();
        let calls: Vec<_> = (0..100).map(|_| lineup.pinned(digest(2), "answer").unwrap()).collect();
        assert!(calls.iter().all(|call| call.plugin == 2), "it was begun with that version");
        assert_eq!(lineup.choose(share(b"c")).plugin, 1, "there is no slot left for a new one");
        for call in calls {
            assert_eq!(call.failed("trap").unwrap().plugin, 1);
        }
    }

    #[test]
    fn what_only_one_version_can_go_on_with_is_taken_over_by_none() {
        let (lineup, _told) = on_trial();
        assert!(lineup.bound(digest(2)).unwrap().failed("trap").is_none());
        assert!(Chosen::bound(&post(3)).failed("trap").is_none());
        assert!(lineup.bound(digest(3)).is_none());
    }

    #[test]
    fn a_canary_is_taken_over_by_the_version_that_is_known_best() {
        let (mut lineup, _told) = on_trial();
        lineup.canary = Some((post(3), 100));
        assert_eq!(
            lineup.choose(share(b"c")).failed("trap").unwrap().plugin,
            1,
            "the active one is new itself"
        );
        lineup.before = None;
        assert_eq!(lineup.choose(share(b"c")).failed("trap").unwrap().plugin, 2);
    }

    #[test]
    fn what_fails_is_taken_over_by_the_version_before() {
        let (mut lineup, _told) = on_trial();
        let share = share(b"c");
        for _ in 0..3 {
            let chosen = lineup.choose(share);
            assert_eq!(chosen.plugin, 2);
            assert_eq!(chosen.failed("trap").unwrap().plugin, 1);
        }
        assert_eq!(lineup.choose(share).plugin, 1, "withdrawn");
        assert!(lineup.choose(share).failed("trap").is_none(), "the last one's failure is a failure");
        assert_eq!(
            lineup.pinned(digest(2), "answer").unwrap().plugin,
            1,
            "whoever began with it goes on with another"
        );
        assert_eq!(lineup.bound(digest(2)).unwrap().plugin, 2, "what only it can go on with stays with it");
        lineup.before = None;
        assert_eq!(lineup.choose(share).plugin, 2, "nothing else is there");
    }
}
