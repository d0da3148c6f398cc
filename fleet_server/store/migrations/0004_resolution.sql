-- Cases, acts, escalations: what was decided, intended, done. The truth of what must happen is rows with due_at.
SET LOCAL search_path = fleet, public;

CREATE TABLE repair_case (
    case_id         uuid PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenant,
    site_id         text NOT NULL REFERENCES site,
    asset_id        text NOT NULL REFERENCES asset,
    slot            text NOT NULL,
    number          bigint GENERATED ALWAYS AS IDENTITY,  -- for people: FS-000123
    state           text NOT NULL,
    failure_mode    text NOT NULL DEFAULT 'unknown',      -- revisable
    owner_id        text NOT NULL REFERENCES person,      -- a case never lacks a named owner
    impact          text NOT NULL DEFAULT '',
    urgency         text NOT NULL DEFAULT 'normal' CHECK (urgency IN ('low', 'normal', 'high', 'immediate')),
    finding_id      uuid NOT NULL,
    prognosis_id    uuid REFERENCES prognosis,
    deadline_at     timestamptz,                          -- the prognosis interval's early end
    component_serial text NOT NULL DEFAULT '',
    part_no         text NOT NULL DEFAULT '',
    opened_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    escalated       boolean NOT NULL DEFAULT false,
    replanning      boolean NOT NULL DEFAULT false,
    waits_for       text NOT NULL DEFAULT '',             -- for people: what it waits for now
    plan            jsonb NOT NULL DEFAULT '{}',          -- chosen part, window and its ranked alternatives, engineer
    outcome         jsonb,                                -- what the engineer found
    trace_id        text NOT NULL,
    next_at         timestamptz,                          -- domain time a worker looks next; NULL: waits for an event
    version         int NOT NULL DEFAULT 0
);
CREATE INDEX case_due ON repair_case (next_at) WHERE next_at IS NOT NULL;
CREATE UNIQUE INDEX one_open_case_per_component ON repair_case (asset_id, slot)
    WHERE state NOT IN ('closed', 'cancelled', 'false_alarm');
CREATE INDEX ON repair_case (tenant_id, state);

-- Every outward act, intended before it is done. The key is the idempotency key the other system sees.
CREATE TABLE act (
    act_id          uuid PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenant,
    case_id         uuid NOT NULL REFERENCES repair_case,
    kind            text NOT NULL CHECK (kind IN ('entitlement', 'reservation', 'window', 'work_order', 'dispatch',
                                                  'message')),
    purpose         text NOT NULL DEFAULT '',             -- message: announcement, amendment, closing, ...
    sequence        int NOT NULL DEFAULT 0,               -- attempt at planning, or SEQUENCE of an amendment
    idempotency_key text NOT NULL UNIQUE,
    state           text NOT NULL CHECK (state IN ('intended', 'held', 'refused', 'unknown', 'consumed', 'expired',
                                                   'declined', 'released')),
    request         jsonb NOT NULL,
    response        jsonb,
    external_ref    text NOT NULL DEFAULT '',
    attempts        int NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL,                 -- domain time of the next try or check
    expires_at      timestamptz,
    intended_at     timestamptz NOT NULL,
    settled_at      timestamptz,
    settled_recorded_at timestamptz,                      -- real time, for latency figures
    error           text NOT NULL DEFAULT ''
);
CREATE INDEX ON act (case_id, kind);
CREATE INDEX act_due ON act (due_at) WHERE state IN ('intended', 'unknown');

CREATE TABLE escalation (
    escalation_id uuid PRIMARY KEY,
    tenant_id     text NOT NULL REFERENCES tenant,
    case_id       uuid NOT NULL REFERENCES repair_case,
    reason        text NOT NULL,                          -- no_warranty, no_part_in_time, no_window_in_time, ...
    summary       text NOT NULL,
    to_person     text NOT NULL REFERENCES person,        -- a named human
    raised_at     timestamptz NOT NULL,
    due_at        timestamptz NOT NULL,
    context       jsonb NOT NULL,                         -- everything needed on one screen
    options       jsonb NOT NULL,                         -- [{code, label, effect}]
    decided_at    timestamptz,
    decided_by    text,
    decision      text,
    note          text NOT NULL DEFAULT '',
    reminded_at   timestamptz
);
CREATE UNIQUE INDEX one_open_escalation_per_reason ON escalation (case_id, reason) WHERE decided_at IS NULL;

CREATE TABLE case_event (
    event_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL REFERENCES tenant,
    case_id     uuid NOT NULL REFERENCES repair_case,
    at          timestamptz NOT NULL,                     -- domain time
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text NOT NULL,
    summary     text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON case_event (case_id, event_id);

-- What must happen at a domain time (verification ends, an escalation falls due). Workers poll and are woken.
CREATE TABLE timer (
    timer_id  uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenant,
    case_id   uuid NOT NULL REFERENCES repair_case,
    kind      text NOT NULL,
    due_at    timestamptz NOT NULL,
    done_at   timestamptz,
    detail    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX timer_due ON timer (due_at) WHERE done_at IS NULL;
CREATE UNIQUE INDEX one_timer_of_a_kind ON timer (case_id, kind) WHERE done_at IS NULL;

CALL protect('repair_case');
CALL protect('act');
CALL protect('escalation');
CALL protect('case_event');
CALL protect('timer');
