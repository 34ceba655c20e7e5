//! The room's tests: each opens a real store in a folder of its own, with a clock that it moves by hand.

mod artefacts;
mod blobs;
mod budget;
mod folder;
mod health;
mod keeping;
mod later;
mod mailbox;
mod money;
mod outbox;
mod plans;
mod reading;
mod replay;
mod retention;
mod spend;
mod sql;
mod versions;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chela_types::{
    AgentId, ChannelId, Decision, Digest, Identity, ManualClock, Message, Millis, Person, Reply, RoutedBy,
    TenantId, TurnId,
};
use tempfile::TempDir;

use crate::{Accepted, Answer, Arrival, Claimed, Config, CountsAs, Entry, Error, Store, Trouble};

/// A store, its folder and its clock.
struct Bench {
    store: Store,
    clock: ManualClock,
    folder: TempDir,
}

async fn bench() -> Bench {
    bench_with(|_| {}).await
}

async fn bench_with(change: impl FnOnce(&mut Config)) -> Bench {
    let folder = TempDir::new().unwrap();
    let clock = ManualClock::at(Millis(1_000_000));
    let mut config = Config::new(folder.path());
    change(&mut config);
    let store = Store::open(config, Arc::new(clock.clone())).await.unwrap();
    Bench { store, clock, folder }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn open(folder: &TempDir, clock: &ManualClock) -> Result<Store, Error> {
    Store::open(Config::new(folder.path()), Arc::new(clock.clone())).await
}

impl Bench {
    /// What a killed process leaves: a copy of its files, without its lock.
    fn killed(&self) -> TempDir {
        let left = TempDir::new().unwrap();
        copy(self.folder.path(), left.path());
        left
    }

    /// The store as it comes up after being killed.
    async fn crashed(&self) -> Bench {
        let folder = self.killed();
        let clock = self.clock.clone();
        let store = open(&folder, &clock).await.unwrap();
        Bench { store, clock, folder }
    }

    /// Another connection to the same file.
    async fn aside(&self) -> sqlx::sqlite::SqliteConnection {
        let options = crate::connect::writing(&self.folder.path().join("chela.db"));
        sqlx::ConnectOptions::connect(&options).await.unwrap()
    }

    /// What somebody else does to the database.
    async fn meddle(&self, statements: &'static str) {
        sqlx::query(statements).execute(&mut self.aside().await).await.unwrap();
    }

    async fn accept(&self, conversation: &str, key: &str) -> Accepted {
        self.store.accept(vec![arrival(conversation, &[key])]).await.unwrap().remove(0)
    }

    async fn claim_one(&self) -> Claimed {
        let mut claimed = self.store.claim("test", 10).await.unwrap();
        assert_eq!(claimed.len(), 1, "exactly one conversation is due");
        claimed.remove(0)
    }

    /// Accepts, claims and answers one message.
    async fn answered(&self, conversation: &str, key: &str) -> (Claimed, crate::Outgoing) {
        self.accept(conversation, key).await;
        let claimed = self.claim_one().await;
        let outgoing = self.store.answered(&claimed.lease, answer("hello")).await.unwrap();
        (claimed, outgoing)
    }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn arrival(conversation: &str, keys: &[&str]) -> Arrival {
    Arrival {
        tenant: tenant(),
        identity: Identity {
            dedupe: keys.iter().map(|key| vec![(*key).to_owned()]).collect(),
            conversation: vec![conversation.to_owned()],
            sender: "U1".into(),
            place: None,
            outsider: false,
            target: BTreeMap::from([("channel".to_owned(), conversation.to_owned())]),
        },
        message: Message {
            id: TurnId::new(),
            channel: ChannelId::new("slack").unwrap(),
            place: None,
            sender: Person { id: "U1".into(), name: None, outsider: false },
            text: format!("text of {}", keys.join("+")),
            attachments: vec![],
            received: Millis(999),
        },
        notes: Some("note".into()),
        echo: None,
        lane: String::new(),
    }
}

fn answer(text: &str) -> Answer {
    Answer {
        agent: agent("support"),
        reply: Reply::text(text),
        outcome: "reply".into(),
        notice: false,
        lane: None,
    }
}

fn decision() -> Decision {
    Decision {
        channel: ChannelId::new("slack").unwrap(),
        agent: agent("support"),
        by: RoutedBy::Policy,
        score: 0.5,
        reason: "default".into(),
        alternatives: Vec::new(),
        overruled: None,
        micros: 7,
    }
}

fn entry(seq: u32, value: &str) -> Entry {
    Entry {
        seq,
        function: "models.complete".into(),
        arguments: Digest::of("test", &[&seq.to_le_bytes()]),
        value: value.into(),
        at: Millis(5),
        version: None,
    }
}

fn trouble(counts_as: CountsAs) -> Trouble {
    Trouble { blame: chela_types::Blame::Plugin, error: "trap".into(), counts_as }
}

const LEASE: Duration = Config::LEASE;
