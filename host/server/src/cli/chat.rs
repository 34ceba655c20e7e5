//! `chela chat`: an agent in the terminal. Goes the way of every message: inbox, sandbox, models, outbox.
//!
//! A running host is spoken to through its socket. If none runs, one is started for as long as the talk lasts.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::args::Chat;
use super::operator::Operator;
use super::socket;
use super::up::Loading;
use super::{Failure, Outcome, load, say};
use crate::compose::Surroundings;
use crate::doors::{Heard, Said};
use crate::host::{Host, Options, SOCKET};
use crate::turn::printable;

/// How long an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(300);
/// How long the host may hold one question for news.
const POLL_MS: u64 = 20_000;

pub(super) async fn run(chat: Chat) -> Outcome {
    let config = load(&chat.config)?;
    if !config.agents.keys().any(|name| name.as_str() == chat.agent) {
        let names: Vec<_> = config.agents.keys().map(ToString::to_string).collect();
        return Err(Failure::new(format!("no agent is called `{}`", chat.agent))
            .help(format!("there are {}", names.join(", "))));
    }
    let folder = config.store.folder.clone();
    if let Ok(Operator::Running(host)) = Operator::of(&folder).await {
        return Terminal::new(host, &chat.agent).talk(chat.message).await;
    }
    let loading = Loading::new();
    let options = Options {
        surroundings: Surroundings::of_this_program()?,
        chats: BTreeMap::new(),
        metrics: None,
        progress: crate::host::Progress(&|serves, progress| loading.tell(serves, progress)),
    };
    let host = Host::start(config, options).await?;
    loading.finish();
    let stop = CancellationToken::new();
    let running = tokio::spawn(host.run(stop.clone()));
    let said = Terminal::new(socket::Host::at(folder.join(SOCKET)), &chat.agent).talk(chat.message).await;
    stop.cancel();
    running.await??;
    said
}

/// One conversation.
struct Terminal {
    host: socket::Host,
    agent: String,
    session: String,
    last: u64,
}

impl Terminal {
    fn new(host: socket::Host, agent: &str) -> Self {
        Self { host, agent: agent.to_owned(), session: Uuid::now_v7().simple().to_string(), last: 0 }
    }

    /// One question and its answer, or as many as are typed.
    async fn talk(mut self, message: Option<String>) -> Outcome {
        if let Some(message) = message {
            say(&format!("{}\n", self.ask(&message).await?));
            return Ok(ExitCode::SUCCESS);
        }
        let is_person = std::io::stdin().is_terminal();
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        loop {
            if is_person {
                say("› ");
            }
            let Some(line) = lines.next_line().await? else { return Ok(ExitCode::SUCCESS) };
            if line.trim().is_empty() {
                continue;
            }
            let answer = self.ask(&line).await?;
            say(&format!("{}: {answer}\n\n", self.agent));
        }
    }

    async fn ask(&mut self, text: &str) -> Result<String, Failure> {
        let said = Said {
            session: self.session.clone(),
            id: Uuid::now_v7().simple().to_string(),
            text: text.to_owned(),
        };
        let _: Value = self.host.post(&format!("/chat/{}", self.agent), &said).await?;
        let end = Instant::now() + ANSWER_WAIT;
        while Instant::now() < end {
            let path = format!(
                "/chat/{}?session={}&after={}&wait_ms={POLL_MS}",
                self.agent, self.session, self.last
            );
            let heard: Heard = match self.host.get(&path).await {
                Err(socket::Error::Stops) => {
                    return Err(Failure::new("the host stops, and no answer came before")
                        .help("what was said is kept: `chela turn list` shows what becomes of it"));
                }
                answer => answer?,
            };
            for (number, event) in heard.events {
                self.last = number;
                if let (None, Some(text)) = (event.get("kind"), event.get("text").and_then(Value::as_str)) {
                    return Ok(printable(text));
                }
            }
        }
        Err(Failure::new("no answer came")
            .help("`chela status` tells whether turns are waiting, and the log why"))
    }
}
