//! The host of an author's day: the one that runs, one with his configuration, or one with a configuration of its own
//! that needs nothing: a web chat, scripted models, and whoever the plugin speaks of.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chela_sandbox::PluginKind;
use chela_types::AgentId;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::build::shown;
use super::super::project::Project;
use crate::cli::args::{ConfigPath, Dev};
use crate::cli::operator::Operator;
use crate::cli::plugin::secrets;
use crate::cli::up::Loading;
use crate::cli::{Failure, load, say_aside, socket};
use crate::compose::Surroundings;
use crate::config::Source;
use crate::host::{self, Host, Options, Progress, SOCKET};
use crate::telemetry;

/// What a host that is started for an author logs unless `CHELA_LOG` says otherwise: trouble, and what plugins say.
const FILTER: &str = "warn,notify=off,plugin=debug";
/// Agents of a host of its own, beside the one that answers by default.
const AGENTS_MAX: usize = 8;

/// A host that is spoken with.
pub(super) struct Served {
    pub(super) socket: socket::Host,
    /// From where it loads the plugin.
    pub(super) folder: PathBuf,
    pub(super) greeting: String,
    /// The host itself, if it runs here.
    running: Option<(JoinHandle<Result<(), host::Error>>, telemetry::Log)>,
}

impl Served {
    /// Waits until a host that runs here has drained; it has been told to stop.
    pub(super) async fn ended(self) -> Result<(), Failure> {
        match self.running {
            Some((running, _log)) => Ok(running.await??),
            None => Ok(()),
        }
    }
}

/// The host that serves the plugin.
///
/// # Errors
/// A configuration with mistakes, or a host that does not start.
pub(super) async fn find(
    asked: &Dev,
    project: &Project,
    stop: &CancellationToken,
) -> Result<Served, Failure> {
    let file = &asked.config.config;
    if file.is_file() {
        let config = load(&asked.config)?;
        if let Some((_, plugin)) = project.place(&config, None)
            && let Source::Folder(folder) = &plugin.source
        {
            let folder = folder.clone();
            super::publish(&project.built(), &folder)?;
            if let Ok(Operator::Running(socket)) = Operator::of(&config.store.folder).await {
                let greeting = format!("the host of {} runs, and swaps what is built\n", file.display());
                return Ok(Served { socket, folder, greeting, running: None });
            }
            return start(asked.config.clone(), folder, stop).await;
        }
        say_aside(&format!("{} does not use this plugin: a host of its own serves it\n", file.display()));
    }
    let config = lay_out(project, asked.port)?;
    start(ConfigPath { config }, project.built(), stop).await
}

async fn start(at: ConfigPath, folder: PathBuf, stop: &CancellationToken) -> Result<Served, Failure> {
    let config = load(&at)?;
    let filter = std::env::var("CHELA_LOG").unwrap_or_else(|_| FILTER.to_owned());
    let log = telemetry::log(telemetry::Format::Pretty, &filter)?;
    let (data, channels) = (config.store.folder.clone(), config.channels.keys().cloned().collect::<Vec<_>>());
    let loading = Loading::new();
    let options = Options {
        surroundings: Surroundings::of_this_program()?,
        chats: BTreeMap::new(),
        metrics: None,
        progress: Progress(&|serves, progress| loading.tell(serves, progress)),
    };
    let started = Host::start(config, options).await;
    loading.finish();
    let host = started.map_err(|error| match error {
        host::Error::Listen { .. } => Failure::from(error).help("`--port 0` takes any port that is free"),
        error => error.into(),
    })?;
    let public = host.addresses().public;
    let mut greeting = format!("serving with {}\n", shown(&at.config));
    for channel in channels.iter().map(ToString::to_string) {
        greeting.push_str(&format!("  {channel:<12} http://{public}/channels/{channel}/\n"));
    }
    let running = tokio::spawn(host.run(stop.clone()));
    let socket = socket::Host::at(data.join(SOCKET));
    Ok(Served { socket, folder, greeting, running: Some((running, log)) })
}

/// Writes a configuration that needs nothing.
fn lay_out(project: &Project, port: u16) -> Result<PathBuf, Failure> {
    let folder = project.own().join("dev");
    fs::create_dir_all(&folder)?;
    let secret = folder.join("secret");
    if !secret.exists() {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret)?;
        file.write_all(format!("whsec_{}", BASE64.encode(rand::random::<[u8; 32]>())).as_bytes())?;
    }
    fs::write(folder.join("answers.toml"), "[default]\nsay = \"You said: {last}\"\n")?;
    let file = folder.join("chela.toml");
    fs::write(&file, toml::to_string(&configuration(project, port))?)?;
    Ok(file)
}

