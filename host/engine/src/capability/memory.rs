//! `memory`: small values that outlive a turn. A write and its journal entry are one transaction.

use chela_sandbox::{Call, Grant};
use chela_store::{MemoryOutcome, MemoryScope, MemoryWrite};
use chela_types::{Fault, Millis};

use super::{Lent, host_failed, lend};
use crate::contract::memory::{self, Scope};
use crate::contract::types::HostError;
use crate::error::Error;
use crate::journal::{Found, Function, Journal, Place, Written};

/// Longest key in bytes.
const KEY_BYTES_MAX: usize = 128;

type Version = Result<u64, HostError>;

impl memory::Host for Call<Lent> {
    async fn get(
        &mut self,
        scope: Scope,
        key: String,
    ) -> wasmtime::Result<Result<Option<memory::Entry>, HostError>> {
        let lent = lend!(self, Grant::Memory, HostError::NotGranted);
        if let Err(wrong) = check_key(&key) {
            return Ok(Err(wrong));
        }
        let (entry, at) = lent.remember(scope, key).await.map_err(host_failed)?;
        self.clock_to(at);
        Ok(Ok(self.hand(entry)?))
    }

    async fn set(&mut self, scope: Scope, key: String, value: String) -> wasmtime::Result<Version> {
        let lent = lend!(self, Grant::Memory, HostError::NotGranted);
        let (outcome, at) = lent.keep(Function::Set, scope, (key, value, None)).await.map_err(host_failed)?;
        self.clock_to(at);
        Ok(outcome.map(|(_, version)| version))
    }

    async fn compare_and_set(
        &mut self,
        scope: Scope,
        key: String,
        expected: u64,
        value: String,
    ) -> wasmtime::Result<Result<bool, HostError>> {
        let lent = lend!(self, Grant::Memory, HostError::NotGranted);
        let write = (key, value, Some(expected));
        let (outcome, at) = lent.keep(Function::CompareAndSet, scope, write).await.map_err(host_failed)?;
        self.clock_to(at);
        Ok(outcome.map(|(written, _)| written))
    }
}

/// Whether it was written, and the version that stands then; or why it may not be.
type Kept = Result<(bool, u64), HostError>;

/// What is written where, and the version that it expects.
type Write = (Scope, String, String, Option<u64>);

impl Lent {
    async fn remember(&self, scope: Scope, key: String) -> Result<(Option<memory::Entry>, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place(Function::Get, &(scope, &key)).await? {
            Found::Kept(entry, at) => return Ok((entry, at)),
            Found::Fresh(place) => place,
        };
        if let Some(own) = journal.playback().and_then(|playback| playback.remembered(scope, &key)) {
            let at = journal.fill_behind(&place, &own).await?;
            return Ok((Some(own), at));
        }
        let found =
            self.store.memory_get(&self.whom.tenant, &self.whom.agent, &self.scope(scope), &key).await?;
        let entry = found.map(|entry| memory::Entry { value: entry.value, version: entry.version });
        let at = journal.fill_behind(&place, &entry).await?;
        Ok((entry, at))
    }

    async fn keep(
        &self,
        function: Function,
        scope: Scope,
        (key, value, expected): (String, String, Option<u64>),
    ) -> Result<(Kept, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let (read, arguments) = ((scope, &key), (scope, &key, &value, expected));
        let place = match journal.place_of_write::<Written<Kept>>(function, &read, &arguments).await? {
            Found::Kept(Written { outcome, .. }, at) => {
                // A recorded write is seen by those that follow it where the recording ends.
                if let (Some(playback), Ok((true, version))) = (journal.playback(), &outcome) {
                    playback.enter((scope, &key), value, *version);
                }
                return Ok((outcome, at));
            }
            Found::Fresh(place) => place,
        };
        let refused = match check_key(&key) {
            Ok(()) => match self.write(&mut journal, &place, (scope, key, value, expected)).await {
                Ok(written) => return Ok(written),
                Err(Error::Store(chela_store::Error::TooLarge { what, max, .. })) => {
                    HostError::Limit(format!("{what}: at most {max}"))
                }
                Err(error) => {
                    tracing::warn!(%error, blame = %error.blame(), "memory could not be written");
                    return Err(error);
                }
            },
            Err(wrong) => wrong,
        };
        let refused = Err(refused);
        let at = journal.fill_behind(&place, &place.written(&refused)).await?;
        Ok((refused, at))
    }

    async fn write(
        &self,
        journal: &mut Journal,
        place: &Place,
        (scope, key, value, expected): Write,
    ) -> Result<(Kept, Millis), Error> {
        let Some(lease) = journal.lease().cloned() else {
            return self.write_apart(journal, place, (scope, key, value, expected)).await;
        };
        let overwritten = place.overwritten();
        let write = MemoryWrite {
            agent: self.whom.agent.clone(),
            scope: self.scope(scope),
            key,
            value,
            expected: expected.map(|seen| overwritten.expected(seen)),
            void: overwritten.rows.clone(),
        };
        // One entry for each way it can go; the store writes the right one with the value.
        let template = journal.entry(place, &())?;
        let form = place.clone();
        let entry = move |outcome| {
            let value = serde_json::to_vec(&form.written(Kept::Ok(as_pair(outcome)))).unwrap_or_default();
            chela_store::Entry { value, ..template.clone() }
        };
        let outcome = self.store.memory_set(&lease, write, entry.clone()).await?;
        let at = journal.filled_with(place, entry(outcome));
        Ok((Ok(as_pair(outcome)), at))
    }

    /// Where a recording is played: what it writes, only it reads, within the limits of what is kept.
    async fn write_apart(
        &self,
        journal: &mut Journal,
        place: &Place,
        (scope, key, value, expected): Write,
    ) -> Result<(Kept, Millis), Error> {
        self.store.memory_fits(&key, &value)?;
        let (tenant, agent, kept_in) = (&self.whom.tenant, &self.whom.agent, self.scope(scope));
        let own = journal.playback().and_then(|playback| playback.remembered(scope, &key));
        let stands = match own {
            Some(own) => own.version,
            None => {
                let kept = self.store.memory_get(tenant, agent, &kept_in, &key).await?;
                kept.map_or(0, |kept| kept.version)
            }
        };
        if stands == 0 && expected.is_none_or(|expected| expected == 0) {
            let more = journal.playback().map_or(0, |playback| playback.new_keys(scope)).saturating_add(1);
            self.store.memory_has_room(tenant, agent, &kept_in, more).await?;
        }
        let written = journal
            .playback()
            .map_or((false, stands), |playback| playback.remember((scope, &key), value, (stands, expected)));
        let outcome = Kept::Ok(written);
        let at = journal.fill_behind(place, &place.written(&outcome)).await?;
        Ok((outcome, at))
    }

    fn scope(&self, scope: Scope) -> MemoryScope {
        match scope {
            Scope::Conversation => MemoryScope::Conversation(self.whom.conversation),
            Scope::User => MemoryScope::User(self.whom.person.clone()),
            Scope::Agent => MemoryScope::Agent,
        }
    }
}

fn as_pair(outcome: MemoryOutcome) -> (bool, u64) {
    match outcome {
        MemoryOutcome::Written(version) => (true, version),
        MemoryOutcome::Conflict(version) => (false, version),
    }
}

fn check_key(key: &str) -> Result<(), HostError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        Ok(())
    } else {
        Err(HostError::Invalid(format!("a key has 1 to {KEY_BYTES_MAX} bytes")))
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
