-- What web sessions showed is purged by its age. The newest event of a session stays, without its words, so that its
-- number is not given again.
CREATE INDEX stream_events_old ON stream_events (at) WHERE event <> '';
