-- Ranges of stored batches, so that the ledger needs not count every key; and series that are told apart by unit.
SET LOCAL search_path = fleet, public;

-- What the keys of contiguous stored batches say together. Ranges of an outbox never overlap. A key may go once a range
-- covers it and it is older than ingest.key_days; then the range alone keeps the batch from being stored again.
CREATE TABLE ledger_stored (
    agent_id     text NOT NULL,
    outbox_id    uuid NOT NULL,
    first_batch  bigint NOT NULL,
    last_batch   bigint NOT NULL,
    samples      bigint NOT NULL,                -- declared by all of them
    first_at     timestamptz,                    -- of all their samples: what the retention dropped is not missed
    recorded_at  timestamptz NOT NULL,           -- real time: when the first of them was stored
    first_prev   bytea NOT NULL,                 -- the two ends of the hash chain
    last_digest  bytea NOT NULL,
    broken_links int NOT NULL DEFAULT 0,         -- neighbours within that did not chain
    PRIMARY KEY (agent_id, outbox_id, first_batch),
    CHECK (first_batch <= last_batch)
);
GRANT SELECT ON ledger_stored TO forestall_ingest, forestall_worker;

-- Every outbox that has keys, with its lowest one. Hops along the primary key: few reads however many keys there are.
CREATE VIEW batch_stream AS
WITH RECURSIVE hop AS (
    (SELECT agent_id, outbox_id, received_at FROM batch_key ORDER BY agent_id, outbox_id, batch_no LIMIT 1)
    UNION ALL
    SELECT beyond.* FROM hop CROSS JOIN LATERAL (
        SELECT k.agent_id, k.outbox_id, k.received_at FROM batch_key k
         WHERE (k.agent_id, k.outbox_id) > (hop.agent_id, hop.outbox_id)
         ORDER BY k.agent_id, k.outbox_id, k.batch_no LIMIT 1) AS beyond
)
SELECT agent_id, outbox_id, received_at AS lowest_received_at FROM hop;

-- Keys that no range covers yet: those in the holes between the ranges, the last hole having no end. OFFSET 0 keeps
-- the planner from joining with all keys instead of looking into each hole.
CREATE VIEW unfolded_key AS
SELECT k.*
  FROM batch_stream
 CROSS JOIN LATERAL (
       SELECT unnest(int8multirange(int8range(0, NULL)) - coalesce(range_agg(int8range(first_batch, last_batch, '[]')),
                                                                   '{}')) AS hole
         FROM ledger_stored r
        WHERE r.agent_id = batch_stream.agent_id AND r.outbox_id = batch_stream.outbox_id) AS holes
 CROSS JOIN LATERAL (
       SELECT * FROM batch_key b
        WHERE b.agent_id = batch_stream.agent_id AND b.outbox_id = batch_stream.outbox_id
          AND b.batch_no >= lower(hole) AND b.batch_no < coalesce(upper(hole), 9223372036854775807)
       OFFSET 0) AS k;
GRANT SELECT ON batch_stream, unfolded_key TO forestall_worker;

-- A value stays under the unit it came with: a metric whose unit changes goes on as another series.
ALTER TABLE series DROP CONSTRAINT series_asset_id_metric_key;
ALTER TABLE series ADD UNIQUE (asset_id, metric, unit);

-- Of a metric the series (one unit) that was measured last. What is read by metric is read from here.
CREATE VIEW current_series AS
SELECT DISTINCT ON (asset_id, metric) series.*
  FROM series LEFT JOIN latest USING (series_id)
 ORDER BY asset_id, metric, latest.t DESC NULLS LAST, series_id DESC;
GRANT SELECT ON current_series TO forestall_worker;

