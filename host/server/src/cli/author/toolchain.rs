//! The author's own tools: found, or named with the command that installs them. What they say goes to standard error
//! as they say it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::super::{Failure, say_aside};
use super::project::{Lang, Project};

const TARGET: &str = "wasm32-wasip2";
const PYTHON_MIN: &str = "3.11";
const NODE_MIN: u32 = 20;
/// Longest line of cargo's that is read: its messages name files.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Builds the component, and leaves it at `component`.
///
/// # Errors
/// What is missing, with the command that installs it; or that it does not compile, which the tool has explained.
pub(super) async fn build(project: &Project, component: &Path) -> Result<(), Failure> {
    match project.lang {
        Lang::Rust => with_cargo(project, component).await,
        Lang::Python => with_python(project, component).await,
        Lang::Js => with_node(project, component).await,
    }
}

/// What a tool has already said, in one line.
fn refused(lang: Lang) -> Failure {
    Failure::new("it does not build").help(match lang {
        Lang::Rust => "the compiler's words are above",
        Lang::Python => "Python's words are above",
        Lang::Js => "the words of Node and its tools are above",
    })
}

/// A tool in the author's folder, whose words are not touched.
fn tool(program: impl Into<OsString>, project: &Project) -> Command {
    let mut command = Command::new(program.into());
    command.current_dir(&project.folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn with_cargo(project: &Project, component: &Path) -> Result<(), Failure> {
    let missing =
        |error| Failure::new(format!("cargo is missing: {error}")).help("install Rust: https://rustup.rs");
    let found = tool("cargo", project).arg("--version").output().await.map_err(missing)?;
    if !found.status.success() {
        say_aside(&String::from_utf8_lossy(&found.stderr));
        return Err(Failure::new("cargo does not run").help("its words are above"));
    }
    let mut asked = tool("rustc", project);
    let found =
        asked.args(["--print", "target-libdir", "--target", TARGET]).output().await.map_err(missing)?;
    let folder = String::from_utf8_lossy(&found.stdout);
    if !found.status.success() || !Path::new(folder.trim()).is_dir() {
        return Err(Failure::new(format!("the compiler lacks the target {TARGET}"))
            .help(format!("run `rustup target add {TARGET}` in {}", project.folder.display())));
    }
    let mut cargo = tool("cargo", project);
    cargo.args(["build", "--release", "--lib", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut cargo = cargo.spawn().map_err(missing)?;
    let said = cargo.stdout.take().map(BufReader::new);
    let made = match said {
        Some(said) => artefact(said, &project.folder.join("Cargo.toml")).await?,
        None => None,
    };
    if !cargo.wait().await?.success() {
        return Err(refused(Lang::Rust));
    }
    let made = made.ok_or_else(|| {
        Failure::new("cargo made no component")
            .help("is `crate-type = [\"cdylib\"]` in the `[lib]` of its Cargo.toml?")
    })?;
    tokio::fs::copy(made, component).await?;
    Ok(())
}

/// The component of a crate, among what cargo says that it made.
async fn artefact(
    mut said: impl AsyncBufReadExt + Unpin,
    manifest: &Path,
) -> Result<Option<PathBuf>, std::io::Error> {
    let (mut made, mut line) = (None, Vec::new());
    while said.read_until(b'\n', &mut line).await? > 0 {
        if line.len() <= LINE_BYTES_MAX {
            made = component(&line, manifest).or(made);
        }
        line.clear();
    }
    Ok(made)
}

fn component(line: &[u8], manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let is_ours = message.get("reason")? == "compiler-artifact"
        && Path::new(message.get("manifest_path")?.as_str()?) == manifest;
    let mut files = message.get("filenames")?.as_array()?.iter().filter_map(Value::as_str);
    files.find(|file| is_ours && file.ends_with(".wasm")).map(PathBuf::from)
}

async fn with_python(project: &Project, component: &Path) -> Result<(), Failure> {
    let python = python(&project.folder);
    let probe = format!("import sys; assert sys.version_info >= ({}, 0)", PYTHON_MIN.replace('.', ", "));
    let found = tool(&python, project).args(["-c", &probe]).output().await;
    if !found.is_ok_and(|found| found.status.success()) {
        return Err(Failure::new(format!("Python {PYTHON_MIN} or newer is missing"))
            .help("install python3 with its venv, as `apt-get install python3 python3-venv`"));
    }
    let found =
        tool(&python, project).args(["-c", "import chela_sdk.build, componentize_py"]).output().await?;
    if !found.status.success() {
        let lacks = String::from_utf8_lossy(&found.stderr);
        let lacks = lacks.lines().last().unwrap_or_default().to_owned();
        return Err(Failure::new(format!("{} lacks what builds a component: {lacks}", python.display()))
            .help(format!(
                "run `python3 -m venv .venv && .venv/bin/pip install './sdk[build]'` in {}",
                project.folder.display()
            )));
    }
    say_aside("componentize-py takes some ten seconds\n");
    let mut build = tool(&python, project);
    build.args(["-m", "chela_sdk.build", "--output"]).arg(component).arg(&project.folder);
    run(build, Lang::Python).await
}

/// The plugin's own interpreter, the one that is active, or the system's.
fn python(folder: &Path) -> PathBuf {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = [Some(folder.join(".venv")), active];
    let programs = environments.into_iter().flatten().map(|environment| environment.join("bin/python"));
    let mut programs = programs.filter(|program| program.exists());
    programs.next().unwrap_or_else(|| PathBuf::from("python3"))
}

async fn with_node(project: &Project, component: &Path) -> Result<(), Failure> {
    let found = tool("node", project).arg("--version").output().await;
    let version = found.map(|found| String::from_utf8_lossy(&found.stdout).into_owned()).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    if !major.parse::<u32>().is_ok_and(|major| major >= NODE_MIN) {
        return Err(Failure::new(format!("Node.js {NODE_MIN} or newer is missing"))
            .help("install it: https://nodejs.org"));
    }
    let above = project.folder.ancestors();
    let mut places = above.map(|folder| folder.join("node_modules/@chela/sdk/build/main.js"));
    let main = places.find(|place| place.is_file()).ok_or_else(|| {
        Failure::new("the plugin's packages are not installed")
            .help(format!("run `npm install` in {}", project.folder.display()))
    })?;
    say_aside("componentize-js takes some ten seconds\n");
    let mut build = tool("node", project);
    build.arg(main).arg(&project.folder).arg("--output").arg(component);
    run(build, Lang::Js).await
}

/// What a tool prints is for people: standard output is these commands' own.
async fn run(mut build: Command, lang: Lang) -> Result<(), Failure> {
    use std::os::fd::AsFd;
    build.stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    if build.status().await?.success() { Ok(()) } else { Err(refused(lang)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_component_is_found_among_what_cargo_made() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/other/Cargo.toml","filenames":["/t/o.wasm"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/p.wasm","/t/p.d"]}"#,
            "\nno json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = artefact(said.as_bytes(), Path::new("/p/Cargo.toml")).await.unwrap();
        assert_eq!(found.as_deref(), Some(Path::new("/t/p.wasm")));
        assert_eq!(artefact(said.as_bytes(), Path::new("/q/Cargo.toml")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn packages_that_are_not_installed_are_named_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "name = \"a\"\nversion = \"1.0.0\"\nkind = \"router\"\ncontract = \"0.1.0\"\n";
        std::fs::write(folder.path().join("plugin.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("plugin.py"), "").unwrap();
        // An interpreter that has nothing.
        std::fs::create_dir_all(folder.path().join(".venv/bin")).unwrap();
        let bare =
            "#!/bin/sh\ncase \"$2\" in *assert*) exit 0 ;; *) echo 'No module named x' >&2; exit 1 ;; esac\n";
        let program = folder.path().join(".venv/bin/python");
        std::fs::write(&program, bare).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let project = Project::open(folder.path()).map_err(|failure| format!("{failure:?}")).unwrap();
        let failure = build(&project, &folder.path().join("x.wasm")).await.unwrap_err();
        let text = failure.render(false);
        assert!(text.contains("pip install './sdk[build]'") && text.contains("No module named x"), "{text}");
    }
}
