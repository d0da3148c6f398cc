-- name: asset
SELECT asset.*, site.name AS site_name, site.time_zone, site.jurisdiction, site.wms_kind, tenant.name AS tenant_name,
       tenant.observe_only, agent.online AND coalesce(agent.heard_at >= %(heard_since)s, agent.last_seen_at >= %(heard_since)s, false)
           AS agent_online, agent.left_at AS agent_left_at, agent.last_seen_at AS agent_last_seen_at,
       agent.agent_version, agent.time_quality
  FROM asset JOIN site USING (site_id) JOIN tenant ON tenant.tenant_id = asset.tenant_id
  JOIN agent ON agent.agent_id = asset.agent_id
 WHERE asset.asset_id = %(asset_id)s;

-- name: exists
SELECT FROM asset WHERE asset_id = %(asset_id)s;

-- name: running
SELECT slot, state, since, why, reason FROM running_state WHERE asset_id = %(asset_id)s ORDER BY slot LIMIT 200;

-- name: components
SELECT slot, component_type, serial, part_no, valid_from, valid_to FROM component
 WHERE asset_id = %(asset_id)s ORDER BY slot, valid_from DESC LIMIT 200;

-- name: health
SELECT slot, state, level, score, since, updated_at, data_quality, stale FROM health
 WHERE asset_id = %(asset_id)s ORDER BY slot LIMIT 200;

-- name: health_history
SELECT slot, state, previous, at, score, reason FROM state_change
 WHERE asset_id = %(asset_id)s ORDER BY at DESC LIMIT 100;

-- name: findings
SELECT DISTINCT ON (finding_id) finding_id, revision, slot, state, score, severity, failure_mode, detected_at, onset_at,
       body, received_at
  FROM finding WHERE asset_id = %(asset_id)s ORDER BY finding_id, revision DESC LIMIT 50;

-- name: prognoses
SELECT DISTINCT ON (slot) * FROM prognosis WHERE asset_id = %(asset_id)s ORDER BY slot, made_at DESC LIMIT 50;

-- name: prognosis_of
SELECT course, neighbours FROM prognosis WHERE asset_id = %(asset_id)s AND prognosis_id = %(prognosis_id)s;

-- name: courses
-- Past courses by their ids; what another customer's row is stays invisible.
SELECT trajectory_id, failed, hours, indicator FROM trajectory WHERE trajectory_id = ANY(%(ids)s);

-- name: prognosis_history
SELECT slot, made_at, abstained, rul_p10_h, rul_p50_h, rul_p90_h FROM prognosis
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s ORDER BY made_at DESC LIMIT 200;

-- name: asset_cases
SELECT case_id, number, slot, state, failure_mode, urgency, escalated, opened_at, closed_at, deadline_at, plan
  FROM repair_case WHERE asset_id = %(asset_id)s ORDER BY opened_at DESC LIMIT 50;

-- name: latest_vitals
SELECT metric, unit, slot, t, v FROM latest_vitals(%(asset_id)s);

-- name: series_of
SELECT metric, unit, slot FROM series_of(%(asset_id)s) LIMIT 500;

-- name: vitals_thinned
SELECT bucket, n, bad, v_min, v_max, v_mean
  FROM vitals_thinned(%(asset_id)s, %(metric)s, %(from_t)s, %(to_t)s, %(buckets)s);

-- name: waveforms
SELECT t0, sample_rate_hz, fragment, fragments, vals
  FROM waveforms(%(asset_id)s, %(metric)s, %(from_t)s, %(to_t)s, %(most)s);
