//! `knowledge`: full-text search in the agent's own documents.

use chela_sandbox::{Call, Grant};
use chela_types::Fault;

use super::{Lent, host_failed, lend};
use crate::contract::{knowledge, types::HostError};
use crate::journal::{Found, Function};

/// Passages in one answer.
const PASSAGES_MAX: u32 = 20;
/// Longest query in bytes.
const QUERY_BYTES_MAX: usize = 8 * 1024;

type Passages = Result<Vec<knowledge::Passage>, HostError>;

impl knowledge::Host for Call<Lent> {
    async fn search(&mut self, query: String, limit: u32) -> wasmtime::Result<Passages> {
        let lent = lend!(self, Grant::Knowledge, HostError::NotGranted);
        if !(1..=PASSAGES_MAX).contains(&limit) {
            return Ok(Err(HostError::Invalid(format!("limit is 1 to {PASSAGES_MAX}"))));
        }
        if query.len() > QUERY_BYTES_MAX {
            return Ok(Err(HostError::Limit(format!("a query has at most {QUERY_BYTES_MAX} bytes"))));
        }
        let (found, at) = lent.search(&query, limit).await.map_err(host_failed)?;
        self.clock_to(at);
        self.hand(found)
    }
}

impl Lent {
    async fn search(
        &self,
        query: &str,
        limit: u32,
    ) -> Result<(Passages, chela_types::Millis), crate::error::Error> {
        let mut journal = self.journal.lock().await;
        let place = match journal.place(Function::Search, &(query, limit)).await? {
            Found::Kept(passages, at) => return Ok((passages, at)),
            Found::Fresh(place) => place,
        };
        let Some((collection, _)) = &self.whom.knowledge else {
            let none = Ok(Vec::new());
            let at = journal.fill_behind(&place, &none).await?;
            return Ok((none, at));
        };
        let found = self.store.knowledge_search(&self.whom.tenant, collection, query, limit as usize).await;
        let found: Passages = match found {
            Ok(found) => Ok(found
                .into_iter()
                .map(|(passage, score)| knowledge::Passage {
                    source: passage.source,
                    text: passage.text,
                    score,
                })
                .collect()),
            Err(error) => {
                tracing::warn!(%error, blame = %error.blame(), "knowledge search failed");
                journal.failed(&place);
                Err(HostError::Unavailable("the knowledge cannot be searched now".to_owned()))
            }
        };
        // Reading costs nothing and is not awaited; order keeps it before anything that is.
        let at = journal.fill_behind(&place, &found).await?;
        Ok((found, at))
    }
}
