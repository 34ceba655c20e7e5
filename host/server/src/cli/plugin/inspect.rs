//! `chela plugin inspect`: what one plugin is and what it may touch.

use std::path::PathBuf;
use std::process::ExitCode;

use chela_engine::{Agent, Channel, Router};
use chela_sandbox::{CONTRACT, Grants, Level, Limits, Manifest, PluginKind, PublicKey, Settings};
use chela_types::{Digest, PluginId};
use serde_json::{Map, Value, json};

use super::super::{Failure, Outcome, say, say_json, table};
use crate::compose::{Surroundings, looking_sandbox, plugin_source};
use crate::config::{self, Source};
use crate::turn::in_one_line;

/// A plugin as it was found.
pub(in crate::cli) struct Looked {
    pub(in crate::cli) manifest: Manifest,
    /// What its component imports.
    pub(in crate::cli) imports: Vec<String>,
    /// The component's own digest.
    pub(in crate::cli) component: Digest,
    /// Bytes of the component.
    pub(in crate::cli) bytes: usize,
    /// Of manifest and component, whatever an operator configures of them.
    pub(in crate::cli) build: Digest,
    /// Whose signature it carries.
    pub(in crate::cli) signer: Option<PublicKey>,
}

pub(super) async fn run(source: &str, as_json: bool) -> Outcome {
    let looked = look(named(source)?).await?;
    if as_json {
        return say_json(&looked.json());
    }
    say(&looked.page());
    Ok(ExitCode::SUCCESS)
}

/// `builtin:NAME`, or a folder.
pub(super) fn named(source: &str) -> Result<chela_sandbox::Source, Failure> {
    let given = match source.strip_prefix("builtin:") {
        Some(name) => Source::Builtin(name.to_owned()),
        None => Source::Folder(PathBuf::from(source)),
    };
    Ok(plugin_source(&PluginId::new(ID)?, &given)?)
}

/// Under which name a plugin is looked at.
pub(super) const ID: &str = "inspected";

/// Reads and checks, and runs nothing.
pub(in crate::cli) async fn look(source: chela_sandbox::Source) -> Result<Looked, Failure> {
    look_as(PluginId::new(ID)?, source).await
}

/// The same under a name of its own.
pub(in crate::cli) async fn look_as(id: PluginId, source: chela_sandbox::Source) -> Result<Looked, Failure> {
    let folder = match &source {
        chela_sandbox::Source::Folder(folder) => Some(folder.clone()),
        chela_sandbox::Source::Embedded { .. } | chela_sandbox::Source::Kept { .. } => None,
    };
    let sandbox = looking_sandbox(&Surroundings::of_this_program()?)?;
    let build = sandbox.read(&id, source).await.map_err(|error| match folder {
        Some(folder) => Failure::from(error).help(format!("is {} a plugin's folder?", folder.display())),
        None => Failure::from(error),
    })?;
    let (component, bytes, digest) = (build.component_digest, build.component.len(), build.digest());
    let (kind, source, signer) = (build.manifest.kind, build.source(), build.provenance.signer());
    let (grants, limits, level) = (Grants::all(), Limits::STANDARD, Level::Worker);
    let settings = Settings { id, config: json!({}), grants, limits, level };
    let (manifest, imports) = match kind {
        PluginKind::Router => sandbox.inspect::<Router>(source, &settings).await?,
        PluginKind::Agent => sandbox.inspect::<Agent>(source, &settings).await?,
        PluginKind::Channel => sandbox.inspect::<Channel>(source, &settings).await?,
    };
    Ok(Looked { manifest, imports, component, bytes, build: digest, signer })
}

impl Looked {
    /// The world that it was built against.
    fn world(&self) -> String {
        format!("chela:plugin/{}@{CONTRACT}", self.manifest.kind)
    }

    /// Everything, for a program.
    pub(in crate::cli) fn json(&self) -> Value {
        let limits = limits(&self.manifest).into_iter().map(|limit| {
            let Limit { key, asked, usual } = limit;
            (key.to_owned(), json!({ "asked": asked, "usual": usual, "counts": limit.counts() }))
        });
        json!({
            "world": self.world(),
            "contract": CONTRACT,
            "bytes": self.bytes,
            "digest": self.build.to_string(),
            "component_digest": self.component.to_string(),
            "signed_by": self.signer.map(|key| key.to_string()),
            "imports": self.imports,
            "limits": limits.collect::<Map<_, _>>(),
            "manifest": self.manifest,
        })
    }

