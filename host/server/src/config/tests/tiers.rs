//! How an agent's tier is chosen, and who makes vectors.

use std::path::Path;

use chela_gateway::TierPolicy;
use chela_gateway::difficulty::{Data, Options, fit};
use chela_types::{AgentId, Millis};

use super::super::{Code, Config, Embedding};
use super::load_in;

/// Two tiers, one agent, and what stands in its table; a plugin that asks for models.
fn asking(agent: &str, more: &str) -> String {
    format!(
        "{more}\n[provider.s]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[provider.o]\nkind = \"openai\"\nkey = \"env:KEY\"\n[provider.c]\nkind = \"anthropic\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"s/m\"]\n[tier.smart]\nchain = [\"s/n\"]\n[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n[agent.hr]\nplugin = \"m\"\ntier = \"smart\"\n{agent}"
    )
}

/// What `chela tier fit` would write.
fn fitted() -> String {
    let line = |number: u32| {
        let (text, good) = if number.is_multiple_of(2) { ("reset it", true) } else { ("prove it", false) };
        format!(r#"{{"text":"{text} w{number}","cheap":{{"good":{good}}},"dear":{{"good":true}}}}"#)
    };
    let lines: Vec<String> = (0..400).map(line).collect();
    let data = Data::read(lines.join("\n").as_bytes()).unwrap();
    fit(&data, Options::default(), Millis(0)).unwrap().0.to_toml().unwrap()
}

fn loaded(folder: &Path, agent: &str, more: &str) -> Result<Config, Vec<Code>> {
    let loaded = load_in(folder, &asking(agent, more));
    loaded.map(|(config, _)| config).map_err(|error| error.problems().iter().map(|one| one.code()).collect())
}

#[test]
fn what_people_were_promised_needs_a_faster_tier() {
    let folder = tempfile::tempdir().unwrap();
    let promised = "answer_within_s = 20\n";
    assert_eq!(loaded(folder.path(), promised, "").map(|_| ()), Err(vec![Code::WrongValue]));
    let text = asking(promised, "").replace("chain = [\"s/n\"]\n", "chain = [\"s/n\"]\ncheaper = \"fast\"\n");
    let (config, _) = load_in(folder.path(), &text).map_err(|error| error.to_string()).unwrap();
    let within = config.agents[&AgentId::new("hr").unwrap()].answer_within;
    assert_eq!(within, Some(std::time::Duration::from_secs(20)));
}

fn policy(config: &Config) -> &TierPolicy {
    &config.agents[&AgentId::new("hr").unwrap()].tier_policy
}

#[test]
fn a_policy_is_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hr.toml"), fitted()).unwrap();
    let load = |agent: &str| loaded(folder.path(), agent, "[budget]\nlower_at = 90\n");
    let config = load("").unwrap();
    assert!(matches!(policy(&config), TierPolicy::Wish));
    assert_eq!(config.budget.lower_at, Some(90));
    assert!(matches!(policy(&load("tier_policy = \"fixed\"\n").unwrap()), TierPolicy::Fixed));
    let calibrated = "tier_policy = \"calibrated\"\ncheap_tier = \"fast\"\ntier_model = \"hr.toml\"\n";
    let config = load(calibrated).unwrap();
    let TierPolicy::Calibrated { cheap, .. } = policy(&config) else { panic!("{:?}", policy(&config)) };
    assert_eq!(cheap.as_str(), "fast");
    assert!(config.paths.iter().any(|path| path.ends_with("hr.toml")), "it is watched");
    assert_ne!(config.digest, load("").unwrap().digest);
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = fitted();
    std::fs::write(folder.path().join("hr.toml"), &file).unwrap();
    std::fs::write(folder.path().join("bad.toml"), file.replacen("turns = 400", "turns = 40000", 1)).unwrap();
    let calibrated = |rest: &str| format!("tier_policy = \"calibrated\"\n{rest}");
    for (agent, codes) in [
        (calibrated(""), vec![Code::MissingKey, Code::MissingKey]),
        (calibrated("cheap_tier = \"fast\"\n"), vec![Code::MissingKey]),
        (calibrated("tier_model = \"hr.toml\"\n"), vec![Code::MissingKey]),
        (calibrated("cheap_tier = \"fsat\"\ntier_model = \"hr.toml\"\n"), vec![Code::UnknownReference]),
        (calibrated("cheap_tier = \"smart\"\ntier_model = \"hr.toml\"\n"), vec![Code::WrongValue]),
        (calibrated("cheap_tier = \"fast\"\ntier_model = \"bad.toml\"\n"), vec![Code::WrongValue]),
        (calibrated("cheap_tier = \"fast\"\ntier_model = \"none.toml\"\n"), vec![Code::PathUnusable]),
        ("cheap_tier = \"fast\"\n".to_owned(), vec![Code::WrongValue]),
        ("tier_policy = \"fixed\"\ntier_model = \"hr.toml\"\n".to_owned(), vec![Code::WrongValue]),
        ("tier_policy = \"clever\"\n".to_owned(), vec![Code::WrongValue]),
    ] {
        assert_eq!(loaded(folder.path(), &agent, "").map(|_| ()), Err(codes), "{agent}");
    }
    assert_eq!(
        loaded(folder.path(), "", "[budget]\nlower_at = 0\n").map(|_| ()),
        Err(vec![Code::WrongValue])
    );
}

