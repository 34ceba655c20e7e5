//! A case as it is written: `cases/NAME.toml`. Strict, like every file of the house: a key that nobody knows is a case
//! that tests less than its author believes.

use std::collections::BTreeMap;
use std::path::Path;

use chela_engine::cases::{MemoryOf, Remembered};
use chela_sandbox::PluginKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::super::Failure;

/// Largest file of a case.
const CASE_BYTES_MAX: u64 = 1 << 20;

/// One case.
#[derive(Debug)]
pub(super) enum Case {
    Router(RouterCase),
    Agent(AgentCase),
    Channel(ChannelCase),
}

/// A message that is routed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouterCase {
    pub(super) message: Message,
    pub(super) context: Context,
    #[serde(default)]
    pub(super) past: Vec<Past>,
    /// What the model says: rules of a scripted provider.
    #[serde(default)]
    pub(super) model: Vec<toml::Table>,
    /// Over the configuration that it has otherwise.
    #[serde(default)]
    pub(super) config: toml::Table,
    pub(super) expect: toml::Table,
}

/// A message that is answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentCase {
    pub(super) message: Message,
    #[serde(default)]
    pub(super) agent: Agent,
    #[serde(default)]
    pub(super) past: Vec<Past>,
    /// Documents that it may search: names of Markdown files, and what stands in them.
    #[serde(default)]
    pub(super) knowledge: BTreeMap<String, String>,
    /// What it remembers from before.
    #[serde(default)]
    pub(super) memory: Remembered,
    /// What the model says: rules of a scripted provider.
    #[serde(default)]
    pub(super) model: Vec<toml::Table>,
    /// Over the configuration that it has otherwise.
    #[serde(default)]
    pub(super) config: toml::Table,
    pub(super) expect: toml::Table,
}

/// A request that is read, or an answer that is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelCase {
    pub(super) request: Option<Request>,
    pub(super) answer: Option<Answer>,
    /// What the platform responds to each request of the answer, in order; 200 after the last.
    #[serde(default)]
    pub(super) response: Vec<Response>,
    /// Over the configuration that it has otherwise.
    #[serde(default)]
    pub(super) config: toml::Table,
    pub(super) expect: toml::Table,
}

/// What somebody wrote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    pub(super) text: String,
    #[serde(default = "somebody")]
    pub(super) sender: String,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) outsider: bool,
    #[serde(default = "web")]
    pub(super) channel: String,
    pub(super) place: Option<String>,
}

fn somebody() -> String {
    "ann".to_owned()
}

fn web() -> String {
    "web".to_owned()
}

/// Who may answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// Their names, or names with descriptions.
    pub(super) candidates: Candidates,
    /// Who answers if no router says otherwise.
    pub(super) default: String,
    /// Who holds the conversation.
    pub(super) sticky: Option<String>,
    /// Of the channel.
    pub(super) department: Option<String>,
}

/// Names, with or without what they are for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Candidates {
    Names(Vec<String>),
    Described(BTreeMap<String, String>),
}

impl Candidates {
    /// Each with its description.
    pub(super) fn described(&self) -> BTreeMap<String, String> {
        match self {
            Self::Names(names) => names.iter().map(|name| (name.clone(), String::new())).collect(),
            Self::Described(all) => all.clone(),
        }
    }
}

/// Who it is.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) persona: String,
    /// Whom it may hand over to: names with descriptions.
    pub(super) colleagues: BTreeMap<String, String>,
    /// Its tier, and further ones that it may ask for.
    pub(super) tier: String,
    pub(super) tiers_allowed: Vec<String>,
}

impl Default for Agent {
    fn default() -> Self {
        let (name, tier) = ("agent".to_owned(), "fast".to_owned());
        Self { name, persona: String::new(), colleagues: BTreeMap::new(), tier, tiers_allowed: Vec::new() }
    }
}

/// What was said before: by a person, or by an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    /// Absent: the person.
    pub(super) agent: Option<String>,
    pub(super) text: String,
}

/// A request of the platform.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "post")]
    pub(super) method: String,
    #[serde(default = "slash")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) query: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// A text, or a table that is sent as JSON.
    pub(super) body: toml::Value,
    /// False: as a stranger would send it.
    #[serde(default = "yes")]
    pub(super) signed: bool,
}

fn post() -> String {
    "POST".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Who speaks.
    #[serde(default = "desk")]
    pub(super) agent: String,
    /// Links, choices and citations.
    #[serde(default)]
    pub(super) blocks: Vec<chela_types::Block>,
    /// Names and values of the manifest's bindings.
    #[serde(default)]
    pub(super) target: BTreeMap<String, String>,
    /// What the adapter noted when the message came.
    pub(super) notes: Option<String>,
    /// The platform's own request waits for it.
    #[serde(default)]
    pub(super) waits: bool,
}

fn desk() -> String {
    "desk".to_owned()
}

/// What the platform responds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Response {
    #[serde(default = "fine")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// A text, or a table that is sent as JSON.
    pub(super) body: Option<toml::Value>,
}

fn fine() -> u16 {
    200
}

