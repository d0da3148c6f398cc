-- The first connectors keep their records here: contracts, parts in fulfilment centres, engineers, work orders.
SET LOCAL search_path = fleet, public;

CREATE TABLE contract (
    contract_id     text PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenant,
    kind            text NOT NULL CHECK (kind IN ('warranty', 'service')),
    asset_serial    text NOT NULL,                        -- '*' covers every asset of the tenant
    component_types text[] NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_to        timestamptz NOT NULL,
    terms           jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE part (
    part_no        text PRIMARY KEY,
    component_type text NOT NULL,
    label          text NOT NULL,
    fits_models    text[] NOT NULL DEFAULT '{}',          -- empty: every model
    price_eur      numeric(12, 2) NOT NULL DEFAULT 0
);

CREATE TABLE fulfilment_centre (
    centre_id    text PRIMARY KEY,
    name         text NOT NULL,
    region       text NOT NULL,
    jurisdiction text NOT NULL,
    latitude     double precision NOT NULL,
    longitude    double precision NOT NULL,
    handling_h   double precision NOT NULL                -- from order to leaving the centre
);

CREATE TABLE stock (
    centre_id text NOT NULL REFERENCES fulfilment_centre,
    part_no   text NOT NULL REFERENCES part,
    on_hand   int NOT NULL CHECK (on_hand >= 0),          -- never oversold: the constraint, not the code, says so
    PRIMARY KEY (centre_id, part_no)
);

CREATE TABLE part_reservation (
    reservation_id  uuid PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenant,
    idempotency_key text NOT NULL UNIQUE,
    centre_id       text NOT NULL REFERENCES fulfilment_centre,
    part_no         text NOT NULL REFERENCES part,
    quantity        int NOT NULL CHECK (quantity > 0),
    state           text NOT NULL CHECK (state IN ('held', 'consumed', 'released')),
    arrives_at      timestamptz NOT NULL,
    reserved_at     timestamptz NOT NULL
);

CREATE TABLE engineer_booking (
    booking_id      uuid PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenant,
    idempotency_key text NOT NULL UNIQUE,
    person_id       text NOT NULL REFERENCES person,
    during          tstzrange NOT NULL,
    work_order_key  text NOT NULL DEFAULT '',             -- the order it is for, '' for leave and the like
    state           text NOT NULL CHECK (state IN ('held', 'released'))
);
CREATE INDEX ON engineer_booking (work_order_key);
CREATE EXTENSION IF NOT EXISTS btree_gist;
ALTER TABLE engineer_booking ADD CONSTRAINT engineer_in_one_place
    EXCLUDE USING gist (person_id WITH =, during WITH &&) WHERE (state = 'held');

CREATE TABLE work_order (
    work_order_id   uuid PRIMARY KEY,
    number          bigint GENERATED ALWAYS AS IDENTITY,  -- WO-000123
    tenant_id       text NOT NULL REFERENCES tenant,
    case_id         uuid NOT NULL REFERENCES repair_case,
    idempotency_key text NOT NULL UNIQUE,
    asset_id        text NOT NULL REFERENCES asset,
    engineer_id     text REFERENCES person,
    state           text NOT NULL CHECK (state IN ('open', 'dispatched', 'started', 'completed', 'cancelled')),
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    body            jsonb NOT NULL,                       -- playbook, part, evidence
    report          jsonb,                                -- what the engineer found and did
    created_at      timestamptz NOT NULL,
    completed_at    timestamptz
);

CALL protect('contract');
CALL protect('part_reservation');
CALL protect('engineer_booking');
CALL protect('work_order');
GRANT SELECT, INSERT, UPDATE, DELETE ON part, fulfilment_centre, stock TO forestall_worker;
GRANT SELECT ON part, fulfilment_centre, stock TO forestall_web;
