-- Statements of fleet_server/prognosis: the living course, the library, prognoses, learning from closed cases.

-- name: subject
-- The installed component and where it stands; since is the last swap of the slot, before which it was another unit.
SELECT component.component_type, component.serial, site.jurisdiction,
       (SELECT max(earlier.valid_to) FROM component AS earlier
         WHERE earlier.asset_id = asset.asset_id AND earlier.slot = %(slot)s AND earlier.valid_to <= %(now)s) AS since
  FROM asset
  JOIN site ON site.site_id = asset.site_id
  LEFT JOIN component ON component.asset_id = asset.asset_id AND component.slot = %(slot)s
                     AND component.valid_to IS NULL
 WHERE asset.asset_id = %(asset_id)s;

-- name: course_size
SELECT coalesce(sum(samples.n), 0)::bigint AS points
  FROM current_series AS series JOIN samples USING (series_id)
 WHERE series.asset_id = %(asset_id)s AND series.metric = %(metric)s
   AND samples.t1 >= %(from_t)s AND samples.t0 <= %(to_t)s;

-- name: course
-- Finite values only: NaN sorts above infinity, so the comparison drops both.
SELECT avg(point.t_us)::float8 AS t_us, avg(point.v) AS v
  FROM current_series AS series
  JOIN samples USING (series_id)
 CROSS JOIN LATERAL unnest(samples.times_us, samples.vals) AS point(t_us, v)
 WHERE series.asset_id = %(asset_id)s AND series.metric = %(metric)s
   AND samples.t1 >= %(from_t)s AND samples.t0 <= %(to_t)s
   AND point.t_us BETWEEN %(from_us)s AND %(to_us)s
   AND point.v > '-Infinity' AND point.v < 'Infinity'
 GROUP BY point.t_us / %(bucket_us)s
 ORDER BY 1
 LIMIT 20000;

-- name: kept_direction
-- Whether the indicator falls as the component degrades, as the first clear revision of the finding decided.
SELECT (inputs->>'falls')::boolean AS falls
  FROM prognosis
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND finding_id = %(finding_id)s
   AND inputs->>'metric' = %(metric)s AND inputs->>'falls_by' = %(by)s
 ORDER BY made_at, recorded_at
 LIMIT 1;

-- name: library_index
-- What this tenant's assets of this class and jurisdiction may be compared with: its own history and public history.
SELECT trajectory_id, coalesce(nullif(digest, ''), md5(hours::text || indicator::text || failed || failure_mode)) AS digest
  FROM trajectory
 WHERE component_type = %(component_type)s
   AND (tenant_id IS NULL OR tenant_id = %(tenant_id)s)
   AND (jurisdiction IS NULL OR jurisdiction = %(jurisdiction)s)
   AND (asset_class IS NULL OR asset_class = %(asset_class)s)
   AND added_at <= %(known_at)s
 ORDER BY trajectory_id
 LIMIT 10000;

-- name: scopes_in_use
-- Which parts of the library the installed components are compared with, the most installed first.
SELECT component.component_type, asset.asset_class, site.jurisdiction, asset.tenant_id
  FROM component
  JOIN asset ON asset.asset_id = component.asset_id
  JOIN site ON site.site_id = asset.site_id
 WHERE component.valid_to IS NULL
   AND EXISTS (SELECT FROM trajectory WHERE trajectory.component_type = component.component_type)
 GROUP BY component.component_type, asset.asset_class, site.jurisdiction, asset.tenant_id
 ORDER BY count(*) DESC, 1, 2, 3, 4
 LIMIT %(most)s;

-- name: trajectories
SELECT trajectory_id, coalesce(tenant_id, '') AS tenant_id, coalesce(jurisdiction, '') AS jurisdiction, component_type,
       coalesce(asset_class, '') AS asset_class, unit_serial, source, failure_mode, failed, hours, indicator
  FROM trajectory
 WHERE trajectory_id = ANY(%(ids)s);

-- name: add_trajectory
INSERT INTO trajectory (trajectory_id, tenant_id, jurisdiction, component_type, asset_class, unit_serial, source,
                        failure_mode, failed, hours, indicator, detail, digest, added_at)
