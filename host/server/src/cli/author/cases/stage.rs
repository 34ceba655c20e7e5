//! Where a case is played: a configuration of its own, read as any other, with rooms of its own. What an operator says of
//! the plugin (limits, grants, settings, where it runs) is his configuration's, or the usual.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chela_engine::cases::{Answered, Remembered, Requested, Responded, Spoken, Stage};
use chela_sandbox::Sandbox;
use chela_types::{AgentId, ChannelId, PluginId, Reply, Speaker, Utterance};
use serde_json::{Map, Value, json};

use super::super::super::plugin::secrets;
use super::super::super::up::Loading;
use super::super::super::{Failure, load};
use super::super::project::Project;
use super::case::{AgentCase, Case, ChannelCase, Message, Past, RouterCase, body};
use crate::cli::args::ConfigPath;
use crate::compose::{self, Surroundings};
use crate::config::{self, Config, Plugin, Source};

/// The plugins beside the one that is tested: somebody who answers, and somewhere to write.
const ANSWERS: &str = "case-agent";
const CHAT: &str = "case-chat";
/// The variable that holds the secret of every channel in a case.
const SECRET: &str = "CASE_SECRET";
/// What a model says where no rule of the case speaks.
const NO_RULE: &str = "(no [[model]] of this case speaks to: {last})";
/// Columns of a mistake in what an operator's file says.
const WIDTH: usize = 100;

/// Plays cases of one plugin.
pub(super) struct Theatre {
    name: PluginId,
    /// What was built.
    built: PathBuf,
    /// What its manifest asks for.
    grants: BTreeSet<String>,
    /// Names of the secrets that the host holds for a channel.
    secrets: BTreeSet<String>,
    /// What an operator says of it.
    settings: Option<Plugin>,
    sandbox: Sandbox,
}

impl Theatre {
    /// For what was built of a project, as the operator of a configuration has it.
    ///
    /// # Errors
    /// The configuration has mistakes or does not name the plugin; or this machine has no room for a sandbox.
    pub(super) fn open(
        project: &Project,
        config: Option<&Path>,
        place: Option<&str>,
    ) -> Result<Self, Failure> {
        let manifest = &project.manifest;
        let settings = match config {
            Some(file) => {
                let config = load(&ConfigPath { config: file.to_owned() })?;
                let (_, plugin) = project.place(&config, place).ok_or_else(|| unnamed(project, file))?;
                Some(plugin.clone())
            }
            None => None,
        };
        let cache = project.own().join("compiled");
        std::fs::create_dir_all(project.own())?;
        let asked = manifest.grants.union(manifest.optional);
        let channel = serde_json::to_value(&manifest.channel).unwrap_or_default();
        Ok(Self {
            name: manifest.name.clone(),
            built: project.built(),
            grants: asked.iter().map(|grant| grant.as_str().to_owned()).collect(),
            secrets: secrets(&channel),
            settings,
            sandbox: compose::case_sandbox(&Surroundings::of_this_program()?, cache)?,
        })
    }

    /// Plays one case: what came of it.
    ///
    /// # Errors
    /// The case cannot be laid out, or the plugin is refused.
    pub(super) async fn play(&self, case: &Case) -> Result<Value, Failure> {
        let folder = tempfile::Builder::new().prefix("chela-case-").tempdir()?;
        let config = self.lay_out(folder.path(), case)?;
        let (engine, rooms) = compose::staged(&config, self.sandbox.clone()).await?;
        let loading = Loading::new();
        let progress = |progress| loading.tell(self.name.as_str(), progress);
        let stage = Stage { rooms: &rooms, config: &engine, progress: &progress };
        let came = on(&stage, case).await;
        loading.finish();
        rooms.store.close().await?;
        came
    }

