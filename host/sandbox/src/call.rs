//! What one call holds: the store's data. Made for the call, gone with it.

use crate::grants::{Grant, Grants, NotGranted};
use crate::limits::{Limit, Limits, Meter};
use crate::log::{GuestLog, Stamp};
use crate::random::Randomness;
use crate::time::VirtualTime;
use crate::wasi;
use crate::worker::decoded_within;
use chela_types::Millis;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Result, Store, UpdateDeadline, bail};
use wasmtime_wasi::WasiCtx;

/// The hash seed that every guest sees during `init`: a snapshot is the same wherever it is made.
const INIT_HASH_SEED: (u64, u64) = (0x6368_656c_6120_6861, 0x7368_2073_6565_6421);

/// The data of a call's store: what the host lends (`L`) behind the grants, and what the guest has used.
pub struct Call<L> {
    lent: L,
    plugin: Arc<Stamp>,
    config: Arc<str>,
    grants: Grants,
    meter: Meter,
    phase: Phase,
    time: VirtualTime,
    seed: [u8; 32],
    randomness: Option<Randomness>,
    log: Arc<Mutex<GuestLog>>,
    wasi: Option<Box<WasiCtx>>,
    table: ResourceTable,
    /// When the call must be over. A guest that spins is stopped here even if the runtime's timer cannot run.
    end: Option<Instant>,
    overdue: bool,
    /// The capability that was lent last, until the guest is seen to run again.
    waits_for: Option<Grant>,
}

/// What the guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `init`: no clock, no randomness.
    Init,
    /// A call.
    Serving,
}

/// What a call begins with.
pub(crate) struct Beginning<L> {
    pub(crate) lent: L,
    pub(crate) plugin: Arc<Stamp>,
    pub(crate) config: Arc<str>,
    pub(crate) grants: Grants,
    pub(crate) phase: Phase,
    pub(crate) started: Millis,
    pub(crate) seed: [u8; 32],
    pub(crate) end: Option<Instant>,
    pub(crate) log: Arc<Mutex<GuestLog>>,
}

