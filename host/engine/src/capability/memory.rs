//! `memory`: small values that outlive a turn. A write and its journal entry are one transaction.

use chela_sandbox::{Call, Grant};
use chela_store::{MemoryOutcome, MemoryScope, MemoryWrite};
use chela_types::{Fault, Millis};

use super::{Lent, host_failed, lend};
use crate::contract::memory::{self, Scope};
use crate::contract::types::HostError;
use crate::error::Error;
use crate::journal::{Found, Journal, Place};

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
        let (outcome, at) = lent.keep("memory.set", scope, (key, value, None)).await.map_err(host_failed)?;
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
        let (outcome, at) = lent.keep("memory.compare-and-set", scope, write).await.map_err(host_failed)?;
        self.clock_to(at);
        Ok(outcome.map(|(written, _)| written))
    }
}

/// Whether it was written, and the version that stands then; or why it may not be.
type Kept = Result<(bool, u64), HostError>;

impl Lent {
    async fn remember(&self, scope: Scope, key: String) -> Result<(Option<memory::Entry>, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place("memory.get", &(scope, &key)).await? {
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
        function: &'static str,
        scope: Scope,
        (key, value, expected): (String, String, Option<u64>),
    ) -> Result<(Kept, Millis), Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place::<Kept>(function, &(scope, &key, &value, expected)).await? {
            Found::Kept(outcome, at) => return Ok((outcome, at)),
            Found::Fresh(place) => place,
        };
        if let Err(wrong) = check_key(&key) {
            let refused = Err(wrong);
            let at = journal.fill_behind(&place, &refused).await?;
            return Ok((refused, at));
        }
        if journal.playback().is_some() {
            return self.keep_apart(&mut journal, place, (scope, key, value, expected)).await;
        }
        let write =
            MemoryWrite { agent: self.whom.agent.clone(), scope: self.scope(scope), key, value, expected };
        // One entry for each way it can go, made beforehand: the store writes the right one with the value.
        let template = journal.entry(&place, &Kept::Ok((true, 0)))?;
        let at = template.at;
        let entry = move |outcome| {
            let value = serde_json::to_vec(&Kept::Ok(as_pair(outcome))).unwrap_or_default();
            chela_store::Entry { value, ..template.clone() }
        };
        let Some(lease) = journal.lease().cloned() else {
            return Err(Error::Configuration("a memory without a turn".to_owned())); // unreachable: not played
        };
        match self.store.memory_set(&lease, write, entry.clone()).await {
            Ok(outcome) => {
                journal.filled(entry(outcome));
                Ok((Ok(as_pair(outcome)), at))
            }
            Err(chela_store::Error::TooLarge { what, max, .. }) => {
                let refused = Err(HostError::Limit(format!("{what}: at most {max}")));
                let at = journal.fill_behind(&place, &refused).await?;
                Ok((refused, at))
            }
            Err(error) => {
                tracing::warn!(%error, blame = %error.blame(), "memory could not be written");
                Err(error.into())
            }
        }
    }

    /// Where a recording is played: what it writes, only it reads.
    async fn keep_apart(
        &self,
        journal: &mut Journal,
        place: Place,
        (scope, key, value, expected): (Scope, String, String, Option<u64>),
    ) -> Result<(Kept, Millis), Error> {
        let own = journal.playback().and_then(|playback| playback.remembered(scope, &key));
        let stands = match own {
            Some(own) => own.version,
            None => {
                let scope = self.scope(scope);
                let kept = self.store.memory_get(&self.whom.tenant, &self.whom.agent, &scope, &key).await?;
                kept.map_or(0, |kept| kept.version)
            }
        };
        let written = journal
            .playback()
            .map_or((false, stands), |playback| playback.remember((scope, &key), value, (stands, expected)));
        let outcome = Kept::Ok(written);
        let at = journal.fill_behind(&place, &outcome).await?;
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
