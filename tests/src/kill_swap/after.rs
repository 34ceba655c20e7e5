//! What a kill has left, read from the store without writing to it; and what must be true of each turn in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chela_store::{Deployment, Entry, Recorded, Store, TurnRecord, TurnState, Version, VersionState};
use chela_types::{Decision, Digest, Millis, PluginId, RoutedBy, TenantId, TurnId};

use super::{Build, Swapped};

/// Turns that are looked through for open ones.
const RECENT: usize = 200;
/// Versions of a plugin that are looked through.
const VERSIONS_MAX: usize = 10_000;
/// So long after a change a turn may still write down that it began with the version before: it was claimed earlier.
const CLAIMED_BEFORE_MS: i64 = 3_000;
/// The journal's entry with which an agent's part begins.
const AGENT: &str = "turn.agent";

/// How far a change had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Nothing of it is kept.
    BeforeArtefact,
    /// The component's file is half there.
    Part,
    /// The component is kept, and no version names it.
    Artefact,
    /// The version is kept, and is not deployed.
    VersionRow,
    /// It is written down that it serves.
    Deployed,
    /// The host has said so to whoever ordered it, or in its log.
    Serving,
}

impl Stage {
    /// In their order.
    pub const ALL: [Self; 6] =
        [Self::BeforeArtefact, Self::Part, Self::Artefact, Self::VersionRow, Self::Deployed, Self::Serving];
}

/// What is written down of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The active version.
    pub active: Build,
    /// Its digest.
    pub digest: Digest,
    /// The version with a share of the conversations, and its percentage.
    pub canary: Option<(Build, u8)>,
    /// The version before.
    pub before: Option<Build>,
    /// All its versions.
    pub versions: BTreeMap<Digest, Build>,
    /// Those of them that were sent back, or cannot serve.
    pub refused: BTreeSet<Build>,
}

/// Reads it; every version that is kept has a whole component.
pub async fn standing(store: &Store, plugin: Swapped) -> Standing {
    let tenant = TenantId::default_tenant();
    let id = PluginId::new(plugin.name()).unwrap();
    // First what names versions: whoever looks while the host runs finds all of them afterwards.
    let deployments: Vec<Deployment> = store.deployments(&tenant).await.unwrap();
    let rows = store.versions(&tenant, Some(&id), VERSIONS_MAX).await.unwrap();
    let (mut versions, mut refused) = (BTreeMap::new(), BTreeSet::new());
    for Version { digest, version, component, state, .. } in &rows {
        let build = Build::of(plugin, version);
        if *state == VersionState::Refused {
            refused.insert(build);
        }
        assert_eq!(*component, build.artefact(), "{build:?} is kept with another's component");
        let kept = store.artefact(*component).await.expect("a kept version's component can be read");
        assert!(kept.is_some(), "{build:?} is kept without its component");
        versions.insert(*digest, build);
    }
    let mut mine = deployments.into_iter().filter(|deployment| deployment.plugin == id);
    let (deployment, second) = (mine.next().expect("a deployment"), mine.next());
    assert_eq!(second, None, "one deployment for each plugin");
    let build = |digest: Digest| *versions.get(&digest).expect("a deployment names what is kept");
    let digest = deployment.active.expect("an active version");
    Standing {
        active: build(digest),
        digest,
        canary: deployment.canary.map(|(digest, percent)| (build(digest), percent)),
        before: deployment.before.map(build),
        versions,
        refused,
    }
}

impl Standing {
    /// How far a change to `new` had come, as far as the disk tells.
    pub fn stage(&self, data: &Path, new: Build, is_deployed: bool) -> Stage {
        if is_deployed {
            return Stage::Deployed;
        }
        if self.versions.values().any(|build| *build == new) {
            return Stage::VersionRow;
        }
        let name = new.artefact().to_string();
        if data.join("artefacts").join(&name).exists() {
            return Stage::Artefact;
        }
        let is_begun = part_files(data).iter().any(|part| part.starts_with(&name));
        if is_begun { Stage::Part } else { Stage::BeforeArtefact }
    }
}

/// Names of components' files that are not whole.
pub fn part_files(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("artefacts")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".part")).collect()
}

/// From a moment on, these builds may serve.
#[derive(Debug, Clone)]
pub struct Window {
    /// When.
    pub from: Millis,
    /// Which.
    pub builds: Vec<Build>,
}

/// What kills have found of turns that were under way.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// The decision that was kept.
    decided: BTreeMap<TurnId, Decision>,
    /// The versions that had begun with it, the agent's among them.
    begun: BTreeMap<TurnId, Vec<Digest>>,
}

