-- name: overview_counts
-- One row per level (worst slot of each asset), with how many are stale or in maintenance. What was good when it was
-- last heard, and is not heard any more, is unknown. A failed machine is critical, one that stopped is not good.
WITH worst AS (
    SELECT asset.asset_id, asset.maintenance_until > %(now)s AS in_maintenance,
           coalesce((array_agg(health.level ORDER BY array_position(
               ARRAY['critical', 'degrading', 'watch', 'good', 'unknown'], health.level)))[1], 'unknown') AS level,
           coalesce(bool_or(health.stale), true) AS stale,
           (SELECT state FROM running_state WHERE running_state.asset_id = asset.asset_id AND slot = '') AS running
      FROM asset LEFT JOIN health USING (asset_id)
     GROUP BY asset.asset_id, asset.maintenance_until
)
SELECT CASE WHEN running = 'failed' THEN 'critical'
            WHEN running = 'stopped' AND level IN ('good', 'unknown') THEN 'watch'
            WHEN stale AND level = 'good' THEN 'unknown' ELSE level END AS level, count(*)::int AS assets,
       (count(*) FILTER (WHERE stale))::int AS stale,
       (count(*) FILTER (WHERE in_maintenance))::int AS in_maintenance
  FROM worst GROUP BY 1;

-- name: overview_totals
SELECT (SELECT count(*)::int FROM agent) AS agents, (SELECT count(*)::int FROM agent WHERE online AND coalesce(heard_at, last_seen_at) >= %(heard_since)s) AS agents_online,
       (SELECT count(*)::int FROM repair_case WHERE state NOT IN ('closed', 'cancelled', 'false_alarm')) AS open_cases,
       (SELECT count(*)::int FROM escalation WHERE decided_at IS NULL) AS open_escalations,
       (SELECT count(*)::int FROM repair_case WHERE state = 'closed') AS closed_cases;

-- name: fleet_assets
SELECT asset.asset_id, asset.name, asset.asset_class, asset.model, asset.serial, asset.site_id, site.name AS site_name,
       site.time_zone, asset.tenant_id, tenant.name AS tenant_name, asset.last_seen_at, asset.maintenance_until,
       shown.level, coalesce(worst.level, 'unknown') AS last_level, coalesce(worst.slot, '') AS worst_slot,
       coalesce(worst.score, 0) AS score, coalesce(worst.stale, true) AS stale,
       agent.online AND coalesce(agent.heard_at >= %(heard_since)s, agent.last_seen_at >= %(heard_since)s, false)
           AS agent_online,
       coalesce(running.state, 'unknown') AS running, running.since AS running_since,
       coalesce(running.reason, '') AS running_reason,
       opened.case_id, opened.number AS case_number, opened.state AS case_state,
       coalesce(opened.escalated, false) AS escalated, count(*) OVER ()::int AS total
  FROM asset JOIN site USING (site_id) JOIN tenant ON tenant.tenant_id = asset.tenant_id
  JOIN agent ON agent.agent_id = asset.agent_id
  LEFT JOIN LATERAL (
      SELECT level, slot, score, bool_or(stale) OVER () AS stale FROM health WHERE health.asset_id = asset.asset_id
       ORDER BY array_position(ARRAY['critical', 'degrading', 'watch', 'good', 'unknown'], level), slot = '', score DESC, slot
       LIMIT 1) worst ON true -- of equals the component, not the asset's own row that sums them up
  LEFT JOIN running_state AS running ON running.asset_id = asset.asset_id AND running.slot = ''
  CROSS JOIN LATERAL (
      SELECT CASE WHEN running.state = 'failed' THEN 'critical'
                  WHEN running.state = 'stopped' AND coalesce(worst.level, 'unknown') IN ('good', 'unknown') THEN 'watch'
                  WHEN coalesce(worst.stale, true) AND coalesce(worst.level, 'good') = 'good' THEN 'unknown'
                  ELSE worst.level END AS level) AS shown
  LEFT JOIN LATERAL (
      SELECT case_id, number, state, escalated FROM repair_case
       WHERE repair_case.asset_id = asset.asset_id AND state NOT IN ('closed', 'cancelled', 'false_alarm')
       ORDER BY deadline_at NULLS LAST, escalated DESC, opened_at LIMIT 1) opened ON true
 WHERE (%(level)s::text IS NULL OR shown.level = %(level)s)
   AND (%(site_id)s::text IS NULL OR asset.site_id = %(site_id)s)
   AND (%(asset_class)s::text IS NULL OR asset.asset_class = %(asset_class)s)
   AND (%(search)s::text IS NULL OR concat_ws(' ', asset.asset_id, asset.name, asset.serial, asset.model,
                        CASE WHEN %(search_names)s THEN site.name END)
        ILIKE %(search)s)
 ORDER BY array_position(ARRAY['critical', 'degrading', 'watch', 'unknown', 'good'], shown.level),
          worst.score DESC NULLS LAST, asset.name, asset.asset_id
 LIMIT %(limit)s OFFSET %(offset)s;

-- name: tenants
SELECT tenant.tenant_id, tenant.name, tenant.jurisdiction, tenant.observe_only,
       (SELECT count(*)::int FROM asset WHERE asset.tenant_id = tenant.tenant_id) AS assets
  FROM tenant ORDER BY tenant_id LIMIT %(limit)s OFFSET %(offset)s;

-- name: sites
SELECT site_id, tenant_id, name, region, jurisdiction, time_zone, wms_kind FROM site
 ORDER BY site_id LIMIT %(limit)s OFFSET %(offset)s;

-- name: library
SELECT component_type, failure_mode, source, count(*)::int AS trajectories,
       (count(*) FILTER (WHERE failed))::int AS failed, count(DISTINCT unit_serial)::int AS units,
       max(added_at) AS last_added_at
  FROM trajectory GROUP BY component_type, failure_mode, source ORDER BY component_type, failure_mode, source LIMIT 500;

-- name: events_after
SELECT event_id, tenant_id, case_id, at, kind FROM case_event WHERE event_id > %(after)s ORDER BY event_id LIMIT 500;

-- name: newest_event
SELECT coalesce(max(event_id), 0) AS event_id FROM case_event;

-- name: tenant
SELECT tenant_id FROM tenant WHERE tenant_id = %(tenant_id)s;
