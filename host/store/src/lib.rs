//! What is kept: inbox, mailbox, outbox, ledger, journal, memory, knowledge, versions of plugins. The only room
//! with SQL.
//!
//! [`Store`] speaks of the domain (`accept`, `claim`, `answered`, `delivered` …), never of rows, because
//! another database comes behind it later. Two rules carry everything: a *conversation* is claimed, not a job,
//! and each later write shows the [`Lease`], which only this room can make; and nobody is told that something
//! is kept before it is on the disk (`writer.rs` makes that cheap by committing for many at once).

mod artefact;
mod blob;
mod budget;
mod cache_trust;
mod change;
mod connect;
mod deployment;
mod error;
mod event;
mod frame;
mod health;
mod inbox;
mod journal;
mod knowledge;
mod lane;
mod ledger;
mod mailbox;
mod memory;
mod outbox;
mod owner;
mod progress;
mod receipt;
mod record;
mod recover;
mod replay;
mod retention;
mod row;
mod share;
mod slice;
mod spend;
mod sql;
mod store;
mod stream;
mod trouble;
mod version;
mod writer;

pub use blob::{Blob, BlobBounds};
pub use budget::{Budget, BudgetRow, Mark, Raise};
pub use cache_trust::CacheTrust;
pub use change::{Change, Changed};
pub use deployment::{Deploy, Deployment};
pub use error::{Error, Result};
pub use event::{Event, Happened};
pub use inbox::{Accepted, Arrival};
pub use journal::{Entry, Revision};
pub use knowledge::Passage;
pub use ledger::{Charged, Ledger, LedgerRow, Reserve, ScopeLimit, SettledAs, Settlement, Used};
pub use mailbox::{Claimed, Claiming, Claims, Lease, Stage, Turn};
pub use memory::{MemoryEntry, MemoryOutcome, MemoryScope, MemoryWrite};
pub use outbox::{Answer, Outgoing};
pub use progress::Progress;
pub use receipt::{Receipt, ReceiptRecord, ReceiptState};
pub use record::{Counts, OutboxRecord, Phase, Standing, TurnRecord, TurnState};
pub use replay::Recorded;
pub use retention::Purged;
pub use share::Shares;
pub use slice::{LEDGER, Part, Wanted};
pub use spend::Spent;
pub use sql::DatabaseError;
pub use store::{Config, Store};
pub use stream::StreamEvent;
pub use trouble::{CountsAs, DeadLetter, Trouble};
pub use version::{Named, Version, VersionState};

#[cfg(test)]
mod tests;
