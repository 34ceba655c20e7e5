//! `chela check`: would it start? Reads everything and prepares every plugin, as the start does, and opens nothing.

use std::process::ExitCode;

use super::args::ConfigPath;
use super::up::Loading;
use super::{Failure, Outcome, load, say, say_aside};
use crate::compose::{Surroundings, check};

pub(super) async fn run(at: &ConfigPath) -> Outcome {
    let config = load(at)?;
    say(&format!("ok  {}: configuration {}\n", at.config.display(), config.digest.short()));
    let loading = Loading::new();
    let surroundings = Surroundings::of_this_program()?;
    let checked = check(&config, &surroundings, &|serves, progress| loading.tell(serves, progress)).await?;
    loading.finish();
    let mut refused = 0;
    for (serves, outcome) in checked {
        match outcome {
            Ok(loaded) => say(&format!("ok  {serves}: plugin {} {}\n", loaded.plugin, loaded.version)),
            Err(error) => {
                refused += 1;
                say_aside(&format!("{serves}: {}", Failure::from(error).render(false)));
            }
        }
    }
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::new("1 plugin is refused")),
        n => Err(Failure::new(format!("{n} plugins are refused"))),
    }
}
