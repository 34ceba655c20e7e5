//! The configuration: `chela.toml`, strict, and the only reader of files and environment.
//!
//! What was written (`raw`) becomes what runs ([`Config`]) in three steps: the text is parsed with positions
//! (`document`), held against the shape of the raw structs (`check`), and resolved (`resolve`). All mistakes
//! are collected and shown with their lines; secrets are read from where the file says and never shown.

mod check;
mod document;
mod file;
mod problem;
mod raw;
mod reference;
mod resolve;
mod resolved;
mod secret;
mod shape;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use file::{Unread, read_no_link};
pub use problem::{Code, ConfigError, Problem, Warning};
pub use reference::reference;
pub use resolve::Env;
pub use resolved::{
    Agent, ApiKey, Budget, Cache, Channel, Config, Delivery, DeliveryPolicy, Department, Egress, Embedding,
    Endpoint, KindLimits, Limits, Log, ModelRef, Operator, Place, Plugin, PluginKind, Provider, ProviderKind,
    Reach, Right, Routing, Script, Server, Source, Store, Swap, Tier,
};
pub use shape::json_schema;

use document::Document;
use problem::{Note, Problems};
use raw::Raw;
use resolve::Resolver;

/// Largest configuration file.
pub const FILE_BYTES_MAX: u64 = 1_048_576;

/// How names of the host's own plugins and channels begin; a file may not give such names.
pub const RESERVED: &str = "chela-";

/// The operator who shows `server.admin_token`.
pub const ADMIN: &str = "admin";
/// The operator who comes through the socket and does not say who he is.
pub const AT_THE_SOCKET: &str = "socket";
/// Names of operators that a file may not give.
const OWN_OPERATORS: [&str; 2] = [ADMIN, AT_THE_SOCKET];

/// Reads, checks and resolves the file at `path`. Variables of the environment come through `env`.
///
/// # Errors
/// [`ConfigError`] with every mistake that was found.
pub fn load(path: &Path, env: Env<'_>) -> Result<(Config, Vec<Warning>), ConfigError> {
    let name = path.display().to_string();
    match read(path) {
        Ok((absolute, text)) => {
            let (mut config, warnings) = parse(&name, (&absolute, &home(path, &absolute)), &text, env)?;
            // Not through its links: they may lead elsewhere the next time.
            config.named = std::path::absolute(path).unwrap_or(absolute);
            Ok((config, warnings))
        }
        Err((label, help)) => {
            let mut problems = Problems::new(&name, String::new());
            let note = Note::new(Code::Unreadable, format!("{name} cannot be read: {label}"), "");
            problems.error(None, note.help(help));
            Err(failed(&name, problems))
        }
    }
}

/// The data folder that a file names, whatever else is wrong with it: so that a command finds the host which still runs
/// with what the file said before.
pub fn data_folder(path: &Path) -> Option<PathBuf> {
    let (file, text) = read(path).ok()?;
    let (document, _) = Document::parse(&text);
    let written = || document.root().get("store")?.get_ref().as_table()?.get("url")?.get_ref().as_str();
    let usual = raw::Store::default().url;
    let (_, folder) = written().unwrap_or(&usual).split_once(':')?;
    Some(home(path, &file).join(folder.strip_prefix("//").unwrap_or(folder)))
}

/// The file's absolute path and its text; or why not, and what to do.
fn read(path: &Path) -> Result<(PathBuf, String), (String, &'static str)> {
    let io = |error: std::io::Error| (resolve::reason(&error), "name the file with `--config FILE`");
    let absolute = std::fs::canonicalize(path).map_err(io)?;
    let bytes = file::read(&absolute, FILE_BYTES_MAX).map_err(|error| {
        let help = match error {
            Unread::Io(_) => "name the file with `--config FILE`",
            Unread::NotAFile => "name the file itself, not its folder",
            Unread::TooLarge(_) => "is this the right file?",
        };
        (error.to_string(), help)
    })?;
    let not_text = |error: std::string::FromUtf8Error| {
        let at = error.utf8_error().valid_up_to();
        (format!("not UTF-8 at byte {at}"), "save it as UTF-8")
    };
    Ok((absolute, String::from_utf8(bytes).map_err(not_text)?))
}

/// The folder in which the file was named, and not the one to which a link of its name leads: a release that takes the
/// place of another does not take what was kept along.
fn home(named: &Path, file: &Path) -> PathBuf {
    let named = std::path::absolute(named).ok();
    let home = named.as_deref().and_then(Path::parent).and_then(|folder| folder.canonicalize().ok());
    home.unwrap_or_else(|| file.parent().unwrap_or(Path::new("/")).to_owned())
}

/// As [`load`], for a text that was read from `file` and named in `home`.
fn parse(
    name: &str,
    (file, home): (&Path, &Path),
    text: &str,
    env: Env<'_>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let (document, errors) = Document::parse(text);
    let mut problems = Problems::new(name, secret::blotted(text, document.root(), !errors.is_empty()));
    // The first alone: those after it are mostly its echoes.
    if let Some(error) = errors.first() {
        let note = Note::new(Code::Syntax, format!("{name} is not valid TOML: {}", error.message()), "here");
        problems.error(error.span(), note);
    }
    if errors.is_empty() {
        check::check(document.root(), &shape::shape(), &mut problems);
    }
    if problems.any() {
        return Err(failed(name, problems));
    }
    let raw: Raw = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            // The check knows every shape; serde's own message could repeat a secret.
            let note = Note::new(Code::WrongType, "a value does not have the type of its key", "this one");
            problems.error(error.span(), note);
            return Err(failed(name, problems));
        }
    };
    let base = file.parent().unwrap_or(Path::new("/"));
    let paths = std::collections::BTreeSet::new();
    let mut resolver = Resolver { document: &document, problems: &mut problems, env, base, home, paths };
    let config = resolver.config(&raw, file, text);
    let paths = resolver.paths;
    let warnings = problems.finish().map_err(|error| error.having_met(paths))?;
    match config {
        Some(config) => Ok((config, warnings)),
        None => Err(ConfigError::unexplained(name)),
    }
}

fn failed(name: &str, problems: Problems) -> ConfigError {
    problems.finish().err().unwrap_or_else(|| ConfigError::unexplained(name))
}
