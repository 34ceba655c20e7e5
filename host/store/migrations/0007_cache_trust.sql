-- What was learned of similar questions, by agent: how often kept answers were right. No word of a question is in it.
CREATE TABLE cache_trust (
    tenant     TEXT    NOT NULL,
    agent      TEXT    NOT NULL,
    learned_by TEXT    NOT NULL, -- rule, language and judge: what another one has learned is not believed
    learned    TEXT    NOT NULL, -- JSON
    at         INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
