-- Statements of fleet_server/health: whether machines run.

-- name: due
-- Assets to look at, those whose components degrade and those that stand first.
SELECT asset_id FROM (
    SELECT asset.asset_id, running.looked_at,
           (EXISTS (SELECT FROM health WHERE health.asset_id = asset.asset_id
                       AND health.state IN ('watch', 'degrading', 'critical'))
            OR coalesce(running.state, 'unknown') NOT IN ('running', 'unknown')
            OR EXISTS (SELECT FROM repair_case WHERE repair_case.asset_id = asset.asset_id
                          AND repair_case.state NOT IN ('closed', 'cancelled', 'false_alarm'))) AS suspicious
      FROM asset LEFT JOIN running_state AS running ON running.asset_id = asset.asset_id AND running.slot = ''
) AS every
 WHERE looked_at IS NULL OR looked_at < CASE WHEN suspicious THEN %(suspicious_before)s ELSE %(before)s END::timestamptz
 ORDER BY suspicious DESC, looked_at NULLS FIRST
 LIMIT %(most)s

-- name: asset
SELECT asset.asset_id, asset.tenant_id, asset.last_seen_at, asset.maintenance_until, asset.site_id, asset.agent_id,
       site.time_zone, agent.left_at, agent.last_seen_at AS agent_last_seen_at,
       coalesce(schema.longest_period_s, 0) AS longest_period_s,
       EXISTS (SELECT FROM repair_case AS c WHERE c.asset_id = asset.asset_id
                  AND (c.state IN ('in_progress', 'verifying')
                       OR (c.state = 'committed' AND c.plan #>> '{window,start}' ~ '^\d{4}-\d\d-\d\dT[\d:.]+([+-]\d\d:\d\d|Z)$'
                           AND %(now)s >= CASE WHEN c.plan #>> '{window,start}' ~ '^\d{4}-\d\d-\d\dT[\d:.]+([+-]\d\d:\d\d|Z)$'
                                               THEN (c.plan #>> '{window,start}')::timestamptz END
                           AND %(now)s < CASE WHEN c.plan #>> '{window,end}' ~ '^\d{4}-\d\d-\d\dT[\d:.]+([+-]\d\d:\d\d|Z)$'
                                              THEN (c.plan #>> '{window,end}')::timestamptz END))) AS being_repaired
  FROM asset
  JOIN site USING (site_id)
  JOIN agent ON agent.agent_id = asset.agent_id
  LEFT JOIN LATERAL (
       SELECT max((metric ->> 3)::float8) AS longest_period_s
         FROM (SELECT definition FROM metric_schema m
                WHERE m.agent_id = asset.agent_id AND m.device_id = asset.asset_id
                ORDER BY seen_at DESC LIMIT 1) AS newest,
              jsonb_array_elements(newest.definition -> 'metrics') AS metric
       ) AS schema ON true
 WHERE asset.asset_id = %(asset_id)s

-- name: others
-- Other agents that were there shortly before the asset was last heard, at its site and elsewhere, and those of them
-- that were heard afterwards.
SELECT site_id = %(site_id)s AS at_site, count(*) AS there, count(*) FILTER (WHERE last_seen_at > %(after)s) AS heard
  FROM agent
 WHERE agent_id <> %(agent_id)s AND last_seen_at > %(last_seen_at)s::timestamptz - interval '1 day'
 GROUP BY 1

-- name: parts
-- The installed components, each with what its latest finding of this life says of its indicator.
SELECT component.slot, component.component_type, found.indicator_metric, found.indicator_baseline
  FROM component
  LEFT JOIN LATERAL (
       SELECT body ->> 'indicator_metric' AS indicator_metric, (body ->> 'indicator_baseline')::float8 AS indicator_baseline
         FROM finding
        WHERE finding.asset_id = component.asset_id AND finding.slot = component.slot
        ORDER BY detected_at DESC, revision DESC LIMIT 1
       ) AS found ON true
 WHERE component.asset_id = %(asset_id)s AND component.valid_to IS NULL
 ORDER BY component.slot

-- name: states
-- What the device said of each component since it was installed, in order: changes of state, and findings.
SELECT slot, state, at FROM (
    SELECT slot, state, at FROM state_change WHERE asset_id = %(asset_id)s AND at >= %(since)s
    UNION ALL
    SELECT slot, state, detected_at FROM finding WHERE asset_id = %(asset_id)s AND detected_at >= %(since)s
) AS said
 WHERE at >= coalesce((SELECT max(former.valid_to) FROM component AS former
                        WHERE former.asset_id = %(asset_id)s AND former.slot = said.slot), '-infinity')
 ORDER BY at
 LIMIT 20000

-- name: series
SELECT series_id, metric, unit, slot FROM current_series WHERE asset_id = %(asset_id)s ORDER BY slot, metric LIMIT 500

-- name: courses
-- Means over buckets, the recent ones fine. Finite values only.
SELECT series_id, avg(point.t_us)::float8 AS t_us, avg(point.v) AS v
  FROM samples
 CROSS JOIN LATERAL unnest(samples.times_us, samples.vals) AS point(t_us, v)
 WHERE samples.series_id = ANY(%(series)s) AND samples.t1 >= %(from_t)s AND samples.t0 <= %(to_t)s
   AND point.t_us BETWEEN %(from_us)s AND %(to_us)s
   AND point.v > '-Infinity' AND point.v < 'Infinity'
 GROUP BY series_id, CASE WHEN point.t_us >= %(recent_us)s THEN point.t_us / 300000000 ELSE -(point.t_us / 1800000000) END
 ORDER BY series_id, 2
 LIMIT 60000

-- name: alone
SELECT pg_try_advisory_xact_lock(hashtextextended('running:' || %(asset_id)s, 0)) AS alone

-- name: stored
SELECT slot, state, since, why, reason, evidence, looked_at FROM running_state WHERE asset_id = %(asset_id)s

-- name: put
INSERT INTO running_state (asset_id, slot, tenant_id, state, since, why, reason, evidence, looked_at)
VALUES (%(asset_id)s, %(slot)s, %(tenant_id)s, %(state)s, %(since)s, %(why)s, %(reason)s, %(evidence)s, %(now)s)
ON CONFLICT (asset_id, slot) DO UPDATE
   SET state = excluded.state, since = excluded.since, why = excluded.why, reason = excluded.reason,
       evidence = excluded.evidence, looked_at = excluded.looked_at

-- name: looked
UPDATE running_state SET looked_at = %(now)s WHERE asset_id = %(asset_id)s

-- name: forget_slots
DELETE FROM running_state WHERE asset_id = %(asset_id)s AND slot <> '' AND NOT slot = ANY(%(slots)s)
