//! From what was written to what runs: references, secrets, paths, amounts, and sense.
//!
//! Each step reports what it finds and goes on, so that one run shows every mistake. A step that failed
//! gives nothing; the whole gives a [`Config`] only if no step failed.

mod embedding;
mod free;
mod front;
mod host;
mod models;
mod prices;
mod sense;
mod swap;
mod team;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use chela_types::{AgentId, Digest, Money};
use secrecy::SecretString;

use super::RESERVED;
use super::document::{Document, dotted};
use super::file;
use super::problem::{Code, Note, Problems, nearest, suggest};
use super::raw::Raw;
use super::resolved::{Agent, Config, Provider, ProviderKind, Script};
use super::secret::{self, Reference};
use sense::Team;

/// Looks up a variable of the environment.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A path of keys.
type At<'p> = &'p [&'p str];

/// What every step needs.
pub(super) struct Resolver<'r> {
    /// Where keys stand.
    pub(super) document: &'r Document<'r>,
    /// Where problems go.
    pub(super) problems: &'r mut Problems,
    /// The environment.
    pub(super) env: Env<'r>,
    /// The folder of the file, absolute.
    pub(super) base: &'r Path,
    /// The folder in which the file was named; another one, if its name is a link.
    pub(super) home: &'r Path,
    /// Every path that was met, the data folder's apart.
    pub(super) paths: BTreeSet<PathBuf>,
}

