//! `chela plugin diff`: in what two versions differ, as far as that is anybody's business but their authors'.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use chela_sandbox::Manifest;
use chela_store::Store;
use chela_types::{Digest, PluginId};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::args::Shown;
use super::super::{Failure, Outcome, load, say, say_json};
use super::inspect::{Looked, look, named};
use super::kept;
use crate::config::data_folder;
use crate::turn::in_one_line;

/// What is compared, in this order.
const SECTIONS: [&str; 8] =
    ["imports", "grants", "limits", "hosts", "secrets", "config", "channel", "as configured"];

/// One of the two.
struct Side {
    /// For people: what it is and where it comes from.
    title: String,
    facts: Facts,
    component: Digest,
}

/// Lines by section.
type Facts = BTreeMap<&'static str, BTreeSet<String>>;

/// Lines that only the one has, and those that only the other has.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Differs {
    #[serde(rename = "-")]
    gone: Vec<String>,
    #[serde(rename = "+")]
    come: Vec<String>,
}

pub(super) async fn run((a, b): (&str, Option<&str>), shown: &Shown) -> Outcome {
    let other = match b {
        Some(b) => b.to_owned(),
        None => format!("{a}@{}", in_folder(a, shown).await?),
    };
    let (mut a, mut b) = (side(a, shown).await?, side(&other, shown).await?);
    // What an operator configures is compared where both have been configured.
    if !(a.facts.contains_key("as configured") && b.facts.contains_key("as configured")) {
        a.facts.remove("as configured");
        b.facts.remove("as configured");
    }
    let differences = differences(&a.facts, &b.facts);
    if shown.json {
        let by_section: serde_json::Map<String, Value> = differences
            .iter()
            .map(|(section, differs)| Ok(((*section).to_owned(), serde_json::to_value(differs)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        return say_json(&json!({
            "a": a.title, "b": b.title, "same_code": a.component == b.component, "differences": by_section,
        }));
    }
    say(&page(&a, &b, &differences));
    Ok(ExitCode::SUCCESS)
}

/// Reads a folder, something that comes with the program, or a version that the host keeps.
async fn side(text: &str, shown: &Shown) -> Result<Side, Failure> {
    // A bare name is the plugin's, also where a folder has the same: what is approved is what the host keeps.
    if text.starts_with("builtin:") || text.contains('/') || Path::new(text).is_absolute() || text == "." {
        return Ok(found(look(named(text)?).await?, text, None));
    }
    let (name, digits) = match text.split_once('@') {
        Some((name, digits)) => (name, Some(digits.to_ascii_lowercase())),
        None => (text, None),
    };
    let helpful = |failure: Failure| {
        failure.help("a plugin's folder with a `/` in it (`./NAME`), `builtin:NAME`, NAME or NAME@DIGEST; `chela plugin list` shows both")
    };
    let plugin = PluginId::new(name).map_err(|error| helpful(error.into()))?;
    let store = kept_beside(shown).await?;
    let version = kept::version(&store, &plugin, digits.as_deref()).await;
    let version = version.map_err(|error| helpful(error.into()))?;
    let component = store.artefact(version.component).await?.ok_or_else(|| {
        Failure::new(format!("the component of {plugin} {} is not kept", version.digest.short()))
    })?;
    let (manifest, provenance) = (version.manifest.clone(), version.provenance.clone());
    let source = chela_sandbox::Source::Kept { manifest, component, provenance };
    let title = format!("{plugin}@{}", version.digest.short());
    Ok(found(look(source).await?, &title, serde_json::from_str(&version.settings).ok()))
}

async fn kept_beside(shown: &Shown) -> Result<Store, Failure> {
    let folder = match data_folder(&shown.config.config) {
        Some(folder) => folder,
        None => load(&shown.config)?.store.folder,
    };
    Ok(Store::open_beside(&folder).await?)
}

/// What the folder of a plugin was last seen to hold: what somebody would promote.
async fn in_folder(name: &str, shown: &Shown) -> Result<Digest, Failure> {
    let helpful = |failure: Failure| {
        failure.help("with one name, the host's active version of it is held against what its folder holds; else two are named")
    };
    let plugin = PluginId::new(name).map_err(|error| helpful(error.into()))?;
    kept::in_folder(&kept_beside(shown).await?, &plugin).await.map_err(|error| helpful(error.into()))
}

fn found(looked: Looked, from: &str, settings: Option<Value>) -> Side {
    let Looked { manifest, imports, component, .. } = looked;
    let title = format!("{} {} ({from})", manifest.name, manifest.version);
    let mut facts = facts(&manifest);
    facts.insert("imports", imports.into_iter().collect());
    if let Some(settings) = settings {
        facts.insert("as configured", flat(&settings));
    }
    Side { title, facts, component }
}

/// What a manifest asks for.
fn facts(manifest: &Manifest) -> Facts {
    let grants = manifest.grants.iter().map(|grant| grant.as_str().to_owned());
    let optional = manifest.optional.iter().map(|grant| format!("{} (optional)", grant.as_str()));
    let json = |value: &toml::Table| serde_json::to_value(value).unwrap_or_default();
    let (config, channel) = (json(&manifest.config), json(&manifest.channel));
    BTreeMap::from([
        ("grants", grants.chain(optional).collect()),
        ("limits", flat(&serde_json::to_value(&manifest.limits).unwrap_or_default())),
        ("hosts", hosts(&channel, &config)),
        ("secrets", secrets(&channel)),
        ("config", flat(&config)),
        ("channel", flat(&channel)),
    ])
}

/// Where an adapter's requests may go. What the operator puts in stays in braces.
fn hosts(channel: &Value, config: &Value) -> BTreeSet<String> {
    let endpoints = channel.get("endpoint").and_then(Value::as_object).into_iter().flatten();
    let urls = endpoints.filter_map(|(_, endpoint)| endpoint.get("url")?.as_str());
    urls.map(|url| {
        let mut url = url.to_owned();
        for (key, value) in config.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str() {
                url = url.replace(&format!("{{{key}}}"), value);
            }
        }
        match url.split_once("://") {
            Some((_, rest)) => rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned(),
            None => url,
        }
    })
    .collect()
}

/// Names of the secrets that the host holds for an adapter.
pub(in crate::cli) fn secrets(channel: &Value) -> BTreeSet<String> {
    let endpoints = channel.get("endpoint").and_then(Value::as_object).into_iter().flatten();
    let of_endpoints = endpoints.flat_map(|(_, endpoint)| {
        [endpoint.pointer("/credential/bearer"), endpoint.pointer("/sign/standard_webhooks")]
    });
    let all = of_endpoints.chain([channel.pointer("/verify/secret")]).flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A table as lines `path = value`.
fn flat(value: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    flatten(String::new(), value, &mut lines);
    lines
}

fn flatten(path: String, value: &Value, lines: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(path, value, lines);
            }
        }
        Value::Null => {}
        Value::Object(_) if path.is_empty() => {}
        value => {
            lines.insert(format!("{path} = {value}"));
        }
    }
}