    /// Writes the configuration of a case into a folder, and reads it as a host does.
    fn lay_out(&self, folder: &Path, case: &Case) -> Result<Config, Failure> {
        let (who, script) = match case {
            Case::Router(case) => (self.routed(case), &case.model),
            Case::Agent(case) => (self.answering(folder, case)?, &case.model),
            Case::Channel(_) => (self.speaking(), &Vec::new()),
        };
        let script = json!({ "rule": script, "default": { "say": NO_RULE } });
        write(&folder.join("script.toml"), &script)?;
        // Stands for what was built until the file is read.
        std::fs::create_dir_all(folder.join("built"))?;
        let mut whole = json!({
            "store": { "url": "sqlite:data" },
            "provider": { "case": { "kind": "scripted", "script": "script.toml" } },
            "plugin": {
                self.name.as_str(): { "source": "built", "grants": self.grants },
                ANSWERS: { "source": "builtin:assistant" },
                CHAT: { "source": "builtin:web-chat" },
            },
        });
        overlay(&mut whole, who);
        let file = folder.join("chela.toml");
        write(&file, &whole)?;
        let secret = format!("whsec_{}", BASE64.encode(rand::random::<[u8; 32]>()));
        let env = |name: &str| (name == SECRET).then(|| secret.clone());
        let (mut config, _) = config::load(&file, &env).map_err(|error| {
            let text = error.render(WIDTH, false);
            Failure::new(format!("the case describes what no host can be\n{text}"))
        })?;
        if let Some(plugin) = config.plugins.get_mut(&self.name) {
            if let Some(settings) = &self.settings {
                *plugin = Plugin { kind: plugin.kind, ..settings.clone() };
            }
            plugin.source = Source::Folder(self.built.clone());
            plugin.config.extend(own_config(case));
        }
        Ok(config)
    }

    fn routed(&self, case: &RouterCase) -> Value {
        let context = &case.context;
        let mut agents = Map::new();
        for (name, description) in context.candidates.described() {
            agents.insert(name, json!({ "plugin": ANSWERS, "description": description, "outsiders": true }));
        }
        agents.entry(&context.default).or_insert(json!({ "plugin": ANSWERS, "outsiders": true }));
        for agent in agents.values_mut() {
            // Whose account a router asks on.
            overlay(agent, json!({ "tier": "fast" }));
        }
        let mut who = json!({
            "tier": { "fast": { "chain": ["case/any"] } },
            "agent": agents,
            "channel": { &case.message.channel: { "plugin": CHAT, "default_agent": context.default } },
            "routing": { "router": self.name },
        });
        if let Some(department) = &context.department {
            let channel = json!({ &case.message.channel: { "department": department } });
            overlay(&mut who, json!({ "department": { department: {} }, "channel": channel }));
        }
        who
    }

    fn answering(&self, folder: &Path, case: &AgentCase) -> Result<Value, Failure> {
        let of = &case.agent;
        let tiers: Map<_, _> = ([&of.tier].into_iter().chain(&of.tiers_allowed))
            .map(|tier| (tier.clone(), json!({ "chain": ["case/any"] })))
            .collect();
        let mut agents = Map::new();
        for (name, description) in &of.colleagues {
            let colleague =
                json!({ "plugin": ANSWERS, "description": description, "outsiders": true, "tier": of.tier });
            agents.insert(name.clone(), colleague);
        }
        let mut own = json!({
            "plugin": self.name, "persona": of.persona, "outsiders": true, "tier": of.tier,
            "tiers_allowed": of.tiers_allowed,
        });
        if !case.knowledge.is_empty() {
            let documents = folder.join("knowledge");
            std::fs::create_dir_all(&documents)?;
            for (name, text) in &case.knowledge {
                let is_plain = name.ends_with(".md") && !name.contains('/') && !name.starts_with('.');
                if !is_plain {
                    return Err(Failure::new(format!("`knowledge.{name}`: a document is a file `NAME.md`")));
                }
                std::fs::write(documents.join(name), text)?;
            }
            overlay(&mut own, json!({ "knowledge": "knowledge" }));
        }
        agents.insert(of.name.clone(), own);
        Ok(json!({
            "tier": tiers,
            "agent": agents,
            "channel": { &case.message.channel: { "plugin": CHAT, "default_agent": of.name } },
        }))
    }