impl Resolver<'_> {
    /// All of it; nothing if there was a mistake.
    pub(super) fn config(&mut self, raw: &Raw, file: &Path, text: &str) -> Option<Config> {
        if raw.agent.is_empty() {
            let note = Note::new(Code::NoAgent, format!("{} configures no agent", self.problems.file()), "");
            self.problems.error(None, note.help("add a table `[agent.NAME]` with the key `plugin`"));
        }
        let server = self.server(raw);
        let store = self.store(raw);
        let egress = self.egress(raw);
        let delivery = self.delivery(raw);
        let limits = self.limits(raw);
        let admin = server.as_ref().and_then(|server| server.admin_token.as_ref());
        let operators = self.operators(raw, admin);
        let known = self.known_prices(raw);
        let providers = self.providers(raw, &known);
        let tiers = self.tiers(raw, &known);
        let embedding = self.embedding(raw, &known);
        let budget = self.budget(raw);
        let cache = self.cache(raw);
        let plugins = self.plugins(raw, &limits);
        let departments = self.departments(raw, &budget);
        let trust = self.trust(raw);
        let agents = self.agents(raw, &budget);
        let routing = self.routing(raw);
        let channels = self.channels(raw, &budget);
        let api_keys = self.api_keys(raw, &budget);
        self.reachability(raw, &agents);
        self.patience(raw, (&plugins, &tiers), &agents);
        let team =
            Team { plugins: &plugins, agents: &agents, departments: &departments, channels: &channels };
        self.affordable(&budget, &team, (&providers, &tiers));
        self.searchable(&plugins, &agents);
        self.rules(raw);
        if self.problems.any() {
            return None;
        }
        let digest = digest((text, known.version()), &agents, &providers);
        Some(Config {
            file: file.to_owned(),
            named: file.to_owned(),
            paths: std::mem::take(&mut self.paths),
            digest,
            server: server?,
            store: store?,
            egress,
            providers,
            tiers,
            embedding,
            budget,
            cache,
            plugins,
            departments,
            agents,
            channels,
            api_keys,
            routing,
            delivery,
            limits,
            swap: swap::swap(raw),
            trust,
            retention: host::retention(raw),
            operators,
        })
    }

    /// A mistake in the value at `at`.
    fn fail(&mut self, at: At<'_>, note: Note) {
        let span = self.document.value(at);
        self.problems.error(span, note);
    }

    /// A mistake in the key at `at`, such as a name.
    fn fail_key(&mut self, at: At<'_>, note: Note) {
        let span = self.document.key(at);
        self.problems.error(span, note);
    }

    /// A doubt about the value at `at`.
    fn warn(&mut self, at: At<'_>, note: Note) {
        let span: Option<Range<usize>> = self.document.value(at);
        self.problems.warning(span, note);
    }

    /// A table's own name as an id.
    fn name<T: TryFrom<String>>(&mut self, at: At<'_>) -> Option<T> {
        let text = at.last().copied().unwrap_or_default();
        if let Ok(id) = T::try_from(text.to_owned()) {
            return Some(id);
        }
        let note = Note::new(Code::BadName, format!("`{text}` cannot be a name"), "not a valid name");
        let help = "names are 1 to 64 of a-z, 0-9, `-` and `_`, and start with a letter or digit";
        self.fail_key(at, note.help(help));
        None
    }

    /// As [`Self::name`], where the host has names of its own.
    fn unreserved<T: TryFrom<String>>(&mut self, at: At<'_>) -> Option<T> {
        let text = at.last().copied().unwrap_or_default();
        if !text.starts_with(RESERVED) {
            return self.name(at);
        }
        let note = Note::new(Code::BadName, format!("`{text}` cannot be a name"), "reserved");
        self.fail_key(at, note.help(format!("names that begin with `{RESERVED}` are the host's own")));
        None
    }

    /// The name of another table, which must be there.
    fn reference<T: TryFrom<String>, V>(
        &mut self,
        at: At<'_>,
        kind: &str,
        name: &str,
        known: &BTreeMap<String, V>,
    ) -> Option<T> {
        if known.contains_key(name) {
            // A name that ids don't allow is reported where it is defined.
            return T::try_from(name.to_owned()).ok();
        }
        let note = self.unknown(at, kind, (name, known));
        self.fail(at, note);
        None
    }

    /// What is said of a name that no table has.
    fn unknown<V>(&self, at: At<'_>, kind: &str, (name, known): (&str, &BTreeMap<String, V>)) -> Note {
        let message = format!("`{}` names the {kind} `{name}`, which is not configured", dotted(at));
        let note = Note::new(Code::UnknownReference, message, format!("there is no `[{kind}.{name}]`"));
        let help = suggest(name, known.keys().map(String::as_str));
        note.help(format!("add a table `[{kind}.NAME]`")).maybe_help(help)
    }

    /// Something that comes with the program, which must be one of `names`.
    fn builtin(&mut self, at: At<'_>, (kind, name): (&str, &str), names: &[&str]) -> Option<()> {
        if names.contains(&name) {
            return Some(());
        }
        let message =
            format!("`{}` names the {kind} `builtin:{name}`, which is not in this program", dotted(at));
        let note = Note::new(Code::UnknownReference, message, format!("no {kind} of this name"));
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `builtin:{near}`?"),
            None => format!("there is `builtin:{}`", names.join("`, `builtin:")),
        };
        self.fail(at, note.help(help));
        None
    }

    /// An amount of dollars.
    fn dollars(&mut self, at: At<'_>, text: &str) -> Option<Money> {
        let amount = Money::parse_dollars(text);
        if amount.is_none() {
            let message = format!("`{}` must be an amount of US dollars", dotted(at));
            let note = Note::new(Code::BadAmount, message, "not an amount");
            let help =
                "a decimal number that is not negative, with at most nine decimals, such as `\"0.15\"`";
            self.fail(at, note.help(help));
        }
        amount
    }

    /// A secret, read from where the file says.
    fn secret(&mut self, at: At<'_>, text: &str) -> Option<SecretString> {
        let key = dotted(at);
        let (place, found) = match Reference::parse(text) {
            None => {
                let note = Note::new(
                    Code::SecretInline,
                    format!("`{key}` must not be written here"),
                    "inline secret",
                );
                let help = "keep it in a variable (`\"env:NAME\"`) or a file (`\"file:PATH\"`); if this file was \
                            shared, replace the secret";
                self.fail(at, note.help(help));
                return None;
            }
            Some(Reference::Env(name)) => {
                (format!("the variable `{name}`"), (self.env)(name).ok_or_else(|| "is not set".to_owned()))
            }
            Some(Reference::File(path)) => {
                let path = self.base.join(path);
                self.paths.insert(path.clone());
                let shown = self.shown(&path);
                if secret::world_readable(&path) {
                    let message = format!("everyone on this machine can read the secret of `{key}`");
                    let note = Note::new(Code::SecretExposed, message, "readable by others");
                    self.warn(at, note.help(format!("take that right away: `chmod 600` on {shown}")));
                }
                (format!("the file {shown}"), secret::read_file(&path))
            }
        };
        let found = found.and_then(|text| match text.trim_end() {
            "" => Err("is empty".to_owned()),
            text => Ok(SecretString::from(text)),
        });
        match found {
            Ok(secret) => Some(secret),
            Err(why) => {
                let why = format!("{place} {why}");
                let note =
                    Note::new(Code::SecretMissing, format!("the secret of `{key}` is missing: {why}"), why);
                self.fail(at, note);
                None
            }
        }
    }

    /// A path as written, absolute; relative ones start, and stay, in the file's folder.
    fn path(&mut self, at: At<'_>, text: &str) -> Option<PathBuf> {
        self.path_in(self.base, at, text)
    }

    /// The same in another folder.
    fn path_in(&mut self, base: &Path, at: At<'_>, text: &str) -> Option<PathBuf> {
        let written = Path::new(text);
        let upward = written.components().any(|part| part == Component::ParentDir);
        let path = base.join(written);
        let led_out = written.is_relative() && leads_out(base, &path);
        if text.is_empty() || upward || led_out {
            let label = match (text.is_empty(), upward) {
                (true, _) => "empty path",
                (_, true) => "has `..`",
                _ => "a symbolic link leads out of the folder, or nowhere",
            };
            let message =
                format!("`{}` must be a path in the configuration's folder, or an absolute one", dotted(at));
            let note = Note::new(Code::PathEscapes, message, label);
            self.fail(at, note.help("a path with `..` or a link hides where it leads"));
            return None;
        }
        Some(path)
    }

    /// A folder that is there.
    fn folder(&mut self, at: At<'_>, text: &str) -> Option<PathBuf> {
        let path = self.path(at, text)?;
        self.paths.insert(path.clone());
        if path.is_dir() {
            return Some(path);
        }
        let label = if path.exists() { "not a folder" } else { "no such folder" };
        let message = format!("`{}` needs a folder at {}", dotted(at), self.shown(&path));
        self.fail(at, Note::new(Code::PathUnusable, message, label));
        None
    }

    /// The text of a file that belongs to the configuration (persona, script).
    fn text_file(&mut self, at: At<'_>, text: &str) -> Option<(PathBuf, String)> {
        let path = self.path(at, text)?;
        self.paths.insert(path.clone());
        let label = match file::read(&path, TEXT_BYTES_MAX).map(String::from_utf8) {
            Ok(Ok(text)) => return Some((path, text)),
            Ok(Err(_)) => "not UTF-8".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("`{}` needs a text file at {}", dotted(at), self.shown(&path));
        self.fail(at, Note::new(Code::PathUnusable, message, label));
        None
    }

    /// A path as people know it: seen from the file's folder where it is in there.
    fn shown(&self, path: &Path) -> String {
        format!("`{}`", path.strip_prefix(self.base).unwrap_or(path).display())
    }
}