impl Case {
    /// Reads a file.
    ///
    /// # Errors
    /// The file, the line and what is wrong there.
    pub(super) fn read(path: &Path, kind: PluginKind) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", path.display()));
        if std::fs::metadata(path).map_err(failed)?.len() > CASE_BYTES_MAX {
            return Err(Failure::new(format!("{} is too large for a case", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let case = Self::parse(&text, kind).map_err(|(line, what)| {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            Failure::new(format!("cases/{name} line {line}: {what}"))
                .help(format!("a case of a {kind}: docs/guide/plugins.md#cases"))
        })?;
        Ok(case)
    }

    fn parse(text: &str, kind: PluginKind) -> Result<Self, (usize, String)> {
        let case = match kind {
            PluginKind::Router => Self::Router(read(text)?),
            PluginKind::Agent => Self::Agent(read(text)?),
            PluginKind::Channel => Self::Channel(read(text)?),
        };
        if let Self::Channel(of) = &case
            && of.request.is_some() == of.answer.is_some()
        {
            return Err((1, "a case of a channel has a `[request]` or an `[answer]`".to_owned()));
        }
        case.watched().map_err(|what| (1, what))?;
        Ok(case)
    }

    /// What is expected, as it is compared.
    pub(super) fn expected(&self) -> Value {
        let (Self::Router(RouterCase { expect, .. })
        | Self::Agent(AgentCase { expect, .. })
        | Self::Channel(ChannelCase { expect, .. })) = self;
        serde_json::to_value(expect).unwrap_or_default()
    }

    /// Of the memory, what the case wants to know.
    ///
    /// # Errors
    /// It asks for a memory that there is not.
    pub(super) fn watched(&self) -> Result<Remembered, String> {
        let mut watched = Remembered::new();
        let expected = self.expected();
        for (of, keys) in expected.get("memory").and_then(Value::as_object).into_iter().flatten() {
            let of: MemoryOf = serde_json::from_value(of.as_str().into()).map_err(|_| {
                format!("`expect.memory.{of}`: a memory is of the `conversation`, the `user` or the `agent`")
            })?;
            let keys = keys.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), String::new()));
            watched.entry(of).or_default().extend(keys);
        }
        Ok(watched)
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, (usize, String)> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        (before.matches('\n').count() + 1, error.message().trim().to_owned())
    })
}

/// A body: a text as it stands, anything else as JSON.
pub(super) fn body(written: &toml::Value) -> Vec<u8> {
    match written {
        toml::Value::String(text) => text.clone().into_bytes(),
        value => serde_json::to_vec(value).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: &str = "[message]\ntext = \"hi\"\n[context]\ncandidates = [\"a\"]\ndefault = \"a\"\n[expect]\nagent = \"a\"\n";

    #[test]
    fn a_key_that_nobody_knows_is_named_with_its_line() {
        assert!(Case::parse(ROUTER, PluginKind::Router).is_ok());
        let (line, what) =
            Case::parse(&ROUTER.replace("default", "defualt"), PluginKind::Router).unwrap_err();
        assert!(line == 5 && what.contains("defualt"), "{line} {what}");
        let (line, what) = Case::parse(&format!("{ROUTER}[knowlege]\n"), PluginKind::Router).unwrap_err();
        assert!(line == 8 && what.contains("knowlege"), "{line} {what}");
    }

    #[test]
    fn a_channels_case_is_a_request_or_an_answer() {
        let both = "[request]\nbody = \"\"\n[answer]\ntext = \"\"\n[expect]\n";
        assert!(Case::parse(both, PluginKind::Channel).unwrap_err().1.contains("`[request]`"));
        assert!(Case::parse("[expect]\n", PluginKind::Channel).unwrap_err().1.contains("`[answer]`"));
        let table = "[request]\nbody = { id = 7 }\n[expect]\n";
        let Ok(Case::Channel(case)) = Case::parse(table, PluginKind::Channel) else { panic!("refused") };
        assert_eq!(body(&case.request.unwrap().body), br#"{"id":7}"#);
    }

    #[test]
    fn what_is_expected_of_a_memory_is_looked_at() {
        let text = "[message]\ntext = \"hi\"\n[memory.user]\nn = \"1\"\n[expect.memory.user]\nn = \"2\"\n";
        let case = Case::parse(text, PluginKind::Agent).unwrap();
        let watched = case.watched().unwrap();
        assert!(watched[&MemoryOf::User].contains_key("n"));
        let error =
            Case::parse(&text.replace("expect.memory.user", "expect.memory.users"), PluginKind::Agent);
        assert!(error.unwrap_err().1.contains("expect.memory.users"));
    }

    /// What the guide shows can be written.
    #[test]
    fn the_guides_cases_are_cases() {
        let guide =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/plugins.md"));
        let guide = guide.unwrap();
        let section = guide.split("\n## Cases\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let blocks: Vec<_> =
            section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let kinds = [PluginKind::Router, PluginKind::Agent, PluginKind::Channel, PluginKind::Channel];
        assert_eq!(blocks.len(), kinds.len());
        for (block, kind) in blocks.into_iter().zip(kinds) {
            let read = Case::parse(block, kind);
            assert!(read.is_ok(), "{kind}: {:?}\n{block}", read.err());
        }
    }
}
