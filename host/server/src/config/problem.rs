//! What is wrong with a configuration, shown with its line: file, caret, key, what was expected.
//!
//! Problems are collected, not thrown: an operator mends a file once, not once for each mistake. Every code
//! has a page in `docs/errors/`, and a test holds that.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use chela_types::{Blame, Fault, Retry};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stable name for each kind of problem. Users search for it; it never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The last part of the code.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The file cannot be read: missing, a folder, no permission, too large, not UTF-8.
    Unreadable = "unreadable",
    /// The file is not TOML.
    Syntax = "syntax",
    /// A key that does not exist.
    UnknownKey = "unknown_key",
    /// A key that is needed and not there.
    MissingKey = "missing_key",
    /// A value of another type.
    WrongType = "wrong_type",
    /// A value of the right type that makes no sense: out of bounds, not one of the choices, misspelled.
    WrongValue = "wrong_value",
    /// A name that ids do not allow.
    BadName = "bad_name",
    /// A plugin, agent, tier, provider, channel or department that is not in the file.
    UnknownReference = "unknown_reference",
    /// A plugin that is used as two kinds.
    PluginMisused = "plugin_misused",
    /// The same thing named twice where once is meant.
    Duplicate = "duplicate",
    /// No agent is configured.
    NoAgent = "no_agent",
    /// A channel whose messages nobody would answer.
    NoDefaultAgent = "no_default_agent",
    /// An agent that stands as default where it may not be reached.
    DefaultUnreachable = "default_unreachable",
    /// An agent that nobody can reach.
    AgentUnreachable = "agent_unreachable",
    /// An amount of money that is no amount.
    BadAmount = "bad_amount",
    /// A budget that does not pay for a call.
    BudgetTooSmall = "budget_too_small",
    /// Something that is given to a plugin without the grant to use it.
    GrantMissing = "grant_missing",
    /// A model without a price.
    UnknownPrice = "unknown_price",
    /// A secret written into the file.
    SecretInline = "secret_inline",
    /// A secret that is not where the file says.
    SecretMissing = "secret_missing",
    /// A token that could be guessed.
    SecretShort = "secret_short",
    /// A secret file that others on the machine can read.
    SecretExposed = "secret_exposed",
    /// A secret where a plugin would see it.
    SecretInConfig = "secret_in_config",
    /// An admin listener that other machines could reach.
    AdminPublic = "admin_public",
    /// A key that would travel unencrypted.
    InsecureUrl = "insecure_url",
    /// An address that `[egress]` does not allow.
    AddressDenied = "address_denied",
    /// A path that leaves the configuration's folder.
    PathEscapes = "path_escapes",
    /// A file or folder that is not there or cannot be used.
    PathUnusable = "path_unusable",
    /// Timeouts that contradict each other.
    TimeoutConflict = "timeout_conflict",
    /// A confidential agent whose answers would be kept.
    CacheConflict = "cache_conflict",
    /// Something that a later version will serve.
    NotYetServed = "not_yet_served",
}

impl Code {
    /// The page in `docs/errors/`.
    pub fn page(self) -> String {
        format!("config-{}.md", self.name().replace('_', "-"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chela::config::{}", self.name())
    }
}

/// One mistake, or one doubt.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    severity: Severity,
    message: String,
    label: String,
    span: Option<Range<usize>>,
    help: Option<String>,
    source: Arc<NamedSource<String>>,
}

/// A problem that does not keep the host from starting.
pub type Warning = Problem;

impl Problem {
    /// Which kind.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Without colours, `width` columns wide: for logs and files.
    pub fn plain(&self, width: usize) -> String {
        self.render(GraphicalTheme::unicode_nocolor(), width)
    }

    /// For a terminal.
    pub fn coloured(&self, width: usize) -> String {
        self.render(GraphicalTheme::unicode(), width)
    }

    fn render(&self, theme: GraphicalTheme, width: usize) -> String {
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut text = String::new();
        // Writing into a String does not fail; if miette does, its plain message is still shown.
        if handler.render_report(&mut text, self).is_err() {
            text = format!("{}: {}", self.code, self.message);
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.as_ref().map(|_| self.source.as_ref() as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.label.clone()), span))))
    }
}

/// A configuration that cannot be run, with all its mistakes.
#[derive(Debug)]
pub struct ConfigError {
    file: String,
    problems: Vec<Problem>,
    paths: BTreeSet<PathBuf>,
}

impl ConfigError {
    /// The mistakes in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Paths that the file names, as far as it was read: what is missing may come.
    pub fn paths(&self) -> &BTreeSet<PathBuf> {
        &self.paths
    }