/// Whether a link leads out of a folder. Of what is not there yet the part that is counts: the rest would be made behind
/// it.
fn leads_out(base: &Path, path: &Path) -> bool {
    let mut parts = path.ancestors().take_while(|part| part.starts_with(base));
    let there = parts.find(|part| part.symlink_metadata().is_ok());
    there.is_some_and(|part| !part.canonicalize().is_ok_and(|real| real.starts_with(base)))
}

/// Of what the configuration says, wherever it stands. Not of documents, which have a digest of their own, nor of what
/// comes with the program, which has a version.
fn digest(
    (text, prices): (&str, &str),
    agents: &BTreeMap<AgentId, Agent>,
    providers: &BTreeMap<String, Provider>,
) -> Digest {
    let policies = format!("{:?}", agents.values().map(|agent| &agent.tier_policy).collect::<Vec<_>>());
    let mut parts = vec![text.as_bytes(), prices.as_bytes(), policies.as_bytes()];
    parts
        .extend(agents.iter().flat_map(|(name, agent)| [name.as_str().as_bytes(), agent.persona.as_bytes()]));
    let scripts = providers.iter().filter_map(|(name, provider)| match &provider.kind {
        ProviderKind::Scripted(Script::File { text, .. }) => Some([name.as_bytes(), text.as_bytes()]),
        _ => None,
    });
    parts.extend(scripts.flatten());
    Digest::of("chela configuration v3", &parts)
}

/// Why a file cannot be read, in plain words.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not found".into(),
        other => other.to_string(),
    }
}

/// Largest persona or script file.
const TEXT_BYTES_MAX: u64 = 1_048_576;

/// A byte or element count in the machine's own size.
fn size(count: impl TryInto<usize>) -> usize {
    count.try_into().unwrap_or(usize::MAX)
}
