-- Cases, acts, escalations and timers.

-- name: finding_to_judge
SELECT finding_id, revision, finding.tenant_id, asset.site_id, asset_id, slot, trace_id, finding.body::text AS body_text
  FROM finding JOIN asset USING (asset_id)
 WHERE finding_id = %(finding_id)s AND revision = %(revision)s

-- name: finding_body
SELECT body::text AS body_text, recorded_at FROM finding WHERE finding_id = %(finding_id)s ORDER BY revision DESC LIMIT 1

-- name: lock_component
SELECT pg_advisory_xact_lock(hashtextextended('component:' || %(asset_id)s || ':' || %(slot)s, 0))

-- name: open_case_of
SELECT case_id, tenant_id, site_id, asset_id, slot, number, state, failure_mode, owner_id, impact, urgency, finding_id,
       prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated, replanning, waits_for,
       plan, outcome, trace_id, next_at, version FROM repair_case
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND state NOT IN ('closed', 'cancelled', 'false_alarm')
 FOR UPDATE

-- name: other_open_case_of
SELECT number FROM repair_case
 WHERE asset_id = %(asset_id)s AND slot <> %(slot)s AND state NOT IN ('open', 'closed', 'cancelled', 'false_alarm')
 ORDER BY opened_at LIMIT 1

-- name: judged_before
SELECT 1 AS found FROM prognosis
 WHERE case_id = %(case_id)s AND finding_id = %(finding_id)s AND revision = %(revision)s LIMIT 1

-- name: recovered_since
SELECT at FROM (
    SELECT state, at FROM state_change WHERE asset_id = %(asset_id)s AND slot = %(slot)s ORDER BY at DESC LIMIT 1
) AS newest
 WHERE state = 'healthy' AND at <= %(settled_before)s

-- name: latest_revision
SELECT finding_id, max(revision) AS revision FROM finding WHERE finding_id = %(finding_id)s GROUP BY finding_id

-- name: vitals_since_prognosis
-- Whether samples of the indicator were received since the case's prognosis was made, or it has none yet.
SELECT 1 AS found
  FROM finding
  JOIN current_series AS series ON series.asset_id = finding.asset_id
                               AND series.metric = finding.body ->> 'indicator_metric'
  LEFT JOIN prognosis ON prognosis.prognosis_id = %(prognosis_id)s
 WHERE finding.finding_id = %(finding_id)s
   AND EXISTS (SELECT FROM samples
                WHERE samples.series_id = series.series_id
                  AND samples.t0 > coalesce(prognosis.made_at, '-infinity') - interval '7 days'
                  AND samples.received_at > coalesce(prognosis.made_at, '-infinity'))
 LIMIT 1

-- name: last_ended_case_of
SELECT case_id, state, closed_at,
       EXISTS (SELECT FROM prognosis WHERE prognosis.case_id = repair_case.case_id
                                       AND prognosis.inputs ->> 'device_state' = 'critical') AS was_critical,
       (SELECT coalesce(max(revision), 0) FROM prognosis WHERE prognosis.case_id = repair_case.case_id
                                       AND prognosis.finding_id = %(finding_id)s) AS revision,
       (SELECT max(at) FROM state_change WHERE state_change.asset_id = repair_case.asset_id
                                       AND state_change.slot = repair_case.slot AND state = 'healthy') AS recovered_at
  FROM repair_case
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND finding_id = %(finding_id)s
 ORDER BY opened_at DESC LIMIT 1

-- name: follow
UPDATE repair_case SET follows_case = %(follows)s WHERE case_id = %(case_id)s

-- name: followed_case
SELECT before.case_id, before.number, before.state, before.opened_at, before.closed_at, before.outcome,
       coalesce(before.plan ->> 'ended_because', '') AS ended_because
  FROM repair_case AS later JOIN repair_case AS before ON before.case_id = later.follows_case
 WHERE later.case_id = %(case_id)s

-- name: insert_case
INSERT INTO repair_case (case_id, tenant_id, site_id, asset_id, slot, state, failure_mode, owner_id, impact, urgency,
                         finding_id, component_serial, part_no, opened_at, waits_for, trace_id)