    fn speaking(&self) -> Value {
        let secrets: Map<_, _> =
            self.secrets.iter().map(|name| (name.clone(), json!(format!("env:{SECRET}")))).collect();
        json!({
            "tier": { "fast": { "chain": ["case/any"] } },
            "agent": { "desk": { "plugin": ANSWERS, "outsiders": true, "tier": "fast" } },
            "channel": { CHANNEL: { "plugin": self.name, "default_agent": "desk", "secrets": secrets } },
        })
    }
}

/// The account of a channel in a case.
const CHANNEL: &str = "case";

fn unnamed(project: &Project, file: &Path) -> Failure {
    Failure::new(format!(
        "{} names no plugin that is built from {}",
        file.display(),
        project.folder.display()
    ))
    .help("`--as NAME` says which of its plugins it is")
}

/// What a case says over the configuration.
fn own_config(case: &Case) -> Map<String, Value> {
    let (Case::Router(RouterCase { config, .. })
    | Case::Agent(AgentCase { config, .. })
    | Case::Channel(ChannelCase { config, .. })) = case;
    match serde_json::to_value(config) {
        Ok(Value::Object(config)) => config,
        _ => Map::new(),
    }
}

fn write(file: &Path, value: &Value) -> Result<(), Failure> {
    Ok(std::fs::write(file, toml::to_string(value)?)?)
}

fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Lets the plugin do what the case asks of it.
async fn on(stage: &Stage<'_>, case: &Case) -> Result<Value, Failure> {
    Ok(match case {
        Case::Router(case) => {
            let sticky = case.context.sticky.as_deref().map(AgentId::new).transpose()?;
            stage.route(&spoken(&case.message, &case.past)?, sticky).await?
        }
        Case::Agent(of) => {
            let agent = AgentId::new(of.agent.name.as_str())?;
            let watched: Remembered = case.watched().map_err(Failure::new)?;
            stage.answer(&agent, &spoken(&of.message, &of.past)?, (&of.memory, &watched)).await?
        }
        Case::Channel(case) => {
            let channel = ChannelId::new(CHANNEL)?;
            match (requested(case), answered(case)?) {
                (Some(requested), _) => stage.receive(&channel, &requested).await?,
                (None, Some(answered)) => stage.deliver(&channel, &answered).await?,
                (None, None) => Value::Null,
            }
        }
    })
}

fn spoken(message: &Message, past: &[Past]) -> Result<Spoken, Failure> {
    let utterance = |said: &Past| {
        let agent = said.agent.as_deref().map(AgentId::new).transpose()?;
        let speaker = if agent.is_some() { Speaker::Agent } else { Speaker::Person };
        Ok::<_, Failure>(Utterance { speaker, agent, text: said.text.clone() })
    };
    Ok(Spoken {
        channel: ChannelId::new(message.channel.as_str())?,
        place: message.place.clone(),
        sender: message.sender.clone(),
        name: message.name.clone(),
        outsider: message.outsider,
        text: message.text.clone(),
        past: past.iter().map(utterance).collect::<Result<_, _>>()?,
    })
}

fn requested(case: &ChannelCase) -> Option<Requested> {
    let request = case.request.as_ref()?;
    let mut headers = pairs(&request.headers);
    if !request.headers.contains_key("content-type") {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    Some(Requested {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers,
        body: body(&request.body),
        signed: request.signed,
    })
}

fn answered(case: &ChannelCase) -> Result<Option<Answered>, Failure> {
    let Some(answer) = &case.answer else { return Ok(None) };
    let reply = Reply { text: answer.text.clone(), blocks: answer.blocks.clone(), attachments: Vec::new() };
    let responses = case.response.iter().map(|response| Responded {
        status: response.status,
        headers: pairs(&response.headers),
        body: response.body.as_ref().map(body).unwrap_or_default(),
    });
    Ok(Some(Answered {
        agent: AgentId::new(answer.agent.as_str())?,
        reply,
        target: answer.target.clone(),
        notes: answer.notes.clone(),
        waits: answer.waits,
        responses: responses.collect(),
    }))
}

fn pairs(headers: &BTreeMap<String, String>) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}
