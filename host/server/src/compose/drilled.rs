//! What a drill stands on: the sandbox and the way out as the host would make them, and nothing else of the operator's.

use std::path::Path;

use chela_drill::{Ground, KindLimits};

use super::{Surroundings, rooms, sandbox};
use crate::config::{Config, Limits};

/// For this configuration, or the defaults where there is none; everything that is written lies in the folder.
pub fn drilled(config: Option<&Config>, surroundings: &Surroundings, folder: &Path) -> Ground {
    let cache = folder.join("plugins");
    let limits = |given: Option<&Limits>, usual: &Limits| rooms::limits(given.unwrap_or(usual));
    let given = config.map(|config| &config.limits);
    Ground {
        sandbox: match config {
            Some(config) => chela_sandbox::Config { cache, ..sandbox(config, surroundings) },
            None => surroundings.sandbox(cache),
        },
        egress: config.map_or_else(chela_egress::Config::standard, rooms::egress),
        limits: KindLimits {
            router: limits(given.map(|limits| &limits.router), &Limits::ROUTER),
            agent: limits(given.map(|limits| &limits.agent), &Limits::AGENT),
            channel: limits(given.map(|limits| &limits.channel), &Limits::CHANNEL),
        },
        folder: folder.to_owned(),
    }
}
