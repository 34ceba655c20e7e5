//! What is accepted, what it becomes, and what is only doubted.

use std::path::Path;
use std::time::Duration;

use chela_types::{AgentId, ChannelId, Money, PluginId, TierId};
use secrecy::ExposeSecret as _;

use super::super::{Code, Config, ProviderKind, Reach, Source};
use super::{BASE, load, load_in, snapshot};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/example.toml"));

fn example() -> Config {
    let folder = tempfile::tempdir().unwrap();
    for agent in ["sales", "support", "technical", "hr"] {
        std::fs::create_dir_all(folder.path().join("knowledge").join(agent)).unwrap();
    }
    let (config, warnings) =
        load_in(folder.path(), EXAMPLE).unwrap_or_else(|e| panic!("{}", e.render(100, false)));
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

#[test]
fn the_example_of_the_docs_resolves() {
    let config = example();
    let hr = &config.agents[&AgentId::new("hr").unwrap()];
    let slack = ChannelId::new("slack-internal").unwrap();
    let web = ChannelId::new("web").unwrap();
    assert!(hr.confidential && hr.reach.allows(&slack, Some("C1")) && !hr.reach.allows(&web, None));
    assert!(hr.knowledge.as_ref().unwrap().ends_with("knowledge/hr"));
    assert_eq!(hr.budget, Money::parse_dollars("20"));
    let technical = &config.agents[&AgentId::new("technical").unwrap()];
    assert_eq!((technical.tiers_allowed.len(), technical.budget), (2, Money::parse_dollars("40")));
    assert_eq!(technical.reach, Reach::Everywhere);
    let fast = &config.tiers[&TierId::new("fast").unwrap()];
    assert_eq!((fast.chain.len(), fast.first_token), (3, Some(Duration::from_secs(5))));
    let price = config.providers["openai"].prices["gpt-4o-mini"];
    assert_eq!(price.rates.cached, Money::parse_dollars("0.075").unwrap());
    let shop = &config.channels[&ChannelId::new("shop").unwrap()];
    assert_eq!(shop.default_agent.as_str(), "support");
    assert_eq!(shop.secrets["signing_secret"].expose_secret(), "hunter2-SHOP_SIGNING_SECRET");
    let keyword = &config.plugins[&PluginId::new("keyword").unwrap()];
    assert_eq!(keyword.source, Source::Builtin("keyword".into()));
    assert_eq!(keyword.config["rules"][0]["phrases"][1], "payslip");
}

#[test]
fn a_secret_is_never_printed() {
    let config = example();
    let ProviderKind::OpenAi(endpoint) = &config.providers["openai"].kind else { panic!("not openai") };
    assert_eq!(endpoint.key.as_ref().unwrap().expose_secret(), "hunter2-OPENAI_API_KEY");
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

#[test]
fn the_smallest_file_has_all_defaults() {
    let (config, warnings) = load(BASE).unwrap();
    assert!(warnings.is_empty());
    assert!(config.server.public.ip().is_loopback() && config.server.admin.ip().is_loopback());
    assert!(!config.egress.allow_loopback && !config.egress.allow_private);
    assert_eq!(config.store.folder.file_name(), Some("chela-data".as_ref()));
    assert_eq!(config.budget.user, Money::parse_dollars("2"));
}

#[test]
fn own_limits_stand_above_those_of_the_kind() {
    let text = format!(
        "[limits.router]\ndeadline_ms = 100\n[plugin.p]\nsource = \"builtin:p\"\nlimits = {{ host_calls = 3 }}\n[routing]\nrouter = \"p\"\n{BASE}"
    );
    let (config, _) = load(&text).unwrap();
    let limits = &config.plugins[&PluginId::new("p").unwrap()].limits;
    assert_eq!((limits.host_calls, limits.deadline), (3, Duration::from_millis(100)));
    assert_eq!(limits.memory_bytes, 64 << 20);
}

#[test]
fn unlimited_is_said_in_words() {
    let (config, _) =
        load(&format!("[budget]\nagent = \"unlimited\"\nglobal = \"unlimited\"\n{BASE}")).unwrap();
    assert_eq!((config.budget.agent, config.budget.global), (None, None));
    assert_eq!(config.agents[&AgentId::new("sales").unwrap()].budget, None);
}

#[test]
fn a_place_is_one_room_of_a_channel() {
    let text = format!(
        "[agent.hr]\nplugin = \"assistant\"\nreachable_from = [\"slack/C1\"]\n[channel.slack]\nplugin = \"chat\"\ndefault_agent = \"sales\"\n[plugin.chat]\nsource = \"builtin:slack\"\n[plugin.router]\nsource = \"builtin:keyword\"\n[routing]\nrouter = \"router\"\n{BASE}"
    );
    let (config, warnings) = load(&text).unwrap();
    let reach = &config.agents[&AgentId::new("hr").unwrap()].reach;
    let slack = ChannelId::new("slack").unwrap();
    assert!(reach.allows(&slack, Some("C1")));
    assert!(!reach.allows(&slack, Some("C2")) && !reach.allows(&slack, None));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn personas_scripts_and_secrets_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("persona.md", "You are kind.\n");
    write("say.toml", "# a script\n");
    write("token", "hunter2\n");
    permit(&folder.path().join("token"), 0o600);
    let text = "[server]\nadmin_token = \"file:token\"\n[provider.s]\nkind = \"scripted\"\nscript = \"say.toml\"\n[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\npersona = \"file:persona.md\"\n";
    let (config, warnings) = load_in(folder.path(), text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.agents[&AgentId::new("x").unwrap()].persona, "You are kind.\n");
    assert_eq!(config.server.admin_token.unwrap().expose_secret(), "hunter2");
}

#[test]
fn doubts_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2").unwrap();
    permit(&folder.path().join("token"), 0o644);
    let text = format!(
        "[server]\nadmin_token = \"file:token\"\n\n[plugin.chat]\nsource = \"builtin:web-chat\"\n\n[channel.web]\nplugin = \"chat\"\ndefault_agent = \"sales\"\nconfig = {{ bot_token = \"hunter2\" }}\n\n[agent.nobody]\nplugin = \"assistant\"\nreachable_from = []\n\n[agent.idle]\nplugin = \"assistant\"\n\n{BASE}"
    );
    let (_, warnings) = load_in(folder.path(), &text).unwrap();
    let codes: Vec<Code> = warnings.iter().map(|warning| warning.code()).collect();
    let expected =
        [Code::SecretExposed, Code::SecretInConfig, Code::AgentUnreachable, Code::AgentUnreachable];
    assert_eq!(codes, expected);
    let shown: String = warnings.iter().map(|warning| warning.plain(100)).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    snapshot("warnings", &shown);
}

#[test]
fn two_texts_have_two_digests() {
    let digest = |text: &str| load(text).unwrap().0.digest;
    assert_eq!(digest(BASE), digest(BASE));
    assert_ne!(digest(BASE), digest(&format!("{BASE}# changed\n")));
}

fn permit(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
