-- Statements of fleet_server/insights/demand/service.py; row-level security shows the reader's tenants only.

-- name: installed
-- Every installed component with its newest prognosis and its open case. A case closed since has settled the prognosis.
SELECT component.tenant_id, component.component_type, component.part_no, asset.model, site.region, site.jurisdiction,
       site.latitude, site.longitude,
       greatest(extract(epoch FROM asset.maintenance_until - %(now)s) / 3600, 0)::float8 AS stopped_h,
       made.survival, made.rul_p10_h, made.rul_p50_h, made.rul_p90_h, made.abstained,
       extract(epoch FROM %(now)s - made.made_at)::float8 / 3600 AS age_h,
       coalesce(open_case.failure_mode, made.failure_mode, 'unknown') AS failure_mode,
       open_case.case_id IS NOT NULL AS has_case, open_case.state AS case_state,
       extract(epoch FROM open_case.deadline_at - %(now)s)::float8 / 3600 AS deadline_h,
       open_case.reserved, open_case.booked
  FROM component
  JOIN asset USING (asset_id)
  JOIN site ON site.site_id = asset.site_id
 CROSS JOIN LATERAL (
       SELECT max(closed_at) AS at FROM repair_case
        WHERE repair_case.asset_id = component.asset_id AND repair_case.slot = component.slot
          AND repair_case.closed_at <= %(now)s) AS settled
  LEFT JOIN LATERAL (
       SELECT survival, rul_p10_h, rul_p50_h, rul_p90_h, abstained, failure_mode, made_at
         FROM prognosis
        WHERE prognosis.asset_id = component.asset_id AND prognosis.slot = component.slot
          AND prognosis.made_at BETWEEN component.valid_from AND %(now)s
        ORDER BY made_at DESC LIMIT 1) AS made
    ON settled.at IS NULL OR made.made_at > settled.at
  LEFT JOIN LATERAL (
       SELECT case_id, state, failure_mode, deadline_at,
              EXISTS (SELECT FROM act WHERE act.case_id = repair_case.case_id AND act.kind = 'reservation'
                                        AND act.state IN ('held', 'consumed')) AS reserved,
              state IN ('in_progress', 'verifying')
              OR EXISTS (SELECT FROM act WHERE act.case_id = repair_case.case_id AND act.kind = 'dispatch'
                                           AND act.state IN ('held', 'consumed')) AS booked
         FROM repair_case
        WHERE repair_case.asset_id = component.asset_id AND repair_case.slot = component.slot
          AND state NOT IN ('closed', 'cancelled', 'false_alarm')
        ORDER BY opened_at DESC LIMIT 1) AS open_case ON true
 WHERE component.valid_to IS NULL AND component.valid_from <= %(now)s
   AND (%(tenant_id)s::text IS NULL OR component.tenant_id = %(tenant_id)s)
 ORDER BY component.component_id
 LIMIT %(most)s;

-- name: histories
-- Service time and replacements: a unit counts as replaced when another followed it in its slot.
WITH life AS (
    SELECT tenant_id, asset_id, component_type, valid_from, valid_to,
           lead(valid_from) OVER (PARTITION BY asset_id, slot ORDER BY valid_from, component_id) AS next_from
      FROM component
     WHERE valid_from <= %(now)s AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
)
SELECT life.tenant_id, site.jurisdiction, life.component_type,
       sum(extract(epoch FROM least(coalesce(life.valid_to, %(now)s), %(now)s) - life.valid_from))::float8 / 3600 AS hours,
       count(*) FILTER (WHERE life.valid_to <= life.next_from) AS replaced
  FROM life
  JOIN asset USING (asset_id)
  JOIN site ON site.site_id = asset.site_id
 GROUP BY life.tenant_id, site.jurisdiction, life.component_type;

-- name: ended_cases
-- How often a case that had been planned used a part; cases that ended before any planning say nothing of it.
SELECT repair_case.tenant_id, site.jurisdiction, component.component_type, count(*) AS cases,
       count(*) FILTER (WHERE EXISTS (SELECT FROM act WHERE act.case_id = repair_case.case_id
                                         AND act.kind = 'reservation' AND act.state = 'consumed')) AS used
  FROM repair_case
  JOIN site USING (site_id)
  JOIN LATERAL (SELECT component_type FROM component
                 WHERE component.asset_id = repair_case.asset_id AND component.slot = repair_case.slot
                 ORDER BY valid_from DESC LIMIT 1) AS component ON true
 WHERE repair_case.closed_at <= %(now)s
   AND EXISTS (SELECT FROM act WHERE act.case_id = repair_case.case_id)
   AND (%(tenant_id)s::text IS NULL OR repair_case.tenant_id = %(tenant_id)s)
 GROUP BY repair_case.tenant_id, site.jurisdiction, component.component_type;

-- name: parts
SELECT part_no, component_type, label, fits_models, price_eur::float8 AS price_eur, replenish_days
  FROM part ORDER BY part_no LIMIT 10000;

-- name: shelves
SELECT stock.centre_id, stock.part_no, stock.on_hand, stock.on_order, coalesce(held.pieces, 0)::int AS reserved
  FROM stock
  LEFT JOIN (SELECT centre_id, part_no, sum(quantity) AS pieces
               FROM part_reservation WHERE state = 'held' GROUP BY centre_id, part_no) AS held
    USING (centre_id, part_no)
 ORDER BY stock.centre_id, stock.part_no LIMIT 100000;

-- name: centres
SELECT centre_id, name, latitude, longitude, handling_h FROM fulfilment_centre ORDER BY centre_id LIMIT 10000;

-- name: engineers
-- Who would be asked for a job in the region: as the planning chooses them.
SELECT wanted.skill, wanted.region, count(DISTINCT person.person_id)::int AS engineers
  FROM unnest(%(skills)s::text[], %(regions)s::text[]) AS wanted(skill, region)
  LEFT JOIN person ON person.active AND person.role = 'engineer' AND wanted.skill = ANY (person.skills)
                  AND (person.region IS NULL OR person.region = wanted.region)
                  AND (person.site_id IS NULL
                       OR EXISTS (SELECT FROM site WHERE site.site_id = person.site_id AND site.region = wanted.region))
 GROUP BY wanted.skill, wanted.region;
