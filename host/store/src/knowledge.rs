//! Knowledge: passages of documents, found by full text (FTS5, ranked by BM25).
//!
//! A query is people's words. Each word is quoted, so that nothing of FTS5's own query language can be spoken
//! through it, and the words are joined by OR. Words that carry no matter ("how", "the") are left out unless
//! nothing else is there: in a small collection they are rare enough to outrank what was asked.

use chela_types::{Digest, TenantId};

use crate::row;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Most different words of a query that are searched.
const QUERY_WORDS_MAX: usize = 32;
/// Most passages of a collection: the bits of a rowid that number them.
const PASSAGES_MAX: usize = (1 << 24) - 1;
/// How many bits of a rowid number the passages.
const PASSAGE_BITS: i64 = 24;

/// Words without matter, English and German, sorted.
const STOP_WORDS: &[&str] = &[
    "a", "aber", "about", "am", "an", "and", "any", "are", "as", "at", "auf", "be", "been", "bei", "but",
    "by", "can", "could", "das", "dem", "den", "der", "des", "did", "die", "do", "does", "ein", "eine",
    "einen", "er", "es", "for", "from", "für", "get", "had", "has", "have", "hello", "help", "hi", "how",
    "i", "ich", "if", "im", "in", "is", "ist", "it", "its", "kann", "me", "mein", "meine", "mich", "mir",
    "mit", "my", "nicht", "not", "of", "on", "or", "our", "please", "sie", "so", "tell", "thanks", "that",
    "the", "their", "them", "there", "they", "this", "to", "um", "und", "us", "von", "want", "was", "we",
    "were", "what", "when", "where", "which", "who", "why", "wie", "will", "wir", "with", "wo", "would",
    "you", "your", "zu", "zum", "zur",
];

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// File and heading, as a person would name it.
    pub source: String,
    /// The text.
    pub text: String,
}

impl Store {
    /// Makes `passages` the whole of a collection, unless it has this digest already. True if it was written.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 16 million passages, or those of the disk.
    pub async fn knowledge_replace(
        &self,
        tenant: &TenantId,
        collection: &str,
        digest: Digest,
        passages: Vec<Passage>,
    ) -> Result<bool> {
        if passages.len() > PASSAGES_MAX {
            return Err(Error::TooLarge { what: "collection", size: passages.len(), max: PASSAGES_MAX });
        }
        self.commit(Replace { tenant: tenant.clone(), collection: collection.to_owned(), digest, passages })
            .await
    }

    /// Removes every collection but these. Returns how many there were.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn knowledge_keep(&self, tenant: &TenantId, collections: &[&str]) -> Result<usize> {
        let names = serde_json::Value::from(collections).to_string();
        self.commit(Keep { tenant: tenant.clone(), names }).await
    }

    /// The best passages with their scores (higher is better), best first. A query without words finds none.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn knowledge_search(
        &self,
        tenant: &TenantId,
        collection: &str,
        query: &str,
        limit: usize,
    ) -> Result<Vec<(Passage, f32)>> {
        let Some(query) = quoted(query) else { return Ok(Vec::new()) };
        self.read(async |connection| {
            // A word in the heading says more than one in the text. One statement, because the id of a collection that
            // is removed may be another one's the next moment.
            let rows = sql::query(
                "SELECT source, text, -bm25(passages, 2.0, 1.0) AS score FROM passages
                 WHERE passages MATCH $1
                   AND rowid >= (SELECT id << $2 FROM collections WHERE tenant = $3 AND name = $4)
                   AND rowid < (SELECT (id + 1) << $2 FROM collections WHERE tenant = $3 AND name = $4)
                 ORDER BY score DESC, rowid LIMIT $5 + 0",
            )
            .bind(query)
            .bind(PASSAGE_BITS)
            .bind(tenant.as_str())
            .bind(collection)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
            rows.iter()
                .map(|row| {
                    let passage = Passage { source: row::get(row, "source")?, text: row::get(row, "text")? };
                    Ok((passage, row::get::<f64>(row, "score")? as f32))
                })
                .collect()
        })
        .await
    }
}

/// The query as FTS5 may read it: quoted words, joined by OR.
fn quoted(query: &str) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c);
    for word in query.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let matter: Vec<&String> =
        words.iter().filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err()).collect();
    let chosen = if matter.is_empty() { words.iter().collect() } else { matter };
    let quoted: Vec<String> = chosen.iter().take(QUERY_WORDS_MAX).map(|word| format!("\"{word}\"")).collect();
    if quoted.is_empty() { None } else { Some(quoted.join(" OR ")) }
}

struct Replace {
    tenant: TenantId,
    collection: String,
    digest: Digest,
    passages: Vec<Passage>,
}

impl Operation for Replace {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool> {
        let id: Option<i64> = sql::query(
            "INSERT INTO collections (tenant, name, digest) VALUES ($1, $2, $3)
             ON CONFLICT DO UPDATE SET digest = excluded.digest WHERE digest <> excluded.digest RETURNING id",
        )
        .bind(self.tenant.as_str())
        .bind(&self.collection)
        .bind(self.digest.as_bytes().as_slice())
        .fetch_optional_value(&mut *tx.connection)
        .await?;
        let Some(id) = id else { return Ok(false) };
        empty(tx, id).await?;
        for (rowid, passage) in (id << PASSAGE_BITS..).zip(&self.passages) {
            sql::query("INSERT INTO passages (rowid, source, text) VALUES ($1, $2, $3)")
                .bind(rowid)
                .bind(passage.source.replace('\0', ""))
                .bind(passage.text.replace('\0', ""))
                .execute(&mut *tx.connection)
                .await?;
        }
        Ok(true)
    }
}

struct Keep {
    tenant: TenantId,
    /// A JSON array.
    names: String,
}

impl Operation for Keep {
    type Output = usize;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize> {
        let others: Vec<i64> = sql::query(
            "DELETE FROM collections WHERE tenant = $1 AND name NOT IN (SELECT value FROM json_each($2))
             RETURNING id",
        )
        .bind(self.tenant.as_str())
        .bind(&self.names)
        .fetch_values(&mut *tx.connection)
        .await?;
        for id in &others {
            empty(tx, *id).await?;
        }
        Ok(others.len())
    }
}

async fn empty(tx: &mut Transaction<'_>, id: i64) -> Result<()> {
    sql::query("DELETE FROM passages WHERE rowid BETWEEN $1 AND $2")
        .bind(id << PASSAGE_BITS)
        .bind(((id + 1) << PASSAGE_BITS) - 1)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn only_quoted_words_reach_the_index() {
        assert_eq!(quoted("How do I get a refund?").as_deref(), Some("\"refund\""));
        assert_eq!(quoted("how do i").as_deref(), Some("\"how\" OR \"do\" OR \"i\""));
        assert_eq!(quoted("re\"fund* NEAR(a b)").as_deref(), Some("\"re\" OR \"fund\" OR \"near\" OR \"b\""));
        assert_eq!(quoted(" \0 \u{1f600} \" * -"), None);
    }
}