    /// A plugin on one page. Its own words are a stranger's, and whoever looks has a terminal.
    pub(in crate::cli) fn page(&self) -> String {
        let Self { manifest, imports, .. } = self;
        let asked = manifest.grants.iter().map(chela_sandbox::Grant::as_str).collect();
        let optional = manifest.optional.iter().map(chela_sandbox::Grant::as_str).collect();
        let facts = [
            ("world", self.world()),
            ("size", size(self.bytes)),
            ("digest", self.build.to_string()),
            ("component", self.component.to_string()),
            ("signed by", self.signer.map_or_else(|| "nobody".to_owned(), |key| key.to_string())),
            ("asks for", or_nothing(asked)),
            ("optional", or_nothing(optional)),
        ];
        let (name, version, kind) = (&manifest.name, &manifest.version, manifest.kind.as_str());
        let mut text = format!("{name} {version} · {kind}\n{}\n\n", in_one_line(&manifest.description));
        for (what, is) in facts {
            text.push_str(&format!("  {what:<10} {is}\n"));
        }
        text.push_str("  imports\n");
        for import in imports {
            text.push_str(&format!("    {}\n", in_one_line(import)));
        }
        let mut rows = table(&["limit of a call", "asked", "usual", "counts"]);
        for limit in limits(manifest) {
            let asked = limit.asked.map(|asked| amount(limit.key, asked)).unwrap_or_default();
            let [usual, counts] = [limit.usual, limit.counts()].map(|number| amount(limit.key, number));
            rows.add_row([limit.key.to_owned(), asked, usual, counts]);
        }
        format!("{text}\n{rows}\n")
    }
}

fn or_nothing(names: Vec<&str>) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// A limit of one call.
struct Limit {
    /// As files name it.
    key: &'static str,
    /// What the manifest says is enough.
    asked: Option<u64>,
    /// What a plugin of this kind gets where the operator says nothing.
    usual: u64,
}

impl Limit {
    /// The lower one: a manifest can only lower.
    fn counts(&self) -> u64 {
        self.asked.map_or(self.usual, |asked| asked.min(self.usual))
    }
}

fn limits(manifest: &Manifest) -> Vec<Limit> {
    let usual = match manifest.kind {
        PluginKind::Router => config::Limits::ROUTER,
        PluginKind::Agent => config::Limits::AGENT,
        PluginKind::Channel => config::Limits::CHANNEL,
    };
    let asked = &manifest.limits;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let wide = |count: Option<u32>| count.map(u64::from);
    let size = |bytes: Option<usize>| bytes.map(|bytes| bytes as u64);
    [
        ("memory_bytes", size(asked.memory_bytes), usual.memory_bytes as u64),
        ("deadline_ms", asked.deadline_ms, millis(usual.deadline)),
        ("cpu_ms", asked.cpu_ms, millis(usual.cpu)),
        ("host_calls", wide(asked.host_calls), usual.host_calls.into()),
        ("input_bytes", size(asked.input_bytes), usual.input_bytes as u64),
        ("output_bytes", size(asked.output_bytes), usual.output_bytes as u64),
        ("log_lines", wide(asked.log_lines), usual.log_lines.into()),
        ("table_elements", size(asked.table_elements), usual.table_elements as u64),
    ]
    .map(|(key, asked, usual)| Limit { key, asked, usual })
    .into()
}

/// A number in the unit that its key names.
fn amount(key: &str, number: u64) -> String {
    match key.rsplit_once('_') {
        Some((_, "bytes")) if number > 0 && number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        Some((_, "bytes")) if number > 0 && number.is_multiple_of(1 << 10) => format!("{} KiB", number >> 10),
        Some((_, "bytes")) => format!("{number} bytes"),
        Some((_, "ms")) => format!("{number} ms"),
        _ => number.to_string(),
    }
}

/// The size of a component, for people.
pub(in crate::cli) fn size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\u{1b}[2J\u{7}\n  asks for   nothing";

    fn steers(text: &str) -> bool {
        text.contains(|c: char| c.is_control() && c != '\n')
    }

    fn looked(description: &str, import: &str) -> Looked {
        let found = chela_bundle::get("assistant").unwrap();
        let mut manifest = Manifest::parse(found.manifest).unwrap();
        manifest.description = description.to_owned();
        manifest.limits.memory_bytes = Some(16 << 20);
        manifest.limits.host_calls = Some(1_000_000);
        Looked {
            manifest,
            imports: vec![import.to_owned()],
            component: Digest::from_bytes([0xcc; 32]),
            bytes: 93_412,
            build: Digest::from_bytes([0xbb; 32]),
            signer: None,
        }
    }

    #[test]
    fn a_page_says_what_a_plugin_is_and_what_counts_for_it() {
        let page = looked("Answers.", "chela:plugin/models@0.1.0").page();
        for words in [
            ["world ", "chela:plugin/agent@0.1.0"],
            ["size ", "93.4 KB"],
            ["signed by ", "nobody"],
            ["asks for ", "models"],
            ["memory_bytes ", " 16 MiB "],
            ["host_calls ", " 1000000 "],
            ["deadline_ms ", " 240000 ms "],
        ] {
            let is_there = page.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(is_there, "{words:?} in\n{page}");
        }
        let json = looked("Answers.", "chela:plugin/models@0.1.0").json();
        assert_eq!(json["world"], "chela:plugin/agent@0.1.0");
        assert_eq!(json["limits"]["memory_bytes"]["counts"], 16 << 20);
        assert_eq!(json["limits"]["host_calls"]["counts"], 1_000, "a manifest can only lower");
        assert_eq!(json["digest"], "bb".repeat(32));
        assert_eq!([size(93_412), size(18_300_000)], ["93.4 KB", "18.3 MB"]);
    }

    #[test]
    fn a_plugins_words_do_not_steer_the_terminal() {
        let page = looked(EVIL, EVIL).page();
        assert!(!steers(&page), "{page:?}");
        assert_eq!(page.lines().filter(|line| line.starts_with("  asks for")).count(), 1, "{page}");
    }
}