VALUES (%(case_id)s, %(tenant_id)s, %(site_id)s, %(asset_id)s, %(slot)s, 'open', %(failure_mode)s, %(owner_id)s,
        %(impact)s, %(urgency)s, %(finding_id)s, %(component_serial)s, %(part_no)s, %(opened_at)s, '', %(trace_id)s)
RETURNING case_id, tenant_id, site_id, asset_id, slot, number, state, failure_mode, owner_id, impact, urgency, finding_id,
          prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated, replanning, waits_for,
          plan, outcome, trace_id, next_at, version

-- name: case_by_id
SELECT case_id, tenant_id, site_id, asset_id, slot, number, state, failure_mode, owner_id, impact, urgency, finding_id,
       prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated, replanning, waits_for,
       plan, outcome, trace_id, next_at, version FROM repair_case WHERE case_id = %(case_id)s

-- name: lock_case
SELECT case_id, tenant_id, site_id, asset_id, slot, number, state, failure_mode, owner_id, impact, urgency, finding_id,
       prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated, replanning, waits_for,
       plan, outcome, trace_id, next_at, version FROM repair_case WHERE case_id = %(case_id)s FOR UPDATE

-- name: change_case
-- Only what was read last is changed: whoever changes a case holds its row.
UPDATE repair_case
   SET state = %(state)s, failure_mode = %(failure_mode)s, urgency = %(urgency)s, finding_id = %(finding_id)s,
       prognosis_id = %(prognosis_id)s, deadline_at = %(deadline_at)s, part_no = %(part_no)s, closed_at = %(closed_at)s,
       escalated = %(escalated)s, replanning = %(replanning)s, waits_for = %(waits_for)s, plan = %(plan)s,
       outcome = %(outcome)s, next_at = %(next_at)s, version = version + 1
 WHERE case_id = %(case_id)s AND version = %(version)s
RETURNING case_id, tenant_id, site_id, asset_id, slot, number, state, failure_mode, owner_id, impact, urgency, finding_id,
          prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated, replanning, waits_for,
          plan, outcome, trace_id, next_at, version

-- name: rest_case
UPDATE repair_case SET next_at = %(next_at)s, waits_for = %(waits_for)s
 WHERE case_id = %(case_id)s AND version = %(version)s

-- name: postpone_case
UPDATE repair_case SET next_at = %(next_at)s, waits_for = %(waits_for)s WHERE case_id = %(case_id)s

-- name: try_lock_case
SELECT pg_try_advisory_lock(hashtextextended('case:' || %(case_id)s, 0)) AS locked

-- name: unlock_case
SELECT pg_advisory_unlock(hashtextextended('case:' || %(case_id)s, 0))

-- name: asset_of
SELECT asset_id, name, asset_class, model, serial, equipment_ref, criticality FROM asset WHERE asset_id = %(asset_id)s

-- name: site_of
SELECT site.site_id, site.name, site.region, site.jurisdiction, site.time_zone, site.latitude, site.longitude,
       site.wms_kind, site.wms_config
  FROM asset JOIN site USING (site_id)
 WHERE asset.asset_id = %(asset_id)s

-- name: site_by_id
SELECT site_id, name, region, jurisdiction, time_zone, latitude, longitude, wms_kind, wms_config
  FROM site WHERE site_id = %(site_id)s

-- name: tenant_of
SELECT tenant.tenant_id, tenant.observe_only, tenant.policy
  FROM asset JOIN tenant USING (tenant_id)
 WHERE asset.asset_id = %(asset_id)s

-- name: component_of
SELECT slot, component_type, serial, part_no FROM component
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND valid_to IS NULL

-- name: region_of_site
SELECT region FROM site WHERE site_id = %(site_id)s

-- name: asset_row
SELECT asset.asset_id, asset.tenant_id, asset.name, asset.asset_class, asset.criticality, asset.maintenance_until,
       asset.maintenance_note, component.component_type, component.serial AS component_serial, component.part_no
  FROM asset
  LEFT JOIN component ON component.asset_id = asset.asset_id AND component.slot = %(slot)s
                     AND component.valid_to IS NULL
 WHERE asset.asset_id = %(asset_id)s

