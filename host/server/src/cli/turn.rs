//! `chela turn …`: what became of the newest messages, and why one of them got the answer it got.

use std::process::ExitCode;

use chela_types::TurnId;
use comfy_table::{ColumnConstraint, Table};

use super::args::{ConfigPath, TurnCommand};
use super::operator::Operator;
use super::{Failure, Outcome, say, say_json, socket, table};
use crate::turn::{Turn, in_one_line, time};

pub(super) async fn run(command: TurnCommand) -> Outcome {
    match command {
        TurnCommand::List { limit, json, config } => list(limit, json, &config).await,
        TurnCommand::Show { id, content, json, config } => show(&id, Shape { content, json }, &config).await,
    }
}

async fn list(limit: usize, as_json: bool, at: &ConfigPath) -> Outcome {
    let turns: Vec<Turn> = match Operator::at(at).await? {
        Operator::Running(host) => host.get(&format!("/turns?limit={limit}")).await?,
        Operator::Stopped(store) => Turn::newest(&store, limit).await?,
    };
    if as_json {
        return say_json(&turns);
    }
    if turns.is_empty() {
        say("no message has come yet\n");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{}\n\nwhy one went as it did:  chela turn show ID\n", rows(&turns)));
    Ok(ExitCode::SUCCESS)
}

/// One row for each turn. Ids are kept whole: they are there to be copied.
fn rows(turns: &[Turn]) -> Table {
    let mut rows = table(&["id", "received", "channel", "agent", "state", "took"]);
    for turn in turns {
        rows.add_row([
            turn.id.clone(),
            time(turn.received),
            turn.channel.clone(),
            in_one_line(turn.agent().unwrap_or("–")),
            turn.state.clone(),
            turn.closed_after_ms.map(took).unwrap_or_default(),
        ]);
    }
    if let Some(ids) = rows.column_mut(0) {
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    rows
}

/// `143 ms`, `12.3 s`.
fn took(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1e3) }
}

/// How a turn is shown.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// With what was said.
    content: bool,
    /// As JSON.
    json: bool,
}

async fn show(id: &str, shape: Shape, at: &ConfigPath) -> Outcome {
    let id: TurnId = id.parse().map_err(|_| {
        Failure::new(format!("`{id}` is not the id of a turn"))
            .help("ids are 32 hex digits; `chela turn list` shows the newest")
    })?;
    let unknown = || Failure::new(format!("no turn {id} is kept in the store of {}", at.config.display()));
    let turn = match Operator::at(at).await? {
        Operator::Running(host) => match host.get(&format!("/turns/{id}?content={}", shape.content)).await {
            Err(socket::Error::Answer { status: 404, .. }) => return Err(unknown()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::tests;

    fn turn(id: &str, closed_after_ms: Option<u64>) -> Turn {
        Turn { id: id.repeat(16), closed_after_ms, ..tests::turn() }
    }

    #[test]
    fn a_list_keeps_ids_whole_however_narrow_the_terminal() {
        let mut rows = rows(&[turn("a1", None), turn("b2", Some(143)), turn("c3", Some(72_340))]);
        rows.set_width(60);
        let text = rows.to_string();
        for whole in ["a1".repeat(16), "b2".repeat(16), "c3".repeat(16)] {
            assert!(text.contains(&whole), "{text}");
        }
        assert_eq!((took(143), took(72_340)), ("143 ms".to_owned(), "72.3 s".to_owned()));
    }
}
