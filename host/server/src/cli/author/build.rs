//! `chela plugin build`: the author's toolchain, then the same look at the component that a host takes, and a folder
//! that a host can load.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chela_sandbox::Source;
use serde_json::json;

use super::super::args::Build;
use super::super::plugin::{Looked, look_as, size};
use super::super::{Failure, Outcome, say, say_aside, say_json};
use super::project::Project;
use super::publish::{self, Aside, COMPONENT};
use super::toolchain;

pub(super) async fn run(asked: &Build) -> Outcome {
    let project = Project::open(&asked.folder)?;
    let out = asked.out.clone().unwrap_or_else(|| project.built());
    let built = build(&project, &out).await?;
    if asked.json {
        let mut all = built.looked.json();
        if let Some(all) = all.as_object_mut() {
            all.insert("folder".to_owned(), json!(built.folder));
            all.insert("seconds".to_owned(), json!(built.took.as_secs_f64()));
        }
        return say_json(&all);
    }
    say(&format!("{}\n{}", built.looked.page(), built.line()));
    Ok(ExitCode::SUCCESS)
}

/// A plugin that was built, looked at and put into its place.
pub(super) struct Built {
    pub(super) folder: PathBuf,
    pub(super) looked: Looked,
    took: Duration,
}

impl Built {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let manifest = &self.looked.manifest;
        let (name, version, size) = (&manifest.name, &manifest.version, size(self.looked.bytes));
        let (folder, seconds) = (shown(&self.folder), self.took.as_secs_f64());
        format!("built {name} {version} into {folder}: {size} in {seconds:.1} s\n")
    }
}

/// Builds, looks, and puts it into its place. What does not build or would be refused changes nothing there.
///
/// # Errors
/// The author's mistake, which his tools have explained, or why a host would refuse it.
pub(super) async fn build(project: &Project, out: &Path) -> Result<Built, Failure> {
    let began = Instant::now();
    say_aside(&format!("building {} {}\n", project.manifest.name, project.manifest.version));
    // The author's own folder keeps his files: the component alone goes there, beside the manifest.
    let is_own = out.canonicalize().is_ok_and(|out| out == project.folder);
    let aside = Aside::of(&if is_own { project.own().join("build") } else { out.to_owned() })?;
    toolchain::build(project, &aside.component()).await?;
    std::fs::write(aside.path().join("plugin.toml"), &project.text)?;
    let source = Source::Folder(aside.path().to_owned());
    let looked = look_as(project.manifest.name.clone(), source).await.map_err(|failure| {
        failure.help("a host would refuse it: nothing was replaced. Each refusal: docs/errors/README.md")
    })?;
    match is_own {
        true => publish::component(&aside.component(), &out.join(COMPONENT))?,
        false => aside.publish()?,
    }
    Ok(Built { folder: out.to_owned(), looked, took: began.elapsed() })
}

/// A path as whoever stands here would type it.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let near = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    near.filter(|near| !near.as_os_str().is_empty()).unwrap_or_else(|| path.to_owned()).display().to_string()
}
