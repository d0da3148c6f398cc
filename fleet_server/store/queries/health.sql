-- Statements of fleet_server/health: health of components and of whole assets.

-- name: alone
SELECT pg_try_advisory_xact_lock(%(lock)s) AS alone

-- name: note_state
INSERT INTO health AS h (asset_id, slot, tenant_id, state, level, score, since, state_at, updated_at)
VALUES (%(asset_id)s, %(slot)s, %(tenant_id)s, %(state)s, %(level)s, %(score)s, %(at)s, %(at)s, %(now)s)
ON CONFLICT (asset_id, slot) DO UPDATE
   SET since = CASE WHEN h.state = excluded.state THEN h.since ELSE excluded.since END,
       state = excluded.state, level = excluded.level, score = excluded.score,
       updated_at = excluded.updated_at, state_at = excluded.state_at
 WHERE h.state_at IS NULL OR h.state_at <= excluded.state_at

-- name: assets
-- What the assessment of each asset rests on, in one pass over the fleet's small tables.
SELECT asset.asset_id, asset.tenant_id, asset.last_seen_at, agent.online,
       coalesce(schema.longest_period_s, 0) AS longest_period_s,
       parts.levels, parts.scores, parts.since, parts.states, coalesce(whole.data_quality, 1) AS data_quality
  FROM asset
  JOIN agent USING (agent_id)
  LEFT JOIN LATERAL (
       SELECT max((metric ->> 3)::float8) AS longest_period_s
         FROM (SELECT definition FROM metric_schema m
                WHERE m.agent_id = asset.agent_id AND m.device_id = asset.asset_id
                ORDER BY seen_at DESC LIMIT 1) AS newest,
              jsonb_array_elements(newest.definition -> 'metrics') AS metric
       ) AS schema ON true
  LEFT JOIN LATERAL (
       SELECT array_agg(level) AS levels, array_agg(score) AS scores, array_agg(since) AS since,
              array_agg(state) AS states
         FROM health WHERE health.asset_id = asset.asset_id AND health.slot <> ''
       ) AS parts ON true
  LEFT JOIN health AS whole ON whole.asset_id = asset.asset_id AND whole.slot = ''
 ORDER BY asset.asset_id

-- name: quality
-- Share of good samples of each asset among the newest of each of its series. By the index and bounded: a day of a
-- large fleet's telemetry cannot be counted again and again.
SELECT series.asset_id, sum(newest.n)::float8 AS n, sum(newest.bad)::float8 AS bad
  FROM series
 CROSS JOIN LATERAL (
       SELECT n, bad FROM samples
        WHERE samples.series_id = series.series_id AND samples.t0 >= %(since)s AND samples.t0 <= %(until)s
        ORDER BY samples.t0 DESC LIMIT %(most)s
       ) AS newest
 GROUP BY series.asset_id

-- name: put_asset
INSERT INTO health AS h (asset_id, slot, tenant_id, state, level, score, since, updated_at, data_quality, stale)
SELECT *
  FROM unnest(%(assets)s::text[], %(slots)s::text[], %(tenants)s::text[], %(states)s::text[], %(levels)s::text[],
              %(scores)s::float8[], %(since)s::timestamptz[], %(now)s::timestamptz[], %(quality)s::float8[],
              %(stale)s::bool[])
ON CONFLICT (asset_id, slot) DO UPDATE
   SET since = CASE WHEN h.level = excluded.level THEN h.since ELSE excluded.since END,
       state = excluded.state, level = excluded.level, score = excluded.score, updated_at = excluded.updated_at,
       data_quality = excluded.data_quality, stale = excluded.stale
 WHERE (h.state, h.level, h.score, h.data_quality, h.stale)
       IS DISTINCT FROM (excluded.state, excluded.level, excluded.score, excluded.data_quality, excluded.stale)

-- name: spread_staleness
UPDATE health AS part SET stale = whole.stale, data_quality = whole.data_quality
  FROM health AS whole
 WHERE whole.asset_id = part.asset_id AND whole.slot = '' AND part.slot <> ''
   AND (part.stale, part.data_quality) IS DISTINCT FROM (whole.stale, whole.data_quality)
