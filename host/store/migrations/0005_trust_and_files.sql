-- Where a build comes from: `builtin`, the text of its signature, or nothing.
ALTER TABLE versions ADD COLUMN provenance TEXT NOT NULL DEFAULT '';

-- Files that agents keep. They go with the words of the turn that kept them.
CREATE TABLE blobs (
    id           INTEGER PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    handle       TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    agent        TEXT    NOT NULL,
    turn         INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    media_type   TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    content      BLOB    NOT NULL,               -- last: what is read before it costs no page of it
    UNIQUE (tenant, handle)
) STRICT;
CREATE INDEX blobs_conversation ON blobs (tenant, conversation, size);
CREATE INDEX blobs_turn ON blobs (turn);

-- Conversations wait in lanes, one for each department: who floods one waits behind himself.
ALTER TABLE conversations ADD COLUMN lane TEXT NOT NULL DEFAULT '';
CREATE INDEX conversations_lane ON conversations (lane, claimable_at, id) WHERE claimable_at IS NOT NULL;
