//! Orders: which version serves, and how much of it.

use std::process::ExitCode;

use chela_engine::{Candidate, Order, PluginStatus};
use chela_types::{Clock, PluginId, SystemClock};

use super::super::args::{self, Ordered, PluginCommand};
use super::super::operator::Operator;
use super::super::{Failure, Outcome, say, say_json};
use super::list;

pub(super) async fn run(command: PluginCommand) -> Outcome {
    let Some((of, order)) = read(command)? else { return Ok(ExitCode::FAILURE) };
    let plugin = PluginId::new(of.name)?;
    let host = Operator::running(&of.shown.config).await?;
    let status: PluginStatus = host.post(&format!("/plugins/{plugin}"), &order).await?;
    if of.shown.json {
        return say_json(&status);
    }
    say(&list::page(&[status], false, SystemClock.now()));
    Ok(ExitCode::SUCCESS)
}

/// The order that a command line means; `None` for one that is no order.
fn read(command: PluginCommand) -> Result<Option<(Ordered, Order)>, Failure> {
    Ok(Some(match command {
        PluginCommand::Shadow { of, candidate } => (of, Order::Shadow { candidate: which(candidate)? }),
        PluginCommand::Canary { of, percent, approve, candidate } => {
            (of, Order::Canary { candidate: which(candidate)?, percent, approve })
        }
        PluginCommand::Promote { of, approve, downgrade, unproven, candidate } => {
            (of, Order::Promote { candidate: which(candidate)?, approve, downgrade, unproven })
        }
        PluginCommand::Rollback { of, why } => (of, Order::Rollback { why }),
        PluginCommand::Stop { of } => (of, Order::Stop),
        PluginCommand::List { .. }
        | PluginCommand::History { .. }
        | PluginCommand::Inspect { .. }
        | PluginCommand::Keygen { .. }
        | PluginCommand::Sign { .. }
        | PluginCommand::Verify { .. }
        | PluginCommand::New(_)
        | PluginCommand::Build(_)
        | PluginCommand::Test(_)
        | PluginCommand::Diff { .. } => return Ok(None),
    }))
}

/// The host may run in another folder than the person who orders.
fn which(candidate: args::Candidate) -> Result<Candidate, Failure> {
    let args::Candidate { from, version } = candidate;
    let absolute = |folder: std::path::PathBuf| {
        folder.canonicalize().map_err(|error| {
            Failure::from(error).help(format!("`--from {}` must be a plugin's folder", folder.display()))
        })
    };
    Ok(Candidate { digest: version, folder: from.map(absolute).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn order(words: &[&str]) -> serde_json::Value {
        let cli = args::Cli::try_parse_from([&["chela", "plugin"], words].concat()).unwrap();
        let args::Command::Plugin { command } = cli.command else { panic!("no order") };
        serde_json::to_value(read(command).map_err(|_| "refused").unwrap().unwrap().1).unwrap()
    }

    #[test]
    fn a_command_line_is_an_order() {
        insta::assert_snapshot!(order(&["rollback", "keyword", "--why", "sends invoices to support"]), @r#"{"order":"rollback","why":"sends invoices to support"}"#);
        insta::assert_snapshot!(order(&["stop", "keyword"]), @r#"{"order":"stop"}"#);
        insta::assert_snapshot!(order(&["canary", "keyword", "5", "--version", "3F2A"]), @r#"{"approve":false,"candidate":{"digest":"3f2a","folder":null},"order":"canary","percent":5}"#);
        insta::assert_snapshot!(order(&["promote", "keyword", "--approve"]), @r#"{"approve":true,"candidate":{"digest":null,"folder":null},"downgrade":false,"order":"promote","unproven":false}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let shadow = order(&["shadow", "keyword", "--from", path]);
        assert_eq!(shadow["candidate"]["folder"], path);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_before_anybody_is_asked() {
        let candidate = args::Candidate { from: Some("/none/at/all".into()), version: None };
        let failure = which(candidate).unwrap_err();
        assert!(format!("{failure:?}").contains("/none/at/all"));
    }
}