-- name: prognosis_by_id
SELECT prognosis_id, made_at, abstained, abstain_code, reason, failure_mode, conflicting, mode_share, p_fail, survival,
       rul_p10_h, rul_p50_h, rul_p90_h
  FROM prognosis WHERE prognosis_id = %(prognosis_id)s

-- name: case_owner
SELECT person_id, name, email, coalesce(webhook_url, '') AS webhook_url FROM person
 WHERE active AND role IN ('case_owner', 'fleet_operator')
   AND (tenant_id IS NULL OR tenant_id = %(tenant_id)s)
   AND (site_id IS NULL OR site_id = %(site_id)s)
   AND (region IS NULL OR region = %(region)s)
 ORDER BY role <> 'case_owner', site_id IS NULL, tenant_id IS NULL, region IS NULL, person_id
 LIMIT 100

-- name: colleagues
-- Ours who may be asked, and those of the tenant; besides them the people named.
SELECT person_id, name, email, coalesce(webhook_url, '') AS webhook_url, role, active,
       tenant_id IS NOT NULL AS tenant_bound,
       (SELECT count(*) FROM escalation
         WHERE escalation.to_person = person.person_id AND decided_at IS NULL
           AND coalesce(asked_at, raised_at) > %(shift_began)s)::int AS open_questions
  FROM person
 WHERE (role IN ('case_owner', 'fleet_operator', 'administrator')
        AND (tenant_id IS NULL OR tenant_id = %(tenant_id)s))
    OR person_id = ANY (%(people)s)
 ORDER BY person_id LIMIT 500

-- name: contacts
SELECT person_id, name, email, coalesce(webhook_url, '') AS webhook_url, role, active,
       tenant_id IS NOT NULL AS tenant_bound, 0 AS open_questions
  FROM person WHERE person_id = ANY (%(people)s)

-- name: person_of_user
SELECT person_id FROM app_user WHERE user_id = %(user_id)s AND person_id IS NOT NULL

-- name: directors
SELECT person_id, name, email, coalesce(webhook_url, '') AS webhook_url FROM person
 WHERE active AND tenant_id = %(tenant_id)s AND role IN ('operations_director', 'site_manager')
   AND (site_id IS NULL OR site_id = %(site_id)s)
 ORDER BY role <> 'operations_director', site_id IS NULL, person_id
 LIMIT 1

-- name: person_by_id
SELECT person_id, name, email, coalesce(webhook_url, '') AS webhook_url FROM person WHERE person_id = %(person_id)s

-- name: name_of_user
SELECT person.name FROM app_user JOIN person USING (person_id) WHERE app_user.user_id = %(user_id)s

-- name: set_owner
UPDATE repair_case SET owner_id = %(owner_id)s WHERE case_id = %(case_id)s

