//! `chela reload`: the files are read again, and what became of that.

use std::process::ExitCode;

use chela_engine::Reloaded;

use super::args::Reload;
use super::operator::Operator;
use super::{Failure, Outcome, say, say_aside, say_json, socket};
use crate::doors;
use crate::turn::{in_one_line, printable};

/// The status of an answer that says what is wrong with the files.
const UNUSABLE: u16 = 422;

pub(super) async fn run(asked: &Reload) -> Outcome {
    let host = Operator::running(&asked.shown.config).await?;
    let reloaded: Reloaded = match host.post("/reload", &doors::Reload { apply: asked.apply }).await {
        Err(socket::Error::Answer { status: UNUSABLE, said }) => {
            say_aside(&format!("{}\n", printable(said.trim_end())));
            return Err(Failure::new("the files say what cannot run").help("what ran before runs on"));
        }
        answer => answer?,
    };
    if asked.shown.json {
        say_json(&reloaded)?;
    } else {
        say(&page(&reloaded));
    }
    // What is refused did not happen.
    Ok(if reloaded.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    let mut line = |head: &str, what: &str| text.push_str(&format!("{head} {}\n", in_one_line(what)));
    for change in &reloaded.changed {
        line("changed ", change);
    }
    for (plugin, why) in &reloaded.refused {
        line("refused ", &format!("{plugin}: {why}; the version before serves"));
    }
    for (plugin, what) in &reloaded.waiting {
        line("waiting ", &format!("{plugin}: {what}"));
    }
    for (plugin, why) in &reloaded.kept_back {
        line("stays   ", &format!("{plugin}: what its folder holds does not serve again: {why}"));
    }
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_it_did() {
        assert_eq!(page(&Reloaded::default()), "nothing has changed\n");
        let reloaded = Reloaded {
            applied: true,
            changed: vec!["configuration 0123".to_owned()],
            refused: vec![("keyword".to_owned(), "init says: \u{1b}[2J\nno".to_owned())],
            waiting: vec![("helper".to_owned(), "asks for memory".to_owned())],
            kept_back: vec![("keyword".to_owned(), "rolled back: it traps".to_owned())],
        };
        insta::assert_snapshot!(page(&reloaded), @"
        changed  configuration 0123
        refused  keyword: init says: \u{fffd}[2J\u{fffd}no; the version before serves
        waiting  helper: asks for memory
        stays    keyword: what its folder holds does not serve again: rolled back: it traps
        ");
    }
}