impl Turns {
    /// Notes the turns that a kill has cut off.
    pub async fn note(&mut self, store: &Store) {
        for turn in store.recent_turns(RECENT).await.unwrap() {
            let record = store.turn_record(turn).await.unwrap().expect("a turn that was listed");
            if record.state != TurnState::Open {
                continue;
            }
            if let Some((_, decision)) = record.decisions.first() {
                self.decided.entry(turn).or_insert_with(|| decision.clone());
            }
            if record.journal.iter().any(|(_, function, _)| function == AGENT) {
                self.begun.entry(turn).or_insert(record.versions);
            }
        }
    }

    /// How many were cut off after an agent had begun with them.
    pub fn begun(&self) -> usize {
        self.begun.len()
    }
}

/// What is wrong with the turns in the end: each decided by a version that served at that time, answered by one, and,
/// if a kill cut it off, by the one that it began with.
pub async fn judge_turns(store: &Store, windows: &[Window], cut: &Turns) -> Vec<String> {
    let tenant = TenantId::default_tenant();
    let workers = standing(store, Swapped::Worker).await.versions;
    let choosers = standing(store, Swapped::Chooser).await.versions;
    let judge = Judge { windows, cut, workers, choosers };
    let mut wrong = Vec::new();
    for turn in store.recorded(&tenant, Millis(0), 0, usize::MAX).await.unwrap() {
        let record = store.turn_record(turn.id).await.unwrap().expect("a recorded turn");
        wrong.extend(judge.turn(&turn, &record));
    }
    wrong
}

struct Judge<'a> {
    windows: &'a [Window],
    cut: &'a Turns,
    workers: BTreeMap<Digest, Build>,
    choosers: BTreeMap<Digest, Build>,
}

impl Judge<'_> {
    fn turn(&self, turn: &Recorded, record: &TurnRecord) -> Vec<String> {
        let mut wrong = Vec::new();
        let text = turn.message.as_ref().map(|message| message.text.clone()).unwrap_or_default();
        let mut say = |what: String| wrong.push(format!("{text}: {what}"));
        if record.tries > 0 {
            say(format!("a version has failed it: {:?}", record.last_error));
        }
        match &record.decisions[..] {
            [(at, decision)] => {
                self.decision(*at, decision).into_iter().for_each(&mut say);
                if self.cut.decided.get(&turn.id).is_some_and(|kept| kept != decision) {
                    say("it was decided anew after a kill".to_owned());
                }
            }
            several => say(format!("{} decisions", several.len())),
        }
        let parts: Vec<&Entry> = turn.entries.iter().filter(|entry| entry.function == AGENT).collect();
        let [part] = parts[..] else {
            say(format!("{} agents' parts", parts.len()));
            return wrong;
        };
        let Some(build) = part.version.and_then(|digest| self.workers.get(&digest)) else {
            say("its agent is of a version that is not kept".to_owned());
            return wrong;
        };
        let said = turn.reply.as_ref().map(|reply| reply.text.clone()).unwrap_or_default();
        if !build.can_have_said(&said) {
            say(format!("the journal says {build:?}, the answer does not: {said}"));
        }
        if !self.served(part.at, *build) {
            say(format!("{build:?} did not serve when it began"));
        }
        let begun = self.cut.begun.get(&turn.id).filter(|begun| !self.has_bad(begun));
        if begun.is_some_and(|begun| part.version.is_none_or(|version| !begun.contains(&version))) {
            say("it did not end on the version that it began with".to_owned());
        }
        wrong
    }

    /// What a bad build begins, another one ends.
    fn has_bad(&self, begun: &[Digest]) -> bool {
        begun.iter().any(|digest| self.workers.get(digest).is_some_and(|build| build.is_bad))
    }

    fn decision(&self, at: Millis, decision: &Decision) -> Option<String> {
        let RoutedBy::Router { digest, .. } = &decision.by else {
            return Some(format!("no router decided: {:?} {:?}", decision.by, decision.overruled));
        };
        let found = self.choosers.iter().find(|(known, _)| known.short() == *digest);
        let Some((_, build)) = found else { return Some("an unknown router decided".to_owned()) };
        if !build.can_have_said(&decision.reason) {
            return Some(format!("{build:?} did not say `{}`", decision.reason));
        }
        (!self.served(at, *build)).then(|| format!("{build:?} did not serve when it decided"))
    }

    fn served(&self, at: Millis, build: Build) -> bool {
        let of = |window: &&Window| window.builds.iter().any(|it| it.plugin == build.plugin);
        let mine: Vec<&Window> = self.windows.iter().filter(of).collect();
        let now = mine.iter().rposition(|window| window.from <= at);
        let Some(now) = now else { return false };
        let is_new = at.0 - mine[now].from.0 < CLAIMED_BEFORE_MS;
        let before = now.checked_sub(1).filter(|_| is_new);
        mine[now].builds.contains(&build) || before.is_some_and(|at| mine[at].builds.contains(&build))
    }
}
