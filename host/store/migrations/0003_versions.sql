-- What a plugin was and is: each version that was loaded, which of them is to serve, and what happened to them.

-- The digest is over manifest, component and what the operator configures. The component's bytes are a file.
CREATE TABLE versions (
    id              INTEGER PRIMARY KEY,
    tenant          TEXT    NOT NULL,
    plugin          TEXT    NOT NULL,
    digest          BLOB    NOT NULL,
    kind            TEXT    NOT NULL,
    version         TEXT    NOT NULL,        -- of its manifest
    component       BLOB    NOT NULL,
    component_bytes INTEGER NOT NULL,
    manifest        TEXT    NOT NULL,
    settings        TEXT    NOT NULL,        -- JSON
    asks            TEXT    NOT NULL,        -- JSON, a list of texts
    state           TEXT    NOT NULL,        -- ready, waiting, refused, retired
    reason          TEXT    NOT NULL,
    since           INTEGER NOT NULL,        -- in this state
    by              TEXT    NOT NULL,
    noticed         INTEGER NOT NULL,
    UNIQUE (tenant, plugin, digest)
) STRICT;
CREATE INDEX versions_component ON versions (component);
-- A journal names a version by its digest alone.
CREATE INDEX versions_digest ON versions (tenant, digest);

-- What is to be: one row, so one active version, for each plugin. What it names cannot be deleted.
CREATE TABLE deployments (
    tenant   TEXT    NOT NULL,
    plugin   TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    active   BLOB,
    before   BLOB,                           -- what an ordered rollback goes back to
    proven   BLOB,                           -- what takes over where the active one fails
    canary   BLOB,
    percent  INTEGER,                        -- of the conversations, for the canary
    shadow   BLOB,
    noticed  BLOB,                           -- last seen in the folder
    since    INTEGER NOT NULL,
    by       TEXT    NOT NULL,
    why      TEXT    NOT NULL,
    PRIMARY KEY (tenant, plugin),
    FOREIGN KEY (tenant, plugin, active)  REFERENCES versions (tenant, plugin, digest),
    FOREIGN KEY (tenant, plugin, before)  REFERENCES versions (tenant, plugin, digest),
    FOREIGN KEY (tenant, plugin, proven)  REFERENCES versions (tenant, plugin, digest),
    FOREIGN KEY (tenant, plugin, canary)  REFERENCES versions (tenant, plugin, digest),
    FOREIGN KEY (tenant, plugin, shadow)  REFERENCES versions (tenant, plugin, digest),
    FOREIGN KEY (tenant, plugin, noticed) REFERENCES versions (tenant, plugin, digest),
    CHECK ((canary IS NULL) = (percent IS NULL)),
    CHECK (percent BETWEEN 0 AND 100)
) STRICT, WITHOUT ROWID;

-- What is: the version that a node has active.
CREATE TABLE observed (
    tenant TEXT    NOT NULL,
    node   TEXT    NOT NULL,
    plugin TEXT    NOT NULL,
    digest BLOB    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, node, plugin)
) STRICT, WITHOUT ROWID;

-- Numbered from 1 without a gap within a tenant; the oldest go.
CREATE TABLE events (
    tenant TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    plugin TEXT,
    digest BLOB,
    what   TEXT    NOT NULL,
    by     TEXT    NOT NULL,
    why    TEXT    NOT NULL,
    detail TEXT    NOT NULL,                 -- JSON
    PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_plugin ON events (tenant, plugin, seq) WHERE plugin IS NOT NULL;

-- What a call was told beside message and history: nothing that people said.
CREATE TABLE frames (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT;

-- The version whose part of the journal this is.
ALTER TABLE journal ADD COLUMN version BLOB;
CREATE INDEX journal_version ON journal (version) WHERE version IS NOT NULL;

-- The adapter's version that began to send the answer: what `step` holds is its own.
ALTER TABLE outbox ADD COLUMN adapter BLOB;

-- To run again what was said since a day.
CREATE INDEX turns_recorded ON turns (tenant, received_at, state) WHERE state <> 'open';
