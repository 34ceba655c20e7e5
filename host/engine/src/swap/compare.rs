//! Whether two runs of a part say the same, and what is shown of a difference.

use super::recording::{Began, Failed, Said};
use super::rerun::Rerunned;
use super::shadow::{Compared, Shown};
use crate::agent;
use crate::config::Config;
use crate::router;

impl Compared {
    /// One word, for metrics and reports.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
        }
    }
}

/// How a run compares with the recorded one, as far as anybody notices: of a router's word, the agent counts.
pub(crate) fn compared(began: &Began, recorded: &Said, rerun: &Rerunned) -> Compared {
    match rerun {
        Rerunned::Host(_) | Rerunned::Diverged(_) => Compared::Diverged,
        Rerunned::Said(said, _) if said == recorded => Compared::Same,
        Rerunned::Said(Said::Failed(_), _) => Compared::Failed,
        Rerunned::Said(said, _) if began.agent.is_none() && destination(said) == destination(recorded) => {
            Compared::Same
        }
        Rerunned::Said(..) => Compared::Different,
    }
}

/// The agent that a router chose.
fn destination(said: &Said) -> Option<String> {
    let Said::Answered(value) = said else { return None };
    match serde_json::from_str::<router::Said>(value) {
        Ok(Ok(decision)) => Some(decision.agent),
        Ok(Err(refused)) => Some(format!("{refused:?}")),
        Err(_) => None,
    }
}

/// What is shown of what a component said. An agent's name is no secret; what a router puts in the place of one may be
/// what somebody has written.
pub(crate) fn shown(config: &Config, began: &Began, said: &Said) -> Shown {
    let plain = |text: String| Shown { text, is_private: false };
    match said {
        Said::Failed(failed) => plain(failure(failed)),
        Said::Answered(value) if began.agent.is_none() => match serde_json::from_str::<router::Said>(value) {
            Ok(Ok(decision)) => {
                let is_private = !agent::is_one(&decision.agent, config);
                Shown { text: decision.agent, is_private }
            }
            Ok(Err(_)) => plain("no agent".to_owned()),
            Err(_) => plain("something that is not understood".to_owned()),
        },
        Said::Answered(value) => match serde_json::from_str::<agent::Said>(value) {
            Ok(said) => agent::shown(&said, config),
            Err(_) => plain("something that is not understood".to_owned()),
        },
    }
}

/// What is shown of a run.
pub(crate) fn heard(config: &Config, began: &Began, rerun: &Rerunned) -> Shown {
    let plain = |text: String| Shown { text, is_private: false };
    match rerun {
        Rerunned::Said(said, _) => shown(config, began, said),
        Rerunned::Diverged(_) => plain(rerun.diverged().unwrap_or_default()),
        Rerunned::Host(error) => plain(error.to_string()),
    }
}

fn failure(failed: &Failed) -> String {
    match failed {
        Failed::Trap(short) => format!("trapped: {short}"),
        Failed::Time => "no answer in time".to_owned(),
        Failed::Waiting => "waited too long for the host".to_owned(),
        Failed::Limit(limit) => format!("reached the {limit} limit"),
    }
}
