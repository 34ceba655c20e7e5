//! `chela turn show`: why a message got the answer it got.

use std::process::ExitCode;

use chela_types::TurnId;

use super::args::ConfigPath;
use super::operator::Operator;
use super::{Failure, Outcome, load, say, say_json};
use crate::turn::Turn;

/// How a turn is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// With what was said.
    pub(super) content: bool,
    /// As JSON.
    pub(super) json: bool,
}

pub(super) async fn show(id: &str, shape: Shape, at: &ConfigPath) -> Outcome {
    let id: TurnId = id.parse().map_err(|_| {
        Failure::new(format!("`{id}` is not the id of a turn"))
            .help("ids are 32 hex digits; the log names them as `turn`")
    })?;
    let config = load(at)?;
    let unknown = || Failure::new(format!("no turn {id} is kept in {}", config.store.folder.display()));
    let turn = match Operator::of(&config.store.folder).await? {
        Operator::Running(host) => match host.get(&format!("/turns/{id}?content={}", shape.content)).await {
            Err(chela_egress::Error::Answer { status: 404, .. }) => return Err(unknown()),
            answer => answer?,
        },
        Operator::Stopped(store) => {
            Turn::new(store.turn_record(id).await?.ok_or_else(unknown)?, shape.content)
        }
    };
    if shape.json {
        return say_json(&turn);
    }
    say(&turn.to_string());
    Ok(ExitCode::SUCCESS)
}
