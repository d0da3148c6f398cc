-- What the devices say. Append-only; ingest writes, readers come through tenant-checked functions (no row-level
-- security here: COPY and TimescaleDB's columnstore refuse it).
SET LOCAL search_path = fleet, public;

CREATE TABLE metric_schema (
    schema_digest text NOT NULL,
    agent_id      text NOT NULL REFERENCES agent,
    device_id     text NOT NULL,
    definition    jsonb NOT NULL,                -- list of metric specifications, as in fleet_core.batches.Schema
    seen_at       timestamptz NOT NULL,
    PRIMARY KEY (agent_id, device_id, schema_digest)
);

CREATE TABLE series (
    series_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenant,
    asset_id  text NOT NULL REFERENCES asset,
    metric    text NOT NULL,
    unit      text NOT NULL,                     -- UCUM
    slot      text NOT NULL DEFAULT '',
    UNIQUE (asset_id, metric)
);

-- The key of exactly-once: a batch is stored if and only if its key is here, in the same transaction.
CREATE TABLE batch_key (
    agent_id    text NOT NULL,
    outbox_id   uuid NOT NULL,
    batch_no    bigint NOT NULL,
    digest      bytea NOT NULL,
    prev_digest bytea NOT NULL,                  -- of the batch before in the outbox: a hash chain
    batch_class text NOT NULL,
    device_id   text NOT NULL,
    samples     int NOT NULL,
    first_at    timestamptz,                     -- of the samples: what the retention dropped is not missed
    received_at timestamptz NOT NULL,            -- domain time
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent_id, outbox_id, batch_no)
) PARTITION BY HASH (agent_id);
DO $$
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE batch_key_%s PARTITION OF batch_key FOR VALUES WITH (MODULUS 8, REMAINDER %s)',
                       part, part);
    END LOOP;
END $$;

-- One row per metric and batch. Daily partitions by t0 are made by store/partitions.py (or a hypertable).
CREATE TABLE samples (
    series_id   int NOT NULL,
    t0          timestamptz NOT NULL,
    t1          timestamptz NOT NULL,
    n           int NOT NULL,
    bad         int NOT NULL,                    -- how many of n are NaN or infinite
    v_min       double precision,
    v_max       double precision,
    v_sum       double precision,
    times_us    bigint[] NOT NULL,
    vals        double precision[] NOT NULL,
    agent_id    text NOT NULL,
    outbox_id   uuid NOT NULL,
    batch_no    bigint NOT NULL,
    received_at timestamptz NOT NULL
) PARTITION BY RANGE (t0);
CREATE INDEX samples_by_series ON samples (series_id, t0 DESC);

CREATE TABLE waveform (
    series_id      int NOT NULL,
    t0             timestamptz NOT NULL,
    sample_rate_hz double precision NOT NULL,
    fragment       int NOT NULL,
    fragments      int NOT NULL,
    vals           real[] NOT NULL,
    agent_id       text NOT NULL,
    outbox_id      uuid NOT NULL,
    batch_no       bigint NOT NULL,
    received_at    timestamptz NOT NULL
) PARTITION BY RANGE (t0);
CREATE INDEX waveform_by_series ON waveform (series_id, t0 DESC);

-- The latest value of each series; late data never overwrite a later one.
CREATE TABLE latest (
    series_id int PRIMARY KEY REFERENCES series,
    t         timestamptz NOT NULL,
    v         double precision NOT NULL
);

CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     text,                          -- from the registry when the agent is known
    agent_id      text,
    topic         text NOT NULL,
    outbox_id     uuid,
    batch_no      bigint,
    reason        text NOT NULL,
    detail        text NOT NULL,
    payload       bytea NOT NULL,                -- truncated at a bound
    payload_bytes int NOT NULL,
    received_at   timestamptz NOT NULL
);
CREATE INDEX ON quarantine (agent_id, outbox_id, batch_no);

-- Ledger: declared losses and what the agent still holds.
CREATE TABLE ledger_gap (
    agent_id    text NOT NULL,
    outbox_id   uuid NOT NULL,
    first_batch bigint NOT NULL,                 -- 0: lost before the outbox, by time range only
    last_batch  bigint NOT NULL,
    batch_class text NOT NULL,
    reason      text NOT NULL,
    device_id   text NOT NULL DEFAULT '',
    t0          timestamptz,
    t1          timestamptz,
    received_at timestamptz NOT NULL,
    UNIQUE (agent_id, outbox_id, first_batch, last_batch, device_id, t0)
);

CREATE TABLE ledger_held (
    agent_id    text NOT NULL,
    outbox_id   uuid NOT NULL,
    held        int8multirange NOT NULL,
    next_batch  bigint NOT NULL,
    next_since  timestamptz NOT NULL DEFAULT clock_timestamp(), -- real time: since when next_batch is what it is
    reported_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent_id, outbox_id)
);

GRANT SELECT, INSERT, UPDATE ON metric_schema, series, latest, ledger_held TO forestall_ingest;
GRANT SELECT, INSERT ON batch_key, samples, waveform, quarantine, ledger_gap TO forestall_ingest;
GRANT SELECT ON metric_schema, series, batch_key, samples, waveform, latest, quarantine, ledger_gap, ledger_held
    TO forestall_worker;

-- Readers' door to the telemetry: checks the tenant of the caller, then reads. Points are thinned by the caller.
CREATE FUNCTION vitals(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz,
                       most_rows int DEFAULT 20000)
RETURNS TABLE (t_us bigint, v double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT point.t_us, point.v
      FROM series
      JOIN asset USING (asset_id)
      JOIN samples USING (series_id)
     CROSS JOIN LATERAL unnest(samples.times_us, samples.vals) AS point(t_us, v)
     WHERE series.asset_id = wanted_asset AND series.metric = wanted_metric
       AND may_see(asset.tenant_id)
       AND samples.t1 >= from_t AND samples.t0 <= to_t
       AND point.t_us >= (extract(epoch FROM from_t) * 1000000)::bigint
       AND point.t_us <= (extract(epoch FROM to_t) * 1000000)::bigint
     ORDER BY point.t_us
     LIMIT most_rows
$$;

CREATE FUNCTION latest_vitals(wanted_asset text)
RETURNS TABLE (metric text, unit text, slot text, t timestamptz, v double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT series.metric, series.unit, series.slot, latest.t, latest.v
      FROM series JOIN asset USING (asset_id) JOIN latest USING (series_id)
     WHERE series.asset_id = wanted_asset AND may_see(asset.tenant_id)
     ORDER BY series.slot, series.metric
$$;

-- Waveforms of one metric in a time range, whole ones first; the same check.
CREATE FUNCTION waveforms(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz, most int DEFAULT 20)
RETURNS TABLE (t0 timestamptz, sample_rate_hz double precision, fragment int, fragments int, vals real[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT w.t0, w.sample_rate_hz, w.fragment, w.fragments, w.vals
      FROM series JOIN asset USING (asset_id) JOIN waveform w USING (series_id)
     WHERE series.asset_id = wanted_asset AND series.metric = wanted_metric AND may_see(asset.tenant_id)
       AND w.t0 BETWEEN from_t AND to_t
     ORDER BY w.t0 DESC, w.fragment
     LIMIT most
$$;

CALL protect('series');
GRANT EXECUTE ON FUNCTION vitals, latest_vitals, waveforms TO forestall_web, forestall_worker;