    /// True if something that the file names, or the file itself, was not there: perhaps only for a moment.
    pub fn is_missing(&self) -> bool {
        let missing = [Code::Unreadable, Code::PathUnusable, Code::PathEscapes, Code::SecretMissing];
        self.problems.iter().any(|problem| missing.contains(&problem.code))
    }

    pub(super) fn having_met(self, paths: BTreeSet<PathBuf>) -> Self {
        Self { paths, ..self }
    }

    /// For a reading that did not come to its end.
    pub(crate) fn unread(why: &str) -> Self {
        let mut problems = Problems::new("chela.toml", String::new());
        problems
            .error(None, Note::new(Code::Unreadable, format!("the configuration was not read: {why}"), ""));
        let (file, paths) = ("chela.toml".to_owned(), BTreeSet::new());
        Self { file, problems: problems.errors, paths }
    }

    /// For a path that should not exist: refused without a reason. Says so instead of panicking.
    pub(super) fn unexplained(file: &str) -> Self {
        let mut problems = Problems::new(file, String::new());
        let note = Note::new(Code::WrongValue, format!("{file} cannot be resolved"), "");
        problems.error(None, note.help("this is a defect of Chela: please report it with the file"));
        Self { file: file.to_owned(), problems: problems.errors, paths: BTreeSet::new() }
    }

    /// All of them for a terminal (`coloured`) or a log, `width` columns wide.
    pub fn render(&self, width: usize, coloured: bool) -> String {
        let one = |p: &Problem| if coloured { p.coloured(width) } else { p.plain(width) };
        let mut text = self.problems.iter().map(one).collect::<Vec<_>>().join("\n");
        text.push_str(&format!("\n{self}\n"));
        text
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 mistake in {}", self.file),
            n => write!(f, "{n} mistakes in {}", self.file),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|p| p as &dyn Diagnostic)))
    }
}

impl Fault for ConfigError {
    fn blame(&self) -> Blame {
        Blame::Operator
    }
    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// What is said about one problem; where it stands is added by [`Problems`].
#[derive(Debug)]
pub(super) struct Note {
    code: Code,
    message: String,
    label: String,
    help: Option<String>,
}

impl Note {
    /// `message` is the sentence, `label` stands under the caret.
    pub(super) fn new(code: Code, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { code, message: message.into(), label: label.into(), help: None }
    }

    /// What to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What to do about it, if that is known.
    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// Collects problems of one file.
#[derive(Debug)]
pub(super) struct Problems {
    source: Arc<NamedSource<String>>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    /// For `file`; `shown` is its text with secrets blotted out.
    pub(super) fn new(file: &str, shown: String) -> Self {
        let source = Arc::new(NamedSource::new(file, shown).with_language("toml"));
        Self { source, errors: Vec::new(), warnings: Vec::new() }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        self.source.name()
    }

    /// A mistake at `span`.
    pub(super) fn error(&mut self, span: Option<Range<usize>>, note: Note) {
        let problem = self.problem(Severity::Error, span, note);
        self.errors.push(problem);
    }

    /// A doubt at `span`.
    pub(super) fn warning(&mut self, span: Option<Range<usize>>, note: Note) {
        let problem = self.problem(Severity::Warning, span, note);
        self.warnings.push(problem);
    }

    /// True if there was a mistake.
    pub(super) fn any(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The warnings, or the error if there was a mistake.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, ConfigError> {
        if self.errors.is_empty() {
            return Ok(in_order(self.warnings));
        }
        self.errors = in_order(self.errors);
        let (file, paths) = (self.source.name().to_owned(), BTreeSet::new());
        Err(ConfigError { file, problems: self.errors, paths })
    }

    fn problem(&self, severity: Severity, span: Option<Range<usize>>, note: Note) -> Problem {
        let Note { code, message, label, help } = note;
        Problem { code, severity, message, label, span, help, source: self.source.clone() }
    }
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|p| p.span.as_ref().map_or(0, |span| span.start));
    // What several tables share (a department's rule) is found by each of them.
    problems.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
    problems
}

/// The valid name that is nearest to a misspelled one, if one is near.
pub(super) fn nearest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = 1 + wrong.chars().count() / 4;
    valid
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// "did you mean …", or what there is.
pub(super) fn suggest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(name) = nearest(wrong, valid.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let mut names: Vec<_> = valid.into_iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    let last = names.pop()?;
    Some(if names.is_empty() {
        format!("valid: {last}")
    } else {
        format!("valid: {} or {last}", names.join(", "))
    })
}

/// A longer list of names does not help anyone.
const NAMES_SHOWN_MAX: usize = 16;
