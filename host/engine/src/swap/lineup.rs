//! The versions that serve one place (routing, one agent, one channel), and which of them a call goes to.

use chela_types::Digest;
use std::sync::Arc;

use super::release::{Release, Running, Seen};

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
}

impl<T: Clone> Lineup<T> {
    /// The version for a call. `share` is of the conversation, and the same for all its calls.
    pub(crate) fn choose(&self, share: Share) -> Chosen<T> {
        let sound = |post: &&Post<T>| !post.release.is_withdrawn();
        if let Some((canary, percent)) = &self.canary
            && share.is_within(&canary.release, *percent)
            && sound(&canary)
            && let Some(running) = canary.release.enter()
        {
            return Chosen::new(canary, running, Some(self.steady()));
        }
        let Some(before) = self.before.as_ref().filter(sound) else {
            return Chosen::new(&self.active, self.active.release.enter_anyway(), None);
        };
        if sound(&&self.active)
            && let Some(running) = self.active.release.enter()
        {
            return Chosen::new(&self.active, running, Some(before));
        }
        Chosen::new(before, before.release.enter_anyway(), None)
    }

    /// What serves everybody whom no canary gets.
    fn steady(&self) -> &Post<T> {
        match &self.before {
            Some(before) if self.active.release.is_withdrawn() => before,
            _ => &self.active,
        }
    }

    /// A version by its digest, if it serves here.
    pub(crate) fn pinned(&self, digest: Digest) -> Option<Chosen<T>> {
        let posts = std::iter::once(&self.active)
            .chain(&self.before)
            .chain(self.canary.as_ref().map(|(post, _)| post))
            .chain(&self.shadow);
        let post = posts.into_iter().find(|post| post.release.digest == digest)?;
        Some(self.of(post))
    }

    /// A call for a version that is given; should it fail, the active one takes over.
    pub(crate) fn of(&self, post: &Post<T>) -> Chosen<T> {
        let steady = self.steady();
        let fallback = (steady.release.digest != post.release.digest).then_some(steady);
        Chosen::new(post, post.release.enter_anyway(), fallback)
    }
}

impl<T: Clone> Chosen<T> {
    fn new(post: &Post<T>, running: Running, fallback: Option<&Post<T>>) -> Self {
        Self { plugin: post.plugin.clone(), running, fallback: fallback.cloned(), rescues: false }
    }

    pub(crate) fn release(&self) -> &Arc<Release> {
        self.running.release()
    }

    /// What would take over.
    pub(crate) fn before(&self) -> Option<T>
    where
        T: Clone,
    {
        self.fallback.as_ref().map(|post| post.plugin.clone())
    }

    /// The call has ended, and what it did counts.
    pub(crate) fn end(self, seen: Seen<'_>) {
        self.running.end(seen);
    }

    /// The call failed by the version's fault; the version that takes over, if there is one.
    pub(crate) fn failed(self, kind: &'static str) -> Option<Self> {
        let Self { running, fallback, rescues, .. } = self;
        if fallback.is_some() {
            running.is_rescued();
        }
        if rescues {
            // A newer version failed, and this one, too: nobody is left to answer.
            metrics::counter!("swap_lost_total", "plugin" => running.release().plugin.to_string())
                .increment(1);
        }
        running.end(Seen::Bad(kind));
        let post = fallback?;
        Some(Self {
            running: post.release.enter_anyway(),
            plugin: post.plugin,
            fallback: None,
            rescues: true,
        })
    }
}

/// What says whether a canary gets a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a>(pub(crate) &'a [u8]);

impl Share<'_> {
    /// The same conversations, however often it is asked, and the more the higher the percentage; other ones for each
    /// plugin, so that nobody is in every canary.
    fn is_within(self, release: &Release, percent: u8) -> bool {
        let digest = Digest::of("chela canary share", &[release.plugin.as_str().as_bytes(), self.0]);
        let [a, b, c, d, ..] = *digest.as_bytes();
        u32::from_le_bytes([a, b, c, d]) % 100 < u32::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SwapConfig;
    use crate::swap::release::Watch;
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
        (0_u32..1_000).filter(|n| lineup.choose(Share(&n.to_le_bytes())).plugin == 2).collect()
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

    #[test]
    fn what_fails_is_taken_over_by_the_version_before() {
        let (tell, _told) = tokio::sync::mpsc::unbounded_channel();
        let mut lineup = Lineup { active: post(2), before: Some(post(1)), ..lineup() };
        let against = Arc::clone(&lineup.before.as_ref().unwrap().release);
        let watch = Watch { against, bounds: SwapConfig::STANDARD, on_trial: true, tell };
        lineup.active.release.watch(Some(watch));
        let share = Share(b"c");
        for _ in 0..3 {
            let chosen = lineup.choose(share);
            assert_eq!(chosen.plugin, 2);
            assert_eq!(chosen.failed("trap").unwrap().plugin, 1);
        }
        assert_eq!(lineup.choose(share).plugin, 1, "withdrawn");
        assert!(lineup.choose(share).failed("trap").is_none(), "the last one's failure is a failure");
        assert_eq!(lineup.pinned(Digest::from_bytes([2; 32])).unwrap().plugin, 2, "a pin holds");
        lineup.before = None;
        assert_eq!(lineup.choose(share).plugin, 2, "nothing else is there");
    }
}