VALUES (%(trajectory_id)s, nullif(%(tenant_id)s, ''), nullif(%(jurisdiction)s, ''), %(component_type)s,
        nullif(%(asset_class)s, ''), %(unit_serial)s, %(source)s, %(failure_mode)s, %(failed)s, %(hours)s, %(indicator)s,
        %(detail)s, %(digest)s, %(added_at)s)
ON CONFLICT (trajectory_id) DO NOTHING;

-- name: summary
SELECT component_type, source, failure_mode, count(*) AS units, count(*) FILTER (WHERE failed) AS failed,
       count(*) FILTER (WHERE tenant_id IS NOT NULL) AS of_tenants
  FROM trajectory
 GROUP BY component_type, source, failure_mode
 ORDER BY component_type, source, failure_mode;

-- name: latest_calibration
SELECT calibration_id, body FROM calibration
 WHERE scope = %(scope)s AND model_version = %(model_version)s
   AND (library_digest = %(library_digest)s OR abs(units - %(units)s) * 10 <= %(units)s)
 ORDER BY (library_digest = %(library_digest)s) DESC, made_at DESC
 LIMIT 1;

-- name: calibration
SELECT body FROM calibration WHERE calibration_id = %(calibration_id)s;

-- name: calibration_is_stored
SELECT FROM calibration WHERE calibration_id = %(calibration_id)s;

-- name: add_calibration
INSERT INTO calibration (calibration_id, scope, library_digest, model_version, units, body, made_at)
VALUES (%(calibration_id)s, %(scope)s, %(library_digest)s, %(model_version)s, %(units)s, %(body)s, %(made_at)s)
ON CONFLICT (calibration_id) DO NOTHING;

-- name: add_prognosis
INSERT INTO prognosis (prognosis_id, tenant_id, asset_id, slot, case_id, finding_id, revision, made_at, abstained, reason,
                       abstain_code, failure_mode, mode_share, p_fail, rul_p10_h, rul_p50_h, rul_p90_h, survival, neighbours,
                       course, library_digest, model_version, conflicting, inputs, trace_id)
VALUES (%(prognosis_id)s, %(tenant_id)s, %(asset_id)s, %(slot)s, %(case_id)s, %(finding_id)s, %(revision)s, %(made_at)s,
        %(abstained)s, %(reason)s, %(abstain_code)s, %(failure_mode)s, %(mode_share)s, %(p_fail)s, %(rul_p10_h)s, %(rul_p50_h)s,
        %(rul_p90_h)s, %(survival)s, %(neighbours)s, %(course)s, %(library_digest)s, %(model_version)s, %(conflicting)s,
        %(inputs)s, %(trace_id)s);

-- name: prognosis
SELECT * FROM prognosis WHERE prognosis_id = %(prognosis_id)s;

-- name: closed_case
SELECT repair_case.tenant_id, repair_case.asset_id, repair_case.slot, repair_case.state, repair_case.failure_mode,
       repair_case.closed_at,
       repair_case.component_serial, repair_case.outcome, repair_case.opened_at, repair_case.trace_id, finding.body,
       asset.asset_class, site.jurisdiction, component.component_type,
       (SELECT max(earlier.valid_to) FROM component AS earlier
         WHERE earlier.asset_id = repair_case.asset_id AND earlier.slot = repair_case.slot
           AND earlier.valid_to <= repair_case.opened_at) AS since,
       (SELECT min(least(work_order.starts_at, work_order.completed_at)) FROM work_order
         WHERE work_order.case_id = repair_case.case_id AND work_order.state IN ('started', 'completed')) AS repaired_at
  FROM repair_case
  JOIN asset ON asset.asset_id = repair_case.asset_id
  JOIN site ON site.site_id = repair_case.site_id
  JOIN LATERAL (SELECT body FROM finding WHERE finding.finding_id = repair_case.finding_id
                 ORDER BY revision DESC LIMIT 1) AS finding ON true
  JOIN LATERAL (SELECT component_type FROM component
                 WHERE component.asset_id = repair_case.asset_id AND component.slot = repair_case.slot
                 ORDER BY valid_from DESC LIMIT 1) AS component ON true
 WHERE repair_case.case_id = %(case_id)s;