-- name: cases_left
-- Open cases of which somebody is not active any more: the owner, who is asked, or the engineer who is to come.
SELECT case_id FROM repair_case AS c
 WHERE state NOT IN ('closed', 'cancelled', 'false_alarm')
   AND EXISTS (SELECT FROM person
                WHERE NOT active
                  AND (person_id = c.owner_id
                       OR (c.state IN ('committed', 'in_progress') AND person_id = c.plan #>> '{engineer,id}')
                       OR person_id IN (SELECT to_person FROM escalation
                                         WHERE escalation.case_id = c.case_id AND decided_at IS NULL)))
 ORDER BY case_id LIMIT 64

-- name: cases_to_check
-- Open cases, and ended ones of which something is still to be told or asked, in order.
SELECT case_id FROM repair_case AS c
 WHERE case_id > %(after)s
   AND (state NOT IN ('closed', 'cancelled', 'false_alarm')
        OR EXISTS (SELECT FROM act WHERE act.case_id = c.case_id AND act.kind = 'message'
                      AND act.state IN ('intended', 'unknown'))
        OR EXISTS (SELECT FROM escalation WHERE escalation.case_id = c.case_id AND decided_at IS NULL))
 ORDER BY case_id LIMIT 32

-- name: acts_of
SELECT act_id, case_id, kind, purpose, sequence, idempotency_key, state, request, external_ref, attempts, due_at, error,
       intended_at
  FROM act WHERE case_id = %(case_id)s ORDER BY intended_at, sequence

-- name: acts_shown
SELECT * FROM act WHERE case_id = %(case_id)s ORDER BY intended_at, sequence

-- name: insert_act
INSERT INTO act (act_id, tenant_id, case_id, kind, purpose, sequence, idempotency_key, state, request, due_at,
                 intended_at)
VALUES (%(act_id)s, %(tenant_id)s, %(case_id)s, %(kind)s, %(purpose)s, %(sequence)s, %(idempotency_key)s, 'intended',
        %(request)s, %(now)s, %(now)s)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING act_id, case_id, kind, purpose, sequence, idempotency_key, state, request, external_ref, attempts, due_at, error,
       intended_at

-- name: settle_act
UPDATE act SET state = %(state)s, response = coalesce(%(response)s, response), external_ref = %(external_ref)s,
               settled_at = %(now)s, settled_recorded_at = clock_timestamp(), error = %(error)s
 WHERE act_id = %(act_id)s

-- name: postpone_act
UPDATE act SET state = %(state)s, attempts = attempts + 1, due_at = %(due_at)s, error = %(error)s
 WHERE act_id = %(act_id)s
RETURNING attempts

-- name: retry_acts
UPDATE act SET attempts = 0, due_at = %(now)s WHERE case_id = %(case_id)s AND state IN ('intended', 'unknown', 'unwanted')

-- name: insert_event
INSERT INTO case_event (tenant_id, case_id, at, kind, summary, detail)
VALUES (%(tenant_id)s, %(case_id)s, %(at)s, %(kind)s, %(summary)s, %(detail)s)

-- name: insert_escalation
INSERT INTO escalation (escalation_id, tenant_id, case_id, reason, summary, to_person, raised_at, due_at, context,
                        options, level, asked_at)
VALUES (%(escalation_id)s, %(tenant_id)s, %(case_id)s, %(reason)s, %(summary)s, %(to_person)s, %(now)s, %(due_at)s,
        %(context)s, %(options)s, %(level)s, %(now)s)
ON CONFLICT (case_id, reason) WHERE decided_at IS NULL DO NOTHING
RETURNING escalation_id, case_id

-- name: case_of_escalation
SELECT escalation_id, case_id FROM escalation WHERE escalation_id = %(escalation_id)s

-- name: lock_escalation
SELECT escalation_id, tenant_id, case_id, reason, summary, to_person, options, decided_at, decided_by, decision,
       reminded_at, coalesce(context ->> 'step', '') AS step, level, repeats, unreached, acknowledged_by, acknowledged_until,
       raised_at, due_at
  FROM escalation WHERE escalation_id = %(escalation_id)s FOR UPDATE

-- name: decide_escalation
UPDATE escalation SET decided_at = %(now)s, decided_by = %(actor)s, decision = %(decision)s, note = %(note)s
 WHERE escalation_id = %(escalation_id)s

-- name: close_escalations
UPDATE escalation SET decided_at = %(now)s, decided_by = %(actor)s, decision = %(decision)s, note = %(note)s
 WHERE case_id = %(case_id)s AND decided_at IS NULL

-- name: end_escalation
UPDATE escalation SET decided_at = %(now)s, decided_by = %(actor)s, decision = %(decision)s, note = %(note)s
 WHERE escalation_id = %(escalation_id)s AND decided_at IS NULL

-- name: open_questions_of
SELECT escalation_id, reason, summary, coalesce(context ->> 'step', '') AS step, to_person, raised_at, due_at
  FROM escalation WHERE case_id = %(case_id)s AND decided_at IS NULL ORDER BY raised_at, escalation_id

-- name: timers_of
SELECT kind, due_at FROM timer WHERE case_id = %(case_id)s AND done_at IS NULL ORDER BY due_at

-- name: open_escalations
SELECT count(*) AS n FROM escalation WHERE case_id = %(case_id)s AND decided_at IS NULL

-- name: overdue_escalation
SELECT escalation_id, case_id FROM escalation
 WHERE decided_at IS NULL AND due_at <= %(now)s
 ORDER BY due_at LIMIT 1

-- name: hand_over
UPDATE escalation SET reminded_at = %(now)s, due_at = %(due_at)s, level = %(level)s, repeats = %(repeats)s,
       unreached = %(unreached)s, acknowledged_by = NULL, acknowledged_until = NULL,
       asked_at = CASE WHEN to_person = %(to_person)s THEN asked_at ELSE %(now)s END, to_person = %(to_person)s
 WHERE escalation_id = %(escalation_id)s

-- name: acknowledge
UPDATE escalation SET acknowledged_by = %(actor)s, acknowledged_until = %(until)s, due_at = %(until)s
 WHERE escalation_id = %(escalation_id)s

-- name: postpone_escalation
UPDATE escalation SET due_at = %(due_at)s
 WHERE escalation_id = %(escalation_id)s AND decided_at IS NULL AND due_at <= %(now)s

-- name: due_cases
SELECT case_id FROM repair_case WHERE next_at <= %(now)s ORDER BY next_at LIMIT 64

-- name: set_timer
INSERT INTO timer (timer_id, tenant_id, case_id, kind, due_at)
VALUES (%(timer_id)s, %(tenant_id)s, %(case_id)s, %(kind)s, %(due_at)s)
ON CONFLICT (case_id, kind) WHERE done_at IS NULL DO UPDATE SET due_at = EXCLUDED.due_at

-- name: stop_timers
UPDATE timer SET done_at = %(now)s WHERE case_id = %(case_id)s AND done_at IS NULL

-- name: due_timer
SELECT timer_id, case_id FROM timer WHERE done_at IS NULL AND due_at <= %(now)s ORDER BY due_at LIMIT 1

-- name: end_timer
UPDATE timer SET done_at = %(now)s
 WHERE timer_id = %(timer_id)s AND done_at IS NULL AND due_at <= %(now)s
RETURNING case_id, kind

-- name: case_of_work_order
SELECT case_id FROM work_order WHERE work_order_id = %(work_order_id)s

-- name: postpone_timer
-- Unless it was set anew meanwhile.
UPDATE timer SET due_at = %(due_at)s WHERE timer_id = %(timer_id)s AND done_at IS NULL AND due_at <= %(now)s

-- name: lock_work_order
SELECT work_order_id, case_id, number, state, report FROM work_order WHERE work_order_id = %(work_order_id)s FOR UPDATE

-- name: start_order
UPDATE work_order SET state = 'started' WHERE work_order_id = %(work_order_id)s

-- name: complete_order
UPDATE work_order SET state = 'completed', report = %(report)s, completed_at = %(now)s
 WHERE work_order_id = %(work_order_id)s

-- name: end_component
UPDATE component SET valid_to = %(now)s
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND valid_to IS NULL AND serial <> %(serial)s
RETURNING tenant_id, component_type, serial, part_no, reported_serial

-- name: install_component
INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from, reported_serial)
VALUES (%(tenant_id)s, %(asset_id)s, %(slot)s, %(component_type)s, %(serial)s, %(part_no)s, %(now)s,
        %(reported_serial)s)

