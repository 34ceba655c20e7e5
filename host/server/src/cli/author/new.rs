//! `chela plugin new`: a plugin that builds, has a test and cases, and asks for exactly what it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chela_types::PluginId;

use super::super::args::New;
use super::super::{Failure, Outcome, say};
use super::files;
use super::project::Lang;

/// What a plugin's folder does not give to git.
const IGNORED: &str = "/dist/\n/.chela/\n/target/\n/node_modules/\n/.venv/\n__pycache__/\n*.egg-info/\n";

pub(super) fn run(asked: &New) -> Outcome {
    let (folder, name) = place(&asked.name)?;
    let sdk = asked.sdk.as_deref().map(|sdk| found(sdk, asked.lang)).transpose()?;
    write(&folder, &name, asked, sdk.as_deref()).map_err(|error| {
        Failure::new(format!("{} cannot be written: {error}", folder.display()))
            .help("what was written there so far is of no use")
    })?;
    say(&next(&folder, asked.lang, sdk.as_deref()));
    Ok(ExitCode::SUCCESS)
}

/// The new folder, and the plugin's name: the last part of the path.
fn place(given: &Path) -> Result<(PathBuf, PluginId), Failure> {
    let name = given.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = PluginId::new(name).map_err(|error| {
        Failure::from(error).help("the last part of the path is the plugin's name, as in `plugins/my-router`")
    })?;
    // An empty one would do as well, and a link to nowhere would not: nothing may be there.
    if given.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} is there already", given.display()))
            .help("a new plugin gets a folder of its own: choose another name"));
    }
    Ok((given.to_owned(), name))
}

/// The sdk of a language in a clone, in its folder `sdk`, or named itself.
fn found(given: &Path, lang: Lang) -> Result<PathBuf, Failure> {
    let mark = match lang {
        Lang::Rust => "Cargo.toml",
        Lang::Python => "pyproject.toml",
        Lang::Js => "package.json",
    };
    let places = [given.join("sdk").join(lang.as_str()), given.join(lang.as_str()), given.to_owned()];
    let place = places.into_iter().find(|place| place.join(mark).is_file()).ok_or_else(|| {
        Failure::new(format!("{} holds no sdk for {}", given.display(), lang.as_str())).help(
            "name a clone of the repository; without `--sdk`, the sdk that this program carries is used",
        )
    })?;
    Ok(place.canonicalize()?)
}

fn write(folder: &Path, name: &PluginId, asked: &New, sdk: Option<&Path>) -> std::io::Result<()> {
    let put = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)
    };
    let at = named(asked.lang, sdk);
    for (path, text) in files::template(asked.lang, asked.kind.into()) {
        put(&path, &text.replace("{name}", name.as_str()).replace("{sdk}", &at))?;
    }
    put(".gitignore", IGNORED)?;
    if sdk.is_none() {
        for (path, text) in files::sdk(asked.lang) {
            put(&format!("sdk/{path}"), &text)?;
        }
    }
    put("README.md", &readme(name, asked, &at))
}

/// How the plugin names its sdk: in its own folder, or elsewhere.
fn named(lang: Lang, sdk: Option<&Path>) -> String {
    match (sdk, lang) {
        (Some(sdk), _) => sdk.display().to_string(),
        (None, Lang::Rust) => "sdk".to_owned(),
        (None, Lang::Python | Lang::Js) => "./sdk".to_owned(),
    }
}

/// What the author installs once, and how the plugin is tested without a host.
fn tools(lang: Lang, sdk: &str) -> (String, &'static str) {
    match lang {
        Lang::Rust => ("rustup target add wasm32-wasip2".to_owned(), "cargo test"),
        Lang::Python => (
            format!("python3 -m venv .venv && .venv/bin/pip install '{sdk}[build]'"),
            ".venv/bin/python -m unittest",
        ),
        Lang::Js => ("npm install".to_owned(), "npm test"),
    }
}

