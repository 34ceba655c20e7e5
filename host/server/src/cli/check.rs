//! `chela check`: would it start? Reads everything, runs nothing.

use std::process::ExitCode;

use chela_engine::{Agent, Channel, Router};
use chela_sandbox::{Error, PluginKind, Sandbox, Settings};
use serde_json::Value;

use super::args::ConfigPath;
use super::{Failure, Outcome, load, say, say_aside};
use crate::compose::{Surroundings, Use, checking_sandbox, plugins_to_check};

pub(super) async fn run(at: &ConfigPath) -> Outcome {
    let config = load(at)?;
    say(&format!("ok  {}\n", at.config.display()));
    let sandbox = checking_sandbox(&Surroundings::of_this_program()?)?;
    let mut refused = 0;
    for used in plugins_to_check(&config)? {
        match inspect(&sandbox, &used).await {
            Ok(version) => say(&format!("ok  {}: plugin {} {version}\n", used.by, used.plugin)),
            Err(error) => {
                refused += 1;
                say_aside(&format!("{}: {}", used.by, Failure::from(error).render(false)));
            }
        }
    }
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::new("1 plugin is refused")),
        n => Err(Failure::new(format!("{n} plugins are refused"))),
    }
}

/// Checks a plugin as loading would, short of preparing it; returns its version.
async fn inspect(sandbox: &Sandbox, used: &Use) -> Result<String, Error> {
    let settings = Settings {
        id: used.plugin.clone(),
        config: Value::Object(used.config.config.clone()),
        grants: used.config.grants,
        limits: used.config.limits.clone(),
    };
    let source = used.config.source.clone();
    let (manifest, _) = match used.kind {
        PluginKind::Router => sandbox.inspect::<Router>(source, &settings).await?,
        PluginKind::Agent => sandbox.inspect::<Agent>(source, &settings).await?,
        PluginKind::Channel => sandbox.inspect::<Channel>(source, &settings).await?,
    };
    Ok(manifest.version)
}
