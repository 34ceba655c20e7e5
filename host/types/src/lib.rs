//! Words that all rooms speak: ids, messages, replies, money, faults, the clock. No I/O, no tokio.
//!
//! Plain data with public fields, so that a room's seam is a struct in and a struct out. What needs proof
//! (an id's spelling, a fault's blame) is a type of its own that cannot be made wrong.

mod clock;
mod decision;
mod digest;
mod fault;
mod id;
mod message;
mod money;
mod quantity;
mod reply;
pub mod signature;
mod usage;

pub use clock::{Clock, ManualClock, Millis, SystemClock};
pub use decision::{Alternative, Attempt, CacheNote, CacheVerdict, Decision, ModelCall, RoutedBy};
pub use digest::Digest;
pub use fault::{Blame, Fault, Retry};
pub use id::{
    AgentId, ChannelId, ConversationId, DepartmentId, IdError, OutboxId, PluginId, ReservationId, TenantId,
    TierId, TurnId,
};
pub use message::{Attachment, Identity, Key, Message, Person, Speaker, Target, Utterance};
pub use money::{LONG_CARDS_MAX, LongCard, Money, Price, Rates};
pub use quantity::{Quantity, Unit};
pub use reply::{Block, Choice, Link, Reply};
pub use usage::{Finish, Tokens, Usage};
