//! A store with one claimed turn, for unit tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use chela_store::{Arrival, Claimed, Config, Store};
use chela_types::{ChannelId, Identity, Message, Millis, Person, SystemClock, TenantId, TurnId};
use tempfile::TempDir;

/// A claimed turn in a store of its own.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) claimed: Claimed,
    _folder: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Config::new(folder.path()), Arc::new(SystemClock)).await.unwrap();
        store.accept(vec![arrival()]).await.unwrap();
        let claimed = store.claim("test", 1).await.unwrap().remove(0);
        Self { store, claimed, _folder: folder }
    }
}

fn arrival() -> Arrival {
    let (tenant, channel) = (TenantId::default_tenant(), ChannelId::new("slack").unwrap());
    let identity = Identity {
        dedupe: vec![vec!["m1".to_owned()]],
        conversation: vec!["c1".to_owned()],
        sender: "U1".to_owned(),
        place: None,
        outsider: false,
        target: BTreeMap::new(),
    };
    let message = Message {
        id: TurnId::new(),
        channel,
        place: None,
        sender: Person { id: "U1".to_owned(), name: None, outsider: false },
        text: "hello".to_owned(),
        attachments: Vec::new(),
        received: Millis(0),
    };
    Arrival { tenant, identity, message, notes: None, echo: None, lane: String::new() }
}