/// As a value, to be written.
fn configuration(project: &Project, port: u16) -> Value {
    let manifest = &project.manifest;
    let name = manifest.name.as_str();
    let asked = manifest.grants.union(manifest.optional);
    let grants: Vec<_> = asked.iter().map(|grant| grant.as_str()).collect();
    let answers = |plugin: &str| json!({ "plugin": plugin, "tier": "fast", "outsiders": true });
    let mut whole = json!({
        "server": { "public": format!("127.0.0.1:{port}"), "admin": "127.0.0.1:0" },
        "store": { "url": "sqlite:data" },
        "provider": { "scripted": { "kind": "scripted", "script": "answers.toml" } },
        "tier": { "fast": { "chain": ["scripted/any"] } },
        "plugin": {
            name: { "source": project.built(), "grants": grants },
            ANSWERS: { "source": "builtin:assistant", "grants": ["models"] },
            CHAT: { "source": "builtin:web-chat" },
        },
        "channel": { "web": { "plugin": CHAT, "default_agent": "desk" } },
        "agent": { "desk": answers(if manifest.kind == PluginKind::Agent { name } else { ANSWERS }) },
    });
    match manifest.kind {
        PluginKind::Router => {
            put(&mut whole, "/agent", agents(&manifest.config).map(|agent| (agent, answers(ANSWERS))));
            put(&mut whole, "", [("routing".to_owned(), json!({ "router": name }))]);
        }
        PluginKind::Channel => {
            let channel = serde_json::to_value(&manifest.channel).unwrap_or_default();
            let held: Map<_, _> =
                secrets(&channel).into_iter().map(|name| (name, json!("file:secret"))).collect();
            let own = json!({ "plugin": name, "default_agent": "desk", "secrets": held });
            put(&mut whole, "/channel", [(name.to_owned(), own)]);
        }
        PluginKind::Agent => {
            let held = credentials(&manifest.outward).map(|name| (name, json!("file:secret")));
            let held: Map<_, _> = held.collect();
            if !held.is_empty() {
                put(&mut whole, &format!("/plugin/{name}"), [("secrets".to_owned(), Value::Object(held))]);
            }
        }
    }
    whole
}

/// The secrets that an agent's requests carry.
fn credentials(outward: &toml::Table) -> impl Iterator<Item = String> {
    let tables = outward.get("credential").and_then(toml::Value::as_table).into_iter().flatten();
    tables.filter_map(|(_, table)| table.get("secret")?.as_str().map(str::to_owned))
}

/// The plugins beside the author's own.
const ANSWERS: &str = "dev-agent";
const CHAT: &str = "dev-chat";

/// Whom a router speaks of: texts in its configuration that could be names.
fn agents(config: &toml::Table) -> impl Iterator<Item = String> {
    let below = config.values().filter_map(toml::Value::as_table).flat_map(|table| table.values());
    let texts = config.values().chain(below).filter_map(toml::Value::as_str);
    let names = texts.filter(|text| AgentId::new(*text).is_ok() && *text != "desk").map(str::to_owned);
    names.take(AGENTS_MAX).collect::<std::collections::BTreeSet<_>>().into_iter()
}

fn put(whole: &mut Value, at: &str, more: impl IntoIterator<Item = (String, Value)>) {
    if let Some(Value::Object(table)) = whole.pointer_mut(at) {
        table.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{KindName, New};
    use crate::cli::author::Lang;

    const CREDENTIAL: &str = r#"
[[http]]
url = "https://crm.example/orders/*"
credentials = ["crm"]

[credential.crm]
kind = "bearer"
secret = "crm_token"
"#;

    #[test]
    fn a_host_of_its_own_can_be_what_it_says_for_each_kind() {
        let top = tempfile::tempdir().unwrap();
        for kind in [KindName::Router, KindName::Agent, KindName::Channel] {
            let folder: &std::path::Path = &top.path().join(kind.as_str());
            let new = New { name: folder.to_owned(), kind, lang: Lang::Python, sdk: None };
            super::super::super::new(&new).map_err(|failure| format!("{failure:?}")).unwrap();
            if kind == KindName::Agent {
                let manifest = folder.join("plugin.toml");
                let text = fs::read_to_string(&manifest).unwrap();
                let grants = text.lines().find(|line| line.starts_with("grants")).unwrap();
                fs::write(&manifest, text.replace(grants, "grants = [\"http\"]") + CREDENTIAL).unwrap();
            }
            let project = Project::open(folder).map_err(|failure| format!("{failure:?}")).unwrap();
            fs::create_dir(project.built()).unwrap();
            let file = lay_out(&project, 0).map_err(|failure| format!("{failure:?}")).unwrap();
            let (config, warnings) =
                crate::config::load(&file, &|_| None).map_err(|error| error.render(100, false)).unwrap();
            assert!(warnings.is_empty(), "{}", warnings[0]);
            let agents: Vec<_> = config.agents.keys().map(ToString::to_string).collect();
            let held: Vec<_> = config.plugins.values().flat_map(|plugin| plugin.secrets.keys()).collect();
            assert_eq!(held, if kind == KindName::Agent { vec!["crm_token"] } else { vec![] });
            match kind {
                KindName::Router => assert_eq!(agents, ["desk", "support"]),
                KindName::Agent | KindName::Channel => assert_eq!(agents, ["desk"]),
            }
            assert_eq!(config.channels.len(), if kind == KindName::Channel { 2 } else { 1 });
        }
    }
}