-- name: vitals_after
-- In the unit of the finding's baseline; when the finding tells none, in the present one.
SELECT count(*) AS n, avg(point.v) AS mean
  FROM series JOIN samples USING (series_id)
 CROSS JOIN LATERAL unnest(samples.times_us, samples.vals) AS point(t_us, v)
 WHERE series.asset_id = %(asset_id)s AND series.metric = %(metric)s
   AND series.series_id IN (SELECT series_id FROM series WHERE unit = %(unit)s
                            UNION ALL SELECT series_id FROM current_series WHERE asset_id = %(asset_id)s
                                         AND metric = %(metric)s AND %(unit)s::text IS NULL)
   AND samples.t1 >= %(after)s
   AND samples.t0 <= %(now)s
   AND point.t_us > (extract(epoch FROM %(after)s::timestamptz) * 1000000)::bigint
   AND point.v > '-Infinity' AND point.v < 'Infinity'

-- name: device_state
SELECT state, since FROM health WHERE asset_id = %(asset_id)s AND slot = %(slot)s

-- name: maintenance_over
SELECT asset_id, tenant_id FROM asset WHERE maintenance_until <= %(now)s ORDER BY asset_id

-- name: end_maintenance
UPDATE asset SET maintenance_until = NULL, maintenance_note = ''
 WHERE asset_id = %(asset_id)s AND maintenance_until <= %(now)s

