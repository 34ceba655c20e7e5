-- A budget's name says what it counts: scope, window and, but for dollars, unit (`agent:support/day`,
-- `user:U1/minute/requests`). Before, each scope had one window in dollars, whose length only the configuration knew:
-- its row stands now for every length that it may have had, and only one that began at this instant is ever read.
CREATE TABLE budgets_named (
    tenant       TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    settled      INTEGER NOT NULL, -- in the unit: nano-dollars, tokens, requests
    reserved     INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, window_start)
) STRICT, WITHOUT ROWID;
INSERT INTO budgets_named (tenant, scope, window_start, settled, reserved)
    SELECT tenant, scope || spans.suffix, window_start, settled, reserved FROM budgets
    CROSS JOIN (SELECT '/hour' AS suffix UNION ALL SELECT '/day' UNION ALL SELECT '/week' UNION ALL SELECT '/month')
        AS spans;
DROP TABLE budgets;
ALTER TABLE budgets_named RENAME TO budgets;
CREATE INDEX budgets_begun ON budgets (tenant, window_start);

-- Their scopes are [[scope, window_start, limit, amount, unit], …] from now on.
UPDATE reservations SET scopes = (
    SELECT json_group_array(json_array(given.value ->> 0 || spans.suffix, given.value ->> 1, given.value ->> 2,
        reservations.amount, 'dollars'))
    FROM json_each(reservations.scopes) AS given
    CROSS JOIN (SELECT '/hour' AS suffix UNION ALL SELECT '/day' UNION ALL SELECT '/week' UNION ALL SELECT '/month')
        AS spans)
    WHERE state = 'open';

-- More of a budget for a while.
CREATE TABLE budget_raises (
    seq    INTEGER PRIMARY KEY,
    tenant TEXT    NOT NULL,
    scope  TEXT    NOT NULL,
    amount INTEGER NOT NULL, -- in the budget's unit
    until  INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
CREATE INDEX budget_raises_scope ON budget_raises (tenant, scope, until, amount);

-- Shares of budgets that were told to be used, so that each is told once.
CREATE TABLE budget_marks (
    tenant       TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    percent      INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, window_start, percent)
) STRICT, WITHOUT ROWID;
