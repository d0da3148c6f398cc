-- name: cases
SELECT c.case_id, c.number, c.state, c.slot, c.failure_mode, c.urgency, c.opened_at, c.closed_at, c.deadline_at,
       c.escalated, c.replanning, c.waits_for, c.asset_id, c.site_id, c.tenant_id, asset.name AS asset_name,
       asset.asset_class, site.name AS site_name, site.time_zone, tenant.name AS tenant_name, person.name AS owner_name,
       count(*) OVER ()::int AS total
  FROM repair_case c JOIN asset USING (asset_id) JOIN site ON site.site_id = c.site_id
  JOIN tenant ON tenant.tenant_id = c.tenant_id LEFT JOIN person ON person.person_id = c.owner_id
 WHERE (%(open)s::boolean IS NULL OR (c.state NOT IN ('closed', 'cancelled', 'false_alarm')) = %(open)s)
   AND (%(state)s::text IS NULL OR c.state = %(state)s)
   AND (%(asset_id)s::text IS NULL OR c.asset_id = %(asset_id)s)
 ORDER BY c.state IN ('closed', 'cancelled', 'false_alarm'), c.escalated DESC, c.deadline_at NULLS LAST,
          c.opened_at DESC, c.number
 LIMIT %(limit)s OFFSET %(offset)s;

-- name: case_row
SELECT c.*, asset.name AS asset_name, asset.asset_class, asset.model AS asset_model, asset.serial AS asset_serial,
       asset.criticality, site.name AS site_name, site.time_zone, tenant.name AS tenant_name, tenant.observe_only,
       person.name AS owner_name, person.email AS owner_email
  FROM repair_case c JOIN asset USING (asset_id) JOIN site ON site.site_id = c.site_id
  JOIN tenant ON tenant.tenant_id = c.tenant_id LEFT JOIN person ON person.person_id = c.owner_id
 WHERE c.case_id = %(case_id)s;

-- name: case_finding
SELECT finding_id, revision, slot, state, score, severity, failure_mode, detected_at, onset_at, body, received_at
  FROM finding WHERE finding_id = %(finding_id)s ORDER BY revision DESC LIMIT 1;

-- name: case_prognosis
SELECT * FROM prognosis WHERE prognosis_id = %(prognosis_id)s;

-- name: timeline
SELECT event_id, at, kind, summary, detail FROM case_event WHERE case_id = %(case_id)s ORDER BY event_id DESC LIMIT 500;

-- name: acts
SELECT act_id, kind, purpose, sequence, idempotency_key, state, request, response, external_ref, attempts, due_at,
       expires_at, intended_at, settled_at, error
  FROM act WHERE case_id = %(case_id)s ORDER BY intended_at, sequence, kind LIMIT 500;

-- name: escalations
SELECT e.*, c.number AS case_number, c.state AS case_state, c.slot, c.failure_mode, c.deadline_at, c.asset_id,
       asset.name AS asset_name, site.name AS site_name, site.time_zone, person.name AS to_name,
       count(*) OVER ()::int AS total
  FROM escalation e JOIN repair_case c USING (case_id) JOIN asset ON asset.asset_id = c.asset_id
  JOIN site ON site.site_id = c.site_id LEFT JOIN person ON person.person_id = e.to_person
 WHERE (%(case_id)s::uuid IS NULL OR e.case_id = %(case_id)s)
   AND (%(escalation_id)s::uuid IS NULL OR e.escalation_id = %(escalation_id)s)
   AND (%(open)s::boolean IS NULL OR (e.decided_at IS NULL) = %(open)s)
 ORDER BY e.decided_at IS NOT NULL, e.due_at, e.raised_at LIMIT %(limit)s OFFSET %(offset)s;

-- name: work_orders
SELECT w.work_order_id, w.number, w.case_id, w.asset_id, w.engineer_id, w.state, w.starts_at, w.ends_at, w.body,
       w.report, w.created_at, w.completed_at, asset.name AS asset_name, site.name AS site_name, site.time_zone,
       person.name AS engineer_name, c.number AS case_number, count(*) OVER ()::int AS total
  FROM work_order w JOIN asset USING (asset_id) JOIN site USING (site_id) JOIN repair_case c ON c.case_id = w.case_id
  LEFT JOIN person ON person.person_id = w.engineer_id
 WHERE (%(case_id)s::uuid IS NULL OR w.case_id = %(case_id)s)
   AND (%(work_order_id)s::uuid IS NULL OR w.work_order_id = %(work_order_id)s)
   AND (%(state)s::text IS NULL OR w.state = %(state)s)
 ORDER BY w.completed_at IS NOT NULL, w.starts_at DESC LIMIT %(limit)s OFFSET %(offset)s;

-- name: part
SELECT part_no, label, component_type FROM part WHERE part_no = %(part_no)s;
