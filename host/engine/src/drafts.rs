//! Drafts: tokens on their way to a person while the answer is still being made. Lost with the process,
//! and meant to be: only the kept answer is the answer.

use chela_types::{ChannelId, TurnId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast;

use crate::channel::Drawer;

/// Drafts that a slow reader may fall behind before it loses some.
const BACKLOG: usize = 256;

/// What happens in a web session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draft {
    /// A piece of an answer that is being made.
    Text {
        /// Whose answer.
        turn: TurnId,
        /// Which agent's call of which run of the turn; a greater number replaces what came before.
        attempt: u32,
        /// The piece.
        text: String,
    },
    /// An event was kept: read the store.
    Kept,
}

/// Channel and session, and who listens to it.
type Sessions = HashMap<(ChannelId, String), broadcast::Sender<Draft>>;

/// Who listens to which session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafts {
    sessions: Arc<Mutex<Sessions>>,
}

impl Drafts {
    /// Listens to a session.
    pub(crate) fn listen(&self, channel: &ChannelId, session: &str) -> broadcast::Receiver<Draft> {
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, sender| sender.receiver_count() > 0);
        sessions
            .entry((channel.clone(), session.to_owned()))
            .or_insert_with(|| broadcast::channel(BACKLOG).0)
            .subscribe()
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, channel: &ChannelId, session: &str, draft: Draft) {
        let sender = self.sessions.lock().get(&(channel.clone(), session.to_owned())).cloned();
        if let Some(sender) = sender {
            // Nobody listening any more is no fault: the answer is kept.
            let _ = sender.send(draft);
        }
    }
}

/// Where the drafts of one call go.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    /// To the windows of a web session.
    Session(Windows),
    /// Into a post that is edited.
    Post(Drawer),
}

impl Sink {
    pub(crate) fn push(&self, text: String) {
        match self {
            Self::Session(windows) => windows.push(text),
            Self::Post(drawer) => drawer.push(&text),
        }
    }
}

/// The windows of a web session, for the drafts of one turn.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    pub(crate) drafts: Drafts,
    pub(crate) channel: ChannelId,
    pub(crate) session: String,
    pub(crate) turn: TurnId,
    pub(crate) attempt: u32,
}

impl Windows {
    fn push(&self, text: String) {
        let draft = Draft::Text { turn: self.turn, attempt: self.attempt, text };
        self.drafts.tell(&self.channel, &self.session, draft);
    }
}
