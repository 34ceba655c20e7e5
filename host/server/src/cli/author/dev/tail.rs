//! What a host tells while an author works: what becomes of versions, and where each message went.

use std::collections::BTreeSet;

use chela_store::Event;
use chela_types::RoutedBy;
use tokio_util::sync::CancellationToken;

use crate::cli::socket::{self, Host};
use crate::cli::{Failure, events, say};
use crate::turn::{Turn, in_one_line, moment};

/// How long the host may hold one question for news.
const POLL_MS: u64 = 500;
/// Turns and events in one answer; of more at once, the oldest are not told.
const PAGE: usize = 50;

/// Tells until `stop`, or until the host is gone.
pub(super) async fn follow(host: &Host, stop: &CancellationToken) -> Result<(), Failure> {
    let newest: Vec<Event> = until(stop, host.get("/events?limit=1")).await?.unwrap_or_default();
    let mut last = newest.last().map_or(0, |event| event.seq);
    let turns = format!("/turns?limit={PAGE}");
    let known: Vec<Turn> = until(stop, host.get(&turns)).await?.unwrap_or_default();
    let mut told: BTreeSet<String> = known.into_iter().filter(is_closed).map(|turn| turn.id).collect();
    loop {
        let events = format!("/events?after={last}&wait_ms={POLL_MS}&limit={PAGE}");
        let Some(events) = until(stop, host.get::<Vec<Event>>(&events)).await? else { return Ok(()) };
        for event in events {
            last = last.max(event.seq);
            say(&format!("{}\n", events::line(&event)));
        }
        let Some(newest) = until(stop, host.get::<Vec<Turn>>(&turns)).await? else { return Ok(()) };
        for turn in newest.iter().rev().filter(|turn| is_closed(turn) && !told.contains(&turn.id)) {
            say(&line(turn));
        }
        told = newest.into_iter().filter(is_closed).map(|turn| turn.id).collect();
    }
}

fn is_closed(turn: &Turn) -> bool {
    turn.closed_after_ms.is_some()
}

/// The answer; none once it is over.
async fn until<T>(
    stop: &CancellationToken,
    answer: impl Future<Output = Result<T, socket::Error>>,
) -> Result<Option<T>, Failure> {
    match stop.run_until_cancelled(answer).await {
        None => Ok(None),
        Some(Err(error)) if error.ends() => {
            say("the host stops\n");
            Ok(None)
        }
        Some(answer) => Ok(Some(answer?)),
    }
}

/// Where a message went and why, in one line.
fn line(turn: &Turn) -> String {
    let took = turn.closed_after_ms.unwrap_or_default();
    let mut why = String::new();
    if let Some(decision) = turn.decisions.last() {
        let by = match &decision.by {
            RoutedBy::Router { plugin, version, .. } => format!("{plugin} {version}"),
            RoutedBy::Policy => "policy".to_owned(),
            RoutedBy::HandOver { from } => format!("hand-over from {from}"),
        };
        why = format!(" by {by}: {}", decision.reason);
        if let Some(overruled) = &decision.overruled {
            why.push_str(&format!(" ({overruled})"));
        }
    }
    let failed = turn.last_error.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
    let (at, channel, agent) = (moment(turn.received), &turn.channel, turn.agent().unwrap_or("–"));
    let said = format!("{at}  {channel} → {agent}{why}  {} in {took} ms{failed}", turn.state);
    format!("{}\n", in_one_line(&said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::tests;

    #[test]
    fn a_turn_is_one_line_whatever_a_router_says() {
        let mut turn = Turn { closed_after_ms: Some(12), ..tests::turn() };
        for decision in &mut turn.decisions {
            decision.reason = "a word\n\u{1b}[2J".to_owned();
        }
        let line = line(&turn);
        assert!(line.trim_end().lines().count() == 1 && !line.contains('\u{1b}'), "{line:?}");
        assert!(line.contains(" → ") && line.contains(" by ") && line.contains("in 12 ms"), "{line}");
    }
}