#[test]
fn vectors_are_made_by_this_program_or_by_a_chain() {
    let folder = tempfile::tempdir().unwrap();
    let load = |chain: &str| loaded(folder.path(), "", &format!("[embedding]\nchain = [{chain}]\n"));
    assert!(matches!(loaded(folder.path(), "", "").unwrap().embedding, Embedding::Lexical));
    assert!(matches!(load("\"builtin:lexical\"").unwrap().embedding, Embedding::Lexical));
    let config = load("\"o/text-embedding-3-small\"").unwrap();
    assert!(
        matches!(&config.embedding, Embedding::Chain(chain) if chain[0].model == "text-embedding-3-small")
    );
    assert!(config.providers["o"].prices.contains_key("text-embedding-3-small"));
    for (chain, code) in [
        ("", Code::WrongValue),
        ("\"o/text-embedding-3-small\", \"builtin:lexical\"", Code::WrongValue),
        ("\"builtin:lexical\", \"builtin:lexical\"", Code::Duplicate),
        ("\"o/text-embedding-3-small\", \"o/text-embedding-3-small\"", Code::Duplicate),
        ("\"o/text-embedding-9\"", Code::UnknownPrice),
        ("\"x/m\"", Code::UnknownReference),
        ("\"s/m\"", Code::WrongValue),
        ("\"text-embedding-3-small\"", Code::WrongValue),
    ] {
        assert_eq!(load(chain).map(|_| ()), Err(vec![code]), "{chain}");
    }
}

/// Files that are missing or wrong are the embedder's own tests; here, that they are asked for by a program that can read them.
#[test]
fn vectors_are_made_by_a_model_in_a_folder_where_the_program_can() {
    let folder = tempfile::tempdir().unwrap();
    let load = |more: &str| {
        loaded(folder.path(), "", &format!("[embedding]\nmodel_dir = \"minilm\"\n{more}"))
            .map(|_| ())
            .unwrap_err()
    };
    let missing = if chela_embedder::IS_BUILT { Code::PathUnusable } else { Code::WrongValue };
    assert_eq!(load(""), [missing]);
    assert_eq!(load("chain = [\"builtin:lexical\"]\n"), [missing]);
    assert_eq!(load("chain = [\"o/text-embedding-3-small\"]\n"), [Code::WrongValue, missing]);
    std::fs::create_dir(folder.path().join("minilm")).unwrap();
    assert_eq!(load(""), [missing], "an empty folder is no model");
}