fn differences(a: &Facts, b: &Facts) -> Vec<(&'static str, Differs)> {
    let none = BTreeSet::new();
    let mut differences = Vec::new();
    for section in SECTIONS {
        let (a, b) = (a.get(section).unwrap_or(&none), b.get(section).unwrap_or(&none));
        let differs =
            Differs { gone: a.difference(b).cloned().collect(), come: b.difference(a).cloned().collect() };
        if !(differs.gone.is_empty() && differs.come.is_empty()) {
            differences.push((section, differs));
        }
    }
    differences
}

fn page(a: &Side, b: &Side, differences: &[(&'static str, Differs)]) -> String {
    let mut text = format!("--- {}\n+++ {}\n", in_one_line(&a.title), in_one_line(&b.title));
    for (section, differs) in differences {
        text.push_str(&format!("{section}\n"));
        let gone = differs.gone.iter().map(|line| ("-", line));
        for (sign, line) in gone.chain(differs.come.iter().map(|line| ("+", line))) {
            text.push_str(&format!("  {sign} {}\n", in_one_line(line)));
        }
    }
    match (differences.is_empty(), a.component == b.component) {
        (true, true) => text.push_str("no difference\n"),
        (true, false) => text.push_str("no difference in what they ask for; the code is another\n"),
        (false, true) => text.push_str("the code is the same\n"),
        (false, false) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "name = \"shop\"\nversion = \"1.0.0\"\nkind = \"channel\"\ncontract = \"0.1.0\"\ngrants = [\"memory\"]\n[limits]\nmemory_bytes = 1048576\n[config]\nbase_url = \"https://shop.example\"\nnote = \"a\"\n[verify]\nkind = \"hmac\"\nsecret = \"signing_secret\"\n[endpoint.post]\nurl = \"{base_url}/api\"\ncredential = { bearer = \"token\" }\n";

    fn side(manifest: &str, imports: &[&str]) -> Side {
        let looked = Looked {
            manifest: Manifest::parse(manifest).unwrap(),
            imports: imports.iter().map(|import| (*import).to_owned()).collect(),
            component: Digest::of("t", &[imports.concat().as_bytes()]),
            bytes: 8,
            build: Digest::from_bytes([0; 32]),
            signer: None,
        };
        found(looked, "here", None)
    }

    fn shown(a: &Side, b: &Side) -> String {
        page(a, b, &differences(&a.facts, &b.facts))
    }

    #[test]
    fn what_is_another_stands_in_lines() {
        let new = OLD
            .replace("1.0.0", "1.1.0")
            .replace("[\"memory\"]", "[\"memory\", \"models\"]\noptional = [\"memory\"]")
            .replace("1048576", "2097152")
            .replace("note = \"a\"", "note = \"\\u001b[2J\"")
            .replace("bearer = \"token\"", "bearer = \"bot_token\"")
            .replace("{base_url}/api", "https://elsewhere.example:8443/api");
        let (a, b) = (
            side(OLD, &["chela:plugin/memory"]),
            side(&new, &["chela:plugin/memory", "chela:plugin/models"]),
        );
        insta::assert_snapshot!(shown(&a, &b));
    }

    #[test]
    fn the_same_is_no_difference() {
        assert!(shown(&side(OLD, &["x"]), &side(OLD, &["x"])).ends_with("\nno difference\n"));
        let mut other = side(OLD, &["x"]);
        other.component = Digest::of("t", &[b"other"]);
        let text = shown(&side(OLD, &["x"]), &other);
        assert!(text.ends_with("no difference in what they ask for; the code is another\n"), "{text}");
    }

    #[test]
    fn our_own_adapter_tells_its_host_and_secrets() {
        let manifest = Manifest::parse(chela_bundle::get("slack").unwrap().manifest).unwrap();
        let facts = facts(&manifest);
        assert_eq!(facts["hosts"], BTreeSet::from(["slack.com".to_owned()]));
        assert_eq!(facts["secrets"], BTreeSet::from(["bot_token".to_owned(), "signing_secret".to_owned()]));
    }
}