CREATE FUNCTION series_of(wanted_asset text)
RETURNS TABLE (metric text, unit text, slot text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT series.metric, series.unit, series.slot
      FROM current_series AS series JOIN asset USING (asset_id)
     WHERE series.asset_id = wanted_asset AND may_see(asset.tenant_id)
     ORDER BY series.slot, series.metric
$$;
GRANT EXECUTE ON FUNCTION series_of TO forestall_web, forestall_worker;

-- As before, of the current series.
CREATE OR REPLACE FUNCTION vitals(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz,
                       most_rows int DEFAULT 20000)
RETURNS TABLE (t_us bigint, v double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT point.t_us, point.v
      FROM current_series AS series
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

CREATE OR REPLACE FUNCTION latest_vitals(wanted_asset text)
RETURNS TABLE (metric text, unit text, slot text, t timestamptz, v double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT series.metric, series.unit, series.slot, latest.t, latest.v
      FROM current_series AS series JOIN asset USING (asset_id) JOIN latest USING (series_id)
     WHERE series.asset_id = wanted_asset AND may_see(asset.tenant_id)
     ORDER BY series.slot, series.metric
$$;

CREATE OR REPLACE FUNCTION waveforms(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz, most int DEFAULT 20)
RETURNS TABLE (t0 timestamptz, sample_rate_hz double precision, fragment int, fragments int, vals real[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    SELECT w.t0, w.sample_rate_hz, w.fragment, w.fragments, w.vals
      FROM current_series AS series JOIN asset USING (asset_id) JOIN waveform w USING (series_id)
     WHERE series.asset_id = wanted_asset AND series.metric = wanted_metric AND may_see(asset.tenant_id)
       AND w.t0 BETWEEN from_t AND to_t
     ORDER BY w.t0 DESC, w.fragment
     LIMIT most
$$;

CREATE OR REPLACE FUNCTION vitals_thinned(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz, buckets int)
RETURNS TABLE (bucket int, n bigint, bad bigint, v_min double precision, v_max double precision,
               v_mean double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    WITH bound AS (
        SELECT extract(epoch FROM from_t)::double precision * 1e6 AS from_us,
               extract(epoch FROM to_t)::double precision * 1e6 AS to_us,
               greatest(extract(epoch FROM to_t - from_t)::double precision, 1e-6) * 1e6 / buckets AS width_us
    ), chosen AS (
        SELECT samples.*, extract(epoch FROM samples.t0)::double precision * 1e6 AS t0_us,
               extract(epoch FROM samples.t1 - samples.t0)::double precision * 1e6 AS span_us
          FROM current_series AS series JOIN asset USING (asset_id) JOIN samples USING (series_id)
         WHERE series.asset_id = wanted_asset AND series.metric = wanted_metric AND may_see(asset.tenant_id)
           AND samples.t1 >= from_t AND samples.t0 <= to_t
    ), piece AS (
        SELECT floor((greatest(t0_us, from_us) - from_us) / width_us) AS at, chosen.n - chosen.bad AS good, chosen.bad,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_min END AS low,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_max END AS high,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_sum END AS total
          FROM chosen, bound WHERE span_us <= width_us AND t0 >= from_t AND t1 <= to_t
        UNION ALL
        SELECT floor((point.t_us - from_us) / width_us), finite::int, (NOT finite)::int,
               CASE WHEN finite THEN point.v END, CASE WHEN finite THEN point.v END, CASE WHEN finite THEN point.v END
          FROM chosen CROSS JOIN bound
         CROSS JOIN LATERAL unnest(chosen.times_us, chosen.vals) AS point(t_us, v)
         CROSS JOIN LATERAL (SELECT point.v > '-Infinity' AND point.v < 'Infinity' AS finite) AS quality
         WHERE (span_us > width_us OR t0 < from_t OR t1 > to_t) AND point.t_us BETWEEN from_us AND to_us
    )
    SELECT least(at, buckets - 1)::int, sum(good), sum(piece.bad), min(low), max(high), sum(total) / nullif(sum(good), 0)
      FROM piece GROUP BY 1 ORDER BY 1
$$;
