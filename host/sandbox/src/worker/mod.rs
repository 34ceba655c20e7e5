//! Calls in a process of their own: the level of isolation for plugins that no trusted key signed.
//!
//! A worker is a child of this binary that holds one version of one plugin. It is jailed before it reads a byte of it
//! ([`jail`]): no files, no network, an empty environment, no secret. It loads the machine code, runs the calls, and asks
//! this process for each capability over a socket. Nothing that it says is believed: grants, the number of host calls and
//! the bytes that go in are counted here, on this side of the socket, by the same [`Call`](crate::Call) that counts them
//! where a plugin runs in the host; the deadline is kept here, and a worker that does not end a call that is over is killed.
//!
//! A compiler that has read hostile input may have made hostile machine code. It is never loaded into the process that
//! holds the keys.

mod child;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod jail;
mod look;
mod parent;
mod pipe;
mod within;

pub use child::{Remote, Worker, main};
pub(crate) use frame::{Begin, Loading};
pub(crate) use parent::{Event, Spares, Workers};
pub(crate) use within::decoded as decoded_within;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The program that runs plugins: this binary with its hidden subcommand, which calls [`main`].
#[derive(Debug, Clone)]
pub struct Isolation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// How long a worker may take to load a plugin.
    pub load_wall: Duration,
    /// Memory of all guests of a worker together.
    pub guests_bytes: u64,
    /// Memory of a worker beside them.
    pub base_bytes: u64,
    /// How long a worker may take to end a call that is over; then it is killed.
    pub grace: Duration,
    /// Workers that are started in advance and hold no plugin yet.
    pub spare: usize,
}

impl Isolation {
    /// To load: 30 s. Python's interpreter takes some 20 ms, on a machine that is not busy.
    pub const LOAD_WALL: Duration = Duration::from_secs(30);
    /// All guests together: 8 GiB.
    pub const GUESTS_BYTES: u64 = 8 << 30;
    /// Beside the guests: 512 MiB.
    pub const BASE_BYTES: u64 = 512 << 20;
    /// To end a call: 1 s.
    pub const GRACE: Duration = Duration::from_secs(1);
    /// In advance: one.
    pub const SPARE: usize = 1;

    /// With the documented limits.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            load_wall: Self::LOAD_WALL,
            guests_bytes: Self::GUESTS_BYTES,
            base_bytes: Self::BASE_BYTES,
            grace: Self::GRACE,
            spare: Self::SPARE,
        }
    }
}
