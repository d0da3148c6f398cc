-- Findings, health, the library of past trajectories, prognoses.
SET LOCAL search_path = fleet, public;

CREATE TABLE finding (
    finding_id   uuid NOT NULL,
    revision     int NOT NULL,
    tenant_id    text NOT NULL REFERENCES tenant,
    asset_id     text NOT NULL REFERENCES asset,
    slot         text NOT NULL,
    state        text NOT NULL,
    score        double precision NOT NULL,
    severity     double precision NOT NULL,
    failure_mode text NOT NULL,
    detected_at  timestamptz NOT NULL,
    onset_at     timestamptz NOT NULL,
    body         jsonb NOT NULL,                 -- fleet_core.telemetry.Finding
    trace_id     text NOT NULL,
    received_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (finding_id, revision)
);
CREATE INDEX ON finding (asset_id, slot, detected_at DESC);

CREATE TABLE state_change (
    tenant_id text NOT NULL REFERENCES tenant,
    asset_id  text NOT NULL REFERENCES asset,
    slot      text NOT NULL,
    state     text NOT NULL,
    previous  text NOT NULL,
    at        timestamptz NOT NULL,
    score     double precision NOT NULL,
    reason    text NOT NULL,
    PRIMARY KEY (asset_id, slot, at, state)
);

-- The present health of each component (and of the whole asset under slot '').
CREATE TABLE health (
    asset_id     text NOT NULL REFERENCES asset,
    slot         text NOT NULL,
    tenant_id    text NOT NULL REFERENCES tenant,
    state        text NOT NULL,                  -- detection state of the device
    level        text NOT NULL CHECK (level IN ('unknown', 'good', 'watch', 'degrading', 'critical')),
    score        double precision NOT NULL DEFAULT 0,
    since        timestamptz NOT NULL,
    state_at     timestamptz,                    -- device time of the news this rests on; older news changes nothing
    updated_at   timestamptz NOT NULL,
    data_quality double precision NOT NULL DEFAULT 1,
    stale        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (asset_id, slot)
);

-- Degradation histories with outcome or censoring. hours ascend; indicator is the ratio to the unit's own baseline.
CREATE TABLE trajectory (
    trajectory_id  text PRIMARY KEY,
    tenant_id      text REFERENCES tenant,       -- NULL: public or simulated history
    jurisdiction   text,                         -- NULL: may be used anywhere
    component_type text NOT NULL,
    asset_class    text,
    unit_serial    text NOT NULL,                -- the physical unit, so that it is never judged against itself
    source         text NOT NULL,                -- 'case', 'simulated', 'import:...'
    failure_mode   text NOT NULL,
    failed         boolean NOT NULL,             -- false: censored (replaced or still running at the end)
    hours          double precision[] NOT NULL,
    indicator      double precision[] NOT NULL,
    detail         jsonb NOT NULL DEFAULT '{}',
    digest         text NOT NULL DEFAULT '',      -- of the content, see prognosis/library.py
    added_at       timestamptz NOT NULL,
    CHECK (cardinality(hours) = cardinality(indicator))
);
CREATE INDEX ON trajectory (component_type);

CREATE TABLE prognosis (
    prognosis_id   uuid PRIMARY KEY,
    tenant_id      text NOT NULL REFERENCES tenant,
    asset_id       text NOT NULL REFERENCES asset,
    slot           text NOT NULL,
    case_id        uuid,
    finding_id     uuid NOT NULL,
    revision       int NOT NULL,
    made_at        timestamptz NOT NULL,
    abstained      boolean NOT NULL,
    reason         text NOT NULL,                -- why it abstained, or what it rests on, for people
    abstain_code   text NOT NULL DEFAULT '',     -- unregistered, no_course, stale, healthy_level, no_comparison
    failure_mode   text NOT NULL,
    mode_share     jsonb NOT NULL DEFAULT '{}',  -- failure mode -> share of the neighbours' weight
    p_fail         jsonb NOT NULL DEFAULT '{}',  -- horizon in hours (text) -> probability
    rul_p10_h      double precision,
    rul_p50_h      double precision,
    rul_p90_h      double precision,
    survival       jsonb NOT NULL DEFAULT '[]',  -- [[hours, probability of surviving], ...]
    neighbours     jsonb NOT NULL DEFAULT '[]',  -- [{trajectory_id, source, distance, weight, remaining_h, failed}, ...]
    course         jsonb NOT NULL DEFAULT '[]',  -- [[hours before now, indicator], ...] what was compared
    library_digest text NOT NULL,
    model_version  text NOT NULL,
    conflicting    boolean NOT NULL DEFAULT false, -- the device and the past cases name different failure modes
    inputs         jsonb NOT NULL DEFAULT '{}',    -- whatever else it was computed from: baseline, hint, calibration
    trace_id       text NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON prognosis (asset_id, slot, made_at DESC);

-- How far a library's intervals must be stretched to keep their promise; kept, since a prognosis names the one it used.
CREATE TABLE calibration (
    calibration_id text PRIMARY KEY,              -- digest of the body
    scope          text NOT NULL,                 -- which part of the library: component type, class, jurisdiction, tenant
    library_digest text NOT NULL,
    model_version  text NOT NULL,
    units          int NOT NULL,
    body           jsonb NOT NULL,
    made_at        timestamptz NOT NULL
);
CREATE INDEX ON calibration (scope, model_version, made_at DESC);
GRANT SELECT, INSERT ON calibration TO forestall_worker;

CALL protect('finding');
CALL protect('state_change');
CALL protect('health');
CALL protect('trajectory');
CALL protect('prognosis');
GRANT SELECT, INSERT ON finding, state_change TO forestall_ingest;
GRANT SELECT, INSERT, UPDATE ON health TO forestall_ingest;
