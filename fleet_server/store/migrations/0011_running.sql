-- Whether machines run, and when their agents were heard and left.
SET LOCAL search_path = fleet, public;

-- The running state of each component, and of the whole asset under slot '' (fleet_server/health/running.py).
CREATE TABLE running_state (
    asset_id  text NOT NULL REFERENCES asset,
    slot      text NOT NULL,
    tenant_id text NOT NULL REFERENCES tenant,
    state     text NOT NULL CHECK (state IN ('running', 'resting', 'stopped', 'failed', 'silent', 'unknown')),
    since     timestamptz NOT NULL,
    why       text NOT NULL,
    reason    text NOT NULL,                     -- for people
    evidence  jsonb NOT NULL DEFAULT '{}',
    looked_at timestamptz NOT NULL,
    PRIMARY KEY (asset_id, slot)
);
CALL protect('running_state');

-- A will is written before the birth of its connection, a farewell when the agent leaves: the agent's own times tell
-- them apart.
ALTER TABLE agent ADD COLUMN born_ms bigint;
ALTER TABLE agent ADD COLUMN left_at timestamptz;   -- it said farewell then; NULL: it is there, or vanished
ALTER TABLE agent ADD COLUMN heard_at timestamptz;  -- any message of it, also one without data
UPDATE agent SET heard_at = last_seen_at;