fn readme(name: &PluginId, asked: &New, sdk: &str) -> String {
    let (install, test) = tools(asked.lang, sdk);
    let source = match asked.lang {
        Lang::Rust => "src/lib.rs",
        Lang::Python => "plugin.py",
        Lang::Js => "plugin.js",
    };
    let kind = chela_sandbox::PluginKind::from(asked.kind);
    format!(
        "# {name}\n\nA plugin for Chela, of kind {kind}: `{source}` is what it does, `plugin.toml` what it is and asks \
         for, `cases/`\nwhat it must come to.\n\n```sh\n{install}\n{test}\nchela plugin build\nchela plugin test\n\
         chela dev\n```\n\nA host loads the folder `dist`, which `chela plugin build` makes.\n"
    )
}

/// What comes next, in the order in which it is typed.
fn next(folder: &Path, lang: Lang, sdk: Option<&Path>) -> String {
    let (install, _) = tools(lang, &named(lang, sdk));
    format!(
        "made {0}\n\n  cd {0}\n  {install:<48} # once\n  {1:<48} # a component in dist/\n  {2:<48} # its cases, in the sandbox\n  \
         {3:<48} # builds and serves what you save\n",
        folder.display(),
        "chela plugin build",
        "chela plugin test",
        "chela dev"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::KindName;
    use chela_sandbox::Manifest;

    fn asked(name: PathBuf, lang: Lang, kind: KindName) -> New {
        New { name, kind, lang, sdk: None }
    }

    #[test]
    fn every_template_is_a_plugin_with_its_own_name_and_sdk() {
        let top = tempfile::tempdir().unwrap();
        for lang in [Lang::Rust, Lang::Python, Lang::Js] {
            for kind in [KindName::Router, KindName::Agent, KindName::Channel] {
                let folder = top.path().join(format!("my-{}-{}", lang.as_str(), kind.as_str()));
                run(&asked(folder.clone(), lang, kind)).map_err(|failure| format!("{failure:?}")).unwrap();
                let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
                let manifest = Manifest::parse(&manifest).unwrap();
                assert_eq!(manifest.kind, kind.into());
                assert!(folder.ends_with(manifest.name.as_str()));
                assert_eq!(super::super::project::Project::open(&folder).map(|it| it.lang).ok(), Some(lang));
                let holes =
                    |path: &str| fs::read_to_string(folder.join(path)).is_ok_and(|it| it.contains("{sdk}"));
                assert!(!["Cargo.toml", "package.json", "README.md"].iter().any(|path| holes(path)));
                assert_eq!(fs::read_dir(folder.join("cases")).unwrap().count(), 2);
                assert!(folder.join("sdk").is_dir());
            }
        }
    }

    #[test]
    fn what_is_there_is_left_alone_and_a_bad_name_is_named() {
        let top = tempfile::tempdir().unwrap();
        let failed = |name: &str, sdk: Option<PathBuf>| {
            let asked = New { sdk, ..asked(top.path().join(name), Lang::Js, KindName::Agent) };
            run(&asked).unwrap_err().render(false)
        };
        fs::create_dir(top.path().join("taken")).unwrap();
        assert!(failed("taken", None).contains("is there already"));
        assert!(fs::read_dir(top.path().join("taken")).unwrap().next().is_none());
        assert!(failed("My Plugin", None).contains("is not a valid name"));
        assert!(!top.path().join("My Plugin").exists());
        assert!(failed("fine", Some(top.path().join("taken"))).contains("holds no sdk for js"));
        assert!(!top.path().join("fine").exists());
    }

    #[test]
    fn the_sdk_of_a_clone_is_found_by_any_of_its_names() {
        let clone = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for given in [clone.to_owned(), clone.join("sdk"), clone.join("sdk/python")] {
            let place = found(&given, Lang::Python).map_err(|failure| format!("{failure:?}")).unwrap();
            assert!(place.ends_with("sdk/python"), "{}", place.display());
        }
    }
}