-- name: newest_finding_of
SELECT finding_id, revision, finding.tenant_id, asset.site_id, asset_id, slot, trace_id, finding.body::text AS body_text
  FROM finding JOIN asset USING (asset_id)
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s
 ORDER BY detected_at DESC, revision DESC LIMIT 1

-- name: case_ended_after
SELECT 1 AS found FROM repair_case
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND closed_at >= %(at)s LIMIT 1

-- name: withdraw_questions
UPDATE escalation SET decided_at = %(now)s, decided_by = %(actor)s, decision = %(decision)s, note = %(note)s
 WHERE case_id = %(case_id)s AND reason = ANY(%(reasons)s) AND decided_at IS NULL

-- name: last_forecast_of
SELECT made_at, rul_p10_h, rul_p50_h, rul_p90_h FROM prognosis
 WHERE case_id = %(case_id)s AND rul_p50_h IS NOT NULL AND made_at < %(at)s ORDER BY made_at DESC LIMIT 1

-- name: question_is_open
SELECT 1 AS found FROM escalation WHERE escalation_id::text = %(escalation_id)s AND decided_at IS NULL

-- name: rewrite_act
UPDATE act SET request = %(request)s WHERE act_id = %(act_id)s

-- name: unjudged_findings
-- The newest finding of each component that is still degraded and whose newest revision no case has judged.
SELECT DISTINCT ON (finding.asset_id, finding.slot) finding.finding_id, finding.revision
  FROM finding JOIN health USING (asset_id, slot)
 WHERE finding.asset_id = %(asset_id)s AND health.state IN ('degrading', 'critical')
   AND NOT EXISTS (SELECT FROM prognosis WHERE prognosis.finding_id = finding.finding_id
                      AND prognosis.revision >= finding.revision AND prognosis.case_id IS NOT NULL)
 ORDER BY finding.asset_id, finding.slot, finding.detected_at DESC, finding.revision DESC

-- name: set_maintenance
UPDATE asset SET maintenance_until = %(until)s, maintenance_note = %(note)s WHERE asset_id = %(asset_id)s
RETURNING tenant_id

-- name: set_observe_only
UPDATE tenant SET observe_only = %(on)s WHERE tenant_id = %(tenant_id)s RETURNING tenant_id

-- name: look_now
UPDATE repair_case SET next_at = %(now)s, version = version + 1 WHERE case_id = %(case_id)s

-- name: paused_cases_of_tenant
-- Whatever may have been paused: every case that is open, and an ended one of which something is still to be done.
SELECT case_id FROM repair_case
 WHERE tenant_id = %(tenant_id)s
   AND (state NOT IN ('closed', 'cancelled', 'false_alarm')
        OR EXISTS (SELECT FROM act WHERE act.case_id = repair_case.case_id AND act.state IN ('intended', 'unknown')))
   FOR UPDATE

-- name: cases_list
SELECT c.case_id, c.number, c.tenant_id, c.site_id, c.asset_id, c.slot, c.state, c.failure_mode, c.urgency,
       c.escalated, c.replanning, c.waits_for, c.deadline_at, c.opened_at, c.closed_at, person.name AS owner
  FROM repair_case AS c JOIN person ON person.person_id = c.owner_id
 WHERE (%(tenant_id)s::text IS NULL OR c.tenant_id = %(tenant_id)s)
   AND (%(every)s OR c.state NOT IN ('closed', 'cancelled', 'false_alarm'))
 ORDER BY c.number DESC LIMIT %(most)s

-- name: case_by_number
SELECT * FROM repair_case WHERE case_id::text = %(ref)s OR number::text = %(ref)s

-- name: events_of
SELECT at, kind, summary, detail FROM case_event WHERE case_id = %(case_id)s ORDER BY event_id

-- name: escalations_of
SELECT * FROM escalation WHERE case_id = %(case_id)s ORDER BY raised_at
