-- A post that shows an answer while it is made: on the platform before the answer is kept, edited until it is.
CREATE TABLE progress (
    turn        INTEGER PRIMARY KEY REFERENCES turns (seq),
    status      TEXT    NOT NULL,            -- posting (after a crash: nobody knows), posted, settled, lost
    platform_id TEXT,
    seq         INTEGER NOT NULL DEFAULT 0   -- of the last edit
) STRICT;

-- What a platform tells of an answer after it has taken it. It may tell before we know the answer's id there.
CREATE TABLE receipts (
    tenant      TEXT    NOT NULL,
    channel     TEXT    NOT NULL,
    platform_id TEXT    NOT NULL,
    state       TEXT    NOT NULL,            -- sent, delivered, read, failed
    at          INTEGER NOT NULL,
    detail      TEXT,
    PRIMARY KEY (tenant, channel, platform_id, state)
) STRICT, WITHOUT ROWID;

-- The answer became the response to the platform's own request.
ALTER TABLE outbox ADD COLUMN in_response INTEGER NOT NULL DEFAULT 0;
