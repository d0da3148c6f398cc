-- Live calibration: every prognosis is scored when its outcome is known, and cohorts are judged by their scores.
SET LOCAL search_path = fleet, public;

-- What is found out later appends a revision; the latest one counts. Hours are from the prognosis on.
CREATE TABLE prognosis_score (
    prognosis_id   uuid NOT NULL REFERENCES prognosis,
    revision       int NOT NULL,
    tenant_id      text NOT NULL REFERENCES tenant,
    case_id        uuid NOT NULL REFERENCES repair_case,  -- whose end told the outcome
    asset_id       text NOT NULL REFERENCES asset,
    unit           text NOT NULL,                 -- the component's life: its serial, its slot when it has none
    component_type text NOT NULL,
    asset_class    text NOT NULL,
    model_version  text NOT NULL,
    withheld       boolean NOT NULL,              -- the prognosis abstained as its cohort had drifted; scored all the same
    mode_named     text NOT NULL,
    mode_found     text NOT NULL,                 -- 'unknown' when nobody said
    made_at        timestamptz NOT NULL,
    ended_at       timestamptz NOT NULL,          -- failure, or the last moment it was known to live (censored)
    scored_at      timestamptz NOT NULL,
    failed         boolean NOT NULL,
    remaining_h    double precision NOT NULL CHECK (remaining_h > 0),
    inside         boolean,                       -- of the 80 % interval; NULL: censored before it could be known
    credit         double precision NOT NULL CHECK (credit BETWEEN 0 AND 1),
    position       double precision NOT NULL,     -- of the end, where p10, p50 and p90 are -1, 0 and 1
    early          double precision NOT NULL,     -- the cohort's stretch the interval was issued with
    late           double precision NOT NULL,
    pinball_h      double precision,              -- NULL: censored
    log_error      double precision,
    p_fail         jsonb NOT NULL,                -- horizon in hours (text) -> probability that was told
    brier          jsonb NOT NULL,                -- horizon in hours (text) -> score, where the outcome is known
    PRIMARY KEY (prognosis_id, revision)
);
CREATE INDEX ON prognosis_score (component_type, asset_class, model_version, ended_at DESC);
CREATE INDEX ON prognosis_score (case_id);
CREATE INDEX ON prognosis (case_id);
CALL protect('prognosis_score');

-- The standing of a cohort over the whole fleet: appended with each change, the highest revision counts.
CREATE TABLE cohort_verdict (
    component_type text NOT NULL,
    asset_class    text NOT NULL,
    model_version  text NOT NULL,
    revision       int NOT NULL,
    verdict        text NOT NULL CHECK (verdict IN ('ok', 'recalibrate', 'abstain')),
    since          timestamptz NOT NULL,
    counts_from    timestamptz NOT NULL,          -- what came before is not judged again
    early          double precision NOT NULL CHECK (early >= 1),
    late           double precision NOT NULL CHECK (late >= 1),
    reason         text NOT NULL,                 -- for people
    evidence       jsonb NOT NULL,                -- the figures it rests on; of all tenants, so not for the web
    PRIMARY KEY (component_type, asset_class, model_version, revision)
);
GRANT SELECT, INSERT ON cohort_verdict TO forestall_worker;
GRANT SELECT (component_type, asset_class, model_version, revision, verdict, since, early, late)
    ON cohort_verdict TO forestall_web;
