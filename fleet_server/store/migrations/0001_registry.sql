-- Who and what there is: tenants, sites, people, agents, assets and their installed components.
-- Domain times come from the application's clock; recorded_at columns are real time and serve latency figures only.

CREATE SCHEMA fleet;
SET LOCAL search_path = fleet, public;

-- The roles own no login; store/roles.py makes them, and the server's login is a member of each and does SET ROLE.
-- forestall_ingest writes telemetry and findings, forestall_worker acts for every tenant, forestall_web sees one tenant
-- (or all, for the fleet's operators) by the settings forestall.tenant and forestall.all_tenants of its transaction.
GRANT USAGE ON SCHEMA fleet TO forestall_ingest, forestall_worker, forestall_web;

CREATE FUNCTION may_see(row_tenant text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT current_setting('forestall.all_tenants', true) = 'on'
        OR row_tenant = current_setting('forestall.tenant', true)
$$;

-- Every table with a tenant_id gets the same three policies: the worker and ingest see all, the web its tenant's.
CREATE PROCEDURE protect(table_name regclass)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('CREATE POLICY worker_all ON %s TO forestall_worker USING (true) WITH CHECK (true)', table_name);
    EXECUTE format('CREATE POLICY ingest_all ON %s TO forestall_ingest USING (true) WITH CHECK (true)', table_name);
    EXECUTE format('CREATE POLICY web_tenant ON %s TO forestall_web USING (fleet.may_see(tenant_id))'
                   ' WITH CHECK (fleet.may_see(tenant_id))', table_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO forestall_worker', table_name);
    EXECUTE format('GRANT SELECT ON %s TO forestall_web', table_name);
END $$;

CREATE TABLE tenant (
    tenant_id    text PRIMARY KEY CHECK (tenant_id ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    name         text NOT NULL,
    jurisdiction text NOT NULL,                  -- ISO 3166 code or 'EU': where its data stay
    observe_only boolean NOT NULL DEFAULT false, -- stops every act, not the watching
    policy       jsonb NOT NULL DEFAULT '{}'     -- overrides of the acting policy, see resolution/policy.py
);

CREATE TABLE site (
    site_id      text PRIMARY KEY CHECK (site_id ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'), -- = Sparkplug group_id
    tenant_id    text NOT NULL REFERENCES tenant,
    name         text NOT NULL,
    region       text NOT NULL,                  -- of fulfilment
    jurisdiction text NOT NULL,
    time_zone    text NOT NULL,                  -- IANA
    latitude     double precision,
    longitude    double precision,
    wms_kind     text NOT NULL DEFAULT 'none',   -- plugin in connectors/wms
    wms_config   jsonb NOT NULL DEFAULT '{}',    -- no secrets: they are named by environment variable or file
    UNIQUE (tenant_id, site_id)
);

CREATE TABLE person (
    person_id    text PRIMARY KEY,
    tenant_id    text REFERENCES tenant,         -- NULL: one of ours
    name         text NOT NULL,
    email        text NOT NULL,
    role         text NOT NULL CHECK (role IN ('operations_director', 'site_manager', 'engineer', 'case_owner',
                                               'fleet_operator', 'auditor', 'administrator')),
    site_id      text REFERENCES site,
    region       text,
    skills       text[] NOT NULL DEFAULT '{}',
    webhook_url  text,
    active       boolean NOT NULL DEFAULT true
);

CREATE TABLE app_user (
    user_id       text PRIMARY KEY,              -- login name
    tenant_id     text REFERENCES tenant,        -- NULL: sees every tenant, as its role allows
    person_id     text REFERENCES person,
    role          text NOT NULL CHECK (role IN ('operator', 'engineer', 'director', 'auditor', 'administrator')),
    password_hash text NOT NULL,
    one_time      boolean NOT NULL DEFAULT false,
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL
);

CREATE TABLE agent (
    agent_id         text PRIMARY KEY,           -- = Sparkplug edge_node_id = certificate CN
    tenant_id        text NOT NULL REFERENCES tenant,
    site_id          text NOT NULL REFERENCES site,
    registered_at    timestamptz NOT NULL,
    online           boolean NOT NULL DEFAULT false,
    last_seen_at     timestamptz,
    agent_version    text,
    wire_version     int,
    boot_id          text,
    bd_seq           bigint,
    outbox_id        uuid,
    models           jsonb NOT NULL DEFAULT '{}',
    time_quality     text,
    third_party      boolean NOT NULL DEFAULT false
);

CREATE TABLE asset (
    asset_id          text PRIMARY KEY,          -- = Sparkplug device_id
    tenant_id         text NOT NULL REFERENCES tenant,
    site_id           text NOT NULL REFERENCES site,
    agent_id          text NOT NULL REFERENCES agent,
    name              text NOT NULL,
    asset_class       text NOT NULL,
    model             text NOT NULL,
    serial            text NOT NULL,
    firmware          text NOT NULL DEFAULT '',
    equipment_ref     text NOT NULL DEFAULT '',  -- what the customer's WMS calls it
    criticality       int NOT NULL DEFAULT 2 CHECK (criticality BETWEEN 1 AND 3), -- 1 is the most critical
    in_service_at     timestamptz,
    maintenance_until timestamptz,               -- not judged while in maintenance
    maintenance_note  text NOT NULL DEFAULT '',
    last_seen_at      timestamptz,
    UNIQUE (tenant_id, asset_id)
);
CREATE INDEX ON asset (tenant_id, site_id);

-- The installed base over time: a swap closes one row and opens the next.
CREATE TABLE component (
    component_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      text NOT NULL REFERENCES tenant,
    asset_id       text NOT NULL REFERENCES asset,
    slot           text NOT NULL,
    component_type text NOT NULL,
    serial         text NOT NULL,
    part_no        text NOT NULL DEFAULT '',
    valid_from     timestamptz NOT NULL,
    valid_to       timestamptz,
    reported_serial text NOT NULL DEFAULT '',    -- what the device last said; a repeat of it is no news
    CHECK (valid_to IS NULL OR valid_to >= valid_from)
);
CREATE UNIQUE INDEX component_installed ON component (asset_id, slot) WHERE valid_to IS NULL;

CREATE TABLE firmware_history (
    asset_id   text NOT NULL REFERENCES asset,
    tenant_id  text NOT NULL REFERENCES tenant,
    firmware   text NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (asset_id, seen_at)
);

CALL protect('tenant');
CALL protect('site');
CALL protect('person');
CALL protect('app_user');
CALL protect('agent');
CALL protect('asset');
CALL protect('component');
CALL protect('firmware_history');
GRANT SELECT ON tenant, site TO forestall_ingest;
GRANT SELECT, INSERT, UPDATE ON agent, asset, component, firmware_history TO forestall_ingest;
