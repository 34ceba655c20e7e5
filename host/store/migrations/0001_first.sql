-- Times are milliseconds since 1970 in UTC, money is nano-dollars, ids of 16 bytes are blobs.
-- What people said stands in `contents`, `memory`, `passages` and `stream_events` alone, so that retention
-- can purge words and keep the account of what happened.

-- A conversation is a mailbox: its open turns wait in order, and at most one lease holds it.
CREATE TABLE conversations (
    id           INTEGER PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    channel      TEXT    NOT NULL,
    key          BLOB    NOT NULL,
    token        INTEGER NOT NULL DEFAULT 0, -- fencing token, grows with each claim
    holder       TEXT,                       -- who holds the lease
    claimable_at INTEGER,                    -- head turn is due, or the lease runs out; null: nothing waits
    head         INTEGER,                    -- the turn that the last claim got
    sticky       TEXT,                       -- agent that answered last
    UNIQUE (tenant, channel, key)
) STRICT;
CREATE INDEX conversations_claimable ON conversations (claimable_at) WHERE claimable_at IS NOT NULL;

CREATE TABLE turns (
    seq           INTEGER PRIMARY KEY,       -- order of arrival
    id            BLOB    NOT NULL UNIQUE,
    conversation  INTEGER NOT NULL REFERENCES conversations (id),
    tenant        TEXT    NOT NULL,
    channel       TEXT    NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'open', -- open, delivered, dead, undelivered
    received_at   INTEGER NOT NULL,
    claimed_at    INTEGER,                   -- first claim
    closed_at     INTEGER,
    tries         INTEGER NOT NULL DEFAULT 0, -- these four until the answer is kept; then those of the outbox
    crashes       INTEGER NOT NULL DEFAULT 0,
    waits         INTEGER NOT NULL DEFAULT 0,
    first_wait_at INTEGER,
    last_error    TEXT,
    last_blame    TEXT,
    dying         TEXT,                      -- reason of a dead letter
    outcome       TEXT
) STRICT;
CREATE INDEX turns_open ON turns (conversation, seq) WHERE state = 'open';
CREATE INDEX turns_all ON turns (conversation, seq);

CREATE TABLE dedupe (
    tenant  TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    key     BLOB    NOT NULL,
    turn    INTEGER NOT NULL,
    PRIMARY KEY (tenant, channel, key)
) STRICT, WITHOUT ROWID;

-- part 0: message and target; 1: reply; 2: value of journal entry n
CREATE TABLE contents (
    turn INTEGER NOT NULL,
    part INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    body BLOB    NOT NULL,
    PRIMARY KEY (turn, part, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    turn INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    body TEXT    NOT NULL,
    PRIMARY KEY (turn, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    turn      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    function  TEXT    NOT NULL,
    arguments BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (turn, seq)
) STRICT, WITHOUT ROWID;

-- One answer for each turn.
CREATE TABLE outbox (
    turn          INTEGER PRIMARY KEY REFERENCES turns (seq),
    id            BLOB    NOT NULL,
    agent         TEXT    NOT NULL,
    notice        INTEGER NOT NULL,
    status        TEXT    NOT NULL DEFAULT 'kept', -- kept, sending, sent, delivered, undelivered
    step          TEXT,                            -- the adapter's state between requests
    ambiguous     INTEGER NOT NULL DEFAULT 0,      -- sends of which nobody knows whether they arrived
    requests      INTEGER NOT NULL DEFAULT 0,      -- that were begun
    tries         INTEGER NOT NULL DEFAULT 0,      -- these four as those of the turn, for its delivery
    crashes       INTEGER NOT NULL DEFAULT 0,
    waits         INTEGER NOT NULL DEFAULT 0,
    first_wait_at INTEGER,
    kept_at       INTEGER NOT NULL,
    sending_at    INTEGER,
    platform_id   TEXT
) STRICT;
CREATE INDEX outbox_ambiguous ON outbox (ambiguous) WHERE ambiguous > 0;

CREATE TABLE budgets (
    tenant       TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    settled      INTEGER NOT NULL,
    reserved     INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, window_start)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    tenant     TEXT    NOT NULL,
    turn       BLOB,
    model      TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    cost       INTEGER NOT NULL DEFAULT 0,
    state      TEXT    NOT NULL DEFAULT 'open', -- open, settled, unknown, released
    scopes     TEXT    NOT NULL,                -- [[scope, window_start, limit], …]
    call       TEXT,
    at         INTEGER NOT NULL,
    settled_at INTEGER
) STRICT;
CREATE INDEX reservations_turn ON reservations (turn);
CREATE INDEX reservations_open ON reservations (seq) WHERE state = 'open';

CREATE TABLE memory (
    id      INTEGER PRIMARY KEY,
    tenant  TEXT    NOT NULL,
    agent   TEXT    NOT NULL,
    scope   TEXT    NOT NULL,                   -- conversation, user, agent
    owner   TEXT    NOT NULL,                   -- which conversation or user
    key     TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    UNIQUE (tenant, agent, scope, owner, key)
) STRICT;

CREATE TABLE collections (
    id     INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

-- A passage's rowid is its collection's id and its number: (collection << 24) + number.
CREATE VIRTUAL TABLE passages USING fts5 (source, text, tokenize = 'porter unicode61 remove_diacritics 2');

CREATE TABLE stream_events (
    tenant  TEXT    NOT NULL,
    session TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT    NOT NULL,
    PRIMARY KEY (tenant, session, seq)
) STRICT, WITHOUT ROWID;

-- What is written to see whether anything can be.
CREATE TABLE health (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO health VALUES (1, 0);