impl<L> fmt::Debug for Call<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("plugin", &self.plugin)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// The one place where stores are made: each has every limit.
pub(crate) fn store<L: Send + 'static>(
    engine: &Engine,
    limits: &Limits,
    begin: Beginning<L>,
) -> Store<Call<L>> {
    let mut store = Store::new(engine, Call::new(limits, begin));
    store.limiter(|call| &mut call.meter);
    store.set_hostcall_fuel(limits.output_bytes);
    store.set_max_component_handles(limits.resources);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        let call = context.data_mut();
        if call.end.is_some_and(|end| Instant::now() >= end) {
            call.overdue = true;
            return Ok(UpdateDeadline::Interrupt);
        }
        call.waits_for = None;
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

impl<L> Call<L> {
    /// What a call begins with; in a store, or beside a worker that has the store.
    pub(crate) fn new(limits: &Limits, begin: Beginning<L>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        Self {
            lent: begin.lent,
            plugin: begin.plugin,
            config: begin.config,
            grants: begin.grants,
            meter: Meter::new(limits),
            phase: begin.phase,
            time: VirtualTime::starting_at(begin.started),
            seed: begin.seed,
            randomness: None,
            log: begin.log,
            wasi: None,
            table,
            end: begin.end,
            overdue: false,
            waits_for: None,
        }
    }

    /// What is lent, where it is nobody's to count.
    pub(crate) fn lent(&self) -> &L {
        &self.lent
    }

    /// Lends the capability, and counts a host call. The only way from a guest to what a station lends, whichever
    /// version of the contract the guest speaks.
    ///
    /// The inner result is the typed denial that a station gives to the guest, before any effect.
    ///
    /// # Errors
    /// A trap if the call has used up its host calls.
    pub fn lend(&mut self, grant: Grant) -> Result<std::result::Result<&mut L, NotGranted>> {
        Ok(self.lend_with_table(grant)?.map(|(lent, _)| lent))
    }

    /// Like [`Call::lend`], with the table of handles, for capabilities that give the guest a resource.
    ///
    /// # Errors
    /// A trap if the call has used up its host calls.
    pub fn lend_with_table(
        &mut self,
        grant: Grant,
    ) -> Result<std::result::Result<(&mut L, &mut ResourceTable), NotGranted>> {
        self.meter.host_call()?;
        if !self.grants.contains(grant) {
            return Ok(Err(NotGranted { plugin: self.plugin.name.clone(), grant }));
        }
        self.waits_for = Some(grant);
        Ok(Ok((&mut self.lent, &mut self.table)))
    }

    /// Whether the capability is granted; counts nothing. For what the host itself prepares (`history`).
    pub fn granted(&self, grant: Grant) -> bool {
        self.grants.contains(grant)
    }

    /// Counts a value that is about to go into the guest, and gives it back: every argument of a call and every result
    /// of a host call passes here. Its size is asked of the value itself, so that a field which the contract gains is
    /// counted without anybody thinking of it.
    ///
    /// # Errors
    /// A trap if the call has been handed more than its limit.
    pub fn hand<T: Serialize>(&mut self, value: T) -> Result<T> {
        let bytes = postcard::serialize_with_flavor(&value, postcard::ser_flavors::Size::default())?;
        self.meter.input(bytes)?;
        Ok(value)
    }

    /// What a guest asks from a worker, read within what a guest here could ask: a worker that somebody has taken over
    /// writes what it likes.
    ///
    /// # Errors
    /// A trap if it is none of the questions, or larger than the limit on what a guest says.
    pub fn heard<T: DeserializeOwned>(&self, asked: &[u8]) -> Result<T> {
        Ok(decoded_within(asked, self.meter.output_bytes_max())?)
    }

    /// The handles of the guest's resources, bounded. For dropping them; to make one see [`Call::lend_with_table`].
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// The virtual time, without moving it.
    pub fn now(&self) -> Millis {
        self.time.now()
    }

    /// Moves the virtual clock forward: a station says so when time has really passed, or when the journal says
    /// that it had.
    pub fn clock_to(&mut self, now: Millis) {
        self.time.move_to(now);
    }

    /// Calls into the host so far.
    pub fn host_calls(&self) -> u32 {
        self.meter.host_calls()
    }

    pub(crate) fn configuration(&mut self) -> Result<String> {
        self.meter.host_call()?;
        let config = self.config.as_ref().to_owned();
        self.hand(config)
    }

    pub(crate) fn log(&self) -> &Mutex<GuestLog> {
        &self.log
    }

    pub(crate) fn wasi(&mut self) -> (&mut WasiCtx, &mut ResourceTable) {
        let wasi = self.wasi.get_or_insert_with(|| Box::new(wasi::context(&self.log)));
        (wasi, &mut self.table)
    }

    pub(crate) fn time(&self, what: &str) -> Result<&VirtualTime> {
        match self.phase {
            Phase::Serving => Ok(&self.time),
            Phase::Init => bail!("{what} does not answer during init"),
        }
    }

    pub(crate) fn randomness(&mut self) -> Result<&mut Randomness> {
        match self.phase {
            Phase::Serving => Ok(self.randomness.get_or_insert_with(|| Randomness::from_seed(&self.seed))),
            Phase::Init => bail!("randomness does not answer during init"),
        }
    }

    pub(crate) fn hash_seed(&mut self) -> (u64, u64) {
        self.randomness().map_or(INIT_HASH_SEED, |randomness| randomness.hash_seed())
    }

    pub(crate) fn hit(&self) -> Option<(Limit, u64)> {
        self.meter.hit()
    }

    pub(crate) fn overdue(&self) -> bool {
        self.overdue
    }

    /// The capability that the guest waits for, as far as the host knows: it was lent, and since then the guest has
    /// neither run for a tick nor polled.
    pub(crate) fn waits_for(&self) -> Option<Grant> {
        self.waits_for
    }

    /// The guest polls what is its own: a clock, a stream.
    pub(crate) fn polls(&mut self) {
        self.waits_for = None;
    }

    /// Whether the guest holds any handle of the host's.
    pub(crate) fn holds_handles(&self) -> bool {
        !self.table.is_empty()
    }

    pub(crate) fn instances_max(&self) -> u64 {
        self.meter.instances_max() as u64
    }

    pub(crate) fn output_bytes_max(&self) -> u64 {
        self.meter.output_bytes_max() as u64
    }

    pub(crate) fn resources_max(&self) -> u64 {
        self.table.max_capacity() as u64
    }

    pub(crate) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }
}
